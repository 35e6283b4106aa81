//! Several keys of a namespace, looked up in the order asked: what their look-ups read is fetched for a few of
//! them at once, and what memory has not is read from below some keys ahead, many in one piece.

use std::collections::VecDeque;

use bowstring_cache::Cache;
use bowstring_cache::ahead::AHEAD_MAX;
use bowstring_cache::generation::Generation;
use bowstring_cache::known::{self, Known};
use bowstring_cache::lower::{Found, Reading};
use bowstring_wire::error::Result;
use bowstring_wire::name::{Key, Namespace};

use super::authorize::Principal;
use super::select::{Together, id};
use super::service::Service;
use super::source;

/// Keys that are read from below together.
const BELOW_KEYS: usize = 256;
/// Their bytes, and at most one part in so many of the memory: they are pinned until their turn comes.
const BELOW_BYTES: u64 = 8 << 20;
const BELOW_SHARE: u64 = 128;
/// How far ahead they are looked for among those that memory has.
const BELOW_AHEAD: usize = 4_096;

/// What one reader may have of what is read from below ahead of its turn.
pub fn below_bytes(cache: &Cache) -> u64 {
    BELOW_BYTES.min(cache.config().memory / BELOW_SHARE)
}

/// Keys, and where to look for them.
pub struct Lookup<'a> {
    /// The server.
    pub service: &'a Service,
    /// Who asks.
    pub principal: &'a Principal,
    /// Where the keys are.
    pub namespace: &'a Namespace,
    /// The keys.
    pub keys: &'a [Key],
    /// What the namespace showed at the beginning.
    pub generation: &'a Generation,
    /// What they are looked for.
    pub reading: Reading,
    /// What has come from below for keys whose turn has not come.
    pub ahead: VecDeque<(usize, Option<Found>)>,
}

impl<'a> Lookup<'a> {
    /// Looks for keys in what a namespace shows now, whatever is committed meanwhile.
    pub fn new(
        service: &'a Service,
        principal: &'a Principal,
        (namespace, keys): (&'a Namespace, &'a [Key]),
        generation: &'a Generation,
    ) -> Self {
        Self {
            service,
            principal,
            namespace,
            keys,
            generation,
            reading: Reading::Whole,
            ahead: VecDeque::new(),
        }
    }

    /// As they are read of a whole prefix, which leaves no mark: it must not make everything look young.
    pub fn scanning(mut self) -> Self {
        self.reading = Reading::Scan;
        self
    }

    /// The tensor of one key. The keys are asked for in order.
    ///
    /// # Errors
    /// Whatever the tier below meets.
    pub async fn get(&mut self, at: usize) -> Result<Option<Found>> {
        self.look_ahead(at);
        let came = self.came(at);
        let cache = &self.service.cache;
        let id = id(self.principal, self.namespace, &self.keys[at]);
        let here = match self.reading {
            Reading::Scan => cache.peek_in(self.generation, &id),
            Reading::Whole | Reading::Part => cache.get_in(self.generation, &id),
        };
        // What has taken its place meanwhile is newer.
        if let Some(entry) = here {
            return Ok(Some(Found::Here(entry)));
        }
        if let Some(came) = came {
            return Ok(came);
        }
        if !self.generation.is_present() || !cache.may_be_below(&id) {
            return Ok(None);
        }
        self.read_ahead(at).await?;
        Ok(self.came(at).flatten())
    }

    /// What the entries agree on, of which the `first` were found already. The others are looked at, not pinned:
    /// thousands of large tensors would be more than a reader may hold. An entry that is replaced by another shape after
    /// this ends the stream with what differs.
    ///
    /// # Errors
    /// `failed_precondition` that says which differ; whatever the tier below meets.
    pub async fn agreed(&self, first: &[Option<Found>]) -> Result<Together> {
        let rest = (self.namespace, &self.keys[first.len()..]);
        let describe = |known: Option<Known>| Ok(known.map(|known| known.description()));
        let rest = known::each(
            &self.service.cache,
            &self.principal.tenant,
            rest,
            Some(self.generation),
            describe,
        );
        let rest = rest.await?;
        let first = first.iter().map(|found| {
            let known = found.as_ref().map(source::known);
            known.map(|known| known.description())
        });
        let described = self.keys.iter().zip(first.chain(rest));
        Together::agreed(described.filter_map(|(key, described)| {
            let (dtype, shape) = described?;
            Some((key.as_str(), dtype, shape))
        }))
    }

    /// At the first of a few keys: has what the look-ups of all of them read fetched.
    fn look_ahead(&self, at: usize) {
        if at.is_multiple_of(AHEAD_MAX) && self.keys.len() > 1 {
            let few = self.keys[at..].iter().take(AHEAD_MAX);
            let few = few.map(|key| (self.namespace, key.as_str()));
            self.service.cache.look_ahead(&self.principal.tenant, few);
        }
    }

    /// What has come for a key; those before it had their turn.
    fn came(&mut self, at: usize) -> Option<Option<Found>> {
        while self.ahead.front().is_some_and(|(of, _)| *of < at) {
            self.ahead.pop_front();
        }
        let is_it = self.ahead.front().is_some_and(|(of, _)| *of == at);
        if !is_it {
            return None;
        }
        self.ahead.pop_front().map(|(_, came)| came)
    }

    /// Reads a key from below, and with it those behind it that memory has not either.
    async fn read_ahead(&mut self, at: usize) -> Result<()> {
        let cache = &self.service.cache;
        let (mut places, mut ids) = (Vec::new(), Vec::new());
        let ahead = self.keys.iter().enumerate().skip(at).take(BELOW_AHEAD);
        for (of, key) in ahead {
            let id = id(self.principal, self.namespace, key);
            let is_below =
                || cache.peek_in(self.generation, &id).is_none() && cache.may_be_below(&id);
            if of == at || is_below() {
                places.push(of);
                ids.push(id);
            }
            if ids.len() == BELOW_KEYS {
                break;
            }
        }
        let bytes_max = below_bytes(cache);
        let came = cache.lower().open_all(cache, &ids, bytes_max, self.reading);
        let came = came.await?;
        self.ahead = places.into_iter().zip(came).collect();
        Ok(())
    }
}
