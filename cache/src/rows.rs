//! Many small tensors on their way in, from one received batch.
//!
//! A batch goes in runs of at most [`RUN`] rows. For a run, all heads are made first, slots taken
//! a size at a time, records all at once; then each row is copied from the frames that it came in
//! into its slot and hashed there while it is in the cache; then all are published
//! ([`crate::publish_all`]). Nothing waits in between. A row that the run has no room for, or that
//! somebody else changed meanwhile, goes alone after it, and may wait; so room is held only for the
//! row that is being stored.

use std::sync::Arc;

use bowstring_wire::dtype::DType;
use bowstring_wire::error::{Error, Result};
use bowstring_wire::name::{Key, Namespace, Tenant};
use bowstring_wire::shape::Shape;
use bowstring_wire::version::Version;
use smallvec::SmallVec;
use twox_hash::XxHash3_128;

use crate::arena::{ExtentList, Loc, SlotBatch, slot_bytes_for};
use crate::cache::Cache;
use crate::engine::Engine;
use crate::head::{self, HeadBytes, HeadParts, INLINE_MAX, Kept, Rest, split};
use crate::id::{Id, Name};
use crate::index::{Handle, NameHash};
use crate::judge::{Candidate, Judged, check_checksum, check_metadata};
use crate::loads::Load;
use crate::lower::Gone;
use crate::namespaces::ENTRY_BYTES;
use crate::publish::{Coming, fill};
use crate::publish_all::{Arrival, Together};
use crate::put::{Admit, Mode, Published, PutSpec};
use crate::read::Entry;
use crate::reserve::Line;
use crate::room::Asker;

/// Rows that are stored before others run: under a millisecond of small ones.
const RUN: usize = 256;

/// One row of a batch: an entry. It borrows from the frames as they were received.
#[derive(Debug, Clone)]
pub struct Row<'a> {
    /// The key; checked by [`Cache::put_rows`].
    pub key: &'a str,
    /// Element type.
    pub dtype: DType,
    /// Shape; its bytes must be those of `data`.
    pub shape: &'a Shape,
    /// The tensor's bytes in C order, in as many pieces as they were received in.
    pub data: SmallVec<[&'a [u8]; 2]>,
    /// As [`PutSpec::metadata`](crate::put::PutSpec::metadata).
    pub metadata: &'a [u8],
    /// As [`PutSpec::expires_at_ms`](crate::put::PutSpec::expires_at_ms).
    pub expires_at_ms: Option<u64>,
    /// As [`PutSpec::checksum`](crate::put::PutSpec::checksum).
    pub checksum: Option<u128>,
    /// As [`PutSpec::source_version`](crate::put::PutSpec::source_version).
    pub source_version: Option<i64>,
}

impl Row<'_> {
    fn kept(&self) -> Kept<'_> {
        Kept {
            metadata: self.metadata,
            source_version: self.source_version,
        }
    }
}

/// What all rows of a batch share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RowsSpec {
    /// What to do where a key is there already.
    pub mode: Mode,
    /// The load that these rows belong to, as [`Cache::load`] gave it; 0 is none.
    pub load: u32,
    /// As [`PutSpec::pin`](crate::put::PutSpec::pin).
    pub pin: bool,
    /// As [`PutSpec::admit`](crate::put::PutSpec::admit).
    pub admit: Admit,
    /// As [`PutSpec::below`](crate::put::PutSpec::below).
    pub below: bool,
}

/// Deals out the keys of a namespace to several who store rows at the same time: each key is always
/// the same one's, and none of them waits for the index's locks of another.
#[derive(Clone)]
pub struct Deal {
    hash: NameHash,
    parts: usize,
}

impl Deal {
    /// The number of the one whose key it is.
    #[must_use]
    pub fn of(&self, key: &str) -> usize {
        // The hash's upper bits choose what is locked: a part is a range of them.
        let scaled = u128::from(self.hash.hash(key.as_bytes())) * self.parts as u128;
        usize::try_from(scaled >> 64).unwrap_or(0)
    }
}

impl Cache {
    /// Deals out a namespace's keys to so many, for [`Cache::put_rows`].
    #[must_use]
    pub fn deal(&self, tenant: &Tenant, namespace: &Namespace, parts: usize) -> Deal {
        let hash = self.engine().hash_within(tenant, namespace);
        Deal { hash, parts }
    }

    /// Puts every row, each with its own answer, in the order of `rows`. A row that fails does
    /// not hinder the others. Room is held only for the row that is being stored.
    pub async fn put_rows(
        &self,
        tenant: &Tenant,
        namespace: &Namespace,
        spec: RowsSpec,
        rows: &[Row<'_>],
    ) -> Vec<Result<Published>> {
        let below = self.engine().check_below(spec.below, spec.load);
        let (load, space) = match below.and_then(|()| self.place_of(tenant, namespace, spec)) {
            Ok(place) => place,
            Err(refused) => return rows.iter().map(|_| Err(refused.clone())).collect(),
        };
        let batch = Batch {
            cache: self,
            engine: self.engine(),
            tenant,
            namespace,
            spec,
            hash: self.engine().hash_within(tenant, namespace),
            load,
            space,
        };
        let mut answers = Vec::with_capacity(rows.len());
        for run in rows.chunks(RUN) {
            let mut stored = batch.store_run(run);
            // At once: who gives up while one of the others waits leaves nothing half done.
            batch.forget_below(run, &mut stored).await;
            for (row, answer) in run.iter().zip(stored) {
                answers.push(match answer {
                    Some(answer) => answer,
                    None => batch.store_alone(row).await,
                });
            }
            tokio::task::yield_now().await;
        }
        batch.write_down(rows, &mut answers).await;
        answers
    }

    /// The load of rows, and where they go: to the load's own generation, or the namespace's home.
    fn place_of(
        &self,
        tenant: &Tenant,
        namespace: &Namespace,
        spec: RowsSpec,
    ) -> Result<(Option<Arc<Load>>, u32)> {
        self.engine().check_writable(tenant, namespace)?;
        if spec.load == 0 {
            return Ok((None, self.engine().spaces.intern(tenant, namespace)?));
        }
        let load = self.engine().open_load(spec.load)?;
        let space = load.space;
        Ok((Some(load), space))
    }
}

struct Batch<'a> {
    cache: &'a Cache,
    engine: &'a Arc<Engine>,
    tenant: &'a Tenant,
    namespace: &'a Namespace,
    spec: RowsSpec,
    hash: NameHash,
    load: Option<Arc<Load>>,
    space: u32,
}

/// A row of a run that has a slot coming.
struct Ready {
    row: usize,
    hash: u64,
    len: usize,
    /// Where its head lies among the run's heads.
    head: std::ops::Range<usize>,
}

impl Batch<'_> {
    /// Stores what can be stored without waiting; `None` for the others.
    fn store_run(&self, rows: &[Row<'_>]) -> Vec<Option<Result<Published>>> {
        let mut answers: Vec<Option<Result<Published>>> = rows.iter().map(|_| None).collect();
        // What users pin is counted one by one.
        let bytes = rows.iter().map(bytes_of).sum::<u64>() + rows.len() as u64 * ENTRY_BYTES;
        if self.spec.pin || self.check_load_room(bytes).is_err() {
            return answers;
        }
        let mut heads: Vec<u8> = Vec::with_capacity(rows.len() * 32);
        let mut ready: Vec<Ready> = Vec::with_capacity(rows.len());
        for (at, row) in rows.iter().enumerate() {
            match self.prepare(at, row, &mut heads) {
                Ok(Some(prepared)) => ready.push(prepared),
                Ok(None) => {}
                Err(refused) => answers[at] = Some(Err(refused)),
            }
        }
        self.look_ahead(&ready);
        let mut slots = self.engine.arena.slot_batch();
        let with_slots = alloc_slots(&mut slots, &ready);
        let mut records = Vec::with_capacity(with_slots.len());
        let all = &self.engine.index.records;
        all.alloc_many(with_slots.len(), &mut records);
        let expires_at_ms = self.engine.expiry_in(self.space, None);
        let mut arrivals = Vec::with_capacity(records.len());
        // Records that are not needed after all.
        let mut spare = Vec::new();
        for (number, (at, handle)) in with_slots.into_iter().zip(records.iter()).enumerate() {
            let ready = &ready[at];
            let row = &rows[ready.row];
            let slot = slots.bytes_mut(number);
            fill(slot, &row.data, &heads[ready.head.clone()]);
            let tensor = &slot[..ready.len];
            let checksum = XxHash3_128::oneshot(tensor);
            let expires_at_ms = row.expires_at_ms.or(expires_at_ms);
            let (hash, len) = (ready.hash, ready.len as u64);
            let candidate = self.candidate(row, hash, len, checksum, expires_at_ms);
            let judged = check_checksum(row.checksum, checksum).and_then(|()| {
                self.engine
                    .judge(&candidate, |there| there.equals(&[tensor]))
            });
            let answer = match judged {
                Err(refused) => Err(refused),
                Ok(Judged::Stays(there)) => published(there.version(), true, len),
                // It has left memory just now.
                Ok(Judged::Comes(None)) if self.asks_below(row) => {
                    spare.push(*handle);
                    continue;
                }
                Ok(Judged::Comes(expected)) => {
                    arrivals.push(Arrival {
                        row: ready.row,
                        hash,
                        key: row.key,
                        len,
                        checksum,
                        expires_at_ms,
                        slot: slots.take(number),
                        handle: *handle,
                        expected,
                        version: None,
                    });
                    continue;
                }
            };
            answers[ready.row] = Some(answer);
            spare.push(*handle);
        }
        self.engine.publish_all(
            Together {
                space: self.space,
                load: self.spec.load,
                admit: self.spec.admit,
            },
            &mut arrivals,
        );
        let mut unused = Vec::new();
        for one in &arrivals {
            if let Some(version) = one.version {
                answers[one.row] = Some(published(version, false, one.len));
            } else {
                unused.push(one.slot);
                spare.push(one.handle);
            }
        }
        self.engine.arena.free_slots(&unused);
        if !spare.is_empty() {
            all.free_many(spare.into_iter());
        }
        answers
    }

    /// What was below of the rows that were stored is not found again; where that cannot be promised,
    /// they are not acknowledged.
    async fn forget_below(&self, rows: &[Row<'_>], answers: &mut [Option<Result<Published>>]) {
        if self.load.is_some() {
            return;
        }
        let mut gone = Vec::new();
        let mut of_rows = Vec::new();
        for (at, (row, answer)) in rows.iter().zip(&*answers).enumerate() {
            if let Some(Ok(published)) = answer
                && !published.existed
                && self.engine.may_be_below(self.name(row))
                && let Ok(id) = self.name(row).to_id()
            {
                gone.push(Gone::all_but(Some(published.version), id));
                of_rows.push(at);
            }
        }
        if let Err(error) = self.engine.forget_all_below(gone).await {
            for at in of_rows {
                answers[at] = Some(Err(error.clone()));
            }
        }
    }

    /// Has the rows that were stored written down, where that is to be; those that wait for it are not
    /// acknowledged where it fails.
    async fn write_down(&self, rows: &[Row<'_>], answers: &mut [Result<Published>]) {
        if !self.spec.below && !self.engine.lower.writes_at_once() {
            return;
        }
        let stored = rows
            .iter()
            .zip(&*answers)
            .filter(|(_, answer)| answer.is_ok());
        let ids = stored.filter_map(|(row, _)| self.name(row).to_id().ok());
        if let Err(error) = self.engine.write_down(ids.collect(), self.spec.below).await {
            for answer in answers.iter_mut().filter(|answer| answer.is_ok()) {
                *answer = Err(error.clone());
            }
        }
    }

    /// Whether what is there decides what becomes of a row, and only the lower tier may have it.
    fn asks_below(&self, row: &Row<'_>) -> bool {
        let by_what_is_there = self.spec.mode != Mode::Replace || row.source_version.is_some();
        self.load.is_none() && by_what_is_there && self.engine.may_be_below(self.name(row))
    }

    /// Has the misses of the look-ups that follow overlap: each step for all of them before the
    /// next, which reads what it has asked for. The table's shards are on their way.
    fn look_ahead(&self, ready: &[Ready]) {
        let index = &self.engine.index;
        ready
            .iter()
            .for_each(|ready| index.table.prefetch(ready.hash));
        let there = ready
            .iter()
            .filter_map(|ready| index.table.touch(ready.hash));
        let there: Vec<Handle> = there
            .inspect(|handle| index.records.prefetch(*handle))
            .collect();
        for record in there.into_iter().map(|handle| index.records.at(handle)) {
            if let Some(loc) = Loc::from_bits(record.loc()) {
                self.engine.arena.prefetch(loc, split(record.len()).inline);
            }
        }
    }

    /// Checks a row and makes its head. `None` for a row that is stored alone.
    fn prepare(&self, at: usize, row: &Row<'_>, heads: &mut Vec<u8>) -> Result<Option<Ready>> {
        let len = check(row)?;
        if len as u64 > INLINE_MAX || self.asks_below(row) {
            return Ok(None);
        }
        let mut bytes = HeadBytes::new();
        let rest = Rest::Here {
            extents: ExtentList::new(),
            kept: row.kept(),
        };
        let parts = HeadParts {
            key: row.key,
            dtype: row.dtype,
            shape: row.shape,
            rest,
        };
        head::encode(&parts, &mut bytes);
        if !head::fits(len, bytes.len()) {
            return Ok(None);
        }
        let start = heads.len();
        heads.extend_from_slice(&bytes);
        let hash = self.hash.hash(row.key.as_bytes());
        self.engine.index.table.prefetch_shard(hash);
        Ok(Some(Ready {
            row: at,
            hash,
            len,
            head: start..heads.len(),
        }))
    }

    /// Stores one row, and waits for room where it must.
    async fn store_alone(&self, row: &Row<'_>) -> Result<Published> {
        let len = check(row)? as u64;
        if len > INLINE_MAX {
            return self.store_large(row, len).await;
        }
        self.check_load_room(len + ENTRY_BYTES)?;
        let checksum = checksum_of(&row.data);
        check_checksum(row.checksum, checksum)?;
        let hash = self.hash.hash(row.key.as_bytes());
        let expires_at_ms = self.engine.expiry_in(self.space, row.expires_at_ms);
        let candidate = self.candidate(row, hash, len, checksum, expires_at_ms);
        let same = |there: &Entry| there.equals(&row.data);
        let found = self.engine.found(&candidate).await?;
        if let Judged::Stays(there) = self.engine.judge_found(&candidate, found, same)? {
            let (version, existed) = self.engine.stays(there, &candidate)?;
            return published(version, existed, len);
        }
        let asker = Asker {
            line: Line::Newcomer,
            spares: self.spares(),
        };
        let draft = self
            .engine
            .draft(&candidate.coming, None, &row.data, asker)
            .await?;
        let (version, existed) = self.engine.settle(&candidate, draft).await?;
        if self.load.is_none() && !existed {
            let id = self.name(row).to_id()?;
            self.engine.forget_below(&id, Some(version)).await?;
        }
        published(version, existed, len)
    }

    async fn store_large(&self, row: &Row<'_>, len: u64) -> Result<Published> {
        let id = Id {
            tenant: self.tenant.clone(),
            namespace: self.namespace.clone(),
            key: Key::parse(row.key)?,
        };
        let spec = PutSpec {
            mode: self.spec.mode,
            load: self.spec.load,
            pin: self.spec.pin,
            admit: self.spec.admit,
            metadata: row.metadata.to_vec(),
            expires_at_ms: row.expires_at_ms,
            checksum: row.checksum,
            source_version: row.source_version,
            size_bytes: Some(len),
            ..PutSpec::new(row.dtype)
        };
        let mut put = self.cache.put(id, spec)?;
        put.reserve(len).await?;
        for piece in &row.data {
            put.write(piece)?;
        }
        put.publish(row.shape.clone()).await
    }

    fn check_load_room(&self, bytes: u64) -> Result<()> {
        match &self.load {
            None => Ok(()),
            Some(load) => self.engine.check_load_room(load, bytes),
        }
    }

    fn spares(&self) -> Option<u32> {
        self.load.as_ref().map(|load| load.home)
    }

    fn name<'a>(&'a self, row: &'a Row<'_>) -> Name<'a> {
        Name {
            tenant: self.tenant,
            namespace: self.namespace,
            key: row.key,
        }
    }

    fn candidate<'a>(
        &'a self,
        row: &'a Row<'_>,
        hash: u64,
        len: u64,
        checksum: u128,
        expires_at_ms: Option<u64>,
    ) -> Candidate<'a> {
        Candidate {
            name: self.name(row),
            mode: self.spec.mode,
            if_version: None,
            coming: Coming {
                hash,
                space: self.space,
                key: row.key,
                dtype: row.dtype,
                shape: row.shape,
                kept: row.kept(),
                len,
                checksum,
                expires_at_ms,
                version: None,
                inherits: false,
                load: self.spec.load,
                spares: self.spares(),
                pin: self.spec.pin,
                admit: self.spec.admit,
            },
        }
    }
}

fn published(version: Version, existed: bool, bytes: u64) -> Result<Published> {
    Ok(Published {
        version,
        existed,
        bytes,
    })
}

fn bytes_of(row: &Row<'_>) -> u64 {
    row.data.iter().map(|piece| piece.len() as u64).sum()
}

/// What can be wrong with a row by itself; gives its bytes.
fn check(row: &Row<'_>) -> Result<usize> {
    Key::check(row.key)?;
    check_metadata(row.metadata)?;
    let len: usize = row.data.iter().map(|piece| piece.len()).sum();
    let expected = row.shape.bytes(row.dtype)?;
    if expected != len as u64 {
        return Err(Error::invalid(format!(
            "the row has other bytes than its shape; shape=`{}` dtype=`{}` bytes=`{len}` \
             expected {expected}",
            row.shape,
            row.dtype.name()
        )));
    }
    Ok(len)
}

fn checksum_of(pieces: &[&[u8]]) -> u128 {
    if let [whole] = pieces {
        return XxHash3_128::oneshot(whole);
    }
    let mut hasher = XxHash3_128::new();
    pieces.iter().for_each(|piece| hasher.write(piece));
    hasher.finish_128()
}

/// Takes slots for all of a run, as far as there are any. Gives, for each slot of the batch, which
/// of `ready` it is for.
fn alloc_slots(slots: &mut SlotBatch, ready: &[Ready]) -> Vec<usize> {
    let size = |ready: &Ready| ready.len + ready.head.len();
    let mut owners = Vec::with_capacity(ready.len());
    let mut at = 0;
    while at < ready.len() {
        let class = slot_bytes_for(size(&ready[at]));
        let same = ready[at..]
            .iter()
            .take_while(|next| slot_bytes_for(size(next)) == class);
        let (n, bytes) = same.fold((0, 0), |(n, most), next| (n + 1, size(next).max(most)));
        let taken = slots.alloc(bytes, n);
        owners.extend(at..at + taken);
        at += n;
    }
    owners
}
