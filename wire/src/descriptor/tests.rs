use super::*;
use proptest::prelude::*;

fn command() -> impl Strategy<Value = PutCommand> {
    let names = (
        "[A-Za-z0-9._-]{1,20}",
        prop::option::of("[^\0]{1,20}"),
        prop::option::of("[^\0]{1,20}"),
        prop::option::of(".{0,20}"),
        prop::option::of("[a-z]{1,20}"),
    );
    let words = (
        prop::option::of(prop::sample::select(Mode::ALL)),
        prop::option::of(prop::sample::select(Admit::ALL)),
        prop::option::of(prop::sample::select(Wait::ALL)),
        prop::option::of(prop::sample::select(ExtraColumns::ALL)),
        prop::option::of(prop::sample::select(&DType::ALL[..])),
        any::<[bool; 3]>(),
    );
    let numbers = (
        prop::option::of((any::<u64>(), any::<u32>())),
        prop::option::of(1..=MAX_TTL_MS),
        prop::option::of(any::<u128>()),
        prop::option::of(any::<u64>()),
    );
    let metadata = prop::option::of(prop::collection::btree_map(".{0,8}", ".{0,8}", 0..4));
    (names, words, numbers, metadata).prop_map(|(names, words, numbers, metadata)| PutCommand {
        namespace: Namespace::parse(&names.0).unwrap(),
        key: names.1.map(|key| Key::parse(&key).unwrap()),
        mode: words.0,
        if_version: numbers.0.map(|(hlc, start)| Version { hlc, start }),
        ttl_ms: numbers.1,
        pin: words.5[0],
        metadata: metadata.map(|pairs| Metadata::new(pairs).unwrap()),
        checksum: numbers.2,
        size_bytes: numbers.3,
        admit: words.1,
        wait: words.2,
        load_id: names.4,
        progress: words.5[1],
        key_column: names.2,
        tensor_column: names.3,
        extra_columns: words.3,
        dtype: words.4,
        ragged: words.5[2],
    })
}

fn refused(json: &str) -> String {
    PutCommand::parse_cmd(json.as_bytes())
        .unwrap_err()
        .to_string()
}

#[test]
fn paths() {
    let one = PutCommand::from_path(&["k"]).unwrap();
    assert_eq!(one.namespace, Namespace::default());
    assert_eq!(one.key, Some(Key::parse("k").unwrap()));
    let two = PutCommand::from_path(&["n".to_owned(), "k".to_owned()]).unwrap();
    assert_eq!(two.namespace.as_str(), "n");
    for (path, says) in [
        (&[][..], "parts=`0` expected [key] or [namespace, key]"),
        (
            &["a", "b", "c"],
            "parts=`3` expected [key] or [namespace, key]",
        ),
        (&["", "k"], "namespace is not a legal name"),
        (&["n", ""], "key is empty"),
    ] {
        let told = PutCommand::from_path(path).unwrap_err().to_string();
        assert!(told.contains(says), "{told}");
    }
}

#[test]
fn nothing_said_is_a_bulk_put_of_the_default_namespace() {
    let command = PutCommand::parse_cmd(b"{}").unwrap();
    assert_eq!(command, PutCommand::default());
    assert_eq!(command.to_json(), r#"{"namespace":"default"}"#);
}

#[test]
fn what_is_wrong_is_said() {
    for (json, says) in [
        (
            r#"{"mode":"upsert"}"#,
            "put command member `mode` is wrong: unknown value; value=`upsert` expected one of create, keep, replace",
        ),
        (
            r#"{"extra_columns":"drop"}"#,
            "expected one of refuse, ignore, metadata",
        ),
        (r#"{"ttl_ms":0}"#, "ttl_ms=`0` expected 1 to 3153600000000"),
        (
            r#"{"ttl_ms":-5}"#,
            "put command member `ttl_ms` is wrong: invalid type: integer `-5`",
        ),
        (
            r#"{"metadata":{"a":1}}"#,
            "put command member `metadata` is wrong: invalid type: integer `1`, expected a string",
        ),
        (
            r#"{"metadata":{"a":"","a":""}}"#,
            "metadata has a name twice; name=`a`",
        ),
        (
            r#"{"checksum":"xyz"}"#,
            "value=`xyz` expected 32 hexadecimal digits",
        ),
        (
            r#"{"if_version":7}"#,
            "expected a version, which is a string",
        ),
        (r#"{"load_id":""}"#, "impossible load_id; bytes=`0`"),
        (r#"{"pin":"yes"}"#, "expected a boolean"),
        (
            r#"{"keys":[]}"#,
            "unknown member; member=`keys` expected one of namespace, key, mode,",
        ),
    ] {
        let told = refused(json);
        assert!(
            told.starts_with("invalid_argument: ") && told.contains(says),
            "{told}"
        );
    }
    let large = format!(r#"{{"metadata":{{"a":"{}"}}}}"#, "x".repeat(1 << 20));
    assert!(refused(&large).starts_with("resource_exhausted: metadata is too large; bytes=`"));
}

proptest! {
    #[test]
    fn round_trip(command in command()) {
        prop_assert_eq!(PutCommand::parse_cmd(command.to_json().as_bytes()), Ok(command));
    }

    #[test]
    fn any_bytes_are_a_command_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
        let _ = PutCommand::parse_cmd(&bytes);
        let _ = PutCommand::parse_cmd(&[b"{", &bytes[..]].concat());
    }

    #[test]
    fn a_broken_command_is_a_command_or_an_error(
        command in command(),
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut json = command.to_json().into_bytes();
        for (at, byte) in edits {
            let at = at.index(json.len());
            json[at] = byte;
        }
        if let Ok(command) = PutCommand::parse_cmd(&json) {
            prop_assert_eq!(PutCommand::parse_cmd(command.to_json().as_bytes()), Ok(command));
        }
        let _ = PutCommand::parse_cmd(&json[..cut.index(json.len())]);
    }
}
