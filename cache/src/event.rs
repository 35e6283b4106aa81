//! The one place that says that an entry came or went.
//!
//! Events of one key are emitted under the lock of its part of the index, in the order in which
//! they happen. A listener must therefore be quick and must not call the cache.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bowstring_wire::name::{Namespace, Tenant};
use bowstring_wire::version::Version;

/// An entry came or went.
#[derive(Debug, Clone, Copy)]
pub struct Event<'a> {
    /// Whose it is.
    pub tenant: &'a Tenant,
    /// Where it is.
    pub namespace: &'a Namespace,
    /// Its key.
    pub key: &'a str,
    /// Which of the key's tensors.
    pub version: Version,
    /// Bytes of the tensor.
    pub bytes: u64,
    /// Came, or why it went.
    pub what: What,
}

/// What happened to an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum What {
    /// It can be read from now on; one that a load brings, once that is committed, of which nothing
    /// is said for each of its entries, nor of those that do not show any more or show again after a
    /// rollback.
    Published,
    /// It cannot be found any more; nor could it before, where it did not show.
    Unlinked(Why),
}

/// Why an entry went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Why {
    /// Another tensor took the key.
    Replaced,
    /// Somebody asked.
    Deleted,
    /// Its time had come.
    Expired,
    /// To have room.
    Evicted(Cause),
}

/// What an eviction was for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Cause {
    /// Somebody needed room in memory just then.
    #[default]
    Room,
    /// Some of memory is kept free, so that the tier below can write before it is needed.
    Ahead,
    /// Its namespace was at a limit of its own.
    Limit,
    /// Somebody asked.
    Asked,
}

impl Cause {
    /// As operators see it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Room => "room",
            Self::Ahead => "ahead",
            Self::Limit => "limit",
            Self::Asked => "evict",
        }
    }
}

/// Who wants to know.
pub trait Listener: Send + Sync + 'static {
    /// Called for every event.
    fn on_event(&self, event: &Event<'_>);
}

/// How often each thing has happened since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names of the events")]
pub struct EventCounts {
    pub published: u64,
    pub replaced: u64,
    pub deleted: u64,
    pub expired: u64,
    pub evicted: u64,
    /// Tensor bytes of the evicted ones.
    pub evicted_bytes: u64,
}

#[derive(Default)]
pub(crate) struct Events {
    listeners: Vec<Arc<dyn Listener>>,
    published: AtomicU64,
    replaced: AtomicU64,
    deleted: AtomicU64,
    expired: AtomicU64,
    evicted: AtomicU64,
    evicted_bytes: AtomicU64,
}

impl Events {
    pub(crate) fn new(listeners: Vec<Arc<dyn Listener>>) -> Self {
        Self {
            listeners,
            ..Self::default()
        }
    }

    pub(crate) fn emit(&self, event: &Event<'_>) {
        if matches!(event.what, What::Unlinked(Why::Evicted(_))) {
            self.evicted_bytes.fetch_add(event.bytes, Ordering::Relaxed);
        }
        self.counter(event.what).fetch_add(1, Ordering::Relaxed);
        for listener in &self.listeners {
            listener.on_event(event);
        }
    }

    /// To so many entries the same has happened, but not that they were evicted.
    pub(crate) fn emit_all<'a, E: Iterator<Item = Event<'a>>>(
        &self,
        what: What,
        count: u64,
        events: impl FnOnce() -> E,
    ) {
        self.counter(what).fetch_add(count, Ordering::Relaxed);
        if self.listeners.is_empty() {
            return;
        }
        for event in events() {
            for listener in &self.listeners {
                listener.on_event(&event);
            }
        }
    }

    fn counter(&self, what: What) -> &AtomicU64 {
        match what {
            What::Published => &self.published,
            What::Unlinked(Why::Replaced) => &self.replaced,
            What::Unlinked(Why::Deleted) => &self.deleted,
            What::Unlinked(Why::Expired) => &self.expired,
            What::Unlinked(Why::Evicted(_)) => &self.evicted,
        }
    }

    pub(crate) fn counts(&self) -> EventCounts {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        EventCounts {
            published: read(&self.published),
            replaced: read(&self.replaced),
            deleted: read(&self.deleted),
            expired: read(&self.expired),
            evicted: read(&self.evicted),
            evicted_bytes: read(&self.evicted_bytes),
        }
    }
}
