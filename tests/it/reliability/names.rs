//! Hostile names: five thousand, as keys, namespaces, tickets, actions and prefixes. Nothing is opened
//! outside, every name that is taken comes back byte for byte and means one entry, and every other is
//! refused with a sentence.

use std::collections::BTreeSet;
use std::fs;

use arrow_flight::{Action, Criteria, FlightData, FlightInfo, Ticket};
use bowstring_tests::Server;
use bowstring_wire::dtype::DType;
use bytes::Bytes;
use prost::Message as _;
use serde_json::json;
use twox_hash::XxHash3_128;

use super::dice::Dice;
use super::hostile::{as_json, hostile, is_key, is_namespace};
use super::raw::{Answer, Raw, prefixed};
use super::state::{act_raw, open_files, result_of};
use super::stream::{Message, encode_fields, put_varint, tensor_stream};
use super::{Tally, scaled};

const NAMES: usize = 5_000;
/// Names between two looks at what the server has open.
const LOOK_AFTER: usize = 250;

#[tokio::test]
async fn hostile_names_are_taken_as_they_are_or_refused() {
    // What a name says goes to the log as well.
    let server = Server::builder().flag("--log-level", "debug").start();
    let mut raw = Raw::connect(server.address()).await;
    let folder = fs::read_link(format!("/proc/{}/cwd", server.pid())).expect("a process");
    let before = listing(&folder);
    let canary = format!("/tmp/bowstring-canary-{}", server.pid());
    let mut dice = Dice::new(19);
    let (keys, namespaces, other) = (Tally::default(), Tally::default(), Tally::default());
    let mut taken = BTreeSet::new();
    for number in 0..scaled(NAMES) {
        let name = hostile(&mut dice, &canary);
        keys.add(&as_key(&mut raw, &mut dice, &name, &mut taken).await);
        namespaces.add(&as_namespace(&mut raw, &mut dice, &name).await);
        for answer in as_anything_else(&mut raw, &mut dice, &name).await {
            other.add(&answer);
        }
        if number % LOOK_AFTER == 0 {
            assert_nothing_is_open(&server);
        }
    }
    assert_nothing_is_open(&server);
    assert_eq!(listing(&folder), before, "in {}", folder.display());
    assert!(fs::symlink_metadata(&canary).is_err(), "{canary} is there");
    assert!(taken.len() > scaled(NAMES) / 4, "{}", taken.len());
    assert_is_a_log(&server.stderr());
    keys.report("hostile keys", 0);
    namespaces.report("hostile namespaces", 0);
    other.report("hostile tickets, actions and prefixes", 0);
}

/// Puts a tensor at a key, and finds it by every way in which a key is said.
async fn as_key(
    raw: &mut Raw,
    dice: &mut Dice,
    name: &[u8],
    taken: &mut BTreeSet<Vec<u8>>,
) -> Answer {
    let by_path = dice.once_in(2);
    let json = as_json(dice, name);
    let descriptor = if by_path {
        descriptor(&[b"hostile", name])
    } else {
        let command = [&b"{\"namespace\":\"hostile\",\"key\":\""[..], &json, b"\"}"].concat();
        described(2, &[(2, &command)])
    };
    let data = XxHash3_128::oneshot(name).to_le_bytes();
    let answer = put(raw, descriptor, &data).await;
    if !is_key(name) {
        assert_refused(&answer, name);
        return answer;
    }
    assert!(answer.is_ok(), "{}: {answer:?}", shown(name));
    taken.insert(name.to_vec());

    let ticket = [&b"{\"namespace\":\"hostile\",\"key\":\""[..], &json, b"\"}"].concat();
    let got = raw.unary("DoGet", &ticket_of(&ticket)).await;
    let (key, bytes) = tensor_of(&got);
    assert_eq!(key.as_bytes(), name);
    assert_eq!(bytes[..16], data, "another tensor is at {}", shown(name));

    let body = [
        &b"{\"namespace\":\"hostile\",\"keys\":[\""[..],
        &json,
        b"\"]}",
    ]
    .concat();
    let found = act_raw(raw, "exists", &body).await;
    assert!(found.is_ok(), "{}: {found:?}", shown(name));
    let found = &result_of(&found)["keys"][0];
    let name = str::from_utf8(name).expect("a key is text");
    assert_eq!(found, &json!({"key": name, "found": true}));

    let filter = json!({"namespace": "hostile", "prefix": name, "limit": 1});
    let criteria = Criteria {
        expression: filter.to_string().into(),
    };
    let listed = raw.unary("ListFlights", &criteria.encode_to_vec()).await;
    let info = FlightInfo::decode(listed.messages()[0]).expect("a FlightInfo");
    let path = info.flight_descriptor.expect("a descriptor").path;
    assert_eq!(path, ["hostile", name]);
    answer
}

async fn as_namespace(raw: &mut Raw, dice: &mut Dice, name: &[u8]) -> Answer {
    let by_path = dice.once_in(2);
    let json = as_json(dice, name);
    let data = XxHash3_128::oneshot(name).to_le_bytes();
    let descriptor = if by_path {
        descriptor(&[name, b"key"])
    } else {
        let command = [&b"{\"key\":\"key\",\"namespace\":\""[..], &json, b"\"}"].concat();
        described(2, &[(2, &command)])
    };
    let answer = put(raw, descriptor, &data).await;
    let ticket = [&b"{\"key\":\"key\",\"namespace\":\""[..], &json, b"\"}"].concat();
    let got = raw.unary("DoGet", &ticket_of(&ticket)).await;
    if is_namespace(name) {
        assert!(answer.is_ok(), "{}: {answer:?}", shown(name));
        let (_, bytes) = tensor_of(&got);
        assert_eq!(bytes[..16], data, "another tensor is in {}", shown(name));
    } else {
        assert_refused(&answer, name);
        assert_refused(&got, name);
    }
    answer
}

/// What is no name of an entry, and must not do more than find nothing.
async fn as_anything_else(raw: &mut Raw, dice: &mut Dice, name: &[u8]) -> Vec<Answer> {
    let json = as_json(dice, name);
    let prefix = [
        &b"{\"namespace\":\"elsewhere\",\"prefix\":\""[..],
        &json,
        b"\"}",
    ]
    .concat();
    let after = [
        &b"{\"namespace\":\"hostile\",\"limit\":1,\"after\":\""[..],
        &json,
        b"\"}",
    ]
    .concat();
    let member = [&b"{\"key\":\"a\",\""[..], &json, b"\":1}"].concat();
    let answers = vec![
        raw.unary("DoGet", &ticket_of(&prefix)).await,
        raw.unary("DoGet", &ticket_of(name)).await,
        raw.unary("DoGet", &ticket_of(&member)).await,
        raw.unary("GetFlightInfo", &descriptor(&[name])).await,
        raw.unary("GetFlightInfo", &descriptor(&[name, name, name]))
            .await,
        act_raw(raw, "delete", &prefix).await,
        act_raw(raw, "describe", name).await,
        raw.unary("ListFlights", &encode_fields(&[(1, &after)]))
            .await,
        action_named(raw, name).await,
        raw.unary(&format!("/{}", path_of(name)), &[]).await,
    ];
    for answer in &answers {
        assert!(answer.status.is_some(), "{}: {answer:?}", shown(name));
        assert_ne!(answer.code, "internal", "{}: {answer:?}", shown(name));
        assert_is_visible(answer, name);
    }
    answers
}

async fn put(raw: &mut Raw, descriptor: Vec<u8>, data: &[u8]) -> Answer {
    let put = tensor_stream("named", DType::UInt8, &[16], data, 1 << 20);
    let mut messages = put.messages;
    messages[0].descriptor = descriptor;
    let frames = messages.iter().map(Message::encode).map(Bytes::from);
    raw.call("DoPut", frames).await
}

async fn action_named(raw: &mut Raw, name: &[u8]) -> Answer {
    let mut request = Vec::new();
    put_varint(&mut request, 1 << 3 | 2);
    put_varint(&mut request, name.len() as u64);
    request.extend_from_slice(name);
    // The same bytes, where they are text, are what a client library would send.
    if let Ok(name) = str::from_utf8(name)
        && !name.is_empty()
    {
        let action = Action {
            r#type: name.to_owned(),
            body: Bytes::new(),
        };
        assert_eq!(request, action.encode_to_vec());
    }
    raw.call("DoAction", [Bytes::from(prefixed(&request))])
        .await
}

/// A descriptor `PATH`, whatever its parts are.
fn descriptor(path: &[&[u8]]) -> Vec<u8> {
    let parts: Vec<(u64, &[u8])> = path.iter().map(|part| (3, *part)).collect();
    described(1, &parts)
}

fn described(kind: u8, fields: &[(u64, &[u8])]) -> Vec<u8> {
    let mut descriptor = vec![1 << 3, kind];
    descriptor.extend(encode_fields(fields));
    descriptor
}

fn ticket_of(json: &[u8]) -> Vec<u8> {
    let ticket = Bytes::copy_from_slice(json);
    Ticket { ticket }.encode_to_vec()
}

/// A name as part of an HTTP path, as far as a client can send it.
fn path_of(name: &[u8]) -> String {
    let byte = |byte: &u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'.' | b'/' | b'_' | b'-' => {
            char::from(*byte).to_string()
        }
        other => format!("%{other:02x}"),
    };
    name.iter().take(1000).map(byte).collect()
}

/// Key and bytes of a get of one tensor.
fn tensor_of(answer: &Answer) -> (String, Vec<u8>) {
    assert!(answer.is_ok(), "{answer:?}");
    let messages: Vec<FlightData> = answer
        .messages()
        .into_iter()
        .map(|message| FlightData::decode(message).expect("FlightData"))
        .collect();
    let schema = arrow_ipc::root_as_message(&messages[0].data_header).expect("a schema");
    let schema = schema.header_as_schema().expect("a schema");
    let pairs = schema.custom_metadata().expect("metadata");
    let key = pairs.iter().find(|pair| pair.key() == Some("tensor.key"));
    let key = key.and_then(|pair| pair.value()).expect("tensor.key");
    (key.to_owned(), messages[1].data_body.to_vec())
}

fn assert_refused(answer: &Answer, name: &[u8]) {
    assert_eq!(
        answer.code,
        "invalid_argument",
        "{}: {answer:?}",
        shown(name)
    );
    let sentence = answer.message.strip_prefix("invalid_argument: ");
    let is_clear = |sentence: &str| sentence.len() > 20 && sentence.len() < 2000;
    assert!(
        sentence.is_some_and(is_clear),
        "{}: {answer:?}",
        shown(name)
    );
    assert_is_visible(answer, name);
}

/// An error may quote a name, but not so that it steers a terminal.
fn assert_is_visible(answer: &Answer, name: &[u8]) {
    let steers = |c: char| c.is_control() || ('\u{202a}'..='\u{202e}').contains(&c);
    assert!(
        !answer.message.contains(steers),
        "{}: {answer:?}",
        shown(name)
    );
}

/// Whatever a name says: sockets, pipes, the arena.
fn assert_nothing_is_open(server: &Server) {
    for file in open_files(server.pid()) {
        let kinds = ["socket:", "pipe:", "anon_inode:", "/memfd:", "/dev/null"];
        let known = kinds.iter().any(|kind| file.starts_with(kind));
        assert!(known, "the server has {file} open");
    }
}

/// Every line begins with a time, and none has what steers a terminal.
fn assert_is_a_log(text: &str) {
    // The last line may be cut off.
    let lines: Vec<&str> = text.lines().collect();
    for line in lines.iter().take(lines.len().saturating_sub(1)) {
        let begins = line.starts_with("20") && line.get(4..5) == Some("-");
        assert!(begins, "not a line of ours: {line:?}");
        assert!(!line.contains(char::is_control), "{line:?}");
    }
}

fn listing(folder: &std::path::Path) -> BTreeSet<String> {
    let entries = fs::read_dir(folder).expect("a folder");
    let name = |entry: std::io::Result<fs::DirEntry>| entry.expect("an entry").file_name();
    entries
        .map(|entry| name(entry).to_string_lossy().into_owned())
        .collect()
}

fn shown(name: &[u8]) -> String {
    let end = name.len().min(200);
    format!("{} bytes `{}`", name.len(), name[..end].escape_ascii())
}
