//! What a sidecar and a log record begin and end with. It stays the same in every format version, so
//! that a damaged object is told from one that a newer release wrote.
//!
//! ```text
//! magic 8 | format version u16 | kind u16 | number u64 | body | xxh3-128 of all before
//! ```

use bowstring_wire::error::{Error, Result};
use bytes::Bytes;
use twox_hash::XxHash3_128;

use super::FORMAT_VERSION;
use super::cursor::Cursor;
use crate::entry::Number;

const MAGIC: [u8; 8] = *b"BOWCOLD\n";
const HEAD_BYTES: usize = MAGIC.len() + 2 + 2 + 8;
const SEAL_BYTES: usize = 16;

/// What an object is. The numbers are persisted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Sidecar = 1,
    Gone = 2,
    Hot = 3,
    Hidden = 4,
    Settings = 5,
    Table = 6,
    Manifest = 7,
    Census = 8,
}

impl Kind {
    fn code(self) -> u16 {
        self as u16
    }

    fn name(self) -> &'static str {
        match self {
            Kind::Sidecar => "sidecar",
            Kind::Gone => "log record",
            Kind::Hot => "list of what was in memory",
            Kind::Hidden => "record of what is hidden",
            Kind::Settings => "record of settings",
            Kind::Table => "table of the index",
            Kind::Manifest => "list of the index's tables",
            Kind::Census => "census of a start",
        }
    }
}

/// A buffer with the head in it, for a body to be appended to.
pub(super) fn begin(kind: Kind, number: Number) -> Vec<u8> {
    let mut out = Vec::with_capacity(4096);
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
    out.extend_from_slice(&kind.code().to_le_bytes());
    out.extend_from_slice(&number.0.to_le_bytes());
    out
}

/// Closes what [`begin`] began.
pub(super) fn seal(mut out: Vec<u8>) -> Bytes {
    let sum = XxHash3_128::oneshot(&out);
    out.extend_from_slice(&sum.to_le_bytes());
    Bytes::from(out)
}

/// The body of an object of this kind and number.
///
/// # Errors
/// `data_loss` for bytes that are not what was written, `failed_precondition` for a newer format.
pub(super) fn open(kind: Kind, number: Number, bytes: &[u8]) -> Result<&[u8]> {
    let whole = bytes.len().checked_sub(SEAL_BYTES);
    let split = whole.filter(|whole| *whole >= HEAD_BYTES);
    let Some((sealed, seal)) = split.map(|at| bytes.split_at(at)) else {
        return Err(damaged(kind, "it is too short"));
    };
    if XxHash3_128::oneshot(sealed).to_le_bytes() != seal {
        return Err(damaged(kind, "its checksum does not agree"));
    }
    let (head, body) = sealed.split_at(HEAD_BYTES);
    let mut head = Cursor::new(head);
    let magic = head.array();
    let format = head.array().map(u16::from_le_bytes);
    let code = head.array().map(u16::from_le_bytes);
    let (Some(MAGIC), Some(format), Some(code), Some(found)) = (magic, format, code, head.u64())
    else {
        return Err(damaged(kind, "it begins otherwise"));
    };
    if format > FORMAT_VERSION {
        return Err(Error::precondition(format!(
            "a {} of the cold tier is of a newer format; format=`{format}` expected at most \
             {FORMAT_VERSION}: run the release that wrote it, or name another place for the cold tier",
            kind.name()
        )));
    }
    if format == 0 || code != kind.code() {
        return Err(damaged(kind, "it is another kind of object"));
    }
    if found != number.0 {
        return Err(damaged(kind, "it is that of another number"));
    }
    Ok(body)
}

/// `data_loss`: an object of this kind that we have not written so.
pub(super) fn damaged(kind: Kind, why: &str) -> Error {
    Error::data_loss(format!(
        "a {} of the cold tier is damaged: {why}",
        kind.name()
    ))
}

#[cfg(test)]
mod tests {
    use bowstring_wire::error::Code;
    use proptest::prelude::*;

    use super::*;

    fn object(kind: Kind, body: &[u8]) -> Bytes {
        let mut out = begin(kind, Number(7));
        out.extend_from_slice(body);
        seal(out)
    }

    #[test]
    fn a_newer_format_is_refused_in_a_clear_sentence() {
        let mut out = begin(Kind::Sidecar, Number(7));
        out[8] = 2;
        out.extend_from_slice(b"what only a newer release can read");
        let refused = open(Kind::Sidecar, Number(7), &seal(out)).unwrap_err();
        assert_eq!(refused.code, Code::FailedPrecondition);
        assert!(
            refused
                .message
                .contains("newer format; format=`2` expected at most 1"),
            "{refused}"
        );
    }

    #[test]
    fn a_log_record_is_no_sidecar() {
        let refused = open(Kind::Sidecar, Number(7), &object(Kind::Gone, b"")).unwrap_err();
        assert_eq!(refused.code, Code::DataLoss);
    }

    proptest! {
        #[test]
        fn a_flipped_bit_and_a_missing_end_are_found(
            body in prop::collection::vec(any::<u8>(), 0..64),
            at in any::<prop::sample::Index>(),
            bit in 0u8..8,
        ) {
            let good = object(Kind::Gone, &body);
            prop_assert_eq!(open(Kind::Gone, Number(7), &good), Ok(&body[..]));
            prop_assert_eq!(open(Kind::Gone, Number(8), &good).unwrap_err().code, Code::DataLoss);
            let at = at.index(good.len());
            prop_assert!(open(Kind::Gone, Number(7), &good[..at]).is_err());
            let mut bad = good.to_vec();
            bad[at] ^= 1 << bit;
            prop_assert_eq!(open(Kind::Gone, Number(7), &bad).unwrap_err().code, Code::DataLoss);
        }
    }
}
