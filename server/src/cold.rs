//! The cold tier of a server: opened from its settings, run beside it, written out at its end.

use std::sync::Arc;
use std::time::Duration;

use bowstring_cache::Cache;
use bowstring_cache::clock::Clock;
use bowstring_cold::store::StoreSettings;
use bowstring_cold::tier::{Cold, ColdSettings, Saved, Unread};
use bowstring_wire::error::{Code, Error, Result};

use crate::config::{Config, ConfigError, Percent};

/// At most one part in so many of the memory is in one segment; four are written at a time.
const SEGMENT_SHARE: u64 = 64;
/// One part in so many of the memory may be on its way down.
const QUEUE_SHARE: u64 = 8;
/// One part in so many may be on its way from the store to readers.
const PASSING_SHARE: u64 = 8;

/// For each of so many bytes of memory, what is read from files has a buffer of a MiB.
const BUFFER_SHARE: u64 = 32 << 20;
const BUFFERS_MAX: usize = 32;

/// How long a store may not answer before a start gives up.
const STORE_WAIT: Duration = Duration::from_secs(10);
/// From one try to the next.
const AGAIN: Duration = Duration::from_millis(500);

/// Opens the tier that the settings name, if they do. A store that does not answer is asked for ten seconds.
///
/// # Errors
/// As [`Cold::open`].
pub async fn open(
    config: &Config,
    memory_bytes: u64,
    clock: Arc<dyn Clock>,
) -> Result<Option<(Cold, Option<Unread>)>> {
    let Some(url) = &config.cold else {
        return Ok(None);
    };
    let settings = ColdSettings {
        also: config.cold_also.clone(),
        state_dir: config.state_dir.clone(),
        write_policy: config.write_policy,
        segment_bytes: config
            .cold_segment_bytes
            .0
            .min(memory_bytes / SEGMENT_SHARE),
        queue_bytes: memory_bytes / QUEUE_SHARE,
        passing_bytes: memory_bytes / PASSING_SHARE,
        bytes_max: config.cold_bytes_max.map(|bytes| bytes.0),
        stay_reads: config.cold_stay_reads,
        fsync: config.cold_fsync,
        store: StoreSettings {
            concurrency: config.cold_concurrency as usize,
            buffers: usize::try_from(memory_bytes / BUFFER_SHARE)
                .map_or(BUFFERS_MAX, |n| n.clamp(2, BUFFERS_MAX)),
            timeout: config.cold_timeout,
            retry_budget: config.cold_retry,
            fsync: config.cold_fsync,
            ..StoreSettings::default()
        },
        ..ColdSettings::new(url)
    };
    let until = clock.monotonic() + STORE_WAIT;
    let (cold, mut unread) = loop {
        match Cold::open(settings.clone(), Arc::clone(&clock)).await {
            Err(error) if error.code == Code::Unavailable && clock.monotonic() < until => {
                tracing::warn!(error = %error.message, "the cold tier cannot be opened: trying again");
                clock.sleep(AGAIN).await;
            }
            opened => break opened?,
        }
    };
    // Where that takes no time, a put may wait for the tier from the first moment on.
    if let Some(nothing) = unread.take_if(|unread| unread.is_empty()) {
        cold.build(nothing).await?;
    }
    Ok(Some((cold, unread)))
}

/// A store that cannot be is a setting that cannot be; one that does not answer is not.
pub fn misset(error: Error) -> crate::error::Error {
    match error.code {
        Code::InvalidArgument | Code::FailedPrecondition => {
            ConfigError::new(format!("the cold tier cannot be opened: {}", error.message)).into()
        }
        _ => error.into(),
    }
}

/// Keeps the tier going. Runs until it is dropped.
pub async fn run(cold: Cold, unread: Option<Unread>, cache: Cache, warm: Option<Percent>) {
    let building = async {
        if let Some(unread) = unread
            && let Err(error) = cold.build(unread).await
        {
            tracing::error!(error = %error.message, "the cold tier is not used: its index could not be built");
        }
        cache.observe(cold.max_hlc());
        cold.warm(&cache, warm.map(|Percent(percent)| percent))
            .await;
        cold.keep_hot(cache.clone()).await;
    };
    tokio::join!(
        building,
        cold.hand_down(cache.clone()),
        cold.write(cache.clone()),
        cold.keep_log(),
        cold.follow(cache.clone()),
        cold.mend(),
        cold.watch(),
        cold.tidy(cache.clone()),
    );
}

/// Writes down what memory has, until `until` on the monotonic clock.
pub async fn save(cold: &Cold, cache: &Cache, until: Duration) {
    let Some(Saved { entries, left }) = cold.save(cache, until).await else {
        let entries = cache.stats().entries;
        tracing::info!(
            entries,
            "what memory has was not written down: the cold tier is not written to"
        );
        return;
    };
    if left == 0 {
        tracing::info!(entries, "what memory has is in the cold tier");
    } else {
        tracing::warn!(
            entries,
            left,
            "there was no time to write all of memory down; `left` entries are lost"
        );
    }
}
