//! INSERT and tables of rows over Flight SQL, by arrow-flight's own client of it.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{Float32Type, Int64Type};
use arrow_array::{ArrayRef, Int64Array, ListArray, RecordBatch, StringArray};
use arrow_flight::error::FlightError;
use arrow_flight::sql::client::FlightSqlServiceClient;
use arrow_flight::sql::{
    CommandStatementIngest, SqlInfo, TableDefinitionOptions, TableExistsOption, TableNotExistOption,
};
use bowstring_tests::within;
use bowstring_wire::dtype::DType;
use futures::{StreamExt, TryStreamExt, stream};
use serde_json::json;
use tonic::transport::Channel;

use crate::space::Space;
use crate::tensor::{Tensor, bulk};

type Client = FlightSqlServiceClient<Channel>;

async fn open(name: &str) -> (Space, Client) {
    let space = Space::new(name).await;
    let client = FlightSqlServiceClient::new_from_inner(space.server.client().await);
    (space, client)
}

fn rows(from: usize, to: usize) -> RecordBatch {
    let keys: Vec<String> = (from..to).map(|n| format!("key-{n}")).collect();
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    bulk(&keys, &Tensor::sample(DType::Float32, &[to - from, 2, 3]))
}

fn into(
    space: &Space,
    if_not_exist: TableNotExistOption,
    if_exists: TableExistsOption,
) -> CommandStatementIngest {
    let options = TableDefinitionOptions {
        if_not_exist: if_not_exist as i32,
        if_exists: if_exists as i32,
    };
    CommandStatementIngest {
        table_definition_options: Some(options),
        table: space.namespace.clone(),
        schema: Some("ns".to_owned()),
        ..CommandStatementIngest::default()
    }
}

async fn ingest(
    client: &mut Client,
    command: CommandStatementIngest,
    batches: Vec<RecordBatch>,
) -> Result<i64, FlightError> {
    let batches = stream::iter(batches.into_iter().map(Ok));
    within("an ingestion", client.execute_ingest(command, batches)).await
}

async fn entries(space: &Space) -> u64 {
    let keys: Vec<String> = (0..20).map(|n| format!("key-{n}")).collect();
    let reply = space.act("exists", &json!({"keys": keys})).await.unwrap();
    let found = reply["keys"].as_array().unwrap().iter();
    found.filter(|key| key["found"] == json!(true)).count() as u64
}

/// The one number that a query answers.
async fn number(client: &mut Client, query: &str) -> i64 {
    let info = client.execute(query.to_owned(), None).await.unwrap();
    let ticket = info.endpoint[0].ticket.clone().unwrap();
    let batches = client.do_get(ticket).await.unwrap();
    let batches: Vec<RecordBatch> = batches.try_collect().await.unwrap();
    batches[0].column(0).as_primitive::<Int64Type>().value(0)
}

const OPEN_LOADS: &str = "SELECT count(*) FROM loads WHERE state = 'open'";

#[tokio::test]
async fn a_table_of_rows_is_a_namespace() {
    use TableExistsOption::{Append, Fail, Replace};
    use TableNotExistOption::{Create, Fail as Missing};
    let (space, mut client) = open("ingest").await;
    let batches = || vec![rows(0, 4), rows(4, 10)];
    let error = ingest(&mut client, into(&space, Missing, Append), batches()).await;
    assert!(error.unwrap_err().to_string().contains("not_found: "));
    let count = ingest(&mut client, into(&space, Create, Fail), batches()).await;
    assert_eq!(count.unwrap(), 10);
    let put = Tensor::sample(DType::Float32, &[6, 2, 3]).cells();
    assert_eq!(space.tensor("key-6").await.unwrap(), put[2]);
    let error = ingest(&mut client, into(&space, Create, Fail), vec![rows(10, 12)]).await;
    assert!(error.unwrap_err().to_string().contains("already_exists: "));
    assert_eq!(entries(&space).await, 10);
    let more = vec![rows(8, 12)];
    let count = ingest(&mut client, into(&space, Missing, Append), more).await;
    assert_eq!((count.unwrap(), entries(&space).await), (4, 12));
    let all = into(&space, Create, Replace);
    let count = ingest(&mut client, all, vec![rows(0, 3)]).await;
    assert_eq!((count.unwrap(), entries(&space).await), (3, 3));
    // Two of a key are one entry.
    let twice = vec![rows(0, 3), rows(0, 3)];
    let count = ingest(&mut client, into(&space, Create, Replace), twice).await;
    assert_eq!((count.unwrap(), entries(&space).await), (3, 3));
    let info = vec![SqlInfo::FlightSqlServerBulkIngestion];
    let info = client.get_sql_info(info).await.unwrap();
    let ticket = info.endpoint[0].ticket.clone().unwrap();
    let said = client.do_get(ticket).await.unwrap();
    let said: Vec<RecordBatch> = said.try_collect().await.unwrap();
    let truth = said[0].column(1).as_union().value(0);
    assert!(truth.as_boolean().value(0));
}

#[tokio::test]
async fn an_ingestion_that_fails_leaves_nothing() {
    use TableExistsOption::{Append, Replace, Unspecified};
    use TableNotExistOption::Create;
    let (space, mut client) = open("ingest-fails").await;
    space.bulk(rows(0, 2)).await.unwrap();
    let all = || into(&space, Create, Replace);
    // A row that is none, behind many that are.
    let long = "x".repeat(2_000);
    let bad = bulk(
        &["key-9", &long],
        &Tensor::sample(DType::Float32, &[2, 2, 3]),
    );
    let error = ingest(&mut client, all(), vec![rows(2, 9), bad]).await;
    let error = error.unwrap_err().to_string();
    assert!(
        error.contains("invalid_argument: ") && error.contains("row=`8`"),
        "{error}"
    );
    // A client that goes away in the middle.
    let (mut other, some) = (client.clone(), stream::iter([Ok(rows(2, 9))]));
    let endless = other.execute_ingest(all(), some.chain(stream::pending()));
    let begun = async {
        while number(&mut client, OPEN_LOADS).await == 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        ended = endless => panic!("{ended:?}"),
        () = within("its load", begun) => {}
    }
    for (command, words) in [
        (
            CommandStatementIngest {
                temporary: true,
                ..all()
            },
            "no temporary tables",
        ),
        (
            CommandStatementIngest {
                transaction_id: Some("t".into()),
                ..all()
            },
            "no transactions",
        ),
        (
            CommandStatementIngest {
                options: [("color".to_owned(), "red".to_owned())].into(),
                ..all()
            },
            "option=`color`",
        ),
        (
            CommandStatementIngest {
                table_definition_options: None,
                ..all()
            },
            "table_definition_options",
        ),
        (
            into(&space, Create, Unspecified),
            "table_definition_options",
        ),
        (
            CommandStatementIngest {
                schema: None,
                table: "tensors".to_owned(),
                ..all()
            },
            "is not replaced",
        ),
    ] {
        let error = ingest(&mut client, command, vec![rows(2, 4)]).await;
        let error = error.unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    }
    let one: ArrayRef = Arc::new(StringArray::from(vec!["key-2"]));
    let one = RecordBatch::try_from_iter([("key", one)]).unwrap();
    let error = ingest(&mut client, into(&space, Create, Append), vec![one]).await;
    assert!(
        error
            .unwrap_err()
            .to_string()
            .contains("column `key` and one more")
    );
    assert_eq!(entries(&space).await, 2);
    // The one that broke off is noticed by itself.
    let gone = async {
        while number(&mut client, OPEN_LOADS).await > 0 {
            tokio::task::yield_now().await;
        }
    };
    within("the last load's end", gone).await;
}

#[tokio::test]
async fn an_insert_says_how_many_entries_it_made() {
    let (space, mut client) = open("insert").await;
    space.bulk(rows(0, 5)).await.unwrap();
    let of = &space.namespace;
    let text = format!(
        "INSERT INTO tensors SELECT '{of}', 'key-1' || substr(key, 5), value FROM tensors WHERE namespace = '{of}'"
    );
    let update = client.execute_update(text.clone(), None);
    assert_eq!(within("an insert", update).await.unwrap(), 5);
    let copy = space.tensor("key-13").await.unwrap();
    assert_eq!(copy, space.tensor("key-3").await.unwrap());
    // By a client that runs every text as a query.
    let text = format!(
        "INSERT INTO ns.\"{of}\" (key, value) SELECT 'key-7', value FROM ns.\"{of}\" WHERE key = 'key-2'"
    );
    assert_eq!(number(&mut client, &text).await, 1);
    assert_eq!(entries(&space).await, 11);
    let text =
        format!("INSERT INTO tensors VALUES ('{of}', 'key-8', [1.0]), ('{of}', 'key-9', NULL)");
    let error = client.execute_update(text, None).await.unwrap_err();
    assert!(error.to_string().contains("key=`key-9`"), "{error}");
    assert_eq!(entries(&space).await, 11);
    assert_eq!(number(&mut client, OPEN_LOADS).await, 0);
}

#[tokio::test]
async fn a_prepared_insert_puts_all_rows_of_values_at_once() {
    let (space, mut client) = open("insert-prepared").await;
    let text = format!(
        "INSERT INTO tensors (namespace, key, value, expires_at) VALUES ('{}', ?, ?, ?)",
        space.namespace
    );
    let mut statement = client.prepare(text, None).await.unwrap();
    assert!(statement.dataset_schema().unwrap().fields().is_empty());
    let rows = |keys: &[&str]| {
        let lists = keys.iter().enumerate();
        let lists = lists.map(|(n, _)| Some(vec![Some(n as f32), Some(0.5)]));
        let lists: ArrayRef = Arc::new(ListArray::from_iter_primitive::<Float32Type, _, _>(lists));
        let times: ArrayRef = Arc::new(Int64Array::from(vec![None; keys.len()]));
        let keys: ArrayRef = Arc::new(StringArray::from(keys.to_vec()));
        RecordBatch::try_from_iter([("1", keys), ("2", lists), ("3", times)]).unwrap()
    };
    let long = "x".repeat(2_000);
    let bad = rows(&["key-0", "key-1", &long]);
    statement.set_parameters(bad).unwrap();
    assert!(statement.execute_update().await.is_err());
    assert_eq!(entries(&space).await, 0);
    let good = rows(&["key-0", "key-1", "key-2"]);
    statement.set_parameters(good).unwrap();
    let updated = within("an insert", statement.execute_update()).await;
    assert_eq!((updated.unwrap(), entries(&space).await), (3, 3));
    let one = space.tensor("key-1").await.unwrap();
    assert_eq!(
        one.bytes,
        [1.0_f32.to_le_bytes(), 0.5_f32.to_le_bytes()].concat()
    );
}
