use std::time::Duration;

use bowstring_cache::clock::{Clock, SystemClock};
use bowstring_cache::loads::LoadSpec;
use bowstring_wire::settings::SettingsChange;

use super::*;

/// A namespace that may have no more than one entry.
async fn of_one(bed: &Bed, tenant: &Tenant, namespace: &str) {
    let namespace = Namespace::parse(namespace).unwrap();
    let limit = SettingsChange::parse(r#"{"entries_max": 1}"#).unwrap();
    let set = bed.cache.set_settings(tenant, &namespace, &limit, None);
    set.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn evictions_say_when_what_and_why_and_each_tenant_sees_its_own() {
    let bed = Bed::new();
    let (us, them) = (Tenant::public(), Tenant::parse("them").unwrap());
    of_one(&bed, &us, "ours").await;
    of_one(&bed, &them, "theirs").await;
    bed.put("ours", "a", &[1.0]).await;
    let id = Id::public(Namespace::parse("ours").unwrap(), Key::parse("a").unwrap());
    let version = bed.cache.peek(&id).unwrap().version();
    bed.put("ours", "b", &[1.0, 2.0]).await;
    bed.put_for(&them, "theirs", "x", &[1.0]).await;
    bed.put_for(&them, "theirs", "y", &[1.0]).await;
    assert_eq!(
        bed.one("SELECT * FROM evictions").await,
        format!("2023-11-14T22:13:20Z ours a {version} float32 4 limit nowhere")
    );
    let text = "SELECT namespace, key FROM evictions";
    let batches = bed.batches_for(&them, text).await.unwrap();
    assert_eq!(rows(&batches), ["theirs x"]);

    // Put again, it is back.
    let back = "SELECT e.key, t.version <> e.version FROM evictions e JOIN tensors t \
                ON t.namespace = e.namespace AND t.key = e.key ORDER BY e.evicted_at";
    assert_eq!(bed.one(back).await, "");
    bed.put("ours", "a", &[3.0]).await;
    assert_eq!(bed.rows(back).await, ["a true"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn loads_say_how_far_they_are_and_each_tenant_sees_its_own() {
    let bed = Bed::new();
    let (us, them) = (Tenant::public(), Tenant::parse("them").unwrap());
    let namespace = Namespace::parse("docs").unwrap();
    let begin = |tenant: &Tenant, size_bytes| {
        let spec = LoadSpec {
            replace_all: true,
            size_bytes,
        };
        bed.cache.begin_load(tenant, &namespace, spec).unwrap()
    };
    let (open, aborted, other) = (
        begin(&us, Some(1_000)),
        begin(&us, None),
        begin(&them, None),
    );
    bed.cache.abort_load(&us, &aborted).unwrap();
    assert_eq!(
        bed.rows("SELECT * FROM loads").await,
        [
            format!("{open} docs open true 0 0 1000 2023-11-14T22:13:20Z"),
            format!("{aborted} docs aborted true 0 0  2023-11-14T22:13:20Z"),
        ]
    );
    let batches = bed
        .batches_for(&them, "SELECT load_id, state FROM loads")
        .await;
    assert_eq!(rows(&batches.unwrap()), [format!("{other} open")]);
}

/// In the words of `docs/sql.md`, which asks the machine's clock for the week.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_not_read_since_monday_is_told_by_namespace() {
    const HOUR: Duration = Duration::from_secs(3600);
    let page = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/sql.md"));
    let blocks = page.split("```sql\n").skip(1);
    let blocks = blocks.filter_map(|rest| rest.split("```").next());
    let mut statements = blocks.flat_map(|block| block.split(';'));
    let text = statements.find(|text| text.contains("date_trunc('week'"));
    let text = text.unwrap().trim();

    // Before any Monday that this week may begin with.
    let then = SystemClock::new().now_ms() - 8 * 24 * 3_600_000;
    let bed = Bed::at(then, |_| {});
    bed.put("a", "old", &[1.0]).await;
    bed.put("a", "older", &[1.0, 2.0]).await;
    bed.put("a", "read", &[1.0; 100]).await;
    bed.put("b", "old", &[1.0; 10]).await;
    bed.put("c", "read", &[1.0]).await;
    // A Monday that begins during the test is none that they were not read since.
    bed.clock.advance(8 * 24 * HOUR + HOUR);
    for namespace in ["a", "c"] {
        let read = bed.cache.get(&super::changing::id(namespace, "read"));
        assert!(read.is_some());
    }
    bed.put("d", "new", &[1.0; 1_000]).await;
    assert_eq!(bed.rows(text).await, ["b 1 40", "a 2 12"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_table_cannot_say_ends_the_query_with_its_error() {
    let clock = Arc::new(ManualClock::new(NOW_MS));
    let cache = Cache::new(CacheConfig::default(), clock).unwrap();
    let table = crate::Columns::default()
        .text("tenant", |tenant: &String| tenant)
        .share("share", |_| None)
        .table("told", |tenant| match tenant.as_str() {
            "public" => Ok(vec![tenant.as_str().to_owned()]),
            _ => Err(bowstring_wire::error::Error::new(
                bowstring_wire::error::Code::PermissionDenied,
                "not you",
            )),
        });
    let sql = Sql::new(cache, vec![table], Limits::within(256 * MIB, 1)).unwrap();
    let ask = async |tenant: Tenant| {
        let plan = sql.plan(&tenant, "SELECT * FROM told").await?;
        sql.run(&plan, Ok).await?.next().await
    };
    let told = ask(Tenant::public()).await.unwrap().unwrap();
    assert_eq!(rows(&[told]), ["public "]);
    let refused = ask(Tenant::parse("other").unwrap()).await.unwrap_err();
    assert_eq!(refused.code.as_str(), "permission_denied");
}
