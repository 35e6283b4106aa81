use super::*;
use crate::limits::{MAX_JSON_INTEGER, MAX_RANK};
use crate::name::Key;
use crate::shape::Shape;
use proptest::prelude::*;

object! {
    struct Thing as "thing" { key: Key, size: Uint, flag: bool, shape: Shape, sum: Hex128 }
}

fn refused(json: &str) -> String {
    match read::<Thing>(json.as_bytes()) {
        Ok(_) => panic!("accepted: {json}"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn members_are_read_once_and_by_name() {
    let thing: Thing = read(br#" {"key": "a"}"#.trim_ascii()).unwrap();
    assert_eq!(thing.key, Some(Key::parse("a").unwrap()));
    // A name that is written with escapes is the same name.
    let thing: Thing = read(br#"{"k\u0065y":"\u00e4"}"#).unwrap();
    assert_eq!(thing.key, Some(Key::parse("ä").unwrap()));
    assert!(read_or_nothing::<Thing>(b"").unwrap().key.is_none());

    assert_eq!(
        refused(r#"{"foo":1}"#),
        "invalid_argument: thing has an unknown member; member=`foo` expected one of key, \
         size, flag, shape, sum"
    );
    assert_eq!(
        refused(r#"{"key":"a","flag":true,"key":"a"}"#),
        "invalid_argument: thing has a member twice; member=`key` expected it once"
    );
}

#[test]
fn a_wrong_value_is_told_with_its_member() {
    for (json, says) in [
        (
            r#"{"key":5}"#,
            "thing member `key` is wrong: invalid type: integer `5`, expected a key",
        ),
        (
            r#"{"key":null}"#,
            "thing member `key` is wrong: invalid type: null",
        ),
        (
            r#"{"key":""}"#,
            "thing member `key` is wrong: key is empty; expected 1 to 1024",
        ),
        (r#"{"flag":1}"#, "expected a boolean"),
        (
            r#"{"size":-1}"#,
            "invalid type: integer `-1`, expected an integer from 0",
        ),
        (r#"{"size":1.0}"#, "expected an integer from 0"),
        (
            r#"{"size":"01"}"#,
            r#"invalid value: string "01", expected an integer"#,
        ),
        (
            r#"{"size":9007199254740993}"#,
            "or a larger one as a string of digits",
        ),
        (
            r#"{"shape":[1,-2]}"#,
            "thing member `shape` is wrong: invalid type: integer `-2`",
        ),
        (
            r#"{"sum":"12"}"#,
            "value=`12` expected 32 hexadecimal digits",
        ),
    ] {
        let told = refused(json);
        assert!(
            told.starts_with("invalid_argument: ") && told.contains(says),
            "{told}"
        );
    }
    let long = refused(&format!(r#"{{"shape":{:?}}}"#, [1; 33]));
    assert!(
        long.contains("too long; expected at most 32 values"),
        "{long}"
    );
}

#[test]
fn what_is_not_json_is_told_with_its_place() {
    assert_eq!(
        refused(r#"{"key":"a"} x"#),
        "invalid_argument: thing is not valid JSON: trailing characters; line=`1` column=`13`"
    );
    for bad in [
        "{",
        "{]",
        r#"{"key""#,
        r#"{"key":"a""#,
        r#"{"key":"a",}"#,
        r#"{"key":"\ud800"}"#,
    ] {
        let told = refused(bad);
        assert!(told.contains("is not valid JSON: "), "{bad}: {told}");
    }
    assert!(refused("[]").contains("expected its first byte to be {"));
    assert!(refused("").contains("is not a JSON object"));
    let told = read::<Thing>(b"{\"key\":\"\xff\"}")
        .err()
        .unwrap()
        .to_string();
    assert!(told.contains("not UTF-8; byte=`8`"), "{told}");
}

#[test]
fn size_and_depth_are_limited() {
    let large = vec![b'{'; MAX_JSON_BYTES + 1];
    let told = read::<Thing>(&large).err().unwrap();
    assert_eq!(told.code, crate::error::Code::ResourceExhausted);
    for open in ["[", "{\"key\":"] {
        let deep = format!("{{\"key\":{}", open.repeat(100_000));
        assert!(refused(&deep).contains("expected a key"));
    }
    let quoted = format!(r#"{{"size":"{}"}}"#, "x".repeat(1 << 20));
    assert!(refused(&quoted).len() < MAX_ERROR_BYTES);
    let name = format!(r#"{{"{}":1}}"#, "x".repeat(1 << 20));
    assert!(refused(&name).len() < MAX_ERROR_BYTES);
}

proptest! {
    #[test]
    fn integers_round_trip(value in any::<u64>().prop_map(|v| v >> (v % 64))) {
        let json = to_string(&Uint(value));
        prop_assert_eq!(json.starts_with('"'), value > MAX_JSON_INTEGER);
        let thing: Thing = read(format!(r#"{{"size":{json}}}"#).as_bytes()).unwrap();
        prop_assert_eq!(thing.size, Some(Uint(value)));
    }

    #[test]
    fn shapes_and_checksums_round_trip(dims in prop::collection::vec(0..=u64::MAX >> 1, 0..=MAX_RANK), sum in any::<u128>()) {
        let shape = Shape::new(&dims).unwrap();
        let json = format!(r#"{{"shape":{},"sum":{}}}"#, to_string(&shape), to_string(&Hex128(sum)));
        let thing: Thing = read(json.as_bytes()).unwrap();
        prop_assert_eq!(thing.shape, Some(shape));
        prop_assert_eq!(thing.sum, Some(Hex128(sum)));
    }

    #[test]
    fn any_bytes_are_an_object_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
        let _ = read::<Thing>(&bytes);
        let _ = read::<Thing>(&[b"{\"key\":", &bytes[..]].concat());
    }
}
