//! What loads do to the maps.

use std::collections::BTreeSet;

use bowstring_wire::error::{Code, Error};

use super::map::{Last, Load, Map};
use super::play::Play;
use super::step::{SPACES, Step};
use super::target::Target;

/// Open loads.
const OPEN_MAX: usize = 4;
const ENDED_MAX: usize = 8;
/// As the engine has them by default: how long an open load is remembered with which nothing is
/// done, and how long a rollback can be asked for.
const WINDOW_MS: u64 = 600_000;

impl<T: Target> Play<T> {
    pub(super) async fn load_step(&mut self, step: Step) {
        match step {
            Step::Begin(space, replace_all) if self.loads.len() < OPEN_MAX => {
                match self.target.begin(space, replace_all, None).await {
                    Ok(id) => self.loads.push(Load {
                        id,
                        space,
                        replace_all,
                        map: Map::new(),
                        used_ms: self.now(),
                    }),
                    Err(refused) => self.may_refuse(space, &refused),
                }
            }
            Step::DeclareTooMuch(space) => {
                let refused = self.target.begin(space, false, Some(1 << 40)).await;
                assert_eq!(refused.unwrap_err().code, Code::ResourceExhausted);
            }
            Step::Commit(load) => {
                if let Some(at) = usize::from(load).checked_rem(self.loads.len()) {
                    self.commit(at).await;
                }
            }
            Step::Abort(load) => {
                if let Some(at) = usize::from(load).checked_rem(self.loads.len()) {
                    let load = self.loads.remove(at);
                    let entries = self.end_load("abort_load", &load).await.unwrap();
                    self.note_end(load, "abort_load", entries);
                }
            }
            Step::Rollback(space) => self.rollback(space).await,
            Step::Again(load, action) => self.again(load, action).await,
            Step::Tidy(all) => self.tidy(all),
            _ => {}
        }
    }

    pub(super) async fn end_load(&self, action: &str, load: &Load) -> Result<u64, Error> {
        self.target.end(load.space, action, &load.id).await
    }

    async fn commit(&mut self, at: usize) {
        // Before it: what has expired by then may still be counted.
        let began = self.now();
        let load = self.loads[at].clone();
        let space = load.space;
        self.unsettle();
        let entries = match self.end_load("commit_load", &load).await {
            Ok(entries) => entries,
            Err(refused) => {
                self.loads[at].used_ms = self.now();
                // What was before the one before may have been settled for it.
                self.known.spaces[space].last = None;
                return self.may_refuse(space, &refused);
            }
        };
        let mut load = self.loads.remove(at);
        load.used_ms = self.now();
        let live = self.known.live(&load.map, "", self.now()).len() as u64;
        assert!(
            (live..=load.map.len() as u64).contains(&entries),
            "{entries}"
        );
        let before = self.known.live(&self.known.spaces[space].shown, "", began);
        let mut shown = before.clone();
        if load.replace_all {
            shown.clear();
        }
        for (key, entry) in &load.map {
            let is_live = self.known.is_live(*entry, load.used_ms);
            // It is the key that is pinned, as far as it was there until then.
            if let Some(below) = before.get(key).filter(|_| !load.replace_all) {
                let still = self.known.is_live(*below, load.used_ms);
                let pinned = self.known.entries[*below].pinned;
                let over = &mut self.known.entries[*entry];
                over.pinned |= pinned && still;
                over.learns |= pinned && !still;
            }
            self.took_along |= !is_live;
            // What had expired by then may have been freed already, or hides what was there.
            let hides =
                is_live || !shown.contains_key(key) || self.target.look(space, key).await.is_none();
            if hides {
                shown.insert(key.clone(), *entry);
            }
        }
        self.known.spaces[space].shown = shown;
        self.known.spaces[space].last = Some(Last {
            load: load.id.clone(),
            before,
            over: load.map.clone(),
            merged: !load.replace_all,
            touched: BTreeSet::new(),
            lossy: self.target.evicted().await != 0 && self.short,
            at_ms: load.used_ms,
            over_window: false,
        });
        self.note_end(load, "commit_load", entries);
    }

    async fn rollback(&mut self, space: usize) {
        let Some(last) = self.known.spaces[space].last.take() else {
            return;
        };
        self.unsettle();
        let id = &last.load;
        match self.target.end(space, "rollback_load", id).await {
            Err(refused) => {
                let gone = matches!(refused.code, Code::FailedPrecondition | Code::NotFound);
                assert!(gone && (last.over_window || self.short), "{refused}");
                return;
            }
            Ok(_) => assert!(!last.over_window, "its time was over"),
        }
        for (load, action, _) in &mut self.ended {
            if load.id == *id {
                *action = "rollback_load";
            }
        }
        let (now, since) = (self.now(), self.shown(space));
        let touched = |key: &String| last.touched.contains(key);
        let mut shown = self.known.live(&last.before, "", now);
        shown.retain(|key, _| !touched(key));
        shown.extend(since.into_iter().filter(|(key, _)| touched(key)));
        // What was evicted or has expired in the load took along what it hid.
        let uncertain = |key: &String| {
            let over = last.over.get(key);
            last.lossy || over.is_some_and(|over| !self.known.is_live(*over, now))
        };
        let mut gone = Vec::new();
        for key in shown.keys().filter(|key| !touched(key) && uncertain(key)) {
            if self.target.look(space, key).await.is_none() {
                let over = last
                    .over
                    .get(key)
                    .filter(|over| !self.known.is_live(**over, now));
                let pinned = self.known.entries[shown[key]].pinned;
                assert!(
                    !last.merged || !pinned || over.is_some(),
                    "{key:?} was pinned"
                );
                gone.push(key.clone());
            }
        }
        shown.retain(|key, _| !gone.contains(key));
        self.known.spaces[space].shown = shown;
    }

    /// A key was unpinned: so is what a merged load hides.
    pub(super) fn unpin_hidden(&mut self, space: usize, key: &str) {
        let last = self.known.spaces[space].last.as_ref();
        if let Some(last) = last.filter(|last| last.merged && last.over.contains_key(key))
            && let Some(hidden) = last.before.get(key)
        {
            self.known.entries[*hidden].pinned = false;
        }
    }

    /// The same answer again, or that it is not possible any more.
    async fn again(&mut self, load: u8, action: u8) {
        let Some(at) = usize::from(load).checked_rem(self.ended.len()) else {
            return;
        };
        let (load, was, entries) = self.ended[at].clone();
        let action = ["commit_load", "abort_load", "rollback_load"][usize::from(action % 3)];
        let last = &self.known.spaces[load.space].last;
        if action == "rollback_load" && last.as_ref().is_some_and(|last| last.load == load.id) {
            return;
        }
        match self.end_load(action, &load).await {
            Ok(answer) => assert_eq!((answer, action), (entries, was)),
            Err(refused) => {
                assert_eq!(refused.code, Code::FailedPrecondition, "{refused}");
                assert_ne!(action, was);
            }
        }
    }

    fn tidy(&mut self, all: bool) {
        self.target.tidy(all);
        self.unsettle();
        let now = self.now();
        self.loads.retain(|load| now - load.used_ms < WINDOW_MS);
        self.ended
            .retain(|(load, ..)| now - load.used_ms < WINDOW_MS);
        for space in 0..SPACES {
            if let Some(last) = &mut self.known.spaces[space].last {
                last.over_window |= now - last.at_ms >= WINDOW_MS;
            }
        }
    }

    fn note_end(&mut self, load: Load, action: &'static str, entries: u64) {
        self.ended.push((load, action, entries));
        if self.ended.len() > ENDED_MAX {
            self.ended.remove(0);
        }
    }
}
