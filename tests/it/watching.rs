//! What helps whoever looks for a fault: the slow-request log, and gRPC reflection.

use std::sync::Arc;
use std::time::Duration;

use bowstring_tests::{Server, pause, until};
use bowstring_wire::descriptor::Mode;
use bowstring_wire::dtype::DType;
use bowstring_wire::mux::{MuxOp, MuxPut};
use bowstring_wire::shape::Shape;
use bytes::Bytes;
use futures::StreamExt as _;
use serde_json::json;

use crate::grpc::{call, connect};
use crate::mux::by_hand::{Exchange, get, message};
use crate::space::{Space, encoded};
use crate::tensor::Tensor;

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
    for word in ["mux.put", "over the exchange"] {
        assert!(lines[1].contains(word), "{word}: {}", lines[1]);
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
