//! The keys of files in order, and where their rows are: the key's bytes and twelve more for each. The keys themselves are there, so
//! that nothing has to be read to say which there are, and no hash decides.

use bowstring_cache::ledger::{Account, Charge};
use bowstring_wire::error::{Error, Result};

use super::purse::Purse;

/// Beside a key's own bytes: where it ends, and its place.
const KEY_BYTES: u64 = 12;
/// What is charged at one time while keys are gathered.
const STEP_BYTES: u64 = 1 << 20;

/// A row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Which of the files.
    pub file: u32,
    /// Which of its rows.
    pub row: u32,
}

/// Keys in order.
#[derive(Debug, Default)]
pub struct Keys {
    text: Vec<u8>,
    /// Where each ends.
    ends: Vec<u32>,
    places: Vec<Place>,
}

/// Keys as they come. While they are gathered they are charged for three times: they may be in memory so often when they are
/// sorted, and a vector that grows has room for twice what is in it.
pub struct Gathering {
    keys: Keys,
    purse: Purse,
    charges: Vec<Charge>,
    charged: u64,
}

/// Two rows with one key.
#[derive(Debug)]
pub struct Twice {
    /// The key.
    pub key: String,
    /// Where it stands.
    pub places: [Place; 2],
}

impl Keys {
    /// How many.
    pub fn count(&self) -> usize {
        self.places.len()
    }

    /// What they take.
    pub fn bytes(&self) -> u64 {
        self.text.len() as u64 + KEY_BYTES * self.count() as u64
    }

    /// Where the row of a key is.
    pub fn find(&self, key: &str) -> Option<Place> {
        let at = self.first_from(key.as_bytes());
        (at < self.count() && self.key(at) == key.as_bytes()).then(|| self.places[at])
    }

    /// Those that begin with `prefix` and come after `after`, in order.
    pub fn under<'a>(
        &'a self,
        prefix: &'a str,
        after: Option<&str>,
    ) -> impl Iterator<Item = (&'a str, Place)> {
        let after = after.map_or(0, |after| {
            let at = self.first_from(after.as_bytes());
            at + usize::from(at < self.count() && self.key(at) == after.as_bytes())
        });
        let first = after.max(self.first_from(prefix.as_bytes()));
        let keys = (first..self.count()).map(move |at| (self.key(at), self.places[at]));
        let under = keys.take_while(move |(key, _)| key.starts_with(prefix.as_bytes()));
        under.filter_map(|(key, place)| Some((str::from_utf8(key).ok()?, place)))
    }

    /// The first that is not before `key`.
    fn first_from(&self, key: &[u8]) -> usize {
        let (mut low, mut high) = (0, self.count());
        while low < high {
            let middle = low.midpoint(high);
            match self.key(middle) < key {
                true => low = middle + 1,
                false => high = middle,
            }
        }
        low
    }

    fn key(&self, at: usize) -> &[u8] {
        let end = |at: usize| self.ends[at] as usize;
        let start = at.checked_sub(1).map_or(0, end);
        &self.text[start..end(at)]
    }
}

impl Gathering {
    /// None yet.
    pub fn new(purse: &Purse) -> Self {
        Self {
            keys: Keys::default(),
            purse: purse.clone(),
            charges: Vec::new(),
            charged: 0,
        }
    }

    /// One more.
    ///
    /// # Errors
    /// `resource_exhausted` where there is no room for it.
    pub fn push(&mut self, key: &str, place: Place) -> Result<()> {
        let more = key.len() as u64 + KEY_BYTES;
        // With the order of all when they are sorted.
        let needed = 3 * (self.keys.bytes() + more) + 4 * (self.keys.count() as u64 + 1);
        if needed > self.charged {
            let step = (needed - self.charged).max(STEP_BYTES);
            let charge = self.purse.charge(Account::Index, step);
            self.charges.push(charge.ok_or_else(|| no_room(needed))?);
            self.charged += step;
        }
        let end = u32::try_from(self.keys.text.len() + key.len());
        let end = end.map_err(|_| {
            Error::exhausted(format!(
                "the files have too many keys; bytes=`{needed}` expected at most 4 GiB of keys in one namespace"
            ))
        })?;
        self.keys.text.extend_from_slice(key.as_bytes());
        self.keys.ends.push(end);
        self.keys.places.push(place);
        Ok(())
    }

    /// In order, with what they are charged for.
    ///
    /// # Errors
    /// `resource_exhausted`.
    pub fn finish(self) -> Result<Result<(Keys, Charge), Twice>> {
        let keys = &self.keys;
        let mut order: Vec<u32> = (0..keys.count())
            .filter_map(|at| u32::try_from(at).ok())
            .collect();
        // Of a key that stands twice the first comes first.
        order.sort_unstable_by(|&one, &other| {
            let key = |at: u32| (keys.key(at as usize), keys.places[at as usize]);
            key(one).cmp(&key(other))
        });
        let same = |pair: &&[u32]| keys.key(pair[0] as usize) == keys.key(pair[1] as usize);
        if let Some(pair) = order.windows(2).find(same) {
            return Ok(Err(Twice {
                key: String::from_utf8_lossy(keys.key(pair[0] as usize)).into_owned(),
                places: [keys.places[pair[0] as usize], keys.places[pair[1] as usize]],
            }));
        }
        let mut sorted = Keys {
            text: Vec::with_capacity(keys.text.len()),
            ends: Vec::with_capacity(keys.count()),
            places: Vec::with_capacity(keys.count()),
        };
        for at in order {
            sorted.text.extend_from_slice(keys.key(at as usize));
            sorted
                .ends
                .push(u32::try_from(sorted.text.len()).unwrap_or(u32::MAX));
            sorted.places.push(keys.places[at as usize]);
        }
        let Self {
            keys,
            purse,
            mut charges,
            ..
        } = self;
        drop(keys);
        // The first is as good as any: what it has too little of is had from the others' room.
        let mut charge = match charges.pop() {
            Some(charge) => charge,
            None => purse.charge(Account::Index, 0).ok_or_else(|| no_room(0))?,
        };
        drop(charges);
        match charge.resize(sorted.bytes()) {
            true => Ok(Ok((sorted, charge))),
            false => Err(no_room(sorted.bytes())),
        }
    }
}

fn no_room(bytes: u64) -> Error {
    Error::exhausted(format!(
        "memory has no room for the keys of the files; bytes=`{bytes}` limit=`memory`"
    ))
}
