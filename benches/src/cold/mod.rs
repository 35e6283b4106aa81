//! The cold tier: large tensors out of files beside the same files through a plain socket, small ones many at a time, what
//! compression saves and costs, a working set of twenty times the memory, a start over a million entries.
//!
//! - `large`: with `file_tcp`, its peer. `small`: by multi-get, and by mux. `compressed`: beside the same without. `working_set`: Zipf reads. `restart`: until it serves.

mod compressed;
pub mod file_tcp;
mod large;
mod restart;
mod small;
mod working_set;

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use arrow_array::RecordBatch;
use arrow_flight::Action;
use arrow_flight::flight_service_client::FlightServiceClient;
use futures::TryStreamExt;
use serde_json::Value;
use tokio::runtime::Runtime;
use tonic::transport::Channel;

use crate::Outcome;
use crate::peers::bowstring::Server;
use crate::peers::stock_flight;
use crate::report::Goal;

/// All rows.
pub fn run(repeats: usize) -> Outcome<Vec<Goal>> {
    let mut goals = large::run(repeats)?;
    goals.extend(small::run(repeats.min(5))?);
    goals.extend(compressed::run(repeats.min(5))?);
    goals.push(restart::run(repeats.min(5))?);
    goals.extend(working_set::run(repeats.min(3))?);
    Ok(goals)
}

/// A directory for a store and its index, removed when this is dropped.
struct Place(PathBuf);

impl Place {
    fn new(name: &str) -> Outcome<Place> {
        let folder = format!("bowstring-{name}-{}", std::process::id());
        let place = Place(std::env::temp_dir().join(folder));
        fs::create_dir_all(place.store())?;
        fs::create_dir_all(place.state())?;
        Ok(place)
    }

    fn store(&self) -> PathBuf {
        self.0.join("store")
    }

    fn state(&self) -> PathBuf {
        self.0.join("state")
    }

    /// A server over it.
    fn serve(&self, memory: &str, more: &[&str]) -> Outcome<Server> {
        let url = format!("file://{}", self.store().display());
        let state = self.state().display().to_string();
        let flags = ["--cold", &url, "--state-dir", &state];
        Server::start_with(memory, &[&flags, more].concat())
    }

    /// Its segments of at least so many bytes.
    fn segments(&self, least: u64) -> Outcome<Vec<PathBuf>> {
        let mut found = Vec::new();
        for entry in fs::read_dir(self.store().join("segments"))? {
            let entry = entry?;
            let path = entry.path();
            let is_segment = path.extension().is_some_and(|end| end == "arrow");
            if is_segment && entry.metadata()?.len() >= least {
                found.push(path);
            }
        }
        found.sort();
        Ok(found)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // What is left of it is the system's to clear.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Where the bytes of a file are before it is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PageCache {
    Has,
    HasNot,
}

impl PageCache {
    fn name(self) -> &'static str {
        match self {
            PageCache::Has => "in the page cache",
            PageCache::HasNot => "not in the page cache",
        }
    }

    fn settle(self, files: &[PathBuf]) -> Outcome<()> {
        files.iter().try_for_each(|file| self.settle_one(file))
    }

    fn settle_one(self, path: &Path) -> Outcome<()> {
        let mut file = File::open(path)?;
        match self {
            PageCache::Has => {
                std::io::copy(&mut file, &mut std::io::sink())?;
            }
            PageCache::HasNot => {
                // What is not on the disk yet stays in the cache.
                file.sync_all()?;
                rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed)?;
            }
        }
        Ok(())
    }
}

/// A client of actions and gets of many keys.
struct Client {
    runtime: Runtime,
    client: FlightServiceClient<Channel>,
}

impl Client {
    fn of(server: &Server) -> Outcome<Client> {
        let runtime = Runtime::new()?;
        let uri = server.flight.replace("grpc://", "http://");
        let client = runtime.block_on(stock_flight::connect(&uri))?;
        Ok(Client { runtime, client })
    }

    fn act(&mut self, name: &str, body: &Value) -> Outcome<()> {
        let (runtime, client) = (&self.runtime, &mut self.client);
        runtime.block_on(async {
            let action = Action::new(name, body.to_string());
            let results = client.do_action(action).await?.into_inner();
            let _: Vec<_> = results.try_collect().await?;
            Ok(())
        })
    }

    fn put(&mut self, command: &str, batch: RecordBatch) -> Outcome<()> {
        let (runtime, client) = (&self.runtime, &mut self.client);
        let put = stock_flight::put(client, command.to_owned(), vec![batch]);
        runtime.block_on(put).map(drop)
    }

    /// How many rows a ticket gives.
    fn rows(&mut self, ticket: &Value) -> Outcome<usize> {
        let (runtime, client) = (&self.runtime, &mut self.client);
        runtime.block_on(stock_flight::get(client, ticket.to_string()))
    }
}
