//! What a server begins with: the memory of the one before, where that hands it over or the service manager has kept it, or
//! none. And what it leaves to the service manager.

use std::sync::Arc;
use std::time::Duration;

use bowstring_cache::clock::Clock;
use bowstring_cache::handover::{Adopted, Adoption, Handed};
use bowstring_cache::{Cache, CacheConfig, Parts};

use crate::attached::Ahead;
use crate::config::Config;
use crate::conn::WireBudget;
use crate::error::Error;
use crate::manager::{Kept, Manager};
use crate::takeover::{Heir, Legacy};
use crate::{Limits, takeover_failed};

/// What a cache is made of.
#[derive(Clone)]
struct Making {
    config: CacheConfig,
    parts: Parts,
}

/// The cache and its wire account, and what was taken over; `ahead` is charged to it.
///
/// # Errors
/// Where a predecessor goes on instead, or a cache cannot be made; those of [`Ahead::enter`], with which a predecessor goes on too.
pub(crate) async fn start(
    config: &Config,
    limits: Limits,
    clock: &Arc<dyn Clock>,
    heir: Option<Heir>,
    manager: &mut Manager,
    ahead: &mut Ahead,
) -> Result<(Cache, WireBudget, Option<Adopted>), Error> {
    let making = Making {
        config: CacheConfig {
            memory: limits.memory_bytes,
            eviction: config.eviction,
            load_idle: config.load_idle,
            rollback_window: config.load_rollback,
            ..CacheConfig::default()
        },
        parts: Parts {
            clock: clock.clone(),
            ..Parts::default()
        },
    };
    let mut legacy = match heir {
        Some(heir) => Some(heir.inherit().await.map_err(takeover_failed)?),
        None => None,
    };
    let taken = match &mut legacy {
        Some(legacy) => making.by_legacy(legacy, ahead).await?,
        None => making.by_kept(manager.kept(), ahead).await?,
    };
    // Taken over or not: it is of no use to anybody else. Who hands over has what is newer.
    manager.let_go().await;
    let (cache, adoption) = match taken {
        Some((cache, adoption)) => (cache, Some(adoption)),
        None => {
            let cache = Cache::with_parts(making.config, making.parts)?;
            ahead.enter(&cache)?;
            (cache, None)
        }
    };
    // Before what is too much goes, so that it is counted.
    let budget = limits.wire_budget(cache.ledger())?;
    let took_memory = adoption.is_some();
    let accepting = async {
        match legacy {
            Some(legacy) => legacy.accept(took_memory).await.map_err(takeover_failed),
            None => Ok(()),
        }
    };
    // While the predecessor comes to its end.
    let ranking = blocking(move || Ok(adoption.map(Adoption::rank)));
    let (accepted, adoption) = tokio::join!(accepting, ranking);
    accepted?;
    let adoption = adoption?;
    let adopted = blocking(move || Ok(adoption.map(Adoption::settle))).await?;
    Ok((cache, budget, adopted))
}

/// Has the service manager keep memory until the next start, for which nobody changes it any more: `all_ended` says so.
pub(crate) async fn keep(
    cache: &Cache,
    manager: &Manager,
    clock: &Arc<dyn Clock>,
    all_ended: bool,
) {
    let began = clock.monotonic();
    let kept = match all_ended {
        true => manager.keep(cache).await,
        false => Err(std::io::Error::other("calls under way could not be ended")),
    };
    match kept {
        Ok(kept) => tracing::info!(
            entries = kept.entries,
            bytes = kept.bytes,
            took_ms = (clock.monotonic() - began).as_millis(),
            "the service manager keeps what memory has"
        ),
        Err(error) => tracing::warn!(%error, "the service manager does not keep what memory has"),
    }
}

/// A line for a person.
pub(crate) fn tell_adopted(adopted: &Adopted, took: Duration) {
    tracing::info!(
        entries = adopted.entries,
        bytes = adopted.bytes,
        sampled = adopted.sampled,
        mismatched = adopted.mismatched,
        refused = adopted.refused,
        evicted = adopted.evicted,
        took_ms = took.as_millis(),
        "taken over"
    );
    if adopted.mismatched > 0 {
        tracing::error!(
            mismatched = adopted.mismatched,
            "memory that was handed over was not as it was written: those entries were dropped, and all others compared since the first"
        );
    }
}

impl Making {
    /// `None` where there is none, or the predecessor has died before all of it was there.
    async fn by_legacy(
        &self,
        legacy: &mut Legacy,
        ahead: &mut Ahead,
    ) -> Result<Option<(Cache, Adoption)>, Error> {
        let Some(regions) = legacy.regions.take() else {
            return Ok(None);
        };
        let Self { config, parts } = self.clone();
        let preparing = blocking(move || {
            let prepared = Cache::over(config, parts, regions)?;
            prepared.map_ahead();
            Ok(prepared)
        });
        let prepared = preparing.await?;
        let Some(snapshot) = legacy.snapshot().await.map_err(takeover_failed)? else {
            return Ok(None);
        };
        let error = match blocking(move || prepared.adopt(snapshot)).await {
            Ok(taken) => {
                ahead.enter(&taken.0)?;
                return Ok(Some(taken));
            }
            Err(error) => error,
        };
        match legacy.has_died().await.map_err(takeover_failed)? {
            true => Ok(None),
            false => Err(error),
        }
    }

    /// `None` where there is none, or it cannot be believed.
    async fn by_kept(
        &self,
        kept: Result<Option<Kept>, std::io::Error>,
        ahead: &mut Ahead,
    ) -> Result<Option<(Cache, Adoption)>, Error> {
        let taken = match kept {
            Ok(None) => return Ok(None),
            Ok(Some(Kept { handed, snapshot })) => match self.succeed(handed).await {
                Ok(taken) => {
                    // Before it is spent: the next process has it then.
                    ahead.enter(&taken.0)?;
                    snapshot.spend().map(|()| taken).map_err(Error::from)
                }
                Err(error) => Err(error),
            },
            Err(error) => Err(error.into()),
        };
        Ok(taken
            .inspect_err(|error| {
                tracing::warn!(
                    %error,
                    "what the service manager has kept is not taken over: starting with nothing"
                );
            })
            .ok())
    }

    async fn succeed(&self, handed: Handed) -> Result<(Cache, Adoption), Error> {
        let Self { config, parts } = self.clone();
        blocking(move || Cache::succeed(config, parts, handed)).await
    }
}

/// On a thread where it disturbs nobody.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, bowstring_wire::error::Error> + Send + 'static,
) -> Result<T, Error> {
    let done = tokio::task::spawn_blocking(work).await;
    Ok(done.map_err(std::io::Error::other)??)
}
