//! Many tensors of one dtype and shape as the rows of one `.npy`, and their keys beside it.

use std::fs::File;
use std::io::{self, BufWriter, Seek as _, SeekFrom, Write};

use arrow_array::RecordBatch;
use bowstring_wire::dtype::DType;
use bowstring_wire::shape::Shape;

use crate::Error;
use crate::format::npy_header::header;
use crate::format::{Writer, safetensors, tensor};

/// Writes the array to `to` and the keys to `keys`.
pub fn create(
    to: Box<dyn Write + Send>,
    name: String,
    keys: Box<dyn Write + Send>,
) -> Result<Box<dyn Writer>, Error> {
    let body = tempfile::tempfile();
    let body =
        body.map_err(|error| Error::file("cannot keep it in a temporary file", &name, error))?;
    Ok(Box::new(Stack {
        to,
        keys,
        body: BufWriter::with_capacity(1 << 20, body),
        name,
        of: None,
        rows: 0,
        with_metadata: 0,
    }))
}

struct Stack {
    to: Box<dyn Write + Send>,
    keys: Box<dyn Write + Send>,
    /// The array stands behind its length, which nobody knows before its end: keys may go before their turn.
    body: BufWriter<File>,
    name: String,
    of: Option<(DType, Shape)>,
    rows: u64,
    with_metadata: u64,
}

impl Writer for Stack {
    fn write(&mut self, batch: &RecordBatch) -> Result<(), Error> {
        let wrong = |name: &str, said: String| Error::file("cannot write", name, said);
        for tensor in tensor::tensors(batch)? {
            let key = tensor.key.unwrap_or_default();
            let (dtype, shape) = self
                .of
                .get_or_insert_with(|| (tensor.dtype, tensor.shape.clone()));
            if (*dtype, &*shape) != (tensor.dtype, &tensor.shape) {
                let said = format!(
                    "an npy has one array, so all tensors must have one dtype and shape; write .npz, .safetensors, .arrow or .parquet, or choose some with --prefix; key=`{key}` dtype=`{}` shape=`{}` expected dtype=`{dtype}` shape=`{shape}`",
                    tensor.dtype, tensor.shape
                );
                return Err(wrong(&self.name, said));
            }
            if key.contains(['\n', '\r']) {
                let said = format!(
                    "a key has a line break in it, and keys stand beside an npy a line each; write .npz, .arrow or .parquet; key=`{}`",
                    key.escape_debug()
                );
                return Err(wrong(&self.name, said));
            }
            self.rows += 1;
            self.with_metadata += u64::from(!tensor.metadata.is_empty());
            let written = self.body.write_all(&tensor.data);
            let written = written.and_then(|()| writeln!(self.keys, "{key}"));
            written.map_err(|error| Error::file("cannot write", &self.name, error))?;
        }
        Ok(())
    }

    fn finish(mut self: Box<Self>) -> Result<Vec<String>, Error> {
        // Of none nobody knows what they would have been; NumPy's own empty array is of float64.
        let (dtype, shape) = match &self.of {
            Some((dtype, shape)) => (*dtype, shape.dims()),
            None => (DType::Float64, &[][..]),
        };
        let dims = [&[self.rows][..], shape].concat();
        let head = Shape::new(&dims).map(|shape| header(dtype, &shape))?;
        let mut write = || -> io::Result<()> {
            self.to.write_all(&head)?;
            self.body.seek(SeekFrom::Start(0))?;
            io::copy(self.body.get_mut(), &mut self.to)?;
            self.to.flush()?;
            self.keys.flush()
        };
        write().map_err(|error| Error::file("cannot write", &self.name, error))?;
        Ok(safetensors::left_out("npy", self.with_metadata))
    }
}
