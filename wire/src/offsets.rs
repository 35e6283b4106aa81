//! The offsets of a list column, checked as they arrive: they are never held.

use crate::error::{Error, Result};

/// What the offsets of a batch of lists of equal lengths say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListSpan {
    /// The first value of the first row.
    pub first: u64,
    /// Values of each row; `None` where there is no row.
    pub len: Option<u64>,
}

/// Checks that offsets ascend, and that the lists they bound are of one length.
#[derive(Clone, Debug)]
pub struct OffsetsCheck {
    width: usize,
    /// Offsets still to come.
    left: u64,
    partial: [u8; 8],
    have: usize,
    first: Option<u64>,
    last: u64,
    len: Option<u64>,
}

impl OffsetsCheck {
    /// For a batch of `rows` lists whose offsets have 8 bytes (`wide`) or 4. Where an earlier
    /// batch told the length of the lists, `len` is it.
    pub fn new(rows: u64, wide: bool, len: Option<u64>) -> Self {
        Self {
            width: if wide { 8 } else { 4 },
            left: if rows == 0 { 0 } else { rows.saturating_add(1) },
            partial: [0; 8],
            have: 0,
            first: None,
            last: 0,
            len,
        }
    }

    /// The next bytes of the offsets' buffer, in any split; what is behind the last offset is
    /// not looked at.
    ///
    /// # Errors
    /// `invalid_argument` for a negative or descending offset, or a list of another length.
    pub fn push(&mut self, mut bytes: &[u8]) -> Result<()> {
        while self.left > 0 && !bytes.is_empty() {
            let take = (self.width - self.have).min(bytes.len());
            let (head, rest) = bytes.split_at(take);
            self.partial[self.have..self.have + take].copy_from_slice(head);
            self.have += take;
            bytes = rest;
            if self.have == self.width {
                self.have = 0;
                self.left -= 1;
                // Upper bytes of a narrow offset are never written.
                let offset = match self.width {
                    4 => i64::from(i32::from_le_bytes([
                        self.partial[0],
                        self.partial[1],
                        self.partial[2],
                        self.partial[3],
                    ])),
                    _ => i64::from_le_bytes(self.partial),
                };
                self.offset(offset)?;
            }
        }
        Ok(())
    }

    /// To be asked when the whole buffer was pushed.
    ///
    /// # Errors
    /// `invalid_argument` where offsets lack.
    pub fn finish(&self) -> Result<ListSpan> {
        if self.left > 0 {
            return Err(Error::invalid(format!(
                "a list column lacks offsets; missing=`{}` expected one more than rows",
                self.left
            )));
        }
        Ok(ListSpan {
            first: self.first.unwrap_or(0),
            len: self.len,
        })
    }

    fn offset(&mut self, offset: i64) -> Result<()> {
        let Ok(offset) = u64::try_from(offset) else {
            return Err(Error::invalid(format!(
                "a list column has a negative offset; offset=`{offset}` expected at least 0"
            )));
        };
        if self.first.is_none() {
            self.first = Some(offset);
            self.last = offset;
            return Ok(());
        }
        let Some(len) = offset.checked_sub(self.last) else {
            return Err(Error::invalid(format!(
                "a list column has offsets that descend; offset=`{offset}` expected at least `{}`",
                self.last
            )));
        };
        self.last = offset;
        match self.len {
            Some(expected) if expected != len => Err(Error::invalid(format!(
                "the lists of one tensor have different lengths; length=`{len}` expected \
                 `{expected}`, as the rows before"
            ))),
            _ => {
                self.len = Some(len);
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(offsets: &[i64], wide: bool, split: usize) -> Result<ListSpan> {
        let bytes: Vec<u8> = offsets
            .iter()
            .flat_map(|offset| {
                let bytes = offset.to_le_bytes();
                bytes[..if wide { 8 } else { 4 }].to_vec()
            })
            .collect();
        let mut check = OffsetsCheck::new(offsets.len().saturating_sub(1) as u64, wide, None);
        for piece in bytes.chunks(split) {
            check.push(piece)?;
        }
        check.finish()
    }

    #[test]
    fn lies_are_refused() {
        for (offsets, says) in [
            (&[0, 2, 1][..], "descend"),
            (&[-1, 2], "negative offset"),
            (&[0, 2, 5], "different lengths; length=`3` expected `2`"),
        ] {
            for wide in [false, true] {
                let refused = check(offsets, wide, 3).unwrap_err().to_string();
                assert!(refused.contains(says), "{refused}");
            }
        }
        let mut short = OffsetsCheck::new(2, false, None);
        short.push(&[0; 11]).unwrap();
        assert!(short.finish().is_err());
        assert_eq!(
            OffsetsCheck::new(0, true, Some(4)).finish().unwrap().len,
            Some(4)
        );
        assert!(OffsetsCheck::new(u64::MAX, true, None).finish().is_err());
    }

    proptest! {
        #[test]
        fn equal_lists_in_any_split(
            first in 0i64..1000, len in 0i64..100, rows in 1i64..50, wide in any::<bool>(), split in 1usize..20,
        ) {
            let offsets: Vec<i64> = (0..=rows).map(|row| first + row * len).collect();
            let span = check(&offsets, wide, split).unwrap();
            prop_assert_eq!(span, ListSpan { first: first as u64, len: Some(len as u64) });
        }
    }
}
