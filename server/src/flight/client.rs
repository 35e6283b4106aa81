//! What is known of a client by the name it gives itself.

use http::HeaderMap;

/// A kind of client that we treat in its own way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Client {
    /// Arrow's C++ client on gRPC C++: PyArrow, R, Ruby, ….
    GrpcCpp,
    /// Our own.
    Bowstring,
    /// Any other.
    Other,
}

impl Client {
    /// Reads `user-agent`.
    pub fn of(headers: &HeaderMap) -> Self {
        let agent = headers
            .get("user-agent")
            .map_or(&b""[..], |agent| agent.as_bytes());
        if agent.windows(8).any(|part| part == b"grpc-c++") {
            Self::GrpcCpp
        } else if agent.starts_with(b"bowstring") {
            Self::Bowstring
        } else {
            Self::Other
        }
    }

    /// Whether it takes messages over gRPC's default of 4 MiB.
    pub fn takes_large_messages(self) -> bool {
        self != Self::Other
    }

    /// Whether a message's body must begin a DATA frame. gRPC C++ hands a message that came in one
    /// frame on where it lies, at any address; one that came in two it joins in memory of its own,
    /// which is aligned, and then so is the body (by the padding of `encode_head`).
    pub fn wants_body_in_its_own_frame(self) -> bool {
        self == Self::GrpcCpp
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_are_told_apart_by_their_agent() {
        let of = |agent: &str| {
            let mut headers = HeaderMap::new();
            headers.insert("user-agent", agent.parse().unwrap());
            Client::of(&headers)
        };
        assert_eq!(
            of("grpc-c++/1.71.0 grpc-c/46.0.0 (linux; chttp2)"),
            Client::GrpcCpp
        );
        assert_eq!(of("arrow-flight grpc-c++/1.60"), Client::GrpcCpp);
        assert_eq!(of("bowstring/0.1.0"), Client::Bowstring);
        assert_eq!(of("tonic/0.14.9"), Client::Other);
        assert_eq!(Client::of(&HeaderMap::new()), Client::Other);
    }
}
