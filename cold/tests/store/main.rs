//! What every store has to do, asked of each kind of them, and what they do when they fail.
//!
//! - `azure`: a server of Azure's blob storage
//! - `contract`: the same questions for all
//! - `directory`: what a directory has of its own: fsync, leftovers, a full disk
//! - `failing`: memory behind faults, in simulated time
//! - `gcs`: Google Cloud Storage, as far as it can be had
//! - `s3`: an S3 server in this process, also one that fails
//! - `seaweed`: a real one

#![expect(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "these are tests, and their numbers are small"
)]

mod azure;
mod contract;
mod directory;
mod failing;
mod gcs;
mod s3;
mod seaweed;

use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bowstring_cache::clock::{Clock, Sleep, SystemClock};
use bowstring_cold::store::{Store, StoreSettings};

use contract::Races;

/// Time as tokio has it, which a test can let stand still until everybody waits.
struct TokioClock(tokio::time::Instant);

impl TokioClock {
    #[expect(clippy::disallowed_methods, reason = "this is a handle")]
    fn new() -> Arc<TokioClock> {
        Arc::new(TokioClock(tokio::time::Instant::now()))
    }
}

impl Clock for TokioClock {
    fn now_ms(&self) -> u64 {
        u64::try_from(self.monotonic().as_millis()).unwrap()
    }

    fn monotonic(&self) -> Duration {
        self.0.elapsed()
    }

    #[expect(clippy::disallowed_methods, reason = "this is a handle")]
    fn sleep(&self, duration: Duration) -> Sleep {
        Box::pin(tokio::time::sleep(duration))
    }
}

/// Time-outs that a loaded machine does not reach.
fn patient() -> StoreSettings {
    StoreSettings {
        timeout: Duration::from_secs(60),
        ..StoreSettings::default()
    }
}

fn open(url: &str) -> Store {
    Store::open(url, patient(), Arc::new(SystemClock::new())).unwrap()
}

fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(test);
}

/// A program that `tests/run` has installed; where it has not, nothing is asked, but in CI.
fn installed(program: &str) -> Option<PathBuf> {
    let program = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../tests")
        .join(program);
    if program.exists() {
        return Some(program);
    }
    let in_ci = std::env::var("CI").is_ok_and(|ci| !matches!(&*ci, "" | "0" | "false"));
    let said = format!("`tests/run rust` installs {}", program.display());
    assert!(!in_ci, "{said}");
    eprintln!("not asked: {said}");
    None
}

/// Bytes that no other seed gives.
fn bytes(seed: u64, len: usize) -> bytes::Bytes {
    let word =
        |i: u64| (seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ i).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let words = (0..len.div_ceil(8) as u64).flat_map(|i| word(i).to_le_bytes());
    words.take(len).collect()
}

#[test]
fn memory() {
    run(async {
        contract::all(&open("memory:"), Races::Decided).await;
        contract::all(&open("memory:///a/prefix"), Races::Decided).await;
    });
}

#[test]
fn a_directory() {
    let dir = tempfile::tempdir().unwrap();
    run(async {
        contract::all(
            &open(&format!("file://{}", dir.path().display())),
            Races::Decided,
        )
        .await
    });
}

#[test]
fn a_directory_with_fsync() {
    let dir = tempfile::tempdir().unwrap();
    let settings = StoreSettings {
        fsync: true,
        ..patient()
    };
    let url = format!("file://{}", dir.path().display());
    let store = Store::open(&url, settings, Arc::new(SystemClock::new())).unwrap();
    run(async { contract::all(&store, Races::Decided).await });
}
