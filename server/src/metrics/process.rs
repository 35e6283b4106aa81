//! What the machine charges this process, as the kernel tells it.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use super::text::Text;

/// Memory of this process in bytes. Program text and page cache are in `file_bytes` and belong
/// to nobody's budget.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProcessMemory {
    /// Resident anonymous pages.
    pub anonymous_bytes: u64,
    /// Resident shared pages: the parts of the arena that are mapped and touched.
    pub shared_bytes: u64,
    /// Resident pages of files.
    pub file_bytes: u64,
    /// Pages of memory files (`memfd`) that exist, touched by us or not.
    pub memfd_bytes: u64,
}

impl ProcessMemory {
    /// The memory of the process whose folder in `/proc` this is; none where it cannot be read.
    pub fn read(proc: &Path) -> Option<Self> {
        let mut memory = Self::of_status(&fs::read_to_string(proc.join("status")).ok()?)?;
        memory.memfd_bytes = memfd_bytes(&proc.join("fd"));
        Some(memory)
    }

    /// What counts against `--memory` and the cgroup's limit: anonymous and shared pages, and
    /// pages of memory files that are charged although nobody has them mapped in.
    pub fn charged_bytes(&self) -> u64 {
        self.anonymous_bytes + self.shared_bytes.max(self.memfd_bytes)
    }

    fn of_status(status: &str) -> Option<Self> {
        let bytes = |name: &str| {
            let rest = status.lines().find_map(|line| line.strip_prefix(name))?;
            let kib = rest.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?;
            kib.checked_mul(1024)
        };
        Some(Self {
            anonymous_bytes: bytes("RssAnon:")?,
            shared_bytes: bytes("RssShmem:")?,
            file_bytes: bytes("RssFile:")?,
            memfd_bytes: 0,
        })
    }
}

/// Writes what Prometheus' own client libraries give for a process, under their names, and the
/// charged memory.
pub(super) fn render(text: &mut Text) {
    let proc = Path::new("/proc/self");
    if let Some(memory) = ProcessMemory::read(proc) {
        text.gauge(
            "bowstring_process_charged_bytes",
            "Memory that the machine charges for data: anonymous, shared and memfd pages.",
        )
        .value(memory.charged_bytes());
        text.gauge(
            "bowstring_process_memory_bytes",
            "Memory of the process by kind; file pages are not charged.",
        )
        .labelled(&[("kind", "anonymous")], memory.anonymous_bytes)
        .labelled(&[("kind", "shared")], memory.shared_bytes)
        .labelled(&[("kind", "memfd")], memory.memfd_bytes)
        .labelled(&[("kind", "file")], memory.file_bytes);
        text.gauge(
            "process_resident_memory_bytes",
            "Resident memory, file pages included.",
        )
        .value(memory.anonymous_bytes + memory.shared_bytes + memory.file_bytes);
    }
    if let Ok(entries) = fs::read_dir(proc.join("fd")) {
        text.gauge("process_open_fds", "Open file descriptors.")
            .value(entries.count());
    }
    if let Some(seconds) = fs::read_to_string(proc.join("stat"))
        .ok()
        .and_then(|stat| cpu_seconds(&stat))
    {
        text.counter("process_cpu_seconds_total", "User and system time.")
            .value(seconds);
    }
}

/// Bytes of all memory files among these descriptors, each file once.
fn memfd_bytes(fds: &Path) -> u64 {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(fds).into_iter().flatten().flatten() {
        let path = entry.path();
        let is_memfd = fs::read_link(&path)
            .is_ok_and(|link| link.as_os_str().as_encoded_bytes().starts_with(b"/memfd:"));
        // A descriptor may be closed while we look.
        if let (true, Ok(file)) = (is_memfd, fs::metadata(&path)) {
            files.insert(file.ino(), file.blocks() * 512);
        }
    }
    files.values().sum()
}

/// User and system time out of `/proc/self/stat`.
fn cpu_seconds(stat: &str) -> Option<f64> {
    // The second field is the program's name in parentheses and may hold anything; `utime` and
    // `stime` are the 14th and 15th.
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    let ticks = rustix::param::clock_ticks_per_second();
    #[expect(
        clippy::cast_precision_loss,
        reason = "2^53 ticks are three million years"
    )]
    Some((user + system) as f64 / ticks as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_status_of_a_process() {
        let status = "Name:\tbowstring\nVmRSS:\t 9 kB\nRssAnon:\t    100 kB\nRssFile:\t 30 kB\nRssShmem:\t 20 kB\n";
        let mut memory = ProcessMemory::of_status(status).unwrap();
        assert_eq!(memory.charged_bytes(), 120 << 10);
        memory.memfd_bytes = 64 << 10;
        assert_eq!(
            memory.charged_bytes(),
            164 << 10,
            "pages that nobody touched count"
        );
        assert_eq!(memory.file_bytes, 30 << 10);
        assert_eq!(ProcessMemory::of_status("Name:\tx\n"), None);
        assert_eq!(ProcessMemory::of_status("RssAnon: x kB\n"), None);
    }

    #[test]
    fn a_memory_file_counts_before_anybody_touches_it() {
        let memfd_bytes = || {
            let memory = ProcessMemory::read(Path::new("/proc/self")).unwrap();
            memory.memfd_bytes
        };
        // No other's size.
        let bytes = (3 << 20) + (7 << 12);
        let shows = || {
            let before = memfd_bytes();
            let file =
                rustix::fs::memfd_create("untouched", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
            rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, bytes).unwrap();
            memfd_bytes() == before + bytes
        };
        // Other tests' memory files come and go meanwhile.
        assert!((0..1_000).any(|_| shows()));
    }

    #[test]
    fn a_name_with_parentheses_does_not_confuse() {
        let ticks = rustix::param::clock_ticks_per_second();
        let stat = format!(
            "1 (a) b (c) S 1 1 1 0 -1 4194560 1 0 0 0 {} {ticks} 0 0 20 0",
            2 * ticks
        );
        assert_eq!(cpu_seconds(&stat), Some(3.0));
        assert_eq!(cpu_seconds("1 (a) S 1"), None);
        assert_eq!(cpu_seconds(""), None);
    }
}
