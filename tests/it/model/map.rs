//! What should be there: maps from keys to entries.

use std::collections::{BTreeMap, BTreeSet};

use bowstring_wire::descriptor::Mode;
use bowstring_wire::error::{Code, Error};
use bowstring_wire::version::Version;

use super::step::contents;
use super::target::{Coming, Seen, Stored};

/// Keys, and numbers of entries.
pub type Map = BTreeMap<String, usize>;

#[derive(Debug, Clone)]
pub struct Entry {
    /// Rows of a server have one that is learned later.
    pub version: Option<Version>,
    pub content: usize,
    pub expires_at_ms: Option<u64>,
    pub pinned: bool,
    /// Whether time passed while it was put: then what of it depends on that is as it is seen first.
    pub learns: bool,
}

/// A namespace.
#[derive(Debug, Default)]
pub struct Space {
    pub shown: Map,
    pub ttl_ms: Option<u64>,
    pub limited: bool,
    pub last: Option<Last>,
}

/// The load that was committed last, while it can be rolled back.
#[derive(Debug)]
pub struct Last {
    pub load: String,
    /// What was there before it.
    pub before: Map,
    /// What it brought over what was there.
    pub over: Map,
    /// Whether what it lacks stayed.
    pub merged: bool,
    /// Put or deleted since.
    pub touched: BTreeSet<String>,
    /// Whether something has been evicted since.
    pub lossy: bool,
    pub at_ms: u64,
    /// Whether its window was over when somebody looked.
    pub over_window: bool,
}

#[derive(Debug, Clone)]
pub struct Load {
    pub id: String,
    pub space: usize,
    pub replace_all: bool,
    pub map: Map,
    pub used_ms: u64,
}

/// What somebody holds who reads several keys.
#[derive(Debug)]
pub struct Held {
    pub space: usize,
    pub shown: Map,
    /// What single puts and deletes have made of a key since, one after the other.
    pub touched: BTreeMap<String, Vec<Option<usize>>>,
    /// Whether nothing has happened since that empties generations.
    pub whole: bool,
}

/// What becomes of a put.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Comes,
    Stays,
    Exists,
    Precondition,
    NoRoom,
}

#[derive(Debug, Default)]
pub struct Known {
    pub entries: Vec<Entry>,
    pub spaces: Vec<Space>,
}

impl Known {
    pub fn add(&mut self, entry: Entry) -> usize {
        self.entries.push(entry);
        self.entries.len() - 1
    }

    pub fn is_live(&self, entry: usize, now_ms: u64) -> bool {
        let at = self.entries[entry].expires_at_ms;
        at.is_none_or(|at| at > now_ms)
    }

    pub fn there(&self, map: &Map, key: &str, now_ms: u64) -> Option<usize> {
        let entry = map.get(key).copied();
        entry.filter(|entry| self.is_live(*entry, now_ms))
    }

    pub fn live(&self, map: &Map, prefix: &str, now_ms: u64) -> Map {
        map.iter()
            .filter(|(key, entry)| key.starts_with(prefix) && self.is_live(**entry, now_ms))
            .map(|(key, entry)| (key.clone(), *entry))
            .collect()
    }

    /// What a put must come to where this is there.
    pub fn judge(&self, there: Option<usize>, coming: &Coming) -> Verdict {
        let there = there.map(|there| &self.entries[there]);
        if let Some(wanted) = coming.if_version {
            let same = there.is_some_and(|there| there.version == Some(wanted));
            return if same {
                Verdict::Comes
            } else {
                Verdict::Precondition
            };
        }
        match (there, coming.mode) {
            (None, _) | (_, Mode::Replace) => Verdict::Comes,
            (Some(_), Mode::Keep) => Verdict::Stays,
            (Some(there), Mode::Create) => {
                let same = contents()[there.content] == contents()[coming.content];
                if same {
                    Verdict::Stays
                } else {
                    Verdict::Exists
                }
            }
        }
    }

    /// Whether this was seen of an entry, as far as it was; learns its version.
    #[track_caller]
    pub fn check(&mut self, entry: usize, seen: &Seen) {
        let known = &mut self.entries[entry];
        known.version = known.version.or(seen.version);
        if known.learns
            && let (Some(at), Some(pinned)) = (seen.expires_at_ms, seen.pinned)
        {
            (known.expires_at_ms, known.pinned, known.learns) = (at, pinned, false);
        }
        if let Some(version) = seen.version {
            assert_eq!(known.version, Some(version), "version of {:?}", seen.key);
        }
        if let Some(bytes) = &seen.bytes {
            assert!(
                *bytes == contents()[known.content],
                "bytes of {:?}",
                seen.key
            );
        }
        if let Some(pinned) = seen.pinned {
            assert_eq!(pinned, known.pinned, "pin of {:?}", seen.key);
        }
        match (seen.expires_at_ms, known.expires_at_ms) {
            // A server says only whether there is one.
            (None, _) | (Some(Some(0)), Some(_)) => {}
            (Some(said), at) => assert_eq!(said, at, "expiry of {:?}", seen.key),
        }
    }

    /// Whether exactly this was seen of a map; what may have gone may be missing.
    #[track_caller]
    pub fn check_all(&mut self, expected: &Map, seen: &[Seen], may_miss: bool) {
        for seen in seen {
            let entry = expected.get(&seen.key).copied();
            let entry = entry.unwrap_or_else(|| panic!("{:?} must not be there", seen.key));
            self.check(entry, seen);
        }
        if !may_miss {
            for key in expected.keys() {
                let found = seen.iter().any(|seen| seen.key == *key);
                assert!(found, "{key:?} is missing");
            }
        }
    }
}

impl Verdict {
    /// `None` where it is not said: then it is what it must be.
    pub fn of(answer: &Result<Stored, Error>) -> Option<Verdict> {
        match answer {
            Ok(stored) => match stored.existed? {
                true => Some(Verdict::Stays),
                false => Some(Verdict::Comes),
            },
            Err(refused) => Some(match refused.code {
                Code::AlreadyExists => Verdict::Exists,
                Code::FailedPrecondition => Verdict::Precondition,
                Code::ResourceExhausted => Verdict::NoRoom,
                _ => panic!("{refused}"),
            }),
        }
    }
}
