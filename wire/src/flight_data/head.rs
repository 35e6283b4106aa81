//! Everything of a message that comes before its body.

use bytes::{BufMut, Bytes, BytesMut};

use super::{APP_METADATA, BODY, DESCRIPTOR, HEADER, LEN};
use crate::error::{Error, Result};

/// The bytes of one message up to the first of its `body_len` body bytes: gRPC prefix, protobuf
/// fields, and the body's tag and length (which are left out where there is no body).
///
/// # Errors
/// `invalid_argument` where the message would pass the 4 GiB that gRPC can say.
pub fn encode_head(data_header: &[u8], app_metadata: &[u8], body_len: u64) -> Result<Bytes> {
    let mut out =
        BytesMut::with_capacity(data_header.len() + app_metadata.len() + HEAD_OVERHEAD_BYTES);
    encode_head_into(&mut out, &[], data_header, app_metadata, body_len)?;
    Ok(out.freeze())
}

/// [`encode_head`] behind what `out` already holds, with a `FlightDescriptor` (empty for none):
/// for a writer that joins small messages, or that begins a put.
///
/// Where there is a body, zeros behind `data_header` (which readers skip) move it to an offset of
/// 48 mod 64 within the protobuf message. That is where PyArrow's receive path then has it on a
/// 16-byte boundary; without care it sees it at an odd address.
///
/// # Errors
/// As [`encode_head`].
pub fn encode_head_into(
    out: &mut BytesMut,
    descriptor: &[u8],
    data_header: &[u8],
    app_metadata: &[u8],
    body_len: u64,
) -> Result<()> {
    let others = field_len(DESCRIPTOR, descriptor.len() as u64)
        + field_len(APP_METADATA, app_metadata.len() as u64);
    let body_prefix = field_len(BODY, body_len) - body_len;
    let padding = if body_len == 0 || data_header.is_empty() {
        0
    } else {
        alignment_padding(others + body_prefix, data_header.len() as u64)
    };
    let header_len = data_header.len() as u64 + padding;
    let message_len = others + field_len(HEADER, header_len) + body_prefix + body_len;
    let Ok(message_len) = u32::try_from(message_len) else {
        return Err(Error::invalid(format!(
            "message is too large for gRPC; bytes=`{message_len}` expected at most {}",
            u32::MAX
        )));
    };
    out.put_u8(0);
    out.put_u32(message_len);
    put_field(out, DESCRIPTOR, descriptor, 0);
    put_field(out, HEADER, data_header, padding);
    put_field(out, APP_METADATA, app_metadata, 0);
    if body_len > 0 {
        put_varint(out, BODY << 3 | LEN);
        put_varint(out, body_len);
    }
    Ok(())
}

/// gRPC prefix, tags, lengths and padding: never more than this.
pub(super) const HEAD_OVERHEAD_BYTES: usize = 112;
const BODY_OFFSET_MODULUS: u64 = 64;
const BODY_OFFSET: u64 = 48;

/// How many zeros behind a header of `header_len` bytes put the body where it should be, when the
/// rest of what comes before the body takes `rest` bytes.
fn alignment_padding(rest: u64, header_len: u64) -> u64 {
    let zeros = |length_bytes: u64| {
        let body_at = rest + TAG_BYTES + length_bytes + header_len;
        (BODY_OFFSET + BODY_OFFSET_MODULUS - body_at % BODY_OFFSET_MODULUS) % BODY_OFFSET_MODULUS
    };
    // The zeros can make the header's length take one byte more, which moves the body by one. Then
    // one zero less will do, unless just that zero was what made it longer.
    let short = varint_len(header_len);
    let padding = zeros(short);
    if varint_len(header_len + padding) == short {
        return padding;
    }
    let padding = zeros(short + 1);
    if varint_len(header_len + padding) > short {
        return padding;
    }
    padding + BODY_OFFSET_MODULUS
}

/// Of `data_header`.
const TAG_BYTES: u64 = 1;

/// Bytes of a length-delimited field; none for an empty one.
fn field_len(field: u64, len: u64) -> u64 {
    match len {
        0 => 0,
        _ => varint_len(field << 3 | LEN) + varint_len(len) + len,
    }
}

fn varint_len(value: u64) -> u64 {
    u64::from((64 - (value | 1).leading_zeros()).div_ceil(7))
}

fn put_field(out: &mut BytesMut, field: u64, bytes: &[u8], padding: u64) {
    let len = bytes.len() as u64 + padding;
    if len == 0 {
        return;
    }
    put_varint(out, field << 3 | LEN);
    put_varint(out, len);
    out.put_slice(bytes);
    out.put_bytes(0, usize::try_from(padding).unwrap_or(0));
}

pub(super) fn put_varint(out: &mut BytesMut, mut value: u64) {
    while value >= 0x80 {
        out.put_u8((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.put_u8((value & 0x7f) as u8);
}
