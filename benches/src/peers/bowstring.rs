//! A real `bowstring serve` and the Rust client.

use std::process::Command;

use bowstring_client::{Connection, DType, Descriptor, Shape};

use crate::Outcome;
use crate::clock::Stopwatch;
use crate::peers::{CELL, Peer, Work};
use crate::process::{Process, beside};

/// A server process and where it listens.
pub struct Server {
    process: Process,
    /// `grpc://HOST:PORT`.
    pub flight: String,
}

impl Server {
    /// Starts the binary beside this one with so much memory (`2GiB`).
    pub fn start(memory: &str) -> Outcome<Server> {
        Server::start_with(memory, &[])
    }

    /// The same with more flags.
    pub fn start_with(memory: &str, flags: &[&str]) -> Outcome<Server> {
        let mut command = Command::new(beside("bowstring")?);
        command.args([
            "serve",
            "--listen",
            "127.0.0.1:0",
            "--http",
            "127.0.0.1:0",
            "--memory",
            memory,
        ]);
        command.args(flags);
        let mut process = Process::serve(&mut command)?;
        let flight = process.wait_for("flight ")?;
        process.wait_for("http ")?;
        Ok(Server { process, flight })
    }

    /// Its process.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// A new connection of the Rust client.
    pub fn connect(&self) -> Outcome<Connection> {
        Ok(Connection::connect(&self.flight.parse()?)?)
    }
}

/// The Rust client against a server.
pub struct Bowstring {
    pid: u32,
    connection: Connection,
    buffer: Vec<u8>,
}

impl Bowstring {
    /// Connects to `server`, which must outlive this.
    pub fn new(server: &Server) -> Outcome<Bowstring> {
        Ok(Bowstring {
            pid: server.id(),
            connection: server.connect()?,
            buffer: Vec::new(),
        })
    }
}

impl Peer for Bowstring {
    fn name(&self) -> &'static str {
        "bowstring"
    }

    fn pids(&self) -> Vec<u32> {
        vec![self.pid, std::process::id()]
    }

    fn prepare(&mut self, bytes: u64) -> Outcome<()> {
        self.buffer = (0..bytes / 4)
            .flat_map(|i| (i as f32).to_le_bytes())
            .collect();
        self.run(Work::Put, bytes, 1)?;
        let put = self.buffer.clone();
        self.run(Work::Get, bytes, 1)?;
        if put != self.buffer {
            return Err("a get did not return what was put".into());
        }
        Ok(())
    }

    fn run(&mut self, work: Work, bytes: u64, ops: u32) -> Outcome<f64> {
        let shape = Shape::new(&[bytes / 4 / CELL, CELL])?;
        let command = format!(r#"{{"key": "t{bytes}", "mode": "replace"}}"#);
        let ticket = format!(r#"{{"key": "t{bytes}"}}"#);
        let watch = Stopwatch::start();
        for _ in 0..ops {
            if work == Work::Put {
                let descriptor = Descriptor::Command(command.as_bytes());
                self.connection
                    .put(descriptor, DType::Float32, &shape, &self.buffer)?;
            } else {
                self.connection
                    .get_into(ticket.as_bytes(), &mut self.buffer)?;
            }
        }
        Ok(watch.seconds())
    }
}
