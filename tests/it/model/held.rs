//! What is held over several operations: a view of a namespace, and readers of tensors.

use std::collections::BTreeMap;

use super::map::Held;
use super::play::Play;
use super::step::{Keys, Step, contents, key, prefix};
use super::target::{Seen, Target};

const HELD_MAX: usize = 3;

impl<T: Target> Play<T> {
    pub(super) async fn hold_step(&mut self, step: Step) {
        match step {
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
                    assert!(bytes == contents()[content], "bytes read");
                }
            }
            _ => {}
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
}
