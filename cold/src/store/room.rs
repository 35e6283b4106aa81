//! Memory for what is read whole.

use bytes::Bytes;
use memmap2::{MmapMut, MmapOptions};

use super::error::{Result, StoreError};

/// From so many bytes on, memory is the system's own, which has it back when it is dropped. An allocator keeps for each
/// thread what that thread has allocated and another has freed, and files are read by dozens of threads in turn.
const MAPPED_BYTES: usize = 16 << 10;

/// So many bytes, zeros at first.
pub(super) enum Room {
    Heap(Vec<u8>),
    Mapped(MmapMut),
}

impl Room {
    pub(super) fn new(len: u64) -> Result<Room> {
        let none = || StoreError::Failed(format!("no memory for a read; bytes=`{len}`"));
        let room = usize::try_from(len).map_err(|_| none())?;
        if room < MAPPED_BYTES {
            return Ok(Room::Heap(vec![0; room]));
        }
        // All of it is about to be written: that is one call, and not a fault for each page.
        let mapped = MmapOptions::new().len(room).populate().map_anon();
        mapped.map(Room::Mapped).map_err(|_| none())
    }

    /// The first `len` bytes.
    pub(super) fn freeze(self, len: usize) -> Bytes {
        let mut bytes = match self {
            Room::Heap(bytes) => bytes.into(),
            Room::Mapped(map) => Bytes::from_owner(map),
        };
        bytes.truncate(len);
        bytes
    }
}

impl AsMut<[u8]> for Room {
    fn as_mut(&mut self) -> &mut [u8] {
        match self {
            Room::Heap(bytes) => bytes,
            Room::Mapped(map) => map,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_into_it_is_what_it_becomes_on_the_heap_and_mapped() {
        for len in [0, 1, MAPPED_BYTES - 1, MAPPED_BYTES, MAPPED_BYTES + 5000] {
            let mut room = Room::new(len as u64).unwrap();
            assert_eq!(matches!(room, Room::Mapped(_)), len >= MAPPED_BYTES);
            let bytes: Vec<u8> = (0..len).map(|at| at as u8).collect();
            room.as_mut().copy_from_slice(&bytes);
            let part = len / 3;
            assert_eq!(room.freeze(part), bytes[..part]);
        }
    }

    #[test]
    fn what_no_memory_is_there_for_is_an_error() {
        assert!(Room::new(u64::MAX).is_err());
        assert!(Room::new(1 << 60).is_err());
    }
}
