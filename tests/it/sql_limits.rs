//! How queries of SQL end before they are done: cancelled, left by their client, out of time, rows or memory; and the disk
//! that sorts go on on.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_flight::decode::FlightRecordBatchStream;
use arrow_flight::error::FlightError;
use arrow_flight::flight_service_client::FlightServiceClient;
use arrow_flight::sql::{
    ActionCancelQueryRequest, ActionCancelQueryResult, Any, ProstMessageExt, SqlInfo,
};
use arrow_flight::{
    Action, CancelFlightInfoRequest, CancelFlightInfoResult, CancelStatus, FlightEndpoint,
    FlightInfo, RenewFlightEndpointRequest,
};
use bowstring_tests::{Cli, Server, until, within};
use futures::TryStreamExt;
use prost::Message;
use tonic::Code;
use tonic::transport::Channel;

use crate::sql::{Client, client, query, rows};

const STREAMING: &str = "SELECT * FROM generate_series(1, 1000000000000)";
const THINKING: &str = "SELECT count(*) FROM generate_series(1, 1000000000000)";

async fn info(client: &mut Client, text: &str) -> FlightInfo {
    let info = client.execute(text.to_owned(), None).await;
    info.unwrap()
}

async fn reading(client: &mut Client, info: &FlightInfo) -> FlightRecordBatchStream {
    let ticket = info.endpoint[0].ticket.clone().unwrap();
    client.do_get(ticket).await.unwrap()
}

/// How an answer ends that does not come to its end.
async fn failed(mut stream: FlightRecordBatchStream) -> tonic::Status {
    let ends = async {
        loop {
            match stream.try_next().await {
                Ok(Some(_)) => {}
                Ok(None) => panic!("all of it"),
                Err(FlightError::Tonic(status)) => return *status,
                Err(error) => panic!("{error}"),
            }
        }
    };
    within("its end", ends).await
}

async fn act(server: &Server, name: &str, body: Vec<u8>) -> Result<Vec<u8>, tonic::Status> {
    let mut client: FlightServiceClient<Channel> = server.client().await;
    let answer = client.do_action(Action::new(name, body)).await?;
    let results: Vec<_> = answer.into_inner().try_collect().await?;
    Ok(results[0].body.to_vec())
}

async fn cancel(server: &Server, info: &FlightInfo) -> CancelStatus {
    let request = CancelFlightInfoRequest::new(info.clone());
    let body = act(server, "CancelFlightInfo", request.encode_to_vec());
    let body = within("its cancelling", body).await.unwrap();
    CancelFlightInfoResult::decode(&*body).unwrap().status()
}

/// Until nobody asks and nothing is kept.
async fn idle(server: &Server) {
    let is_idle = async || {
        let stats = server.stats().await;
        let used = stats.memory.accounts["sql"].used_bytes;
        (used == 0 && stats.requests["DoGet"].in_flight == 0).then_some(())
    };
    until("no query and no memory of one", is_idle).await;
}

/// The scheduler's policy for each thread of a process that has this name.
fn policies(pid: u32, thread: &str) -> Vec<i32> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let tasks = tasks.map(|task| task.unwrap().path());
    let named =
        tasks.filter(|task| fs::read_to_string(task.join("comm")).unwrap().trim() == thread);
    named
        .map(|task| {
            let stat = fs::read_to_string(task.join("stat")).unwrap();
            // The name, which may have spaces in it, is the second field, and the policy the 41st.
            let (_, behind) = stat.rsplit_once(')').unwrap();
            behind.split_whitespace().nth(38).unwrap().parse().unwrap()
        })
        .collect()
}

#[tokio::test]
async fn queries_have_threads_at_idle_priority_and_walks_others() {
    const OTHER: i32 = 0;
    const IDLE: i32 = 5;
    let server = Server::start();
    let mut client = client(&server).await;
    let counted = query(&mut client, "SELECT count(*) FROM tensors").await;
    assert_eq!(rows(&counted.unwrap()), ["0"]);
    for (thread, policy) in [("sql", IDLE), ("sql-walk", OTHER), ("bowstring", OTHER)] {
        let policies = policies(server.pid(), thread);
        assert!(!policies.is_empty(), "{thread}");
        assert!(
            policies.iter().all(|it| *it == policy),
            "{thread}: {policies:?}"
        );
    }
}

#[tokio::test]
async fn a_query_is_cancelled_by_its_info_and_an_equal_one_goes_on() {
    let server = Arc::new(Server::start());
    let mut client = client(&server).await;
    let (ours, theirs) = (
        info(&mut client, STREAMING).await,
        info(&mut client, STREAMING).await,
    );
    assert_eq!(cancel(&server, &ours).await, CancelStatus::NotCancellable);
    let mut stream = reading(&mut client, &ours).await;
    let mut other = reading(&mut client, &theirs).await;
    assert!(stream.try_next().await.unwrap().is_some());
    assert_eq!(cancel(&server, &ours).await, CancelStatus::Cancelled);
    assert_eq!(failed(stream).await.code(), Code::Cancelled);
    assert_eq!(cancel(&server, &ours).await, CancelStatus::NotCancellable);
    for _ in 0..10 {
        assert!(other.try_next().await.unwrap().is_some());
    }
    drop(other);
    idle(&server).await;
    // What has ended by itself was not cancelled.
    let done = info(&mut client, "SELECT 1").await;
    let stream = reading(&mut client, &done).await;
    let batches: Vec<RecordBatch> = stream.try_collect().await.unwrap();
    assert_eq!(batches.len(), 1);
    assert_eq!(cancel(&server, &done).await, CancelStatus::NotCancellable);
}

#[tokio::test]
async fn a_query_that_thinks_is_told_that_it_was_cancelled() {
    let server = Arc::new(Server::start());
    let mut client = client(&server).await;
    let info = info(&mut client, THINKING).await;
    let stream = reading(&mut client, &info).await;
    let (status, answer) = tokio::join!(failed(stream), cancel(&server, &info));
    assert_eq!(answer, CancelStatus::Cancelled);
    assert_eq!(status.code(), Code::Cancelled);
    let said = status.message();
    assert!(
        said.contains("cancelled: the query was cancelled by its client"),
        "{said}"
    );
    idle(&server).await;
}

#[tokio::test]
async fn a_prepared_query_is_cancelled_by_the_older_action_too() {
    let server = Arc::new(Server::start());
    let mut client = client(&server).await;
    let mut statement = client.prepare(STREAMING.to_owned(), None).await.unwrap();
    let info = statement.execute().await.unwrap();
    let mut stream = reading(&mut client, &info).await;
    assert!(stream.try_next().await.unwrap().is_some());
    let request = ActionCancelQueryRequest {
        info: info.encode_to_vec().into(),
    };
    let body = request.as_any().encode_to_vec();
    let result = act(&server, "CancelQuery", body).await.unwrap();
    let result = Any::decode(&*result).unwrap();
    let result: ActionCancelQueryResult = result.unpack().unwrap().unwrap();
    assert_eq!(result.result, CancelStatus::Cancelled as i32);
    assert_eq!(failed(stream).await.code(), Code::Cancelled);
    statement.close().await.unwrap();
    idle(&server).await;
}

#[tokio::test]
async fn what_cannot_be_cancelled_or_renewed_says_so() {
    let server = Server::shared();
    let garbage = act(&server, "CancelFlightInfo", b"garbage".to_vec()).await;
    assert_eq!(garbage.unwrap_err().code(), Code::InvalidArgument);
    let garbage = act(&server, "CancelQuery", b"garbage".to_vec()).await;
    assert_eq!(garbage.unwrap_err().code(), Code::InvalidArgument);
    // Of nothing, and of what is not SQL's.
    let nothing = FlightInfo::new();
    assert_eq!(
        cancel(&server, &nothing).await,
        CancelStatus::NotCancellable
    );
    let endpoint = FlightEndpoint::new().with_ticket(arrow_flight::Ticket::new("{}"));
    let tensor = FlightInfo::new().with_endpoint(endpoint.clone());
    assert_eq!(cancel(&server, &tensor).await, CancelStatus::NotCancellable);
    let request = RenewFlightEndpointRequest::new(endpoint).encode_to_vec();
    let refused = act(&server, "RenewFlightEndpoint", request)
        .await
        .unwrap_err();
    assert_eq!(refused.code(), Code::Unimplemented);
    assert!(refused.message().contains("nothing to renew"), "{refused}");
    let mut client = client(&server).await;
    let info = client.get_sql_info(vec![SqlInfo::FlightSqlServerCancel]);
    let info = info.await.unwrap();
    let stream = reading(&mut client, &info).await;
    let batches: Vec<RecordBatch> = stream.try_collect().await.unwrap();
    assert!(rows(&batches)[0].contains("true"), "{:?}", rows(&batches));
}

#[tokio::test]
async fn a_client_that_is_killed_leaves_its_turn_and_its_memory() {
    let server = Arc::new(Server::builder().flag("--sql-concurrency", "1").start());
    // One that thinks, and one that keeps much of what it has seen.
    let keeping = "SELECT count(DISTINCT value % 100000) FROM generate_series(1, 1000000000000)";
    for text in [THINKING, keeping] {
        let mut child = Cli::new(server.uri(), ["sql", "-c", text]).spawn();
        let began = async || {
            let requests = &server.stats().await.requests;
            let in_flight = requests.get("DoGet").map_or(0, |get| get.in_flight);
            (in_flight == 1).then_some(())
        };
        until("a query of the child's", began).await;
        child.kill().unwrap();
        child.wait().unwrap();
        // There is one turn, and it is free.
        let mut client = client(&server).await;
        let one = query(&mut client, "SELECT 1 AS one").await.unwrap();
        assert_eq!(rows(&one), ["1"]);
        idle(&server).await;
    }
}

#[tokio::test]
async fn limits_are_settings() {
    let server = Server::builder()
        .flag("--sql-timeout", "5s")
        .flag("--sql-rows-max", "1000")
        .flag("--sql-memory", "2MiB")
        .flag("--sql-threads", "1")
        .variable("BOWSTRING_SQL_CONCURRENCY", "2")
        .start();
    let mut client = client(&server).await;
    let text = "SELECT name, value FROM settings WHERE name LIKE 'sql_%' ORDER BY name";
    assert_eq!(
        rows(&query(&mut client, text).await.unwrap()),
        [
            "sql_concurrency 2",
            "sql_memory 2097152",
            "sql_rows_max 1000",
            "sql_spill_dir ",
            "sql_spill_max 4294967296",
            "sql_threads 1",
            "sql_timeout 5000ms"
        ]
    );
    for (text, words) in [
        (
            THINKING,
            "deadline_exceeded: the query's time is over; limit=`sql_timeout` value_ms=`5000`",
        ),
        (STREAMING, "limit=`sql_rows_max` value=`1000`"),
    ] {
        let error = query(&mut client, text).await.unwrap_err().to_string();
        assert!(error.contains(words), "{text}: {error}");
    }
    for (flag, value) in [
        ("--sql-memory", "1TiB"),
        ("--sql-memory", "1KiB"),
        ("--sql-spill-dir", "/dev/null"),
    ] {
        let exit = Server::builder().flag(flag, value).fail();
        assert_ne!(exit.code, Some(0));
        let name = flag.trim_start_matches('-').replace('-', "_");
        assert!(exit.stderr.contains(&name), "{}", exit.stderr);
    }
}

/// More than 8 MiB, in an order that it does not come in.
const LARGE: &str =
    "SELECT (value * 7919) % 1000003 AS n, value AS m FROM generate_series(1, 1000000) ORDER BY n";

fn names(dir: &Path) -> Vec<String> {
    let names = fs::read_dir(dir).unwrap();
    let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.collect()
}

#[tokio::test]
async fn a_sort_beyond_its_memory_goes_on_in_a_directory_that_stays_empty() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("bowstring-spill-7-0"), "left").unwrap();
    fs::write(dir.path().join("other"), "kept").unwrap();
    let small = Server::builder().flag("--sql-memory", "8MiB");
    let server = small.clone().flag("--sql-spill-dir", dir.path()).start();
    assert_eq!(names(dir.path()), ["other"]);
    let mut client = client(&server).await;
    let batches = query(&mut client, LARGE).await.unwrap();
    let total: usize = batches.iter().map(RecordBatch::num_rows).sum();
    assert_eq!(total, 1_000_000);
    // A killed process leaves nothing.
    let mut server = server;
    let info = info(&mut client, LARGE).await;
    let mut stream = reading(&mut client, &info).await;
    assert!(stream.try_next().await.unwrap().is_some());
    server.kill();
    assert_eq!(names(dir.path()), ["other"]);
    let server = small.start();
    let mut client = self::client(&server).await;
    let error = query(&mut client, LARGE).await.unwrap_err().to_string();
    assert!(error.contains("sql_spill_dir"), "{error}");
}
