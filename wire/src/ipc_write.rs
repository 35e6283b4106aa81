//! Arrow IPC message headers as we write them: flatbuffers, no body.

use arrow_ipc::{
    Buffer, FieldNode, MessageBuilder, MessageHeader, MetadataVersion, RecordBatchBuilder,
};
use bytes::Bytes;
use flatbuffers::{FlatBufferBuilder, UnionWIPOffset, WIPOffset};

/// What one field of a batch has: values and nulls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Node {
    /// Values, nulls included.
    pub len: u64,
    /// How many of them are null.
    pub nulls: u64,
}

impl Node {
    /// So many values, none of them null.
    pub fn of(len: u64) -> Self {
        Self { len, nulls: 0 }
    }
}

/// Where one buffer lies in the body: first byte and bytes, in this order.
pub type Place = (u64, u64);

/// A buffer that is not there, as a validity bitmap without nulls.
pub const ABSENT: Place = (0, 0);

/// The header of a record batch of `rows` rows. `nodes` and `buffers` follow the schema depth
/// first; all numbers are at most `i64::MAX`, which a legal shape has made sure of.
pub fn record_batch(rows: u64, nodes: &[Node], buffers: &[Place], body_len: u64) -> Bytes {
    let mut fbb = FlatBufferBuilder::with_capacity(160 + 16 * (nodes.len() + buffers.len()));
    let places = buffers
        .iter()
        .map(|&(at, len)| Buffer::new(i64_of(at), i64_of(len)));
    let places = fbb.create_vector_from_iter(places);
    let nodes = nodes
        .iter()
        .map(|node| FieldNode::new(i64_of(node.len), i64_of(node.nulls)));
    let nodes = fbb.create_vector_from_iter(nodes);
    let mut batch = RecordBatchBuilder::new(&mut fbb);
    batch.add_length(i64_of(rows));
    batch.add_nodes(nodes);
    batch.add_buffers(places);
    let batch = batch.finish().as_union_value();
    finish(fbb, MessageHeader::RecordBatch, batch, body_len)
}

/// Wraps a header into a message and gives the bytes.
pub fn finish(
    mut fbb: FlatBufferBuilder<'_>,
    kind: MessageHeader,
    header: WIPOffset<UnionWIPOffset>,
    body_len: u64,
) -> Bytes {
    let mut message = MessageBuilder::new(&mut fbb);
    message.add_bodyLength(i64_of(body_len));
    message.add_header(header);
    message.add_version(MetadataVersion::V5);
    message.add_header_type(kind);
    let message = message.finish();
    fbb.finish(message, None);
    let (buffer, start) = fbb.collapse();
    Bytes::from(buffer).slice(start..)
}

/// `bytes` rounded up to the 8 that Arrow asks of every buffer.
pub(crate) fn padded(bytes: u64) -> u64 {
    bytes.next_multiple_of(8)
}

fn i64_of(value: u64) -> i64 {
    debug_assert!(i64::try_from(value).is_ok());
    i64::try_from(value).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use arrow_ipc::root_as_message;

    use super::*;

    #[test]
    fn a_batch_is_read_back() {
        let nodes = [Node::of(3), Node { len: 9, nulls: 2 }];
        let header = record_batch(3, &nodes, &[ABSENT, (0, 2), (8, 36)], 48);
        let message = root_as_message(&header).unwrap();
        assert_eq!(message.version(), MetadataVersion::V5);
        assert_eq!(message.bodyLength(), 48);
        let batch = message.header_as_record_batch().unwrap();
        assert_eq!(batch.length(), 3);
        let read: Vec<_> = batch
            .nodes()
            .unwrap()
            .iter()
            .map(|n| (n.length(), n.null_count()))
            .collect();
        assert_eq!(read, [(3, 0), (9, 2)]);
        let read: Vec<_> = batch
            .buffers()
            .unwrap()
            .iter()
            .map(|b| (b.offset(), b.length()))
            .collect();
        assert_eq!(read, [(0, 0), (0, 2), (8, 36)]);
        assert!(batch.compression().is_none());
    }
}
