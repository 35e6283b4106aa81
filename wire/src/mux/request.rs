//! The header of a request.

use bytes::BufMut;

use super::MUX_VERSION;
use super::field::{Fields, put_version};
use crate::descriptor::{Mode, check_ttl_ms};
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::limits::{MAX_KEY_BYTES, MAX_NAMESPACE_BYTES};
use crate::shape::Shape;
use crate::version::Version;

/// One request. Its number is the client's choice, and free again when the last message of its
/// reply has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MuxRequest<'a> {
    /// What its reply will carry.
    pub id: u32,
    /// `None` is the namespace of the exchange. Not yet checked.
    pub namespace: Option<&'a str>,
    /// Empty for `Cancel` only. Not yet checked.
    pub key: &'a str,
    /// What is asked.
    pub op: MuxOp,
}

/// What a request asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MuxOp {
    /// The tensor.
    Get {
        /// `[start, end)` of the leading axis.
        rows: Option<(u64, u64)>,
        /// Answer `not_modified` where the entry still has this version.
        unless_version: Option<Version>,
    },
    /// What a get says of the tensor, without its bytes.
    Exists,
    /// Store the bytes that come with the request.
    Put(MuxPut),
    /// End the reply of the request of this number, if it has not ended; has no reply of its own.
    Cancel,
}

/// Which op it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "they are those of [`MuxOp`]")]
pub enum MuxKind {
    Get,
    Exists,
    Put,
    Cancel,
}

/// What a put says of its tensor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MuxPut {
    /// Element type.
    pub dtype: DType,
    /// Shape, whose bytes are those of the body.
    pub shape: Shape,
    /// What happens to a key that is there.
    pub mode: Mode,
    /// Only where the entry has this version.
    pub if_version: Option<Version>,
    /// xxh3-128 of the bytes; another one is `data_loss`.
    pub checksum: Option<u128>,
    /// Milliseconds until it expires.
    pub ttl_ms: Option<u64>,
}

// Ops.
const GET: u8 = 1;
const EXISTS: u8 = 2;
const PUT: u8 = 3;
const CANCEL: u8 = 4;

// Flags: which optional fields there are, in this order.
const ROWS: u8 = 1;
const UNLESS_VERSION: u8 = 1 << 1;
const IF_VERSION: u8 = 1 << 2;
const CHECKSUM: u8 = 1 << 3;
const TTL_MS: u8 = 1 << 4;

const MODES: [Mode; 3] = [Mode::Create, Mode::Keep, Mode::Replace];

/// The number of a request, as far as its header can be read at all.
///
/// # Errors
/// `invalid_argument` where it cannot, `unimplemented` for another version of the layout. No reply
/// can be matched to such a request: it ends the stream.
pub fn id_of(header: &[u8]) -> Result<u32> {
    match header {
        [MUX_VERSION, _, _, _, a, b, c, d, ..] => Ok(u32::from_le_bytes([*a, *b, *c, *d])),
        [version, ..] if *version != MUX_VERSION => Err(Error::unimplemented(format!(
            "a mux header has another version; version=`{version}` expected {MUX_VERSION}"
        ))),
        _ => Err(Error::invalid(
            "a mux header is too short to have a request's number",
        )),
    }
}

/// What a request asks, as far as its header can be read at all: for counters.
pub fn kind_of(header: &[u8]) -> Option<MuxKind> {
    match header {
        [MUX_VERSION, GET, ..] => Some(MuxKind::Get),
        [MUX_VERSION, EXISTS, ..] => Some(MuxKind::Exists),
        [MUX_VERSION, PUT, ..] => Some(MuxKind::Put),
        [MUX_VERSION, CANCEL, ..] => Some(MuxKind::Cancel),
        _ => None,
    }
}

impl<'a> MuxRequest<'a> {
    /// Reads a header.
    ///
    /// # Errors
    /// `invalid_argument` or, for what a later version may bring, `unimplemented`.
    pub fn decode(header: &'a [u8]) -> Result<MuxRequest<'a>> {
        let id = id_of(header)?;
        let mut fields = Fields(header);
        fields.u8()?;
        let (op, flags) = (fields.u8()?, fields.u8()?);
        fields.zeros::<1>()?;
        fields.u32()?;
        let (namespace_len, key_len) = (fields.u16()?, fields.u16()?);
        let (dtype, mode, rank) = (fields.u8()?, fields.u8()?, fields.u8()?);
        fields.zeros::<1>()?;
        check_flags(op, flags)?;
        if op != PUT && (dtype, mode, rank) != (0, 0, 0) {
            return Err(Error::invalid(
                "a mux request describes a tensor and is no put; expected zeros",
            ));
        }
        let rows = given(flags, ROWS, || Ok((fields.u64()?, fields.u64()?)))?;
        let unless_version = given(flags, UNLESS_VERSION, || fields.version())?;
        let if_version = given(flags, IF_VERSION, || fields.version())?;
        let checksum = given(flags, CHECKSUM, || fields.u128())?;
        let ttl_ms = given(flags, TTL_MS, || check_ttl_ms(fields.u64()?))?;
        let op = match op {
            GET => MuxOp::Get {
                rows,
                unless_version,
            },
            EXISTS => MuxOp::Exists,
            CANCEL => MuxOp::Cancel,
            _ => MuxOp::Put(MuxPut {
                dtype: dtype_of(dtype)?,
                shape: shape(&mut fields, rank)?,
                mode: mode_of(mode)?,
                if_version,
                checksum,
                ttl_ms,
            }),
        };
        let namespace = text(&mut fields, namespace_len)?;
        let key = text(&mut fields, key_len)?;
        fields.end()?;
        if key.is_empty() != (op == MuxOp::Cancel) {
            return Err(Error::invalid(
                "a mux request has no key, or is a cancel and has one",
            ));
        }
        let namespace = (namespace_len > 0).then_some(namespace);
        Ok(MuxRequest {
            id,
            namespace,
            key,
            op,
        })
    }

    /// Appends the header to `out`.
    ///
    /// # Errors
    /// `invalid_argument` for names longer than names may be.
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<()> {
        let namespace = self.namespace.unwrap_or_default();
        let (op, flags) = self.op.numbers();
        out.put_slice(&[MUX_VERSION, op, flags, 0]);
        out.put_u32_le(self.id);
        out.put_u16_le(length(namespace, MAX_NAMESPACE_BYTES)?);
        out.put_u16_le(length(self.key, MAX_KEY_BYTES)?);
        match &self.op {
            MuxOp::Put(put) => {
                let mode = MODES.iter().position(|mode| *mode == put.mode);
                let (mode, rank) = (mode.map_or(0, byte), byte(put.shape.rank()));
                out.put_slice(&[put.dtype.code(), mode, rank, 0]);
                if let Some(version) = put.if_version {
                    put_version(out, version);
                }
                if let Some(checksum) = put.checksum {
                    out.put_u128_le(checksum);
                }
                if let Some(ttl_ms) = put.ttl_ms {
                    out.put_u64_le(ttl_ms);
                }
                for dim in put.shape.dims() {
                    out.put_u64_le(*dim);
                }
            }
            MuxOp::Get {
                rows,
                unless_version,
            } => {
                out.put_u32_le(0);
                if let Some((start, end)) = rows {
                    out.put_u64_le(*start);
                    out.put_u64_le(*end);
                }
                if let Some(version) = unless_version {
                    put_version(out, *version);
                }
            }
            MuxOp::Exists | MuxOp::Cancel => out.put_u32_le(0),
        }
        out.put_slice(namespace.as_bytes());
        out.put_slice(self.key.as_bytes());
        Ok(())
    }
}

impl MuxOp {
    /// Which it is.
    pub fn kind(&self) -> MuxKind {
        match self {
            MuxOp::Get { .. } => MuxKind::Get,
            MuxOp::Exists => MuxKind::Exists,
            MuxOp::Put(_) => MuxKind::Put,
            MuxOp::Cancel => MuxKind::Cancel,
        }
    }

    /// The op's name in messages.
    pub fn name(&self) -> &'static str {
        match self.kind() {
            MuxKind::Get => "get",
            MuxKind::Exists => "exists",
            MuxKind::Put => "put",
            MuxKind::Cancel => "cancel",
        }
    }

    fn numbers(&self) -> (u8, u8) {
        let bit = |given: bool, flag: u8| if given { flag } else { 0 };
        match self {
            MuxOp::Get {
                rows,
                unless_version,
            } => {
                let flags =
                    bit(rows.is_some(), ROWS) | bit(unless_version.is_some(), UNLESS_VERSION);
                (GET, flags)
            }
            MuxOp::Exists => (EXISTS, 0),
            MuxOp::Put(put) => {
                let flags = bit(put.if_version.is_some(), IF_VERSION)
                    | bit(put.checksum.is_some(), CHECKSUM)
                    | bit(put.ttl_ms.is_some(), TTL_MS);
                (PUT, flags)
            }
            MuxOp::Cancel => (CANCEL, 0),
        }
    }
}

fn check_flags(op: u8, flags: u8) -> Result<()> {
    let known = match op {
        GET => ROWS | UNLESS_VERSION,
        PUT => IF_VERSION | CHECKSUM | TTL_MS,
        EXISTS | CANCEL => 0,
        _ => {
            return Err(Error::unimplemented(format!(
                "no such op of the mux exchange; op=`{op}` expected {GET} to {CANCEL}"
            )));
        }
    };
    if flags & !known == 0 {
        return Ok(());
    }
    Err(Error::unimplemented(format!(
        "a mux request has a flag that its op does not know; op=`{op}` flags=`{flags:#x}` expected \
         none beside {known:#x}"
    )))
}

fn given<T>(flags: u8, flag: u8, read: impl FnOnce() -> Result<T>) -> Result<Option<T>> {
    (flags & flag != 0).then(read).transpose()
}

pub(super) fn dtype_of(code: u8) -> Result<DType> {
    DType::from_code(code).ok_or_else(|| {
        Error::invalid(format!(
            "a mux header has an unknown dtype; dtype=`{code}` expected 1 to {}",
            DType::ALL.len()
        ))
    })
}

pub(super) fn shape(fields: &mut Fields<'_>, rank: u8) -> Result<Shape> {
    let dims = fields.bytes(usize::from(rank) * 8)?.chunks_exact(8);
    let dims: smallvec::SmallVec<[u64; 8]> = dims
        .map(|dim| {
            dim.iter()
                .rev()
                .fold(0, |n, byte| n << 8 | u64::from(*byte))
        })
        .collect();
    Shape::new(&dims)
}

fn mode_of(mode: u8) -> Result<Mode> {
    let known = MODES.get(usize::from(mode)).copied();
    known.ok_or_else(|| {
        Error::invalid(format!(
            "a mux put has an unknown mode; mode=`{mode}` expected 0 to 2"
        ))
    })
}

fn text<'a>(fields: &mut Fields<'a>, len: u16) -> Result<&'a str> {
    str::from_utf8(fields.bytes(usize::from(len))?)
        .map_err(|_| Error::invalid("a name in a mux header is not UTF-8"))
}

fn length(name: &str, max: usize) -> Result<u16> {
    let fits = u16::try_from(name.len()).ok().filter(|_| name.len() <= max);
    fits.ok_or_else(|| {
        Error::invalid(format!(
            "a name is too long; bytes=`{}` expected at most {max}",
            name.len()
        ))
    })
}

pub(super) fn byte(n: usize) -> u8 {
    u8::try_from(n).unwrap_or(u8::MAX)
}
