use arrow_array::cast::AsArray;
use bowstring_cache::ledger::Account;

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn the_bytes_come_as_they_were_put_small_and_large() {
    let bed = Bed::new();
    let sizes = [0_u64, 3, 1_000, 100_000, 1_000_000];
    for size in sizes {
        let values: Vec<f32> = (0..size).map(|n| (n * size) as f32).collect();
        bed.put("a", &format!("{size:08}"), &values).await;
    }
    let batches = bed
        .batches("SELECT bytes, value FROM tensors")
        .await
        .unwrap();
    let mut sizes = sizes.into_iter();
    for batch in &batches {
        let value = batch.column_by_name("value").unwrap().as_struct();
        let data = value.column_by_name("data").unwrap().as_binary_view();
        for data in data.iter() {
            let size = sizes.next().unwrap();
            let expected: Vec<u8> = (0..size)
                .flat_map(|n| ((n * size) as f32).to_le_bytes())
                .collect();
            assert!(data.unwrap() == expected, "{size} elements");
        }
    }
    assert_eq!(sizes.next(), None);
    assert_eq!(
        bed.one("SELECT value['dtype'], value['shape'] FROM tensors LIMIT 1")
            .await,
        "float32 [0]"
    );
    let part = "SELECT arrow_typeof(value['data']) FROM tensors WHERE namespace = 'a' AND key = '00001000'";
    assert_eq!(bed.one(part).await, "BinaryView");
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_are_read_only_where_they_are_named() {
    let bed = Bed::new();
    for n in 0..10 {
        bed.put("a", &n.to_string(), &[0.5; 100]).await;
    }
    let read = async |text: &str| {
        let plan = bed.one(&format!("EXPLAIN ANALYZE {text}")).await;
        let (_, rest) = plan.split_once("value_bytes=").unwrap();
        let digits = rest
            .split(|c: char| !c.is_ascii_digit() && c != '.')
            .next()
            .unwrap();
        digits.parse::<f64>().unwrap() > 0.0
    };
    assert!(!read("SELECT key, bytes, checksum, metadata FROM tensors").await);
    assert!(!read("SELECT count(*) FROM tensors").await);
    assert!(read("SELECT value FROM tensors WHERE key = '3'").await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_that_keeps_its_tensors_holds_no_more_of_the_cache_than_it_may() {
    let bed = Bed::new();
    for n in 0..100 {
        bed.put("a", &format!("{n:03}"), &vec![n as f32; 256 << 10])
            .await;
    }
    let mut kept = Vec::new();
    let plan = bed
        .sql
        .plan(&Tenant::public(), "SELECT value FROM tensors")
        .await
        .unwrap();
    let mut answer = bed.sql.run(&plan, Ok).await.unwrap();
    while let Some(batch) = answer.next().await.unwrap() {
        kept.push(batch);
    }
    let rows: usize = kept.iter().map(RecordBatch::num_rows).sum();
    assert_eq!(rows, 100);
    // 64 MiB where they lie, and the other 36 copied, which it pays for.
    let paid = bed.cache.ledger().used_by(Account::Sql);
    assert!((36 * MIB..=40 * MIB).contains(&paid), "{paid}");
    drop((kept, answer));
    assert_eq!(bed.cache.ledger().used_by(Account::Sql), 0);
}
