//! A server that starts warm: what the last run had in memory is in memory again before anybody asks for it.

use std::sync::Arc;

use bowstring_tests::{Builder, Cli, Server, until};
use bowstring_wire::dtype::DType;
use serde_json::json;
use tempfile::TempDir;

use crate::space::Space;
use crate::tensor::{Tensor, bulk};

fn over(dir: &TempDir) -> Builder {
    let url = format!("file://{}/store", dir.path().display());
    Server::builder().memory("64MiB").flag("--cold", url)
}

async fn space(server: Server) -> Space {
    let mut space = Space::on(Arc::new(server), "warm").await;
    space.namespace = "warm".to_owned();
    space
}

async fn ended(space: Space) -> String {
    let Space { server, client, .. } = space;
    drop(client);
    let mut server = Arc::into_inner(server).unwrap();
    assert_eq!(server.stop().await, Some(0));
    server.stderr()
}

async fn warmed(space: &Space) -> u64 {
    until("a warm memory", async || {
        let is_over = space.server.stderr().contains("memory is warm");
        is_over.then_some(())
    })
    .await;
    let metrics = space.server.metrics();
    assert_eq!(metrics.count("bowstring_cold_warming"), 0);
    assert_eq!(metrics.count("bowstring_cold_hits_total"), 0);
    assert_eq!(metrics.count("bowstring_hits_total"), 0);
    metrics.count("bowstring_cold_warmed_total")
}

#[tokio::test]
async fn what_was_hot_is_hot_again_after_a_restart() {
    let dir = TempDir::new().unwrap();
    for with_state in [false, true] {
        let builder = match with_state {
            true => over(&dir).flag("--state-dir", dir.path().join("state")),
            false => over(&dir),
        };
        let names: Vec<String> = (0..1_000).map(|at| format!("k{at:04}")).collect();
        let keys: Vec<&str> = names.iter().map(String::as_str).collect();
        let tensors = Tensor::seeded(DType::UInt8, &[1_000, 10_000], 7);
        let first = space(builder.start()).await;
        let members = json!({"mode": "replace"});
        first
            .bulk_with(&members, bulk(&keys, &tensors))
            .await
            .unwrap();
        for _ in 0..3 {
            first.get(&json!({"keys": &names[500..600]})).await.unwrap();
        }
        ended(first).await;

        // Some MiB are used by an empty server; the hot ones are one.
        let second = space(builder.clone().flag("--warm", "20%").start()).await;
        let all = warmed(&second).await;
        assert!((100..1_000).contains(&all), "{all}");
        let reply = second
            .act("describe", &json!({"keys": &names[500..600]}))
            .await
            .unwrap();
        let described = reply["keys"].as_array().unwrap();
        assert!(described.iter().all(|key| key["tier"] == "hot"));
        let got = second.get(&json!({"keys": &names[500..600]})).await;
        let got = crate::tensor::values(&got.unwrap().batches, "tensor");
        assert!(got == tensors.bytes[500 * 10_000..600 * 10_000]);
        ended(second).await;

        let third = space(builder.flag("--warm", "90%").start()).await;
        assert_eq!(warmed(&third).await, all, "what the second had");
        let told = Cli::new(third.server.uri(), ["stat"]).told();
        assert!(!told.stdout.contains("being warmed"), "{}", told.stdout);
        ended(third).await;
    }
}

#[tokio::test]
async fn a_share_that_is_none_is_refused() {
    for share in ["0%", "101%", "50", "1GiB", "half"] {
        let exit = Server::builder().flag("--warm", share).fail();
        assert_eq!(exit.code, Some(2));
        assert!(exit.stderr.contains("whole share"), "{}", exit.stderr);
    }
}
