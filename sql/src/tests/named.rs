use arrow_array::StringArray;
use bowstring_cache::ledger::Account;
use bowstring_wire::error::Code;

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_named_tensor_is_a_constant_wherever_an_expression_may_be() {
    let bed = Bed::new();
    for (key, values) in [("x", [1.0, 0.0]), ("y", [0.0, 1.0]), ("xy", [1.0, 1.0])] {
        bed.put("m", key, &values).await;
    }
    let cases = [
        ("SELECT dot(tensor('m', 'x'), tensor('m', 'xy'))", "1.0"),
        (
            "SELECT tensor('m', 'x')['shape'], tensor('m', 'x')['dtype']",
            "[2] float32",
        ),
        (
            "SELECT key FROM tensors WHERE dot(value, tensor('m', 'x')) = 0",
            "y",
        ),
        (
            "SELECT key FROM tensors ORDER BY l2_distance(value, tensor('m', 'y')), key LIMIT 1",
            "y",
        ),
        ("SELECT max(dot(value, tensor('m', 'xy'))) FROM ns.m", "2.0"),
        (
            "SELECT a.key FROM (SELECT key, norm(tensor('m', 'x')) AS n FROM tensors) a WHERE n > 0 AND key = 'x'",
            "x",
        ),
        ("SELECT (SELECT norm(tensor('m', 'x'))) + 1", "2.0"),
        (
            "WITH q AS (SELECT tensor('m', 'y') AS v) SELECT key FROM ns.m, q WHERE dot(value, v) = 0",
            "x",
        ),
        (
            "SELECT count(*) FROM tensors WHERE key IN (SELECT key FROM tensors WHERE dot(value, tensor('m', 'y')) = 1)",
            "2",
        ),
        ("SELECT norm(slice(tensor('m', 'xy'), 0, 1))", "1.0"),
        (
            "SELECT CASE WHEN dot(value, tensor('m', 'x')) > 0 THEN 'a' END FROM tensors WHERE key = 'x'",
            "a",
        ),
    ];
    for (text, expected) in cases {
        assert_eq!(bed.one(text).await, expected, "{text}");
    }
    // The name stays, not the bytes.
    let batches = bed.batches("SELECT norm(tensor('m', 'x'))").await.unwrap();
    let name = batches[0].schema().field(0).name().clone();
    assert_eq!(name, "norm(tensor(Utf8(\"m\"),Utf8(\"x\")))");
    let plan = bed
        .one("EXPLAIN SELECT key FROM ns.m WHERE dot(value, tensor('m', 'xy')) > 0")
        .await;
    assert!(plan.contains("tensor(") && !plan.contains("803f"), "{plan}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_tensor_is_not_found_and_wrong_names_are_refused() {
    let bed = Bed::new();
    bed.put("m", "x", &[1.0]).await;
    for text in [
        "SELECT norm(tensor('m', 'none'))",
        "SELECT norm(tensor('none', 'x')) FROM tensors",
        "SELECT key FROM ns.m ORDER BY dot(value, tensor('m', 'none'))",
    ] {
        let error = bed.error(text).await;
        assert_eq!(error.code, Code::NotFound, "{text}: {error}");
        assert!(error.to_string().contains("`none`"), "{error}");
    }
    for text in [
        "SELECT norm(tensor('m'))",
        "SELECT norm(tensor('m', 'x', 'y'))",
        "SELECT norm(tensor('m', 1))",
        "SELECT norm(tensor(namespace, key)) FROM tensors",
        "SELECT norm(tensor('not a namespace', 'x'))",
        "SELECT norm(tensor('m', ''))",
    ] {
        let error = bed.error(text).await;
        assert_eq!(error.code, Code::InvalidArgument, "{text}: {error}");
    }
    // It is read when the query runs.
    let plan = bed
        .sql
        .plan(&Tenant::public(), "SELECT norm(tensor('m', 'later'))")
        .await
        .unwrap();
    bed.put("m", "later", &[3.0, 4.0]).await;
    let mut answer = bed.sql.run(&plan, Ok).await.unwrap();
    assert_eq!(rows(&[answer.next().await.unwrap().unwrap()]), ["5.0"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn its_names_may_be_parameters() {
    let bed = Bed::new();
    bed.put("m", "x", &[3.0, 4.0]).await;
    let text = "SELECT key FROM ns.m WHERE dot(value, tensor(?, ?)) = 25";
    let plan = bed.sql.plan(&Tenant::public(), text).await.unwrap();
    let names = ["m", "x"].map(|name| Arc::new(StringArray::from(vec![name])) as _);
    let row = RecordBatch::try_from_iter(["1", "2"].into_iter().zip(names)).unwrap();
    let bound = bed.sql.bind(&plan, &row).await.unwrap();
    let mut answer = bed.sql.run(&bound, Ok).await.unwrap();
    assert_eq!(rows(&[answer.next().await.unwrap().unwrap()]), ["x"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_names_its_own() {
    let bed = Bed::new();
    let other = Tenant::parse("other").unwrap();
    bed.put_for(&other, "m", "theirs", &[1.0]).await;
    let text = "SELECT norm(tensor('m', 'theirs'))";
    assert_eq!(bed.error(text).await.code, Code::NotFound);
    let theirs = bed.batches_for(&other, text).await.unwrap();
    assert_eq!(rows(&theirs), ["1.0"]);
    assert_eq!(
        rows(
            &bed.batches_for(&other, "SELECT key FROM ns.m")
                .await
                .unwrap()
        ),
        ["theirs"]
    );
    assert_eq!(
        bed.error("SELECT key FROM ns.m").await.code,
        Code::InvalidArgument
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn its_memory_is_the_querys_and_is_given_back() {
    let bed = Bed::with(|limits| limits.query_bytes = MIB);
    let small = vec![1.0; 1_000];
    let large = vec![1.0; 200_000];
    bed.put("m", "small", &small).await;
    bed.put("m", "large", &large).await;
    bed.put("m", "larger", &vec![1.0; 300_000]).await;
    let paid = || bed.cache.ledger().used_by(Account::Sql);
    for (key, bytes) in [("small", 4_000), ("large", 800_000)] {
        // An answer that is not read to its end keeps what it has.
        let text = format!("SELECT norm(tensor('m', '{key}')) FROM generate_series(1, 1000000)");
        let plan = bed.sql.plan(&Tenant::public(), &text).await.unwrap();
        assert_eq!(paid(), 0, "a plan holds nothing");
        let mut answer = bed.sql.run(&plan, Ok).await.unwrap();
        assert!(answer.next().await.unwrap().is_some());
        assert!(paid() >= bytes, "{key}: {}", paid());
        drop(answer);
        while paid() > 0 {
            tokio::task::yield_now().await;
        }
    }
    let error = bed.error("SELECT norm(tensor('m', 'larger'))").await;
    assert_eq!(error.code, Code::ResourceExhausted, "{error}");
    let both = "SELECT norm(tensor('m', 'large')) + tensor_max(slice(tensor('m', 'larger'), 0, 1))";
    assert_eq!(bed.error(both).await.code, Code::ResourceExhausted);
}
