//! Golden vectors of `proto-notes/vectors`, held against this code. Other implementations read the
//! same files.

use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::descriptor::PutCommand;
use crate::error::{Error, Result};
use crate::name::{Key, Namespace, Tenant, key_hash};
use crate::ticket::Ticket;
use crate::version::Version;

fn vectors<T: DeserializeOwned>(file: &str) -> T {
    let path = format!(
        "{}/../proto-notes/vectors/{file}",
        env!("CARGO_MANIFEST_DIR")
    );
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn list<'a>(value: &'a Value, name: &str) -> &'a Vec<Value> {
    value[name].as_array().unwrap()
}

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name]
        .as_str()
        .unwrap_or_else(|| panic!("{name} of {value}"))
}

fn assert_refused(vector: &Value, refused: &Error) {
    assert_eq!(
        refused.code.as_str(),
        text(vector, "code"),
        "{vector}: {refused}"
    );
    for says in list(vector, "says") {
        let says = says.as_str().unwrap();
        assert!(refused.message.contains(says), "{vector}: {refused}");
    }
}

/// Each accepted JSON reads as its canonical form does, which is what is written.
fn check_json<T: PartialEq + std::fmt::Debug>(
    file: &str,
    parse: impl Fn(&[u8]) -> Result<T>,
    write: impl Fn(&T) -> String,
) {
    let vectors: Value = vectors(file);
    for vector in list(&vectors, "accepted") {
        let parsed = parse(text(vector, "json").as_bytes());
        let parsed = parsed.unwrap_or_else(|error| panic!("{vector}: {error}"));
        let canonical = text(vector, "canonical");
        assert_eq!(write(&parsed), canonical);
        assert_eq!(parse(canonical.as_bytes()), Ok(parsed));
    }
    for vector in list(&vectors, "refused") {
        let refused = parse(text(vector, "json").as_bytes());
        assert_refused(vector, &refused.expect_err(&vector.to_string()));
    }
}

#[test]
fn key_hashes() {
    let vectors: Vec<Value> = vectors("key_hash.json");
    assert!(vectors.len() > 10);
    for vector in &vectors {
        let tenant = Tenant::parse(text(vector, "tenant")).unwrap();
        let namespace = Namespace::parse(text(vector, "namespace")).unwrap();
        let key = Key::parse(text(vector, "key")).unwrap();
        let hash = key_hash(&tenant, &namespace, &key);
        let hex: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, text(vector, "key_hash"), "{vector}");
    }
}

#[test]
fn versions() {
    let vectors: Value = vectors("versions.json");
    for vector in list(&vectors, "versions") {
        let number = |name: &str| vector[name].as_u64().unwrap();
        let counter = u16::try_from(number("counter")).unwrap();
        let start = u32::try_from(number("start")).unwrap();
        let version = Version::from_parts(number("ms"), counter, start);
        assert_eq!(version.to_string(), text(vector, "version"));
        assert_eq!(Version::parse(text(vector, "version")), Ok(version));
        assert_eq!((version.ms(), version.counter()), (number("ms"), counter));
    }
    for vector in list(&vectors, "refused") {
        assert!(Version::parse(text(vector, "version")).is_err(), "{vector}");
    }
}

#[test]
fn tickets() {
    check_json("tickets.json", Ticket::parse, Ticket::to_json);
}

#[test]
fn descriptors() {
    check_json(
        "descriptors.json",
        PutCommand::parse_cmd,
        PutCommand::to_json,
    );
    let vectors: Value = vectors("descriptors.json");
    let path = |vector: &Value| -> Result<PutCommand> {
        let parts = list(vector, "path").iter();
        let parts: Vec<&str> = parts.map(|part| part.as_str().unwrap()).collect();
        PutCommand::from_path(&parts)
    };
    for vector in list(&vectors, "paths") {
        assert_eq!(path(vector).unwrap().to_json(), text(vector, "canonical"));
    }
    for vector in list(&vectors, "paths_refused") {
        assert_refused(vector, &path(vector).expect_err(&vector.to_string()));
    }
}
