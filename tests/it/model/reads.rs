//! What reads must find, alone and beside something else that happens.

use std::rc::Rc;

use super::map::Map;
use super::play::Play;
use super::step::{Step, contents, prefix};
use super::target::{Seen, Target};

impl<T: Target> Play<T> {
    pub(super) async fn read_step(&mut self, step: Step) {
        match step {
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
            _ => {}
        }
    }

    pub(super) async fn look(&mut self, space: usize, key: &str) {
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
                    let same = |bytes: &Vec<u8>| *bytes == contents()[known.content];
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
}
