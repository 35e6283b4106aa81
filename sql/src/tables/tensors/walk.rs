//! Finds the entries of a query: by their keys, or on a walk through what is left of the key order.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use bowstring_cache::Cache;
use bowstring_cache::Id;
use bowstring_cache::generation::Generation;
use bowstring_cache::known::{self, Known};
use bowstring_cache::snapshot::Part;
use bowstring_wire::error::Result;
use bowstring_wire::name::{Key, Namespace, Tenant};

use super::columns::{Columns, Row};
use super::value::{self, Hold, Values};
use crate::limits::VALUES_BYTES;
use crate::scan::{Give, Source};
use crate::texts::{End, Texts};

/// Namespaces looked at together.
const NAMESPACES: usize = 256;
/// Keys looked up together.
const KEYS: usize = 1_000;

/// A scan of `tensors`.
pub struct Walking {
    pub cache: Cache,
    pub tenant: Tenant,
    pub namespaces: Texts,
    pub keys: Texts,
    pub columns: Arc<Columns>,
    /// Rows that are enough.
    pub limit: Option<usize>,
}

impl fmt::Debug for Walking {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.explain(f)
    }
}

#[async_trait]
impl Source for Walking {
    fn explain(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let how = match &self.keys.named {
            Some(_) => "look-up",
            None => "walk",
        };
        write!(
            f,
            "Scan: table={}, {how}, namespaces={}, keys={}, columns=[{}]",
            self.columns.table(),
            self.namespaces,
            self.keys,
            self.columns.names()
        )?;
        match self.limit {
            Some(limit) => write!(f, ", limit={limit}"),
            None => Ok(()),
        }
    }

    async fn read(&self, give: &mut Give) -> Result<()> {
        let mut out = Out {
            walking: self,
            give,
            left: self.limit.unwrap_or(usize::MAX),
            hold: Hold::default(),
        };
        if let Some(named) = &self.namespaces.named {
            // What is no namespace's name has no entries.
            for namespace in named.iter().filter_map(|name| Namespace::parse(name).ok()) {
                if !out.namespace(&namespace).await? {
                    break;
                }
            }
            return Ok(());
        }
        let mut after: Option<Namespace> = None;
        loop {
            let page = self
                .cache
                .namespaces(&self.tenant, after.as_ref(), NAMESPACES);
            let Some(last) = page.last() else {
                return Ok(());
            };
            after = Some(last.namespace.clone());
            for namespace in page.iter().map(|stats| &stats.namespace) {
                let is_wanted = self.namespaces.contains(namespace.as_str());
                if is_wanted && !out.namespace(namespace).await? {
                    return Ok(());
                }
            }
        }
    }
}

/// Where rows go.
struct Out<'a> {
    walking: &'a Walking,
    give: &'a mut Give,
    /// Rows that may still come.
    left: usize,
    hold: Hold,
}

impl Out<'_> {
    /// Reads a namespace; `false` where nothing more is wanted.
    async fn namespace(&mut self, namespace: &Namespace) -> Result<bool> {
        let walking = self.walking;
        if let Some(named) = &walking.keys.named {
            let generation = walking.cache.generation(&walking.tenant, namespace);
            let keys: Vec<Key> = named
                .iter()
                .filter_map(|key| Key::parse(key).ok())
                .collect();
            for keys in keys.chunks(KEYS) {
                if !self.look_up(namespace, &generation, keys).await? {
                    return Ok(false);
                }
            }
            return Ok(true);
        }
        self.walk(namespace).await
    }

    async fn walk(&mut self, namespace: &Namespace) -> Result<bool> {
        if !self.give.wanted().await {
            return Ok(false);
        }
        let walking = self.walking;
        let Walking {
            cache,
            tenant,
            keys,
            columns,
            ..
        } = walking;
        let snapshot = cache
            .snapshot(tenant, namespace, keys.common_prefix())
            .await?;
        // An end that is no key is an end all the same: rows are asked for it again.
        let end = |end: &Option<End>| {
            let end = end.as_ref()?;
            Some((Key::parse(&end.text).ok()?, end.included))
        };
        let low = end(&keys.low);
        let part = Part {
            after: low.as_ref().map(|(key, _)| key.clone()),
            last: end(&keys.high).map(|(key, _)| key),
        };
        // A walk begins behind a key.
        if let Some((key, true)) = low
            && keys.contains(key.as_str())
            && !self
                .look_up(namespace, snapshot.generation(), &[key])
                .await?
        {
            return Ok(false);
        }
        let mut walk = snapshot.walk_behind(part);
        while self.left > 0 && self.give.wanted().await {
            let Some(items) = walk.step().await? else {
                return Ok(true);
            };
            self.give.counted.walked.add(items.len());
            let items = items.into_iter();
            let wanted = items.filter(|item| keys.contains(item.key.as_str()));
            let more = if columns.want_values() {
                let wanted: Vec<Key> = wanted.map(|item| item.key).collect();
                self.values(namespace, snapshot.generation(), &wanted)
                    .await?
            } else if columns.want_rest() {
                let wanted: Vec<Key> = wanted.map(|item| item.key).collect();
                let rows = self
                    .known(namespace, snapshot.generation(), &wanted)
                    .await?;
                self.rows(namespace, rows).await
            } else {
                self.rows(namespace, wanted.map(Row::listed).collect())
                    .await
            };
            if !more {
                return Ok(false);
            }
        }
        Ok(false)
    }

    async fn look_up(
        &mut self,
        namespace: &Namespace,
        generation: &Generation,
        keys: &[Key],
    ) -> Result<bool> {
        if self.left == 0 || !self.give.wanted().await {
            return Ok(false);
        }
        self.give.counted.looked_up.add(keys.len());
        if self.walking.columns.want_values() {
            return self.values(namespace, generation, keys).await;
        }
        let rows = self.known(namespace, generation, keys).await?;
        Ok(self.rows(namespace, rows).await)
    }

    /// All that is known of keys; those that are not there are left out.
    async fn known(
        &self,
        namespace: &Namespace,
        generation: &Generation,
        keys: &[Key],
    ) -> Result<Vec<Row>> {
        let Walking { cache, tenant, .. } = self.walking;
        let row = |known: Option<Known>| known.as_ref().map(Row::known).transpose();
        let rows = known::each(cache, tenant, (namespace, keys), Some(generation), row).await?;
        Ok(rows.into_iter().flatten().collect())
    }

    /// Reads tensors, as many at a time as a batch has.
    async fn values(
        &mut self,
        namespace: &Namespace,
        generation: &Generation,
        keys: &[Key],
    ) -> Result<bool> {
        let wants_rest = self.walking.columns.want_rest();
        let mut keys = keys;
        while !keys.is_empty() {
            if self.left == 0 || !self.give.wanted().await {
                return Ok(false);
            }
            let mut rows = Vec::new();
            let mut values = Values::default();
            let mut taken = 0;
            for key in keys {
                if values.bytes() >= VALUES_BYTES || rows.len() >= self.left {
                    break;
                }
                taken += 1;
                let Walking { cache, tenant, .. } = self.walking;
                let id = Id {
                    tenant: tenant.clone(),
                    namespace: namespace.clone(),
                    key: key.clone(),
                };
                let Some(value) = value::read(cache, (generation, &id), &self.hold).await? else {
                    continue;
                };
                let rest = match wants_rest {
                    true => {
                        let known = self
                            .known(namespace, generation, std::slice::from_ref(key))
                            .await?;
                        // Of what went in between nothing is shown.
                        let Some(row) = known.into_iter().next() else {
                            continue;
                        };
                        row.rest
                    }
                    false => None,
                };
                self.give.counted.value_bytes.add(value.bytes.len());
                rows.push(Row {
                    key: key.clone(),
                    version: value.version,
                    dtype: value.dtype,
                    shape: value.shape,
                    bytes: value.bytes.len() as u64,
                    expires_at_ms: value.expires_at_ms,
                    tier: value.tier,
                    rest,
                });
                values.push(value.bytes);
            }
            keys = &keys[taken..];
            if !self.batch(namespace, rows, Some(values)).await {
                return Ok(false);
            }
        }
        Ok(true)
    }

    async fn rows(&mut self, namespace: &Namespace, mut rows: Vec<Row>) -> bool {
        rows.truncate(self.left);
        self.batch(namespace, rows, None).await
    }

    /// Gives rows; `false` where nothing more is wanted.
    async fn batch(
        &mut self,
        namespace: &Namespace,
        rows: Vec<Row>,
        values: Option<Values>,
    ) -> bool {
        if rows.is_empty() {
            return true;
        }
        self.left -= rows.len();
        let (columns, namespace) = (self.walking.columns.clone(), namespace.clone());
        self.give
            .give(Box::new(move || columns.batch(&namespace, &rows, values)))
            .await
    }
}
