//! `bowstring load` that is broken off, by a kill of it or of the server, and run again: what is there in the end is what one straight load makes.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bowstring_tests::{Cli, Server, Told, pause, until};
use tempfile::TempDir;

/// Rows of 4 KiB, which go 512 to a message, which is a put with `--part-mib 0`.
const ROWS: usize = 512 * 12;
const VALUES: usize = 1024;

/// A file, and a place for what is remembered of its load.
struct Folder {
    folder: TempDir,
}

impl Folder {
    fn new() -> Folder {
        let folder = tempfile::tempdir().unwrap();
        let values = (0..ROWS * VALUES).flat_map(|n| (n as f32).to_le_bytes());
        let head =
            format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({ROWS}, {VALUES}), }}\n");
        let length = u16::try_from(head.len()).unwrap().to_le_bytes();
        let file = [&b"\x93NUMPY\x01\0"[..], &length, head.as_bytes()].concat();
        let file: Vec<u8> = file.into_iter().chain(values).collect();
        fs::write(folder.path().join("a.npy"), file).unwrap();
        let keys: String = (0..ROWS).map(|row| format!("k{row}\n")).collect();
        fs::write(folder.path().join("keys.txt"), keys).unwrap();
        Folder { folder }
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().unwrap().to_owned()
    }

    fn load(&self, uri: &str, namespace: &str, more: &[&str]) -> Cli {
        let (file, keys) = (self.path("a.npy"), self.path("keys.txt"));
        let words = [
            "load",
            &file,
            "--keys",
            &keys,
            "-n",
            namespace,
            "--json",
            "--part-mib",
            "0",
        ];
        Cli::new(uri, words.iter().chain(more))
            .variable("XDG_STATE_HOME", self.folder.path().to_str().unwrap())
    }

    /// What is remembered of loads: their files.
    fn journals(&self) -> Vec<PathBuf> {
        let folder = fs::read_dir(self.folder.path().join("bowstring/loads"));
        folder
            .into_iter()
            .flatten()
            .map(|entry| entry.unwrap().path())
            .collect()
    }

    /// Waits until so many puts were answered.
    async fn reached(&self, puts: usize) {
        until("puts of a load", async || {
            let journal = self.journals().pop()?;
            let lines = fs::read_to_string(journal).ok()?.lines().count();
            (lines > puts).then_some(())
        })
        .await;
    }

    /// All that a namespace has, as bytes.
    fn contents(&self, uri: &str, namespace: &str) -> Vec<u8> {
        let path = self.path("contents.arrow");
        let told = Cli::new(uri, ["export", "-n", namespace, "-o", &path, "--quiet"]).told();
        assert_eq!(told.code, Some(0), "{told:?}");
        fs::read(Path::new(&path)).unwrap()
    }
}

fn rows(told: &Told, name: &str) -> u64 {
    told.json()[0][name].as_u64().unwrap()
}

#[tokio::test]
async fn a_load_that_is_killed_goes_on_where_it_was() {
    let folder = Folder::new();
    let server = Server::builder().memory("512MiB").start();
    let uri = server.uri();
    let straight = folder.load(uri, "straight", &[]).told();
    assert_eq!(
        (straight.code, rows(&straight, "stored")),
        (Some(0), ROWS as u64),
        "{straight:?}"
    );
    for (name, flags) in [
        ("plain", &[][..]),
        ("atomic", &["--atomic"]),
        ("replacing", &["--replace-all", "--mode", "replace"]),
    ] {
        // Killed, in the middle and not where it chooses, again and again.
        for puts in [1, 3, 6] {
            let mut child = folder.load(uri, name, flags).spawn();
            folder.reached(puts).await;
            pause(Duration::from_millis(puts as u64)).await;
            child.kill().unwrap();
            child.wait().unwrap();
        }
        let told = folder.load(uri, name, flags).told();
        assert_eq!(told.code, Some(0), "{name}: {told:?}");
        assert!(
            told.stderr.contains("goes on where an earlier run was"),
            "{name}: {told:?}"
        );
        // A put that was stored and not written down is put again, and then it existed.
        assert_eq!(rows(&told, "rows"), ROWS as u64, "{name}: {told:?}");
        assert!(folder.journals().is_empty(), "{name}");
        assert!(
            folder.contents(uri, name) == folder.contents(uri, "straight"),
            "{name}"
        );
    }
    // Nothing is remembered of what has ended, so it is all sent again.
    let again = folder.load(uri, "plain", &[]).told();
    assert_eq!(
        (rows(&again, "existed"), again.stderr.contains("goes on")),
        (ROWS as u64, false)
    );
}

#[tokio::test]
async fn a_server_that_was_restarted_is_loaded_from_the_beginning() {
    let folder = Folder::new();
    let other = Server::start();
    folder.load(other.uri(), "n", &[]).told();
    let whole = folder.contents(other.uri(), "n");
    drop(other);
    for flags in [&[][..], &["--atomic"]] {
        let mut server = Server::start();
        let address = server.address().to_owned();
        // While it runs: it waits, sees that it is another one, and begins again.
        let child = folder.load(server.uri(), "n", flags).spawn();
        folder.reached(3).await;
        server.kill();
        let mut server = Server::builder().listen([address.clone()]).start();
        let ended = Told::from(child.wait_with_output().unwrap());
        assert_eq!(ended.code, Some(0), "{ended:?}");
        assert!(
            ended.stderr.contains("the server was restarted"),
            "{ended:?}"
        );
        assert!(folder.contents(server.uri(), "n") == whole, "{flags:?}");

        // Between two runs of it.
        let mut child = folder.load(server.uri(), "m", flags).spawn();
        folder.reached(3).await;
        child.kill().unwrap();
        child.wait().unwrap();
        server.kill();
        let server = Server::builder().listen([address]).start();
        let told = folder.load(server.uri(), "m", flags).told();
        assert_eq!(
            (told.code, rows(&told, "stored")),
            (Some(0), ROWS as u64),
            "{told:?}"
        );
        assert!(told.stderr.contains("the server was restarted"), "{told:?}");
        assert!(folder.contents(server.uri(), "m") == whole, "{flags:?}");
    }
}

#[tokio::test]
async fn the_same_load_does_not_run_twice_and_can_be_begun_again() {
    let (folder, server) = (Folder::new(), Server::start());
    let mut child = folder.load(server.uri(), "n", &["--atomic"]).spawn();
    folder.reached(1).await;
    // It has the journal's lock while it lives.
    let stop = |signal| {
        let pid = rustix::process::Pid::from_child(&child);
        rustix::process::kill_process(pid, signal).unwrap();
    };
    stop(rustix::process::Signal::STOP);
    let second = folder.load(server.uri(), "n", &["--atomic"]).told();
    assert_eq!(second.code, Some(2), "{second:?}");
    assert!(
        second.stderr.contains("the same load is running already"),
        "{second:?}"
    );
    child.kill().unwrap();
    child.wait().unwrap();
    let third = folder
        .load(server.uri(), "n", &["--atomic", "--restart"])
        .told();
    assert_eq!(
        (third.code, rows(&third, "stored")),
        (Some(0), ROWS as u64),
        "{third:?}"
    );
    assert!(!third.stderr.contains("goes on"), "{third:?}");
}

#[tokio::test]
async fn a_load_that_the_server_has_forgotten_begins_again() {
    let (folder, server) = (Folder::new(), Server::start());
    let mut child = folder.load(server.uri(), "n", &["--atomic"]).spawn();
    folder.reached(4).await;
    child.kill().unwrap();
    child.wait().unwrap();
    let journal = fs::read_to_string(folder.journals().pop().unwrap()).unwrap();
    let mut whole_lines = journal
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let load_id = whole_lines.next_back().unwrap()["load_id"]
        .as_str()
        .unwrap()
        .to_owned();
    let mut client = arrow_flight::FlightClient::new(server.channel().await);
    let action = arrow_flight::Action::new("abort_load", format!(r#"{{"load_id": "{load_id}"}}"#));
    let answer: Vec<_> =
        futures::TryStreamExt::try_collect(client.do_action(action).await.unwrap())
            .await
            .unwrap();
    assert_eq!(answer.len(), 1);
    let told = folder.load(server.uri(), "n", &["--atomic"]).told();
    assert_eq!(
        (told.code, rows(&told, "stored")),
        (Some(0), ROWS as u64),
        "{told:?}"
    );
    assert!(told.stderr.contains("begins again"), "{told:?}");
}

#[tokio::test]
async fn what_cannot_be_is_refused_before_anything_is_sent() {
    let (folder, server) = (Folder::new(), Server::start());
    let file = folder.path("a.npy");
    for (words, code, says) in [
        (&["load", "-", "-"][..], 2, "can be read once"),
        (&["load", "/nowhere.npy"], 5, "path=`/nowhere.npy`"),
        (&["load", &file, "--retry", "/nowhere"], 5, "/nowhere"),
        (&["get", "k", "-o", "x.txt"], 2, "--format"),
        (&["get", "k", "-o", "/nowhere/x.npy"], 5, "/nowhere/x.npy"),
        (&["put", "k", &file, "--ttl", "7"], 2, "needs a unit"),
        (
            &["put", "k", &file, "--tensor-column"],
            2,
            "--tensor-column",
        ),
    ] {
        let told = Cli::new(server.uri(), words).told();
        assert_eq!(told.code, Some(code), "{told:?}");
        assert!(told.stderr.contains(says), "{told:?}");
    }
    assert_eq!(server.stats().await.entries, 0);
    // A file that cannot be written whole leaves what was there.
    let old = folder.path("old.npy");
    fs::write(&old, "old").unwrap();
    let told = Cli::new(server.uri(), ["get", "absent", "-o", &old]).told();
    assert_eq!(
        (told.code, fs::read_to_string(&old).unwrap().as_str()),
        (Some(1), "old")
    );
    let parts = fs::read_dir(folder.folder.path()).unwrap().filter(|entry| {
        entry
            .as_ref()
            .unwrap()
            .file_name()
            .to_string_lossy()
            .contains("part")
    });
    assert_eq!(parts.count(), 0);
    // Nobody is asked for long who is not there.
    let gone = folder
        .load("grpc://127.0.0.1:1", "n", &["--patience", "200ms"])
        .told();
    assert_eq!(gone.code, Some(4), "{gone:?}");
}
