//! What is known of a key, wherever its bytes are.

use std::borrow::Borrow;

use bowstring_wire::dtype::DType;
use bowstring_wire::error::Result;
use bowstring_wire::name::{Key, Namespace, Tenant};
use bowstring_wire::shape::Shape;
use bowstring_wire::version::Version;

use crate::ahead::AHEAD_MAX;
use crate::cache::Cache;
use crate::generation::Generation;
use crate::id::Id;
use crate::lower::Description;
use crate::read::Entry;

/// Keys that are asked for below at one time.
const STEP: usize = 256;

/// An entry in memory, pinned, or one below it.
pub enum Known<E = Entry, D = Box<Description>> {
    /// In memory.
    Hot(E),
    /// Below it.
    Cold(D),
}

impl Known {
    /// What is known of a key; leaves no mark.
    ///
    /// # Errors
    /// Whatever the tier below meets.
    pub async fn find(cache: &Cache, id: &Id) -> Result<Option<Self>> {
        match cache.peek(id) {
            Some(entry) => Ok(Some(Self::Hot(entry))),
            None => Ok(cache
                .describe_below(id)
                .await?
                .map(Box::new)
                .map(Self::Cold)),
        }
    }
}

impl<E: Borrow<Entry>, D: Borrow<Description>> Known<E, D> {
    /// The key.
    pub fn key(&self) -> &str {
        match self {
            Self::Hot(entry) => entry.borrow().key(),
            Self::Cold(below) => below.borrow().id.key.as_str(),
        }
    }

    /// Element type and shape.
    pub fn description(&self) -> (DType, Shape) {
        match self {
            Self::Hot(entry) => entry.borrow().description(),
            Self::Cold(below) => (below.borrow().dtype, below.borrow().shape.clone()),
        }
    }

    /// Bytes of the tensor.
    pub fn bytes(&self) -> u64 {
        match self {
            Self::Hot(entry) => entry.borrow().len(),
            Self::Cold(below) => below.borrow().len,
        }
    }

    /// Which of the key's tensors.
    pub fn version(&self) -> Version {
        match self {
            Self::Hot(entry) => entry.borrow().version(),
            Self::Cold(below) => below.borrow().version,
        }
    }

    /// xxh3-128 of the tensor's bytes, where that is known without reading them.
    pub fn checksum(&self) -> Option<u128> {
        match self {
            Self::Hot(entry) => Some(entry.borrow().checksum()),
            Self::Cold(below) => (!below.borrow().attached).then(|| below.borrow().checksum),
        }
    }

    /// As it was put.
    pub fn metadata(&self) -> &[u8] {
        match self {
            Self::Hot(entry) => entry.borrow().metadata(),
            Self::Cold(below) => &below.borrow().metadata,
        }
    }

    /// Unix milliseconds from when on it is a miss.
    pub fn expires_at_ms(&self) -> Option<u64> {
        match self {
            Self::Hot(entry) => entry.borrow().expires_at_ms(),
            Self::Cold(below) => below.borrow().expires_at_ms,
        }
    }

    /// Milliseconds until it expires.
    pub fn ttl_ms(&self, cache: &Cache) -> Option<u64> {
        let at = self.expires_at_ms();
        at.map(|at| at.saturating_sub(cache.clock().now_ms()))
    }

    /// The version that its source gave it.
    pub fn source_version(&self) -> Option<i64> {
        match self {
            Self::Hot(entry) => entry.borrow().source_version(),
            Self::Cold(below) => below.borrow().source_version,
        }
    }

    /// Whether its user has pinned it, which keeps it in memory.
    pub fn is_pinned(&self) -> bool {
        matches!(self, Self::Hot(entry) if entry.borrow().is_kept())
    }

    /// How often it was asked for, as far as that is counted.
    pub fn hits(&self) -> u64 {
        match self {
            Self::Hot(entry) => entry.borrow().hits().into(),
            Self::Cold(_) => 0,
        }
    }

    /// When it was last asked for, in Unix milliseconds, to the second, as far as that is kept.
    pub fn last_access_ms(&self) -> Option<u64> {
        match self {
            Self::Hot(entry) => Some(entry.borrow().last_access_ms()),
            Self::Cold(_) => None,
        }
    }

    /// Where its bytes are, in replies.
    pub fn tier(&self) -> &'static str {
        match self {
            Self::Hot(_) => "hot",
            Self::Cold(below) if below.borrow().attached => "attached",
            Self::Cold(_) => "cold",
        }
    }
}

/// What `of` makes of each key, in order. Those that memory has not are looked up together; an entry is pinned only
/// while `of` looks at it.
///
/// # Errors
/// Whatever the tier below meets; those of `of`.
pub async fn each<T>(
    cache: &Cache,
    tenant: &Tenant,
    (namespace, keys): (&Namespace, &[Key]),
    generation: Option<&Generation>,
    mut of: impl FnMut(Option<Known>) -> Result<T>,
) -> Result<Vec<T>> {
    let mut found = Vec::with_capacity(keys.len());
    for step in keys.chunks(STEP) {
        let first = found.len();
        let mut missing = Vec::new();
        for few in step.chunks(AHEAD_MAX) {
            let hint = few.iter().map(|key| (namespace, key.as_str()));
            cache.look_ahead(tenant, hint);
            for key in few {
                let id = Id {
                    tenant: tenant.clone(),
                    namespace: namespace.clone(),
                    key: key.clone(),
                };
                let entry = match generation {
                    Some(generation) => cache.peek_in(generation, &id),
                    None => cache.peek(&id),
                };
                match entry {
                    Some(entry) => found.push(Some(of(Some(Known::Hot(entry)))?)),
                    None => {
                        missing.push(id);
                        found.push(None);
                    }
                }
            }
        }
        let is_present = generation.is_none_or(Generation::is_present);
        let below = match is_present && !missing.is_empty() {
            true => cache.lower().describe_all(&missing).await?,
            false => Vec::new(),
        };
        let mut below = below.into_iter();
        for place in &mut found[first..] {
            if place.is_none() {
                *place = Some(of(below.next().flatten().map(Box::new).map(Known::Cold))?);
            }
        }
    }
    Ok(found.into_iter().flatten().collect())
}
