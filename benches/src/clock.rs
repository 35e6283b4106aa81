//! Time. The runner measures the machine it is on; nobody simulates it.

use std::time::{Duration, Instant};

/// Measures from its start.
#[derive(Clone, Copy, Debug)]
pub struct Stopwatch {
    start: Instant,
}

impl Stopwatch {
    /// Begins now.
    #[expect(
        clippy::disallowed_methods,
        reason = "what is measured is the real machine"
    )]
    pub fn start() -> Stopwatch {
        let start = Instant::now();
        Stopwatch { start }
    }

    /// So many seconds after the start.
    pub fn at(&self, seconds: f64) -> tokio::time::Instant {
        (self.start + Duration::from_secs_f64(seconds)).into()
    }

    /// Seconds since the start.
    pub fn seconds(&self) -> f64 {
        self.start.elapsed().as_secs_f64()
    }
}
