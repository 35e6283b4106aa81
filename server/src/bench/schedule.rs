//! When an operation is to start.

use std::time::Duration;

/// The starts of one connection's rounds, a round being as many operations as are pipelined.
#[derive(Clone, Debug)]
pub struct Schedule {
    /// Between two starts; none where the next starts when the last has ended.
    step: Option<Duration>,
    next: Duration,
    end: End,
    /// Operations in a round.
    round: u64,
}

#[derive(Clone, Copy, Debug)]
enum End {
    At(Duration),
    After(u64),
}

/// One round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Round {
    /// When it is to start; the past where it is late, and then latency counts from there.
    pub start: Duration,
    /// How many operations.
    pub operations: u64,
}

/// Whose schedule it is.
#[derive(Clone, Copy, Debug)]
pub struct Share {
    /// Which connection.
    pub number: u32,
    /// Of how many.
    pub of: u32,
    /// Operations in a round.
    pub round: u32,
}

impl Schedule {
    /// From `start` on: at `rate` a second, of all connections together, for `duration` or, where there are `operations`, until this
    /// connection's share of them is done.
    pub fn new(
        share: Share,
        start: Duration,
        rate: Option<f64>,
        duration: Duration,
        operations: Option<u64>,
    ) -> Self {
        let round = f64::from(share.round);
        // Connections take turns, so that the load as a whole is even.
        let first = rate.map_or(Duration::ZERO, |rate| {
            Duration::from_secs_f64(f64::from(share.number) * round / rate)
        });
        let step = rate.map(|rate| Duration::from_secs_f64(f64::from(share.of) * round / rate));
        let end = match operations {
            None => End::At(start + duration),
            Some(all) => {
                let more = u64::from(u64::from(share.number) < all % u64::from(share.of));
                End::After(all / u64::from(share.of) + more)
            }
        };
        Self {
            step,
            next: start + first,
            end,
            round: u64::from(share.round),
        }
    }

    /// The next round, at `now`; `None` where there is none any more.
    pub fn next(&mut self, now: Duration) -> Option<Round> {
        let start = if self.step.is_some() { self.next } else { now };
        let operations = match &mut self.end {
            // Whoever is behind stops in time as well.
            End::At(end) if start.max(now) >= *end => return None,
            End::At(_) => self.round,
            End::After(0) => return None,
            End::After(left) => {
                let operations = self.round.min(*left);
                *left -= operations;
                operations
            }
        };
        if let Some(step) = self.step {
            self.next += step;
        }
        Some(Round { start, operations })
    }

    /// Operations that were to start before the end and never did.
    pub fn missed(&self) -> u64 {
        match (self.end, self.step) {
            (End::At(end), Some(step)) if self.next < end => {
                let rounds = (end - self.next)
                    .as_nanos()
                    .div_ceil(step.as_nanos().max(1));
                u64::try_from(rounds)
                    .unwrap_or(u64::MAX)
                    .saturating_mul(self.round)
            }
            _ => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn share(number: u32, of: u32, round: u32) -> Share {
        Share { number, of, round }
    }

    #[test]
    fn a_rate_is_shared_and_kept_however_late_it_gets() {
        let mut second = Schedule::new(share(1, 2, 1), SECOND, Some(4.0), SECOND * 2, None);
        let starts: Vec<u128> = std::iter::from_fn(|| second.next(SECOND))
            .map(|round| round.start.as_millis())
            .collect();
        assert_eq!(starts, [1250, 1750, 2250, 2750]);
        assert_eq!(second.missed(), 0);

        let mut late = Schedule::new(share(0, 2, 1), SECOND, Some(4.0), SECOND * 2, None);
        // A second late: the start stays what it was, and so the wait counts.
        assert_eq!(late.next(SECOND * 2).unwrap().start, SECOND);
        assert_eq!(late.next(SECOND * 3), None);
        assert_eq!(late.missed(), 3);
    }

    #[test]
    fn without_a_rate_it_starts_at_once() {
        let mut closed = Schedule::new(share(0, 1, 8), SECOND, None, SECOND, None);
        let now = SECOND * 3 / 2;
        let expected = Round {
            start: now,
            operations: 8,
        };
        assert_eq!(closed.next(now), Some(expected));
        assert_eq!(closed.next(SECOND * 2), None);
        assert_eq!(closed.missed(), 0);
    }

    #[test]
    fn operations_are_shared_out_to_the_last_one() {
        let mut all = 0;
        for number in 0..3 {
            let mut schedule = Schedule::new(share(number, 3, 4), SECOND, None, SECOND, Some(23));
            while let Some(round) = schedule.next(SECOND * 100) {
                all += round.operations;
            }
        }
        assert_eq!(all, 23);
    }
}
