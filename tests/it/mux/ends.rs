//! How exchanges and single replies end, and that none keeps another waiting.

use bowstring_client::{Code, DType, Shape};
use bowstring_tests::{Server, until};
use bowstring_wire::descriptor::Mode;
use bowstring_wire::mux::{MuxOp, MuxPut, MuxReply, MuxRequest};

use super::by_hand::{Exchange, connect, get, message, of_header};
use super::{content, open, put_bytes};
use crate::space::Space;
use crate::tensor::Tensor;

/// Bytes of a tensor that no window holds.
const LARGE: usize = 8 << 20;

/// A namespace with a large tensor and a small one.
async fn filled(name: &str) -> (Space, Tensor) {
    let space = Space::new(name).await;
    let large = Tensor::sample(DType::UInt8, &[LARGE]);
    space.put("large", &large).await.unwrap();
    space
        .put("small", &Tensor::sample(DType::UInt8, &[3000]))
        .await
        .unwrap();
    (space, large)
}

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

#[tokio::test]
async fn small_replies_pass_large_ones_and_large_ones_take_turns() {
    let (space, large) = filled("mux.turns").await;
    let mut exchange =
        Exchange::open(&connect(space.server.address()).await, &space.namespace).await;
    for id in [1, 2, 3] {
        exchange.ask(id, "large", get());
    }
    exchange.ask(4, "small", get());
    exchange.end();
    let mut order = Vec::new();
    let mut got = vec![Vec::new(); 5];
    let trailers = loop {
        match exchange.reply().await {
            Ok((id, reply, body)) => {
                got[id as usize].extend_from_slice(&body);
                assert!(body.len() <= 256 << 10, "{} in one message", body.len());
                let more = matches!(
                    reply,
                    MuxReply::Tensor { more: true, .. } | MuxReply::More { more: true }
                );
                order.push((id, more));
            }
            Err(trailers) => break trailers,
        }
    };
    assert_eq!(trailers["grpc-status"], "0");
    for id in [1, 2, 3] {
        assert!(got[id] == large.bytes);
    }
    let at = |wanted| order.iter().position(|message| *message == wanted).unwrap();
    assert!(
        at((4, false)) < 4,
        "the small one waits for a chunk at most: {:?}",
        &order[..8]
    );
    let ids: Vec<u32> = order
        .iter()
        .map(|(id, _)| *id)
        .filter(|id| *id != 4)
        .collect();
    assert!(ids.chunks(3).all(|turn| turn == [1, 2, 3]), "{ids:?}");
}

#[tokio::test]
async fn one_reply_is_cancelled_and_the_others_go_on() {
    let (space, large) = filled("mux.cancel").await;
    let mut exchange =
        Exchange::open(&connect(space.server.address()).await, &space.namespace).await;
    exchange.ask(1, "large", get());
    exchange.ask(2, "large", get());
    exchange.ask(1, "", MuxOp::Cancel);
    exchange.ask(7, "", MuxOp::Cancel);
    let (mut first, mut second) = (0, Vec::new());
    let error = loop {
        match exchange.reply().await.unwrap() {
            (1, MuxReply::Failed(error), _) => break error,
            (1, _, body) => first += body.len(),
            (2, _, body) => second.extend_from_slice(&body),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(error.code, Code::Cancelled);
    assert!(first < LARGE);
    // Its number is free again.
    exchange.ask(1, "small", get());
    let mut small = 0;
    while small == 0 || second.len() < LARGE {
        match exchange.reply().await.unwrap() {
            (1, MuxReply::Tensor { more: false, .. }, body) => small += body.len(),
            (2, _, body) => second.extend_from_slice(&body),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(small, 3000);
    assert!(second == large.bytes);
}

/// What is wrong with a request is its own, as long as it has a number.
#[tokio::test]
async fn wrong_requests_fail_alone() {
    let (space, _) = filled("mux.wrong").await;
    let connection = connect(space.server.address()).await;
    let mut exchange = Exchange::open(&connection, &space.namespace).await;
    let mut header = Vec::new();
    let request = MuxRequest {
        id: 9,
        namespace: None,
        key: "small",
        op: get(),
    };
    request.encode(&mut header).unwrap();
    let changed = |at: usize, byte: u8| {
        let mut header = header.clone();
        header[at] = byte;
        of_header(&header, &[])
    };
    for (wrong, code) in [
        (changed(1, 99), Code::Unimplemented),
        (changed(2, 0x40), Code::Unimplemented),
        (changed(3, 1), Code::InvalidArgument),
        (changed(8, 7), Code::InvalidArgument),
        (changed(10, 200), Code::InvalidArgument),
        (changed(16, 0xff), Code::InvalidArgument),
        (of_header(&header[..8], &[]), Code::InvalidArgument),
        (of_header(&header, &[7; 100_000]), Code::InvalidArgument),
    ] {
        exchange.send(wrong);
        assert_eq!(exchange.failed(9).await.code, code);
    }
    let put = |shape: &[u64]| {
        MuxOp::Put(MuxPut {
            dtype: DType::Float32,
            shape: Shape::new(shape).unwrap(),
            mode: Mode::Create,
            if_version: None,
            checksum: None,
            ttl_ms: None,
        })
    };
    exchange.send(message(10, "put", put(&[2]), &[0; 7]));
    assert_eq!(exchange.failed(10).await.code, Code::InvalidArgument);
    exchange.send(message(10, "put", put(&[1 << 62, 0]), &[0; 7]));
    assert_eq!(exchange.failed(10).await.code, Code::InvalidArgument);
    exchange.ask(11, "small", get());
    let (id, _, body) = exchange.reply().await.unwrap();
    assert_eq!((id, body.len()), (11, 3000));
}

/// What cannot be answered by a number ends the stream, and only the stream.
#[tokio::test]
async fn what_has_no_number_ends_the_exchange() {
    let (space, _) = filled("mux.ends").await;
    let connection = connect(space.server.address()).await;
    let mut twice = message(1, "large", get(), &[]).to_vec();
    twice.extend_from_slice(&message(1, "small", get(), &[]));
    let too_large = [0, 0, 0x20, 0, 0, 26, 16].to_vec();
    for (sent, code) in [
        (twice, "invalid_argument"),
        (of_header(&[1, 1, 0], &[]).to_vec(), "invalid_argument"),
        (
            of_header(&[2, 1, 0, 0, 0, 0, 0, 0], &[]).to_vec(),
            "unimplemented",
        ),
        (vec![0, 0, 0, 0, 3, 10, 1, 0], "invalid_argument"),
        (vec![1, 0, 0, 0, 3, 10, 1, 0], "unimplemented"),
        (too_large, "resource_exhausted"),
    ] {
        let mut exchange = Exchange::open(&connection, &space.namespace).await;
        exchange.send(sent.into());
        assert_eq!(exchange.ended().await, code);
    }
    let mut exchange = Exchange::open(&connection, &space.namespace).await;
    exchange.send(message(1, "small", get(), &[]).slice(..20));
    exchange.end();
    assert_eq!(exchange.ended().await, "invalid_argument");
}

/// One that asks and does not read keeps nobody else on its connection waiting, and only so many of
/// its requests are taken.
#[tokio::test]
async fn a_stalled_exchange_holds_nobody_up() {
    let (space, large) = filled("mux.stalled").await;
    let connection = connect(space.server.address()).await;
    let mut stalled = Exchange::open(&connection, &space.namespace).await;
    for id in 1..=100 {
        stalled.ask(id, "large", get());
    }
    let mut other = Exchange::open(&connection, &space.namespace).await;
    for id in 1..=20 {
        other.ask(id, "small", get());
        let (of, _, body) = other.reply().await.unwrap();
        assert_eq!((of, body.len()), (id, 3000));
    }
    assert!(space.tensor("large").await.unwrap() == large);
    let mut ended = 0;
    while ended < 100 {
        match stalled.reply().await.unwrap().1 {
            MuxReply::More { more: false } => ended += 1,
            MuxReply::Tensor { .. } | MuxReply::More { more: true } => {}
            other => panic!("{other:?}"),
        }
    }
}

/// It holds room while it says nothing.
#[tokio::test]
async fn a_put_that_stops_in_the_middle_is_cut_off() {
    let server = Server::builder().flag("--put-idle", "1s").start();
    let connection = connect(server.address()).await;
    let mut idle = Exchange::open(&connection, "default").await;
    let mut exchange = Exchange::open(&connection, "default").await;
    let put = MuxOp::Put(MuxPut {
        dtype: DType::UInt8,
        shape: Shape::new(&[1000]).unwrap(),
        mode: Mode::Create,
        if_version: None,
        checksum: None,
        ttl_ms: None,
    });
    exchange.send(message(1, "a", put, &[0; 1000]).slice(..500));
    assert_eq!(exchange.ended().await, "deadline_exceeded");
    // One that holds nothing may be silent as long as it likes.
    idle.ask(1, "a", get());
    assert_eq!(idle.failed(1).await.code, Code::NotFound);
    let in_use = "bowstring_requests_in_flight{verb=\"DoExchange\"}";
    until("its end", async || {
        (server.metrics().count(in_use) == 1).then_some(())
    })
    .await;
}
