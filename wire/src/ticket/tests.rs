use super::*;
use crate::limits::{MAX_PARTITIONS, MAX_TICKET_KEYS};
use proptest::prelude::*;

fn key() -> impl Strategy<Value = Key> {
    "[^\0]{1,20}".prop_map(|key| Key::parse(&key).unwrap())
}

fn version() -> impl Strategy<Value = Option<Version>> {
    prop::option::of((any::<u64>(), any::<u32>()).prop_map(|(hlc, start)| Version { hlc, start }))
}

fn ticket() -> impl Strategy<Value = Ticket> {
    let select = prop_oneof![
        (
            key(),
            prop::option::of(any::<(u64, u64)>()),
            version(),
            version()
        )
            .prop_map(|(key, rows, unless_version, version)| Select::Key {
                key,
                rows: rows.map(|(a, b)| (a.min(b), a.max(b))),
                unless_version,
                version,
            }),
        prop::collection::vec(key(), 0..5).prop_map(|keys| Select::Keys { keys }),
        (
            "[^\0]{0,20}",
            prop::option::of(((any::<u64>(), any::<u32>()), 0..MAX_PARTITIONS))
        )
            .prop_map(|(prefix, part)| Select::Prefix {
                prefix,
                part: part.map(|((hlc, start), partition)| Part {
                    snapshot: Version { hlc, start },
                    partition,
                }),
            }),
    ];
    let shape = prop::collection::vec(0u64..1000, 0..4).prop_map(|dims| Shape::new(&dims).unwrap());
    let fixed = prop::option::of((prop::sample::select(&DType::ALL[..]), shape));
    let others = (
        prop::option::of(prop::sample::select(Layout::ALL)),
        prop::option::of(1..u64::MAX),
        prop::sample::subsequence(With::ALL, 0..=With::ALL.len()).prop_shuffle(),
        any::<bool>(),
        prop::option::of(1u32..=1024),
    );
    ("[A-Za-z0-9._-]{1,20}", select, fixed, others).prop_map(
        |(namespace, select, fixed, (layout, max_message_bytes, with, null, partitions))| {
            let of_key = matches!(select, Select::Key { .. });
            let of_keys = matches!(select, Select::Keys { .. });
            Ticket {
                namespace: Namespace::parse(&namespace).unwrap(),
                layout: layout.filter(|layout| of_key || *layout != Layout::Flat),
                max_message_bytes,
                fixed,
                with: if of_key { Vec::new() } else { with },
                missing: if of_keys && null {
                    Missing::Null
                } else {
                    Missing::Named
                },
                partitions: partitions
                    .filter(|_| matches!(select, Select::Prefix { part: None, .. })),
                select,
            }
        },
    )
}

fn refused(json: &str) -> String {
    Ticket::parse(json.as_bytes()).unwrap_err().to_string()
}

#[test]
fn what_is_wrong_is_said() {
    let keys = format!(r#"{{"keys":[{}"a"]}}"#, r#""a","#.repeat(MAX_TICKET_KEYS));
    for (json, says) in [
        (
            "{}",
            "expected exactly one of key, keys, prefix; given=`none`",
        ),
        (r#"{"key":"a","prefix":"a"}"#, "given=`key, prefix`"),
        (
            r#"{"key":"a","foo":1}"#,
            "ticket has an unknown member; member=`foo` expected one of namespace, key, keys, prefix,",
        ),
        (r#"{"key":"a","key":"a"}"#, "member=`key` expected it once"),
        (
            r#"{"namespace":"","key":"a"}"#,
            "ticket member `namespace` is wrong: namespace is not a legal name",
        ),
        (
            r#"{"key":"a","rows":[2,1]}"#,
            "rows=`[2, 1]` expected 0 <= start <= end",
        ),
        (r#"{"key":"a","rows":[1]}"#, "the range lacks an end"),
        (r#"{"key":"a","rows":[1,2,3]}"#, "expected at most 2 values"),
        (
            r#"{"key":"a","rows":[-1,2]}"#,
            "ticket member `rows` is wrong: invalid type: integer `-1`",
        ),
        (
            r#"{"keys":["a"],"rows":[0,1]}"#,
            "member=`rows` expected it with key",
        ),
        (
            r#"{"prefix":"a","version":"1"}"#,
            "member=`version` expected it with key",
        ),
        (
            r#"{"prefix":"a","missing":"null"}"#,
            "member=`missing` expected it with keys",
        ),
        (
            r#"{"keys":[],"missing":null}"#,
            "ticket member `missing` is wrong: invalid type: null, expected a string",
        ),
        (
            r#"{"keys":[],"missing":"skip"}"#,
            "value=`skip` expected one of null",
        ),
        (
            r#"{"key":"a","with":["version"]}"#,
            "member=`with` expected it with keys or prefix",
        ),
        (
            r#"{"keys":[],"with":["version","version"]}"#,
            "column=`version` expected it once",
        ),
        (
            r#"{"keys":["a"],"partitions":2}"#,
            "member=`partitions` expected it with prefix",
        ),
        (r#"{"prefix":"","partition":0}"#, "member=`snapshot`"),
        (r#"{"prefix":"","snapshot":"1"}"#, "member=`partition`"),
        (
            r#"{"prefix":"","snapshot":"1","partition":1024}"#,
            "partition=`1024` expected less than 1024",
        ),
        (
            r#"{"prefix":"","snapshot":"1","partition":1,"partitions":2}"#,
            "member=`partitions` expected it with prefix alone",
        ),
        (
            r#"{"key":"a","snapshot":"1","partition":1}"#,
            "member=`snapshot` expected it with prefix",
        ),
        (
            r#"{"prefix":"","partitions":0}"#,
            "partitions=`0` expected 1 to 1024",
        ),
        (
            r#"{"keys":["a"],"layout":"flat"}"#,
            "layout=`flat` expected it with key",
        ),
        (
            r#"{"keys":["a"],"layout":"columns"}"#,
            "expected one of rows, opaque, flat",
        ),
        (
            r#"{"keys":["a"],"dtype":"int8"}"#,
            "ticket with dtype lacks a member; expected member=`shape`",
        ),
        (
            r#"{"keys":["a"],"shape":[]}"#,
            "ticket with shape lacks a member; expected member=`dtype`",
        ),
        (
            r#"{"keys":["a"],"dtype":"int","shape":[]}"#,
            "unknown dtype; dtype=`int` expected one of int8,",
        ),
        (
            r#"{"keys":["a"],"dtype":"int8","shape":[4294967296,4294967296]}"#,
            "shape is too large",
        ),
        (
            r#"{"key":"a","max_message_bytes":0}"#,
            "max_message_bytes=`0` expected at least 1",
        ),
        (
            &keys,
            "ticket member `keys` is wrong: the list is too long; expected at most 10000 values",
        ),
    ] {
        let told = refused(json);
        assert!(
            told.starts_with("invalid_argument: ") && told.contains(says),
            "{told}"
        );
    }
}

#[test]
fn ten_thousand_keys_are_read() {
    let json = format!(
        r#"{{"keys":[{}"a"]}}"#,
        r#""a","#.repeat(MAX_TICKET_KEYS - 1)
    );
    let Select::Keys { keys } = Ticket::parse(json.as_bytes()).unwrap().select else {
        panic!("not keys");
    };
    assert_eq!(keys.len(), MAX_TICKET_KEYS);
}

#[test]
fn the_entry_is_held_against_what_the_ticket_counts_on() {
    let mut ticket = Ticket::key(Namespace::default(), Key::parse("a").unwrap());
    let shape = Shape::new(&[2]).unwrap();
    assert_eq!(ticket.check_fixed(DType::Int8, &shape), Ok(()));
    ticket.fixed = Some((DType::Int8, shape.clone()));
    assert_eq!(ticket.check_fixed(DType::Int8, &shape), Ok(()));
    let dtype = ticket.check_fixed(DType::Int16, &shape).unwrap_err();
    assert!(
        dtype.to_string().starts_with("failed_precondition: "),
        "{dtype}"
    );
    let shape = ticket
        .check_fixed(DType::Int8, &Shape::scalar())
        .unwrap_err();
    assert!(
        shape.to_string().contains("shape=`[]` expected `[2]`"),
        "{shape}"
    );
}

proptest! {
    #[test]
    fn round_trip(ticket in ticket()) {
        prop_assert_eq!(Ticket::parse(ticket.to_json().as_bytes()), Ok(ticket));
    }

    #[test]
    fn any_bytes_are_a_ticket_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
        let _ = Ticket::parse(&bytes);
        let _ = Ticket::parse(&[b"{\"key\":\"", &bytes[..]].concat());
    }

    #[test]
    fn a_broken_ticket_is_a_ticket_or_an_error(
        ticket in ticket(),
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut json = ticket.to_json().into_bytes();
        for (at, byte) in edits {
            let at = at.index(json.len());
            json[at] = byte;
        }
        if let Ok(ticket) = Ticket::parse(&json) {
            prop_assert_eq!(Ticket::parse(ticket.to_json().as_bytes()), Ok(ticket));
        }
        let _ = Ticket::parse(&json[..cut.index(json.len())]);
    }
}
