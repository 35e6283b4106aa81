//! Memory goes through a service manager that is none: it binds the socket, keeps what it is given, and gives it back.

use std::fs::File;
use std::io::{IoSliceMut, Write as _};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt as _;
use std::os::unix::net::UnixDatagram;
use std::sync::Mutex;
use std::thread::JoinHandle;

use bowstring_cache::handover::Adopted;
use bowstring_cache::put::PutSpec;
use bowstring_cache::{Cache, CacheConfig, Id, Parts};
use bowstring_wire::dtype::DType;
use bowstring_wire::name::{Key, Namespace};
use bowstring_wire::shape::Shape;
use rustix::fs::{MemfdFlags, memfd_create};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use tempfile::TempDir;

use super::*;

const MEMORY: u64 = 64 << 20;
const KEYS: u64 = 200;

/// What it was told, and what it keeps.
#[derive(Default)]
struct Seen {
    said: Vec<String>,
    kept: Vec<(String, OwnedFd)>,
}

struct Fake {
    directory: TempDir,
    seen: Arc<Mutex<Seen>>,
    listening: Option<JoinHandle<()>>,
}

impl Fake {
    fn start() -> Self {
        let directory = TempDir::new().unwrap();
        let socket = UnixDatagram::bind(directory.path().join("notify")).unwrap();
        let seen = Arc::new(Mutex::new(Seen::default()));
        let listening = std::thread::spawn({
            let seen = Arc::clone(&seen);
            move || while hear(&socket, &seen) {}
        });
        Self {
            directory,
            seen,
            listening: Some(listening),
        }
    }

    /// As a process finds it that is started now.
    fn manager(&self, keeps_max: usize) -> Manager {
        let address = self.directory.path().join("notify");
        let notify = Notify::to(address.as_os_str()).unwrap();
        let seen = self.seen.lock().unwrap();
        let kept = seen.kept.iter();
        Manager {
            notify: Some(Arc::new(notify)),
            keeps_max,
            given: kept
                .map(|(name, file)| (name.clone(), file.try_clone().unwrap()))
                .collect(),
        }
    }

    /// Ends it, once it has heard all, and gives what it was told last.
    fn end(mut self) -> Vec<String> {
        self.manager(0).notify.unwrap().say("END").unwrap();
        self.listening.take().unwrap().join().unwrap();
        std::mem::take(&mut self.seen.lock().unwrap().said)
    }
}

fn hear(socket: &UnixDatagram, seen: &Mutex<Seen>) -> bool {
    let mut bytes = [0; 4_096];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut to = [IoSliceMut::new(&mut bytes)];
    let got = recvmsg(socket, &mut to, &mut ancillary, RecvFlags::empty()).unwrap();
    let files: Vec<OwnedFd> = ancillary
        .drain()
        .filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(files) => Some(files),
            _ => None,
        })
        .flatten()
        .collect();
    let said = String::from_utf8(bytes[..got.bytes].to_vec()).unwrap();
    let mut seen = seen.lock().unwrap();
    let named = said.lines().find_map(|line| line.strip_prefix("FDNAME="));
    if said.starts_with("FDSTORE=1\n") {
        let named = files
            .into_iter()
            .map(|file| (named.unwrap().to_owned(), file));
        seen.kept.extend(named);
    } else if said.starts_with("FDSTOREREMOVE=1\n") {
        seen.kept.retain(|(name, _)| Some(name.as_str()) != named);
    }
    let goes_on = said != "END";
    seen.said.push(said);
    goes_on
}

fn config() -> CacheConfig {
    CacheConfig {
        memory: MEMORY,
        ..CacheConfig::default()
    }
}

fn id(key: u64) -> Id {
    let key = Key::parse(&key.to_string()).unwrap();
    Id::public(Namespace::default(), key)
}

fn data(key: u64) -> Vec<u8> {
    let len = usize::try_from(key * 997 % 90_000).unwrap();
    vec![u8::try_from(key % 251).unwrap(); len]
}

async fn filled() -> Cache {
    let cache = Cache::with_parts(config(), Parts::default()).unwrap();
    for key in 0..KEYS {
        let data = data(key);
        let mut put = cache.put(id(key), PutSpec::new(DType::UInt8)).unwrap();
        put.reserve(data.len() as u64).await.unwrap();
        put.write(&data).unwrap();
        let shape = Shape::new(&[data.len() as u64]).unwrap();
        put.publish(shape).await.unwrap();
    }
    cache
}

fn taken(manager: &Manager) -> Result<(Cache, Adopted), String> {
    let kept = manager.kept().map_err(|error| error.to_string())?;
    let Kept { handed, snapshot } = kept.ok_or("nothing was kept")?;
    let taken = Cache::succeed(config(), Parts::default(), handed);
    let (cache, adoption) = taken.map_err(|error| error.message)?;
    snapshot.spend().unwrap();
    Ok((cache, adoption.settle()))
}

#[tokio::test]
async fn all_of_it_is_there_in_each_process_and_is_let_go_of() {
    let fake = Fake::start();
    let mut cache = filled().await;
    for _ in 0..3 {
        let before = cache.stats();
        let kept = fake.manager(1_000).keep(&cache).await.unwrap();
        assert_eq!(kept.entries, KEYS);
        let regions = cache.region_files().unwrap().len();
        assert_eq!(fake.seen.lock().unwrap().kept.len(), regions + 1);
        drop(cache);
        let mut manager = fake.manager(1_000);
        let (next, adopted) = taken(&manager).unwrap();
        manager.let_go().await;
        manager.notify.as_ref().unwrap().was_read().unwrap();
        assert!(fake.seen.lock().unwrap().kept.is_empty());
        assert_eq!(
            (adopted.entries, adopted.mismatched, adopted.refused),
            (KEYS, 0, 0)
        );
        for key in 0..KEYS {
            assert!(next.get(&id(key)).unwrap().into_vec().unwrap() == data(key));
        }
        let after = next.stats();
        assert_eq!(before.arena_used_bytes, after.arena_used_bytes);
        assert!(next.ledger().used() <= next.ledger().total());
        cache = next;
    }
    let manager = fake.manager(1_000);
    manager.ready().await;
    manager.stopping().await;
    drop(manager);
    let said = fake.end();
    assert_eq!(said[said.len() - 3..], ["READY=1", "STOPPING=1", "END"]);
}

#[tokio::test]
async fn nobody_takes_it_over_twice() {
    let fake = Fake::start();
    let cache = filled().await;
    fake.manager(1_000).keep(&cache).await.unwrap();
    drop(cache);
    // One that ends before anything has changed leaves it to the next.
    let manager = fake.manager(1_000);
    let Kept { handed, .. } = manager.kept().unwrap().unwrap();
    drop(Cache::succeed(config(), Parts::default(), handed).unwrap());
    drop(manager);
    let (_served, adopted) = taken(&fake.manager(1_000)).unwrap();
    assert_eq!(adopted.entries, KEYS);
    // One that is killed before the manager has let go of anything.
    let refused = taken(&fake.manager(1_000)).map(drop).unwrap_err();
    assert!(refused.contains("taken over before"), "{refused}");
    fake.end();
}

#[tokio::test]
async fn what_is_not_all_there_or_not_as_it_was_is_refused() {
    let fake = Fake::start();
    let cache = filled().await;
    let few = fake.manager(2).keep(&cache).await.unwrap_err().to_string();
    assert!(few.contains("FileDescriptorStoreMax"), "{few}");
    assert!(fake.seen.lock().unwrap().kept.is_empty());
    assert!(taken(&fake.manager(2)).is_err());
    fake.manager(1_000).keep(&cache).await.unwrap();
    drop(cache);

    type Change<'a> = dyn Fn(&mut Vec<(String, OwnedFd)>) + 'a;
    let refused = |change: &Change<'_>, why: &str| {
        let mut manager = fake.manager(1_000);
        change(&mut manager.given);
        let refused = taken(&manager).map(drop).unwrap_err();
        assert!(refused.contains(why), "{refused}");
    };
    refused(
        &|given| given.retain(|(name, _)| name != "bowstring-0"),
        "not there",
    );
    refused(
        &|given| given.retain(|(name, _)| name != "bowstring-snapshot"),
        "no snapshot",
    );
    refused(
        &|given| {
            let again = given[0].1.try_clone().unwrap();
            given.push((given[0].0.clone(), again));
        },
        "one name",
    );
    refused(
        &|given| {
            // Two regions in each other's place.
            let at = |name| given.iter().position(|(given, _)| given == name).unwrap();
            let (one, other) = (at("bowstring-0"), at("bowstring-1"));
            let name = std::mem::replace(&mut given[one].0, "bowstring-1".to_owned());
            given[other].0 = name;
        },
        "not there",
    );
    for bytes in [
        &b"\xff\xff\xff\xff"[..],
        b"\0\0\0\0",
        b"\0\0\0\0BOWHAND\n",
        b"no",
    ] {
        refused(
            &|given| {
                let mut file = File::from(memfd_create("none", MemfdFlags::CLOEXEC).unwrap());
                file.write_all(bytes).unwrap();
                given.retain(|(name, _)| name != "bowstring-snapshot");
                given.push(("bowstring-snapshot".to_owned(), file.into()));
            },
            "",
        );
    }
    // Its own snapshot, with a byte changed.
    let manager = fake.manager(1_000);
    let mut files = manager.given.iter();
    let (_, snapshot) = files
        .find(|(name, _)| name == "bowstring-snapshot")
        .unwrap();
    let snapshot = File::from(snapshot.try_clone().unwrap());
    let at = snapshot.metadata().unwrap().len() / 2;
    let mut byte = [0];
    snapshot.read_exact_at(&mut byte, at).unwrap();
    snapshot.write_all_at(&[byte[0] ^ 1], at).unwrap();
    let damaged = taken(&manager).map(drop).unwrap_err();
    assert!(damaged.contains("damaged"), "{damaged}");
    snapshot.write_all_at(&byte, at).unwrap();
    assert_eq!(taken(&manager).unwrap().1.entries, KEYS);
    fake.end();
}
