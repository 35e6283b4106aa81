//! When the index cannot be written: a full disk, a failed flush. Memory goes on; what is below is not read, and
//! what is gone meanwhile is noted here, until the index works again. So that a kill in between brings none of
//! it back, what is below is given up first: a file that says that it may be trusted is removed, which a full disk
//! allows, and without that file the next start begins with nothing.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bowstring_wire::error::{Error, Result};

use super::{Cold, blocking};
use crate::index::{ColdIndex, IndexError};

/// How often it is tried whether the index works again.
const TICK: Duration = Duration::from_secs(1);
/// Names that are noted meanwhile.
pub(super) const NOTED_MAX: usize = 1_000_000;
const TRUSTED: &str = "TRUSTED";

/// Whether the index works, and what the next start is told of that.
pub(super) struct Trust {
    /// Where it is told; an index that does not outlast the process needs no word.
    dir: Option<PathBuf>,
    lost: AtomicBool,
}

impl Trust {
    pub(super) fn new(dir: Option<PathBuf>) -> Self {
        Self {
            dir,
            lost: AtomicBool::new(false),
        }
    }

    /// Whether the index does not work now.
    pub(super) fn is_lost(&self) -> bool {
        self.lost.load(Ordering::Acquire)
    }

    /// Whether a start before this one gave up what is below.
    pub(super) fn was_given_up(&self) -> bool {
        let dir = self.dir.as_ref();
        dir.is_some_and(|dir| dir.join("index").exists() && !dir.join(TRUSTED).exists())
    }

    /// Says to the next start that what is below can be trusted.
    pub(super) fn give(&self) -> io::Result<()> {
        let Some(dir) = &self.dir else {
            return Ok(());
        };
        fs::create_dir_all(dir)?;
        fs::File::create(dir.join(TRUSTED))?.sync_all()?;
        fs::File::open(dir)?.sync_all()
    }

    fn take(&self) -> io::Result<()> {
        let Some(dir) = &self.dir else {
            return Ok(());
        };
        match fs::remove_file(dir.join(TRUSTED)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

impl Cold {
    /// Takes note of an error of the index.
    pub(super) fn index_failed(&self, error: &IndexError) -> Error {
        if matches!(error, IndexError::Lost(_)) {
            let trust = &self.inner.trust;
            match trust.take() {
                Ok(()) if !trust.lost.swap(true, Ordering::AcqRel) => {
                    tracing::warn!(%error, "cold tier: the index cannot be written; memory goes on alone");
                }
                Ok(()) => {}
                Err(why) => {
                    tracing::error!(%why, "cold tier: it cannot be said that the index is lost; keys that may be below cannot be changed");
                }
            }
        }
        Error::unavailable(format!("cold tier's index: {error}"))
    }

    /// Tries whether a lost index works again. Runs until it is dropped.
    pub async fn mend(&self) {
        loop {
            self.inner.clock.sleep(TICK).await;
            if self.inner.trust.is_lost() {
                match self.mend_index().await {
                    Ok(()) => tracing::info!("cold tier: the index works again"),
                    Err(error) => {
                        tracing::debug!(error = %error.message, "cold tier: still without its index")
                    }
                }
            }
        }
    }

    async fn mend_index(&self) -> Result<()> {
        if let Some(index) = self.inner.index.get()
            && index.is_damaged()
        {
            self.renew(Arc::clone(index)).await?;
        }
        let cold = self.clone();
        blocking(move || {
            let inner = &cold.inner;
            let Some(index) = inner.index.get() else {
                return Ok(());
            };
            let mended = || {
                index.reopen()?;
                index
                    .state()
                    .ok_or_else(|| IndexError::Lost("it lacks what was acknowledged".into()))?;
                let mut before = inner.gone_before.lock();
                cold.forget_before(index, &mut before)?;
                // Under that lock, so that nothing is noted that nobody reads.
                inner.trust.lost.store(false, Ordering::Release);
                Ok::<_, IndexError>(())
            };
            mended().map_err(|error| Error::unavailable(error.to_string()))?;
            inner.trust.give().map_err(|error| {
                Error::unavailable(format!(
                    "it cannot be said that the index works; error=`{error}`"
                ))
            })
        })
        .await?
    }

    /// The index, where it is there and works.
    pub(super) fn working(&self) -> Option<&ColdIndex> {
        let index: &ColdIndex = self.inner.index.get()?;
        (!self.inner.trust.is_lost()).then_some(index)
    }
}
