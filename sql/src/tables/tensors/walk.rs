//! Finds the entries of a query: by their keys, or on a walk through what is left of the key order.

use std::fmt;
use std::mem;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bowstring_cache::Cache;
use bowstring_cache::Id;
use bowstring_cache::ahead::Fetch;
use bowstring_cache::generation::Generation;
use bowstring_cache::known::{self, Known};
use bowstring_cache::snapshot::{Form, Part, Passed};
use bowstring_wire::error::Result;
use bowstring_wire::name::{Key, Namespace, Tenant};

use super::columns::Columns;
use super::rows::{Rest, Row, Rows};
use super::value::{self, Hold, Values};
use crate::limits::{BATCH_ROWS, VALUES_BYTES};
use crate::scan::{Give, Source};
use crate::texts::{End, Texts};

/// Namespaces looked at together.
const NAMESPACES: usize = 256;
/// How long one walk has a thread.
const TURN: Duration = Duration::from_micros(300);
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
            rows: Rows::new(self.columns.wants()),
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

/// Where rows go.
struct Out<'a> {
    walking: &'a Walking,
    give: &'a mut Give,
    /// Rows that may still come.
    left: usize,
    hold: Hold,
    /// Rows of the next batch, all of one namespace, and their tensors where they are wanted.
    rows: Rows,
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
        let (wants, want_values) = (columns.wants(), columns.want_values());
        let all = keys.is_all();
        let fetch = match (want_values, all) {
            // What more is wanted of an entry is looked up with its tensor.
            (true, _) if !wants.rest => Fetch::Tensors,
            (false, true) => wants.fetch(),
            _ => Fetch::Heads,
        };
        let mut walk = snapshot.walk_behind(part).fetching(fetch);
        let mut since = cache.clock().monotonic();
        while self.left > 0 && self.give.wanted().await {
            // What the walk does not show whole is looked up, and so is what comes behind it in this step.
            let mut by_key: Vec<Key> = Vec::new();
            let mut unread = None;
            let Self {
                rows, values, left, ..
            } = self;
            let keep = |passed: Passed<'_>| {
                if *left == 0 || !(all || keys.contains(passed.key())) {
                    return 0;
                }
                let is_whole = !wants.rest && (!want_values || passed.tensor().is_some());
                if !is_whole || !by_key.is_empty() {
                    by_key.extend(Key::parse(passed.key()).ok());
                    return passed.key().len() + size_of::<Key>();
                }
                *left -= 1;
                let tensor = passed.tensor().filter(|_| want_values);
                if let Some(tensor) = tensor {
                    values.copy(tensor);
                }
                let kept = rows.pass(&passed).unwrap_or_else(|error| {
                    unread = Some(error);
                    0
                });
                kept + tensor.map_or(0, <[u8]>::len)
            };
            let Some(walked) = walk.step_into(keep).await? else {
                return Ok(self.batch(namespace).await);
            };
            if let Some(error) = unread {
                return Err(error);
            }
            self.give.counted.walked.add(walked);
            if !self.found(namespace, snapshot.generation(), by_key).await? {
                return Ok(false);
            }
            // For others whose turn it is: threads on this core, and tasks on this thread.
            std::thread::yield_now();
            let now = cache.clock().monotonic();
            if now - since >= TURN {
                tokio::task::yield_now().await;
                since = now;
            }
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
        let more = self.found(namespace, generation, keys.to_vec()).await?;
        Ok(self.batch(namespace).await && more)
    }

    /// Adds the entries of keys to the rows, as far as they are there; `false` where nothing more is wanted.
    async fn found(
        &mut self,
        namespace: &Namespace,
        generation: &Generation,
        keys: Vec<Key>,
    ) -> Result<bool> {
        if !self.walking.columns.want_values() {
            self.known(namespace, generation, &keys).await?;
            return Ok(self.full_batch(namespace).await);
        }
        for key in keys {
            if self.left == 0 {
                break;
            }
            self.read(namespace, generation, key).await?;
            let is_enough = self.values.bytes() >= self.values_enough;
            if is_enough && !self.batch(namespace).await {
                return Ok(false);
            }
        }
        Ok(self.full_batch(namespace).await)
    }

    /// Adds all that is known of keys; those that are not there are left out.
    async fn known(
        &mut self,
        namespace: &Namespace,
        generation: &Generation,
        keys: &[Key],
    ) -> Result<()> {
        let Walking { cache, tenant, .. } = self.walking;
        let want_rest = self.rows.wants().rest;
        let row = |known: Option<Known>| {
            Ok(known.map(|known| {
                let (dtype, shape) = known.description();
                Row {
                    version: known.version(),
                    form: Form::new(dtype, shape),
                    bytes: known.bytes(),
                    expires_at_ms: known.expires_at_ms(),
                    tier: known.tier(),
                    rest: want_rest.then(|| Rest::of(&known)),
                }
            }))
        };
        let found = known::each(cache, tenant, (namespace, keys), Some(generation), row).await?;
        let found = keys.iter().zip(found);
        let found = found.filter_map(|(key, row)| Some((key, row?)));
        for (key, row) in found.take(self.left) {
            self.rows.push(key.as_str(), row);
            self.left -= 1;
        }
        Ok(())
    }

    /// Adds an entry with its tensor, unless it has gone.
    async fn read(
        &mut self,
        namespace: &Namespace,
        generation: &Generation,
        key: Key,
    ) -> Result<()> {
        let Walking { cache, tenant, .. } = self.walking;
        let id = Id {
            tenant: tenant.clone(),
            namespace: namespace.clone(),
            key,
        };
        let Some(value) = value::read(cache, (generation, &id), &self.hold).await? else {
            return Ok(());
        };
        let rest = match self.rows.wants().rest {
            true => {
                let rest = |known: Option<Known>| Ok(known.as_ref().map(Rest::of));
                let of = (namespace, std::slice::from_ref(&id.key));
                let known = known::each(cache, tenant, of, Some(generation), rest).await?;
                // Of what went in between nothing is shown.
                let Some(rest) = known.into_iter().next().flatten() else {
                    return Ok(());
                };
                Some(rest)
            }
            false => None,
        };
        let row = Row {
            version: value.version,
            form: Form::new(value.dtype, value.shape),
            bytes: value.bytes.len() as u64,
            expires_at_ms: value.expires_at_ms,
            tier: value.tier,
            rest,
        };
        self.rows.push(id.key.as_str(), row);
        self.values.push(value.bytes);
        self.left -= 1;
        Ok(())
    }

    /// Gives a batch where there is enough for one; `false` where nothing more is wanted.
    async fn full_batch(&mut self, namespace: &Namespace) -> bool {
        if self.values.bytes() >= self.values_enough {
            return self.batch(namespace).await;
        }
        if self.rows.len() < self.rows_enough {
            return true;
        }
        self.rows_enough = (2 * self.rows_enough).min(BATCH_ROWS);
        self.batch(namespace).await
    }

    /// Gives the rows that there are; `false` where nothing more is wanted.
    async fn batch(&mut self, namespace: &Namespace) -> bool {
        if self.rows.len() == 0 {
            return true;
        }
        let (rows, values) = (Rows::like(&self.rows), Values::like(&self.values));
        let rows = mem::replace(&mut self.rows, rows);
        let values = mem::replace(&mut self.values, values);
        let bytes = usize::try_from(values.bytes()).unwrap_or(usize::MAX);
        self.give.counted.value_bytes.add(bytes);
        let (columns, namespace) = (self.walking.columns.clone(), namespace.clone());
        self.give
            .give(Box::new(move || columns.batch(&namespace, rows, values)))
            .await
    }
}
