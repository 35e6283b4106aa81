use std::sync::atomic::{AtomicU32, Ordering};

use super::changing::id;
use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn what_went_or_was_replaced_since_it_was_found_is_left_alone_and_not_counted() {
    for text in [
        "DELETE FROM tensors WHERE elements = 1",
        "UPDATE tensors SET pinned = true, expires_at = 0 WHERE elements = 1",
        "UPDATE tensors SET expires_at = 0 WHERE hits = 0",
        "UPDATE tensors SET pinned = true WHERE true",
        "UPDATE tensors SET metadata = MAP {'a': 'b'} WHERE elements = 1",
        "UPDATE tensors SET pinned = true, metadata = MAP {'a': 'b'} WHERE true",
    ] {
        let bed = Bed::new();
        for n in 0..100 {
            bed.put("a", &format!("{n:03}"), &[1.0]).await;
        }
        // They have been found when this is asked, and nothing was changed.
        let mut asked = 0;
        let may = |_: &Namespace| {
            asked += 1;
            for n in 0..40 {
                let id = id("a", &format!("{n:03}"));
                let version = bed.cache.peek(&id).unwrap().version();
                assert!(bed.cache.evict(&id, version));
            }
            let puts = async {
                for n in 40..70 {
                    bed.put("a", &format!("{n:03}"), &[2.0, 2.0]).await;
                }
            };
            tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(puts));
            Ok(())
        };
        assert_eq!(bed.change_where(text, may).await, Ok(30), "{text}");
        assert_eq!(asked, 1, "{text}");
        for n in 40..70 {
            let entry = bed.cache.peek(&id("a", &format!("{n:03}"))).unwrap();
            assert_eq!(
                (entry.len(), entry.is_kept(), entry.expires_at_ms()),
                (8, false, None)
            );
            assert!(entry.metadata().is_empty());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_put_that_comes_after_is_never_deleted() {
    const KEYS: u32 = 64;
    const ROUNDS: u32 = 150;
    let bed = Arc::new(Bed::new());
    for round in 0..ROUNDS {
        for n in 0..KEYS {
            bed.put("a", &n.to_string(), &[1.0]).await;
        }
        let replaced = Arc::new(AtomicU32::new(0));
        let writer = {
            let (bed, replaced) = (Arc::clone(&bed), Arc::clone(&replaced));
            tokio::spawn(async move {
                for n in 0..KEYS {
                    // From both ends by turns, so that they meet somewhere else each time.
                    let n = if round % 2 == 0 { n } else { KEYS - 1 - n };
                    let before = bed.cache.stats().events.replaced;
                    bed.put("a", &n.to_string(), &[2.0, 2.0]).await;
                    let after = bed.cache.stats().events.replaced;
                    replaced.fetch_add(u32::try_from(after - before).unwrap(), Ordering::Relaxed);
                }
            })
        };
        let condition = if round % 3 == 0 {
            "elements = 1 AND hits >= 0"
        } else {
            "elements = 1"
        };
        let text = format!("DELETE FROM tensors WHERE namespace = 'a' AND {condition}");
        let deleted = bed.change(&text).await.unwrap();
        writer.await.unwrap();
        let all = bed
            .one("SELECT count(*), min(elements), max(elements) FROM tensors")
            .await;
        assert_eq!(all, format!("{KEYS} 2 2"), "round {round}");
        // Each first tensor was either deleted or replaced.
        assert_eq!(
            deleted + u64::from(replaced.load(Ordering::Relaxed)),
            u64::from(KEYS)
        );
        bed.change("DELETE FROM tensors WHERE true").await.unwrap();
    }
}
