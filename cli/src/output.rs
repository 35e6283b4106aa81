//! Where tensors go to: a file, which is there when it is whole and not before, or standard output.

use std::fs::File;
use std::io::{self, IsTerminal as _, Write};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use tempfile::NamedTempFile;

use crate::Error;
use crate::format::Format;

/// The flags that say where to, and as what.
#[derive(Clone, Debug, clap::Args)]
pub struct To {
    /// The file, or `-` for standard output
    #[arg(short, long, value_name = "FILE", default_value = "-")]
    pub output: String,
    /// What it is to be, where its name does not say
    #[arg(long, value_enum)]
    pub format: Option<Format>,
    /// Say on standard output what was written, as JSON
    #[arg(long)]
    pub json: bool,
}

/// A file on its way.
pub struct Output {
    name: String,
    file: Option<Arc<Mutex<NamedTempFile>>>,
}

impl To {
    /// The format: the one given, or what the file's name says, or `otherwise` for standard output.
    pub fn format(&self, otherwise: Format) -> Result<Format, Error> {
        let named = self.format.or_else(|| Format::of_name(&self.output));
        match named {
            Some(format) => Ok(format),
            None if self.output == "-" => Ok(otherwise),
            None => Err(Error::Usage(format!(
                "the file's name does not say its format; file=`{}` expected .npy, .npz, .safetensors, .arrow, .arrows, .parquet, or --format",
                self.output
            ))),
        }
    }

    /// Opens it. Bytes are not shown to people: a terminal is refused.
    pub fn open(&self) -> Result<Output, Error> {
        if self.output == "-" {
            if self.json {
                return Err(Error::Usage(
                    "--json says on standard output what was written, and the tensors go there too; give a file with -o FILE"
                        .to_owned(),
                ));
            }
            if io::stdout().is_terminal() {
                return Err(Error::Usage(
                    "these are no bytes for a terminal; give a file with -o FILE, or pipe them into a program. `bowstring info` shows a tensor"
                        .to_owned(),
                ));
            }
            return Ok(Output {
                name: "standard output".to_owned(),
                file: None,
            });
        }
        Output::file(&self.output)
    }
}

impl Output {
    /// A file, whatever it is called.
    pub fn file(name: &str) -> Result<Output, Error> {
        let failed = |error: io::Error| Error::file("cannot write", name, error);
        let path = Path::new(name);
        let folder = path
            .parent()
            .filter(|folder| !folder.as_os_str().is_empty());
        let mut builder = tempfile::Builder::new();
        builder.prefix(".bowstring-").suffix(".part");
        // As any file that a program makes: the umask takes away what is not to be.
        let builder = builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
        let file = builder
            .tempfile_in(folder.unwrap_or(Path::new(".")))
            .map_err(failed)?;
        Ok(Output {
            name: name.to_owned(),
            file: Some(Arc::new(Mutex::new(file))),
        })
    }

    /// For messages.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// To write it by.
    pub fn writer(&self) -> Box<dyn Write + Send> {
        match &self.file {
            Some(file) => Box::new(io::BufWriter::with_capacity(
                1 << 20,
                Shared(Arc::clone(file)),
            )),
            None => Box::new(io::BufWriter::with_capacity(1 << 20, io::stdout())),
        }
    }

    /// It is whole: it takes its name, and the place of what was there.
    pub fn commit(self) -> Result<(), Error> {
        let Some(file) = self.file else { return Ok(()) };
        let failed = |error: io::Error| Error::file("cannot write", &self.name, error);
        let file = Arc::try_unwrap(file)
            .map_err(|_| failed(io::Error::other("it is still being written")))?;
        let file = file.into_inner().unwrap_or_else(PoisonError::into_inner);
        file.as_file().sync_data().map_err(failed)?;
        file.persist(&self.name)
            .map_err(|error| failed(error.error))?;
        Ok(())
    }
}

struct Shared(Arc<Mutex<NamedTempFile>>);

impl Shared {
    fn with<T>(&self, work: impl FnOnce(&mut File) -> io::Result<T>) -> io::Result<T> {
        let mut file = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        work(file.as_file_mut())
    }
}

impl Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.with(|file| file.write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.with(Write::flush)
    }
}
