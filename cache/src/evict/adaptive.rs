//! Adaptive: no policy is best for all there is, so all four are simulated on a sample of the keys,
//! and the one that does best lately has the entries.
//!
//! A key is in the sample or not by its hash (Waldspurger et al., ATC '17: a cache scaled down with
//! its keys has nearly the same hit ratio). A simulation has at most some 4,000 entries, however
//! many there are really, and so many bytes as the sample's share of what fits. Hits on sampled
//! keys come by notes (see `recent`), misses when they are put.
//!
//! Entries stay in the policy that they came to, as their place tells. When another one takes over,
//! it gets those of the others a few at a time, the cold before the hot.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

use parking_lot::Mutex;

use super::queue::bytes_of;
use super::recent::Recent;
use super::simulation::{Asked, Simulation};
use super::{Choice, Enter, Eviction, Look, Policy, place};
use crate::index::{Budget, Handle, Records};

/// The policies that it chooses from.
const FOUR: [Eviction; 4] = [
    Eviction::S3Fifo,
    Eviction::Lru,
    Eviction::Sieve,
    Eviction::TinyLfu,
];
/// Entries of a simulation: one chunk of records.
const ENTRIES_MAX: u32 = 4_095;
/// With more entries than this, one key in twice as many is sampled.
const ENTRIES_MANY: usize = 3_500;
/// With fewer real entries in the sample, one key in half as many.
const ENTRIES_FEW: u64 = 512;
/// Requests of the sample between two looks at who does best.
const EPOCH: u32 = 1_024;
/// Of the hits before an epoch, those that still count after it: all but one part in so many.
const FORGET: u64 = 64;
/// How much better another one must be, in parts of the requests that count.
const MARGIN: u64 = 200;
/// Entries handed over at a time.
const HANDED: usize = 16;

pub(crate) struct Adaptive {
    policies: [Box<dyn Policy>; 4],
    /// Which of them has the say.
    current: AtomicUsize,
    recent: Recent,
    /// One key in two to this power is sampled; more than 31 is none.
    sparse: AtomicU32,
    state: Mutex<State>,
}

struct State {
    simulations: Option<[Simulation; 4]>,
    /// Hits of each that count, in 256ths.
    scores: [u64; 4],
    /// Requests that count, in 256ths.
    asked: u64,
    /// Requests of this epoch.
    epoch: u32,
    /// Bytes and entries that are there.
    bytes: u64,
    len: u64,
    /// What fits, as far as is known.
    bytes_max: u64,
    /// What the simulations were last told of it.
    told: u64,
}

impl Adaptive {
    pub(super) fn new(budget: Arc<dyn Budget>, bytes_max: u64) -> Self {
        let simulate = |policy| Simulation::within(policy, bytes_max, ENTRIES_MAX, &budget);
        let simulations = match FOUR.map(simulate) {
            [Some(a), Some(b), Some(c), Some(d)] => Some([a, b, c, d]),
            _ => None,
        };
        let sparse = if simulations.is_some() { 0 } else { u32::MAX };
        Self {
            policies: FOUR.map(|policy| policy.build(Arc::clone(&budget), bytes_max)),
            current: AtomicUsize::new(0),
            recent: Recent::default(),
            sparse: AtomicU32::new(sparse),
            state: Mutex::new(State {
                simulations,
                scores: [0; 4],
                asked: 0,
                epoch: 0,
                bytes: 0,
                len: 0,
                bytes_max,
                told: bytes_max,
            }),
        }
    }

    fn current(&self) -> usize {
        self.current.load(Ordering::Relaxed) % FOUR.len()
    }

    fn is_sampled(&self, hash: u32) -> bool {
        is_sampled(hash, self.sparse.load(Ordering::Relaxed))
    }

    /// The policy that has an entry.
    fn of(&self, records: &Records, entry: Handle) -> usize {
        let policy = match records.place(entry) {
            place::LRU => Eviction::Lru,
            place::SIEVE => Eviction::Sieve,
            place::WINDOW | place::WINDOW_UNASKED | place::PROBATION | place::PROTECTED => {
                Eviction::TinyLfu
            }
            _ => Eviction::S3Fifo,
        };
        FOUR.iter().position(|one| *one == policy).unwrap_or(0)
    }

    /// Takes out the notes of hits.
    fn drain(&self, records: &Records, state: &mut State) {
        self.recent.drain(|note| {
            let bytes = bytes_of(records, note.entry);
            self.ask(state, note.hash, bytes);
        });
    }

    /// A request of the sample.
    fn ask(&self, state: &mut State, hash: u32, bytes: u64) {
        if !self.is_sampled(hash) {
            return;
        }
        let Some(simulations) = &mut state.simulations else {
            return;
        };
        let mut most = 0;
        for (simulation, score) in simulations.iter_mut().zip(&mut state.scores) {
            if simulation.ask(hash, bytes) == Asked::Hit {
                *score += 256;
            }
            most = most.max(simulation.held().0);
        }
        state.asked += 256;
        state.epoch += 1;
        if most > ENTRIES_MANY {
            self.sample(state, |sparse| sparse + 1);
        }
        if state.epoch >= EPOCH {
            self.choose(state);
        }
    }

    /// The end of an epoch: who does best has the say.
    fn choose(&self, state: &mut State) {
        let current = self.current();
        let best = (0..FOUR.len()).max_by_key(|at| state.scores[*at]);
        if let Some(best) = best
            && state.scores[best] > state.scores[current] + state.asked / MARGIN
        {
            self.current.store(best, Ordering::Relaxed);
        }
        state
            .scores
            .iter_mut()
            .for_each(|score| *score -= *score / FORGET);
        state.asked -= state.asked / FORGET;
        state.epoch = 0;
        let sparse = self.sparse.load(Ordering::Relaxed);
        if sparse > 0 && sparse < 32 && state.len >> sparse < ENTRIES_FEW {
            self.sample(state, |sparse| sparse - 1);
        }
    }

    /// Samples more keys or fewer.
    fn sample(&self, state: &mut State, change: impl FnOnce(u32) -> u32) {
        let sparse = change(self.sparse.load(Ordering::Relaxed)).min(31);
        self.sparse.store(sparse, Ordering::Relaxed);
        for simulation in state.simulations.iter_mut().flatten() {
            simulation.retain(|hash| is_sampled(hash, sparse));
            simulation.resize(state.bytes_max >> sparse);
        }
    }

    /// Memory is full with what is there: tells the simulations, where that is news.
    fn is_full(&self, state: &mut State) {
        state.bytes_max = state.bytes;
        if state.bytes_max.abs_diff(state.told) > state.told / 64 {
            state.told = state.bytes_max;
            let sparse = self.sparse.load(Ordering::Relaxed).min(31);
            for simulation in state.simulations.iter_mut().flatten() {
                simulation.resize(state.bytes_max >> sparse);
            }
        }
    }

    /// Gives the current policy some of what others still have, for each of `count` that come or go.
    fn hand_over(&self, records: &Records, count: usize) {
        let current = self.current();
        for from in (0..FOUR.len()).filter(|at| *at != current) {
            for _ in 0..HANDED * count {
                let Some(entry) = self.policies[from].coldest() else {
                    break;
                };
                self.policies[from].remove(records, entry, None);
                self.policies[current].insert(records, entry, 0, Enter::Known);
            }
        }
    }
}

impl Policy for Adaptive {
    fn insert(&self, records: &Records, entry: Handle, hash: u32, enter: Enter) {
        self.insert_all(records, &[(entry, hash)], enter);
    }

    fn insert_all(&self, records: &Records, entries: &[(Handle, u32)], enter: Enter) {
        let state = &mut *self.state.lock();
        self.drain(records, state);
        for (entry, hash) in entries {
            let bytes = bytes_of(records, *entry);
            if enter == Enter::Hot {
                self.ask(state, *hash, bytes);
            }
            state.bytes += bytes;
        }
        state.len += entries.len() as u64;
        self.hand_over(records, entries.len());
        self.policies[self.current()].insert_all(records, entries, enter);
    }

    fn replace(&self, records: &Records, old: Handle, new: Handle) {
        self.replace_all(records, &[(old, new)]);
    }

    fn replace_all(&self, records: &Records, pairs: &[(Handle, Handle)]) {
        let state = &mut *self.state.lock();
        for &(old, new) in pairs {
            state.bytes += bytes_of(records, new);
            state.bytes -= bytes_of(records, old);
        }
        let of = |pair: &(Handle, Handle)| self.of(records, pair.0);
        for pairs in pairs.chunk_by(|one, next| of(one) == of(next)) {
            self.policies[of(&pairs[0])].replace_all(records, pairs);
        }
    }

    fn hit(&self, entry: Handle, hash: u32) {
        self.policies[self.current()].hit(entry, hash);
        if self.is_sampled(hash) {
            self.recent.push(entry, hash);
        }
    }

    fn remove(&self, records: &Records, entry: Handle, evicted: Option<u32>) {
        let state = &mut *self.state.lock();
        state.bytes -= bytes_of(records, entry);
        state.len -= 1;
        self.policies[self.of(records, entry)].remove(records, entry, evicted);
    }

    fn victim(&self, records: &Records, look: &mut dyn Look) -> Choice {
        let state = &mut *self.state.lock();
        self.drain(records, state);
        self.is_full(state);
        self.hand_over(records, 1);
        let current = self.current();
        let others = (0..FOUR.len()).filter(|at| *at != current);
        for at in std::iter::once(current).chain(others) {
            match self.policies[at].victim(records, look) {
                Choice::Nothing => {}
                found => return found,
            }
        }
        Choice::Nothing
    }

    fn coldest(&self) -> Option<Handle> {
        self.policies.iter().find_map(|policy| policy.coldest())
    }

    fn follows(&self) -> Eviction {
        FOUR[self.current()]
    }
}

/// The sample is the same for all who use these hashes; other uses take other bits of them.
fn is_sampled(hash: u32, sparse: u32) -> bool {
    let mixed = (hash ^ hash >> 15).wrapping_mul(0x2c1b_3c6d);
    sparse < 32 && u64::from(mixed) >> (32 - sparse) == 0
}
