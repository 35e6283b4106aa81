//! A server process of a test's own.

use std::ffi::{OsStr, OsString};
use std::net::SocketAddr;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};
use std::sync::mpsc::RecvTimeoutError;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use arrow_flight::flight_service_client::FlightServiceClient;
use rustix::process::{Pid, Signal, kill_process};
use tonic::transport::Channel;

use crate::binary::binary;
use crate::connect;
use crate::output::{Output, lines_of};
use crate::wait::{PATIENCE, until};

/// What a server has where a test says nothing.
const MEMORY: &str = "256MiB";
/// A drain must not outlast the patience of who waits for it.
const DRAIN_TIMEOUT: (&str, &str) = ("BOWSTRING_DRAIN_TIMEOUT", "5s");
/// After this long a server that was told to stop is killed.
const STOP_PATIENCE: Duration = Duration::from_secs(15);
/// A running server. Dropping it stops it, and fails the test where it does not end well.
#[derive(Debug)]
pub struct Server {
    child: Child,
    flight: Vec<String>,
    http: SocketAddr,
    stderr: Output,
    ended: Option<ExitStatus>,
}

/// How a server is to be started.
#[derive(Clone, Debug)]
pub struct Builder {
    listen: Vec<String>,
    http: Option<String>,
    memory: Option<String>,
    flags: Vec<OsString>,
    variables: Vec<(String, OsString)>,
}

/// How a server ended that was not to start.
#[derive(Debug)]
pub struct Exit {
    /// Its exit code.
    pub code: Option<i32>,
    /// All that it printed.
    pub stdout: String,
    /// All that it said.
    pub stderr: String,
}

impl Server {
    /// A server of the caller's own, in 256 MiB.
    ///
    /// # Panics
    /// Where it does not become ready.
    pub fn start() -> Self {
        Self::builder().start()
    }

    /// A server that is to differ from [`Server::start`]'s.
    pub fn builder() -> Builder {
        Builder {
            listen: vec!["127.0.0.1:0".to_owned()],
            http: Some("127.0.0.1:0".to_owned()),
            memory: Some(MEMORY.to_owned()),
            flags: Vec::new(),
            variables: vec![(DRAIN_TIMEOUT.0.to_owned(), DRAIN_TIMEOUT.1.into())],
        }
    }

    /// The server that all tests of this process share, for those that keep to a namespace of their
    /// own. It runs while somebody holds it: statics are never dropped, and a process would stay.
    ///
    /// # Panics
    /// Where it does not become ready.
    pub fn shared() -> Arc<Self> {
        static SHARED: Mutex<Weak<Server>> = Mutex::new(Weak::new());
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(running) = shared.upgrade() {
            return running;
        }
        let started = Arc::new(Self::builder().memory("512MiB").start());
        *shared = Arc::downgrade(&started);
        started
    }

    /// The first Flight address: `grpc://HOST:PORT`.
    pub fn uri(&self) -> &str {
        &self.flight[0]
    }

    /// All Flight addresses, as printed.
    pub fn uris(&self) -> &[String] {
        &self.flight
    }

    /// The first Flight address as `HOST:PORT`, for raw sockets.
    pub fn address(&self) -> &str {
        let uri = self.uri();
        uri.strip_prefix("grpc://").unwrap_or(uri)
    }

    /// The address of `/healthz` and `/metrics`.
    pub fn http(&self) -> SocketAddr {
        self.http
    }

    /// The process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// A channel of its own to the first address.
    ///
    /// # Panics
    /// Where nobody listens.
    pub async fn channel(&self) -> Channel {
        connect::channel(self.uri()).await.expect("a connection")
    }

    /// A Flight client with its defaults, on a connection of its own.
    ///
    /// # Panics
    /// Where nobody listens.
    pub async fn client(&self) -> FlightServiceClient<Channel> {
        connect::flight(self.uri()).await
    }

    /// What it has said on standard error: all of it once it has ended; of a server that runs, what has come so far.
    pub fn stderr(&self) -> String {
        self.stderr.text()
    }

    /// The first line on standard error that contains `part`, waited for: what a server says can come behind what it answers.
    ///
    /// # Panics
    /// Where none comes.
    pub async fn said(&self, part: &str) -> String {
        until(part, async || {
            let stderr = self.stderr();
            let whole = &stderr[..stderr.rfind('\n')?];
            let mut lines = whole.lines();
            lines.find(|line| line.contains(part)).map(str::to_owned)
        })
        .await
    }

    /// Sends SIGTERM: it drains.
    ///
    /// # Panics
    /// Where it has ended.
    pub fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    /// Sends a signal to this one process.
    ///
    /// # Panics
    /// Where it has ended.
    pub fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.pid()).ok().and_then(Pid::from_raw);
        kill_process(pid.expect("a process id"), signal).expect("a running server");
    }

    /// Ends it as a crash would.
    ///
    /// # Panics
    /// Where it cannot be waited for.
    pub fn kill(&mut self) {
        self.child.kill().expect("a running server");
        self.ended = Some(self.child.wait().expect("a child"));
        self.stderr.joined();
    }

    /// Whether it still runs.
    ///
    /// # Panics
    /// Where it cannot be waited for.
    pub fn is_running(&mut self) -> bool {
        if self.ended.is_none() {
            self.ended = self.child.try_wait().expect("a child");
        }
        self.ended.is_none()
    }

    /// Waits until it has ended; gives its exit code, `None` after a signal.
    ///
    /// # Panics
    /// Where it does not end.
    pub async fn ended(&mut self) -> Option<i32> {
        until("the server's end", async || {
            (!self.is_running()).then_some(())
        })
        .await;
        self.stderr.joined();
        self.ended.and_then(|status| status.code())
    }

    /// Stops it, and gives its exit code.
    ///
    /// # Panics
    /// Where it does not end.
    pub async fn stop(&mut self) -> Option<i32> {
        if self.is_running() {
            self.terminate();
        }
        self.ended().await
    }

    /// SIGTERM, and SIGKILL where that does not help.
    fn end(&mut self) -> ExitStatus {
        if let Some(status) = self.ended {
            return status;
        }
        self.terminate();
        let step = Duration::from_millis(5);
        let mut waited = Duration::ZERO;
        while self.is_running() && waited < STOP_PATIENCE {
            std::thread::sleep(step);
            waited += step;
        }
        if self.is_running() {
            self.kill();
        }
        self.ended.unwrap_or_default()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let by_us = self.ended.is_some();
        let status = self.end();
        let stderr = self.stderr.joined();
        if std::thread::panicking() {
            eprintln!(
                "--- standard error of server {} ({status}):\n{stderr}---",
                self.pid()
            );
            return;
        }
        assert!(
            !stderr.contains("panicked"),
            "the server panicked:\n{stderr}"
        );
        let well = status.success() || (by_us && status.signal().is_some());
        assert!(by_us || well, "the server ended with {status}:\n{stderr}");
    }
}

impl Builder {
    /// Nothing is set but what the caller sets: no addresses, no memory.
    #[must_use]
    pub fn bare(mut self) -> Self {
        self.listen.clear();
        (self.http, self.memory) = (None, None);
        self.variables.clear();
        self
    }

    /// `--memory`.
    #[must_use]
    pub fn memory(mut self, size: &str) -> Self {
        self.memory = Some(size.to_owned());
        self
    }

    /// Where it listens, in place of one free port of loopback.
    #[must_use]
    pub fn listen<A: Into<String>>(mut self, addresses: impl IntoIterator<Item = A>) -> Self {
        self.listen = addresses.into_iter().map(Into::into).collect();
        self
    }

    /// A flag and its value: `.flag("--put-idle", "1s")`.
    #[must_use]
    pub fn flag(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.flags.extend([name.into(), value.as_ref().to_owned()]);
        self
    }

    /// A variable of its environment. Those of the tests' own named `BOWSTRING_…` do not reach it.
    #[must_use]
    pub fn variable(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.variables
            .push((name.to_owned(), value.as_ref().to_owned()));
        self
    }

    /// Starts it, and waits until it is ready.
    ///
    /// # Panics
    /// Where it does not become ready, with what it said.
    pub fn start(&self) -> Server {
        self.start_again(1)
    }

    /// As [`Builder::start`], so many times as a service manager would: one that ends before it is ready is started again.
    ///
    /// # Panics
    /// Where it does not become ready the last time.
    pub fn start_again(&self, tries: u32) -> Server {
        // What may fail may also take long.
        let patience = PATIENCE * tries;
        for _ in 1..tries {
            match self.try_start(patience) {
                Ok(server) => return server,
                // Before the next one begins.
                Err(mut failed) => failed.0.kill(),
            }
        }
        let started = self.try_start(patience);
        started.unwrap_or_else(|failed| failed.0.fail_to_start(failed.1))
    }

    fn try_start(&self, patience: Duration) -> Result<Server, Box<(Server, RecvTimeoutError)>> {
        let (mut child, stderr) = self.spawn();
        let stdout = child.stdout.take().expect("its output is piped");
        let mut server = Server {
            child,
            flight: Vec::new(),
            http: SocketAddr::from(([0, 0, 0, 0], 0)),
            stderr: Output::of(stderr),
            ended: None,
        };
        let lines = lines_of(stdout);
        // The line `http …` is the last.
        loop {
            let line = match lines.recv_timeout(patience) {
                Ok(line) => line,
                Err(why) => return Err(Box::new((server, why))),
            };
            match line.split_once(' ') {
                Some(("flight", uri)) => server.flight.push(uri.to_owned()),
                Some(("http", uri)) => {
                    let address = uri.strip_prefix("http://").and_then(|a| a.parse().ok());
                    server.http = address.expect("an address");
                    return Ok(server);
                }
                _ => panic!("not a line of a server that is ready: {line:?}"),
            }
        }
    }

    /// Starts a server that is to refuse its settings, and waits for its end.
    ///
    /// # Panics
    /// Where it becomes ready.
    pub fn fail(&self) -> Exit {
        let (mut child, stderr) = self.spawn();
        let mut stderr = Output::of(stderr);
        let stdout = child.stdout.take().expect("its output is piped");
        let lines = lines_of(stdout);
        let mut printed = String::new();
        loop {
            match lines.recv_timeout(PATIENCE) {
                Ok(line) => {
                    printed.extend([&*line, "\n"]);
                    if line.starts_with("http ") {
                        let _ = child.kill().and_then(|()| child.wait());
                        panic!("the server started: {printed}");
                    }
                }
                Err(RecvTimeoutError::Timeout) => {
                    let _ = child.kill().and_then(|()| child.wait());
                    panic!("the server neither started nor ended:\n{}", stderr.joined());
                }
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        Exit {
            code: child.wait().expect("a child").code(),
            stdout: printed,
            stderr: stderr.joined(),
        }
    }

    fn spawn(&self) -> (Child, ChildStderr) {
        let mut command = Command::new(binary());
        // Settings of whoever runs the tests must not reach the server under test.
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("BOWSTRING_") {
                command.env_remove(name);
            }
        }
        command.arg("serve").envs(self.variables.clone());
        for address in &self.listen {
            command.args(["--listen", address]);
        }
        for (flag, value) in [("--http", &self.http), ("--memory", &self.memory)] {
            if let Some(value) = value {
                command.args([flag, value]);
            }
        }
        command.args(&self.flags);
        command.stdin(Stdio::null());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the server's program starts");
        let stderr = child.stderr.take().expect("its errors are piped");
        (child, stderr)
    }
}

impl Server {
    fn fail_to_start(mut self, why: RecvTimeoutError) -> ! {
        self.kill();
        let stderr = self.stderr.joined();
        panic!("the server did not become ready ({why}):\n{stderr}");
    }
}
