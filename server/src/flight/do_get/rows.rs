//! Batches of many tensors, a row each.

use bowstring_cache::known::Known;
use bowstring_cache::lower::{Coming, Description, Found, InPieces};
use bowstring_cache::read::Entry;
use bowstring_wire::closing::Closing;
use bowstring_wire::dtype::DType;
use bowstring_wire::error::{Error, Result};
use bowstring_wire::flight_data::encode_head;
use bowstring_wire::get_rows::{
    OpaqueRow, RowsBatch, RowsBudget, WithColumn, opaque_batch, rows_batch, unknown_batch,
};
use bowstring_wire::limits::MAX_APP_METADATA_BYTES;
use bowstring_wire::metadata::Metadata;
use bowstring_wire::name::Key;
use bowstring_wire::shape::Shape;
use bowstring_wire::ticket::{Missing, Ticket, With};

use crate::flight::out::{Failure, Out};
use crate::flight::select::Together;
use crate::flight::service::Service;
use crate::flight::source::{self, Begun, Ready};

/// Sends rows in messages of at most the size that was asked for. Entries are pinned only while
/// their message is being sent; what comes from below past memory has a message of its own, so that nothing
/// else waits for it.
pub struct Rows<'a> {
    service: &'a Service,
    ticket: &'a Ticket,
    together: Together,
    out: Out<'a>,
    max_message_bytes: u64,
    budget: RowsBudget,
    batch: Vec<Row>,
    /// Of the batch's entries, encoded.
    metadata_bytes: usize,
}

/// Metadata of one message, unless one row has more. Unlike tensors' bytes they are decoded and written anew, in memory that no account
/// is charged for.
const MESSAGE_METADATA_BYTES: usize = 512 * 1024;

struct Row {
    key: Key,
    /// `None` is null.
    tensor: Option<Tensor>,
}

struct Tensor {
    content: Content,
    dtype: DType,
    shape: Shape,
    metadata: Metadata,
}

enum Content {
    Here(Entry),
    /// And its bytes, once they were asked for.
    Below(Box<dyn InPieces>, Option<Box<dyn Coming>>),
}

/// What became of a tensor that was to be sent.
pub enum Pushed {
    /// It is sent, or will be.
    Sent,
    /// It is not there any more as it was found.
    Changed,
    /// It cannot be had now.
    Missing,
}

impl Content {
    fn known(&self) -> Known<&Entry, &Description> {
        match self {
            Self::Here(entry) => Known::Hot(entry),
            Self::Below(below, _) => Known::Cold(below.description()),
        }
    }

    /// What is sent of it.
    async fn ready(self) -> Result<Ready> {
        match self {
            Self::Here(entry) => Ok(Ready::Here(entry)),
            Self::Below(_, Some(coming)) => Ok(Ready::Coming(coming)),
            Self::Below(below, None) => {
                let coming = below.read(0..below.description().len).await?;
                let coming = coming.ok_or_else(|| {
                    Error::unavailable(
                        "a tensor was changed while others of its batch were sent; try again",
                    )
                });
                coming.map(Ready::Coming)
            }
        }
    }
}

impl<'a> Rows<'a> {
    /// Sends the schema.
    pub async fn begin(
        service: &'a Service,
        ticket: &'a Ticket,
        together: Together,
        mut out: Out<'a>,
        max_message_bytes: u64,
    ) -> Result<Self, Failure> {
        let schema = together.schema(ticket).message()?;
        out.bytes(encode_head(&schema, &[], 0)?).await?;
        let budget = RowsBudget::new(max_message_bytes);
        Ok(Self {
            service,
            ticket,
            together,
            out,
            max_message_bytes,
            budget,
            batch: Vec::new(),
            metadata_bytes: 0,
        })
    }

    /// Adds a row.
    pub async fn push(&mut self, key: &Key, found: Found) -> Result<Pushed, Failure> {
        let mut row = self.row(key, Some(found))?;
        let Some(Tensor {
            content: Content::Below(below, coming),
            ..
        }) = &mut row.tensor
        else {
            self.add(row).await?;
            return Ok(Pushed::Sent);
        };
        self.flush(&[]).await?;
        let begun = source::begin(&**below, 0..below.description().len);
        match self.out.waiting(begun).await?? {
            Begun::Ready(ready) => *coming = Some(ready),
            Begun::Changed => return Ok(Pushed::Changed),
            Begun::Missing => return Ok(Pushed::Missing),
        }
        self.add(row).await?;
        self.flush(&[]).await?;
        Ok(Pushed::Sent)
    }

    /// Adds a null row.
    pub async fn push_null(&mut self, key: &Key) -> Result<(), Failure> {
        let row = self.row(key, None)?;
        self.add(row).await
    }

    async fn add(&mut self, row: Row) -> Result<(), Failure> {
        let metadata_bytes = self.metadata_bytes_of(&row);
        let is_crowded =
            !self.batch.is_empty() && self.metadata_bytes + metadata_bytes > MESSAGE_METADATA_BYTES;
        if is_crowded || !self.fits(&row)? {
            self.flush(&[]).await?;
            self.fits(&row)?;
        }
        self.metadata_bytes += metadata_bytes;
        self.batch.push(row);
        Ok(())
    }

    /// Adds a row to a batch that [`Rows::answer`] will send as one message.
    ///
    /// # Errors
    /// `resource_exhausted` where that would be larger than a message may be.
    pub fn push_whole(&mut self, key: &Key, found: Found) -> Result<()> {
        let row = self.row(key, Some(found))?;
        if !self.fits(&row)? {
            return Err(too_large(self.max_message_bytes));
        }
        self.batch.push(row);
        Ok(())
    }

    /// Sends what was pushed as one batch that names the `missing` ones, whether there are rows or
    /// not.
    pub async fn answer(&mut self, missing: &[Key]) -> Result<(), Failure> {
        let most = usize::try_from(self.max_message_bytes).unwrap_or(usize::MAX);
        let metadata = Closing::Missing.batches(missing, usize::MAX).concat();
        if metadata.len() > most.max(METADATA_BYTES_MIN) {
            return Err(Failure::Refused(too_large(self.max_message_bytes)));
        }
        self.flush(metadata.as_bytes()).await?;
        self.out.flush().await
    }

    /// The answer so far.
    pub fn out(&self) -> &Out<'a> {
        &self.out
    }

    /// Sends what was written so far.
    pub async fn send(&mut self) -> Result<(), Failure> {
        self.out.flush().await
    }

    fn row(&self, key: &Key, found: Option<Found>) -> Result<Row> {
        let tensor = match found {
            None => None,
            Some(found) => {
                let content = match found {
                    Found::Here(entry) => Content::Here(entry),
                    Found::Below(below) => Content::Below(below, None),
                };
                let known = content.known();
                let (dtype, shape) = known.description();
                self.together.check(key.as_str(), dtype, &shape)?;
                let wanted = self.ticket.with.contains(&With::Metadata);
                let metadata = if wanted {
                    Metadata::decode(known.metadata())?
                } else {
                    Metadata::default()
                };
                Some(Tensor {
                    content,
                    dtype,
                    shape,
                    metadata,
                })
            }
        };
        Ok(Row {
            key: key.clone(),
            tensor,
        })
    }

    /// What a row has of metadata, where they are asked for.
    fn metadata_bytes_of(&self, row: &Row) -> usize {
        let tensor = row.tensor.as_ref();
        let wanted = tensor.filter(|_| self.ticket.with.contains(&With::Metadata));
        wanted.map_or(0, |tensor| tensor.content.known().metadata().len())
    }

    /// Whether there is room for a row in this batch, which it then has.
    fn fits(&mut self, row: &Row) -> Result<bool> {
        // A null row of a fixed shape has zeros in its place.
        let bytes = match (&row.tensor, &self.together) {
            (Some(tensor), _) => tensor.content.known().bytes(),
            (None, Together::Rows(dtype, shape)) => shape.bytes(*dtype)?,
            (None, _) => 0,
        };
        let metadata = self.metadata_bytes_of(row);
        let tensor = row.tensor.as_ref();
        let own_shape = match &self.together {
            Together::Opaque => tensor.map(|tensor| &tensor.shape),
            _ => None,
        };
        let key = row.key.as_str();
        Ok(self.budget.take(key, bytes, own_shape, metadata))
    }

    /// Sends what is left, and the keys to be named at the end.
    pub async fn finish(mut self, closing: Option<(Closing, &[Key])>) -> Result<(), Failure> {
        self.flush(&[]).await?;
        if let Some((closing, keys)) = closing {
            let most = usize::try_from(self.max_message_bytes).unwrap_or(usize::MAX);
            for metadata in closing.batches(keys, most.min(MAX_APP_METADATA_BYTES)) {
                let batch = self.batch_of(&[])?;
                self.out.bytes(batch.head(metadata.as_bytes())?).await?;
                self.out.bytes(batch.prelude).await?;
                self.out.bytes(batch.tail).await?;
            }
        }
        self.out.flush().await
    }

    /// Sends the batch, if there are rows or something is said with it.
    async fn flush(&mut self, app_metadata: &[u8]) -> Result<(), Failure> {
        if self.batch.is_empty() && app_metadata.is_empty() {
            return Ok(());
        }
        let rows = std::mem::take(&mut self.batch);
        self.budget = RowsBudget::new(self.max_message_bytes);
        self.metadata_bytes = 0;
        let batch = self.batch_of(&rows)?;
        let head = batch.head(app_metadata)?;
        self.out.expect(batch.body_len() + head.len() as u64);
        self.out.bytes(head).await?;
        self.out.body_begins().await?;
        self.out.bytes(batch.prelude).await?;
        for row in rows {
            match (row.tensor, &self.together) {
                (Some(tensor), _) => {
                    let bytes = tensor.content.known().bytes();
                    if let Content::Here(entry) = &tensor.content
                        && let Some(small) = entry.in_slot(&(0..bytes))
                    {
                        self.out.copied(small).await?;
                        continue;
                    }
                    let ready = self.out.waiting(tensor.content.ready()).await??;
                    let mut source = self.out.source(ready, 0..bytes)?;
                    self.out.tensor(&mut source, bytes).await?;
                }
                (None, Together::Rows(dtype, shape)) => {
                    self.out.zeros(shape.bytes(*dtype)?).await?;
                }
                (None, _) => {}
            }
        }
        self.out.bytes(batch.tail).await
    }

    fn batch_of(&self, rows: &[Row]) -> Result<RowsBatch> {
        let nullable = self.ticket.missing == Missing::Null;
        let now_ms = self.service.clock.now_ms();
        let columns = Columns::of(&self.ticket.with, rows, now_ms);
        let with = columns.with(&self.ticket.with);
        match &self.together {
            Together::Rows(dtype, shape) => {
                let keys: Vec<&str> = rows.iter().map(|row| row.key.as_str()).collect();
                let valid: Vec<bool> = rows.iter().map(|row| row.tensor.is_some()).collect();
                rows_batch(*dtype, shape, &keys, nullable.then_some(&valid[..]), &with)
            }
            Together::Opaque => {
                let mut opaque = Vec::with_capacity(rows.len());
                for Row { key, tensor } in rows {
                    let tensor = tensor.as_ref().map(|found| (found.dtype, &found.shape));
                    opaque.push(OpaqueRow {
                        key: key.as_str(),
                        tensor,
                    });
                }
                opaque_batch(&opaque, nullable, &with)
            }
            Together::Unknown => {
                let keys: Vec<&str> = rows.iter().map(|row| row.key.as_str()).collect();
                unknown_batch(&keys)
            }
        }
    }
}

/// What may always be said of missing keys, however small messages are to be.
const METADATA_BYTES_MIN: usize = 64 * 1024;

fn too_large(max_message_bytes: u64) -> Error {
    Error::exhausted(format!(
        "the answer to one batch of keys is larger than a message may be, ask for fewer keys a \
         batch or for a larger max_message_bytes; limit=`{max_message_bytes}`"
    ))
}

/// The columns beside key and tensor, as far as they were asked for.
#[derive(Default)]
struct Columns<'a> {
    versions: Vec<Option<bowstring_wire::version::Version>>,
    checksums: Vec<Option<u128>>,
    metadata: Vec<Option<&'a Metadata>>,
    ttls_ms: Vec<Option<i64>>,
    source_versions: Vec<Option<i64>>,
}

impl<'a> Columns<'a> {
    fn of(with: &[With], rows: &'a [Row], now_ms: u64) -> Self {
        let tensors = || rows.iter().map(|row| row.tensor.as_ref());
        let known = || tensors().map(|tensor| tensor.map(|tensor| tensor.content.known()));
        let mut columns = Self::default();
        for column in with {
            match column {
                With::Version => {
                    columns.versions = known().map(|k| k.map(|k| k.version())).collect();
                }
                With::Checksum => {
                    columns.checksums = known().map(|k| k?.checksum()).collect();
                }
                With::Metadata => {
                    columns.metadata = tensors().map(|t| t.map(|t| &t.metadata)).collect();
                }
                With::TtlMs => {
                    let ttl = |known: Known<&Entry, &Description>| {
                        // What ends now can still be put.
                        let left = known.expires_at_ms()?.saturating_sub(now_ms).max(1);
                        i64::try_from(left).ok()
                    };
                    columns.ttls_ms = known().map(|k| k.and_then(ttl)).collect();
                }
                With::SourceVersion => {
                    let source = |k: Known<&Entry, &Description>| k.source_version();
                    columns.source_versions = known().map(|k| k.and_then(source)).collect();
                }
            }
        }
        columns
    }

    fn with<'c>(&'c self, with: &[With]) -> Vec<WithColumn<'c>> {
        with.iter()
            .map(|column| match column {
                With::Version => WithColumn::Version(&self.versions),
                With::Checksum => WithColumn::Checksum(&self.checksums),
                With::Metadata => WithColumn::Metadata(&self.metadata),
                With::TtlMs => WithColumn::TtlMs(&self.ttls_ms),
                With::SourceVersion => WithColumn::SourceVersion(&self.source_versions),
            })
            .collect()
    }
}
