//! A server with a cold tier that is killed while it writes tensors down and right after it has started, and one
//! whose store was damaged while it was stopped: every read is what was acknowledged last, or a miss.

use std::collections::BTreeMap;
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use arrow_flight::Action;
use arrow_flight::flight_service_client::FlightServiceClient;
use bowstring_client::{Address, Code, Connection, Descriptor, Shape};
use bowstring_tests::{Builder, Server};
use bowstring_wire::dtype::DType;
use serde_json::{Value, json};
use tempfile::TempDir;
use tonic::transport::Channel;

use super::content::{len_of, of};
use super::dice::Dice;
use super::state::{charged_bytes, ledger_used};
use super::{is_large, scaled};

const MEMORY: u64 = 64 << 20;
/// Between looks at a server that opens its tier.
pub const TICK: Duration = Duration::from_millis(5);
const KEYS: u64 = 600;
const LEAST: usize = 1 << 10;
const MOST: usize = 2 << 20;

/// A store, the directory of its index, and what was said of each key.
pub struct Place {
    pub store: TempDir,
    pub state: TempDir,
    /// The puts that may be read: the last one acknowledged, and one that nobody knows of. None is a delete.
    pub said: BTreeMap<u64, Vec<Option<u64>>>,
    pub puts: u64,
    pub dice: Dice,
    /// The keys that are changed.
    pub keys: Range<u64>,
}

/// A server and its client.
pub struct Node {
    pub server: Server,
    pub client: Client,
}

/// Connections to a server.
pub struct Client {
    connection: Connection,
    runtime: tokio::runtime::Runtime,
    actions: FlightServiceClient<Channel>,
}

impl Place {
    pub fn new(keys: Range<u64>) -> Self {
        let dir = || tempfile::tempdir().expect("a directory");
        Self {
            store: dir(),
            state: dir(),
            said: BTreeMap::new(),
            puts: 0,
            dice: Dice::new(keys.start ^ 8),
            keys,
        }
    }

    pub fn builder(&self, with_state: bool) -> Builder {
        let url = format!("file://{}", self.store.path().display());
        let builder = Server::builder()
            .memory(&MEMORY.to_string())
            .flag("--cold", url);
        match with_state {
            true => builder.flag("--state-dir", self.state.path()),
            false => builder,
        }
    }

    pub fn key(&mut self) -> u64 {
        let Range { start, end } = self.keys;
        start + self.dice.next() % (end - start)
    }

    /// Puts or deletes a key; false where that was not acknowledged: then nobody knows.
    pub fn change(&mut self, client: &mut Client) -> bool {
        let key = self.key();
        self.puts += 1;
        let put = (!self.dice.once_in(5)).then_some(self.puts);
        self.said.entry(key).or_default().push(put);
        let done = match put {
            Some(put) => client.put(key, put),
            None => client.delete(key),
        };
        if done {
            self.said.insert(key, vec![put]);
        }
        done
    }

    /// Reads every key; gives how many were there.
    pub fn check(&self, client: &mut Client) -> u64 {
        let read = self.said.keys().map(|key| self.read(client, *key));
        read.filter(|is_there| *is_there).count() as u64
    }

    /// Reads a key; whether it was there.
    pub fn read(&self, client: &mut Client, key: u64) -> bool {
        let said = self.said.get(&key).map_or(&[None][..], |said| said);
        let ticket = json!({"key": key.to_string()}).to_string();
        let mut buffer = Vec::new();
        let mut get = || client.connection.get_into(ticket.as_bytes(), &mut buffer);
        match get() {
            Ok(_) => {
                let len = len_of(key, LEAST, MOST);
                let mut puts = said.iter().flatten();
                assert!(
                    puts.any(|put| buffer == of(key, *put, len)),
                    "{key} is none of {said:?}"
                );
                return true;
            }
            // Behind its first block, which was on its way by then: from now on it is a miss.
            Err(error) if error.code == Code::DataLoss => {
                assert!(get().is_err_and(|error| error.code == Code::NotFound));
            }
            // The store did not answer any more, behind the first block.
            Err(error) if error.code == Code::Unavailable && client.connection.is_open() => {}
            Err(error) => assert_eq!(error.code, Code::NotFound, "{error}"),
        }
        false
    }

    fn files(&self) -> Vec<PathBuf> {
        let mut files = Vec::new();
        files_under(self.store.path(), &mut files);
        files.sort();
        files
    }
}

impl Node {
    pub fn start(builder: &Builder) -> Self {
        Self::start_again(builder, 1)
    }

    /// Where the store may fail so often that the server gives up, as somebody does who starts it again.
    pub fn start_again(builder: &Builder, tries: u32) -> Self {
        let server = builder.start_again(tries);
        while server.metrics().count("bowstring_cold_ready") == 0 {
            thread::sleep(TICK);
        }
        Self {
            client: Client::of(&server),
            server,
        }
    }

    pub fn kill(&mut self) {
        self.server.kill();
    }
}

impl Client {
    pub fn of(server: &Server) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        let address: Address = server.uri().parse().expect("an address");
        Self {
            connection: Connection::connect(&address).expect("a connection"),
            actions: runtime.block_on(server.client()),
            runtime,
        }
    }

    pub fn put(&mut self, key: u64, put: u64) -> bool {
        let bytes = of(key, put, len_of(key, LEAST, MOST));
        let command = json!({"key": key.to_string(), "mode": "replace"}).to_string();
        let shape = Shape::new(&[bytes.len() as u64]).expect("a shape");
        let to = Descriptor::Command(command.as_bytes());
        self.connection
            .put(to, DType::UInt8, &shape, &bytes)
            .is_ok()
    }

    pub fn delete(&mut self, key: u64) -> bool {
        self.act("delete", &json!({"keys": [key.to_string()]}))
    }

    /// Whether an action was done.
    pub fn act(&mut self, name: &str, body: &Value) -> bool {
        let action = Action {
            r#type: name.to_owned(),
            body: body.to_string().into(),
        };
        self.runtime.block_on(async {
            let replies = self.actions.do_action(action).await;
            match replies {
                Ok(mut replies) => replies.get_mut().message().await.is_ok(),
                Err(_) => false,
            }
        })
    }
}

fn files_under(dir: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            files_under(&path, files);
        } else {
            files.push(path);
        }
    }
}

#[test]
fn a_server_that_is_killed_reads_what_was_acknowledged_or_misses() {
    let mut place = Place::new(0..KEYS);
    let (mut hits, mut charged) = (0, 0);
    let kills = scaled(20);
    for round in 0..kills {
        let mut node = Node::start(&place.builder(true));
        hits += place.check(&mut node.client);
        if round % 4 == 3 {
            // Right after the start.
            node.kill();
            continue;
        }
        for _ in 0..100 + place.dice.below(300) {
            assert!(place.change(&mut node.client), "it still runs");
        }
        let metrics = node.server.metrics();
        assert!(ledger_used(&metrics) <= MEMORY as f64);
        charged = charged.max(charged_bytes(&node.server));
        assert!(
            charged <= MEMORY / 100 * 102 + (64 << 20),
            "{charged} bytes are charged"
        );
        node.kill();
    }
    let mut node = Node::start(&place.builder(true));
    assert!(place.change(&mut node.client));
    hits += place.check(&mut node.client);
    eprintln!(
        "{kills} kills, {} changes: {hits} reads right, {} keys; charged at most {} MiB",
        place.puts,
        place.said.len(),
        charged >> 20
    );
    assert!(hits > 0);
}

#[test]
fn a_store_that_was_damaged_is_misses() {
    let mut place = Place::new(0..KEYS);
    let (mut hits, mut damaged) = (0, 0);
    for round in 0..scaled(20) {
        let with_state = round % 2 == 0;
        let mut node = Node::start(&place.builder(with_state));
        hits += place.check(&mut node.client);
        for _ in 0..150 {
            assert!(place.change(&mut node.client), "it goes on");
        }
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        assert_eq!(runtime.block_on(node.server.stop()), Some(0));
        drop(node);
        // One log record that cannot be read takes all with it that is older: of some files, few, where some shall be left.
        let files = if is_large() { 50 } else { 3 };
        for _ in 0..files {
            damage(&place.files(), &mut place.dice);
            damaged += 1;
        }
    }
    eprintln!(
        "{damaged} files damaged, {} changes: {hits} reads right",
        place.puts
    );
    assert!(hits > 0);
}

/// Flips a bit of a file, cuts it short, removes it, or puts another one in its place.
fn damage(files: &[PathBuf], dice: &mut Dice) {
    if files.is_empty() {
        return;
    }
    let path = dice.pick(files);
    // Epochs say nothing but their names.
    let mut bytes = fs::read(path).expect("a file");
    match dice.below(8) {
        0 => bytes.truncate(bytes.len() / 2),
        1 => bytes = fs::read(dice.pick(files)).expect("a file"),
        _ if bytes.is_empty() => return,
        _ => {
            let at = dice.below(bytes.len());
            bytes[at] ^= 1 << dice.below(8);
        }
    }
    fs::write(path, bytes).expect("a file");
}
