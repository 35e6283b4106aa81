//! Look-ups and nothing else, to count the cache misses of.
//!
//! `lookup_misses KEYS LOOKUPS [hit|miss]` fills an index and looks keys up at random. The
//! difference between a run with look-ups and one with none, a look-up, is what one costs:
//!
//! ```sh
//! cargo build -p bowstring-cache --example lookup_misses
//! for lookups in 0 200000; do
//!   valgrind --tool=cachegrind --cache-sim=yes --LL=4194304,16,64 \
//!     --cachegrind-out-file=/dev/null target/debug/examples/lookup_misses 1000000 $lookups
//! done
//! ```

#[path = "../benches/support/entries.rs"]
mod entries;

use entries::{Entries, name, shuffled};

fn main() {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let number = |at: usize, or: u32| arguments.get(at).map_or(Some(or), |text| text.parse().ok());
    let (Some(keys), Some(lookups)) = (number(0, 1_000_000), number(1, 200_000)) else {
        eprintln!("usage: lookup_misses KEYS LOOKUPS [hit|miss]");
        std::process::exit(2);
    };
    // Names that are not there follow those that are.
    let first = if arguments.get(2).is_some_and(|what| what == "miss") {
        keys
    } else {
        0
    };
    let entries = Entries::new(keys, keys);
    let wanted = shuffled(keys, 1).take(lookups as usize);
    let found = wanted
        .filter(|&number| entries.hit(&name(first + number)))
        .count();
    let bytes = entries.index.bytes() as f64 / f64::from(keys);
    println!("keys={keys} lookups={lookups} found={found} index_bytes_an_entry={bytes:.1}");
}
