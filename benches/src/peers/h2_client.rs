//! Our server read through the `h2` crate, with frames and windows as large as they go: what the Rust client's own transport
//! is to be judged by. Gets only.

use bowstring_wire::flight_data::{Event, Parser};
use bytes::{BufMut, Bytes, BytesMut};
use h2::client::SendRequest;
use http::Request;
use tokio::net::TcpStream;
use tokio::runtime::Runtime;

use crate::Outcome;
use crate::clock::Stopwatch;
use crate::peers::bowstring::Server;
use crate::peers::{Peer, Work};

/// The largest frame and the largest window that HTTP/2 has.
const FRAME_MAX: u32 = (1 << 24) - 1;
const WINDOW_MAX: u32 = (1 << 31) - 1;

/// The client's end.
pub struct H2Client {
    pid: u32,
    runtime: Runtime,
    requests: SendRequest<Bytes>,
    authority: String,
    buffer: Vec<u8>,
}

impl H2Client {
    /// Connects to `server`, which must outlive this, and on which another peer has put the tensors.
    pub fn new(server: &Server) -> Outcome<H2Client> {
        let authority = server.flight.trim_start_matches("grpc://").to_owned();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let requests = runtime.block_on(async {
            let stream = TcpStream::connect(&authority).await?;
            stream.set_nodelay(true)?;
            let mut builder = h2::client::Builder::new();
            builder
                .max_frame_size(FRAME_MAX)
                .initial_window_size(WINDOW_MAX);
            builder.initial_connection_window_size(WINDOW_MAX);
            let (requests, connection) = builder.handshake(stream).await?;
            tokio::spawn(connection);
            Outcome::Ok(requests)
        })?;
        Ok(H2Client {
            pid: server.id(),
            runtime,
            requests,
            authority,
            buffer: Vec::new(),
        })
    }
}

impl Peer for H2Client {
    fn name(&self) -> &'static str {
        "bowstring-h2-crate"
    }

    fn pids(&self) -> Vec<u32> {
        vec![self.pid, std::process::id()]
    }

    fn can(&self, work: Work) -> bool {
        work == Work::Get
    }

    fn prepare(&mut self, bytes: u64) -> Outcome<()> {
        self.buffer = vec![0; usize::try_from(bytes)?];
        self.run(Work::Get, bytes, 1).map(drop)
    }

    fn run(&mut self, _: Work, bytes: u64, ops: u32) -> Outcome<f64> {
        let ticket = format!(r#"{{"key": "t{bytes}"}}"#);
        let (runtime, requests, buffer) = (&self.runtime, &mut self.requests, &mut self.buffer);
        let watch = Stopwatch::start();
        for _ in 0..ops {
            let got = runtime.block_on(get(requests, &self.authority, &ticket, buffer))?;
            if got as u64 != bytes {
                return Err(format!("the h2 crate's client got {got} of {bytes} bytes").into());
            }
        }
        Ok(watch.seconds())
    }
}

async fn get(
    requests: &mut SendRequest<Bytes>,
    authority: &str,
    ticket: &str,
    into: &mut [u8],
) -> Outcome<usize> {
    let request = Request::post(format!(
        "http://{authority}/arrow.flight.protocol.FlightService/DoGet"
    ))
    .header("content-type", "application/grpc")
    .header("te", "trailers")
    .header("user-agent", "bowstring-rs/bench")
    .body(())?;
    // One protobuf field of fewer than 128 bytes behind the gRPC prefix.
    let length = u8::try_from(ticket.len())?;
    let mut message = BytesMut::new();
    message.put_slice(&[0, 0, 0, 0, length + 2, 0x0a, length]);
    message.put_slice(ticket.as_bytes());
    let mut free = requests.clone();
    std::future::poll_fn(|cx| free.poll_ready(cx)).await?;
    let (response, mut body) = free.send_request(request, false)?;
    body.send_data(message.freeze(), true)?;
    let mut body = response.await?.into_body();
    let mut parser = Parser::new();
    let mut at = 0;
    while let Some(data) = body.data().await {
        let data = data?;
        body.flow_control().release_capacity(data.len())?;
        parser.push(data);
        while let Some(event) = parser.next_event()? {
            if let Event::BodyChunk(chunk) = event {
                let place = into
                    .get_mut(at..at + chunk.len())
                    .ok_or("more bytes than expected")?;
                place.copy_from_slice(&chunk);
                at += chunk.len();
            }
        }
    }
    body.trailers().await?;
    Ok(at)
}
