//! Peers as processes of their own: started, asked what they cost, stopped by their id.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};

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
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let spin = |_| {
        let mut command = Command::new("chrt");
        command.args(["--idle", "0", "sh", "-c", "while :; do :; done"]);
        Process::start(&mut command).ok()
    };
    (0..cores).filter_map(spin).collect()
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
        let held = vec![1u8; 32 << 20];
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
