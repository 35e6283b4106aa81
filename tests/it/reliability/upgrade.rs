//! A server is replaced while clients that try again put and get: stopped and started again, and by a successor that takes
//! over its memory. Nobody sees a failure, and every read is what was put last, or a miss.

use std::io::{ErrorKind, IoSlice, Read as _, Write as _};
use std::mem::MaybeUninit;
use std::os::fd::AsFd as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use bowstring_cache::handover::FORMAT;
use bowstring_tests::{Builder, Server, until};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use tempfile::TempDir;

use super::crowd::{Crowd, Work};
use super::scaled;

const MEMORY: u64 = 64 << 20;

/// Several times as much as there is memory for.
const WORK: Work = Work {
    keys: 3_000,
    bytes: (256, 1 << 18),
};

/// Where a server's sockets and its store lie.
struct Place {
    dir: TempDir,
    with_cold: bool,
}

impl Place {
    fn new(with_cold: bool) -> Self {
        Self {
            dir: tempfile::tempdir().expect("a directory"),
            with_cold,
        }
    }

    fn door(&self) -> PathBuf {
        self.dir.path().join("takeover")
    }

    /// With the arguments that each successor has, too.
    fn builder(&self) -> Builder {
        let builder = Server::builder().memory(&MEMORY.to_string());
        let builder = builder.flag("--takeover", self.door());
        if !self.with_cold {
            return builder;
        }
        let store = format!("file://{}", self.dir.path().join("store").display());
        builder
            .flag("--cold", store)
            .flag("--state-dir", self.dir.path().join("state"))
    }
}

/// The number behind a name in a line of a log.
fn number(line: &str, name: &str) -> u64 {
    let part = line
        .split(' ')
        .find_map(|part| part.strip_prefix(name)?.strip_prefix('='));
    part.and_then(|number| number.parse().ok())
        .unwrap_or_else(|| panic!("{name}: {line}"))
}

async fn upgrades(with_cold: bool) {
    let place = Place::new(with_cold);
    let mut server = place.builder().start();
    let mode = std::fs::metadata(place.door())
        .expect("a socket")
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    let address = server.address().to_owned();
    let crowd = Crowd::start(&address, 4, WORK);
    crowd.work_on(8_000);
    let mut pauses = Vec::new();
    for _ in 0..scaled(5) {
        let mut successor = place.builder().start();
        assert_eq!(server.ended().await, Some(0));
        assert_eq!(
            (successor.address(), successor.http()),
            (&*address, server.http())
        );
        let handed = server.said("handed over").await;
        let taken = successor.said("taken over").await;
        let there = number(&handed, "entries");
        let kept = number(&taken, "entries") - number(&taken, "evicted");
        assert!(
            there > 500 && kept * 1_000 >= there * 999,
            "{handed}\n{taken}"
        );
        assert_eq!(
            (number(&taken, "mismatched"), number(&taken, "refused")),
            (0, 0)
        );
        assert_eq!(number(&handed, "unwritten"), 0);
        pauses.push((number(&handed, "paused_ms"), there));
        crowd.work_on(500);
        let metrics = successor.metrics();
        assert!(super::state::ledger_used(&metrics) <= MEMORY as f64);
        std::mem::swap(&mut server, &mut successor);
    }
    assert!(crowd.seen.hits.load(Ordering::Relaxed) > 0);
    eprintln!(
        "upgrades, cold tier {with_cold}: {}; ms and entries {pauses:?}",
        crowd.stop()
    );
    assert_eq!(server.stop().await, Some(0));
    assert!(!place.door().exists());
}

#[tokio::test]
async fn memory_passes_to_each_successor_and_no_client_sees_a_failure() {
    upgrades(false).await;
}

#[tokio::test]
async fn memory_and_cold_tier_pass_to_each_successor_and_no_client_sees_a_failure() {
    upgrades(true).await;
}

#[tokio::test]
async fn a_server_is_stopped_again_and_again_and_no_client_sees_a_failure() {
    let place = Place::new(true);
    let mut server = place.builder().start();
    let addresses = (server.address().to_owned(), server.http().to_string());
    let again = place.builder().listen([&*addresses.0]);
    let again = again.flag("--drain-timeout", "20s");
    let crowd = Crowd::start(&addresses.0, 4, Work { keys: 100, ..WORK });
    let stops = scaled(50);
    for _ in 0..stops {
        crowd.work_on(30);
        assert_eq!(server.stop().await, Some(0));
        server = again.start();
    }
    eprintln!("{stops} stops: {}", crowd.stop());
}

/// A process that asks to take over, by hand.
struct Asking(UnixStream);

impl Asking {
    fn connect(door: &Path) -> Self {
        Self(UnixStream::connect(door).expect("somebody listens"))
    }

    fn hello(&mut self, format: u32) {
        let mut body = format.to_le_bytes().to_vec();
        body.extend_from_slice(b"\x03\x00new");
        self.say(1, &body);
    }

    fn say(&mut self, kind: u8, body: &[u8]) {
        self.0.write_all(&frame(kind, body)).expect("it listens");
    }

    /// As if it had mapped the regions.
    fn hears_of_a_snapshot(&mut self) {
        loop {
            match self.hears().0 {
                AHEAD => self.say(MAPPED, b""),
                SNAPSHOT => return,
                _ => {}
            }
        }
    }

    /// A snapshot, of which no more than this ever comes.
    fn says_of_a_snapshot(&mut self, bytes: &[u8]) {
        let (mut ours, its) = UnixStream::pair().expect("sockets");
        let files = [its.as_fd()];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        assert!(ancillary.push(SendAncillaryMessage::ScmRights(&files)));
        let mut frame = frame(SNAPSHOT, b"");
        frame[6] = 1;
        let frame = [IoSlice::new(&frame)];
        sendmsg(&self.0, &frame, &mut ancillary, SendFlags::NOSIGNAL).expect("it listens");
        ours.write_all(bytes).expect("it is ours");
    }

    /// Descriptors that come with it go.
    fn hears(&mut self) -> (u8, Vec<u8>) {
        let mut head = [0; 12];
        self.0.read_exact(&mut head).expect("an answer");
        assert_eq!(head[..4], *b"BOWT");
        let len = u32::from_le_bytes([head[8], head[9], head[10], head[11]]);
        let mut body = vec![0; len as usize];
        self.0.read_exact(&mut body).expect("a whole answer");
        (head[4], body)
    }
}

fn frame(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut frame = b"BOWT".to_vec();
    frame.extend_from_slice(&[kind, 0, 0, 0]);
    frame.extend_from_slice(&u32::try_from(body.len()).expect("short").to_le_bytes());
    frame.extend_from_slice(body);
    frame
}

const BEGIN: u8 = 3;
const AHEAD: u8 = 9;
const MAPPED: u8 = 10;
const SNAPSHOT: u8 = 5;
const MINE: u8 = 6;
const YOURS: u8 = 7;

#[tokio::test]
async fn a_server_goes_on_where_its_successor_does_not() {
    let place = Place::new(true);
    let server = place.builder().start();
    let crowd = Crowd::start(server.address(), 4, WORK);
    crowd.work_on(500);
    for round in 0..scaled(3) {
        for stage in 0..8 {
            let mut asking = Asking::connect(&place.door());
            match stage {
                0 => {}
                1 => asking
                    .0
                    .write_all(b"GET / HTTP/1.1\r\n\r\n")
                    .expect("it listens"),
                2 => asking.say(BEGIN, b""),
                3 => asking.hello(FORMAT),
                _ => {
                    asking.hello(FORMAT);
                    assert_eq!(asking.hears().0, 2, "round {round}");
                    if stage > 4 {
                        asking.say(BEGIN, b"");
                    }
                    if stage == 6 {
                        while asking.hears().0 != AHEAD {}
                    }
                    if stage > 6 {
                        asking.hears_of_a_snapshot();
                        // Something else than `mine`.
                        asking.say(BEGIN, b"");
                    }
                }
            }
            drop(asking);
            crowd.work_on(50);
        }
    }
    let said = server.stderr();
    let goes_on = said.matches("serving on").count();
    assert!(goes_on >= 3 * scaled(3), "{said}");
    eprintln!("successors that were none: {}", crowd.stop());
    let successor = place.builder().start();
    let mut server = server;
    assert_eq!(server.ended().await, Some(0));
    drop(successor);
}

#[tokio::test]
async fn a_successor_begins_empty_where_the_server_before_it_dies() {
    for stage in 0..5 {
        let place = Place::new(false);
        let listener = UnixListener::bind(place.door()).expect("a socket");
        let dying = std::thread::spawn(move || {
            let (stream, _) = listener.accept().expect("a successor");
            drop(listener);
            let mut dying = Asking(stream);
            if stage > 0 {
                assert_eq!(dying.hears().0, 1);
                let mut offer = FORMAT.to_le_bytes().to_vec();
                offer.extend_from_slice(b"\x03\x00old");
                dying.say(2, &offer);
            }
            if stage > 1 {
                assert_eq!(dying.hears().0, BEGIN);
                // One of regions that are never all there.
                dying.say(4, b"\0\0");
            }
            if stage > 2 {
                dying.say(AHEAD, b"");
                assert_eq!(dying.hears().0, MAPPED);
                // It ends within a frame.
                dying.says_of_a_snapshot(&b"\x08\0\0\0"[..stage]);
            }
        });
        let mut server = place.builder().start();
        dying.join().expect("no panic");
        assert_eq!(server.metrics().count("bowstring_entries"), 0);
        assert_eq!(server.stop().await, Some(0));
    }
}

#[tokio::test]
async fn what_is_no_server_of_ours_is_not_taken_over_from() {
    let place = Place::new(false);
    let listener = UnixListener::bind(place.door()).expect("a socket");
    let speaking = std::thread::spawn(move || {
        let mut speaking = Asking(listener.accept().expect("a successor").0);
        assert_eq!(speaking.hears().0, 1);
        let answer = b"HTTP/1.1 400 Bad Request\r\n\r\n";
        speaking.0.write_all(answer).expect("it listens");
        speaking
    });
    let refusal = place.builder().fail();
    drop(speaking.join().expect("no panic"));
    assert_eq!(refusal.code, Some(1));
    assert!(
        refusal.stderr.contains("cannot take over"),
        "{}",
        refusal.stderr
    );
}

#[tokio::test]
async fn one_of_another_format_has_the_addresses_and_no_memory() {
    // A newer successor of ours, then ours of an older predecessor.
    let place = Place::new(true);
    let mut server = place.builder().start();
    let crowd = Crowd::start(server.address(), 2, WORK);
    crowd.work_on(100);
    let mut asking = Asking::connect(&place.door());
    asking.hello(FORMAT + 1);
    let (kind, offer) = asking.hears();
    assert_eq!((kind, &offer[..4]), (2, &FORMAT.to_le_bytes()[..]));
    asking.say(BEGIN, b"");
    assert_eq!(asking.hears().0, YOURS);
    assert_eq!(server.ended().await, Some(0));
    assert!(
        server.stderr().contains("another format"),
        "{}",
        server.stderr()
    );
    let mut rest = Vec::new();
    let ended = asking.0.read_to_end(&mut rest);
    assert!(ended.is_ok_and(|n| n == 0), "closed by its end alone");
    // It would have the sockets; so somebody has to have the port.
    let server = place.builder().listen([server.address()]).start();
    eprintln!("another format: {}", crowd.stop());
    drop(server);

    let place = Place::new(false);
    let listener = UnixListener::bind(place.door()).expect("a socket");
    let older = std::thread::spawn(move || {
        let mut older = Asking(listener.accept().expect("a successor").0);
        drop(listener);
        assert_eq!(older.hears().0, 1);
        let mut offer = (FORMAT + 1).to_le_bytes().to_vec();
        offer.extend_from_slice(b"\x03\x00old");
        older.say(2, &offer);
        assert_eq!(older.hears().0, BEGIN);
        older.say(YOURS, b"");
    });
    let mut server = place.builder().start();
    older.join().expect("no panic");
    assert!(
        server.stderr().contains("another format"),
        "{}",
        server.stderr()
    );
    assert_eq!(server.stop().await, Some(0));
}

#[tokio::test]
async fn a_successor_that_stands_still_is_told_and_not_believed() {
    let place = Place::new(false);
    let server = place.builder().start();
    let crowd = Crowd::start(server.address(), 2, WORK);
    crowd.work_on(100);
    let mut asking = Asking::connect(&place.door());
    asking.hello(FORMAT);
    asking.hears();
    asking.say(BEGIN, b"");
    asking.hears_of_a_snapshot();
    asking.say(8, b"");
    // It is told why not, and cannot change its mind.
    assert_eq!(asking.hears().0, 8);
    let late = asking.0.write_all(&frame(MINE, b""));
    assert!(late.map_or_else(|error| error.kind() == ErrorKind::BrokenPipe, |()| true));
    until("the server to go on", async || {
        server.stderr().contains("serving on").then_some(())
    })
    .await;
    crowd.work_on(100);
    eprintln!("one that stands still: {}", crowd.stop());
}
