//! What stands beside the tree and says whether it can be trusted.
//!
//! - `STATE`, JSON: for which store it is the index, since which epoch, and in which boot of the machine it
//!   has been written to. Without it nothing is known of what the index misses.
//! - `HEAD`, 16 bytes: how many groups were acknowledged, and a checksum. Fewer of them in the tree mean
//!   that its journal was cut or damaged: a remove that was acknowledged may be missing.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use serde::{Deserialize, Serialize};
use twox_hash::XxHash3_64;

/// Of rows, state and head together.
const FORMAT: u32 = 2;
const STATE: &str = "STATE";
const HEAD: &str = "HEAD";

/// What an index that can be trusted says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    format: u32,
    /// Which store, and which prefix on it.
    pub store: String,
    /// The start of the server in which the index was last known to be whole.
    pub epoch: u64,
    /// The boot of the machine in which it was written to without fsync; none where it is all on the disk.
    boot: Option<String>,
}

impl State {
    pub(super) fn new(store: &str, epoch: u64) -> State {
        State {
            format: FORMAT,
            store: store.to_owned(),
            epoch,
            boot: None,
        }
    }

    /// The state in a directory, where it can be trusted.
    pub(super) fn read(dir: &Path) -> Option<State> {
        let text = std::fs::read(dir.join(STATE)).ok()?;
        let state: State = serde_json::from_slice(&text).ok()?;
        let same_boot = match &state.boot {
            None => true,
            Some(boot) => Some(boot) == boot_id().as_ref(),
        };
        (state.format == FORMAT && same_boot).then_some(state)
    }

    /// Writes it, whole or not at all. `synced` says that all of the index is, and will be, on the disk
    /// itself.
    pub(super) fn write(&self, dir: &Path, synced: bool) -> io::Result<()> {
        let boot = if synced {
            None
        } else {
            // What cannot be told apart from another boot is not trusted after this one.
            Some(boot_id().unwrap_or_default())
        };
        let state = State {
            boot,
            ..self.clone()
        };
        let temporary = dir.join("STATE.new");
        let mut file = File::create(&temporary)?;
        file.write_all(&serde_json::to_vec(&state)?)?;
        file.sync_all()?;
        std::fs::rename(temporary, dir.join(STATE))?;
        sync_dir(dir)
    }

    /// Takes it away; a full disk does not stand in the way.
    pub(super) fn remove(dir: &Path) -> io::Result<()> {
        match std::fs::remove_file(dir.join(STATE)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => sync_dir(dir),
        }
    }
}

fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

fn boot_id() -> Option<String> {
    let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    Some(id.trim().to_owned()).filter(|id| !id.is_empty())
}

/// How many groups were acknowledged. In place, so that a full disk does not fail it.
#[derive(Debug)]
pub(super) struct Head(File);

impl Head {
    /// Opens it; gives what it says, nothing where it is new or damaged.
    pub(super) fn open(dir: &Path) -> io::Result<(Head, Option<u64>)> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        let file = options.open(dir.join(HEAD))?;
        let mut bytes = [0; 16];
        let groups = match file.read_exact_at(&mut bytes, 0) {
            Ok(()) => decode(bytes),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => None,
            Err(error) => return Err(error),
        };
        Ok((Head(file), groups))
    }

    pub(super) fn set(&mut self, groups: u64) -> io::Result<()> {
        let sum = XxHash3_64::oneshot(&groups.to_le_bytes());
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&groups.to_le_bytes());
        bytes[8..].copy_from_slice(&sum.to_le_bytes());
        self.0.write_all_at(&bytes, 0)
    }
}

fn decode(bytes: [u8; 16]) -> Option<u64> {
    let (groups, sum) = bytes.split_first_chunk::<8>()?;
    let sum = u64::from_le_bytes(sum.try_into().ok()?);
    (sum == XxHash3_64::oneshot(groups)).then(|| u64::from_le_bytes(*groups))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_is_trusted_in_the_boot_that_wrote_it_or_when_all_was_synced() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(State::read(dir.path()), None);
        let state = State::new("file:///tensors", 3);
        for synced in [true, false] {
            state.write(dir.path(), synced).unwrap();
            let read = State::read(dir.path()).unwrap();
            assert_eq!((&read.store[..], read.epoch), ("file:///tensors", 3));
        }
        let path = dir.path().join(STATE);
        let text = std::fs::read_to_string(&path).unwrap();
        let boot = boot_id().unwrap();
        std::fs::write(&path, text.replace(&boot, "another")).unwrap();
        assert_eq!(State::read(dir.path()), None);
        std::fs::write(&path, text.replace("\"format\":2", "\"format\":1")).unwrap();
        assert_eq!(State::read(dir.path()), None);
        State::remove(dir.path()).unwrap();
        State::remove(dir.path()).unwrap();
        assert_eq!(State::read(dir.path()), None);
    }

    #[test]
    fn a_damaged_head_says_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let (mut head, said) = Head::open(dir.path()).unwrap();
        assert_eq!(said, None);
        head.set(77).unwrap();
        assert_eq!(Head::open(dir.path()).unwrap().1, Some(77));
        let path = dir.path().join(HEAD);
        let whole = std::fs::read(&path).unwrap();
        for at in 0..whole.len() * 8 {
            let mut bytes = whole.clone();
            bytes[at / 8] ^= 1 << (at % 8);
            std::fs::write(&path, &bytes).unwrap();
            assert_eq!(Head::open(dir.path()).unwrap().1, None, "bit {at}");
        }
    }
}
