//! A cache handed on within one process: each region's file is there twice then, as it is between two.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read as _, Seek as _, Write as _};
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use bowstring_wire::name::{Namespace, Tenant};
use bowstring_wire::settings::SettingsChange;
use proptest::prelude::*;
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
use twox_hash::XxHash3_128;

use super::format::{Encoder, Header, Row, SpaceRow};
use super::frames::{FrameReader, FrameWriter};
use super::*;
use crate::arena::{Extent, SlabPlace};
use crate::clock::ManualClock;
use crate::config::{CacheConfig, Parts};
use crate::entropy::Entropy;
use crate::loads::{LoadOutcome, PassedLoad, Stage};
use crate::put::{Mode, PutSpec};
use crate::tests::{MIB, bytes, cache_of, get, id, put, put_spec, spec};
use crate::{Cache, Eviction};

mod loads;

/// Lengths of each kind: in a slot, in pages, both, and with a head that is longer than its slot.
const LENGTHS: [usize; 9] = [
    0, 1, 700, 40_000, 57_345, 65_536, 70_000, 300_000, 1_200_000,
];

fn snapshot_of(cache: &Cache) -> (File, Exported) {
    let mut file = File::from(memfd_create("snapshot", MemfdFlags::CLOEXEC).unwrap());
    cache.set_frozen(true);
    let exported = cache.export(&file).unwrap();
    file.rewind().unwrap();
    (file, exported)
}

fn succeed(memory: u64, clock: &Arc<ManualClock>, handed: Handed) -> (Cache, Adoption) {
    try_succeed(memory, clock, handed).unwrap()
}

fn try_succeed(
    memory: u64,
    clock: &Arc<ManualClock>,
    handed: Handed,
) -> bowstring_wire::error::Result<(Cache, Adoption)> {
    let config = CacheConfig {
        eviction: Eviction::Lru,
        memory,
        ..CacheConfig::default()
    };
    let parts = Parts {
        clock: Arc::clone(clock) as _,
        entropy: Some(Entropy::fixed(8)),
        ..Parts::default()
    };
    Cache::succeed(config, parts, handed)
}

/// Hands a cache on to one of `memory` bytes.
fn hand_on(cache: Cache, memory: u64, clock: &Arc<ManualClock>) -> (Cache, Adopted) {
    let (snapshot, exported) = snapshot_of(&cache);
    let handed = Handed::new(snapshot, cache.region_files().unwrap());
    let (next, adoption) = succeed(memory, clock, handed);
    drop(cache);
    let adopted = adoption.settle();
    let all = adopted.entries + adopted.mismatched + adopted.refused;
    assert_eq!(all, exported.entries);
    (next, adopted)
}

/// Puts keys of all kinds of lengths until `budget` bytes are there, and gives what they are.
async fn fill(cache: &Cache, budget: usize) -> BTreeMap<String, Vec<u8>> {
    let mut there = BTreeMap::new();
    let mut total = 0;
    for seed in 0.. {
        let len = LENGTHS[seed % LENGTHS.len()];
        total += len + 100;
        if total > budget {
            break;
        }
        let key = format!("key {seed}");
        let data = bytes(seed as u64, len);
        let spec = PutSpec {
            // A long one for every fifth.
            metadata: if seed % 5 == 0 {
                bytes(9, 30_000)
            } else {
                bytes(9, seed % 3)
            },
            source_version: (seed % 4 == 0).then_some(-5),
            ..spec(Mode::Create)
        };
        put_spec(cache, &key, spec, &data).await.unwrap();
        there.insert(key, data);
    }
    there
}

fn assert_same(cache: &Cache, there: &BTreeMap<String, Vec<u8>>) {
    for (key, data) in there {
        assert!(get(cache, key).as_ref() == Some(data), "{key}");
    }
}

#[tokio::test]
#[cfg_attr(miri, ignore = "system calls")]
async fn all_that_shows_is_there_in_each_successor() {
    let (mut cache, clock) = cache_of(64 * MIB);
    let mut there = fill(&cache, 20 << 20).await;
    let space = (Tenant::public(), Namespace::parse("set").unwrap());
    let change = SettingsChange::parse(r#"{"entries_max": 7}"#).unwrap();
    let set = cache
        .set_settings(&space.0, &space.1, &change, None)
        .await
        .unwrap();
    assert_eq!(cache.pin(&id("key 3")).await.unwrap(), Some(true));
    let expires = clock_ms() + 60_000;
    assert!(cache.expire(&id("key 4"), Some(expires)).await.unwrap());
    for round in 0..4 {
        let before = cache.stats();
        let known = cache.peek(&id("key 20")).unwrap();
        let hits = known.hits();
        let known = (
            known.version(),
            known.checksum(),
            known.metadata().to_vec(),
            known.source_version(),
        );
        let (next, adopted) = hand_on(cache, 64 * MIB, &clock);
        assert_eq!(next.peek(&id("key 20")).unwrap().hits(), hits);
        assert_eq!(
            (adopted.mismatched, adopted.refused, adopted.evicted),
            (0, 0, 0)
        );
        assert_eq!(adopted.entries, there.len() as u64);
        assert_same(&next, &there);
        let after = next.stats();
        assert_eq!(
            (before.entries, before.live_bytes),
            (after.entries, after.live_bytes)
        );
        assert_eq!(
            (before.pinned_bytes, before.pinned_entries),
            (after.pinned_bytes, after.pinned_entries)
        );
        assert_eq!(before.arena_used_bytes, after.arena_used_bytes);
        assert!(next.ledger().used() <= next.ledger().total());
        let entry = next.peek(&id("key 20")).unwrap();
        assert_eq!(
            known,
            (
                entry.version(),
                entry.checksum(),
                entry.metadata().to_vec(),
                entry.source_version()
            )
        );
        drop(entry);
        assert_eq!(
            next.peek(&id("key 4")).unwrap().expires_at_ms(),
            Some(expires)
        );
        assert_eq!(next.pin(&id("key 3")).await.unwrap(), Some(false));
        assert_eq!(next.settings(&space.0, &space.1), set.0);
        // Changes before the next one; what is written later has a later version.
        let gone = format!("key {}", 30 + round);
        assert!(next.delete(&id(&gone), None).await.unwrap().is_some());
        there.remove(&gone);
        let data = bytes(1_000 + round, 90_000);
        let put = put(&next, "key 20", Mode::Replace, &data).await;
        assert!(put.unwrap().version.hlc > known.0.hlc);
        there.insert("key 20".to_owned(), data);
        cache = next;
        let spec = PutSpec {
            metadata: bytes(9, 40),
            ..spec(Mode::Replace)
        };
        put_spec(&cache, "key 20", spec, &there["key 20"])
            .await
            .unwrap();
    }
    clock.advance(std::time::Duration::from_secs(70));
    while cache.expire_due() {}
    assert!(get(&cache, "key 4").is_none());
}

fn clock_ms() -> u64 {
    crate::tests::NOW_MS
}

#[tokio::test]
#[cfg_attr(miri, ignore = "system calls")]
async fn a_full_cache_stays_full_and_goes_on() {
    let (cache, clock) = cache_of(32 * MIB);
    for seed in 0..4_000_u64 {
        let len = 3_000 + usize::try_from(seed % 40).unwrap() * 500;
        put(&cache, &format!("{seed}"), Mode::Create, &bytes(seed, len))
            .await
            .unwrap();
    }
    let entries = cache.stats().entries;
    let (cache, adopted) = hand_on(cache, 32 * MIB, &clock);
    assert!(
        adopted.evicted * 1_000 <= entries,
        "{adopted:?} of {entries}"
    );
    assert!(adopted.sampled > 0);
    for seed in 4_000..8_000_u64 {
        let len = 2_000 + usize::try_from(seed % 40).unwrap() * 700;
        put(&cache, &format!("{seed}"), Mode::Create, &bytes(seed, len))
            .await
            .unwrap();
        assert!(cache.ledger().used() <= 32 * MIB);
    }
    let mut hits = 0;
    for seed in 0..8_000_u64 {
        let len = if seed < 4_000 {
            3_000 + usize::try_from(seed % 40).unwrap() * 500
        } else {
            2_000 + usize::try_from(seed % 40).unwrap() * 700
        };
        if let Some(there) = get(&cache, &format!("{seed}")) {
            assert!(there == bytes(seed, len), "{seed}");
            hits += 1;
        }
    }
    assert!(hits > 1_000);
}

#[tokio::test]
#[cfg_attr(miri, ignore = "system calls")]
async fn less_memory_keeps_what_was_asked_for_last() {
    let (cache, clock) = cache_of(64 * MIB);
    for seed in 0..400 {
        put(
            &cache,
            &format!("{seed}"),
            Mode::Create,
            &bytes(seed, 100_000),
        )
        .await
        .unwrap();
    }
    clock.advance(std::time::Duration::from_secs(5));
    for seed in (0..400).step_by(8) {
        assert!(get(&cache, &format!("{seed}")).is_some());
    }
    let (cache, adopted) = hand_on(cache, 24 * MIB, &clock);
    assert!(
        adopted.evicted > 100 && adopted.mismatched == 0,
        "{adopted:?}"
    );
    assert!(cache.ledger().used() <= 24 * MIB && cache.ledger().total() == 24 * MIB);
    for seed in (0..400).step_by(8) {
        assert!(get(&cache, &format!("{seed}")).unwrap() == bytes(seed, 100_000));
    }
    let (cache, adopted) = hand_on(cache, 128 * MIB, &clock);
    assert_eq!(adopted.evicted, 0);
    for seed in 1_000..1_800 {
        put(
            &cache,
            &format!("{seed}"),
            Mode::Create,
            &bytes(seed, 100_000),
        )
        .await
        .unwrap();
    }
    assert!(get(&cache, "0").unwrap() == bytes(0, 100_000));
}

#[tokio::test]
#[cfg_attr(miri, ignore = "system calls")]
async fn a_predecessor_goes_on_where_nobody_takes_over() {
    let (cache, clock) = cache_of(32 * MIB);
    let mut there = fill(&cache, 10 << 20).await;
    let load = cache
        .begin_load(&Tenant::public(), &Namespace::default(), Default::default())
        .unwrap();
    let number = cache
        .load(&Tenant::public(), &Namespace::default(), &load)
        .unwrap();
    let loading = PutSpec {
        load: number,
        ..spec(Mode::Replace)
    };
    put_spec(&cache, "loaded", loading, &bytes(5, 200_000))
        .await
        .unwrap();
    let (snapshot, exported) = snapshot_of(&cache);
    let with_load = there.len() as u64 + 1;
    assert_eq!(
        exported.entries, with_load,
        "what an open load holds goes too"
    );
    let handed = Handed::new(snapshot, cache.region_files().unwrap());
    let (next, adoption) = succeed(32 * MIB, &clock, handed);
    assert_same(&next, &there);
    drop((next, adoption));
    cache.set_frozen(false);
    assert_same(&cache, &there);
    for seed in 0..2_000 {
        put(
            &cache,
            &format!("more {seed}"),
            Mode::Create,
            &bytes(seed, 3_000),
        )
        .await
        .unwrap();
    }
    cache.commit_load(&Tenant::public(), &load).await.unwrap();
    there.insert("loaded".to_owned(), bytes(5, 200_000));
    assert_same(&cache, &there);
}

#[tokio::test]
#[cfg_attr(miri, ignore = "system calls")]
async fn what_is_merged_is_handed_on_as_it_shows() {
    let (cache, clock) = cache_of(32 * MIB);
    let space = (Tenant::public(), Namespace::default());
    for key in ["a", "b"] {
        put(&cache, key, Mode::Create, b"before").await.unwrap();
    }
    let load = cache
        .begin_load(&space.0, &space.1, Default::default())
        .unwrap();
    let number = cache.load(&space.0, &space.1, &load).unwrap();
    for key in ["b", "c"] {
        let loading = PutSpec {
            load: number,
            ..spec(Mode::Replace)
        };
        put_spec(&cache, key, loading, b"loaded").await.unwrap();
    }
    cache.commit_load(&space.0, &load).await.unwrap();
    let (cache, adopted) = hand_on(cache, 32 * MIB, &clock);
    assert_eq!(adopted.entries, 3);
    let all = ["a", "b", "c"].map(|key| get(&cache, key).unwrap());
    assert_eq!(all, [b"before", b"loaded", b"loaded"]);
}

#[tokio::test]
#[cfg_attr(miri, ignore = "system calls")]
async fn bytes_that_changed_are_dropped() {
    let (cache, clock) = cache_of(64 * MIB);
    for seed in 0..1_000 {
        put(
            &cache,
            &format!("a key of {seed}"),
            Mode::Create,
            &bytes(seed, 10_000),
        )
        .await
        .unwrap();
    }
    let (snapshot, _) = snapshot_of(&cache);
    // One byte of each page, wherever it is: a head, bytes of a tensor, or nothing.
    for region in cache.region_files().unwrap().into_iter().flatten() {
        let region = File::from(region);
        for at in (5_000..region.metadata().unwrap().len()).step_by(10_000) {
            let mut byte = [0];
            region.read_exact_at(&mut byte, at).unwrap();
            region.write_all_at(&[!byte[0]], at).unwrap();
        }
    }
    let handed = Handed::new(snapshot, cache.region_files().unwrap());
    let (next, adoption) = succeed(64 * MIB, &clock, handed);
    drop(cache);
    let adopted = adoption.settle();
    assert!(
        adopted.mismatched > 800,
        "one is found soon, and then all are read: {adopted:?}"
    );
    let wrong = (0..1_000).filter(|seed| {
        let there = get(&next, &format!("a key of {seed}"));
        there.is_some_and(|there| there != bytes(*seed, 10_000))
    });
    assert!(wrong.count() < 200);
}

#[tokio::test]
#[cfg_attr(miri, ignore = "system calls")]
async fn a_head_that_changed_is_never_believed() {
    let (cache, clock) = cache_of(32 * MIB);
    put(&cache, "the key itself", Mode::Create, &bytes(1, 5_000))
        .await
        .unwrap();
    put(&cache, "another", Mode::Create, &bytes(2, 5_000))
        .await
        .unwrap();
    let (snapshot, _) = snapshot_of(&cache);
    let mut found = 0;
    for region in cache.region_files().unwrap().into_iter().flatten() {
        let region = File::from(region);
        let mut all = vec![0; 1 << 20];
        region.read_exact_at(&mut all, 0).unwrap();
        if let Some(at) = all.windows(14).position(|part| part == b"the key itself") {
            region.write_all_at(b"T", at as u64).unwrap();
            found += 1;
        }
    }
    assert_eq!(found, 1);
    let handed = Handed::new(snapshot, cache.region_files().unwrap());
    let (next, adoption) = succeed(32 * MIB, &clock, handed);
    assert_eq!(
        (adoption.adopted().entries, adoption.adopted().mismatched),
        (1, 1)
    );
    adoption.settle();
    assert_eq!(
        (get(&next, "the key itself"), get(&next, "The key itself")),
        (None, None)
    );
    assert!(get(&next, "another").unwrap() == bytes(2, 5_000));
}

#[tokio::test]
#[cfg_attr(miri, ignore = "system calls")]
async fn a_region_that_can_only_be_read_is_served_and_goes_when_it_is_empty() {
    let (cache, clock) = cache_of(32 * MIB);
    let mut there = fill(&cache, 8 << 20).await;
    for region in cache.region_files().unwrap().into_iter().flatten() {
        fcntl_add_seals(&region, SealFlags::FUTURE_WRITE | SealFlags::SEAL).unwrap();
    }
    let (cache, adopted) = hand_on(cache, 32 * MIB, &clock);
    assert_eq!((adopted.mismatched, adopted.refused), (0, 0));
    assert_same(&cache, &there);
    let sealed = cache.region_files().unwrap().len();
    for seed in 0..200 {
        put(
            &cache,
            &format!("new {seed}"),
            Mode::Create,
            &bytes(seed, 30_000),
        )
        .await
        .unwrap();
    }
    assert_same(&cache, &there);
    // Another time, half of it gone.
    let half: Vec<String> = there.keys().step_by(2).cloned().collect();
    for key in half {
        cache.delete(&id(&key), None).await.unwrap();
        there.remove(&key);
    }
    let (cache, _) = hand_on(cache, 32 * MIB, &clock);
    assert_same(&cache, &there);
    let held = cache.get(&id("key 7"));
    for key in there.keys() {
        cache.delete(&id(key), None).await.unwrap();
    }
    drop(held);
    let files = cache.region_files().unwrap();
    assert!(
        files[..sealed].iter().any(Option::is_none),
        "none of them went"
    );
    for seed in 0..200 {
        assert!(get(&cache, &format!("new {seed}")).unwrap() == bytes(seed, 30_000));
    }
    let (cache, adopted) = hand_on(cache, 32 * MIB, &clock);
    assert_eq!(adopted.entries, 200);
    for seed in 0..200 {
        assert!(get(&cache, &format!("new {seed}")).unwrap() == bytes(seed, 30_000));
    }
}

#[tokio::test]
#[cfg_attr(miri, ignore = "system calls")]
async fn what_is_no_region_and_what_is_cut_off_is_refused() {
    let (cache, clock) = cache_of(32 * MIB);
    let there = fill(&cache, 1 << 20).await;
    let (mut snapshot, _) = snapshot_of(&cache);
    let mut whole = Vec::new();
    snapshot.read_to_end(&mut whole).unwrap();
    let refused = |bytes: Vec<u8>| {
        let handed = Handed::new(std::io::Cursor::new(bytes), cache.region_files().unwrap());
        try_succeed(32 * MIB, &clock, handed).is_err()
    };
    for len in [0, 7, 11, 12, 40, whole.len() - 12, whole.len() - 1] {
        assert!(refused(whole[..len].to_vec()), "{len}");
    }
    for at in (0..whole.len()).step_by(whole.len() / 50) {
        let mut other = whole.clone();
        other[at] ^= 1;
        assert!(refused(other), "{at}");
    }
    // Not a memfd, of another size, one that could become smaller.
    let plain = std::fs::File::open("/dev/null").unwrap();
    let short = cache.region_files().unwrap().remove(0).unwrap();
    let open = memfd_create("open", MemfdFlags::ALLOW_SEALING).unwrap();
    rustix::fs::ftruncate(&open, std::fs::File::from(short).metadata().unwrap().len()).unwrap();
    for wrong in [plain.into(), file_of(b"short").into(), open] {
        let handed = Handed::new(std::io::Cursor::new(whole.clone()), vec![Some(wrong)]);
        assert!(try_succeed(32 * MIB, &clock, handed).is_err());
    }
    // Nobody has changed anything: it can still be handed on.
    let handed = Handed::new(std::io::Cursor::new(whole), cache.region_files().unwrap());
    let (next, adoption) = succeed(32 * MIB, &clock, handed);
    assert_eq!(adoption.settle().entries, there.len() as u64);
    assert_same(&next, &there);
}

fn file_of(bytes: &[u8]) -> File {
    let mut file = File::from(memfd_create("test", MemfdFlags::ALLOW_SEALING).unwrap());
    file.write_all(bytes).unwrap();
    file
}

/// The bytes that a predecessor of format 2 writes. Where this fails, [`FORMAT`] is to be counted up.
#[test]
fn the_format_is_what_it_was() {
    let header = Header {
        region_bytes: 1 << 22,
        hlc: 3,
        entries: 14,
        last_load: 15,
        slabs: 1,
        namespaces: 1,
    };
    let mut encoder = Encoder::new(Vec::new(), &header).unwrap();
    let extent = Extent { first: 4, pages: 2 };
    encoder.slab(SlabPlace { extent, class: 9 }).unwrap();
    let space = SpaceRow {
        tenant: "public".to_owned(),
        namespace: "n".to_owned(),
        settings: String::new(),
        settings_version: (0, 0),
        hits: 1,
        misses: 2,
        evicted: 3,
        expired: 4,
    };
    encoder.space(&space).unwrap();
    let row = Row {
        loc: 5,
        len: 6,
        checksum: 7,
        version: (8, 9),
        expires_at_ms: 10,
        head: head_checksum_of_a_head(),
        age: 11,
        hits: 12,
        marks: 2,
        kept: true,
    };
    encoder.block(&[row]).unwrap();
    encoder.block(&[]).unwrap();
    let stages = [
        Stage::Open,
        Stage::Committed,
        Stage::RolledBack,
        Stage::Aborted,
    ];
    encoder.loads(stages.len()).unwrap();
    for (number, stage) in (16..).zip(stages) {
        let load = PassedLoad {
            number,
            start: 17,
            stage,
            replace_all: stage == Stage::Open,
            below_forgotten: stage == Stage::RolledBack,
            declared_bytes: 18,
            outcome: LoadOutcome {
                entries: 19,
                bytes: 20,
            },
        };
        encoder.load(&load).unwrap();
        if stage == Stage::Open {
            encoder.block(&[row]).unwrap();
            encoder.block(&[]).unwrap();
        }
    }
    let all = encoder.finish().unwrap();
    let classes: Vec<u8> = crate::arena::slot_layout()
        .into_iter()
        .flat_map(u32::to_le_bytes)
        .collect();
    let print = (
        all.len(),
        XxHash3_128::oneshot(&all),
        XxHash3_128::oneshot(&classes),
    );
    let expected = (
        436,
        108_720_274_002_946_259_105_802_388_591_645_215_401,
        42_155_276_960_054_061_933_081_049_998_560_786_204,
    );
    assert_eq!((FORMAT, print), (2, expected));
}

/// Of one with pages, metadata and a version of its source.
fn head_checksum_of_a_head() -> u64 {
    use crate::head::{HeadBytes, HeadParts, Kept, Rest, encode};
    let mut head = HeadBytes::new();
    let extents = smallvec::smallvec![
        Extent { first: 1, pages: 2 },
        Extent {
            first: 9,
            pages: 300
        }
    ];
    let kept = Kept {
        metadata: b"{}",
        source_version: Some(-3),
    };
    let parts = HeadParts {
        key: "a key",
        dtype: bowstring_wire::dtype::DType::Float32,
        shape: &bowstring_wire::shape::Shape::new(&[3, 500]).unwrap(),
        rest: Rest::Here { extents, kept },
    };
    encode(&parts, &mut head);
    super::format::head_checksum(&head, b"")
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: if cfg!(miri) { 1 } else { 200 },
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    /// Whoever writes nonsense, and a checksum that agrees, has no entry believed that was not there.
    #[test]
    #[cfg_attr(miri, ignore = "system calls")]
    fn nonsense_gives_what_was_there_or_nothing(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), any::<bool>()), 1..20),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let (cache, clock) = cache_of(32 * MIB);
        let there = runtime.block_on(fill(&cache, 4 << 20));
        let load = loads::begin(&cache, true);
        runtime.block_on(loads::put_in(&cache, &load, "loaded", &bytes(1, 70_000))).unwrap();
        let (mut snapshot, _) = snapshot_of(&cache);
        let mut all = Vec::new();
        FrameReader::new(&mut snapshot).read_to_end(&mut all).unwrap();
        let start = 12;
        for (at, byte, small) in changes {
            let at = start + at.index(all.len() - start);
            all[at] = if small { all[at].wrapping_add(byte % 3) } else { byte };
        }
        let mut frames = FrameWriter::new(Vec::new());
        frames.write_all(&all).unwrap();
        let snapshot = std::io::Cursor::new(frames.finish().unwrap());
        let handed = Handed::new(snapshot, cache.region_files().unwrap());
        let config = CacheConfig { memory: 32 * MIB, ..CacheConfig::default() };
        let parts = Parts { clock: Arc::clone(&clock) as _, ..Parts::default() };
        let Ok((next, adoption)) = Cache::succeed(config, parts, handed) else {
            return Ok(());
        };
        drop(cache);
        adoption.settle();
        for (key, data) in &there {
            if let Some(there) = get(&next, key) {
                prop_assert!(there == *data, "{key}");
            }
        }
        for seed in 0..100 {
            runtime.block_on(put(&next, &format!("new {seed}"), Mode::Create, &bytes(seed, 30_000))).unwrap();
        }
        for seed in 0..100 {
            if let Some(there) = get(&next, &format!("new {seed}")) {
                prop_assert!(there == bytes(seed, 30_000));
            }
        }
    }
}
