//! A server as a process: it starts, says where it listens, and ends without cutting anybody off.

use std::io::ErrorKind;
use std::net::TcpStream;
use std::sync::Arc;

use bowstring_tests::{Server, channel, until, within};
use bowstring_wire::dtype::DType;
use futures::{StreamExt as _, stream};
use rustix::process::Signal;
use serde_json::json;

use crate::space::{Space, encoded};
use crate::tensor::Tensor;

/// More than the windows of a stock client hold.
fn large() -> Tensor {
    Tensor::sample(DType::UInt8, &[32, 1 << 20])
}

#[tokio::test]
async fn a_server_starts_is_seen_and_drains() {
    let mut server = Server::start();
    let stats = server.stats().await;
    assert_eq!((stats.wire, stats.entries), (1, 0));
    assert_eq!(stats.memory.limit_bytes, 256 << 20);
    assert!(server.resident().data() > 0);
    assert_eq!(server.http_get("/healthz").0, 200);
    assert_eq!(server.stop().await, Some(0));
    assert!(server.stderr().contains("drained"), "{}", server.stderr());
}

#[tokio::test]
async fn a_drain_finishes_what_streams_and_takes_nothing_new() {
    for signal in [Signal::TERM, Signal::INT] {
        let server = Server::builder().flag("--drain-timeout", "60s").start();
        let server = Arc::new(server);
        let space = Space::on(server.clone(), "drain").await;
        space.put("a", &large()).await.unwrap();

        let mut client = space.client.inner().clone();
        let mut get = client
            .do_get(space.ticket(&json!({"key": "a"})))
            .await
            .unwrap()
            .into_inner();
        let mut got = get.message().await.unwrap().unwrap().data_body.to_vec();

        // A put whose second half comes after the signal.
        let (first, second) = (large().batch().slice(0, 16), large().batch().slice(16, 16));
        let (more, rest) = futures::channel::mpsc::unbounded();
        let messages = encoded(space.path("b"), first.schema(), vec![first]);
        let other = Space::on(server.clone(), "drain").await;
        let put = tokio::spawn(async move { other.put_messages(messages.chain(rest)).await });
        let reserved = "bowstring_puts_reserved_bytes";
        until("the put", async || {
            (server.metrics().count(reserved) >= 16 << 20).then_some(())
        })
        .await;

        server.signal(signal);
        until("the drain", async || {
            (server.http_get("/healthz").0 == 503).then_some(())
        })
        .await;
        let refused = until("a closed port", async || {
            TcpStream::connect(server.address()).err()
        })
        .await;
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
        assert!(channel(server.uri()).await.is_err());

        while let Some(message) = within("the rest", get.message()).await.unwrap() {
            got.extend_from_slice(&message.data_body);
        }
        assert!(got == large().bytes);
        let messages = encoded(space.path("b"), second.schema(), vec![second]).skip(1);
        let messages: Vec<_> = messages.collect().await;
        for message in messages {
            more.unbounded_send(message).unwrap();
        }
        drop(more);
        let reply = put.await.unwrap().unwrap();
        assert_eq!(
            (&reply["stored"], &reply["bytes"]),
            (&json!(1), &json!(32 << 20))
        );

        drop((space, get, client));
        let mut server = Arc::into_inner(server).unwrap();
        assert_eq!(server.ended().await, Some(0));
        assert!(
            !server.stderr().contains("timed out"),
            "{}",
            server.stderr()
        );
    }
}

#[tokio::test]
async fn a_drain_waits_no_longer_than_it_is_told() {
    let mut server = Server::builder().flag("--drain-timeout", "100ms").start();
    let address = server.uri().to_owned();
    let mut client = bowstring_tests::flight(&address).await;
    // A put that never ends.
    let batch = Tensor::sample(DType::Int8, &[1]).batch();
    let path = arrow_flight::FlightDescriptor::new_path(vec!["a".to_owned()]);
    let messages = encoded(path, batch.schema(), vec![batch]).map(Result::unwrap);
    let put = tokio::spawn(async move {
        client
            .do_put(messages.chain(stream::pending()))
            .await
            .map(|_| ())
    });
    let in_flight = "bowstring_requests_in_flight{verb=\"DoPut\"}";
    until("the put", async || {
        (server.metrics().count(in_flight) == 1).then_some(())
    })
    .await;
    server.terminate();
    assert_eq!(server.ended().await, Some(0));
    assert!(
        server.stderr().contains("drain timed out"),
        "{}",
        server.stderr()
    );
    assert!(within("the put's end", put).await.unwrap().is_err());
}

#[tokio::test]
async fn a_second_signal_does_not_wait() {
    let mut server = Server::builder().flag("--drain-timeout", "1h").start();
    let mut client = server.client().await;
    let batch = Tensor::sample(DType::Int8, &[1]).batch();
    let path = arrow_flight::FlightDescriptor::new_path(vec!["a".to_owned()]);
    let messages = encoded(path, batch.schema(), vec![batch]).map(Result::unwrap);
    let put = tokio::spawn(async move {
        client
            .do_put(messages.chain(stream::pending()))
            .await
            .map(|_| ())
    });
    let in_flight = "bowstring_requests_in_flight{verb=\"DoPut\"}";
    until("the put", async || {
        (server.metrics().count(in_flight) == 1).then_some(())
    })
    .await;
    server.terminate();
    until("the drain", async || {
        (server.http_get("/healthz").0 == 503).then_some(())
    })
    .await;
    server.terminate();
    assert_eq!(server.ended().await, Some(130));
    assert!(within("the put's end", put).await.unwrap().is_err());
}

#[tokio::test]
async fn an_address_in_use() {
    let server = Server::start();
    let refusal = Server::builder().listen([server.address()]).fail();
    assert_eq!((refusal.code, refusal.stdout.as_str()), (Some(1), ""));
    assert!(
        refusal.stderr.contains(server.address()),
        "{}",
        refusal.stderr
    );
    let http = server.http().to_string();
    let refusal = Server::builder()
        .bare()
        .listen(["127.0.0.1:0"])
        .flag("--http", &http)
        .fail();
    assert_eq!(refusal.code, Some(1));
    assert!(refusal.stderr.contains(&http), "{}", refusal.stderr);
}
