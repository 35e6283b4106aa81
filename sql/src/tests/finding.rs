use super::*;

/// What `EXPLAIN ANALYZE` says was done: keys looked up, and keys walked past.
async fn done(bed: &Bed, text: &str) -> (u64, u64) {
    let plan = bed.one(&format!("EXPLAIN ANALYZE {text}")).await;
    let figure = |name: &str| {
        let (_, rest) = plan
            .split_once(&format!("{name}="))
            .unwrap_or_else(|| panic!("no {name} in {plan}"));
        let shown = rest.split([',', ']']).next().unwrap();
        let (number, unit) = shown.split_once(' ').unwrap_or((shown, ""));
        let unit = if unit.is_empty() { 1.0 } else { 1_000.0 };
        (number.parse::<f64>().unwrap() * unit) as u64
    };
    (figure("keys_looked_up"), figure("keys_walked"))
}

async fn bed() -> Bed {
    let bed = Bed::new();
    for namespace in ["a", "b"] {
        for n in 0..100 {
            bed.put(namespace, &format!("img/{n:03}"), &[n as f32])
                .await;
            bed.put(namespace, &format!("txt/{n:03}"), &[n as f32])
                .await;
        }
    }
    bed
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_that_are_named_are_looked_up_and_ranges_walked() {
    let bed = bed().await;
    let cases = [
        ("namespace = 'a' AND key = 'img/007'", 1, (1, 0)),
        (
            "namespace = 'a' AND key IN ('img/001', 'img/002', 'img/003', 'img/004', 'none')",
            4,
            (5, 0),
        ),
        (
            "namespace = 'a' AND (key = 'img/001' OR key = 'txt/001')",
            2,
            (2, 0),
        ),
        ("key = 'img/007'", 2, (2, 0)),
        ("namespace = 'none' AND key = 'img/007'", 0, (1, 0)),
        ("namespace = 'a' AND key LIKE 'img/%'", 100, (0, 100)),
        ("namespace = 'a' AND key LIKE 'img/00_'", 10, (0, 10)),
        (
            "namespace = 'a' AND starts_with(key, 'img/01')",
            10,
            (0, 10),
        ),
        (
            "namespace = 'a' AND key >= 'img/010' AND key < 'img/020'",
            10,
            (1, 10),
        ),
        (
            "namespace = 'a' AND key > 'img/010' AND key <= 'img/020'",
            10,
            (0, 10),
        ),
        (
            "namespace = 'a' AND key BETWEEN 'img/098' AND 'txt/001'",
            4,
            (1, 3),
        ),
        ("namespace = 'a'", 200, (0, 200)),
        ("namespace LIKE 'b%' AND bytes = 4", 200, (0, 200)),
        ("namespace <> 'a'", 200, (0, 400)),
        ("key = 'img/007' AND key = 'img/008'", 0, (0, 0)),
    ];
    for (condition, count, expected) in cases {
        let found = bed
            .rows(&format!("SELECT key FROM tensors WHERE {condition}"))
            .await;
        assert_eq!(found.len(), count, "{condition}");
        let text = format!("SELECT key FROM tensors WHERE {condition}");
        if count > 0 || expected != (0, 0) {
            assert_eq!(done(&bed, &text).await, expected, "{condition}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn explain_says_how_tensors_are_found() {
    let bed = bed().await;
    let plan = bed
        .one("EXPLAIN SELECT bytes FROM tensors WHERE namespace = 'a' AND key LIKE 'img/%' LIMIT 3")
        .await;
    assert!(
        plan.contains(r#"walk, namespaces=in ["a"], keys=prefix "img/""#),
        "{plan}"
    );
    let plan = bed.one("EXPLAIN SELECT bytes FROM tensors LIMIT 3").await;
    assert!(
        plan.contains("namespaces=all, keys=all, columns=[bytes], limit=3"),
        "{plan}"
    );
    let plan = bed
        .one("EXPLAIN SELECT bytes FROM tensors WHERE key = 'a'")
        .await;
    assert!(
        plan.contains(r#"look-up, namespaces=all, keys=in ["a"]"#),
        "{plan}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_stops_the_walk() {
    let bed = Bed::new();
    for n in 0..5_000 {
        bed.put("a", &format!("{n:05}"), &[n as f32]).await;
    }
    let (_, walked) = done(&bed, "SELECT key FROM tensors LIMIT 5").await;
    assert!(walked <= 1_000, "{walked} keys");
    // With a condition that is asked of each row, too.
    let (_, walked) = done(&bed, "SELECT key FROM tensors WHERE bytes = 4 LIMIT 5").await;
    assert!(walked <= 3_000, "{walked} keys");
    assert_eq!(
        bed.rows("SELECT key FROM tensors LIMIT 5 OFFSET 3")
            .await
            .len(),
        5
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_put_during_a_walk_is_not_in_it() {
    let bed = Bed::new();
    for n in 0..3_000 {
        bed.put("a", &format!("{n:05}"), &[1.0]).await;
    }
    let plan = bed
        .sql
        .plan(&Tenant::public(), "SELECT key FROM tensors")
        .await
        .unwrap();
    let mut answer = bed
        .sql
        .run(&plan, |batch| Ok(batch.num_rows()))
        .await
        .unwrap();
    let mut all = answer.next().await.unwrap().unwrap();
    for n in 3_000..3_100 {
        bed.put("a", &format!("{n:05}"), &[1.0]).await;
    }
    while let Some(rows) = answer.next().await.unwrap() {
        all += rows;
    }
    assert_eq!(all, 3_000);
}
