//! How commands end: exit codes, no server, closed pipes, interrupts.

use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::process::Child;

use bowstring_tests::{Cli, Server};
use rustix::process::{Pid, Signal, kill_process};

use super::{filled, many};

#[test]
fn no_server() {
    let told = Cli::new("grpc://127.0.0.1:1", ["ls"]).told();
    assert_eq!((told.code, &*told.stdout), (Some(4), ""));
    for part in [
        "grpc://127.0.0.1:1",
        "Connection refused",
        "bowstring serve",
        "BOWSTRING_ENDPOINT",
    ] {
        assert!(told.stderr.contains(part), "{told:?}");
    }
    let told = Cli::new("unix:/nowhere/b.sock", ["ls"]).told();
    assert_eq!(told.code, Some(4), "{told:?}");
    assert!(told.stderr.contains("No such file"), "{told:?}");
}

#[test]
fn a_server_that_says_nothing_is_given_up() {
    // It takes connections as the kernel does, and reads nothing.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = silent.local_addr().unwrap().to_string();
    let told = Cli::new(&endpoint, ["stat", "--timeout", "200ms"]).told();
    assert_eq!(told.code, Some(4), "{told:?}");
}

#[test]
fn what_speaks_another_protocol_is_told_apart() {
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = other.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        use std::io::Write as _;
        for peer in other.incoming().flatten() {
            let _ = (&peer).write_all(b"-ERR unknown command\r\n");
        }
    });
    let told = Cli::new(&endpoint, ["stat"]).told();
    assert_eq!(told.code, Some(4), "{told:?}");
    assert!(told.stderr.contains("a Flight server"), "{told:?}");
}

#[tokio::test]
async fn a_unix_socket() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("b.sock");
    let address = format!("unix:{}", path.display());
    let _server = Server::builder().listen([&*address]).start();
    let told = Cli::new(&address, ["stat", "--json"]).told();
    assert_eq!((told.code, told.json().len()), (Some(0), 1), "{told:?}");
}

#[tokio::test]
async fn the_server_s_refusal_is_3_and_told_as_it_is() {
    let space = filled("refusal", &["a"]).await;
    let told = Cli::new(
        space.server.uri(),
        [
            "ns",
            &space.namespace,
            "--set",
            "mode=keep",
            "--if-version",
            "12",
        ],
    )
    .told();
    assert_eq!(told.code, Some(3), "{told:?}");
    assert!(
        told.stderr.starts_with("bowstring: failed_precondition: "),
        "{told:?}"
    );
}

#[tokio::test]
async fn wrong_flags_are_2() {
    let space = filled("flags", &["a"]).await;
    for wrong in [
        &["ls", "--limit", "0"][..],
        &["ls", "--endpoint", "nowhere"],
        &["exists"],
        &["ls", "-1", "--json"],
    ] {
        let told = space.told(wrong);
        assert_eq!((told.code, &*told.stdout), (Some(2), ""), "{told:?}");
    }
    let told = space.told(&["ls", "--namespace", "no/name"]);
    assert_eq!(told.code, Some(2), "{told:?}");
}

/// `bowstring ls | head -1`: the pipe is closed while there is more to print than it holds.
#[tokio::test]
async fn a_reader_that_leaves_ends_it_without_a_word() {
    let space = many("head", 20_000).await;
    let mut child = space.cli(&["ls"]).spawn();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.next().unwrap().unwrap().starts_with("KEY"));
    drop(lines);
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), &*output.stderr), (Some(0), &b""[..]));
}

/// It waits to write to a pipe that nobody reads.
#[tokio::test]
async fn an_interrupt_is_130() {
    let space = many("interrupt", 20_000).await;
    let mut child = space.cli(&["ls"]).spawn();
    // Once something is there, it works.
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    stdout.fill_buf().unwrap();
    interrupt(&child);
    let output = child.wait_with_output().unwrap();
    assert_eq!(
        (output.status.code(), &*output.stderr),
        (Some(130), &b""[..])
    );
}

/// What Ctrl-C does.
pub fn interrupt(child: &Child) {
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    kill_process(pid.unwrap(), Signal::INT).unwrap();
}
