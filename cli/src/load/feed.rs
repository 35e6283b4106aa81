//! What one put takes from the source: items of one schema, as they come, kept until the server has them.

use std::sync::Arc;
use std::time::Duration;

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use futures::Stream;
use tokio::sync::{Mutex, mpsc};

use crate::Error;
use crate::clock::{Stopwatch, within};
use crate::load::source::{Item, What};
use crate::progress::Progress;
use crate::put_stream::slice_bytes;

/// A source that gives nothing for so long ends a put, so that what was sent is answered for.
const QUIET: Duration = Duration::from_secs(2);
/// A put that takes longer is ended, for the same reason.
const LONG: Duration = Duration::from_secs(10);

/// Items, put by put.
pub struct Feed {
    source: mpsc::Receiver<Result<Item, Error>>,
    /// Those of this put.
    pub kept: Vec<Item>,
    /// The first of the next one.
    held: Option<Item>,
    bytes: usize,
    bytes_max: usize,
    watch: Stopwatch,
    ended: bool,
    /// Why the source ended before its end.
    pub failed: Option<Error>,
    progress: Progress,
}

/// A feed that a put's stream and whoever answers for it share.
pub type Shared = Arc<Mutex<Feed>>;

impl Feed {
    /// Of a source, in puts of about so many bytes.
    pub fn new(
        source: mpsc::Receiver<Result<Item, Error>>,
        bytes_max: usize,
        progress: Progress,
    ) -> Shared {
        Arc::new(Mutex::new(Feed {
            source,
            kept: Vec::new(),
            held: None,
            bytes: 0,
            bytes_max,
            watch: Stopwatch::start(),
            ended: false,
            failed: None,
            progress,
        }))
    }

    /// Begins the next put with its first item; false at the end.
    pub async fn begin(&mut self) -> bool {
        self.kept.clear();
        self.bytes = 0;
        self.ended = false;
        let first = match self.held.take() {
            Some(item) => Some(item),
            None => self.receive().await,
        };
        self.watch = Stopwatch::start();
        match first {
            Some(item) => {
                self.ended = matches!(item.what, What::Tensor(_));
                self.keep(item);
                true
            }
            None => false,
        }
    }

    /// The columns of this put.
    pub fn schema(&self) -> Option<SchemaRef> {
        match &self.kept.first()?.what {
            What::Rows(batch) => Some(batch.schema()),
            What::Tensor(_) => None,
        }
    }

    async fn receive(&mut self) -> Option<Item> {
        if self.failed.is_some() {
            return None;
        }
        match self.source.recv().await? {
            Ok(item) => Some(item),
            Err(error) => {
                self.failed = Some(error);
                None
            }
        }
    }

    /// Makes sure that there is an item at `at`, or that there will be none in this put.
    async fn reach(&mut self, at: usize) -> Option<RecordBatch> {
        while at >= self.kept.len() {
            if self.ended || self.bytes >= self.bytes_max || self.watch.elapsed() >= LONG {
                return None;
            }
            let Some(Some(item)) = within(QUIET, self.receive()).await else {
                self.ended = true;
                return None;
            };
            let same = match &item.what {
                What::Rows(batch) => self.schema().is_some_and(|schema| schema == batch.schema()),
                What::Tensor(_) => false,
            };
            if !same {
                self.held = Some(item);
                self.ended = true;
                return None;
            }
            self.keep(item);
        }
        match &self.kept[at].what {
            What::Rows(batch) => Some(batch.clone()),
            What::Tensor(_) => None,
        }
    }

    fn keep(&mut self, item: Item) {
        if let What::Rows(batch) = &item.what {
            self.bytes += slice_bytes(batch);
        }
        self.kept.push(item);
    }
}

/// The batches of this put: those that are kept, and then those that come. Where it is read again, all come again.
pub fn batches(feed: &Shared) -> impl Stream<Item = RecordBatch> + Send + 'static {
    let feed = Arc::clone(feed);
    futures::stream::unfold((feed, 0), |(feed, at)| async move {
        let mut now = feed.lock().await;
        if at == 0 {
            now.progress.lost();
        }
        let batch = now.reach(at).await?;
        let bytes = slice_bytes(&batch) as u64;
        now.progress.sent(batch.num_rows() as u64, bytes);
        drop(now);
        Some((batch, (feed, at + 1)))
    })
}
