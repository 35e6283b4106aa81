//! A hierarchical timer wheel (Varghese and Lauck, SOSP '87) of groups of records.
//!
//! Six levels of 64 slots: a slot of level 0 is a tick, a slot of each level above is a whole turn
//! of the one below. A group hangs in the slot of the highest digit (of 6 bits) in which its due
//! tick differs from the current one; when time comes to that slot, the group moves to a lower
//! level, and from level 0 it is given out. The lists are doubly linked through the groups, so a
//! group is in one slot or in none, and leaves it in one step.

use super::groups::Groups;

const LEVEL_BITS: u32 = 6;
const SLOTS: usize = 1 << LEVEL_BITS;
/// Six times six bits hold every tick of a `u32`.
const LEVELS: usize = 6;
/// Set in the link to the group before, where that is no group but the head of this list.
const HEAD: u32 = 1 << 31;

/// The lists' heads, and the tick that time has come to.
pub(super) struct Wheel {
    now: u32,
    heads: [[u32; SLOTS]; LEVELS],
    occupied: [u64; LEVELS],
}

/// What [`Wheel::pop`] gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Popped {
    /// This group is due; it is in no slot any more.
    Group(u32),
    /// `moves_max` groups have moved to lower levels, and more may have to.
    Later,
    /// None is due.
    Nothing,
}

impl Wheel {
    pub(super) fn new() -> Self {
        Self {
            now: 1,
            heads: [[0; SLOTS]; LEVELS],
            occupied: [0; LEVELS],
        }
    }

    /// Hangs a group up, or elsewhere, to be due at `due`, at the earliest now.
    pub(super) fn arm(&mut self, groups: &Groups, group: u32, due: u32) {
        self.disarm(groups, group);
        let due = due.max(self.now);
        groups.set_due(group, due);
        self.hang(groups, group, due);
    }

    /// As [`Wheel::arm`], but not before the next tick: for a group that was just given out, so
    /// that it is not given out again at once.
    pub(super) fn arm_later(&mut self, groups: &Groups, group: u32, due: u32) {
        let there = groups.due(group);
        let due = due.max(self.now.saturating_add(1));
        if there == 0 || due < there {
            self.arm(groups, group, due);
        }
    }

    /// The next group that is due by `tick`, in the order of their ticks.
    pub(super) fn pop(&mut self, groups: &Groups, tick: u32, moves_max: u32) -> Popped {
        let mut moves = 0;
        loop {
            // What hangs above where time has come to belongs further down.
            if let Some(group) = (1..LEVELS).find_map(|level| self.first(level)) {
                if moves == moves_max {
                    return Popped::Later;
                }
                moves += 1;
                let due = groups.due(group);
                self.arm(groups, group, due);
                continue;
            }
            if let Some(group) = self.first(0) {
                self.disarm(groups, group);
                return Popped::Group(group);
            }
            match self.next_occupied().filter(|next| *next <= tick) {
                Some(next) => self.now = next,
                None => {
                    self.now = self.now.max(tick);
                    return Popped::Nothing;
                }
            }
        }
    }

    /// The first group in the slot of `level` that time has come to.
    fn first(&self, level: usize) -> Option<u32> {
        let slot = digit(self.now, level);
        let head = self.heads[level][slot];
        (head != 0).then_some(head)
    }

    /// The next tick at which something is to be done.
    fn next_occupied(&self) -> Option<u32> {
        (0..LEVELS).find_map(|level| {
            let behind = self.occupied[level] & (u64::MAX << digit(self.now, level) << 1);
            if behind == 0 {
                return None;
            }
            let shift = LEVEL_BITS * level_u32(level);
            let above = u64::from(self.now) >> (shift + LEVEL_BITS) << (shift + LEVEL_BITS);
            u32::try_from(above | u64::from(behind.trailing_zeros()) << shift).ok()
        })
    }

    fn hang(&mut self, groups: &Groups, group: u32, due: u32) {
        let level = level_of(due ^ self.now);
        let slot = digit(due, level);
        let next = self.heads[level][slot];
        groups.set_next(group, next);
        groups.set_prev(group, HEAD | list(level, slot));
        if next != 0 {
            groups.set_prev(next, group);
        }
        self.heads[level][slot] = group;
        self.occupied[level] |= 1 << slot;
    }

    /// Takes a group out of its slot, if it is in one.
    fn disarm(&mut self, groups: &Groups, group: u32) {
        if groups.due(group) == 0 {
            return;
        }
        groups.set_due(group, 0);
        let (prev, next) = (groups.prev(group), groups.next(group));
        if next != 0 {
            groups.set_prev(next, prev);
        }
        if prev & HEAD == 0 {
            groups.set_next(prev, next);
            return;
        }
        let list = (prev & !HEAD) as usize;
        let (level, slot) = (list / SLOTS, list % SLOTS);
        self.heads[level][slot] = next;
        if next == 0 {
            self.occupied[level] &= !(1 << slot);
        }
    }
}

fn digit(tick: u32, level: usize) -> usize {
    let digit = u64::from(tick) >> (LEVEL_BITS * level_u32(level)) & (SLOTS as u64 - 1);
    usize::try_from(digit).unwrap_or(0)
}

fn level_of(differs: u32) -> usize {
    (differs.checked_ilog2().unwrap_or(0) / LEVEL_BITS) as usize
}

#[expect(clippy::cast_possible_truncation, reason = "below six")]
fn level_u32(level: usize) -> u32 {
    level as u32
}

#[expect(clippy::cast_possible_truncation, reason = "below 384")]
fn list(level: usize, slot: usize) -> u32 {
    (level * SLOTS + slot) as u32
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;
    use crate::index::Unlimited;

    fn groups() -> Groups {
        let groups = Groups::new(1 << 20, Arc::new(Unlimited));
        for group in 1..200 {
            assert!(groups.make(group));
        }
        groups
    }

    #[test]
    fn a_group_comes_when_it_is_due_and_once() {
        let (groups, mut wheel) = (groups(), Wheel::new());
        for (group, due) in [(1, 5), (2, 64), (3, 4_000), (4, 3_000_000_000), (5, 5)] {
            wheel.arm(&groups, group, due);
        }
        assert_eq!(wheel.pop(&groups, 4, 9), Popped::Nothing);
        assert_eq!(wheel.pop(&groups, 63, 9), Popped::Group(5));
        assert_eq!(wheel.pop(&groups, 63, 9), Popped::Group(1));
        assert_eq!(wheel.pop(&groups, 63, 9), Popped::Nothing);
        wheel.arm(&groups, 3, 70);
        assert_eq!(wheel.pop(&groups, 4_000, 9), Popped::Group(2));
        assert_eq!(wheel.pop(&groups, 4_000, 9), Popped::Group(3));
        assert_eq!(wheel.pop(&groups, 4_000, 9), Popped::Nothing);
        assert_eq!(wheel.pop(&groups, u32::MAX, 9), Popped::Group(4));
        assert_eq!(wheel.pop(&groups, u32::MAX, 9), Popped::Nothing);
    }

    #[test]
    fn moving_down_is_done_in_steps() {
        let (groups, mut wheel) = (groups(), Wheel::new());
        (1..=100).for_each(|group| wheel.arm(&groups, group, 130));
        let mut steps = 0;
        while wheel.pop(&groups, 129, 10) == Popped::Later {
            steps += 1;
        }
        assert!(steps >= 9, "{steps}");
        let mut given = 0;
        loop {
            match wheel.pop(&groups, 130, 10) {
                Popped::Group(_) => given += 1,
                Popped::Later => {}
                Popped::Nothing => break,
            }
        }
        assert_eq!(given, 100);
    }

    proptest! {
        #![proptest_config(ProptestConfig {
            cases: if cfg!(miri) { 4 } else { 256 },
            failure_persistence: None,
            ..ProptestConfig::default()
        })]

        /// Against a map of due ticks, with steps of any length between.
        #[test]
        fn it_does_as_a_map_does(
            steps in prop::collection::vec(
                (1_u32..100, prop_oneof![0_u32..80, 0_u32..5_000, any::<u32>()], any::<bool>()),
                1..120,
            ),
        ) {
            let (groups, mut wheel) = (groups(), Wheel::new());
            let mut due_at: BTreeMap<u32, u32> = BTreeMap::new();
            let mut now = 1_u32;
            for (group, ticks, advances) in steps {
                if advances {
                    now = now.saturating_add(ticks);
                    loop {
                        match wheel.pop(&groups, now, 3) {
                            Popped::Group(group) => {
                                let due = due_at.remove(&group);
                                prop_assert!(due.is_some_and(|due| due <= now));
                            }
                            Popped::Later => {}
                            Popped::Nothing => break,
                        }
                    }
                    prop_assert!(due_at.values().all(|due| *due > now));
                } else {
                    let due = now.saturating_add(ticks);
                    wheel.arm(&groups, group, due);
                    due_at.insert(group, due);
                }
            }
        }
    }
}
