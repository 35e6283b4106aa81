//! What the operations are done to.

use bowstring_wire::descriptor::Mode;
use bowstring_wire::error::Result;
use bowstring_wire::version::Version;

/// A put, as it is asked for.
#[derive(Debug, Clone)]
pub struct Coming {
    pub mode: Mode,
    /// One of [`contents`](super::step::contents).
    pub content: usize,
    pub if_version: Option<Version>,
    pub ttl_ms: Option<u64>,
    pub pin: bool,
    pub load: Option<String>,
}

/// What a put, or a row, was answered. What is not said is not known.
#[derive(Debug, Clone, Copy, Default)]
pub struct Stored {
    pub version: Option<Version>,
    pub existed: Option<bool>,
}

/// What is seen of an entry. What is not said is not known.
#[derive(Default)]
pub struct Seen {
    pub key: String,
    pub version: Option<Version>,
    pub bytes: Option<Vec<u8>>,
    /// Unix milliseconds; of a server only whether there are any.
    pub expires_at_ms: Option<Option<u64>>,
    pub pinned: Option<bool>,
}

/// Bytes are not for reading.
impl std::fmt::Debug for Seen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (key, version, at, pinned) = (&self.key, self.version, self.expires_at_ms, self.pinned);
        write!(
            f,
            "{key:?} of {version:?}, expires {at:?}, pinned {pinned:?}"
        )
    }
}

/// What a namespace says of itself.
#[derive(Debug, PartialEq, Eq)]
pub struct Totals {
    pub entries: u64,
    pub bytes: u64,
}

/// The engine, or a server. Namespaces have numbers here.
pub trait Target {
    /// Whether time stands still but for [`Target::pass`].
    const OWN_CLOCK: bool;

    fn now_ms(&self) -> u64;
    async fn pass(&self, ms: u64);
    /// Entries that were evicted since the start.
    async fn evicted(&self) -> u64;
    async fn totals(&self, space: usize) -> Totals;

    async fn put(&self, space: usize, key: &str, coming: &Coming) -> Result<Stored>;
    async fn put_rows(&self, space: usize, keys: &[String], coming: &Coming)
    -> Vec<Result<Stored>>;
    async fn look(&self, space: usize, key: &str) -> Option<Seen>;
    async fn many(&self, space: usize, keys: &[String]) -> Vec<Seen>;
    async fn scan(&self, space: usize, prefix: &str) -> Vec<Seen>;
    /// Whether it was there.
    async fn delete(&self, space: usize, key: &str, if_version: Option<Version>) -> Result<bool>;
    async fn delete_prefix(&self, space: usize, prefix: &str) -> u64;
    async fn clear(&self, space: usize) -> u64;
    async fn expire(&self, space: usize, key: &str, ttl_ms: Option<u64>) -> bool;
    /// Whether it is there.
    async fn pin(&self, space: usize, key: &str) -> Result<bool>;
    async fn unpin(&self, space: usize, key: &str) -> bool;
    async fn set(&self, space: usize, setting: &str, value: Option<u64>) -> Result<()>;
    async fn begin(&self, space: usize, replace_all: bool, size: Option<u64>) -> Result<String>;
    /// `commit_load`, `abort_load` or `rollback_load`: the entries that the load had.
    async fn end(&self, space: usize, action: &str, load: &str) -> Result<u64>;

    // What can be done inside only.
    async fn give_up(&self, _space: usize, _key: &str, _content: usize) {}
    fn tidy(&self, _all: bool) {}
    fn expire_due(&self) {}
    fn hold(&self, _space: usize) {}
    fn let_go(&self, _held: usize) {}
    fn look_held(&self, _held: usize, _space: usize, _key: &str) -> Option<Seen> {
        None
    }
    fn scan_held(&self, _held: usize, _prefix: &str) -> Vec<Seen> {
        Vec::new()
    }
    /// Begins to read, and reads to the end what was begun last; `None` where it was cut off.
    fn read(&self, _space: usize, _key: &str) {}
    fn end_read(&self) -> Option<Vec<u8>> {
        None
    }
    /// With nothing left in it.
    fn check_empty(&self) {}
}
