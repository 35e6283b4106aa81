//! Where sorts, joins and groups go on that are larger than the memory of their query: files of a directory, which have no
//! name there and are gone with whoever has them open, however that ends. Nobody else can open or change them.
//!
//! Files are written and read on the query's own threads. That is slow at idle priority, and holds up nobody.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bowstring_wire::error::{Error, Result};
use bytes::Bytes;
use datafusion::execution::{SpillFile, SpillWriter, TempFileFactory};
use futures::stream::{Stream, try_unfold};
use rustix::fs::{AtFlags, CWD, Mode, OFlags, openat, unlinkat};

use crate::DfResult;
use crate::error::passed;

/// What is read at once.
const READ_BYTES: usize = 256 << 10;
/// How a file is called for the moment that it has a name, where the file system has no files without one.
const PREFIX: &str = "bowstring-spill-";

/// The directory, and what all queries have in it. Cheap to clone.
#[derive(Clone)]
pub struct Spills(Arc<Inner>);

struct Inner {
    dir: OwnedFd,
    path: PathBuf,
    bytes_max: u64,
    used_bytes: AtomicU64,
    /// Names that were given.
    named: AtomicU64,
}

impl Spills {
    /// Files in `path`, which is made where it is not there, of at most `bytes_max` bytes together. What a process that was
    /// killed has left with a name goes, and nothing else.
    ///
    /// # Errors
    /// `invalid_argument` where it is no directory that files can be made in.
    pub fn open(path: &Path, bytes_max: u64) -> Result<Self> {
        let wrong = |error: io::Error| {
            Error::invalid(format!(
                "no files can be made in the directory that sorts go on in; sql_spill_dir=`{}` error=`{error}`",
                path.display()
            ))
        };
        fs::create_dir_all(path).map_err(wrong)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir = openat(CWD, path, flags, Mode::empty()).map_err(|error| wrong(error.into()))?;
        let spills = Self(Arc::new(Inner {
            dir,
            path: path.to_owned(),
            bytes_max,
            used_bytes: AtomicU64::new(0),
            named: AtomicU64::new(0),
        }));
        spills.sweep().map_err(wrong)?;
        spills.file().map_err(wrong)?;
        Ok(spills)
    }

    /// Bytes that all queries have on the disk.
    pub fn used_bytes(&self) -> u64 {
        self.0.used_bytes.load(Ordering::Relaxed)
    }

    /// Removes files that have a name of ours. An entry that is anything else, a link included, stays.
    fn sweep(&self) -> io::Result<()> {
        for entry in fs::read_dir(&self.0.path)? {
            let entry = entry?;
            let name = entry.file_name();
            let is_ours = name.to_str().is_some_and(is_our_name);
            if is_ours && entry.file_type()?.is_file() {
                match unlinkat(&self.0.dir, &name, AtFlags::empty()) {
                    // Another server that uses the directory was quicker.
                    Ok(()) | Err(rustix::io::Errno::NOENT) => {}
                    Err(error) => return Err(error.into()),
                }
            }
        }
        Ok(())
    }

    /// A file without a name.
    fn file(&self) -> io::Result<File> {
        let flags = OFlags::RDWR | OFlags::CLOEXEC;
        let mode = Mode::RUSR | Mode::WUSR;
        match openat(&self.0.dir, ".", flags | OFlags::TMPFILE, mode) {
            Ok(file) => return Ok(File::from(file)),
            Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::ISDIR) => {}
            Err(error) => return Err(error.into()),
        }
        let number = self.0.named.fetch_add(1, Ordering::Relaxed);
        let name = format!("{PREFIX}{}-{number}", std::process::id());
        // Never what is there already, nor through a link.
        let new = flags | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
        let file = openat(&self.0.dir, &name, new, mode)?;
        match unlinkat(&self.0.dir, &name, AtFlags::empty()) {
            Ok(()) | Err(rustix::io::Errno::NOENT) => Ok(File::from(file)),
            Err(error) => Err(error.into()),
        }
    }

    /// Has room for more bytes, or says that there is none.
    fn take(&self, bytes: u64) -> Result<()> {
        let taken = self
            .0
            .used_bytes
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| {
                let wanted = used.checked_add(bytes)?;
                (wanted <= self.0.bytes_max).then_some(wanted)
            });
        match taken {
            Ok(_) => Ok(()),
            Err(used) => Err(Error::exhausted(format!(
                "the query needs more room on the disk than there is for queries; limit=`sql_spill_max` value=`{}` \
                 used_bytes=`{used}` wanted_bytes=`{bytes}`",
                self.0.bytes_max
            ))),
        }
    }

    fn failed(&self, error: &io::Error) -> Error {
        let dir = self.0.path.display();
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Error::exhausted(format!(
                "the disk that queries go on on is full; sql_spill_dir=`{dir}` error=`{error}`"
            )),
            _ => Error::internal(format!(
                "a file that a query goes on in failed; sql_spill_dir=`{dir}` error=`{error}`"
            )),
        }
    }
}

fn is_our_name(name: &str) -> bool {
    let numbers = name.strip_prefix(PREFIX).and_then(|of| of.split_once('-'));
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    numbers.is_some_and(|(process, number)| is_number(process) && is_number(number))
}

impl TempFileFactory for Spills {
    fn create_temp_file(&self, _: &str) -> DfResult<Arc<dyn SpillFile>> {
        let file = self.file().map_err(|error| passed(self.failed(&error)))?;
        Ok(Arc::new(Spilled(Arc::new(Unnamed {
            spills: self.clone(),
            file,
            bytes: AtomicU64::new(0),
        }))))
    }
}

/// A file, and its room, which is given back with it.
struct Unnamed {
    spills: Spills,
    file: File,
    bytes: AtomicU64,
}

impl Drop for Unnamed {
    fn drop(&mut self) {
        let bytes = self.bytes.load(Ordering::Relaxed);
        let used = &self.spills.0.used_bytes;
        used.fetch_sub(bytes, Ordering::Relaxed);
    }
}

#[derive(Clone)]
struct Spilled(Arc<Unnamed>);

impl SpillFile for Spilled {
    fn size(&self) -> Option<u64> {
        Some(self.0.bytes.load(Ordering::Relaxed))
    }

    fn read_stream(&self) -> DfResult<Pin<Box<dyn Stream<Item = DfResult<Bytes>> + Send>>> {
        let file = self.0.clone();
        Ok(Box::pin(try_unfold((file, 0), |(file, at)| async move {
            let mut bytes = vec![0; READ_BYTES];
            let read = file.file.read_at(&mut bytes, at);
            let read = read.map_err(|error| passed(file.spills.failed(&error)))?;
            bytes.truncate(read);
            let next = (file, at + read as u64);
            Ok((read > 0).then(|| (Bytes::from(bytes), next)))
        })))
    }

    fn open_writer(&self) -> DfResult<Box<dyn SpillWriter>> {
        Ok(Box::new(self.clone()))
    }
}

impl Write for Spilled {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let file = &*self.0;
        let wanted = bytes.len() as u64;
        file.spills.take(wanted).map_err(io::Error::other)?;
        // It is paid for whether it is written or not: no more can be on the disk.
        let at = file.bytes.fetch_add(wanted, Ordering::Relaxed);
        let written = file.file.write_all_at(bytes, at);
        written.map_err(|error| io::Error::other(file.spills.failed(&error)))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl SpillWriter for Spilled {
    fn finish(&mut self) -> DfResult<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use bowstring_wire::error::Code;
    use futures::TryStreamExt;

    use super::*;
    use crate::error;

    fn names(dir: &Path) -> Vec<String> {
        let names = fs::read_dir(dir).unwrap();
        let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<String> = names.collect();
        names.sort();
        names
    }

    #[tokio::test]
    async fn what_is_written_is_read_and_no_name_is_ever_there() {
        let made = tempfile::tempdir().unwrap();
        let dir = made.path().join("not/there/yet");
        let spills = Spills::open(&dir, 1 << 20).unwrap();
        let file = spills.create_temp_file("a test").unwrap();
        let mut writer = file.open_writer().unwrap();
        let wanted: Vec<u8> = (0..700_000_u32)
            .map(|n| u8::try_from(n % 251).unwrap())
            .collect();
        for part in wanted.chunks(1_000) {
            writer.write_all(part).unwrap();
        }
        writer.finish().unwrap();
        assert_eq!(names(&dir), [""; 0]);
        assert_eq!(file.size(), Some(700_000));
        let parts: Vec<Bytes> = file.read_stream().unwrap().try_collect().await.unwrap();
        assert!(parts.concat() == wanted);
        assert_eq!(spills.used_bytes(), 700_000);
        drop((file, writer));
        assert_eq!(spills.used_bytes(), 0);
    }

    #[test]
    fn more_than_there_may_be_is_refused_and_given_back() {
        let dir = tempfile::tempdir().unwrap();
        let spills = Spills::open(dir.path(), 1_000).unwrap();
        let file = spills.create_temp_file("a test").unwrap();
        let mut writer = file.open_writer().unwrap();
        writer.write_all(&[0; 900]).unwrap();
        let other = spills.create_temp_file("a test").unwrap();
        let refused = other.open_writer().unwrap().write_all(&[0; 200]);
        let refused = error::of(&refused.unwrap_err().into());
        assert_eq!(refused.code, Code::ResourceExhausted);
        assert!(refused.message.contains("sql_spill_max"), "{refused}");
        drop((file, writer));
        other.open_writer().unwrap().write_all(&[0; 1_000]).unwrap();
        let full = spills.failed(&io::Error::from(io::ErrorKind::StorageFull));
        assert_eq!(full.code, Code::ResourceExhausted, "{full}");
    }

    #[test]
    fn only_what_a_killed_process_left_is_removed_at_the_start() {
        let made = tempfile::tempdir().unwrap();
        let dir = made.path();
        let ours = format!("{PREFIX}77-3");
        fs::write(dir.join(&ours), "left").unwrap();
        fs::write(dir.join("somebody.txt"), "kept").unwrap();
        fs::write(dir.join(format!("{PREFIX}77-x")), "kept").unwrap();
        fs::create_dir(dir.join(format!("{PREFIX}77-4"))).unwrap();
        let link = format!("{PREFIX}77-5");
        symlink(dir.join("somebody.txt"), dir.join(&link)).unwrap();
        Spills::open(dir, 1_000).unwrap();
        let kept = names(dir);
        assert_eq!(kept.len(), 4, "{kept:?}");
        assert!(!kept.contains(&ours) && kept.contains(&link));
        assert_eq!(fs::read(dir.join("somebody.txt")).unwrap(), b"kept");
        let refused = Spills::open(&dir.join("somebody.txt"), 1_000)
            .err()
            .unwrap();
        assert_eq!(refused.code, Code::InvalidArgument, "{refused}");
    }
}
