//! A server as a process: it starts, says where it listens, is observed, and ends.

use bowstring_tests::Server;

#[tokio::test]
async fn a_server_starts_is_seen_and_drains() {
    let mut server = Server::start();
    let stats = server.stats().await;
    assert_eq!((stats.wire, stats.entries), (1, 0));
    assert_eq!(stats.memory.limit_bytes, 256 << 20);
    let used: u64 = stats.memory.accounts.values().map(|a| a.used_bytes).sum();
    assert_eq!(stats.memory.used_bytes, used);
    assert!(server.resident().data() > 0);
    let (status, _) = server.http_get("/healthz");
    assert_eq!(status, 200);
    assert_eq!(server.stop().await, Some(0));
}
