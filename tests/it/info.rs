//! GetFlightInfo, GetSchema and ListFlights say beforehand what DoGet will send.

use arrow_flight::{Criteria, FlightDescriptor, FlightInfo, Ticket};
use bowstring_tests::within;
use bowstring_wire::dtype::DType;
use bytes::Bytes;
use futures::TryStreamExt as _;
use serde_json::{Value, json};

use crate::space::{Space, refused};
use crate::tensor::{Tensor, bulk};

async fn filled(name: &str) -> Space {
    let space = Space::new(name).await;
    let tensors = Tensor::sample(DType::Float32, &[5, 2, 3]);
    space
        .bulk(bulk(&["a", "ab", "abc", "b", "c"], &tensors))
        .await
        .unwrap();
    let members = json!({"key": "big", "metadata": {"m": "1"}});
    let big = Tensor::sample(DType::Int16, &[100, 4]);
    space.put_with(&members, &big).await.unwrap();
    space
}

/// The header of the first message that DoGet sends: the schema's own flatbuffer.
async fn sent(space: &Space, ticket: Ticket) -> Bytes {
    let mut client = space.client.inner().clone();
    let mut stream = client.do_get(ticket).await.unwrap().into_inner();
    stream.message().await.unwrap().unwrap().data_header
}

/// The flatbuffer within an encapsulated message: a marker, a length, and that many bytes.
fn unwrapped(schema: &Bytes) -> Bytes {
    assert_eq!(schema[..4], [0xff; 4]);
    let length = u32::from_le_bytes(schema[4..8].try_into().unwrap());
    let message = schema.slice(8..);
    assert_eq!(message.len(), usize::try_from(length).unwrap());
    message
}

fn ticket_of(info: &FlightInfo) -> Ticket {
    let [endpoint] = &info.endpoint[..] else {
        panic!("one endpoint")
    };
    assert!(endpoint.location.is_empty(), "use this connection");
    endpoint.ticket.clone().unwrap()
}

fn said(info: &FlightInfo) -> Value {
    serde_json::from_slice(&info.app_metadata).unwrap()
}

#[tokio::test]
async fn the_schema_is_the_one_that_is_sent_byte_for_byte() {
    let space = filled("info").await;
    let asks = [
        json!({"key": "big"}),
        json!({"key": "big", "rows": [3, 50]}),
        json!({"key": "big", "layout": "flat"}),
        json!({"key": "big", "layout": "opaque"}),
        json!({"keys": ["a", "c", "x"]}),
        json!({"keys": ["a", "x", "c"], "missing": "null"}),
        json!({"keys": ["a", "big"], "layout": "opaque"}),
        json!({"keys": ["x"]}),
        json!({"keys": ["a"], "with": ["version", "checksum"]}),
        json!({"prefix": ""}),
        json!({"prefix": "a", "dtype": "float32", "shape": [2, 3]}),
    ];
    for ask in asks {
        let descriptor = space.command(&ask);
        let info = space.info(descriptor.clone()).await.unwrap();
        let mut client = space.client.inner().clone();
        let schema = client
            .get_schema(descriptor.clone())
            .await
            .unwrap()
            .into_inner()
            .schema;
        assert_eq!(info.schema, schema, "{ask}");
        // As an encapsulated message it is padded to 8 bytes.
        let message = unwrapped(&schema);
        for ticket in [ticket_of(&info), space.ticket(&ask)] {
            let sent = sent(&space, ticket).await;
            let (start, rest) = message.split_at(sent.len());
            assert!(start == sent && rest.len() < 8, "{ask}");
            assert!(rest.iter().all(|byte| *byte == 0), "{ask}");
        }
        let got = space.follow(ticket_of(&info)).await.unwrap();
        assert_eq!(
            info.total_records,
            i64::try_from(got.rows()).unwrap(),
            "{ask}"
        );
        assert_eq!(info.flight_descriptor, Some(descriptor));
        let decoded = space
            .clone_client()
            .get_schema(space.command(&ask))
            .await
            .unwrap();
        assert_eq!(decoded, *got.schema, "{ask}");
        assert_eq!(info.try_decode_schema().unwrap(), decoded);
    }
}

#[tokio::test]
async fn a_path_and_what_is_said_of_it() {
    let space = filled("info-path").await;
    let info = space.info(space.path("big")).await.unwrap();
    assert_eq!((info.total_records, info.total_bytes), (100, 800));
    let said = said(&info);
    assert_eq!(said["dtype"], "int16");
    assert_eq!(
        (&said["shape"], &said["metadata"]),
        (&json!([100, 4]), &json!({"m": "1"}))
    );
    assert_eq!(said["tier"], "hot");
    let got = space.follow(ticket_of(&info)).await.unwrap();
    assert_eq!(got.tensor(), Tensor::sample(DType::Int16, &[100, 4]));
    assert_eq!(
        said["version"],
        got.schema.metadata()["tensor.version"].as_str()
    );
}

#[tokio::test]
async fn a_minted_ticket_holds_its_schema_or_says_that_it_cannot() {
    let space = filled("info-minted").await;
    let one = space.info(space.path("big")).await.unwrap();
    let many = space
        .info(space.command(&json!({"keys": ["a", "c"]})))
        .await
        .unwrap();
    let minted: Value = serde_json::from_slice(&ticket_of(&one).ticket).unwrap();
    assert_eq!(minted["version"], said(&one)["version"]);
    let other = Tensor::sample(DType::Int8, &[2]);
    let replace = json!({"key": "big", "mode": "replace"});
    space.put_with(&replace, &other).await.unwrap();
    let got = space.follow(ticket_of(&one)).await;
    refused(got, "failed_precondition", &["version"]);
    space.act("delete", &json!({"prefix": ""})).await.unwrap();
    let got = space.follow(ticket_of(&many)).await.unwrap();
    assert_eq!((got.rows(), got.closing("missing").unwrap().len()), (0, 2));
    assert_eq!(*got.schema, many.try_decode_schema().unwrap());
}

#[tokio::test]
async fn what_cannot_be_asked() {
    let space = filled("info-wrong").await;
    for wrong in [
        FlightDescriptor::new_path(vec![]),
        FlightDescriptor::new_path(vec!["a".into(), "b".into(), "c".into()]),
        FlightDescriptor::new_path(vec!["bad namespace".into(), "k".into()]),
        FlightDescriptor::default(),
        space.command(&json!({})),
        space.command(&json!({"key": "a", "prefix": "b"})),
    ] {
        refused(space.info(wrong.clone()).await, "invalid_argument", &[]);
        let schema = space.clone_client().get_schema(wrong).await;
        refused(schema, "invalid_argument", &[]);
    }
    refused(
        space.info(space.path("nobody")).await,
        "not_found",
        &["nobody"],
    );
    let sql = FlightDescriptor::new_cmd("SELECT 1");
    refused(space.info(sql).await, "invalid_argument", &["SQL"]);
}

async fn listed(
    space: &Space,
    criteria: impl Into<Bytes>,
) -> arrow_flight::error::Result<Vec<FlightInfo>> {
    let mut client = space.clone_client();
    let expression = criteria.into();
    within("flights", async {
        client.list_flights(expression).await?.try_collect().await
    })
    .await
}

#[tokio::test]
async fn flights_are_listed_in_key_order() {
    let space = filled("list").await;
    let cases: [(Value, &[&str]); 7] = [
        (json!({}), &["a", "ab", "abc", "b", "big", "c"]),
        (json!({"prefix": "a"}), &["a", "ab", "abc"]),
        (json!({"prefix": "zz"}), &[]),
        (json!({"limit": 2}), &["a", "ab"]),
        (json!({"after": "abc", "limit": 2}), &["b", "big"]),
        (json!({"prefix": "a", "after": "a"}), &["ab", "abc"]),
        (json!({"after": "c"}), &[]),
    ];
    for (criteria, expected) in cases {
        let infos = listed(&space, space.json(&criteria)).await.unwrap();
        let paths = infos
            .iter()
            .map(|info| info.flight_descriptor.clone().unwrap().path);
        let expected = expected
            .iter()
            .map(|key| vec![space.namespace.clone(), (*key).to_owned()]);
        assert_eq!(
            paths.collect::<Vec<_>>(),
            expected.collect::<Vec<_>>(),
            "{criteria}"
        );
        for info in infos {
            let path = info.flight_descriptor.clone().unwrap();
            let alone = space.info(path).await.unwrap();
            assert_eq!(alone, info);
        }
    }
    // Nothing is the namespace `default`.
    let tensor = Tensor::sample(DType::Int8, &[1]);
    let path = FlightDescriptor::new_path(vec!["list-default".to_owned()]);
    space.put_batches(path, [tensor.batch()]).await.unwrap();
    let infos = listed(&space, "").await.unwrap();
    let mut paths = infos
        .iter()
        .map(|info| info.flight_descriptor.clone().unwrap().path);
    assert!(paths.any(|path| path == ["default", "list-default"]));
}

#[tokio::test]
async fn more_flights_than_a_step_of_the_scan() {
    let space = Space::new("list-many").await;
    let tensors = Tensor::sample(DType::Int8, &[2500, 1]);
    let keys: Vec<_> = (0..2500).map(|i| format!("{i:05}")).collect();
    space
        .bulk(bulk(
            &keys.iter().map(String::as_str).collect::<Vec<_>>(),
            &tensors,
        ))
        .await
        .unwrap();
    let infos = listed(&space, space.json(&json!({}))).await.unwrap();
    let listed = infos
        .iter()
        .map(|info| info.flight_descriptor.clone().unwrap().path.remove(1));
    assert_eq!(listed.collect::<Vec<_>>(), keys);
}

#[tokio::test]
async fn criteria_that_are_none() {
    let space = Space::new("list-wrong").await;
    for criteria in [
        "{",
        "[]",
        "x",
        r#"{"frobnicate": 1}"#,
        r#"{"limit": 0}"#,
        r#"{"limit": -1}"#,
    ] {
        refused(listed(&space, criteria).await, "invalid_argument", &[]);
    }
    let mut client = space.client.inner().clone();
    let criteria = Criteria {
        expression: r#"{"namespace": ""}"#.into(),
    };
    let refusal = client.list_flights(criteria).await;
    refused(
        refusal.map_err(Into::into),
        "invalid_argument",
        &["namespace"],
    );
}
