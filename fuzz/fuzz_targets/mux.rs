//! Messages of the mux exchange, of either end.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| bowstring_wire::feed::mux(bytes));
