//! Tickets: what a get asks for.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| bowstring_wire::feed::ticket(bytes));
