//! Sessions of Flight SQL: options that a cookie stands for.

use std::collections::HashMap;
use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_flight::decode::FlightRecordBatchStream;
use arrow_flight::error::FlightError;
use arrow_flight::sql::{CommandStatementQuery, ProstMessageExt};
use arrow_flight::{Action, FlightDescriptor, Ticket};
use bowstring_tests::Server;
use bowstring_wire::dtype::DType;
use futures::TryStreamExt;
use prost::Message;
use tonic::{Code, Request, Status};

use crate::space::Space;
use crate::sql::rows;
use crate::tensor::{Tensor, bulk};

/// As in `Flight.proto`, of which arrow-flight has no session messages.
#[derive(Clone, PartialEq, Message)]
struct Options {
    #[prost(map = "string, message", tag = "1")]
    options: HashMap<String, OptionValue>,
}

#[derive(Clone, PartialEq, Message)]
struct OptionValue {
    #[prost(string, optional, tag = "1")]
    text: Option<String>,
    #[prost(sfixed64, optional, tag = "3")]
    int: Option<i64>,
}

#[derive(Clone, PartialEq, Message)]
struct SetResult {
    #[prost(map = "string, message", tag = "1")]
    errors: HashMap<String, OneNumber>,
}

#[derive(Clone, Copy, PartialEq, Message)]
struct OneNumber {
    #[prost(int32, tag = "1")]
    number: i32,
}

const INVALID_NAME: i32 = 1;
const INVALID_VALUE: i32 = 2;
const CLOSED: i32 = 1;

/// A client that keeps its cookie, or has none.
struct Caller {
    server: Arc<Server>,
    cookie: Option<String>,
}

impl Caller {
    fn new(server: &Arc<Server>) -> Self {
        Self {
            server: server.clone(),
            cookie: None,
        }
    }

    fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        if let Some(cookie) = &self.cookie {
            let cookie = format!("another=1; {cookie}");
            request
                .metadata_mut()
                .insert("cookie", cookie.parse().unwrap());
        }
        request
    }

    async fn act(&mut self, name: &str, body: &impl Message) -> Result<Vec<u8>, Status> {
        let action = self.request(Action::new(name, body.encode_to_vec()));
        let answer = self.server.client().await.do_action(action).await?;
        if let Some(set) = answer.metadata().get("set-cookie") {
            let set = set.to_str().unwrap();
            let (cookie, more) = set.split_once(';').unwrap_or((set, ""));
            self.cookie = (!more.contains("Max-Age=0")).then(|| cookie.to_owned());
        }
        let results: Vec<_> = answer.into_inner().try_collect().await?;
        Ok(results[0].body.to_vec())
    }

    /// Sets options, and gives those that were refused.
    async fn set(&mut self, options: &[(&str, OptionValue)]) -> HashMap<String, OneNumber> {
        let options = options.iter().cloned();
        let options = options.map(|(name, value)| (name.to_owned(), value));
        let body = Options {
            options: options.collect(),
        };
        let result = self.act("SetSessionOptions", &body).await.unwrap();
        SetResult::decode(&*result).unwrap().errors
    }

    async fn options(&mut self) -> Result<HashMap<String, OptionValue>, Status> {
        let result = self.act("GetSessionOptions", &()).await?;
        Ok(Options::decode(&*result).unwrap().options)
    }

    async fn ticket(&self, text: &str) -> Result<Ticket, Status> {
        let command = CommandStatementQuery {
            query: text.to_owned(),
            transaction_id: None,
        };
        let descriptor = FlightDescriptor::new_cmd(command.as_any().encode_to_vec());
        let request = self.request(descriptor);
        let info = self.server.client().await.get_flight_info(request).await?;
        Ok(info.into_inner().endpoint[0].ticket.clone().unwrap())
    }

    async fn read(&self, ticket: Ticket) -> Result<Vec<RecordBatch>, Status> {
        let request = self.request(ticket);
        let data = self
            .server
            .client()
            .await
            .do_get(request)
            .await?
            .into_inner();
        let stream = FlightRecordBatchStream::new_from_flight_data(data.map_err(FlightError::from));
        stream.try_collect().await.map_err(|error| match error {
            FlightError::Tonic(status) => *status,
            error => panic!("{error}"),
        })
    }

    async fn query(&self, text: &str) -> Result<Vec<String>, Status> {
        let ticket = self.ticket(text).await?;
        Ok(rows(&self.read(ticket).await?))
    }
}

fn text(text: &str) -> OptionValue {
    OptionValue {
        text: Some(text.to_owned()),
        int: None,
    }
}

fn int(int: i64) -> OptionValue {
    OptionValue {
        text: None,
        int: Some(int),
    }
}

async fn glove() -> Arc<Server> {
    let server = Arc::new(Server::start());
    let mut space = Space::on(Arc::clone(&server), "sessions").await;
    space.namespace = "glove".to_owned();
    let tensors = Tensor::sample(DType::Float32, &[2, 3]);
    space
        .bulk(bulk(&["king", "queen"], &tensors))
        .await
        .unwrap();
    server
}

const KEYS: &str = "SELECT key FROM glove ORDER BY key";

#[tokio::test]
async fn options_hold_for_who_sends_the_cookie_back() {
    let server = glove().await;
    let (mut with, without) = (Caller::new(&server), Caller::new(&server));
    assert!(with.query(KEYS).await.is_err());
    let refused = with
        .set(&[
            ("catalog", text("bowstring")),
            ("schema", text("ns")),
            ("sql_rows_max", int(2)),
            ("sql_timeout", text("1h")),
            ("colour", text("red")),
        ])
        .await;
    let refused = |name: &str| refused.get(name).map(|of| of.number);
    assert_eq!(refused("colour"), Some(INVALID_NAME));
    assert_eq!(
        refused("sql_timeout"),
        Some(INVALID_VALUE),
        "more than the server's"
    );
    assert_eq!((refused("schema"), refused("sql_rows_max")), (None, None));
    assert!(
        with.cookie
            .as_ref()
            .unwrap()
            .starts_with("arrow_flight_session_id=")
    );
    assert_eq!(with.query(KEYS).await.unwrap(), ["king", "queen"]);
    let error = with
        .query("SELECT * FROM generate_series(1, 3)")
        .await
        .unwrap_err();
    assert_eq!(error.code(), Code::ResourceExhausted, "{error}");
    let options = with.options().await.unwrap();
    assert_eq!(options["schema"], text("ns"));
    assert_eq!(options["sql_rows_max"], int(2));
    assert_eq!(options["sql_timeout"], text("60000ms"));
    // A ticket says what its session had set, to whoever has it.
    let ticket = with.ticket(KEYS).await.unwrap();
    assert_eq!(
        rows(&without.read(ticket).await.unwrap()),
        ["king", "queen"]
    );
    assert!(without.query(KEYS).await.is_err());
    // An option without a value is as if it had never been set.
    let nothing = OptionValue::default();
    assert!(with.set(&[("sql_rows_max", nothing)]).await.is_empty());
    let all = with
        .query("SELECT * FROM generate_series(1, 3)")
        .await
        .unwrap();
    assert_eq!(all.len(), 3);
}

#[tokio::test]
async fn a_session_is_closed_and_what_names_it_then_is_refused() {
    let server = glove().await;
    let mut caller = Caller::new(&server);
    // Without one: what holds for all.
    assert_eq!(caller.options().await.unwrap()["schema"], text("cache"));
    assert!(caller.cookie.is_none());
    caller.set(&[("schema", text("ns"))]).await;
    let cookie = caller.cookie.clone();
    let closed = caller.act("CloseSession", &()).await.unwrap();
    assert_eq!(OneNumber::decode(&*closed).unwrap().number, CLOSED);
    assert!(caller.cookie.is_none(), "it was taken back");
    assert!(caller.query("SELECT 1").await.is_ok());
    for gone in [cookie, Some("arrow_flight_session_id=garbage".to_owned())] {
        caller.cookie = gone;
        let error = caller.query("SELECT 1").await.unwrap_err();
        assert_eq!(error.code(), Code::NotFound, "{error}");
        assert!(error.message().contains("no such session"), "{error}");
        assert_eq!(caller.options().await.unwrap_err().code(), Code::NotFound);
    }
    // Setting begins another one, under another name.
    let before = caller.cookie.clone();
    assert!(caller.set(&[("schema", text("ns"))]).await.is_empty());
    assert_ne!(caller.cookie, before);
    assert_eq!(caller.query(KEYS).await.unwrap().len(), 2);
}
