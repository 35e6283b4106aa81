//! The `mux` exchange against our own client, and by hand where that cannot be made to.

mod below;
pub mod by_hand;
mod ends;
mod requests;

use bowstring_client::mux::PutOptions;
use bowstring_client::{DType, Mux, Shape, Version};
use bowstring_tests::Server;

/// An exchange for a namespace of a test's own.
fn open(server: &Server, namespace: &str) -> Mux {
    Mux::connect(&server.uri().parse().unwrap(), namespace).unwrap()
}

/// `count` bytes that differ from key to key.
fn content(seed: usize, count: usize) -> Vec<u8> {
    (0..count)
        .map(|at| (at / 7 + seed * 31).to_le_bytes()[0])
        .collect()
}

fn put_bytes(mux: &Mux, key: &str, bytes: &[u8]) -> Version {
    let shape = Shape::new(&[bytes.len() as u64]).unwrap();
    let put = mux.put(key, DType::UInt8, &shape, bytes, PutOptions::default());
    put.unwrap().0
}
