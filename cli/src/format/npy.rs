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
use crate::format::input::stem;
use crate::format::tensor::{self, Tensor, cells};
use crate::format::{Input, Numbers, Options, Part, Reader, Rows, Writer};

const MAGIC: &[u8; 6] = b"\x93NUMPY";
/// NumPy itself reads no longer ones.
const HEADER_BYTES_MAX: usize = 64 << 10;
/// Bytes of the rows that are read at once.
const STEP_BYTES: u64 = 2 << 20;

/// Room that is made before anything is there.
const PIECE_BYTES: usize = 16 << 20;

/// What a file says of its array.
#[derive(Debug, PartialEq)]
pub struct Header {
    dtype: DType,
    /// Bytes of what is to be turned round; 0 where nothing is.
    swap: usize,
    fortran: bool,
    shape: Shape,
}

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
    if keys.len() != rows {
        return Err(wrong(format!(
            "there are not as many keys as rows; rows=`{rows}` keys=`{}`",
            keys.len()
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
    /// Reads it, and how many bytes it has.
    fn read(from: &mut dyn Read, void: Option<DType>) -> Result<(Header, u64), String> {
        let short = |_| "it ends within its header".to_owned();
        let mut start = [0; 8];
        from.read_exact(&mut start).map_err(short)?;
        if !start.starts_with(MAGIC) {
            return Err("this is no npy: it does not begin with \\x93NUMPY".to_owned());
        }
        let (length, before) = match start[6] {
            1 => {
                let mut length = [0; 2];
                from.read_exact(&mut length).map_err(short)?;
                (usize::from(u16::from_le_bytes(length)), 10)
            }
            2 | 3 => {
                let mut length = [0; 4];
                from.read_exact(&mut length).map_err(short)?;
                let length = usize::try_from(u32::from_le_bytes(length));
                (length.unwrap_or(usize::MAX), 12)
            }
            version => {
                return Err(format!(
                    "npy of a version that is not known; version=`{version}`"
                ));
            }
        };
        if length > HEADER_BYTES_MAX {
            return Err(format!(
                "its header is too long; bytes=`{length}` expected at most {HEADER_BYTES_MAX}"
            ));
        }
        let mut text = vec![0; length];
        from.read_exact(&mut text).map_err(short)?;
        let text = std::str::from_utf8(&text).map_err(|_| "its header is no text".to_owned())?;
        let header = parse(text, void)?;
        Ok((header, (before + length) as u64))
    }

    fn bytes(&self) -> Result<u64, String> {
        let bytes = self.shape.bytes(self.dtype);
        bytes.map_err(|error| error.message.into_owned())
    }

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

/// Exactly so many bytes.
pub fn take(from: &mut dyn Read, bytes: usize) -> Result<MutableBuffer, String> {
    let mut data = MutableBuffer::new(bytes.min(PIECE_BYTES));
    let read = append(from, &mut data, bytes);
    read.map_err(|error| {
        format!("it ends within its array; expected_bytes=`{bytes}` source=`{error}`")
    })?;
    Ok(data)
}

/// So many bytes more. What is not there is not made room for: a header may lie.
pub fn append(from: &mut dyn Read, data: &mut MutableBuffer, bytes: usize) -> std::io::Result<()> {
    let end = data.len() + bytes;
    while data.len() < end {
        let at = data.len();
        let piece = PIECE_BYTES.max(at).min(end - at);
        data.resize(at + piece, 0);
        from.read_exact(&mut data.as_slice_mut()[at..])?;
    }
    Ok(())
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

/// `{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }`, and nothing else.
fn parse(text: &str, void: Option<DType>) -> Result<Header, String> {
    let mut rest = text.trim();
    let mut eat = |token: &str| match rest.trim_start().strip_prefix(token) {
        Some(after) => {
            rest = after.trim_start();
            (true, rest)
        }
        None => (false, rest.trim_start()),
    };
    let odd = |rest: &str| {
        let near: String = rest.chars().take(20).collect();
        format!(
            "its header is not that of an array; near=`{near}` expected descr, fortran_order and shape"
        )
    };
    let (mut descr, mut fortran, mut shape) = (None, None, None);
    if !eat("{").0 {
        return Err(odd(text));
    }
    loop {
        let (done, now) = eat("}");
        if done {
            if !now.is_empty() {
                return Err(odd(now));
            }
            break;
        }
        let name = quoted(now).ok_or_else(|| odd(now))?;
        eat(&now[..name.len() + 2]);
        let (colon, now) = eat(":");
        if !colon {
            return Err(odd(now));
        }
        match name {
            "descr" => {
                let Some(value) = quoted(now) else {
                    let what = "records, that is arrays with named fields, are no tensors";
                    return Err(if now.starts_with('[') {
                        what.to_owned()
                    } else {
                        odd(now)
                    });
                };
                descr = Some(value);
                eat(&now[..value.len() + 2]);
            }
            "fortran_order" => {
                let word = if now.starts_with("True") {
                    "True"
                } else {
                    "False"
                };
                if !eat(word).0 {
                    return Err(odd(now));
                }
                fortran = Some(word == "True");
            }
            "shape" => {
                let end = now.find(')').ok_or_else(|| odd(now))?;
                let inner = now.strip_prefix('(').ok_or_else(|| odd(now))?;
                let inner = inner
                    .get(..end - 1)
                    .unwrap_or("")
                    .trim()
                    .trim_end_matches(',');
                let dims = inner
                    .split(',')
                    .map(str::trim)
                    .filter(|_| !inner.is_empty());
                let dims: Result<Vec<u64>, _> =
                    dims.map(|dim| dim.trim_end_matches('L').parse()).collect();
                shape = Some(dims.map_err(|_| odd(now))?);
                eat(&now[..=end]);
            }
            _ => return Err(odd(now)),
        }
        eat(",");
    }
    let (Some(descr), Some(fortran), Some(shape)) = (descr, fortran, shape) else {
        return Err(odd(text));
    };
    let (dtype, swap) = dtype(descr, void)?;
    let shape = Shape::new(&shape).map_err(|error| error.message.into_owned())?;
    Ok(Header {
        dtype,
        swap,
        fortran: fortran && shape.rank() > 1,
        shape,
    })
}

fn quoted(text: &str) -> Option<&str> {
    let quote = text.chars().next().filter(|c| matches!(c, '\'' | '"'))?;
    let inner = &text[1..];
    Some(&inner[..inner.find(quote)?])
}

fn dtype(descr: &str, void: Option<DType>) -> Result<(DType, usize), String> {
    let plain = descr.trim_start_matches(['<', '>', '|', '=']);
    let dtype = match plain {
        "b1" => DType::Bool,
        "i1" => DType::Int8,
        "i2" => DType::Int16,
        "i4" => DType::Int32,
        "i8" => DType::Int64,
        "u1" => DType::UInt8,
        "u2" => DType::UInt16,
        "u4" => DType::UInt32,
        "u8" => DType::UInt64,
        "f2" => DType::Float16,
        "f4" => DType::Float32,
        "f8" => DType::Float64,
        "c8" => DType::Complex64,
        "c16" => DType::Complex128,
        // What ml_dtypes calls float8_e5m2, which NumPy then does not read.
        "f1" => DType::Float8E5M2,
        // What ml_dtypes' types are saved as; NumPy forgets which of them it was.
        "V2" => void.unwrap_or(DType::BFloat16),
        "V1" => void.ok_or(
            "void bytes, which NumPy writes for float8; say which with --dtype float8_e4m3fn or --dtype float8_e5m2",
        )?,
        _ => {
            return Err(format!(
                "elements that no tensor has; descr=`{descr}` expected bool, integers, float16 to float64, complex, or V2 and V1 for bfloat16 and float8"
            ));
        }
    };
    let fits = !plain.starts_with('V') || plain.ends_with(&dtype.size().to_string());
    if !fits {
        return Err(format!(
            "--dtype has another size than the file's elements; descr=`{descr}` dtype=`{dtype}`"
        ));
    }
    let part = dtype.size() / dtype.storage_per_element();
    Ok((dtype, if descr.starts_with('>') { part } else { 0 }))
}

/// What stands before the bytes of an array, as NumPy writes it.
pub fn header(dtype: DType, shape: &Shape) -> Vec<u8> {
    let code = match dtype {
        DType::Bool => "|b1",
        DType::Int8 => "|i1",
        DType::Int16 => "<i2",
        DType::Int32 => "<i4",
        DType::Int64 => "<i8",
        DType::UInt8 => "|u1",
        DType::UInt16 => "<u2",
        DType::UInt32 => "<u4",
        DType::UInt64 => "<u8",
        DType::Float16 => "<f2",
        DType::Float32 => "<f4",
        DType::Float64 => "<f8",
        DType::Complex64 => "<c8",
        DType::Complex128 => "<c16",
        DType::BFloat16 => "<V2",
        DType::Float8E4M3Fn | DType::Float8E5M2 => "<V1",
    };
    let dims: Vec<String> = shape.dims().iter().map(u64::to_string).collect();
    let comma = if dims.len() == 1 { "," } else { "" };
    let mut text = format!(
        "{{'descr': '{code}', 'fortran_order': False, 'shape': ({}{comma}), }}",
        dims.join(", ")
    );
    // So that the array begins at a multiple of 64.
    while (10 + text.len() + 1) % 64 != 0 {
        text.push(' ');
    }
    text.push('\n');
    // 32 axes of 20 digits are far from 64 KiB.
    let length = u16::try_from(text.len()).unwrap_or(u16::MAX);
    [&MAGIC[..], &[1, 0], &length.to_le_bytes(), text.as_bytes()].concat()
}

/// Writes the one tensor that it is given.
pub fn create(to: Box<dyn Write + Send>, name: String) -> Box<dyn Writer> {
    Box::new(One {
        to,
        name,
        written: false,
    })
}

struct One {
    to: Box<dyn Write + Send>,
    name: String,
    written: bool,
}

impl Writer for One {
    fn write(&mut self, batch: &RecordBatch) -> Result<(), Error> {
        for tensor in tensor::tensors(batch)? {
            if std::mem::replace(&mut self.written, true) {
                let said = "an npy has one array, and there are more tensors; write .npz, .safetensors, .arrow or .parquet";
                return Err(Error::file("cannot write", &self.name, said));
            }
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
        Ok(Vec::new())
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
