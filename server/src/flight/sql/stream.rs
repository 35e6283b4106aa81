//! An answer on its way out: a schema, then batches, made into messages on the query's threads.

use arrow_array::{Array, RecordBatch};
use arrow_flight::{FlightData, SchemaAsIpc};
use arrow_ipc::writer::{
    DictionaryTracker, EncodedData, IpcDataGenerator, IpcWriteContext, IpcWriteOptions,
};
use arrow_schema::Schema;
use bowstring_sql::Plan;
use bowstring_wire::error::Result;
use bowstring_wire::flight_data::encode_head;
use bowstring_wire::limits::{DEFAULT_MESSAGE_BYTES, LARGE_MESSAGE_BYTES};
use bytes::Bytes;

use super::running::Ticketed;
use super::{arrow_error, sql};
use crate::flight::client::Client;
use crate::flight::out::{Failure, Out};
use crate::flight::service::{Call, Service};
use crate::grpc::Responder;

/// Runs a query and sends its answer.
pub async fn query(
    service: &Service,
    call: &Call<'_>,
    (plan, run): (&Plan, &Ticketed),
    respond: &mut Responder,
) -> Result<(), Failure> {
    let mut encoder = Encoder::new(call.client);
    let schema = encoder.schema(plan.schema());
    let mut answer = sql(service)?
        .run(plan, move |batch| encoder.batch(&batch))
        .await?;
    let mut out = Out::new(service, respond, call.client, call.counted, 0);
    send(&mut out, schema).await?;
    // A client that does not read has no more time than one that does.
    let until = answer.until().clone();
    while let Some(messages) = out.while_there(run.step(answer.next())).await??? {
        for message in messages {
            until.keep(send(&mut out, message)).await??;
        }
    }
    until.keep(out.flush()).await?
}

/// Sends what is known.
pub async fn batch(
    service: &Service,
    call: &Call<'_>,
    batch: RecordBatch,
    respond: &mut Responder,
) -> Result<(), Failure> {
    let mut encoder = Encoder::new(call.client);
    let mut messages = vec![encoder.schema(&batch.schema())];
    messages.extend(encoder.batch(&batch)?);
    let mut out = Out::new(service, respond, call.client, call.counted, 0);
    for message in messages {
        send(&mut out, message).await?;
    }
    out.flush().await
}

async fn send(out: &mut Out<'_>, message: Message) -> Result<(), Failure> {
    let body_len = message.body.len() as u64;
    out.bytes(encode_head(&message.header, &[], body_len)?)
        .await?;
    out.body_begins().await?;
    out.bytes(message.body).await
}

/// One `FlightData`.
struct Message {
    header: Bytes,
    body: Bytes,
}

/// Makes the messages of one stream.
struct Encoder {
    message_bytes_max: u64,
    generator: IpcDataGenerator,
    dictionaries: DictionaryTracker,
    options: IpcWriteOptions,
    context: IpcWriteContext,
}

impl Encoder {
    fn new(client: Client) -> Self {
        let message_bytes_max = match client.takes_large_messages() {
            true => LARGE_MESSAGE_BYTES,
            false => DEFAULT_MESSAGE_BYTES,
        };
        Self {
            message_bytes_max,
            generator: IpcDataGenerator::default(),
            dictionaries: DictionaryTracker::new(false),
            options: IpcWriteOptions::default(),
            context: IpcWriteContext::default(),
        }
    }

    fn schema(&mut self, schema: &Schema) -> Message {
        let data: FlightData = SchemaAsIpc::new(schema, &self.options).into();
        // So that it numbers its dictionaries as the schema does.
        let _ = self.generator.schema_to_bytes_with_dictionary_tracker(
            schema,
            &mut self.dictionaries,
            &self.options,
        );
        Message {
            header: data.data_header,
            body: Bytes::new(),
        }
    }

    fn batch(&mut self, batch: &RecordBatch) -> Result<Vec<Message>> {
        let mut messages = Vec::new();
        let rows = rows_of(batch, self.message_bytes_max);
        let mut from = 0;
        while from < batch.num_rows() {
            let part = batch.slice(from, rows.min(batch.num_rows() - from));
            let encoded = self.generator.encode(
                &part,
                &mut self.dictionaries,
                &self.options,
                &mut self.context,
            );
            let (dictionaries, data) = encoded.map_err(arrow_error)?;
            messages.extend(dictionaries.into_iter().chain([data]).map(Message::from));
            from += part.num_rows();
        }
        Ok(messages)
    }
}

impl From<EncodedData> for Message {
    fn from(data: EncodedData) -> Self {
        Self {
            header: data.ipc_message.into(),
            body: data.arrow_data.into(),
        }
    }
}

/// Rows of a batch that make a message of about so many bytes.
fn rows_of(batch: &RecordBatch, message_bytes_max: u64) -> usize {
    // A part of a column of views carries the bytes of all of it.
    let has_views = batch.columns().iter().any(|column| {
        let of = column.data_type().to_string();
        of.contains("View")
    });
    let bytes = batch.columns().iter().map(|column| {
        let data = column.to_data();
        data.get_slice_memory_size().unwrap_or(0) as u64
    });
    let parts = bytes.sum::<u64>().div_ceil(message_bytes_max).max(1);
    match has_views {
        true => batch.num_rows(),
        false => {
            let parts = usize::try_from(parts).unwrap_or(usize::MAX);
            batch.num_rows().div_ceil(parts).max(1)
        }
    }
}
