//! The memory budget: bytes, or a share of what this process may use.

use std::fmt;
use std::io;
use std::path::{Component, Path, PathBuf};
use std::str::FromStr;

use super::ConfigError;
use bowstring_wire::byte_size::ByteSize;

/// The smallest budget that a server starts with.
pub const MEMORY_MIN: ByteSize = ByteSize(16 << 20);

/// The budget as it was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Memory {
    /// So many bytes.
    Bytes(ByteSize),
    /// So many percent of the cgroup's limit, else of the host's memory.
    Share(u8),
}

impl Memory {
    /// The budget in bytes on this machine.
    ///
    /// # Errors
    /// Where a share is asked for and the machine does not say what it has, and where the result
    /// is below [`MEMORY_MIN`].
    pub fn bytes(self, machine: &Machine) -> Result<u64, ConfigError> {
        let bytes = match self {
            Self::Bytes(size) => size.bytes(),
            Self::Share(percent) => {
                let limit = machine.memory_bytes().map_err(|source| {
                    ConfigError::new(format!(
                        "memory=`{self}` needs the machine's memory, which cannot be read; source=`{source}`"
                    ))
                })?;
                limit / 100 * u64::from(percent)
            }
        };
        if bytes < MEMORY_MIN.bytes() {
            return Err(ConfigError::new(format!(
                "memory=`{self}` is too small; bytes=`{bytes}` min=`{MEMORY_MIN}`"
            )));
        }
        Ok(bytes)
    }
}

impl FromStr for Memory {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.trim().ends_with('%') {
            false => text.parse().map(Self::Bytes),
            true => text.parse().map(|Percent(percent)| Self::Share(percent)),
        }
    }
}

/// So many percent of something, as `50%`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Percent(pub u8);

impl FromStr for Percent {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let percent = text.trim().strip_suffix('%');
        match percent.and_then(|percent| percent.trim_end().parse().ok()) {
            Some(percent @ 1..=100) => Ok(Self(percent)),
            _ => Err(format!("`{text}` must be a whole share of `1%` to `100%`")),
        }
    }
}

impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}%", self.0)
    }
}

impl fmt::Display for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bytes(size) => size.fmt(f),
            Self::Share(percent) => write!(f, "{percent}%"),
        }
    }
}

/// Where the kernel says how much memory there is; other roots in tests.
#[derive(Clone, Debug)]
pub struct Machine {
    proc: PathBuf,
    cgroup: PathBuf,
}

impl Machine {
    /// The machine that this process runs on.
    pub fn this() -> Self {
        Self::at("/proc", "/sys/fs/cgroup")
    }

    /// A machine whose `/proc` and `/sys/fs/cgroup` are these folders.
    pub fn at(proc: impl Into<PathBuf>, cgroup: impl Into<PathBuf>) -> Self {
        Self {
            proc: proc.into(),
            cgroup: cgroup.into(),
        }
    }

    /// Bytes that this process may use: the lowest limit of its cgroup and of those around it,
    /// and never more than the host has.
    ///
    /// # Errors
    /// Where `/proc/meminfo` cannot be read.
    pub fn memory_bytes(&self) -> io::Result<u64> {
        let host = self.host_bytes()?;
        Ok(self.cgroup_bytes().map_or(host, |limit| limit.min(host)))
    }

    fn host_bytes(&self) -> io::Result<u64> {
        let text = std::fs::read_to_string(self.proc.join("meminfo"))?;
        text.lines()
            .find_map(|line| line.strip_prefix("MemTotal:"))
            .and_then(|rest| rest.trim().strip_suffix("kB")?.trim().parse::<u64>().ok())
            .and_then(|kib| kib.checked_mul(1024))
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "no MemTotal in meminfo"))
    }

    fn cgroup_bytes(&self) -> Option<u64> {
        let groups = std::fs::read_to_string(self.proc.join("self/cgroup")).ok()?;
        groups
            .lines()
            .filter_map(|line| {
                // `ID:CONTROLLERS:PATH`; version 2 has no controllers.
                let (_, rest) = line.split_once(':')?;
                let (controllers, path) = rest.split_once(':')?;
                if controllers.is_empty() {
                    lowest(&self.cgroup, path, "memory.max")
                } else if controllers.split(',').any(|name| name == "memory") {
                    lowest(&self.cgroup.join("memory"), path, "memory.limit_in_bytes")
                } else {
                    None
                }
            })
            .min()
    }
}

/// The lowest number in `file` of the group at `path` and of every group around it. Inside a
/// container the path may be the host's and lead nowhere, or climb out of what is mounted; then
/// the root's file is ours.
fn lowest(root: &Path, path: &str, file: &str) -> Option<u64> {
    let mut groups = vec![root.to_owned()];
    for part in Path::new(path).components() {
        match part {
            Component::Normal(part) => groups.push(groups[groups.len() - 1].join(part)),
            Component::ParentDir => {
                groups.truncate(1);
                break;
            }
            _ => {}
        }
    }
    // No limit reads `max` in version 2, and a number above any memory in version 1.
    groups
        .iter()
        .filter_map(|group| std::fs::read_to_string(group.join(file)).ok())
        .filter_map(|text| text.trim().parse().ok())
        .min()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    const GIB: u64 = 1 << 30;

    /// A machine of 8 GiB in the given groups, with the given limit files.
    fn machine(groups: &str, limits: &[(&str, &str)]) -> (tempfile::TempDir, Machine) {
        let root = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write(
            "proc/meminfo",
            "MemTotal:        8388608 kB\nMemFree: 1 kB\n",
        );
        write("proc/self/cgroup", groups);
        for (path, text) in limits {
            write(&format!("cgroup/{path}"), text);
        }
        let machine = Machine::at(root.path().join("proc"), root.path().join("cgroup"));
        (root, machine)
    }

    #[test]
    fn reads_sizes_and_shares() {
        assert_eq!("1GiB".parse(), Ok(Memory::Bytes(ByteSize(GIB))));
        assert_eq!("80%".parse(), Ok(Memory::Share(80)));
        for bad in ["0%", "101%", "%", "-5%", "1.5%", "x"] {
            assert!(bad.parse::<Memory>().is_err(), "{bad}");
        }
        for text in ["1GiB", "80%"] {
            assert_eq!(text.parse::<Memory>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn a_share_is_of_the_lowest_group_around_us() {
        let (_root, machine) = machine(
            "0::/kubepods/pod7/box\n",
            &[
                ("memory.max", "max\n"),
                ("kubepods/memory.max", "6442450944\n"),
                ("kubepods/pod7/memory.max", "4294967296\n"),
                ("kubepods/pod7/box/memory.max", "max\n"),
            ],
        );
        assert_eq!(machine.memory_bytes().unwrap(), 4 * GIB);
        assert_eq!(
            Memory::Share(50).bytes(&machine).unwrap(),
            4 * GIB / 100 * 50
        );
    }

    #[test]
    fn version_1_and_paths_of_the_host() {
        let groups = "12:cpu,cpuacct:/docker/abc\n9:memory:/docker/abc\n";
        let (_root, in_container) =
            machine(groups, &[("memory/memory.limit_in_bytes", "1073741824\n")]);
        assert_eq!(in_container.memory_bytes().unwrap(), GIB);
        let (_root, unlimited) = machine(
            groups,
            &[("memory/memory.limit_in_bytes", "9223372036854771712\n")],
        );
        assert_eq!(unlimited.memory_bytes().unwrap(), 8 * GIB);
    }

    #[test]
    fn without_a_group_the_host_counts() {
        let (_root, free) = machine("0::/\n", &[]);
        assert_eq!(free.memory_bytes().unwrap(), 8 * GIB);
        let limits = [("memory.max", "2147483648"), ("x/memory.max", "1073741824")];
        let (_root, outside) = machine("0::/../x\n", &limits);
        assert_eq!(outside.memory_bytes().unwrap(), 2 * GIB);
        let nowhere = Machine::at("/nowhere", "/nowhere");
        let error = Memory::Share(80).bytes(&nowhere).unwrap_err().to_string();
        assert!(error.contains("memory=`80%`"), "{error}");
    }

    #[test]
    fn too_little_is_refused() {
        let (_root, machine) = machine("", &[]);
        let error = Memory::Bytes(ByteSize(1024))
            .bytes(&machine)
            .unwrap_err()
            .to_string();
        assert_eq!(
            error,
            "memory=`1KiB` is too small; bytes=`1024` min=`16MiB`"
        );
        assert_eq!(Memory::Bytes(MEMORY_MIN).bytes(&machine).unwrap(), 16 << 20);
    }

    #[test]
    fn this_machine_says_what_it_has() {
        assert!(Machine::this().memory_bytes().unwrap() > 0);
    }
}
