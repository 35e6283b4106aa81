//! One DoGet: a ticket out, batches back, and what the last of them said.

use arrow_array::RecordBatch;
use arrow_flight::Ticket;
use arrow_flight::decode::{DecodedPayload, FlightDataDecoder};
use arrow_flight::error::FlightError;
use arrow_schema::SchemaRef;
use bowstring_wire::closing::ClosingKeys;
use bowstring_wire::error::Error as WireError;
use bytes::Bytes;
use futures::TryStreamExt as _;

use crate::Error;
use crate::client::{Client, refused};

/// What a get sends.
pub struct Get {
    /// The columns.
    pub schema: SchemaRef,
    decoder: FlightDataDecoder,
    /// What the closing batches named.
    pub closing: ClosingKeys,
    /// Whether one came: a stream of many without it is not complete.
    pub closed: bool,
}

impl Get {
    /// Asks for what a ticket says.
    pub async fn start(client: &mut Client, ticket: impl Into<Bytes>) -> Result<Get, Error> {
        let response = client
            .flight
            .do_get(Ticket::new(ticket))
            .await
            .map_err(refused)?;
        let messages = response.into_inner().map_err(FlightError::from);
        let mut decoder = FlightDataDecoder::new(messages);
        let first = decoder.try_next().await.map_err(failed)?;
        match first.map(|first| first.payload) {
            Some(DecodedPayload::Schema(schema)) => Ok(Get {
                schema,
                decoder,
                closing: ClosingKeys::default(),
                closed: false,
            }),
            _ => Err(WireError::internal("a get that begins without a schema").into()),
        }
    }

    /// The next batch with rows.
    pub async fn next(&mut self) -> Result<Option<RecordBatch>, Error> {
        while let Some(data) = self.decoder.try_next().await.map_err(failed)? {
            let said = &data.inner.app_metadata;
            if !said.is_empty() {
                self.closing.add(said)?;
                self.closed = true;
            }
            if let DecodedPayload::RecordBatch(batch) = data.payload
                && batch.num_rows() > 0
            {
                return Ok(Some(batch));
            }
        }
        Ok(None)
    }
}

fn failed(error: FlightError) -> Error {
    match error {
        FlightError::Tonic(status) => refused(*status),
        other => WireError::internal(format!(
            "the server's answer cannot be understood; source=`{other}`"
        ))
        .into(),
    }
}
