//! Small tensors together, as one Arrow IPC file.

use bowstring_wire::error::{Error, Result};
use bytes::Bytes;

pub use super::arrow_file::Layout;
use super::arrow_file::frame;
use super::blocks::{Blocks, table_len};
use super::sidecar::encode_sidecar;
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

/// Tensors, each with its bytes in pieces, as an Arrow IPC file. There is at least one; with
/// [`Layout::Rows`] all of them are of one namespace, dtype and shape.
///
/// # Errors
/// `data_loss` where a tensor of several blocks has not the bytes that its description says; `internal`
/// for tensors that do not go together, `invalid_argument` for more than a file can say.
pub fn build(
    number: Number,
    layout: &Layout,
    tensors: Vec<(Description, Vec<Bytes>)>,
) -> Result<Built> {
    let descriptions: Vec<_> = tensors.iter().map(|(description, _)| description).collect();
    let frame = frame(number, layout, &descriptions)?;
    let file_bytes = frame.file_bytes();
    let mut offset = frame.head.len() as u64;
    let mut file = vec![frame.head];
    let mut entries = Vec::with_capacity(tensors.len());
    for (description, pieces) in tensors {
        let blocks = table(&description, &pieces)?;
        file.extend(pieces.into_iter().filter(|piece| !piece.is_empty()));
        let place = Place {
            prefix: Prefix::OWN,
            segment: number,
            offset,
        };
        offset += description.len;
        entries.push(Stored {
            description,
            place,
            blocks,
        });
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
/// As [`build`].
pub fn check(description: &Description, pieces: &[Bytes]) -> Result<()> {
    frame(Number(0), &Layout::Opaque, &[description])?;
    table(description, pieces).map(drop)
}

/// The checksums of a tensor's blocks. One of a single block needs none, and is not read here: whoever
/// reads it compares its own.
fn table(description: &Description, pieces: &[Bytes]) -> Result<Vec<u64>> {
    let len: u64 = pieces.iter().map(|piece| piece.len() as u64).sum();
    if len != description.len {
        return Err(Error::internal(format!(
            "a tensor's pieces are not all of it; bytes=`{len}` expected `{}`",
            description.len
        )));
    }
    if table_len(len) == 0 {
        return Ok(Vec::new());
    }
    let mut blocks = Blocks::new();
    for piece in pieces {
        blocks.pass(piece);
    }
    blocks.finish(description).ok_or_else(damaged_in_memory)
}

/// `data_loss`: what is about to be written is not what was put.
pub(super) fn damaged_in_memory() -> Error {
    Error::data_loss("a tensor's bytes in memory have not its checksum; it is not written down")
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use arrow_ipc::reader::FileReader;
    use bowstring_wire::error::Code;
    use proptest::prelude::*;

    use super::*;
    use crate::format::testing::{alike, described, tensors};
    use crate::format::{read_sidecar, verify};

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

    proptest! {
        #[test]
        fn opaque_segments_are_read_by_arrow(tensors in tensors(1..6)) {
            let built = build(Number(5), &Layout::Opaque, tensors.clone()).unwrap();
            check(&built, &Layout::Opaque, &tensors);
        }

        #[test]
        fn rows_are_read_by_arrow((dtype, shape, tensors) in alike()) {
            let layout = Layout::Rows { dtype, shape };
            let built = build(Number(6), &layout, tensors.clone()).unwrap();
            check(&built, &layout, &tensors);
        }
    }

    #[test]
    fn what_does_not_go_together_is_refused() {
        let refused = |layout: &Layout, tensors: &[(Description, Vec<Bytes>)]| {
            build(Number(1), layout, tensors.to_vec()).unwrap_err().code
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
        assert!(build(Number(1), &Layout::Opaque, two.to_vec()).is_ok());
    }

    #[test]
    fn a_large_tensor_whose_bytes_changed_in_memory_is_not_written() {
        let mut bytes = vec![7; (1 << 20) + 1];
        let description = described(&bytes);
        bytes[5] = 8;
        let tensors = vec![(description, vec![Bytes::from(bytes)])];
        let refused = build(Number(1), &Layout::Opaque, tensors).unwrap_err();
        assert_eq!(refused.code, Code::DataLoss);
    }
}
