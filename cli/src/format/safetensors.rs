//! `.safetensors`: a header in JSON, then the bytes of all tensors.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{self, BufWriter, Read as _, Seek, SeekFrom, Write};

use arrow_array::RecordBatch;
use bowstring_wire::dtype::DType;
use bowstring_wire::metadata::Metadata;
use bowstring_wire::shape::Shape;
use safetensors::Dtype;
use safetensors::tensor::{Metadata as Header, TensorInfo};

use crate::Error;
use crate::format::input::SAFETENSORS_HEADER_MAX;
use crate::format::{Input, Part, Reader, Tensor, Writer, input, tensor};

/// Reads a file.
pub fn open(input: Input) -> Result<Box<dyn Reader>, Error> {
    let name = input.name.clone();
    let (mut file, bytes) = input.into_file()?;
    let wrong = |message: String| Error::file("cannot read", &name, message);
    let mut length = [0; 8];
    file.read_exact(&mut length)
        .map_err(|_| wrong("it ends within its header".to_owned()))?;
    let length = u64::from_le_bytes(length);
    if length > SAFETENSORS_HEADER_MAX || length > bytes.saturating_sub(8) {
        return Err(wrong(format!(
            "its header cannot be so long; header_bytes=`{length}` bytes=`{bytes}`"
        )));
    }
    let mut text = Vec::new();
    let read = (&mut file).take(length).read_to_end(&mut text);
    read.map_err(|error| wrong(error.to_string()))?;
    let header: Header = serde_json::from_slice(&text)
        .map_err(|error| wrong(format!("its header is none; source=`{error}`")))?;
    let expected = 8 + length + header.data_len() as u64;
    if expected != bytes {
        return Err(wrong(format!(
            "it is not as long as its header says; bytes=`{bytes}` expected `{expected}`"
        )));
    }
    let pairs = header.metadata().clone().unwrap_or_default();
    let metadata = Metadata::new(pairs).map_err(|error| wrong(error.message.into_owned()))?;
    let keys = header.offset_keys();
    Ok(Box::new(Tensors {
        file,
        name,
        header,
        metadata,
        keys: keys.into_iter(),
    }))
}

struct Tensors {
    file: File,
    name: String,
    header: Header,
    metadata: Metadata,
    keys: std::vec::IntoIter<String>,
}

impl Reader for Tensors {
    fn next(&mut self) -> Result<Option<Part>, Error> {
        let Some(key) = self.keys.next() else {
            return Ok(None);
        };
        let tensor = self.tensor(&key);
        let tensor = tensor.map_err(|error| {
            Error::file(
                "cannot read",
                &format!("{}, tensor {key}", self.name),
                error,
            )
        })?;
        Ok(Some(Part::Tensor(tensor)))
    }

    fn rows(&self) -> Option<u64> {
        Some(self.header.offset_keys().len() as u64)
    }
}

impl Tensors {
    /// They lie one behind the other in the order of `keys`.
    fn tensor(&mut self, key: &str) -> Result<Tensor, String> {
        let info = self.header.info(key).ok_or("it is not there")?;
        let dtype = read_dtype(info.dtype)?;
        let dims: Vec<u64> = info.shape.iter().map(|dim| *dim as u64).collect();
        let shape = Shape::new(&dims).map_err(|error| error.message.into_owned())?;
        let (start, end) = info.data_offsets;
        Ok(Tensor {
            key: Some(key.to_owned()),
            dtype,
            shape,
            data: input::take(&mut self.file, end - start)?.into(),
            metadata: self.metadata.clone(),
        })
    }
}

fn read_dtype(dtype: Dtype) -> Result<DType, String> {
    Ok(match dtype {
        Dtype::BOOL => DType::Bool,
        Dtype::U8 => DType::UInt8,
        Dtype::I8 => DType::Int8,
        Dtype::F8_E5M2 => DType::Float8E5M2,
        Dtype::F8_E4M3 => DType::Float8E4M3Fn,
        Dtype::I16 => DType::Int16,
        Dtype::U16 => DType::UInt16,
        Dtype::F16 => DType::Float16,
        Dtype::BF16 => DType::BFloat16,
        Dtype::I32 => DType::Int32,
        Dtype::U32 => DType::UInt32,
        Dtype::F32 => DType::Float32,
        Dtype::C64 => DType::Complex64,
        Dtype::F64 => DType::Float64,
        Dtype::I64 => DType::Int64,
        Dtype::U64 => DType::UInt64,
        other => {
            return Err(format!(
                "elements that no tensor has here; dtype=`{other:?}`"
            ));
        }
    })
}

fn written_dtype(dtype: DType) -> Option<Dtype> {
    Some(match dtype {
        DType::Bool => Dtype::BOOL,
        DType::UInt8 => Dtype::U8,
        DType::Int8 => Dtype::I8,
        DType::Float8E5M2 => Dtype::F8_E5M2,
        DType::Float8E4M3Fn => Dtype::F8_E4M3,
        DType::Int16 => Dtype::I16,
        DType::UInt16 => Dtype::U16,
        DType::Float16 => Dtype::F16,
        DType::BFloat16 => Dtype::BF16,
        DType::Int32 => Dtype::I32,
        DType::UInt32 => Dtype::U32,
        DType::Float32 => Dtype::F32,
        DType::Complex64 => Dtype::C64,
        DType::Float64 => Dtype::F64,
        DType::Int64 => Dtype::I64,
        DType::UInt64 => Dtype::U64,
        DType::Complex128 => return None,
    })
}

/// Writes all tensors into a temporary file first: the header, which stands before them, says where each is.
pub fn create(to: Box<dyn Write + Send>, name: String) -> Result<Box<dyn Writer>, Error> {
    let spool = tempfile::tempfile();
    let spool =
        spool.map_err(|error| Error::file("cannot keep it in a temporary file", &name, error))?;
    Ok(Box::new(Spooled {
        to,
        name,
        spool: BufWriter::new(spool),
        infos: Vec::new(),
        bytes: 0,
        metadata: None,
        differ: 0,
    }))
}

struct Spooled {
    to: Box<dyn Write + Send>,
    name: String,
    spool: BufWriter<File>,
    infos: Vec<(String, TensorInfo)>,
    bytes: usize,
    /// The first tensor's: the file has one for all.
    metadata: Option<Metadata>,
    /// Tensors with another one.
    differ: u64,
}

impl Writer for Spooled {
    fn write(&mut self, batch: &RecordBatch) -> Result<(), Error> {
        for tensor in tensor::tensors(batch)? {
            let key = tensor.key.unwrap_or_default();
            let Some(dtype) = written_dtype(tensor.dtype) else {
                let said = format!(
                    "safetensors has no such elements; key=`{key}` dtype=`{}`: write .npz, .arrow or .parquet",
                    tensor.dtype
                );
                return Err(Error::file("cannot write", &self.name, said));
            };
            let written = self.spool.write_all(&tensor.data);
            written.map_err(|error| Error::file("cannot write", &self.name, error))?;
            let end = self.bytes + tensor.data.len();
            let dims = tensor
                .shape
                .dims()
                .iter()
                .map(|dim| usize::try_from(*dim).unwrap_or(0));
            let info = TensorInfo {
                dtype,
                shape: dims.collect(),
                data_offsets: (self.bytes, end),
            };
            self.infos.push((key, info));
            self.bytes = end;
            let first = self.metadata.get_or_insert_with(|| tensor.metadata.clone());
            self.differ += u64::from(*first != tensor.metadata);
        }
        Ok(())
    }

    fn finish(mut self: Box<Self>) -> Result<Vec<String>, Error> {
        let count = self.infos.len() as u64;
        let pairs = self.metadata.take().unwrap_or_default();
        let shared = self.differ == 0 && !pairs.is_empty();
        let pairs: BTreeMap<_, _> = pairs
            .iter()
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        let metadata = shared.then(|| pairs.into_iter().collect::<HashMap<_, _>>());
        let name = std::mem::take(&mut self.name);
        let failed = |error: io::Error| Error::file("cannot write", &name, error);
        let header = Header::new(metadata, std::mem::take(&mut self.infos));
        let header = header.map_err(|error| Error::file("cannot write", &name, error))?;
        let mut text = serde_json::to_vec(&header)
            .map_err(|error| Error::file("cannot write", &name, error))?;
        // So that the tensors begin at a multiple of 8.
        text.resize(text.len().next_multiple_of(8), b' ');
        if text.len() as u64 > SAFETENSORS_HEADER_MAX {
            let said = "there are more tensors than the header of a safetensors file may name; write .arrow or .parquet";
            return Err(Error::file("cannot write", &name, said));
        }
        self.to
            .write_all(&(text.len() as u64).to_le_bytes())
            .map_err(failed)?;
        self.to.write_all(&text).map_err(failed)?;
        let spool = self
            .spool
            .into_inner()
            .map_err(|error| failed(error.into_error()))?;
        let mut spool = spool;
        spool.seek(SeekFrom::Start(0)).map_err(failed)?;
        io::copy(&mut spool, &mut self.to).map_err(failed)?;
        self.to.flush().map_err(failed)?;
        Ok(if self.differ > 0 {
            left_out("safetensors", count)
        } else {
            Vec::new()
        })
    }
}

/// What is said of metadata that a format cannot carry.
pub fn left_out(format: &str, entries: u64) -> Vec<String> {
    let said = format!(
        "{format} has no place for the metadata of single tensors, which is left out; .arrow and .parquet have; entries=`{entries}`"
    );
    if entries == 0 { Vec::new() } else { vec![said] }
}
