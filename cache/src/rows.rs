//! Many small tensors on their way in, from one received batch.

use std::future::Future;

use bowstring_wire::dtype::DType;
use bowstring_wire::error::Result;
use bowstring_wire::name::{Namespace, Tenant};
use bowstring_wire::shape::Shape;
use smallvec::SmallVec;

use crate::cache::Cache;
use crate::put::{Mode, Published};

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
}

/// What all rows of a batch share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RowsSpec {
    /// What to do where a key is there already.
    pub mode: Mode,
    /// The load that these rows belong to; 0 is none.
    pub load: u32,
}

impl Cache {
    /// Puts every row, each with its own answer, in the order of `rows`. A row that fails does
    /// not hinder the others. Room is held only for the row that is being stored.
    pub fn put_rows(
        &self,
        _tenant: &Tenant,
        _namespace: &Namespace,
        _spec: RowsSpec,
        _rows: &[Row<'_>],
    ) -> impl Future<Output = Vec<Result<Published>>> + Send {
        async { todo!() }
    }
}
