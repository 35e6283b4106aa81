//! One gRPC call by hand, for what no stock client can be made to send.

use bytes::{BufMut as _, Bytes, BytesMut};
use h2::client::SendRequest;
use http::{HeaderMap, Request};
use prost::Message;
use tokio::net::TcpStream;

use bowstring_tests::within;

/// How a call was answered.
#[derive(Debug)]
pub struct Answer {
    pub headers: HeaderMap,
    /// Where there was no body, these are the headers again.
    pub trailers: HeaderMap,
    pub body: Vec<u8>,
}

impl Answer {
    /// The trailer `bowstring-code`; empty after success.
    pub fn code(&self) -> &str {
        let code = self.trailers.get("bowstring-code");
        code.map_or("", |code| code.to_str().expect("ASCII"))
    }

    /// The trailer `grpc-status`.
    pub fn status(&self) -> &str {
        let status = self.trailers.get("grpc-status").expect("a status");
        status.to_str().expect("ASCII")
    }
}

/// An HTTP/2 connection whose task ends with the runtime.
pub async fn connect(address: &str) -> SendRequest<Bytes> {
    let socket = TcpStream::connect(address).await.expect("a connection");
    let handshake = h2::client::Builder::new().handshake(socket);
    let (send, connection) = within("a handshake", handshake).await.expect("HTTP/2");
    tokio::spawn(connection);
    send
}

/// Calls `path` with these headers beside gRPC's own. `end` ends the request; without it the
/// server waits for more.
pub async fn call(
    send: &SendRequest<Bytes>,
    path: &str,
    headers: &[(&str, &str)],
    body: Bytes,
    end: bool,
) -> Answer {
    let mut request = Request::post(format!("http://localhost{path}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers");
    for (name, value) in headers {
        request.headers_mut().expect("a request").remove(*name);
        request = request.header(*name, *value);
    }
    let request = request.body(()).expect("a request");
    within("an answer", async {
        let mut send = send.clone().ready().await.expect("a connection");
        let (response, mut stream) = send.send_request(request, false).expect("a stream");
        stream.send_data(body, end).expect("a body");
        let (head, mut body) = response.await.expect("a response").into_parts();
        let mut answer = Answer {
            headers: head.headers.clone(),
            trailers: head.headers,
            body: Vec::new(),
        };
        while let Some(data) = body.data().await {
            let data = data.expect("data");
            body.flow_control()
                .release_capacity(data.len())
                .expect("a window");
            answer.body.extend_from_slice(&data);
        }
        // After an answer of headers alone the server may reset what it will not read.
        if let Ok(Some(trailers)) = body.trailers().await {
            answer.trailers = trailers;
        }
        answer
    })
    .await
}

/// A message behind gRPC's prefix.
pub fn framed(message: &impl Message) -> Bytes {
    let mut framed = BytesMut::new();
    framed.put_u8(0);
    framed.put_u32(u32::try_from(message.encoded_len()).expect("a message"));
    message.encode(&mut framed).expect("room");
    framed.freeze()
}
