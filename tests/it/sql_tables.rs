//! What operators ask by SQL: evictions, segments, loads, connections, slow requests, all that is counted.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bowstring_tests::{Server, channel, pause, until};
use bowstring_wire::dtype::DType;
use futures::StreamExt as _;
use serde_json::json;
use tempfile::TempDir;

use crate::space::{Space, encoded};
use crate::sql::{Client, client, query, rows};
use crate::tensor::{Tensor, bulk};

async fn ask(client: &mut Client, text: &str) -> Vec<String> {
    let answer = query(client, text).await;
    rows(&answer.unwrap_or_else(|error| panic!("{text}: {error}")))
}

async fn number(client: &mut Client, text: &str) -> u64 {
    let answer = ask(client, text).await;
    let [number] = &answer[..] else {
        panic!("{text}: {answer:?}")
    };
    number.parse().unwrap()
}

/// The names of `docs/sql.md`.
const BACK: &str = "SELECT e.key, t.version <> e.version FROM evictions e \
                    JOIN tensors t ON t.namespace = e.namespace AND t.key = e.key \
                    WHERE t.tier = 'hot' ORDER BY e.evicted_at DESC";

#[tokio::test]
async fn what_pressure_evicts_is_listed_and_what_came_back_is_found() {
    let server = Arc::new(Server::builder().memory("64MiB").start());
    let space = Space::on(Arc::clone(&server), "pressed").await;
    let mut client = client(&server).await;
    assert_eq!(ask(&mut client, "SELECT * FROM evictions").await.len(), 0);
    let tensor = Tensor::sample(DType::UInt8, &[4 << 20]);
    for n in 0..30 {
        space.put(&format!("k{n:02}"), &tensor).await.unwrap();
    }
    let told = "SELECT DISTINCT namespace, dtype, bytes, why, went_to FROM evictions";
    assert_eq!(
        ask(&mut client, told).await,
        [format!("{} uint8 4194304 room nowhere", space.namespace)]
    );
    let listed = number(&mut client, "SELECT count(*) FROM evictions").await;
    let stat = async |client: &mut Client, name: &str| {
        let text = format!("SELECT value FROM stats WHERE name = '{name}'");
        number(client, &text).await
    };
    let evicted = stat(&mut client, "evicted").await;
    assert!(evicted >= 14, "{evicted}");
    let unlisted = stat(&mut client, "evictions_unlisted").await;
    assert_eq!(listed + unlisted, evicted);
    let young = "SELECT count(*) FROM evictions WHERE evicted_at > now() - INTERVAL '1 hour' AND evicted_at <= now()";
    assert_eq!(number(&mut client, young).await, listed);

    assert_eq!(ask(&mut client, BACK).await.len(), 0);
    let first = ask(&mut client, "SELECT key FROM evictions LIMIT 1").await;
    space.put(&first[0], &tensor).await.unwrap();
    assert_eq!(
        ask(&mut client, BACK).await,
        [format!("{} true", first[0])],
        "put again"
    );
}

#[tokio::test]
async fn a_limit_of_a_namespace_is_a_reason_of_its_own() {
    let space = Space::on(Arc::new(Server::start()), "limited").await;
    let mut client = client(&space.server).await;
    space
        .act("namespace_set", &json!({"settings": {"entries_max": 2}}))
        .await
        .unwrap();
    let tensor = Tensor::sample(DType::Float32, &[4]);
    for key in ["a", "b", "c"] {
        space.put(key, &tensor).await.unwrap();
    }
    let told = format!(
        "SELECT bytes, why, went_to FROM evictions WHERE namespace = '{}'",
        space.namespace
    );
    assert_eq!(ask(&mut client, &told).await, ["16 limit nowhere"]);
}

#[tokio::test]
async fn what_is_asked_to_go_goes_to_the_cold_tier_whose_segments_are_listed() {
    let dir = TempDir::new().unwrap();
    let server = Server::builder()
        .memory("64MiB")
        .flag("--cold", format!("file://{}/store", dir.path().display()))
        .flag("--state-dir", dir.path().join("state"))
        .start();
    let server = Arc::new(server);
    let space = Space::on(Arc::clone(&server), "asked").await;
    let mut client = client(&server).await;
    assert_eq!(ask(&mut client, "SELECT * FROM segments").await.len(), 0);
    let tensors = Tensor::sample(DType::Float32, &[2, 1_000]);
    space.bulk(bulk(&["a", "b"], &tensors)).await.unwrap();
    let reply = space.act("evict", &json!({"keys": ["a", "b"]})).await;
    assert_eq!(reply.unwrap()["entries"], 2);
    let told = "SELECT key, bytes, why, went_to FROM evictions ORDER BY key";
    assert_eq!(
        ask(&mut client, told).await,
        ["a 4000 evict cold", "b 4000 evict cold"]
    );
    let segments = "SELECT sum(live_entries), sum(live_bytes) > 0, min(live_share) > 0, \
                    max(live_share) <= 1 FROM segments";
    until("a segment and its size", async || {
        let told = ask(&mut client, segments).await;
        (told == ["2 true true true"]).then_some(())
    })
    .await;

    assert_eq!(ask(&mut client, BACK).await.len(), 0);
    until("reads bring it up", async || {
        space.tensor("a").await.unwrap();
        let back = ask(&mut client, BACK).await;
        (back == ["a false"]).then_some(())
    })
    .await;
}

#[tokio::test]
async fn loads_are_listed_from_open_to_their_end() {
    let space = Space::new("loaded").await;
    let mut client = client(&space.server).await;
    let begin = async |members| {
        let reply = space.act("begin_load", &members).await.unwrap();
        reply["load_id"].as_str().unwrap().to_owned()
    };
    let kept = begin(json!({"size_bytes": 1000})).await;
    let dropped = begin(json!({"replace_all": true})).await;
    let open = begin(json!({})).await;
    let tensor = Tensor::sample(DType::Float32, &[4]);
    for load in [&kept, &open] {
        let members = json!({"key": "k", "load_id": load});
        space.put_with(&members, &tensor).await.unwrap();
    }
    for (action, load) in [("commit_load", &kept), ("abort_load", &dropped)] {
        space.act(action, &json!({"load_id": load})).await.unwrap();
    }
    let told = format!(
        "SELECT load_id, state, replace_all, entries, bytes, declared_bytes, \
         last_used_at > now() - INTERVAL '1 hour' FROM loads WHERE namespace = '{}'",
        space.namespace
    );
    assert_eq!(
        ask(&mut client, &told).await,
        [
            format!("{kept} committed false 1 16 1000 true"),
            format!("{dropped} aborted true 0 0  true"),
            format!("{open} open false 1 16  true"),
        ]
    );
    let open = json!({"load_id": open});
    space.act("abort_load", &open).await.unwrap();
}

#[tokio::test]
async fn connections_are_listed_while_they_are_there() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("s");
    let addresses = ["127.0.0.1:0".to_owned(), format!("unix:{}", path.display())];
    let server = Arc::new(Server::builder().listen(addresses).start());
    let mut client = client(&server).await;
    let told = "SELECT transport, requests > 0, sent_bytes > 0, opened_at <= now(), \
                CASE transport WHEN 'tcp' THEN starts_with(peer, '127.0.0.1:') ELSE peer LIKE 'uid=% pid=%' END \
                FROM connections ORDER BY id";
    // The query is one of its own connection's.
    assert_eq!(ask(&mut client, told).await, ["tcp true true true true"]);
    let other = channel(&server.uris()[1]).await.unwrap();
    until("the other one", async || {
        let there = ask(&mut client, told).await;
        (there == ["tcp true true true true", "unix false true true true"]).then_some(())
    })
    .await;
    drop(other);
    until("its end", async || {
        let there = ask(&mut client, told).await;
        (there == ["tcp true true true true"]).then_some(())
    })
    .await;
    let last = "SELECT max(id) FROM connections";
    let before = number(&mut client, last).await;
    let _third = server.channel().await;
    until("a new number", async || {
        (number(&mut client, last).await > before).then_some(())
    })
    .await;
}

#[tokio::test]
async fn what_was_slow_is_kept_as_the_log_has_it() {
    let server = Server::builder().flag("--slow-request", "200ms").start();
    let space = Space::on(Arc::new(server), "slow").await;
    let mut client = client(&space.server).await;
    let told = "SELECT verb, code, namespace, key, elapsed_ms > 200, room_ms + sending_ms <= elapsed_ms FROM slow_requests \
                WHERE verb = 'DoPut'";
    assert_eq!(ask(&mut client, told).await.len(), 0);
    let batch = Tensor::sample(DType::Int8, &[4]).batch();
    let messages = encoded(space.path("late"), batch.schema(), vec![batch]);
    let late = messages.then(async |message| {
        pause(Duration::from_millis(300)).await;
        message
    });
    space.put_messages(late).await.unwrap();
    until("it is kept", async || {
        let kept = ask(&mut client, told).await;
        (kept == [format!("DoPut ok {} late true true", space.namespace)]).then_some(())
    })
    .await;
    let quick = "SELECT count(*) FROM slow_requests WHERE elapsed_ms < 200 OR answered_at > now()";
    assert_eq!(number(&mut client, quick).await, 0);
}

/// A series of the metrics page, as a row of `stats` shows it.
fn shown(series: &str) -> String {
    let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
    let labels = labels.trim_end_matches('}').replace("=\"", ": ");
    let labels = labels.replace("\",", ", ").replace('"', "");
    format!("{name} {{{labels}}}")
}

#[tokio::test]
async fn stats_says_all_that_the_metrics_page_says() {
    let dir = TempDir::new().unwrap();
    let server = Server::builder()
        .flag("--cold", format!("file://{}/store", dir.path().display()))
        .flag("--state-dir", dir.path().join("state"))
        .start();
    let server = Arc::new(server);
    let space = Space::on(Arc::clone(&server), "counted").await;
    let mut client = client(&server).await;
    let answered = "SELECT value FROM stats WHERE name = 'bowstring_sql_queries_total' AND labels['end'] = 'answered'";
    assert_eq!(number(&mut client, answered).await, 0);
    assert_eq!(number(&mut client, answered).await, 1);
    let tensor = Tensor::sample(DType::Float32, &[4]);
    space.put("a", &tensor).await.unwrap();
    space.tensor("none").await.unwrap_err();

    let all =
        "SELECT name, labels FROM stats WHERE name LIKE 'bowstring_%' OR name LIKE 'process_%'";
    let rows = ask(&mut client, all).await;
    let told: BTreeSet<String> = rows.iter().cloned().collect();
    assert_eq!(told.len(), rows.len(), "none stands twice");
    let (_, page) = server.http_get("/metrics");
    let samples = page.lines().filter(|line| !line.starts_with('#'));
    let series = samples.filter_map(|line| Some(shown(line.rsplit_once(' ')?.0)));
    let series: BTreeSet<String> = series.collect();
    for series in [
        "bowstring_requests_total {verb: DoGet, code: not_found}",
        "bowstring_exchange_requests_total {op: mux.get, code: ok}",
        "bowstring_request_duration_seconds_count {verb: DoPut}",
        "bowstring_request_duration_seconds_sum {verb: DoPut}",
        "bowstring_connections {transport: tcp}",
        "bowstring_cold_entries {}",
        "bowstring_sql_rows_total {}",
        "process_cpu_seconds_total {}",
    ] {
        assert!(told.contains(series), "{series}");
    }
    assert_eq!(told, series);

    for (of, expected) in [
        ("name = 'bowstring_entries'", "1 1.0"),
        (
            "name = 'bowstring_requests_total' AND labels['verb'] = 'DoPut' AND labels['code'] = 'ok'",
            "1 1.0",
        ),
        ("name = 'entries'", "1 1.0"),
    ] {
        let text = format!("SELECT value, value_float FROM stats WHERE {of}");
        assert_eq!(ask(&mut client, &text).await, [expected], "{of}");
    }
    let took = "SELECT value_float > 0, value = floor(value_float) FROM stats \
                WHERE name = 'bowstring_request_duration_seconds_sum' AND labels['verb'] = 'DoPut'";
    assert_eq!(ask(&mut client, took).await, ["true true"]);
}

#[tokio::test]
async fn where_the_log_is_off_and_nothing_is_below_there_are_no_rows() {
    let server = Server::shared();
    let mut client = client(&server).await;
    for table in ["slow_requests", "segments"] {
        let all = format!("SELECT * FROM {table}");
        assert_eq!(ask(&mut client, &all).await.len(), 0, "{table}");
    }
}
