use std::time::Duration;

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn tensors_says_all_that_is_known_of_an_entry() {
    let bed = Bed::new();
    let id = Id::public(Namespace::parse("docs").unwrap(), Key::parse("a").unwrap());
    let metadata =
        bowstring_wire::metadata::Metadata::new([("model".into(), "m1".into())]).unwrap();
    let spec = PutSpec {
        metadata: metadata.encode(),
        expires_at_ms: Some(NOW_MS + 60_000),
        ..PutSpec::new(DType::Int16)
    };
    let mut put = bed.cache.put(id.clone(), spec).unwrap();
    put.reserve(12).await.unwrap();
    put.write(&[7; 12]).unwrap();
    put.publish(Shape::new(&[2, 3]).unwrap()).await.unwrap();
    bed.clock.advance(Duration::from_secs(5));
    let entry = bed.cache.get(&id).unwrap();
    let (version, checksum) = (entry.version(), entry.checksum());
    drop(entry);

    let row = bed
        .one(
            "SELECT namespace, key, version, dtype, shape, rank, elements, bytes, tier, created_at, last_access_at, \
             hits, expires_at, pins, checksum, metadata FROM tensors",
        )
        .await;
    assert_eq!(
        row,
        format!(
            "docs a {version} int16 [2, 3] 2 6 12 hot 2023-11-14T22:13:20Z 2023-11-14T22:13:25Z 1 \
             2023-11-14T22:14:20Z 0 {checksum:032x} {{model: m1}}"
        )
    );
    // Looked at, not asked for.
    assert_eq!(bed.one("SELECT hits FROM tensors").await, "1");
    assert_eq!(bed.one("SELECT metadata['model'] FROM tensors").await, "m1");
}

#[tokio::test(flavor = "multi_thread")]
async fn tensors_come_in_order_of_namespace_and_key_however_many() {
    let bed = Bed::new();
    for n in 0..2_500 {
        bed.put("b", &format!("key-{n:05}"), &[n as f32]).await;
    }
    bed.put("a", "z", &[1.0]).await;
    assert_eq!(bed.one("SELECT count(*) FROM tensors").await, "2501");
    let keys = bed.rows("SELECT namespace, key FROM tensors").await;
    assert_eq!(keys.len(), 2_501);
    assert_eq!(keys[0], "a z");
    assert!(keys.is_sorted());
    let sums =
        "SELECT namespace, count(*), sum(bytes), max(hits) FROM tensors GROUP BY 1 ORDER BY 1";
    assert_eq!(bed.rows(sums).await, ["a 1 4 0", "b 2500 10000 0"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn namespaces_say_their_limits_use_and_hits() {
    let bed = Bed::new();
    for n in 0..3 {
        bed.put("docs", &n.to_string(), &[1.0, 2.0]).await;
    }
    let id = |key: &str| Id::public(Namespace::parse("docs").unwrap(), Key::parse(key).unwrap());
    for key in ["0", "1", "1", "nothing"] {
        let _ = bed.cache.get(&id(key));
    }
    let row =
        "SELECT namespace, entries, bytes, entries_max, hits, misses, hit_ratio FROM namespaces";
    assert_eq!(bed.one(row).await, "docs 3 24  3 1 0.75");
    let idle = "SELECT count(*) FROM namespaces WHERE hit_ratio IS NULL";
    assert_eq!(bed.one(idle).await, "0");

    let (tenant, files) = (Tenant::public(), Namespace::parse("files").unwrap());
    let attached = bed.cache.attach(&tenant, &files, 9, async { Ok(true) });
    attached.await.unwrap();
    let rows = "SELECT namespace, attached_rows FROM namespaces WHERE attached_rows IS NOT NULL";
    assert_eq!(bed.one(rows).await, "files 9");
    bed.cache.detach(&tenant, &files, || ()).await;
    let none = "SELECT count(*) FROM namespaces WHERE attached_rows IS NULL";
    assert_eq!(bed.one(none).await, "2");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_small_tables_are_what_is_at_the_moment() {
    let bed = Bed::new();
    let entries = "SELECT value FROM stats WHERE name = 'entries'";
    assert_eq!(bed.one(entries).await, "0");
    bed.put("docs", "a", &[1.0]).await;
    assert_eq!(bed.one(entries).await, "1");
    assert_eq!(bed.one("SELECT * FROM settings").await, "memory 256MiB");
    let accounts = bed
        .rows("SELECT account FROM memory ORDER BY account")
        .await;
    assert_eq!(
        accounts,
        ["arena", "cold", "index", "scan", "socket", "sql", "wire"]
    );
    let used = bed.one("SELECT sum(used_bytes) > 0 FROM memory").await;
    assert_eq!(used, "true");
    let joined =
        "SELECT n.namespace, t.key FROM tensors t JOIN namespaces n ON t.namespace = n.namespace";
    assert_eq!(bed.one(joined).await, "docs a");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_sees_its_own() {
    let bed = Bed::new();
    let other = Tenant::parse("other").unwrap();
    bed.put("docs", "ours", &[1.0]).await;
    bed.put_for(&other, "docs", "theirs", &[1.0]).await;
    bed.put_for(&other, "more", "theirs", &[1.0]).await;
    let keys = "SELECT namespace, key FROM tensors";
    assert_eq!(bed.rows(keys).await, ["docs ours"]);
    let theirs = bed.batches_for(&other, keys).await.unwrap();
    assert_eq!(rows(&theirs), ["docs theirs", "more theirs"]);
    for text in [
        "SELECT count(*) FROM tensors WHERE key = 'theirs'",
        "SELECT count(*) FROM tensors WHERE namespace = 'more'",
        "SELECT count(*) FROM namespaces WHERE namespace = 'more'",
    ] {
        assert_eq!(bed.one(text).await, "0", "{text}");
    }
}
