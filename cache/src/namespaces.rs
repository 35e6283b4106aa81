//! Namespaces: a number for each (tenant, namespace), its keys in order, and its counters.
//!
//! A record keeps the number. Whoever compares a key goes from the number to the names without a
//! lock; from names to number, which only writers and listings need, there is a map behind a lock.
//! There are at most `namespaces_max` names: a stranger who makes them up is refused, instead of
//! filling memory with them.
//!
//! A namespace has a number for each generation of its entries: the first, its home, which has what
//! all of them share, and one for each load ([`crate::loads`]) that is open or was committed. A
//! generation that is empty again is used again, by the same namespace. What a namespace shows of
//! its generations is its [`View`].

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use bowstring_wire::error::{Error, Result};
use bowstring_wire::name::{Key, Namespace, Tenant};
use bowstring_wire::version::Version;
use parking_lot::{Mutex, RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::ahead::Fetch;
use crate::engine::Engine;
use crate::index::record::ID_MAX;
use crate::index::{Budget, Order, Range};
use crate::layers::{Merged, Shadow};
use crate::settings::Own;
use crate::snapshot::Watches;
use crate::stats::NamespaceStats;
use crate::view::{Readers, Role, View, Word};

const CHUNK: usize = 64;
/// Generations beyond the first, over all namespaces.
const GENERATIONS_MAX: u32 = 65_536;

type Chunk = Box<[OnceLock<Space>]>;

/// One generation of one namespace of one tenant.
pub(crate) struct Space {
    pub(crate) tenant: Tenant,
    pub(crate) namespace: Namespace,
    /// The number of the namespace's first generation.
    pub(crate) home: u32,
    /// Its keys. Written under the lock of a key's shard; a scan only reads. Of two generations of
    /// a namespace, the base's is locked first; while it is, the view does not change.
    pub(crate) order: RwLock<Order>,
    pub(crate) entries: AtomicU64,
    pub(crate) bytes: AtomicU64,
    /// Of these, what its load brought.
    pub(crate) loaded_entries: AtomicU64,
    pub(crate) loaded_bytes: AtomicU64,
    /// The open load that fills it, 0 where there is none. Changed under the order's lock.
    pub(crate) load: AtomicU32,
    /// Who may look into it by a view that is not the present one.
    pub(crate) readers: Readers,
    /// Whether some of it has gone since no view shows it: who still looks into it does not know
    /// what it was over.
    pub(crate) lost: AtomicBool,
    /// From here on the home's: gets that found their key.
    pub(crate) hits: Alone,
    /// What all generations share.
    pub(crate) own: Arc<Own>,
    /// What the namespace shows.
    pub(crate) word: Word,
    /// What the load over the base hides of it.
    pub(crate) shadow: Mutex<Shadow>,
    /// What has come up from below while the last load can be rolled back: it may be that load's.
    pub(crate) brought: Mutex<Vec<(Key, Version)>>,
    /// Who is told of what leaves.
    pub(crate) watches: Watches,
    /// Held by whoever commits or rolls back: one at a time.
    pub(crate) turn: tokio::sync::Mutex<()>,
    /// Whether what is evicted of it goes for good, not below: what it shows is just being changed.
    pub(crate) changes: AtomicBool,
}

/// A counter that every hit moves, on cache lines that nothing else is on.
#[derive(Default)]
#[repr(align(128))]
pub(crate) struct Alone(pub(crate) AtomicU64);

pub(crate) struct Namespaces {
    chunks: Box<[OnceLock<Chunk>]>,
    numbers: RwLock<Numbers>,
    max: u32,
    budget: Arc<dyn Budget>,
}

#[derive(Default)]
struct Numbers {
    homes: BTreeMap<(Tenant, Namespace), u32>,
    next: u32,
    /// Empty generations of each home.
    spare: BTreeMap<u32, Vec<u32>>,
}

/// The base of a namespace, its order locked: the view stays as it is meanwhile.
pub(crate) struct Base<'a> {
    pub(crate) view: View,
    pub(crate) space: &'a Space,
    pub(crate) order: RwLockWriteGuard<'a, Order>,
}

/// The orders of what a namespace shows, locked for reading.
pub(crate) struct Shown<'a> {
    view: View,
    base: RwLockReadGuard<'a, Order>,
    beside: Option<RwLockReadGuard<'a, Order>>,
    lost: bool,
}

impl Shown<'_> {
    /// The keys that begin with `prefix`, behind `after`, in order.
    pub(crate) fn keys<'a>(
        &'a self,
        engine: &'a Engine,
        prefix: &[u8],
        after: Option<&[u8]>,
    ) -> Merged<'a> {
        let orders = (&*self.base, self.beside.as_deref());
        let view = (self.view, self.lost);
        Merged::new(engine, view, orders, prefix, after, Fetch::Heads)
    }

    /// All keys in order, where none of the base is hidden and nothing is beside it: no entry is looked at for that.
    pub(crate) fn plain_keys<'a>(&'a self, engine: &Engine) -> Option<Range<'a>> {
        // The view is the present one, so whatever the base has belongs to it.
        let is_plain = self.view.is_first() && !self.lost;
        is_plain.then(|| self.base.prefix(b"", None, engine))
    }

    /// As [`Shown::keys`], with those of the base that are not shown because it is
    /// [lost](Namespaces::is_lost) what was over them; and whether it is.
    pub(crate) fn keys_with_lost<'a>(
        &'a self,
        engine: &'a Engine,
        prefix: &[u8],
        after: Option<&[u8]>,
        fetch: Fetch,
    ) -> (Merged<'a>, bool) {
        let orders = (&*self.base, self.beside.as_deref());
        let merged = Merged::new(engine, (self.view, false), orders, prefix, after, fetch);
        (merged, self.lost)
    }
}

impl Namespaces {
    pub(crate) fn new(max: u32, budget: Arc<dyn Budget>) -> Self {
        let max = max.min(ID_MAX - GENERATIONS_MAX);
        Self {
            chunks: (0..((max + GENERATIONS_MAX) as usize).div_ceil(CHUNK))
                .map(|_| OnceLock::new())
                .collect(),
            numbers: RwLock::default(),
            max,
            budget,
        }
    }

    /// The home of a namespace that something was put into before.
    pub(crate) fn find(&self, tenant: &Tenant, namespace: &Namespace) -> Option<u32> {
        let names = (tenant.clone(), namespace.clone());
        self.numbers.read().homes.get(&names).copied()
    }

    /// The home of a namespace, a new one where it has none.
    ///
    /// # Errors
    /// `resource_exhausted` when there are as many as there may be, or no memory for one more.
    pub(crate) fn intern(&self, tenant: &Tenant, namespace: &Namespace) -> Result<u32> {
        if let Some(number) = self.find(tenant, namespace) {
            return Ok(number);
        }
        let mut numbers = self.numbers.write();
        let names = (tenant.clone(), namespace.clone());
        if let Some(number) = numbers.homes.get(&names) {
            return Ok(*number);
        }
        if numbers.homes.len() >= self.max as usize {
            return Err(Error::exhausted(format!(
                "too many namespaces; limit=`namespaces_max` value=`{}`",
                self.max
            )));
        }
        let home = numbers.next;
        self.add(home, home, &names)?;
        numbers.next += 1;
        numbers.homes.insert(names, home);
        Ok(home)
    }

    /// An empty generation more for a namespace.
    ///
    /// # Errors
    /// As [`Namespaces::intern`].
    pub(crate) fn generation(&self, home: u32) -> Result<u32> {
        let mut numbers = self.numbers.write();
        if let Some(number) = numbers.spare.get_mut(&home).and_then(Vec::pop) {
            return Ok(number);
        }
        let Some(space) = self.at(home) else {
            return Err(Error::internal("a namespace is not known"));
        };
        let number = numbers.next;
        if number as usize >= numbers.homes.len() + GENERATIONS_MAX as usize {
            return Err(Error::exhausted(format!(
                "too many generations of namespaces; limit=`generations_max` \
                 value=`{GENERATIONS_MAX}`"
            )));
        }
        self.add(
            number,
            home,
            &(space.tenant.clone(), space.namespace.clone()),
        )?;
        numbers.next += 1;
        Ok(number)
    }

    /// Takes back an empty generation that no view shows and nobody looks into.
    pub(crate) fn recycle(&self, number: u32) {
        if let Some(space) = self.at(number) {
            space.lost.store(false, Ordering::Release);
            let mut numbers = self.numbers.write();
            numbers.spare.entry(space.home).or_default().push(number);
        }
    }

    fn add(&self, number: u32, home: u32, (tenant, namespace): &(Tenant, Namespace)) -> Result<()> {
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
        let own = self.at(home).map(|home| Arc::clone(&home.own));
        let own = own.unwrap_or_default();
        let spaces = chunk.get_or_init(|| (0..CHUNK).map(|_| OnceLock::new()).collect());
        spaces[number as usize % CHUNK].get_or_init(|| Space {
            tenant: tenant.clone(),
            namespace: namespace.clone(),
            home,
            order: RwLock::new(Order::new(Arc::clone(&self.budget))),
            entries: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            loaded_entries: AtomicU64::new(0),
            loaded_bytes: AtomicU64::new(0),
            load: AtomicU32::new(0),
            readers: Readers::default(),
            lost: AtomicBool::new(false),
            hits: Alone::default(),
            own,
            word: Word::new(View::first(number)),
            shadow: Mutex::default(),
            brought: Mutex::default(),
            watches: Watches::default(),
            turn: tokio::sync::Mutex::default(),
            changes: AtomicBool::new(false),
        });
        Ok(())
    }

    /// The generation of a number that a record has.
    pub(crate) fn at(&self, number: u32) -> Option<&Space> {
        let chunk = self.chunks.get(number as usize / CHUNK)?.get()?;
        chunk[number as usize % CHUNK].get()
    }

    /// The home of a generation, which may be itself.
    pub(crate) fn home_of<'a>(&'a self, space: &'a Space) -> &'a Space {
        self.at(space.home).unwrap_or(space)
    }

    /// Locks the base of a namespace.
    pub(crate) fn base<'a>(&'a self, home: &'a Space) -> Base<'a> {
        loop {
            let view = home.view();
            let space = self.at(view.base()).unwrap_or(home);
            let order = space.order.write();
            if home.view() == view {
                return Base { view, space, order };
            }
        }
    }

    /// What a namespace shows, for a scan: nobody adds a key or takes one away meanwhile.
    pub(crate) fn shown<'a>(&'a self, home: &'a Space) -> Shown<'a> {
        loop {
            let view = home.view();
            let base = self.at(view.base()).unwrap_or(home).order.read();
            if home.view() == view {
                let beside = self.read_beside(view);
                return Shown {
                    view,
                    base,
                    beside,
                    lost: false,
                };
            }
        }
    }

    /// As [`Namespaces::shown`], by a view that is held.
    pub(crate) fn shown_by<'a>(&'a self, view: View, base: &'a Space) -> Shown<'a> {
        let base = base.order.read();
        let beside = self.read_beside(view);
        Shown {
            view,
            base,
            beside,
            lost: self.is_lost(view),
        }
    }

    /// Whether who goes by this view can no longer tell what its load was over: nothing of the base
    /// is shown then, lest it should be older than the rest.
    pub(crate) fn is_lost(&self, view: View) -> bool {
        let over = self.beside(view).filter(|_| view.role() == Role::Over);
        over.is_some_and(|over| over.lost.load(Ordering::Acquire))
    }

    fn read_beside(&self, view: View) -> Option<RwLockReadGuard<'_, Order>> {
        let beside = self.beside(view).filter(|_| view.is_layered());
        beside.map(|beside| beside.order.read())
    }

    /// The generation beside the base of a view.
    pub(crate) fn beside(&self, view: View) -> Option<&Space> {
        self.at(view.beside()?)
    }

    /// The names of all, of all tenants.
    pub(crate) fn names(&self) -> Vec<(Tenant, Namespace)> {
        self.numbers.read().homes.keys().cloned().collect()
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
            .homes
            .range((from, Bound::Unbounded))
            .take_while(|((of, _), _)| of == tenant)
            .take(limit)
            .filter_map(|(_, number)| self.at(*number))
            .map(|home| self.stats(home))
            .collect()
    }

    /// At most `limit` namespaces, in the order in which they came.
    pub(crate) fn first(&self, limit: usize) -> Vec<NamespaceStats> {
        let homes = self.homes().take(limit);
        homes.map(|home| self.stats(home)).collect()
    }

    /// How many there are, of all tenants.
    pub(crate) fn count(&self) -> u32 {
        u32::try_from(self.numbers.read().homes.len()).unwrap_or(u32::MAX)
    }

    /// How many there may be.
    pub(crate) fn max(&self) -> u32 {
        self.max
    }

    /// Every generation of every namespace, with its number.
    pub(crate) fn all(&self) -> impl Iterator<Item = (u32, &Space)> {
        let next = self.numbers.read().next;
        (0..next).filter_map(|number| Some((number, self.at(number)?)))
    }

    /// Sums over all namespaces.
    pub(crate) fn totals(&self) -> Totals {
        let mut totals = Totals::default();
        for home in self.homes() {
            let visible = self.visible(home);
            totals.entries += visible.entries;
            totals.bytes += visible.bytes;
            totals.hits += visible.hits;
        }
        totals
    }

    fn homes(&self) -> impl Iterator<Item = &Space> {
        let homes = self.all().filter(|(number, space)| space.home == *number);
        homes.map(|(_, home)| home)
    }

    /// What a limit of a namespace is for: what it shows, or what an open load has.
    pub(crate) fn counted(&self, space: &Space) -> Totals {
        if space.load.load(Ordering::Relaxed) == 0 {
            return self.visible(self.home_of(space));
        }
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Totals {
            entries: read(&space.entries),
            bytes: read(&space.bytes),
            hits: 0,
        }
    }

    fn stats(&self, home: &Space) -> NamespaceStats {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let (settings, settings_version) = home.own.settings();
        let totals = self.visible(home);
        let attached_rows = read(&home.own.attached_rows);
        NamespaceStats {
            namespace: home.namespace.clone(),
            entries: totals.entries,
            bytes: totals.bytes,
            hits: totals.hits,
            misses: read(&home.own.misses.0),
            evicted: read(&home.own.evicted),
            expired: read(&home.own.expired),
            settings,
            settings_version,
            attached_rows: (attached_rows > 0).then_some(attached_rows),
        }
    }

    /// What a namespace shows.
    fn visible(&self, home: &Space) -> Totals {
        let view = home.view();
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let base = self.at(view.base()).unwrap_or(home);
        let mut totals = Totals {
            entries: read(&base.entries),
            bytes: read(&base.bytes),
            hits: read(&home.hits.0),
        };
        let Some(beside) = self.beside(view) else {
            return totals;
        };
        // The counters are read one after the other, while others change them.
        let mut add = |entries: u64, bytes: u64, less_entries: u64, less_bytes: u64| {
            totals.entries = (totals.entries + entries).saturating_sub(less_entries);
            totals.bytes = (totals.bytes + bytes).saturating_sub(less_bytes);
        };
        match view.role() {
            Role::Over => {
                let shadow = home.shadow.lock();
                add(
                    read(&beside.entries),
                    read(&beside.bytes),
                    shadow.entries,
                    shadow.bytes,
                );
            }
            Role::Back => add(
                read(&beside.entries),
                read(&beside.bytes),
                read(&beside.loaded_entries),
                read(&beside.loaded_bytes),
            ),
            Role::Alone | Role::Kept => {}
        }
        totals
    }
}

impl Space {
    /// What the namespace shows: the home's.
    pub(crate) fn view(&self) -> View {
        self.word.view()
    }

    /// For who has the base locked.
    pub(crate) fn set_view(&self, view: View) {
        self.word.set(view);
    }

    /// An entry has come; `loaded`: its load brought it.
    pub(crate) fn add(&self, bytes: u64, loaded: bool) {
        self.add_all(1, bytes, loaded);
    }

    /// So many entries have come, of so many bytes together.
    pub(crate) fn add_all(&self, entries: u64, bytes: u64, loaded: bool) {
        self.entries.fetch_add(entries, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        if loaded {
            self.loaded_entries.fetch_add(entries, Ordering::Relaxed);
            self.loaded_bytes.fetch_add(bytes, Ordering::Relaxed);
        }
    }

    /// An entry has gone.
    pub(crate) fn subtract(&self, bytes: u64, loaded: bool) {
        self.subtract_all(1, bytes, loaded);
    }

    /// So many entries have gone, of so many bytes together.
    pub(crate) fn subtract_all(&self, entries: u64, bytes: u64, loaded: bool) {
        self.entries.fetch_sub(entries, Ordering::Relaxed);
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
        if loaded {
            self.loaded_entries.fetch_sub(entries, Ordering::Relaxed);
            self.loaded_bytes.fetch_sub(bytes, Ordering::Relaxed);
        }
    }

    /// What its entries take, about: for limits, not for the ledger.
    pub(crate) fn footprint_bytes(&self) -> u64 {
        let entries = self.entries.load(Ordering::Relaxed);
        self.bytes.load(Ordering::Relaxed) + entries * ENTRY_BYTES
    }
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Totals {
    pub(crate) entries: u64,
    pub(crate) bytes: u64,
    pub(crate) hits: u64,
}

/// What an entry takes beside its tensor's bytes: record, index, head and waste.
pub(crate) const ENTRY_BYTES: u64 = 128;
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
