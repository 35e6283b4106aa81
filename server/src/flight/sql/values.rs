//! The values of a statement's parameters, as a client puts them: rows of numbers, texts, bytes, truth values, times and
//! lists of numbers.

use std::collections::HashMap;
use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_ipc::convert::fb_to_schema;
use arrow_ipc::reader::read_record_batch;
use arrow_ipc::{Type, root_as_message};
use arrow_schema::{Schema, SchemaRef};
use bowstring_wire::body::Body;
use bowstring_wire::error::{Error, Result};
use bowstring_wire::extension::NAME_KEY;
use bowstring_wire::field::{Logical, child, logical, lookup, type_name};
use bowstring_wire::flight_data::Event;
use bowstring_wire::ipc_check::{self, Tree};
use bytes::Bytes;

use crate::flight::do_put::Messages;

/// All values together.
const BYTES_MAX: u64 = 1 << 20;
/// Rows: so often one call runs a statement.
const ROWS_MAX: u64 = 10_000;
/// Values of a row.
const COLUMNS_MAX: usize = 1_000;

/// Reads the rest of a put whose descriptor has come: batches that have rows.
///
/// # Errors
/// `invalid_argument` for what is none, `unimplemented` for types that no parameter has, `resource_exhausted` past a
/// limit.
pub async fn read(messages: &mut Messages<'_>) -> Result<Vec<RecordBatch>> {
    let mut reading = Reading::default();
    let mut header = None;
    let mut body = Bytes::new();
    let mut bytes = 0_u64;
    while let Some(event) = messages.next().await? {
        match event {
            Event::Header(bytes) => header = Some(bytes),
            Event::BodyStart { len } => {
                bytes = len.saturating_add(bytes);
                if bytes > BYTES_MAX {
                    return Err(Error::exhausted(format!(
                        "the values of a statement's parameters are too large; bytes=`{bytes}` limit=`{BYTES_MAX}`"
                    )));
                }
                body = whole(&messages.body(len).await?)?;
            }
            Event::MessageEnd => {
                if let Some(header) = header.take() {
                    reading.message(&header, std::mem::take(&mut body))?;
                }
            }
            Event::Descriptor(_) | Event::AppMetadata(_) | Event::BodyChunk(_) => {}
        }
    }
    Ok(reading.batches)
}

/// A body in one piece.
pub fn whole(body: &Body) -> Result<Bytes> {
    let mut whole = vec![0; usize::try_from(body.len()).unwrap_or(usize::MAX)];
    let copied = body.copy_to(0..body.len(), &mut whole);
    copied.ok_or_else(|| Error::internal("a body is shorter than it is"))?;
    Ok(whole.into())
}

#[derive(Default)]
struct Reading {
    columns: Option<(SchemaRef, Tree)>,
    rows: u64,
    batches: Vec<RecordBatch>,
}

impl Reading {
    fn message(&mut self, header: &[u8], body: Bytes) -> Result<()> {
        let Some((schema, tree)) = &self.columns else {
            self.columns = Some(columns(header)?);
            return Ok(());
        };
        // Nothing is read by its numbers that was not compared with what came.
        let rows = ipc_check::batch(header, body.len() as u64, tree)?.rows;
        if rows == 0 {
            return Ok(());
        }
        self.rows = rows.saturating_add(self.rows);
        if self.rows > ROWS_MAX {
            return Err(Error::exhausted(format!(
                "too many rows of values for a statement's parameters; got=`{}` limit=`{ROWS_MAX}`",
                self.rows
            )));
        }
        self.batches.push(batch(header, body, schema)?);
        Ok(())
    }
}

/// A batch whose header was checked.
pub fn batch(header: &[u8], body: Bytes, schema: &SchemaRef) -> Result<RecordBatch> {
    let unread = || Error::internal("a message that was checked cannot be read");
    let message = root_as_message(header).map_err(|_| unread())?;
    let batch = message.header_as_record_batch().ok_or_else(unread)?;
    let batch = read_record_batch(
        &body.into(),
        batch,
        schema.clone(),
        &HashMap::new(),
        None,
        &message.version(),
    );
    batch.map_err(|error| Error::invalid(format!("a batch cannot be read; {error}")))
}

fn columns(header: &[u8]) -> Result<(SchemaRef, Tree)> {
    let schema = ipc_check::schema(header)?;
    let mut tree = Tree::default();
    let fields = schema.fields().unwrap_or_default();
    if fields.len() > COLUMNS_MAX {
        return Err(Error::exhausted(format!(
            "too many parameters; got=`{}` limit=`{COLUMNS_MAX}`",
            fields.len()
        )));
    }
    for field in fields {
        match logical(&field)? {
            Logical::Null
            | Logical::Bool
            | Logical::Int { .. }
            | Logical::Float { .. }
            | Logical::Text { .. }
            | Logical::Bytes { .. }
            | Logical::TextView
            | Logical::BytesView => {}
            Logical::List { .. } | Logical::FixedList(_) if is_list_of_numbers(&field)? => {}
            Logical::Other { .. } if matches!(field.type_type(), Type::Timestamp | Type::Date) => {}
            _ => {
                return Err(Error::unimplemented(format!(
                    "a parameter's value is a number, a text, bytes, a truth value, a time, or a list of numbers that is \
                     of no extension type; got=`{}`; give others as text",
                    type_name(&field)
                )));
            }
        }
        tree.push(field)?;
    }
    let columns = match schema.fields() {
        Some(_) => fb_to_schema(schema),
        None => Schema::empty(),
    };
    Ok((Arc::new(columns), tree))
}

/// An extension type would say more of it than a value keeps.
fn is_list_of_numbers(field: &arrow_ipc::Field<'_>) -> Result<bool> {
    if lookup(field.custom_metadata(), NAME_KEY).is_some() {
        return Ok(false);
    }
    let mut item = child(field);
    while let Some(field) = item {
        match logical(&field)? {
            Logical::Int { .. } | Logical::Float { .. } => return Ok(true),
            Logical::FixedList(_) => item = child(&field),
            _ => return Ok(false),
        }
    }
    Ok(false)
}
