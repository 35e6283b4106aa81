//! One tensor in, the same tensor out.

use std::collections::HashMap;
use std::sync::Arc;

use arrow_array::{Array, ArrayRef, BooleanArray, Int8Array, LargeListArray, ListArray};
use arrow_buffer::{NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow_schema::{DataType, Field, Schema};
use bowstring_tests::covered;
use bowstring_wire::dtype::DType;
use serde_json::json;

use crate::space::{Space, refused};
use crate::tensor::{Tensor, batch_of, leaf, list, plain, table};

async fn round_trip(space: &Space, key: &str, tensor: &Tensor) {
    let reply = space.put(key, tensor).await.unwrap();
    assert_eq!(reply["stored"], 1, "{tensor:?}: {reply}");
    assert_eq!(
        (&reply["existed"], &reply["errors"]),
        (&json!(0), &json!([]))
    );
    assert_eq!(reply["bytes"], json!(tensor.bytes.len()), "{tensor:?}");
    let got = space.get(&json!({"key": key})).await.unwrap();
    assert_eq!(got.tensor(), *tensor);
    assert_eq!(got.schema.metadata()["tensor.checksum"], tensor.checksum());
    assert_eq!(got.schema.metadata()["tensor.version"], reply["version"]);
    // What decides the column is the rank of what is stored.
    let field = got.schema.field(0);
    assert!(!field.is_nullable() && field.name() == "tensor");
    let extension = field.metadata().get("ARROW:extension:metadata");
    let cell = tensor.storage_shape();
    let expected = (cell.len() > 1).then(|| {
        let text = format!("{:?}", &cell[1..]).replace(' ', "");
        format!(r#"{{"shape":{text}}}"#)
    });
    assert_eq!(extension, expected.as_ref(), "{tensor:?}");
    let dtype = field.metadata().get("tensor.dtype");
    let named = (!tensor.dtype.is_native()).then(|| tensor.dtype.name().to_owned());
    assert_eq!(dtype, named.as_ref());
}

#[tokio::test]
async fn every_dtype_in_ranks_0_to_8() {
    let space = Space::new("ranks").await;
    let shapes: [&[usize]; 9] = [
        &[],
        &[5],
        &[3, 4],
        &[2, 3, 4],
        &[2, 1, 3, 2],
        &[1, 2, 3, 1, 2],
        &[2, 1, 2, 1, 2, 2],
        &[1, 1, 2, 3, 1, 2, 1],
        &[2, 1, 1, 2, 1, 3, 1, 2],
    ];
    for dtype in DType::ALL {
        for shape in shapes {
            let key = format!("{dtype}/{}", shape.len());
            round_trip(&space, &key, &Tensor::sample(dtype, shape)).await;
        }
        covered(file!(), "every_dtype_in_ranks_0_to_8", dtype);
    }
}

#[tokio::test]
async fn axes_of_length_zero() {
    let space = Space::new("zero").await;
    let shapes: [&[usize]; 8] = [
        &[0],
        &[0, 3],
        &[3, 0],
        &[0, 0],
        &[2, 0, 4],
        &[0, 4, 2],
        &[4, 2, 0],
        &[1, 0, 1, 0],
    ];
    for dtype in [DType::Float32, DType::Bool, DType::Complex64] {
        for shape in shapes {
            round_trip(
                &space,
                &format!("{dtype}{shape:?}"),
                &Tensor::sample(dtype, shape),
            )
            .await;
        }
    }
}

#[tokio::test]
async fn a_stream_without_batches_is_a_leading_axis_of_0() {
    let space = Space::new("no-batches").await;
    let schema = Tensor::sample(DType::Int16, &[1, 2, 3]).batch().schema();
    let put = space.put_stream(space.path("a"), schema, Vec::new());
    assert_eq!(put.await.unwrap()["stored"], 1);
    let empty = Tensor::sample(DType::Int16, &[0, 2, 3]);
    assert_eq!(space.tensor("a").await.unwrap(), empty);
}

#[tokio::test]
async fn batches_are_joined_on_the_leading_axis() {
    let space = Space::new("batches").await;
    let tensor = Tensor::sample(DType::Float32, &[1000, 3]);
    for rows in [1, 7, 64, 999] {
        let whole = tensor.batch();
        let starts = (0..1000).step_by(rows);
        let mut batches: Vec<_> = starts
            .map(|start| whole.slice(start, rows.min(1000 - start)))
            .collect();
        batches.insert(1, whole.slice(500, 0));
        let key = rows.to_string();
        let reply = space.put_batches(space.path(&key), batches).await.unwrap();
        assert_eq!(reply["bytes"], 12_000);
        assert_eq!(space.tensor(&key).await.unwrap(), tensor);
    }
}

#[tokio::test]
async fn lists_of_every_kind_are_tensors() {
    let space = Space::new("lists").await;
    let tensor = Tensor::sample(DType::Int32, &[6, 4]);
    let values = || leaf(&DataType::Int32, 24, tensor.bytes.clone());
    let item = Arc::new(Field::new("element", DataType::Int32, true));
    let small = OffsetBuffer::from_lengths([4; 6]);
    let large = OffsetBuffer::new(ScalarBuffer::from_iter((0..=6).map(|n: i64| n * 4)));
    let small = ListArray::new(item.clone(), small, values(), None);
    let large = LargeListArray::new(item, large, values(), None);
    let ones = NullBuffer::new_valid(6);
    let fixed = list(6, 4, &values()).to_data().into_builder();
    let fixed = fixed.nulls(Some(ones)).build().unwrap();
    let columns: [(&str, ArrayRef, Tensor); 6] = [
        ("list", Arc::new(small.clone()), tensor.clone()),
        ("sliced", Arc::new(small.slice(2, 3)), tensor.rows(2..5)),
        ("large", Arc::new(large), tensor.clone()),
        ("fixed", list(6, 4, &values()), tensor.clone()),
        ("valid", arrow_array::make_array(fixed), tensor.clone()),
        ("nested", list(6, 2, &list(12, 2, &values())), {
            let shape = vec![6, 2, 2];
            Tensor {
                shape,
                ..tensor.clone()
            }
        }),
    ];
    for (key, column, expected) in columns {
        let field = Field::new("x", column.data_type().clone(), true);
        let batch = batch_of(Arc::new(Schema::new(vec![field])), vec![column]);
        let put = space.put_batches(space.path(key), [batch]).await;
        assert_eq!(put.unwrap()["stored"], 1, "{key}");
        assert_eq!(space.tensor(key).await.unwrap(), expected, "{key}");
    }
}

#[tokio::test]
async fn booleans_in_bits_and_in_bytes() {
    let space = Space::new("booleans").await;
    let bits: Vec<bool> = (0..100).map(|i| i % 3 == 0).collect();
    let bytes = bits.iter().map(|bit| u8::from(*bit)).collect();
    let expected = |shape: &[usize]| Tensor {
        dtype: DType::Bool,
        shape: shape.to_vec(),
        bytes: Vec::clone(&bytes),
    };
    let array = BooleanArray::from(bits.clone());
    let in_bits = table(vec![plain("x", array.clone())]);
    // A slice begins within a byte.
    let slice = table(vec![plain("x", array.slice(13, 50))]);
    let in_lists = table(vec![plain(
        "x",
        list(20, 5, &(Arc::new(array) as ArrayRef)),
    )]);
    let bool8 = Int8Array::from_iter(bits.iter().map(|bit| if *bit { -7 } else { 0 }));
    let (field, column) = plain("x", bool8);
    let name = ("ARROW:extension:name".to_owned(), "arrow.bool8".to_owned());
    let bool8 = table(vec![(field.with_metadata([name].into()), column)]);
    for (key, batch) in [
        ("bits", in_bits),
        ("slice", slice),
        ("lists", in_lists),
        ("bool8", bool8),
    ] {
        space.put_batches(space.path(key), [batch]).await.unwrap();
    }
    assert_eq!(space.tensor("bits").await.unwrap(), expected(&[100]));
    assert_eq!(
        space.tensor("slice").await.unwrap(),
        expected(&[100]).rows(13..63)
    );
    assert_eq!(space.tensor("lists").await.unwrap(), expected(&[20, 5]));
    assert_eq!(space.tensor("bool8").await.unwrap(), expected(&[100]));
}

#[tokio::test]
async fn a_shape_beside_the_storage() {
    let space = Space::new("shape").await;
    let tensor = Tensor::sample(DType::Float64, &[6, 4]);
    for shape in ["[24]", "[6,4]", "[2, 3, 4]", "[1,24,1]"] {
        let put = declared(&space, shape, &tensor, shape).await;
        assert_eq!(put.unwrap()["stored"], 1, "{shape}");
        let expected = Tensor {
            shape: serde_json::from_str(shape).unwrap(),
            ..tensor.clone()
        };
        assert_eq!(space.tensor(shape).await.unwrap(), expected);
    }
    for shape in [
        "[25]",
        "[]",
        "[-24]",
        "[24.5]",
        "24",
        "[4294967296, 4294967296]",
    ] {
        let put = declared(&space, "other", &tensor, shape).await;
        refused(put, "invalid_argument", &[]);
    }
    refused(space.tensor("other").await, "not_found", &["other"]);
}

async fn declared(
    space: &Space,
    key: &str,
    tensor: &Tensor,
    shape: &str,
) -> arrow_flight::error::Result<serde_json::Value> {
    let batch = tensor.batch();
    let metadata = HashMap::from([("tensor.shape".to_owned(), shape.to_owned())]);
    let schema = batch.schema().as_ref().clone().with_metadata(metadata);
    let batch = batch_of(Arc::new(schema), batch.columns().to_vec());
    space.put_batches(space.path(key), [batch]).await
}

#[tokio::test]
async fn nulls_are_refused() {
    let space = Space::new("nulls").await;
    let batch = table(vec![plain("x", Int8Array::from(vec![Some(1), None]))]);
    let put = space.put_batches(space.path("a"), [batch]).await;
    refused(put, "invalid_argument", &["null"]);
    refused(space.tensor("a").await, "not_found", &[]);
}

#[tokio::test]
async fn what_a_get_returned_can_be_put_as_it_is() {
    let space = Space::new("again").await;
    let tensor = Tensor::sample(DType::Complex128, &[4, 3]);
    let members = json!({"key": "a", "metadata": {"model": "m1", "ü": "ß"}});
    let first = space.put_with(&members, &tensor).await.unwrap();
    let got = space.get(&json!({"key": "a"})).await.unwrap();
    let put = space.put_stream(space.path("b"), got.schema.clone(), got.batches.clone());
    let second = put.await.unwrap();
    assert_ne!(first["version"], second["version"]);
    let again = space.get(&json!({"key": "b"})).await.unwrap();
    assert_eq!(again.tensor(), tensor);
    let rest = |schema: &Schema| {
        let mut metadata = schema.metadata().clone();
        assert!(metadata.remove("tensor.key").is_some());
        assert!(metadata.remove("tensor.version").is_some());
        metadata
    };
    assert_eq!(rest(&again.schema), rest(&got.schema));
    assert_eq!(again.schema.metadata()["user.ü"], "ß");
}

#[tokio::test]
async fn keys_are_bytes() {
    let space = Space::new("keys").await;
    let long = "x".repeat(1024);
    let keys = [
        "ä", "a\u{308}", "A", "a", " ", "a/b", "../a", "\n", "🏹", "{", "\"", &long,
    ];
    for (number, key) in (0_u64..).zip(keys) {
        let tensor = Tensor::seeded(DType::Int64, &[], number);
        assert_eq!(
            space.put(key, &tensor).await.unwrap()["stored"],
            1,
            "{key:?}"
        );
    }
    for (number, key) in (0_u64..).zip(keys) {
        let tensor = Tensor::seeded(DType::Int64, &[], number);
        assert_eq!(space.tensor(key).await.unwrap(), tensor, "{key:?}");
    }
    let too_long = "x".repeat(1025);
    for key in ["", "a\0b", &too_long] {
        let put = space.put(key, &Tensor::sample(DType::Int8, &[1])).await;
        refused(put, "invalid_argument", &["key"]);
    }
}
