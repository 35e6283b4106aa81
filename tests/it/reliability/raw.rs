//! gRPC without a gRPC library: what goes over the wire is what the test says, byte for byte.

use std::time::Duration;

use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use h2::{Reason, SendStream};
use http::{HeaderMap, Request};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use bowstring_tests::within;

/// One HTTP/2 connection. Its task ends with it.
pub struct Raw {
    address: String,
    settings: h2::client::Builder,
    send: SendRequest<Bytes>,
    driver: JoinHandle<()>,
}

/// A call that has begun.
pub struct Open {
    response: ResponseFuture,
    request: SendStream<Bytes>,
}

/// How a call ended.
#[derive(Clone, Debug, Default)]
pub struct Answer {
    /// `grpc-status`; none where the stream or the connection broke.
    pub status: Option<i32>,
    /// The trailer `bowstring-code`.
    pub code: String,
    /// `grpc-message`, decoded.
    pub message: String,
    /// The response's messages, with their prefixes.
    pub body: Vec<u8>,
    /// What broke.
    pub broken: Option<String>,
    /// How long it took from when the test asked.
    pub waited: Duration,
}

impl Raw {
    pub async fn connect(address: &str) -> Self {
        let mut settings = h2::client::Builder::new();
        settings
            .initial_window_size(1 << 20)
            .initial_connection_window_size(16 << 20)
            .max_frame_size(1 << 20)
            .max_send_buffer_size(256 << 20);
        Self::connect_with(address, settings).await
    }

    pub async fn connect_with(address: &str, settings: h2::client::Builder) -> Self {
        let connecting = async {
            let socket = TcpStream::connect(address).await.expect("a connection");
            socket.set_nodelay(true).expect("a TCP socket");
            settings.handshake::<_, Bytes>(socket).await
        };
        let (send, connection) = within("a connection", connecting).await.expect("HTTP/2");
        let driver = tokio::spawn(async move {
            // Calls say by themselves that their connection broke.
            let _ = connection.await;
        });
        Self {
            address: address.to_owned(),
            settings,
            send,
            driver,
        }
    }

    /// Begins a call of a Flight verb, on a new connection where the old one is gone.
    pub async fn open(&mut self, verb: &str) -> Open {
        self.open_with(verb, &[]).await
    }

    /// [`Raw::open`] with more headers.
    pub async fn open_with(&mut self, verb: &str, headers: &[(&'static str, &str)]) -> Open {
        for _ in 0..3 {
            let ready = within("room for a stream", self.send.clone().ready()).await;
            if let Ok(mut send) = ready {
                let begun = send.send_request(request(&self.address, verb, headers), false);
                if let Ok((response, request)) = begun {
                    return Open { response, request };
                }
            }
            *self = Self::connect_with(&self.address, self.settings.clone()).await;
        }
        panic!("no stream could be opened on three connections");
    }

    /// A whole call: the frames as they are, then the end.
    pub async fn call(&mut self, verb: &str, frames: impl IntoIterator<Item = Bytes>) -> Answer {
        let mut open = self.open(verb).await;
        for frame in frames {
            open.send(frame, false);
        }
        open.send(Bytes::new(), true);
        open.answer().await
    }

    /// A unary call of one message.
    pub async fn unary(&mut self, verb: &str, message: &[u8]) -> Answer {
        self.call(verb, [prefixed(message).into()]).await
    }

    /// Closes the connection in the middle of whatever it does.
    pub fn hang_up(&mut self) {
        self.driver.abort();
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl Open {
    /// Sends one frame; false where the server wants no more.
    pub fn send(&mut self, frame: Bytes, end: bool) -> bool {
        self.request.send_data(frame, end).is_ok()
    }

    pub fn reset(&mut self) {
        self.request.send_reset(Reason::CANCEL);
    }

    /// Waits for the end of the call.
    pub async fn answer(self) -> Answer {
        let clock = Stopwatch::start();
        let mut answer = within("the end of a call", self.receive()).await;
        answer.waited = clock.elapsed();
        answer
    }

    async fn receive(self) -> Answer {
        // The request's stream lives until the response has ended: dropped before, it is a reset.
        let Self { response, request } = self;
        let mut answer = Answer::default();
        let response = match response.await {
            Ok(response) => response,
            Err(error) => return answer.broken_by(&error),
        };
        answer.read(response.headers());
        let mut body = response.into_body();
        while let Some(data) = body.data().await {
            match data {
                Ok(data) => {
                    let _ = body.flow_control().release_capacity(data.len());
                    answer.body.extend_from_slice(&data);
                }
                Err(error) => return answer.broken_by(&error),
            }
        }
        match body.trailers().await {
            Ok(Some(trailers)) => answer.read(&trailers),
            Ok(None) => {}
            Err(error) => return answer.broken_by(&error),
        }
        drop(request);
        answer
    }
}

impl Answer {
    pub fn is_ok(&self) -> bool {
        self.status == Some(0) && self.broken.is_none()
    }

    /// The response's messages without their prefixes.
    pub fn messages(&self) -> Vec<&[u8]> {
        let mut rest = &self.body[..];
        let mut messages = Vec::new();
        while let Some((prefix, after)) = rest.split_first_chunk::<5>() {
            let [_, length @ ..] = *prefix;
            let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
            let (message, after) = after.split_at(length.min(after.len()));
            messages.push(message);
            rest = after;
        }
        messages
    }

    fn broken_by(mut self, error: &h2::Error) -> Self {
        // After a whole answer a server may reset what is left of the request.
        if self.status.is_none() {
            self.broken = Some(error.to_string());
        }
        self
    }

    fn read(&mut self, headers: &HeaderMap) {
        let text = |name| headers.get(name).map(http::HeaderValue::as_bytes);
        if let Some(status) = text("grpc-status") {
            let status = std::str::from_utf8(status).ok();
            self.status = status.and_then(|status| status.parse().ok());
        }
        if let Some(message) = text("grpc-message") {
            self.message = percent_decoded(message);
        }
        if let Some(code) = text("bowstring-code") {
            self.code = String::from_utf8_lossy(code).into_owned();
        }
    }
}

/// A message behind gRPC's prefix.
pub fn prefixed(message: &[u8]) -> Vec<u8> {
    let length = u32::try_from(message.len()).expect("a message below 4 GiB");
    let mut out = Vec::with_capacity(5 + message.len());
    out.push(0);
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(message);
    out
}

fn request(address: &str, verb: &str, headers: &[(&'static str, &str)]) -> Request<()> {
    let path = if verb.starts_with('/') {
        verb.to_owned()
    } else {
        format!("/arrow.flight.protocol.FlightService/{verb}")
    };
    let mut request = Request::post(format!("http://{address}{path}"))
        .header("te", "trailers")
        .header("content-type", "application/grpc");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(()).expect("a request")
}

fn percent_decoded(text: &[u8]) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&byte, after)) = rest.split_first() {
        let escaped = after.get(..2).filter(|_| byte == b'%');
        let decoded = escaped
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match decoded {
            Some(decoded) => {
                out.push(decoded);
                rest = &after[2..];
            }
            None => {
                out.push(byte);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// Time for the reports: nothing is judged by it.
pub struct Stopwatch(std::time::Instant);

impl Stopwatch {
    #[expect(clippy::disallowed_methods, reason = "for a report, not an assertion")]
    pub fn start() -> Self {
        Self(std::time::Instant::now())
    }

    pub fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }
}
