//! Does each operation twice, to the target and to the maps, and compares.

use std::rc::Rc;

use bowstring_wire::error::{Code, Error};
use bowstring_wire::version::Version;

use super::map::{Held, Known, Load, Map, Space};
use super::step::{Keys, SPACES, Step, Wanted, World, key, prefix};
use super::target::Target;

/// Steps between two looks at everything.
const STEPS_A_LOOK: u32 = 50;

pub struct Play<T> {
    pub(super) target: Rc<T>,
    pub(super) world: World,
    /// Memory is too small for all of it: something may go at any time, or be refused.
    pub(super) short: bool,
    pub(super) known: Known,
    pub(super) loads: Vec<Load>,
    /// Loads that have ended, their actions, and what was answered.
    pub(super) ended: Vec<(Load, &'static str, u64)>,
    /// Whether an expired entry of a load may have gone, and what it hid with it.
    pub(super) took_along: bool,
    pub(super) held: Vec<Held>,
    pub(super) reading: Vec<usize>,
    pub(super) evicted: u64,
    steps: u32,
}

impl<T: Target> Play<T> {
    pub fn new(target: T, world: World, short: bool) -> Self {
        let known = Known {
            entries: Vec::new(),
            spaces: (0..SPACES).map(|_| Space::default()).collect(),
        };
        Self {
            target: Rc::new(target),
            world,
            short,
            known,
            loads: Vec::new(),
            ended: Vec::new(),
            took_along: false,
            held: Vec::new(),
            reading: Vec::new(),
            evicted: 0,
            steps: 0,
        }
    }

    pub async fn step(&mut self, step: Step) {
        let spared = match &step {
            Step::Put(space, _, put, _) | Step::Rows(space, _, put) => {
                put.load.is_some().then_some(*space)
            }
            _ => None,
        };
        self.apply(step).await;
        self.forget_evicted(spared).await;
        self.steps += 1;
        if self.steps.is_multiple_of(STEPS_A_LOOK) {
            self.look_at_all().await;
        }
    }

    /// Takes everything away, and nothing must be left.
    pub async fn end(mut self) {
        for load in std::mem::take(&mut self.loads) {
            self.end_load("abort_load", &load).await.unwrap();
        }
        if T::OWN_CLOCK {
            self.apply(Step::Pass(601_000)).await;
            self.apply(Step::Tidy(true)).await;
        }
        self.forget_evicted(None).await;
        self.look_at_all().await;
        self.held
            .drain(..)
            .rev()
            .for_each(|_| self.target.let_go(0));
        for _ in self.reading.drain(..) {
            self.target.end_read();
        }
        for space in 0..SPACES {
            self.target.clear(space).await;
        }
        self.target.tidy(true);
        self.target.expire_due();
        self.target.check_empty();
    }

    pub(super) async fn apply(&mut self, step: Step) {
        match step {
            Step::Put(space, number, put, wanted) => {
                self.put(space, &key(number), &put, wanted).await
            }
            Step::Rows(space, keys, put) => self.rows(space, keys, &put).await,
            Step::GiveUp(space, number, content) => {
                self.target.give_up(space, &key(number), content).await;
            }
            Step::Look(space, number) => self.look(space, &key(number)).await,
            step @ (Step::Many(..) | Step::Scan(..)) => self.read_step(step).await,
            Step::Delete(space, number, wanted) => self.delete(space, &key(number), wanted).await,
            Step::DeletePrefix(space, number) => {
                self.delete_prefix(space, &prefix(number), false).await
            }
            Step::Clear(space) => self.delete_prefix(space, "", true).await,
            step @ (Step::Expire(..)
            | Step::Pin(..)
            | Step::Unpin(..)
            | Step::DefaultTtl(..)
            | Step::EntriesMax(..)) => self.keep_step(step).await,
            Step::Pass(ms) => self.target.pass(ms).await,
            Step::ExpireDue => self.target.expire_due(),
            step @ (Step::Hold(_)
            | Step::LookHeld(..)
            | Step::ScanHeld(..)
            | Step::LetGo(_)
            | Step::Read(..)
            | Step::EndRead) => self.hold_step(step).await,
            load => self.load_step(load).await,
        }
    }

    /// The keys that were evicted are no more; nothing else has gone, and nothing for a put into a load
    /// of the `spared` namespace that this shows.
    pub(super) async fn forget_evicted(&mut self, spared: Option<usize>) {
        let evicted = self.target.evicted().await;
        if evicted == self.evicted {
            return;
        }
        assert!(self.short || self.known.spaces.iter().any(|space| space.limited));
        let mut gone = 0;
        for space in 0..SPACES {
            let seen = self.target.scan(space, "").await;
            for (key, entry) in self.shown(space) {
                if seen.binary_search_by(|seen| seen.key.cmp(&key)).is_err() {
                    assert!(!self.known.entries[entry].pinned, "{key:?} was pinned");
                    assert_ne!(spared, Some(space), "{key:?} went for a load");
                    self.known.spaces[space].shown.remove(&key);
                    gone += 1;
                }
            }
            if let Some(last) = &mut self.known.spaces[space].last {
                last.lossy = true;
            }
        }
        assert!(gone <= evicted - self.evicted, "{gone} have gone");
        self.evicted = evicted;
        self.held.iter_mut().for_each(|held| held.whole = false);
    }

    pub(super) async fn look_at_all(&mut self) {
        for space in 0..SPACES {
            for number in 0..self.world.keys {
                self.look(space, &key(number)).await;
            }
            self.forget_evicted(None).await;
            let shown = self.shown(space);
            let seen = self.target.scan(space, "").await;
            self.known.check_all(&shown, &seen, false);
            let bytes = shown.values().map(|entry| {
                super::step::contents()[self.known.entries[*entry].content].len() as u64
            });
            let totals = self.target.totals(space).await;
            let expected = (shown.len() as u64, bytes.sum::<u64>());
            assert_eq!(
                (totals.entries, totals.bytes),
                expected,
                "totals of {space}"
            );
        }
    }

    /// A put or a delete of one key: no rollback brings it back.
    pub(super) fn touch(&mut self, space: usize, key: &str, entry: Option<usize>) {
        if let Some(last) = &mut self.known.spaces[space].last {
            last.touched.insert(key.to_owned());
        }
        for held in self.held.iter_mut().filter(|held| held.space == space) {
            held.touched.entry(key.to_owned()).or_default().push(entry);
        }
    }

    /// Generations may be emptied from now on.
    pub(super) fn unsettle(&mut self) {
        self.held.iter_mut().for_each(|held| held.whole = false);
    }

    #[track_caller]
    pub(super) fn may_refuse(&self, space: usize, refused: &Error) {
        assert_eq!(refused.code, Code::ResourceExhausted, "{refused}");
        assert!(self.short || self.known.spaces[space].limited, "{refused}");
    }

    /// What expires at once has expired before anybody looks.
    pub(super) async fn short_ttl(&self, ttl_ms: Option<u64>) {
        if !T::OWN_CLOCK && ttl_ms == Some(1) {
            self.target.pass(5).await;
        }
    }

    pub(super) fn now(&self) -> u64 {
        self.target.now_ms()
    }

    pub(super) fn at(&self, ttl_ms: Option<u64>) -> Option<u64> {
        ttl_ms.map(|ttl| self.now() + ttl)
    }

    pub(super) fn there(&self, space: usize, key: &str) -> Option<usize> {
        let shown = &self.known.spaces[space].shown;
        self.known.there(shown, key, self.now())
    }

    pub(super) fn map(&self, space: usize, load: Option<usize>) -> &Map {
        match load {
            Some(load) => &self.loads[load].map,
            None => &self.known.spaces[space].shown,
        }
    }

    pub(super) fn shown(&self, space: usize) -> Map {
        self.shown_under(space, "")
    }

    pub(super) fn shown_under(&self, space: usize, prefix: &str) -> Map {
        let shown = &self.known.spaces[space].shown;
        self.known.live(shown, prefix, self.now())
    }

    pub(super) fn version(&self, there: Option<usize>, wanted: Wanted) -> Version {
        let none = Version { hlc: 1, start: 1 };
        match (wanted, there) {
            (Wanted::There, Some(there)) => self.known.entries[there].version.unwrap_or(none),
            _ => none,
        }
    }

    pub(super) fn names(&self, keys: Keys) -> Vec<String> {
        let numbers = (keys.0..).take(usize::from(keys.1));
        let mut names: Vec<_> = numbers
            .map(|number| key(number % self.world.keys))
            .collect();
        names.dedup();
        names
    }
}
