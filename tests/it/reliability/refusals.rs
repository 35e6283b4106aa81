//! A client that is refused again and again keeps its connection.
//!
//! Bug: whatever of a refused put was still on its way came to a stream that had been reset. h2
//! forgets such streams after fifty, answers what comes for them with another reset, and takes 1,024
//! of those as an attack: the connection went, and every call on it. Cause: the request's stream was
//! dropped with the refusal. Fix: what comes within a moment is read and thrown away.

use bowstring_tests::Server;
use bowstring_wire::dtype::DType;
use bytes::Bytes;

use super::raw::Raw;
use super::stream::{by_path, tensor_stream};
use super::{Tally, scaled};

/// More than h2 takes for an attack.
const REFUSALS: usize = 10_000;
/// Calls that are under way together.
const AT_ONCE: usize = 50;

#[tokio::test]
async fn thousands_of_early_refusals_do_not_cost_the_connection() {
    let server = Server::start();
    let mut raw = Raw::connect(server.address()).await;
    let opened = || server.metrics().sum("bowstring_connections_opened_total");
    let before = opened();
    let put = tensor_stream("refused", DType::UInt8, &[1000], &[7; 1000], 256);
    let frames: Vec<Bytes> = put
        .with(&by_path(["no namespace", "key"]))
        .iter()
        .map(|message| message.encode().into())
        .collect();
    let tally = Tally::default();
    for _ in 0..scaled(REFUSALS) / AT_ONCE {
        let mut calls = Vec::new();
        for number in 0..AT_ONCE {
            // Refused by its first message, or by its headers alone.
            let verb = ["DoPut", "NoSuchVerb"][number % 2];
            calls.push(raw.open(verb).await);
        }
        for frame in &frames {
            for call in &mut calls {
                call.send(frame.clone(), false);
            }
            // A write a frame, so that refusals come between them.
            tokio::task::yield_now().await;
        }
        for mut call in calls {
            call.send(Bytes::new(), true);
            let answer = call.answer().await;
            assert!(answer.status > Some(0), "{answer:?}");
            tally.add(&answer);
        }
    }
    assert_eq!(opened(), before, "the client had to connect anew");
    tally.report("early refusals", 0);
}
