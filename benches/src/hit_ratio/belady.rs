//! What an oracle reaches that knows all requests to come.
//!
//! - `belady`: of those held, the one goes that is wanted last (Belady 1966). The best there can be
//!   where all objects have one size.
//! - `belady-size`: of 64 drawn from those held, the one goes whose bytes times the requests until
//!   it is wanted are most. The best there can be is not known for objects of several sizes; the
//!   greater of the two is a point that it is not below.
//!
//! Neither keeps what is never wanted again.

use std::collections::{BTreeSet, HashMap};

use crate::Ratios;
use crate::trace::Trace;

const DRAWN: usize = 64;
const NEVER: usize = usize::MAX;

/// Both oracles in a cache of `bytes_max`; only the first where all objects have one size.
pub fn bounds(trace: &Trace, bytes_max: u64) -> Vec<(&'static str, Ratios)> {
    let next = next_requests(trace);
    let mut bounds = vec![("belady", farthest(trace, &next, bytes_max))];
    let first = trace.requests().next().map(|(_, bytes)| bytes);
    if trace.requests().any(|(_, bytes)| Some(bytes) != first) {
        bounds.push(("belady-size", largest(trace, &next, bytes_max)));
    }
    bounds
}

/// For each request, when its object is asked for next.
fn next_requests(trace: &Trace) -> Vec<usize> {
    let mut next = vec![NEVER; trace.requests().len()];
    let mut last = HashMap::new();
    for (at, (object, _)) in trace.requests().enumerate() {
        if let Some(before) = last.insert(object, at) {
            next[before] = at;
        }
    }
    next
}

fn farthest(trace: &Trace, next: &[usize], bytes_max: u64) -> Ratios {
    let mut ratios = Ratios::default();
    // By when they are wanted.
    let mut held: BTreeSet<(usize, u64)> = BTreeSet::new();
    let mut used = 0;
    for (at, (_, bytes)) in trace.requests().enumerate() {
        // Nobody but this object is wanted at this request.
        let hit = held.remove(&(at, bytes));
        ratios.count(hit, bytes);
        used -= if hit { bytes } else { 0 };
        if next[at] == NEVER || bytes > bytes_max {
            continue;
        }
        held.insert((next[at], bytes));
        used += bytes;
        while used > bytes_max
            && let Some((_, bytes)) = held.pop_last()
        {
            used -= bytes;
        }
    }
    ratios
}

fn largest(trace: &Trace, next: &[usize], bytes_max: u64) -> Ratios {
    let mut ratios = Ratios::default();
    let mut held = Held::default();
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    for (at, (object, bytes)) in trace.requests().enumerate() {
        ratios.count(held.remove(object).is_some(), bytes);
        if next[at] == NEVER || bytes > bytes_max {
            continue;
        }
        held.insert(object, next[at], bytes);
        while held.used > bytes_max {
            let mut worst = (0, object);
            for _ in 0..DRAWN {
                random ^= random << 13;
                random ^= random >> 7;
                random ^= random << 17;
                let (object, next, bytes) = held.at(random);
                let cost = (next - at) as u128 * u128::from(bytes);
                worst = worst.max((cost, object));
            }
            held.remove(worst.1);
        }
    }
    ratios
}

/// Objects that can be drawn from.
#[derive(Default)]
struct Held {
    all: Vec<(u32, usize, u64)>,
    places: HashMap<u32, usize>,
    used: u64,
}

impl Held {
    fn insert(&mut self, object: u32, next: usize, bytes: u64) {
        self.places.insert(object, self.all.len());
        self.all.push((object, next, bytes));
        self.used += bytes;
    }

    fn remove(&mut self, object: u32) -> Option<()> {
        let at = self.places.remove(&object)?;
        let (_, _, bytes) = self.all.swap_remove(at);
        if let Some((moved, _, _)) = self.all.get(at) {
            self.places.insert(*moved, at);
        }
        self.used -= bytes;
        Some(())
    }

    fn at(&self, random: u64) -> (u32, usize, u64) {
        let at = (u128::from(random) * self.all.len() as u128) >> 64;
        self.all[usize::try_from(at).unwrap_or(0)]
    }
}
