//! What a bulk load costs those who are served: in the middle of a trace, objects that nobody asks
//! for come in, twice as many bytes as the cache has. Then the trace goes on.

use bowstring_cache::Eviction;
use bowstring_cache::evict::simulation::{Asked, Simulation};
use serde_json::{Value, json};

use crate::Ratios;
use crate::trace::{Trace, hash};

#[derive(Clone, Copy, PartialEq, Eq)]
enum Load {
    None,
    Probation,
    Hot,
}

/// Hit ratios of the second half without the load, and points that it costs, by how it is admitted.
pub fn run(trace: &Trace, policy: Eviction, percent: u64) -> Value {
    let bytes_max = trace.footprint() / 100 * percent;
    let [none, probation, hot] = [Load::None, Load::Probation, Load::Hot]
        .map(|load| second_half(trace, policy, bytes_max, load).objects());
    let points = |with: f64| ((none - with) * 100.0).round() / 100.0;
    json!({
        "trace": trace.name(),
        "percent": percent,
        "policy": policy.name(),
        "quiet": none,
        "lost_probation": points(probation),
        "lost_hot": points(hot),
    })
}

fn second_half(trace: &Trace, policy: Eviction, bytes_max: u64, load: Load) -> Ratios {
    // More than there are objects: those of the load may be smaller.
    let mut simulation = Simulation::new(policy, bytes_max, trace.objects().saturating_mul(4));
    let half = trace.requests().len() / 2;
    let mut ratios = Ratios::default();
    for (at, (object, bytes)) in trace.requests().enumerate() {
        if at == half {
            bulk_load(&mut simulation, trace, bytes_max, load);
        }
        let hit = simulation.ask(hash(object), bytes) == Asked::Hit;
        if at >= half {
            ratios.count(hit, bytes);
        }
    }
    ratios
}

/// New objects with the sizes of the trace's.
fn bulk_load(simulation: &mut Simulation, trace: &Trace, bytes_max: u64, load: Load) {
    let mut left = 2 * bytes_max;
    for (number, (_, bytes)) in (trace.objects() + 1..).zip(trace.requests().cycle()) {
        match load {
            Load::None => return,
            Load::Probation => simulation.load(hash(number), bytes),
            Load::Hot => {
                simulation.ask(hash(number), bytes);
            }
        }
        let Some(rest) = left.checked_sub(bytes.max(1)) else {
            return;
        };
        left = rest;
    }
}
