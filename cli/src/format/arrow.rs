//! Arrow's IPC, as file (Feather too) and as stream: what is written; `bowstring-files` reads it.

use std::io::Write;

use arrow_array::RecordBatch;
use arrow_ipc::writer::{FileWriter, StreamWriter};
use arrow_schema::{ArrowError, SchemaRef};

use crate::Error;
use crate::format::Writer;

/// Writes a file.
pub fn create_file(
    to: Box<dyn Write + Send>,
    name: String,
    schema: &SchemaRef,
) -> Result<Box<dyn Writer>, Error> {
    let writer = FileWriter::try_new(to, schema);
    let writer = writer.map_err(|error| Error::file("cannot write", &name, error))?;
    Ok(Box::new(Batches {
        writer,
        name,
        write: FileWriter::write,
        finish: |writer| writer.finish().and_then(|()| Ok(writer.get_mut().flush()?)),
    }))
}

/// Writes a stream.
pub fn create_stream(
    to: Box<dyn Write + Send>,
    name: String,
    schema: &SchemaRef,
) -> Result<Box<dyn Writer>, Error> {
    let writer = StreamWriter::try_new(to, schema);
    let writer = writer.map_err(|error| Error::file("cannot write", &name, error))?;
    Ok(Box::new(Batches {
        writer,
        name,
        write: StreamWriter::write,
        finish: |writer| writer.finish().and_then(|()| Ok(writer.get_mut().flush()?)),
    }))
}

/// The two writers differ in nothing but their type.
struct Batches<W> {
    writer: W,
    name: String,
    write: fn(&mut W, &RecordBatch) -> Result<(), ArrowError>,
    finish: fn(&mut W) -> Result<(), ArrowError>,
}

impl<W: Send> Writer for Batches<W> {
    fn write(&mut self, batch: &RecordBatch) -> Result<(), Error> {
        let written = (self.write)(&mut self.writer, batch);
        written.map_err(|error| Error::file("cannot write", &self.name, error))
    }

    fn finish(mut self: Box<Self>) -> Result<Vec<String>, Error> {
        let ended = (self.finish)(&mut self.writer);
        ended.map_err(|error| Error::file("cannot write", &self.name, error))?;
        Ok(Vec::new())
    }
}
