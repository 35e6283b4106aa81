//! `bowstring VERB …` as a person or a script runs it: a child process, and what it told.

use std::ffi::OsStr;
use std::io::Write as _;
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::channel;
use std::thread;

use rustix::process::{Pid, Signal, kill_process};

use crate::binary::binary;
use crate::wait::PATIENCE;

/// A command that is to be run.
#[derive(Debug)]
pub struct Cli {
    command: Command,
    input: Vec<u8>,
}

/// How it ended, and what it told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// Its exit code; `None` after a signal.
    pub code: Option<i32>,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
}

impl Cli {
    /// `bowstring` with these arguments, asking the server at `endpoint`.
    pub fn new<A: AsRef<OsStr>>(endpoint: &str, arguments: impl IntoIterator<Item = A>) -> Self {
        let mut command = Command::new(binary());
        for (name, _) in std::env::vars_os() {
            let name = name.to_string_lossy().into_owned();
            if name.starts_with("BOWSTRING_") || name.contains("COLOR") {
                command.env_remove(name);
            }
        }
        command
            .args(arguments)
            .env("BOWSTRING_ENDPOINT", endpoint)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let input = Vec::new();
        Self { command, input }
    }

    /// What it reads from standard input.
    #[must_use]
    pub fn input(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.input = bytes.into();
        self
    }

    /// A variable of its environment.
    #[must_use]
    pub fn variable(mut self, name: &str, value: &str) -> Self {
        self.command.env(name, value);
        self
    }

    /// Runs it to its end.
    ///
    /// # Panics
    /// Where it does not end.
    pub fn told(mut self) -> Told {
        let mut child = self.spawn();
        let pid = child.id();
        let mut stdin = child.stdin.take().expect("its input is piped");
        let input = std::mem::take(&mut self.input);
        // It need not read what it is given.
        thread::spawn(move || drop(stdin.write_all(&input)));
        let (sender, output) = channel();
        thread::spawn(move || sender.send(child.wait_with_output()));
        match output.recv_timeout(PATIENCE) {
            Ok(output) => output.expect("a child").into(),
            Err(_) => {
                let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
                let _ = kill_process(pid.expect("a process id"), Signal::KILL);
                panic!("it does not end: {:?}", self.command);
            }
        }
    }

    /// Starts it; its input, output and errors are pipes of the caller's.
    ///
    /// # Panics
    /// Where it does not start.
    pub fn spawn(&mut self) -> Child {
        self.command.spawn().expect("the program starts")
    }
}

impl Told {
    /// The objects that it printed, one a line.
    ///
    /// # Panics
    /// Where a line is none.
    pub fn json(&self) -> Vec<serde_json::Value> {
        let object = |line| {
            serde_json::from_str(line).unwrap_or_else(|why| panic!("{why}: {line:?} of {self:?}"))
        };
        self.stdout.lines().map(object).collect()
    }
}

impl From<Output> for Told {
    fn from(output: Output) -> Self {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("it prints UTF-8");
        Self {
            code: output.status.code(),
            stdout: text(output.stdout),
            stderr: text(output.stderr),
        }
    }
}
