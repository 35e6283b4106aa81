//! Many keys in one stream: by keys and by prefix, in rows and opaque.

use arrow_array::Array;
use arrow_array::cast::AsArray as _;
use arrow_array::types::Int64Type;
use arrow_schema::DataType;
use bowstring_tests::covered;
use bowstring_wire::dtype::DType;
use serde_json::{Value, json};

use crate::space::{Got, Space, refused};
use crate::tensor::{Tensor, bulk, value_bytes, values};

const KEYS: [&str; 6] = ["a", "ab", "abc", "b", "ba", "c"];

/// The keys above with a tensor of [2, 3] each.
async fn filled(name: &str) -> (Space, Vec<Tensor>) {
    let space = Space::new(name).await;
    let tensors = Tensor::sample(DType::Float32, &[6, 2, 3]);
    space.bulk(bulk(&KEYS, &tensors)).await.unwrap();
    (space, tensors.cells())
}

fn joined(tensors: &[Tensor], at: &[usize]) -> Vec<u8> {
    at.iter()
        .flat_map(|at| tensors[*at].bytes.clone())
        .collect()
}

fn names(got: &Got) -> Vec<&str> {
    got.schema
        .fields()
        .iter()
        .map(|f| f.name().as_str())
        .collect()
}

#[tokio::test]
async fn in_the_order_asked_and_found_keys_only() {
    let (space, tensors) = filled("keys").await;
    let got = space
        .get(&json!({"keys": ["c", "no", "a", "b", "nor this", "a"]}))
        .await
        .unwrap();
    assert_eq!(names(&got), ["key", "tensor"]);
    let [key, tensor] = [0, 1].map(|at| got.schema.field(at));
    assert!(!key.is_nullable() && !tensor.is_nullable());
    assert_eq!(key.data_type(), &DataType::Utf8);
    let extension = tensor.metadata();
    assert_eq!(
        extension["ARROW:extension:name"],
        "arrow.fixed_shape_tensor"
    );
    assert_eq!(extension["ARROW:extension:metadata"], r#"{"shape":[2,3]}"#);
    assert_eq!(got.texts("key"), ["c", "a", "b", "a"]);
    assert_eq!(
        values(&got.batches, "tensor"),
        joined(&tensors, &[5, 0, 3, 0])
    );
    assert_eq!(got.closing("missing").unwrap(), ["no", "nor this"]);
}

#[tokio::test]
async fn the_closing_batch_comes_though_nothing_is_missing() {
    let (space, _) = filled("closing").await;
    let got = space.get(&json!({"keys": ["a"]})).await.unwrap();
    assert_eq!(got.closing("missing"), Some(vec![]));
    let got = space.get(&json!({"keys": []})).await.unwrap();
    assert_eq!((got.rows(), got.closing("missing")), (0, Some(vec![])));
    let got = space.get(&json!({"prefix": "nobody"})).await.unwrap();
    assert_eq!((got.rows(), got.closing("gone")), (0, Some(vec![])));
}

#[tokio::test]
async fn every_dtype() {
    let space = Space::new("keys-dtype").await;
    for dtype in DType::ALL {
        for cell in [&[][..], &[3], &[2, 0]] {
            let shape: Vec<usize> = [3].iter().chain(cell).copied().collect();
            let tensors = Tensor::sample(dtype, &shape);
            let keys = ["x", "y", "z"].map(|key| format!("{dtype}{cell:?}{key}"));
            space
                .bulk(bulk(&keys.each_ref().map(String::as_str), &tensors))
                .await
                .unwrap();
            let got = space
                .get(&json!({"keys": [keys[2], keys[0]]}))
                .await
                .unwrap();
            assert_eq!(got.texts("key"), [keys[2].as_str(), keys[0].as_str()]);
            assert_eq!(
                values(&got.batches, "tensor"),
                joined(&tensors.cells(), &[2, 0])
            );
            let (field, _) = tensors.column("tensor");
            assert_eq!(
                got.schema.field(1).metadata(),
                field.metadata(),
                "{dtype}{cell:?}"
            );
        }
        covered(file!(), "every_dtype", dtype);
    }
}

#[tokio::test]
async fn nothing_found() {
    let space = Space::new("keys-nothing").await;
    let got = space.get(&json!({"keys": ["x", "y"]})).await.unwrap();
    assert_eq!(got.schema.field(1).data_type(), &DataType::Null);
    assert_eq!(got.closing("missing").unwrap(), ["x", "y"]);
    let fixed = json!({"keys": ["x"], "dtype": "float32", "shape": [7]});
    let got = space.get(&fixed).await.unwrap();
    assert!(matches!(
        got.schema.field(1).data_type(),
        DataType::FixedSizeList(_, 7)
    ));
    assert_eq!(
        (got.rows(), got.closing("missing").unwrap()),
        (0, vec!["x".to_owned()])
    );
}

#[tokio::test]
async fn missing_null() {
    let (space, tensors) = filled("keys-null").await;
    let ask = json!({"keys": ["c", "no", "a"], "missing": "null"});
    let got = space.get(&ask).await.unwrap();
    assert!(got.schema.field(1).is_nullable());
    assert_eq!(got.closing("missing"), None);
    assert_eq!(got.texts("key"), ["c", "no", "a"]);
    let [batch] = &got.batches[..] else {
        panic!("one batch")
    };
    let column = &batch["tensor"];
    let nulls: Vec<_> = (0..3).map(|row| column.is_null(row)).collect();
    assert_eq!(nulls, [false, true, false]);
    let found = [0, 2].map(|row| value_bytes(&column.slice(row, 1)));
    assert_eq!(found.concat(), joined(&tensors, &[5, 0]));
    let opaque =
        json!({"keys": ["no"], "missing": "null", "layout": "opaque", "with": ["version"]});
    let got = space.get(&opaque).await.unwrap();
    let null = got.batches[0]
        .columns()
        .iter()
        .map(|column| column.is_null(0));
    assert_eq!(null.collect::<Vec<_>>(), [false, true, true, true, true]);
}

#[tokio::test]
async fn entries_that_differ() {
    let (space, tensors) = filled("keys-differ").await;
    let other = Tensor::sample(DType::Float32, &[3, 2]);
    space.put("other", &other).await.unwrap();
    let got = space.get(&json!({"keys": ["a", "other"]})).await;
    refused(
        got,
        "failed_precondition",
        &["`a`", "float32[2, 3]", "`other`", "float32[3, 2]"],
    );
    let fixed = json!({"keys": ["a", "other"], "dtype": "float32", "shape": [2, 3]});
    refused(space.get(&fixed).await, "failed_precondition", &["other"]);
    let opaque = json!({"keys": ["a", "other"], "layout": "opaque"});
    let got = space.get(&opaque).await.unwrap();
    let data = got.batches[0]["data"].as_binary::<i64>().clone();
    assert_eq!(
        (data.value(0), data.value(1)),
        (&tensors[0].bytes[..], &other.bytes[..])
    );
    let flat = json!({"keys": ["a"], "layout": "flat"});
    refused(space.get(&flat).await, "invalid_argument", &["flat"]);
}

#[tokio::test]
async fn what_with_adds() {
    let (space, tensors) = filled("keys-with").await;
    let put = json!({"key": "a", "mode": "replace", "metadata": {"m": "1"}, "ttl_ms": 3_600_000});
    let version = space.put_with(&put, &tensors[0]).await.unwrap()["version"].clone();
    let ask = |of: Value| {
        let mut ask = json!({"with": ["ttl_ms", "metadata", "version", "checksum"]});
        ask.as_object_mut()
            .unwrap()
            .extend(of.as_object().unwrap().clone());
        ask
    };
    for of in [
        json!({"keys": ["a", "b"]}),
        json!({"prefix": "", "dtype": "float32", "shape": [2, 3]}),
    ] {
        let got = space.get(&ask(of)).await.unwrap();
        assert_eq!(
            names(&got),
            ["key", "tensor", "ttl_ms", "metadata", "version", "checksum"]
        );
        assert_eq!(version, got.texts("version")[0]);
        assert_eq!(got.texts("checksum")[0], tensors[0].checksum());
        let batch = &got.batches[0];
        let metadata = batch["metadata"].as_map().value(0);
        let text = |at: usize| metadata.column(at).as_string::<i32>().value(0).to_owned();
        assert_eq!((text(0), text(1)), ("m".to_owned(), "1".to_owned()));
        let ttl = batch["ttl_ms"].as_primitive::<Int64Type>();
        assert!(ttl.value(0) > 0 && ttl.value(0) <= 3_600_000 && ttl.is_null(1));
    }
}

#[tokio::test]
async fn a_prefix_is_a_list_in_key_order() {
    let (space, tensors) = filled("prefix").await;
    for (prefix, expected) in [
        ("", &KEYS[..]),
        ("a", &KEYS[..3]),
        ("ab", &KEYS[1..3]),
        ("c", &KEYS[5..]),
    ] {
        let got = space.get(&json!({"prefix": prefix})).await.unwrap();
        assert_eq!(names(&got), ["key", "dtype", "shape", "data"]);
        assert_eq!(got.texts("key"), expected, "{prefix}");
        assert_eq!(got.closing("gone"), Some(vec![]));
    }
    // Dtype and shape select, and make rows of them.
    space
        .put("aa", &Tensor::sample(DType::Int8, &[4]))
        .await
        .unwrap();
    let ask = json!({"prefix": "a", "dtype": "float32", "shape": [2, 3]});
    let got = space.get(&ask).await.unwrap();
    assert_eq!(got.texts("key"), ["a", "ab", "abc"]);
    assert_eq!(values(&got.batches, "tensor"), joined(&tensors, &[0, 1, 2]));
}

#[tokio::test]
async fn messages_of_a_chosen_size_small_rows_and_large() {
    let space = Space::new("keys-sizes").await;
    // Below the threshold of gathering, at it and above.
    for width in [1, 100, 16_384, 16_385, 100_000] {
        let tensors = Tensor::sample(DType::Float32, &[5, width]);
        let keys: Vec<_> = (0..5).map(|i| format!("{width}/{i}")).collect();
        space
            .bulk(bulk(
                &keys.iter().map(String::as_str).collect::<Vec<_>>(),
                &tensors,
            ))
            .await
            .unwrap();
        let reversed: Vec<_> = keys.iter().rev().collect();
        for limit in [1, 4096, 1 << 20] {
            let ask = json!({"keys": reversed, "max_message_bytes": limit});
            let got = space.get(&ask).await.unwrap();
            assert_eq!(
                values(&got.batches, "tensor"),
                joined(&tensors.cells(), &[4, 3, 2, 1, 0])
            );
            let over = got
                .batches
                .iter()
                .zip(&got.body_bytes)
                .filter(|(_, bytes)| **bytes > limit);
            assert!(
                over.clone().all(|(batch, _)| batch.num_rows() <= 1),
                "{width} {limit}"
            );
        }
    }
}

#[tokio::test]
async fn the_names_of_the_missing_keep_to_the_size_too() {
    let space = Space::new("keys-missing").await;
    let keys: Vec<_> = (0..2000)
        .map(|i| format!("no such key as this one {i}"))
        .collect();
    let got = space
        .get(&json!({"keys": keys, "max_message_bytes": 8192}))
        .await
        .unwrap();
    assert!(got.said.len() > 1 && got.said.iter().all(|said| said.len() <= 8192));
    assert_eq!(got.closing("missing").unwrap(), keys);
}

#[tokio::test]
async fn ten_thousand_keys_and_one_more() {
    let space = Space::new("keys-many").await;
    let tensors = Tensor::sample(DType::Int32, &[10_000, 1]);
    let keys: Vec<_> = (0..10_000).map(|i| i.to_string()).collect();
    space
        .bulk(bulk(
            &keys.iter().map(String::as_str).collect::<Vec<_>>(),
            &tensors,
        ))
        .await
        .unwrap();
    let got = space.get(&json!({"keys": keys})).await.unwrap();
    assert_eq!(values(&got.batches, "tensor"), tensors.bytes);
    let more = [&keys[..], &["x".to_owned()]].concat();
    refused(
        space.get(&json!({"keys": more})).await,
        "invalid_argument",
        &["10000"],
    );
    let got = space.get(&json!({"prefix": "99"})).await.unwrap();
    assert_eq!(got.rows(), 111);
}
