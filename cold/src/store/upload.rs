//! A large object, in parts: nothing of it is seen before all of it is there.

use std::sync::Arc;

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::{FuturesUnordered, StreamExt};
use object_store::multipart::{MultipartStore, PartId};
use object_store::path::Path;
use object_store::{MultipartId, MultipartUpload, ObjectStoreExt, PutPayload};

use super::attempt::Kind;
use super::error::{Result, StoreError};
use super::write::gather;
use super::{ObjectName, Store};

/// Above the 5 MiB that S3 asks of every part but the last.
const PART_BYTES: u64 = 8 << 20;
/// S3 takes 10,000.
const PARTS_MAX: u64 = 9_000;
/// Parts on their way at one time; as many times the size of a part is held of the object.
const PARTS_AHEAD: usize = 3;

/// An object while it is written. Dropped before [`Upload::finish`], it never was there.
pub struct Upload {
    store: Store,
    path: Path,
    /// Bytes of the whole.
    len: u64,
    part_bytes: u64,
    taken: u64,
    /// Of the next part.
    pending: Vec<Bytes>,
    pending_bytes: u64,
    sink: Sink,
}

impl Upload {
    /// Bytes of an object of `len` that are held at most while it is written.
    pub fn held_bytes(len: u64) -> u64 {
        len.min(part_bytes(len).saturating_mul(PARTS_AHEAD as u64 + 1))
    }
}

fn part_bytes(len: u64) -> u64 {
    PART_BYTES.max(len.div_ceil(PARTS_MAX))
}

enum Sink {
    Parts(Parts),
    /// A store that takes parts in order only, each once.
    Whole(Box<dyn MultipartUpload>),
}

struct Parts {
    inner: Arc<dyn MultipartStore>,
    id: MultipartId,
    begun: usize,
    ahead: FuturesUnordered<BoxFuture<'static, Result<(usize, PartId)>>>,
    done: Vec<(usize, PartId)>,
    /// Whether the store has been told to keep it or to forget it.
    closed: bool,
}

impl Store {
    /// Begins an object of `len` bytes. One of that name is replaced when it is finished: names are used
    /// once.
    ///
    /// # Errors
    /// As [`StoreError`] says.
    pub async fn upload(&self, name: &ObjectName, len: u64) -> Result<Upload> {
        let path = self.path(name);
        let shared = &self.shared;
        let sink = match &shared.backend.parts {
            Some(parts) => {
                let begun = self.attempt(Kind::Write, 0, || async {
                    Ok(parts.create_multipart(&path).await?)
                });
                Sink::Parts(Parts {
                    inner: Arc::clone(parts),
                    id: begun.await?,
                    begun: 0,
                    ahead: FuturesUnordered::new(),
                    done: Vec::new(),
                    closed: false,
                })
            }
            None => {
                let begun = self.attempt(Kind::Write, 0, || async {
                    Ok(shared.backend.inner.put_multipart(&path).await?)
                });
                Sink::Whole(begun.await?)
            }
        };
        Ok(Upload {
            store: self.clone(),
            path,
            len,
            part_bytes: part_bytes(len),
            taken: 0,
            pending: Vec::new(),
            pending_bytes: 0,
            sink,
        })
    }
}

impl Upload {
    /// Takes the object's next bytes. They may be held until [`Upload::finish`].
    ///
    /// # Errors
    /// As [`StoreError`] says; after one, all that is left to do is to drop it.
    pub async fn write(&mut self, mut piece: Bytes) -> Result<()> {
        self.taken = self.taken.saturating_add(piece.len() as u64);
        while self.pending_bytes + piece.len() as u64 >= self.part_bytes {
            let room = self.part_bytes - self.pending_bytes;
            let now = piece.split_to(usize::try_from(room).unwrap_or(usize::MAX));
            self.pending.push(now);
            self.send().await?;
        }
        if !piece.is_empty() {
            self.pending_bytes += piece.len() as u64;
            self.pending.push(piece);
        }
        Ok(())
    }

    /// Makes the object appear, with all its bytes.
    ///
    /// # Errors
    /// As [`StoreError`] says; it may have appeared all the same where that says so.
    pub async fn finish(mut self) -> Result<()> {
        if self.taken != self.len {
            return Err(StoreError::Refused(format!(
                "an object has other bytes than were announced; bytes=`{}` expected `{}`",
                self.taken, self.len
            )));
        }
        self.send().await?;
        match &mut self.sink {
            Sink::Parts(parts) => {
                while let Some(done) = parts.ahead.next().await {
                    parts.done.push(done?);
                }
                parts.done.sort_unstable_by_key(|(index, _)| *index);
                let ids: Vec<_> = parts.done.iter().map(|(_, id)| id.clone()).collect();
                let completed = self.store.attempt(Kind::Write, 0, || async {
                    let ids = ids.clone();
                    parts
                        .inner
                        .complete_multipart(&self.path, &parts.id, ids)
                        .await?;
                    Ok(())
                });
                let completed = completed.await;
                // Where the answer to an earlier try was lost, a later one finds nothing to complete.
                if let Err(failed) = completed {
                    let size = self
                        .store
                        .attempt(Kind::Write, 0, || self.store.size_once(&self.path));
                    if size.await != Ok(self.len) {
                        return Err(failed);
                    }
                }
                parts.closed = true;
            }
            Sink::Whole(upload) => {
                let completed = async { Ok(upload.complete().await?) };
                self.store.once(Kind::Write, self.len, completed).await?;
            }
        }
        self.store.shared.counts.written_bytes.add(self.len);
        Ok(())
    }

    /// Sends what is pending as a part, behind the few that may be on their way.
    async fn send(&mut self) -> Result<()> {
        if self.pending.is_empty() {
            return Ok(());
        }
        let pending = gather(std::mem::take(&mut self.pending));
        self.pending_bytes = 0;
        let payload: PutPayload = pending.into_iter().collect();
        match &mut self.sink {
            Sink::Parts(parts) => {
                while parts.ahead.len() >= PARTS_AHEAD {
                    if let Some(done) = parts.ahead.next().await {
                        parts.done.push(done?);
                    }
                }
                parts.begin(self.store.clone(), self.path.clone(), payload);
            }
            Sink::Whole(upload) => {
                let len = payload.content_length() as u64;
                let part = upload.put_part(payload);
                let sent = async { Ok(part.await?) };
                self.store.once(Kind::Write, len, sent).await?;
            }
        }
        Ok(())
    }
}

impl Parts {
    fn begin(&mut self, store: Store, path: Path, payload: PutPayload) {
        let (inner, id, index) = (Arc::clone(&self.inner), self.id.clone(), self.begun);
        self.begun += 1;
        let len = payload.content_length() as u64;
        self.ahead.push(Box::pin(async move {
            let sent = store.attempt(Kind::Write, len, || async {
                Ok(inner.put_part(&path, &id, index, payload.clone()).await?)
            });
            Ok((index, sent.await?))
        }));
    }
}

/// What the store holds of an unfinished object costs money until it is told. A directory's own upload
/// does so by itself.
impl Drop for Upload {
    fn drop(&mut self) {
        if let Sink::Parts(parts) = &self.sink
            && !parts.closed
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            let (inner, id) = (Arc::clone(&parts.inner), parts.id.clone());
            let (store, path) = (self.store.clone(), self.path.clone());
            runtime.spawn(async move {
                let forget = store.attempt(Kind::Write, 0, || async {
                    Ok(inner.abort_multipart(&path, &id).await?)
                });
                // A rule of the bucket takes care of those that are left, as `proto-notes/cold.md` says.
                let _ = forget.await;
            });
        }
    }
}
