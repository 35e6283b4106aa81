//! Which files the server may read for a client: those that lie under a root of the settings, as they are named and as they are found.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd as _;
use std::path::{Component, Path, PathBuf};

use bowstring_files::Format;
use bowstring_wire::error::{Code, Error, Result, clip};
use bowstring_wire::limits::MAX_QUOTED_BYTES;
use rustix::fs::{Mode, OFlags};

use super::pattern;
use crate::config::LoadRoot;

/// Files of one load.
pub const FILES_MAX: usize = 100_000;
/// Folders within folders.
const DEPTH_MAX: usize = 32;

/// The roots of the settings.
#[derive(Clone, Debug, Default)]
pub struct Roots(Vec<LoadRoot>);

/// A file that was found.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Found {
    /// Where it lies, behind all links.
    path: PathBuf,
    /// What it lies under, behind all links.
    root: PathBuf,
}

impl Found {
    /// For messages.
    pub fn name(&self) -> String {
        self.path.display().to_string()
    }

    /// Opens it, and says how long it is. What has taken its place meanwhile, or the place of a folder above it, is not opened.
    ///
    /// # Errors
    /// It is not there any more, or is another thing.
    pub fn open(&self) -> Result<(File, u64)> {
        // Not to wait for who writes to a pipe, and not to follow a link that was no link.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let opened = rustix::fs::open(&self.path, flags | OFlags::NOCTTY, Mode::empty());
        let failed = |error: io::Error| unreadable(&self.path, &error);
        let file = File::from(opened.map_err(|error| failed(error.into()))?);
        let about = file.metadata().map_err(failed)?;
        let is_at = fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd()));
        if !about.is_file() || !is_at.map_err(failed)?.starts_with(&self.root) {
            return Err(Error::precondition(format!(
                "a file became another one while it was opened; file=`{}`",
                self.path.display()
            )));
        }
        Ok((file, about.len()))
    }
}

impl Roots {
    /// Those of the settings.
    pub fn new(roots: Vec<LoadRoot>) -> Roots {
        Roots(roots)
    }

    /// The files that are `named`, by path, by folder or by pattern: each once, those of a folder and of a pattern in the order of their paths.
    /// It looks into folders, and so may wait.
    ///
    /// # Errors
    /// `permission_denied` for what lies under no root, whether it is there or not; `not_found` for what is not there; `invalid_argument` for
    /// what is neither a file nor a folder; `resource_exhausted` for too many.
    pub fn find(&self, named: &[String]) -> Result<Vec<Found>> {
        let mut finding = Finding::default();
        for name in named {
            let (path, root) = self.admit(name)?;
            let behind = fs::canonicalize(root.path());
            let behind = behind.map_err(|error| unreadable(root.path(), &error))?;
            let before = finding.files.len();
            let is_pattern = pattern::is_one(&path) && fs::symlink_metadata(&path).is_err();
            if is_pattern {
                for path in pattern::matching((root.path(), &behind), &path, FILES_MAX)? {
                    finding.add(&path, &behind)?;
                }
            } else {
                finding.add(&path, &behind)?;
            }
            if finding.files.len() == before && !finding.seen_again {
                return Err(Error::not_found(format!(
                    "there are no files of Parquet or Arrow; file=`{}` expected names that end in .parquet, .pq, .arrow, .feather, .ipc or .arrows",
                    quoted(name)
                )));
            }
        }
        Ok(finding.files)
    }

    /// As [`Roots::find`], on a thread where it holds nobody up.
    ///
    /// # Errors
    /// Those of [`Roots::find`].
    pub async fn find_apart(&self, named: Vec<String>) -> Result<Vec<Found>> {
        let roots = self.clone();
        let found = tokio::task::spawn_blocking(move || roots.find(&named)).await;
        found.map_err(|_| Error::internal("looking for files has stopped"))?
    }

    /// A name as it is written: absolute, without a way up, and under a root. Nothing is looked for before that is so.
    fn admit(&self, name: &str) -> Result<(PathBuf, &LoadRoot)> {
        let path = name.strip_prefix("file://").unwrap_or(name);
        let path = Path::new(path);
        let up = |part: Component<'_>| part == Component::ParentDir;
        if name.contains('\0') {
            return Err(Error::invalid("a file's name has a zero byte in it"));
        }
        let path: PathBuf = match path.components().any(up) {
            true => return Err(self.denied(name, "`..` leads anywhere")),
            false => path.components().collect(),
        };
        let root = self.0.iter().find(|root| path.starts_with(root.path()));
        match root {
            Some(root) => Ok((path, root)),
            None => Err(self.denied(name, "it lies under none of its roots")),
        }
    }

    fn denied(&self, name: &str, why: &str) -> Error {
        let roots: Vec<String> = self.0.iter().map(ToString::to_string).collect();
        let roots = match roots.is_empty() {
            true => "none".to_owned(),
            false => roots.join(", "),
        };
        Error::new(
            Code::PermissionDenied,
            format!(
                "the setting load_roots does not allow this file: {why}; file=`{}` load_roots=`{roots}`",
                quoted(without_credentials(name))
            ),
        )
    }
}

/// Files on the way.
#[derive(Default)]
struct Finding {
    files: Vec<Found>,
    known: BTreeSet<PathBuf>,
    /// A file was named again.
    seen_again: bool,
}

impl Finding {
    /// A file, or all files of a folder.
    fn add(&mut self, path: &Path, root: &Path) -> Result<()> {
        let behind = behind(path, root)?;
        let about = fs::metadata(&behind).map_err(|error| unreadable(path, &error))?;
        if about.is_dir() {
            return self.folder(&behind, root, 0);
        }
        if !about.is_file() {
            return Err(Error::invalid(format!(
                "it is neither a file nor a folder; file=`{}`",
                path.display()
            )));
        }
        self.file(behind, root)
    }

    /// The tables in a folder and in those below it; names that begin with `.` or `_` are left out, as whoever writes such folders means it.
    fn folder(&mut self, folder: &Path, root: &Path, depth: usize) -> Result<()> {
        if depth > DEPTH_MAX {
            return Err(Error::invalid(format!(
                "there are too many folders in folders; file=`{}` expected at most {DEPTH_MAX}",
                folder.display()
            )));
        }
        for name in pattern::names(folder, FILES_MAX)? {
            let Some(text) = name.to_str() else { continue };
            if text.starts_with(['.', '_']) {
                continue;
            }
            let path = folder.join(&name);
            let about = fs::symlink_metadata(&path).map_err(|error| unreadable(&path, &error))?;
            if about.is_dir() {
                self.folder(&path, root, depth + 1)?;
            } else if Format::of_name(text).is_some() {
                let behind = behind(&path, root)?;
                let about = fs::metadata(&behind).map_err(|error| unreadable(&path, &error))?;
                if about.is_file() {
                    self.file(behind, root)?;
                }
            }
        }
        Ok(())
    }

    fn file(&mut self, path: PathBuf, root: &Path) -> Result<()> {
        if !self.known.insert(path.clone()) {
            self.seen_again = true;
            return Ok(());
        }
        if self.files.len() == FILES_MAX {
            return Err(Error::exhausted(format!(
                "there are too many files for one load; expected at most {FILES_MAX}"
            )));
        }
        self.files.push(Found {
            path,
            root: root.to_owned(),
        });
        Ok(())
    }
}

/// Where a path leads to, which must be under the root as well.
fn behind(path: &Path, root: &Path) -> Result<PathBuf> {
    let behind = fs::canonicalize(path);
    // What is not there may be not there somewhere else, which is not told either.
    let mut nearest = behind.iter().cloned().chain(
        path.ancestors()
            .skip(1)
            .filter_map(|above| fs::canonicalize(above).ok()),
    );
    if nearest.next().is_some_and(|at| at.starts_with(root)) {
        return behind.map_err(|error| unreadable(path, &error));
    }
    Err(Error::new(
        Code::PermissionDenied,
        format!(
            "the setting load_roots does not allow this file: a link leads out of its root; file=`{}`",
            path.display()
        ),
    ))
}

/// What the system says of a path that is under a root.
pub fn unreadable(path: &Path, error: &io::Error) -> Error {
    let code = match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Code::NotFound,
        io::ErrorKind::PermissionDenied => Code::PermissionDenied,
        _ => Code::FailedPrecondition,
    };
    Error::new(
        code,
        format!(
            "cannot read a file; file=`{}` source=`{error}`",
            path.display()
        ),
    )
}

fn quoted(name: &str) -> String {
    clip(name, MAX_QUOTED_BYTES).into_owned()
}

/// A URL without what stands before its host's `@` or behind a `?`: errors are logged.
fn without_credentials(name: &str) -> &str {
    let Some((_, rest)) = name.split_once("://") else {
        return name;
    };
    let rest = rest.split('?').next().unwrap_or(rest);
    let authority = rest.split('/').next().unwrap_or(rest);
    match authority.rfind('@') {
        Some(at) => &rest[at + 1..],
        None => rest,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn roots(folder: &Path) -> Roots {
        Roots::new(vec![folder.to_str().unwrap().parse().unwrap()])
    }

    fn find(roots: &Roots, name: &Path) -> Result<Vec<String>> {
        let found = roots.find(&[name.to_str().unwrap().to_owned()])?;
        let name = |found: &Found| found.path.file_name().unwrap().to_str().unwrap().to_owned();
        Ok(found.iter().map(name).collect())
    }

    #[test]
    fn folders_and_patterns_are_the_tables_in_them_in_order() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        fs::create_dir_all(data.join("day=1")).unwrap();
        for name in [
            "b.parquet",
            "a.arrow",
            "_SUCCESS.parquet",
            ".x.parquet",
            "notes.txt",
        ] {
            fs::write(data.join(name), "x").unwrap();
        }
        fs::write(data.join("day=1/c.parquet"), "x").unwrap();
        let roots = roots(&data);
        assert_eq!(
            find(&roots, &data).unwrap(),
            ["a.arrow", "b.parquet", "c.parquet"]
        );
        assert_eq!(
            find(&roots, &data.join("*.parquet")).unwrap(),
            ["_SUCCESS.parquet", "b.parquet"]
        );
        assert_eq!(
            find(&roots, &data.join("day=*/?.parquet")).unwrap(),
            ["c.parquet"]
        );
        // One that is named is read whatever it is called.
        assert_eq!(
            find(&roots, &data.join("notes.txt")).unwrap(),
            ["notes.txt"]
        );
        for (name, code) in [
            (data.join("none"), Code::NotFound),
            (data.join("x*.parquet"), Code::NotFound),
            (data.join("notes.txt/a"), Code::NotFound),
        ] {
            assert_eq!(find(&roots, &name).unwrap_err().code, code, "{name:?}");
        }
        let url = format!("file://{}", data.join("a.arrow").display());
        let twice = [url, data.to_str().unwrap().to_owned()];
        assert_eq!(roots.find(&twice).unwrap().len(), 3);
    }

    #[test]
    fn nothing_leads_out_of_a_root() {
        let folder = tempfile::tempdir().unwrap();
        let (data, other) = (folder.path().join("data"), folder.path().join("database"));
        fs::create_dir_all(data.join("in")).unwrap();
        fs::create_dir_all(&other).unwrap();
        fs::write(other.join("a.parquet"), "x").unwrap();
        fs::write(data.join("in/a.parquet"), "x").unwrap();
        symlink(&other, data.join("out")).unwrap();
        symlink(other.join("a.parquet"), data.join("out.parquet")).unwrap();
        symlink(data.join("in/a.parquet"), data.join("fine.parquet")).unwrap();
        let roots = roots(&data);
        assert_eq!(
            find(&roots, &data.join("fine.parquet")).unwrap(),
            ["a.parquet"]
        );
        let denied = |name: &Path| {
            let error = find(&roots, name).unwrap_err();
            assert_eq!(error.code, Code::PermissionDenied, "{name:?}: {error}");
            assert!(error.to_string().contains("load_roots"), "{error}");
        };
        denied(&other.join("a.parquet"));
        denied(&data.join("in/../../database/a.parquet"));
        denied(&data.join("out/a.parquet"));
        denied(&data.join("out"));
        denied(&data.join("out.parquet"));
        denied(&data.join("out*"));
        denied(&data);
        denied(Path::new("data/in/a.parquet"));
        denied(Path::new("/etc/passwd"));
        denied(Path::new("/there/is/nothing"));
        let told = find(&roots, Path::new("s3://me:secret@bucket/a.parquet")).unwrap_err();
        assert_eq!(told.code, Code::PermissionDenied);
        assert!(!told.to_string().contains("secret"), "{told}");
        let nothing = Roots::default().find(&["/data/a.parquet".to_owned()]);
        assert!(
            nothing
                .unwrap_err()
                .to_string()
                .contains("load_roots=`none`")
        );
    }

    #[test]
    fn pipes_and_what_took_a_files_place_are_not_read() {
        let folder = tempfile::tempdir().unwrap();
        let data = fs::canonicalize(folder.path()).unwrap();
        let pipe = data.join("a.parquet");
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &pipe,
            rustix::fs::FileType::Fifo,
            Mode::from_raw_mode(0o600),
            0,
        )
        .unwrap();
        let roots = roots(&data);
        let error = find(&roots, &pipe).unwrap_err();
        assert!(error.to_string().contains("neither a file"), "{error}");
        assert_eq!(find(&roots, &data).unwrap_err().code, Code::NotFound);
        fs::write(data.join("b.parquet"), "x").unwrap();
        let found = roots.find(&[data.join("b.parquet").to_str().unwrap().to_owned()]);
        let found = found.unwrap().remove(0);
        assert_eq!(found.open().unwrap().1, 1);
        fs::remove_file(data.join("b.parquet")).unwrap();
        symlink("/etc/passwd", data.join("b.parquet")).unwrap();
        assert!(found.open().is_err());
        fs::remove_file(data.join("b.parquet")).unwrap();
        fs::rename(&pipe, data.join("b.parquet")).unwrap();
        assert!(found.open().is_err());
    }
}
