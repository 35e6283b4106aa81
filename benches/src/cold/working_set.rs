//! A working set of twenty times the memory, read as Zipf's law has it, every byte checked; and what that costs those who read
//! what memory has.

use bowstring_client::{Code, Connection, DType, Descriptor, Shape};
use serde_json::json;

use super::{Client, Place};
use crate::Outcome;
use crate::clock::Stopwatch;
use crate::grid::{median, pairs};
use crate::peers::bowstring::Server;
use crate::report::Goal;

const MEMORY: u64 = 256 << 20;
const TIMES: u64 = 20;
const LEAST: f64 = 1024.0;
const MOST: f64 = 4_194_304.0;
const READS: usize = 20_000;

/// Tensors by rank, the most read one first.
struct Set {
    lens: Vec<usize>,
    /// Up to which of the sum of all shares each rank goes.
    shares: Vec<f64>,
    /// Ranks that fit into a quarter of the memory.
    hot: usize,
}

struct Seen {
    hot_micros: Vec<f64>,
    all_seconds: f64,
    misses: usize,
}

pub fn run(rounds: usize) -> Outcome<Vec<Goal>> {
    let set = Set::new();
    let place = Place::new("cold-set")?;
    let memory = MEMORY.to_string();
    // Put once; each round starts over the store as it is then.
    drop(set.put(place.serve(&memory, &["--write-policy", "on_put"])?, true)?);
    let (mut with, mut without) = (Vec::new(), Vec::new());
    let (mut rates, mut misses) = (Vec::new(), 0);
    for round in 0..rounds {
        let tier = || {
            let server = place.serve(&memory, &[])?;
            set.warm(&server)?;
            set.read(&server)
        };
        let none = || set.read(&set.put(Server::start(&memory)?, false)?);
        let (one, other) = match round % 2 {
            0 => (tier()?, none()?),
            _ => {
                let other = none()?;
                (tier()?, other)
            }
        };
        misses += one.misses;
        rates.push(READS as f64 / one.all_seconds);
        with.push(p99(one.hot_micros));
        without.push(p99(other.hot_micros));
    }
    let mut hot = Goal::at_most(
        "working set of 20 × the memory, Zipf: p99 of gets of what fits into a quarter of the memory",
        "without a cold tier, where the others are misses",
        1.2,
        pairs(&with, &without),
    );
    hot.note(&format!(
        "{:.0} against {:.0} µs",
        median(&with),
        median(&without)
    ));
    let all = Goal::figure(
        "working set of 20 × the memory, 1 KiB to 4 MiB: gets a second, each checked",
        "itself",
        format!(
            "{:.0}; {misses} misses of {}",
            median(&rates),
            READS * rounds
        ),
    );
    Ok(vec![hot, all])
}

impl Set {
    fn new() -> Set {
        let (mut lens, mut shares) = (Vec::new(), Vec::new());
        let (mut bytes, mut share, mut hot) = (0, 0.0, 0);
        while bytes < TIMES * MEMORY {
            let rank = lens.len() as u64;
            let at = (mix(rank) >> 11) as f64 / (1_u64 << 53) as f64;
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "a few MiB"
            )]
            let len = (LEAST * (MOST / LEAST).powf(at)) as usize / 4 * 4;
            bytes += len as u64;
            share += 1.0 / (rank + 1) as f64;
            lens.push(len);
            shares.push(share);
            if bytes < MEMORY / 4 {
                hot = lens.len();
            }
        }
        Set { lens, shares, hot }
    }

    /// Puts all of them, the most read ones last.
    fn put(&self, server: Server, flush: bool) -> Outcome<Server> {
        let mut connection = server.connect()?;
        let mut client = Client::of(&server)?;
        for rank in (0..self.lens.len()).rev() {
            let key = format!("k{rank}");
            let shape = Shape::new(&[self.lens[rank] as u64 / 4])?;
            let to = Descriptor::Path(&[&key]);
            connection.put(to, DType::Float32, &shape, content(rank, self.lens[rank]))?;
            // Not faster than the store: none is to be lost.
            if flush && rank % 50 == 0 {
                client.act("flush", &json!({}))?;
            }
        }
        Ok(server)
    }

    /// Has the most read ones in memory.
    fn warm(&self, server: &Server) -> Outcome<()> {
        let keys: Vec<String> = (0..self.hot).map(|rank| format!("k{rank}")).collect();
        Client::of(server)?.act("prewarm", &json!({ "keys": keys }))
    }

    /// Always the same ones, in the same order.
    fn read(&self, server: &Server) -> Outcome<Seen> {
        let mut connection: Connection = server.connect()?;
        let sum = *self.shares.last().ok_or("no tensors")?;
        let mut seen = Seen {
            hot_micros: Vec::new(),
            all_seconds: 0.0,
            misses: 0,
        };
        let mut buffer = Vec::new();
        for read in 0..READS as u64 {
            let at = (mix(read ^ 0x5eed) >> 11) as f64 / (1_u64 << 53) as f64 * sum;
            let rank = self.shares.partition_point(|share| *share < at);
            let ticket = json!({"key": format!("k{rank}")}).to_string();
            let watch = Stopwatch::start();
            let got = connection.get_into(ticket.as_bytes(), &mut buffer);
            let seconds = watch.seconds();
            seen.all_seconds += seconds;
            match got {
                Ok(_) if buffer != content(rank, self.lens[rank]) => {
                    return Err(format!("k{rank} has bytes that are not its own").into());
                }
                Ok(_) if rank < self.hot => seen.hot_micros.push(seconds * 1e6),
                Ok(_) => {}
                Err(error) if error.code == Code::NotFound => seen.misses += 1,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(seen)
    }
}

/// Other bytes for each rank, without a copy of them all: a window into the same ones.
fn content(rank: usize, len: usize) -> &'static [u8] {
    static BYTES: std::sync::OnceLock<Vec<u8>> = std::sync::OnceLock::new();
    let bytes = BYTES.get_or_init(|| {
        (0..1_u64 << 20)
            .flat_map(|nth| mix(nth).to_le_bytes())
            .collect()
    });
    let first = rank * 16 % (bytes.len() - len);
    &bytes[first..first + len]
}

fn p99(mut micros: Vec<f64>) -> f64 {
    micros.sort_by(f64::total_cmp);
    micros.get(micros.len() * 99 / 100).copied().unwrap_or(0.0)
}

/// Spread over all of 64 bits, the same in every run (splitmix64).
pub(super) fn mix(nth: u64) -> u64 {
    let mut bits = nth.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}
