//! Tensors for the tests of this folder.

use std::ops::Range;

use bowstring_cache::Id;
use bowstring_wire::dtype::DType;
use bowstring_wire::metadata::Metadata;
use bowstring_wire::name::{Key, Namespace, Tenant};
use bowstring_wire::shape::Shape;
use bowstring_wire::version::Version;
use bytes::Bytes;
use proptest::prelude::*;
use twox_hash::XxHash3_128;

use super::blocks::{Blocks, table_len};
use super::pack::frames_len;
use crate::entry::{Description, Number, Place, Prefix, Stored};

/// A plain vector of bytes.
pub(super) fn described(bytes: &[u8]) -> Description {
    Description {
        attached: false,
        id: Id::public(Namespace::default(), Key::parse("k").unwrap()),
        version: Version { hlc: 77, start: 5 },
        dtype: DType::UInt8,
        shape: Shape::new(&[bytes.len() as u64]).unwrap(),
        len: bytes.len() as u64,
        checksum: XxHash3_128::oneshot(bytes),
        expires_at_ms: None,
        source_version: None,
        metadata: vec![],
    }
}

/// The same, with its blocks, at the beginning of a segment.
pub(super) fn stored_of(bytes: &[u8]) -> Stored {
    let description = described(bytes);
    let mut blocks = Blocks::new();
    blocks.pass(bytes);
    Stored {
        blocks: blocks.finish(&description).unwrap(),
        frames: Vec::new(),
        place: Place {
            prefix: Prefix::OWN,
            segment: Number(1),
            offset: 64,
        },
        description,
    }
}

pub(super) fn id() -> impl Strategy<Value = Id> {
    let name = "[A-Za-z0-9._-]{1,9}";
    (prop::option::of(name), name, "[a-zäö🦀/ ]{1,20}").prop_map(|(tenant, namespace, key)| Id {
        tenant: tenant.map_or(Tenant::public(), |tenant| Tenant::parse(&tenant).unwrap()),
        namespace: Namespace::parse(&namespace).unwrap(),
        key: Key::parse(&key).unwrap(),
    })
}

fn metadata() -> impl Strategy<Value = Vec<u8>> {
    let pairs = prop::collection::btree_map("[a-z]{1,4}", "\\PC{0,9}", 0..3);
    pairs.prop_map(|pairs| Metadata::new(pairs).unwrap().encode())
}

/// A description of any dtype and shape; nothing says that its bytes are there.
pub(super) fn description(
    shape: impl Strategy<Value = Vec<u64>>,
) -> impl Strategy<Value = Description> {
    let of = (
        id(),
        any::<(u64, u32, u128)>(),
        prop::sample::select(&DType::ALL[..]),
        shape,
        prop::option::of(0..1u64 << 48),
        any::<Option<i64>>(),
        metadata(),
    );
    of.prop_map(
        |(id, (hlc, start, checksum), dtype, dims, expires_at_ms, source_version, metadata)| {
            let shape = Shape::new(&dims).unwrap();
            Description {
                attached: false,
                id,
                version: Version { hlc, start },
                dtype,
                len: shape.bytes(dtype).unwrap(),
                shape,
                checksum,
                expires_at_ms,
                source_version,
                metadata,
            }
        },
    )
}

/// A description with a table and a place, mostly of no more than a block.
pub(super) fn stored() -> impl Strategy<Value = Stored> {
    let shape = prop_oneof![
        8 => prop::collection::vec(0u64..9, 0..5),
        1 => Just(vec![1; 32]),
        1 => prop::collection::vec(900u64..2_000, 2..3),
    ];
    let place = any::<(u64, u64, bool)>();
    (description(shape), place).prop_map(|(description, (segment, offset, packed))| Stored {
        // As short as frames can be: only a tensor of more bytes than it has frames is compressed.
        frames: match packed && description.len > frames_len(description.len) {
            true => vec![1; frames_len(description.len) as usize],
            false => Vec::new(),
        },
        blocks: (0..table_len(description.len))
            .map(|i| i.wrapping_mul(description.version.hlc))
            .collect(),
        place: Place {
            prefix: Prefix::OWN,
            segment: Number(segment),
            offset,
        },
        description,
    })
}

/// Small tensors and their bytes in pieces.
pub(super) fn tensors(
    count: Range<usize>,
) -> impl Strategy<Value = Vec<(Description, Vec<Bytes>)>> {
    let one = description(prop::collection::vec(0u64..5, 0..4)).prop_map(filled);
    prop::collection::vec(one, count)
}

/// The same of one namespace, dtype and shape.
pub(super) fn alike() -> impl Strategy<Value = (DType, Shape, Vec<(Description, Vec<Bytes>)>)> {
    tensors(1..8).prop_map(|mut tensors| {
        let first = tensors[0].0.clone();
        for tensor in &mut tensors {
            let id = Id {
                key: tensor.0.id.key.clone(),
                ..first.id.clone()
            };
            let (dtype, shape, len) = (first.dtype, first.shape.clone(), first.len);
            *tensor = filled(Description {
                attached: false,
                id,
                dtype,
                shape,
                len,
                ..tensor.0.clone()
            });
        }
        (first.dtype, first.shape, tensors)
    })
}

/// Bytes that differ from tensor to tensor.
fn filled(mut description: Description) -> (Description, Vec<Bytes>) {
    let seed = description.checksum.to_le_bytes();
    let bytes: Vec<u8> = (0..description.len)
        .map(|i| seed[(i % 16) as usize] ^ i.to_le_bytes()[0])
        .collect();
    description.checksum = XxHash3_128::oneshot(&bytes);
    let pieces = bytes.chunks(7).map(Bytes::copy_from_slice).collect();
    (description, pieces)
}
