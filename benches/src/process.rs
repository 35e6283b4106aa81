//! Peers as processes of their own: started, asked what they cost, stopped by their id.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::Outcome;

/// A peer that runs until this is dropped.
pub struct Process {
    child: Child,
    output: BufReader<Box<dyn Read + Send>>,
}

impl Process {
    /// Starts `command`, its standard input and output ours.
    pub fn start(command: &mut Command) -> Outcome<Process> {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| format!("cannot start {command:?}: {error}"))?;
        let output = child.stdout.take().ok_or("no standard output")?;
        Ok(Process {
            child,
            output: BufReader::new(Box::new(output)),
        })
    }

    /// Starts a server, on the core that servers are on.
    pub fn serve(command: &mut Command) -> Outcome<Process> {
        match *place() {
            Place::Apart => Process::start(&mut on_core(1, command)),
            Place::Free | Place::Together => Process::start(command),
        }
    }

    /// The next line that begins with `prefix`, without it.
    pub fn wait_for(&mut self, prefix: &str) -> Outcome<String> {
        let mut line = String::new();
        loop {
            line.clear();
            if self.output.read_line(&mut line)? == 0 {
                return Err(format!("a peer ended before it said `{prefix}`").into());
            }
            if let Some(rest) = line.strip_prefix(prefix) {
                return Ok(rest.trim().to_owned());
            }
        }
    }

    /// Sends a line and waits for one.
    pub fn ask(&mut self, line: &str) -> Outcome<String> {
        let input = self.child.stdin.as_mut().ok_or("no standard input")?;
        writeln!(input, "{line}")?;
        self.wait_for("")
    }

    /// Its id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Nothing of a peer is worth keeping, and it may have gone by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// CPU seconds that the threads of a process have used, for a difference later.
pub struct CpuUse(Vec<(u64, u64)>);

impl CpuUse {
    /// Reads the scheduler's own nanoseconds of each thread: `stat` counts in steps of 10 ms.
    pub fn of(pid: u32) -> CpuUse {
        let mut threads = Vec::new();
        for task in fs::read_dir(format!("/proc/{pid}/task"))
            .into_iter()
            .flatten()
            .flatten()
        {
            let id = task.file_name().to_str().and_then(|name| name.parse().ok());
            let used = fs::read_to_string(task.path().join("schedstat")).ok();
            let used = used.and_then(|text| text.split(' ').next()?.parse().ok());
            threads.extend(id.zip(used));
        }
        CpuUse(threads)
    }

    /// CPU seconds from `earlier` to this.
    pub fn since(&self, earlier: &CpuUse) -> f64 {
        let before = |id: u64| {
            earlier
                .0
                .iter()
                .find(|(thread, _)| *thread == id)
                .map_or(0, |(_, used)| *used)
        };
        let nanos: u64 = self
            .0
            .iter()
            .map(|(id, used)| used.saturating_sub(before(*id)))
            .sum();
        nanos as f64 / 1e9
    }
}

/// Where the two ends run. One connection's bytes cost half as much where both are on one core with a cache that holds them, and
/// which it is, the scheduler decides anew from run to run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Place {
    /// Wherever the scheduler puts them.
    #[default]
    Free,
    /// On the same core.
    Together,
    /// The clients on one core, each server on the next.
    Apart,
}

impl Place {
    /// As it stands behind the kind of work; empty for `Free`.
    pub fn suffix(self) -> &'static str {
        match self {
            Place::Free => "",
            Place::Together => ", one core",
            Place::Apart => ", a core each",
        }
    }

    /// Moves this process, and with it the clients, and settles where the servers go that are started from now on.
    pub fn settle(self) -> Outcome<()> {
        let cores = match self {
            Place::Free => format!("0-{}", cores() - 1),
            Place::Together | Place::Apart => "0".to_owned(),
        };
        let pid = std::process::id().to_string();
        let mut taskset = Command::new("taskset");
        let done = taskset
            .args(["-a", "-p", "-c", &cores, &pid])
            .stdout(Stdio::null());
        if !done.status().is_ok_and(|status| status.success()) {
            return Err(format!("taskset cannot place the ends on cores {cores}").into());
        }
        *place() = self;
        Ok(())
    }
}

fn place() -> MutexGuard<'static, Place> {
    static PLACE: Mutex<Place> = Mutex::new(Place::Free);
    PLACE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// All that the machine has, whatever this process is bound to.
pub fn cores() -> usize {
    let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
    let core = |line: &&str| {
        line.strip_prefix("cpu")
            .is_some_and(|rest| !rest.starts_with(' '))
    };
    stat.lines().filter(core).count().max(1)
}

fn on_core(core: usize, command: &Command) -> Command {
    let mut placed = Command::new("taskset");
    placed.args(["-c", &core.to_string()]);
    placed.arg(command.get_program()).args(command.get_args());
    placed
}

/// Bytes that a process is charged for: anonymous and shared pages. Program text and page cache are apart.
pub fn charged_bytes(pid: u32) -> Outcome<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let kib = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim().strip_suffix(" kB")?.parse::<u64>().ok()
    };
    let (anonymous, shared) = (kib("RssAnon:"), kib("RssShmem:"));
    Ok((anonymous.ok_or("no RssAnon")? + shared.ok_or("no RssShmem")?) << 10)
}

/// Spinners at idle priority, one a core: they take what nobody wants, so that no virtual core sleeps and wakes late.
pub fn background_load() -> Vec<Process> {
    let spin = |core| {
        let mut command = Command::new("chrt");
        command.args(["--idle", "0", "sh", "-c", "while :; do :; done"]);
        Process::start(&mut on_core(core, &command)).ok()
    };
    (0..cores()).filter_map(spin).collect()
}

/// Where a program lies beside this one, as `cargo` builds them.
pub fn beside(name: &str) -> Outcome<std::path::PathBuf> {
    let here = std::env::current_exe()?;
    let path = here.parent().unwrap_or(Path::new(".")).join(name);
    if path.exists() {
        return Ok(path);
    }
    Err(format!("not built: {}", path.display()).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_process_costs() {
        let pid = std::process::id();
        let before = CpuUse::of(pid);
        let held = std::hint::black_box(vec![1u8; 32 << 20]);
        assert!(charged_bytes(pid).unwrap() > held.len() as u64);
        assert!(CpuUse::of(pid).since(&before) >= 0.0);
    }

    #[test]
    fn a_peer_is_asked_and_stopped() {
        let mut cat = Process::start(&mut Command::new("cat")).unwrap();
        assert_eq!(cat.ask("hello").unwrap(), "hello");
        let pid = cat.id();
        drop(cat);
        assert!(charged_bytes(pid).is_err());
    }

    #[test]
    fn a_command_is_bound_to_a_core() {
        let bound = on_core(1, Command::new("cat").arg("x"));
        assert_eq!(format!("{bound:?}"), r#""taskset" "-c" "1" "cat" "x""#);
        assert!(cores() >= 1);
    }

    #[test]
    fn a_peer_that_is_not_there_is_named() {
        let error = Process::start(&mut Command::new("/no/such/peer"))
            .err()
            .unwrap();
        assert!(error.to_string().contains("/no/such/peer"));
        assert!(
            beside("no-such-peer")
                .unwrap_err()
                .to_string()
                .contains("no-such-peer")
        );
    }
}
