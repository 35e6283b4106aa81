//! memcached: for what a small entry costs.

use crate::Outcome;
use crate::peers::redis::{free_port, tool, until_it_listens};
use crate::process::Process;

/// A server process.
pub struct Memcached {
    process: Process,
    /// On loopback.
    pub port: u16,
}

impl Memcached {
    /// Starts one with so many MiB.
    pub fn start(mib: u32) -> Outcome<Memcached> {
        let port = free_port()?;
        let mut command = tool("memcached")?;
        command.args(["-l", "127.0.0.1", "-U", "0", "-u", "root"]);
        command.args(["-p", &port.to_string(), "-m", &mib.to_string()]);
        let process = Process::serve(&mut command)?;
        until_it_listens("memcached", port)?;
        Ok(Memcached { process, port })
    }

    /// Its process.
    pub fn id(&self) -> u32 {
        self.process.id()
    }
}
