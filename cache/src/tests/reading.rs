//! Pieces, ranges, and what readers hold of entries that have gone.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bowstring_wire::error::Code;

use super::*;
use crate::ledger::Account;
use crate::read::Reader;

fn reader(cache: &Cache, key: &str) -> Reader {
    let entry = cache.get(&id(key)).unwrap();
    let len = entry.len();
    entry.reader(0..len).unwrap()
}

fn drain(mut reader: Reader, step: usize) -> Vec<u8> {
    let mut out = Vec::new();
    while reader.remaining() > 0 {
        for piece in reader.take(step).unwrap() {
            out.extend_from_slice(&piece);
        }
    }
    assert!(reader.take(step).unwrap().is_empty());
    out
}

#[tokio::test]
async fn any_range_in_any_steps_is_that_part() {
    let (cache, _) = cache_of(64 * MIB);
    for len in [0_usize, 5_000, 100_000, 900_000, 3 << 20] {
        let data = bytes(1, len);
        put(&cache, "k", Mode::Replace, &data).await.unwrap();
        for (start, end) in [
            (0, len),
            (0, 0),
            (len, len),
            (len / 3, len / 2),
            (len / 2, len),
            (len - len.min(100), len),
        ] {
            for step in [1_000, 70_000, usize::MAX] {
                let entry = cache.get(&id("k")).unwrap();
                let part = entry.reader(start as u64..end as u64).unwrap();
                assert_eq!(part.remaining(), (end - start) as u64);
                assert_eq!(drain(part, step), data[start..end], "{len} {start}..{end}");
            }
        }
        let outside = cache.get(&id("k")).unwrap().reader(0..len as u64 + 1);
        assert_eq!(outside.err().unwrap().code, Code::InvalidArgument);
    }
    assert_eq!(cache.reads().active(), []);
    assert_eq!(cache.ledger().used_by(Account::Wire), 0);
}

#[tokio::test]
async fn a_reader_keeps_what_was_replaced_and_lets_go_as_it_takes() {
    let (cache, _) = cache_of(64 * MIB);
    for len in [1_000, 300_000, 4 << 20] {
        let (old, new) = (bytes(1, len), bytes(2, len));
        put(&cache, "k", Mode::Replace, &old).await.unwrap();
        let mut reading = reader(&cache, "k");
        let first = reading.take(len / 4).unwrap();
        put(&cache, "k", Mode::Replace, &new).await.unwrap();
        assert_eq!(get(&cache, "k").unwrap(), new);
        let held = cache.stats().held_bytes;
        assert!(held <= len as u64 + 2 * 65_536);
        drop(first);
        let rest = drain(reading, 100_000);
        assert_eq!(rest, old[len / 4..], "{len}");
        assert_eq!(cache.stats().held_bytes, 0);
    }
    let entries = cache.stats().entries;
    cache.delete(&id("k"), None).await.unwrap();
    assert_eq!((entries, cache.stats().arena_used_bytes), (1, 0));
}

#[tokio::test]
async fn held_bytes_fall_with_every_piece_that_is_dropped() {
    let (cache, _) = cache_of(64 * MIB);
    put(&cache, "k", Mode::Create, &bytes(1, 4 << 20))
        .await
        .unwrap();
    let mut reading = reader(&cache, "k");
    assert_eq!(
        cache.stats().held_bytes,
        0,
        "it can be found: it costs nothing"
    );
    cache.delete(&id("k"), None).await.unwrap().unwrap();
    let mut before = cache.stats().held_bytes;
    assert_eq!(before, 4 * MIB);
    assert!(cache.reads().active()[0].unlinked);
    while reading.remaining() > 0 {
        drop(reading.take(1 << 20).unwrap());
        let now = cache.stats().held_bytes;
        assert_eq!(before - now, MIB);
        before = now;
    }
    assert_eq!(before, 0);
}

#[tokio::test]
async fn a_cut_off_reader_is_told_and_holds_nothing() {
    let (cache, clock) = cache_of(64 * MIB);
    put(&cache, "k", Mode::Create, &bytes(1, 4 << 20))
        .await
        .unwrap();
    let told = Arc::new(AtomicUsize::new(0));
    let mut reading = reader(&cache, "k");
    let tell = Arc::clone(&told);
    reading.on_cut(move || {
        tell.fetch_add(1, Ordering::SeqCst);
    });
    cache.delete(&id("k"), None).await.unwrap().unwrap();
    clock.advance(Duration::from_secs(5));
    let active = cache.reads().active();
    assert!(cache.reads().cut(active[0].id));
    assert!(!cache.reads().cut(active[0].id));
    assert_eq!(told.load(Ordering::SeqCst), 1);
    assert_eq!(cache.stats().held_bytes, 0);
    let refused = reading.take(1).unwrap_err();
    assert_eq!(refused.code, Code::ResourceExhausted);
    assert!(refused.message.starts_with("reader was cut off: stalled"));
    assert!(refused.message.contains("stalled_ms=`5000`"), "{refused}");
    let tell = Arc::clone(&told);
    reading.on_cut(move || {
        tell.fetch_add(1, Ordering::SeqCst);
    });
    assert_eq!(told.load(Ordering::SeqCst), 2);
}

/// Many readers that stall, puts that go on: what is held stays within its share, the most stalled
/// go first, and the one that reads is left alone.
#[tokio::test]
async fn stalled_readers_are_cut_off_before_they_hold_too_much() {
    let (cache, clock) = cache_of(64 * MIB);
    let data = bytes(1, 2 << 20);
    let mut stalled = Vec::new();
    let mut alive = None;
    for n in 0..80 {
        put(&cache, &format!("{n}"), Mode::Create, &data)
            .await
            .unwrap();
        if n == 10 {
            alive = Some(reader(&cache, "10"));
        } else {
            stalled.push(reader(&cache, &format!("{n}")));
        }
        clock.advance(Duration::from_millis(100));
        if let Some(alive) = &mut alive
            && alive.remaining() > 0
        {
            drop(alive.take(20_000).unwrap());
        }
        let stats = cache.stats();
        assert!(stats.held_bytes <= stats.held_bytes_max, "{stats:?}");
        assert!(cache.ledger().used() <= cache.ledger().total());
    }
    let stats = cache.stats();
    assert!(stats.reads_cut >= 20, "{stats:?}");
    assert!(stats.events.evicted >= 40);
    let cut = |reading: &mut Reader| reading.take(1).is_err();
    let first_alive = stalled.iter_mut().position(|reading| !cut(reading));
    let cuts = stalled
        .iter_mut()
        .filter_map(|reading| cut(reading).then_some(()));
    assert_eq!(
        cuts.count(),
        first_alive.unwrap_or(0),
        "the most stalled first"
    );
    let rest = drain(alive.unwrap(), 1 << 20);
    assert_eq!(rest, data[data.len() - rest.len()..]);
}

#[tokio::test]
async fn one_reader_may_finish_one_tensor_larger_than_the_share() {
    let (cache, _) = cache_of(64 * MIB);
    let large = bytes(1, 30 << 20);
    put(&cache, "large", Mode::Create, &large).await.unwrap();
    // A peek, which leaves no mark, so that it is the first victim.
    let entry = cache.peek(&id("large")).unwrap();
    let mut reading = entry.reader(0..large.len() as u64).unwrap();
    drop(reading.take(1).unwrap());
    for n in 0..40 {
        put(&cache, &format!("{n}"), Mode::Create, &bytes(n, 2 << 20))
            .await
            .unwrap();
    }
    assert!(cache.peek(&id("large")).is_none());
    assert_eq!(drain(reading, 1 << 20), large[1..]);
    assert_eq!(cache.stats().held_bytes, 0);
}
