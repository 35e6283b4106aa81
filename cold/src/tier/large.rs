//! A large tensor as a segment of its own, straight from memory to the store. One that is compressed is so twice: its
//! file says how long it is before its bytes, and nobody has room for all of them.

use bowstring_cache::Cache;
use bowstring_cache::lower::Description;
use bowstring_wire::error::{Error, Result};
use bytes::Bytes;

use super::queue::Waiting;
use super::segment::{PIECE_BYTES, may_pack, share};
use super::{Cold, blocking, failed};
use crate::entry::{Number, Stored};
use crate::format::pack::{PACKER_BYTES, is_worth, total};
use crate::format::{Large, Packer};
use crate::store::{ObjectName, Upload};

/// What is compressed and on its way to the store has no more than one part in so many of the memory, for one tensor;
/// where that is not enough, the tensor is written as it is.
const ROOM_SHARE: u64 = 8;

impl Cold {
    pub(super) async fn write_large(
        &self,
        cache: &Cache,
        number: Number,
        waiting: &Waiting,
    ) -> Result<Stored> {
        let frames = match may_pack(cache, &waiting.id) {
            true => self.measure(cache, waiting).await?,
            false => Vec::new(),
        };
        let name = ObjectName::Segment(number);
        let large = Large::begin(number, Description::of(&waiting.entry)?, frames.clone())?;
        let room = room(&frames);
        let _room = match room {
            0 => None,
            room => Some(self.charge(cache, room).await),
        };
        let upload = self.inner.store.upload(&name, large.file_bytes()).await;
        let mut upload = upload.map_err(failed)?;
        upload.write(large.head()).await.map_err(failed)?;
        let large = match frames.is_empty() {
            true => write_plain(large, &mut upload, waiting).await?,
            false => {
                self.write_frames(large, &mut upload, waiting, frames)
                    .await?
            }
        };
        let (tail, sidecar, stored) = large.finish()?;
        upload.write(tail).await.map_err(failed)?;
        upload.finish().await.map_err(failed)?;
        self.write_sidecar(number, sidecar).await?;
        Ok(stored)
    }

    /// How long a tensor's frames are; none where it is to be written as it is.
    async fn measure(&self, cache: &Cache, waiting: &Waiting) -> Result<Vec<u32>> {
        let len = waiting.entry.len();
        let room_max = cache.config().memory / ROOM_SHARE;
        let mut reader = share(&waiting.entry)?.reader(0..len)?;
        let _charge = self.charge(cache, PACKER_BYTES).await;
        let mut packer = Packer::new()?;
        let mut frames = Vec::new();
        while reader.remaining() > 0 {
            let leave = self.leave_to_pack().await?;
            let packed = blocking(move || {
                let (_, frame) = packer.pack(reader.remaining(), |out| reader.copy_to(out))?;
                frames.push(u32::try_from(frame.len()).unwrap_or(u32::MAX));
                Ok::<_, Error>((packer, reader, frames))
            });
            (packer, reader, frames) = packed.await??;
            drop(leave);
        }
        let is_packed = is_worth(len, &frames) && room(&frames) <= room_max;
        Ok(if is_packed { frames } else { Vec::new() })
    }

    async fn write_frames(
        &self,
        mut large: Large,
        upload: &mut Upload,
        waiting: &Waiting,
        frames: Vec<u32>,
    ) -> Result<Large> {
        let mut reader = share(&waiting.entry)?.reader(0..waiting.entry.len())?;
        let mut packer = Packer::new()?;
        for expected in frames {
            let leave = self.leave_to_pack().await?;
            let packed = blocking(move || {
                let (block, frame) = packer.pack(reader.remaining(), |out| reader.copy_to(out))?;
                large.pass(block);
                let frame = Bytes::copy_from_slice(frame);
                Ok::<_, Error>((packer, reader, large, frame))
            });
            let frame;
            (packer, reader, large, frame) = packed.await??;
            drop(leave);
            if u32::try_from(frame.len()) != Ok(expected) {
                return Err(Error::data_loss(
                    "a tensor's bytes in memory were not the same twice; it is not written down",
                ));
            }
            upload.write(frame).await.map_err(failed)?;
        }
        Ok(large)
    }
}

async fn write_plain(mut large: Large, upload: &mut Upload, waiting: &Waiting) -> Result<Large> {
    let mut reader = share(&waiting.entry)?.reader(0..waiting.entry.len())?;
    while reader.remaining() > 0 {
        for piece in reader.take(PIECE_BYTES)? {
            large.pass(&piece);
            upload.write(piece).await.map_err(failed)?;
        }
    }
    Ok(large)
}

/// What frames take on their way, and who makes them: they lie nowhere else.
fn room(frames: &[u32]) -> u64 {
    match frames {
        [] => 0,
        frames => PACKER_BYTES + Upload::held_bytes(total(frames)),
    }
}
