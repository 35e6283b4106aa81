//! Damaged requests over live connections: no exit, no hang, no panic, nothing kept.

use arrow_flight::flight_descriptor::DescriptorType;
use arrow_flight::{Action, Criteria, FlightDescriptor, Ticket};
use bowstring_tests::Server;
use bowstring_wire::dtype::DType;
use bytes::Bytes;
use prost::Message as _;
use serde_json::json;

use super::dice::Dice;
use super::mutate::{Ending, Mutant, mutate, mutate_json, send};
use super::raw::{Answer, Raw};
use super::state::{InUse, charged_bytes, namespaces, wipe};
use super::stream::{PutStream, by_path, by_pyarrow, by_us, read_list, tensor_stream};
use super::{Tally, scaled};

/// Streams that are damaged.
const PUTS: usize = 20_000;
/// Requests of the other verbs.
const REQUESTS: usize = 20_000;
/// Connections that send them.
const WORKERS: usize = 16;
/// What the server may have more afterwards.
const MORE_BYTES_MAX: u64 = 64 << 20;

#[tokio::test]
async fn damaged_puts_leave_nothing_behind() {
    let server = Server::start();
    let mut raw = Raw::connect(server.address()).await;
    let tally = Tally::default();
    put_and_get(&mut raw, "before").await;
    wipe(&mut raw).await;
    let before = (InUse::at_rest(&server).await, charged_bytes(&server));

    let workers = (0..WORKERS).map(|worker| {
        let (address, tally) = (server.address().to_owned(), &tally);
        async move {
            let seeds = [by_pyarrow(), by_us()].concat();
            let mut dice = Dice::new(worker as u64);
            let mut raw = Raw::connect(&address).await;
            for _ in 0..scaled(PUTS) / WORKERS {
                // Few keys, so that many meet a tensor that is there.
                let key = format!("key-{}", dice.below(100));
                let mode = *dice.pick(&["create", "keep", "replace"]);
                let descriptor = |seed: &PutStream| match mode {
                    "create" if seed.single => by_path(["mutated", &key]),
                    mode => {
                        let mut seed = seed.clone();
                        seed.command["mode"] = mode.into();
                        seed.descriptor("mutated", &key)
                    }
                };
                let mutant = mutate(&mut dice, &seeds, descriptor);
                let answer = send(&mut raw, "DoPut", &mutant.frames, mutant.ending).await;
                judge(&mutant, &answer);
                tally.add(&answer);
            }
        }
    });
    futures::future::join_all(workers).await;

    whatever_was_stored_can_be_read(&mut raw).await;
    put_and_get(&mut raw, "after").await;
    wipe(&mut raw).await;
    let after = (InUse::at_rest(&server).await, charged_bytes(&server));
    assert_eq!(after.0, before.0, "{tally}");
    assert!(after.1 < before.1 + MORE_BYTES_MAX, "{before:?} {after:?}");
    tally.report("damaged puts", after.1.saturating_sub(before.1));
}

#[tokio::test]
async fn damaged_tickets_descriptors_and_actions_are_refused() {
    let server = Server::start();
    let mut raw = Raw::connect(server.address()).await;
    let tally = Tally::default();
    put_and_get(&mut raw, "a").await;
    wipe(&mut raw).await;
    let before = (InUse::at_rest(&server).await, charged_bytes(&server));
    put_and_get(&mut raw, "a").await;

    let workers = (0..WORKERS).map(|worker| {
        let (address, tally) = (server.address().to_owned(), &tally);
        async move {
            let seeds = requests();
            let mut dice = Dice::new(1 << 32 | worker as u64);
            let mut raw = Raw::connect(&address).await;
            for _ in 0..scaled(REQUESTS) / WORKERS {
                let (verb, json, wrap) = dice.pick(&seeds);
                let request = mutate_json(&mut dice, json, wrap);
                let answer = raw.call(verb, [Bytes::from(request)]).await;
                assert_clear(&answer, || {
                    format!("{verb} {}", String::from_utf8_lossy(json))
                });
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
    tally.report("damaged requests", after.1.saturating_sub(before.1));
}

fn judge(mutant: &Mutant, answer: &Answer) {
    if mutant.ending == Ending::Finish {
        assert_clear(answer, || mutant.what.clone());
    }
    // What PyArrow wrote to be refused, and a key that is there, are refused also in odd frames.
    let may_fail = mutant.what.contains("/no-") || answer.code == "already_exists";
    assert!(
        !mutant.is_valid || answer.is_ok() || may_fail,
        "{}: {answer:?}",
        mutant.what
    );
}

/// Every call ends with a status, and every refusal with a sentence that is not about a bug of ours.
pub fn assert_clear(answer: &Answer, what: impl Fn() -> String) {
    let status = answer.status;
    assert!(status.is_some(), "{}: {answer:?}", what());
    if status != Some(0) {
        assert_ne!(answer.code, "internal", "{}: {answer:?}", what());
        let sentence = answer.message.strip_prefix(&format!("{}: ", answer.code));
        assert!(
            sentence.is_some_and(|sentence| sentence.len() > 10),
            "{}: {answer:?}",
            what()
        );
    }
}

/// A put, the same bytes back, and gone again when its key is deleted.
pub async fn put_and_get(raw: &mut Raw, key: &str) {
    let bytes: Vec<u8> = (0..100_000u32).map(|at| at.to_le_bytes()[0]).collect();
    let put = tensor_stream("kept", DType::Int8, &[100, 1000], &bytes, 1 << 20);
    let messages = put.with(&by_path([key]));
    let frames = messages.iter().map(|message| Bytes::from(message.encode()));
    let answer = raw.call("DoPut", frames).await;
    assert!(answer.is_ok(), "{answer:?}");
    let ticket = Ticket {
        ticket: json!({"key": key}).to_string().into(),
    };
    let answer = raw.unary("DoGet", &ticket.encode_to_vec()).await;
    assert!(answer.is_ok(), "{answer:?}");
    let bodies = answer.messages().into_iter().map(|message| {
        let data = arrow_flight::FlightData::decode(message).expect("FlightData");
        data.data_body
    });
    let got = bodies.collect::<Vec<_>>().concat();
    assert!(got[..bytes.len()] == bytes, "{} bytes came", got.len());
}

/// Gets all of what the damaged puts left, and compares it with its checksums.
async fn whatever_was_stored_can_be_read(raw: &mut Raw) {
    let mut entries = 0;
    for namespace in namespaces(raw).await {
        let ticket = json!({"namespace": namespace, "prefix": "", "with": ["checksum"]});
        let ticket = Ticket {
            ticket: ticket.to_string().into(),
        };
        let answer = raw.unary("DoGet", &ticket.encode_to_vec()).await;
        assert!(answer.is_ok(), "{namespace}: {answer:?}");
        entries += checked_rows(&answer).await;
    }
    assert!(entries > 100, "too few of the puts went through: {entries}");
}

async fn checked_rows(answer: &Answer) -> usize {
    use arrow_array::cast::AsArray as _;
    use arrow_flight::decode::FlightRecordBatchStream;
    use arrow_flight::error::FlightError;
    use futures::TryStreamExt as _;

    let messages: Vec<Result<_, FlightError>> = answer
        .messages()
        .into_iter()
        .map(|message| Ok(arrow_flight::FlightData::decode(message).expect("FlightData")))
        .collect();
    let stream = FlightRecordBatchStream::new_from_flight_data(futures::stream::iter(messages));
    let batches: Vec<arrow_array::RecordBatch> = stream.try_collect().await.expect("batches");
    let mut rows = 0;
    for batch in &batches {
        if batch.num_rows() == 0 {
            continue;
        }
        let data = batch.column_by_name("data").expect("data");
        let data = data.as_binary::<i64>();
        let checksum = batch.column_by_name("checksum").expect("checksum");
        let checksum = checksum.as_string::<i32>();
        for (data, checksum) in data.iter().zip(checksum) {
            let own = twox_hash::XxHash3_128::oneshot(data.expect("no nulls"));
            assert_eq!(checksum, Some(&*format!("{own:032x}")));
            rows += 1;
        }
    }
    rows
}

/// A verb, its JSON, and how the JSON becomes a request.
type Request = (&'static str, Vec<u8>, fn(Vec<u8>) -> Vec<u8>);

/// Valid requests of every verb that takes JSON.
fn requests() -> Vec<Request> {
    let mut requests: Vec<Request> = Vec::new();
    for entry in read_list("tickets.json") {
        let json = entry["json"].as_str().expect("a ticket").as_bytes();
        requests.push(("DoGet", json.to_vec(), ticket));
        requests.push(("GetFlightInfo", json.to_vec(), command));
        requests.push(("GetSchema", json.to_vec(), command));
    }
    let bodies = [
        ("exists", r#"{"namespace":"default","keys":["a","b"]}"#),
        ("describe", r#"{"keys":["a"]}"#),
        ("delete", r#"{"keys":["b"],"if_version":"1"}"#),
        ("delete", r#"{"namespace":"n","prefix":"b"}"#),
        ("stats", "{}"),
        ("namespaces", "{}"),
        ("expire", r#"{"keys":["a"],"ttl_ms":1000}"#),
        ("clear", r#"{"namespace":"n","confirm":true}"#),
        ("begin_load", r#"{"namespace":"n"}"#),
        ("commit_load", r#"{"load_id":"1-00000000"}"#),
    ];
    for (name, body) in bodies {
        let json = format!("{name}\n{body}");
        requests.push(("DoAction", json.into_bytes(), action));
    }
    let filter = br#"{"namespace":"default","prefix":"a","limit":10,"after":"b"}"#;
    requests.push(("ListFlights", filter.to_vec(), criteria));
    requests
}

fn ticket(json: Vec<u8>) -> Vec<u8> {
    let ticket = json.into();
    Ticket { ticket }.encode_to_vec()
}

fn command(json: Vec<u8>) -> Vec<u8> {
    let descriptor = FlightDescriptor {
        r#type: DescriptorType::Cmd.into(),
        cmd: json.into(),
        path: Vec::new(),
    };
    descriptor.encode_to_vec()
}

fn criteria(json: Vec<u8>) -> Vec<u8> {
    let expression = json.into();
    Criteria { expression }.encode_to_vec()
}

/// The action's name stands on a line before its body, so that it is damaged too.
fn action(json: Vec<u8>) -> Vec<u8> {
    let line = json.iter().position(|byte| *byte == b'\n');
    let (name, body) = json.split_at(line.unwrap_or(json.len()));
    let action = Action {
        r#type: String::from_utf8_lossy(name).into_owned(),
        body: Bytes::copy_from_slice(body),
    };
    action.encode_to_vec()
}
