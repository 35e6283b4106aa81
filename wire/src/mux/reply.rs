//! The header of a reply's message.

use bytes::BufMut;

use super::MUX_VERSION;
use super::code::{from_number, to_number};
use super::field::{Fields, put_version};
use super::request::{byte, dtype_of, id_of, shape};
use crate::dtype::DType;
use crate::error::{Code, Error, Result, clip};
use crate::limits::MAX_ERROR_BYTES;
use crate::shape::Shape;
use crate::version::Version;

/// One message of a reply. A reply is one `Stored`, one `Failed`, or a `Tensor` and as many `More`
/// as its bytes take; a `Failed` may also end a reply that began.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MuxReply {
    /// A tensor's description and, for a get, the first of its bytes in the body.
    Tensor {
        /// The description.
        tensor: MuxTensor,
        /// Whether `More` follows.
        more: bool,
    },
    /// The next bytes of a tensor.
    More {
        /// Whether another `More` follows.
        more: bool,
    },
    /// A put's outcome.
    Stored {
        /// The version that the key has now.
        version: Version,
        /// True when what was there stayed and nothing was stored.
        existed: bool,
    },
    /// An error, which ends the reply.
    Failed(Error),
}

/// What is said of a tensor before its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MuxTensor {
    /// Element type.
    pub dtype: DType,
    /// Shape; of the rows, where rows were asked for. It gives the number of bytes.
    pub shape: Shape,
    /// The entry's version.
    pub version: Version,
    /// xxh3-128 of the bytes; absent where rows were asked for.
    pub checksum: Option<u128>,
}

const TENSOR: u8 = 1;
const MORE: u8 = 2;
const STORED: u8 = 3;
const FAILED: u8 = 4;

const FOLLOWED: u8 = 1;
const CHECKSUM: u8 = 1 << 1;
const EXISTED: u8 = 1 << 2;

impl MuxReply {
    /// Reads the header of a message: the number of its request, and what it is.
    ///
    /// # Errors
    /// `invalid_argument` or `unimplemented`: no reply of this version.
    pub fn decode(header: &[u8]) -> Result<(u32, MuxReply)> {
        let id = id_of(header)?;
        let mut fields = Fields(header);
        fields.u8()?;
        let (kind, flags, code) = (fields.u8()?, fields.u8()?, fields.u8()?);
        fields.u32()?;
        let known = match kind {
            TENSOR => FOLLOWED | CHECKSUM,
            MORE => FOLLOWED,
            STORED => EXISTED,
            FAILED => 0,
            _ => {
                return Err(Error::unimplemented(format!(
                    "no such kind of a mux reply; kind=`{kind}`"
                )));
            }
        };
        if flags & !known != 0 || (code != 0) != (kind == FAILED) {
            return Err(Error::invalid(format!(
                "a mux reply has flags or a code that its kind has not; kind=`{kind}` \
                 flags=`{flags:#x}` code=`{code}`"
            )));
        }
        let more = flags & FOLLOWED != 0;
        let reply = match kind {
            TENSOR => {
                let version = fields.version()?;
                let (dtype, rank) = (dtype_of(fields.u8()?)?, fields.u8()?);
                fields.zeros::<2>()?;
                let checksum = fields.u128()?;
                let shape = shape(&mut fields, rank)?;
                shape.bytes(dtype)?;
                let tensor = MuxTensor {
                    dtype,
                    shape,
                    version,
                    checksum: (flags & CHECKSUM != 0).then_some(checksum),
                };
                MuxReply::Tensor { tensor, more }
            }
            MORE => MuxReply::More { more },
            STORED => MuxReply::Stored {
                version: fields.version()?,
                existed: flags & EXISTED != 0,
            },
            _ => {
                let message = std::mem::take(&mut fields.0);
                let message = String::from_utf8_lossy(message);
                let code = from_number(code).unwrap_or(Code::Internal);
                let message = clip(&message, MAX_ERROR_BYTES).into_owned();
                MuxReply::Failed(Error::new(code, message))
            }
        };
        fields.end()?;
        Ok((id, reply))
    }

    /// Appends the header to `out`.
    pub fn encode(&self, id: u32, out: &mut impl BufMut) {
        let flag = |set: bool, flag: u8| if set { flag } else { 0 };
        let (kind, flags, code) = match self {
            MuxReply::Tensor { tensor, more } => {
                let checksum = flag(tensor.checksum.is_some(), CHECKSUM);
                (TENSOR, flag(*more, FOLLOWED) | checksum, 0)
            }
            MuxReply::More { more } => (MORE, flag(*more, FOLLOWED), 0),
            MuxReply::Stored { existed, .. } => (STORED, flag(*existed, EXISTED), 0),
            MuxReply::Failed(error) => (FAILED, 0, to_number(error.code)),
        };
        out.put_slice(&[MUX_VERSION, kind, flags, code]);
        out.put_u32_le(id);
        match self {
            MuxReply::Tensor { tensor, .. } => {
                put_version(out, tensor.version);
                out.put_slice(&[tensor.dtype.code(), byte(tensor.shape.rank()), 0, 0]);
                out.put_u128_le(tensor.checksum.unwrap_or(0));
                for dim in tensor.shape.dims() {
                    out.put_u64_le(*dim);
                }
            }
            MuxReply::More { .. } => {}
            MuxReply::Stored { version, .. } => put_version(out, *version),
            MuxReply::Failed(error) => {
                out.put_slice(clip(&error.message, MAX_ERROR_BYTES).as_bytes());
            }
        }
    }
}
