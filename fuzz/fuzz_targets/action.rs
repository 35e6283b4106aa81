//! Bodies of actions, criteria of listings, commands of exchanges.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| bowstring_wire::feed::action(bytes));
