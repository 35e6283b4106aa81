//! How many connections, how many streams, how long a silence.

use std::io::{ErrorKind, Read as _};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use arrow_flight::FlightClient;
use bowstring_tests::{Server, channel, pause, until, within};
use bowstring_wire::dtype::DType;
use futures::future::join_all;
use futures::{StreamExt as _, stream};
use serde_json::json;

use crate::space::{Space, encoded, refused};
use crate::tensor::Tensor;

fn refused_for(server: &Server, reason: &str) -> u64 {
    let sample = format!("bowstring_connections_refused_total{{reason=\"{reason}\"}}");
    server.metrics().count(&sample)
}

/// Whether a new connection is served.
async fn is_served(server: &Server) -> bool {
    let Ok(channel) = channel(server.uri()).await else {
        return false;
    };
    let mut client = FlightClient::new(channel);
    let descriptor = arrow_flight::FlightDescriptor::new_path(vec!["nobody".to_owned()]);
    let asked = within("an answer", client.get_schema(descriptor)).await;
    matches!(asked, Err(arrow_flight::error::FlightError::Tonic(status))
        if status.metadata().contains_key("bowstring-code"))
}

#[tokio::test]
async fn no_more_connections_than_are_allowed() {
    let server = Server::builder().flag("--connections-max", "4").start();
    let server = Arc::new(server);
    let mut spaces = Vec::new();
    for _ in 0..4 {
        let space = Space::on(server.clone(), "crowd").await;
        space.act("exists", &json!({"keys": []})).await.unwrap();
        spaces.push(space);
    }
    assert_eq!(refused_for(&server, "connections_max"), 0);
    for n in 1..=5 {
        assert!(!is_served(&server).await);
        assert!(refused_for(&server, "connections_max") >= n);
    }
    // Those inside are served on.
    for space in &spaces {
        space.act("exists", &json!({"keys": []})).await.unwrap();
    }
    // A place that is given up is taken again.
    spaces.pop();
    until("a place", async || is_served(&server).await.then_some(())).await;
}

/// Whoever opens connections and says nothing keeps nobody out: the oldest silent one goes first.
#[tokio::test]
async fn silent_connections_give_way() {
    let server = Server::builder()
        .memory("512MiB")
        .flag("--connections-max", "400")
        .start();
    let silent: Vec<_> = (0..200)
        .map(|_| TcpStream::connect(server.address()).unwrap())
        .collect();
    for _ in 0..5 {
        assert!(is_served(&server).await);
    }
    let connections = || server.metrics().sum("bowstring_connections");
    // 128 may be greeting us at once; those that do not greet at all are closed some seconds later.
    let given_way = until("those above the limit", async || {
        let given_way = refused_for(&server, "half_open_max");
        let late = refused_for(&server, "greeting_timeout");
        (given_way + late >= 72).then_some(given_way)
    });
    assert!(given_way.await > 0);
    until("all to be closed", async || {
        (connections() == 0.0).then_some(())
    })
    .await;
    let closed = refused_for(&server, "half_open_max") + refused_for(&server, "greeting_timeout");
    assert_eq!(closed, 200);
    for mut stream in silent {
        stream
            .set_read_timeout(Some(bowstring_tests::PATIENCE))
            .unwrap();
        // HTTP/2 may have said its settings; then comes the end.
        match stream.read_to_end(&mut Vec::new()) {
            Ok(_) => {}
            Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
        }
    }
    assert!(is_served(&server).await);
}

/// A client is told how many calls it may make at once, and waits with the others.
#[tokio::test]
async fn more_calls_than_streams() {
    let server = Arc::new(Server::builder().flag("--streams-max", "2").start());
    let space = Space::on(server.clone(), "streams").await;
    let tensor = Tensor::sample(DType::UInt8, &[4, 1 << 20]);
    space.put("a", &tensor).await.unwrap();
    let gets = (0..20).map(|_| space.tensor("a"));
    for got in join_all(gets).await {
        assert_eq!(got.unwrap(), tensor);
    }
    assert_eq!(
        server.metrics().sum("bowstring_connections_opened_total"),
        1.0
    );
}

#[tokio::test]
async fn a_put_that_holds_room_may_not_be_silent_for_long() {
    let server = Server::builder().flag("--put-idle", "300ms").start();
    let server = Arc::new(server);
    let space = Space::on(server.clone(), "idle").await;
    let batch = Tensor::sample(DType::UInt8, &[1, 1 << 20]).batch();
    let messages = encoded(space.path("a"), batch.schema(), vec![batch.clone()]);
    let put = space.put_messages(messages.chain(stream::pending())).await;
    refused(put, "deadline_exceeded", &["silent_ms", "limit_ms=`300`"]);
    let metrics = server.metrics();
    assert_eq!(
        metrics.count("bowstring_cut_off_total{whom=\"put\",how=\"idle\"}"),
        1
    );
    assert_eq!(metrics.count("bowstring_puts_reserved_bytes"), 0);
    assert_eq!(metrics.count("bowstring_entries"), 0);
    refused(space.tensor("a").await, "not_found", &[]);

    // One that holds none may take its time.
    let (more, rest) = futures::channel::mpsc::unbounded();
    let mut whole: Vec<_> = encoded(space.path("b"), batch.schema(), vec![batch])
        .collect()
        .await;
    let first = stream::iter([whole.remove(0)]);
    let feed = async {
        pause(Duration::from_secs(1)).await;
        for message in whole {
            more.unbounded_send(message).unwrap();
        }
        drop(more);
    };
    let (put, ()) = tokio::join!(space.put_messages(first.chain(rest)), feed);
    assert_eq!(put.unwrap()["stored"], 1);
}
