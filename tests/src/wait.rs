//! Waiting. What is waited for comes soon, or the test has failed: no test asserts how soon.

use std::future::Future;
use std::time::Duration;

/// After this long, what a test waits for will not come.
pub const PATIENCE: Duration = Duration::from_secs(30);
/// Between two looks.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// What `future` gives.
///
/// # Panics
/// After [`PATIENCE`], naming `what`.
#[expect(
    clippy::disallowed_methods,
    reason = "a guard against tests that hang, not a measurement"
)]
pub async fn within<F: Future>(what: &str, future: F) -> F::Output {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(output) => output,
        Err(_) => panic!("gave up after {PATIENCE:?}: {what}"),
    }
}

/// Looks again and again until `look` gives something.
///
/// # Panics
/// After [`PATIENCE`], naming `what`.
pub async fn until<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    within(what, async {
        loop {
            if let Some(found) = look().await {
                return found;
            }
            pause(LOOK_AGAIN).await;
        }
    })
    .await
}

/// Lets time go by, for what cannot be waited for: that something does *not* come.
#[expect(clippy::disallowed_methods, reason = "tests have no clock handle")]
pub async fn pause(time: Duration) {
    tokio::time::sleep(time).await;
}
