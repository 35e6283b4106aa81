//! NumPy's `.npy`: one array behind a Python dictionary that says what it is.

use std::io::{Read, Write};

use arrow_array::{ArrayRef, RecordBatch, StringArray};
use arrow_buffer::{Buffer, MutableBuffer};
use arrow_schema::{ArrowError, Field, Schema};
use bowstring_wire::dtype::DType;
use bowstring_wire::metadata::Metadata;
use bowstring_wire::shape::Shape;
use std::sync::Arc;

use crate::Error;
use crate::format::input::{stem, take};
use crate::format::npy_header::{Header, header};
use crate::format::safetensors::left_out;
use crate::format::tensor::{self, Tensor, cells};
use crate::format::{Input, Numbers, Options, Part, Reader, Rows, Writer};

/// Bytes of the rows that are read at once.
const STEP_BYTES: u64 = 2 << 20;

/// Reads a file: one tensor, or as many as it has rows where there are keys.
pub fn open(input: Input, options: &Options) -> Result<Box<dyn Reader>, Error> {
    let name = input.name.clone();
    let (mut from, bytes) = input.into_read();
    let wrong = |message: String| Error::file("cannot read", &name, message);
    let (header, length) = Header::read(&mut from, options.dtype).map_err(wrong)?;
    let body = header.bytes().map_err(wrong)?;
    if let Some(bytes) = bytes
        && bytes.saturating_sub(length) < body
    {
        return Err(wrong(format!(
            "it ends within its array; shape=`{}` dtype=`{}` bytes=`{}` expected `{body}`",
            header.shape,
            header.dtype,
            bytes.saturating_sub(length)
        )));
    }
    let Some(keys) = options.keys.clone() else {
        return Ok(Box::new(Whole {
            one: Some((header, from)),
            name,
        }));
    };
    let Some((&rows, cell)) = header.shape.dims().split_first() else {
        return Err(wrong("--keys is for rows, and this is a scalar".to_owned()));
    };
    if keys.count() != rows {
        return Err(wrong(format!(
            "there are not as many keys as rows; rows=`{rows}` keys=`{}`",
            keys.count()
        )));
    }
    let cell = cell.to_vec();
    let cell_bytes = Shape::new(&cell).and_then(|shape| shape.bytes(header.dtype));
    let cell_bytes = cell_bytes.map_err(|error| wrong(error.message.into_owned()))?;
    Ok(Box::new(Matrix {
        from,
        name,
        header,
        keys,
        cell,
        cell_bytes,
        rows,
        at: 0,
        whole: None,
    }))
}

/// One array out of `from`, which has it and nothing behind it.
pub fn read(from: &mut dyn Read, dtype: Option<DType>, most: u64) -> Result<Tensor, String> {
    let (header, length) = Header::read(from, dtype)?;
    let bytes = header.bytes()?;
    if bytes > most.saturating_sub(length) {
        let shape = &header.shape;
        return Err(format!(
            "it ends within its array; shape=`{shape}` bytes=`{most}` expected `{bytes}`"
        ));
    }
    header.tensor(from)
}

struct Whole {
    one: Option<(Header, Box<dyn Read + Send>)>,
    name: String,
}

impl Reader for Whole {
    fn next(&mut self) -> Result<Option<Part>, Error> {
        let Some((header, mut from)) = self.one.take() else {
            return Ok(None);
        };
        let tensor = header.tensor(&mut from);
        let mut tensor = tensor.map_err(|error| Error::file("cannot read", &self.name, error))?;
        tensor.key = Some(stem(&self.name).to_owned());
        Ok(Some(Part::Tensor(tensor)))
    }

    fn rows(&self) -> Option<u64> {
        Some(1)
    }
}

struct Matrix {
    from: Box<dyn Read + Send>,
    name: String,
    header: Header,
    keys: super::Keys,
    cell: Vec<u64>,
    cell_bytes: u64,
    rows: u64,
    at: u64,
    /// All of it, where rows do not lie together in the file.
    whole: Option<Buffer>,
}

impl Reader for Matrix {
    fn next(&mut self) -> Result<Option<Part>, Error> {
        if self.at == self.rows {
            return Ok(None);
        }
        self.step()
            .map(Some)
            .map_err(|error| Error::file("cannot read", &self.name, error))
    }

    fn rows(&self) -> Option<u64> {
        Some(self.rows)
    }
}

impl Matrix {
    fn step(&mut self) -> Result<Part, String> {
        let most = (STEP_BYTES / self.cell_bytes.max(64)).max(1);
        let rows = most.min(self.rows - self.at);
        let bytes = usize::try_from(rows * self.cell_bytes).map_err(|error| error.to_string())?;
        let data = if self.header.fortran {
            if self.whole.is_none() {
                self.whole = Some(self.header.tensor(&mut self.from)?.data);
            }
            let start =
                usize::try_from(self.at * self.cell_bytes).map_err(|error| error.to_string())?;
            let whole = self.whole.as_ref().ok_or("it is gone")?;
            whole.slice_with_length(start, bytes)
        } else {
            let mut data = take(&mut self.from, bytes)?;
            swap(&mut data, self.header.swap);
            data.into()
        };
        let of = |error: ArrowError| error.to_string();
        let (field, column) = cells(self.header.dtype, &self.cell, data).map_err(of)?;
        let count = usize::try_from(rows).map_err(|error| error.to_string())?;
        let keys = StringArray::from_iter_values(self.keys.range(self.at, count));
        let key = Field::new("key", arrow_schema::DataType::Utf8, false);
        let columns: Vec<ArrayRef> = vec![Arc::new(keys), column];
        let batch =
            RecordBatch::try_new(Arc::new(Schema::new(vec![key, field])), columns).map_err(of)?;
        let part = Part::Rows(Rows {
            batch,
            numbers: Numbers::From(self.at),
            bad: Vec::new(),
        });
        self.at += rows;
        Ok(part)
    }
}

impl Header {
    /// The array behind the header.
    fn tensor(&self, from: &mut dyn Read) -> Result<Tensor, String> {
        let bytes = usize::try_from(self.bytes()?).map_err(|error| error.to_string())?;
        let mut data = take(from, bytes)?;
        swap(&mut data, self.swap);
        let data: Buffer = data.into();
        let data = if self.fortran {
            in_c_order(&data, self.shape.dims(), self.dtype.size())
        } else {
            data
        };
        Ok(Tensor {
            key: None,
            dtype: self.dtype,
            shape: self.shape.clone(),
            data,
            metadata: Metadata::default(),
        })
    }
}

fn swap(data: &mut MutableBuffer, width: usize) {
    if width > 1 {
        for value in data.as_slice_mut().chunks_exact_mut(width) {
            value.reverse();
        }
    }
}

/// From Fortran's order, where the first axis is the fastest, to C's.
fn in_c_order(data: &[u8], dims: &[u64], width: usize) -> Buffer {
    let dims: Vec<usize> = dims
        .iter()
        .map(|dim| usize::try_from(*dim).unwrap_or(0))
        .collect();
    let mut out = MutableBuffer::new(data.len());
    let mut index = vec![0; dims.len()];
    let mut strides = Vec::with_capacity(dims.len());
    let mut stride = width;
    for dim in &dims {
        strides.push(stride);
        stride *= dim;
    }
    let mut at = 0;
    while out.len() < data.len() {
        out.extend_from_slice(&data[at..at + width]);
        for axis in (0..dims.len()).rev() {
            index[axis] += 1;
            at += strides[axis];
            if index[axis] < dims[axis] {
                break;
            }
            at -= strides[axis] * dims[axis];
            index[axis] = 0;
        }
    }
    out.into()
}

/// Writes the one tensor that it is given.
pub fn create(to: Box<dyn Write + Send>, name: String) -> Box<dyn Writer> {
    Box::new(One {
        to,
        name,
        written: false,
        with_metadata: 0,
    })
}

struct One {
    to: Box<dyn Write + Send>,
    name: String,
    written: bool,
    with_metadata: u64,
}

impl Writer for One {
    fn write(&mut self, batch: &RecordBatch) -> Result<(), Error> {
        for tensor in tensor::tensors(batch)? {
            if std::mem::replace(&mut self.written, true) {
                let said = "an npy has one array, and there are more tensors; write .npz, .safetensors, .arrow or .parquet";
                return Err(Error::file("cannot write", &self.name, said));
            }
            self.with_metadata += u64::from(!tensor.metadata.is_empty());
            let head = header(tensor.dtype, &tensor.shape);
            let written = self
                .to
                .write_all(&head)
                .and_then(|()| self.to.write_all(&tensor.data));
            written.map_err(|error| Error::file("cannot write", &self.name, error))?;
        }
        Ok(())
    }

    fn finish(mut self: Box<Self>) -> Result<Vec<String>, Error> {
        let flushed = self.to.flush();
        flushed.map_err(|error| Error::file("cannot write", &self.name, error))?;
        Ok(left_out("npy", self.with_metadata))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_all(bytes: &[u8]) -> Result<Tensor, String> {
        read(&mut &*bytes, None, bytes.len() as u64)
    }

    fn file(text: &str, body: &[u8]) -> Vec<u8> {
        let length = u16::try_from(text.len()).unwrap();
        [
            &b"\x93NUMPY\x01\0"[..],
            &length.to_le_bytes(),
            text.as_bytes(),
            body,
        ]
        .concat()
    }

    #[test]
    fn every_dtype_comes_back_as_it_was() {
        for dtype in DType::ALL {
            let shape = Shape::new(&[2, 1, 3]).unwrap();
            let body: Vec<u8> = (0..6 * u8::try_from(dtype.size()).unwrap()).collect();
            let bytes = [header(dtype, &shape), body.clone()].concat();
            assert_eq!(header(dtype, &shape).len() % 64, 0);
            let back = read(
                &mut &bytes[..],
                Some(dtype).filter(|_| dtype.size() < 3),
                bytes.len() as u64,
            )
            .unwrap();
            assert_eq!(
                (back.dtype, &back.shape, &back.data[..]),
                (dtype, &shape, &body[..])
            );
        }
        for dims in [&[][..], &[0], &[7], &[3, 0, 2]] {
            let shape = Shape::new(dims).unwrap();
            let bytes = usize::try_from(shape.bytes(DType::Int8).unwrap()).unwrap();
            let back = read_all(&[header(DType::Int8, &shape), vec![1; bytes]].concat()).unwrap();
            assert_eq!(back.shape, shape);
        }
    }

    #[test]
    fn other_orders_become_ours() {
        let text = "{'descr': '>u2', 'fortran_order': True, 'shape': (2, 3), }";
        // [[1, 2, 3], [4, 5, 6]], column by column, the large byte first.
        let body = [0, 1, 0, 4, 0, 2, 0, 5, 0, 3, 0, 6];
        let back = read_all(&file(text, &body)).unwrap();
        assert_eq!(&back.data[..], [1, 0, 2, 0, 3, 0, 4, 0, 5, 0, 6, 0]);
        let text = "{'descr': '>c8', 'fortran_order': False, 'shape': (), }";
        let back = read_all(&file(text, &[1, 2, 3, 4, 5, 6, 7, 8])).unwrap();
        assert_eq!(&back.data[..], [4, 3, 2, 1, 8, 7, 6, 5]);
        let text = "{\"shape\": (2, 1, 2), 'fortran_order':True,'descr':'|i1'}\n";
        let back = read_all(&file(text, &[1, 2, 3, 4])).unwrap();
        assert_eq!(&back.data[..], [1, 3, 2, 4]);
    }

    #[test]
    fn what_is_broken_is_told() {
        let good = "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }";
        for (bytes, says) in [
            (b"".to_vec(), "within its header"),
            (b"\x93NUMPY\x09\0\0\0".to_vec(), "version=`9`"),
            (b"\x93NUMPY\x02\0\xff\xff\xff\xff".to_vec(), "too long"),
            (file(good, &[0; 23]), "ends within its array"),
            (file("{'descr': '<f4'}", b""), "not that of an array"),
            (file("{{{{{{", b""), "not that of an array"),
            (
                file(&good.replace("(2, 3)", "(-1,)"), b""),
                "not that of an array",
            ),
            (
                file(&good.replace("(2, 3)", "(99999999999, 99999999999)"), b""),
                "too large",
            ),
            (
                file(&good.replace("(2, 3)", "(1000000000000,)"), b""),
                "ends within its array",
            ),
            (
                file(&good.replace("<f4", "<M8[ns]"), b""),
                "elements that no tensor has",
            ),
            (
                file(&good.replace("<f4", "|O"), b""),
                "elements that no tensor has",
            ),
            (file(&good.replace("<f4", "|V1"), b""), "--dtype"),
            (
                file(&good.replace("'<f4'", "[('a', '<f4')]"), b""),
                "records",
            ),
            (
                file(&good.replace("'shape': (2, 3)", "'shape': (2"), b""),
                "not that of an array",
            ),
        ] {
            let told = read_all(&bytes).unwrap_err();
            assert!(told.contains(says), "{told} / {says}");
        }
    }
}
