//! A plain socket: the bytes, and a request of nine. What any protocol is measured against.
//!
//! It moves a tensor in pieces that stay in the processor's cache: with one read and one write of the whole it took 1.5 to 2.4 × the
//! time. Of reads of 64 to 256 KiB and writes of 128 KiB to 1 MiB, [`READ_BYTES`] and [`WRITE_BYTES`] were first or near to it
//! everywhere. Which socket buffers are better depends on where the two ends run. On one core, 128 KiB on the way at a time
//! takes 0.2 to 0.3 CPU-seconds a gigabyte and what the kernel makes of it by itself 0.45, for that does not fit the cache;
//! with a core each, more on the way lets both work at a time. So there are two such peers, and the faster one counts.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::Command;

use socket2::{Domain, Socket, Type};

use crate::Outcome;
use crate::clock::Stopwatch;
use crate::peers::{Peer, Work};
use crate::process::Process;

const GET: u8 = 0;
const PUT: u8 = 1;
/// At most so much is read at a time.
const READ_BYTES: usize = 64 << 10;
/// So much is written at a time.
const WRITE_BYTES: usize = 1 << 20;
/// What a sender may have on the way; the kernel counts the double.
const NARROW_BYTES: usize = 128 << 10;
/// What a receiver may have waiting.
const WIDE_BYTES: usize = 4 << 20;

/// How much may be on the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Buffers {
    /// Little: it stays in one core's cache.
    Narrow,
    /// Much: neither end waits for the other.
    Wide,
}

/// The client's end.
pub struct RawTcp {
    server: Process,
    buffers: Buffers,
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl RawTcp {
    /// Starts the server and connects.
    pub fn start(buffers: Buffers) -> Outcome<RawTcp> {
        let name = match buffers {
            Buffers::Narrow => "narrow",
            Buffers::Wide => "wide",
        };
        let mut command = Command::new(std::env::current_exe()?);
        let mut server = Process::serve(command.args(["peer", "raw-tcp", name]))?;
        let address: SocketAddr = server.wait_for("ready ")?.parse()?;
        let socket = socket(buffers)?;
        socket.connect(&address.into())?;
        let stream = TcpStream::from(socket);
        stream.set_nodelay(true)?;
        Ok(RawTcp {
            server,
            buffers,
            stream,
            buffer: Vec::new(),
        })
    }
}

impl Peer for RawTcp {
    fn name(&self) -> &'static str {
        match self.buffers {
            Buffers::Narrow => "raw-tcp",
            Buffers::Wide => "raw-tcp-wide",
        }
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
                send(&mut self.stream, &self.buffer)?;
                self.stream.read_exact(&mut [0])?;
            } else {
                receive(&mut self.stream, &mut self.buffer)?;
            }
        }
        Ok(watch.seconds())
    }
}

/// The server's end: one client, buffers that stay.
pub fn serve(buffers: Buffers) -> Outcome<()> {
    let socket = socket(buffers)?;
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into())?;
    socket.listen(1)?;
    let listener = TcpListener::from(socket);
    println!("ready {}", listener.local_addr()?);
    let (mut stream, _) = listener.accept()?;
    stream.set_nodelay(true)?;
    let mut buffer = Vec::new();
    let mut request = [0; 9];
    while stream.read_exact(&mut request).is_ok() {
        let [work, length @ ..] = request;
        buffer.resize(usize::try_from(u64::from_be_bytes(length))?, 1);
        if work == PUT {
            receive(&mut stream, &mut buffer)?;
            stream.write_all(&[0])?;
        } else {
            send(&mut stream, &buffer)?;
        }
    }
    Ok(())
}

/// Sized before it connects or listens: the window's scale is settled in the first packet, and who is accepted inherits both.
fn socket(buffers: Buffers) -> Outcome<Socket> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    match buffers {
        Buffers::Narrow => socket.set_send_buffer_size(NARROW_BYTES)?,
        Buffers::Wide => socket.set_recv_buffer_size(WIDE_BYTES)?,
    }
    Ok(socket)
}

fn send(stream: &mut TcpStream, from: &[u8]) -> Outcome<()> {
    for piece in from.chunks(WRITE_BYTES) {
        stream.write_all(piece)?;
    }
    Ok(())
}

fn receive(stream: &mut TcpStream, into: &mut [u8]) -> Outcome<()> {
    let mut at = 0;
    while at < into.len() {
        let end = into.len().min(at + READ_BYTES);
        let read = stream.read(&mut into[at..end])?;
        if read == 0 {
            return Err("the other end of the plain socket is gone".into());
        }
        at += read;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_arrive_whole_and_in_order() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut far, _) = listener.accept().unwrap();
        let sent: Vec<u8> = (0..=250).cycle().take(3 * WRITE_BYTES + 7).collect();
        let copy = sent.clone();
        let sender = std::thread::spawn(move || send(&mut near, &copy).unwrap());
        let mut received = vec![0; sent.len()];
        receive(&mut far, &mut received).unwrap();
        sender.join().unwrap();
        assert!(received == sent);
        assert!(receive(&mut far, &mut [0]).is_err());
    }
}
