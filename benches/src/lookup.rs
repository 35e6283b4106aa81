//! What a look-up over the wire costs as there are more keys.

use bowstring_client::Connection;

use crate::Outcome;
use crate::clock::Stopwatch;
use crate::entries::{FOREVER, fill, key};
use crate::grid::{median, pairs};
use crate::peers::bowstring::Server;
use crate::process::{CpuUse, background_load};

/// Keys, and the memory that they fit into; the first is what the others are measured by.
const SERVERS: [(u64, &str); 3] = [(1000, "1GiB"), (1_000_000, "1GiB"), (10_000_000, "2560MiB")];
/// Gets in a round.
const OPS: u32 = 2000;

/// Gets of 64 bytes from one server.
pub struct Lookup {
    /// Keys in it.
    pub keys: u64,
    /// Microseconds a get, the median.
    pub micros: f64,
    /// CPU microseconds a get, both ends, the median.
    pub cpu_micros: f64,
    /// How many times the time of the server with the fewest keys, the median of the pairs.
    pub ratio: f64,
    /// How many times its CPU.
    pub cpu_ratio: f64,
}

/// Asks the servers, alive at the same time, in turn for keys in no order.
pub fn run(repeats: usize) -> Outcome<Vec<Lookup>> {
    let mut ends = Vec::new();
    for (keys, memory) in SERVERS {
        let server = Server::start(memory)?;
        fill(&server, keys, FOREVER)?;
        let connection = server.connect()?;
        ends.push((server, connection));
    }
    let _load = background_load();
    let mut seconds = vec![Vec::new(); ends.len()];
    let mut cpu = vec![Vec::new(); ends.len()];
    let mut at = 1;
    for round in 0..repeats + 1 {
        for turn in 0..ends.len() {
            let who = (round + turn) % ends.len();
            let (server, connection) = &mut ends[who];
            let before = uses(server);
            let took = gets(connection, SERVERS[who].0, &mut at)?;
            let after = uses(server);
            // The first round warms up.
            if round > 0 {
                seconds[who].push(took);
                cpu[who].push(after[0].since(&before[0]) + after[1].since(&before[1]));
            }
        }
    }
    let each = |values: &[f64]| median(values) / f64::from(OPS) * 1e6;
    let of = |who: usize| Lookup {
        keys: SERVERS[who].0,
        micros: each(&seconds[who]),
        cpu_micros: each(&cpu[who]),
        ratio: pairs(&seconds[who], &seconds[0]),
        cpu_ratio: pairs(&cpu[who], &cpu[0]),
    };
    Ok((0..SERVERS.len()).map(of).collect())
}

fn uses(server: &Server) -> [CpuUse; 2] {
    [server.id(), std::process::id()].map(CpuUse::of)
}

fn gets(connection: &mut Connection, keys: u64, at: &mut u64) -> Outcome<f64> {
    let mut buffer = Vec::new();
    let watch = Stopwatch::start();
    for _ in 0..OPS {
        // Knuth's generator: the same keys on every run, near to none of the last ones.
        *at = at
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let ticket = format!(
            r#"{{"namespace": "bulk", "key": "{}"}}"#,
            key((*at >> 33) % keys)
        );
        connection.get_into(ticket.as_bytes(), &mut buffer)?;
    }
    Ok(watch.seconds())
}
