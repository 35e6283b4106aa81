//! A directory as a store: `object_store`'s, which renames whole files into place, and what that leaves
//! out: what is acknowledged is on the disk itself, where that is asked for.

use std::fmt;
use std::fs::File;
use std::io;
use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use futures::stream::BoxStream;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, PutMultipartOptions, PutOptions, PutPayload, PutResult, RenameOptions, Result,
    UploadPart,
};
use rustix::fs::{Advice, fadvise};

use super::{Folder, ObjectName};

/// Brings a file or a directory to the disk.
pub type SyncFile = Arc<dyn Fn(&File) -> io::Result<()> + Send + Sync>;

/// A directory of our own.
pub struct Local {
    inner: LocalFileSystem,
    root: PathBuf,
    /// `None` leaves it to the system when files reach the disk.
    sync: Option<SyncFile>,
}

impl Local {
    /// The store in `dir`, which is made where it is not there, with the folders of a cold tier.
    ///
    /// # Errors
    /// Where that cannot be done.
    pub fn open(dir: &FilePath, fsync: bool) -> io::Result<Local> {
        let sync: SyncFile = Arc::new(File::sync_all);
        Local::with_sync(dir, fsync.then_some(sync))
    }

    /// The store in a directory that is another's: nothing is made there.
    ///
    /// # Errors
    /// Where there is no such directory.
    pub fn open_to_read(dir: &FilePath) -> io::Result<Local> {
        Local::over(dir.canonicalize()?, None)
    }

    /// As [`Local::open`], with something else than fsync: for tests.
    ///
    /// # Errors
    /// Where that cannot be done.
    pub fn with_sync(dir: &FilePath, sync: Option<SyncFile>) -> io::Result<Local> {
        for folder in Folder::ALL {
            std::fs::create_dir_all(dir.join(folder.as_str()))?;
        }
        let root = dir.canonicalize()?;
        if let Some(sync) = &sync {
            for dir in [Some(&*root), root.parent()].into_iter().flatten() {
                sync(&File::open(dir)?)?;
            }
        }
        Local::over(root, sync)
    }

    fn over(root: PathBuf, sync: Option<SyncFile>) -> io::Result<Local> {
        Ok(Local {
            inner: LocalFileSystem::new_with_prefix(&root).map_err(io::Error::other)?,
            root,
            sync,
        })
    }

    /// The directory, without links and detours.
    pub fn root(&self) -> &FilePath {
        &self.root
    }

    /// Where an object is.
    pub(super) fn file(&self, at: &Path) -> super::error::Result<PathBuf> {
        Ok(self.inner.path_to_filesystem(at)?)
    }

    /// Deletes the beginnings of files that a process left when it ended; see [`Store::clear_leftovers`].
    ///
    /// [`Store::clear_leftovers`]: super::Store::clear_leftovers
    ///
    /// # Errors
    /// Where that cannot be done.
    pub fn clear_leftovers(&self) -> io::Result<u64> {
        let mut cleared = 0;
        for folder in Folder::ALL {
            for file in std::fs::read_dir(self.root.join(folder.as_str()))? {
                let file = file?;
                if file
                    .file_name()
                    .to_str()
                    .is_some_and(|name| is_leftover(folder, name))
                {
                    std::fs::remove_file(file.path())?;
                    cleared += 1;
                }
            }
        }
        Ok(cleared)
    }

    /// Brings a file that was just put there to the disk, and its name.
    async fn synced(&self, location: &Path) -> Result<()> {
        match &self.sync {
            None => Ok(()),
            Some(sync) => synced(Arc::clone(sync), self.inner.path_to_filesystem(location)?).await,
        }
    }
}

/// A file that is being written has the name that it will have, `#` and a number.
fn is_leftover(folder: Folder, name: &str) -> bool {
    let Some((name, suffix)) = name.split_once('#') else {
        return false;
    };
    let number = !suffix.is_empty() && suffix.bytes().all(|b| b.is_ascii_digit());
    let path = folder.to_path(&Path::default()).join(name);
    number && ObjectName::parse(&Path::default(), &path).is_some()
}

async fn synced(sync: SyncFile, path: PathBuf) -> Result<()> {
    let done = tokio::task::spawn_blocking(move || {
        let done = sync_path(&*sync, &path);
        if done.is_err() {
            // After a failed fsync the system takes its pages for written: a second one would succeed, and
            // mean nothing. Only writing anew does.
            let _ = std::fs::remove_file(&path);
        }
        done
    });
    done.await?.map_err(|error| Error::Generic {
        store: "local",
        source: Box::new(error),
    })
}

fn sync_path(sync: &dyn Fn(&File) -> io::Result<()>, path: &FilePath) -> io::Result<()> {
    let file = File::open(path)?;
    sync(&file)?;
    if let Some(folder) = path.parent() {
        sync(&File::open(folder)?)?;
    }
    // It is read when memory has it no more, which is not soon.
    let _ = fadvise(&file, 0, None, Advice::DontNeed);
    Ok(())
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl ObjectStore for Local {
    async fn put_opts(
        &self,
        at: &Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> Result<PutResult> {
        let put = self.inner.put_opts(at, payload, options).await?;
        self.synced(at).await?;
        Ok(put)
    }

    async fn put_multipart_opts(
        &self,
        at: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        let inner = self.inner.put_multipart_opts(at, options).await?;
        let Some(sync) = &self.sync else {
            return Ok(inner);
        };
        Ok(Box::new(SyncedUpload {
            inner,
            sync: Arc::clone(sync),
            path: self.inner.path_to_filesystem(at)?,
        }))
    }

    async fn get_opts(&self, at: &Path, options: GetOptions) -> Result<GetResult> {
        self.inner.get_opts(at, options).await
    }

    async fn get_ranges(
        &self,
        at: &Path,
        ranges: &[std::ops::Range<u64>],
    ) -> Result<Vec<bytes::Bytes>> {
        self.inner.get_ranges(at, ranges).await
    }

    fn delete_stream(
        &self,
        all: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(all)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    fn list_with_offset(
        &self,
        prefix: Option<&Path>,
        offset: &Path,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list_with_offset(prefix, offset)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await?;
        self.synced(to).await
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        self.inner.rename_opts(from, to, options).await?;
        self.synced(to).await
    }
}

impl fmt::Display for Local {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "file://{}", self.root.display())
    }
}

impl fmt::Debug for Local {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Local({self})")
    }
}

struct SyncedUpload {
    inner: Box<dyn MultipartUpload>,
    sync: SyncFile,
    path: PathBuf,
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl MultipartUpload for SyncedUpload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        self.inner.put_part(data)
    }

    async fn complete(&mut self) -> Result<PutResult> {
        let put = self.inner.complete().await?;
        synced(Arc::clone(&self.sync), self.path.clone()).await?;
        Ok(put)
    }

    async fn abort(&mut self) -> Result<()> {
        self.inner.abort().await
    }
}

impl fmt::Debug for SyncedUpload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SyncedUpload").field(&self.path).finish()
    }
}
