//! Many tensors in one put, a row each.

use std::collections::HashMap;
use std::sync::Arc;

use arrow_array::builder::{MapBuilder, StringBuilder};
use arrow_array::{
    Array, ArrayRef, DictionaryArray, FixedSizeBinaryArray, Int8Array, Int64Array,
    LargeStringArray, ListArray, StringArray, StringViewArray, UInt8Array, UInt64Array,
};
use arrow_buffer::OffsetBuffer;
use arrow_schema::{DataType, Field};
use bowstring_tests::covered;
use bowstring_wire::dtype::DType;
use serde_json::json;

use crate::space::{Space, refused};
use crate::tensor::{Tensor, bulk, leaf, list, plain, table};

#[tokio::test]
async fn every_dtype_and_rank_of_a_cell() {
    let space = Space::new("bulk").await;
    for dtype in DType::ALL {
        for cell in [&[][..], &[4], &[2, 3], &[2, 0], &[2, 1, 3]] {
            let shape: Vec<usize> = [4].iter().chain(cell).copied().collect();
            let tensors = Tensor::sample(dtype, &shape);
            let keys: Vec<_> = (0..4).map(|i| format!("{dtype}{cell:?}/{i}")).collect();
            let names: Vec<_> = keys.iter().map(String::as_str).collect();
            let reply = space.bulk(bulk(&names, &tensors)).await.unwrap();
            let bytes = tensors.bytes.len();
            let expected =
                json!({"stored": 4, "existed": 0, "bytes": bytes, "errors": [], "errors_total": 0});
            assert_eq!(reply, expected, "{dtype}{cell:?}");
            for (key, cell) in keys.iter().zip(tensors.cells()) {
                assert_eq!(space.tensor(key).await.unwrap(), cell);
            }
        }
        covered(file!(), "every_dtype_and_rank_of_a_cell", dtype);
    }
}

#[tokio::test]
async fn keys_of_every_kind() {
    let space = Space::new("bulk-keys").await;
    let binary = [b"\x00\xff", b"ab", b"\x10\x01"];
    let binary = FixedSizeBinaryArray::try_from_iter(binary.into_iter()).unwrap();
    let words = [
        Some("d3"),
        None,
        Some("a long key of a dictionary"),
        Some("f6"),
    ];
    let words: ArrayRef = Arc::new(StringViewArray::from(words.to_vec()));
    let kinds: [(ArrayRef, [&str; 3]); 8] = [
        (
            Arc::new(StringViewArray::from(vec![
                "v",
                "a long key as a view",
                "w",
            ])),
            ["v", "a long key as a view", "w"],
        ),
        (
            Arc::new(DictionaryArray::new(UInt8Array::from(vec![2, 0, 3]), words)),
            ["a long key of a dictionary", "d3", "f6"],
        ),
        (
            Arc::new(StringArray::from(vec!["x", "y", "z"])),
            ["x", "y", "z"],
        ),
        (
            Arc::new(LargeStringArray::from(vec!["p", "q", "r"])),
            ["p", "q", "r"],
        ),
        (Arc::new(Int8Array::from(vec![-1, 0, 7])), ["-1", "0", "7"]),
        (
            Arc::new(Int64Array::from(vec![i64::MAX, 1, i64::MIN])),
            ["9223372036854775807", "1", "-9223372036854775808"],
        ),
        (
            Arc::new(UInt64Array::from(vec![u64::MAX, 2, 3])),
            ["18446744073709551615", "2", "3"],
        ),
        (Arc::new(binary), ["00ff", "6162", "1001"]),
    ];
    for (keys, expected) in kinds {
        let tensors = Tensor::sample(DType::Int32, &[3, 2]);
        let kind = keys.data_type().clone();
        let field = Field::new("key", kind.clone(), false);
        let batch = table(vec![(field, keys), tensors.column("tensor")]);
        assert_eq!(space.bulk(batch).await.unwrap()["stored"], 3, "{kind}");
        for (key, cell) in expected.into_iter().zip(tensors.cells()) {
            assert_eq!(space.tensor(key).await.unwrap(), cell, "{kind}");
        }
    }
}

#[tokio::test]
async fn batches_become_visible_one_by_one_and_rows_count_on() {
    let space = Space::new("bulk-batches").await;
    let tensors = Tensor::sample(DType::Float32, &[1000, 8]);
    let keys: Vec<_> = (0..1000).map(|i| format!("{i:04}")).collect();
    let mut names: Vec<_> = keys.iter().map(String::as_str).collect();
    // No legal key, in the eighth batch.
    names[777] = "";
    let whole = bulk(&names, &tensors);
    let batches = (0..10).map(|i| whole.slice(i * 100, 100));
    let reply = space
        .put_batches(space.command(&json!({})), batches)
        .await
        .unwrap();
    assert_eq!(
        (&reply["stored"], &reply["errors_total"]),
        (&json!(999), &json!(1))
    );
    assert_eq!(reply["errors"][0]["row"], 777);
    assert_eq!(reply["errors"][0]["code"], "invalid_argument");
    assert_eq!(space.tensor("0778").await.unwrap(), tensors.cells()[778]);
}

/// So many rows are dealt out to several writers, where there are threads for them.
#[tokio::test]
async fn of_many_batches_the_last_row_of_a_key_wins_and_errors_are_in_order() {
    let space = Space::new("bulk-spread").await;
    let (rows, keys) = (12_000, 5_000);
    let tensors = Tensor::sample(DType::Int32, &[rows, 2]);
    let keys: Vec<_> = (0..rows).map(|i| format!("{:05}", i % keys)).collect();
    let mut names: Vec<_> = keys.iter().map(String::as_str).collect();
    let bad = [7, 2_999, 3_000, 11_111];
    bad.iter().for_each(|at| names[*at] = "");
    let whole = bulk(&names, &tensors);
    let batches = (0..4).map(|i| whole.slice(i * 3_000, 3_000));
    let command = space.command(&json!({"mode": "replace"}));
    let reply = space.put_batches(command, batches).await.unwrap();
    assert_eq!(reply["stored"], rows - bad.len());
    assert_eq!(reply["bytes"], 8 * (rows - bad.len()));
    assert_eq!(reply["errors_total"], bad.len());
    let told: Vec<_> = (0..bad.len())
        .map(|at| reply["errors"][at]["row"].as_u64().unwrap())
        .collect();
    assert_eq!(told, bad.map(|at| at as u64));
    let cells = tensors.cells();
    for at in (7_000..rows).step_by(67).filter(|at| !bad.contains(at)) {
        assert_eq!(
            space.tensor(&keys[at]).await.unwrap(),
            cells[at],
            "row {at}"
        );
    }
}

#[tokio::test]
async fn a_bad_row_does_not_lose_the_others() {
    let space = Space::new("bulk-rows").await;
    // Lists of 2, 2, 3 (wrong), null and 2 elements.
    let offsets = OffsetBuffer::from_lengths([2, 2, 3, 0, 2]);
    let item = Arc::new(Field::new("item", DataType::UInt8, false));
    let nulls = vec![true, true, true, false, true].into();
    let lists = ListArray::new(
        item,
        offsets,
        leaf(&DataType::UInt8, 9, (0..9).collect()),
        Some(nulls),
    );
    let keys = StringArray::from(vec![Some("a"), None, Some("c"), Some("d"), Some("e")]);
    let batch = table(vec![plain("key", keys), plain("tensor", lists)]);
    let reply = space.bulk(batch).await.unwrap();
    assert_eq!(
        (&reply["stored"], &reply["errors_total"]),
        (&json!(2), &json!(3))
    );
    let errors = reply["errors"].as_array().unwrap();
    let rows: Vec<_> = errors
        .iter()
        .map(|e| (&e["row"], &e["key"], &e["code"]))
        .collect();
    let (bad, null) = (json!("invalid_argument"), json!(null));
    let expected = [
        (&json!(1), &null, &bad),
        (&json!(2), &json!("c"), &bad),
        (&json!(3), &json!("d"), &bad),
    ];
    assert_eq!(rows, expected);
    let tensor = |bytes: &[u8]| Tensor {
        dtype: DType::UInt8,
        shape: vec![2],
        bytes: bytes.to_vec(),
    };
    assert_eq!(space.tensor("a").await.unwrap(), tensor(&[0, 1]));
    assert_eq!(space.tensor("e").await.unwrap(), tensor(&[7, 8]));
    refused(space.tensor("c").await, "not_found", &[]);
}

#[tokio::test]
async fn the_first_list_of_a_put_says_how_long_those_of_later_batches_are() {
    let space = Space::new("bulk-lists").await;
    let item = Arc::new(Field::new("item", DataType::UInt8, false));
    let batches = [("a", [2, 2]), ("b", [3, 2])].map(|(name, lengths)| {
        let offsets = OffsetBuffer::from_lengths(lengths);
        let total = lengths.iter().sum();
        let values = leaf(&DataType::UInt8, total, vec![7; total]);
        let lists = ListArray::new(Arc::clone(&item), offsets, values, None);
        let keys = StringArray::from_iter_values((0..2).map(|i| format!("{name}{i}")));
        table(vec![plain("key", keys), plain("tensor", lists)])
    });
    let command = space.command(&json!({}));
    let reply = space.put_batches(command, batches).await.unwrap();
    assert_eq!(
        (&reply["stored"], &reply["errors_total"]),
        (&json!(3), &json!(1))
    );
    assert_eq!(reply["errors"][0]["row"], 2);
    assert_eq!(reply["errors"][0]["key"], "b0");
}

#[tokio::test]
async fn at_most_100_errors_are_told() {
    let space = Space::new("bulk-errors").await;
    let tensors = Tensor::sample(DType::Int8, &[150, 1]);
    let reply = space.bulk(bulk(&[""; 150], &tensors)).await.unwrap();
    assert_eq!(
        (&reply["stored"], &reply["errors_total"]),
        (&json!(0), &json!(150))
    );
    assert_eq!(reply["errors"].as_array().unwrap().len(), 100);
}

#[tokio::test]
async fn keep_is_the_default_and_modes_are_taken() {
    let space = Space::new("bulk-modes").await;
    let [old, new] = [1, 2].map(|seed| Tensor::seeded(DType::Float32, &[3, 2], seed));
    let names = ["a", "b", "c"];
    space.bulk(bulk(&names, &old)).await.unwrap();
    let reply = space.bulk(bulk(&names, &new)).await.unwrap();
    assert_eq!(
        (&reply["stored"], &reply["existed"]),
        (&json!(0), &json!(3))
    );
    let reply = space
        .bulk_with(&json!({"mode": "create"}), bulk(&names, &new))
        .await
        .unwrap();
    assert_eq!(reply["errors_total"], 3);
    assert_eq!(reply["errors"][2]["code"], "already_exists");
    let same = space
        .bulk_with(&json!({"mode": "create"}), bulk(&names, &old))
        .await
        .unwrap();
    assert_eq!(
        (&same["existed"], &same["errors_total"]),
        (&json!(3), &json!(0))
    );
    assert_eq!(space.tensor("b").await.unwrap(), old.cells()[1]);
    let reply = space
        .bulk_with(&json!({"mode": "replace"}), bulk(&names, &new))
        .await
        .unwrap();
    assert_eq!(reply["stored"], 3);
    assert_eq!(space.tensor("b").await.unwrap(), new.cells()[1]);
}

#[tokio::test]
async fn columns_are_renamed_refused_and_ignored() {
    let space = Space::new("bulk-columns").await;
    let tensors = Tensor::sample(DType::Float64, &[2, 2]);
    let names = plain("id", StringArray::from(vec!["a", "b"]));
    let lang = plain("lang", StringArray::from(vec!["de", "en"]));
    let batch = table(vec![lang, tensors.column("embedding"), names]);
    let renamed = json!({"key_column": "id", "tensor_column": "embedding"});
    let put = space.bulk_with(&renamed, batch.clone()).await;
    refused(put, "invalid_argument", &["lang"]);
    let mut ignoring = renamed.clone();
    ignoring["extra_columns"] = json!("ignore");
    assert_eq!(
        space.bulk_with(&ignoring, batch.clone()).await.unwrap()["stored"],
        2
    );
    assert_eq!(space.tensor("b").await.unwrap(), tensors.cells()[1]);
    ignoring["extra_columns"] = json!("metadata");
    ignoring["mode"] = json!("replace");
    space.bulk_with(&ignoring, batch.clone()).await.unwrap();
    let got = space
        .act("describe", &json!({"keys": ["b"]}))
        .await
        .unwrap();
    assert_eq!(got["keys"][0]["metadata"], json!({"lang": "en"}));
    refused(space.bulk(batch).await, "invalid_argument", &["key"]);
}

#[tokio::test]
async fn rows_have_metadata_and_expiry() {
    let space = Space::new("bulk-metadata").await;
    let tensors = Tensor::sample(DType::Int16, &[3, 2]);
    let mut metadata = MapBuilder::new(None, StringBuilder::new(), StringBuilder::new());
    metadata.keys().append_value("lang");
    metadata.values().append_value("de");
    metadata.append(true).unwrap();
    metadata.append(true).unwrap();
    metadata.append(false).unwrap();
    let ttl = Int64Array::from(vec![Some(3_600_000), None, None]);
    let batch = table(vec![
        plain("key", StringArray::from(vec!["a", "b", "c"])),
        tensors.column("tensor"),
        plain("ttl_ms", ttl),
        plain("metadata", metadata.finish()),
    ]);
    let members = json!({"metadata": {"model": "m"}});
    let reply = space.bulk_with(&members, batch).await.unwrap();
    assert_eq!(
        (&reply["stored"], &reply["errors_total"]),
        (&json!(3), &json!(0)),
        "{reply}"
    );
    let got = space
        .act("describe", &json!({"keys": ["a", "b", "c"]}))
        .await
        .unwrap();
    assert_eq!(got["keys"][0]["metadata"], json!({"lang": "de"}));
    assert_eq!(got["keys"][2]["metadata"], json!({"model": "m"}));
    let left = got["keys"][0]["ttl_ms"].as_u64().unwrap();
    assert!(left > 0 && left <= 3_600_000, "{left}");
    assert_eq!(got["keys"][1].get("ttl_ms"), None);
}

#[tokio::test]
async fn what_opaque_returns_is_put_as_it_is() {
    let space = Space::new("bulk-opaque").await;
    let other = Space::new("bulk-opaque-copy").await;
    let tensors = [
        ("a", Tensor::sample(DType::BFloat16, &[3, 2])),
        ("b", Tensor::sample(DType::Complex64, &[])),
        ("c", Tensor::sample(DType::Bool, &[7])),
        ("d", Tensor::sample(DType::Float64, &[0, 4])),
    ];
    for (key, tensor) in &tensors {
        space.put(key, tensor).await.unwrap();
    }
    let members = json!({"prefix": "", "with": ["version", "checksum"]});
    let mut got = space.get(&members).await.unwrap();
    let closing = got.batches.pop().unwrap();
    assert_eq!(closing.num_rows(), 0);
    let put = other.put_stream(other.command(&json!({})), got.schema.clone(), got.batches);
    let reply = put.await.unwrap();
    assert_eq!(
        (&reply["stored"], &reply["errors"]),
        (&json!(4), &json!([])),
        "{reply}"
    );
    for (key, tensor) in &tensors {
        assert_eq!(other.tensor(key).await.unwrap(), *tensor);
    }
}

#[tokio::test]
async fn a_rows_checksum_is_checked() {
    let space = Space::new("bulk-checksum").await;
    let tensors = Tensor::sample(DType::Float32, &[2, 2]);
    let right = tensors.cells()[0].checksum();
    let sums = StringArray::from(vec![right.as_str(), right.as_str()]);
    let keys = plain("key", StringArray::from(vec!["a", "b"]));
    let batch = table(vec![
        keys,
        tensors.column("tensor"),
        plain("checksum", sums),
    ]);
    let reply = space.bulk(batch).await.unwrap();
    assert_eq!(
        (&reply["stored"], &reply["errors_total"]),
        (&json!(1), &json!(1))
    );
    assert_eq!(reply["errors"][0]["code"], "data_loss");
    refused(space.tensor("b").await, "not_found", &[]);
}

#[tokio::test]
async fn lists_of_cells_are_ragged_where_that_is_said() {
    let space = Space::new("bulk-ragged").await;
    let inner = list(4, 2, &leaf(&DataType::UInt8, 8, (0..8).collect()));
    let item = Arc::new(Field::new("item", inner.data_type().clone(), false));
    let ragged = ListArray::new(item, OffsetBuffer::from_lengths([1, 3]), inner, None);
    let keys = StringArray::from(vec!["a", "b"]);
    let batch = table(vec![plain("key", keys), plain("tensor", ragged)]);
    let reply = space.bulk(batch.clone()).await.unwrap();
    assert_eq!(
        (&reply["stored"], &reply["errors_total"]),
        (&json!(1), &json!(1))
    );
    let reply = space
        .bulk_with(&json!({"ragged": true}), batch)
        .await
        .unwrap();
    assert_eq!(
        (&reply["stored"], &reply["existed"]),
        (&json!(1), &json!(1))
    );
    let tensor = |rows, bytes: std::ops::Range<u8>| Tensor {
        dtype: DType::UInt8,
        shape: vec![rows, 2],
        bytes: bytes.collect(),
    };
    assert_eq!(space.tensor("a").await.unwrap(), tensor(1, 0..2));
    assert_eq!(space.tensor("b").await.unwrap(), tensor(3, 2..8));
}

#[tokio::test]
async fn streams_that_are_wrong_as_a_whole() {
    let space = Space::new("bulk-wrong").await;
    let tensors = Tensor::sample(DType::Float32, &[2, 2]);
    let batch = bulk(&["a", "b"], &tensors);
    // Members that go with one tensor only.
    for members in [
        json!({"checksum": tensors.checksum()}),
        json!({"if_version": "1"}),
        json!({"size_bytes": 16}),
    ] {
        let put = space.bulk_with(&members, batch.clone()).await;
        let member = members.as_object().unwrap().keys().next().unwrap().clone();
        refused(put, "invalid_argument", &[&member]);
    }
    // Several columns under one key, and one column under none.
    refused(
        space.put_batches(space.path("k"), [batch.clone()]).await,
        "invalid_argument",
        &[],
    );
    refused(
        space
            .put_batches(space.command(&json!({})), [tensors.batch()])
            .await,
        "invalid_argument",
        &["key"],
    );
    // A dtype that the storage cannot be.
    let (field, column) = tensors.column("tensor");
    let lie = HashMap::from([("tensor.dtype".to_owned(), "bfloat16".to_owned())]);
    let keys = plain("key", StringArray::from(vec!["a", "b"]));
    let lying = table(vec![keys, (field.with_metadata(lie), column)]);
    refused(space.bulk(lying).await, "invalid_argument", &["bfloat16"]);
    // Cells have no lengths of their own.
    let put = space.bulk_with(&json!({"ragged": true}), batch).await;
    refused(put, "invalid_argument", &["ragged"]);
    refused(space.tensor("a").await, "not_found", &[]);
}
