//! A store that fails as it is told. For tests of whatever stands on a store; a server never has one.

use std::fmt;
use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bowstring_cache::clock::Clock;
use bytes::Bytes;
use futures::stream::{self, BoxStream, StreamExt};
use object_store::multipart::{MultipartStore, PartId};
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, GetResultPayload, ListResult, MultipartId,
    MultipartUpload, ObjectMeta, ObjectStore, PutMultipartOptions, PutOptions, PutPayload,
    PutResult, RenameOptions, Result, UploadPart,
};

/// What is asked of the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Site {
    Put,
    BeginParts,
    PutPart,
    CompleteParts,
    AbortParts,
    Get,
    Delete,
    List,
}

/// What happens instead of the answer, or before it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// Nothing is done.
    Fail,
    /// Nothing is done: there is no room.
    Full,
    /// It is done and nobody hears of it: a connection that is reset, an fsync that fails.
    Lost,
    /// It is done after this long.
    Delay(Duration),
    /// Of a body only so many bytes come, with no word about the rest.
    Cut(u64),
}

/// Says what happens to the `nth` request, counted over all sites from 0.
pub type Plan = Arc<dyn Fn(Site, &Path, u64) -> Option<Fault> + Send + Sync>;

/// A store behind a plan.
pub struct Faulty<S> {
    inner: Arc<S>,
    plan: Plan,
    clock: Arc<dyn Clock>,
    asked: Arc<AtomicU64>,
}

impl<S> Faulty<S> {
    /// A store that does what `inner` does but for the plan's faults.
    pub fn new(
        inner: Arc<S>,
        clock: Arc<dyn Clock>,
        plan: impl Fn(Site, &Path, u64) -> Option<Fault> + Send + Sync + 'static,
    ) -> Faulty<S> {
        Faulty {
            inner,
            plan: Arc::new(plan),
            clock,
            asked: Arc::default(),
        }
    }

    /// Requests so far.
    pub fn asked(&self) -> u64 {
        self.asked.load(Ordering::Relaxed)
    }

    fn next(&self, site: Site, path: &Path) -> Option<Fault> {
        (self.plan)(site, path, self.asked.fetch_add(1, Ordering::Relaxed))
    }

    async fn through<T>(
        &self,
        site: Site,
        path: &Path,
        work: impl Future<Output = Result<T>> + Send,
    ) -> Result<T> {
        faulted(&*self.clock, self.next(site, path), work).await
    }
}

async fn faulted<T>(
    clock: &dyn Clock,
    fault: Option<Fault>,
    work: impl Future<Output = Result<T>> + Send,
) -> Result<T> {
    match fault {
        Some(Fault::Fail) => Err(failed(io::ErrorKind::ConnectionReset)),
        Some(Fault::Full) => Err(failed(io::ErrorKind::StorageFull)),
        Some(Fault::Lost) => {
            work.await?;
            Err(failed(io::ErrorKind::ConnectionReset))
        }
        Some(Fault::Delay(by)) => {
            clock.sleep(by).await;
            work.await
        }
        Some(Fault::Cut(_)) | None => work.await,
    }
}

fn failed(kind: io::ErrorKind) -> Error {
    Error::Generic {
        store: "faulty",
        source: Box::new(io::Error::from(kind)),
    }
}

/// The answer with only its first bytes.
fn cut(got: GetResult, bytes: u64) -> GetResult {
    let (meta, range, attributes) = (got.meta.clone(), got.range.clone(), got.attributes.clone());
    let left = usize::try_from(bytes).unwrap_or(usize::MAX);
    let pieces = got.into_stream().scan(left, |left, piece| {
        let piece = piece.map(|mut piece| piece.split_to(piece.len().min(*left)));
        *left -= piece.as_ref().map_or(0, Bytes::len);
        std::future::ready(Some(piece))
    });
    GetResult {
        payload: GetResultPayload::Stream(pieces.boxed()),
        meta,
        range,
        attributes,
    }
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl<S: ObjectStore> ObjectStore for Faulty<S> {
    async fn put_opts(
        &self,
        at: &Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> Result<PutResult> {
        self.through(Site::Put, at, self.inner.put_opts(at, payload, options))
            .await
    }

    async fn put_multipart_opts(
        &self,
        at: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        let begun = self.inner.put_multipart_opts(at, options);
        Ok(Box::new(FaultyUpload {
            inner: self.through(Site::BeginParts, at, begun).await?,
            at: at.clone(),
            plan: Arc::clone(&self.plan),
            clock: Arc::clone(&self.clock),
            asked: Arc::clone(&self.asked),
        }))
    }

    async fn get_opts(&self, at: &Path, options: GetOptions) -> Result<GetResult> {
        let fault = self.next(Site::Get, at);
        let got = faulted(
            &*self.clock,
            fault.clone(),
            self.inner.get_opts(at, options),
        )
        .await?;
        Ok(match fault {
            Some(Fault::Cut(bytes)) => cut(got, bytes),
            _ => got,
        })
    }

    async fn get_ranges(&self, at: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.through(Site::Get, at, self.inner.get_ranges(at, ranges))
            .await
    }

    fn delete_stream(
        &self,
        all: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        let (inner, plan) = (Arc::clone(&self.inner), Arc::clone(&self.plan));
        let (clock, asked) = (Arc::clone(&self.clock), Arc::clone(&self.asked));
        all.then(move |at| {
            let (inner, plan) = (Arc::clone(&inner), Arc::clone(&plan));
            let (clock, asked) = (Arc::clone(&clock), Arc::clone(&asked));
            async move {
                let at = at?;
                let fault = plan(Site::Delete, &at, asked.fetch_add(1, Ordering::Relaxed));
                let one = stream::once(std::future::ready(Ok(at.clone()))).boxed();
                let deleted = async { inner.delete_stream(one).next().await.unwrap_or(Ok(at)) };
                faulted(&*clock, fault, deleted).await
            }
        })
        .boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.listed(prefix, self.inner.list(prefix))
    }

    fn list_with_offset(
        &self,
        prefix: Option<&Path>,
        offset: &Path,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        self.listed(prefix, self.inner.list_with_offset(prefix, offset))
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        let at = prefix.cloned().unwrap_or_default();
        self.through(Site::List, &at, self.inner.list_with_delimiter(prefix))
            .await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.through(Site::Put, to, self.inner.copy_opts(from, to, options))
            .await
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        self.through(Site::Put, to, self.inner.rename_opts(from, to, options))
            .await
    }
}

impl<S: ObjectStore> Faulty<S> {
    /// A listing with the plan asked before each object: a failure may come in its middle.
    fn listed(
        &self,
        prefix: Option<&Path>,
        objects: BoxStream<'static, Result<ObjectMeta>>,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        let (plan, clock) = (Arc::clone(&self.plan), Arc::clone(&self.clock));
        let (asked, at) = (Arc::clone(&self.asked), prefix.cloned().unwrap_or_default());
        let objects = objects.then(move |object| {
            let fault = plan(Site::List, &at, asked.fetch_add(1, Ordering::Relaxed));
            let clock = Arc::clone(&clock);
            async move { faulted(&*clock, fault, std::future::ready(object)).await }
        });
        objects.boxed()
    }
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl<S: MultipartStore> MultipartStore for Faulty<S> {
    async fn create_multipart(&self, at: &Path) -> Result<MultipartId> {
        self.through(Site::BeginParts, at, self.inner.create_multipart(at))
            .await
    }

    async fn put_part(
        &self,
        at: &Path,
        id: &MultipartId,
        index: usize,
        data: PutPayload,
    ) -> Result<PartId> {
        self.through(Site::PutPart, at, self.inner.put_part(at, id, index, data))
            .await
    }

    async fn complete_multipart(
        &self,
        at: &Path,
        id: &MultipartId,
        parts: Vec<PartId>,
    ) -> Result<PutResult> {
        let completed = self.inner.complete_multipart(at, id, parts);
        self.through(Site::CompleteParts, at, completed).await
    }

    async fn abort_multipart(&self, at: &Path, id: &MultipartId) -> Result<()> {
        self.through(Site::AbortParts, at, self.inner.abort_multipart(at, id))
            .await
    }
}

impl<S: fmt::Display> fmt::Display for Faulty<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "faulty {}", self.inner)
    }
}

impl<S: fmt::Debug> fmt::Debug for Faulty<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Faulty").field(&self.inner).finish()
    }
}

struct FaultyUpload {
    inner: Box<dyn MultipartUpload>,
    at: Path,
    plan: Plan,
    clock: Arc<dyn Clock>,
    asked: Arc<AtomicU64>,
}

impl FaultyUpload {
    fn next(&self, site: Site) -> Option<Fault> {
        let nth = self.asked.fetch_add(1, Ordering::Relaxed);
        (self.plan)(site, &self.at, nth)
    }
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl MultipartUpload for FaultyUpload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        let fault = self.next(Site::PutPart);
        let part = self.inner.put_part(data);
        let clock = Arc::clone(&self.clock);
        Box::pin(async move { faulted(&*clock, fault, part).await })
    }

    async fn complete(&mut self) -> Result<PutResult> {
        let fault = self.next(Site::CompleteParts);
        faulted(&*self.clock, fault, self.inner.complete()).await
    }

    async fn abort(&mut self) -> Result<()> {
        let fault = self.next(Site::AbortParts);
        faulted(&*self.clock, fault, self.inner.abort()).await
    }
}

impl fmt::Debug for FaultyUpload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("FaultyUpload").field(&self.at).finish()
    }
}
