//! SQL over the cache, by arrow-flight's own client of Flight SQL.

use std::path::Path;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_array::{RecordBatch, StringArray};
use arrow_cast::pretty::pretty_format_batches;
use arrow_flight::error::{FlightError, Result};
use arrow_flight::sql::client::FlightSqlServiceClient;
use arrow_flight::sql::{CommandStatementQuery, ProstMessageExt};
use arrow_flight::{FlightDescriptor, FlightInfo, Ticket};
use arrow_ipc::convert::try_schema_from_ipc_buffer;
use arrow_schema::{Schema, SchemaRef};
use bowstring_tests::{Server, within};
use bowstring_wire::dtype::DType;
use futures::TryStreamExt;
use prost::Message;
use serde_json::json;
use tonic::transport::Channel;

use crate::space::{Space, refused};
use crate::tensor::{Tensor, bulk};

pub type Client = FlightSqlServiceClient<Channel>;

/// A namespace with ten embeddings and an image.
async fn filled(name: &str) -> (Space, Client) {
    let space = Space::new(name).await;
    let keys: Vec<String> = (0..10).map(|n| format!("doc-{n}")).collect();
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    let tensors = Tensor::sample(DType::Float32, &[10, 4]);
    space.bulk(bulk(&keys, &tensors)).await.unwrap();
    let members = json!({"key": "image", "metadata": {"format": "rgb"}});
    let image = Tensor::sample(DType::UInt8, &[300, 400, 3]);
    space.put_with(&members, &image).await.unwrap();
    let client = client(&space.server).await;
    (space, client)
}

pub async fn client(server: &Server) -> Client {
    FlightSqlServiceClient::new_from_inner(server.client().await)
}

/// The one stream of an answer, of the schema that was said.
pub async fn read(client: &mut Client, info: FlightInfo) -> Result<(SchemaRef, Vec<RecordBatch>)> {
    let [endpoint] = &info.endpoint[..] else {
        panic!("one endpoint")
    };
    assert!(endpoint.location.is_empty(), "use this connection");
    let said = info.clone().try_decode_schema()?;
    let mut stream = client.do_get(endpoint.ticket.clone().unwrap()).await?;
    let batches: Vec<RecordBatch> = (&mut stream).try_collect().await?;
    let sent = stream.schema().unwrap().clone();
    assert_eq!(*sent, said);
    Ok((sent, batches))
}

pub async fn query(client: &mut Client, text: &str) -> Result<Vec<RecordBatch>> {
    let info = within("a plan", client.execute(text.to_owned(), None)).await?;
    Ok(within("an answer", read(client, info)).await?.1)
}

/// A line a row.
pub fn rows(batches: &[RecordBatch]) -> Vec<String> {
    let table = pretty_format_batches(batches).unwrap().to_string();
    let lines = table.lines().filter(|line| line.starts_with('|')).skip(1);
    let cells = lines.map(|line| {
        let cells = line.trim_matches('|').split('|').map(str::trim);
        cells.collect::<Vec<_>>().join(" ")
    });
    cells.collect()
}

/// `docs/sql.md`.
pub fn page() -> String {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/sql.md");
    std::fs::read_to_string(page).unwrap()
}

/// The statements that a page, or a part of it, shows.
pub fn statements(page: &str) -> Vec<String> {
    let blocks = page.split("```sql\n").skip(1);
    let blocks = blocks.filter_map(|rest| rest.split("```").next());
    let statements = blocks.flat_map(|block| block.split(';')).map(str::trim);
    let statements = statements.filter(|text| !text.is_empty());
    statements.map(str::to_owned).collect()
}

#[tokio::test]
async fn a_statement_is_planned_read_and_of_the_schema_that_was_said() {
    let (space, mut client) = filled("sql").await;
    let of = &space.namespace;
    let text = format!(
        "SELECT key, dtype, shape, bytes, tier, metadata FROM tensors \
         WHERE namespace = '{of}' AND key >= 'doc-8' ORDER BY key"
    );
    assert_eq!(
        rows(&query(&mut client, &text).await.unwrap()),
        [
            "doc-8 float32 [4] 16 hot {}",
            "doc-9 float32 [4] 16 hot {}",
            "image uint8 [300, 400, 3] 360000 hot {format: rgb}"
        ]
    );
    let text = format!("SELECT * FROM tensors WHERE namespace = '{of}' AND key = 'image'");
    let batches = query(&mut client, &text).await.unwrap();
    let value = batches[0].column_by_name("value").unwrap().as_struct();
    let data = value.column_by_name("data").unwrap().as_binary_view();
    let image = Tensor::sample(DType::UInt8, &[300, 400, 3]);
    assert!(data.value(0) == image.bytes);
    let none = query(&mut client, "SELECT key FROM tensors WHERE false")
        .await
        .unwrap();
    assert_eq!(rows(&none).len(), 0);
}

#[tokio::test]
async fn schema_is_said_by_all_verbs_alike() {
    let (space, mut client) = filled("sql").await;
    // Not what others put, and take away, all the while.
    let namespace = &space.namespace;
    let command = CommandStatementQuery {
        query: format!("SELECT * FROM tensors WHERE namespace = '{namespace}'"),
        transaction_id: None,
    };
    let descriptor = FlightDescriptor::new_cmd(command.as_any().encode_to_vec());
    let inner = client.inner_mut();
    let result = inner
        .get_schema(descriptor.clone())
        .await
        .unwrap()
        .into_inner();
    let info = inner
        .get_flight_info(descriptor)
        .await
        .unwrap()
        .into_inner();
    assert_eq!(result.schema, info.schema);
    let schema: Schema = try_schema_from_ipc_buffer(&result.schema).unwrap();
    assert_eq!(schema.field(0).name(), "namespace");
    // A command is a ticket too.
    let ticket = Ticket::new(command.as_any().encode_to_vec());
    let batches: Vec<_> = client
        .do_get(ticket)
        .await
        .unwrap()
        .try_collect()
        .await
        .unwrap();
    assert!(!batches.is_empty());
}

#[tokio::test]
async fn a_ticket_is_refused_once_its_columns_are_others() {
    let space = Space::new("sql").await;
    let mut client = client(&space.server).await;
    let tensor = |width| Tensor::sample(DType::Float32, &[width]);
    space.put("a", &tensor(4)).await.unwrap();
    let text = format!("SELECT key, value FROM ns.\"{}\"", space.namespace);
    let info = client.execute(text.clone(), None).await.unwrap();
    let ticket = info.endpoint[0].ticket.clone().unwrap();
    space.put("b", &tensor(4)).await.unwrap();
    let (_, batches) = read(&mut client, info.clone()).await.unwrap();
    assert_eq!(rows(&batches).len(), 2, "other rows are none");
    for key in ["a", "b"] {
        let members = json!({"key": key, "mode": "replace"});
        space.put_with(&members, &tensor(5)).await.unwrap();
    }
    let refusal = client.do_get(ticket).await.err().unwrap().to_string();
    for word in ["failed_precondition: ", "other columns", "another ticket"] {
        assert!(refusal.contains(word), "{refusal}");
    }
    assert_eq!(rows(&query(&mut client, &text).await.unwrap()).len(), 2);
}

#[tokio::test]
async fn a_large_answer_comes_in_messages_that_any_client_takes() {
    let server = Server::shared();
    let mut client = client(&server).await;
    // 16 MB, to a client that takes messages of 4 MiB.
    let text = "SELECT value AS a, value + 1 AS b FROM generate_series(1, 1000000)";
    let batches = query(&mut client, text).await.unwrap();
    let total: usize = batches.iter().map(RecordBatch::num_rows).sum();
    assert_eq!(total, 1_000_000);
    let sum: i64 = batches
        .iter()
        .flat_map(|batch| {
            batch
                .column(0)
                .as_primitive::<Int64Type>()
                .values()
                .to_vec()
        })
        .sum();
    assert_eq!(sum, 500_000_500_000);
}

#[tokio::test]
async fn tables_of_the_server_are_live() {
    let server = Arc::new(Server::start());
    let space = Space::on(Arc::clone(&server), "live").await;
    let mut client = client(&server).await;
    let entries = "SELECT value FROM stats WHERE name = 'entries'";
    assert_eq!(rows(&query(&mut client, entries).await.unwrap()), ["0"]);
    let tensor = Tensor::sample(DType::Float32, &[4]);
    space.put("a", &tensor).await.unwrap();
    assert_eq!(rows(&query(&mut client, entries).await.unwrap()), ["1"]);
    let puts = "SELECT value FROM stats WHERE name = 'requests_DoPut_ok'";
    assert_eq!(rows(&query(&mut client, puts).await.unwrap()), ["1"]);
    let used = "SELECT used_bytes > 0 FROM memory WHERE account = 'arena'";
    assert_eq!(rows(&query(&mut client, used).await.unwrap()), ["true"]);
    let set = "SELECT value FROM settings WHERE name = 'put_idle'";
    assert_eq!(rows(&query(&mut client, set).await.unwrap()), ["60000ms"]);
    let known = format!(
        "SELECT entries, bytes FROM namespaces WHERE namespace = '{}'",
        space.namespace
    );
    assert_eq!(rows(&query(&mut client, &known).await.unwrap()), ["1 16"]);
}

#[tokio::test]
async fn a_prepared_statement_is_run_with_values_and_closed() {
    let (space, mut client) = filled("sql").await;
    let text = format!(
        "SELECT key FROM tensors WHERE namespace = '{}' AND key > ? AND bytes < ? ORDER BY key LIMIT 2",
        space.namespace
    );
    let mut statement = client.prepare(text, None).await.unwrap();
    assert_eq!(statement.dataset_schema().unwrap().fields().len(), 1);
    let parameters = statement.parameter_schema().unwrap();
    let types: Vec<String> = parameters
        .fields()
        .iter()
        .map(|it| it.data_type().to_string())
        .collect();
    assert_eq!(types, ["Utf8", "Int64"]);
    let info = statement.execute().await.unwrap();
    let error = read(&mut client, info).await.err().unwrap().to_string();
    assert!(error.contains("parameters without values"), "{error}");
    for (after, expected) in [("doc-3", ["doc-4", "doc-5"]), ("doc-6", ["doc-7", "doc-8"])] {
        let row = RecordBatch::try_from_iter([
            ("1", Arc::new(StringArray::from(vec![after])) as _),
            ("2", Arc::new(arrow_array::Int32Array::from(vec![100])) as _),
        ]);
        statement.set_parameters(row.unwrap()).unwrap();
        let info = statement.execute().await.unwrap();
        assert_eq!(rows(&read(&mut client, info).await.unwrap().1), expected);
    }
    let mut plain = client
        .prepare("SELECT 1 AS one".to_owned(), None)
        .await
        .unwrap();
    let info = plain.execute().await.unwrap();
    let ticket = info.endpoint[0].ticket.clone().unwrap();
    assert_eq!(rows(&read(&mut client, info).await.unwrap().1), ["1"]);
    plain.close().await.unwrap();
    statement.close().await.unwrap();
    let gone = client.do_get(ticket).await.err().unwrap().to_string();
    assert!(gone.contains("no such prepared statement"), "{gone}");
}

#[tokio::test]
async fn what_is_refused_says_why() {
    let server = Server::shared();
    let mut client = client(&server).await;
    for (text, expected) in [
        ("SELEC 1", "invalid_argument: "),
        ("SELECT nothing FROM tensors", "invalid_argument: "),
        ("DROP TABLE tensors", "unimplemented: SQL does not do that"),
        ("DELETE FROM tensors", "invalid_argument: "),
        (
            "COPY tensors TO '/tmp/x'",
            "unimplemented: SQL does not do that",
        ),
        ("SELECT 1/0", "invalid_argument: "),
    ] {
        let error = query(&mut client, text).await.unwrap_err().to_string();
        assert!(error.contains(expected), "{text}: {error}");
    }
    let error = client.execute_update("SELECT 1".to_owned(), None).await;
    let error = error.unwrap_err().to_string();
    assert!(
        error.contains("invalid_argument: the statement changes nothing"),
        "{error}"
    );
    let error = client.begin_transaction().await.unwrap_err().to_string();
    assert!(error.contains("unimplemented: "), "{error}");
    let space = Space::new("sql").await;
    let garbage = FlightDescriptor::new_cmd("garbage");
    let answer = space.client.inner().clone().get_flight_info(garbage).await;
    let answer = answer.map_err(FlightError::from);
    refused(answer, "invalid_argument", &["expected a ticket's JSON"]);
}

#[tokio::test]
async fn who_goes_away_leaves_nothing_running() {
    let server = Arc::new(Server::start());
    let mut client = client(&server).await;
    for _ in 0..8 {
        let endless = "SELECT * FROM generate_series(1, 1000000000000)";
        let info = client.execute(endless.to_owned(), None).await.unwrap();
        let ticket = info.endpoint[0].ticket.clone().unwrap();
        let mut stream = client.do_get(ticket).await.unwrap();
        assert!(stream.try_next().await.unwrap().is_some());
    }
    // More than run at one time: each was ended when its client had gone.
    assert_eq!(
        rows(&query(&mut client, "SELECT 1 AS one").await.unwrap()),
        ["1"]
    );
}

#[tokio::test]
async fn what_docs_sql_shows_is_what_runs() {
    let server = Arc::new(Server::start());
    for (namespace, keys) in [
        ("glove", ["king", "queen"]),
        ("images-2024", ["cat", "dog"]),
    ] {
        let mut space = Space::on(Arc::clone(&server), "page").await;
        space.namespace = namespace.to_owned();
        let tensors = Tensor::sample(DType::Float32, &[2, 3]);
        space.bulk(bulk(&keys, &tensors)).await.unwrap();
    }
    let mut client = client(&server).await;
    let shown = statements(&page());
    assert!(shown.len() >= 8, "{} statements", shown.len());
    for text in &shown {
        let answer = query(&mut client, text).await;
        assert!(answer.is_ok(), "{text}: {answer:?}");
    }
}
