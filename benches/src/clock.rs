//! Time. The runner measures the machine it is on; nobody simulates it.

use std::time::Instant;

/// Measures from its start.
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

    /// Seconds since the start.
    pub fn seconds(&self) -> f64 {
        self.start.elapsed().as_secs_f64()
    }
}
