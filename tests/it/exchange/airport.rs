//! The calls that DuckDB's Airport extension makes (its requests of 2025), replayed: none of them
//! is ours, and none may be taken for one of ours. What it asks as any Flight client would, it gets.

use arrow_array::{Int64Array, StringArray};
use arrow_flight::{Action, Criteria, FlightData, FlightDescriptor, Ticket};
use bowstring_wire::dtype::DType;
use futures::{StreamExt as _, TryStreamExt as _};
use serde_json::json;
use tonic::Request;
use tonic::metadata::{AsciiMetadataKey, MetadataValue};

use crate::space::{Space, encoded, refused};
use crate::tensor::{Tensor, plain, table};

/// A request with the headers that each of its calls has.
fn airport<T>(message: T, more: &[(&'static str, &str)]) -> Request<T> {
    let mut request = Request::new(message);
    let standard = [
        ("airport-user-agent", "airport/20250723"),
        (
            "airport-client-session-id",
            "5c1f61a3-2f0e-4c7a-9d5c-0a4a6f1f2b11",
        ),
        ("airport-trace-id", "b2f2f1de-1d6c-4b8e-8f33-8a57ac4f8a01"),
        ("authorization", "Bearer secret"),
    ];
    for (name, value) in standard.iter().chain(more) {
        let name: AsciiMetadataKey = name.parse().unwrap();
        let value: MetadataValue<_> = value.parse().unwrap();
        request.metadata_mut().insert(name, value);
    }
    request
}

/// The msgpack of a map of short strings.
fn msgpack(members: &[(&str, &str)]) -> Vec<u8> {
    let mut out = vec![0x80 | u8::try_from(members.len()).unwrap()];
    for text in members.iter().flat_map(|(name, value)| [name, value]) {
        out.extend([0xd9, u8::try_from(text.len()).unwrap()]);
        out.extend(text.as_bytes());
    }
    out
}

async fn nothing_is_stored(space: &Space) {
    let listed = space
        .act("exists", &json!({"keys": ["a", "b", "key"]}))
        .await
        .unwrap();
    assert_eq!(listed["leading"], 0, "{listed}");
    let namespaces = space.act_raw("namespaces", "").await.unwrap();
    let namespaces = String::from_utf8(namespaces[0].to_vec()).unwrap();
    assert!(!namespaces.contains(&space.namespace), "{namespaces}");
}

/// Inserts, updates, deletes and functions: a DoExchange each, with a table of the user's making.
#[tokio::test]
async fn its_exchanges() {
    let space = Space::new("airport").await;
    // A table that has what a bulk put, and the exchange `get`, would have too.
    let rows = table(vec![
        plain("key", StringArray::from(vec!["a", "b"])),
        plain("tensor", Int64Array::from(vec![1, 2])),
    ]);
    let row_ids = table(vec![plain("row_id", Int64Array::from(vec![0, 1]))]);
    let keys = table(vec![plain("key", StringArray::from(vec!["a"]))]);
    let path = FlightDescriptor::new_path(vec![space.namespace.clone(), "a".to_owned()]);
    // A catalog may name its flights by commands as well, whatever they look like.
    let command = space.command(&json!({"exchange": "get"}));
    let mux = space.command(&json!({"exchange": "mux"}));
    let own = FlightDescriptor::new_cmd(msgpack(&[("catalog", "c"), ("schema", "s")]));
    let flight_path = format!("{}/a", space.namespace);
    for (operation, batch) in [
        ("insert", &rows),
        ("update", &rows),
        ("delete", &row_ids),
        ("scalar_function", &keys),
        ("table_in_out_function", &keys),
    ] {
        for descriptor in [&path, &command, &mux, &own] {
            let headers = [
                ("airport-operation", operation),
                ("airport-flight-path", &flight_path),
                ("airport-transaction-id", "7"),
                ("return-chunks", "1"),
            ];
            let messages = encoded(descriptor.clone(), batch.schema(), vec![batch.clone()]);
            let request = airport(messages.map(Result::unwrap), &headers);
            let mut client = space.client.inner().clone();
            let answer = match client.do_exchange(request).await {
                Ok(replies) => replies.into_inner().try_collect::<Vec<FlightData>>().await,
                Err(status) => Err(status),
            };
            refused(answer.map_err(Into::into), "unimplemented", &["exchange"]);
        }
    }
    // The same without the header that marks it: its path and its own commands are not ours either.
    for descriptor in [path, own] {
        let messages = encoded(descriptor, rows.schema(), vec![rows.clone()]);
        let mut client = space.client.inner().clone();
        let answer = client
            .do_exchange(airport(messages.map(Result::unwrap), &[]))
            .await;
        let answer = match answer {
            Ok(replies) => replies.into_inner().try_collect::<Vec<_>>().await,
            Err(status) => Err(status),
        };
        refused(answer.map_err(Into::into), "unimplemented", &["exchange"]);
    }
    nothing_is_stored(&space).await;
}

/// Its catalog speaks msgpack through actions.
#[tokio::test]
async fn its_actions() {
    let space = Space::new("airport.actions").await;
    let catalog = msgpack(&[("catalog_name", "c")]);
    let table = msgpack(&[("catalog_name", "c"), ("schema_name", "s"), ("name", "t")]);
    let flight = msgpack(&[
        ("descriptor", "\u{8}\u{1}"),
        ("at_unit", ""),
        ("at_value", ""),
    ]);
    for (action, body) in [
        ("list_schemas", &catalog),
        ("catalog_version", &catalog),
        ("create_transaction", &catalog),
        ("create_schema", &table),
        ("drop_schema", &table),
        ("create_table", &table),
        ("drop_table", &table),
        ("add_column", &table),
        ("rename_table", &table),
        ("column_statistics", &flight),
        ("flight_info", &flight),
        ("table_function_flight_info", &flight),
        ("endpoints", &flight),
    ] {
        let action = Action::new(action, body.clone());
        let name = action.r#type.clone();
        let mut client = space.client.inner().clone();
        let answer = match client.do_action(airport(action, &[])).await {
            Ok(replies) => replies.into_inner().try_collect::<Vec<_>>().await,
            Err(status) => Err(status),
        };
        refused(answer.map_err(Into::into), "unimplemented", &[&name]);
    }
    nothing_is_stored(&space).await;
}

/// `airport_take_flight` and `airport_flights` are what any client does: a flight by its path, its
/// ticket, a listing.
#[tokio::test]
async fn what_it_asks_as_any_client_does_it_gets() {
    let space = Space::new("airport.flights").await;
    let tensor = Tensor::sample(DType::Float32, &[3, 2]);
    space.put("a", &tensor).await.unwrap();
    let mut client = space.client.inner().clone();
    let path = format!("{}/a", space.namespace);
    let headers = [("airport-flight-path", path.as_str())];
    let info = client
        .get_flight_info(airport(space.path("a"), &headers))
        .await;
    let info = info.unwrap().into_inner();
    let ticket = info.endpoint[0].ticket.clone().unwrap();
    let flight = client.do_get(airport(ticket, &headers)).await.unwrap();
    let messages: Vec<_> = flight.into_inner().try_collect().await.unwrap();
    assert!(
        messages
            .iter()
            .any(|message| message.data_body.starts_with(&tensor.bytes))
    );
    let criteria = Criteria {
        expression: space.json(&json!({})).into(),
    };
    let listed = client.list_flights(airport(criteria, &[])).await.unwrap();
    let listed: Vec<_> = listed.into_inner().try_collect().await.unwrap();
    assert_eq!(listed.len(), 1);
    // A ticket of somebody else's server.
    let foreign = client
        .do_get(airport(Ticket::new(msgpack(&[("t", "x")])), &headers))
        .await;
    refused(foreign.map_err(Into::into), "invalid_argument", &["ticket"]);
}
