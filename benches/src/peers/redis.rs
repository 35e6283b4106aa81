//! Redis, without persistence, and redis-benchmark.

use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use crate::Outcome;
use crate::clock::Stopwatch;
use crate::load::{Sample, children_cpu};
use crate::process::{CpuUse, Process};

/// A server process.
pub struct Redis {
    process: Process,
    /// On loopback.
    pub port: u16,
}

impl Redis {
    /// Starts one that keeps everything in memory and nothing on disk.
    pub fn start() -> Outcome<Redis> {
        let port = free_port()?;
        let mut command = tool("redis-server")?;
        command.args(["--port", &port.to_string(), "--bind", "127.0.0.1"]);
        command.args(["--save", "", "--appendonly", "no", "--loglevel", "warning"]);
        let process = Process::serve(&mut command)?;
        until_it_listens("redis-server", port)?;
        Ok(Redis { process, port })
    }

    /// Its process.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// `redis://HOST:PORT`.
    pub fn uri(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Has redis-benchmark do `count` of one command (`get`, `set`), with so many clients, so many commands pipelined, values of so many
    /// bytes and so many keys.
    pub fn benchmark(
        &self,
        test: &str,
        count: u64,
        [clients, pipeline]: [u32; 2],
        bytes: u64,
        keys: u64,
    ) -> Outcome<Sample> {
        let mut command = tool("redis-benchmark")?;
        command.args(["-p", &self.port.to_string(), "-t", test, "--csv"]);
        command.args(["-n", &count.to_string(), "-d", &bytes.to_string()]);
        command.args(["-c", &clients.to_string(), "-P", &pipeline.to_string()]);
        if keys > 1 {
            command.args(["-r", &keys.to_string()]);
        }
        let (server, client) = (CpuUse::of(self.id()), children_cpu()?);
        let done = command.stderr(Stdio::inherit()).output()?;
        let cpu = CpuUse::of(self.id()).since(&server) + children_cpu()? - client;
        let told = String::from_utf8(done.stdout)?;
        Ok(Sample {
            per_second: per_second(&told, test)?,
            cpu_micros: cpu / count as f64 * 1e6,
            p99_9_micros: f64::NAN,
            misses: 0,
            operations: count as f64,
        })
    }
}

/// The second column of the row of that test.
fn per_second(csv: &str, test: &str) -> Outcome<f64> {
    let row = format!("\"{}\",\"", test.to_uppercase());
    let rest = csv.lines().find_map(|line| line.strip_prefix(&row));
    let rate = rest.and_then(|rest| rest.split('"').next()?.parse().ok());
    rate.ok_or_else(|| format!("redis-benchmark said no rate: {csv}").into())
}

/// A program that `install-peers` has put under target/, or that the system has.
pub fn tool(name: &str) -> Outcome<Command> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/peers/root/usr");
    let ours = root.join("bin").join(name);
    let mut command = if ours.exists() {
        let mut command = Command::new(ours);
        // Debian's folder for libraries, of whichever processor.
        let libraries = format!("lib/{}-linux-gnu", std::env::consts::ARCH);
        command.env("LD_LIBRARY_PATH", root.join(libraries));
        command
    } else {
        Command::new(name)
    };
    let found = command.arg("--version").output();
    if !found.is_ok_and(|found| found.status.success()) {
        return Err(format!("no {name}: compare --install-peers brings it").into());
    }
    let mut again = Command::new(command.get_program());
    again.envs(
        command
            .get_envs()
            .filter_map(|(name, value)| Some((name, value?))),
    );
    Ok(again)
}

/// One that nobody has now; whoever is started takes it at once.
pub fn free_port() -> Outcome<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// Waits for a server that does not say when it is ready.
pub fn until_it_listens(name: &str, port: u16) -> Outcome<()> {
    let watch = Stopwatch::start();
    while watch.seconds() < 10.0 {
        if TcpStream::connect(("127.0.0.1", port)).is_ok() {
            return Ok(());
        }
        thread::sleep(Duration::from_millis(20));
    }
    Err(format!("{name} does not listen").into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_found() {
        let csv =
            "\"test\",\"rps\"\n\"SET\",\"79365.08\",\"0.014\"\n\"GET\",\"93896.71\",\"0.012\"\n";
        assert_eq!(per_second(csv, "get").unwrap(), 93896.71);
        assert!(per_second("ERROR", "get").is_err());
    }

    #[test]
    fn a_tool_that_is_not_there_says_how_it_comes() {
        let why = tool("no-such-peer").unwrap_err().to_string();
        assert!(why.contains("no-such-peer") && why.contains("--install-peers"));
    }
}
