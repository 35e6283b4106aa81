//! Memory for what is read or made whole by one thread, and dropped by another.

use std::io;

use bytes::Bytes;
use memmap2::{MmapMut, MmapOptions};

/// From so many bytes on, memory is the system's own, which has it back when it is dropped. An allocator keeps for each
/// thread what that thread has allocated and another has freed, and files are read by dozens of threads in turn.
const MAPPED_BYTES: usize = 16 << 10;

/// So many bytes, zeros at first.
pub(crate) enum Room {
    Heap(Vec<u8>),
    Mapped(MmapMut),
}

impl Room {
    pub(crate) fn new(len: u64) -> io::Result<Room> {
        let none = || io::Error::other(format!("no memory; bytes=`{len}`"));
        let room = usize::try_from(len).map_err(|_| none())?;
        if room < MAPPED_BYTES {
            return Ok(Room::Heap(vec![0; room]));
        }
        // All of it is about to be written: that is one call, and not a fault for each page.
        let mapped = MmapOptions::new().len(room).populate().map_anon();
        mapped.map(Room::Mapped).map_err(|_| none())
    }

    /// The first `len` bytes.
    pub(crate) fn freeze(self, len: usize) -> Bytes {
        let mut bytes = match self {
            Room::Heap(bytes) => bytes.into(),
            Room::Mapped(map) => Bytes::from_owner(map),
        };
        bytes.truncate(len);
        bytes
    }
}

impl AsRef<[u8]> for Room {
    fn as_ref(&self) -> &[u8] {
        match self {
            Room::Heap(bytes) => bytes,
            Room::Mapped(map) => map,
        }
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

/// Of each of several rooms, unless what is added at once has more.
const EACH_BYTES: usize = 256 << 10;

/// Bytes one behind the other, in several rooms.
#[derive(Default)]
pub(crate) struct Rooms {
    full: Vec<Bytes>,
    /// The last, and how much of it is in use.
    last: Option<(Room, usize)>,
    len: usize,
}

impl Rooms {
    /// How many bytes.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Adds bytes, all to one room.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> io::Result<()> {
        let has_room = |(room, used): &(Room, usize)| room.as_ref().len() - used >= bytes.len();
        if !self.last.as_ref().is_some_and(has_room) {
            self.end();
            let room = Room::new(bytes.len().max(EACH_BYTES) as u64)?;
            self.last = Some((room, 0));
        }
        if let Some((room, used)) = &mut self.last {
            let end = *used + bytes.len();
            room.as_mut()[*used..end].copy_from_slice(bytes);
            *used = end;
            self.len += bytes.len();
        }
        Ok(())
    }

    /// All of them.
    pub(crate) fn freeze(mut self) -> Vec<Bytes> {
        self.end();
        self.full
    }

    fn end(&mut self) {
        let last = self.last.take();
        self.full.extend(last.map(|(room, used)| room.freeze(used)));
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
    fn rooms_are_what_was_added_in_order() {
        let mut rooms = Rooms::default();
        let mut expected = Vec::new();
        for len in [0, 1, 70_000, 200_000, 300_000, 7, EACH_BYTES, 3] {
            let bytes: Vec<u8> = (0..len).map(|at| (at + len) as u8).collect();
            rooms.push(&bytes).unwrap();
            expected.extend(bytes);
            assert_eq!(rooms.len(), expected.len());
        }
        let pieces = rooms.freeze();
        assert!(pieces.len() > 3, "{}", pieces.len());
        assert_eq!(pieces.concat(), expected);
        assert!(Rooms::default().freeze().is_empty());
    }

    #[test]
    fn what_no_memory_is_there_for_is_an_error() {
        assert!(Room::new(u64::MAX).is_err());
        assert!(Room::new(1 << 60).is_err());
    }
}
