//! Shapes and schemas that are lies: ten thousand puts, of which none is stored, each refused with a
//! sentence that says what was wrong.

use std::collections::BTreeSet;

use arrow_schema::Field;
use bowstring_tests::Server;
use bowstring_wire::put_result::PutReply;
use bytes::Bytes;
use prost::Message as _;
use serde_json::json;

use super::dice::Dice;
use super::lie_of_schema::{cell, nested, tensor_shape, wrong_dtype, wrong_type};
use super::lie_of_values::{batch_numbers, lists, nulls, opaque, rows};
use super::raw::{Answer, Raw};
use super::state::{InUse, charged_bytes};
use super::stream::{Message, by_command};
use super::{Tally, scaled};

const LIES: usize = 10_000;
const WORKERS: usize = 8;
/// What the machine may charge for `--memory 256MiB`. A shape that fits there is believed so far
/// that room is made for it, so it is the arena that is full of nothing afterwards.
const CHARGED_BYTES_MAX: u64 = (256 << 20) / 100 * 102 + (64 << 20);

/// A put that must not be stored.
pub struct Lie {
    /// What was told, for whoever reads the failure.
    pub what: String,
    /// Schema and batches.
    pub messages: Vec<Message>,
    /// Rows that must be refused one by one; otherwise the whole put is.
    pub by_row: bool,
}

impl Lie {
    pub fn new(what: impl Into<String>, messages: Vec<Message>) -> Self {
        Self {
            what: what.into(),
            messages,
            by_row: false,
        }
    }

    pub fn by_row(mut self) -> Self {
        self.by_row = true;
        self
    }
}

/// Families of lies.
const FAMILIES: [fn(&mut Dice) -> Lie; 10] = [
    wrong_type,
    wrong_dtype,
    tensor_shape,
    cell,
    nested,
    nulls,
    lists,
    batch_numbers,
    rows,
    opaque,
];

#[tokio::test]
async fn ten_thousand_lies_about_shapes_and_schemas_are_never_stored() {
    let server = Server::start();
    let mut raw = Raw::connect(server.address()).await;
    super::mutated::put_and_get(&mut raw, "warm").await;
    super::state::wipe(&mut raw).await;
    let before = (InUse::at_rest(&server).await, charged_bytes(&server));
    let tally = Tally::default();
    let workers = (0..WORKERS).map(|worker| {
        let (address, tally) = (server.address().to_owned(), &tally);
        async move {
            let mut dice = Dice::new(3 << 32 | worker as u64);
            let mut raw = Raw::connect(&address).await;
            let mut sentences = BTreeSet::new();
            for number in 0..scaled(LIES) / WORKERS {
                let lie = FAMILIES[number % FAMILIES.len()](&mut dice);
                let key = format!("lie-{worker}-{number}");
                let answer = tell(&mut raw, &lie, &key).await;
                for (code, sentence) in refusals(&lie, &answer) {
                    assert_is_clear(&lie, &code, &sentence);
                    sentences.insert(template(&sentence));
                }
                tally.add(&answer);
            }
            sentences
        }
    });
    let sentences = futures::future::join_all(workers).await;
    let sentences: BTreeSet<String> = sentences.into_iter().flatten().collect();
    assert!(sentences.len() > 30, "{sentences:#?}");
    let after = (InUse::at_rest(&server).await, charged_bytes(&server));
    assert_eq!(after.0, before.0, "something was stored");
    assert!(after.1 < CHARGED_BYTES_MAX, "{before:?} {after:?}");
    tally.report("lies", after.1.saturating_sub(before.1));
}

async fn tell(raw: &mut Raw, lie: &Lie, key: &str) -> Answer {
    let mut messages = lie.messages.clone();
    let is_single = fields_of(&messages[0].header) == Some(1);
    let command = if is_single {
        json!({"namespace": "lies", "key": key})
    } else {
        json!({"namespace": "lies", "extra_columns": "ignore"})
    };
    messages[0].descriptor = by_command(&command.to_string()).encode_to_vec();
    let frames = messages.iter().map(|message| Bytes::from(message.encode()));
    raw.call("DoPut", frames).await
}

fn fields_of(schema: &[u8]) -> Option<usize> {
    let message = arrow_ipc::root_as_message(schema).ok()?;
    Some(message.header_as_schema()?.fields()?.len())
}

/// Code and sentence of a put's refusal, or of each of its rows'.
fn refusals(lie: &Lie, answer: &Answer) -> Vec<(String, String)> {
    if !lie.by_row {
        let told = answer.message.strip_prefix(&format!("{}: ", answer.code));
        let told = told.unwrap_or_else(|| panic!("{}: {answer:?}", lie.what));
        return vec![(answer.code.clone(), told.to_owned())];
    }
    assert!(answer.is_ok(), "{}: {answer:?}", lie.what);
    let result = arrow_flight::PutResult::decode(answer.messages()[0]).expect("a PutResult");
    let reply = PutReply::parse(&result.app_metadata).expect("JSON");
    assert_eq!(
        (reply.stored, reply.existed),
        (0, 0),
        "{}: {reply:?}",
        lie.what
    );
    assert!(reply.errors_total > 0, "{}: {reply:?}", lie.what);
    let errors = reply.errors.iter();
    errors
        .map(|error| (error.code.as_str().to_owned(), error.message.to_string()))
        .collect()
}

fn assert_is_clear(lie: &Lie, code: &str, sentence: &str) {
    let what = &lie.what;
    // Larger than the whole memory is `resource_exhausted` before anybody can count its bytes.
    let codes = ["invalid_argument", "unimplemented", "resource_exhausted"];
    assert!(codes.contains(&code), "{what}: {code}: {sentence}");
    let tells =
        sentence.contains('`') || sentence.contains("expected") || sentence.contains("send");
    assert!(tells && sentence.len() > 20, "{what}: {code}: {sentence}");
    assert!(sentence.len() < 1100, "{what}: {code}: {sentence}");
    let is_text = |c: char| c == ' ' || !(c.is_control() || c.is_whitespace());
    assert!(
        sentence.chars().all(is_text),
        "{what}: {code}: {sentence:?}"
    );
}

/// A sentence without its numbers, to see how many there are.
fn template(sentence: &str) -> String {
    let mut template = String::new();
    for c in sentence.chars() {
        if !c.is_ascii_digit() {
            template.push(c);
        } else if !template.ends_with('#') {
            template.push('#');
        }
    }
    template
}

/// A column named so that a sentence about it is known.
pub fn named(field: Field) -> Field {
    field.with_name("liar")
}
