//! `flush`, `evict` and `prewarm`: between memory and the tier below it.

use bowstring_cache::Id;
use bowstring_wire::action::{FlushRequest, MoveRequest, MoveSelect};
use bowstring_wire::error::Result;
use bowstring_wire::name::{Key, Namespace};
use bowstring_wire::reply::{KeyFound, MoveReply, Reply};

use crate::flight::authorize::{Operation, Principal, Resource, authorize};
use crate::flight::select::id;
use crate::flight::service::Service;

/// Keys that are moved together.
const STEP: usize = 1_000;
/// Keys that are brought up together, and their bytes.
const UP_KEYS: usize = 256;
const UP_BYTES: u64 = 8 << 20;

/// Whose entries are moved.
struct Moving<'a> {
    service: &'a Service,
    principal: &'a Principal,
    namespace: &'a Namespace,
}

/// What became of some keys.
struct Moved {
    found: Vec<bool>,
    entries: u64,
}

/// Writes down what only memory has of a namespace, and waits for that.
pub async fn flush(service: &Service, principal: &Principal, body: &[u8]) -> Result<String> {
    let FlushRequest { namespace } = FlushRequest::parse(body)?;
    let moving = Moving::new(service, principal, &namespace)?;
    service.cache.lower().check_writes()?;
    let mut entries = 0;
    let mut after: Option<Key> = None;
    while let Some(keys) = moving.in_memory("", &mut after) {
        let ids = moving.ids(&keys);
        entries += ids.len() as u64;
        let (cache, lower) = (&service.cache, service.cache.lower());
        lower.write_down(cache, ids, true).await?;
    }
    // What memory has let go of is on its way.
    service.cache.lower().flush().await?;
    let keys = None;
    Ok(MoveReply { keys, entries }.to_json())
}

/// Moves entries out of memory.
pub async fn evict(service: &Service, principal: &Principal, body: &[u8]) -> Result<String> {
    let MoveRequest { namespace, select } = MoveRequest::parse(body)?;
    let moving = Moving::new(service, principal, &namespace)?;
    service.cache.lower().check_writes()?;
    match select {
        MoveSelect::Keys(keys) => {
            let (mut found, mut entries) = (Vec::with_capacity(keys.len()), 0);
            for step in keys.chunks(STEP) {
                let moved = moving.evict(step).await?;
                found.extend(moved.found);
                entries += moved.entries;
            }
            Ok(reply(keys, found, entries))
        }
        MoveSelect::Prefix(prefix) => {
            let (mut after, mut entries) = (None, 0);
            while let Some(keys) = moving.in_memory(&prefix, &mut after) {
                entries += moving.evict(&keys).await?.entries;
            }
            let keys = None;
            Ok(MoveReply { keys, entries }.to_json())
        }
    }
}

/// Brings entries into memory, as far as it has room for them.
pub async fn prewarm(service: &Service, principal: &Principal, body: &[u8]) -> Result<String> {
    let MoveRequest { namespace, select } = MoveRequest::parse(body)?;
    let moving = Moving::new(service, principal, &namespace)?;
    if service.cold.is_none() {
        service.cache.lower().check_writes()?;
    }
    // What is brought up last must not push out what came first.
    let mut left = service.cache.tensor_bytes_max();
    match select {
        MoveSelect::Keys(keys) => {
            let (mut found, mut entries) = (Vec::with_capacity(keys.len()), 0);
            for step in keys.chunks(STEP) {
                let moved = moving.prewarm(step, &mut left).await?;
                found.extend(moved.found);
                entries += moved.entries;
            }
            Ok(reply(keys, found, entries))
        }
        MoveSelect::Prefix(prefix) => {
            let (mut after, mut entries): (Option<Key>, u64) = (None, 0);
            while left > 0 {
                let lower = service.cache.lower();
                let behind = after.as_ref().map(Key::as_str);
                let tenant = &principal.tenant;
                let step = lower
                    .list(tenant, &namespace, &prefix, behind, STEP)
                    .await?;
                let keys: Vec<Key> = step.into_iter().map(|below| below.id.key).collect();
                let Some(last) = keys.last() else { break };
                after = Some(last.clone());
                entries += moving.prewarm(&keys, &mut left).await?.entries;
            }
            let keys = None;
            Ok(MoveReply { keys, entries }.to_json())
        }
    }
}

fn reply(keys: Vec<Key>, found: Vec<bool>, entries: u64) -> String {
    let keys = keys.into_iter().zip(found);
    let keys = keys.map(|(key, found)| KeyFound { key, found }).collect();
    let keys = Some(keys);
    MoveReply { keys, entries }.to_json()
}

impl<'a> Moving<'a> {
    fn new(
        service: &'a Service,
        principal: &'a Principal,
        namespace: &'a Namespace,
    ) -> Result<Self> {
        authorize(
            principal,
            Operation::Configure,
            Resource::Namespace(namespace),
        )?;
        Ok(Self {
            service,
            principal,
            namespace,
        })
    }

    fn ids(&self, keys: &[Key]) -> Vec<Id> {
        let ids = keys
            .iter()
            .map(|key| id(self.principal, self.namespace, key));
        ids.collect()
    }

    /// Some keys that memory has, behind those of the last call.
    fn in_memory(&self, prefix: &str, after: &mut Option<Key>) -> Option<Vec<Key>> {
        let tenant = &self.principal.tenant;
        let behind = after.as_ref().map(Key::as_str);
        let cache = &self.service.cache;
        let step = cache.scan(tenant, self.namespace, prefix, behind, STEP);
        let keys: Vec<Key> = step.into_iter().map(|item| item.key).collect();
        *after = Some(keys.last()?.clone());
        Some(keys)
    }

    /// Writes keys down, and then takes them out of memory where what is below is what memory has.
    async fn evict(&self, keys: &[Key]) -> Result<Moved> {
        let cache = &self.service.cache;
        let ids = self.ids(keys);
        let is_hot = |id: &&Id| cache.peek(id).is_some();
        let hot: Vec<Id> = ids.iter().filter(is_hot).cloned().collect();
        cache.lower().write_down(cache, hot, true).await?;
        let below = cache.lower().describe_all(&ids).await?;
        let (mut found, mut entries) = (Vec::with_capacity(ids.len()), 0);
        for (id, below) in ids.iter().zip(below) {
            found.push(below.is_some() || cache.peek(id).is_some());
            let went = below.is_some_and(|below| cache.evict(id, below.version));
            entries += u64::from(went);
        }
        Ok(Moved { found, entries })
    }

    /// Brings up those of some keys that memory has not, as long as `left` bytes last.
    async fn prewarm(&self, keys: &[Key], left: &mut u64) -> Result<Moved> {
        let cache = &self.service.cache;
        let ids = self.ids(keys);
        let below = cache.lower().describe_all(&ids).await?;
        let (mut found, mut wanted) = (Vec::with_capacity(ids.len()), Vec::new());
        for (id, below) in ids.into_iter().zip(below) {
            let is_hot = cache.peek(&id).is_some();
            found.push(is_hot || below.is_some());
            if let Some(below) = below.filter(|below| !is_hot && below.len <= *left) {
                *left -= below.len;
                wanted.push(id);
            }
        }
        let mut entries = 0;
        let mut rest = &wanted[..];
        while !rest.is_empty() {
            let some = &rest[..rest.len().min(UP_KEYS)];
            let came = cache.lower().load_all(cache, some, UP_BYTES);
            let came = came.await?;
            let of = came.len().max(1).min(rest.len());
            drop(came);
            let is_hot = |id: &&Id| cache.peek(id).is_some();
            entries += some[..of].iter().filter(is_hot).count() as u64;
            rest = &rest[of..];
        }
        Ok(Moved { found, entries })
    }
}
