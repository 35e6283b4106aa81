//! What the hook is told of what is asked by SQL, and that nothing is done that it refuses. A whole server runs on the
//! thread of each test, whose hook is there.

use std::sync::Arc;

use arrow_array::types::Float32Type;
use arrow_array::{ArrayRef, FixedSizeListArray, ListArray, RecordBatch, StringArray};
use arrow_flight::FlightInfo;
use arrow_flight::error::{FlightError, Result};
use arrow_flight::sql::client::FlightSqlServiceClient;
use arrow_flight::sql::{
    CommandStatementIngest, TableDefinitionOptions, TableExistsOption, TableNotExistOption,
};
use futures::{TryStreamExt, stream};
use tokio::sync::oneshot;
use tokio_util::task::AbortOnDropHandle;
use tonic::transport::{Channel, Endpoint};

use crate::Ready;
use crate::config::Config;
use crate::flight::authorize::asked::Watch;
use crate::shutdown::Shutdown;

/// A server of `a/k1`, `a/k2` and `b/k1`, and a client.
struct Bed {
    client: FlightSqlServiceClient<Channel>,
    _server: AbortOnDropHandle<()>,
}

impl Bed {
    async fn new() -> Self {
        let config = Config {
            listen: vec!["127.0.0.1:0".parse().unwrap()],
            http: "127.0.0.1:0".parse().unwrap(),
            memory: "64MiB".parse().unwrap(),
            ..Config::default()
        };
        let (tell, ready) = oneshot::channel();
        let server = tokio::spawn(async move {
            let ready = |ready: &Ready| tell.send(ready.flight[0].clone()).unwrap();
            crate::run(config, Shutdown::new(), ready).await.unwrap();
        });
        let server = AbortOnDropHandle::new(server);
        let uri = ready.await.unwrap().replace("grpc://", "http://");
        let channel = Endpoint::from_shared(uri).unwrap().connect().await.unwrap();
        let mut bed = Self {
            client: FlightSqlServiceClient::new(channel),
            _server: server,
        };
        let text = "INSERT INTO tensors (namespace, key, value) \
                    VALUES ('a', 'k1', [1.0, 2.0]), ('a', 'k2', [3.0, 4.0]), ('b', 'k1', [5.0, 6.0])";
        assert_eq!(bed.update(text).await.unwrap(), 3);
        bed
    }

    async fn plan(&mut self, text: &str) -> Result<FlightInfo> {
        self.client.execute(text.to_owned(), None).await
    }

    async fn read(&mut self, info: &FlightInfo) -> Result<Vec<RecordBatch>> {
        let ticket = info.endpoint[0].ticket.clone().unwrap();
        self.client.do_get(ticket).await?.try_collect().await
    }

    async fn query(&mut self, text: &str) -> Result<Vec<RecordBatch>> {
        let info = self.plan(text).await?;
        self.read(&info).await
    }

    async fn update(&mut self, text: &str) -> Result<i64> {
        self.client.execute_update(text.to_owned(), None).await
    }

    async fn ingest(&mut self, schema: &str, table: &str, rows: &RecordBatch) -> Result<i64> {
        let options = TableDefinitionOptions {
            if_not_exist: TableNotExistOption::Create as i32,
            if_exists: TableExistsOption::Append as i32,
        };
        let command = CommandStatementIngest {
            table_definition_options: Some(options),
            table: table.to_owned(),
            schema: Some(schema.to_owned()),
            ..CommandStatementIngest::default()
        };
        let rows = stream::iter([Ok(rows.clone())]);
        self.client.execute_ingest(command, rows).await
    }

    /// All that there is, as far as a statement could change it.
    async fn all(&mut self) -> Vec<RecordBatch> {
        let text = "SELECT namespace, key, version, checksum, pins, expires_at, metadata FROM tensors \
                    ORDER BY namespace, key";
        self.query(text).await.unwrap()
    }
}

fn texts(texts: &[&str]) -> ArrayRef {
    Arc::new(StringArray::from(texts.to_vec()))
}

fn table(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
    RecordBatch::try_from_iter(columns).unwrap()
}

#[track_caller]
fn assert_refused<T>(result: Result<T>, what: &str) {
    let status = match result {
        Ok(_) => panic!("not refused: {what}"),
        Err(FlightError::Tonic(status)) => status,
        Err(other) => panic!("{what}: {other}"),
    };
    assert_eq!(status.code(), tonic::Code::PermissionDenied, "{what}");
    let message = status.message();
    assert!(
        message.starts_with("permission_denied: "),
        "{what}: {message}"
    );
}

#[tokio::test]
async fn a_query_is_of_the_tables_and_tensors_that_it_names() {
    let mut bed = Bed::new().await;
    let cases: [(&str, &[&str]); 4] = [
        ("SELECT key FROM tensors", &["Get table cache.tensors"]),
        ("SELECT key FROM ns.a", &["Get namespace a"]),
        ("SELECT account FROM memory", &["Get table cache.memory"]),
        (
            "SELECT t.key FROM tensors t JOIN ns.b AS b ON t.key = b.key WHERE norm(tensor('a', 'k1')) > 0",
            &["Get key a/k1", "Get namespace b", "Get table cache.tensors"],
        ),
    ];
    for (text, told) in cases {
        let watch = Watch::allowing();
        let info = bed.plan(text).await.unwrap();
        assert_eq!(watch.asked(), told, "{text}");
        assert!(!bed.read(&info).await.unwrap().is_empty(), "{text}");
        assert_eq!(watch.asked(), told, "{text}");
        drop(watch);
        for one in told {
            let _watch = Watch::refusing(one);
            assert_refused(bed.plan(text).await, one);
            // By a ticket of before.
            assert_refused(bed.read(&info).await, one);
        }
    }
}

#[tokio::test]
async fn a_change_is_of_its_table_and_of_each_namespace_that_it_comes_upon() {
    let mut bed = Bed::new().await;
    let cases: [(&str, &[&str], i64); 7] = [
        (
            "DELETE FROM tensors WHERE namespace = 'a' AND key = 'k1'",
            &["Delete namespace a", "Delete table cache.tensors"],
            1,
        ),
        (
            "DELETE FROM tensors WHERE namespace = 'a' AND dot(value, tensor('b', 'k1')) < 0",
            &["Delete table cache.tensors", "Get key b/k1"],
            0,
        ),
        (
            "UPDATE tensors SET pinned = true WHERE namespace = 'a'",
            &["Put namespace a", "Put table cache.tensors"],
            1,
        ),
        (
            "UPDATE tensors SET metadata = MAP {'of': key} WHERE namespace = 'b'",
            &["Put namespace b", "Put table cache.tensors"],
            1,
        ),
        (
            "INSERT INTO tensors (namespace, key, value) SELECT 'c', key, value FROM tensors WHERE namespace = 'b'",
            &["Get table cache.tensors", "Put namespace c"],
            1,
        ),
        (
            "INSERT INTO ns.d (key, value) SELECT key, value FROM ns.b",
            &["Get namespace b", "Put namespace d"],
            1,
        ),
        (
            "INSERT INTO tensors (namespace, key, value) VALUES ('e', 'k', [1.0]), ('f', 'k', [2.0])",
            &["Put namespace e", "Put namespace f"],
            2,
        ),
    ];
    for (text, told, changed) in cases {
        let before = bed.all().await;
        for one in told {
            let watch = Watch::refusing(one);
            assert_refused(bed.update(text).await, one);
            // By a driver that runs every text as a query.
            assert_refused(bed.query(text).await, one);
            drop(watch);
            assert_eq!(bed.all().await, before, "{text}: {one}");
        }
        let watch = Watch::allowing();
        assert_eq!(bed.update(text).await.unwrap(), changed, "{text}");
        assert_eq!(watch.asked(), told, "{text}");
        drop(watch);
        assert_eq!(bed.all().await == before, changed == 0, "{text}");
    }
}

/// A change goes on from one namespace to the next.
#[tokio::test]
async fn a_namespace_that_is_refused_stays_as_it_is() {
    let mut bed = Bed::new().await;
    let of_b = "SELECT key, version FROM tensors WHERE namespace = 'b'";
    let before = bed.query(of_b).await.unwrap();
    let watch = Watch::refusing("Delete namespace b");
    assert_refused(bed.update("DELETE FROM tensors WHERE true").await, "b");
    assert!(watch.asked().contains(&"Delete namespace a".to_owned()));
    drop(watch);
    assert_eq!(bed.query(of_b).await.unwrap(), before);
}

#[tokio::test]
async fn a_prepared_statement_is_asked_for_when_it_is_prepared_and_each_time_it_is_run() {
    let mut bed = Bed::new().await;
    let text = "DELETE FROM tensors WHERE namespace = ? AND key = ?";
    let (of_table, of_namespace) = ("Delete table cache.tensors", "Delete namespace a");
    let watch = Watch::refusing(of_table);
    let refused = bed.client.prepare(text.to_owned(), None).await;
    assert_refused(refused, text);
    drop(watch);
    let watch = Watch::allowing();
    let prepared = bed.client.prepare(text.to_owned(), None).await;
    let mut prepared = prepared.unwrap();
    assert_eq!(watch.asked(), [of_table]);
    drop(watch);
    let row = table(vec![("1", texts(&["a"])), ("2", texts(&["k1"]))]);
    prepared.set_parameters(row).unwrap();
    let before = bed.all().await;
    for one in [of_table, of_namespace] {
        let watch = Watch::refusing(one);
        assert_refused(prepared.execute_update().await, one);
        drop(watch);
        assert_eq!(bed.all().await, before, "{one}");
    }
    let watch = Watch::allowing();
    assert_eq!(prepared.execute_update().await.unwrap(), 1);
    assert_eq!(watch.asked(), [of_namespace, of_table]);
    drop(watch);

    // A tensor that a parameter names.
    let text = "SELECT key FROM ns.b WHERE dot(value, tensor(?, ?)) > 0";
    let watch = Watch::allowing();
    let prepared = bed.client.prepare(text.to_owned(), None).await;
    let mut prepared = prepared.unwrap();
    assert_eq!(watch.asked(), ["Get namespace b"]);
    let row = table(vec![("1", texts(&["a"])), ("2", texts(&["k2"]))]);
    prepared.set_parameters(row).unwrap();
    let info = prepared.execute().await.unwrap();
    assert_eq!(watch.asked(), ["Get key a/k2", "Get namespace b"]);
    bed.read(&info).await.unwrap();
    assert_eq!(watch.asked(), ["Get key a/k2", "Get namespace b"]);
    drop(watch);
    for one in ["Get key a/k2", "Get namespace b"] {
        let _watch = Watch::refusing(one);
        assert_refused(prepared.execute().await, one);
        assert_refused(bed.read(&info).await, one);
    }
}

#[tokio::test]
async fn an_ingestion_is_of_each_namespace_that_it_puts_to() {
    let mut bed = Bed::new().await;
    let numbers = [[1.0, 2.0], [3.0, 4.0]].map(|row| Some(row.map(Some)));
    let fixed = FixedSizeListArray::from_iter_primitive::<Float32Type, _, _>(numbers, 2);
    let lists = ListArray::from_iter_primitive::<Float32Type, _, _>(numbers);
    let (fixed, lists): (ArrayRef, ArrayRef) = (Arc::new(fixed), Arc::new(lists));
    let of_one = table(vec![("key", texts(&["k1", "k2"])), ("tensor", fixed)]);
    let of_two = table(vec![
        ("namespace", texts(&["h", "i"])),
        ("key", texts(&["k1", "k2"])),
        ("value", lists),
    ]);
    let cases: [(&str, &str, &RecordBatch, &[&str]); 2] = [
        ("ns", "g", &of_one, &["Put namespace g"]),
        (
            "cache",
            "tensors",
            &of_two,
            &["Put namespace h", "Put namespace i"],
        ),
    ];
    for (schema, name, rows, told) in cases {
        let before = bed.all().await;
        for one in told {
            let watch = Watch::refusing(one);
            assert_refused(bed.ingest(schema, name, rows).await, one);
            drop(watch);
            assert_eq!(bed.all().await, before, "{one}");
        }
        let watch = Watch::allowing();
        assert_eq!(bed.ingest(schema, name, rows).await.unwrap(), 2);
        assert_eq!(watch.asked(), told, "{name}");
        drop(watch);
        assert_ne!(bed.all().await, before, "{name}");
    }
}
