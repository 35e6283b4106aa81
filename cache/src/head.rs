//! What lies in an entry's slot: the bytes that fill no whole page, then the head, which says
//! everything that the record has no room for.
//!
//! ```text
//! slot    inline bytes | head                                    (slots are 16-byte aligned)
//! head    key bytes << 2 | kind (varint) | key | dtype 5 bits, rank 3 bits | [rank]
//!         | dims (varints) | rest
//! rest    kind 0 nothing; 1 kept; 2 extents, kept;
//!         3 extents and length of pages that hold what kind 2 has here
//! kept    metadata bytes << 1 | whether there is a source version (varint) | that (zigzag varint)
//!         | metadata
//! ```
//! The bytes come first because they must be aligned, and a head before them would cost 8 bytes of
//! padding on average. Where they end follows from the tensor's length alone ([`split`]).
//!
//! It lives in this process only: nothing here is persisted.

use bowstring_wire::dtype::DType;
use bowstring_wire::shape::Shape;
use smallvec::SmallVec;

use crate::arena::{Extent, ExtentList, PAGE_BYTES_U64, SLOT_PAYLOAD_MAX};

/// Tensors up to this lie in their slot; of larger ones, so does a rest of up to this.
pub(crate) const INLINE_MAX: u64 = 56 * 1024;
/// From here on the last page is simply not full: at most 6 % of the tensor, 3 % on average, and a
/// reader needs no copy of a rest.
const NO_REST_FROM: u64 = 1 << 20;

/// Where the bytes of a tensor lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Split {
    /// Pages, filled from the first byte on.
    pub(crate) pages: u32,
    /// Bytes after them, in the slot.
    pub(crate) inline: usize,
}

/// Where the bytes of a tensor of `len` lie. Pages never get fewer as `len` grows.
pub(crate) fn split(len: u64) -> Split {
    let rest = len % PAGE_BYTES_U64;
    let inline = if len <= INLINE_MAX {
        len
    } else if len < NO_REST_FROM && rest <= INLINE_MAX {
        rest
    } else {
        0
    };
    Split {
        pages: u32::try_from((len - inline).div_ceil(PAGE_BYTES_U64)).unwrap_or(u32::MAX),
        inline: usize::try_from(inline).unwrap_or(usize::MAX),
    }
}

/// The bytes of a head, made before its slot is taken.
pub(crate) type HeadBytes = SmallVec<[u8; 128]>;

/// What goes into a head.
#[derive(Debug)]
pub(crate) struct HeadParts<'a> {
    pub(crate) key: &'a str,
    pub(crate) dtype: DType,
    pub(crate) shape: &'a Shape,
    pub(crate) rest: Rest<'a>,
}

/// The end of a head.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Rest<'a> {
    /// It lies in the head.
    Here { extents: ExtentList, kept: Kept<'a> },
    /// It would not fit, and lies in pages of its own as [`encode_rest`] made it.
    Apart { extents: ExtentList, bytes: u64 },
}

/// What is kept of an entry for who asks, and takes no room where there is none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Kept<'a> {
    pub(crate) metadata: &'a [u8],
    pub(crate) source_version: Option<i64>,
}

impl Kept<'_> {
    fn is_none(&self) -> bool {
        self.metadata.is_empty() && self.source_version.is_none()
    }
}

/// A head, read.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Head<'a> {
    pub(crate) key: &'a [u8],
    pub(crate) dtype: DType,
    pub(crate) shape: Shape,
    pub(crate) rest: Rest<'a>,
}

const KIND_BARE: u64 = 0;
const KIND_KEPT: u64 = 1;
const KIND_EXTENTS: u64 = 2;
const KIND_APART: u64 = 3;
const RANK_BITS: u32 = 3;
const RANK_NEXT: u8 = 7;

/// Whether a head of so many bytes fits behind the inline ones.
pub(crate) fn fits(inline: usize, head: usize) -> bool {
    inline + head <= SLOT_PAYLOAD_MAX
}

/// Makes a head.
pub(crate) fn encode(parts: &HeadParts<'_>, out: &mut HeadBytes) {
    let kind = match &parts.rest {
        Rest::Apart { .. } => KIND_APART,
        Rest::Here { extents, .. } if !extents.is_empty() => KIND_EXTENTS,
        Rest::Here { kept, .. } if !kept.is_none() => KIND_KEPT,
        Rest::Here { .. } => KIND_BARE,
    };
    put_varint(out, (parts.key.len() as u64) << 2 | kind);
    out.extend_from_slice(parts.key.as_bytes());
    let dims = parts.shape.dims();
    let rank = u8::try_from(dims.len()).unwrap_or(u8::MAX);
    out.push(parts.dtype.code() << RANK_BITS | rank.min(RANK_NEXT));
    if rank >= RANK_NEXT {
        out.push(rank);
    }
    for dim in dims {
        put_varint(out, *dim);
    }
    match &parts.rest {
        Rest::Apart { extents, bytes } => {
            put_extents(out, extents);
            put_varint(out, *bytes);
        }
        Rest::Here { extents, kept } => {
            if kind == KIND_EXTENTS {
                put_extents(out, extents);
            }
            if kind != KIND_BARE {
                put_kept(out, *kept);
            }
        }
    }
}

/// What [`Rest::Apart`] has in pages of its own.
pub(crate) fn encode_rest(extents: &[Extent], kept: Kept<'_>) -> HeadBytes {
    let mut out = HeadBytes::new();
    put_extents(&mut out, extents);
    put_kept(&mut out, kept);
    out
}

/// Only the key of a head. Empty, which no key is, for bytes that are no head.
pub(crate) fn key_of(head: &[u8]) -> &[u8] {
    let mut reader = Reader { left: head };
    let key = reader.varint().and_then(|lead| reader.bytes(lead >> 2));
    key.unwrap_or_default()
}

/// Only the dtype of a head; `None` for bytes that are no head.
pub(crate) fn dtype_of(head: &[u8]) -> Option<DType> {
    let packed = behind_key(head)?.first()?;
    DType::from_code(packed >> RANK_BITS)
}

/// A head from behind its key on: no two ways to begin it say the same dtype and shape, and none begins another.
pub(crate) fn behind_key(head: &[u8]) -> Option<&[u8]> {
    let mut reader = Reader { left: head };
    let lead = reader.varint()?;
    reader.bytes(lead >> 2)?;
    Some(reader.left)
}

/// Dtype and shape out of what [`behind_key`] gives, and the bytes that say so.
pub(crate) fn description_of(behind_key: &[u8]) -> Option<(DType, Shape, &[u8])> {
    let mut reader = Reader { left: behind_key };
    let (dtype, shape) = reader.description()?;
    let bytes = behind_key.len() - reader.left.len();
    Some((dtype, shape, &behind_key[..bytes]))
}

/// Whether the entry has pages.
pub(crate) fn has_pages(head: &[u8]) -> bool {
    let lead = Reader { left: head }.varint();
    lead.is_some_and(|lead| matches!(lead & 3, KIND_EXTENTS | KIND_APART))
}

/// Reads a head; `None` for bytes that are none.
pub(crate) fn decode(head: &[u8]) -> Option<Head<'_>> {
    let mut reader = Reader { left: head };
    let lead = reader.varint()?;
    let key = reader.bytes(lead >> 2)?;
    let (dtype, shape) = reader.description()?;
    let rest = match lead & 3 {
        KIND_APART => Rest::Apart {
            extents: reader.extents()?,
            bytes: reader.varint()?,
        },
        KIND_BARE => Rest::Here {
            extents: ExtentList::new(),
            kept: Kept::default(),
        },
        kind => reader.rest(kind == KIND_EXTENTS)?,
    };
    Some(Head {
        key,
        dtype,
        shape,
        rest,
    })
}

/// Reads what [`encode_rest`] made.
pub(crate) fn decode_rest(bytes: &[u8]) -> Option<(ExtentList, Kept<'_>)> {
    match (Reader { left: bytes }).rest(true)? {
        Rest::Here { extents, kept } => Some((extents, kept)),
        Rest::Apart { .. } => None,
    }
}

struct Reader<'a> {
    left: &'a [u8],
}

impl<'a> Reader<'a> {
    fn varint(&mut self) -> Option<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let (byte, left) = self.left.split_first()?;
            self.left = left;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    fn bytes(&mut self, n: u64) -> Option<&'a [u8]> {
        let (bytes, left) = self.left.split_at_checked(usize::try_from(n).ok()?)?;
        self.left = left;
        Some(bytes)
    }

    fn description(&mut self) -> Option<(DType, Shape)> {
        let [packed] = *self.bytes(1)? else {
            return None;
        };
        let rank = match packed & RANK_NEXT {
            RANK_NEXT => *self.bytes(1)?.first()?,
            rank => rank,
        };
        let dims: Option<SmallVec<[u64; 8]>> = (0..rank).map(|_| self.varint()).collect();
        let dtype = DType::from_code(packed >> RANK_BITS)?;
        Some((dtype, Shape::new(&dims?).ok()?))
    }

    fn extents(&mut self) -> Option<ExtentList> {
        let n = self.varint()?;
        (0..n)
            .map(|_| {
                Some(Extent {
                    first: u32::try_from(self.varint()?).ok()?,
                    pages: u32::try_from(self.varint()?).ok()?,
                })
            })
            .collect()
    }

    fn rest(&mut self, with_extents: bool) -> Option<Rest<'a>> {
        let extents = if with_extents {
            self.extents()?
        } else {
            ExtentList::new()
        };
        let lead = self.varint()?;
        let source_version = match lead & 1 {
            0 => None,
            _ => Some(unzigzag(self.varint()?)),
        };
        let kept = Kept {
            metadata: self.bytes(lead >> 1)?,
            source_version,
        };
        Some(Rest::Here { extents, kept })
    }
}

fn put_extents(out: &mut HeadBytes, extents: &[Extent]) {
    put_varint(out, extents.len() as u64);
    for extent in extents {
        put_varint(out, u64::from(extent.first));
        put_varint(out, u64::from(extent.pages));
    }
}

fn put_kept(out: &mut HeadBytes, kept: Kept<'_>) {
    let has_source = u64::from(kept.source_version.is_some());
    put_varint(out, (kept.metadata.len() as u64) << 1 | has_source);
    if let Some(version) = kept.source_version {
        put_varint(out, zigzag(version));
    }
    out.extend_from_slice(kept.metadata);
}

/// Small numbers of either sign become small ones.
fn zigzag(value: i64) -> u64 {
    (value << 1 ^ value >> 63).cast_unsigned()
}

fn unzigzag(value: u64) -> i64 {
    (value >> 1).cast_signed() ^ -(value & 1).cast_signed()
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "the low seven bits are meant"
)]
fn put_varint(out: &mut HeadBytes, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arena::PAGE_BYTES;
    use proptest::prelude::*;

    #[test]
    fn a_small_head_is_two_bytes_beside_key_and_dims() {
        let shape = Shape::new(&[16]).unwrap();
        let mut out = HeadBytes::new();
        let rest = Rest::Here {
            extents: ExtentList::new(),
            kept: Kept::default(),
        };
        encode(
            &HeadParts {
                key: "00000001",
                dtype: DType::Float32,
                shape: &shape,
                rest,
            },
            &mut out,
        );
        assert_eq!(out.len(), 8 + 2 + 1);
    }

    #[test]
    fn every_dtype_fits_its_five_bits() {
        assert!(DType::ALL.iter().all(|dtype| dtype.code() < 32));
    }

    #[test]
    fn pages_never_get_fewer_and_waste_little() {
        let mut before = 0;
        for len in (0..3 << 20).step_by(509) {
            let Split { pages, inline } = split(len);
            assert!(pages >= before, "{len}");
            before = pages;
            let room = pages as usize * PAGE_BYTES + inline;
            let len = usize::try_from(len).unwrap();
            assert!(room >= len && (room - len) * 7 <= len, "{len}");
            assert!(inline <= SLOT_PAYLOAD_MAX);
            assert!(
                inline == 0 || room == len,
                "only full pages go before a rest"
            );
        }
    }

    proptest! {
        #[test]
        fn heads_round_trip(
            key in "\\PC{1,80}",
            dtype in 0..DType::ALL.len(),
            dims in prop::collection::vec(0..i64::MAX.cast_unsigned(), 0..=32),
            metadata in prop::collection::vec(any::<u8>(), 0..300),
            extents in prop::collection::vec((any::<u32>(), 1_u32..), 0..40),
            source_version in prop::option::of(any::<i64>()),
            apart in any::<bool>(),
        ) {
            let kept = Kept { metadata: &metadata, source_version };
            let extents: ExtentList =
                extents.iter().map(|&(first, pages)| Extent { first, pages }).collect();
            let shape = Shape::new(&dims).unwrap();
            let make_rest = || if apart {
                Rest::Apart { extents: extents.clone(), bytes: 77 }
            } else {
                Rest::Here { extents: extents.clone(), kept }
            };
            let dtype = DType::ALL[dtype];
            let mut out = HeadBytes::new();
            encode(&HeadParts { key: &key, dtype, shape: &shape, rest: make_rest() }, &mut out);
            out.extend([0xff; 9]);
            let want = Head { key: key.as_bytes(), dtype, shape, rest: make_rest() };
            prop_assert_eq!(decode(&out), Some(want));
            prop_assert_eq!(key_of(&out), key.as_bytes());
            prop_assert_eq!(has_pages(&out), apart || !extents.is_empty());
            let rest = encode_rest(&extents, kept);
            prop_assert_eq!(decode_rest(&rest), Some((extents, kept)));
        }

        #[test]
        fn any_bytes_are_a_head_or_none(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = (decode(&bytes), key_of(&bytes), decode_rest(&bytes));
        }
    }
}
