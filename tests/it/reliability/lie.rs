//! Arrow IPC headers whose numbers are the caller's, and schemas and batches as arrow-rs writes them.

use arrow_array::RecordBatch;
use arrow_ipc::writer::{DictionaryTracker, IpcDataGenerator, IpcWriteContext, IpcWriteOptions};
use arrow_ipc::{
    BodyCompressionBuilder, BodyCompressionMethod, Buffer, CompressionType, FieldNode,
    MessageBuilder, MessageHeader, MetadataVersion, RecordBatchBuilder,
};
use arrow_schema::{DataType, Field, Schema};
use flatbuffers::FlatBufferBuilder;

use super::stream::Message;

/// A record batch's header, number by number.
#[derive(Clone, Debug)]
pub struct Batch {
    pub rows: i64,
    /// Values and nulls.
    pub nodes: Vec<(i64, i64)>,
    /// First byte and bytes.
    pub buffers: Vec<(i64, i64)>,
    pub body_length: i64,
    pub compression: Option<CompressionType>,
    pub variadic: Vec<i64>,
}

impl Batch {
    /// `rows` values of four bytes in a primitive column.
    pub fn of(rows: i64) -> Self {
        Self {
            rows,
            nodes: vec![(rows, 0)],
            buffers: vec![(0, 0), (0, 4 * rows)],
            body_length: (4 * rows + 7) / 8 * 8,
            compression: None,
            variadic: Vec::new(),
        }
    }

    pub fn header(&self) -> Vec<u8> {
        let mut fbb = FlatBufferBuilder::new();
        let nodes = self
            .nodes
            .iter()
            .map(|(len, nulls)| FieldNode::new(*len, *nulls));
        let nodes = fbb.create_vector_from_iter(nodes);
        let buffers = self.buffers.iter().map(|(at, len)| Buffer::new(*at, *len));
        let buffers = fbb.create_vector_from_iter(buffers);
        let variadic = (!self.variadic.is_empty()).then(|| fbb.create_vector(&self.variadic));
        let compression = self.compression.map(|codec| {
            let mut compression = BodyCompressionBuilder::new(&mut fbb);
            compression.add_codec(codec);
            compression.add_method(BodyCompressionMethod::BUFFER);
            compression.finish()
        });
        let mut batch = RecordBatchBuilder::new(&mut fbb);
        batch.add_length(self.rows);
        batch.add_nodes(nodes);
        batch.add_buffers(buffers);
        if let Some(compression) = compression {
            batch.add_compression(compression);
        }
        if let Some(variadic) = variadic {
            batch.add_variadicBufferCounts(variadic);
        }
        let batch = batch.finish().as_union_value();
        let mut message = MessageBuilder::new(&mut fbb);
        message.add_version(MetadataVersion::V5);
        message.add_header_type(MessageHeader::RecordBatch);
        message.add_header(batch);
        message.add_bodyLength(self.body_length);
        let message = message.finish();
        fbb.finish(message, None);
        fbb.finished_data().to_vec()
    }

    /// The batch with a body of `bytes` zeros.
    pub fn message(&self, bytes: usize) -> Message {
        Message::new(self.header(), vec![0; bytes])
    }
}

/// A column.
pub fn column(data_type: DataType) -> Field {
    Field::new("x", data_type, false)
}

/// A `fixed_shape_tensor` column whose extension metadata is the caller's.
pub fn tensor_column(item: DataType, list_size: i32, metadata: &str) -> Field {
    let item = Field::new("item", item, false).into();
    let extension = [
        ("ARROW:extension:name", "arrow.fixed_shape_tensor"),
        ("ARROW:extension:metadata", metadata),
    ];
    let pairs = extension.map(|(name, value)| (name.to_owned(), value.to_owned()));
    column(DataType::FixedSizeList(item, list_size)).with_metadata(pairs.into())
}

/// A schema message.
pub fn schema(fields: Vec<Field>, metadata: &[(&str, &str)]) -> Message {
    let pairs = metadata.iter();
    let pairs = pairs.map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    let schema = Schema::new_with_metadata(fields, pairs.collect());
    let mut tracker = DictionaryTracker::new(false);
    let options = IpcWriteOptions::default();
    let encoded = IpcDataGenerator::default().schema_to_bytes_with_dictionary_tracker(
        &schema,
        &mut tracker,
        &options,
    );
    Message::new(encoded.ipc_message, [])
}

/// A whole stream as arrow-rs writes it, dictionaries and all.
pub fn by_arrow(batch: &RecordBatch, metadata: &[(&str, &str)]) -> Vec<Message> {
    let fields = batch
        .schema()
        .fields()
        .iter()
        .map(|field| (**field).clone())
        .collect();
    let mut messages = vec![schema(fields, metadata)];
    let generator = IpcDataGenerator::default();
    let mut tracker = DictionaryTracker::new(false);
    let options = IpcWriteOptions::default();
    // The tracker learns dictionaries' numbers from the schema.
    let _ =
        generator.schema_to_bytes_with_dictionary_tracker(&batch.schema(), &mut tracker, &options);
    let (dictionaries, encoded) = generator
        .encode(
            batch,
            &mut tracker,
            &options,
            &mut IpcWriteContext::default(),
        )
        .expect("arrow-rs writes its own arrays");
    for encoded in dictionaries.into_iter().chain([encoded]) {
        messages.push(Message::new(encoded.ipc_message, encoded.arrow_data));
    }
    messages
}
