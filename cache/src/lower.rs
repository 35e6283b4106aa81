//! What stands below memory: a tier that takes what is evicted, answers misses, and forgets what is
//! gone. Everything that the engine asks of it, or tells it, goes through [`LowerTier`].
//!
//! Memory shows what is newest; below may be the same version of a key, or one that is not to be
//! found any more. So whatever takes the place of a key's entry, or takes it away, ends with
//! [`LowerTier::forget`], and is acknowledged only then.
//!
//! What is to be changed or compared is brought up into memory ([`LowerTier::load`]). What is to be read
//! comes up too, or, where it is large, goes past memory in pieces ([`LowerTier::open`]).

use std::future::Future;
use std::ops::{Deref, Range};
use std::pin::Pin;
use std::sync::{Arc, OnceLock};

use bowstring_wire::dtype::DType;
use bowstring_wire::error::{Error, Result};
use bowstring_wire::name::{Namespace, Tenant};
use bowstring_wire::settings::NamespaceSettings;
use bowstring_wire::shape::Shape;
use bowstring_wire::version::Version;
use bytes::Bytes;

use crate::cache::Cache;
use crate::id::Id;
use crate::read::Entry;

/// What a tier answers later.
pub type Later<'a, T> = Pin<Box<dyn Future<Output = Result<T>> + Send + 'a>>;

/// An entry, but for its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Description {
    /// Tenant, namespace and key.
    pub id: Id,
    /// Which of the key's tensors.
    pub version: Version,
    /// Element type.
    pub dtype: DType,
    /// Shape.
    pub shape: Shape,
    /// Bytes of the tensor.
    pub len: u64,
    /// xxh3-128 of the tensor's bytes; not known of what is [`Description::attached`].
    pub checksum: u128,
    /// Unix milliseconds from when on this is a miss.
    pub expires_at_ms: Option<u64>,
    /// The version that its source gave it.
    pub source_version: Option<i64>,
    /// As it was put.
    pub metadata: Vec<u8>,
    /// Whether it is a row of a file: its checksum and metadata are known when it is read.
    pub attached: bool,
}

impl Description {
    /// That of an entry in memory.
    ///
    /// # Errors
    /// `internal`: an entry without a name would be a bug of ours.
    pub fn of(entry: &Entry) -> Result<Self> {
        let (dtype, shape) = entry.description();
        Ok(Self {
            id: entry.id()?,
            version: entry.version(),
            dtype,
            shape,
            len: entry.len(),
            checksum: entry.checksum(),
            expires_at_ms: entry.expires_at_ms(),
            source_version: entry.source_version(),
            metadata: entry.metadata().to_vec(),
            attached: false,
        })
    }
}

/// What an entry is looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reading {
    /// To read all of it: what is read again and again comes into memory to stay.
    Whole,
    /// To read some of its bytes.
    Part,
    /// To read it with all others of a prefix, which leaves no mark.
    Scan,
}

/// A tensor that was found, to be read.
pub enum Found {
    /// In memory, pinned.
    Here(Entry),
    /// Below it, and too large to be brought up for one reader: nothing was read of it.
    Below(Box<dyn InPieces>),
}

/// A tensor below memory, as it was when it was found.
pub trait InPieces: Send + Sync {
    /// What it is.
    fn description(&self) -> &Description;

    /// Begins to read a range of its bytes, and has the first of them; holds nothing before that. `None`
    /// where it has gone, or something has taken its place: look for the key again.
    ///
    /// # Errors
    /// `unavailable` where its bytes cannot be had in time, which to who reads is a miss; where memory has
    /// no room for a piece of it.
    fn read(&self, range: Range<u64>) -> Later<'_, Option<Box<dyn Coming>>>;
}

/// Bytes that come from below, each checked. What was begun is what comes, or an error.
pub trait Coming: Send {
    /// The next bytes; none at the end.
    ///
    /// # Errors
    /// `data_loss` where they are not those that were written down: then the key is a miss from now on;
    /// `unavailable` where they cannot be had any more, and the caller should try again.
    fn next(&mut self) -> Later<'_, Bytes>;
}

/// A key whose entry below is not to be found again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gone {
    /// Whose.
    pub id: Id,
    /// The version that memory has in its place, and keeps; `None` where nothing is.
    pub now: Option<Version>,
    /// Where that version was given another expiry: what has it with an earlier one is gone too.
    pub expiry: Option<NewExpiry>,
    /// Where one version is meant, and no other: where another is there, it stays. With `now`, that is there in its place.
    pub only: Option<Version>,
}

impl Gone {
    /// Whatever is below, but `now`.
    pub fn all_but(now: Option<Version>, id: Id) -> Self {
        Self {
            id,
            now,
            expiry: None,
            only: None,
        }
    }
}

/// Unix milliseconds from when on a key is a miss, from now on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NewExpiry(pub Option<u64>);

/// What calls have set of a namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SettingsOf {
    /// Whose.
    pub tenant: Tenant,
    /// Of which.
    pub namespace: Namespace,
    /// What is set.
    pub settings: NamespaceSettings,
    /// The version of that: of two, the later one counts.
    pub version: Version,
}

/// A tier below memory.
pub trait LowerTier: Send + Sync + 'static {
    /// Whether there is such a tier: else nobody needs to be asked.
    fn is_there(&self) -> bool {
        true
    }

    /// Whether a key may be here: false is sure. Quick, and asked by every put.
    fn may_have(&self, tenant: &Tenant, namespace: &Namespace, key: &str) -> bool;

    /// Brings `id` up to stay in memory, and gives it pinned; `None` when it is not here either.
    ///
    /// # Errors
    /// Where it is here and memory has no room for it, or the caller should try again.
    fn load<'a>(&'a self, cache: &'a Cache, id: &'a Id) -> Later<'a, Option<Entry>>;

    /// Finds `id` for who reads it; `None` when it is not here either, or cannot be read in time.
    ///
    /// # Errors
    /// As [`LowerTier::load`].
    fn open<'a>(&'a self, cache: &'a Cache, id: &'a Id, _: Reading) -> Later<'a, Option<Found>> {
        Box::pin(async move { Ok(self.load(cache, id).await?.map(Found::Here)) })
    }

    /// As [`LowerTier::open`], of several keys together: of the first, and of as many behind it, in order,
    /// as have no more than `bytes_max` bytes together; what is [`Found::Below`] has none.
    ///
    /// # Errors
    /// As [`LowerTier::load`], of the first.
    fn open_all<'a>(
        &'a self,
        cache: &'a Cache,
        ids: &'a [Id],
        _bytes_max: u64,
        reading: Reading,
    ) -> Later<'a, Vec<Option<Found>>> {
        Box::pin(async move {
            let mut opened = Vec::new();
            if let Some(first) = ids.first() {
                opened.push(self.open(cache, first, reading).await?);
            }
            Ok(opened)
        })
    }

    /// What is known of `id` here, without its bytes.
    ///
    /// # Errors
    /// Where the caller should try again.
    fn describe<'a>(&'a self, id: &'a Id) -> Later<'a, Option<Description>>;

    /// As [`LowerTier::describe`], of many: one for each, in order.
    ///
    /// # Errors
    /// As [`LowerTier::describe`].
    fn describe_all<'a>(&'a self, ids: &'a [Id]) -> Later<'a, Vec<Option<Description>>> {
        Box::pin(async move {
            let mut found = Vec::with_capacity(ids.len());
            for id in ids {
                found.push(self.describe(id).await?);
            }
            Ok(found)
        })
    }

    /// As [`LowerTier::load`], of several keys together: of the first, and of as many behind it, in order,
    /// as have no more than `bytes_max` bytes together.
    ///
    /// # Errors
    /// As [`LowerTier::load`], of the first.
    fn load_all<'a>(
        &'a self,
        cache: &'a Cache,
        ids: &'a [Id],
        _bytes_max: u64,
    ) -> Later<'a, Vec<Option<Entry>>> {
        Box::pin(async move {
            let mut loaded = Vec::new();
            if let Some(first) = ids.first() {
                loaded.push(self.load(cache, first).await?);
            }
            Ok(loaded)
        })
    }

    /// The first `limit` keys here, in order, that begin with `prefix` and come after `after`, whether
    /// memory has them or not; fewer only at the end.
    ///
    /// # Errors
    /// Where the caller should try again.
    fn list<'a>(
        &'a self,
        _tenant: &'a Tenant,
        _namespace: &'a Namespace,
        _prefix: &'a str,
        _after: Option<&'a str>,
        _limit: usize,
    ) -> Later<'a, Vec<Description>> {
        at_once(Vec::new())
    }

    /// Waits until all that was taken so far is written down.
    ///
    /// # Errors
    /// `unavailable` where a write fails: it is tried again all the same.
    fn flush(&self) -> Later<'_, ()> {
        at_once(())
    }

    /// Takes an entry that is about to leave memory for want of room, so that there is no moment at
    /// which it is in neither; dropping it is to let it go for good. Says which. Called under a lock of
    /// the index: it takes note, and neither waits nor calls the cache.
    fn take(&self, entry: Entry) -> bool;

    /// Refuses a put that is to wait until this tier has it too, where it never would.
    ///
    /// # Errors
    /// `failed_precondition`.
    fn check_writes(&self) -> Result<()>;

    /// Whether all that is put is written down at once.
    fn writes_at_once(&self) -> bool;

    /// Writes down what has been put, and waits for that where `wait` says so.
    ///
    /// # Errors
    /// `unavailable` where it was to wait and a write failed: memory has the entries.
    fn write_down<'a>(&'a self, cache: &'a Cache, ids: Vec<Id>, wait: bool) -> Later<'a, ()>;

    /// Nothing of these keys that is here will be found again, whatever happens to this process,
    /// nor what memory has brought up from here, but `now`. Gives the versions that went.
    ///
    /// # Errors
    /// Where that cannot be promised.
    fn forget<'a>(&'a self, cache: &'a Cache, gone: Vec<Gone>) -> Later<'a, Vec<Option<Version>>>;

    /// As [`LowerTier::forget`], of all keys of a namespace that begin with `prefix`. Gives how many
    /// keys went that memory had not.
    ///
    /// # Errors
    /// As [`LowerTier::forget`].
    fn forget_prefix<'a>(
        &'a self,
        cache: &'a Cache,
        tenant: &'a Tenant,
        namespace: &'a Namespace,
        prefix: &'a str,
    ) -> Later<'a, u64>;

    /// Keeps what is set of a namespace for the next start, whatever happens to this process.
    ///
    /// # Errors
    /// Where that cannot be promised: then the settings stay as they were.
    fn keep_settings<'a>(&'a self, _of: &'a SettingsOf) -> Later<'a, ()> {
        at_once(())
    }
}

/// There is nothing below: a miss is a miss.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoLowerTier;

fn at_once<'a, T: Send + 'a>(value: T) -> Later<'a, T> {
    Box::pin(std::future::ready(Ok(value)))
}

impl LowerTier for NoLowerTier {
    fn is_there(&self) -> bool {
        false
    }

    fn may_have(&self, _: &Tenant, _: &Namespace, _: &str) -> bool {
        false
    }

    fn load<'a>(&'a self, _: &'a Cache, _: &'a Id) -> Later<'a, Option<Entry>> {
        at_once(None)
    }

    fn describe<'a>(&'a self, _: &'a Id) -> Later<'a, Option<Description>> {
        at_once(None)
    }

    fn take(&self, _: Entry) -> bool {
        false
    }

    fn writes_at_once(&self) -> bool {
        false
    }

    fn check_writes(&self) -> Result<()> {
        Err(Error::precondition(
            "there is no cold tier to wait for: the server was started without `--cold`",
        ))
    }

    fn write_down<'a>(&'a self, _: &'a Cache, _: Vec<Id>, _: bool) -> Later<'a, ()> {
        at_once(())
    }

    fn forget<'a>(&'a self, _: &'a Cache, gone: Vec<Gone>) -> Later<'a, Vec<Option<Version>>> {
        at_once(vec![None; gone.len()])
    }

    fn forget_prefix<'a>(
        &'a self,
        _: &'a Cache,
        _: &'a Tenant,
        _: &'a Namespace,
        _: &'a str,
    ) -> Later<'a, u64> {
        at_once(0)
    }
}

/// The tier below a cache: none until it is set.
pub(crate) struct Below(OnceLock<Arc<dyn LowerTier>>);

impl Below {
    pub(crate) fn of(tier: Arc<dyn LowerTier>) -> Self {
        let below = Self(OnceLock::new());
        if tier.is_there() {
            below.set(tier);
        }
        below
    }

    pub(crate) fn set(&self, tier: Arc<dyn LowerTier>) {
        let is_first = self.0.set(tier).is_ok();
        debug_assert!(is_first, "a cache has one tier below it");
    }
}

impl Deref for Below {
    type Target = dyn LowerTier;

    fn deref(&self) -> &Self::Target {
        self.0.get().map_or(&NoLowerTier, |tier| &**tier)
    }
}
