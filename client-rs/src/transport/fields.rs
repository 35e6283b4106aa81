//! Header fields: the request's, written plainly, and the response's, as far as gRPC and we look at them.

use bowstring_wire::error::{Code, Error};

/// What we advertise as the largest header list, and the most that we keep of one block.
pub(super) const HEADER_LIST_MAX: usize = 64 << 10;

/// The header block of a gRPC request. Every field is a literal without indexing (RFC 7541, section 6.2.2), so that
/// nothing has to be remembered between requests; it is some 200 bytes.
pub(super) fn request(path: &str, authority: &str) -> Vec<u8> {
    let mut block = Vec::with_capacity(256);
    // `:method: POST` and `:scheme: http` are entries of the static table.
    block.extend_from_slice(&[0x80 | 3, 0x80 | 6]);
    for (name, value) in [
        (":path", path),
        (":authority", authority),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
        (
            "user-agent",
            concat!("bowstring-rs/", env!("CARGO_PKG_VERSION")),
        ),
    ] {
        block.push(0);
        put_string(&mut block, name);
        put_string(&mut block, value);
    }
    block
}

fn put_string(block: &mut Vec<u8>, text: &str) {
    // A 7-bit prefix integer, its top bit (Huffman) off.
    let mut length = text.len();
    if length < 127 {
        block.push(u8::try_from(length).unwrap_or(127));
    } else {
        block.push(127);
        length -= 127;
        while length >= 128 {
            block.push(0x80 | u8::try_from(length & 0x7f).unwrap_or(0));
            length >>= 7;
        }
        block.push(u8::try_from(length).unwrap_or(0));
    }
    block.extend_from_slice(text.as_bytes());
}

/// What a response's headers and trailers said.
#[derive(Debug, Default)]
pub(super) struct Fields {
    /// The HTTP status; 0 until the headers came.
    pub(super) status: u16,
    grpc_status: Option<i32>,
    message: String,
    code: Option<Code>,
}

impl Fields {
    /// Takes over one decoded field; what we do not look at is left out.
    pub(super) fn take(&mut self, name: &[u8], value: &[u8]) {
        let text = || std::str::from_utf8(value).ok();
        match name {
            b":status" => self.status = text().and_then(|text| text.parse().ok()).unwrap_or(0),
            b"grpc-status" => {
                self.grpc_status = Some(text().and_then(|text| text.parse().ok()).unwrap_or(2))
            }
            b"grpc-message" => self.message = percent_decoded(value),
            b"bowstring-code" => self.code = text().and_then(Code::from_str),
            _ => {}
        }
    }

    /// Nothing has come that says how the call ended.
    pub(super) fn is_empty(&self) -> bool {
        self.grpc_status.is_none() && matches!(self.status, 0 | 200)
    }

    /// How the call ended, once the stream has.
    pub(super) fn outcome(&self) -> Result<(), Error> {
        let status = match self.grpc_status {
            Some(0) => return Ok(()),
            Some(status) => status,
            None => {
                let code = if self.status == 200 {
                    Code::Internal
                } else {
                    Code::Unavailable
                };
                return Err(Error::new(
                    code,
                    format!(
                        "the response ended without a gRPC status, http_status=`{}`",
                        self.status
                    ),
                ));
            }
        };
        let code = self.code.unwrap_or_else(|| from_grpc(status));
        // The message begins with the code, as every client must see it; ours shows the code by itself.
        let message = self
            .message
            .strip_prefix(code.as_str())
            .and_then(|rest| rest.strip_prefix(": "));
        Err(Error::new(
            code,
            message.unwrap_or(&self.message).to_owned(),
        ))
    }
}

/// The code of a status that came without a `bowstring-code`.
fn from_grpc(status: i32) -> Code {
    match status {
        1 => Code::Cancelled,
        3 | 11 => Code::InvalidArgument,
        4 => Code::DeadlineExceeded,
        5 => Code::NotFound,
        6 => Code::AlreadyExists,
        7 => Code::PermissionDenied,
        8 => Code::ResourceExhausted,
        9 => Code::FailedPrecondition,
        10 | 14 => Code::Unavailable,
        12 => Code::Unimplemented,
        15 => Code::DataLoss,
        16 => Code::Unauthenticated,
        _ => Code::Internal,
    }
}

fn percent_decoded(value: &[u8]) -> String {
    let mut out = Vec::with_capacity(value.len());
    let mut rest = value;
    while let Some((first, after)) = rest.split_first() {
        let hex = after.get(..2).and_then(|two| std::str::from_utf8(two).ok());
        match hex.and_then(|two| u8::from_str_radix(two, 16).ok()) {
            Some(byte) if *first == b'%' => {
                out.push(byte);
                rest = &after[2..];
            }
            _ => {
                out.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn request_block_decodes() {
        let path = "/x".repeat(200);
        let block = request(&path, "localhost:1");
        let fields = loona_hpack::Decoder::new().decode(&block).unwrap();
        let get = |name: &str| {
            fields
                .iter()
                .find(|(n, _)| n == name.as_bytes())
                .map(|(_, v)| String::from_utf8(v.clone()).unwrap())
        };
        assert_eq!(get(":method").unwrap(), "POST");
        assert_eq!(get(":scheme").unwrap(), "http");
        assert_eq!(get(":path").unwrap(), path);
        assert_eq!(get(":authority").unwrap(), "localhost:1");
        assert_eq!(get("te").unwrap(), "trailers");
    }

    #[test]
    fn our_code_wins_over_the_status() {
        let mut fields = Fields::default();
        fields.take(b":status", b"200");
        fields.take(b"grpc-status", b"9");
        fields.take(
            b"grpc-message",
            b"not_modified: still %E2%82%AC 1, version=`7`",
        );
        fields.take(b"bowstring-code", b"not_modified");
        assert_eq!(
            fields.outcome(),
            Err(Error::new(Code::NotModified, "still € 1, version=`7`"))
        );
    }

    #[test]
    fn a_foreign_status_is_translated() {
        let mut fields = Fields::default();
        fields.take(b"grpc-status", b"5");
        fields.take(b"grpc-message", b"50% gone%2");
        assert_eq!(
            fields.outcome(),
            Err(Error::new(Code::NotFound, "50% gone%2"))
        );
    }

    #[test]
    fn no_status_is_an_error() {
        let mut fields = Fields::default();
        fields.take(b":status", b"502");
        assert_eq!(fields.outcome().unwrap_err().code, Code::Unavailable);
    }
}
