//! The rows of whole batches on their way into the cache.
//!
//! Where there are threads for it, the rows of a put are dealt out to several writers by their
//! keys: each looks at every batch, in order, and stores those that are its own. So what is put
//! twice is put in order, and no writer waits for another one's locks of the index.

use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;

use bowstring_cache::ledger::Account;
use bowstring_cache::rows::{Deal, Row, RowsSpec};
use bowstring_wire::bulk::{BulkBatch, BulkReader, BulkRow, Dictionaries, Held};
use bowstring_wire::error::{Error, Result};
use bowstring_wire::name::{Namespace, Tenant};
use bowstring_wire::put_result::PutReply;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::JoinSet;

use super::incoming::{BATCH_MEMORY_SHARE, Batch};
use crate::flight::counter::{Counted, Counter};
use crate::flight::do_put::progress::{Done, Ended};
use crate::flight::service::Service;
use crate::flight::turns::Newcomer;

/// Rows handed to the cache at once: enough to share its locks among, few enough that the other
/// streams of this thread have their turn.
const STEP: usize = 256;
/// And fewer of those that are made first, by a transform or a cast.
const SCRATCH_BYTES: u64 = 1 << 20;
/// Batches whose rows are being stored: one that is begun while another writer ends the one before.
const BATCHES_MAX: u32 = 2;
/// A put whose first batch has fewer rows is stored by one writer.
const ROWS_TO_SPREAD: u64 = 2 * 1024;
/// Writers of one put: each reads the keys of all rows to know its own.
const WRITERS_MAX: usize = 8;

/// What all rows of a put share.
pub struct Store {
    pub service: Service,
    pub tenant: Tenant,
    pub namespace: Namespace,
    pub spec: RowsSpec,
    pub reader: BulkReader,
    /// For rows that have none of their own.
    pub metadata: Vec<u8>,
    pub ttl_ms: Option<u64>,
}

/// Stores batches while others are received. Dropping it ends that after the rows at hand.
pub struct Storing {
    store: Arc<Store>,
    writers: Vec<mpsc::Sender<Arc<Whole>>>,
    tasks: JoinSet<Result<PutReply>>,
    busy: Arc<Semaphore>,
    /// Until the first writer has its first turn.
    newcomer: Option<Newcomer>,
    /// Rows of earlier batches.
    rows: u64,
    /// As they are for the next batch.
    dictionaries: Dictionaries,
    /// Where somebody wants to hear of it after each batch.
    done: Option<Done>,
}

/// A batch that is being stored.
struct Whole {
    batch: Batch,
    dictionaries: Dictionaries,
    /// Rows before it.
    first: u64,
    _busy: OwnedSemaphorePermit,
    _ended: Option<Ended>,
}

impl Storing {
    pub fn new(store: Store, newcomer: Newcomer, done: Option<Done>) -> Self {
        Self {
            store: Arc::new(store),
            writers: Vec::new(),
            tasks: JoinSet::new(),
            busy: Arc::new(Semaphore::new(BATCHES_MAX as usize)),
            newcomer: Some(newcomer),
            rows: 0,
            dictionaries: Dictionaries::default(),
            done,
        }
    }

    /// Takes a batch, once few enough others are being stored; or the values of a dictionary, for
    /// the batches behind it.
    pub async fn push(&mut self, batch: Batch) -> Result<()> {
        if self.dictionary(&batch)? {
            return Ok(());
        }
        // Whatever is wrong with all of it is wrong for every writer.
        let rows = self.store.decode(&batch, &self.dictionaries)?.rows();
        if self.writers.is_empty() {
            self.start(rows);
        }
        let Ok(busy) = Arc::clone(&self.busy).acquire_owned().await else {
            return Err(stopped());
        };
        let whole = Arc::new(Whole {
            batch,
            dictionaries: self.dictionaries.clone(),
            first: self.rows,
            _busy: busy,
            _ended: self.done.as_ref().map(Done::ended),
        });
        self.rows += rows;
        for writer in &self.writers {
            let sent = writer.send(Arc::clone(&whole)).await;
            sent.map_err(|_| stopped())?;
        }
        Ok(())
    }

    /// What is held for the batches to come.
    pub fn dictionary_bytes(&self) -> u64 {
        self.dictionaries.bytes()
    }

    /// Takes a message if it brings the values of a dictionary.
    fn dictionary(&mut self, message: &Batch) -> Result<bool> {
        let Batch { header, body, room } = message;
        let Store {
            service,
            spec,
            reader,
            ..
        } = &*self.store;
        let limit = service.cache.config().memory / BATCH_MEMORY_SHARE;
        let held = |bytes| -> Result<Held> {
            let beside = service.cache.charge_in(spec.load, Account::Wire, bytes);
            let beside = beside.ok_or_else(|| no_room(bytes, limit))?;
            Ok(Arc::new((room.clone(), beside)))
        };
        let taken = reader.dictionary(&mut self.dictionaries, header, body, held)?;
        match self.dictionaries.bytes() {
            bytes if bytes > limit => Err(no_room(bytes, limit)),
            _ => Ok(taken),
        }
    }

    /// Whether any batch is being stored.
    pub fn is_busy(&self) -> bool {
        self.busy.available_permits() < BATCHES_MAX as usize
    }

    /// Waits until no batch is being stored.
    pub async fn idle(&self) {
        // It is never closed.
        let _ = self.busy.acquire_many(BATCHES_MAX).await;
    }

    /// The answer, once all is stored.
    pub async fn finish(mut self) -> Result<PutReply> {
        self.writers.clear();
        let mut reply = PutReply::default();
        while let Some(ended) = self.tasks.join_next().await {
            reply.merge(ended.map_err(|_| stopped())??);
        }
        Ok(reply)
    }

    fn start(&mut self, rows: u64) {
        let Store {
            service,
            tenant,
            namespace,
            ..
        } = &*self.store;
        let most = if rows < ROWS_TO_SPREAD {
            1
        } else {
            WRITERS_MAX
        };
        let count = free_threads(service.turns.count(), &service.writers).min(most);
        let deal = (count > 1).then(|| service.cache.deal(tenant, namespace, count));
        for number in 0..count {
            let (sender, receiver) = mpsc::channel(BATCHES_MAX as usize);
            let writer = Writer {
                store: Arc::clone(&self.store),
                deal: deal.clone(),
                number,
                newcomer: self.newcomer.take(),
                reply: PutReply::default(),
                done: self.done.clone(),
                _counted: service.writers.add().0,
            };
            self.writers.push(sender);
            self.tasks.spawn(writer.run(receiver));
        }
    }
}

/// How many of so many threads no other put has a writer for; always one.
fn free_threads(threads: usize, writers: &Counter) -> usize {
    threads.saturating_sub(writers.get()).max(1)
}

fn no_room(bytes: u64, limit: u64) -> Error {
    Error::exhausted(format!(
        "the dictionaries of a put find no room, send its columns decoded; bytes=`{bytes}` \
         limit=`{limit}`"
    ))
}

/// What a row takes until it is stored, beside its batch: nothing where it is stored as it came.
fn scratch_of(row: &BulkRow<'_>) -> u64 {
    match row.is_plain() {
        true => 0,
        // Before and after.
        false => 2 * row.shape.bytes(row.dtype).unwrap_or(0),
    }
}

fn no_scratch(bytes: u64) -> Error {
    Error::exhausted(format!(
        "a row that is not stored as it came finds no room to be made, send smaller ones or in C \
         order and of the dtype that they are to have; bytes=`{bytes}`"
    ))
}

fn stopped() -> Error {
    Error::internal("a writer of this put has stopped")
}

impl Store {
    fn decode<'a>(
        &'a self,
        batch: &'a Batch,
        dictionaries: &Dictionaries,
    ) -> Result<BulkBatch<'a>> {
        self.reader.decode(&batch.header, &batch.body, dictionaries)
    }
}

struct Writer {
    store: Arc<Store>,
    /// Which rows are whose, where there are others.
    deal: Option<Deal>,
    number: usize,
    newcomer: Option<Newcomer>,
    reply: PutReply,
    done: Option<Done>,
    _counted: Counted,
}

/// A row of this writer's, its metadata as they are kept, and what its bytes may need.
type Read<'b> = (u64, BulkRow<'b>, Cow<'b, [u8]>, Vec<u8>);

impl Writer {
    async fn run(mut self, mut batches: mpsc::Receiver<Arc<Whole>>) -> Result<PutReply> {
        let store = Arc::clone(&self.store);
        while let Some(whole) = batches.recv().await {
            let batch = store.decode(&whole.batch, &whole.dictionaries)?;
            let service = &store.service;
            let _turn = service.turns.take(&*service.clock).await;
            self.newcomer = None;
            let before = self.reply.counts();
            let mut from = 0;
            while from < batch.rows() {
                // Not all of a large batch, should none of it be its own.
                let end = batch.rows().min(from + 4 * STEP as u64);
                let mut read = Vec::with_capacity(STEP);
                from = self.read(&store, whole.first, &batch, from..end, &mut read);
                self.put(&store, whole.first, &batch, &mut read).await;
            }
            if let Some(done) = &self.done {
                done.add(&self.reply.counts(), &before);
            }
        }
        Ok(self.reply)
    }

    /// Reads its own rows, at most [`STEP`], and tells where that ended.
    fn read<'b>(
        &mut self,
        store: &'b Store,
        first: u64,
        batch: &'b BulkBatch<'_>,
        mut rows: Range<u64>,
        read: &mut Vec<Read<'b>>,
    ) -> u64 {
        let mut scratch_bytes = 0;
        while !rows.is_empty() && read.len() < STEP && scratch_bytes < SCRATCH_BYTES {
            let at = rows.start;
            rows.start += 1;
            let key = batch.key(at);
            if !self.is_own(key.as_deref().ok()) {
                continue;
            }
            match key.and_then(|key| batch.row_of(at, key)) {
                Ok(row) => {
                    scratch_bytes += scratch_of(&row);
                    let metadata = if row.metadata.is_empty() {
                        Cow::Borrowed(&store.metadata[..])
                    } else {
                        Cow::Owned(row.metadata.encode())
                    };
                    read.push((at, row, metadata, Vec::new()));
                }
                Err(error) => self.error(first, batch, at, &error),
            }
        }
        rows.start
    }

    /// Without a legal key a row is the first writer's.
    fn is_own(&self, key: Option<&str>) -> bool {
        let Some(deal) = &self.deal else { return true };
        self.number == key.map_or(0, |key| deal.of(key))
    }

    async fn put(
        &mut self,
        store: &Store,
        first: u64,
        batch: &BulkBatch<'_>,
        read: &mut [Read<'_>],
    ) {
        let now_ms = store.service.clock.now_ms();
        let bytes = read.iter().map(|(_, row, _, _)| scratch_of(row)).sum();
        let cache = &store.service.cache;
        let charge = || cache.charge_in(store.spec.load, Account::Wire, bytes);
        let room = (bytes > 0).then(charge);
        if matches!(room, Some(None)) {
            for (at, ..) in read {
                self.error(first, batch, *at, &no_scratch(bytes));
            }
            return tokio::task::yield_now().await;
        }
        let mut at_rows = Vec::with_capacity(read.len());
        let mut rows = Vec::with_capacity(read.len());
        for (at, row, metadata, scratch) in read {
            match batch.pieces(row, scratch) {
                Ok(pieces) => {
                    let ttl_ms = row.ttl_ms.or(store.ttl_ms);
                    at_rows.push(*at);
                    rows.push(Row {
                        key: &row.key,
                        dtype: row.dtype,
                        shape: &row.shape,
                        data: pieces.collect(),
                        metadata,
                        expires_at_ms: ttl_ms.map(|ttl| now_ms.saturating_add(ttl)),
                        checksum: row.checksum,
                        source_version: row.source_version,
                    });
                }
                Err(error) => self.error(first, batch, *at, &error),
            }
        }
        if rows.is_empty() {
            return tokio::task::yield_now().await;
        }
        let outcomes = cache
            .put_rows(&store.tenant, &store.namespace, store.spec, &rows)
            .await;
        for (at, outcome) in at_rows.into_iter().zip(outcomes) {
            match outcome {
                Ok(published) if published.existed => self.reply.existed += 1,
                Ok(published) => {
                    self.reply.stored += 1;
                    self.reply.bytes += published.bytes;
                }
                Err(error) => self.error(first, batch, at, &error),
            }
        }
    }

    fn error(&mut self, first: u64, batch: &BulkBatch<'_>, at: u64, error: &Error) {
        let key = batch.key(at).ok();
        self.reply.push_error(first + at, key.as_deref(), error);
    }
}
