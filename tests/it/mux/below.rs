//! Gets of what only the cold tier has: loaded together, and nobody waits behind them.

use std::sync::Arc;
use std::time::Duration;

use bowstring_client::mux::PutOptions;
use bowstring_client::{Code, DType, Shape};
use bowstring_tests::{S3, Server, Spoiled, until};
use bowstring_wire::mux::{MuxOp, MuxReply};
use serde_json::json;

use super::by_hand::{Exchange, connect, get};
use super::{content, open};
use crate::space::Space;
use crate::tensor::{Tensor, bulk};

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

/// What an exchange may have waiting.
const WAITING_MAX: usize = 256;
/// The number of the get of what memory has.
const HOT: u32 = 9_999;

/// A server, and tensors that only its store has, whose answers can be held up.
struct Over {
    s3: S3,
    space: Space,
    cold: Vec<Tensor>,
    hot: Tensor,
}

fn key(at: usize) -> String {
    format!("cold{at:03}")
}

fn number(at: usize) -> u32 {
    u32::try_from(at).unwrap()
}

impl Over {
    /// All of them in one object, or each in one of its own.
    async fn new(name: &str, count: usize, together: bool) -> Over {
        let s3 = S3::start().await;
        let server = Server::builder().memory("64MiB");
        let server = server.flag("--cold-timeout", "60s");
        let server = s3.under(server).start();
        let space = Space::on(Arc::new(server), name).await;
        let all = Tensor::seeded(DType::UInt8, &[count, 3_000], 5);
        let (names, cold): (Vec<String>, _) = ((0..count).map(key).collect(), all.cells());
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        if together {
            let members = json!({"wait": "cold"});
            space.bulk_with(&members, bulk(&names, &all)).await.unwrap();
        } else {
            for (name, tensor) in names.iter().zip(&cold) {
                let members = json!({"key": name, "wait": "cold"});
                space.put_with(&members, tensor).await.unwrap();
            }
        }
        let evicted = space.act("evict", &json!({"prefix": ""})).await.unwrap();
        assert_eq!(evicted["entries"], count);
        let hot = Tensor::seeded(DType::UInt8, &[100], 6);
        space.put("hot", &hot).await.unwrap();
        Over {
            s3,
            space,
            cold,
            hot,
        }
    }

    fn hold(&self) {
        self.s3.spoil(|_| Some(Spoiled::Held));
    }

    async fn exchange(&self) -> Exchange {
        let connection = connect(self.space.server.address()).await;
        Exchange::open(&connection, &self.space.namespace).await
    }

    /// What memory has is answered: so all that was asked for before was taken.
    async fn gets_hot(&self, exchange: &mut Exchange) {
        exchange.ask(HOT, "hot", get());
        let (id, bytes) = tensor(exchange).await;
        assert_eq!((id, bytes), (HOT, self.hot.bytes.clone()));
    }
}

/// The next reply, of a tensor in one message.
async fn tensor(exchange: &mut Exchange) -> (u32, Vec<u8>) {
    match exchange.reply().await {
        Ok((id, MuxReply::Tensor { more: false, .. }, body)) => (id, body.to_vec()),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_get_that_waits_is_cancelled_and_not_loaded_for_nothing() {
    const COUNT: usize = 40;
    let over = Over::new("mux.below.cancel", COUNT, false).await;
    let mut exchange = over.exchange().await;
    over.hold();
    let before = over.s3.requests();
    for at in 0..COUNT - 1 {
        exchange.ask(7, &key(at), get());
        exchange.ask(7, "", MuxOp::Cancel);
        assert_eq!(exchange.failed(7).await.code, Code::Cancelled);
    }
    over.gets_hot(&mut exchange).await;
    over.s3.heal();
    // Its number is free, and is its own.
    exchange.ask(7, &key(COUNT - 1), get());
    let expected = (7, over.cold[COUNT - 1].bytes.clone());
    assert_eq!(tensor(&mut exchange).await, expected);
    let asked = over.s3.requests() - before;
    assert!(asked < 20, "{asked}: of those that had begun, and the last");
    exchange.end();
    let trailers = exchange.reply().await.unwrap_err();
    assert_eq!(trailers["grpc-status"], "0");
}

#[tokio::test(flavor = "multi_thread")]
async fn so_many_wait_and_the_next_request_is_not_taken() {
    const COUNT: usize = WAITING_MAX + 44;
    let over = Over::new("mux.below.limit", COUNT, true).await;
    let (mut exchange, mut other) = (over.exchange().await, over.exchange().await);
    over.hold();
    for at in 0..COUNT {
        exchange.ask(number(at), &key(at), get());
    }
    exchange.ask(HOT, "hot", get());
    over.gets_hot(&mut other).await;
    over.s3.heal();
    let mut order = Vec::new();
    for _ in 0..=COUNT {
        let (id, bytes) = tensor(&mut exchange).await;
        let of = over.cold.get(id as usize).unwrap_or(&over.hot);
        assert!(bytes == of.bytes, "{id}");
        order.push(id);
    }
    let at = order.iter().position(|id| *id == HOT).unwrap();
    assert!(at > COUNT - WAITING_MAX, "{at}: {order:?}");
    let mut sorted = order;
    sorted.sort_unstable();
    let all = (0..number(COUNT)).chain([HOT]);
    assert!(sorted.into_iter().eq(all), "each once");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_waits_for_what_waits() {
    const COUNT: usize = 20;
    let over = Over::new("mux.below.drain", COUNT, true).await;
    let mut exchange = over.exchange().await;
    over.hold();
    for at in 0..COUNT {
        exchange.ask(number(at), &key(at), get());
    }
    over.gets_hot(&mut exchange).await;
    let Over {
        s3, space, cold, ..
    } = over;
    space.server.terminate();
    space.server.said("draining").await;
    s3.heal();
    let mut left: Vec<u32> = (0..number(COUNT)).collect();
    while !left.is_empty() {
        let (id, bytes) = tensor(&mut exchange).await;
        assert!(bytes == cold[id as usize].bytes, "{id}");
        left.retain(|one| *one != id);
    }
    assert_eq!(exchange.ended().await, "unavailable");
    drop(exchange);
    let Space { server, client, .. } = space;
    drop(client);
    let mut server = Arc::into_inner(server).unwrap();
    assert_eq!(server.ended().await, Some(0));
    assert!(!server.stderr().contains("drain timed out"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_while_they_wait_leaves_nothing_behind() {
    const COUNTS: [usize; 2] = [100, WAITING_MAX + 44];
    let over = Over::new("mux.below.left", COUNTS.iter().sum(), true).await;
    let used = || {
        let metrics = over.space.server.metrics();
        let of = |name: &str| metrics.count(name);
        [
            of("bowstring_memory_used_bytes{account=\"arena\"}"),
            of("bowstring_readers_held_bytes"),
        ]
    };
    let before = used();
    let mut from = 0;
    for count in COUNTS {
        let mut exchange = over.exchange().await;
        over.hold();
        for at in from..from + count {
            // Rows are loaded by themselves.
            let rows = (at % 10 == 0).then_some((0, 1));
            let unless_version = None;
            let op = MuxOp::Get {
                rows,
                unless_version,
            };
            exchange.ask(number(at), &key(at), op);
        }
        if count < WAITING_MAX {
            over.gets_hot(&mut exchange).await;
        }
        until("a request to the store", async || {
            (over.s3.most_gets() > 0).then_some(())
        })
        .await;
        drop(exchange);
        until("its end", async || {
            let metrics = over.space.server.metrics();
            let open = metrics.count("bowstring_requests_in_flight{verb=\"DoExchange\"}");
            (open == 0).then_some(())
        })
        .await;
        over.s3.heal();
        until("what they had", async || (used() == before).then_some(())).await;
        from += count;
    }
    let mut exchange = over.exchange().await;
    exchange.ask(1, &key(0), get());
    let expected = (1, over.cold[0].bytes.clone());
    assert_eq!(tensor(&mut exchange).await, expected);
}
