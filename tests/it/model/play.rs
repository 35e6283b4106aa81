//! Does each operation twice, to the target and to the maps, and compares.

use std::collections::BTreeMap;
use std::rc::Rc;

use bowstring_wire::error::{Code, Error};
use bowstring_wire::version::Version;

use super::map::{Entry, Held, Known, Load, Map, Space, Verdict};
use super::step::{Keys, Put, SPACES, Step, Wanted, World, key, prefix};
use super::target::{Coming, Seen, Stored, Target};

/// Steps between two looks at everything.
const STEPS_A_LOOK: u32 = 50;
const HELD_MAX: usize = 3;

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
    held: Vec<Held>,
    reading: Vec<usize>,
    evicted: u64,
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
            Step::Many(space, keys, beside) => {
                let target = Rc::clone(&self.target);
                let names = self.names(keys);
                let mut wanted = names.clone();
                wanted.sort();
                let only = move |key: &str| wanted.iter().any(|name| name == key);
                let many = async { target.many(space, &names).await };
                self.beside(space, beside, many, only).await;
            }
            Step::Scan(space, number, beside) => {
                let target = Rc::clone(&self.target);
                let prefix = prefix(number);
                let scan = async {
                    let seen = target.scan(space, &prefix).await;
                    assert!(seen.is_sorted_by(|a, b| a.key < b.key), "{seen:?}");
                    seen
                };
                let only = |key: &str| key.starts_with(&prefix);
                self.beside(space, beside, scan, only).await;
            }
            Step::Delete(space, number, wanted) => self.delete(space, &key(number), wanted).await,
            Step::DeletePrefix(space, number) => {
                self.delete_prefix(space, &prefix(number), false).await
            }
            Step::Clear(space) => self.delete_prefix(space, "", true).await,
            Step::Expire(space, number, ttl_ms) => {
                let there = self.there(space, &key(number));
                let found = self.target.expire(space, &key(number), ttl_ms).await;
                assert_eq!(found, there.is_some());
                if let Some(there) = there {
                    self.known.entries[there].expires_at_ms = self.at(ttl_ms);
                    self.short_ttl(ttl_ms).await;
                }
            }
            Step::Pin(space, number) => {
                let there = self.there(space, &key(number));
                match self.target.pin(space, &key(number)).await {
                    Ok(found) => assert_eq!(found, there.is_some()),
                    Err(refused) => return self.may_refuse(space, &refused),
                }
                if let Some(there) = there {
                    self.known.entries[there].pinned = true;
                }
            }
            Step::Unpin(space, number) => {
                let there = self.there(space, &key(number));
                let found = self.target.unpin(space, &key(number)).await;
                assert_eq!(found, there.is_some());
                if let Some(there) = there {
                    self.known.entries[there].pinned = false;
                    self.unpin_hidden(space, &key(number));
                }
            }
            Step::DefaultTtl(space, ttl_ms) => {
                let ttl_ms = ttl_ms.map(|ttl| if T::OWN_CLOCK { ttl } else { 3_600_000 });
                self.target
                    .set(space, "default_ttl_ms", ttl_ms)
                    .await
                    .unwrap();
                self.known.spaces[space].ttl_ms = ttl_ms;
            }
            Step::EntriesMax(space, max) => {
                self.known.spaces[space].limited |= max.is_some();
                self.target.set(space, "entries_max", max).await.unwrap();
            }
            Step::Pass(ms) => self.target.pass(ms).await,
            Step::ExpireDue => self.target.expire_due(),
            Step::Hold(space) if self.held.len() < HELD_MAX => {
                self.target.hold(space);
                self.held.push(Held {
                    space,
                    shown: self.shown(space),
                    touched: BTreeMap::new(),
                    whole: true,
                });
            }
            Step::Hold(_) => {}
            Step::LookHeld(held, keys) => self.look_held(held, keys).await,
            Step::ScanHeld(held, number) => self.scan_held(held, &prefix(number)),
            Step::LetGo(held) => {
                if let Some(held) = usize::from(held).checked_rem(self.held.len()) {
                    self.held.remove(held);
                    self.target.let_go(held);
                }
            }
            Step::Read(space, number) => {
                if let Some(there) = self.there(space, &key(number)) {
                    self.target.read(space, &key(number));
                    self.reading.push(self.known.entries[there].content);
                }
            }
            Step::EndRead => {
                if let Some(content) = self.reading.pop()
                    && let Some(bytes) = self.target.end_read()
                {
                    assert!(bytes == super::step::contents()[content], "bytes read");
                }
            }
            load => self.load_step(load).await,
        }
    }

    async fn put(&mut self, space: usize, key: &str, put: &Put, wanted: Option<Wanted>) {
        let Some((coming, load)) = self.coming(space, put) else {
            return;
        };
        let there = self.known.there(self.map(space, load), key, self.now());
        let coming = Coming {
            if_version: wanted.map(|wanted| self.version(there, wanted)),
            ..coming
        };
        let began = self.now();
        let answer = self.target.put(space, key, &coming).await;
        self.judge(space, load, key, &coming, began, &answer).await;
        self.short_ttl(coming.ttl_ms).await;
    }

    async fn rows(&mut self, space: usize, keys: Keys, put: &Put) {
        let Some((coming, load)) = self.coming(space, put) else {
            return;
        };
        let names = self.names(keys);
        let began = self.now();
        let answers = self.target.put_rows(space, &names, &coming).await;
        assert_eq!(answers.len(), names.len());
        for (key, answer) in names.iter().zip(&answers) {
            self.judge(space, load, key, &coming, began, answer).await;
        }
        self.short_ttl(coming.ttl_ms).await;
    }

    /// A put, and the number of its load; `None` where there is no open one.
    fn coming(&self, space: usize, put: &Put) -> Option<(Coming, Option<usize>)> {
        let load = match put.load {
            None => None,
            Some(load) => {
                let open = self.loads.iter().enumerate();
                let open: Vec<_> = open.filter(|(_, load)| load.space == space).collect();
                Some(open.get(usize::from(load).checked_rem(open.len())?)?.0)
            }
        };
        let coming = Coming {
            mode: put.mode,
            content: put.content,
            if_version: None,
            ttl_ms: put.ttl_ms,
            pin: put.pin,
            load: load.map(|load| self.loads[load].id.clone()),
        };
        Some((coming, load))
    }

    /// Notes what became of a put.
    async fn judge(
        &mut self,
        space: usize,
        load: Option<usize>,
        key: &str,
        coming: &Coming,
        began: u64,
        answer: &Result<Stored, Error>,
    ) {
        let now = self.now();
        if let Some(load) = load {
            self.loads[load].used_ms = now;
        }
        let there = self.known.there(self.map(space, load), key, began);
        // Something may have gone while it was put.
        let vague = now != began || (load.is_none() && self.target.evicted().await != self.evicted);
        let must = self.known.judge(there, coming);
        let may = self.known.judge(None, coming);
        let verdict = Verdict::of(answer).unwrap_or(must);
        match verdict {
            Verdict::NoRoom => return self.may_refuse(space, answer.as_ref().unwrap_err()),
            verdict if verdict == must => {}
            verdict => assert!(
                vague && verdict == may,
                "{key}: {verdict:?}, expected {must:?}"
            ),
        }
        let version = answer.as_ref().ok().and_then(|stored| stored.version);
        match (verdict, there) {
            (Verdict::Stays, Some(there)) => {
                let known = &mut self.known.entries[there];
                known.version = known.version.or(version);
                assert!(version.is_none() || known.version == version);
                known.pinned |= coming.pin;
            }
            (Verdict::Comes, _) => {
                let pinned = there.is_some_and(|there| self.known.entries[there].pinned);
                // By the namespace's setting, time begins when it is published.
                let default = self.known.spaces[space].ttl_ms;
                let ttl_ms = coming.ttl_ms.or(default);
                let entry = self.known.add(Entry {
                    version,
                    content: coming.content,
                    expires_at_ms: ttl_ms.map(|ttl| began + ttl),
                    pinned: pinned || coming.pin,
                    learns: now != began,
                });
                match load {
                    Some(load) => drop(self.loads[load].map.insert(key.to_owned(), entry)),
                    None => {
                        self.touch(space, key, Some(entry));
                        self.known.spaces[space].shown.insert(key.to_owned(), entry);
                    }
                }
            }
            _ => {}
        }
    }

    async fn look(&mut self, space: usize, key: &str) {
        let there = self.there(space, key);
        let seen = self.target.look(space, key).await;
        match (there, seen) {
            (Some(there), Some(seen)) => self.known.check(there, &seen),
            (Some(_), None) => {
                // To read may need room.
                self.forget_evicted(None).await;
                let there = self.there(space, key);
                assert_eq!(there, None, "{key:?} of {space} is missing");
            }
            (None, Some(seen)) => panic!("{seen:?} must not be there in {space}"),
            (None, None) => {}
        }
    }

    /// What a read finds beside a step is what was there before it, or what is there after it.
    async fn beside(
        &mut self,
        space: usize,
        step: Option<Box<Step>>,
        read: impl Future<Output = Vec<Seen>>,
        only: impl Fn(&str) -> bool,
    ) {
        let before = self.shown(space);
        let Some(step) = step else {
            let seen = read.await;
            let expected = self.known.live(&before, "", self.now());
            let expected = expected.into_iter().filter(|(key, _)| only(key)).collect();
            let may_miss = self.target.evicted().await != self.evicted;
            return self.known.check_all(&expected, &seen, may_miss);
        };
        let began = self.now();
        self.took_along = false;
        let (seen, ()) = tokio::join!(read, Box::pin(self.apply(*step)));
        let evicted = self.target.evicted().await != self.evicted;
        let may_miss = self.short || self.now() != began || evicted || self.took_along;
        let after = self.shown(space);
        let now = self.now();
        let of = |map: &Map| {
            let live = self.known.live(map, "", now).into_iter();
            live.filter(|(key, _)| only(key)).collect::<Map>()
        };
        let (before, after) = (of(&before), of(&after));
        let is = |map: &Map| {
            let right = |seen: &Seen| {
                map.get(&seen.key).is_some_and(|entry| {
                    let known = &self.known.entries[*entry];
                    let same = |bytes: &Vec<u8>| *bytes == super::step::contents()[known.content];
                    let version = seen.version.is_none() || seen.version == known.version;
                    version && seen.bytes.as_ref().is_none_or(same)
                })
            };
            seen.iter().all(right) && (may_miss || seen.len() >= map.len())
        };
        assert!(
            is(&before) || is(&after),
            "a mixture: {seen:?}\nbefore {before:?}\nafter {after:?}"
        );
    }

    async fn delete(&mut self, space: usize, key: &str, wanted: Option<Wanted>) {
        let there = self.there(space, key);
        let wanted = wanted.map(|wanted| self.version(there, wanted));
        let deleted = self.target.delete(space, key, wanted).await;
        let version = there.and_then(|there| self.known.entries[there].version);
        match (there, wanted) {
            (Some(_), Some(wanted)) if version != Some(wanted) => {
                assert_eq!(deleted.unwrap_err().code, Code::FailedPrecondition);
                return;
            }
            _ => assert_eq!(deleted, Ok(there.is_some()), "delete of {key:?}"),
        }
        if there.is_some() || wanted.is_none() {
            self.touch(space, key, None);
            self.known.spaces[space].shown.remove(key);
        }
    }

    async fn delete_prefix(&mut self, space: usize, prefix: &str, clear: bool) {
        let there = self.shown_under(space, prefix).len() as u64;
        let deleted = match clear {
            true => self.target.clear(space).await,
            false => self.target.delete_prefix(space, prefix).await,
        };
        assert_eq!(deleted, there, "delete of {prefix:?}");
        for number in 0..self.world.keys {
            let key = key(number);
            if key.starts_with(prefix) {
                self.touch(space, &key, None);
                self.known.spaces[space].shown.remove(&key);
            }
        }
    }

    async fn look_held(&mut self, held: u8, keys: Keys) {
        let Some(at) = usize::from(held).checked_rem(self.held.len()) else {
            return;
        };
        let look = |key: String| {
            let seen = self.target.look_held(at, self.held[at].space, &key);
            (key, seen)
        };
        let seen: Vec<_> = self.names(keys).into_iter().map(look).collect();
        // To read may need room.
        self.forget_evicted(None).await;
        for (key, seen) in seen {
            self.check_held(at, &key, seen);
        }
    }

    fn scan_held(&mut self, held: u8, prefix: &str) {
        let Some(at) = usize::from(held).checked_rem(self.held.len()) else {
            return;
        };
        let seen = self.target.scan_held(at, prefix);
        assert!(seen.is_sorted_by(|a, b| a.key < b.key), "{seen:?}");
        let mut seen: BTreeMap<_, _> = seen
            .into_iter()
            .map(|seen| (seen.key.clone(), seen))
            .collect();
        for number in 0..self.world.keys {
            let key = key(number);
            if key.starts_with(prefix) {
                let seen = seen.remove(&key);
                self.check_held(at, &key, seen);
            }
        }
        assert!(seen.is_empty(), "{seen:?}");
    }

    /// What was held is there, or gone. Single puts and deletes show, but not in generations that
    /// only those see who hold them.
    #[track_caller]
    fn check_held(&mut self, at: usize, key: &str, seen: Option<Seen>) {
        let (now, held) = (self.now(), &self.held[at]);
        let before = std::iter::once(held.shown.get(key).copied());
        let since = held.touched.get(key).into_iter().flatten().copied();
        let mut possible: Vec<_> = before.chain(since).collect();
        if held.whole {
            possible.drain(..possible.len() - 1);
        } else {
            possible.push(None);
        }
        let live = |entry: &usize| self.known.is_live(*entry, now);
        let mut possible = possible.into_iter().map(|entry| entry.filter(live));
        let Some(seen) = seen else {
            return assert!(possible.any(|entry| entry.is_none()), "{key:?} is missing");
        };
        let version = |entry: usize| self.known.entries[entry].version == seen.version;
        match possible.flatten().find(|entry| version(*entry)) {
            Some(expected) => self.known.check(expected, &seen),
            None => panic!("{key:?} must not be there: {seen:?}"),
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
    fn touch(&mut self, space: usize, key: &str, entry: Option<usize>) {
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
    async fn short_ttl(&self, ttl_ms: Option<u64>) {
        if !T::OWN_CLOCK && ttl_ms == Some(1) {
            self.target.pass(5).await;
        }
    }

    pub(super) fn now(&self) -> u64 {
        self.target.now_ms()
    }

    fn at(&self, ttl_ms: Option<u64>) -> Option<u64> {
        ttl_ms.map(|ttl| self.now() + ttl)
    }

    fn there(&self, space: usize, key: &str) -> Option<usize> {
        let shown = &self.known.spaces[space].shown;
        self.known.there(shown, key, self.now())
    }

    fn map(&self, space: usize, load: Option<usize>) -> &Map {
        match load {
            Some(load) => &self.loads[load].map,
            None => &self.known.spaces[space].shown,
        }
    }

    pub(super) fn shown(&self, space: usize) -> Map {
        self.shown_under(space, "")
    }

    fn shown_under(&self, space: usize, prefix: &str) -> Map {
        let shown = &self.known.spaces[space].shown;
        self.known.live(shown, prefix, self.now())
    }

    fn version(&self, there: Option<usize>, wanted: Wanted) -> Version {
        let none = Version { hlc: 1, start: 1 };
        match (wanted, there) {
            (Wanted::There, Some(there)) => self.known.entries[there].version.unwrap_or(none),
            _ => none,
        }
    }

    fn names(&self, keys: Keys) -> Vec<String> {
        let numbers = (keys.0..).take(usize::from(keys.1));
        let mut names: Vec<_> = numbers
            .map(|number| key(number % self.world.keys))
            .collect();
        names.dedup();
        names
    }
}
