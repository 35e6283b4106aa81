//! Five hundred readers that do not read. What they hold is limited, the most stalled are cut off, puts
//! go on, and in the end everything is back.

use std::sync::Arc;

use bowstring_client::{Connection, Descriptor, Shape};
use bowstring_tests::{Metrics, Server, until};
use bowstring_wire::dtype::DType;
use bytes::Bytes;
use prost::Message as _;
use serde_json::json;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use super::frames::{DATA, END_HEADERS, END_STREAM, HEADERS, connect_with, frame, request};
use super::raw::{Open, Raw, prefixed};
use super::state::{charged_bytes, ledger_used};
use crate::space::Space;
use crate::tensor::{Tensor, bulk};

const MEMORY: u64 = 2 << 30;
const CHARGED_MAX: u64 = MEMORY / 100 * 102 + (64 << 20);
/// What is read, and what is put beside it.
const TENSOR_BYTES: usize = 64 << 20;
/// Tensors that the stalled readers share; they fill the memory.
const TENSORS: usize = 24;
/// Readers whose HTTP/2 windows are closed, and how many share a connection.
const STREAMS: usize = 400;
const A_CONNECTION: usize = 20;
/// Readers whose sockets are full.
const SOCKETS: usize = 100;
/// Puts of the same size beside them: twice the memory.
const PUTS: usize = 64;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stalled_readers_hold_no_more_than_they_may_and_puts_go_on() {
    let server = Server::builder().memory("2GiB").start();
    let address = server.address().to_owned();
    let tensor: Vec<u8> = (0..TENSOR_BYTES / 8)
        .flat_map(|at| {
            (at as u64)
                .wrapping_mul(0x9e37_79b9_7f4a_7c15)
                .to_le_bytes()
        })
        .collect();
    for number in 0..TENSORS {
        put(&address, &format!("read-{number}"), &tensor);
    }
    let idle_wire = wire_bytes(&server.metrics());

    let mut connections = Vec::new();
    let mut streams: Vec<Open> = Vec::new();
    for number in 0..STREAMS {
        if number % A_CONNECTION == 0 {
            connections.push(stalling_connection(&address).await);
        }
        let raw = connections.last_mut().expect("a connection");
        let mut call = raw.open("DoGet").await;
        call.send(Bytes::from(prefixed(&ticket(number % TENSORS))), true);
        streams.push(call);
    }
    let mut sockets = Vec::new();
    for number in 0..SOCKETS {
        sockets.push(stuck_socket(&address, number % TENSORS).await);
    }
    let all = (STREAMS + SOCKETS) as u64;
    until("all readers to have begun", async || {
        (server.metrics().count("bowstring_reads_open") == all).then_some(())
    })
    .await;

    let mut held_max = 0.0f64;
    for number in 0..PUTS {
        // Every fourth replaces what is being read.
        let key = match number % 4 {
            0 => format!("read-{}", number / 4),
            _ => format!("beside-{number}"),
        };
        put(&address, &key, &tensor);
        let metrics = server.metrics();
        let held = metrics.value("bowstring_readers_held_bytes");
        let limit = metrics.value("bowstring_readers_held_limit_bytes");
        assert!(held <= limit, "readers hold {held} bytes of {limit}");
        held_max = held_max.max(held / limit);
        #[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
        let memory = MEMORY as f64;
        assert!(ledger_used(&metrics) <= memory);
        let charged = charged_bytes(&server);
        assert!(charged <= CHARGED_MAX, "{charged} bytes are charged");
        read_back(&address, &key, &tensor);
    }
    let cut = server.metrics().count("bowstring_reads_cut_off_total");
    assert!(cut > 0, "nobody was cut off");
    until("the cut readers to be counted", async || {
        let metrics = server.metrics();
        let streams = metrics.count(CUT_STREAM);
        let sockets = metrics.count(CUT_CONNECTION);
        (streams > 0 && sockets > 0 && streams + sockets >= cut).then_some(())
    })
    .await;
    server.said("cut off a reader that stalled").await;
    let told = server
        .stderr()
        .matches("cut off a reader that stalled")
        .count();
    let metrics = server.metrics();
    eprintln!(
        "stalled readers: {all} began, {cut} lost what they held, {} streams were reset and {} \
         connections closed ({told} lines in the log); they held at most {:.0} % of their limit; \
         {PUTS} puts of 64 MiB went through",
        metrics.count(CUT_STREAM),
        metrics.count(CUT_CONNECTION),
        100.0 * held_max,
    );

    drop((streams, connections, sockets));
    until("everything to be back", async || {
        let metrics = server.metrics();
        let back = metrics.count("bowstring_readers_held_bytes") == 0
            && metrics.count("bowstring_reads_open") == 0
            && wire_bytes(&metrics) == idle_wire;
        back.then_some(())
    })
    .await;
    put(&address, "after", &tensor);
    read_back(&address, "after", &tensor);
}

/// Answers that end at once, for their windows are open, and lie there, for nobody reads the socket: together more than all that
/// responses may be gathered in.
#[tokio::test]
async fn who_asks_for_little_and_reads_nothing_stands_in_nobodys_way() {
    let server = Arc::new(Server::builder().memory("64MiB").start());
    let space = Space::on(server.clone(), "stuck").await;
    let keys: Vec<String> = (0..100).map(|number| format!("key-{number}")).collect();
    let names: Vec<_> = keys.iter().map(String::as_str).collect();
    let tensors = Tensor::sample(DType::UInt8, &[100, 3072]);
    space.bulk(bulk(&names, &tensors)).await.expect("a put");
    let ticket = space.ticket(&json!({"keys": keys})).encode_to_vec();

    let mut sockets = Vec::new();
    for _ in 0..6 {
        let mut stream = connect_with(server.address(), Some(4 << 10)).await;
        for number in [1, 3, 5, 7] {
            let mut call = frame(HEADERS, END_HEADERS, number, &request("DoGet"));
            call.extend(frame(DATA, END_STREAM, number, &prefixed(&ticket)));
            stream.write_all(&call).await.expect("a request");
        }
        sockets.push(stream);
    }
    until("the stuck connections to be closed", async || {
        // Others are answered meanwhile, sooner or later.
        let got = space.get(&json!({"keys": keys})).await;
        assert_eq!(got.expect("an answer").rows(), 100);
        (server.metrics().count(CUT_CONNECTION) > 0).then_some(())
    })
    .await;
    drop(sockets);
    assert_eq!(server.metrics().count(CUT_STREAM), 0);
}

const CUT_STREAM: &str = "bowstring_cut_off_total{whom=\"reader\",how=\"stream_reset\"}";
const CUT_CONNECTION: &str = "bowstring_cut_off_total{whom=\"reader\",how=\"connection_closed\"}";

/// A connection whose windows are never opened again.
async fn stalling_connection(address: &str) -> Raw {
    let mut settings = h2::client::Builder::new();
    settings.initial_window_size(32 << 10);
    Raw::connect_with(address, settings).await
}

/// A connection that asks for a tensor, may be sent all of it, and takes nothing from its socket.
async fn stuck_socket(address: &str, number: usize) -> TcpStream {
    let mut stream = connect_with(address, Some(4 << 10)).await;
    let mut call = frame(HEADERS, END_HEADERS, 1, &request("DoGet"));
    call.extend(frame(DATA, END_STREAM, 1, &prefixed(&ticket(number))));
    stream.write_all(&call).await.expect("a request");
    stream
}

fn ticket(number: usize) -> Vec<u8> {
    let json = json!({"key": format!("read-{number}")}).to_string();
    arrow_flight::Ticket {
        ticket: json.into(),
    }
    .encode_to_vec()
}

fn put(address: &str, key: &str, tensor: &[u8]) {
    let command = json!({"key": key, "mode": "replace", "size_bytes": tensor.len()}).to_string();
    let shape = Shape::new(&[tensor.len() as u64]).expect("a shape");
    let mut connection = connect(address);
    connection
        .put(
            Descriptor::Command(command.as_bytes()),
            DType::UInt8,
            &shape,
            tensor,
        )
        .unwrap_or_else(|error| panic!("{key}: {error}"));
}

fn read_back(address: &str, key: &str, tensor: &[u8]) {
    let mut buffer = Vec::new();
    let ticket = json!({"key": key}).to_string();
    let got = connect(address).get_into(ticket.as_bytes(), &mut buffer);
    got.unwrap_or_else(|error| panic!("{key}: {error}"));
    assert!(buffer == tensor, "{key} has other bytes");
}

fn connect(address: &str) -> Connection {
    let address = format!("grpc://{address}").parse().expect("an address");
    Connection::connect(&address).expect("a connection")
}

fn wire_bytes(metrics: &Metrics) -> u64 {
    metrics.count("bowstring_memory_used_bytes{account=\"wire\"}")
}
