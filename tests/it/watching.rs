//! What helps whoever looks for a fault: the slow-request log, and gRPC reflection.

use std::sync::Arc;
use std::time::Duration;

use bowstring_tests::{Server, pause, until};
use bowstring_wire::descriptor::Mode;
use bowstring_wire::dtype::DType;
use bowstring_wire::mux::{MuxOp, MuxPut, MuxReply};
use bowstring_wire::shape::Shape;
use bytes::Bytes;
use futures::StreamExt as _;
use serde_json::json;

use crate::grpc::{call, connect};
use crate::mux::by_hand::{Exchange, get, message};
use crate::space::{Space, encoded};
use crate::tensor::{Tensor, plain, table};

/// A put that takes its time, over both ways in, and gets that do not.
#[tokio::test]
async fn a_slow_request_gets_a_line_and_the_others_none() {
    let server = Server::builder().flag("--slow-request", "200ms").start();
    let space = Space::on(Arc::new(server), "slow").await;
    let batch = Tensor::sample(DType::Int8, &[4]).batch();
    let descriptor = space.path("a\"b\nWARN forged");
    let messages = encoded(descriptor, batch.schema(), vec![batch]);
    let late = messages.then(async |message| {
        pause(Duration::from_millis(200)).await;
        message
    });
    space.put_messages(late).await.unwrap();
    space
        .put("quick", &Tensor::sample(DType::Int8, &[4]))
        .await
        .unwrap();
    space.get(&json!({"key": "quick"})).await.unwrap();

    let connection = crate::mux::by_hand::connect(space.server.address()).await;
    let mut exchange = Exchange::open(&connection, &space.namespace).await;
    let put = MuxOp::Put(MuxPut {
        dtype: DType::UInt8,
        shape: Shape::new(&[1000]).unwrap(),
        mode: Mode::Create,
        if_version: None,
        checksum: None,
        ttl_ms: None,
    });
    let put = message(1, "over the exchange", put, &[0; 1000]);
    exchange.send(put.slice(..500));
    pause(Duration::from_millis(400)).await;
    exchange.send(put.slice(500..));
    exchange.reply().await.unwrap();
    exchange.ask(2, "quick", get());
    exchange.reply().await.unwrap();

    let lines = || {
        let log = space.server.stderr();
        let lines = log.lines().filter(|line| line.contains("slow request"));
        lines.map(ToOwned::to_owned).collect::<Vec<_>>()
    };
    let lines = until("two lines", async || {
        Some(lines()).filter(|lines| lines.len() >= 2)
    })
    .await;
    assert_eq!(lines.len(), 2, "{lines:#?}");
    for word in [
        "DoPut",
        &space.namespace,
        r#"a\"b\nWARN forged"#,
        "elapsed_ms",
        "room_ms",
    ] {
        assert!(lines[0].contains(word), "{word}: {}", lines[0]);
    }
    for word in ["mux.put", &space.namespace, "over the exchange"] {
        assert!(lines[1].contains(word), "{word}: {}", lines[1]);
    }
}

/// A tensor over mux that its client leaves lying, and a batch of keys that another one does.
#[tokio::test]
async fn an_exchange_says_how_long_it_waited_for_its_client() {
    let server = Server::builder().flag("--slow-request", "200ms").start();
    let space = Space::on(Arc::new(server), "unread").await;
    let tensor = Tensor::sample(DType::UInt8, &[1, 1 << 20]);
    space.put("large", &tensor).await.unwrap();

    let connection = crate::mux::by_hand::connect(space.server.address()).await;
    let mut exchange = Exchange::open(&connection, &space.namespace).await;
    exchange.ask(1, "large", get());
    // The window of its stream is smaller than the tensor.
    pause(Duration::from_millis(500)).await;
    let mut bytes = 0;
    while bytes < 1 << 20 {
        bytes += exchange.reply().await.unwrap().2.len();
    }
    // Two answers of two tensors each: the second finds the window full.
    let keys = arrow_array::StringArray::from(vec!["large"; 2]);
    let keys = table(vec![plain("key", keys)]);
    let command = json!({"exchange": "get"});
    let messages = encoded(
        space.command(&command),
        keys.schema(),
        vec![keys.clone(), keys],
    );
    let mut client = space.client.inner().clone();
    let messages = messages.map(Result::unwrap);
    let replies = client.do_exchange(messages).await.unwrap();
    pause(Duration::from_millis(500)).await;
    let replies: Vec<_> = replies.into_inner().collect().await;
    assert!(replies.iter().all(Result::is_ok));

    for (verb, least_bytes) in [("mux.get", 1 << 20), ("exchange.get", 2 << 20)] {
        let line = space.server.said(verb).await;
        let number = |name: &str| -> u64 {
            let (_, rest) = line.split_once(name).expect("a number");
            let digits = rest.split(|c: char| !c.is_ascii_digit()).next();
            digits
                .and_then(|digits| digits.parse().ok())
                .expect("a number")
        };
        assert!(number("sending_ms=") > 0, "{line}");
        assert!(number("elapsed_ms=") >= number("sending_ms="), "{line}");
        assert!(number(" bytes=") >= least_bytes, "{line}");
    }
}

/// To Flight an exchange is one request; the page tells those within it apart.
#[tokio::test]
async fn requests_within_exchanges_are_counted() {
    let space = Space::on(Arc::new(Server::start()), "counted").await;
    let tensor = Tensor::sample(DType::UInt8, &[1, 1 << 20]);
    space.put("large", &tensor).await.unwrap();
    let connection = crate::mux::by_hand::connect(space.server.address()).await;
    // It looks at a key that is not there.
    let mut exchange = Exchange::open(&connection, &space.namespace).await;
    exchange.ask(1, "large", MuxOp::Exists);
    exchange.reply().await.unwrap();
    exchange.ask(2, "nobody has this", get());
    exchange.failed(2).await;
    let mut no_op = [0; 16];
    (no_op[0], no_op[1], no_op[4]) = (1, 99, 3);
    exchange.send(crate::mux::by_hand::of_header(&no_op, &[]));
    exchange.failed(3).await;
    exchange.ask(4, "large", get());
    while !matches!(
        exchange.reply().await.unwrap().1,
        MuxReply::More { more: false }
    ) {}
    exchange.ask(5, "large", get());
    exchange.reply().await.unwrap();
    exchange.ask(5, "", MuxOp::Cancel);
    while !matches!(exchange.reply().await.unwrap().1, MuxReply::Failed(_)) {}

    let metrics = space.server.metrics();
    let count = |op: &str, code: &str| {
        metrics.count(&format!(
            "bowstring_exchange_requests_total{{op=\"{op}\",code=\"{code}\"}}"
        ))
    };
    for (op, code, times) in [
        ("mux.exists", "not_found", 1),
        ("mux.exists", "ok", 1),
        ("mux.get", "not_found", 1),
        ("mux.get", "ok", 1),
        ("mux.get", "cancelled", 1),
        ("mux.other", "unimplemented", 1),
        ("mux.put", "ok", 0),
    ] {
        assert_eq!(count(op, code), times, "{op} {code}");
    }
}

/// Asked as `grpcurl` asks: which services there are, and what one of them is.
#[tokio::test]
async fn reflection_is_there_when_asked_for() {
    let plain = Server::shared();
    let watched = Server::builder()
        .variable("BOWSTRING_REFLECTION", "true")
        .start();
    // Fields 7 and 4 of a request: list the services; the file that has a symbol.
    let request = |field: u8, text: &str| {
        let mut message = vec![field << 3 | 2, u8::try_from(text.len()).unwrap()];
        message.extend_from_slice(text.as_bytes());
        let mut framed = vec![0, 0, 0, 0, u8::try_from(message.len()).unwrap()];
        framed.extend_from_slice(&message);
        Bytes::from(framed)
    };
    for version in ["v1", "v1alpha"] {
        let path = format!("/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo");
        let send = connect(watched.address()).await;
        let answer = call(&send, &path, &[], request(7, ""), true).await;
        assert_eq!(answer.status(), "0");
        let said = String::from_utf8_lossy(&answer.body).into_owned();
        for service in [
            "arrow.flight.protocol.FlightService",
            "grpc.health.v1.Health",
        ] {
            assert!(said.contains(service), "{service}: {said:?}");
        }
        let symbol = request(4, "arrow.flight.protocol.FlightService");
        let answer = call(&send, &path, &[], symbol, true).await;
        let said = String::from_utf8_lossy(&answer.body).into_owned();
        for word in ["DoExchange", "FlightData", "data_body"] {
            assert!(said.contains(word), "{word}: {said:?}");
        }
        let send = connect(plain.address()).await;
        let answer = call(&send, &path, &[], request(7, ""), true).await;
        assert_eq!(answer.code(), "unimplemented");
    }
}
