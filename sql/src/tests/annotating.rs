//! UPDATE of metadata: what it can be set to, what is left as it is, and what is refused.

use arrow_array::{ArrayRef, StringArray};
use bowstring_wire::error::Code;
use bowstring_wire::limits::MAX_METADATA_BYTES;
use bowstring_wire::metadata::Metadata;

use super::changing::id;
use super::*;

impl Bed {
    /// Puts a vector with metadata, an expiry and a source version.
    async fn put_annotated(&self, key: &str, values: &[f32], metadata: &[(&str, &str)]) {
        let bytes: Vec<u8> = values
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect();
        let pairs = metadata.iter();
        let pairs = pairs.map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let spec = PutSpec {
            mode: Mode::Replace,
            metadata: Metadata::new(pairs).unwrap().encode(),
            expires_at_ms: Some(NOW_MS + 60_000),
            source_version: Some(5),
            ..PutSpec::new(DType::Float32)
        };
        let mut put = self.cache.put(id("a", key), spec).unwrap();
        put.reserve(bytes.len() as u64).await.unwrap();
        put.write(&bytes).unwrap();
        let shape = Shape::new(&[values.len() as u64]).unwrap();
        put.publish(shape).await.unwrap();
    }

    fn metadata(&self, key: &str) -> String {
        let entry = self.cache.peek(&id("a", key)).unwrap();
        str::from_utf8(entry.metadata()).unwrap().to_owned()
    }
}

/// `1`, `2` and `3`, of as many elements, of `{"by":"me","n":…}`.
async fn three() -> Bed {
    let bed = Bed::new();
    for n in 1..=3 {
        let number = n.to_string();
        bed.put_annotated(&number, &vec![0.5; n], &[("by", "me"), ("n", &number)])
            .await;
    }
    bed
}

#[tokio::test(flavor = "multi_thread")]
async fn it_is_set_to_whatever_is_a_map_of_texts() {
    let cases = [
        ("MAP {'a': 'b'}", r#"{"a":"b"}"#),
        ("MAP {'b': key, 'a': namespace}", r#"{"a":"a","b":"2"}"#),
        ("map(['a', 'b'], ['1', '2'])", r#"{"a":"1","b":"2"}"#),
        ("make_map('a', key)", r#"{"a":"2"}"#),
        ("MAP {'n': elements}", r#"{"n":"2"}"#),
        ("MAP {'n': metadata['n'], 'x': 'y'}", r#"{"n":"2","x":"y"}"#),
        (
            "map(map_keys(metadata), map_values(metadata))",
            r#"{"by":"me","n":"2"}"#,
        ),
        (
            "map(array_append(map_keys(metadata), 'x'), array_append(map_values(metadata), 'y'))",
            r#"{"by":"me","n":"2","x":"y"}"#,
        ),
        ("metadata", r#"{"by":"me","n":"2"}"#),
        (
            "CASE WHEN elements = 2 THEN MAP {'a': 'b'} END",
            r#"{"a":"b"}"#,
        ),
        ("CASE WHEN elements = 1 THEN MAP {'a': 'b'} END", ""),
        ("NULL", ""),
        ("MAP {}", ""),
        ("map([], [])", ""),
    ];
    for (value, expected) in cases {
        let bed = three().await;
        let before = bed.cache.peek(&id("a", "2")).unwrap();
        let text = format!("UPDATE tensors SET metadata = {value} WHERE key = '2'");
        assert_eq!(bed.change(&text).await, Ok(1), "{text}");
        assert_eq!(bed.metadata("2"), expected, "{text}");
        let entry = bed.cache.peek(&id("a", "2")).unwrap();
        let is_other = expected != r#"{"by":"me","n":"2"}"#;
        assert_eq!(entry.version() > before.version(), is_other, "{text}");
        assert_eq!(entry.checksum(), before.checksum());
        assert_eq!(entry.description(), before.description());
        assert_eq!(entry.expires_at_ms(), Some(NOW_MS + 60_000));
        assert_eq!(entry.source_version(), Some(5));
        for other in ["1", "3"] {
            assert_eq!(
                bed.metadata(other),
                format!(r#"{{"by":"me","n":"{other}"}}"#)
            );
        }
    }
    let bed = three().await;
    let text =
        "UPDATE tensors SET metadata = MAP {'by': 'you'} WHERE namespace = 'a' AND bytes > 4";
    assert_eq!(bed.change(text).await, Ok(2));
    // What is so already counts, as of any other column.
    assert_eq!(bed.change(text).await, Ok(2));
    assert_eq!(
        bed.rows("SELECT key, metadata['by'], value IS NOT NULL FROM tensors")
            .await,
        ["1 me true", "2 you true", "3 you true"]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entry_counts_once_whatever_is_set_of_it() {
    let bed = three().await;
    let text = "UPDATE tensors SET expires_at = NULL, pinned = elements > 1, metadata = MAP {'a': key} WHERE key < '3'";
    assert_eq!(bed.change(text).await, Ok(2));
    assert_eq!(
        bed.rows("SELECT key, metadata['a'], pins, expires_at IS NULL FROM tensors")
            .await,
        ["1 1 0 true", "2 2 1 true", "3  0 false"]
    );
    // An expiry that has passed is no hindrance.
    let text = "UPDATE tensors SET expires_at = 0, metadata = NULL, pinned = true WHERE true";
    assert_eq!(bed.change(text).await, Ok(3));
    assert_eq!(bed.one("SELECT count(*) FROM tensors").await, "0");
    for nothing in ["false", "NULL", "key = 'none'", "metadata['by'] = 'nobody'"] {
        let bed = three().await;
        let text = format!("UPDATE tensors SET metadata = NULL WHERE {nothing}");
        assert_eq!(bed.change(&text).await, Ok(0), "{text}");
        assert_eq!(bed.metadata("1"), r#"{"by":"me","n":"1"}"#);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_walk_does_not_meet_what_it_has_changed() {
    let bed = Bed::new();
    for n in 0..10_000 {
        bed.put("a", &format!("{n:05}"), &[1.0]).await;
    }
    let text = "UPDATE tensors SET metadata = MAP {'n': key} WHERE true";
    assert_eq!(bed.change(text).await, Ok(10_000));
    let right = "SELECT count(*) FROM tensors WHERE metadata['n'] = key";
    assert_eq!(bed.one(right).await, "10000");
    assert_eq!(bed.cache.stats().events.replaced, 10_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_entry_can_have_changes_nothing_of_it() {
    let long = "x".repeat(MAX_METADATA_BYTES);
    for (value, words) in [
        (format!("MAP {{'a': '{long}'}}"), "metadata is too large"),
        ("MAP {'a': 'b', 'a': 'c'}".to_owned(), "unique"),
        ("map(['a', 'a'], ['b', key])".to_owned(), "unique"),
        ("MAP {'a': NULL}".to_owned(), "is null"),
        ("MAP {'a': metadata['none']}".to_owned(), "is null"),
        ("map([NULL], ['a'])".to_owned(), "null"),
        ("'text'".to_owned(), "column=`metadata`"),
        ("1".to_owned(), "column=`metadata`"),
        ("['a']".to_owned(), "column=`metadata`"),
        ("map(['a', 'b'], ['c'])".to_owned(), "length"),
    ] {
        let bed = three().await;
        let text = format!("UPDATE tensors SET pinned = true, metadata = {value} WHERE true");
        let error = bed.change(&text).await.unwrap_err();
        assert_eq!(error.code, Code::InvalidArgument, "{error}");
        assert!(error.message.contains(words), "{error}");
        assert_eq!(
            bed.rows("SELECT key, metadata['by'], pins FROM tensors")
                .await,
            ["1 me 0", "2 me 0", "3 me 0"],
            "{error}"
        );
    }
    // Those before are changed, and the error says of which it is and how many those were.
    let bed = three().await;
    let text = "UPDATE tensors SET metadata = CASE WHEN key = '3' THEN MAP {'a': metadata['none']} END WHERE true";
    let error = bed.change(text).await.unwrap_err();
    assert!(error.message.contains("namespace=`a` key=`3`"), "{error}");
    assert!(error.message.contains("changed=`2`"), "{error}");
    assert_eq!((&*bed.metadata("1"), &*bed.metadata("2")), ("", ""));
    assert_eq!(bed.metadata("3"), r#"{"by":"me","n":"3"}"#);
    for (text, code) in [
        (
            "UPDATE tensors SET metadata = NULL WHERE true LIMIT 1",
            Code::Unimplemented,
        ),
        (
            "UPDATE tensors SET metadata = (SELECT metadata FROM tensors) WHERE true",
            Code::Unimplemented,
        ),
        (
            "UPDATE tensors SET metadata = NULL WHERE key IN (SELECT key FROM tensors)",
            Code::Unimplemented,
        ),
        ("UPDATE tensors SET metadata = NULL", Code::InvalidArgument),
        (
            "UPDATE tensors SET metadata = nothing WHERE true",
            Code::InvalidArgument,
        ),
        (
            "UPDATE tensors SET metadata = NULL, metadata = NULL WHERE true",
            Code::InvalidArgument,
        ),
        (
            "UPDATE ns.a SET metadata = NULL WHERE true",
            Code::Unimplemented,
        ),
    ] {
        let error = bed.sql.plan(&Tenant::public(), text).await.map(drop);
        assert_eq!(error.unwrap_err().code, code, "{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn parameters_are_names_and_values() {
    let bed = three().await;
    let tenant = Tenant::public();
    let text = "UPDATE tensors SET metadata = MAP {'by': ?, 'of': key} WHERE key = ?";
    let plan = bed.sql.plan(&tenant, text).await.unwrap();
    assert_eq!(plan.parameters().fields().len(), 2);
    let texts =
        |texts: &[Option<&str>]| -> ArrayRef { Arc::new(StringArray::from(texts.to_vec())) };
    let rows = RecordBatch::try_from_iter([
        ("1", texts(&[Some("you"), Some("them"), Some("none")])),
        ("2", texts(&[Some("1"), Some("2"), Some("none")])),
    ]);
    let changed = bed.sql.change(&plan, &[rows.unwrap()], |_| Ok(())).await;
    assert_eq!(changed, Ok(2));
    assert_eq!(bed.metadata("1"), r#"{"by":"you","of":"1"}"#);
    assert_eq!(bed.metadata("2"), r#"{"by":"them","of":"2"}"#);
    let text = "UPDATE tensors SET metadata = ? WHERE key = '1'";
    let plan = bed.sql.plan(&tenant, text).await.unwrap();
    let maps: ArrayRef = {
        let batches = bed.batches("SELECT metadata FROM tensors WHERE key = '3'");
        batches.await.unwrap()[0].column(0).clone()
    };
    let null: ArrayRef = Arc::new(arrow_array::NullArray::new(1));
    for (value, expected) in [(maps, r#"{"by":"me","n":"3"}"#), (null, "")] {
        let row = RecordBatch::try_from_iter([("1", value)]).unwrap();
        assert_eq!(bed.sql.change(&plan, &[row], |_| Ok(())).await, Ok(1));
        assert_eq!(bed.metadata("1"), expected);
    }
    let row = RecordBatch::try_from_iter([("1", texts(&[Some("text")]))]).unwrap();
    let error = bed.sql.change(&plan, &[row], |_| Ok(())).await.unwrap_err();
    assert_eq!(error.code, Code::InvalidArgument, "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn where_there_is_no_room_for_another_one_it_is_as_it_was() {
    let bed = three().await;
    let (dtype, len) = (DType::UInt8, 140 << 20);
    bed.put_as("b", "large", dtype, &[len], &vec![7; len as usize])
        .await;
    let setting = async {
        let text = "UPDATE tensors SET metadata = MAP {'a': 'b'} WHERE true";
        bed.change(text).await
    };
    let waiting = async {
        while bed.cache.stats().puts_waiting == 0 {
            tokio::task::yield_now().await;
        }
        // Longer than a put waits.
        bed.clock.advance(std::time::Duration::from_secs(11));
    };
    let (changed, ()) = tokio::join!(setting, waiting);
    let error = changed.unwrap_err();
    assert_eq!(error.code, Code::ResourceExhausted, "{error}");
    assert!(error.message.contains("changed=`3`"), "{error}");
    let entry = bed.cache.peek(&id("b", "large")).unwrap();
    assert_eq!((entry.len(), entry.metadata()), (len, &b""[..]));
}

#[tokio::test(flavor = "multi_thread")]
async fn it_ends_when_its_time_is_over_and_says_how_far_it_came() {
    let bed = Bed::new();
    for n in 0..300 {
        bed.put("a", &format!("{n:03}"), &[1.0]).await;
    }
    bed.put("b", "1", &[1.0]).await;
    // The first namespace is done when the second one is asked for.
    let may = |namespace: &Namespace| {
        if namespace.as_str() == "b" {
            bed.clock.advance(std::time::Duration::from_secs(3_600));
        }
        Ok(())
    };
    let text = "UPDATE tensors SET metadata = MAP {'a': 'b'} WHERE true";
    let error = bed.change_where(text, may).await.unwrap_err();
    assert_eq!(error.code, Code::DeadlineExceeded, "{error}");
    assert!(error.message.contains("changed=`300`"), "{error}");
    let set = "SELECT count(*) FROM tensors WHERE metadata['a'] = 'b'";
    assert_eq!(bed.one(set).await, "300");
}
