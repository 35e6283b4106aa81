//! Clients that try again: each puts and gets keys of its own, one call at a time, and knows what each key must have.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bowstring_client::{Address, Code, Connection, Descriptor, Options, Shape};
use bowstring_wire::dtype::DType;
use serde_json::json;

use super::content::{len_of, of};
use super::dice::Dice;

/// A client that has tried for so long gives up: that is a failure.
const PATIENCE: Duration = Duration::from_secs(20);
/// Between two tries.
const PAUSE: Duration = Duration::from_millis(5);

/// What a client is to do.
#[derive(Clone, Copy)]
pub struct Work {
    /// Keys of each client.
    pub keys: u64,
    /// Their tensors' bytes, at least and at most.
    pub bytes: (usize, usize),
}

/// What all of them have seen.
#[derive(Default)]
pub struct Seen {
    pub puts: AtomicU64,
    pub hits: AtomicU64,
    /// Of keys that were put, and of those that were not yet.
    pub misses: AtomicU64,
    pub unknown: AtomicU64,
    pub retries: AtomicU64,
    longest: Mutex<Duration>,
}

/// Clients at work, until they are stopped.
pub struct Crowd {
    stop: Arc<AtomicBool>,
    pub seen: Arc<Seen>,
    clients: Vec<JoinHandle<Client>>,
}

struct Client {
    number: u64,
    work: Work,
    address: Address,
    connection: Option<Connection>,
    /// Which put each key has.
    said: BTreeMap<u64, u64>,
    seen: Arc<Seen>,
}

impl Crowd {
    pub fn start(address: &str, clients: u64, work: Work) -> Self {
        let (stop, seen) = (Arc::<AtomicBool>::default(), Arc::<Seen>::default());
        let client = |number| {
            let address: Address = address.parse().expect("an address");
            let (stop, seen) = (stop.clone(), seen.clone());
            std::thread::spawn(move || {
                let mut client = Client {
                    number,
                    work,
                    address,
                    connection: None,
                    said: BTreeMap::new(),
                    seen,
                };
                let mut dice = Dice::new(number);
                for put in 1.. {
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                    let key = dice.next() % work.keys;
                    match dice.once_in(2) {
                        true => client.put(key, put),
                        false => client.get(key),
                    }
                }
                client
            })
        };
        let clients = (0..clients).map(client).collect();
        Self {
            stop,
            seen,
            clients,
        }
    }

    /// Waits until so many more puts were acknowledged.
    pub fn work_on(&self, puts: u64) {
        let until = self.seen.puts.load(Ordering::Relaxed) + puts;
        let began = now();
        while self.seen.puts.load(Ordering::Relaxed) < until {
            let is_stuck = self.clients.iter().any(JoinHandle::is_finished);
            assert!(
                !is_stuck && began.elapsed() < 4 * PATIENCE,
                "nothing goes on"
            );
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Stops all clients, reads every key once more, and says what was seen.
    pub fn stop(self) -> String {
        self.stop.store(true, Ordering::Relaxed);
        for client in self.clients {
            let mut client = client.join().expect("no failed request");
            let keys: Vec<u64> = client.said.keys().copied().collect();
            keys.into_iter().for_each(|key| client.get(key));
        }
        let seen = &self.seen;
        let count = |of: &AtomicU64| of.load(Ordering::Relaxed);
        format!(
            "{} puts, {} gets right, {} misses, {} tries again, the longest call {:?}",
            count(&seen.puts),
            count(&seen.hits),
            count(&seen.misses),
            count(&seen.retries),
            *seen.longest.lock().expect("no panic before"),
        )
    }
}

impl Client {
    fn put(&mut self, key: u64, put: u64) {
        let bytes = of(self.content(key), put, self.len(key));
        let command = json!({"key": self.name(key), "mode": "replace"}).to_string();
        let shape = Shape::new(&[bytes.len() as u64]).expect("a shape");
        self.until_done(|connection| {
            let to = Descriptor::Command(command.as_bytes());
            connection.put(to, DType::UInt8, &shape, &bytes).map(drop)
        });
        self.said.insert(key, put);
        self.seen.puts.fetch_add(1, Ordering::Relaxed);
    }

    fn get(&mut self, key: u64) {
        let ticket = json!({"key": self.name(key)}).to_string();
        let mut buffer = Vec::new();
        let is_there = self.until_done(|connection| {
            match connection.get_into(ticket.as_bytes(), &mut buffer) {
                Ok(_) => Ok(true),
                Err(error) if error.code == Code::NotFound => Ok(false),
                Err(error) => Err(error),
            }
        });
        let put = self.said.get(&key);
        if !is_there {
            let missed = put.map_or(&self.seen.unknown, |_| &self.seen.misses);
            missed.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let put = put.expect("a key that was put");
        let expected = of(self.content(key), *put, self.len(key));
        assert!(buffer == expected, "key {key} is not put {put}");
        self.seen.hits.fetch_add(1, Ordering::Relaxed);
    }

    /// Calls until it is answered.
    fn until_done<T>(
        &mut self,
        mut call: impl FnMut(&mut Connection) -> Result<T, bowstring_wire::error::Error>,
    ) -> T {
        let began = now();
        loop {
            let result = match self.connection.take().filter(Connection::is_open) {
                Some(connection) => Ok(connection),
                None => {
                    let timeout = Some(PATIENCE);
                    Connection::connect_with(&self.address, &Options { timeout })
                }
            };
            let result = result.and_then(|mut connection| {
                let result = call(&mut connection);
                self.connection = Some(connection);
                result
            });
            match result {
                Ok(done) => {
                    let mut longest = self.seen.longest.lock().expect("no panic before");
                    *longest = began.elapsed().max(*longest);
                    return done;
                }
                Err(error) if error.is_retryable() && began.elapsed() < PATIENCE => {
                    self.seen.retries.fetch_add(1, Ordering::Relaxed);
                    std::thread::sleep(PAUSE);
                }
                Err(error) => panic!("a request failed after {:?}: {error}", began.elapsed()),
            }
        }
    }

    fn name(&self, key: u64) -> String {
        format!("{}/{key}", self.number)
    }

    /// What stands for this client's key among those of all.
    fn content(&self, key: u64) -> u64 {
        self.number * self.work.keys + key
    }

    fn len(&self, key: u64) -> usize {
        let (least, most) = self.work.bytes;
        len_of(self.content(key), least, most)
    }
}

#[expect(clippy::disallowed_methods, reason = "tests have no clock handle")]
fn now() -> Instant {
    Instant::now()
}
