//! What counts of the segments under a prefix: see [`crate::format::census`].

use std::collections::BTreeSet;

use bowstring_wire::error::{Code, Result};

use super::build::RECORD_BYTES_MAX;
use super::failed;
use crate::entry::Number;
use crate::format::{Census, encode_census, read_census};
use crate::store::{Folder, Listed, ObjectName, Store, StoreError};

/// Leaves out of a prefix's listed segments what came behind the last start there, and not from it.
///
/// # Errors
/// `unavailable`, and `failed_precondition` for a census of a newer release.
pub(super) async fn counted(store: &Store, listed: &mut Vec<Listed>) -> Result<()> {
    let epochs = store.list(Folder::Epochs).await.map_err(failed)?;
    let is_census = |listed: &&Listed| matches!(listed.name, ObjectName::Census(_));
    // One that is taken away meanwhile has another after it.
    for name in epochs.iter().rev().filter(is_census).map(|one| one.name) {
        let bytes = match store.read_all(&name, RECORD_BYTES_MAX).await {
            Err(StoreError::NotFound) => continue,
            read => read.map_err(failed)?,
        };
        match read_census(name.number(), &bytes) {
            Ok(census) => listed.retain(|one| match one.name {
                ObjectName::Sidecar(number) => census.has(number),
                _ => true,
            }),
            Err(error) if error.code == Code::DataLoss => {
                tracing::warn!(error = %error.message, epoch = name.number(), "cold tier: all segments that lie there count");
            }
            Err(error) => return Err(error),
        }
        break;
    }
    Ok(())
}

/// Says what counts from now on, of what lies there from before `first`. Nothing may have been acknowledged in this start before.
///
/// # Errors
/// As the store's.
pub(super) async fn take_census(
    store: &Store,
    epoch: u64,
    first: Number,
    segments: BTreeSet<Number>,
) -> Result<()> {
    let bytes = encode_census(epoch, &Census { first, segments });
    let own = ObjectName::Census(epoch);
    store.create(&own, vec![bytes]).await.map_err(failed)?;
    // Where that fails, the next start does it.
    for listed in store.list(Folder::Epochs).await.unwrap_or_default() {
        let is_old = matches!(listed.name, ObjectName::Census(before) if before < epoch);
        if is_old && store.delete(&listed.name).await.is_err() {
            break;
        }
    }
    Ok(())
}
