//! Finds the entries of a query: by their keys, or on a walk through what is left of the key order.

use std::fmt;
use std::mem;
use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bowstring_cache::Cache;
use bowstring_cache::Id;
use bowstring_cache::generation::Generation;
use bowstring_cache::known::{self, Known};
use bowstring_cache::scan::ScanItem;
use bowstring_cache::snapshot::Part;
use bowstring_wire::error::Result;
use bowstring_wire::name::{Key, Namespace, Tenant};
use bytes::Bytes;

use super::columns::{Columns, Row};
use super::value::{self, Hold, Values};
use crate::limits::{FOUND_ROWS, VALUES_BYTES};
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
            rows: Vec::new(),
            values: Values::default(),
            rows_enough: KEYS,
            values_enough: VALUES_BYTES.min(self.cache.config().memory / 256),
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

/// An entry whose tensor is wanted.
enum Wanted {
    /// The walk has copied it, to here.
    Walked(ScanItem, Range<usize>),
    Key(Key),
}

/// Where rows go.
struct Out<'a> {
    walking: &'a Walking,
    give: &'a mut Give,
    /// Rows that may still come.
    left: usize,
    hold: Hold,
    /// Rows of the next batch, all of one namespace, and their tensors where they are wanted.
    rows: Vec<Row>,
    values: Values,
    /// So many make a batch: few at first, for who wants no more.
    rows_enough: usize,
    /// So do so many bytes of tensors.
    values_enough: u64,
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
        // What more is wanted of an entry is looked up with its tensor.
        let copies = columns.want_values() && !columns.want_rest();
        if copies {
            walk = walk.with_tensors();
        }
        while self.left > 0 && self.give.wanted().await {
            let Some(items) = walk.step().await? else {
                return Ok(self.batch(namespace).await);
            };
            self.give.counted.walked.add(items.len());
            let items = items.into_iter();
            let wanted = items.filter(|item| keys.contains(item.key.as_str()));
            let generation = snapshot.generation();
            let more = if copies {
                let tensors = walk.take_tensors();
                let wanted = wanted.map(|mut item| match item.tensor.take() {
                    Some(at) => Wanted::Walked(item, at),
                    None => Wanted::Key(item.key),
                });
                self.values((namespace, generation), wanted, &tensors)
                    .await?
            } else if columns.want_values() {
                let wanted = wanted.map(|item| Wanted::Key(item.key));
                self.values((namespace, generation), wanted, &[]).await?
            } else if columns.want_rest() {
                let wanted: Vec<Key> = wanted.map(|item| item.key).collect();
                let rows = self.known(namespace, generation, &wanted).await?;
                self.rows(namespace, rows.into_iter()).await
            } else {
                self.rows(namespace, wanted.map(Row::listed)).await
            };
            if !more {
                return Ok(false);
            }
            // Others whose turn it is on this thread do not wait for more than a step.
            tokio::task::yield_now().await;
        }
        Ok(self.batch(namespace).await && self.left > 0)
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
        let more = if self.walking.columns.want_values() {
            let wanted = keys.iter().cloned().map(Wanted::Key);
            self.values((namespace, generation), wanted, &[]).await?
        } else {
            let rows = self.known(namespace, generation, keys).await?;
            self.rows(namespace, rows.into_iter()).await
        };
        Ok(self.batch(namespace).await && more)
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

    /// Adds entries with their tensors, which are at `tensors` or read; `false` where nothing more is wanted.
    async fn values(
        &mut self,
        (namespace, generation): (&Namespace, &Generation),
        wanted: impl Iterator<Item = Wanted>,
        tensors: &[u8],
    ) -> Result<bool> {
        for wanted in wanted {
            if self.left == 0 {
                break;
            }
            match wanted {
                Wanted::Walked(item, at) => {
                    self.values.copy(tensors.get(at).unwrap_or_default());
                    self.rows.push(Row::listed(item));
                }
                Wanted::Key(key) => {
                    let Some((row, bytes)) = self.read(namespace, generation, key).await? else {
                        continue;
                    };
                    self.values.push(bytes);
                    self.rows.push(row);
                }
            }
            self.left -= 1;
            let is_enough = self.values.bytes() >= self.values_enough;
            if is_enough && !self.batch(namespace).await {
                return Ok(false);
            }
        }
        Ok(self.full_batch(namespace).await)
    }

    /// Reads an entry with its tensor; `None` where it has gone.
    async fn read(
        &self,
        namespace: &Namespace,
        generation: &Generation,
        key: Key,
    ) -> Result<Option<(Row, Bytes)>> {
        let Walking { cache, tenant, .. } = self.walking;
        let id = Id {
            tenant: tenant.clone(),
            namespace: namespace.clone(),
            key,
        };
        let Some(value) = value::read(cache, (generation, &id), &self.hold).await? else {
            return Ok(None);
        };
        let key = id.key;
        let rest = match self.walking.columns.want_rest() {
            true => {
                let known = self
                    .known(namespace, generation, std::slice::from_ref(&key))
                    .await?;
                // Of what went in between nothing is shown.
                let Some(row) = known.into_iter().next() else {
                    return Ok(None);
                };
                row.rest
            }
            false => None,
        };
        let row = Row {
            key,
            version: value.version,
            dtype: value.dtype,
            shape: value.shape,
            bytes: value.bytes.len() as u64,
            expires_at_ms: value.expires_at_ms,
            tier: value.tier,
            rest,
        };
        Ok(Some((row, value.bytes)))
    }

    /// Adds entries; `false` where nothing more is wanted.
    async fn rows(&mut self, namespace: &Namespace, rows: impl Iterator<Item = Row>) -> bool {
        let before = self.rows.len();
        self.rows.extend(rows.take(self.left));
        self.left -= self.rows.len() - before;
        self.full_batch(namespace).await
    }

    /// Gives a batch where there are rows enough for one; `false` where nothing more is wanted.
    async fn full_batch(&mut self, namespace: &Namespace) -> bool {
        if self.rows.len() < self.rows_enough {
            return true;
        }
        self.rows_enough = (2 * self.rows_enough).min(FOUND_ROWS);
        self.batch(namespace).await
    }

    /// Gives the rows that there are; `false` where nothing more is wanted.
    async fn batch(&mut self, namespace: &Namespace) -> bool {
        if self.rows.is_empty() {
            return true;
        }
        let (rows, values) = (mem::take(&mut self.rows), mem::take(&mut self.values));
        let bytes = usize::try_from(values.bytes()).unwrap_or(usize::MAX);
        self.give.counted.value_bytes.add(bytes);
        let (columns, namespace) = (self.walking.columns.clone(), namespace.clone());
        self.give
            .give(Box::new(move || columns.batch(&namespace, &rows, values)))
            .await
    }
}
