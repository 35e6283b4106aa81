//! Streams of puts: messages, schemas, batches and their rows.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| bowstring_wire::feed::put(bytes));
