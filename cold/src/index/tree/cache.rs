//! Blocks that were read last, within some MiB.

use std::collections::HashMap;

use bytes::Bytes;
use parking_lot::Mutex;

/// A table's number, and which of its blocks.
pub(super) type Which = (u64, usize);

/// A block more or less is of no matter, so the one to go is looked for among all: some hundreds at most.
#[derive(Debug, Default)]
pub(super) struct Cache {
    bytes_max: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    blocks: HashMap<Which, (Bytes, u64)>,
    bytes: usize,
    uses: u64,
}

impl Cache {
    pub(super) fn new(bytes_max: usize) -> Cache {
        Cache {
            bytes_max,
            state: Mutex::default(),
        }
    }

    pub(super) fn get(&self, which: Which) -> Option<Bytes> {
        let mut state = self.state.lock();
        state.uses += 1;
        let uses = state.uses;
        let (block, used) = state.blocks.get_mut(&which)?;
        *used = uses;
        Some(block.clone())
    }

    pub(super) fn put(&self, which: Which, block: Bytes) {
        let mut state = self.state.lock();
        if block.len() > self.bytes_max / 2 {
            return;
        }
        state.uses += 1;
        let uses = state.uses;
        state.bytes += block.len();
        if let Some((before, _)) = state.blocks.insert(which, (block, uses)) {
            state.bytes -= before.len();
        }
        while state.bytes > self.bytes_max {
            let oldest = state.blocks.iter().min_by_key(|(_, (_, used))| *used);
            let Some(which) = oldest.map(|(which, _)| *which) else {
                break;
            };
            if let Some((gone, _)) = state.blocks.remove(&which) {
                state.bytes -= gone.len();
            }
        }
    }

    pub(super) fn resident_bytes(&self) -> u64 {
        let state = self.state.lock();
        (state.bytes + state.blocks.capacity() * size_of::<(Which, (Bytes, u64))>()) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_used_for_longest_goes() {
        let cache = Cache::new(30);
        let block = |n: u8| Bytes::from(vec![n; 10]);
        for n in 0..3 {
            cache.put((1, usize::from(n)), block(n));
        }
        assert_eq!(cache.get((1, 0)), Some(block(0)));
        cache.put((2, 0), block(9));
        assert_eq!(cache.get((1, 1)), None);
        for (which, n) in [((1, 0), 0), ((1, 2), 2), ((2, 0), 9)] {
            assert_eq!(cache.get(which), Some(block(n)));
        }
        cache.put((3, 0), vec![0; 16].into());
        assert_eq!(cache.get((3, 0)), None, "it would push out the others");
    }
}
