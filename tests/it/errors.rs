//! Whatever a client does wrong: the code, a sentence with what was wrong, the trailer, the header.

use std::sync::Arc;

use arrow_flight::encode::FlightDataEncoderBuilder;
use arrow_flight::{Action, Empty, FlightDescriptor, Ticket};
use bowstring_tests::Server;
use bowstring_wire::dtype::DType;
use bytes::Bytes;
use futures::{StreamExt as _, stream};
use serde_json::json;

use crate::space::{Space, encoded, refused};
use crate::tensor::{Tensor, bulk};

#[tokio::test]
async fn tickets() {
    let space = Space::new("tickets").await;
    let long = format!(r#"{{"key": "{}"}}"#, "k".repeat(1025));
    let deep = format!(r#"{{"key": {}"#, "[".repeat(100_000));
    let cases: [(&str, &str, &[&str]); 28] = [
        ("", "invalid_argument", &[]),
        ("{", "invalid_argument", &[]),
        ("{}", "invalid_argument", &["key", "keys", "prefix"]),
        (r#"{"key": "a"}x"#, "invalid_argument", &[]),
        (r#"{"key": 5}"#, "invalid_argument", &["key"]),
        (r#"{"key": null}"#, "invalid_argument", &["key"]),
        (r#"{"key": ""}"#, "invalid_argument", &["key"]),
        (r#"{"key": "a\u0000b"}"#, "invalid_argument", &["key"]),
        (&long, "invalid_argument", &["1024"]),
        (&deep, "invalid_argument", &[]),
        (
            r#"{"key": "a", "keys": ["b"]}"#,
            "invalid_argument",
            &["key", "keys"],
        ),
        (r#"{"key": "a", "key": "b"}"#, "invalid_argument", &["key"]),
        (
            r#"{"key": "a", "colour": "red"}"#,
            "invalid_argument",
            &["colour"],
        ),
        (
            r#"{"key": "a", "tenant": "other"}"#,
            "invalid_argument",
            &["tenant"],
        ),
        (
            r#"{"namespace": "", "key": "a"}"#,
            "invalid_argument",
            &["namespace"],
        ),
        (
            r#"{"namespace": "a/b", "key": "a"}"#,
            "invalid_argument",
            &["a/b"],
        ),
        (
            r#"{"keys": ["a"], "rows": [0, 1]}"#,
            "invalid_argument",
            &["rows"],
        ),
        (r#"{"keys": ["a", ""]}"#, "invalid_argument", &["key"]),
        (
            r#"{"key": "a", "layout": "columns"}"#,
            "invalid_argument",
            &["columns"],
        ),
        (
            r#"{"prefix": "a", "dtype": "float32"}"#,
            "invalid_argument",
            &["shape"],
        ),
        (
            r#"{"prefix": "a", "dtype": "f99", "shape": [1]}"#,
            "invalid_argument",
            &["f99"],
        ),
        (
            r#"{"keys": ["a"], "missing": "maybe"}"#,
            "invalid_argument",
            &["maybe"],
        ),
        (
            r#"{"keys": ["a"], "with": ["colour"]}"#,
            "invalid_argument",
            &["colour"],
        ),
        (
            r#"{"key": "a", "max_message_bytes": 0}"#,
            "invalid_argument",
            &["max_message_bytes"],
        ),
        (
            r#"{"key": "nobody has this"}"#,
            "not_found",
            &["nobody has this", "default"],
        ),
        ("hello", "invalid_argument", &["SQL"]),
        ("\n\u{5}hello", "unimplemented", &["hello"]),
        ("[1]", "invalid_argument", &["SQL"]),
    ];
    for (ticket, code, words) in cases {
        let said = refused(
            space.follow(Ticket::new(ticket.to_owned())).await,
            code,
            words,
        );
        assert!(said.len() <= 1100, "{said}");
    }
    let not_utf8 = Bytes::from_static(b"{\"key\": \"\xff\"}");
    refused(
        space.follow(Ticket::new(not_utf8)).await,
        "invalid_argument",
        &[],
    );
}

#[tokio::test]
async fn put_commands() {
    let space = Space::new("commands").await;
    let tensor = Tensor::sample(DType::Int8, &[3]);
    let cases = [
        (json!({}), "key"),
        (json!({"key": ""}), "key"),
        (json!({"key": "a", "mode": "overwrite"}), "overwrite"),
        (json!({"key": "a", "colour": "red"}), "colour"),
        (json!({"key": "a", "namespace": ""}), "namespace"),
        (json!({"key": "a", "metadata": "x"}), "metadata"),
        (json!({"key": "a", "metadata": {"x": 1}}), "metadata"),
        (json!({"key": "a", "size_bytes": -1}), "size_bytes"),
        (json!({"key": "a", "ttl_ms": 0}), "ttl_ms"),
        (json!({"key": "a", "if_version": "x"}), "version"),
        (json!({"key": "a", "key_column": "k"}), "key_column"),
        (json!({"key": "a", "extra_columns": "eat"}), "extra_columns"),
        (json!({"key": "a", "wait": "forever"}), "wait"),
        (json!({"key": "a", "admit": "maybe"}), "admit"),
    ];
    for (members, word) in cases {
        refused(
            space.put_with(&members, &tensor).await,
            "invalid_argument",
            &[word],
        );
    }
    let members = json!({"key": "a", "wait": "cold"});
    let put = space.put_with(&members, &tensor).await;
    refused(put, "failed_precondition", &["--cold"]);
    let descriptors = [
        (FlightDescriptor::new_path(vec![]), "invalid_argument"),
        (
            FlightDescriptor::new_path(vec!["a b".into(), "k".into()]),
            "invalid_argument",
        ),
        (
            FlightDescriptor::new_path(vec!["a".into(), "b".into(), "c".into()]),
            "invalid_argument",
        ),
        (FlightDescriptor::default(), "invalid_argument"),
        (FlightDescriptor::new_cmd("{"), "invalid_argument"),
        (FlightDescriptor::new_cmd("PUT a"), "invalid_argument"),
        (FlightDescriptor::new_cmd(""), "invalid_argument"),
    ];
    for (descriptor, code) in descriptors {
        let put = space
            .put_batches(descriptor.clone(), [tensor.batch()])
            .await;
        refused(put, code, &[]);
    }
    refused(space.tensor("a").await, "not_found", &[]);
}

#[tokio::test]
async fn puts_without_a_beginning() {
    let space = Space::new("opening").await;
    let tensor = Tensor::sample(DType::Int8, &[3]);
    let put = space.put_messages(stream::empty()).await;
    refused(put, "invalid_argument", &["schema"]);
    // No descriptor.
    let batches = stream::iter([Ok(tensor.batch())]);
    let put = space
        .put_messages(FlightDataEncoderBuilder::new().build(batches))
        .await;
    refused(put, "invalid_argument", &["descriptor"]);
    // No schema: the batch comes first.
    let whole = encoded(
        space.path("a"),
        tensor.batch().schema(),
        vec![tensor.batch()],
    );
    let mut messages: Vec<_> = whole.collect().await;
    let schema = messages.remove(0).unwrap();
    messages[0].as_mut().unwrap().flight_descriptor = schema.flight_descriptor;
    let put = space.put_messages(stream::iter(messages)).await;
    refused(put, "invalid_argument", &["schema"]);
    refused(space.tensor("a").await, "not_found", &[]);
}

/// A refusal comes before the body is read: what the windows let through, and no more.
#[tokio::test]
async fn a_put_is_refused_before_its_body() {
    let server = Arc::new(Server::start());
    let space = Space::on(server.clone(), "early").await;
    let tensor = Tensor::sample(DType::UInt8, &[64, 1 << 20]);
    let wrong = space.command(&json!({"key": "a", "colour": "red"}));
    let put = space.put_batches(wrong, [tensor.batch()]).await;
    refused(put, "invalid_argument", &["colour"]);
    let received = server.metrics().sum("bowstring_received_bytes_total");
    assert!(received < 1e6, "{received}");
    let stats = server.stats().await;
    assert_eq!((stats.entries, stats.bytes), (0, 0));
}

#[tokio::test]
async fn every_answer_carries_the_wire_and_success_no_code() {
    let space = Space::new("headers").await;
    space
        .bulk(bulk(&["a"], &Tensor::sample(DType::Int8, &[1, 2])))
        .await
        .unwrap();
    let mut client = space.client.inner().clone();
    let ours = |metadata: &tonic::metadata::MetadataMap| {
        assert_eq!(metadata.get("bowstring-wire").unwrap(), "1");
        assert!(metadata.get("bowstring-code").is_none());
    };
    let path = || space.path("a");
    ours(
        client
            .do_get(space.ticket(&json!({"key": "a"})))
            .await
            .unwrap()
            .metadata(),
    );
    ours(client.get_flight_info(path()).await.unwrap().metadata());
    ours(client.get_schema(path()).await.unwrap().metadata());
    ours(
        client
            .list_flights(arrow_flight::Criteria::default())
            .await
            .unwrap()
            .metadata(),
    );
    ours(client.list_actions(Empty {}).await.unwrap().metadata());
    ours(
        client
            .do_action(Action::new("stats", ""))
            .await
            .unwrap()
            .metadata(),
    );
    let batch = Tensor::sample(DType::Int8, &[2]).batch();
    let messages = encoded(path(), batch.schema(), vec![batch]).map(Result::unwrap);
    let put = client.do_put(messages).await;
    ours(put.unwrap().metadata());
    let mut stream = client
        .do_get(space.ticket(&json!({"key": "a"})))
        .await
        .unwrap()
        .into_inner();
    while stream.message().await.unwrap().is_some() {}
    assert!(
        stream
            .trailers()
            .await
            .unwrap()
            .is_none_or(|t| t.get("bowstring-code").is_none())
    );
    let got = space.get(&json!({"key": "a"})).await.unwrap();
    ours(&got.headers);
}

#[tokio::test]
async fn verbs_that_are_not_built_yet() {
    let space = Space::new("verbs").await;
    let mut client = space.clone_client();
    refused(client.handshake("x").await, "unimplemented", &["Handshake"]);
    refused(
        client.poll_flight_info(space.path("a")).await,
        "unimplemented",
        &["PollFlightInfo"],
    );
}
