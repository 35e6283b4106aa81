//! Unix sockets beside TCP.

use std::path::Path;
use std::sync::Arc;

use arrow_flight::FlightClient;
use bowstring_tests::{Builder, Server, channel};
use bowstring_wire::dtype::DType;
use serde_json::json;

use crate::space::Space;
use crate::tensor::Tensor;

/// Short: a Unix socket's path has 107 bytes at most.
fn directory() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

fn at(path: &Path) -> Builder {
    Server::builder().listen([format!("unix:{}", path.display())])
}

#[tokio::test]
async fn a_unix_socket_and_tcp_are_one_cache() {
    let directory = directory();
    let path = directory.path().join("s");
    let addresses = [format!("unix:{}", path.display()), "127.0.0.1:0".to_owned()];
    let server = Arc::new(Server::builder().listen(addresses).start());
    let [unix, tcp] = server.uris() else {
        panic!("{:?}", server.uris())
    };
    assert_eq!(*unix, format!("grpc+unix://{}", path.display()));
    let near = Space::on(server.clone(), "near").await;
    let mut far = Space::on(server.clone(), "far").await;
    far.client = FlightClient::new(channel(tcp).await.unwrap());
    far.namespace.clone_from(&near.namespace);
    let large = Tensor::sample(DType::UInt8, &[9, 1 << 20]);
    let small = Tensor::sample(DType::Float32, &[2, 2]);
    near.put("large", &large).await.unwrap();
    far.put("small", &small).await.unwrap();
    for space in [&near, &far] {
        assert_eq!(space.tensor("large").await.unwrap(), large);
        assert_eq!(space.tensor("small").await.unwrap(), small);
        let found = space
            .act("exists", &json!({"keys": ["large", "small"]}))
            .await
            .unwrap();
        assert_eq!(found["leading"], 2);
    }
    let opened = |transport: &str| format!("bowstring_connections{{transport=\"{transport}\"}}");
    let metrics = server.metrics();
    assert_eq!(
        (
            metrics.count(&opened("unix")),
            metrics.count(&opened("tcp"))
        ),
        (1, 1)
    );
}

#[tokio::test]
async fn a_crashed_servers_socket_file_is_replaced() {
    let directory = directory();
    let path = directory.path().join("s");
    let mut first = at(&path).start();
    first.kill();
    assert!(path.exists());
    let mut second = at(&path).start();
    assert_eq!(second.stats().await.entries, 0);
    assert_eq!(second.stop().await, Some(0));
    assert!(!path.exists(), "a server that drained leaves none");
}

#[tokio::test]
async fn a_socket_that_is_served_is_not_taken_away() {
    let directory = directory();
    let path = directory.path().join("s");
    let first = at(&path).start();
    let refusal = at(&path).fail();
    assert_eq!(refusal.code, Some(1));
    assert_eq!(refusal.stdout, "");
    assert!(
        refusal.stderr.contains(&*path.to_string_lossy()),
        "{}",
        refusal.stderr
    );
    assert_eq!(first.stats().await.entries, 0);
}

#[tokio::test]
async fn a_file_that_is_no_socket_is_left_alone() {
    let directory = directory();
    let path = directory.path().join("s");
    std::fs::write(&path, "precious").unwrap();
    let refusal = at(&path).fail();
    assert_eq!(refusal.code, Some(1));
    assert!(
        refusal.stderr.contains("not a socket"),
        "{}",
        refusal.stderr
    );
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
}
