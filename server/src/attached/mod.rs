//! Namespaces that are the rows of files, read-only: found by key, and read when they are asked for.
//!
//! - `keys`: which row of which file a key is
//! - `file`: one file, rows of it, and whether it is still the one that was attached
//! - `set`: all files of a namespace: read once for their keys, then by row
//! - `purse`: who pays for that
//! - `start`: those of the settings, which are there from the first moment on
//! - `tier`: what the engine sees: a tier below memory for these namespaces, before the one for all others
//!
//! What is read comes into memory as any entry does that comes from below, and goes again as any other; then it is read again.

mod file;
mod keys;
mod purse;
mod set;
mod start;
mod tier;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bowstring_cache::Cache;
use bowstring_cache::clock::Clock;
use bowstring_cache::lower::LowerTier;
use bowstring_wire::action::FileColumns;
use bowstring_wire::error::{Error, Result};
use bowstring_wire::name::{Namespace, Tenant};
use bowstring_wire::version::Version;
use parking_lot::RwLock;
use tokio::sync::Semaphore;

use crate::flight::load::roots::Found;
use purse::Purse;
use set::{Set, Unnamed};
pub use start::Ahead;

/// Reads of files at one time, of all namespaces: each has a thread.
const READS_MAX: usize = 4;

/// The namespaces that are attached, and the tier below the others. Clones are the same ones.
#[derive(Clone)]
pub struct Attached(Arc<Inner>);

struct Inner {
    /// Under all other namespaces.
    below: Arc<dyn LowerTier>,
    clock: Arc<dyn Clock>,
    sets: RwLock<BTreeMap<(Tenant, Namespace), Arc<Set>>>,
    /// Whether there was one: else nobody has to look.
    any: AtomicBool,
    reads: Semaphore,
}

/// What an operator sees of a namespace that is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// Files that it is made of.
    pub files: u64,
    /// Rows in them.
    pub rows: u64,
    /// Bytes of their tensors.
    pub bytes: u64,
    /// Bytes of memory that their keys take.
    pub index_bytes: u64,
}

impl Attached {
    /// None yet, over the tier of all other namespaces.
    pub fn over(below: Arc<dyn LowerTier>, clock: Arc<dyn Clock>) -> Self {
        Self(Arc::new(Inner {
            below,
            clock,
            sets: RwLock::default(),
            any: AtomicBool::new(false),
            reads: Semaphore::new(READS_MAX),
        }))
    }

    /// Makes a namespace that is empty the rows of files. Their keys are read before this returns, nothing else.
    ///
    /// # Errors
    /// `failed_precondition` where the namespace has entries or is attached, `invalid_argument` where the files cannot be read as
    /// rows, or have a key twice or one that is none; `resource_exhausted` where memory has no room for the keys.
    pub async fn attach(
        &self,
        cache: &Cache,
        (tenant, namespace): (&Tenant, &Namespace),
        files: Vec<Found>,
        columns: FileColumns,
    ) -> Result<Size> {
        self.check_empty(cache, tenant, namespace).await?;
        let read = set::read(Purse::of(cache), files, columns).await?;
        self.attach_read(cache, (tenant, namespace), read).await
    }

    /// The same with files that were read already, and that the cache pays for.
    async fn attach_read(
        &self,
        cache: &Cache,
        (tenant, namespace): (&Tenant, &Namespace),
        read: Unnamed,
    ) -> Result<Size> {
        let is_empty_below = async {
            let list = self.0.below.list(tenant, namespace, "", None, 1);
            list.await.map(|keys| keys.is_empty())
        };
        let rows = read.rows();
        cache
            .attach(tenant, namespace, rows, is_empty_below)
            .await?;
        let stats = cache.stats();
        let set = read.of(Version {
            hlc: cache.later_hlc(),
            start: stats.start,
        });
        let size = set.size();
        let mut sets = self.0.sets.write();
        sets.insert((tenant.clone(), namespace.clone()), Arc::new(set));
        self.0.any.store(true, Ordering::Release);
        Ok(size)
    }

    /// Ends that; gives how many rows there were. Who reads one goes on to its end.
    ///
    /// # Errors
    /// `failed_precondition` where it is not attached.
    pub async fn detach(
        &self,
        cache: &Cache,
        tenant: &Tenant,
        namespace: &Namespace,
    ) -> Result<u64> {
        let set = self.find(tenant, namespace).ok_or_else(|| {
            Error::precondition(format!(
                "the namespace is not attached to files; namespace=`{namespace}`"
            ))
        })?;
        let gone = || {
            set.close();
            self.0
                .sets
                .write()
                .remove(&(tenant.clone(), namespace.clone()));
        };
        cache.detach(tenant, namespace, gone).await;
        Ok(set.size().rows)
    }

    /// How much of files a namespace is; `None` where it is not attached.
    pub fn size_of(&self, tenant: &Tenant, namespace: &Namespace) -> Option<Size> {
        self.find(tenant, namespace).map(|set| set.size())
    }

    /// Before files are read for nothing.
    async fn check_empty(
        &self,
        cache: &Cache,
        tenant: &Tenant,
        namespace: &Namespace,
    ) -> Result<()> {
        if self.find(tenant, namespace).is_some() {
            return Err(Error::precondition(format!(
                "the namespace is attached to files already, `detach` it first; namespace=`{namespace}`"
            )));
        }
        let is_empty = cache.scan(tenant, namespace, "", None, 1).is_empty();
        let below = self.0.below.list(tenant, namespace, "", None, 1).await?;
        match is_empty && below.is_empty() {
            true => Ok(()),
            false => Err(not_empty(namespace)),
        }
    }

    /// Whether any was attached since the start.
    fn has_any(&self) -> bool {
        self.0.any.load(Ordering::Acquire)
    }

    fn find(&self, tenant: &Tenant, namespace: &Namespace) -> Option<Arc<Set>> {
        if !self.has_any() {
            return None;
        }
        let sets = self.0.sets.read();
        sets.get(&(tenant.clone(), namespace.clone())).cloned()
    }
}

fn not_empty(namespace: &Namespace) -> Error {
    Error::precondition(format!(
        "only an empty namespace can be attached to files; namespace=`{namespace}`, use another one or `clear` it"
    ))
}
