//! DoAction and ListActions: JSON in, JSON out.
//!
//! - `attach`: namespaces that are rows of files
//! - `keep`: how long entries stay
//! - `space`: namespaces
//! - `load`: loads that clients fill; those of files are in [`super::load`]
//! - `tiers`: between memory and below
//! - here: the rest

mod attach;
mod keep;
mod load;
mod space;
mod tiers;

use arrow_flight::{Action, ActionType, Empty, Result as ActionResult};
use bowstring_cache::known::{self, Known};
use bowstring_wire::action::{
    ACTIONS, DeleteRequest, DeleteSelect, DescribeRequest, ExistsRequest, parse_nothing,
};
use bowstring_wire::error::{Error, Result, clip};
use bowstring_wire::limits::MAX_JSON_BYTES;
use bowstring_wire::metadata::Metadata;
use bowstring_wire::reply::{
    AccountStats, Counter, DeleteReply, DescribeReply, EntryDescribed, EvictionStats, ExistsReply,
    KeyDescribed, KeyExists, KeyFound, MemoryStats, Reply, StatsReply,
};

use load::End;

use super::authorize::{Operation, Principal, Resource, authorize};
use super::load as files;
use super::out::Failure;
use super::reply;
use super::room::CallBytes;
use super::select::id;
use super::service::{Call, Service};
use super::slow::About;
use super::sql;
use crate::grpc::Responder;
use crate::metrics::{cold_counters, cold_gauges};

/// Answers one DoAction.
pub async fn run(
    service: &Service,
    mut call: Call<'_>,
    respond: &mut Responder,
) -> Result<(), Failure> {
    let action: Action = call.message().await?;
    call.notes.about(|| About::new("", &action.r#type));
    let Call {
        principal,
        cookie,
        room,
        ..
    } = &mut call;
    let (principal, body) = (&*principal, &action.body[..]);
    // The request, what it is parsed into, and an answer that names its keys again.
    room.hold(4 * body.len() as u64)?;
    let (name, caller) = (&action.r#type, (principal, &*cookie));
    if let Some(answered) = sql::action(service, caller, name, body, respond).await {
        return answered;
    }
    if name == "load" {
        return files::load(service, principal, body, respond).await;
    }
    let json = match action.r#type.as_str() {
        "exists" => exists(service, principal, body).await?,
        "delete" => delete(service, principal, body).await?,
        "describe" => describe(service, principal, body, room).await?,
        "expire" => keep::expire(service, principal, body).await?,
        "pin" => keep::pin(service, principal, body).await?,
        "unpin" => keep::unpin(service, principal, body).await?,
        "begin_load" => load::begin(service, principal, body)?,
        "commit_load" => load::end(service, principal, body, End::Commit).await?,
        "abort_load" => load::end(service, principal, body, End::Abort).await?,
        "rollback_load" => load::end(service, principal, body, End::Rollback).await?,
        "load_status" => files::status(service, principal, body)?,
        "stats" => stats(service, principal, body)?,
        "namespaces" => space::list(service, principal, body, room)?,
        "namespace_set" => space::set(service, principal, body).await?,
        "clear" => space::clear(service, principal, body).await?,
        "attach" => attach::attach(service, principal, body).await?,
        "detach" => attach::detach(service, principal, body).await?,
        "flush" => tiers::flush(service, principal, body).await?,
        "evict" => tiers::evict(service, principal, body).await?,
        "prewarm" => tiers::prewarm(service, principal, body).await?,
        other => return Err(Failure::Refused(unknown(other))),
    };
    reply::send(respond, &ActionResult { body: json.into() }).await
}

/// Streams a description of each action.
pub async fn list(mut call: Call<'_>, respond: &mut Responder) -> Result<(), Failure> {
    let _: Empty = call.message().await?;
    for action in ACTIONS {
        let described = ActionType {
            r#type: action.name.to_owned(),
            description: action.description(),
        };
        reply::send(respond, &described).await?;
    }
    Ok(())
}

fn unknown(name: &str) -> Error {
    let names: Vec<&str> = ACTIONS.iter().map(|action| action.name).collect();
    Error::unimplemented(format!(
        "no such action; action=`{}` expected one of {}",
        clip(name, 64),
        names.join(", ")
    ))
}

async fn exists(service: &Service, principal: &Principal, body: &[u8]) -> Result<String> {
    let request = ExistsRequest::parse(body)?;
    authorize(
        principal,
        Operation::Describe,
        Resource::Namespace(&request.namespace),
    )?;
    let of = (&request.namespace, &request.keys[..]);
    let look = |known: Option<Known>| {
        let ttl_ms = known
            .as_ref()
            .and_then(|known| known.ttl_ms(&service.cache));
        let pinned = known.as_ref().is_some_and(Known::is_pinned);
        Ok((known.is_some(), ttl_ms, pinned))
    };
    let looked = known::each(&service.cache, &principal.tenant, of, None, look).await?;
    let keys = request.keys.into_iter().zip(looked);
    let keys = keys.map(|(key, (found, ttl_ms, pinned))| KeyExists {
        key,
        found,
        ttl_ms,
        pinned,
    });
    Ok(ExistsReply::new(keys.collect()).to_json())
}

async fn describe(
    service: &Service,
    principal: &Principal,
    body: &[u8],
    room: &mut CallBytes,
) -> Result<String> {
    let request = DescribeRequest::parse(body)?;
    authorize(
        principal,
        Operation::Describe,
        Resource::Namespace(&request.namespace),
    )?;
    let of = (&request.namespace, &request.keys[..]);
    let mut metadata_bytes = 0;
    let look = |known: Option<Known>| {
        let Some(known) = known else {
            return Ok(None);
        };
        // A few bytes of a request ask for kilobytes.
        metadata_bytes += known.metadata().len();
        if metadata_bytes > MAX_JSON_BYTES {
            return Err(Error::exhausted(format!(
                "the answer would be too large, ask for fewer keys at once; limit=`{MAX_JSON_BYTES}`"
            )));
        }
        room.hold(4 * (body.len() + metadata_bytes) as u64)?;
        described(service, &known).map(Some)
    };
    let described = known::each(&service.cache, &principal.tenant, of, None, look).await?;
    let keys = request.keys.into_iter().zip(described);
    let keys = keys.map(|(key, entry)| KeyDescribed {
        key,
        found: entry.is_some(),
        entry,
    });
    let keys = keys.collect();
    Ok(DescribeReply { keys }.to_json())
}

fn described(service: &Service, known: &Known) -> Result<EntryDescribed> {
    let (dtype, shape) = known.description();
    Ok(EntryDescribed {
        dtype,
        shape,
        bytes: known.bytes(),
        version: known.version(),
        checksum: known.checksum().map(|sum| format!("{sum:032x}")),
        tier: known.tier().to_owned(),
        metadata: Metadata::decode(known.metadata())?,
        ttl_ms: known.ttl_ms(&service.cache),
        pinned: known.is_pinned(),
        hits: known.hits(),
    })
}

async fn delete(service: &Service, principal: &Principal, body: &[u8]) -> Result<String> {
    let request = DeleteRequest::parse(body)?;
    let namespace = &request.namespace;
    authorize(principal, Operation::Delete, Resource::Namespace(namespace))?;
    let mut deleted = 0;
    let keys = match request.select {
        DeleteSelect::Keys { keys, if_version } => {
            let mut replies = Vec::with_capacity(keys.len());
            for key in keys {
                let id = id(principal, namespace, &key);
                let found = service.cache.delete(&id, if_version).await?.is_some();
                deleted += u64::from(found);
                replies.push(KeyFound { key, found });
            }
            Some(replies)
        }
        DeleteSelect::Prefix { prefix } => {
            let tenant = &principal.tenant;
            deleted = service
                .cache
                .delete_prefix(tenant, namespace, &prefix)
                .await?;
            None
        }
    };
    Ok(DeleteReply { keys, deleted }.to_json())
}

fn stats(service: &Service, principal: &Principal, body: &[u8]) -> Result<String> {
    parse_nothing(body)?;
    authorize(principal, Operation::Stats, Resource::Server)?;
    let stats = service.cache.stats();
    let accounts = stats.accounts.iter().map(|account| {
        let figures = AccountStats {
            used_bytes: account.used,
            peak_bytes: account.peak,
        };
        (account.account.name().to_owned(), figures)
    });
    let counters = [
        ("hits", stats.hits),
        ("misses", stats.misses),
        ("published", stats.events.published),
        ("replaced", stats.events.replaced),
        ("deleted", stats.events.deleted),
        ("expired", stats.events.expired),
        ("evicted", stats.events.evicted),
        ("evicted_bytes", stats.events.evicted_bytes),
        ("pins_refused", stats.pins_refused),
        ("loads_committed", stats.loads.committed),
        ("loads_rolled_back", stats.loads.rolled_back),
        ("loads_aborted", stats.loads.aborted),
        ("loads_expired", stats.loads.expired),
    ];
    let reply = StatsReply {
        server: env!("CARGO_PKG_VERSION").to_owned(),
        wire: 1,
        start: u64::from(stats.start),
        uptime_ms: u64::try_from(service.clock.monotonic().as_millis()).unwrap_or(u64::MAX),
        entries: stats.entries,
        bytes: stats.live_bytes,
        memory: MemoryStats {
            limit_bytes: stats.memory,
            used_bytes: stats.accounts.iter().map(|account| account.used).sum(),
            accounts: accounts.collect(),
        },
        eviction: EvictionStats {
            policy: stats.eviction.name().to_owned(),
            follows: stats.eviction_follows.name().to_owned(),
        },
        counters: counters
            .map(|(name, n)| (name.to_owned(), Counter(n)))
            .into(),
        requests: service
            .metrics
            .requests()
            .map(|(verb, stats)| (verb.to_owned(), stats))
            .collect(),
        connections: service.metrics.connections(),
        cold: service.cold.as_ref().map(|cold| {
            let stats = cold.stats();
            let figures = cold_gauges(&stats).into_iter().chain(cold_counters(&stats));
            figures
                .map(|(name, _, n)| (name.to_owned(), Counter(n)))
                .collect()
        }),
    };
    Ok(reply.to_json())
}
