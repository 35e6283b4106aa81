//! What a namespace has of its own: settings, limits, counters.
//!
//! A namespace at a limit lets its own entries go for what comes, and nobody else's. Which of them:
//! the one of a few drawn at random that was not asked for longest, as no policy keeps an order for
//! each namespace, and one for all of them would cost eight bytes an entry more. Limits hold
//! exactly: they are judged under the lock of the namespace's order.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bowstring_wire::error::{Error, Result};
use bowstring_wire::name::{Namespace, Tenant};
use bowstring_wire::settings::{NamespaceSettings, SettingsChange};
use bowstring_wire::version::Version;
use parking_lot::RwLock;

use crate::cache::Cache;
use crate::engine::Engine;
use crate::event::{Cause, Why};
use crate::index::record::ACCESS_MODULUS;
use crate::index::{Handle, Record};
use crate::lower::SettingsOf;
use crate::namespaces::{Alone, Space, Totals};

/// Entries that are compared for one to go. Redis takes 5 of them by default, 10 to be near to true
/// LRU.
const SAMPLE: u32 = 16;
/// Entries that are looked at for those: some may be pinned, or just being read.
const LOOKS_MAX: u64 = 512;
/// In a namespace of no more entries, all are compared.
const ALL_MAX: u64 = 64;
/// Entries that go before others run.
const VICTIMS_A_TURN: u32 = 256;
/// No limit.
const NONE: u64 = u64::MAX;
/// The version of settings that were never set.
const NEVER: Version = Version { hlc: 0, start: 0 };

/// See above. Counters count from the start.
pub(crate) struct Own {
    held: RwLock<Held>,
    /// One change at a time: it may wait for what is below.
    turn: tokio::sync::Mutex<()>,
    /// The limits once more, for those who hold the order's lock.
    bytes_max: AtomicU64,
    entries_max: AtomicU64,
    /// 0 where there is none.
    default_ttl_ms: AtomicU64,
    /// Whether its entries are rows of files, which nobody changes. Written with the base locked.
    pub(crate) attached: AtomicBool,
    /// How many of these there are; 0 where it is not attached.
    pub(crate) attached_rows: AtomicU64,
    pub(crate) misses: Alone,
    pub(crate) evicted: AtomicU64,
    pub(crate) expired: AtomicU64,
}

#[derive(Default)]
struct Held {
    /// What calls have set.
    given: NamespaceSettings,
    /// What the settings file says, which nobody changes.
    fixed: SettingsChange,
    /// Both together.
    settings: NamespaceSettings,
    version: Option<Version>,
}

impl Default for Own {
    fn default() -> Self {
        Self {
            held: RwLock::default(),
            turn: tokio::sync::Mutex::default(),
            bytes_max: AtomicU64::new(NONE),
            entries_max: AtomicU64::new(NONE),
            default_ttl_ms: AtomicU64::new(0),
            attached: AtomicBool::new(false),
            attached_rows: AtomicU64::new(0),
            misses: Alone::default(),
            evicted: AtomicU64::new(0),
            expired: AtomicU64::new(0),
        }
    }
}

impl Own {
    /// What is set, and its version.
    pub(crate) fn settings(&self) -> (NamespaceSettings, Option<Version>) {
        let held = self.held.read();
        (held.settings.clone(), held.version)
    }

    /// What calls have set, without what the settings file says, and the version.
    pub(crate) fn given(&self) -> (NamespaceSettings, Option<Version>) {
        let held = self.held.read();
        (held.given.clone(), held.version)
    }

    /// Takes over what calls have set before this start, where that is later than what is there.
    pub(crate) fn adopt(&self, given: NamespaceSettings, version: Version) {
        let mut held = self.held.write();
        if held.version < Some(version) {
            self.set(&mut held, given, version);
        }
    }

    fn set(&self, held: &mut Held, given: NamespaceSettings, version: Version) {
        let settings = held.fixed.apply(&given);
        let limit = |max: Option<u64>| max.unwrap_or(NONE);
        self.bytes_max
            .store(limit(settings.bytes_max), Ordering::Relaxed);
        self.entries_max
            .store(limit(settings.entries_max), Ordering::Relaxed);
        let ttl = settings.default_ttl_ms.unwrap_or(0);
        self.default_ttl_ms.store(ttl, Ordering::Relaxed);
        held.given = given;
        held.settings = settings;
        held.version = Some(version);
    }
}

impl Held {
    /// The version, where the settings may be changed so.
    fn check(
        &self,
        namespace: &Namespace,
        change: &SettingsChange,
        if_version: Option<Version>,
    ) -> Result<Version> {
        let version = self.version.unwrap_or(NEVER);
        if let Some(wanted) = if_version.filter(|wanted| *wanted != version) {
            return Err(Error::precondition(format!(
                "the settings have another version; namespace=`{}` version=`{version}` \
                 if_version=`{wanted}`",
                namespace.as_str()
            )));
        }
        if let Some(name) = change.differs_from(&self.fixed) {
            return Err(Error::precondition(format!(
                "a setting is fixed by the settings file; namespace=`{}` setting=`{name}`",
                namespace.as_str()
            )));
        }
        Ok(version)
    }
}

impl Cache {
    /// Settings of a namespace, as they are; those of one that is not there are none.
    pub fn settings(&self, tenant: &Tenant, namespace: &Namespace) -> NamespaceSettings {
        let spaces = &self.engine().spaces;
        let space = spaces
            .find(tenant, namespace)
            .and_then(|number| spaces.at(number));
        space.map_or_else(NamespaceSettings::default, |space| space.own.settings().0)
    }

    /// Changes settings of a namespace, and gives what they are now, with their version. What is below
    /// memory has them before. Where limits are lower than what is there, its entries go.
    ///
    /// # Errors
    /// `failed_precondition` where the settings have another version than `if_version` (0 where
    /// they were never set), or where one of them is fixed by [`Cache::fix_settings`];
    /// `resource_exhausted` for a namespace too many; those of
    /// [`LowerTier::keep_settings`](crate::lower::LowerTier::keep_settings). Then nothing is changed.
    pub async fn set_settings(
        &self,
        tenant: &Tenant,
        namespace: &Namespace,
        change: &SettingsChange,
        if_version: Option<Version>,
    ) -> Result<(NamespaceSettings, Version)> {
        let engine = self.engine();
        // Whoever only asks makes no namespace.
        let asks = *change == SettingsChange::default();
        let number = match engine.spaces.find(tenant, namespace) {
            Some(number) => number,
            None if asks && if_version.is_none_or(|wanted| wanted == NEVER) => {
                return Ok((NamespaceSettings::default(), NEVER));
            }
            None => engine.spaces.intern(tenant, namespace)?,
        };
        let Some(space) = engine.spaces.at(number) else {
            return Err(Error::internal("a namespace is not known"));
        };
        if asks {
            let held = space.own.held.read();
            let version = held.check(namespace, change, if_version)?;
            return Ok((held.settings.clone(), version));
        }
        let _one_at_a_time = space.own.turn.lock().await;
        let (settings, version) = {
            let held = space.own.held.read();
            held.check(namespace, change, if_version)?;
            let version = engine.hlc.next(engine.clock.now_ms());
            (change.apply(&held.given), version)
        };
        let of = SettingsOf {
            tenant: tenant.clone(),
            namespace: namespace.clone(),
            settings,
            version,
        };
        self.lower().keep_settings(&of).await?;
        let set = {
            let mut held = space.own.held.write();
            space.own.set(&mut held, of.settings, version);
            (held.settings.clone(), version)
        };
        // What cannot go, because it is pinned, stays: the limits are for what comes.
        engine.keep_own_limits(space).await;
        Ok(set)
    }

    /// Sets settings that nobody can change: what the settings file says. Called at the start.
    ///
    /// # Errors
    /// `resource_exhausted` for a namespace too many.
    pub fn fix_settings(
        &self,
        tenant: &Tenant,
        namespace: &Namespace,
        fixed: SettingsChange,
    ) -> Result<()> {
        let engine = self.engine();
        let number = engine.spaces.intern(tenant, namespace)?;
        if let Some(space) = engine.spaces.at(number) {
            let mut held = space.own.held.write();
            let given = held.given.clone();
            let version = engine.hlc.next(engine.clock.now_ms());
            held.fixed = fixed;
            space.own.set(&mut held, given, version);
        }
        Ok(())
    }

    /// Gives a namespace the settings that were kept of it, where it has no later ones. Called at the start.
    ///
    /// # Errors
    /// `resource_exhausted` for a namespace too many.
    pub fn restore_settings(&self, of: SettingsOf) -> Result<()> {
        let engine = self.engine();
        let number = engine.spaces.intern(&of.tenant, &of.namespace)?;
        if let Some(space) = engine.spaces.at(number) {
            space.own.adopt(of.settings, of.version);
        }
        engine.hlc.observe(of.version.hlc);
        Ok(())
    }
}

/// A limit of a namespace that would be passed by so much more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Over {
    limit: &'static str,
    value: u64,
    entries: u64,
    bytes: u64,
}

impl Space {
    /// Which limit a tensor of `bytes` would pass, in the place of `old` or beside all that there
    /// is. The order is locked. What takes the place of something larger always may.
    pub(crate) fn over_with(
        &self,
        shown: Totals,
        bytes: u64,
        old: Option<&Record>,
    ) -> Option<Over> {
        match old {
            None => self.over(shown, 1, bytes),
            Some(old) if bytes <= old.len() => None,
            Some(old) => self.over(shown, 0, bytes - old.len()),
        }
    }

    /// As [`Space::over_with`], for so many entries more of so many bytes together.
    pub(crate) fn over(&self, shown: Totals, entries: u64, bytes: u64) -> Option<Over> {
        let bytes_max = self.own.bytes_max.load(Ordering::Relaxed);
        let entries_max = self.own.entries_max.load(Ordering::Relaxed);
        let (limit, value) = if shown.bytes.saturating_add(bytes) > bytes_max {
            ("bytes_max", bytes_max)
        } else if shown.entries.saturating_add(entries) > entries_max {
            ("entries_max", entries_max)
        } else {
            return None;
        };
        Some(Over {
            limit,
            value,
            entries,
            bytes,
        })
    }

    /// When an entry expires whose put does not say.
    fn default_expiry(&self, now_ms: u64) -> Option<u64> {
        let ttl = self.own.default_ttl_ms.load(Ordering::Relaxed);
        (ttl > 0).then(|| now_ms.saturating_add(ttl))
    }

    /// An entry went.
    pub(crate) fn count_gone(&self, why: Why) {
        let counter = match why {
            Why::Evicted(_) => &self.own.evicted,
            Why::Expired => &self.own.expired,
            Why::Replaced | Why::Deleted => return,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

impl Engine {
    /// Refuses a tensor that its namespace may not hold even alone.
    pub(crate) fn check_own(&self, space: &Space, bytes: u64) -> Result<()> {
        let max = space.own.bytes_max.load(Ordering::Relaxed);
        if bytes <= max {
            return Ok(());
        }
        Err(Error::exhausted(format!(
            "tensor is too large for its namespace; namespace=`{}` bytes=`{bytes}` \
             limit=`bytes_max` value=`{max}`",
            space.namespace.as_str()
        )))
    }

    /// Lets a namespace's own entries go for a tensor of `bytes` that would pass a limit, but not
    /// `spare`, whose place it is to take.
    pub(crate) async fn make_own_room(
        self: &Arc<Self>,
        space: &Space,
        over: Over,
        bytes: u64,
        spare: Option<Handle>,
    ) -> Result<()> {
        self.check_own(space, bytes)?;
        // What an open load has does not go.
        let is_load = space.load.load(Ordering::Relaxed) != 0;
        if !is_load && self.evict_own(space, over, spare).await {
            return Ok(());
        }
        let shown = self.spaces.counted(space);
        Err(Error::exhausted(format!(
            "the namespace may hold no more, and nothing in it can go; namespace=`{}` limit=`{}` \
             value=`{}` wanted_bytes=`{bytes}` bytes=`{}` entries=`{}`",
            space.namespace.as_str(),
            over.limit,
            over.value,
            shown.bytes,
            shown.entries,
        )))
    }

    /// Lets go what is above a namespace's limits, as far as it can go.
    pub(crate) async fn keep_own_limits(self: &Arc<Self>, home: &Space) {
        while let Some(over) = home.over(self.spaces.counted(home), 0, 0) {
            if !self.evict_own(home, over, None).await {
                break;
            }
        }
    }

    /// Lets some of a namespace's entries go; false where none can and it is still too much.
    async fn evict_own(self: &Arc<Self>, space: &Space, over: Over, spare: Option<Handle>) -> bool {
        let mut any = false;
        for _ in 0..VICTIMS_A_TURN {
            let view = space.view();
            let generations = [self.spaces.at(view.base()), self.spaces.beside(view)];
            let mut generations = generations.into_iter().flatten();
            let victim = generations.find_map(|space| self.own_victim(space, spare));
            let Some(victim) = victim else {
                break;
            };
            // Others make room as well, and may have been quicker with this one.
            if let Some(entry) = self.pin(victim) {
                let why = if self.is_expired(entry.record()) {
                    Why::Expired
                } else {
                    Why::Evicted(Cause::Limit)
                };
                any |= self.unlink(entry, why);
            }
            let shown = self.spaces.counted(space);
            if space.over(shown, over.entries, over.bytes).is_none() {
                return true;
            }
        }
        tokio::task::yield_now().await;
        any
    }

    /// When an entry expires: as its put says, or its namespace.
    pub(crate) fn expiry_in(&self, space: u32, given: Option<u64>) -> Option<u64> {
        given.or_else(|| {
            let space = self.spaces.at(space)?;
            space.default_expiry(self.clock.now_ms())
        })
    }

    /// The entry of a namespace to go: of some drawn at random the one that was not asked for
    /// longest. `None` where none of those looked at can go.
    pub(crate) fn own_victim(&self, space: &Space, spare: Option<Handle>) -> Option<Handle> {
        let now = self.second();
        let order = space.order.read();
        let all = order.len() <= ALL_MAX;
        let looks = if all { ALL_MAX } else { LOOKS_MAX };
        let mut in_order = order.prefix(b"", None, self);
        let mut best: Option<(bool, u32, Handle)> = None;
        let mut taken = 0;
        for _ in 0..looks {
            let handle = if all {
                in_order.next()
            } else {
                order.draw(self.dice())
            };
            let Some(handle) = handle.filter(|handle| Some(*handle) != spare) else {
                continue;
            };
            let record = self.record(handle);
            if !record.is_live() || record.is_kept() || record.pins() > 0 {
                continue;
            }
            let age = now.wrapping_sub(record.last_access()) % ACCESS_MODULUS;
            let candidate = (self.is_expired(record), age, handle);
            if best.is_none_or(|best| (candidate.0, candidate.1) > (best.0, best.1)) {
                best = Some(candidate);
            }
            taken += 1;
            if !all && taken == SAMPLE {
                break;
            }
        }
        best.map(|(_, _, handle)| handle)
    }

    /// Numbers without a pattern that matters here; nobody is kept from guessing them.
    pub(crate) fn dice(&self) -> u64 {
        let step = 0x9e37_79b9_7f4a_7c15;
        let word = self.thrown.fetch_add(step, Ordering::Relaxed);
        let word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    }
}
