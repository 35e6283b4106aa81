use std::time::Duration;

use bowstring_cache::ledger::Account;
use bowstring_wire::error::Code;

use super::*;

async fn fails(bed: &Bed, text: &str) -> bowstring_wire::error::Error {
    match bed.batches(text).await {
        Ok(batches) => panic!(
            "{} batches of {}",
            batches.len(),
            &text[..text.len().min(100)]
        ),
        Err(error) => error,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_would_change_something_is_refused() {
    let bed = Bed::new();
    for text in [
        "CREATE TABLE t AS SELECT 1",
        "DROP TABLE tensors",
        "INSERT INTO stats SELECT * FROM stats",
        "TRUNCATE TABLE tensors",
        "UPDATE tensors SET key = 'a'",
        "COPY tensors TO 'x.csv'",
        "CREATE EXTERNAL TABLE t STORED AS CSV LOCATION '/etc/passwd'",
        "SET a = 1",
    ] {
        let error = fails(&bed, text).await;
        assert_eq!(error.code, Code::Unimplemented, "{text}: {error}");
    }
    // No file is read either.
    for text in [
        "SELECT * FROM '/etc/passwd'",
        "SELECT * FROM '/etc/passwd.csv'",
    ] {
        let error = fails(&bed, text).await;
        assert_eq!(error.code, Code::InvalidArgument, "{text}: {error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_that_a_query_may_not_have_ends_it_and_is_given_back() {
    let bed = Bed::with(|limits| limits.query_bytes = 8 * MIB);
    for n in 0..3_000 {
        bed.put("a", &format!("{n:05}"), &[n as f32]).await;
    }
    for text in [
        "SELECT a.key || b.key AS k FROM tensors a CROSS JOIN tensors b ORDER BY k",
        "SELECT array_agg(a.key || b.key || c.key) FROM tensors a, tensors b, tensors c",
        "SELECT DISTINCT a.key || b.key FROM tensors a, tensors b",
    ] {
        let error = fails(&bed, text).await;
        assert_eq!(error.code, Code::ResourceExhausted, "{text}: {error}");
    }
    // What still ran when the answer was given up gives way at its next step.
    while bed.cache.ledger().used_by(Account::Sql) > 0 {
        tokio::task::yield_now().await;
    }
    let peak = bed.cache.ledger().account(Account::Sql).peak;
    assert!(peak <= 40 * MIB, "{peak}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_has_no_more_rows_than_it_may() {
    let bed = Bed::with(|limits| limits.rows = 1_000);
    let error = fails(&bed, "SELECT * FROM generate_series(1, 1000000000000)").await;
    assert_eq!(error.code, Code::ResourceExhausted, "{error}");
    let few = "SELECT count(*) FROM (SELECT * FROM generate_series(1, 100000))";
    assert_eq!(bed.one(few).await, "100000");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_ends_with_its_time() {
    let bed = Bed::new();
    let plan = bed
        .sql
        .plan(
            &Tenant::public(),
            "SELECT count(*) FROM generate_series(1, 1000000000000) a",
        )
        .await
        .unwrap();
    let mut answer = bed.sql.run(&plan, Ok).await.unwrap();
    let (next, ()) = tokio::join!(answer.next(), async {
        tokio::task::yield_now().await;
        bed.clock.advance(Duration::from_secs(61));
    });
    assert_eq!(next.unwrap_err().code, Code::DeadlineExceeded);
    drop(answer);
    // Its turn is another's: it was ended, not left to run.
    let turns = async {
        for _ in 0..8 {
            assert_eq!(bed.one("SELECT 1").await, "1");
        }
    };
    turns.await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_join_that_makes_many_rows_of_few_gives_way() {
    let bed = Bed::with(|limits| limits.threads = 1);
    for n in 0..1_000 {
        bed.put("a", &format!("{n:05}"), &[n as f32]).await;
    }
    for on in ["a.key < b.key", "a.key = b.key OR c.key = d.key", "true"] {
        let text =
            format!("SELECT count(*) FROM tensors a, tensors b, tensors c, tensors d WHERE {on}");
        let plan = bed.sql.plan(&Tenant::public(), &text).await.unwrap();
        let mut answer = bed.sql.run(&plan, Ok).await.unwrap();
        let (next, ()) = tokio::join!(answer.next(), async {
            tokio::task::yield_now().await;
            bed.clock.advance(Duration::from_secs(61));
        });
        assert_eq!(next.unwrap_err().code, Code::DeadlineExceeded);
        drop(answer);
        assert_eq!(bed.one("SELECT 1").await, "1", "the one thread is free");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_turn_is_waited_for_and_given_back() {
    let bed = Bed::with(|limits| limits.queries = 1);
    let endless = "SELECT * FROM generate_series(1, 1000000000000)";
    let plan = bed.sql.plan(&Tenant::public(), endless).await.unwrap();
    let mut answer = bed.sql.run(&plan, Ok).await.unwrap();
    assert!(answer.next().await.unwrap().is_some());
    let (next, ()) = tokio::join!(bed.batches("SELECT 1"), async {
        tokio::task::yield_now().await;
        bed.clock.advance(Duration::from_secs(61));
    });
    assert_eq!(next.unwrap_err().code, Code::DeadlineExceeded);
    drop(answer);
    assert_eq!(bed.one("SELECT 1").await, "1");
}

#[tokio::test(flavor = "multi_thread")]
async fn texts_that_would_break_a_planner_are_refused() {
    let bed = Bed::new();
    let mut doubled = "SELECT bytes AS c FROM tensors".to_owned();
    for _ in 0..20 {
        doubled = format!("SELECT c + c + c AS c FROM ({doubled})");
    }
    let hostile = [
        format!("SELECT 1{}", "+1".repeat(100_000)),
        format!("SELECT {}1{}", "abs(".repeat(500), ")".repeat(500)),
        format!("SELECT {}1{}", "(SELECT ".repeat(400), ")".repeat(400)),
        format!("SELECT 1{}", " UNION ALL SELECT 1".repeat(2_000)),
        doubled,
        "SELECT repeat('a', 1000000000)".to_owned(),
        "SELECT range(1, 1000000000000)".to_owned(),
        "SELECT array_repeat(1, 1000000000000)".to_owned(),
    ];
    for text in hostile {
        let error = fails(&bed, &text).await;
        let expected = [Code::InvalidArgument, Code::ResourceExhausted];
        assert!(expected.contains(&error.code), "{error}");
    }
    let mut tripled = "WITH a0 AS (SELECT bytes AS c FROM tensors)".to_owned();
    for n in 1..20 {
        tripled += &format!(", a{n} AS (SELECT c + c + c AS c FROM a{})", n - 1);
    }
    tripled += " SELECT c FROM a19 WHERE c > 0";
    let error = fails(&bed, &tripled).await;
    assert_eq!(error.code, Code::ResourceExhausted, "{error}");
    // As deep as it may be.
    let deep = format!("SELECT 1{}", "+1".repeat(1_900));
    assert_eq!(bed.one(&deep).await, "1901");
    let keys: Vec<String> = (0..10_000).map(|n| format!("'{n}'")).collect();
    let many = format!(
        "SELECT count(*) FROM tensors WHERE key IN ({})",
        keys.join(",")
    );
    assert_eq!(bed.one(&many).await, "0");
}
