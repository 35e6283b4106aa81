//! Declared lengths that are lies: a thousand requests at once say that gigabytes follow, and none of
//! them gets any.

use arrow_ipc::CompressionType;
use arrow_schema::{DataType, Field};
use bowstring_tests::Server;
use bytes::Bytes;
use serde_json::json;

use super::lie::{Batch, column, schema, tensor_column};
use super::mutated::put_and_get;
use super::raw::{Open, Raw, prefixed};
use super::state::{InUse, charged_bytes, ledger_used};
use super::stream::{Message, by_command, by_path, encode_fields, field, put_varint};
use super::{Tally, scaled};
use prost::Message as _;

/// Requests that are under way together.
const AT_ONCE: usize = 1_000;
/// What the wire account keeps for the next calls once there were many.
const KEPT_FOR_CALLS: u64 = 2 << 20;
/// Those of one connection; a server takes 256.
const A_CONNECTION: usize = 200;
/// What a thousand calls themselves may cost.
const MORE_BYTES_MAX: u64 = 64 << 20;

/// How a lie is answered. The last is a row too large for a message, which a get may ask for.
const REFUSED: [&str; 4] = [
    "invalid_argument",
    "resource_exhausted",
    "unimplemented",
    "failed_precondition",
];

/// What is claimed: 2³¹ to 2⁶³ − 1, and below zero.
const CLAIMS: [i64; 14] = [
    1 << 31,
    (1 << 31) + 8,
    (1 << 32) - 1,
    1 << 32,
    (1 << 32) + 64,
    1 << 40,
    1 << 62,
    i64::MAX / 4,
    i64::MAX / 2 + 1,
    i64::MAX - 7,
    i64::MAX,
    -1,
    -8,
    i64::MIN,
];

#[tokio::test]
async fn a_thousand_lying_lengths_at_once_get_no_memory() {
    let server = Server::start();
    let mut bystander = Raw::connect(server.address()).await;
    put_and_get(&mut bystander, "bystander").await;
    let before = (InUse::at_rest(&server).await, charged_bytes(&server));

    let lies = lies();
    let tally = Tally::default();
    let mut more = 0;
    for _ in 0..scaled(1) {
        let mut connections = Vec::new();
        let mut calls: Vec<(String, Open)> = Vec::new();
        for number in 0..AT_ONCE {
            if number % A_CONNECTION == 0 {
                connections.push(Raw::connect(server.address()).await);
            }
            let Lie { what, verb, bytes } = &lies[number % lies.len()];
            let raw = connections.last_mut().expect("a connection");
            let mut call = raw.open(verb).await;
            call.send(bytes.clone(), false);
            calls.push((what.clone(), call));
        }
        // All of them hang now, but for those that are refused already; others do not notice.
        for round in 0..20 {
            let used = ledger_used(&server.metrics());
            #[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
            let memory = (256u64 << 20) as f64;
            assert!(used <= memory, "{used}");
            more = more.max(charged_bytes(&server).saturating_sub(before.1));
            put_and_get(&mut bystander, &format!("beside-{round}")).await;
        }
        put_and_get(&mut Raw::connect(server.address()).await, "newcomer").await;
        for (what, mut call) in calls {
            call.send(Bytes::new(), true);
            let answer = call.answer().await;
            assert!(REFUSED.contains(&&*answer.code), "{what}: {answer:?}");
            tally.add(&answer);
        }
    }
    more = more.max(charged_bytes(&server).saturating_sub(before.1));
    assert!(more < MORE_BYTES_MAX, "{more} bytes");
    super::state::wipe(&mut bystander).await;
    put_and_get(&mut bystander, "bystander").await;
    let after = InUse::at_rest(&server).await;
    assert_eq!(
        (after.arena, after.entries),
        (before.0.arena, before.0.entries)
    );
    assert!(after.wire <= before.0.wire + KEPT_FOR_CALLS, "{after:?}");
    tally.report("lying lengths", more);
}

struct Lie {
    what: String,
    verb: &'static str,
    /// The request as far as its client sends it.
    bytes: Bytes,
}

fn lies() -> Vec<Lie> {
    let mut lies = Vec::new();
    for claim in CLAIMS {
        let mut tell = |what: &str, verb, bytes: Vec<u8>| {
            let what = format!("{what} {claim}");
            lies.push(Lie {
                what,
                verb,
                bytes: bytes.into(),
            });
        };
        for (what, batch) in batches(claim) {
            tell(what, "DoPut", put(&[primitive(), batch.message(64)]));
        }
        for (what, fields) in columns(claim) {
            tell(
                what,
                "DoPut",
                put(&[schema(fields, &[]), Batch::of(16).message(64)]),
            );
        }
        let shapes = [
            format!("[{claim}]"),
            format!("[2, {claim}]"),
            format!("[{claim}, {claim}]"),
        ];
        for shape in shapes {
            let schema = schema(vec![column(DataType::Float32)], &[("tensor.shape", &shape)]);
            tell(
                "tensor.shape",
                "DoPut",
                put(&[schema, Batch::of(16).message(64)]),
            );
        }
        for size in [json!(claim), json!(claim.to_string())] {
            let command = json!({"key": "lie", "size_bytes": size});
            let mut first = primitive();
            first.descriptor = by_command(&command.to_string()).encode_to_vec();
            tell("size_bytes", "DoPut", first.encode());
        }
        for number in [
            field::DESCRIPTOR,
            field::HEADER,
            field::APP_METADATA,
            field::BODY,
            7,
        ] {
            tell("a field", "DoPut", claiming_field(number, claim));
        }
        tell("a prefix", "DoPut", claiming_prefix(claim));
        tell("a compressed message", "DoPut", compressed_message(claim));
        for verb in [
            "DoGet",
            "GetFlightInfo",
            "GetSchema",
            "DoAction",
            "ListFlights",
        ] {
            tell("a unary prefix", verb, claiming_prefix(claim));
            tell("a unary field", verb, claiming_unary(claim));
        }
        for json in [
            json!({"key": "bystander", "rows": [0, claim]}),
            json!({"key": "bystander", "rows": [claim, claim]}),
            json!({"keys": ["bystander"], "dtype": "int8", "shape": [claim, 2]}),
            json!({"prefix": "", "dtype": "int8", "shape": [claim, claim]}),
            json!({"prefix": "", "partitions": claim}),
        ] {
            let ticket = json.to_string().into();
            let ticket = arrow_flight::Ticket { ticket }.encode_to_vec();
            tell("a ticket", "DoGet", prefixed(&ticket));
        }
    }
    lies
}

/// A record batch with one number that is a lie.
fn batches(claim: i64) -> Vec<(&'static str, Batch)> {
    let mut lies = Vec::new();
    let mut tell = |what, lie: &dyn Fn(&mut Batch)| {
        let mut batch = Batch::of(16);
        lie(&mut batch);
        lies.push((what, batch));
    };
    tell("bodyLength", &|batch| batch.body_length = claim);
    tell("length", &|batch| batch.rows = claim);
    tell("a node's length", &|batch| batch.nodes[0].0 = claim);
    tell("length and node", &|batch| {
        (batch.rows, batch.nodes[0].0) = (claim, claim);
    });
    tell("null_count", &|batch| batch.nodes[0].1 = claim);
    tell("a buffer's length", &|batch| batch.buffers[1].1 = claim);
    tell("a buffer's offset", &|batch| batch.buffers[1].0 = claim);
    tell("a bitmap", &|batch| batch.buffers[0] = (0, claim));
    tell("everything", &|batch| {
        batch.rows = claim;
        batch.nodes[0] = (claim, 0);
        batch.buffers[1] = (0, claim);
        batch.body_length = claim;
    });
    tell("variadic counts", &|batch| batch.variadic = vec![claim; 3]);
    for codec in [CompressionType::LZ4_FRAME, CompressionType::ZSTD] {
        tell("a compressed body", &|batch| {
            batch.compression = Some(codec);
            batch.body_length = 64;
        });
    }
    lies
}

/// Columns whose type says how large a value is.
fn columns(claim: i64) -> Vec<(&'static str, Vec<Field>)> {
    let size = i32::try_from(claim.clamp(i64::from(i32::MIN), i64::from(i32::MAX)));
    let size = size.expect("a clamped number");
    let float = || Field::new("item", DataType::Float32, false);
    let list = |item: Field| DataType::FixedSizeList(item.into(), size);
    let shape = format!("{{\"shape\":[{claim}]}}");
    let permuted = format!("{{\"shape\":[2,{claim}],\"permutation\":[1,0]}}");
    vec![
        ("a list's size", vec![column(list(float()))]),
        (
            "lists of lists",
            vec![column(list(Field::new("item", list(float()), false)))],
        ),
        (
            "a cell's shape",
            vec![tensor_column(DataType::Float32, 16, &shape)],
        ),
        (
            "a large cell",
            vec![tensor_column(DataType::Float32, size, &shape)],
        ),
        (
            "a permuted cell",
            vec![tensor_column(DataType::Float32, 16, &permuted)],
        ),
        (
            "bytes of a size",
            vec![column(DataType::FixedSizeBinary(size))],
        ),
        (
            "a key of a size",
            vec![
                Field::new("key", DataType::FixedSizeBinary(size), false),
                Field::new("tensor", DataType::Float32, false),
            ],
        ),
        (
            "rows of a size",
            vec![
                Field::new("key", DataType::Utf8, false),
                Field::new("tensor", list(float()), false),
            ],
        ),
    ]
}

fn primitive() -> Message {
    schema(vec![column(DataType::Float32)], &[])
}

fn put(messages: &[Message]) -> Vec<u8> {
    let mut messages = messages.to_vec();
    messages[0].descriptor = by_path(["lie"]).encode_to_vec();
    messages.iter().flat_map(Message::encode).collect()
}

/// A first message in which one field claims to be long.
fn claiming_field(number: u64, claim: i64) -> Vec<u8> {
    let descriptor = by_path(["lie"]).encode_to_vec();
    let mut message = Vec::new();
    if number != field::DESCRIPTOR {
        message = encode_fields(&[(field::DESCRIPTOR, &descriptor)]);
    }
    put_varint(&mut message, number << 3 | 2);
    put_varint(&mut message, claim.cast_unsigned());
    message.extend([0; 64]);
    let mut message = prefixed(&message);
    // The message itself claims as much as it can, or the field could not be believed.
    message[1..5].copy_from_slice(&u32::MAX.to_be_bytes());
    message
}

fn claiming_prefix(claim: i64) -> Vec<u8> {
    let length = u32::try_from(claim).unwrap_or(u32::MAX).max(1 << 31);
    let mut request = vec![0];
    request.extend(length.to_be_bytes());
    request.extend([0x0a, 0x03, b'{', b'"', b'k']);
    request
}

fn claiming_unary(claim: i64) -> Vec<u8> {
    let mut message = vec![0x0a];
    put_varint(&mut message, claim.cast_unsigned());
    message.extend([b'{'; 30]);
    prefixed(&message)
}

fn compressed_message(claim: i64) -> Vec<u8> {
    let mut request = claiming_prefix(claim);
    request[0] = 1;
    request
}
