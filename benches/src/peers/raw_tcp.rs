//! A plain socket: the bytes, and a request of nine. What any protocol is measured against.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Command;

use crate::Outcome;
use crate::clock::Stopwatch;
use crate::peers::{Peer, Work};
use crate::process::Process;

const GET: u8 = 0;
const PUT: u8 = 1;

/// The client's end.
pub struct RawTcp {
    server: Process,
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl RawTcp {
    /// Starts the server and connects.
    pub fn start() -> Outcome<RawTcp> {
        let mut server =
            Process::start(Command::new(std::env::current_exe()?).args(["peer", "raw-tcp"]))?;
        let stream = TcpStream::connect(server.wait_for("ready ")?)?;
        stream.set_nodelay(true)?;
        Ok(RawTcp {
            server,
            stream,
            buffer: Vec::new(),
        })
    }
}

impl Peer for RawTcp {
    fn name(&self) -> &'static str {
        "raw-tcp"
    }

    fn pids(&self) -> Vec<u32> {
        vec![self.server.id(), std::process::id()]
    }

    fn prepare(&mut self, bytes: u64) -> Outcome<()> {
        self.buffer = vec![1; usize::try_from(bytes)?];
        self.run(Work::Get, bytes, 1)?;
        self.run(Work::Put, bytes, 1).map(drop)
    }

    fn run(&mut self, work: Work, bytes: u64, ops: u32) -> Outcome<f64> {
        let mut request = [0; 9];
        request[0] = if work == Work::Put { PUT } else { GET };
        request[1..].copy_from_slice(&bytes.to_be_bytes());
        let watch = Stopwatch::start();
        for _ in 0..ops {
            self.stream.write_all(&request)?;
            if work == Work::Put {
                self.stream.write_all(&self.buffer)?;
                self.stream.read_exact(&mut [0])?;
            } else {
                self.stream.read_exact(&mut self.buffer)?;
            }
        }
        Ok(watch.seconds())
    }
}

/// The server's end: one client, buffers that stay.
pub fn serve() -> Outcome<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    println!("ready {}", listener.local_addr()?);
    let (mut stream, _) = listener.accept()?;
    stream.set_nodelay(true)?;
    let mut buffer = Vec::new();
    let mut request = [0; 9];
    while stream.read_exact(&mut request).is_ok() {
        let [work, length @ ..] = request;
        buffer.resize(usize::try_from(u64::from_be_bytes(length))?, 1);
        if work == PUT {
            stream.read_exact(&mut buffer)?;
            stream.write_all(&[0])?;
        } else {
            stream.write_all(&buffer)?;
        }
    }
    Ok(())
}
