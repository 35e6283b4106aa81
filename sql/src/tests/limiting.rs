//! What a session or a setting has otherwise: schema, time, rows; the disk that sorts go on on.

use std::time::Duration;

use arrow_array::types::Int64Type;
use bowstring_cache::ledger::Account;
use bowstring_wire::error::Code;

use super::*;
use crate::Scope;

impl Bed {
    async fn rows_in(&self, scope: &Scope, text: &str) -> Result<Vec<String>> {
        let plan = self.sql.plan_in(&Tenant::public(), text, scope).await?;
        let mut answer = self.sql.run(&plan, Ok).await?;
        let mut batches = Vec::new();
        while let Some(batch) = answer.next().await? {
            batches.push(batch);
        }
        match batches.is_empty() {
            true => Ok(Vec::new()),
            false => Ok(rows(&batches)),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn names_without_a_schema_are_of_the_one_that_was_set() {
    let bed = Bed::new();
    bed.put("glove", "king", &[1.0, 2.0]).await;
    bed.put("tensors", "x", &[1.0]).await;
    let mut scope = Scope::default();
    let of_namespace = "SELECT key, bytes FROM glove";
    let refused = bed.rows_in(&scope, of_namespace).await.unwrap_err();
    assert_eq!(refused.code, Code::InvalidArgument, "{refused}");
    scope.set_schema(Some("ns")).unwrap();
    assert_eq!(bed.rows_in(&scope, of_namespace).await.unwrap(), ["king 8"]);
    // What is named as it was is the namespace now, and a change finds only the table of tensors.
    let named = bed
        .rows_in(&scope, "SELECT key FROM tensors")
        .await
        .unwrap();
    assert_eq!(named, ["x"]);
    let all = bed.rows_in(&scope, "SELECT key FROM cache.tensors ORDER BY key");
    assert_eq!(all.await.unwrap(), ["king", "x"]);
    let delete = "DELETE FROM tensors WHERE key = 'x'";
    assert!(bed.rows_in(&scope, delete).await.is_err());
    assert_eq!(bed.one("SELECT count(*) FROM tensors").await, "2");
    // It stays where parameters get values.
    let text = "SELECT key FROM glove WHERE key = ?";
    let plan = bed
        .sql
        .plan_in(&Tenant::public(), text, &scope)
        .await
        .unwrap();
    let row = RecordBatch::try_from_iter([(
        "1",
        Arc::new(arrow_array::StringArray::from(vec!["king"])) as _,
    )]);
    let bound = bed.sql.bind(&plan, &row.unwrap()).await.unwrap();
    let mut answer = bed.sql.run(&bound, Ok).await.unwrap();
    assert_eq!(answer.next().await.unwrap().unwrap().num_rows(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_has_less_time_and_fewer_rows() {
    let bed = Bed::new();
    let mut scope = Scope::default();
    scope.set_rows_max(Some(10));
    let text = "SELECT * FROM generate_series(1, 10)";
    assert_eq!(bed.rows_in(&scope, text).await.unwrap().len(), 10);
    let text = "SELECT * FROM generate_series(1, 11)";
    let refused = bed.rows_in(&scope, text).await.unwrap_err();
    assert_eq!(refused.code, Code::ResourceExhausted);
    assert!(
        refused.message.contains("limit=`sql_rows_max` value=`10`"),
        "{refused}"
    );
    assert_eq!(bed.rows(text).await.len(), 11);
    scope.set_timeout(Some(Duration::from_secs(2)));
    let endless = "SELECT count(*) FROM generate_series(1, 1000000000000)";
    let plan = bed.sql.plan_in(&Tenant::public(), endless, &scope).await;
    let mut answer = bed.sql.run(&plan.unwrap(), Ok).await.unwrap();
    let (ended, ()) = tokio::join!(answer.next(), async {
        tokio::task::yield_now().await;
        bed.clock.advance(Duration::from_secs(3));
    });
    let ended = ended.unwrap_err();
    assert_eq!(ended.code, Code::DeadlineExceeded, "{ended}");
    assert!(ended.message.contains("value_ms=`2000`"), "{ended}");
}

/// More than the memory of a query, in an order that it does not come in.
const LARGE: &str =
    "SELECT (value * 7919) % 1500007 AS n, value AS m FROM generate_series(1, 1500000) ORDER BY n";

#[tokio::test(flavor = "multi_thread")]
async fn a_sort_beyond_its_memory_ends_with_the_setting_that_helps() {
    let bed = Bed::with(|limits| limits.query_bytes = 8 * MIB);
    let refused = bed.error(LARGE).await;
    assert_eq!(refused.code, Code::ResourceExhausted, "{refused}");
    for words in ["sql_spill_dir", "limit=`sql_memory`"] {
        assert!(refused.message.contains(words), "{refused}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sort_beyond_its_memory_goes_on_on_the_disk() {
    let dir = tempfile::tempdir().unwrap();
    let bed = Bed::with(|limits| {
        limits.query_bytes = 8 * MIB;
        limits.spill_dir = Some(dir.path().join("spill"));
    });
    let batches = bed.batches(LARGE).await.unwrap();
    let columns = batches.iter().map(|batch| {
        let numbers = batch.column(0).as_primitive::<Int64Type>();
        numbers.values().to_vec()
    });
    let numbers: Vec<i64> = columns.flatten().collect();
    assert_eq!(numbers.len(), 1_500_000);
    assert!(numbers.is_sorted());
    assert!(numbers.windows(2).all(|two| two[0] != two[1]), "each once");
    drop(batches);
    while bed.cache.ledger().used_by(Account::Sql) > 0 {
        tokio::task::yield_now().await;
    }
    let peak = bed.cache.ledger().account(Account::Sql).peak;
    assert!(peak <= 16 * MIB, "{peak}");
    // Nothing has a name there, and nothing is left.
    assert_eq!(
        std::fs::read_dir(dir.path().join("spill")).unwrap().count(),
        0
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sort_beyond_the_disk_ends_and_the_next_one_runs() {
    let dir = tempfile::tempdir().unwrap();
    let bed = Bed::with(|limits| {
        limits.query_bytes = 8 * MIB;
        limits.spill_dir = Some(dir.path().to_owned());
        limits.spill_bytes = 4 * MIB;
    });
    for _ in 0..2 {
        let refused = bed.error(LARGE).await;
        assert_eq!(refused.code, Code::ResourceExhausted, "{refused}");
        assert!(
            refused.message.contains("limit=`sql_spill_max`"),
            "{refused}"
        );
    }
    assert_eq!(bed.one("SELECT 1").await, "1");
}
