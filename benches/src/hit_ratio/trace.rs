//! A trace in memory.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::Outcome;

/// Bytes of a request in the file.
const REQUEST: usize = 16;

/// Requests in their order; objects keep their size.
pub struct Trace {
    name: String,
    requests: Vec<(u32, u64)>,
    objects: u32,
    footprint: u64,
}

impl Trace {
    /// Reads a file of requests.
    pub fn read(path: &Path) -> Outcome<Self> {
        let bytes = fs::read(path)?;
        let mut requests = Vec::with_capacity(bytes.len() / REQUEST);
        let (mut objects, mut footprint) = (0, 0);
        for request in bytes.chunks_exact(REQUEST) {
            let (number, size) = request.split_at(REQUEST / 2);
            let number = u32::try_from(u64::from_le_bytes(number.try_into()?))?;
            let size = u64::from_le_bytes(size.try_into()?);
            // Objects are numbered in the order in which they first come.
            if number > objects {
                objects = number;
                footprint += size;
            }
            requests.push((number, size));
        }
        let name = path.file_stem().unwrap_or_default();
        Ok(Self {
            name: name.to_string_lossy().into_owned(),
            requests,
            objects,
            footprint,
        })
    }

    /// What to call it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Object and bytes of each request.
    pub fn requests(&self) -> impl ExactSizeIterator<Item = (u32, u64)> + Clone + use<'_> {
        self.requests.iter().copied()
    }

    /// How many objects there are; the last one's number.
    pub fn objects(&self) -> u32 {
        self.objects
    }

    /// Bytes of all objects.
    pub fn footprint(&self) -> u64 {
        self.footprint
    }

    /// How large it is, and the most that could be hit.
    pub fn describe(&self) -> Value {
        let requests = self.requests.len() as u64;
        json!({
            "trace": self.name,
            "requests": requests,
            "objects": self.objects,
            "footprint_bytes": self.footprint,
            "repeated": crate::percent(requests - u64::from(self.objects), requests),
        })
    }
}

/// Another number for each object, as hashes of names are.
pub fn hash(object: u32) -> u32 {
    let mut hash = object;
    hash = (hash ^ hash >> 16).wrapping_mul(0x7feb_352d);
    hash = (hash ^ hash >> 15).wrapping_mul(0x846c_a68b);
    hash ^ hash >> 16
}
