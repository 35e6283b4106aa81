//! The tier below a real cache, over a store in memory that can be held up, can fail and can be spoiled.
//!
//! `keeping`: what is handed down is read back; `compressing`: the same, compressed; `changing`: what is gone while it is on its way; `annotating`: other metadata; `failing`: stores
//! that fail, bytes that are damaged; `fencing`: a later start takes over; `elsewhere`: other servers' prefixes;
//! `starting`: what the next start finds; `setting`: settings of namespaces that it finds; `warming`: what it brings up; `racing`: all at once; `streaming`: what is read
//! past memory; `tidying`: what is done in the background; `model`: anything at all, against maps

mod annotating;
mod changing;
mod compressing;
mod elsewhere;
mod failing;
mod fencing;
mod keeping;
mod model;
mod racing;
mod setting;
mod starting;
mod streaming;
mod tidying;
mod warming;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bowstring_cache::clock::{Clock, ManualClock, SystemClock};
use bowstring_cache::config::{CacheConfig, Parts};
use bowstring_cache::lower::{Coming, Description, Found, Reading};
use bowstring_cache::put::{Mode, Published, PutSpec};
use bowstring_cache::{Cache, Id};
use bowstring_wire::dtype::DType;
use bowstring_wire::error::{Code, Result};
use bowstring_wire::name::{Key, Namespace};
use bowstring_wire::shape::Shape;
use object_store::memory::InMemory;
use object_store::path::Path;
use tokio::task::JoinHandle;

use super::queue::Fate;
use super::{Cold, ColdSettings, Unread};
use crate::store::faults::{Fault, Faulty, Site};
use crate::store::{Store, StoreSettings};

const MIB: u64 = 1 << 20;

/// A store whose answers a test can hold up or spoil.
struct Disk {
    objects: Arc<InMemory>,
    /// Moves what is held up on.
    gate: Arc<ManualClock>,
    held: AtomicBool,
    fails: AtomicBool,
    gets: AtomicU64,
    /// Requests that are held up since.
    waiting: AtomicU64,
}

impl Disk {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            objects: Arc::new(InMemory::new()),
            gate: Arc::new(ManualClock::new(0)),
            held: AtomicBool::new(false),
            fails: AtomicBool::new(false),
            gets: AtomicU64::new(0),
            waiting: AtomicU64::new(0),
        })
    }

    /// The same objects, seen by another process.
    fn beside(&self) -> Arc<Self> {
        Arc::new(Self {
            objects: Arc::clone(&self.objects),
            gate: Arc::new(ManualClock::new(0)),
            held: AtomicBool::new(false),
            fails: AtomicBool::new(false),
            gets: AtomicU64::new(0),
            waiting: AtomicU64::new(0),
        })
    }

    fn hold(&self) {
        self.held.store(true, Ordering::SeqCst);
        self.waiting.store(0, Ordering::SeqCst);
    }

    fn let_go(&self) {
        self.held.store(false, Ordering::SeqCst);
        self.gate.advance(Duration::from_secs(1));
    }

    /// Waits until a request is held up.
    async fn is_asked(&self) {
        while self.waiting.load(Ordering::SeqCst) == 0 {
            tick().await;
        }
    }

    fn fault(&self, site: Site, path: &Path) -> Option<Fault> {
        // Whose prefix it is, is not what is held up; nor what the index does when it likes.
        if ["epoch", "index"]
            .iter()
            .any(|of| path.as_ref().contains(of))
        {
            return None;
        }
        if site == Site::Get {
            self.gets.fetch_add(1, Ordering::SeqCst);
        }
        if self.fails.load(Ordering::SeqCst) {
            return Some(Fault::Fail);
        }
        self.held.load(Ordering::SeqCst).then(|| {
            self.waiting.fetch_add(1, Ordering::SeqCst);
            Fault::Delay(Duration::from_secs(1))
        })
    }

    fn store(self: &Arc<Self>) -> Store {
        let disk = Arc::clone(self);
        let faulty = Faulty::new(
            Arc::clone(&self.objects),
            Arc::clone(&self.gate) as _,
            move |site, path: &Path, _| disk.fault(site, path),
        );
        let settings = StoreSettings {
            timeout: Duration::from_secs(60),
            retries: 0,
            ..StoreSettings::default()
        };
        Store::new(Arc::new(faulty), Path::from("p"), settings, clock())
    }
}

/// A cache with its tier.
struct Node {
    cold: Cold,
    cache: Cache,
    running: Option<JoinHandle<()>>,
}

fn clock() -> Arc<dyn Clock> {
    Arc::new(SystemClock::new())
}

async fn tick() {
    clock().sleep(Duration::from_millis(1)).await;
}

fn settings() -> ColdSettings {
    ColdSettings {
        segment_wait: Duration::from_millis(5),
        segment_wait_urgent: Duration::from_millis(1),
        ..ColdSettings::new("memory:")
    }
}

async fn open(disk: &Arc<Disk>, settings: &ColdSettings) -> (Cold, Option<Unread>) {
    loop {
        match Cold::over(disk.store(), settings.clone(), clock()).await {
            // The process before has not let go of it.
            Err(error) if error.message.contains("another process") => tick().await,
            opened => return opened.unwrap(),
        }
    }
}

impl Node {
    fn of(cold: Cold) -> Self {
        Self::of_memory(cold, 64 * MIB)
    }

    fn of_memory(cold: Cold, memory: u64) -> Self {
        let config = CacheConfig {
            memory,
            ..CacheConfig::default()
        };
        let parts = Parts {
            lower: Arc::new(cold.clone()),
            ..Parts::default()
        };
        let cache = Cache::with_parts(config, parts).unwrap();
        cache.observe(cold.max_hlc());
        cold.give_settings(&cache);
        Self {
            cold,
            cache,
            running: None,
        }
    }

    async fn start(disk: &Arc<Disk>, settings: &ColdSettings) -> Self {
        Self::start_with(disk, settings, 64 * MIB).await
    }

    async fn start_with(disk: &Arc<Disk>, settings: &ColdSettings, memory: u64) -> Self {
        let (cold, unread) = open(disk, settings).await;
        if let Some(unread) = unread {
            cold.build(unread).await.unwrap();
        }
        Self::running_with(cold, memory)
    }

    fn running(cold: Cold) -> Self {
        Self::running_with(cold, 64 * MIB)
    }

    fn running_with(cold: Cold, memory: u64) -> Self {
        let mut node = Self::of_memory(cold, memory);
        let (cold, cache) = (node.cold.clone(), node.cache.clone());
        node.running = Some(tokio::spawn(async move {
            tokio::join!(cold.write(cache), cold.mend());
        }));
        node
    }

    /// As a kill does.
    async fn kill(mut self) {
        if let Some(running) = self.running.take() {
            running.abort();
            let _ = running.await;
        }
        // What waits has the cache, and that has the tier.
        let queue = &self.cold.inner.queue;
        for waiting in queue.all() {
            queue.done(&waiting, Fate::LetGo);
        }
        drop(queue.take_new());
        let left = Arc::downgrade(&self.cold.inner);
        drop(self);
        while left.strong_count() > 0 {
            tick().await;
        }
    }

    async fn put_as(&self, key: &str, spec: PutSpec, data: &[u8]) -> Result<Published> {
        let mut put = self.cache.put(id(key), spec)?;
        put.reserve(data.len() as u64).await?;
        put.write(data)?;
        put.publish(Shape::new(&[data.len() as u64])?).await
    }

    async fn put(&self, key: &str, data: &[u8]) -> Published {
        self.put_as(key, spec(Mode::Replace), data).await.unwrap()
    }

    async fn put_below(&self, key: &str, data: &[u8]) -> Result<Published> {
        let spec = PutSpec {
            below: true,
            ..spec(Mode::Replace)
        };
        self.put_as(key, spec, data).await
    }

    /// A tensor, wherever its bytes are.
    async fn read(&self, key: &str) -> Option<(Description, Vec<u8>)> {
        loop {
            match self.cache.open(&id(key), Reading::Whole).await.unwrap()? {
                Found::Here(entry) => {
                    let description = Description::of(&entry).unwrap();
                    return Some((description, entry.into_vec().unwrap()));
                }
                Found::Below(below) => match below.read(0..below.description().len).await {
                    Ok(Some(coming)) => {
                        return Some((below.description().clone(), all(coming).await.unwrap()));
                    }
                    Ok(None) => {}
                    Err(error) => {
                        assert_eq!(error.code, Code::Unavailable);
                        return None;
                    }
                },
            }
        }
    }

    async fn get(&self, key: &str) -> Option<Vec<u8>> {
        self.read(key).await.map(|(_, bytes)| bytes)
    }

    async fn delete(&self, key: &str) {
        self.cache.delete(&id(key), None).await.unwrap();
    }

    async fn delete_prefix(&self, prefix: &str) -> u64 {
        let of = id("k");
        let deleted = self
            .cache
            .delete_prefix(&of.tenant, &of.namespace, prefix)
            .await;
        deleted.unwrap()
    }

    /// Has all leave memory but what is being written.
    async fn evict_all(&self) {
        let (mut left, mut looks) = (u64::MAX, 0);
        while left > 0 && looks < 20 {
            self.cache.hand_down(u64::MAX, || 0);
            let now = self.cache.stats().entries;
            looks = if now == left { looks + 1 } else { 0 };
            left = now;
            tick().await;
        }
    }

    async fn hand_all_down(&self) {
        loop {
            self.evict_all().await;
            self.cold.flush().await.unwrap();
            if self.cache.stats().entries == 0 {
                return;
            }
        }
    }
}

/// All that comes.
async fn all(mut coming: Box<dyn Coming>) -> Result<Vec<u8>> {
    let mut all = Vec::new();
    loop {
        let piece = coming.next().await?;
        if piece.is_empty() {
            return Ok(all);
        }
        all.extend_from_slice(&piece);
    }
}

fn id(key: &str) -> Id {
    Id::public(Namespace::default(), Key::parse(key).unwrap())
}

fn spec(mode: Mode) -> PutSpec {
    PutSpec {
        mode,
        ..PutSpec::new(DType::UInt8)
    }
}

fn bytes(seed: u64, len: usize) -> Vec<u8> {
    let mut word = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut out = Vec::with_capacity(len + 8);
    while out.len() < len {
        word ^= word << 13;
        word ^= word >> 7;
        word ^= word << 17;
        out.extend_from_slice(&word.to_le_bytes());
    }
    out.truncate(len);
    out
}
