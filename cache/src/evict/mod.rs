//! Which entry goes when room is needed: a policy a file behind one small trait.
//!
//! | file | what |
//! |---|---|
//! | `lru`, `sieve`, `s3fifo`, `tinylfu` | the policies |
//! | `adaptive` | one of the four at a time, chosen by simulations of them all |
//! | `queue` | records strung on their links, with a count of their bytes |
//! | `recent` | hits on their way to a policy that must know them one by one |
//! | `sketch` | how often a key was asked for, nearly, in a few bits |
//! | `ghosts` | keys that have gone, as a few bits each |
//! | [`simulation`] | a policy over entries without bytes: for `adaptive`, and to replay traces |
//!
//! A policy strings records on the two links that each has ([`Records::prev`], [`Records::next`]),
//! notes in which of its queues each is ([`Records::place`]) and reads the marks that hits leave.
//! A hit locks nothing: it leaves its mark in the record, and where that is not enough, a note in
//! `recent`, which whoever inserts or evicts next takes out. Calls to one policy are made with no
//! lock that a hit or a scan can wait for.

mod adaptive;
mod ghosts;
mod lru;
mod queue;
mod recent;
mod s3fifo;
mod sieve;
#[doc(hidden)]
pub mod simulation;
pub mod sketch;
mod tinylfu;

#[cfg(test)]
mod contract;

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use crate::index::{Budget, Handle, Records};

pub use bowstring_wire::descriptor::Admit;

/// Which entries go when memory is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Eviction {
    /// What was asked for longest ago.
    Lru,
    /// S3-FIFO: a small queue for what is new, a main one for what was asked for again.
    S3Fifo,
    /// SIEVE: a queue with a moving hand, which spares what was hit since it last came by.
    Sieve,
    /// W-TinyLFU: a newcomer stays if it is asked for more often than what would go for it.
    TinyLfu,
    /// Whichever of the four did best lately, by simulations of them all.
    #[default]
    Adaptive,
}

impl Eviction {
    /// Every policy, in the order in which they are listed to people.
    pub const ALL: [Eviction; 5] = [
        Eviction::Lru,
        Eviction::S3Fifo,
        Eviction::Sieve,
        Eviction::TinyLfu,
        Eviction::Adaptive,
    ];

    /// Its name in settings and figures.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Eviction::Lru => "lru",
            Eviction::S3Fifo => "s3fifo",
            Eviction::Sieve => "sieve",
            Eviction::TinyLfu => "tinylfu",
            Eviction::Adaptive => "adaptive",
        }
    }

    /// A policy with no entries, for about `bytes_max` bytes of them. What it grows to beyond the
    /// records' links it charges to `budget`.
    pub(crate) fn build(self, budget: Arc<dyn Budget>, bytes_max: u64) -> Box<dyn Policy> {
        match self {
            Eviction::Lru => Box::new(lru::Lru::default()),
            Eviction::S3Fifo => Box::new(s3fifo::S3Fifo::new(budget, bytes_max)),
            Eviction::Sieve => Box::new(sieve::Sieve::default()),
            Eviction::TinyLfu => Box::new(tinylfu::TinyLfu::new(budget)),
            Eviction::Adaptive => Box::new(adaptive::Adaptive::new(budget, bytes_max)),
        }
    }
}

impl fmt::Display for Eviction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Eviction {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Eviction::ALL
            .into_iter()
            .find(|policy| policy.name() == text);
        found.ok_or_else(|| {
            let all = Eviction::ALL.map(Eviction::name).join(", ");
            format!("there is no policy `{text}`; expected one of {all}")
        })
    }
}

/// Keeps the order in which entries go. `hash` is 32 bits of the hash of an entry's key.
pub(crate) trait Policy: Send + Sync {
    /// `entry` has just been published under a key that was not there.
    fn insert(&self, records: &Records, entry: Handle, hash: u32, enter: Enter);

    /// As [`Policy::insert`], of several.
    fn insert_all(&self, records: &Records, entries: &[(Handle, u32)], enter: Enter) {
        for (entry, hash) in entries {
            self.insert(records, *entry, *hash, enter);
        }
    }

    /// `new` has just been published in the place of `old`, which is removed with this.
    fn replace(&self, records: &Records, old: Handle, new: Handle);

    /// As [`Policy::replace`], of several: the old one and the new one of each.
    fn replace_all(&self, records: &Records, pairs: &[(Handle, Handle)]) {
        for (old, new) in pairs {
            self.replace(records, *old, *new);
        }
    }

    /// `entry`, found by a get, has its mark already. Must neither lock nor wait.
    fn hit(&self, _entry: Handle, _hash: u32) {}

    /// `entry` goes. It was inserted and is removed once. `evicted` is its hash where it goes for
    /// want of room, and may be remembered.
    fn remove(&self, records: &Records, entry: Handle, evicted: Option<u32>);

    /// The next one to go among those that `look` takes. It stays where it is until it is removed.
    /// Looks at a bounded number of entries.
    fn victim(&self, records: &Records, look: &mut dyn Look) -> Choice;

    /// One that another policy may have first when this one is given up: the cold before the hot.
    fn coldest(&self) -> Option<Handle>;

    /// So many bytes fit now, in place of what it was built for.
    fn resize(&self, _bytes_max: u64) {}

    /// Which policy decides at the moment.
    fn follows(&self) -> Eviction;
}

/// How an entry comes to a policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Enter {
    /// Somebody wants it.
    Hot,
    /// Nobody has asked for it yet: it goes before all that somebody did ask for.
    Probation,
    /// Another policy had it.
    Known,
}

impl From<Admit> for Enter {
    fn from(admit: Admit) -> Self {
        match admit {
            Admit::Hot => Enter::Hot,
            Admit::Probation => Enter::Probation,
        }
    }
}

/// What a policy asks about an entry that it has, while it looks for a victim.
pub(crate) trait Look {
    /// Whether it may go now.
    fn takes(&mut self, entry: Handle) -> bool;

    /// 32 bits of the hash of its key, as they were given to [`Policy::insert`].
    fn hash(&mut self, entry: Handle) -> u32;
}

/// What [`Policy::victim`] gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Choice {
    /// This one.
    Victim(Handle),
    /// None among those looked at; there are more.
    Later,
    /// None at all, at the moment.
    Nothing,
}

/// Entries that one call looks at: about 50 µs under the lock where none is in a cache.
const STEP: u32 = 512;

/// The queues that a record can be in, over all policies: so its place tells the policy too.
mod place {
    pub(super) const LRU: u8 = 1;
    pub(super) const SIEVE: u8 = 2;
    pub(super) const S3_SMALL: u8 = 3;
    pub(super) const S3_MAIN: u8 = 4;
    pub(super) const WINDOW: u8 = 5;
    pub(super) const PROBATION: u8 = 6;
    pub(super) const PROTECTED: u8 = 7;
    /// In S3-FIFO's small queue, and not to be remembered.
    pub(super) const S3_UNASKED: u8 = 8;
    /// In W-TinyLFU's window, and nobody has asked for it.
    pub(super) const WINDOW_UNASKED: u8 = 9;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back_and_others_are_told_which_there_are() {
        for policy in Eviction::ALL {
            assert_eq!(policy.to_string().parse(), Ok(policy));
        }
        let refused = "random".parse::<Eviction>().unwrap_err();
        assert!(refused.contains("`random`") && refused.contains("lru, s3fifo, sieve, tinylfu"));
    }
}
