//! `create`, `keep`, `replace`; `if_version`, `unless_version`, `version`; checksums.

use std::sync::Arc;

use bowstring_wire::dtype::DType;
use futures::future::join_all;
use serde_json::{Value, json};

use crate::space::{Space, refused};
use crate::tensor::Tensor;

fn one() -> Tensor {
    Tensor::seeded(DType::Float32, &[4, 3], 1)
}

fn other() -> Tensor {
    Tensor::seeded(DType::Float32, &[4, 3], 2)
}

/// A namespace with one tensor under `a`, and its PutResult.
async fn stored(name: &str) -> (Space, Value) {
    let space = Space::new(name).await;
    let members = json!({"key": "a", "metadata": {"n": "1"}});
    let reply = space.put_with(&members, &one()).await.unwrap();
    (space, reply)
}

#[tokio::test]
async fn create_is_write_once_and_safe_to_repeat() {
    let (space, first) = stored("create").await;
    let again = json!({"key": "a", "mode": "create", "metadata": {"n": "2"}});
    let reply = space.put_with(&again, &one()).await.unwrap();
    assert_eq!(
        (&reply["stored"], &reply["existed"]),
        (&json!(0), &json!(1))
    );
    assert_eq!(
        (&reply["version"], &reply["bytes"]),
        (&first["version"], &json!(0))
    );
    let got = space.get(&json!({"key": "a"})).await.unwrap();
    assert_eq!(got.schema.metadata()["user.n"], "1");
    let reshaped = Tensor {
        shape: vec![3, 4],
        ..one()
    };
    let retyped = Tensor {
        dtype: DType::Int32,
        ..one()
    };
    for tensor in [other(), reshaped, retyped, one().rows(0..3)] {
        refused(space.put("a", &tensor).await, "already_exists", &["a"]);
    }
    assert_eq!(space.tensor("a").await.unwrap(), one());
}

#[tokio::test]
async fn keep_and_replace() {
    let (space, first) = stored("keep").await;
    let reply = space
        .put_with(&json!({"key": "a", "mode": "keep"}), &other())
        .await
        .unwrap();
    assert_eq!(
        (&reply["stored"], &reply["existed"]),
        (&json!(0), &json!(1))
    );
    assert_eq!(space.tensor("a").await.unwrap(), one());
    let small = Tensor::sample(DType::Int8, &[2, 2, 2]);
    let reply = space
        .put_with(&json!({"key": "a", "mode": "replace"}), &small)
        .await
        .unwrap();
    assert_eq!(reply["stored"], 1);
    let number = |reply: &Value| reply["version"].as_str().unwrap().parse::<u128>().unwrap();
    assert!(number(&reply) > number(&first));
    let got = space.get(&json!({"key": "a"})).await.unwrap();
    assert_eq!(got.tensor(), small);
    assert_eq!(
        got.schema.metadata()["tensor.version"],
        reply["version"].as_str().unwrap()
    );
    assert!(!got.schema.metadata().contains_key("user.n"));
    refused(
        space
            .put_with(&json!({"key": "a", "mode": "x"}), &one())
            .await,
        "invalid_argument",
        &["mode"],
    );
}

#[tokio::test]
async fn versions_compare() {
    let (space, first) = stored("versions").await;
    let version = &first["version"];
    let wrong = json!({"key": "a", "mode": "replace", "if_version": "1"});
    let said = refused(
        space.put_with(&wrong, &other()).await,
        "failed_precondition",
        &["version"],
    );
    assert!(said.contains(version.as_str().unwrap()), "{said}");
    let absent = json!({"key": "b", "mode": "replace", "if_version": version});
    refused(
        space.put_with(&absent, &other()).await,
        "failed_precondition",
        &[],
    );
    let right = json!({"key": "a", "mode": "replace", "if_version": version});
    space.put_with(&right, &other()).await.unwrap();
    refused(
        space.put_with(&right, &one()).await,
        "failed_precondition",
        &[],
    );

    let now = space
        .get(&json!({"key": "a"}))
        .await
        .unwrap()
        .schema
        .metadata()["tensor.version"]
        .clone();
    let unless = |version: &str| json!({"key": "a", "unless_version": version});
    refused(space.get(&unless(&now)).await, "not_modified", &[]);
    assert_eq!(space.get(&unless("1")).await.unwrap().tensor(), other());
    let this = |version: &str| json!({"key": "a", "version": version});
    assert_eq!(space.get(&this(&now)).await.unwrap().tensor(), other());
    refused(space.get(&this("1")).await, "failed_precondition", &[&now]);
    refused(
        space.get(&json!({"key": "b", "unless_version": "1"})).await,
        "not_found",
        &[],
    );
    for text in [
        json!(""),
        json!("x"),
        json!("-1"),
        json!("01"),
        json!(5),
        json!("9".repeat(40)),
    ] {
        let got = space.get(&json!({"key": "a", "version": text})).await;
        refused(got, "invalid_argument", &["version"]);
    }
}

#[tokio::test]
async fn of_many_who_compare_and_replace_one_wins() {
    let (space, first) = stored("race").await;
    let space = Arc::new(space);
    let puts = (0..16).map(|seed| {
        let (space, version) = (space.clone(), first["version"].clone());
        async move {
            let members = json!({"key": "a", "mode": "replace", "if_version": version});
            let tensor = Tensor::seeded(DType::Int64, &[100], seed);
            (space.put_with(&members, &tensor).await, tensor)
        }
    });
    let (won, lost): (Vec<_>, Vec<_>) = join_all(puts)
        .await
        .into_iter()
        .partition(|(put, _)| put.is_ok());
    assert_eq!(won.len(), 1);
    assert_eq!(space.tensor("a").await.unwrap(), won[0].1);
    for (put, _) in lost {
        refused(put, "failed_precondition", &[]);
    }
}

#[tokio::test]
async fn checksums() {
    let space = Space::new("checksum").await;
    let right = json!({"key": "a", "checksum": one().checksum()});
    let batches = (0..4).map(|row| one().batch().slice(row, 1));
    space
        .put_batches(space.command(&right), batches)
        .await
        .unwrap();
    let wrong = json!({"key": "b", "checksum": other().checksum()});
    let put = space.put_with(&wrong, &one()).await;
    refused(put, "data_loss", &[&one().checksum(), &other().checksum()]);
    refused(space.tensor("b").await, "not_found", &[]);
    // The old one stays.
    let replace = json!({"key": "a", "mode": "replace", "checksum": "0".repeat(32)});
    refused(space.put_with(&replace, &other()).await, "data_loss", &[]);
    assert_eq!(space.tensor("a").await.unwrap(), one());
    for text in [
        json!(""),
        json!("00"),
        json!("g".repeat(32)),
        json!("0".repeat(33)),
        json!(7),
    ] {
        let put = space
            .put_with(&json!({"key": "c", "checksum": text}), &one())
            .await;
        refused(put, "invalid_argument", &["checksum"]);
    }
}

#[tokio::test]
async fn a_reader_keeps_what_is_replaced_and_deleted_under_it() {
    let space = Space::new("reader").await;
    let [before, after] = [1, 2].map(|seed| Tensor::seeded(DType::UInt8, &[24, 1 << 20], seed));
    for replaced in [true, false] {
        space
            .put_with(&json!({"key": "a", "mode": "replace"}), &before)
            .await
            .unwrap();
        let mut client = space.client.inner().clone();
        let ticket = space.ticket(&json!({"key": "a"}));
        let mut stream = client.do_get(ticket).await.unwrap().into_inner();
        // The schema, then the first body: the rest has not been sent, for want of window.
        stream.message().await.unwrap().unwrap();
        let mut bytes = stream.message().await.unwrap().unwrap().data_body.to_vec();
        if replaced {
            space
                .put_with(&json!({"key": "a", "mode": "replace"}), &after)
                .await
                .unwrap();
        } else {
            space.act("delete", &json!({"keys": ["a"]})).await.unwrap();
        }
        while let Some(message) = stream.message().await.unwrap() {
            bytes.extend_from_slice(&message.data_body);
        }
        assert!(bytes == before.bytes);
        let now = space.tensor("a").await;
        if replaced {
            assert_eq!(now.unwrap(), after);
        } else {
            refused(now, "not_found", &[]);
        }
    }
}

#[tokio::test]
async fn a_size_said_beforehand() {
    let space = Space::new("size").await;
    let right = json!({"key": "a", "size_bytes": 48});
    space.put_with(&right, &one()).await.unwrap();
    // A terabyte in a server of half a gigabyte: refused, though the tensor itself is small.
    let huge = json!({"key": "b", "size_bytes": 1_u64 << 40});
    refused(
        space.put_with(&huge, &one()).await,
        "resource_exhausted",
        &[],
    );
    refused(space.tensor("b").await, "not_found", &[]);
}
