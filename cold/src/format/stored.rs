//! One tensor of the cold tier, but for its bytes, in bytes.
//!
//! ```text
//! stored      name | value
//! name        tenant | namespace | key                        (each behind its length, a varint)
//! value       described | seal u128 | segment u64 | offset u64
//! described   hlc u64 | start u32 | flags u8 | dtype u8 | rank u8 | dims (varints) | checksum u128
//!             | [expires_at_ms varint] | [source version, zigzag varint] | [metadata behind its length]
//!             | xxh3-64 of each block, where there are several
//!             | [bytes of each block's frame u32, where it lies compressed]
//! ```
//! The seal is xxh3-128 over name and described: a description cannot pass for another key's. The place
//! stands behind it, since compaction moves a tensor and nothing else of it changes; a wrong place gives
//! bytes that do not have the checksum. One tensor has one encoding.

use bowstring_cache::Id;
use bowstring_wire::dtype::DType;
use bowstring_wire::limits::MAX_METADATA_BYTES;
use bowstring_wire::name::{Key, Namespace, Tenant};
use bowstring_wire::shape::Shape;
use bowstring_wire::version::Version;
use smallvec::SmallVec;
use twox_hash::XxHash3_128;

use super::blocks::table_len;
use super::cursor::{Cursor, put_bytes, put_varint, unzigzag, zigzag};
use super::pack::are_frames;
use crate::entry::{Description, Number, Place, Prefix, Stored};

const EXPIRES: u8 = 1;
const SOURCE_VERSION: u8 = 2;
const METADATA: u8 = 4;
const PACKED: u8 = 8;

/// Bytes of the place, with which a value ends.
const PLACE_BYTES: usize = 16;
const SEAL_BYTES: usize = 16;

/// Appends name and value.
pub fn encode_stored(stored: &Stored, out: &mut Vec<u8>) {
    let from = out.len();
    put_name(&stored.description.id, out);
    put_described(stored, out);
    let seal = XxHash3_128::oneshot(out.get(from..).unwrap_or_default());
    put_end(seal, stored.place, out);
}

/// Reads what [`encode_stored`] wrote; `None` for anything else.
pub fn decode_stored(bytes: &[u8]) -> Option<Stored> {
    let (sealed, place) = open(bytes)?;
    let mut cursor = Cursor::new(sealed);
    let id = name(&mut cursor)?;
    described(id, cursor, place)
}

/// Appends the value alone, where the name is kept apart. Its seal covers the name all the same.
pub fn encode_value(stored: &Stored, out: &mut Vec<u8>) {
    let from = out.len();
    put_described(stored, out);
    let seal = named(&stored.description.id, out.get(from..).unwrap_or_default());
    put_end(XxHash3_128::oneshot(&seal), stored.place, out);
}

/// Reads what [`encode_value`] wrote for this very name; `None` for anything else.
pub fn decode_value(id: Id, value: &[u8]) -> Option<Stored> {
    let (described_bytes, end) = split_end(value)?;
    let place = check(&named(&id, described_bytes), end)?;
    described(id, Cursor::new(described_bytes), place)
}

/// The version and the place of a value, without a look at the rest and its seal.
pub fn peek(value: &[u8]) -> Option<(Version, Place)> {
    let mut cursor = Cursor::new(value);
    let version = version(&mut cursor)?;
    Some((version, place(split_end(value)?.1)?))
}

/// What is sealed, and the place behind it, of bytes whose seal agrees.
fn open(bytes: &[u8]) -> Option<(&[u8], Place)> {
    let (sealed, end) = split_end(bytes)?;
    Some((sealed, check(sealed, end)?))
}

type End = [u8; SEAL_BYTES + PLACE_BYTES];

fn split_end(bytes: &[u8]) -> Option<(&[u8], &End)> {
    bytes.split_last_chunk()
}

fn check(sealed: &[u8], end: &End) -> Option<Place> {
    let seal = Cursor::new(end).u128()?;
    (XxHash3_128::oneshot(sealed) == seal).then(|| place(end))?
}

fn place(end: &End) -> Option<Place> {
    let mut cursor = Cursor::new(end.get(SEAL_BYTES..)?);
    Some(Place {
        prefix: Prefix::OWN,
        segment: Number(cursor.u64()?),
        offset: cursor.u64()?,
    })
}

fn put_end(seal: u128, place: Place, out: &mut Vec<u8>) {
    out.extend_from_slice(&seal.to_le_bytes());
    out.extend_from_slice(&place.segment.0.to_le_bytes());
    out.extend_from_slice(&place.offset.to_le_bytes());
}

fn named(id: &Id, described: &[u8]) -> SmallVec<[u8; 512]> {
    let mut name = Vec::with_capacity(64);
    put_name(id, &mut name);
    let mut both = SmallVec::from_slice(&name);
    both.extend_from_slice(described);
    both
}

pub(super) fn put_name(id: &Id, out: &mut Vec<u8>) {
    put_bytes(out, id.tenant.as_str().as_bytes());
    put_bytes(out, id.namespace.as_str().as_bytes());
    put_bytes(out, id.key.as_str().as_bytes());
}

pub(super) fn name(cursor: &mut Cursor<'_>) -> Option<Id> {
    Some(Id {
        tenant: tenant(cursor)?,
        namespace: Namespace::parse(cursor.text()?).ok()?,
        key: Key::parse(cursor.text()?).ok()?,
    })
}

/// The one tenant that there is without credentials costs no allocation.
pub(super) fn tenant(cursor: &mut Cursor<'_>) -> Option<Tenant> {
    let public = Tenant::public();
    match cursor.text()? {
        text if text == public.as_str() => Some(public),
        text => Tenant::parse(text).ok(),
    }
}

pub(super) fn version(cursor: &mut Cursor<'_>) -> Option<Version> {
    Some(Version {
        hlc: cursor.u64()?,
        start: cursor.u32()?,
    })
}

fn put_described(stored: &Stored, out: &mut Vec<u8>) {
    let description = &stored.description;
    out.extend_from_slice(&description.version.hlc.to_le_bytes());
    out.extend_from_slice(&description.version.start.to_le_bytes());
    let flag = |there: bool, flag: u8| if there { flag } else { 0 };
    out.push(
        flag(description.expires_at_ms.is_some(), EXPIRES)
            | flag(description.source_version.is_some(), SOURCE_VERSION)
            | flag(!description.metadata.is_empty(), METADATA)
            | flag(stored.is_packed(), PACKED),
    );
    out.push(description.dtype.code());
    let dims = description.shape.dims();
    // A shape has at most 32 axes.
    out.push(u8::try_from(dims.len()).unwrap_or(u8::MAX));
    for dim in dims {
        put_varint(out, *dim);
    }
    out.extend_from_slice(&description.checksum.to_le_bytes());
    if let Some(expires) = description.expires_at_ms {
        put_varint(out, expires);
    }
    if let Some(source_version) = description.source_version {
        put_varint(out, zigzag(source_version));
    }
    if !description.metadata.is_empty() {
        put_bytes(out, &description.metadata);
    }
    for block in &stored.blocks {
        out.extend_from_slice(&block.to_le_bytes());
    }
    for frame in &stored.frames {
        out.extend_from_slice(&frame.to_le_bytes());
    }
}

fn described(id: Id, mut cursor: Cursor<'_>, place: Place) -> Option<Stored> {
    let version = version(&mut cursor)?;
    let flags = cursor.u8()?;
    if flags & !(EXPIRES | SOURCE_VERSION | METADATA | PACKED) != 0 {
        return None;
    }
    let dtype = DType::from_code(cursor.u8()?)?;
    let rank = cursor.u8()?;
    let dims: Option<SmallVec<[u64; 8]>> = (0..rank).map(|_| cursor.varint()).collect();
    let shape = Shape::new(&dims?).ok()?;
    let len = shape.bytes(dtype).ok()?;
    let checksum = cursor.u128()?;
    let expires_at_ms = match flags & EXPIRES {
        0 => None,
        _ => Some(cursor.varint()?),
    };
    let source_version = match flags & SOURCE_VERSION {
        0 => None,
        _ => Some(unzigzag(cursor.varint()?)),
    };
    let metadata = match flags & METADATA {
        0 => &[],
        _ => cursor.bytes().filter(|bytes| !bytes.is_empty())?,
    };
    if metadata.len() > MAX_METADATA_BYTES {
        return None;
    }
    let table_bytes = usize::try_from(table_len(len)).ok()?.checked_mul(8)?;
    let (table, _) = cursor.take(table_bytes)?.as_chunks();
    let (frames, rest) = cursor.left().as_chunks();
    let frames: Vec<u32> = frames.iter().map(|one| u32::from_le_bytes(*one)).collect();
    let are_right = match flags & PACKED {
        0 => frames.is_empty(),
        _ => are_frames(len, &frames),
    };
    if !rest.is_empty() || !are_right {
        return None;
    }
    Some(Stored {
        description: Description {
            attached: false,
            id,
            version,
            dtype,
            shape,
            len,
            checksum,
            expires_at_ms,
            source_version,
            metadata: metadata.to_vec(),
        },
        place,
        blocks: table.iter().map(|sum| u64::from_le_bytes(*sum)).collect(),
        frames,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::testing::stored;
    use proptest::prelude::*;
    use proptest::sample::Index;

    fn both(stored: &Stored) -> (Vec<u8>, Vec<u8>) {
        let (mut whole, mut value) = (Vec::new(), vec![9, 9]);
        encode_stored(stored, &mut whole);
        encode_value(stored, &mut value);
        (whole, value.split_off(2))
    }

    proptest! {
        #[test]
        fn it_comes_back(stored in stored()) {
            let (whole, value) = both(&stored);
            prop_assert!(whole.ends_with(&value));
            prop_assert_eq!(peek(&value), Some((stored.description.version, stored.place)));
            prop_assert_eq!(decode_value(stored.description.id.clone(), &value), Some(stored.clone()));
            prop_assert_eq!(decode_stored(&whole), Some(stored));
        }

        #[test]
        fn a_flipped_bit_a_missing_end_and_another_name_are_found(stored in stored(), at in any::<Index>(), bit in 0u8..8) {
            let (whole, value) = both(&stored);
            prop_assert_eq!(decode_stored(&whole[..at.index(whole.len())]), None);
            let mut bad = whole.clone();
            let at = at.index(whole.len() - PLACE_BYTES);
            bad[at] ^= 1 << bit;
            prop_assert_eq!(decode_stored(&bad), None);
            let mut id = stored.description.id;
            id.key = Key::parse(&format!("{}x", id.key.as_str())).unwrap_or_else(|_| Key::parse("x").unwrap());
            prop_assert_eq!(decode_value(id, &value), None);
        }

        #[test]
        fn a_place_may_change_alone(mut stored in stored(), segment in any::<u64>(), offset in any::<u64>()) {
            let (_, mut value) = both(&stored);
            stored.place = Place { prefix: Prefix::OWN, segment: Number(segment), offset };
            let (_, moved) = both(&stored);
            let kept = value.len() - PLACE_BYTES;
            prop_assert_eq!(&value[..kept], &moved[..kept]);
            value[kept..].copy_from_slice(&moved[kept..]);
            prop_assert_eq!(decode_value(stored.description.id.clone(), &value), Some(stored));
        }

        #[test]
        fn any_bytes_under_a_seal_are_one_tensor_or_none(mut sealed in prop::collection::vec(any::<u8>(), 0..200)) {
            crate::feed::stored(&sealed);
            let seal = XxHash3_128::oneshot(&sealed);
            put_end(seal, Place { prefix: Prefix::OWN, segment: Number(1), offset: 2 }, &mut sealed);
            crate::feed::stored(&sealed);
        }

        #[test]
        fn what_is_changed_and_sealed_anew_is_one_tensor_or_none(stored in stored(), at in any::<Index>(), byte in any::<u8>()) {
            let (mut whole, _) = both(&stored);
            whole.truncate(whole.len() - SEAL_BYTES - PLACE_BYTES);
            let at = at.index(whole.len());
            whole[at] = byte;
            put_end(XxHash3_128::oneshot(&whole), stored.place, &mut whole);
            crate::feed::stored(&whole);
        }
    }
}
