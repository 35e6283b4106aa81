//! Sidecars, records, descriptions and compressed blocks of the cold tier. The first byte says which, and whether a seal is put
//! behind the rest: without one nothing is read beyond it.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| bowstring_cold::feed::any(bytes));
