//! Damaged exchanges over live connections: no exit, no hang, no panic, nothing kept.

use arrow_array::StringArray;
use bowstring_tests::Server;
use bowstring_wire::descriptor::Mode;
use bowstring_wire::dtype::DType;
use bowstring_wire::mux::{MuxOp, MuxPrefix, MuxPut, MuxRequest};
use bowstring_wire::shape::Shape;
use bowstring_wire::version::Version;
use bytes::Bytes;
use futures::TryStreamExt as _;
use prost::Message as _;
use serde_json::json;

use super::dice::Dice;
use super::mutate::{Ending, mutate, send};
use super::mutated::{assert_clear, put_and_get};
use super::raw::{Answer, Raw};
use super::state::{InUse, charged_bytes, wipe};
use super::stream::{Message, PutStream, by_command, by_us};
use super::{Tally, scaled};
use crate::space::encoded;
use crate::tensor::{plain, table};

/// Exchanges of either kind that are damaged.
const EXCHANGES: usize = 5_000;
const WORKERS: usize = 16;
const MORE_BYTES_MAX: u64 = 64 << 20;
/// Keys that the exchanges ask for.
const KEYS: [&str; 4] = ["small", "large", "b", "no such"];

#[tokio::test]
async fn damaged_exchanges_leave_nothing_behind() {
    let server = Server::start();
    let mut raw = Raw::connect(server.address()).await;
    let tally = Tally::default();
    put_and_get(&mut raw, "before").await;
    wipe(&mut raw).await;
    let before = (InUse::at_rest(&server).await, charged_bytes(&server));
    put_and_get(&mut raw, "large").await;

    let seeds = [batches_of_keys().await, by_us()].concat();
    let workers = (0..WORKERS).map(|worker| {
        let (address, tally, seeds) = (server.address().to_owned(), &tally, &seeds);
        async move {
            let mut dice = Dice::new(2 << 32 | worker as u64);
            let mut raw = Raw::connect(&address).await;
            for _ in 0..scaled(EXCHANGES) / WORKERS {
                let answer = mux(&mut raw, &mut dice).await;
                tally.add(&answer);
                let descriptor = |_: &PutStream| {
                    by_command(&json!({"exchange": "get", "namespace": "default"}).to_string())
                };
                let mutant = mutate(&mut dice, seeds, descriptor);
                let (what, ending) = (mutant.what, mutant.ending);
                let answer = exchange(&mut raw, &mutant.frames, ending, &what).await;
                tally.add(&answer);
            }
        }
    });
    futures::future::join_all(workers).await;

    put_and_get(&mut raw, "after").await;
    wipe(&mut raw).await;
    let after = (InUse::at_rest(&server).await, charged_bytes(&server));
    assert_eq!(after.0, before.0, "{tally}");
    assert!(after.1 < before.1 + MORE_BYTES_MAX, "{before:?} {after:?}");
    tally.report("damaged exchanges", after.1.saturating_sub(before.1));
}

/// Requests of every kind in one stream, damaged or not, in odd frames.
async fn mux(raw: &mut Raw, dice: &mut Dice) -> Answer {
    let command = by_command(r#"{"exchange":"mux"}"#).encode_to_vec();
    let opening = Message {
        descriptor: command,
        ..Message::default()
    };
    let mut bytes = opening.encode();
    let begun = bytes.len();
    for _ in 0..dice.below(20) {
        put_request(dice, &mut bytes);
    }
    let what = match dice.below(6) {
        0 => "mux: whole",
        1 => {
            bytes.truncate(begun + dice.below(bytes.len() - begun + 1));
            "mux: cut short"
        }
        2 => {
            let at = begun + dice.below(bytes.len() - begun + 1);
            let extra = dice.below(40);
            let rubbish = dice.bytes(extra);
            bytes.splice(at..at, rubbish);
            "mux: rubbish between"
        }
        3 => {
            let at = dice.below(bytes.len());
            bytes.remove(at);
            "mux: a byte is missing"
        }
        _ => {
            for _ in 0..=dice.below(8) {
                let at = dice.below(bytes.len());
                bytes[at] = dice.byte();
            }
            "mux: bytes changed"
        }
    };
    let mut frames = Vec::new();
    let mut rest = Bytes::from(bytes);
    while !rest.is_empty() {
        let most = *dice.pick(&[1 + rest.len() / 10, 3000, usize::MAX]);
        let cut = 1 + dice.below(rest.len().min(most));
        frames.push(rest.split_to(cut));
    }
    let ending = *dice.pick(&[
        Ending::Finish,
        Ending::Finish,
        Ending::Finish,
        Ending::Reset,
        Ending::HangUp,
    ]);
    exchange(raw, &frames, ending, what).await
}

fn put_request(dice: &mut Dice, out: &mut Vec<u8>) {
    let mut body = Vec::new();
    let key = *dice.pick(&KEYS);
    let op = match dice.below(5) {
        0 => MuxOp::Exists,
        1 => {
            let length = *dice.pick(&[0, 1, 3000, 70_000]);
            body = dice.bytes(length);
            MuxOp::Put(MuxPut {
                dtype: DType::UInt8,
                shape: Shape::new(&[length as u64]).unwrap(),
                mode: *dice.pick(Mode::ALL),
                if_version: dice.once_in(5).then(|| Version::from_parts(1, 2, 3)),
                checksum: dice.once_in(5).then_some(7),
                ttl_ms: dice.once_in(2).then_some(60_000),
            })
        }
        2 => MuxOp::Cancel,
        _ => MuxOp::Get {
            rows: dice.once_in(4).then_some((0, dice.below(100) as u64)),
            unless_version: None,
        },
    };
    let request = MuxRequest {
        id: u32::try_from(dice.below(30)).unwrap(),
        namespace: dice.once_in(3).then_some("default"),
        key: if op == MuxOp::Cancel { "" } else { key },
        op,
    };
    let mut header = Vec::new();
    request.encode(&mut header).unwrap();
    let prefix = MuxPrefix::new(header.len(), body.len() as u64).unwrap();
    for part in [&prefix.front[..], &header, &prefix.back, &body] {
        out.extend_from_slice(part);
    }
}

async fn exchange(raw: &mut Raw, frames: &[Bytes], ending: Ending, what: &str) -> Answer {
    let answer = send(raw, "DoExchange", frames, ending).await;
    if ending == Ending::Finish {
        assert_clear(&answer, || what.to_owned());
    }
    answer
}

/// What a stock client sends to the exchange `get`.
async fn batches_of_keys() -> Vec<PutStream> {
    let batches = [&KEYS[..], &["large"], &["no such", "a", "small"]];
    let batches: Vec<_> = batches
        .into_iter()
        .map(|keys| table(vec![plain("key", StringArray::from(keys.to_vec()))]))
        .collect();
    let descriptor = by_command("{}");
    let messages = encoded(descriptor, batches[0].schema(), batches);
    let messages: Vec<_> = messages.try_collect().await.unwrap();
    let messages = messages
        .into_iter()
        .map(|message| Message::new(message.data_header, message.data_body))
        .collect();
    let seed = PutStream {
        name: "keys".to_owned(),
        command: json!({}),
        single: false,
        messages,
    };
    // As often as all the puts that are none of keys.
    vec![seed; 12]
}
