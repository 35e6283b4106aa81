//! One DoPut: batches out, one answer back.

use arrow_array::RecordBatch;
use arrow_flight::{FlightData, FlightDescriptor, PutResult, SchemaAsIpc};
use arrow_ipc::writer::{DictionaryTracker, IpcDataGenerator, IpcWriteContext, IpcWriteOptions};
use arrow_schema::{ArrowError, Schema};
use bowstring_wire::descriptor::PutCommand;
use bowstring_wire::error::Error as WireError;
use bowstring_wire::put_result::PutReply;
use futures::{Stream, StreamExt as _};

use crate::Error;
use crate::client::{Client, refused};

/// Bytes of a message's body, where rows allow.
pub const MESSAGE_BYTES: usize = 2 << 20;

/// Puts what `batches` gives, which all have this schema.
pub async fn put(
    client: &mut Client,
    command: &PutCommand,
    schema: &Schema,
    batches: impl Stream<Item = RecordBatch> + Send + 'static,
) -> Result<PutReply, Error> {
    let options = IpcWriteOptions::default();
    let mut first = FlightData::from(SchemaAsIpc::new(schema, &options));
    first.flight_descriptor = Some(FlightDescriptor::new_cmd(command.to_json()));
    // It knows from the last message how much room the next one needs.
    let mut context = IpcWriteContext::default();
    let messages = futures::stream::iter([first]).chain(batches.filter_map(move |batch| {
        // Batches without dictionaries, whose columns are those of the schema, cannot fail.
        futures::future::ready(encoded(&batch, &mut context).ok())
    }));
    let answer = client.flight.do_put(messages).await.map_err(refused)?;
    let mut answers = answer.into_inner();
    let mut last: Option<PutResult> = None;
    while let Some(result) = answers.message().await.map_err(refused)? {
        last = Some(result);
    }
    let last =
        last.ok_or_else(|| WireError::internal("the server answered nothing; verb=`DoPut`"))?;
    Ok(PutReply::parse(&last.app_metadata)?)
}

fn encoded(batch: &RecordBatch, context: &mut IpcWriteContext) -> Result<FlightData, ArrowError> {
    let (_, data) = IpcDataGenerator::default().encode(
        batch,
        &mut DictionaryTracker::new(false),
        &IpcWriteOptions::default(),
        context,
    )?;
    Ok(data.into())
}

/// A batch in pieces of at most [`MESSAGE_BYTES`], or of one row; they share its buffers.
pub fn pieces(batch: &RecordBatch) -> Vec<RecordBatch> {
    let rows = batch.num_rows();
    let bytes = slice_bytes(batch);
    if bytes <= MESSAGE_BYTES || rows < 2 {
        return vec![batch.clone()];
    }
    // All about as long: a short last one costs as much as a long one.
    let step = rows.div_ceil(bytes.div_ceil(MESSAGE_BYTES)).max(1);
    let starts = (0..rows).step_by(step);
    starts
        .map(|start| batch.slice(start, step.min(rows - start)))
        .collect()
}

/// Bytes of its rows, roughly.
pub fn slice_bytes(batch: &RecordBatch) -> usize {
    let column = |column: &arrow_array::ArrayRef| {
        let data = column.to_data();
        data.get_slice_memory_size()
            .unwrap_or_else(|_| column.get_array_memory_size())
    };
    batch.columns().iter().map(column).sum()
}
