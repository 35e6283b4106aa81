//! The one place where an error becomes gRPC: status, message and the trailer `bowstring-code`.

use bowstring_wire::error::{Code, Error};
use http::{HeaderMap, HeaderValue};

/// Trailers of a call that went well.
pub fn ok() -> HeaderMap {
    let mut trailers = HeaderMap::with_capacity(1);
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    trailers
}

/// Trailers of a call that failed: the message begins with the stable code and a colon.
pub fn failed(error: &Error) -> HeaderMap {
    let mut trailers = HeaderMap::with_capacity(3);
    trailers.insert("grpc-status", HeaderValue::from(error.code.grpc_status()));
    trailers.insert("grpc-message", percent_encode(&error.to_string()));
    trailers.insert(
        "bowstring-code",
        HeaderValue::from_static(error.code.as_str()),
    );
    trailers
}

/// What a broken request stream means: the peer went away or reset it.
pub fn broken(error: &h2::Error) -> Error {
    Error::new(
        Code::Cancelled,
        format!("the request's stream broke off; reason=`{error}`"),
    )
}

/// gRPC's encoding of messages: printable ASCII as it is, the rest as `%XX` of its UTF-8.
fn percent_encode(message: &str) -> HeaderValue {
    const MESSAGE_BYTES_MAX: usize = 4096;
    let mut encoded = Vec::with_capacity(message.len() + 16);
    for &byte in message.as_bytes() {
        if encoded.len() >= MESSAGE_BYTES_MAX {
            break;
        }
        match byte {
            b'%' | 0..=0x1f | 0x7f.. => {
                const HEX: &[u8; 16] = b"0123456789ABCDEF";
                encoded.extend([
                    b'%',
                    HEX[usize::from(byte >> 4)],
                    HEX[usize::from(byte & 15)],
                ]);
            }
            _ => encoded.push(byte),
        }
    }
    HeaderValue::from_bytes(&encoded).unwrap_or(HeaderValue::from_static("internal"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_start_with_the_code_and_are_percent_encoded() {
        let trailers = failed(&Error::new(Code::NotFound, "no `ключ`\n100%"));
        assert_eq!(trailers["grpc-status"], "5");
        assert_eq!(trailers["bowstring-code"], "not_found");
        assert_eq!(
            trailers["grpc-message"],
            "not_found: no `%D0%BA%D0%BB%D1%8E%D1%87`\\n100%25"
        );
    }

    #[test]
    fn a_hostile_message_is_cut() {
        let trailers = failed(&Error::new(Code::Internal, "\0".repeat(1 << 20)));
        assert!(trailers["grpc-message"].len() <= 4096 + 3);
    }
}
