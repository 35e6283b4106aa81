//! One connection's work.

use std::fmt::Write as _;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use bowstring_cache::clock::Clock;
use bowstring_wire::error::{Code, Error, Result};

use super::BenchError;
use super::chooser::{Chooser, Random};
use super::schedule::{Schedule, Share};
use super::settings::Settings;
use super::tally::Tally;
use super::target::{self, Target};

/// A connection and what it draws its work from.
pub struct Worker<'a> {
    settings: &'a Settings,
    number: u32,
    clock: Arc<dyn Clock>,
    target: Box<dyn Target>,
    random: Random,
    chooser: Chooser,
    /// What a tensor is made of, behind its first bytes.
    content: Vec<u8>,
}

/// The gets of a round.
#[derive(Default)]
struct Gets {
    count: usize,
    numbers: Vec<u64>,
    /// As long as any round was; the strings are used again.
    keys: Vec<String>,
}

impl<'a> Worker<'a> {
    /// Connects, as one of many.
    pub fn connect(
        settings: &'a Settings,
        number: u32,
        clock: &Arc<dyn Clock>,
    ) -> std::result::Result<Self, BenchError> {
        let target =
            target::connect(settings).map_err(|source| gone("nobody to ask", settings, source))?;
        let length = usize::try_from(settings.size.largest())
            .map_err(|_| BenchError::Settings("a tensor does not fit in memory".to_owned()))?;
        Ok(Self {
            settings,
            number,
            clock: Arc::clone(clock),
            target,
            random: Random::new(settings.seed.wrapping_add(u64::from(number) << 32)),
            chooser: Chooser::new(settings.keys, settings.zipf),
            content: (0..=255).cycle().take(length).collect(),
        })
    }

    /// Puts this connection's part of the keys.
    pub fn load(&mut self) -> std::result::Result<(), BenchError> {
        let step = usize::try_from(self.settings.concurrency).unwrap_or(usize::MAX);
        for number in (u64::from(self.number)..self.settings.keys).step_by(step) {
            if let Err(source) = self.put(number) {
                return Err(gone("the keys could not be put", self.settings, source));
            }
        }
        Ok(())
    }

    /// Works from `start` on until all is done, or the time is over.
    pub fn work(&mut self, start: Duration) -> std::result::Result<Tally, BenchError> {
        let settings = self.settings;
        let share = Share {
            number: self.number,
            of: settings.concurrency,
            round: settings.pipeline,
        };
        let (rate, duration) = (settings.rate, settings.duration);
        let mut schedule = Schedule::new(share, start, rate, duration, settings.operations);
        let mut tally = Tally::default();
        let mut gets = Gets::default();
        while let Some(round) = schedule.next(self.clock.monotonic()) {
            let wait = round.start.saturating_sub(self.clock.monotonic());
            if wait > Duration::ZERO {
                thread::sleep(wait);
            }
            self.round(round.start, round.operations, &mut gets, &mut tally)
                .map_err(|source| gone("the connection broke", settings, source))?;
        }
        tally.took = self.clock.monotonic().saturating_sub(start);
        tally.missed = schedule.missed();
        Ok(tally)
    }

    fn round(
        &mut self,
        start: Duration,
        operations: u64,
        gets: &mut Gets,
        tally: &mut Tally,
    ) -> Result<()> {
        gets.clear();
        for _ in 0..operations {
            let number = self.chooser.next(&mut self.random);
            if self.settings.read_share >= 1.0 || self.random.unit() < self.settings.read_share {
                gets.push(number);
                continue;
            }
            match self.put(number) {
                Ok(()) => {
                    let latency = self.clock.monotonic().saturating_sub(start);
                    tally.puts.record(self.settings.size.of(number), latency);
                }
                Err(error) if self.target.is_open() => tally.fail(error.to_string()),
                Err(error) => return Err(error),
            }
        }
        if gets.count == 0 {
            return Ok(());
        }
        let (sizes, clock) = (&self.settings.size, &self.clock);
        let Gets {
            count,
            numbers,
            keys,
        } = gets;
        self.target.get(&keys[..*count], &mut |at, got| {
            let latency = clock.monotonic().saturating_sub(start);
            match got {
                Ok(bytes) => {
                    let length = bytes.len() as u64;
                    tally.gets.record(length, latency);
                    if length != sizes.of(numbers[at])
                        || !bytes.starts_with(&numbers[at].to_le_bytes())
                    {
                        tally.be_wrong(format!("other bytes than were put, key=`{}`", keys[at]));
                    }
                }
                Err(error) if error.code == Code::NotFound => tally.misses += 1,
                Err(error) => tally.fail(error.to_string()),
            }
        })
    }

    fn put(&mut self, number: u64) -> Result<()> {
        let mut key = String::new();
        write_key(&mut key, number);
        let length = usize::try_from(self.settings.size.of(number))
            .map_err(|_| Error::invalid("a tensor does not fit in memory"))?;
        // So that a get can tell whose bytes they are.
        self.content[..8].copy_from_slice(&number.to_le_bytes());
        self.target.put(&key, &self.content[..length])
    }
}

impl Gets {
    fn clear(&mut self) {
        self.count = 0;
        self.numbers.clear();
    }

    fn push(&mut self, number: u64) {
        if self.keys.len() == self.count {
            self.keys.push(String::new());
        }
        write_key(&mut self.keys[self.count], number);
        self.numbers.push(number);
        self.count += 1;
    }
}

/// Of one length, as redis-benchmark's are.
fn write_key(key: &mut String, number: u64) {
    key.clear();
    // Writing to a string does not fail.
    let _ = write!(key, "key:{number:012}");
}

fn gone(what: &'static str, settings: &Settings, source: Error) -> BenchError {
    BenchError::Target {
        what,
        endpoint: settings.endpoint.to_string(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_strings_of_a_round_are_used_again() {
        let mut gets = Gets::default();
        gets.push(7);
        gets.push(8);
        gets.clear();
        gets.push(9);
        assert_eq!((gets.count, &gets.numbers[..]), (1, &[9][..]));
        assert_eq!(gets.keys[..gets.count], ["key:000000000009"]);
    }
}
