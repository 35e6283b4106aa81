//! A put that is dropped, wherever it is, leaves ledger and arena where they were.

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bowstring_wire::error::Code;
use bowstring_wire::name::Tenant;

use super::*;
use crate::ledger::Account;
use crate::rows::{Row, RowsSpec};

/// What must be as it was. Pages that were touched once stay charged, free and warm, so the
/// arena's account may have grown; what is in use in it may not.
#[derive(Debug, PartialEq, Eq)]
struct Footing {
    entries: u64,
    arena_used_bytes: u64,
    reserved_bytes: u64,
    held_bytes: u64,
    waiting: u64,
    wire: u64,
}

fn footing(cache: &Cache) -> Footing {
    let stats = cache.stats();
    Footing {
        entries: stats.entries,
        arena_used_bytes: stats.arena_used_bytes,
        reserved_bytes: stats.reserved_bytes,
        held_bytes: stats.held_bytes,
        waiting: stats.puts_waiting,
        wire: cache.ledger().used_by(Account::Wire),
    }
}

/// Polls at most `polls` times; `None` if that was not enough, and the future is dropped.
fn poll_some<F: Future>(future: F, polls: usize) -> Option<F::Output> {
    let mut future = pin!(future);
    let mut context = Context::from_waker(Waker::noop());
    (0..polls).find_map(|_| match future.as_mut().poll(&mut context) {
        Poll::Ready(done) => Some(done),
        Poll::Pending => None,
    })
}

/// A cache that others' open puts have filled: whoever comes now waits.
fn full_cache() -> (Cache, Arc<crate::clock::ManualClock>, Vec<crate::put::Put>) {
    let (cache, clock) = cache_of(16 * MIB);
    let mut open = Vec::new();
    for n in 0.. {
        let mut put = cache
            .put(id(&format!("open{n}")), spec(Mode::Create))
            .unwrap();
        match poll_some(put.reserve(MIB), 3) {
            Some(reserved) => reserved.unwrap(),
            None => break,
        }
        open.push(put);
    }
    assert!(open.len() > 8);
    (cache, clock, open)
}

#[tokio::test]
async fn a_put_that_is_dropped_at_any_await_leaves_nothing() {
    let mut finished = false;
    for polls in 0..12 {
        for len in [100_u64, 60_000, 300_000, 2 << 20] {
            let (cache, _, mut open) = full_cache();
            let before = footing(&cache);
            let data = bytes(1, usize::try_from(len).unwrap());
            let all = async {
                let mut put = cache.put(id("k"), spec(Mode::Create)).unwrap();
                for part in data.chunks(500_000) {
                    put.reserve(part.len() as u64).await.unwrap();
                    tokio::task::yield_now().await;
                    put.write(part).unwrap();
                    // From the middle of the first part on there is room.
                    open.truncate(9);
                }
                put.publish(Shape::new(&[len]).unwrap()).await.unwrap()
            };
            match poll_some(all, polls) {
                Some(done) => {
                    finished = true;
                    assert!(!done.existed);
                    cache.delete(&id("k"), None).await.unwrap();
                }
                None => assert!(cache.peek(&id("k")).is_none()),
            }
            let open_at_first = before.reserved_bytes / MIB;
            let gone = open_at_first - open.len() as u64;
            let after = footing(&cache);
            let expected = Footing {
                reserved_bytes: before.reserved_bytes - gone * MIB,
                arena_used_bytes: before.arena_used_bytes - gone * MIB,
                ..before
            };
            assert_eq!(after, expected, "polls {polls}, {len} bytes");
            drop(open);
            assert_eq!(cache.stats().arena_used_bytes, 0);
        }
    }
    assert!(finished, "the last rounds get to the end");
}

#[tokio::test]
async fn refused_puts_say_which_limit_and_leave_nothing() {
    let (cache, clock, open) = full_cache();
    let before = footing(&cache);
    let waiting = {
        let cache = cache.clone();
        tokio::spawn(async move { put(&cache, "k", Mode::Create, &[1; 1 << 20]).await })
    };
    while cache.stats().puts_waiting == 0 {
        tokio::task::yield_now().await;
    }
    clock.advance(cache.config().first_wait);
    let refused = waiting.await.unwrap().unwrap_err();
    assert_eq!(refused.code, Code::ResourceExhausted);
    assert!(
        refused.message.contains("limit=`memory` value=`16777216`"),
        "{refused}"
    );
    assert_eq!(footing(&cache), before);
    drop(open);
    put(&cache, "k", Mode::Create, &[1; 1 << 20]).await.unwrap();
}

#[tokio::test]
async fn a_put_that_holds_room_gives_up_after_two_seconds() {
    let (cache, clock, mut open) = full_cache();
    let mut holder = open.pop().unwrap();
    holder.write(&[0; 1 << 20]).unwrap();
    let waiting = tokio::spawn(async move { holder.reserve(2 << 20).await });
    while cache.stats().puts_waiting == 0 {
        tokio::task::yield_now().await;
    }
    clock.advance(Duration::from_millis(1_999));
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
    assert_eq!(cache.stats().puts_waiting, 1);
    clock.advance(Duration::from_millis(1));
    let refused = waiting.await.unwrap().unwrap_err();
    assert!(refused.message.contains("waited_ms=`2000`"), "{refused}");
    drop(open);
    assert_eq!(cache.stats().arena_used_bytes, 0);
}

#[tokio::test]
async fn rows_dropped_halfway_are_stored_or_not_and_leave_nothing_else() {
    let shape = Shape::new(&[5_000]).unwrap();
    let data = bytes(1, 5_000);
    let keys: Vec<String> = (0..2_000).map(|n| format!("{n}")).collect();
    let rows: Vec<Row<'_>> = keys.iter().map(|key| row(key, &shape, &data)).collect();
    for polls in [1, 2, 5, 100] {
        let (cache, _) = cache_of(16 * MIB);
        let spec = RowsSpec {
            mode: Mode::Keep,
            load: 0,
            pin: false,
            admit: Admit::Hot,
            below: false,
        };
        let (tenant, namespace) = (Tenant::public(), Namespace::default());
        let _ = poll_some(cache.put_rows(&tenant, &namespace, spec, &rows), polls);
        let stored = cache.scan(&tenant, &namespace, "", None, usize::MAX);
        assert_eq!(stored.len() as u64, cache.stats().entries);
        for item in stored {
            assert_eq!(get(&cache, item.key.as_str()).unwrap(), data);
            cache.delete(&id(item.key.as_str()), None).await.unwrap();
        }
        let after = footing(&cache);
        assert_eq!(
            (after.arena_used_bytes, after.wire, after.reserved_bytes),
            (0, 0, 0)
        );
    }
}
