//! Requests that are never ended, and answers larger than their request: what they hold is charged and
//! limited like everything else, and others are served beside them.

use bowstring_client::{Connection, Descriptor, Shape};
use bowstring_tests::Server;
use bowstring_wire::dtype::DType;
use bytes::Bytes;
use prost::Message as _;
use serde_json::json;

use super::mutated::put_and_get;
use super::raw::{Open, Raw, prefixed};
use super::state::{InUse, act_raw, charged_bytes, ledger_used, wipe};
use super::stream::{field, put_varint};

const MEMORY: u64 = 256 << 20;
/// What the machine may charge.
const CHARGED_MAX: u64 = MEMORY / 100 * 102 + (64 << 20);
/// What clients without a limit of their own are sent.
const LARGE_MESSAGE: u64 = 16 << 20;
/// As many as a server of that size takes, but for those of the test itself.
const CONNECTIONS: usize = 100;
const CALLS_A_CONNECTION: usize = 250;
/// Requests of almost the largest size, and what of each is sent.
const LARGE: usize = 200;
const SENT_BYTES: usize = 15 << 20;

#[tokio::test]
async fn calls_that_are_never_ended_stay_within_the_memory() {
    let server = full_server();
    let mut bystander = Raw::connect(server.address()).await;
    let (mut connections, mut calls): (Vec<Raw>, Vec<Open>) = (Vec::new(), Vec::new());
    let mut most = 0;
    for number in 0..CONNECTIONS {
        let mut raw = Raw::connect(server.address()).await;
        for _ in 0..CALLS_A_CONNECTION {
            calls.push(raw.open("DoPut").await);
        }
        connections.push(raw);
        if number % 10 == 0 {
            most = most.max(within_the_memory(&server));
            put_and_get(&mut bystander, &format!("beside-{number}")).await;
        }
    }
    put_and_get(&mut Raw::connect(server.address()).await, "newcomer").await;
    most = most.max(within_the_memory(&server));
    drop((calls, connections));
    put_and_get(&mut bystander, "after").await;
    all_is_back(&server, &mut bystander).await;
    let begun = CONNECTIONS * CALLS_A_CONNECTION;
    eprintln!(
        "calls that are never ended: {begun}; at most {} MiB charged",
        most >> 20
    );
}

#[tokio::test]
async fn requests_that_are_half_sent_stay_within_the_memory() {
    let server = full_server();
    let mut bystander = Raw::connect(server.address()).await;
    let filler = Bytes::from(vec![b' '; 1 << 20]);
    let verbs = ["DoPut", "DoGet", "DoAction", "GetFlightInfo"];
    let (mut connections, mut calls) = (Vec::new(), Vec::new());
    let mut most = 0;
    for number in 0..LARGE {
        if number % 25 == 0 {
            connections.push(Raw::connect(server.address()).await);
        }
        let raw = connections.last_mut().expect("a connection");
        let mut call = raw.open(verbs[number % verbs.len()]).await;
        call.send(Bytes::from(opening()), false);
        for _ in 0..SENT_BYTES / filler.len() {
            call.send(filler.clone(), false);
        }
        calls.push(call);
        if number % 10 == 0 {
            most = most.max(within_the_memory(&server));
            put_and_get(&mut bystander, &format!("beside-{number}")).await;
        }
    }
    put_and_get(&mut Raw::connect(server.address()).await, "newcomer").await;
    most = most.max(within_the_memory(&server));
    let mut refused = 0;
    for mut call in calls {
        call.send(Bytes::new(), true);
        let answer = call.answer().await;
        assert!(answer.status > Some(0), "{answer:?}");
        refused += usize::from(answer.code == "resource_exhausted");
    }
    assert!(refused > LARGE / 2, "only {refused} were refused");
    drop(connections);
    all_is_back(&server, &mut bystander).await;
    eprintln!(
        "half-sent requests: {LARGE} of {} MiB, {refused} refused for want of room; at most {} MiB charged",
        SENT_BYTES >> 20,
        most >> 20
    );
}

#[tokio::test]
async fn small_requests_for_large_answers_stay_within_the_memory() {
    let server = full_server();
    let mut raw = Raw::connect(server.address()).await;
    let metadata: serde_json::Map<String, serde_json::Value> = (0..15)
        .map(|number| (format!("name-{number}"), "x".repeat(1000).into()))
        .collect();
    let command = json!({"key": "wordy", "mode": "replace", "metadata": metadata}).to_string();
    let shape = Shape::new(&[1]).expect("a shape");
    connect(&server)
        .put(
            Descriptor::Command(command.as_bytes()),
            DType::UInt8,
            &shape,
            &[7],
        )
        .expect("a small tensor");
    let keys = vec!["wordy"; 10_000];
    let many = vec!["wordy"; 100_000];
    let requests = [
        (
            "DoGet",
            json!({"keys": keys, "with": ["metadata", "checksum", "version"], "max_message_bytes": LARGE_MESSAGE}),
        ),
        (
            "DoGet",
            json!({"keys": keys, "layout": "opaque", "with": ["metadata"], "max_message_bytes": LARGE_MESSAGE}),
        ),
        ("DoGet", json!({"keys": keys})),
    ];
    let mut most = 0;
    for (verb, ticket) in requests {
        let ticket = ticket.to_string().into();
        let ticket = arrow_flight::Ticket { ticket }.encode_to_vec();
        let mut call = raw.open(verb).await;
        call.send(Bytes::from(prefixed(&ticket)), true);
        let answer = call.answer().await;
        assert!(answer.is_ok(), "{verb}: {} {}", answer.code, answer.message);
        most = most.max(within_the_memory(&server));
    }
    for action in ["describe", "exists"] {
        let body = json!({"keys": many}).to_string();
        let answer = act_raw(&mut raw, action, body.as_bytes()).await;
        let told = answer.is_ok() || answer.code == "resource_exhausted";
        assert!(told, "{action}: {} {}", answer.code, answer.message);
        most = most.max(within_the_memory(&server));
    }
    let peak = server.resident().peak;
    assert!(
        peak <= CHARGED_MAX + (16 << 20),
        "{} MiB at the peak",
        peak >> 20
    );
    eprintln!(
        "large answers: at most {} MiB charged, {} MiB at the peak",
        most >> 20,
        peak >> 20
    );
}

/// A server whose memory is used up by tensors.
fn full_server() -> Server {
    let server = Server::start();
    let tensor = vec![1; 8 << 20];
    let shape = Shape::new(&[8 << 20]).expect("a shape");
    let mut connection = connect(&server);
    for number in 0..40 {
        let key = format!("full-{number}");
        connection
            .put(
                Descriptor::Path(&["full", &key]),
                DType::UInt8,
                &shape,
                &tensor,
            )
            .expect("an eviction at most");
    }
    server
}

fn connect(server: &Server) -> Connection {
    let address = server.uri().parse().expect("an address");
    Connection::connect(&address).expect("a connection")
}

/// A message whose first field is long, and of which little comes.
fn opening() -> Vec<u8> {
    let mut message = Vec::new();
    put_varint(&mut message, field::DESCRIPTOR << 3 | 2);
    put_varint(&mut message, SENT_BYTES as u64 + 100);
    message.push(b'{');
    let mut request = prefixed(&message);
    let length = u32::try_from(SENT_BYTES + 200).expect("some MiB");
    request[1..5].copy_from_slice(&length.to_be_bytes());
    request
}

fn within_the_memory(server: &Server) -> u64 {
    #[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
    let memory = MEMORY as f64;
    assert!(ledger_used(&server.metrics()) <= memory);
    let charged = charged_bytes(server);
    assert!(charged <= CHARGED_MAX, "{} MiB are charged", charged >> 20);
    charged
}

/// Nothing is held once everybody has gone, and everything can go.
async fn all_is_back(server: &Server, raw: &mut Raw) {
    wipe(raw).await;
    let at_rest = InUse::at_rest(server).await;
    assert_eq!((at_rest.arena, at_rest.entries), (0, 0));
    // Guarantees, the shared part, and what is kept for calls to come.
    assert!(at_rest.wire <= (16 << 20) + (3 << 20), "{at_rest:?}");
}
