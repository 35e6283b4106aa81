//! A disk that fails as it is told: [`FaultyDisk`] stands between one server and the calls that write to its
//! folders. What fails is the call itself, so nothing of the server knows of it, and nobody needs rights.
//!
//! - `faulty.c`: what the server's process loads, built by the system's C compiler

use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::server::Builder;

/// What a server does to a folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// A file or a folder is made.
    Create,
    /// Bytes are written, or a file's length is set.
    Write,
    /// fsync, or fdatasync.
    Sync,
    /// A file gets its name: a rename or a hard link.
    Name,
}

/// Whose calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Folder {
    /// The store.
    Store,
    /// The index.
    State,
}

/// What becomes of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// `ENOSPC`; of a write half is done before that.
    Full,
    /// `EIO`, and nothing is done.
    Broken,
    /// SIGKILL, before it is done.
    Killed,
}

/// Folders whose calls fail. As long as nothing is said, none does.
#[derive(Debug)]
pub struct FaultyDisk {
    page: File,
    library: PathBuf,
    folders: [PathBuf; 2],
    dir: TempDir,
}

const PAGE: &str = "page";
/// Places in the page, in words.
const CALLS: u64 = 0;
const HOW: u64 = 1;
const SKIP: u64 = 2;
const COUNT: u64 = 3;
const SEEN: u64 = 4;
const FAILED: u64 = 5;
const WORDS: u64 = 6;

impl Call {
    /// All of them.
    pub const ALL: [Call; 4] = [Call::Create, Call::Write, Call::Sync, Call::Name];
}

impl Folder {
    /// Both.
    pub const ALL: [Folder; 2] = [Folder::Store, Folder::State];
}

impl FaultyDisk {
    /// Between servers and these folders.
    ///
    /// # Panics
    /// Where there is no C compiler.
    pub fn new(store: &Path, state: &Path) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let (source, library) = (dir.path().join("faulty.c"), dir.path().join("faulty.so"));
        fs::write(&source, include_str!("faulty.c")).expect("a file");
        let compiler = std::env::var_os("CC").unwrap_or_else(|| "cc".into());
        let built = Command::new(compiler)
            .args(["-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o"])
            .args([&library, &source])
            .arg("-ldl")
            .status();
        assert!(built.expect("a C compiler").success());
        let page = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .open(dir.path().join(PAGE))
            .expect("a file");
        page.set_len(WORDS * 8).expect("a file");
        let real = |path: &Path| path.canonicalize().expect("a folder");
        Self {
            page,
            library,
            folders: [real(store), real(state)],
            dir,
        }
    }

    /// A server on this disk.
    #[must_use]
    pub fn under(&self, builder: Builder) -> Builder {
        let [store, state] = self.folders.each_ref().map(|folder| folder.display());
        builder
            .variable("LD_PRELOAD", &self.library)
            .variable("FAULTY_PAGE", self.dir.path().join(PAGE))
            .variable("FAULTY_FOLDERS", format!("{store}:{state}"))
    }

    /// From now on so many of these calls work, and so many after that do not.
    ///
    /// # Panics
    /// Where the page cannot be written.
    pub fn fail(&self, calls: &[(Folder, Call)], how: How, skip: u64, count: u64) {
        self.heal();
        let how = match how {
            How::Full => rustix::io::Errno::NOSPC.raw_os_error(),
            How::Broken => rustix::io::Errno::IO.raw_os_error(),
            How::Killed => 10_000,
        };
        self.set(HOW, u64::from(how.unsigned_abs()));
        self.set(SKIP, skip);
        self.set(COUNT, count);
        self.set(SEEN, 0);
        self.set(FAILED, 0);
        let bit = |(folder, call): &(Folder, Call)| {
            let call = match call {
                Call::Create => 1_u64,
                Call::Write => 2,
                Call::Sync => 4,
                Call::Name => 8,
            };
            match folder {
                Folder::Store => call,
                Folder::State => call << 8,
            }
        };
        self.set(CALLS, calls.iter().map(bit).sum());
    }

    /// Every call works again.
    ///
    /// # Panics
    /// Where the page cannot be written.
    pub fn heal(&self) {
        self.set(CALLS, 0);
    }

    /// Calls that were said to fail, seen since then: those that worked too.
    pub fn seen(&self) -> u64 {
        self.word(SEEN)
    }

    /// Calls that failed since then.
    pub fn failed(&self) -> u64 {
        self.word(FAILED)
    }

    fn set(&self, word: u64, value: u64) {
        let written = self.page.write_all_at(&value.to_ne_bytes(), word * 8);
        written.expect("the page");
    }

    fn word(&self, word: u64) -> u64 {
        let mut bytes = [0; 8];
        self.page
            .read_exact_at(&mut bytes, word * 8)
            .expect("the page");
        u64::from_ne_bytes(bytes)
    }
}
