//! Look-ups and nothing else, to count the cache misses of; and the index's memory.
//!
//! `lookup_misses KEYS LOOKUPS [hit|miss|memory]` fills an index and looks keys up at random. The
//! difference between a run with look-ups and one with none, a look-up, is what one costs:
//!
//! ```sh
//! cargo build -p bowstring-cache --example lookup_misses
//! for lookups in 0 200000; do
//!   valgrind --tool=cachegrind --cache-sim=yes --LL=4194304,16,64 \
//!     --cachegrind-out-file=/dev/null target/debug/examples/lookup_misses 1000000 $lookups
//! done
//! ```
//!
//! `memory` keeps the keys in order too, put in order and at random, and prints what an
//! entry takes.

#[path = "../benches/support/entries.rs"]
mod entries;

use entries::{Entries, name, shuffled};

fn main() {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let number = |at: usize, or: u32| arguments.get(at).map_or(Some(or), |text| text.parse().ok());
    let (Some(keys), Some(lookups)) = (number(0, 1_000_000), number(1, 200_000)) else {
        eprintln!("usage: lookup_misses KEYS LOOKUPS [hit|miss|memory]");
        std::process::exit(2);
    };
    // Names that are not there follow those that are.
    let what = arguments.get(2).map_or("hit", String::as_str);
    let first = if what == "miss" { keys } else { 0 };
    let entries = Entries::new(keys, keys);
    let wanted = shuffled(keys, 1).take(lookups as usize);
    let found = wanted
        .filter(|&number| entries.hit(&name(first + number)))
        .count();
    println!("keys={keys} lookups={lookups} found={found}");
    if what == "memory" {
        let each = |bytes: u64| bytes as f64 / f64::from(keys);
        println!("records={:.2}", each(entries.index.records.bytes()));
        println!("table={:.2}", each(entries.index.table.bytes()));
        println!(
            "order_ascending={:.2}",
            each(entries.order(0..keys).bytes())
        );
        let random = shuffled(keys, 2).take(keys as usize);
        let order = entries.order(random);
        println!(
            "order_random={:.2}",
            order.bytes() as f64 / order.len() as f64
        );
    }
}
