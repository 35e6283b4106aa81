//! What open loads may hold.
//!
//! Their entries cannot be evicted, so they count, with open puts and readers, against what may be
//! busy. They stay further below that limit than others may, so that there is room for puts. And what is there now has to stay until the commit: both generations must fit.

use std::sync::Arc;

use bowstring_wire::error::{Error, Result};

use super::{Load, Registry};
use crate::engine::Engine;

/// Loads of one namespace that may be open at once.
const OPEN_A_NAMESPACE: usize = 8;

impl Engine {
    /// What open loads hold.
    pub(crate) fn loads_bytes(&self) -> u64 {
        if !self.loads.any_open() {
            return 0;
        }
        let registry = self.loads.registry.lock();
        let open = registry.open.iter();
        open.map(|load| self.stored_bytes(load)).sum()
    }

    /// Whether a load may take `bytes` more.
    ///
    /// # Errors
    /// `resource_exhausted`.
    pub(crate) fn check_load_room(&self, load: &Arc<Load>, bytes: u64) -> Result<()> {
        let registry = self.loads.registry.lock();
        let wanted = self.stored_bytes(load) + bytes;
        self.check_claim(&registry, load.home, Some(load), wanted)
    }

    /// Whether one load (an open one, or one that is about to begin) may hold `wanted` bytes.
    pub(super) fn check_claim(
        &self,
        registry: &Registry,
        home: u32,
        load: Option<&Arc<Load>>,
        wanted: u64,
    ) -> Result<()> {
        let wanted = wanted.max(load.map_or(0, |load| load.declared_bytes));
        let open = registry.open.iter();
        let others: u64 = open
            .filter(|other| load.is_none_or(|load| !Arc::ptr_eq(load, other)))
            .map(|other| self.stored_bytes(other).max(other.declared_bytes))
            .sum();
        let (pinned, held) = (self.pins.bytes(), self.arena.held_bytes());
        let max = self.arena_bytes_max() / 100 * self.config.loads_percent;
        if wanted.saturating_add(others + held + pinned) > max {
            return Err(Error::exhausted(format!(
                "no room for the load: what cannot be evicted would be too much; \
                 load_bytes=`{wanted}` other_loads_bytes=`{others}` held_bytes=`{held}` \
                 pinned_bytes=`{pinned}` limit=`loads_bytes_max` value=`{max}`"
            )));
        }
        let shown = self.shown_bytes(home);
        let max = self.arena_bytes_max();
        if wanted.saturating_add(shown) > max {
            return Err(Error::exhausted(format!(
                "no room for the load beside what the namespace has now; load_bytes=`{wanted}` \
                 namespace_bytes=`{shown}` limit=`memory` value=`{max}`"
            )));
        }
        Ok(())
    }

    pub(super) fn stored_bytes(&self, load: &Load) -> u64 {
        let space = self.spaces.at(load.space);
        space.map_or(0, |space| space.footprint_bytes())
    }

    /// What a namespace shows, about.
    fn shown_bytes(&self, home: u32) -> u64 {
        let Some(home) = self.spaces.at(home) else {
            return 0;
        };
        let view = home.view();
        let beside = self.spaces.beside(view).filter(|_| view.is_layered());
        let bytes = |space: &crate::namespaces::Space| space.footprint_bytes();
        self.spaces.at(view.base()).map_or(0, bytes) + beside.map_or(0, bytes)
    }
}

/// Whether one more may begin.
///
/// # Errors
/// `resource_exhausted`.
pub(super) fn check_count(registry: &Registry, home: u32, max: usize) -> Result<()> {
    let all = registry.open.len();
    let own = registry
        .open
        .iter()
        .filter(|load| load.home == home)
        .count();
    let (limit, value) = if own >= OPEN_A_NAMESPACE {
        ("loads_a_namespace_max", OPEN_A_NAMESPACE)
    } else if all >= max {
        ("loads_max", max)
    } else {
        return Ok(());
    };
    Err(Error::exhausted(format!(
        "too many open loads; limit=`{limit}` value=`{value}`"
    )))
}
