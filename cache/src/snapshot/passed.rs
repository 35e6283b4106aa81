//! An entry that a walk comes by.

use bowstring_wire::dtype::DType;
use bowstring_wire::error::{Error, Result};
use bowstring_wire::name::Key;
use bowstring_wire::shape::Shape;
use bowstring_wire::version::Version;
use smallvec::SmallVec;

use super::SMALL_BYTES;
use crate::ahead::Fetch;
use crate::engine::Engine;
use crate::head::{self, split};
use crate::index::Record;
use crate::scan::ScanItem;

/// See above. What is not asked for is not read.
#[derive(Clone, Copy)]
pub struct Passed<'a> {
    entry: Entry<'a>,
    tensor: Option<&'a [u8]>,
}

#[derive(Clone, Copy)]
enum Entry<'a> {
    /// Where it lies; its order is locked. With its head, where that was fetched.
    Here(&'a Engine, &'a Record, Option<&'a [u8]>),
    /// As it was found before.
    Listed(&'a ScanItem),
}

/// What an entry is.
#[derive(Clone, Debug)]
pub struct Form {
    /// Element type.
    pub dtype: DType,
    /// Shape.
    pub shape: Shape,
    /// Both as a head has them; empty where that is not known.
    encoded: SmallVec<[u8; 16]>,
}

impl Form {
    /// Of these two.
    pub fn new(dtype: DType, shape: Shape) -> Self {
        Self {
            dtype,
            shape,
            encoded: SmallVec::new(),
        }
    }
}

impl PartialEq for Form {
    fn eq(&self, other: &Self) -> bool {
        (self.dtype, &self.shape) == (other.dtype, &other.shape)
    }
}

impl<'a> Passed<'a> {
    /// Of an order that is locked as long as this is there.
    pub(crate) fn of(engine: &'a Engine, record: &'a Record) -> Self {
        Self {
            entry: Entry::Here(engine, record, None),
            tensor: None,
        }
    }

    /// As [`Passed::of`], of one that was fetched.
    pub(super) fn fetched(engine: &'a Engine, record: &'a Record, fetch: Fetch) -> Self {
        if fetch == Fetch::Records {
            return Self::of(engine, record);
        }
        let (len, slot) = (record.len(), engine.slot(record));
        let split = split(len);
        let is_shown = fetch == Fetch::Tensors && len <= SMALL_BYTES && split.pages == 0;
        let (inline, head) = slot.split_at_checked(split.inline).unwrap_or_default();
        Self {
            entry: Entry::Here(engine, record, Some(head)),
            tensor: is_shown.then_some(inline),
        }
    }

    pub(super) fn listed(item: &'a ScanItem) -> Self {
        Self {
            entry: Entry::Listed(item),
            tensor: None,
        }
    }

    pub(super) fn with_tensor(self, tensor: Option<&'a [u8]>) -> Self {
        Self { tensor, ..self }
    }

    /// Its key.
    pub fn key(&self) -> &'a str {
        // It was checked when it was put.
        str::from_utf8(self.key_bytes()).unwrap_or_default()
    }

    /// Its key, for who makes sure of many at once that they are text.
    pub fn key_bytes(&self) -> &'a [u8] {
        match self.entry {
            Entry::Here(engine, record, head) => {
                head::key_of(head.unwrap_or_else(|| engine.head_bytes(record)))
            }
            Entry::Listed(item) => item.key.as_str().as_bytes(),
        }
    }

    /// Which of the key's tensors.
    pub fn version(&self) -> Version {
        match self.entry {
            Entry::Here(_, record, _) => {
                let (hlc, start) = record.version();
                Version { hlc, start }
            }
            Entry::Listed(item) => item.version,
        }
    }

    /// Element type and shape.
    ///
    /// # Errors
    /// `internal` where the entry cannot be read: a bug of ours.
    pub fn form(&self) -> Result<Form> {
        if let Entry::Listed(item) = self.entry {
            return Ok(Form::new(item.dtype, item.shape.clone()));
        }
        let described = self.behind_key().and_then(head::description_of);
        let (dtype, shape, encoded) =
            described.ok_or_else(|| Error::internal("an entry's head cannot be read"))?;
        Ok(Form {
            dtype,
            shape,
            encoded: encoded.into(),
        })
    }

    /// Whether it has the dtype and shape of another. Quicker than [`Passed::form`].
    pub fn is_of(&self, form: &Form) -> bool {
        match self.behind_key() {
            Some(behind_key) if !form.encoded.is_empty() => behind_key.starts_with(&form.encoded),
            _ => self.form().is_ok_and(|own| own == *form),
        }
    }

    fn behind_key(&self) -> Option<&'a [u8]> {
        match self.entry {
            Entry::Here(engine, record, head) => {
                head::behind_key(head.unwrap_or_else(|| engine.head_bytes(record)))
            }
            Entry::Listed(_) => None,
        }
    }

    /// Bytes of the tensor.
    pub fn bytes(&self) -> u64 {
        match self.entry {
            Entry::Here(_, record, _) => record.len(),
            Entry::Listed(item) => item.bytes,
        }
    }

    /// Unix milliseconds from when on it is a miss.
    pub fn expires_at_ms(&self) -> Option<u64> {
        match self.entry {
            Entry::Here(_, record, _) => record.expires_at_ms(),
            Entry::Listed(item) => item.expires_at_ms,
        }
    }

    /// Whether the tier below has it, and memory has not.
    pub fn is_below(&self) -> bool {
        match self.entry {
            Entry::Here(..) => false,
            Entry::Listed(item) => item.below,
        }
    }

    /// Whether that is a file.
    pub fn is_attached(&self) -> bool {
        match self.entry {
            Entry::Here(..) => false,
            Entry::Listed(item) => item.attached,
        }
    }

    /// The tensor, where the walk was told to fetch tensors, and it is small and in memory.
    pub fn tensor(&self) -> Option<&'a [u8]> {
        self.tensor
    }

    /// What is known of it.
    ///
    /// # Errors
    /// As [`Passed::form`].
    pub(crate) fn item(&self) -> Result<ScanItem> {
        if let Entry::Listed(item) = self.entry {
            return Ok(item.clone());
        }
        let Form { dtype, shape, .. } = self.form()?;
        Ok(ScanItem {
            key: Key::parse(self.key())?,
            version: self.version(),
            dtype,
            shape,
            bytes: self.bytes(),
            expires_at_ms: self.expires_at_ms(),
            below: false,
            attached: false,
        })
    }
}
