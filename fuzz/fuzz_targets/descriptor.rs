//! Descriptors: what a put says of itself.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| bowstring_wire::feed::descriptor(bytes));
