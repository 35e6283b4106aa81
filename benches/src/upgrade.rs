//! A server that is full is replaced by a successor: for how long nobody is answered.
//!
//! A client asks for one key again and again, on a new connection where one was cut off. What counts is the longest time between two
//! answers: from the last of the old process to the first of the new one.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use bowstring_client::Connection;
use bowstring_wire::error::Code;

use crate::Outcome;
use crate::clock::Stopwatch;
use crate::load::load;
use crate::peers::bowstring::Server;
use crate::report::Goal;

const MEMORY: &str = "4GiB";
const ENTRIES: u64 = 1_200_000;
/// What is wanted, in seconds.
const PAUSE_MAX: f64 = 2.0;

/// So many replacements, one after the other.
pub fn run(repeats: usize) -> Outcome<Vec<Goal>> {
    let directory = std::env::temp_dir().join(format!("bowstring-upgrade-{}", std::process::id()));
    std::fs::create_dir_all(&directory)?;
    let door = directory.join("takeover");
    let door = door.to_str().ok_or("a path that is no text")?;
    let pauses = pauses(door, repeats);
    std::fs::remove_dir_all(&directory)?;
    let mut pauses = pauses?;
    pauses.sort_by(f64::total_cmp);
    let median = pauses[pauses.len() / 2];
    let what = format!(
        "replaced by a successor with {ENTRIES} entries of 3 KiB: seconds between two answers"
    );
    let mut goal = Goal::below(&what, "itself", PAUSE_MAX, median, "s");
    let all: Vec<String> = pauses.iter().map(|pause| format!("{pause:.2}")).collect();
    goal.note(&format!(
        "a client's view, of {} replacements: {} s",
        all.len(),
        all.join(", ")
    ));
    Ok(vec![goal])
}

fn pauses(door: &str, repeats: usize) -> Outcome<Vec<f64>> {
    let flags = ["--takeover", door];
    let mut server = Server::start_with(MEMORY, &flags)?;
    let entries = ENTRIES.to_string();
    load(&server.flight, &["--size", "3KiB", "--keys", &entries])?;
    let mut pauses = Vec::new();
    for _ in 0..repeats.max(1) {
        let (address, done) = (server.flight.clone(), AtomicBool::new(false));
        let pause = thread::scope(|scope| {
            let asking = scope.spawn(|| longest(&address, &done));
            let successor = Server::start_with(MEMORY, &flags);
            // It has said that it is ready: the next answer is its own.
            done.store(true, Ordering::Release);
            let pause = asking.join().map_err(|_| "the client panicked")?;
            server = successor?;
            pause
        })?;
        pauses.push(pause);
    }
    Ok(pauses)
}

/// The longest time between two answers, up to the first after `done`.
fn longest(address: &str, done: &AtomicBool) -> Outcome<f64> {
    let (watch, mut buffer) = (Stopwatch::start(), Vec::new());
    let (mut last, mut longest) = (None::<f64>, 0_f64);
    let mut connection: Option<Connection> = None;
    loop {
        let was_done = done.load(Ordering::Acquire);
        let asked = match connection.as_mut() {
            Some(connection) => ask(connection, &mut buffer),
            None => {
                connection = Some(Connection::connect(&address.parse()?)?);
                continue;
            }
        };
        if !asked {
            connection = None;
            continue;
        }
        let now = watch.seconds();
        longest = last
            .replace(now)
            .map_or(longest, |last| longest.max(now - last));
        if was_done {
            return Ok(longest);
        }
    }
}

/// Whether there is an answer: whatever it says of the key.
fn ask(connection: &mut Connection, buffer: &mut Vec<u8>) -> bool {
    match connection.get_into(br#"{"key": "0"}"#, buffer) {
        Ok(_) => true,
        Err(error) => error.code == Code::NotFound,
    }
}
