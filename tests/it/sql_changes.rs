//! DELETE and UPDATE over Flight SQL, by arrow-flight's own client of it.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use arrow_flight::sql::client::FlightSqlServiceClient;
use arrow_flight::sql::{CommandStatementQuery, ProstMessageExt};
use arrow_flight::{FlightDescriptor, FlightInfo};
use bowstring_tests::{Server, within};
use bowstring_wire::dtype::DType;
use futures::TryStreamExt;
use prost::Message;
use serde_json::{Value, json};
use tempfile::TempDir;
use tonic::transport::Channel;

use crate::space::Space;
use crate::tensor::{Tensor, bulk};

type Client = FlightSqlServiceClient<Channel>;

/// A namespace with `key-0` to `key-9`.
async fn filled(name: &str) -> (Space, Client) {
    let space = Space::new(name).await;
    fill(&space, 10).await;
    let client = FlightSqlServiceClient::new_from_inner(space.server.client().await);
    (space, client)
}

async fn fill(space: &Space, n: usize) {
    let keys: Vec<String> = (0..n).map(|n| format!("key-{n}")).collect();
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    let tensors = Tensor::sample(DType::Float32, &[n, 4]);
    space.bulk(bulk(&keys, &tensors)).await.unwrap();
}

/// How many a change was of that was run like a query.
async fn counted(client: &mut Client, info: FlightInfo) -> i64 {
    let said = info.clone().try_decode_schema().unwrap();
    assert_eq!(said.field(0).name(), "count");
    let ticket = info.endpoint[0].ticket.clone().unwrap();
    let batches = client.do_get(ticket).await.unwrap();
    let batches: Vec<RecordBatch> = batches.try_collect().await.unwrap();
    assert_eq!((batches.len(), batches[0].num_rows()), (1, 1));
    assert_eq!(*batches[0].schema(), said);
    batches[0].column(0).as_primitive::<Int64Type>().value(0)
}

async fn update(client: &mut Client, text: String) -> i64 {
    let update = client.execute_update(text, None);
    within("an update", update).await.unwrap()
}

async fn there(space: &Space) -> Vec<String> {
    let keys: Vec<String> = (0..10).map(|n| format!("key-{n}")).collect();
    let reply = space.act("exists", &json!({"keys": keys})).await.unwrap();
    let found = reply["keys"].as_array().unwrap().iter();
    let found = found.filter(|key| key["found"] == Value::Bool(true));
    found
        .map(|key| key["key"].as_str().unwrap().to_owned())
        .collect()
}

#[tokio::test]
async fn an_update_says_how_many_entries_it_was_of() {
    let (space, mut client) = filled("update").await;
    let of = &space.namespace;
    let delete =
        |condition: &str| format!("DELETE FROM tensors WHERE namespace = '{of}' AND ({condition})");
    assert_eq!(update(&mut client, delete("false")).await, 0);
    assert_eq!(there(&space).await.len(), 10);
    let some = delete("key = 'key-1' OR key LIKE '%-2' OR key IN ('key-3', 'none')");
    assert_eq!(update(&mut client, some.clone()).await, 3);
    assert_eq!(update(&mut client, some).await, 0);
    assert_eq!(there(&space).await.len(), 7);
    let text = format!(
        "UPDATE tensors SET pinned = key > 'key-7', expires_at = now() + INTERVAL '1 hour' WHERE namespace = '{of}'"
    );
    assert_eq!(update(&mut client, text).await, 7);
    let two = json!({"keys": ["key-7", "key-8"]});
    let reply = space.act("exists", &two).await.unwrap();
    assert_ne!(reply["keys"][0]["pinned"], json!(true));
    assert_eq!(reply["keys"][1]["pinned"], json!(true));
    assert!(reply["keys"][1]["ttl_ms"].as_u64().unwrap() > 3_500_000);
    for (text, code) in [
        (format!("{} LIMIT 1", delete("true")), "unimplemented: "),
        (
            delete("key IN (SELECT key FROM tensors)"),
            "unimplemented: ",
        ),
        ("DELETE FROM tensors".to_owned(), "invalid_argument: "),
        (
            "UPDATE tensors SET checksum = NULL WHERE true".to_owned(),
            "column=`checksum`",
        ),
        (
            "INSERT INTO stats SELECT * FROM stats".to_owned(),
            "unimplemented: ",
        ),
    ] {
        let error = client.execute_update(text, None).await.unwrap_err();
        assert!(error.to_string().contains(code), "{error}");
    }
    assert_eq!(there(&space).await.len(), 7);
    assert_eq!(update(&mut client, delete("true")).await, 7);
}

#[tokio::test]
async fn a_change_that_is_run_like_a_query_happens_when_it_is_read() {
    let (space, mut client) = filled("read").await;
    let query = format!(
        "DELETE FROM tensors WHERE namespace = '{}' AND key < 'key-4'",
        space.namespace
    );
    let command = CommandStatementQuery {
        query: query.clone(),
        transaction_id: None,
    };
    let descriptor = FlightDescriptor::new_cmd(command.as_any().encode_to_vec());
    let schema = client.inner_mut().get_schema(descriptor).await.unwrap();
    let info = client.execute(query, None).await.unwrap();
    assert_eq!(schema.into_inner().schema, info.schema);
    assert_eq!(there(&space).await.len(), 10);
    assert_eq!(counted(&mut client, info.clone()).await, 4);
    assert_eq!(there(&space).await.len(), 6);
    assert_eq!(counted(&mut client, info).await, 0);
}

#[tokio::test]
async fn a_prepared_update_is_run_for_each_row_of_values() {
    let (space, mut client) = filled("prepared").await;
    let text = format!(
        "DELETE FROM tensors WHERE namespace = '{}' AND key = ? AND elements = ?",
        space.namespace
    );
    let mut statement = client.prepare(text, None).await.unwrap();
    // By this drivers know that it is no query.
    assert!(statement.dataset_schema().unwrap().fields().is_empty());
    let parameters = statement.parameter_schema().unwrap().fields().iter();
    let types: Vec<String> = parameters.map(|it| it.data_type().to_string()).collect();
    assert_eq!(types, ["Utf8", "Int64"]);
    let error = statement.execute_update().await.unwrap_err().to_string();
    assert!(error.contains("parameters without values"), "{error}");
    let rows = |keys: &[&str], elements: i64| {
        let elements: ArrayRef = Arc::new(Int64Array::from(vec![elements; keys.len()]));
        let keys: ArrayRef = Arc::new(StringArray::from(keys.to_vec()));
        RecordBatch::try_from_iter([("1", keys), ("2", elements)]).unwrap()
    };
    for (values, count) in [
        (rows(&["key-1"], 5), 0),
        (rows(&["key-1", "key-2", "none", "key-1"], 4), 2),
    ] {
        statement.set_parameters(values).unwrap();
        let updated = within("an update", statement.execute_update()).await;
        assert_eq!(updated.unwrap(), count);
    }
    statement.set_parameters(rows(&["key-3"], 4)).unwrap();
    let info = statement.execute().await.unwrap();
    assert_eq!(there(&space).await.len(), 8);
    assert_eq!(counted(&mut client, info).await, 1);
    assert_eq!(there(&space).await.len(), 7);
    let mut query = client
        .prepare("SELECT key FROM tensors WHERE key = ?".to_owned(), None)
        .await
        .unwrap();
    let keys: ArrayRef = Arc::new(StringArray::from(vec!["a", "b"]));
    let two = RecordBatch::try_from_iter([("1", keys)]).unwrap();
    query.set_parameters(two).unwrap();
    let error = query.execute().await.unwrap_err().to_string();
    assert!(error.contains("one row of values"), "{error}");
    let plain = format!(
        "DELETE FROM tensors WHERE namespace = '{}'",
        space.namespace
    );
    let mut plain = client.prepare(plain, None).await.unwrap();
    assert_eq!(plain.execute_update().await.unwrap(), 7);
}

/// A server over a cold tier that another one may have had before, and a namespace of this very name.
async fn over_a_store(dir: &TempDir, namespace: &str) -> (Space, Client) {
    let builder = Server::builder()
        .memory("64MiB")
        .flag("--cold", format!("file://{}/store", dir.path().display()))
        .flag("--state-dir", dir.path().join("state"));
    let mut space = Space::on(Arc::new(builder.start()), namespace).await;
    namespace.clone_into(&mut space.namespace);
    let client = FlightSqlServiceClient::new_from_inner(space.server.client().await);
    (space, client)
}

fn kill(space: Space) {
    let Space { server, client, .. } = space;
    drop(client);
    Arc::into_inner(server).unwrap().kill();
}

#[tokio::test]
async fn what_only_the_tier_below_has_is_changed_too_and_stays_so() {
    let dir = TempDir::new().unwrap();
    let start = async || over_a_store(&dir, "below").await;
    let (space, mut client) = start().await;
    fill(&space, 10).await;
    let evicted = space.act("evict", &json!({"prefix": ""})).await.unwrap();
    assert_eq!(evicted["entries"], 10);
    let delete =
        "DELETE FROM tensors WHERE namespace = 'below' AND tier = 'cold' AND key < 'key-4'";
    assert_eq!(update(&mut client, delete.to_owned()).await, 4);
    assert_eq!(update(&mut client, delete.to_owned()).await, 0);
    let pin = "UPDATE tensors SET pinned = true WHERE key = 'key-4' AND tier = 'cold'";
    assert_eq!(update(&mut client, pin.to_owned()).await, 1);
    let unpin = "UPDATE tensors SET pinned = false WHERE namespace = 'below'";
    assert_eq!(update(&mut client, unpin.to_owned()).await, 6);
    let expire = "UPDATE tensors SET expires_at = '2001-01-01' WHERE key = 'key-5'";
    assert_eq!(update(&mut client, expire.to_owned()).await, 1);
    let expected = ["key-4", "key-6", "key-7", "key-8", "key-9"];
    assert_eq!(there(&space).await, expected);
    space.act("flush", &json!({})).await.unwrap();
    drop(client);
    kill(space);
    let (space, mut client) = start().await;
    let all = "SELECT key FROM tensors WHERE namespace = 'below'";
    let info = client.execute(all.to_owned(), None).await.unwrap();
    let ticket = info.endpoint[0].ticket.clone().unwrap();
    let batches: Vec<RecordBatch> = client
        .do_get(ticket)
        .await
        .unwrap()
        .try_collect()
        .await
        .unwrap();
    let keys = batches
        .iter()
        .flat_map(|batch| batch.column(0).as_string::<i32>().iter());
    assert_eq!(keys.map(Option::unwrap).collect::<Vec<_>>(), expected);
    assert_eq!(there(&space).await, expected);
}

#[tokio::test]
async fn metadata_that_was_set_is_what_a_get_gives_and_stays_so_after_a_kill() {
    let dir = TempDir::new().unwrap();
    let start = async || over_a_store(&dir, "described").await;
    let described = async |space: &Space| {
        let keys = json!({"keys": ["hot", "cold", "other"]});
        let reply = space.act("describe", &keys).await.unwrap();
        reply["keys"].as_array().unwrap().clone()
    };
    let (space, mut client) = start().await;
    let tensor = Tensor::sample(DType::Float32, &[300, 400]);
    for key in ["cold", "other", "hot"] {
        let members = json!({
            "key": key, "metadata": {"by": "me"}, "ttl_ms": 3_600_000,
        });
        space.put_with(&members, &tensor).await.unwrap();
        if key != "hot" {
            space.act("evict", &json!({"prefix": ""})).await.unwrap();
        }
    }
    space.act("flush", &json!({})).await.unwrap();
    let before = described(&space).await;
    let text = "UPDATE tensors SET metadata = MAP {'by': 'you', 'of': key} \
                WHERE namespace = 'described' AND key <> 'other'";
    assert_eq!(update(&mut client, text.to_owned()).await, 2);
    let check = async |space: &Space| {
        let now = described(space).await;
        for (now, before) in now.iter().zip(&before) {
            for same in ["checksum", "dtype", "shape", "bytes"] {
                assert_eq!(now[same], before[same], "{same}");
            }
            assert!(now["ttl_ms"].as_u64() <= before["ttl_ms"].as_u64());
            assert!(now["ttl_ms"].as_u64().unwrap() > 3_000_000);
        }
        for (now, key) in now.iter().zip(["hot", "cold"]) {
            assert_eq!(now["metadata"], json!({"by": "you", "of": key}));
        }
        assert_eq!(now[2]["metadata"], json!({"by": "me"}));
        assert_eq!(now[2]["version"], before[2]["version"]);
        for key in ["hot", "cold", "other"] {
            assert_eq!(space.tensor(key).await.unwrap(), tensor);
        }
        let got = space.get(&json!({"key": "cold"})).await.unwrap();
        assert_eq!(got.schema.metadata()["user.of"], "cold");
    };
    check(&space).await;
    // What memory alone had is written down for the kill; what lay below is there by itself.
    let hot = space.act("evict", &json!({"keys": ["hot"]})).await.unwrap();
    assert_eq!(hot["entries"], 1);
    drop(client);
    kill(space);
    let (space, _client) = start().await;
    check(&space).await;
}

#[tokio::test]
async fn a_newer_tensor_is_never_deleted_in_either_tier() {
    let dir = TempDir::new().unwrap();
    let server = Server::builder()
        .memory("64MiB")
        .flag("--cold", format!("file://{}/store", dir.path().display()))
        .flag("--state-dir", dir.path().join("state"))
        .start();
    let space = Space::on(Arc::new(server), "newer").await;
    let client = FlightSqlServiceClient::new_from_inner(space.server.client().await);
    let keys: Vec<String> = (0..10).map(|n| format!("key-{n}")).collect();
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    let newer = bulk(&keys, &Tensor::sample(DType::Float32, &[10, 8]));
    for round in 0..20 {
        fill(&space, 10).await;
        if round % 2 == 0 {
            space.act("evict", &json!({"prefix": ""})).await.unwrap();
        }
        let replace = async {
            let members = json!({"mode": "replace"});
            space.bulk_with(&members, newer.clone()).await.unwrap();
            space.act("evict", &json!({"prefix": ""})).await.unwrap();
        };
        let delete = async {
            let mut client = client.clone();
            let text = format!(
                "DELETE FROM tensors WHERE namespace = '{}' AND elements = 4",
                space.namespace
            );
            update(&mut client, text).await
        };
        let ((), deleted) = tokio::join!(replace, delete);
        assert!((0..=10).contains(&deleted), "{deleted}");
        assert_eq!(there(&space).await.len(), 10, "round {round}");
        let got = space.get(&json!({"keys": keys})).await.unwrap();
        assert_eq!(got.rows(), 10, "round {round}");
        let reply = space.act("delete", &json!({"prefix": ""})).await.unwrap();
        assert_eq!(reply["deleted"], 10);
    }
}
