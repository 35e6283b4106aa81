//! Small tensors together, as one Arrow IPC file.

use bowstring_wire::error::Result;
use bytes::Bytes;

pub use super::arrow_file::Layout;
use super::arrow_file::{Lying, frame};
use super::sidecar::encode_sidecar;
use super::tensor::{Tensor, not_all, table};
use crate::entry::{Description, Number, Place, Prefix, Stored};

/// A segment that is ready to be written.
#[derive(Debug, Clone)]
pub struct Built {
    /// The file, piece by piece; the tensors' own bytes are not copied.
    pub file: Vec<Bytes>,
    /// Its sidecar.
    pub sidecar: Bytes,
    /// Its tensors, in the order given.
    pub entries: Vec<Stored>,
}

impl Built {
    /// Bytes of the file.
    pub fn file_bytes(&self) -> u64 {
        self.file.iter().map(|piece| piece.len() as u64).sum()
    }
}

/// Tensors as an Arrow IPC file. There is at least one; with [`Layout::Rows`] all of them are of one namespace, dtype
/// and shape. Where one is compressed, the layout is the opaque one.
///
/// # Errors
/// `internal` for tensors that do not go together, or whose bytes are not there; `invalid_argument` for more than a
/// file can say.
pub fn build(number: Number, layout: &Layout, tensors: Vec<Tensor>) -> Result<Built> {
    let lying: Vec<Lying<'_>> = tensors.iter().map(Tensor::lying).collect();
    let layout = match lying.iter().any(|one| !one.frames.is_empty()) {
        true => &Layout::Opaque,
        false => layout,
    };
    let frame = frame(number, layout, &lying)?;
    let file_bytes = frame.file_bytes();
    let mut offset = frame.head.len() as u64;
    let mut file = vec![frame.head];
    let mut entries = Vec::with_capacity(tensors.len());
    for tensor in tensors {
        let len: u64 = tensor.pieces.iter().map(|piece| piece.len() as u64).sum();
        let stored = Stored {
            description: tensor.description,
            place: Place {
                prefix: Prefix::OWN,
                segment: number,
                offset,
            },
            blocks: tensor.blocks,
            frames: tensor.frames,
        };
        if len != stored.file_bytes() {
            return Err(not_all(len, stored.file_bytes()));
        }
        let pieces = tensor.pieces.into_iter();
        file.extend(pieces.filter(|piece| !piece.is_empty()));
        offset += len;
        entries.push(stored);
    }
    file.push(frame.tail);
    Ok(Built {
        sidecar: encode_sidecar(number, file_bytes, &entries),
        file,
        entries,
    })
}

/// Whether a tensor can be written at all: where [`build`] fails with many, this says with which.
///
/// # Errors
/// As [`Tensor::new`] and [`build`].
pub fn check(description: &Description, pieces: &[Bytes]) -> Result<()> {
    let lying = Lying {
        description,
        frames: &[],
    };
    frame(Number(0), &Layout::Opaque, &[lying])?;
    table(description, pieces).map(drop)
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use arrow_ipc::reader::FileReader;
    use bowstring_wire::error::Code;
    use proptest::prelude::*;

    use super::*;
    use crate::format::testing::{alike, described, tensors};
    use crate::format::{Packer, read_sidecar, verify};

    fn plain(tensors: &[(Description, Vec<Bytes>)]) -> Result<Vec<Tensor>> {
        let tensors = tensors.iter().cloned();
        tensors
            .map(|(description, pieces)| Tensor::new(description, pieces))
            .collect()
    }

    fn concat(built: &Built) -> Vec<u8> {
        let file = built.file.concat();
        assert_eq!(file.len() as u64, built.file_bytes());
        file
    }

    /// What Arrow's own reader sees has to be what the sidecar says.
    fn check(built: &Built, layout: &Layout, tensors: &[(Description, Vec<Bytes>)]) {
        let file = concat(built);
        let sidecar = read_sidecar(built.entries[0].place.segment, &built.sidecar).unwrap();
        assert_eq!(sidecar.entries, built.entries);
        assert_eq!(sidecar.file_bytes, file.len() as u64);
        for (stored, (description, pieces)) in built.entries.iter().zip(tensors) {
            assert_eq!(stored.description, *description);
            let at = usize::try_from(stored.place.offset).unwrap();
            let bytes = &file[at..at + usize::try_from(description.len).unwrap()];
            assert_eq!(bytes, pieces.concat());
            let blocks = bytes.chunks(1 << 20);
            let good = blocks
                .enumerate()
                .all(|(i, block)| verify(stored, i, block));
            assert!(good, "{stored:?}");
        }
        assert!(built.entries[0].place.offset.is_multiple_of(64));

        let reader = FileReader::try_new(Cursor::new(&file), None).unwrap();
        assert_eq!(reader.custom_metadata()["bowstring.format"], "1");
        let batches: Vec<_> = reader.map(Result::unwrap).collect();
        assert_eq!(batches.len(), 1);
        assert_eq!(batches[0].num_rows(), tensors.len());
        let names: Vec<_> = batches[0]
            .schema()
            .fields()
            .iter()
            .map(|f| f.name().clone())
            .collect();
        let same = [
            "version",
            "checksum",
            "metadata",
            "source_version",
            "expires_at_ms",
        ];
        match layout {
            Layout::Rows { .. } => {
                assert_eq!(names, [&["key", "tensor"][..], &same].concat());
            }
            Layout::Opaque => {
                let first = ["key", "dtype", "shape", "data"];
                assert_eq!(
                    names,
                    [&first[..], &same, &["tenant", "namespace"]].concat()
                );
            }
        }
    }

    /// A few that are compressed, and what is not worth it between them.
    #[test]
    fn compressed_tensors_are_blobs_that_say_so() {
        let bytes = |len: usize| (0..len).map(|i| (i / 97 % 250) as u8).collect::<Vec<u8>>();
        let noise: Vec<u8> = (0..90u64).map(|i| (i * i * 179 % 251) as u8).collect();
        let all = [
            bytes(3 << 20),
            bytes(0),
            bytes(5_000),
            noise,
            bytes((1 << 20) + 1),
        ];
        let mut packer = Packer::new().unwrap();
        let mut tensors = Vec::new();
        for bytes in &all {
            let (description, mut left, mut out) = (described(bytes), &bytes[..], vec![1]);
            let next = |block: &mut [u8]| {
                block.copy_from_slice(left.split_off(..block.len()).unwrap());
                Ok(())
            };
            let packed = Tensor::pack(&description, &mut packer, next, &mut out).unwrap();
            tensors.push(match packed {
                Some(packed) => {
                    assert_eq!(packed.bytes(), out.len() as u64 - 1);
                    let frames = Bytes::from(out).slice(1..);
                    Tensor::packed(description, packed, frames)
                }
                None => {
                    assert_eq!(out, [1]);
                    Tensor::new(description, vec![Bytes::from(bytes.clone())]).unwrap()
                }
            });
        }
        let described = &tensors[0].description;
        let layout = Layout::Rows {
            dtype: described.dtype,
            shape: described.shape.clone(),
        };
        let built = build(Number(7), &layout, tensors).unwrap();
        let file = concat(&built);
        let sidecar = read_sidecar(Number(7), &built.sidecar).unwrap();
        assert_eq!(sidecar.entries, built.entries);
        let is_packed: Vec<bool> = sidecar.entries.iter().map(Stored::is_packed).collect();
        assert_eq!(is_packed, [true, false, true, false, true]);

        let reader = FileReader::try_new(Cursor::new(&file), None).unwrap();
        let batches: Vec<_> = reader.map(Result::unwrap).collect();
        let data = batches[0].column_by_name("data").unwrap().to_data();
        let encodings = batches[0].column_by_name("encoding").unwrap().to_data();
        assert_eq!(encodings.buffers()[1].as_slice(), b"zstdnonezstdnonezstd");
        let ends = data.buffers()[0].typed_data::<i64>();
        for (nth, (stored, bytes)) in sidecar.entries.iter().zip(&all).enumerate() {
            let at = |offset: u64| usize::try_from(offset).unwrap();
            let of_file = stored.in_file(0..stored.description.len);
            assert_eq!(of_file.end - of_file.start, stored.file_bytes());
            let lies = &file[at(of_file.start)..at(of_file.end)];
            let row = ends[nth] as usize..ends[nth + 1] as usize;
            assert_eq!(&data.buffers()[1].as_slice()[row], lies);
            // Frames one behind the other are one stream.
            match stored.is_packed() {
                true => assert!(zstd::bulk::decompress(lies, bytes.len()).unwrap() == *bytes),
                false => assert!(lies == bytes),
            }
        }
        // And some blocks of it are read without the others.
        let large = &sidecar.entries[0];
        let of_file = large.in_file(1 << 20..2 << 20);
        assert_eq!(of_file.end - of_file.start, u64::from(large.frames[1]));
    }

    proptest! {
        #[test]
        fn opaque_segments_are_read_by_arrow(tensors in tensors(1..6)) {
            let built = build(Number(5), &Layout::Opaque, plain(&tensors).unwrap()).unwrap();
            check(&built, &Layout::Opaque, &tensors);
        }

        #[test]
        fn rows_are_read_by_arrow((dtype, shape, tensors) in alike()) {
            let layout = Layout::Rows { dtype, shape };
            let built = build(Number(6), &layout, plain(&tensors).unwrap()).unwrap();
            check(&built, &layout, &tensors);
        }
    }

    #[test]
    fn what_does_not_go_together_is_refused() {
        let refused = |layout: &Layout, tensors: &[(Description, Vec<Bytes>)]| {
            let built = plain(tensors).and_then(|tensors| build(Number(1), layout, tensors));
            built.unwrap_err().code
        };
        let small = described(&[1, 2, 3]);
        let rows = Layout::Rows {
            dtype: small.dtype,
            shape: small.shape.clone(),
        };
        assert_eq!(refused(&rows, &[]), Code::Internal);
        let pieces = vec![Bytes::from_static(&[1, 2])];
        assert_eq!(refused(&rows, &[(small.clone(), pieces)]), Code::Internal);
        let two = [
            (small, vec![Bytes::from_static(&[1, 2, 3])]),
            (described(&[1]), vec![Bytes::from_static(&[1])]),
        ];
        assert_eq!(refused(&rows, &two), Code::Internal);
        assert!(build(Number(1), &Layout::Opaque, plain(&two).unwrap()).is_ok());
    }
}
