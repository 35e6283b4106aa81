//! Any sequence of operations against a simple map. The cache is too small for all of it, so an
//! entry may have gone; what is there is what the map says.

use std::collections::BTreeMap;
use std::time::Duration;

use bowstring_wire::error::Code;
use bowstring_wire::name::Tenant;
use bowstring_wire::version::Version;
use proptest::prelude::*;

use super::*;
use crate::read::Reader;

#[derive(Debug, Clone)]
enum Step {
    Put {
        key: u8,
        mode: u8,
        seed: u8,
        len: u32,
        ttl_ms: Option<u16>,
        with_version: Option<bool>,
        give_up: bool,
    },
    Get(u8),
    Read(u8),
    Delete(u8, Option<bool>),
    Tick(u16),
    Scan(Option<u8>),
    DropReader,
}

#[derive(Debug, Clone)]
struct Known {
    version: Version,
    seed: u8,
    len: u32,
    expires_at_ms: Option<u64>,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let len = prop_oneof![
        0_u32..200,
        1_000_u32..70_000,
        60_000_u32..400_000,
        (1_u32 << 20) - 2..(1 << 20) + 2,
    ];
    let put = (
        0_u8..40,
        0_u8..3,
        0_u8..3,
        len,
        prop::option::weighted(0.2, 1_u16..100),
        prop::option::weighted(0.2, any::<bool>()),
        prop::bool::weighted(0.1),
    )
        .prop_map(
            |(key, mode, seed, len, ttl_ms, with_version, give_up)| Step::Put {
                key,
                mode,
                seed,
                len,
                ttl_ms,
                with_version,
                give_up,
            },
        );
    let step = prop_oneof![
        5 => put,
        3 => (0_u8..40).prop_map(Step::Get),
        1 => (0_u8..40).prop_map(Step::Read),
        1 => (0_u8..40, prop::option::of(any::<bool>())).prop_map(|(k, v)| Step::Delete(k, v)),
        1 => (0_u16..60).prop_map(Step::Tick),
        1 => prop::option::of(0_u8..4).prop_map(Step::Scan),
        1 => Just(Step::DropReader),
    ];
    prop::collection::vec(step, 1..120)
}

struct Model {
    cache: Cache,
    clock: Arc<crate::clock::ManualClock>,
    known: BTreeMap<String, Known>,
    last: Option<Version>,
    readers: Vec<(Reader, Vec<u8>)>,
}

impl Model {
    fn new(eviction: Eviction) -> Self {
        let (cache, clock) = cache_by(eviction, 8 * MIB, |_| {});
        Self {
            cache,
            clock,
            known: BTreeMap::new(),
            last: None,
            readers: Vec::new(),
        }
    }

    async fn run(&mut self, step: Step) {
        let now_ms = self.cache.clock().now_ms();
        self.known
            .retain(|_, known| known.expires_at_ms.is_none_or(|at| at > now_ms));
        match step {
            Step::Put {
                key,
                mode,
                seed,
                len,
                ttl_ms,
                with_version,
                give_up,
            } => {
                let key = key_of(key);
                let spec = PutSpec {
                    mode: [Mode::Create, Mode::Keep, Mode::Replace][usize::from(mode)],
                    if_version: with_version.map(|right| self.version_of(&key, right)),
                    expires_at_ms: ttl_ms.map(|ttl| now_ms + u64::from(ttl)),
                    ..spec(Mode::Create)
                };
                self.put(key, spec, seed, len, give_up).await;
            }
            Step::Get(key) => self.check(&key_of(key)),
            Step::Read(key) => {
                let key = key_of(key);
                self.check(&key);
                if let Some(entry) = self.cache.get(&id(&key)) {
                    let known = &self.known[&key];
                    let data = bytes(known.seed.into(), known.len as usize);
                    let len = entry.len();
                    self.readers.push((entry.reader(0..len).unwrap(), data));
                }
            }
            Step::Delete(key, with_version) => {
                let key = key_of(key);
                let wanted = with_version.map(|right| self.version_of(&key, right));
                self.forget_evicted(&key);
                let known = self.known.get(&key).map(|known| known.version);
                let deleted = self.cache.delete(&id(&key), wanted).await;
                match (known, wanted) {
                    (Some(there), Some(wanted)) if there != wanted => {
                        assert_eq!(deleted.unwrap_err().code, Code::FailedPrecondition);
                    }
                    _ => {
                        assert_eq!(deleted, Ok(known));
                        self.known.remove(&key);
                    }
                }
            }
            Step::Tick(ms) => self.clock.advance(Duration::from_millis(ms.into())),
            Step::Scan(prefix) => self.scan(prefix),
            Step::DropReader => {
                if let Some((mut reader, data)) = self.readers.pop() {
                    let mut out = vec![0; usize::try_from(reader.remaining()).unwrap()];
                    // It may have been cut off; it never gives anything else.
                    if reader.copy_to(&mut out).is_ok() {
                        assert_eq!(out, data);
                    }
                }
            }
        }
        let stats = self.cache.stats();
        assert!(self.cache.ledger().used() <= self.cache.ledger().total());
        assert!(stats.entries <= self.known.len() as u64 + stats.events.expired + 40);
    }

    async fn put(&mut self, key: String, spec: PutSpec, seed: u8, len: u32, give_up: bool) {
        self.forget_evicted(&key);
        let data = bytes(seed.into(), len as usize);
        let there = self.known.get(&key).cloned();
        let (mode, wanted) = (spec.mode, spec.if_version);
        let expires_at_ms = spec.expires_at_ms;
        if give_up {
            if let Ok(mut put) = self.cache.put(id(&key), spec)
                && put.reserve(len.into()).await.is_ok()
            {
                put.write(&data[..data.len() / 2]).unwrap();
            }
            return;
        }
        let done = put_spec(&self.cache, &key, spec, &data).await;
        // Making room may have evicted what was there, in which case it no longer decides.
        let there = there.filter(|there| {
            let stays = done
                .as_ref()
                .is_ok_and(|done| done.version == there.version);
            let refused = done.is_err();
            stays || refused || mode == Mode::Replace || wanted.is_some()
        });
        match (&done, wanted, there) {
            (Err(refused), Some(wanted), there) => {
                assert_eq!(refused.code, Code::FailedPrecondition);
                assert!(there.is_none_or(|there| there.version != wanted) || self.is_gone(&key));
            }
            (Err(refused), None, Some(there)) => {
                assert_eq!((refused.code, mode), (Code::AlreadyExists, Mode::Create));
                assert!((there.seed, there.len) != (seed, len));
            }
            (Err(refused), None, None) => panic!("{refused}"),
            (Ok(done), None, Some(there)) if mode != Mode::Replace => {
                assert!(done.existed);
                assert!(mode == Mode::Keep || (there.seed, there.len) == (seed, len));
            }
            (Ok(done), wanted, there) => {
                assert!(!done.existed);
                if let Some(wanted) = wanted {
                    assert_eq!(there.unwrap().version, wanted);
                }
                assert!(self.last < Some(done.version));
                self.last = Some(done.version);
                let known = Known {
                    version: done.version,
                    seed,
                    len,
                    expires_at_ms,
                };
                self.known.insert(key, known);
            }
        }
    }

    /// A look-up is right, or a miss.
    fn check(&mut self, key: &str) {
        self.forget_evicted(key);
        let known = self.known.get(key);
        let found = self.cache.get(&id(key));
        assert_eq!(found.is_some(), known.is_some());
        if let (Some(entry), Some(known)) = (found, known) {
            assert_eq!(entry.version(), known.version);
            assert_eq!(entry.expires_at_ms(), known.expires_at_ms);
            let data = bytes(known.seed.into(), known.len as usize);
            assert_eq!(entry.into_vec().unwrap(), data);
        }
    }

    fn scan(&mut self, prefix: Option<u8>) {
        let prefix = prefix.map_or_else(String::new, |tens| format!("key-{tens}"));
        let all: Vec<String> = self.known.keys().cloned().collect();
        all.iter().for_each(|key| self.forget_evicted(key));
        let items = self.cache.scan(
            &Tenant::public(),
            &Namespace::default(),
            &prefix,
            None,
            usize::MAX,
        );
        let found = items.iter().map(|item| (item.key.as_str(), item.version));
        let known = self
            .known
            .iter()
            .map(|(key, known)| (key.as_str(), known.version));
        let known: Vec<_> = known.filter(|(key, _)| key.starts_with(&prefix)).collect();
        assert_eq!(found.collect::<Vec<_>>(), known);
    }

    /// The cache may evict at any time; nothing else makes a key go.
    fn forget_evicted(&mut self, key: &str) {
        if self.is_gone(key) {
            self.known.remove(key);
        }
    }

    fn is_gone(&self, key: &str) -> bool {
        self.cache.peek(&id(key)).is_none()
    }

    fn version_of(&self, key: &str, right: bool) -> Version {
        let none = Version { hlc: 1, start: 1 };
        self.known
            .get(key)
            .filter(|_| right)
            .map_or(none, |known| known.version)
    }
}

fn key_of(n: u8) -> String {
    format!("key-{n:02}")
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 200,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn the_answer_is_right_or_a_miss(
        eviction in prop::sample::select(Eviction::ALL.to_vec()),
        steps in steps(),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let mut model = Model::new(eviction);
            for step in steps {
                model.run(step).await;
            }
            model.readers.clear();
            let keys: Vec<String> = model.known.keys().cloned().collect();
            for key in keys {
                model.check(&key);
                model.cache.delete(&id(&key), None).await.unwrap();
            }
            // What expired unseen is still there; nothing else is.
            model.clock.advance(Duration::from_secs(1));
            (0..40).for_each(|n| assert!(model.cache.get(&id(&key_of(n))).is_none()));
            let stats = model.cache.stats();
            assert_eq!((stats.entries, stats.live_bytes, stats.held_bytes), (0, 0, 0));
            assert_eq!((stats.arena_used_bytes, stats.reserved_bytes), (0, 0));
        });
    }
}
