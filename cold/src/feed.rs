//! Bytes as a damaged or hostile store may give them: each function takes any, and panics only where we
//! are wrong. `fuzz/` calls these with inputs that coverage leads to, property tests with their own.

use crate::format::{
    decode_stored, decode_value, encode_gone, encode_sidecar, encode_stored, encode_value,
    read_gone, read_sidecar,
};

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

/// A sidecar or a log record.
pub fn object(bytes: &[u8]) {
    if let Ok(sidecar) = read_sidecar(bytes) {
        let again = encode_sidecar(sidecar.number, sidecar.file_bytes, &sidecar.entries);
        assert_eq!(again, bytes, "{sidecar:?}");
    }
    if let Ok((number, gone)) = read_gone(bytes) {
        assert_eq!(encode_gone(number, &gone), bytes, "{gone:?}");
    }
}
