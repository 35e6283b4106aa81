//! Reading fixed fields, one behind the other.

use crate::error::{Error, Result};
use crate::version::Version;

/// What is left of a header.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fields<'a>(pub &'a [u8]);

impl<'a> Fields<'a> {
    pub fn bytes(&mut self, n: usize) -> Result<&'a [u8]> {
        let (bytes, rest) = self.0.split_at_checked(n).ok_or_else(short)?;
        self.0 = rest;
        Ok(bytes)
    }

    pub fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let (bytes, rest) = self.0.split_first_chunk().ok_or_else(short)?;
        self.0 = rest;
        Ok(*bytes)
    }

    pub fn u8(&mut self) -> Result<u8> {
        self.array().map(|[byte]| byte)
    }

    pub fn u16(&mut self) -> Result<u16> {
        self.array().map(u16::from_le_bytes)
    }

    pub fn u32(&mut self) -> Result<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub fn u64(&mut self) -> Result<u64> {
        self.array().map(u64::from_le_bytes)
    }

    pub fn u128(&mut self) -> Result<u128> {
        self.array().map(u128::from_le_bytes)
    }

    pub fn version(&mut self) -> Result<Version> {
        Ok(Version {
            hlc: self.u64()?,
            start: self.u32()?,
        })
    }

    /// Bytes that are zero until somebody gives them a meaning.
    pub fn zeros<const N: usize>(&mut self) -> Result<()> {
        if self.array()? == [0; N] {
            Ok(())
        } else {
            Err(Error::invalid(
                "a reserved byte of a mux header is not zero",
            ))
        }
    }

    pub fn end(&self) -> Result<()> {
        if self.0.is_empty() {
            return Ok(());
        }
        Err(Error::invalid(format!(
            "a mux header has bytes behind its end; bytes=`{}`",
            self.0.len()
        )))
    }
}

pub(super) fn put_version(out: &mut impl bytes::BufMut, version: Version) {
    out.put_u64_le(version.hlc);
    out.put_u32_le(version.start);
}

fn short() -> Error {
    Error::invalid("a mux header ends before its fields do")
}
