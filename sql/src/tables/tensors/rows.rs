//! Rows of one namespace, column by column: of each no more than a query wants.

use std::iter::repeat_n;

use arrow_array::StringArray;
use arrow_buffer::{Buffer, OffsetBuffer};
use bowstring_cache::ahead::Fetch;
use bowstring_cache::known::Known;
use bowstring_cache::snapshot::{Form, Passed};
use bowstring_wire::error::Result;
use bowstring_wire::version::Version;

use crate::DfResult;

/// What a query wants of a row beside its tensor.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wants {
    pub key: bool,
    pub version: bool,
    /// Dtype and shape.
    pub form: bool,
    pub bytes: bool,
    pub expires_at: bool,
    pub tier: bool,
    /// What the key order does not say.
    pub rest: bool,
}

impl Wants {
    /// What a walk reads for it.
    pub fn fetch(self) -> Fetch {
        match self.key || self.form {
            true => Fetch::Heads,
            false => Fetch::Records,
        }
    }
}

/// What is known of an entry that was looked up.
#[derive(Debug)]
pub struct Row {
    pub version: Version,
    pub form: Form,
    pub bytes: u64,
    pub expires_at_ms: Option<u64>,
    pub tier: &'static str,
    /// See [`Wants::rest`].
    pub rest: Option<Rest>,
}

/// See [`Wants::rest`].
#[derive(Debug)]
pub struct Rest {
    pub last_access_ms: Option<u64>,
    pub hits: u64,
    pub pins: i32,
    /// Not known of a row of a file.
    pub checksum: Option<u128>,
    pub metadata: Vec<u8>,
}

impl Rest {
    /// What is known of an entry.
    pub fn of(known: &Known) -> Self {
        Self {
            last_access_ms: known.last_access_ms(),
            hits: known.hits(),
            pins: i32::from(known.is_pinned()),
            checksum: known.checksum(),
            metadata: known.metadata().to_vec(),
        }
    }
}

/// Rows; a column that is not wanted is empty.
#[derive(Debug, Default)]
pub struct Rows {
    wants: Wants,
    len: usize,
    keys: Vec<u8>,
    /// Where each begins, and the last ends.
    key_ends: Vec<i32>,
    pub versions: Vec<Version>,
    /// Of rows that follow one another and are alike, once, with their number.
    pub forms: Vec<(Form, usize)>,
    pub bytes: Vec<u64>,
    pub expires_at_ms: Vec<Option<u64>>,
    pub tiers: Vec<&'static str>,
    pub rests: Vec<Rest>,
}

impl Rows {
    pub fn new(wants: Wants) -> Self {
        Self {
            wants,
            key_ends: vec![0],
            ..Self::default()
        }
    }

    /// None yet, with room for as many as there are of others.
    pub fn like(others: &Self) -> Self {
        let mut rows = Self::new(others.wants);
        rows.keys.reserve(others.keys.len());
        rows.key_ends.reserve(others.key_ends.len());
        rows
    }

    /// What is kept of each.
    pub fn wants(&self) -> Wants {
        self.wants
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Adds an entry that a walk comes by. Gives about how many bytes that takes.
    ///
    /// # Errors
    /// Where it cannot be read.
    pub fn pass(&mut self, passed: &Passed<'_>) -> Result<usize> {
        let wants = self.wants;
        let before = self.keys.len();
        if wants.key {
            self.push_key(passed.key_bytes());
        }
        if wants.form {
            match self.forms.last_mut() {
                Some((last, rows)) if passed.is_of(last) => *rows += 1,
                _ => self.forms.push((passed.form()?, 1)),
            }
        }
        if wants.version {
            self.versions.push(passed.version());
        }
        if wants.bytes {
            self.bytes.push(passed.bytes());
        }
        if wants.expires_at {
            self.expires_at_ms.push(passed.expires_at_ms());
        }
        if wants.tier {
            self.tiers
                .push(match (passed.is_attached(), passed.is_below()) {
                    (true, _) => "attached",
                    (false, true) => "cold",
                    (false, false) => "hot",
                });
        }
        self.len += 1;
        Ok(self.keys.len() - before + ROW_BYTES)
    }

    /// Adds an entry that was looked up.
    pub fn push(&mut self, key: &str, row: Row) {
        let wants = self.wants;
        if wants.key {
            self.push_key(key.as_bytes());
        }
        if wants.form {
            match self.forms.last_mut() {
                Some((last, rows)) if *last == row.form => *rows += 1,
                _ => self.forms.push((row.form, 1)),
            }
        }
        if wants.version {
            self.versions.push(row.version);
        }
        if wants.bytes {
            self.bytes.push(row.bytes);
        }
        if wants.expires_at {
            self.expires_at_ms.push(row.expires_at_ms);
        }
        if wants.tier {
            self.tiers.push(row.tier);
        }
        self.rests.extend(row.rest);
        self.len += 1;
    }

    fn push_key(&mut self, key: &[u8]) {
        self.keys.extend_from_slice(key);
        // The keys of a batch are far fewer bytes than that.
        let end = i32::try_from(self.keys.len()).unwrap_or(i32::MAX);
        self.key_ends.push(end);
    }

    /// The dtype and shape of each.
    pub fn each_form(&self) -> impl Iterator<Item = &Form> {
        let forms = self.forms.iter();
        forms.flat_map(|(form, rows)| repeat_n(form, *rows))
    }

    /// The key of a row.
    pub fn key(&self, row: usize) -> &str {
        let end = |nth: usize| self.key_ends.get(nth).map_or(0, |end| index(*end));
        let key = self.keys.get(end(row)..end(row + 1));
        str::from_utf8(key.unwrap_or_default()).unwrap_or_default()
    }

    /// The column of the keys.
    ///
    /// # Errors
    /// Where a key is no text: a bug of ours.
    pub fn keys(&self) -> DfResult<StringArray> {
        let ends = OffsetBuffer::new(self.key_ends.iter().copied().collect());
        let keys = Buffer::from(&*self.keys);
        Ok(StringArray::try_new(ends, keys, None)?)
    }
}

/// About what the numbers of a row take.
const ROW_BYTES: usize = 64;

fn index(at: i32) -> usize {
    usize::try_from(at).unwrap_or(0)
}
