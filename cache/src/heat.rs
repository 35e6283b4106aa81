//! How much each entry is asked for, told to who wants to know which are the hottest.

use bowstring_wire::name::{Namespace, Tenant};

use crate::cache::Cache;
use crate::index::record::ACCESS_MODULUS;
use crate::scan::SCAN_STEP;

/// Seconds without a hit after which an entry's hits count half.
const HALF_SECONDS: u32 = 600;
/// Of a heat, what says how long ago the last hit was; above that the hits.
const AGE_BITS: u32 = 16;

/// How much an entry is asked for: more is hotter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Heat(u32);

impl Heat {
    /// Of what was hit so often (at most 65,535 times are counted), the last time so many seconds ago.
    pub fn new(hits: u32, age_seconds: u32) -> Self {
        let halved = hits.checked_shr(age_seconds / HALF_SECONDS).unwrap_or(0);
        let fresh = (1 << AGE_BITS) - 1 - age_seconds.min((1 << AGE_BITS) - 1);
        Self(halved.min(u32::from(u16::MAX)) << AGE_BITS | fresh)
    }
}

impl Cache {
    /// Tells the key and the heat of some entries of a namespace, in the order of their keys, behind `after`;
    /// gives the last key looked at where there may be more. Under the lock of the order, as a scan is:
    /// `tell` neither waits nor calls the cache.
    pub fn heat(
        &self,
        tenant: &Tenant,
        namespace: &Namespace,
        after: Option<&str>,
        mut tell: impl FnMut(&str, Heat),
    ) -> Option<String> {
        let engine = self.engine();
        let number = engine.spaces.find(tenant, namespace)?;
        let shown = engine.spaces.shown(engine.spaces.at(number)?);
        let (now_ms, second) = (engine.clock.now_ms(), engine.second());
        let mut last = None;
        let keys = shown.keys(engine, b"", after.map(str::as_bytes));
        for handle in keys.take(SCAN_STEP) {
            last = Some(handle);
            let record = engine.record(handle);
            let is_expired = record.expires_at_ms().is_some_and(|at| at <= now_ms);
            if record.is_live() && !is_expired {
                let age = second.wrapping_sub(record.last_access()) % ACCESS_MODULUS;
                let key = str::from_utf8(engine.key(record)).unwrap_or_default();
                tell(key, Heat::new(record.hits(), age));
            }
        }
        let last = engine.key(engine.record(last?));
        Some(str::from_utf8(last).ok()?.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bowstring_wire::descriptor::Mode;

    use super::*;
    use crate::tests::{cache_of, get, id, put};

    #[tokio::test]
    async fn what_is_asked_for_is_hot_and_cools_down() {
        let (cache, clock) = cache_of(64 << 20);
        for at in 0..2_500 {
            let key = format!("{at:04}");
            put(&cache, &key, Mode::Create, b"x").await.unwrap();
        }
        for _ in 0..3 {
            get(&cache, "0007").unwrap();
        }
        clock.advance(Duration::from_secs(700));
        for _ in 0..2 {
            get(&cache, "2400").unwrap();
        }
        get(&cache, "1300").unwrap();
        clock.advance(Duration::from_secs(1));
        let of = id("x");
        let mut all = Vec::new();
        let (mut after, mut steps) = (None, 0);
        loop {
            let tell = |key: &str, heat: Heat| all.push((heat, key.to_owned()));
            let last = cache.heat(&of.tenant, &of.namespace, after.as_deref(), tell);
            let Some(last) = last else { break };
            after = Some(last);
            steps += 1;
        }
        assert_eq!((all.len(), steps), (2_500, 3));
        all.sort();
        let hottest: Vec<&str> = all.iter().rev().take(3).map(|it| &*it.1).collect();
        assert_eq!(hottest, ["2400", "1300", "0007"]);
        let nowhere = Namespace::parse("nowhere").unwrap();
        let never = |_: &str, _| unreachable!();
        assert_eq!(cache.heat(&of.tenant, &nowhere, None, never), None);
    }

    #[test]
    fn hits_count_before_age_and_neither_overflows() {
        assert!(Heat::new(2, 599) > Heat::new(1, 0));
        assert!(Heat::new(1, 5) > Heat::new(1, 6));
        assert!(Heat::new(u32::MAX, 0) > Heat::new(u32::MAX, 1));
        assert_eq!(Heat::new(9, u32::MAX), Heat::new(0, 1 << AGE_BITS));
    }
}
