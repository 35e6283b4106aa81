//! What is gone although it may still come in: a segment that is being written when a name of it is
//! removed is entered after that.
//!
//! A *floor* says it of a namespace, and lasts on the disk until its entries are swept; a *grave* says it of a
//! name, in memory, as long as a segment of a lower number may come in ([`ColdIndex::settle`]). Graves
//! that become too many are replaced by one *barrier* for all names: what comes from under it is not
//! taken in, which is a miss, never a wrong answer.
//!
//! [`ColdIndex::settle`]: super::ColdIndex::settle

use std::collections::HashMap;

use bowstring_wire::version::Version;
use parking_lot::RwLock;

use crate::entry::Number;

/// A few MiB of them.
const GRAVES_MAX: usize = 1 << 16;

#[derive(Debug, Clone, Copy)]
struct Grave {
    log: Number,
    /// Only versions below this one; all where there is none.
    below: Option<Version>,
}

/// Of names by their hash: two that share one are gone together, which is a miss.
#[derive(Debug)]
pub(super) struct Graves {
    names: HashMap<u64, Grave>,
    barrier: Number,
    settled: Number,
}

impl Graves {
    pub(super) fn new() -> Graves {
        Graves {
            names: HashMap::new(),
            barrier: Number(0),
            settled: Number(0),
        }
    }

    pub(super) fn bury(&mut self, name: u64, log: Number, below: Option<Version>) {
        if log <= self.settled {
            return;
        }
        if self.names.len() >= GRAVES_MAX {
            let highest = self.names.values().map(|grave| grave.log).max();
            self.barrier = self.barrier.max(highest.unwrap_or(self.barrier));
            self.names.clear();
        }
        let grave = self.names.entry(name).or_insert(Grave { log, below });
        grave.log = grave.log.max(log);
        // None is above all.
        grave.below = grave.below.zip(below).map(|(a, b)| a.max(b));
    }

    pub(super) fn is_gone(&self, name: u64, segment: Number, version: Version) -> bool {
        let grave = self.names.get(&name);
        segment < self.barrier
            || grave.is_some_and(|grave| {
                segment < grave.log && grave.below.is_none_or(|below| version < below)
            })
    }

    /// No segment below `before` comes in any more.
    pub(super) fn settle(&mut self, before: Number) {
        self.settled = self.settled.max(before);
        self.names.retain(|_, grave| grave.log > before);
        // A map keeps the room of its fullest time.
        self.names.shrink_to(1024);
    }

    pub(super) fn settled(&self) -> Number {
        self.settled
    }

    pub(super) fn resident_bytes(&self) -> u64 {
        let each = size_of::<(u64, Grave)>() + 1;
        u64::try_from(self.names.capacity() * each).unwrap_or(u64::MAX)
    }
}

/// Of namespaces, by the prefix of their rows.
#[derive(Debug, Default)]
pub(super) struct Floors(RwLock<HashMap<Vec<u8>, Floor>>);

/// Segments below `number` are gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Floor {
    pub(super) number: Number,
    /// Its entries have been swept once, and only those may be left that have come in since.
    pub(super) swept: bool,
}

impl Floors {
    /// The floor of a namespace; the lowest number where it has none.
    pub(super) fn of(&self, prefix: &[u8]) -> Number {
        let floors = self.0.read();
        if floors.is_empty() {
            return Number(0);
        }
        floors.get(prefix).map_or(Number(0), |floor| floor.number)
    }

    pub(super) fn highest(&self) -> Number {
        let floors = self.0.read();
        let highest = floors.values().map(|floor| floor.number).max();
        highest.unwrap_or(Number(0))
    }

    pub(super) fn raise(&self, prefix: Vec<u8>, number: Number) {
        let mut floors = self.0.write();
        let floor = floors.entry(prefix).or_insert(Floor {
            number,
            swept: false,
        });
        if floor.number < number {
            *floor = Floor {
                number,
                swept: false,
            };
        }
    }

    /// A namespace that is to be swept: never yet, or for the last time.
    pub(super) fn to_sweep(&self, settled: Number) -> Option<(Vec<u8>, Floor)> {
        let floors = self.0.read();
        let mut due = floors
            .iter()
            .filter(|(_, floor)| !floor.swept || floor.number <= settled);
        due.next().map(|(prefix, floor)| (prefix.clone(), *floor))
    }

    /// Marks as swept what is still as it was.
    pub(super) fn swept(&self, prefix: &[u8], was: Floor) {
        if let Some(floor) = self.0.write().get_mut(prefix)
            && *floor == was
        {
            floor.swept = true;
        }
    }

    /// Forgets the floor, unless it was raised.
    pub(super) fn forget(&self, prefix: &[u8], number: Number) {
        let mut floors = self.0.write();
        if floors
            .get(prefix)
            .is_some_and(|floor| floor.number == number)
        {
            floors.remove(prefix);
            floors.shrink_to(1024);
        }
    }

    pub(super) fn resident_bytes(&self) -> u64 {
        let floors = self.0.read();
        u64::try_from(floors.len() * 128).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(hlc: u64) -> Version {
        Version { hlc, start: 0 }
    }

    #[test]
    fn a_grave_holds_what_comes_late_and_nothing_newer() {
        let mut graves = Graves::new();
        graves.bury(7, Number(10), Some(version(5)));
        assert!(graves.is_gone(7, Number(9), version(4)));
        assert!(!graves.is_gone(7, Number(9), version(5)));
        assert!(!graves.is_gone(7, Number(11), version(4)));
        assert!(!graves.is_gone(8, Number(9), version(4)));
        graves.bury(7, Number(8), None);
        assert!(graves.is_gone(7, Number(9), version(6)));
        graves.settle(Number(10));
        assert!(!graves.is_gone(7, Number(9), version(4)));
        graves.bury(7, Number(10), None);
        assert!(graves.names.is_empty());
    }

    #[test]
    fn too_many_graves_become_a_barrier() {
        let mut graves = Graves::new();
        for name in 0..=GRAVES_MAX as u64 {
            graves.bury(name, Number(100 + name), None);
        }
        assert!(graves.names.len() < 10);
        assert!(graves.is_gone(0, Number(99), version(1)));
        assert!(graves.is_gone(u64::MAX, Number(99), version(1)));
        assert!(!graves.is_gone(0, Number(100 + GRAVES_MAX as u64), version(1)));
    }

    #[test]
    fn a_floor_that_was_raised_is_not_forgotten() {
        let floors = Floors::default();
        floors.raise(b"n".to_vec(), Number(3));
        let (prefix, was) = floors.to_sweep(Number(0)).unwrap();
        floors.raise(b"n".to_vec(), Number(5));
        floors.swept(&prefix, was);
        floors.forget(&prefix, was.number);
        assert_eq!(floors.of(b"n"), Number(5));
        let (_, now) = floors.to_sweep(Number(0)).unwrap();
        floors.swept(&prefix, now);
        assert!(floors.to_sweep(Number(4)).is_none());
        let (_, now) = floors.to_sweep(Number(5)).unwrap();
        floors.forget(&prefix, now.number);
        assert_eq!(floors.of(b"n"), Number(0));
    }
}
