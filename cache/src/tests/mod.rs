//! The engine as a whole, on a real arena and a clock that stands still.
//!
//! `putting`: modes, versions, checksums, refusals; `leaving`: a put dropped at every await;
//! `reading`: pieces, ranges, what readers hold; `keeping`: lazy expiry, order, events; `below`: the lower tier; `attaching`: namespaces that are rows of files; `expiring`: expiry unasked for; `pinning`: pins; `annotating`: other metadata; `settling`: namespaces;
//! `loading`, `taking_back`: loads; `sparing`: what stays while they fill memory; `listing`: what was evicted last, and which loads there are; `snapshots`: walks beside writers; `snapshots_below`: of both tiers; `pressure`: many writers over many
//! times the memory; `racing`: all at once, on threads; `bulk`: rows, and what an entry costs.

mod annotating;
mod attaching;
mod below;
mod bulk;
mod expiring;
mod keeping;
mod leaving;
mod listing;
mod loading;
mod pinning;
mod pressure;
mod putting;
mod racing;
mod reading;
mod settling;
mod snapshots;
mod snapshots_below;
mod sourcing;
mod sparing;
mod taking_back;

use std::sync::Arc;

use bowstring_wire::dtype::DType;
use bowstring_wire::error::Result;
use bowstring_wire::name::{Key, Namespace};
use bowstring_wire::shape::Shape;
use smallvec::smallvec;

use crate::clock::ManualClock;
use crate::config::{CacheConfig, Parts};
use crate::entropy::Entropy;
use crate::put::{Admit, Mode, Published, PutSpec};
use crate::rows::Row;
use crate::{Cache, Eviction, Id};

pub(crate) const MIB: u64 = 1 << 20;
pub(crate) const NOW_MS: u64 = 1_700_000_000_000;

pub(crate) fn cache_of(memory: u64) -> (Cache, Arc<ManualClock>) {
    cache_with(memory, |_| {})
}

pub(super) fn cache_with(memory: u64, with: impl FnOnce(&mut Parts)) -> (Cache, Arc<ManualClock>) {
    // It takes no memory of its own, which these tests count. `pressure` takes them all.
    cache_by(Eviction::Sieve, memory, with)
}

pub(super) fn cache_by(
    eviction: Eviction,
    memory: u64,
    with: impl FnOnce(&mut Parts),
) -> (Cache, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock::new(NOW_MS));
    let config = CacheConfig {
        eviction,
        memory: if cfg!(miri) { 8 * MIB } else { memory },
        // Miri has no `memfd`.
        heap: cfg!(miri),
        region_bytes: cfg!(miri).then_some(4 * MIB),
        ..CacheConfig::default()
    };
    let mut parts = Parts {
        clock: Arc::clone(&clock) as _,
        entropy: Some(Entropy::fixed(7)),
        ..Parts::default()
    };
    with(&mut parts);
    (Cache::with_parts(config, parts).unwrap(), clock)
}

pub(crate) fn id(key: &str) -> Id {
    Id::public(Namespace::default(), Key::parse(key).unwrap())
}

/// Bytes that differ from seed to seed and from place to place.
pub(crate) fn bytes(seed: u64, len: usize) -> Vec<u8> {
    let mut word = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut out = Vec::with_capacity(len + 8);
    while out.len() < len {
        word ^= word << 13;
        word ^= word >> 7;
        word ^= word << 17;
        out.extend_from_slice(&word.to_le_bytes());
    }
    out.truncate(len);
    out
}

pub(crate) fn spec(mode: Mode) -> PutSpec {
    PutSpec {
        mode,
        ..PutSpec::new(DType::UInt8)
    }
}

pub(crate) async fn put(cache: &Cache, key: &str, mode: Mode, data: &[u8]) -> Result<Published> {
    put_spec(cache, key, spec(mode), data).await
}

pub(crate) async fn put_spec(
    cache: &Cache,
    key: &str,
    spec: PutSpec,
    data: &[u8],
) -> Result<Published> {
    let mut put = cache.put(id(key), spec)?;
    for part in data.chunks(100_000) {
        put.reserve(part.len() as u64).await?;
        put.write(part)?;
    }
    put.publish(Shape::new(&[data.len() as u64]).unwrap()).await
}

/// A row of bytes with nothing else said.
pub(super) fn row<'a>(key: &'a str, shape: &'a Shape, data: &'a [u8]) -> Row<'a> {
    Row {
        key,
        dtype: DType::UInt8,
        shape,
        data: smallvec![data],
        metadata: &[],
        expires_at_ms: None,
        checksum: None,
        source_version: None,
    }
}

pub(crate) fn get(cache: &Cache, key: &str) -> Option<Vec<u8>> {
    Some(cache.get(&id(key))?.into_vec().unwrap())
}
