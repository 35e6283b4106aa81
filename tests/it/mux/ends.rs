//! How an exchange ends.

use bowstring_client::Code;
use bowstring_tests::Server;

use super::{content, open, put_bytes};

/// It would have no end of its own, and the drain would wait for it.
#[tokio::test]
async fn a_drain_ends_open_exchanges() {
    let mut server = Server::start();
    let idle = open(&server, "default");
    assert_eq!(idle.exists("a").unwrap(), None);
    let mux = open(&server, "default");
    put_bytes(&mux, "a", &content(1, 300_000));
    server.terminate();
    assert_eq!(server.ended().await, Some(0));
    assert!(!server.stderr().contains("drain timed out"));
    for mux in [idle, mux] {
        let error = mux.get("a").unwrap_err();
        assert_eq!(error.code, Code::Unavailable, "{error}");
    }
}
