//! Queries that would never end, beside clients that read.

use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow_flight::error::FlightError;
use bowstring_tests::{Server, pause, until};
use bowstring_wire::dtype::DType;
use serde_json::json;
use tonic::Code;

use super::scaled;
use crate::space::Space;
use crate::sql::{client, query};
use crate::tensor::{Tensor, bulk};

/// What a query may take.
const TIME: Duration = Duration::from_secs(1);
/// How many ask at once: more than the server runs.
const CLIENTS: usize = 10;
const QUERIES: usize = 100;
const KEYS: usize = 1_000;

/// Each is more than any machine does in its time, or has the memory for.
const RUNAWAY: [&str; 6] = [
    "SELECT count(*) FROM tensors a, tensors b, tensors c, tensors d WHERE a.key < b.key",
    "SELECT a.key || b.key || c.key AS k FROM tensors a, tensors b, tensors c ORDER BY k LIMIT 10",
    "SELECT array_agg(a.key || b.key || c.key) FROM tensors a, tensors b, tensors c",
    "SELECT sum(cosine_similarity(a.value, b.value)) FROM tensors a, tensors b, tensors c",
    "WITH RECURSIVE n AS (SELECT 1 AS i UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n",
    "SELECT count(DISTINCT regexp_replace(a.key || b.key || c.key, '(.*)(.*)', 'x')) FROM tensors a, tensors b, tensors c",
];

/// Reads one key after the other until `asking` is done, each with the bytes that were put; gives what each took, and what
/// `asking` gave.
async fn reading<T: Send + 'static>(
    space: &Space,
    expected: &[Tensor],
    asking: impl Future<Output = T> + Send + 'static,
) -> (Vec<Duration>, T) {
    let asking = tokio::spawn(asking);
    let mut took = Vec::new();
    while !asking.is_finished() {
        let key = took.len() * 7 % KEYS;
        let began = now();
        let got = space.tensor(&format!("k{key:04}")).await;
        took.push(began.elapsed());
        assert_eq!(got.expect("a tensor"), expected[key]);
    }
    took.sort();
    (took, asking.await.expect("nothing wrong was seen"))
}

#[tokio::test(flavor = "multi_thread")]
async fn queries_that_run_away_end_and_who_reads_reads_on() {
    let builder = Server::builder().memory("256MiB");
    let builder = builder.variable("BOWSTRING_SQL_TIMEOUT", format!("{}s", TIME.as_secs()));
    let server = Arc::new(builder.start());
    let space = Space::on(Arc::clone(&server), "runaway").await;
    let keys: Vec<String> = (0..KEYS).map(|key| format!("k{key:04}")).collect();
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    let all = Tensor::sample(DType::Float32, &[KEYS, 64]);
    space.bulk(bulk(&keys, &all)).await.expect("rows");
    let expected = all.cells();

    let (quiet, ()) = reading(&space, &expected, pause(TIME * 5)).await;

    let asked = Arc::clone(&server);
    let asking = async move {
        let asks = (0..CLIENTS).map(|nth| ask(Arc::clone(&asked), nth, scaled(QUERIES) / CLIENTS));
        let longest = futures::future::join_all(asks).await;
        longest.into_iter().max().expect("a client")
    };
    let (beside, longest) = reading(&space, &expected, asking).await;
    let p99 = |took: &[Duration]| took[took.len() * 99 / 100];
    eprintln!(
        "{} queries ended, the longest after {longest:?} of {TIME:?}; a read's p99 {:?} of {} alone and {:?} of {} beside them",
        scaled(QUERIES),
        p99(&quiet),
        quiet.len(),
        p99(&beside),
        beside.len(),
    );
    let is_idle = async || {
        let used = server.stats().await.memory.accounts["sql"].used_bytes;
        (used == 0).then_some(())
    };
    until("no memory of a query", is_idle).await;
    let mut client = client(&server).await;
    query(&mut client, "SELECT 1").await.expect("a turn");
    let deleted = space.act("delete", &json!({"prefix": ""})).await;
    assert_eq!(deleted.expect("an answer")["deleted"], KEYS);
}

/// Gives how long the longest took.
async fn ask(server: Arc<Server>, nth: usize, count: usize) -> Duration {
    let mut client = client(&server).await;
    let mut longest = Duration::ZERO;
    for turn in 0..count {
        let text = RUNAWAY[(nth + turn) % RUNAWAY.len()];
        let began = now();
        let ended = query(&mut client, text).await;
        longest = longest.max(began.elapsed());
        match ended {
            Err(FlightError::Tonic(status)) => {
                let expected = [Code::DeadlineExceeded, Code::ResourceExhausted];
                assert!(expected.contains(&status.code()), "{text}: {status}");
            }
            ended => panic!("{text}: {ended:?}"),
        }
    }
    longest
}

#[expect(clippy::disallowed_methods, reason = "tests have no clock handle")]
fn now() -> Instant {
    Instant::now()
}
