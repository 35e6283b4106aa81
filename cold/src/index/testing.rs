//! What the tests of this folder have in common.

use bowstring_cache::Id;
use bowstring_wire::dtype::DType;
use bowstring_wire::name::{Key, Namespace};
use bowstring_wire::shape::Shape;
use bowstring_wire::version::Version;

use crate::entry::{Description, Number, Place, Prefix, Stored};

pub(super) fn version(hlc: u64) -> Version {
    Version { hlc, start: 9 }
}

pub(super) fn id(namespace: &str, key: &str) -> Id {
    Id::public(
        Namespace::parse(namespace).unwrap(),
        Key::parse(key).unwrap(),
    )
}

/// An entry of which only what is given matters to the index.
pub(super) fn stored(id: Id, hlc: u64, segment: u64, offset: u64) -> Stored {
    let len = 8 + hlc % 5;
    Stored {
        description: Description {
            id,
            version: version(hlc),
            dtype: DType::parse("uint8").unwrap(),
            shape: Shape::new(&[len]).unwrap(),
            len,
            checksum: u128::from(hlc) << 64 | u128::from(offset),
            expires_at_ms: hlc.is_multiple_of(3).then_some(hlc),
            source_version: None,
            metadata: Vec::new(),
        },
        place: Place {
            prefix: Prefix::OWN,
            segment: Number(segment),
            offset,
        },
        blocks: Vec::new(),
        frames: Vec::new(),
    }
}
