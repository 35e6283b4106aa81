//! HTTP/2 without an HTTP/2 library: frames that a library would not send, from a client that need not
//! read.

use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

/// What a client says first.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;
pub const END_STREAM: u8 = 1;
pub const END_HEADERS: u8 = 4;

const INITIAL_WINDOW_SIZE: u16 = 4;
const WINDOW_MAX: u32 = (1 << 31) - 1;
const WINDOW_START: u32 = (1 << 16) - 1;

/// One frame.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a frame below 16 MiB");
    let mut out = length.to_be_bytes()[1..].to_vec();
    out.extend([kind, flags]);
    out.extend(stream.to_be_bytes());
    out.extend_from_slice(payload);
    out
}

/// The header block of a call, nothing of it compressed.
pub fn request(verb: &str) -> Vec<u8> {
    let path = format!("/arrow.flight.protocol.FlightService/{verb}");
    let fields = [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", &path),
        (":authority", "localhost"),
        ("te", "trailers"),
        ("content-type", "application/grpc"),
    ];
    fields
        .into_iter()
        .flat_map(|(name, value)| literal(name, value))
        .collect()
}

/// A header that is not to be remembered.
pub fn literal(name: &str, value: &str) -> Vec<u8> {
    let mut out = vec![0];
    for text in [name, value] {
        // Lengths below 127 fit the seven bits.
        out.push(u8::try_from(text.len()).expect("a short text"));
        out.extend(text.bytes());
    }
    out
}

/// A connection that has greeted the server. Windows are as wide as can be.
pub async fn connect(address: &str) -> TcpStream {
    connect_with(address, None).await
}

/// A connection whose end takes at most about `receive_bytes` before it is read.
pub async fn connect_with(address: &str, receive_bytes: Option<usize>) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP)).expect("a socket");
    if let Some(bytes) = receive_bytes {
        socket.set_recv_buffer_size(bytes).expect("a small buffer");
    }
    let address: std::net::SocketAddr = address.parse().expect("an address");
    socket.connect(&address.into()).expect("a connection");
    socket.set_nonblocking(true).expect("a socket");
    let mut stream = TcpStream::from_std(socket.into()).expect("a socket");
    let mut hello = PREFACE.to_vec();
    let mut settings = INITIAL_WINDOW_SIZE.to_be_bytes().to_vec();
    settings.extend(WINDOW_MAX.to_be_bytes());
    hello.extend(frame(SETTINGS, 0, 0, &settings));
    let more = WINDOW_MAX - WINDOW_START;
    hello.extend(frame(WINDOW_UPDATE, 0, 0, &more.to_be_bytes()));
    stream.write_all(&hello).await.expect("a greeting");
    stream
}
