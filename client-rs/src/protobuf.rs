//! The little of protobuf and of gRPC's framing that the requests and the PutResult need.

use bowstring_wire::error::{Error, Result};

/// Appends the tag and the length of a length-delimited field; its bytes are the caller's to send.
pub(crate) fn put_length(out: &mut Vec<u8>, field: u32, length: usize) {
    put_varint(out, u64::from(field << 3 | 2));
    put_varint(out, length as u64);
}

/// Appends a length-delimited field.
pub(crate) fn put_bytes(out: &mut Vec<u8>, field: u32, bytes: &[u8]) {
    put_length(out, field, bytes.len());
    out.extend_from_slice(bytes);
}

/// Appends a number.
pub(crate) fn put_number(out: &mut Vec<u8>, field: u32, number: u64) {
    put_varint(out, u64::from(field << 3));
    put_varint(out, number);
}

/// The five bytes before a message of `length` bytes.
///
/// # Errors
/// `invalid_argument` past the 4 GiB that gRPC can say.
pub(crate) fn grpc_prefix(length: usize) -> Result<[u8; 5]> {
    let [a, b, c, d] = u32::try_from(length)
        .map_err(|_| Error::invalid(format!("a message is too long for gRPC, bytes=`{length}`")))?
        .to_be_bytes();
    Ok([0, a, b, c, d])
}

/// The first length-delimited field of that number in `message`; `None` where there is none, or `message` is malformed.
pub(crate) fn find_bytes(mut message: &[u8], field: u32) -> Option<&[u8]> {
    while !message.is_empty() {
        let tag = take_varint(&mut message)?;
        let length = match tag & 7 {
            0 => take_varint(&mut message).map(|_| 0)?,
            1 => 8,
            2 => usize::try_from(take_varint(&mut message)?).ok()?,
            5 => 4,
            _ => return None,
        };
        let (value, rest) = message.split_at_checked(length)?;
        if tag == u64::from(field << 3 | 2) {
            return Some(value);
        }
        message = rest;
    }
    None
}

fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push((value & 0x7f) as u8);
}

fn take_varint(from: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = from.split_first()?;
        *from = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if *byte < 0x80 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_found() {
        let long = vec![7; 300];
        let mut out = Vec::new();
        put_number(&mut out, 1, u64::MAX);
        put_bytes(&mut out, 3, b"x");
        put_bytes(&mut out, 1000, &long);
        assert_eq!(find_bytes(&out, 3), Some(&b"x"[..]));
        assert_eq!(find_bytes(&out, 1000), Some(&long[..]));
        assert_eq!(find_bytes(&out, 2), None);
        for cut in 0..out.len() {
            assert_eq!(find_bytes(&out[..cut], 1000), None);
        }
    }
}
