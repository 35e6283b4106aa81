//! The exchange `get` against arrow-flight's client.

use std::sync::Arc;

use arrow_array::{FixedSizeBinaryArray, Int32Array, RecordBatch, StringArray};
use arrow_flight::decode::{DecodedPayload, FlightDataDecoder};
use arrow_flight::error::{FlightError, Result};
use arrow_flight::{FlightData, FlightDescriptor};
use bowstring_tests::{Server, until, within};
use bowstring_wire::dtype::DType;
use bytes::Bytes;
use futures::{SinkExt as _, Stream, StreamExt as _, TryStreamExt as _, stream};
use http::Request;
use serde_json::{Value, json};

use crate::grpc::{connect, framed};
use crate::space::{Space, encoded, refused};
use crate::tensor::{Tensor, bulk, plain, table, value_bytes};

/// What came back for one batch.
type Answer = (RecordBatch, Value);

fn keys(keys: &[&str]) -> RecordBatch {
    table(vec![plain("key", StringArray::from(keys.to_vec()))])
}

fn command(space: &Space, members: &Value) -> FlightDescriptor {
    let mut all = json!({"exchange": "get"});
    let members = members.as_object().unwrap().clone();
    all.as_object_mut().unwrap().extend(members);
    space.command(&all)
}

/// Exchanges messages, and gives the decoded answers.
async fn exchange(
    space: &Space,
    messages: impl Stream<Item = Result<FlightData>> + Send + 'static,
) -> Result<Vec<Answer>> {
    let mut client = space.client.inner().clone();
    let messages = messages.map(Result::unwrap);
    within("an exchange", async {
        let replies = client.do_exchange(messages).await;
        let replies = replies.map_err(|status| FlightError::Tonic(Box::new(status)))?;
        let replies = replies.into_inner();
        decoded(replies.map_err(|status| FlightError::Tonic(Box::new(status)))).await
    })
    .await
}

async fn decoded(
    replies: impl Stream<Item = Result<FlightData>> + Send + 'static,
) -> Result<Vec<Answer>> {
    let mut decoder = FlightDataDecoder::new(replies);
    let mut answers = Vec::new();
    while let Some(message) = decoder.next().await {
        let message = message?;
        if let DecodedPayload::RecordBatch(batch) = message.payload {
            let said = serde_json::from_slice(&message.inner.app_metadata).expect("JSON");
            answers.push((batch, said));
        }
    }
    Ok(answers)
}

/// The refusal's message, in a stream that had begun: its headers are gone, the trailers say it.
#[track_caller]
fn broken_off<T>(result: Result<T>, code: &str, words: &[&str]) {
    let status = match result {
        Ok(_) => panic!("not refused, expected {code}"),
        Err(FlightError::Tonic(status)) => status,
        Err(other) => panic!("not an answer of the server: {other:?}"),
    };
    let said = status.metadata().get("bowstring-code").unwrap();
    assert_eq!(said, code, "{status:?}");
    assert!(status.message().starts_with(code), "{status:?}");
    for word in words {
        assert!(status.message().contains(word), "{word}: {status:?}");
    }
}

/// All batches at once.
async fn ask(space: &Space, members: &Value, batches: Vec<RecordBatch>) -> Result<Vec<Answer>> {
    let schema = batches[0].schema();
    exchange(space, encoded(command(space, members), schema, batches)).await
}

#[tokio::test]
async fn one_for_one_in_order_each_with_what_it_misses() {
    let space = Space::new("exchange").await;
    let tensors = Tensor::sample(DType::Float32, &[4, 2, 3]);
    space
        .bulk(bulk(&["a", "b", "c", "d"], &tensors))
        .await
        .unwrap();
    let fixed = json!({"dtype": "float32", "shape": [2, 3]});
    // The stock encoder sends no batch of no rows.
    let asked: [&[&str]; 4] = [&["c", "no", "a"], &["nor"], &["d", "d"], &["b"]];
    let batches = asked.iter().map(|asked| keys(asked)).collect();
    let answers = ask(&space, &fixed, batches).await.unwrap();
    assert_eq!(answers.len(), asked.len());
    let missing: Vec<_> = answers
        .iter()
        .map(|(_, said)| said["missing"].clone())
        .collect();
    assert_eq!(
        missing,
        [json!(["no"]), json!(["nor"]), json!([]), json!([])]
    );
    let rows: Vec<_> = answers.iter().map(|(batch, _)| batch.num_rows()).collect();
    assert_eq!(rows, [2, 0, 2, 1]);
    let cells = tensors.cells();
    let got = value_bytes(answers[0].0.column_by_name("tensor").unwrap());
    assert_eq!(got, [&cells[2].bytes[..], &cells[0].bytes].concat());
}

#[tokio::test]
async fn without_a_shape_each_row_says_its_own() {
    let space = Space::new("exchange.opaque").await;
    for (key, shape) in [("1", &[3][..]), ("2", &[2, 2]), ("ff00", &[])] {
        space
            .put(key, &Tensor::sample(DType::Int16, shape))
            .await
            .unwrap();
    }
    let columns = ["key", "dtype", "shape", "data"];
    let answers = ask(&space, &json!({}), vec![keys(&["2", "1", "x"])])
        .await
        .unwrap();
    let (batch, said) = &answers[0];
    let names: Vec<_> = batch
        .schema()
        .fields()
        .iter()
        .map(|f| f.name().clone())
        .collect();
    assert_eq!(names, columns);
    assert_eq!((batch.num_rows(), said), (2, &json!({"missing": ["x"]})));
    // Other kinds of keys, and another name for them.
    let named = json!({"key_column": "id"});
    let integers = table(vec![plain("id", Int32Array::from(vec![2, 1]))]);
    let answers = ask(&space, &named, vec![integers]).await.unwrap();
    assert_eq!(answers[0].0.num_rows(), 2);
    let hex = FixedSizeBinaryArray::try_from_iter([[0xff, 0]].into_iter()).unwrap();
    let answers = ask(&space, &named, vec![table(vec![plain("id", hex)])])
        .await
        .unwrap();
    assert_eq!(answers[0].0.num_rows(), 1);
}

/// Each answer comes before the next batch is sent: nothing waits for the end of the stream.
#[tokio::test]
async fn a_dialogue() {
    let space = Space::new("exchange.dialogue").await;
    let tensor = Tensor::sample(DType::UInt8, &[100_000]);
    space.put("a", &tensor).await.unwrap();
    let batch = keys(&["a", "b"]);
    let mut messages: Vec<FlightData> =
        encoded(command(&space, &json!({})), batch.schema(), vec![batch])
            .try_collect()
            .await
            .unwrap();
    let question = messages.pop().unwrap();
    let (mut send, receive) = futures::channel::mpsc::channel(8);
    let mut client = space.client.inner().clone();
    within("a dialogue", async {
        for opening in messages {
            send.send(opening).await.unwrap();
        }
        let mut replies = client.do_exchange(receive).await.unwrap().into_inner();
        let schema = replies.message().await.unwrap().unwrap();
        assert!(schema.data_body.is_empty());
        for _ in 0..5 {
            send.send(question.clone()).await.unwrap();
            let reply = replies.message().await.unwrap().unwrap();
            assert_eq!(&reply.app_metadata[..], br#"{"missing":["b"]}"#);
            assert!(reply.data_body.len() > tensor.bytes.len());
        }
        drop(send);
        assert!(replies.message().await.unwrap().is_none());
    })
    .await;
}

#[tokio::test]
async fn what_cannot_be_answered_is_refused() {
    let space = Space::new("exchange.refused").await;
    space
        .put("a", &Tensor::sample(DType::Int8, &[4000]))
        .await
        .unwrap();
    space
        .put("b", &Tensor::sample(DType::Int8, &[4000]))
        .await
        .unwrap();
    let fixed = json!({"dtype": "int8", "shape": [3]});
    let other = ask(&space, &fixed, vec![keys(&["a"])]).await;
    broken_off(other, "failed_precondition", &["`a`", "[4000]"]);
    let null = table(vec![plain("key", StringArray::from(vec![Some("a"), None]))]);
    broken_off(
        ask(&space, &json!({}), vec![null]).await,
        "invalid_argument",
        &["null"],
    );
    broken_off(
        ask(&space, &json!({}), vec![keys(&[""])]).await,
        "invalid_argument",
        &["key"],
    );
    let unnamed = table(vec![plain("id", StringArray::from(vec!["a"]))]);
    refused(
        ask(&space, &json!({}), vec![unnamed]).await,
        "invalid_argument",
        &["`key`"],
    );
    let more = table(vec![
        plain("key", StringArray::from(vec!["a"])),
        plain("extra", StringArray::from(vec!["a"])),
    ]);
    refused(
        ask(&space, &json!({}), vec![more]).await,
        "invalid_argument",
        &["`extra`"],
    );
    let floats = table(vec![plain(
        "key",
        arrow_array::Float32Array::from(vec![1.0]),
    )]);
    refused(
        ask(&space, &json!({}), vec![floats]).await,
        "invalid_argument",
        &["key"],
    );
    let unknown = ask(&space, &json!({"limit": 3}), vec![keys(&["a"])]).await;
    refused(unknown, "invalid_argument", &["`limit`"]);
    // One row is sent whole, two are not split.
    let small = json!({"max_message_bytes": 5000});
    assert_eq!(
        ask(&space, &small, vec![keys(&["a"])]).await.unwrap()[0]
            .0
            .num_rows(),
        1
    );
    let large = ask(&space, &small, vec![keys(&["a", "b"])]).await;
    broken_off(large, "resource_exhausted", &["max_message_bytes", "5000"]);
    let many = keys(&vec!["a"; 10_001]);
    broken_off(
        ask(&space, &json!({}), vec![many]).await,
        "resource_exhausted",
        &["10001"],
    );
    let missing = keys(&vec!["a key that nobody has ever put here"; 9_000]);
    let missing = ask(
        &space,
        &json!({"max_message_bytes": 100_000}),
        vec![missing],
    )
    .await;
    broken_off(missing, "resource_exhausted", &["max_message_bytes"]);
}

#[tokio::test]
async fn what_is_no_exchange_of_keys_is_refused() {
    let space = Space::new("exchange.malformed").await;
    let batch = keys(&["a"]);
    let messages: Vec<FlightData> =
        encoded(command(&space, &json!({})), batch.schema(), vec![batch])
            .try_collect()
            .await
            .unwrap();
    let changed = |at: usize, change: &dyn Fn(&mut FlightData)| {
        let mut messages = messages.clone();
        change(&mut messages[at]);
        futures::stream::iter(messages.into_iter().map(Ok))
    };
    let no_schema = changed(0, &|message| message.data_header = Bytes::new());
    refused(
        exchange(&space, no_schema).await,
        "invalid_argument",
        &["schema"],
    );
    let short = changed(1, &|message| message.data_body.truncate(3));
    broken_off(exchange(&space, short).await, "invalid_argument", &[]);
    let schema = messages[0].data_header.clone();
    let twice = changed(1, &|message| message.data_header = schema.clone());
    broken_off(exchange(&space, twice).await, "invalid_argument", &[]);
    let rubbish = changed(1, &|message| {
        message.data_header = Bytes::from(vec![7; 300])
    });
    broken_off(exchange(&space, rubbish).await, "invalid_argument", &[]);
    let headless = changed(1, &|message| message.data_header = Bytes::new());
    broken_off(
        exchange(&space, headless).await,
        "invalid_argument",
        &["data_header"],
    );
    assert_eq!(
        exchange(&space, changed(0, &|_| {})).await.unwrap().len(),
        1
    );
}

/// It would have no end of its own, and the drain would wait for it.
#[tokio::test]
async fn a_drain_ends_it() {
    let space = Space::on(Arc::new(Server::start()), "default").await;
    let batch = keys(&["a"]);
    let messages = encoded(command(&space, &json!({})), batch.schema(), vec![batch]);
    let messages = messages.map(Result::unwrap).chain(stream::pending());
    let mut client = space.client.inner().clone();
    let replies = within("an exchange", client.do_exchange(messages)).await;
    let mut replies = replies.unwrap().into_inner();
    space.server.terminate();
    let ended = within("its end", async {
        loop {
            match replies.message().await {
                Ok(Some(_)) => {}
                Ok(None) => panic!("ended in good order"),
                Err(status) => return status,
            }
        }
    });
    let ended = ended.await;
    assert_eq!(ended.code(), tonic::Code::Unavailable, "{ended:?}");
    let mut server = Arc::into_inner(space.server).unwrap();
    assert_eq!(server.ended().await, Some(0));
}

/// A stock client's own library may keep the request open: here the stream is reset.
#[tokio::test]
async fn a_reset_ends_it() {
    let space = Space::on(Arc::new(Server::start()), "default").await;
    let batch = keys(&["a"]);
    let messages = encoded(command(&space, &json!({})), batch.schema(), vec![batch]);
    let messages: Vec<FlightData> = messages.try_collect().await.unwrap();
    let in_flight = || {
        let metrics = space.server.metrics();
        metrics.count("bowstring_requests_in_flight{verb=\"DoExchange\"}")
    };
    let send = connect(space.server.address()).await;
    let request = Request::post("http://localhost/arrow.flight.protocol.FlightService/DoExchange")
        .header("content-type", "application/grpc")
        .body(())
        .unwrap();
    let mut send = within("a connection", send.ready()).await.unwrap();
    let (response, mut stream) = send.send_request(request, false).unwrap();
    for message in &messages {
        stream.send_data(framed(message), false).unwrap();
    }
    within("the schema", response).await.unwrap();
    assert_eq!(in_flight(), 1);
    stream.send_reset(h2::Reason::CANCEL);
    until("its end", async || (in_flight() == 0).then_some(())).await;
    let cancelled = "bowstring_requests_total{verb=\"DoExchange\",code=\"cancelled\"}";
    assert_eq!(space.server.metrics().count(cancelled), 1);
}
