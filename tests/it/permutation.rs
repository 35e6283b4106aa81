//! `permutation`: logical axis *i* is physical axis `permutation[i]`; what is stored is in logical
//! order. A cycle of three axes: a swap of two is its own inverse, and hides a mistake.

use std::collections::HashMap;
use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_schema::{DataType, Field, Schema};
use bowstring_wire::dtype::DType;
use serde_json::json;

use crate::space::{Space, refused};
use crate::tensor::{Tensor, batch_of, leaf, list, plain, table};

/// Two cells of physical shape [2, 3, 4], whose bytes are their positions.
fn cells(metadata: &str) -> RecordBatch {
    let values = leaf(&DataType::UInt8, 48, (0..48).collect());
    let column = list(2, 24, &values);
    let extension = [
        ("ARROW:extension:name", "arrow.fixed_shape_tensor"),
        ("ARROW:extension:metadata", metadata),
    ];
    let extension = extension.map(|(name, text)| (name.to_owned(), text.to_owned()));
    let field = Field::new("tensor", column.data_type().clone(), false);
    let field = field.with_metadata(HashMap::from(extension));
    batch_of(Arc::new(Schema::new(vec![field])), vec![column])
}

/// By the definition: logical [i, j, k] with `permutation` p lies at physical x, where
/// x[p[0]] = i, x[p[1]] = j, x[p[2]] = k.
fn expected(permutation: [usize; 3]) -> Tensor {
    let physical = [2, 3, 4];
    let logical = permutation.map(|axis| physical[axis]);
    let mut bytes = Vec::new();
    for row in 0..2 {
        for i in 0..logical[0] {
            for j in 0..logical[1] {
                for k in 0..logical[2] {
                    let mut x = [0; 3];
                    x[permutation[0]] = i;
                    x[permutation[1]] = j;
                    x[permutation[2]] = k;
                    let at = row * 24 + x[0] * 12 + x[1] * 4 + x[2];
                    bytes.push(u8::try_from(at).unwrap());
                }
            }
        }
    }
    let shape = [2].into_iter().chain(logical).collect();
    Tensor {
        dtype: DType::UInt8,
        shape,
        bytes,
    }
}

#[tokio::test]
async fn every_order_of_three_axes() {
    let space = Space::new("permutation").await;
    for order in [
        [0, 1, 2],
        [1, 2, 0],
        [2, 0, 1],
        [1, 0, 2],
        [0, 2, 1],
        [2, 1, 0],
    ] {
        let key = format!("{order:?}");
        let batch = cells(&format!(r#"{{"shape":[2,3,4],"permutation":{order:?}}}"#));
        // Cut where it likes: each batch is put in order for itself.
        let batches = [batch.slice(0, 1), batch.slice(1, 1)];
        space.put_batches(space.path(&key), batches).await.unwrap();
        assert_eq!(space.tensor(&key).await.unwrap(), expected(order), "{key}");
    }
    assert_eq!(expected([1, 2, 0]).shape, [2, 3, 4, 2]);
}

#[tokio::test]
async fn a_permutation_of_each_row_of_many() {
    let space = Space::new("permutation").await;
    let batch = cells(r#"{"shape":[2,3,4],"permutation":[1,2,0]}"#);
    let (field, column) = (batch.schema().field(0).clone(), batch.column(0).clone());
    let keys = plain("key", arrow_array::StringArray::from(vec!["a", "b"]));
    space
        .bulk(table(vec![keys, (field, column)]))
        .await
        .unwrap();
    for (key, cell) in ["a", "b"].into_iter().zip(expected([1, 2, 0]).cells()) {
        assert_eq!(space.tensor(key).await.unwrap(), cell);
    }
}

/// What arrow-rs's own `FixedShapeTensor` writes has other names and nulls.
#[tokio::test]
async fn the_metadata_that_arrow_rs_writes() {
    let space = Space::new("permutation").await;
    let batch = cells(r#"{"shape":[2,3,4],"dim_names":null,"permutations":null}"#);
    space
        .put_batches(space.path("plain"), [batch])
        .await
        .unwrap();
    assert_eq!(space.tensor("plain").await.unwrap(), expected([0, 1, 2]));
    let named = cells(r#"{"shape":[2,3,4],"dim_names":["C","H","W"]}"#);
    space
        .put_batches(space.path("named"), [named])
        .await
        .unwrap();
    let got = space.get(&json!({"key": "named"})).await.unwrap();
    assert_eq!(got.schema.metadata()["user.dim_names"], r#"["C","H","W"]"#);
}

#[tokio::test]
async fn what_is_no_permutation() {
    let space = Space::new("permutation").await;
    for order in ["[0,1]", "[0,1,1]", "[1,2,3]", "[0,1,2,3]", "[-1,0,1]", "7"] {
        let batch = cells(&format!(r#"{{"shape":[2,3,4],"permutation":{order}}}"#));
        let put = space.put_batches(space.path("a"), [batch]).await;
        refused(put, "invalid_argument", &["permutation"]);
    }
    for shape in ["[2,3]", "[2,3,5]", "[]", "7"] {
        let batch = cells(&format!(r#"{{"shape":{shape}}}"#));
        let put = space.put_batches(space.path("a"), [batch]).await;
        refused(put, "invalid_argument", &["shape"]);
    }
}
