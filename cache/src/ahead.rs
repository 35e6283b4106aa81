//! Several entries that are read soon: what is read of them is fetched for all of them at once. Of keys, for their look-ups;
//! of an order's neighbours, which lie anywhere in memory, for a walk.

use bowstring_wire::name::{Namespace, Tenant};
use smallvec::SmallVec;

use crate::arena::{Loc, prefetch};
use crate::cache::Cache;
use crate::engine::Engine;
use crate::head::split;
use crate::id::Name;
use crate::index::{Handle, Range};

/// As many keys at once are worth it: more misses than that a processor's core does not wait for at a time.
pub const AHEAD_MAX: usize = 16;

impl Cache {
    /// Has the processor fetch what the look-ups of these keys of a tenant will read: each waits for four misses, one after
    /// the other, if it comes alone. A hint: nothing is counted, marked or pinned.
    pub fn look_ahead<'a>(
        &self,
        tenant: &'a Tenant,
        keys: impl IntoIterator<Item = (&'a Namespace, &'a str)>,
    ) {
        let engine = self.engine();
        let index = &engine.index;
        let hashed = keys.into_iter().take(AHEAD_MAX).map(|(namespace, key)| {
            let name = Name {
                tenant,
                namespace,
                key,
            };
            let hash = engine.hash_of(name);
            index.table.prefetch(hash);
            hash
        });
        // Each step for all of them before the next, which reads what it has asked for.
        let hashed: SmallVec<[u64; AHEAD_MAX]> = hashed.collect();
        let found = hashed.iter().filter_map(|hash| {
            let record = index.records.at(index.table.touch(*hash)?);
            prefetch(record);
            Some(record)
        });
        let found: SmallVec<[_; AHEAD_MAX]> = found.collect();
        for record in found {
            // Nobody keeps the record from becoming another one: then that one's slot is fetched.
            if let Some(loc) = Loc::from_bits(record.loc()) {
                engine.arena.prefetch(loc, split(record.len()).inline);
            }
        }
    }
}

/// What is read of the entries that a walk comes by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fetch {
    /// Versions, sizes and expiries.
    Records,
    /// And keys, dtypes and shapes.
    Heads,
    /// And the tensors, of which small ones are shown.
    Tensors,
}

/// A walk over an order that is locked, each entry fetched before it comes.
pub(crate) struct Fetched<'a> {
    engine: &'a Engine,
    /// Behind those that were asked for.
    range: Range<'a>,
    fetch: Fetch,
    /// Those that were asked for, in a ring: of the first half what the records say, of the second half the records.
    asked: [Option<Handle>; 2 * AHEAD_MAX],
    /// The next one's place in the ring.
    next: usize,
}

impl<'a> Fetched<'a> {
    pub(crate) fn new(engine: &'a Engine, range: Range<'a>, fetch: Fetch) -> Self {
        let mut fetched = Self {
            engine,
            range,
            fetch,
            asked: [None; 2 * AHEAD_MAX],
            next: 0,
        };
        for at in 0..2 * AHEAD_MAX {
            fetched.ask(at);
        }
        for at in 0..AHEAD_MAX {
            fetched.follow(at);
        }
        fetched
    }

    /// Asks for a record more, and gives what was at its place.
    fn ask(&mut self, at: usize) -> Option<Handle> {
        let handle = self.range.next();
        if let Some(handle) = handle {
            prefetch(self.engine.record(handle));
        }
        std::mem::replace(&mut self.asked[at], handle)
    }

    /// Asks for what a record that was asked for says.
    fn follow(&self, at: usize) {
        let Some(handle) = self.asked[at].filter(|_| self.fetch != Fetch::Records) else {
            return;
        };
        let Engine { index, arena, .. } = self.engine;
        let record = index.records.at(handle);
        let Some(loc) = Loc::from_bits(record.loc()) else {
            return;
        };
        let head = split(record.len()).inline;
        match self.fetch {
            Fetch::Records | Fetch::Heads => arena.prefetch_line(loc, head),
            Fetch::Tensors => arena.prefetch(loc, head),
        }
    }
}

impl Iterator for Fetched<'_> {
    type Item = Handle;

    fn next(&mut self) -> Option<Handle> {
        let at = self.next;
        self.next = (at + 1) % (2 * AHEAD_MAX);
        self.follow((at + AHEAD_MAX) % (2 * AHEAD_MAX));
        self.ask(at)
    }
}

#[cfg(test)]
mod tests {
    use bowstring_wire::descriptor::Mode;

    use super::AHEAD_MAX;
    use crate::tests::{bytes, cache_of, get, id, put};

    #[tokio::test]
    async fn a_hint_changes_nothing_whatever_is_there() {
        let (cache, _) = cache_of(64 << 20);
        for (at, len) in [0, 1, 3_000, 60_000, 3 << 20].into_iter().enumerate() {
            let key = format!("{at}");
            put(&cache, &key, Mode::Create, &bytes(1, len))
                .await
                .unwrap();
        }
        cache.delete(&id("1"), None).await.unwrap();
        let before = cache.stats();
        let ids: Vec<_> = (0..3 * AHEAD_MAX).map(|at| id(&format!("{at}"))).collect();
        let keys = ids.iter().map(|id| (&id.namespace, id.key.as_str()));
        cache.look_ahead(&ids[0].tenant, keys);
        cache.look_ahead(&ids[0].tenant, []);
        let after = cache.stats();
        assert_eq!((after.hits, after.misses), (before.hits, before.misses));
        assert_eq!(cache.get(&id("2")).unwrap().hits(), 1, "of this very get");
        assert_eq!(get(&cache, "3").unwrap(), bytes(1, 60_000));
        assert_eq!(get(&cache, "1"), None);
    }
}
