//! What is counted of queries.

use tokio::task::yield_now;

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn queries_are_counted_by_how_they_end() {
    let bed = Bed::new();
    for key in ["a", "b", "c"] {
        bed.put("docs", key, &[1.0]).await;
    }
    let counters = bed.sql.counters();
    let now = counters.now();
    assert_eq!((now.answered, now.failed, now.given_up), (0, 0, 0));

    assert_eq!(bed.rows("SELECT key FROM tensors").await.len(), 3);
    assert_eq!((counters.now().answered, counters.now().rows), (1, 3));

    let wrong = "SELECT CAST(key AS INT) FROM tensors";
    assert!(bed.batches(wrong).await.is_err());
    assert_eq!(counters.now().failed, 1);
    // A statement that is refused is no query.
    assert!(bed.batches("SELECT nothing FROM tensors").await.is_err());
    assert_eq!(counters.now().failed, 1);

    let changed = bed.change("DELETE FROM tensors WHERE key > 'a'").await;
    assert_eq!((changed, counters.now().changed), (Ok(2), 2));
    assert_eq!((counters.now().answered, counters.now().rows), (2, 5));

    let endless = "SELECT * FROM generate_series(1, 1000000000000)";
    let plan = bed.sql.plan(&Tenant::public(), endless).await.unwrap();
    let mut answer = bed.sql.run(&plan, Ok).await.unwrap();
    assert!(answer.next().await.unwrap().is_some());
    assert!(counters.now().running > 0);
    drop(answer);
    let ended = |now: SqlStats| now.given_up == 1 && now.running == 0;
    while !ended(counters.now()) {
        yield_now().await;
    }
    assert_eq!((counters.now().answered, counters.now().failed), (2, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_for_a_turn_is_counted() {
    let bed = Bed::with(|limits| limits.queries = 1);
    let endless = "SELECT * FROM generate_series(1, 1000000000000)";
    let plan = bed.sql.plan(&Tenant::public(), endless).await.unwrap();
    let mut answer = bed.sql.run(&plan, Ok).await.unwrap();
    assert!(answer.next().await.unwrap().is_some());
    let counters = bed.sql.counters().clone();
    assert_eq!((counters.now().running, counters.now().waiting), (1, 0));
    let sql = bed.sql.clone();
    let waits = tokio::spawn(async move { sql.plan(&Tenant::public(), "SELECT 1").await });
    while counters.now().waiting == 0 {
        yield_now().await;
    }
    drop(answer);
    assert!(waits.await.unwrap().is_ok());
    assert_eq!(counters.now().waiting, 0);
}
