//! Where bodies lie, on the wire and in a stock client's memory.
//!
//! On the wire every body begins at 48 modulo 64 of its protobuf message, because PyArrow's memory
//! begins messages at 16 modulo 64. What tonic 0.14 makes of it: a message that does not fit into
//! what it has buffered goes to the beginning of a new allocation, at a multiple of 16, and then so
//! does its body (of a tensor of 40 MB, 36 bodies in 39). A message below some 10 KiB lies where it
//! came, behind the frames before it, at any address (of 1 to 400,000 bytes: offsets 1, 5, 9, 25,
//! 29, 45, 57 modulo 64). arrow-ipc copies what it cannot take as it lies: what a user sees is
//! always aligned for its elements.

use arrow_array::{Array, RecordBatch};
use arrow_flight::{FlightData, Ticket};
use bowstring_wire::dtype::DType;
use prost::Message as _;
use serde_json::json;

use crate::grpc::{call, connect, framed};
use crate::space::Space;
use crate::tensor::{Tensor, bulk};

/// The protobuf messages of an answer, cut at gRPC's prefixes.
fn messages(mut body: &[u8]) -> Vec<&[u8]> {
    let mut messages = Vec::new();
    while let Some((prefix, rest)) = body.split_at_checked(5) {
        let length = u32::from_be_bytes(prefix[1..].try_into().unwrap());
        let (message, rest) = rest.split_at(usize::try_from(length).unwrap());
        messages.push(message);
        body = rest;
    }
    messages
}

#[tokio::test]
async fn on_the_wire() {
    let space = Space::new("wire").await;
    for count in [1, 2, 5, 100, 1000, 70_000] {
        let keys: Vec<_> = (0..3).map(|i| "k".repeat(count % 7 + i + 1)).collect();
        let tensors = Tensor::sample(DType::Int32, &[3, count]);
        let names: Vec<_> = keys.iter().map(String::as_str).collect();
        space.act("delete", &json!({"prefix": ""})).await.unwrap();
        space.bulk(bulk(&names, &tensors)).await.unwrap();
        let send = connect(space.server.address()).await;
        for ask in [
            json!({"key": keys[0], "max_message_bytes": 1 << 16}),
            json!({"key": keys[0], "layout": "opaque"}),
            json!({"keys": keys}),
            json!({"keys": keys, "with": ["version"], "missing": "null"}),
            json!({"prefix": ""}),
        ] {
            let ticket: Ticket = space.ticket(&ask);
            let path = "/arrow.flight.protocol.FlightService/DoGet";
            let answer = call(&send, path, &[], framed(&ticket), true).await;
            assert_eq!(answer.status(), "0", "{ask}");
            let mut bodies = 0;
            for message in messages(&answer.body) {
                // The body is the last field of a message.
                let body = FlightData::decode(message).unwrap().data_body;
                if !body.is_empty() {
                    assert_eq!((message.len() - body.len()) % 64, 48, "{ask}");
                    bodies += 1;
                }
            }
            assert!(bodies > 0, "{ask}");
        }
    }
}

#[tokio::test]
async fn in_a_stock_clients_memory() {
    let space = Space::new("memory").await;
    let tensor = Tensor::sample(DType::Float64, &[5_000_000]);
    space.put("a", &tensor).await.unwrap();
    let mut client = space.client.inner().clone();
    let ticket = space.ticket(&json!({"key": "a"}));
    let mut stream = client.do_get(ticket).await.unwrap().into_inner();
    let (mut bodies, mut aligned) = (0, 0);
    while let Some(message) = stream.message().await.unwrap() {
        if !message.data_body.is_empty() {
            bodies += 1;
            aligned += usize::from(message.data_body.as_ptr().addr().is_multiple_of(16));
        }
    }
    assert!(aligned * 2 > bodies, "{aligned} of {bodies}");
}

#[tokio::test]
async fn what_a_user_sees() {
    let space = Space::new("arrays").await;
    for dtype in [DType::Int16, DType::Float64, DType::Complex64] {
        for count in [1, 5, 100, 1000, 50_000] {
            let key = format!("{dtype}{count}");
            let tensor = Tensor::sample(dtype, &[count, 3]);
            space.put(&key, &tensor).await.unwrap();
            let got = space.get(&json!({"key": key})).await.unwrap();
            let width = tensor.dtype.storage().primitive_width().unwrap();
            let address = |batch: &RecordBatch| {
                let data = batch.column(0).to_data();
                data.child_data()[0].buffers()[0].as_ptr().addr()
            };
            assert!(
                got.batches
                    .iter()
                    .all(|batch| address(batch).is_multiple_of(width))
            );
            assert_eq!(got.tensor(), tensor);
        }
    }
}
