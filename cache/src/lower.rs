//! What stands below memory. Every miss of a read goes through here once, so that a cold tier has
//! one place in which to answer and single flight one place in which to join.

use std::future::Future;
use std::pin::Pin;

use bowstring_wire::error::Result;

use crate::cache::Cache;
use crate::id::Id;
use crate::read::Entry;

/// What [`LowerTier::load`] gives.
pub type Load<'a> = Pin<Box<dyn Future<Output = Result<Option<Entry>>> + Send + 'a>>;

/// A tier that may have what memory has not.
pub trait LowerTier: Send + Sync + 'static {
    /// Brings `id` into `cache` and gives it pinned; `None` when it is not here either.
    ///
    /// # Errors
    /// Where it is here and memory has no room for it, or the caller should try again.
    fn load<'a>(&'a self, cache: &'a Cache, id: &'a Id) -> Load<'a>;
}

/// There is nothing below: a miss is a miss.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoLowerTier;

impl LowerTier for NoLowerTier {
    fn load<'a>(&'a self, _cache: &'a Cache, _id: &'a Id) -> Load<'a> {
        Box::pin(std::future::ready(Ok(None)))
    }
}
