//! An unmodified PyArrow client, against PyArrow's C++ Flight server and against ours.

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::rc::Rc;

use crate::Outcome;
use crate::peers::{Peer, Work};
use crate::process::Process;

/// A Python with PyArrow, and where its scripts lie.
pub struct Python {
    interpreter: PathBuf,
    scripts: PathBuf,
}

impl Python {
    /// The tests' own environment.
    pub fn find() -> Outcome<Python> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let interpreter = root.join("../tests/.venv/bin/python");
        let found = Command::new(&interpreter)
            .args(["-c", "import pyarrow.flight, numpy"])
            .status();
        if found.is_ok_and(|status| status.success()) {
            return Ok(Python {
                interpreter,
                scripts: root.join("python"),
            });
        }
        Err("no tests/.venv with pyarrow: ./tests/run makes it".into())
    }

    /// Starts the C++ server; its `grpc://` address.
    pub fn server(&self) -> Outcome<(Process, String)> {
        let mut process = Process::serve(&mut self.command("pyarrow_server.py"))?;
        let address = process.wait_for("ready ")?;
        Ok((process, format!("grpc://{address}")))
    }

    /// Starts a client process, which talks to any number of servers.
    pub fn client(&self) -> Outcome<Rc<RefCell<Process>>> {
        let client = Process::start(&mut self.command("pyarrow_client.py"))?;
        Ok(Rc::new(RefCell::new(client)))
    }

    /// Starts a client process for many tensors at a time, of a Flight server or of Redis.
    pub fn many_client(&self) -> Outcome<Process> {
        let packages = self.scripts.join("../../target/peers/python");
        let mut command = self.command("many_client.py");
        Process::start(command.env("PYTHONPATH", packages))
    }

    /// Starts a process that is a client of redhare, and of Flight servers for the same.
    pub fn redhare_client(&self, redis: &str) -> Outcome<Process> {
        let packages = self.scripts.join("../../target/peers/python");
        let mut command = self.command("redhare_node.py");
        Process::start(command.arg(redis).env("PYTHONPATH", packages))
    }

    fn command(&self, script: &str) -> Command {
        let mut command = Command::new(&self.interpreter);
        command.arg(self.scripts.join(script));
        command
    }
}

/// The one client against one of the servers.
pub struct PyArrow {
    name: &'static str,
    client: Rc<RefCell<Process>>,
    server: u32,
    uri: String,
}

impl PyArrow {
    /// `server` is the process at `uri`.
    pub fn new(
        name: &'static str,
        client: &Rc<RefCell<Process>>,
        server: u32,
        uri: &str,
    ) -> PyArrow {
        PyArrow {
            name,
            client: Rc::clone(client),
            server,
            uri: uri.to_owned(),
        }
    }
}

impl Peer for PyArrow {
    fn name(&self) -> &'static str {
        self.name
    }

    fn pids(&self) -> Vec<u32> {
        vec![self.server, self.client.borrow().id()]
    }

    fn can(&self, _: Work) -> bool {
        true
    }

    fn prepare(&mut self, bytes: u64) -> Outcome<()> {
        self.run(Work::Put, bytes, 1)?;
        self.run(Work::Array, bytes, 1).map(drop)
    }

    fn run(&mut self, work: Work, bytes: u64, ops: u32) -> Outcome<f64> {
        let command =
            serde_json::json!({"uri": self.uri, "work": work.name(), "bytes": bytes, "ops": ops});
        let answer = self.client.borrow_mut().ask(&command.to_string())?;
        let answer: serde_json::Value = serde_json::from_str(&answer)?;
        Ok(answer["seconds"]
            .as_f64()
            .ok_or("no seconds in the answer")?)
    }
}
