//! The engine itself, on a clock that stands still.

use std::cell::RefCell;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bowstring_cache::clock::{Clock as _, ManualClock};
use bowstring_cache::config::{CacheConfig, Parts};
use bowstring_cache::entropy::Entropy;
use bowstring_cache::generation::Generation;
use bowstring_cache::loads::LoadSpec;
use bowstring_cache::put::{Admit, Published, Put, PutSpec};
use bowstring_cache::read::{Entry, Reader};
use bowstring_cache::rows::{Row, RowsSpec};
use bowstring_cache::scan::ScanItem;
use bowstring_cache::{Cache, Eviction, Id};
use bowstring_wire::dtype::DType;
use bowstring_wire::error::Result;
use bowstring_wire::name::{Key, Namespace, Tenant};
use bowstring_wire::settings::SettingsChange;
use bowstring_wire::shape::Shape;
use bowstring_wire::version::Version;

use super::step::{SPACES, contents};
use super::target::{Coming, Seen, Stored, Target, Totals};

const NOW_MS: u64 = 1_700_000_000_000;

pub struct Engine {
    cache: Cache,
    clock: Arc<ManualClock>,
    spaces: Vec<Namespace>,
    held: RefCell<Vec<Generation>>,
    readers: RefCell<Vec<Reader>>,
}

impl Engine {
    pub fn new(eviction: Eviction, memory: u64) -> Self {
        let clock = Arc::new(ManualClock::new(NOW_MS));
        let config = CacheConfig {
            eviction,
            memory,
            ..CacheConfig::default()
        };
        let parts = Parts {
            clock: Arc::clone(&clock) as _,
            entropy: Some(Entropy::fixed(7)),
            ..Parts::default()
        };
        let spaces = (0..SPACES).map(|space| Namespace::parse(&format!("s{space}")).unwrap());
        let (cache, spaces) = (
            Cache::with_parts(config, parts).unwrap(),
            spaces.collect::<Vec<_>>(),
        );
        for space in &spaces {
            // One that is not there has no generation to hold.
            cache
                .fix_settings(&Tenant::public(), space, SettingsChange::default())
                .unwrap();
        }
        Self {
            cache,
            clock,
            spaces,
            held: RefCell::default(),
            readers: RefCell::default(),
        }
    }

    fn id(&self, space: usize, key: &str) -> Id {
        Id::public(self.spaces[space].clone(), Key::parse(key).unwrap())
    }

    fn at(&self, ttl_ms: Option<u64>) -> Option<u64> {
        ttl_ms.map(|ttl| self.clock.now_ms() + ttl)
    }

    fn load(&self, space: usize, load: Option<&String>) -> Result<u32> {
        load.map_or(Ok(0), |load| {
            self.cache
                .load(&Tenant::public(), &self.spaces[space], load)
        })
    }

    fn spec(&self, space: usize, coming: &Coming) -> Result<PutSpec> {
        // Long metadata lies in pages of its own.
        let metadata = vec![7; if coming.content % 4 == 3 { 9_000 } else { 3 }];
        Ok(PutSpec {
            mode: coming.mode,
            if_version: coming.if_version,
            metadata,
            expires_at_ms: self.at(coming.ttl_ms),
            load: self.load(space, coming.load.as_ref())?,
            pin: coming.pin,
            ..PutSpec::new(DType::UInt8)
        })
    }

    async fn put_now(&self, space: usize, key: &str, coming: &Coming) -> Result<Stored> {
        let spec = self.spec(space, coming)?;
        let mut put = self.cache.put(self.id(space, key), spec)?;
        let content = &contents()[coming.content];
        fill(&mut put, content).await?;
        let shape = Shape::new(&[content.len() as u64])?;
        put.publish(shape).await.map(stored)
    }

    async fn rows_now(
        &self,
        space: usize,
        keys: &[String],
        coming: &Coming,
    ) -> Vec<Result<Stored>> {
        let content = &contents()[coming.content];
        let shape = Shape::new(&[content.len() as u64]).unwrap();
        let spec = RowsSpec {
            mode: coming.mode,
            load: self.load(space, coming.load.as_ref()).unwrap(),
            pin: coming.pin,
            admit: Admit::Probation,
            below: false,
        };
        let row = |key| Row {
            key,
            dtype: DType::UInt8,
            shape: &shape,
            data: [&content[..]].into_iter().collect(),
            metadata: &[],
            expires_at_ms: self.at(coming.ttl_ms),
            checksum: None,
            source_version: None,
        };
        let rows: Vec<_> = keys.iter().map(|key| row(key)).collect();
        let (tenant, namespace) = (Tenant::public(), &self.spaces[space]);
        let answers = self.cache.put_rows(&tenant, namespace, spec, &rows).await;
        answers
            .into_iter()
            .map(|answer| answer.map(stored))
            .collect()
    }

    /// Moves the clock on where an operation waits for something.
    async fn while_time_passes<T>(&self, operation: impl Future<Output = T>) -> T {
        let time = async {
            loop {
                for _ in 0..1_000 {
                    tokio::task::yield_now().await;
                }
                self.pass(1_000).await;
            }
        };
        tokio::select! {
            biased;
            done = operation => done,
            () = time => unreachable!("it never ends"),
        }
    }
}

impl Target for Engine {
    const OWN_CLOCK: bool = true;

    fn now_ms(&self) -> u64 {
        self.clock.now_ms()
    }

    async fn pass(&self, ms: u64) {
        self.clock.advance(Duration::from_millis(ms));
    }

    async fn evicted(&self) -> u64 {
        self.cache.stats().events.evicted
    }

    async fn totals(&self, space: usize) -> Totals {
        let ledger = self.cache.ledger();
        assert!(ledger.used() <= ledger.total());
        let all = self.cache.namespaces(&Tenant::public(), None, SPACES);
        let stats = all.iter().find(|of| of.namespace == self.spaces[space]);
        Totals {
            entries: stats.map_or(0, |stats| stats.entries),
            bytes: stats.map_or(0, |stats| stats.bytes),
        }
    }

    async fn put(&self, space: usize, key: &str, coming: &Coming) -> Result<Stored> {
        let done = self
            .while_time_passes(self.put_now(space, key, coming))
            .await;
        // However long it took, the load was used just now.
        let _ = self.load(space, coming.load.as_ref());
        done
    }

    async fn put_rows(
        &self,
        space: usize,
        keys: &[String],
        coming: &Coming,
    ) -> Vec<Result<Stored>> {
        let done = self
            .while_time_passes(self.rows_now(space, keys, coming))
            .await;
        let _ = self.load(space, coming.load.as_ref());
        done
    }

    async fn look(&self, space: usize, key: &str) -> Option<Seen> {
        self.cache.get(&self.id(space, key)).map(seen)
    }

    async fn many(&self, space: usize, keys: &[String]) -> Vec<Seen> {
        let generation = self
            .cache
            .generation(&Tenant::public(), &self.spaces[space]);
        let mut found = Vec::new();
        for key in keys {
            let entry = self.cache.get_in(&generation, &self.id(space, key));
            found.extend(entry.map(seen));
            tokio::task::yield_now().await;
        }
        found
    }

    async fn scan(&self, space: usize, prefix: &str) -> Vec<Seen> {
        let (tenant, namespace) = (Tenant::public(), &self.spaces[space]);
        let generation = self.cache.generation(&tenant, namespace);
        let mut found = Vec::new();
        let mut after: Option<String> = None;
        loop {
            let step = self
                .cache
                .scan_in(&generation, prefix, after.as_deref(), 100);
            let Some(last) = step.last() else {
                return found;
            };
            after = Some(last.key.as_str().to_owned());
            found.extend(step.iter().map(listed));
            tokio::task::yield_now().await;
        }
    }

    async fn delete(&self, space: usize, key: &str, if_version: Option<Version>) -> Result<bool> {
        let deleted = self.cache.delete(&self.id(space, key), if_version).await;
        Ok(deleted?.is_some())
    }

    async fn delete_prefix(&self, space: usize, prefix: &str) -> u64 {
        let (tenant, namespace) = (Tenant::public(), &self.spaces[space]);
        let deleted = self.cache.delete_prefix(&tenant, namespace, prefix);
        deleted.await.expect("nothing below memory refuses")
    }

    async fn clear(&self, space: usize) -> u64 {
        self.delete_prefix(space, "").await
    }

    async fn expire(&self, space: usize, key: &str, ttl_ms: Option<u64>) -> bool {
        let id = self.id(space, key);
        let expired = self.cache.expire(&id, self.at(ttl_ms));
        expired.await.expect("nothing below memory refuses")
    }

    async fn pin(&self, space: usize, key: &str) -> Result<bool> {
        Ok(self.cache.pin(&self.id(space, key)).await?.is_some())
    }

    async fn unpin(&self, space: usize, key: &str) -> bool {
        self.cache.unpin(&self.id(space, key)).is_some()
    }

    async fn set(&self, space: usize, setting: &str, value: Option<u64>) -> Result<()> {
        let value = value.map_or_else(|| "null".to_owned(), |value| value.to_string());
        let change = SettingsChange::parse(&format!("{{\"{setting}\": {value}}}"))?;
        let (tenant, namespace) = (Tenant::public(), &self.spaces[space]);
        let set = self.cache.set_settings(&tenant, namespace, &change, None);
        set.await.map(drop)
    }

    async fn begin(&self, space: usize, replace_all: bool, size: Option<u64>) -> Result<String> {
        let spec = LoadSpec {
            replace_all,
            size_bytes: size,
        };
        self.cache
            .begin_load(&Tenant::public(), &self.spaces[space], spec)
    }

    async fn end(&self, _: usize, action: &str, load: &str) -> Result<u64> {
        let tenant = Tenant::public();
        let outcome = match action {
            "commit_load" => {
                let commit = self.cache.commit_load(&tenant, load);
                self.while_time_passes(commit).await
            }
            "abort_load" => self.cache.abort_load(&tenant, load),
            _ => self.cache.rollback_load(&tenant, load).await,
        };
        outcome.map(|outcome| outcome.entries)
    }

    async fn give_up(&self, space: usize, key: &str, content: usize) {
        let spec = PutSpec::new(DType::UInt8);
        let content = &contents()[content];
        if let Ok(mut put) = self.cache.put(self.id(space, key), spec) {
            let filling = fill(&mut put, &content[..content.len() / 2]);
            let _ = self.while_time_passes(filling).await;
        }
    }

    fn tidy(&self, all: bool) {
        while self.cache.tidy_loads() && all {}
    }

    fn expire_due(&self) {
        while self.cache.expire_due() {}
    }

    fn hold(&self, space: usize) {
        let generation = self
            .cache
            .generation(&Tenant::public(), &self.spaces[space]);
        self.held.borrow_mut().push(generation);
    }

    fn let_go(&self, held: usize) {
        self.held.borrow_mut().remove(held);
    }

    fn look_held(&self, held: usize, space: usize, key: &str) -> Option<Seen> {
        let held = &self.held.borrow()[held];
        self.cache.get_in(held, &self.id(space, key)).map(seen)
    }

    fn scan_held(&self, held: usize, prefix: &str) -> Vec<Seen> {
        let held = &self.held.borrow()[held];
        let items = self.cache.scan_in(held, prefix, None, usize::MAX);
        items.iter().map(listed).collect()
    }

    fn read(&self, space: usize, key: &str) {
        let entry = self.cache.get(&self.id(space, key)).unwrap();
        let len = entry.len();
        self.readers
            .borrow_mut()
            .push(entry.reader(0..len).unwrap());
    }

    fn end_read(&self) -> Option<Vec<u8>> {
        let mut reader = self.readers.borrow_mut().pop()?;
        let mut bytes = vec![0; usize::try_from(reader.remaining()).unwrap()];
        reader.copy_to(&mut bytes).ok()?;
        Some(bytes)
    }

    fn check_empty(&self) {
        let stats = self.cache.stats();
        assert_eq!((stats.entries, stats.live_bytes), (0, 0));
        assert_eq!((stats.arena_used_bytes, stats.reserved_bytes), (0, 0));
        assert_eq!((stats.pinned_bytes, stats.pinned_entries), (0, 0));
        assert_eq!((stats.held_bytes, stats.loads.open), (0, 0));
        let events = stats.events;
        let went = events.replaced + events.deleted + events.expired + events.evicted;
        assert_eq!(events.published, went);
    }
}

async fn fill(put: &mut Put, content: &[u8]) -> Result<()> {
    for part in content.chunks(100_000) {
        put.reserve(part.len() as u64).await?;
        put.write(part)?;
    }
    Ok(())
}

fn stored(published: Published) -> Stored {
    Stored {
        version: Some(published.version),
        existed: Some(published.existed),
    }
}

fn seen(entry: Entry) -> Seen {
    Seen {
        key: entry.key().to_owned(),
        version: Some(entry.version()),
        expires_at_ms: Some(entry.expires_at_ms()),
        pinned: Some(entry.is_kept()),
        bytes: Some(entry.into_vec().unwrap()),
    }
}

fn listed(item: &ScanItem) -> Seen {
    Seen {
        key: item.key.as_str().to_owned(),
        version: Some(item.version),
        expires_at_ms: Some(item.expires_at_ms),
        ..Seen::default()
    }
}
