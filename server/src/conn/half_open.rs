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
            forget_greeted(&mut line);
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

    /// The oldest gives way now, for a connection that there is no place for; false where none can.
    pub fn give_way(&self) -> bool {
        let oldest = {
            let mut line = self.line.lock();
            forget_greeted(&mut line);
            line.pop_front()
        };
        if let Some(oldest) = &oldest {
            oldest.cancel();
        }
        oldest.is_some()
    }
}

/// Those who got through, or went, left their token cancelled behind.
fn forget_greeted(line: &mut VecDeque<CancellationToken>) {
    while line.front().is_some_and(CancellationToken::is_cancelled) {
        line.pop_front();
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

    #[test]
    fn one_gives_way_for_each_who_has_no_place() {
        let half_open = HalfOpen::new(10);
        let tokens: Vec<_> = (0..3).map(|_| half_open.enter()).collect();
        tokens[0].cancel(); // greeted
        assert!(half_open.give_way());
        assert!(tokens[1].is_cancelled() && !tokens[2].is_cancelled());
        assert!(half_open.give_way());
        assert!(tokens[2].is_cancelled());
        assert!(!half_open.give_way());
    }
}
