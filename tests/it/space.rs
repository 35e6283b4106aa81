//! A namespace of a test's own, and the verbs in it, by arrow-flight's client with its defaults.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use arrow_array::RecordBatch;
use arrow_flight::decode::DecodedPayload;
use arrow_flight::encode::FlightDataEncoderBuilder;
use arrow_flight::error::{FlightError, Result};
use arrow_flight::{Action, FlightClient, FlightData, FlightDescriptor, FlightInfo, Ticket};
use arrow_schema::{Schema, SchemaRef};
use bowstring_tests::{Server, channel, within};
use bytes::Bytes;
use futures::{Stream, StreamExt, TryStreamExt, stream};
use serde_json::{Value, json};
use tonic::metadata::MetadataMap;

use crate::tensor::Tensor;

/// Where a test puts and gets.
pub struct Space {
    pub server: Arc<Server>,
    pub client: FlightClient,
    pub namespace: String,
}

/// A stream that was read to its end.
pub struct Got {
    pub schema: SchemaRef,
    /// Each message's batch, those without rows too.
    pub batches: Vec<RecordBatch>,
    /// Each message's `app_metadata`.
    pub said: Vec<Bytes>,
    /// The size of each message's body.
    pub body_bytes: Vec<usize>,
    /// The response's headers.
    pub headers: MetadataMap,
}

impl Space {
    /// A new namespace on the server that all share.
    pub async fn new(name: &str) -> Self {
        Self::on(Server::shared(), name).await
    }

    /// A new namespace on a server of the test's own.
    pub async fn on(server: Arc<Server>, name: &str) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let channel = within("a connection", channel(server.uri())).await;
        Self {
            server,
            client: FlightClient::new(channel.expect("a connection")),
            namespace: format!("{name}.{number}"),
        }
    }

    /// `PATH [namespace, key]`.
    pub fn path(&self, key: &str) -> FlightDescriptor {
        FlightDescriptor::new_path(vec![self.namespace.clone(), key.to_owned()])
    }

    /// `members` in this namespace, as JSON.
    pub fn json(&self, members: &Value) -> String {
        let mut all = json!({"namespace": self.namespace});
        let members = members.as_object().expect("an object").clone();
        all.as_object_mut().expect("an object").extend(members);
        all.to_string()
    }

    /// `CMD` with `members` in this namespace.
    pub fn command(&self, members: &Value) -> FlightDescriptor {
        FlightDescriptor::new_cmd(self.json(members))
    }

    /// A ticket of `members` in this namespace.
    pub fn ticket(&self, members: &Value) -> Ticket {
        Ticket::new(self.json(members))
    }

    /// Puts one tensor by its path; gives the PutResult.
    pub async fn put(&self, key: &str, tensor: &Tensor) -> Result<Value> {
        self.put_batches(self.path(key), [tensor.batch()]).await
    }

    /// Puts one tensor by a command of `members`.
    pub async fn put_with(&self, members: &Value, tensor: &Tensor) -> Result<Value> {
        self.put_batches(self.command(members), [tensor.batch()])
            .await
    }

    /// Puts a tensor a row.
    pub async fn bulk(&self, batch: RecordBatch) -> Result<Value> {
        self.bulk_with(&json!({}), batch).await
    }

    /// Puts a tensor a row, by a command of `members`.
    pub async fn bulk_with(&self, members: &Value, batch: RecordBatch) -> Result<Value> {
        self.put_batches(self.command(members), [batch]).await
    }

    /// Puts batches of the first one's schema, as arrow-flight's encoder makes messages of them.
    pub async fn put_batches(
        &self,
        descriptor: FlightDescriptor,
        batches: impl IntoIterator<Item = RecordBatch>,
    ) -> Result<Value> {
        let batches: Vec<_> = batches.into_iter().collect();
        let schema = batches.first().expect("a batch").schema();
        self.put_stream(descriptor, schema, batches).await
    }

    /// Puts any number of batches.
    pub async fn put_stream(
        &self,
        descriptor: FlightDescriptor,
        schema: SchemaRef,
        batches: Vec<RecordBatch>,
    ) -> Result<Value> {
        self.put_messages(encoded(descriptor, schema, batches))
            .await
    }

    /// Puts messages as they are; gives the one PutResult.
    pub async fn put_messages(
        &self,
        messages: impl Stream<Item = Result<FlightData>> + Send + 'static,
    ) -> Result<Value> {
        let mut client = self.clone_client();
        within("a put", async {
            let replies = client.do_put(messages).await?;
            let replies: Vec<_> = replies.try_collect().await?;
            let [reply] = &replies[..] else {
                panic!("one PutResult, at the end; got {}", replies.len());
            };
            Ok(serde_json::from_slice(&reply.app_metadata).expect("JSON"))
        })
        .await
    }

    /// The tensor under a key.
    pub async fn tensor(&self, key: &str) -> Result<Tensor> {
        Ok(self.get(&json!({"key": key})).await?.tensor())
    }

    /// All that a ticket of `members` gives.
    pub async fn get(&self, members: &Value) -> Result<Got> {
        self.follow(self.ticket(members)).await
    }

    /// All that a ticket gives.
    pub async fn follow(&self, ticket: Ticket) -> Result<Got> {
        let mut client = self.clone_client();
        within("a get", async {
            let stream = client.do_get(ticket).await?;
            let headers = stream.headers().clone();
            let mut stream = stream.into_inner();
            let mut got = Got {
                schema: Arc::new(Schema::empty()),
                batches: Vec::new(),
                said: Vec::new(),
                body_bytes: Vec::new(),
                headers,
            };
            while let Some(message) = stream.next().await {
                let message = message?;
                match message.payload {
                    DecodedPayload::Schema(schema) => got.schema = schema,
                    DecodedPayload::RecordBatch(batch) => {
                        got.batches.push(batch);
                        got.said.push(message.inner.app_metadata);
                        got.body_bytes.push(message.inner.data_body.len());
                    }
                    DecodedPayload::None => panic!("a message without a header"),
                }
            }
            Ok(got)
        })
        .await
    }

    /// One action: JSON in, one JSON out.
    pub async fn act(&self, action: &str, members: &Value) -> Result<Value> {
        let mut replies = self.act_raw(action, self.json(members)).await?;
        assert_eq!(replies.len(), 1, "one Result");
        Ok(serde_json::from_slice(&replies.remove(0)).expect("JSON"))
    }

    /// An action with any body.
    pub async fn act_raw(&self, action: &str, body: impl Into<Bytes>) -> Result<Vec<Bytes>> {
        let mut client = self.clone_client();
        let action = Action::new(action, body);
        within("an action", async {
            client.do_action(action).await?.try_collect().await
        })
        .await
    }

    /// GetFlightInfo.
    pub async fn info(&self, descriptor: FlightDescriptor) -> Result<FlightInfo> {
        let mut client = self.clone_client();
        within("a flight info", client.get_flight_info(descriptor)).await
    }

    /// Its verbs take `&mut`; a channel is shared.
    pub fn clone_client(&self) -> FlightClient {
        FlightClient::new_from_inner(self.client.inner().clone())
    }
}

impl Got {
    /// The one tensor.
    pub fn tensor(&self) -> Tensor {
        Tensor::of(&self.schema, &self.batches)
    }

    /// All rows.
    pub fn rows(&self) -> usize {
        self.batches.iter().map(RecordBatch::num_rows).sum()
    }

    /// A text column over all batches.
    pub fn texts(&self, column: &str) -> Vec<String> {
        let of_batch = |batch: &RecordBatch| {
            let column = batch.column_by_name(column).expect("a column");
            let texts = arrow_array::cast::as_string_array(column);
            texts
                .iter()
                .map(|text| text.unwrap_or("NULL").to_owned())
                .collect::<Vec<_>>()
        };
        self.batches.iter().flat_map(of_batch).collect()
    }

    /// The lists of the closing batches, joined; `None` where none came. They have no rows and
    /// come last.
    pub fn closing(&self, name: &str) -> Option<Vec<String>> {
        let first = self.said.iter().position(|said| !said.is_empty())?;
        let mut keys = Vec::new();
        for (batch, said) in self.batches[first..].iter().zip(&self.said[first..]) {
            assert_eq!(batch.num_rows(), 0);
            let said: Value = serde_json::from_slice(said).expect("JSON");
            assert_eq!(said.as_object().expect("an object").len(), 1, "{said}");
            let list = said[name]
                .as_array()
                .unwrap_or_else(|| panic!("no {name} in {said}"));
            keys.extend(
                list.iter()
                    .map(|key| key.as_str().expect("a key").to_owned()),
            );
        }
        Some(keys)
    }
}

/// What arrow-flight's encoder makes of a put.
pub fn encoded(
    descriptor: FlightDescriptor,
    schema: SchemaRef,
    batches: Vec<RecordBatch>,
) -> impl Stream<Item = Result<FlightData>> + Send + 'static {
    FlightDataEncoderBuilder::new()
        .with_schema(schema)
        .with_flight_descriptor(Some(descriptor))
        .build(stream::iter(batches.into_iter().map(Ok)))
}

/// The refusal's message: the call must fail with `code`, at the beginning of the message, in the
/// trailer and as gRPC's status, and with these words.
#[track_caller]
pub fn refused<T>(result: Result<T>, code: &str, words: &[&str]) -> String {
    let status = match result {
        Ok(_) => panic!("not refused, expected {code}"),
        Err(FlightError::Tonic(status)) => status,
        Err(other) => panic!("not an answer of the server: {other:?}"),
    };
    let message = status.message().to_owned();
    assert!(
        message.starts_with(&format!("{code}: ")),
        "expected {code}: {status:?}"
    );
    let said = |name: &str| status.metadata().get(name).and_then(|v| v.to_str().ok());
    assert_eq!(said("bowstring-code"), Some(code), "{status:?}");
    assert_eq!(said("bowstring-wire"), Some("1"), "{status:?}");
    assert_eq!(i32::from(status.code()), grpc_status(code), "{status:?}");
    for word in words {
        assert!(message.contains(word), "expected {word:?}: {message}");
    }
    message
}

/// The statuses of the contract, written down once more: the table is for ever.
fn grpc_status(code: &str) -> i32 {
    match code {
        "cancelled" => 1,
        "invalid_argument" => 3,
        "deadline_exceeded" => 4,
        "not_found" => 5,
        "already_exists" => 6,
        "permission_denied" => 7,
        "resource_exhausted" => 8,
        "failed_precondition" | "not_modified" | "moved" => 9,
        "unimplemented" => 12,
        "internal" => 13,
        "unavailable" => 14,
        "data_loss" => 15,
        "unauthenticated" => 16,
        _ => panic!("no such code: {code}"),
    }
}
