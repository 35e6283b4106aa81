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
    gets: Gets,
    /// When the round began whose gets are still to be read.
    begun: Option<Duration>,
    tally: Tally,
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
            gets: Gets::default(),
            begun: None,
            tally: Tally::default(),
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

    /// Has the workers of one thread work from `start` on until all is done, or the time is over. While the replies of one are
    /// read, the requests of the others are under way.
    pub fn work(workers: &mut [Self], start: Duration) -> std::result::Result<Tally, BenchError> {
        let alone = workers.len() == 1;
        let mut working: Vec<_> = workers
            .iter_mut()
            .map(|worker| (worker.schedule(start), worker))
            .collect();
        let mut all = Tally::default();
        while !working.is_empty() {
            let mut at = 0;
            while let Some((schedule, worker)) = working.get_mut(at) {
                if worker.turn(schedule, alone)? {
                    at += 1;
                    continue;
                }
                worker.tally.took = worker.clock.monotonic().saturating_sub(start);
                worker.tally.missed = schedule.missed();
                all.add(&worker.tally);
                working.remove(at);
            }
        }
        Ok(all)
    }

    fn schedule(&self, start: Duration) -> Schedule {
        let settings = self.settings;
        let share = Share {
            number: self.number,
            of: settings.concurrency,
            round: settings.pipeline,
        };
        let (rate, duration) = (settings.rate, settings.duration);
        Schedule::new(share, start, rate, duration, settings.operations)
    }

    /// Reads what was begun and begins the next round; whoever is `alone` reads it at once. False at the end.
    fn turn(
        &mut self,
        schedule: &mut Schedule,
        alone: bool,
    ) -> std::result::Result<bool, BenchError> {
        let broke = |source| gone("the connection broke", self.settings, source);
        self.finish().map_err(broke)?;
        let Some(round) = schedule.next(self.clock.monotonic()) else {
            return Ok(false);
        };
        let wait = round.start.saturating_sub(self.clock.monotonic());
        if wait > Duration::ZERO {
            thread::sleep(wait);
        }
        self.begin(round.start, round.operations).map_err(broke)?;
        if alone {
            self.finish().map_err(broke)?;
        } else if self.begun.is_some() {
            let keys = &self.gets.keys[..self.gets.count];
            self.target.begin(keys).map_err(broke)?;
        }
        Ok(true)
    }

    /// Draws the keys of a round, and puts those that are to be put.
    fn begin(&mut self, start: Duration, operations: u64) -> Result<()> {
        self.gets.clear();
        for _ in 0..operations {
            let number = self.chooser.next(&mut self.random);
            if self.settings.read_share >= 1.0 || self.random.unit() < self.settings.read_share {
                self.gets.push(number);
                continue;
            }
            match self.put(number) {
                Ok(()) => {
                    let latency = self.clock.monotonic().saturating_sub(start);
                    let bytes = self.settings.size.of(number);
                    self.tally.puts.record(bytes, latency);
                }
                Err(error) if self.target.is_open() => self.tally.fail(error.to_string()),
                Err(error) => return Err(error),
            }
        }
        self.begun = (self.gets.count > 0).then_some(start);
        Ok(())
    }

    /// Gets what the round is to get.
    fn finish(&mut self) -> Result<()> {
        let Some(start) = self.begun.take() else {
            return Ok(());
        };
        let (sizes, clock, tally) = (&self.settings.size, &self.clock, &mut self.tally);
        let Gets {
            count,
            numbers,
            keys,
        } = &self.gets;
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
