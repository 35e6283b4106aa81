//! Bytes as a damaged or hostile store may give them: each function takes any, and panics only where we
//! are wrong. `fuzz/` calls these with inputs that coverage leads to, property tests with their own.

use bytes::Bytes;
use twox_hash::XxHash3_128;

use crate::entry::{BLOCK_BYTES, Number};
use crate::format::{
    Unpacker, decode_stored, decode_value, encode_census, encode_gone, encode_hidden,
    encode_manifest, encode_settings, encode_sidecar, encode_stored, encode_value, read_census,
    read_gone, read_hidden, read_hot, read_manifest, read_settings, read_sidecar, read_tail,
};

/// Whichever the first byte says: an object, an object but for its seal, a description, one but for its
/// seal and its place, a block's frame.
pub fn any(bytes: &[u8]) {
    let Some((which, bytes)) = bytes.split_first() else {
        return;
    };
    let mut sealed = bytes.to_vec();
    sealed.extend_from_slice(&XxHash3_128::oneshot(bytes).to_le_bytes());
    match which % 5 {
        0 => object(bytes),
        1 => object(&sealed),
        2 => stored(bytes),
        3 => {
            sealed.extend_from_slice(&[0; 16]);
            stored(&sealed);
        }
        _ => frame(bytes),
    }
}

/// One tensor's description, under its seal.
pub fn stored(bytes: &[u8]) {
    let Some(stored) = decode_stored(bytes) else {
        return;
    };
    let mut again = Vec::new();
    encode_stored(&stored, &mut again);
    assert_eq!(again, bytes, "{stored:?}");
    again.clear();
    encode_value(&stored, &mut again);
    let id = stored.description.id.clone();
    assert_eq!(decode_value(id, &again), Some(stored));
}

/// A frame, behind the number of bytes that its block should have.
pub fn frame(bytes: &[u8]) {
    let Some((len, frame)) = bytes.split_first_chunk() else {
        return;
    };
    let len = usize::try_from(u64::from(u32::from_le_bytes(*len)) % (BLOCK_BYTES + 1)).unwrap_or(0);
    let mut block = Vec::new();
    if let Ok(mut unpacker) = Unpacker::new() {
        let is_right = unpacker.unpack(frame, len, &mut block);
        assert!(!is_right || block.len() == len);
        assert!(block.capacity() <= len.max(8), "{}", block.capacity());
    }
}

/// A sidecar, a log record, a list of names, a record of what is hidden or of settings, a census, or of the index a manifest or
/// a table's tail.
pub fn object(bytes: &[u8]) {
    // Where the number of one stands: any is its own.
    let number = bytes.get(12..).and_then(|rest| rest.first_chunk());
    let number = Number(number.map_or(0, |number| u64::from_le_bytes(*number)));
    if let Ok(sidecar) = read_sidecar(number, bytes) {
        let again = encode_sidecar(sidecar.number, sidecar.file_bytes, &sidecar.entries);
        assert_eq!(again, bytes, "{sidecar:?}");
    }
    if let Ok(gone) = read_gone(number, bytes) {
        assert_eq!(encode_gone(number, &gone), bytes, "{gone:?}");
    }
    if let Ok(hidden) = read_hidden(number, bytes) {
        assert_eq!(encode_hidden(number, &hidden), bytes, "{hidden:?}");
    }
    if let Ok(rows) = read_settings(number, bytes) {
        assert_eq!(encode_settings(number, &rows), bytes, "{rows:?}");
    }
    if let Ok(census) = read_census(number.0, bytes) {
        assert_eq!(encode_census(number.0, &census), bytes, "{census:?}");
    }
    if let Ok(manifest) = read_manifest(number.0, bytes) {
        assert_eq!(encode_manifest(number.0, &manifest), bytes, "{manifest:?}");
    }
    if let Ok(tail) = read_tail(number.0, bytes) {
        let block = tail.block_of(bytes);
        assert!(block < tail.blocks().max(1));
        assert!(
            tail.place(block)
                .is_none_or(|place| place.start <= place.end)
        );
    }
    if let Ok(names) = read_hot(number, &Bytes::copy_from_slice(bytes)) {
        assert!(names.count() <= bytes.len());
    }
}
