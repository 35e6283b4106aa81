//! What operators ask, in the words of `docs/sql.md`: of servers that were filled so that the answers are known.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use arrow_array::RecordBatch;
use arrow_flight::sql::client::FlightSqlServiceClient;
use bowstring_tests::{Server, channel, pause, until};
use bowstring_wire::dtype::DType;
use futures::StreamExt as _;
use serde_json::json;
use tempfile::TempDir;

use crate::space::{Space, encoded};
use crate::sql::{Client, client, page, query, rows, statements};
use crate::tensor::Tensor;

/// A question by words that no other has, the columns that are known beforehand, and the rows in these.
type Answer = (
    &'static str,
    &'static [&'static str],
    &'static [&'static str],
);

const MEMORY: &str = "FROM memory";
const SLOW: &str = "FROM slow_requests";
const TOTAL: &str = "sum(total_bytes)";
/// Of a cache whose clock can be set, in the room of SQL itself.
const SINCE_MONDAY: &str = "date_trunc('week'";

/// Of [`fill`].
const ANSWERS: &[Answer] = &[
    (
        "WHERE tier = 'hot' GROUP BY 1, 2",
        &["namespace", "dtype", "entries", "bytes"],
        &[
            "large float32 2 33554432",
            "small uint8 2 150",
            "unread float64 1 32",
            "limited float32 1 16",
            "small int8 1 4",
        ],
    ),
    (
        "FROM evictions ORDER BY evicted_at",
        &["namespace", "key", "bytes", "why", "went_to"],
        &["limited b 16 limit nowhere", "limited a 16 limit nowhere"],
    ),
    (
        "GROUP BY 1, 2, 3",
        &["namespace", "why", "went_to", "evicted", "bytes"],
        &["limited limit nowhere 2 32"],
    ),
    (
        "FROM evictions e JOIN",
        &["namespace", "key", "back"],
        &["limited a put again"],
    ),
    (
        "WHERE hits = 0",
        &["namespace", "entries", "bytes", "misses"],
        &["unread 1 32 1", "limited 1 16 0"],
    ),
    (
        "WHERE pins > 0",
        &["namespace", "key", "bytes"],
        &["small a 100"],
    ),
    (
        "WHERE expires_at < now()",
        &["namespace", "key", "bytes"],
        &["small soon 50"],
    ),
    (
        "FROM loads",
        &["namespace", "entries", "bytes", "declared_bytes"],
        // Nothing is declared of the second.
        &["large 1 7 1000", "small 0 0 "],
    ),
    // The one that asks comes first.
    ("FROM connections", &["transport"], &["unix", "tcp"]),
    ("live_share < 0.5", &["segment"], &[]),
];

/// Of [`fill_below`].
const ANSWERS_BELOW: &[Answer] = &[
    (
        "WHERE tier = 'hot' GROUP BY 1, 2",
        &["namespace", "dtype", "entries", "bytes"],
        &["tiny float32 1 16"],
    ),
    (
        "FROM evictions ORDER BY evicted_at",
        &["namespace", "key", "bytes", "why", "went_to"],
        &["tiny t 16 evict cold", "kept big 65536 evict cold"],
    ),
    (
        "GROUP BY 1, 2, 3",
        &["namespace", "why", "went_to", "evicted", "bytes"],
        &["kept evict cold 1 65536", "tiny evict cold 1 16"],
    ),
    (
        "FROM evictions e JOIN",
        &["namespace", "key", "back"],
        &["tiny t brought up"],
    ),
    // Its file says more of the tensor than the tensor has bytes.
    (
        "live_share < 0.5",
        &["live_entries", "live_bytes"],
        &["1 16"],
    ),
    (TOTAL, &["live_bytes"], &["65552"]),
];

/// What the page has operators ask.
fn questions() -> Vec<String> {
    let page = page();
    let (_, section) = page.split_once("\n## What operators ask\n").unwrap();
    statements(section.split("\n## ").next().unwrap())
}

/// The one question that says this.
fn question(words: &str) -> String {
    let mut questions = questions();
    questions.retain(|text| text.contains(words));
    assert_eq!(questions.len(), 1, "{words}: {questions:?}");
    questions.remove(0)
}

/// The answer to a question, in these columns.
async fn told(client: &mut Client, words: &str, columns: &[&str]) -> Vec<String> {
    let text = question(words);
    let answer = query(client, &text).await;
    let answer = answer.unwrap_or_else(|error| panic!("{text}: {error}"));
    let of_columns = |batch: &RecordBatch| {
        let at = columns
            .iter()
            .map(|name| batch.schema_ref().index_of(name).unwrap());
        batch.project(&at.collect::<Vec<_>>()).unwrap()
    };
    let answer: Vec<RecordBatch> = answer.iter().map(of_columns).collect();
    rows(&answer)
}

async fn check(client: &mut Client, answers: &[Answer]) {
    for (words, columns, expected) in answers {
        let told = told(client, words, columns).await;
        assert_eq!(told, *expected, "{words}");
    }
}

#[test]
fn every_question_has_an_answer() {
    let answers = ANSWERS.iter().chain(ANSWERS_BELOW);
    let words = answers.map(|(words, ..)| *words);
    let words: BTreeSet<&str> = words.chain([MEMORY, SLOW, SINCE_MONDAY]).collect();
    let answered: BTreeSet<String> = words.into_iter().map(question).collect();
    assert_eq!(answered, questions().into_iter().collect());
}

/// What comes next has a later time.
async fn a_moment() {
    pause(Duration::from_millis(5)).await;
}

async fn fill(space: &mut Space) {
    "large".clone_into(&mut space.namespace);
    for key in ["first", "second"] {
        let tensor = Tensor::sample(DType::Float32, &[4 << 20]);
        space.put(key, &tensor).await.unwrap();
        space.tensor(key).await.unwrap();
    }
    let load = space.act("begin_load", &json!({"size_bytes": 1000})).await;
    let load = load.unwrap()["load_id"].clone();
    let members = json!({"key": "coming", "load_id": load});
    let tensor = Tensor::sample(DType::UInt8, &[7]);
    space.put_with(&members, &tensor).await.unwrap();
    let ended = space.act("begin_load", &json!({})).await.unwrap();
    let ended = json!({"load_id": ended["load_id"]});
    space.act("abort_load", &ended).await.unwrap();

    a_moment().await;
    "small".clone_into(&mut space.namespace);
    space.act("begin_load", &json!({})).await.unwrap();
    for (key, bytes, ttl_ms) in [("a", 100, 7_200_000), ("soon", 50, 1_800_000)] {
        let members = json!({"key": key, "ttl_ms": ttl_ms});
        let tensor = Tensor::sample(DType::UInt8, &[bytes]);
        space.put_with(&members, &tensor).await.unwrap();
    }
    space.tensor("a").await.unwrap();
    space.act("pin", &json!({"keys": ["a"]})).await.unwrap();
    let batch = Tensor::sample(DType::Int8, &[4]).batch();
    let messages = encoded(space.path("late"), batch.schema(), vec![batch]);
    let late = messages.then(async |message| {
        pause(Duration::from_millis(300)).await;
        message
    });
    space.put_messages(late).await.unwrap();

    "limited".clone_into(&mut space.namespace);
    let one = json!({"settings": {"entries_max": 1}});
    space.act("namespace_set", &one).await.unwrap();
    for key in ["a", "b", "a"] {
        let tensor = Tensor::sample(DType::Float32, &[4]);
        space.put(key, &tensor).await.unwrap();
        a_moment().await;
    }

    "unread".clone_into(&mut space.namespace);
    let tensor = Tensor::sample(DType::Float64, &[4]);
    space.put("x", &tensor).await.unwrap();
    space.tensor("none").await.unwrap_err();
}

#[tokio::test]
async fn what_operators_ask_of_memory_is_answered() {
    let dir = TempDir::new().unwrap();
    let unix = format!("unix:{}", dir.path().join("s").display());
    let server = Server::builder()
        .listen(["127.0.0.1:0".to_owned(), unix])
        // What is set aside for connections is less than the tensors.
        .flag("--connections-max", "16")
        .flag("--slow-request", "200ms")
        .start();
    let server = Arc::new(server);
    let mut space = Space::on(Arc::clone(&server), "asked").await;
    fill(&mut space).await;
    let channel = channel(&server.uris()[1]).await.unwrap();
    let mut client = FlightSqlServiceClient::new(channel);
    check(&mut client, ANSWERS).await;

    let accounts = told(&mut client, MEMORY, &["account", "used_bytes"]).await;
    assert_eq!(accounts.len(), 7);
    let (most, used) = accounts[0].split_once(' ').unwrap();
    assert_eq!(most, "arena", "{accounts:?}");
    assert!(used.parse::<u64>().unwrap() >= 32 << 20, "{accounts:?}");

    // Others may have been slow on a machine that has much to do.
    let mut slow = told(&mut client, SLOW, &["verb", "code", "namespace", "key"]).await;
    slow.retain(|row| row.ends_with(" late"));
    assert_eq!(slow, ["DoPut ok small late"]);
}

async fn fill_below(space: &mut Space) {
    let tensors = [
        ("kept", "big", Tensor::sample(DType::UInt8, &[64 << 10])),
        ("tiny", "t", Tensor::sample(DType::Float32, &[4])),
    ];
    // One after the other, so that each has a segment of its own.
    for (namespace, key, tensor) in tensors {
        namespace.clone_into(&mut space.namespace);
        space.put(key, &tensor).await.unwrap();
        let evicted = space.act("evict", &json!({"keys": [key]})).await;
        assert_eq!(evicted.unwrap()["entries"], 1, "{key}");
        a_moment().await;
    }
}

/// Bytes of the segments' files.
fn segment_bytes(store: &Path) -> u64 {
    let files = fs::read_dir(store.join("segments")).unwrap();
    let files = files.map(|file| file.unwrap());
    let segments = files.filter(|file| file.path().extension().is_some_and(|it| it == "arrow"));
    segments.map(|file| file.metadata().unwrap().len()).sum()
}

#[tokio::test]
async fn what_operators_ask_of_the_cold_tier_is_answered() {
    let dir = TempDir::new().unwrap();
    let store = dir.path().join("store");
    let server = Server::builder()
        .flag("--cold", format!("file://{}", store.display()))
        .flag("--state-dir", dir.path().join("state"))
        .start();
    let server = Arc::new(server);
    let mut space = Space::on(Arc::clone(&server), "asked").await;
    fill_below(&mut space).await;
    let mut client = client(&server).await;
    until("reads bring it up", async || {
        space.tensor("t").await.unwrap();
        let back = told(&mut client, "FROM evictions e JOIN", &["key"]).await;
        (back == ["t"]).then_some(())
    })
    .await;
    until("segments and their sizes", async || {
        let whole = "SELECT count(*) FROM segments WHERE total_bytes IS NOT NULL";
        let whole = query(&mut client, whole).await.unwrap();
        (rows(&whole) == ["2"]).then_some(())
    })
    .await;
    check(&mut client, ANSWERS_BELOW).await;
    let total = told(&mut client, TOTAL, &["total_bytes"]).await;
    let total: u64 = total[0].parse().unwrap();
    // Up to the end of the last tensor: not what a file of Arrow has behind it.
    assert!((65_552..segment_bytes(&store)).contains(&total), "{total}");
}
