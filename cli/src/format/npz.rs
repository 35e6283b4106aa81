//! NumPy's `.npz`: a zip file of `.npy` files, each an entry by its name.

use std::fs::File;
use std::io::{BufReader, Read as _, Write};

use arrow_array::RecordBatch;
use bowstring_wire::dtype::DType;
use zip::write::{SimpleFileOptions, StreamWriter};
use zip::{CompressionMethod, ZipArchive, ZipWriter};

use crate::Error;
use crate::format::{Input, Options, Part, Reader, Writer, npy, npy_header, tensor};

/// One array that was deflated. Beyond it a file of a few MiB could ask for all memory there is.
const INFLATED_BYTES_MAX: u64 = 4 << 30;

/// Reads a file.
pub fn open(input: Input, options: &Options) -> Result<Box<dyn Reader>, Error> {
    let name = input.name.clone();
    let (file, _) = input.into_file()?;
    let archive = ZipArchive::new(BufReader::new(file));
    let archive = archive.map_err(|error| Error::file("cannot read", &name, error))?;
    Ok(Box::new(Npz {
        archive,
        name,
        next: 0,
        dtype: options.dtype,
    }))
}

struct Npz {
    archive: ZipArchive<BufReader<File>>,
    name: String,
    next: usize,
    dtype: Option<DType>,
}

impl Reader for Npz {
    fn next(&mut self) -> Result<Option<Part>, Error> {
        if self.next == self.archive.len() {
            return Ok(None);
        }
        let at = self.next;
        self.next += 1;
        let name = &self.name;
        let failed = |member: &str, error: String| {
            Error::file("cannot read", &format!("{name}, member {member}"), error)
        };
        let member = self.archive.by_index(at);
        let mut member = member.map_err(|error| failed(&at.to_string(), error.to_string()))?;
        let path = member.name().map(|path| path.into_owned());
        let path = path.map_err(|error| failed(&at.to_string(), error.to_string()))?;
        let Some(key) = path.strip_suffix(".npy") else {
            return Err(failed(&path, "it is no .npy".to_owned()));
        };
        let stored = member.compression() == CompressionMethod::Stored;
        let bytes = member.size();
        if !stored && bytes > INFLATED_BYTES_MAX {
            let said = format!(
                "it is too large to be unpacked here; bytes=`{bytes}` expected at most {INFLATED_BYTES_MAX}: unzip it and load the .npy"
            );
            return Err(failed(&path, said));
        }
        let tensor = npy::read(&mut member.by_ref().take(bytes), self.dtype, bytes);
        let mut tensor = tensor.map_err(|error| failed(&path, error))?;
        // The checksum is looked at when the member has been read to its end.
        let rest = std::io::copy(&mut member, &mut std::io::sink());
        match rest.map_err(|error| failed(&path, error.to_string()))? {
            0 => {}
            rest => {
                return Err(failed(
                    &path,
                    format!("there is more behind its array; bytes=`{rest}`"),
                ));
            }
        }
        tensor.key = Some(key.to_owned());
        Ok(Some(Part::Tensor(tensor)))
    }

    fn rows(&self) -> Option<u64> {
        Some(self.archive.len() as u64)
    }
}

/// Writes an entry a tensor, not compressed, as `numpy.savez` does.
pub fn create(to: Box<dyn Write + Send>, name: String) -> Box<dyn Writer> {
    Box::new(Members {
        zip: ZipWriter::new_stream(to),
        name,
        with_metadata: 0,
    })
}

struct Members {
    zip: ZipWriter<StreamWriter<Box<dyn Write + Send>>>,
    name: String,
    with_metadata: u64,
}

impl Writer for Members {
    fn write(&mut self, batch: &RecordBatch) -> Result<(), Error> {
        for tensor in tensor::tensors(batch)? {
            self.with_metadata += u64::from(!tensor.metadata.is_empty());
            let key = tensor.key.unwrap_or_default();
            let options = SimpleFileOptions::default()
                .compression_method(CompressionMethod::Stored)
                .large_file(true);
            let started = self.zip.start_file(format!("{key}.npy"), options);
            started.map_err(|error| Error::file("cannot write", &self.name, error))?;
            let head = npy_header::header(tensor.dtype, &tensor.shape);
            let written = self
                .zip
                .write_all(&head)
                .and_then(|()| self.zip.write_all(&tensor.data));
            written.map_err(|error| Error::file("cannot write", &self.name, error))?;
        }
        Ok(())
    }

    fn finish(self: Box<Self>) -> Result<Vec<String>, Error> {
        let ended = self.zip.finish();
        let mut to = ended
            .map_err(|error| Error::file("cannot write", &self.name, error))?
            .into_inner();
        to.flush()
            .map_err(|error| Error::file("cannot write", &self.name, error))?;
        Ok(super::safetensors::left_out("npz", self.with_metadata))
    }
}
