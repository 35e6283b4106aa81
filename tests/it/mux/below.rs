//! Gets of what only the cold tier has: loaded together, and nobody waits behind them.

use std::sync::Arc;
use std::time::Duration;

use bowstring_client::mux::PutOptions;
use bowstring_client::{Code, DType, Shape};
use bowstring_tests::{S3, Server, Spoiled};
use serde_json::json;

use super::{content, open};
use crate::space::Space;
use crate::tensor::Tensor;

const COLD: usize = 32;

/// Longer than it takes to answer all that is in memory.
const LATE: Duration = Duration::from_millis(500);

#[tokio::test(flavor = "multi_thread")]
async fn gets_of_what_is_below_are_loaded_together_and_hold_nobody_up() {
    let s3 = S3::start().await;
    let server = s3.under(Server::builder().memory("64MiB")).start();
    let mut space = Space::on(Arc::new(server), "mux.below").await;
    space.namespace = "mux.below".to_owned();
    let tensors: Vec<Tensor> = (0..COLD as u64)
        .map(|seed| Tensor::seeded(DType::UInt8, &[3_000], seed))
        .collect();
    for (at, tensor) in tensors.iter().enumerate() {
        // Each in an object of its own.
        let command = json!({"key": format!("cold{at}"), "wait": "cold"});
        space.put_with(&command, tensor).await.unwrap();
    }
    let large = Tensor::seeded(DType::UInt8, &[3 << 20], 77);
    let command = json!({"key": "large", "wait": "cold"});
    space.put_with(&command, &large).await.unwrap();
    let evicted = space.act("evict", &json!({"prefix": ""})).await.unwrap();
    assert_eq!(evicted["entries"], COLD + 1);

    let mux = open(&space.server, "mux.below");
    let shape = Shape::new(&[100]).unwrap();
    let hot = content(1, 100);
    mux.put("hot", DType::UInt8, &shape, &hot, PutOptions::default())
        .unwrap();
    let mut keys = vec!["large".to_owned(), "missing".to_owned()];
    for at in 0..COLD - 2 {
        keys.extend([format!("cold{at}"), "hot".to_owned()]);
    }
    s3.spoil(|_| Some(Spoiled::Late(LATE)));
    s3.most_gets();
    let (mut order, mut got) = (Vec::new(), vec![None; keys.len()]);
    let asked = mux.get_many(&keys, |at, found| {
        order.push(at);
        got[at] = Some(found.map(|(_, bytes)| bytes.to_vec()));
    });
    asked.unwrap();
    let most = s3.most_gets();
    for (at, (key, found)) in keys.iter().zip(got).enumerate() {
        let found = found.expect("each is answered");
        let expected = match &key[..] {
            "missing" => {
                assert_eq!(found.unwrap_err().code, Code::NotFound);
                continue;
            }
            "hot" => &hot,
            "large" => &large.bytes,
            _ => &tensors[at / 2 - 1].bytes,
        };
        assert!(found.unwrap() == *expected, "{key}");
    }
    assert!(most >= 8, "{most} at one time");
    let is_quick = |at: &usize| keys[*at] == "hot" || keys[*at] == "missing";
    let quick = keys.len() - (COLD - 2) - 1;
    assert!(order[..quick].iter().all(is_quick), "{order:?}");
    assert_eq!(order.len(), keys.len(), "each once: {order:?}");
    mux.close().unwrap();
}
