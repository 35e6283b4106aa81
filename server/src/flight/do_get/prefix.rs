//! Tensors by a prefix of their keys, in key order.
//!
//! The snapshot is of keys and versions, in memory and below, read as it is sent; it holds no tensor. What was
//! replaced or deleted before its turn, or evicted for good, is named at the end.

use bowstring_cache::lower::Found;
use bowstring_cache::scan::ScanItem;
use bowstring_cache::snapshot::{self, Snapshot, Walk};
use bowstring_wire::closing::Closing;
use bowstring_wire::dtype::DType;
use bowstring_wire::error::Result;
use bowstring_wire::name::Key;
use bowstring_wire::shape::Shape;
use bowstring_wire::ticket::{Layout, Part, Ticket};
use bowstring_wire::version::Version;

use super::message_bytes_max;
use super::rows::{Pushed, Rows};
use crate::flight::lookup::Lookup;
use crate::flight::out::{Failure, Out};
use crate::flight::select::Together;
use crate::flight::service::{Call, Service};
use crate::flight::source;
use crate::grpc::Responder;

/// Sends the entries whose keys begin with `prefix`.
pub async fn send(
    service: &Service,
    call: &Call<'_>,
    ticket: &Ticket,
    (prefix, part): (&str, Option<Part>),
    respond: &mut Responder,
) -> Result<(), Failure> {
    let Some(part) = part else {
        let (tenant, namespace) = (&call.principal.tenant, &ticket.namespace);
        let snapshot = service.cache.snapshot(tenant, namespace, prefix).await?;
        let together = together(&snapshot, ticket).await?;
        let walk = snapshot.walk_once();
        return stream(service, call, ticket, (&snapshot, walk), together, respond).await;
    };
    let kept = service.snapshots.find(&call.principal, ticket, part)?;
    let together = together(kept.snapshot(), ticket).await?;
    let walk = kept.snapshot().walk(kept.part(part)?);
    let of = (kept.snapshot(), walk);
    stream(service, call, ticket, of, together, respond).await
}

async fn stream(
    service: &Service,
    call: &Call<'_>,
    ticket: &Ticket,
    (snapshot, mut walk): (&Snapshot, Walk<'_>),
    together: Together,
    respond: &mut Responder,
) -> Result<(), Failure> {
    let max = message_bytes_max(ticket, call.client);
    let out = Out::new(service, respond, call.client, call.counted, 512);
    let mut rows = Rows::begin(service, ticket, together, out, max).await?;
    while let Some(items) = step(&mut walk).await? {
        let items = items.into_iter().filter(|item| selects(ticket, item));
        let (keys, versions): (Vec<Key>, Vec<Version>) =
            items.map(|item| (item.key, item.version)).unzip();
        let of = (&ticket.namespace, &keys[..]);
        let generation = snapshot.generation();
        let mut lookup = Lookup::new(service, &call.principal, of, generation).scanning();
        for (at, (key, version)) in keys.iter().zip(versions).enumerate() {
            let found = lookup.get(at).await?;
            let is_it = |found: &Found| source::known(found).version() == version;
            let sent = match found.filter(is_it) {
                Some(found) => matches!(rows.push(key, found).await?, Pushed::Sent),
                None => false,
            };
            if !sent {
                walk.missed(key.clone()).await?;
            }
        }
    }
    rows.finish(Some((Closing::Gone, walk.gone()))).await
}

/// What a snapshot, or a part of it, comes to.
pub struct Measured {
    /// Entries that the ticket selects.
    pub entries: u64,
    /// Bytes of their tensors.
    pub bytes: u64,
    /// How many of them are below memory.
    pub below: u64,
    together: Result<Together>,
    marks: Marks,
}

impl Measured {
    /// How the entries become a stream.
    ///
    /// # Errors
    /// `failed_precondition` where they differ, and may not.
    pub fn together(&self, ticket: &Ticket) -> Result<Together> {
        match Together::of(ticket, Layout::Opaque)? {
            Some(together) => Ok(together),
            None => self.together.clone(),
        }
    }

    /// The last keys of `parts` parts that are about as large as each other, the last one's left
    /// out; fewer where there are not so many keys.
    pub fn ends(&self, parts: u32) -> Vec<Key> {
        let (keys, parts) = (&self.marks.keys, parts as usize);
        let mut ends: Vec<Key> = (1..parts)
            .filter_map(|part| {
                keys.get((keys.len() * part / parts).checked_sub(1)?)
                    .cloned()
            })
            .collect();
        ends.dedup();
        ends
    }
}

/// Reads all of a snapshot through.
pub async fn measure_all(snapshot: &Snapshot, ticket: &Ticket) -> Result<Measured> {
    measure(snapshot.walk(snapshot::Part::default()), ticket).await
}

/// Reads a part of a snapshot through.
pub async fn measure(mut walk: Walk<'_>, ticket: &Ticket) -> Result<Measured> {
    let mut measured = Measured {
        entries: 0,
        bytes: 0,
        below: 0,
        together: Ok(Together::Unknown),
        marks: Marks::default(),
    };
    let mut first: Option<(String, DType, Shape)> = None;
    while let Some(items) = step(&mut walk).await? {
        for item in items.into_iter().filter(|item| selects(ticket, item)) {
            if measured.together.is_ok() {
                let one = (item.key.as_str(), item.dtype, item.shape.clone());
                let before = first.clone();
                let before = before.as_ref().map(|(k, d, s)| (k.as_str(), *d, s.clone()));
                measured.together = Together::agreed(before.into_iter().chain([one]));
                first.get_or_insert((item.key.as_str().to_owned(), item.dtype, item.shape));
            }
            measured.entries += 1;
            measured.bytes += item.bytes;
            measured.below += u64::from(item.below);
            measured.marks.pass(item.key);
        }
    }
    Ok(measured)
}

async fn together(snapshot: &Snapshot, ticket: &Ticket) -> Result<Together> {
    match Together::of(ticket, Layout::Opaque)? {
        Some(together) => Ok(together),
        // All of it, though it be for one part: the parts have one schema.
        None => measure_all(snapshot, ticket).await?.together(ticket),
    }
}

fn selects(ticket: &Ticket, item: &ScanItem) -> bool {
    let fixed = ticket.fixed.as_ref();
    fixed.is_none_or(|(dtype, shape)| *dtype == item.dtype && *shape == item.shape)
}

/// A step of a walk. Between two of them the writers and the other streams of this thread have their
/// turn.
async fn step(walk: &mut Walk<'_>) -> Result<Option<Vec<ScanItem>>> {
    tokio::task::yield_now().await;
    walk.step().await
}

/// Some of the keys that went by, evenly apart.
struct Marks {
    keys: Vec<Key>,
    every: u64,
    passed: u64,
}

/// Twice as many as there may be parts, and twice that before every second is left out.
const MARKS_MAX: usize = 4 * bowstring_wire::limits::MAX_PARTITIONS as usize;

impl Default for Marks {
    fn default() -> Self {
        Self {
            keys: Vec::new(),
            every: 1,
            passed: 0,
        }
    }
}

impl Marks {
    fn pass(&mut self, key: Key) {
        self.passed += 1;
        if !self.passed.is_multiple_of(self.every) {
            return;
        }
        self.keys.push(key);
        if self.keys.len() == MARKS_MAX {
            // The second, the fourth, …: they are at multiples of twice as many.
            let mut odd = false;
            self.keys.retain(|_| {
                odd = !odd;
                !odd
            });
            self.every *= 2;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(keys: u64) -> Measured {
        let mut marks = Marks::default();
        for key in 0..keys {
            marks.pass(Key::parse(&format!("{key:06}")).unwrap());
        }
        Measured {
            entries: keys,
            bytes: 0,
            below: 0,
            together: Ok(Together::Unknown),
            marks,
        }
    }

    fn sizes(keys: u64, parts: u32) -> Vec<u64> {
        let ends = measured(keys).ends(parts);
        let ends = ends
            .iter()
            .map(|key| key.as_str().parse::<u64>().unwrap() + 1);
        let ends: Vec<u64> = [0].into_iter().chain(ends).chain([keys]).collect();
        ends.windows(2).map(|pair| pair[1] - pair[0]).collect()
    }

    #[test]
    fn parts_are_about_as_large_as_each_other() {
        assert_eq!(sizes(10, 1), [10]);
        assert_eq!(sizes(10, 4), [2, 3, 2, 3]);
        assert_eq!(sizes(3, 8), [1, 1, 1]);
        assert_eq!(sizes(0, 8), [0]);
        for (keys, parts) in [(100_000, 7), (123_457, 1_024), (4_096, 1_024)] {
            let sizes = sizes(keys, parts);
            assert_eq!(sizes.len(), parts as usize);
            assert_eq!(sizes.iter().sum::<u64>(), keys);
            let (most, least) = (sizes.iter().max().unwrap(), sizes.iter().min().unwrap());
            assert!(most <= &(2 * least), "{keys} {parts}: {least} to {most}");
        }
    }
}
