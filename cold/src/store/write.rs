//! Small objects, and what becomes of any.

use bytes::{Bytes, BytesMut};
use object_store::path::Path;
use object_store::{ObjectStoreExt, PutMode, PutOptions, PutPayload};

use super::attempt::Kind;
use super::error::{Result, StoreError};
use super::{ObjectName, Store};

/// Pieces below this are copied together: a call of the system for each costs more.
const PIECE_MIN: usize = 64 << 10;
/// How much is copied together.
const GATHERED_BYTES: usize = 1 << 20;

impl Store {
    /// Writes an object that is not there yet, whole or not at all.
    ///
    /// One that is there with the very same bytes is taken for this one: a request whose answer was lost
    /// has been tried again. So two writers must never write the same bytes under one name where it
    /// matters who was first.
    ///
    /// # Errors
    /// `Exists` where other bytes are there; as [`StoreError`] says.
    pub async fn create(&self, name: &ObjectName, pieces: Vec<Bytes>) -> Result<()> {
        let path = self.path(name);
        let payload: PutPayload = gather(pieces).into_iter().collect();
        let len = payload.content_length() as u64;
        let created = self.attempt(Kind::Write, len, || {
            self.create_once(&path, payload.clone())
        });
        match created.await {
            Ok(()) => {}
            Err(StoreError::Exists) if self.is_there(&path, &payload).await? => {}
            Err(error) => return Err(error),
        }
        self.shared.counts.written_bytes.add(len);
        Ok(())
    }

    /// Writes an object, whole or not at all, in the place of what is there. For what may be lost: of two
    /// writers, either wins.
    ///
    /// # Errors
    /// As [`StoreError`] says.
    pub async fn replace(&self, name: &ObjectName, bytes: Bytes) -> Result<()> {
        let path = self.path(name);
        let len = bytes.len() as u64;
        let replaced = self.attempt(Kind::Write, len, || async {
            let payload = PutPayload::from_bytes(bytes.clone());
            self.shared.backend.inner.put(&path, payload).await?;
            Ok(())
        });
        replaced.await?;
        self.shared.counts.written_bytes.add(len);
        Ok(())
    }

    /// Deletes an object; one that is not there is deleted.
    ///
    /// # Errors
    /// As [`StoreError`] says.
    pub async fn delete(&self, name: &ObjectName) -> Result<()> {
        let path = self.path(name);
        let deleted = self.attempt(Kind::Write, 0, || async {
            Ok(self.shared.backend.inner.delete(&path).await?)
        });
        match deleted.await {
            Err(StoreError::NotFound) => Ok(()),
            done => done,
        }
    }

    async fn create_once(&self, path: &Path, payload: PutPayload) -> Result<()> {
        let options = PutOptions::from(PutMode::Create);
        self.shared
            .backend
            .inner
            .put_opts(path, payload, options)
            .await?;
        Ok(())
    }

    async fn is_there(&self, path: &Path, payload: &PutPayload) -> Result<bool> {
        let len = payload.content_length() as u64;
        let read = self.attempt(Kind::Write, len, || self.read_all_once(path, len));
        match read.await {
            Ok(there) => Ok(same(&there, payload)),
            // It is longer, or was deleted since.
            Err(StoreError::TooLong { .. } | StoreError::NotFound) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

fn same(there: &[u8], payload: &PutPayload) -> bool {
    let mut left = there;
    let all = payload.iter().all(|piece| {
        let rest = left.strip_prefix(&piece[..]);
        left = rest.unwrap_or_default();
        rest.is_some()
    });
    all && left.is_empty()
}

/// The same bytes in fewer pieces; large ones are not copied.
pub(super) fn gather(pieces: Vec<Bytes>) -> Vec<Bytes> {
    let mut out = Vec::new();
    let mut small = BytesMut::new();
    for piece in pieces {
        if piece.len() < PIECE_MIN {
            small.extend_from_slice(&piece);
        }
        if !small.is_empty() && (piece.len() >= PIECE_MIN || small.len() >= GATHERED_BYTES) {
            out.push(small.split().freeze());
        }
        if piece.len() >= PIECE_MIN {
            out.push(piece);
        }
    }
    if !small.is_empty() {
        out.push(small.freeze());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn gathered_bytes_are_the_same(sizes in prop::collection::vec(prop_oneof![0usize..9, PIECE_MIN - 1..PIECE_MIN + 2], 0..40)) {
            let pieces: Vec<_> = sizes.iter().enumerate().map(|(i, n)| Bytes::from(vec![i as u8; *n])).collect();
            let gathered = gather(pieces.clone());
            prop_assert_eq!(gathered.concat(), pieces.concat());
            let payload: PutPayload = gathered.into_iter().collect();
            prop_assert!(same(&pieces.concat(), &payload));
            prop_assert!(!same(&[&pieces.concat()[..], &[1]].concat(), &payload));
            let mut other = pieces.concat();
            if let Some(last) = other.last_mut() {
                *last ^= 1;
                prop_assert!(!same(&other, &payload));
            }
        }
    }
}
