//! `bowstring get`: one tensor into a file.

use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_buffer::{Buffer, MutableBuffer};
use arrow_schema::Schema;
use bowstring_wire::dtype::DType;
use bowstring_wire::error::Error as WireError;
use bowstring_wire::form::storage_width;
use bowstring_wire::metadata::Metadata;
use bowstring_wire::name::Key;
use bowstring_wire::schema::{
    CHECKSUM_KEY, DTYPE_KEY, KEY_KEY, NAMESPACE_KEY, SHAPE_KEY, USER_PREFIX, VERSION_KEY,
};
use bowstring_wire::shape::Shape;
use bowstring_wire::ticket::{Layout, Missing, Select, Ticket};
use serde_json::json;

use crate::Error;
use crate::client::Client;
use crate::format::{self, Format, Tensor};
use crate::get_stream::Get as Stream;
use crate::out::{self, push_json};
use crate::output::To;
use crate::put_stream::slice_bytes;
use crate::target::Space;

/// Get one tensor into a file.
#[derive(Debug, clap::Args)]
pub struct Get {
    #[command(flatten)]
    space: Space,
    #[command(flatten)]
    to: To,
    /// The key of the tensor
    key: Key,
    /// Only these rows of the leading axis, the second not among them
    #[arg(long, value_name = "START:END", value_parser = range)]
    rows: Option<(u64, u64)>,
}

impl Get {
    pub(crate) async fn run(self) -> Result<u8, Error> {
        let format = self.to.format(Format::Npy)?;
        let output = self.to.open()?;
        let ticket = Ticket {
            namespace: self.space.namespace,
            select: Select::Key {
                key: self.key.clone(),
                rows: self.rows,
                unless_version: None,
                version: None,
            },
            // As values they can be of any length, as columns they are to be what a put takes.
            layout: Some(if format.has_columns() {
                Layout::Rows
            } else {
                Layout::Flat
            }),
            max_message_bytes: None,
            fixed: None,
            with: Vec::new(),
            missing: Missing::default(),
            partitions: None,
        };
        let mut client = Client::connect(&self.space.target).await?;
        let mut stream = Stream::start(&mut client, ticket.to_json()).await?;
        let mut left_out = Vec::new();
        let mut bytes = 0;
        if format.has_columns() {
            let schema = Arc::new(without_place(&stream.schema));
            let mut writer = format::create(output.writer(), output.name(), format, &schema)?;
            while let Some(batch) = stream.next().await? {
                bytes += slice_bytes(&batch);
                let batch = RecordBatch::try_new(Arc::clone(&schema), batch.columns().to_vec());
                let batch =
                    batch.map_err(|error| Error::file("cannot write", output.name(), error))?;
                writer.write(&batch)?;
            }
            left_out.extend(writer.finish()?);
        } else {
            let mut data = MutableBuffer::new(0);
            while let Some(batch) = stream.next().await? {
                append(&mut data, &batch);
            }
            bytes = data.len();
            let tensor = tensor(&stream.schema, self.key.as_str(), data.into())?;
            let batch = format::opaque(&[tensor]);
            let batch = batch.map_err(|error| Error::file("cannot write", output.name(), error))?;
            let mut writer =
                format::create(output.writer(), output.name(), format, &batch.schema())?;
            writer.write(&batch)?;
            left_out.extend(writer.finish()?);
        }
        let file = output.name().to_owned();
        output.commit()?;
        for said in left_out {
            eprintln!("bowstring: {said}");
        }
        if self.to.json {
            let said = |name: &str| stream.schema.metadata().get(name);
            let done = json!({"key": self.key, "version": said(VERSION_KEY), "bytes": bytes, "file": file});
            let mut text = String::new();
            push_json(&mut text, &done);
            out::print(&text)?;
        }
        Ok(0)
    }
}

/// What the file is to say of the tensor: not where it was.
fn without_place(schema: &Schema) -> Schema {
    let mut metadata = schema.metadata().clone();
    for name in [NAMESPACE_KEY, KEY_KEY, VERSION_KEY, CHECKSUM_KEY] {
        metadata.remove(name);
    }
    schema.clone().with_metadata(metadata)
}

fn append(data: &mut MutableBuffer, batch: &RecordBatch) {
    let column = batch.column(0).to_data();
    let width = column.data_type().primitive_width().unwrap_or(0);
    if let Some(values) = column.buffers().first() {
        let start = column.offset() * width;
        let end = start + column.len() * width;
        data.extend_from_slice(values.get(start..end).unwrap_or(&[]));
    }
}

fn tensor(schema: &Schema, key: &str, data: Buffer) -> Result<Tensor, WireError> {
    let said = |name: &str| {
        let value = schema.metadata().get(name);
        value.ok_or_else(|| {
            WireError::internal(format!("a get did not say what it is; missing=`{name}`"))
        })
    };
    let dtype = DType::parse(said(DTYPE_KEY)?)?;
    let dims: Vec<u64> = serde_json::from_str(said(SHAPE_KEY)?)
        .map_err(|_| WireError::internal("a get's shape is none"))?;
    let shape = Shape::new(&dims)?;
    let expected = shape.bytes(dtype)?;
    if expected != data.len() as u64 || !(data.len() as u64).is_multiple_of(storage_width(dtype)) {
        return Err(WireError::unavailable(format!(
            "the tensor came in part; bytes=`{}` expected `{expected}`",
            data.len()
        )));
    }
    let user = schema.metadata().iter().filter_map(|(name, value)| {
        Some((name.strip_prefix(USER_PREFIX)?.to_owned(), value.clone()))
    });
    Ok(Tensor {
        key: Some(key.to_owned()),
        dtype,
        shape,
        data,
        metadata: Metadata::new(user)?,
    })
}

fn range(text: &str) -> Result<(u64, u64), String> {
    let ends = text
        .split_once(':')
        .and_then(|(start, end)| Some((start.parse().ok()?, end.parse().ok()?)));
    ends.filter(|(start, end)| start <= end)
        .ok_or_else(|| format!("expected START:END, as in 0:100; rows=`{text}`"))
}
