//! Which entry goes when room is needed, and its going.
//!
//! What nobody sees any more goes first; then what the policy says. What is pinned, being read or part
//! of an open load stays. So does what a namespace shows, as far as the room is for a load of its own:
//! the load is refused rather than that what it is to replace melts away before it is there.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::arena::PAGE_BYTES_U64;
use crate::engine::Engine;
use crate::event::{Cause, Why};
use crate::evict::{Choice, Look};
use crate::head::split;
use crate::index::{Handle, Record};
use crate::namespaces::Space;
use crate::reads::Read;

/// For whom something goes.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Terms {
    /// A reader that took something so lately is not cut off.
    pub(crate) patience: Duration,
    /// The home of a namespace of which nothing goes that it shows.
    pub(crate) spares: Option<u32>,
    pub(crate) cause: Cause,
}

/// What a look for a victim came to.
pub(crate) enum Evicted {
    One,
    Later,
    Nothing,
}

impl Engine {
    /// One victim, or a bounded look for one.
    pub(crate) fn evict(self: &Arc<Self>, terms: Terms) -> Evicted {
        let mut look = Candidates {
            engine: self,
            terms,
        };
        if let Some(entry) = self.unseen_victim(&mut |handle| look.takes(handle)) {
            return match self.unlink(entry, Why::Replaced) {
                true => Evicted::One,
                false => Evicted::Later,
            };
        }
        let handle = match self.choose(&mut look) {
            Choice::Victim(handle) => handle,
            Choice::Later => return Evicted::Later,
            Choice::Nothing => return Evicted::Nothing,
        };
        let Some(entry) = self.pin(handle) else {
            return Evicted::Later;
        };
        // Not inside the policy, which is locked there: whoever waits for the reader is called.
        let pages = split(entry.record().len()).pages;
        loop {
            match self.in_the_way(handle, pages, terms.patience) {
                InTheWay::Nothing => break,
                InTheWay::Readers => return Evicted::Later,
                InTheWay::Stalled(read) => self.reads.cut_off(&read),
            };
        }
        let why = if self.is_expired(entry.record()) {
            Why::Expired
        } else {
            Why::Evicted(terms.cause)
        };
        let gone = match why {
            // Its room is free when it is written down; until then others go, which may be written already.
            Why::Evicted(cause) if self.lower.is_there() && !entry.record().is_below() => {
                self.unlink_below(entry, cause)
            }
            _ => self.unlink(entry, why),
        };
        if gone { Evicted::One } else { Evicted::Later }
    }

    /// What the policy says, among what may go.
    fn choose(self: &Arc<Self>, look: &mut Candidates<'_>) -> Choice {
        let by_policy = |look| self.policy.victim(&self.index.records, look);
        let Some(spared) = look.terms.spares else {
            return by_policy(look);
        };
        let mut all_entries = 0;
        let mut others: Vec<(u64, &Space)> = Vec::new();
        for (number, space) in self.spaces.all() {
            let entries = space.entries.load(Ordering::Relaxed);
            all_entries += entries;
            if entries > 0 && !self.shows(spared, number) && !is_filled(space) {
                others.push((entries, space));
            }
        }
        // Whatever the policy passes over loses its place and its marks: where most of it has to
        // stay, the others are asked instead.
        let of_others: u64 = others.iter().map(|(entries, _)| entries).sum();
        if of_others > all_entries / 2
            && let Choice::Victim(victim) = by_policy(look)
        {
            return Choice::Victim(victim);
        }
        let by_turns = others.iter().cycle();
        let first = self.dice() % (others.len() as u64).max(1);
        by_turns
            .skip(usize::try_from(first).unwrap_or(0))
            .take(others.len())
            .filter_map(|(_, space)| self.own_victim(space, None))
            .find(|victim| look.takes(*victim))
            .map_or(Choice::Nothing, Choice::Victim)
    }

    /// Whether what is in a generation may show in the namespace of this home.
    fn shows(&self, home: u32, number: u32) -> bool {
        let Some(space) = self.spaces.at(home) else {
            return false;
        };
        let view = space.view();
        number == view.base() || view.is_layered() && view.beside() == Some(number)
    }

    /// What stands in the way of an entry's leaving the index: what its readers have not taken
    /// would be held from then on, and may be too much.
    fn in_the_way(&self, handle: Handle, pages: u32, patience: Duration) -> InTheWay {
        if pages == 0 || self.reads.count() == 0 {
            return InTheWay::Nothing;
        }
        let own = u64::from(pages) * PAGE_BYTES_U64;
        let more = self.reads.outstanding_of(handle).min(own);
        if more == 0 || self.arena.held_bytes() + more <= self.held_bytes_max() {
            return InTheWay::Nothing;
        }
        match self.reads.most_stalled(Some(handle)) {
            // One reader may always finish one tensor.
            None => InTheWay::Nothing,
            Some((_, stalled)) if stalled < patience => InTheWay::Readers,
            Some((read, _)) => InTheWay::Stalled(read),
        }
    }

    /// Whether an entry belongs to an open load, which keeps it.
    fn is_loading(&self, record: &Record) -> bool {
        self.loads.any_open() && self.spaces.at(record.namespace()).is_some_and(is_filled)
    }
}

/// What the policy asks about its entries. Nobody unlinks them meanwhile: they leave the policy
/// first, for which its lock is needed.
struct Candidates<'a> {
    engine: &'a Arc<Engine>,
    terms: Terms,
}

impl Look for Candidates<'_> {
    fn takes(&mut self, entry: Handle) -> bool {
        let record = self.engine.record(entry);
        let pages = split(record.len()).pages;
        let in_the_way = || self.engine.in_the_way(entry, pages, self.terms.patience);
        record.pins() == 0
            && !self.engine.is_loading(record)
            && !self.is_spared(record)
            && !matches!(in_the_way(), InTheWay::Readers)
    }

    fn hash(&mut self, entry: Handle) -> u32 {
        // Pinned, so that its slot stays where it is; none where it is just being moved.
        let Some(pinned) = self.engine.pin(entry) else {
            return 0;
        };
        self.engine.policy_hash_of(&pinned)
    }
}

impl Candidates<'_> {
    /// What has expired shows no more.
    fn is_spared(&self, record: &Record) -> bool {
        let spared = self.terms.spares;
        spared.is_some_and(|home| self.engine.shows(home, record.namespace()))
            && !self.engine.is_expired(record)
    }
}

/// Whether an open load fills a generation.
fn is_filled(space: &Space) -> bool {
    space.load.load(Ordering::Relaxed) != 0
}

/// See [`Engine::in_the_way`].
enum InTheWay {
    Nothing,
    /// Readers that get on.
    Readers,
    /// This one, which must be cut off.
    Stalled(Arc<Read>),
}
