//! What `docs/clients/rust.md` shows, by the crates that anyone has: `arrow-flight`, and ours.

use std::error::Error;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::Float32Type;
use arrow_array::{ArrayRef, FixedSizeListArray, Float32Array, RecordBatch, StringArray};
use arrow_flight::encode::FlightDataEncoderBuilder;
use arrow_flight::error::FlightError;
use arrow_flight::{Action, FlightClient, FlightDescriptor, PutResult, Ticket};
use arrow_schema::{DataType, Field};
use bowstring_client::mux::PutOptions;
use bowstring_client::{Address, Connection, DType, Descriptor, Mux, Shape};
use bowstring_tests::{Server, covered};
use futures::{TryStreamExt, stream};
use serde_json::Value;
use tonic::transport::Endpoint;

type Result<T = ()> = std::result::Result<T, Box<dyn Error>>;

// snippet: connect
async fn connect(endpoint: &str) -> Result<FlightClient> {
    // As `bowstring serve` prints it: grpc://127.0.0.1:8815
    let endpoint = endpoint.replace("grpc://", "http://");
    Ok(FlightClient::new(
        Endpoint::from_shared(endpoint)?.connect().await?,
    ))
}
// snippet end

// snippet: put
/// One column is one tensor; the rows are its leading axis.
fn matrix(columns: i32, values: Vec<f32>) -> Result<ArrayRef> {
    let item = Arc::new(Field::new("item", DataType::Float32, false));
    let values = Arc::new(Float32Array::from(values));
    Ok(Arc::new(FixedSizeListArray::try_new(
        item, columns, values, None,
    )?))
}

async fn put(client: &mut FlightClient, to: FlightDescriptor, batch: RecordBatch) -> Result<Value> {
    let messages = FlightDataEncoderBuilder::new()
        .with_flight_descriptor(Some(to))
        .build(stream::iter([Ok(batch)]));
    let replies: Vec<PutResult> = client.do_put(messages).await?.try_collect().await?;
    let last = replies.last().ok_or("no reply")?;
    Ok(serde_json::from_slice(&last.app_metadata)?)
}
// snippet end

#[tokio::test]
async fn one_tensor_by_arrow_flight() -> Result {
    let server = Server::start();
    let mut client = connect(server.uri()).await?;
    // snippet: put-get
    let tensor = matrix(4, (0..12u8).map(f32::from).collect())?;
    let batch = RecordBatch::try_from_iter([("tensor", tensor)])?;
    let to = FlightDescriptor::new_path(vec!["weights".to_owned()]);
    let reply = put(&mut client, to, batch).await?;
    // {"stored":1,"existed":0,"bytes":48,"version":"…","errors":[],"errors_total":0}
    println!("{reply}");

    let mut batches = client.do_get(Ticket::new(r#"{"key": "weights"}"#)).await?;
    let mut values = Vec::new();
    while let Some(batch) = batches.try_next().await? {
        let rows = batch.column(0).as_fixed_size_list();
        values.extend_from_slice(rows.values().as_primitive::<Float32Type>().values());
    }
    let schema = batches.schema().ok_or("no schema")?;
    // 12 values of shape [3, 4]
    println!(
        "{} values of shape {}",
        values.len(),
        schema.metadata["tensor.shape"]
    );
    // snippet end
    assert_eq!(reply["stored"], 1);
    assert_eq!(values, (0..12u8).map(f32::from).collect::<Vec<_>>());
    assert_eq!(schema.metadata["tensor.shape"], "[3, 4]");
    Ok(())
}

#[tokio::test]
async fn many_tensors_by_arrow_flight() -> Result {
    let server = Server::start();
    let mut client = connect(server.uri()).await?;
    // snippet: bulk
    let keys = Arc::new(StringArray::from(vec!["king", "queen"])) as ArrayRef;
    let tensors = matrix(3, vec![0.1, 0.2, 0.3, 0.4, 0.5, 0.6])?;
    let batch = RecordBatch::try_from_iter([("key", keys), ("tensor", tensors)])?;
    let to = FlightDescriptor::new_cmd(r#"{"namespace": "glove"}"#);
    let reply = put(&mut client, to, batch).await?;
    // A bad row does not lose the others, so look.
    if reply["errors_total"] != 0 {
        return Err(format!("not all rows were stored: {}", reply["errors"]).into());
    }
    // snippet end
    assert_eq!(reply["stored"], 2);

    // snippet: keys
    let ticket = r#"{"namespace": "glove", "keys": ["king", "emperor", "queen"]}"#;
    // The decoder beneath shows each message's metadata: the last one says what is missing.
    let mut messages = client.do_get(Ticket::new(ticket)).await?.into_inner();
    let (mut found, mut missing) = (Vec::new(), Value::Null);
    while let Some(message) = messages.try_next().await? {
        if !message.inner.app_metadata.is_empty() {
            let closing: Value = serde_json::from_slice(&message.inner.app_metadata)?;
            missing = closing["missing"].clone();
        }
        if let arrow_flight::decode::DecodedPayload::RecordBatch(batch) = message.payload {
            found.extend(
                batch
                    .column(0)
                    .as_string::<i32>()
                    .iter()
                    .flatten()
                    .map(str::to_owned),
            );
        }
    }
    // ["king", "queen"], but not ["emperor"]
    println!("{found:?}, but not {missing}");
    // snippet end
    assert_eq!(found, ["king", "queen"]);
    assert_eq!(missing, serde_json::json!(["emperor"]));
    Ok(())
}

#[tokio::test]
async fn a_load_by_arrow_flight() -> Result {
    let server = Server::start();
    let mut client = connect(server.uri()).await?;
    // snippet: load
    let begin = Action::new(
        "begin_load",
        r#"{"namespace": "glove", "replace_all": true}"#,
    );
    let reply = client
        .do_action(begin)
        .await?
        .try_next()
        .await?
        .ok_or("no reply")?;
    let load = serde_json::from_slice::<Value>(&reply)?["load_id"].to_string();

    let keys = Arc::new(StringArray::from(vec!["king"])) as ArrayRef;
    let batch =
        RecordBatch::try_from_iter([("key", keys), ("tensor", matrix(3, vec![0.7, 0.8, 0.9])?)])?;
    let to = FlightDescriptor::new_cmd(format!(r#"{{"namespace": "glove", "load_id": {load}}}"#));
    put(&mut client, to, batch).await?; // nobody sees it yet

    let commit = Action::new(
        "commit_load",
        format!(r#"{{"namespace": "glove", "load_id": {load}}}"#),
    );
    client
        .do_action(commit)
        .await?
        .try_collect::<Vec<_>>()
        .await?;
    // snippet end
    let ticket = Ticket::new(r#"{"namespace": "glove", "keys": ["king"]}"#);
    let rows: Vec<_> = client.do_get(ticket).await?.try_collect().await?;
    assert_eq!(rows.iter().map(RecordBatch::num_rows).sum::<usize>(), 1);
    Ok(())
}

// snippet: errors
/// The stable code of the wire contract: `not_found`, `already_exists`, …
fn code(error: &FlightError) -> Option<&str> {
    let FlightError::Tonic(status) = error else {
        return None;
    };
    status.metadata().get("bowstring-code")?.to_str().ok()
}
// snippet end

#[tokio::test]
async fn an_error_by_arrow_flight() -> Result {
    let server = Server::start();
    let mut client = connect(server.uri()).await?;
    let error = client
        .do_get(Ticket::new(r#"{"key": "nobody"}"#))
        .await
        .map(|_| ())
        .unwrap_err();
    assert_eq!(code(&error), Some("not_found"));
    assert!(error.to_string().contains("not_found: "), "{error}");
    Ok(())
}

#[test]
fn tensors_by_our_client() -> Result {
    let server = Server::start();
    let endpoint = server.uri();
    // snippet: ours
    let address: Address = endpoint.parse()?; // grpc://127.0.0.1:8815, or unix:PATH
    let mut connection = Connection::connect(&address)?;
    let weights = vec![1u8; 4 << 20];
    let shape = Shape::new(&[1024, 1024])?;
    connection.put(
        Descriptor::Path(&["weights"]),
        DType::Float32,
        &shape,
        &weights,
    )?;

    let mut buffer = Vec::new(); // filled in place where it has the length already
    let tensor = connection.get_into(br#"{"key": "weights"}"#, &mut buffer)?;
    // float32 [1024, 1024]
    println!("{} {:?}", tensor.dtype, tensor.shape.dims());

    // Many small ones: one stream, one message each way.
    let mux = Mux::connect(&address, "glove")?;
    mux.put(
        "king",
        DType::Float32,
        &Shape::new(&[2])?,
        &[0; 8],
        PutOptions::default(),
    )?;
    let mut found = 0;
    mux.get_many(&["king", "emperor"], |_, reply| {
        found += usize::from(reply.is_ok())
    })?;
    // snippet end
    assert_eq!(
        (tensor.shape.dims(), &buffer),
        (&[1024, 1024][..], &weights)
    );
    assert_eq!(found, 1);
    Ok(())
}

#[test]
fn every_dtype_by_our_client() -> Result {
    let server = Server::start();
    let address: Address = server.uri().parse()?;
    let mut connection = Connection::connect(&address)?;
    for dtype in DType::ALL {
        let shape = Shape::new(&[2, 3])?;
        // 0 and 1 are values of every type, of booleans the only ones.
        let bytes: Vec<u8> = (0..6 * dtype.size())
            .map(|i| u8::from(i % 3 == 0))
            .collect();
        let key = dtype.to_string();
        connection.put(Descriptor::Path(&[&key]), dtype, &shape, &bytes)?;
        let mut buffer = Vec::new();
        let ticket = format!(r#"{{"key": "{key}"}}"#);
        let tensor = connection.get_into(ticket.as_bytes(), &mut buffer)?;
        assert_eq!(
            (tensor.dtype, &tensor.shape, &buffer),
            (dtype, &shape, &bytes)
        );
        covered(file!(), "every_dtype_by_our_client", dtype);
    }
    Ok(())
}
