//! A file copied through a loopback socket: what reading a tensor out of a file and sending it costs at least. The kernel
//! moves the bytes from the file to the socket by itself (`std::io::copy` is `sendfile` there).

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;

use crate::Outcome;
use crate::clock::Stopwatch;
use crate::process::Process;

/// At most so much is read at a time: it stays in the processor's cache.
const READ_BYTES: usize = 64 << 10;

/// The client's end.
pub struct FileTcp {
    _server: Process,
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl FileTcp {
    /// Starts the server and connects.
    pub fn start() -> Outcome<FileTcp> {
        let mut command = Command::new(std::env::current_exe()?);
        let mut server = Process::serve(command.args(["peer", "file-tcp"]))?;
        let stream = TcpStream::connect(server.wait_for("ready ")?)?;
        stream.set_nodelay(true)?;
        Ok(FileTcp {
            _server: server,
            stream,
            buffer: Vec::new(),
        })
    }

    /// Seconds until all bytes of a file are here.
    pub fn copy(&mut self, path: &Path) -> Outcome<f64> {
        let bytes = usize::try_from(path.metadata()?.len())?;
        self.buffer.resize(bytes, 1);
        let watch = Stopwatch::start();
        writeln!(self.stream, "{}", path.display())?;
        for piece in self.buffer.chunks_mut(READ_BYTES) {
            self.stream.read_exact(piece)?;
        }
        Ok(watch.seconds())
    }
}

/// The server's end: a path a line.
pub fn serve() -> Outcome<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    println!("ready {}", listener.local_addr()?);
    let (mut stream, _) = listener.accept()?;
    stream.set_nodelay(true)?;
    let mut lines = BufReader::new(stream.try_clone()?);
    let mut line = String::new();
    while lines.read_line(&mut line)? > 0 {
        std::io::copy(&mut File::open(line.trim_end())?, &mut stream)?;
        line.clear();
    }
    Ok(())
}
