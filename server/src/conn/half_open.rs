//! Connections that have not said HTTP/2's preface yet.
//!
//! A stranger can open as many as he likes. At the limit the oldest one goes, not the newest: an
//! honest client has sent its preface within milliseconds, so the oldest is the likeliest liar.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

/// The line of connections that are being greeted.
#[derive(Debug)]
pub struct HalfOpen {
    line: Mutex<VecDeque<CancellationToken>>,
    limit: usize,
}

impl HalfOpen {
    /// A line of at most `limit`.
    pub fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self {
            line: Mutex::new(VecDeque::new()),
            limit: limit.max(1),
        })
    }

    /// Joins the line; the token is cancelled when this connection must give way.
    pub fn enter(&self) -> CancellationToken {
        let token = CancellationToken::new();
        let oldest = {
            let mut line = self.line.lock();
            // Those who got through, or went, left their token cancelled behind.
            while line.front().is_some_and(CancellationToken::is_cancelled) {
                line.pop_front();
            }
            if line.len() >= self.limit {
                line.retain(|token| !token.is_cancelled());
            }
            let oldest = if line.len() >= self.limit {
                line.pop_front()
            } else {
                None
            };
            line.push_back(token.clone());
            oldest
        };
        if let Some(oldest) = oldest {
            oldest.cancel();
        }
        token
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_gives_way_and_the_greeted_do_not_count() {
        let half_open = HalfOpen::new(2);
        let first = half_open.enter();
        let second = half_open.enter();
        let third = half_open.enter();
        assert!(first.is_cancelled());
        assert!(!second.is_cancelled() && !third.is_cancelled());
        second.cancel(); // greeted
        let fourth = half_open.enter();
        assert!(!third.is_cancelled() && !fourth.is_cancelled());
    }
}
