//! Ten times the memory put by thirty-two writers with readers beside them, then only small tensors,
//! then only large ones, then all sizes again. The memory is a number that holds; room is found; what
//! is read is right.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

use bowstring_client::{Code, Connection, Descriptor, Shape};
use bowstring_tests::{Metrics, Server};
use bowstring_wire::dtype::DType;
use bowstring_wire::get_rows::rows_batch;
use bowstring_wire::put_result::PutReply;
use bowstring_wire::schema::StreamSchema;
use bytes::Bytes;
use prost::Message as _;
use serde_json::json;
use twox_hash::XxHash3_128;

use super::content::{bytes_max, is_of, len_of, of};
use super::dice::Dice;
use super::raw::{Raw, Stopwatch};
use super::state::{charged_bytes, ledger_used};
use super::stream::{Message, by_command};
use super::{is_large, scaled};

const WRITERS: u64 = 32;
const READERS: u64 = 4;
/// Rows of one bulk put.
const ROWS: u64 = 256;
/// A tensor of no more than this part of the arena finds room.
const ARENA_PART: u64 = 64;
/// Of the arena, in hundredths, from one budget's worth of puts after a shift on.
const USED_PERCENT_MIN: f64 = 90.0;
/// Looks at an arena that seems emptier than that.
const LOOKS: usize = 10;
/// Puts that may fail at the first try, of a thousand.
const FAILED_PERMILLE_MAX: u64 = 1;

/// What is put for a while.
#[derive(Clone, Copy, Debug)]
struct Phase {
    /// Begins its keys.
    name: &'static str,
    least: usize,
    most: usize,
    /// Memories' worth of tensors.
    budgets: usize,
    /// Most of its tensors come as rows of bulk puts, as such small ones do.
    in_rows: bool,
}

/// The bytes that a server has, and what the machine may charge it.
#[derive(Clone, Copy, Debug)]
struct Budget(u64);

impl Budget {
    fn charged_max(self) -> u64 {
        self.0 / 100 * 102 + (64 << 20)
    }
}

fn phases() -> [Phase; 4] {
    [
        Phase {
            name: "mixed",
            least: 1 << 10,
            most: bytes_max(),
            budgets: 10,
            in_rows: false,
        },
        Phase {
            name: "small",
            least: 1 << 10,
            most: 4 << 10,
            budgets: 2,
            in_rows: true,
        },
        Phase {
            name: "large",
            least: 1 << 20,
            most: bytes_max(),
            budgets: 2,
            in_rows: false,
        },
        Phase {
            name: "again",
            least: 1 << 10,
            most: bytes_max(),
            budgets: 2,
            in_rows: false,
        },
    ]
}

#[test]
fn ten_times_the_memory_is_put_and_the_memory_holds() {
    let budget = Budget(if is_large() { 4 << 30 } else { 1 << 30 });
    let server = Server::builder().memory(&budget.0.to_string()).start();
    press(&server, budget, |work| {
        work.judge();
        // Not locked any more when this is shown.
        let used = *work.used_min.lock().expect("no panic before");
        let (live, _) = used.expect("samples after a budget's worth");
        assert!(live >= USED_PERCENT_MIN, "{work}");
    });
}

#[test]
fn the_memory_holds_beside_a_cold_tier() {
    let budget = Budget(if is_large() { 4 << 30 } else { 256 << 20 });
    let store = tempfile::tempdir().expect("a directory");
    let server = Server::builder()
        .memory(&budget.0.to_string())
        .flag("--cold", format!("file://{}", store.path().display()))
        .flag("--cold-bytes-max", "1GiB")
        .start();
    press(&server, budget, Work::judge);
    let written = server.metrics().count("bowstring_cold_written_total");
    assert!(written > 0, "nothing went down");
}

/// All phases, each judged at its end.
fn press(server: &Server, budget: Budget, judge: impl Fn(&Work)) {
    let address = server.address();
    let everything = Seen::default();
    for phase in phases() {
        let clock = Stopwatch::start();
        let work = Work::new(phase, budget, arena_of(&server.metrics()));
        thread::scope(|scope| {
            let writers: Vec<_> = (0..WRITERS)
                .map(|number| {
                    let work = &work;
                    scope.spawn(move || write(address, work, number))
                })
                .collect();
            for number in 0..READERS {
                let work = &work;
                scope.spawn(move || read(address, work, number));
            }
            scope.spawn(|| observe(server, &work));
            let ended: Vec<_> = writers.into_iter().map(|writer| writer.join()).collect();
            work.is_over.store(true, Relaxed);
            assert!(ended.iter().all(Result::is_ok), "a writer gave up: {work}");
        });
        eprintln!("{}: {work} in {:.1?}", phase.name, clock.elapsed());
        judge(&work);
        everything.add(&work.seen);
    }
    eprintln!("under pressure: {everything}");
}

/// One phase under way.
struct Work {
    phase: Phase,
    budget: Budget,
    /// Bytes that the arena may have.
    arena: u64,
    is_over: AtomicBool,
    next_key: AtomicU64,
    /// Rows have numbers of their own, so that a row's batch can be told from it.
    next_row: AtomicU64,
    put_bytes: AtomicU64,
    seen: Seen,
    /// The least of [`use_of_arena`] once a budget's worth was put.
    used_min: Mutex<Option<(f64, f64)>>,
}

#[derive(Default)]
struct Seen {
    puts: AtomicU64,
    failed: AtomicU64,
    hits: AtomicU64,
    misses: AtomicU64,
    samples: AtomicU64,
    ledger_max: AtomicU64,
    charged_max: AtomicU64,
    failures: Mutex<BTreeMap<String, u64>>,
}

impl Work {
    fn new(phase: Phase, budget: Budget, arena: u64) -> Self {
        Self {
            phase,
            budget,
            arena,
            is_over: AtomicBool::new(false),
            next_key: AtomicU64::new(0),
            next_row: AtomicU64::new(0),
            put_bytes: AtomicU64::new(0),
            seen: Seen::default(),
            used_min: Mutex::new(None),
        }
    }

    fn goes_on(&self) -> bool {
        self.put_bytes.load(Relaxed) < scaled(self.phase.budgets) as u64 * self.budget.0
    }

    /// Mostly a key that is new, at times one of the last thousands.
    fn key(&self, dice: &mut Dice) -> u64 {
        if dice.once_in(4) {
            recent(&self.next_key, dice, 2_000)
        } else {
            self.next_key.fetch_add(1, Relaxed)
        }
    }

    fn len_of(&self, key: u64) -> usize {
        len_of(key, self.phase.least, self.phase.most)
    }

    fn judge(&self) {
        let (puts, failed) = (self.seen.puts.load(Relaxed), self.seen.failed.load(Relaxed));
        assert!(failed * 1000 <= puts * FAILED_PERMILLE_MAX, "{self}");
        assert!(self.seen.hits.load(Relaxed) > 100, "{self}");
    }
}

/// One of the last `among` numbers.
fn recent(next: &AtomicU64, dice: &mut Dice, among: u64) -> u64 {
    let next = next.load(Relaxed);
    let back = dice.next() % among.min(next.max(1));
    next.saturating_sub(1 + back)
}

fn write(address: &str, work: &Work, number: u64) {
    let mut dice = Dice::new(number);
    let mut connection = connect(address);
    let mut rows = work.phase.in_rows.then(|| Rows::connect(address));
    while work.goes_on() {
        match &mut rows {
            Some(rows) if !dice.once_in(8) => rows.put(work, &mut dice),
            _ => put(&mut connection, work, &mut dice),
        }
    }
}

fn put(connection: &mut Connection, work: &Work, dice: &mut Dice) {
    let key = work.key(dice);
    let bytes = of(key, dice.next(), work.len_of(key));
    let command = json!({
        "namespace": work.phase.name,
        "key": key.to_string(),
        "mode": "replace",
        "size_bytes": bytes.len(),
    });
    let shape = Shape::new(&[bytes.len() as u64]).expect("a shape");
    let descriptor = command.to_string();
    let descriptor = Descriptor::Command(descriptor.as_bytes());
    let put = connection.put(descriptor, DType::UInt8, &shape, &bytes);
    work.seen.puts.fetch_add(1, Relaxed);
    work.put_bytes.fetch_add(bytes.len() as u64, Relaxed);
    if let Err(error) = put {
        if bytes.len() as u64 <= work.arena / ARENA_PART {
            work.seen.failed(&error.to_string(), 1);
        }
        assert!(connection.is_open(), "{error}");
    }
}

/// A connection for bulk puts.
struct Rows {
    runtime: tokio::runtime::Runtime,
    raw: Raw,
}

impl Rows {
    fn connect(address: &str) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        let raw = runtime.block_on(Raw::connect(address));
        Self { runtime, raw }
    }

    /// Puts rows of the length of the first one's key.
    fn put(&mut self, work: &Work, dice: &mut Dice) {
        let first = work.next_row.fetch_add(ROWS, Relaxed);
        let len = work.len_of(first);
        let names: Vec<String> = (first..first + ROWS)
            .map(|key| format!("row-{key}"))
            .collect();
        let shape = Shape::new(&[len as u64]).expect("a shape");
        let schema = StreamSchema::Rows {
            dtype: DType::UInt8,
            shape: &shape,
            nullable: false,
            with: &[],
        };
        let command = json!({"namespace": work.phase.name}).to_string();
        let mut opening = Message::new(schema.message().expect("a schema"), []);
        opening.descriptor = by_command(&command).encode_to_vec();
        let batch = rows_batch(DType::UInt8, &shape, &names, None, &[]).expect("a batch");
        let mut body = batch.prelude.to_vec();
        for key in first..first + ROWS {
            body.extend_from_slice(&of(key, dice.next(), len));
        }
        body.extend_from_slice(&batch.tail);
        let frames = [opening, Message::new(&batch.header, body)];
        let frames = frames.iter().map(|message| Bytes::from(message.encode()));
        let answer = self.runtime.block_on(self.raw.call("DoPut", frames));
        work.seen.puts.fetch_add(ROWS, Relaxed);
        work.put_bytes.fetch_add(len as u64 * ROWS, Relaxed);
        if answer.is_ok() {
            let result = arrow_flight::PutResult::decode(answer.messages()[0]).expect("a result");
            let reply = PutReply::parse(&result.app_metadata).expect("JSON");
            for error in &reply.errors {
                work.seen.failed(&error.message, 1);
            }
            let untold = reply.errors_total - reply.errors.len() as u64;
            work.seen.failed("not told", untold);
        } else {
            work.seen.failed(&format!("{answer:?}"), ROWS);
        }
    }
}

/// Gets what was put lately, until the writers are done. Every read is right, or a miss.
fn read(address: &str, work: &Work, number: u64) {
    let mut dice = Dice::new(number << 32);
    let mut connection = connect(address);
    let mut buffer = Vec::new();
    while !work.is_over.load(Relaxed) {
        let is_row = work.phase.in_rows && !dice.once_in(8);
        let (key, name, len) = if is_row {
            let key = recent(&work.next_row, &mut dice, 100_000);
            (key, format!("row-{key}"), work.len_of(key / ROWS * ROWS))
        } else {
            let key = recent(&work.next_key, &mut dice, 4_000);
            (key, key.to_string(), work.len_of(key))
        };
        let ticket = json!({"namespace": work.phase.name, "key": name}).to_string();
        match connection.get_into(ticket.as_bytes(), &mut buffer) {
            Ok(tensor) => {
                let checksum = XxHash3_128::oneshot(&buffer);
                assert_eq!(tensor.checksum, Some(checksum), "{name}");
                assert!(is_of(key, &buffer), "{name} has another tensor's bytes");
                assert_eq!(buffer.len(), len, "{name}");
                work.seen.hits.fetch_add(1, Relaxed);
            }
            Err(error) => {
                // A store that is slower than its time-out is a miss, but for a stream that it had begun.
                let is_miss = matches!(error.code, Code::NotFound | Code::Unavailable);
                assert!(is_miss, "{error}");
                work.seen.misses.fetch_add(1, Relaxed);
            }
        }
    }
}

/// Looks at the memory until the writers are done.
fn observe(server: &Server, work: &Work) {
    while !work.is_over.load(Relaxed) {
        let settled = work.put_bytes.load(Relaxed) > work.budget.0;
        let metrics = server.metrics();
        let charged = charged_bytes(server);
        assert!(
            charged <= work.budget.charged_max(),
            "{charged} bytes are charged: {work}"
        );
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "bytes, far below 2^53"
        )]
        let ledger = ledger_used(&metrics) as u64;
        assert!(
            ledger <= work.budget.0,
            "the ledger has {ledger} bytes: {work}"
        );
        work.seen.ledger_max.fetch_max(ledger, Relaxed);
        work.seen.charged_max.fetch_max(charged, Relaxed);
        work.seen.samples.fetch_add(1, Relaxed);
        if settled {
            let mut now = use_of_arena(&metrics);
            // The figures are read one after the other, and tensors may have left one of them and not
            // have come to the next; many of them, where others have the cores meanwhile.
            for _ in 0..LOOKS {
                if now.0 < USED_PERCENT_MIN {
                    thread::sleep(Duration::from_millis(20));
                    let again = use_of_arena(&server.metrics());
                    now = (now.0.max(again.0), now.1.max(again.1));
                }
            }
            let mut least = work.used_min.lock().expect("no panic before");
            let before = least.unwrap_or(now);
            *least = Some((before.0.min(now.0), before.1.min(now.1)));
        }
        thread::sleep(Duration::from_millis(50));
    }
}

/// Hundredths of what the arena may have: tensors with what puts reserve and readers hold, and all
/// that is in use.
fn use_of_arena(metrics: &Metrics) -> (f64, f64) {
    let arena = arena_of(metrics) as f64;
    let live = metrics.value("bowstring_entries_bytes")
        + metrics.value("bowstring_puts_reserved_bytes")
        + metrics.value("bowstring_readers_held_bytes");
    let used = metrics.value("bowstring_arena_used_bytes");
    (100.0 * live / arena, 100.0 * used / arena)
}

fn arena_of(metrics: &Metrics) -> u64 {
    // Readers may hold a quarter.
    4 * metrics.count("bowstring_readers_held_limit_bytes")
}

fn connect(address: &str) -> Connection {
    let address = format!("grpc://{address}").parse().expect("an address");
    Connection::connect(&address).expect("a connection")
}

impl Seen {
    fn failed(&self, why: &str, puts: u64) {
        if puts > 0 {
            self.failed.fetch_add(puts, Relaxed);
            let mut failures = self.failures.lock().expect("no panic before");
            let why = why.chars().take(300).collect();
            *failures.entry(why).or_default() += puts;
        }
    }

    fn add(&self, other: &Self) {
        let sums = [
            (&self.puts, &other.puts),
            (&self.failed, &other.failed),
            (&self.hits, &other.hits),
            (&self.misses, &other.misses),
            (&self.samples, &other.samples),
        ];
        for (sum, more) in sums {
            sum.fetch_add(more.load(Relaxed), Relaxed);
        }
        let greatest = [
            (&self.ledger_max, &other.ledger_max),
            (&self.charged_max, &other.charged_max),
        ];
        for (greatest, one) in greatest {
            greatest.fetch_max(one.load(Relaxed), Relaxed);
        }
    }
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mib = |bytes: &AtomicU64| bytes.load(Relaxed) >> 20;
        let failures = self.failures.lock().map_err(|_| fmt::Error)?;
        write!(
            f,
            "{} puts, {} failed {failures:?}, {} hits, {} misses, in {} samples at most {} MiB in \
             the ledger and {} MiB charged",
            self.puts.load(Relaxed),
            self.failed.load(Relaxed),
            self.hits.load(Relaxed),
            self.misses.load(Relaxed),
            self.samples.load(Relaxed),
            mib(&self.ledger_max),
            mib(&self.charged_max),
        )
    }
}

impl fmt::Display for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let used = self.used_min.lock().map_err(|_| fmt::Error)?;
        let (live, all) = used.unwrap_or_default();
        let gib = self.put_bytes.load(Relaxed) >> 30;
        write!(
            f,
            "{gib} GiB, of the arena at least {live:.1} % tensors and {all:.1} % in use; {}",
            self.seen
        )
    }
}
