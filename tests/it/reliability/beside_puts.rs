//! Readers beside puts that receive as much as they may. Bug: the windows of a few puts had all of what responses are gathered
//! in, so that gets waited until those puts were over, and were cut off as stalled while they waited. Cause: one account without
//! shares, and whoever waited for a buffer counted as a reader that does not read. Fix: windows have at most half of it, and only
//! who has handed over what its peer has not taken can be cut off.

use std::sync::Arc;

use bowstring_tests::{Server, until};
use bowstring_wire::dtype::DType;
use futures::future::join_all;
use futures::{StreamExt as _, channel::mpsc};
use serde_json::json;

use crate::space::{Space, encoded};
use crate::tensor::{Tensor, bulk};

/// The windows of two of them were all that responses could be gathered in.
const PUTS: usize = 8;
const KEYS: usize = 400;

#[tokio::test]
async fn gets_are_answered_while_puts_have_their_windows() {
    let server = Arc::new(Server::builder().memory("64MiB").start());
    let space = Space::on(server.clone(), "beside-puts").await;
    let keys: Vec<String> = (0..KEYS).map(|number| format!("key-{number}")).collect();
    let names: Vec<_> = keys.iter().map(String::as_str).collect();
    let tensors = Tensor::sample(DType::UInt8, &[KEYS, 3072]);
    space.bulk(bulk(&names, &tensors)).await.unwrap();

    // Each stores one batch, which takes a wide window, and stays open.
    let puts = (0..PUTS).map(async |number| {
        let space = Space::on(server.clone(), "beside-puts-open").await;
        let key = format!("put-{number}");
        let batch = bulk(&[&key], &Tensor::sample(DType::UInt8, &[1, 256 << 10]));
        let messages = encoded(space.command(&json!({})), batch.schema(), vec![batch]);
        let (open, end) = mpsc::unbounded();
        let messages = messages.chain(end);
        let put = tokio::spawn({
            let namespace = space.clone_client();
            let space = Space {
                client: namespace,
                namespace: space.namespace.clone(),
                server: server.clone(),
            };
            async move { space.put_messages(messages).await }
        });
        until("its batch to be stored", async || {
            space.tensor(&key).await.ok().map(drop)
        })
        .await;
        (open, put)
    });
    let puts = join_all(puts).await;

    // Longer than a reader may stall.
    for _ in 0..5 {
        let gets = (0..20).map(|_| space.follow(space.ticket(&json!({"keys": keys}))));
        for got in join_all(gets).await {
            assert_eq!(got.unwrap().rows(), KEYS);
        }
    }
    assert_eq!(server.metrics().sum("bowstring_cut_off_total"), 0.0);
    for (open, put) in puts {
        drop(open);
        assert_eq!(put.await.unwrap().unwrap()["stored"], 1);
    }
}
