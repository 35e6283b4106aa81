//! From the start of a process over a million entries to the first one that it gives.

use serde_json::json;

use super::{Client, Place};
use crate::Outcome;
use crate::clock::Stopwatch;
use crate::entries::{FOREVER, fill, key};
use crate::grid::median;
use crate::report::Goal;

const ENTRIES: u64 = 1_000_000;
const MEMORY: &str = "512MiB";
const AT_MOST_SECONDS: f64 = 5.0;

pub fn run(repeats: usize) -> Outcome<Goal> {
    let place = Place::new("cold-restart")?;
    let server = place.serve(MEMORY, &[])?;
    fill(&server, ENTRIES, FOREVER)?;
    Client::of(&server)?.act("flush", &json!({"namespace": "bulk"}))?;
    drop(server);
    let (mut serves, mut finds) = (Vec::new(), Vec::new());
    for nth in 0..repeats as u64 {
        let watch = Stopwatch::start();
        let server = place.serve(MEMORY, &[])?;
        let mut client = Client::of(&server)?;
        serves.push(watch.seconds());
        let ticket = json!({"namespace": "bulk", "keys": [key(nth * 1_000)]});
        while client.rows(&ticket)? == 0 {
            if watch.seconds() > 600.0 {
                return Err("what was put is not there after ten minutes".into());
            }
        }
        finds.push(watch.seconds());
    }
    let mut goal = Goal::below(
        "a million entries in the cold tier: from the start to the first of them, killed before",
        "itself",
        AT_MOST_SECONDS,
        median(&finds),
        "s",
    );
    goal.note(&format!("it serves after {:.2} s", median(&serves)));
    Ok(goal)
}
