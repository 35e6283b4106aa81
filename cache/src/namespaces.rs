//! Namespaces: a number for each (tenant, namespace), its keys in order, and its counters.
//!
//! A record keeps the number. Whoever compares a key goes from the number to the names without a
//! lock; from names to number, which only writers and listings need, there is a map behind a lock.
//! Numbers are not used twice, and there are at most `namespaces_max` of them: a stranger who
//! makes up names is refused, instead of filling memory with them.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use bowstring_wire::error::{Error, Result};
use bowstring_wire::name::{Namespace, Tenant};
use parking_lot::RwLock;

use crate::index::{Budget, Order};
use crate::settings::Own;
use crate::stats::NamespaceStats;

const CHUNK: usize = 64;

type Chunk = Box<[OnceLock<Space>]>;

/// One namespace of one tenant.
pub(crate) struct Space {
    pub(crate) tenant: Tenant,
    pub(crate) namespace: Namespace,
    /// Its keys. Written under the lock of a key's shard; a scan only reads.
    pub(crate) order: RwLock<Order>,
    pub(crate) entries: AtomicU64,
    pub(crate) bytes: AtomicU64,
    pub(crate) hits: Alone,
    pub(crate) own: Own,
}

/// A counter that every hit moves, on cache lines that nothing else is on.
#[derive(Default)]
#[repr(align(128))]
pub(crate) struct Alone(pub(crate) AtomicU64);

pub(crate) struct Namespaces {
    chunks: Box<[OnceLock<Chunk>]>,
    numbers: RwLock<BTreeMap<(Tenant, Namespace), u32>>,
    max: u32,
    budget: Arc<dyn Budget>,
}

impl Namespaces {
    pub(crate) fn new(max: u32, budget: Arc<dyn Budget>) -> Self {
        Self {
            chunks: (0..(max as usize).div_ceil(CHUNK))
                .map(|_| OnceLock::new())
                .collect(),
            numbers: RwLock::default(),
            max,
            budget,
        }
    }

    /// The number of a namespace that something was put into before.
    pub(crate) fn find(&self, tenant: &Tenant, namespace: &Namespace) -> Option<u32> {
        let names = (tenant.clone(), namespace.clone());
        self.numbers.read().get(&names).copied()
    }

    /// The number of a namespace, a new one where it has none.
    ///
    /// # Errors
    /// `resource_exhausted` when there are as many as there may be, or no memory for one more.
    pub(crate) fn intern(&self, tenant: &Tenant, namespace: &Namespace) -> Result<u32> {
        if let Some(number) = self.find(tenant, namespace) {
            return Ok(number);
        }
        let mut numbers = self.numbers.write();
        if let Some(number) = numbers.get(&(tenant.clone(), namespace.clone())) {
            return Ok(*number);
        }
        let number = u32::try_from(numbers.len()).unwrap_or(u32::MAX);
        if number >= self.max {
            return Err(Error::exhausted(format!(
                "too many namespaces; limit=`namespaces_max` value=`{}`",
                self.max
            )));
        }
        let chunk = &self.chunks[number as usize / CHUNK];
        let names = (tenant.as_str().len() + namespace.as_str().len()) as u64;
        let fixed = if chunk.get().is_some() {
            0
        } else {
            CHUNK_BYTES
        };
        if !self.budget.charge(names + NODE_BYTES + fixed) {
            return Err(Error::exhausted(
                "no memory for another namespace; limit=`memory`",
            ));
        }
        let spaces = chunk.get_or_init(|| (0..CHUNK).map(|_| OnceLock::new()).collect());
        spaces[number as usize % CHUNK].get_or_init(|| Space {
            tenant: tenant.clone(),
            namespace: namespace.clone(),
            order: RwLock::new(Order::new(Arc::clone(&self.budget))),
            entries: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            hits: Alone::default(),
            own: Own::default(),
        });
        numbers.insert((tenant.clone(), namespace.clone()), number);
        Ok(number)
    }

    /// The namespace of a number that a record has.
    pub(crate) fn at(&self, number: u32) -> Option<&Space> {
        let chunk = self.chunks.get(number as usize / CHUNK)?.get()?;
        chunk[number as usize % CHUNK].get()
    }

    /// At most `limit` of a tenant's namespaces, in order of their names, behind `after`.
    pub(crate) fn of_tenant(
        &self,
        tenant: &Tenant,
        after: Option<&Namespace>,
        limit: usize,
    ) -> Vec<NamespaceStats> {
        let numbers = self.numbers.read();
        let from = match after {
            Some(after) => Bound::Excluded((tenant.clone(), after.clone())),
            // No name sorts before `-`, the first character of the alphabet that they share.
            None => Bound::Included((tenant.clone(), Namespace::parse("-").unwrap_or_default())),
        };
        numbers
            .range((from, Bound::Unbounded))
            .take_while(|((of, _), _)| of == tenant)
            .take(limit)
            .filter_map(|(_, number)| self.at(*number))
            .map(Space::stats)
            .collect()
    }

    /// At most `limit` namespaces, in the order in which they came.
    pub(crate) fn first(&self, limit: usize) -> Vec<NamespaceStats> {
        let count = self.count().min(u32::try_from(limit).unwrap_or(u32::MAX));
        let spaces = (0..count).filter_map(|number| self.at(number));
        spaces.map(Space::stats).collect()
    }

    /// How many there are, of all tenants.
    pub(crate) fn count(&self) -> u32 {
        u32::try_from(self.numbers.read().len()).unwrap_or(u32::MAX)
    }

    /// How many there may be.
    pub(crate) fn max(&self) -> u32 {
        self.max
    }

    /// Sums over all namespaces.
    pub(crate) fn totals(&self) -> Totals {
        let mut totals = Totals::default();
        for space in (0..self.count()).filter_map(|number| self.at(number)) {
            totals.entries += space.entries.load(Ordering::Relaxed);
            totals.bytes += space.bytes.load(Ordering::Relaxed);
            totals.hits += space.hits.0.load(Ordering::Relaxed);
        }
        totals
    }
}

impl Space {
    fn stats(&self) -> NamespaceStats {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let (settings, settings_version) = self.own.settings();
        NamespaceStats {
            namespace: self.namespace.clone(),
            entries: read(&self.entries),
            bytes: read(&self.bytes),
            hits: read(&self.hits.0),
            misses: read(&self.own.misses.0),
            evicted: read(&self.own.evicted),
            expired: read(&self.own.expired),
            settings,
            settings_version,
        }
    }
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Totals {
    pub(crate) entries: u64,
    pub(crate) bytes: u64,
    pub(crate) hits: u64,
}

const CHUNK_BYTES: u64 = (CHUNK * size_of::<OnceLock<Space>>()) as u64;
/// A node's share in the map, and the reference counts of two names.
const NODE_BYTES: u64 = 160;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::index::Unlimited;

    fn name(text: &str) -> Namespace {
        Namespace::parse(text).unwrap()
    }

    #[test]
    fn names_get_one_number_and_list_in_order() {
        let spaces = Namespaces::new(100, Arc::new(Unlimited));
        let (us, them) = (Tenant::public(), Tenant::parse("a").unwrap());
        assert_eq!(spaces.find(&us, &name("x")), None);
        let x = spaces.intern(&us, &name("x")).unwrap();
        assert_eq!(spaces.intern(&us, &name("x")), Ok(x));
        assert_ne!(spaces.intern(&them, &name("x")), Ok(x));
        spaces.intern(&us, &name("-")).unwrap();
        spaces.intern(&us, &Namespace::default()).unwrap();
        assert_eq!(spaces.at(x).unwrap().namespace, name("x"));
        assert!(spaces.at(4).is_none() && spaces.at(1_000).is_none());
        let listed: Vec<_> = spaces.of_tenant(&us, Some(&name("-")), 1);
        assert_eq!(listed[0].namespace, Namespace::default());
        let listed: Vec<_> = spaces.of_tenant(&us, None, 9);
        let listed: Vec<_> = listed.iter().map(|s| s.namespace.as_str()).collect();
        assert_eq!(listed, ["-", "default", "x"]);
    }

    #[test]
    fn there_are_only_so_many() {
        let spaces = Namespaces::new(2, Arc::new(Unlimited));
        let us = Tenant::public();
        assert_eq!(spaces.intern(&us, &name("a")), Ok(0));
        assert_eq!(spaces.intern(&us, &name("b")), Ok(1));
        let refused = spaces.intern(&us, &name("c")).unwrap_err().to_string();
        assert!(
            refused.contains("namespaces_max") && refused.contains("`2`"),
            "{refused}"
        );
        assert_eq!(spaces.intern(&us, &name("a")), Ok(0));
    }
}
