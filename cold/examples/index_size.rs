//! What an index of so many entries costs in memory and on disk, and how fast it answers.
//!
//! ```text
//! index_size fill DIR ENTRIES      enters tensors under random keys, 4,096 to a segment
//! index_size look DIR ENTRIES      opens what `fill` left, and asks for entries that are there and not
//! index_size churn DIR ENTRIES N   enters, replaces and removes, N times each, among ENTRIES keys
//! index_size rebuild DIR ENTRIES   the same as `fill`, as after a loss of the directory
//! index_size remove DIR THREADS    100 removes a thread, each on the disk (fsync) when it returns
//! ```
//! `fill`, `look` and `churn` of `file:///DIR` are of an index in a store there, as a server without a state directory has.
//!
//! Resident is what the kernel counts of anonymous memory for this process, less what it was before the index
//! was opened; the most of all memory is with the program's own pages.

use std::error::Error;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use bowstring_cache::Id;
use bowstring_cache::clock::{Clock, SystemClock};
use bowstring_cold::entry::{Description, Number, Place, Prefix, Stored};
use bowstring_cold::index::{ColdIndex, InStore, IndexSettings, Rebuild};
use bowstring_cold::store::{Folder, ObjectName, Store, StoreError, StoreSettings};
use bowstring_wire::dtype::DType;
use bowstring_wire::name::{Key, Namespace, Tenant};
use bowstring_wire::shape::Shape;
use bowstring_wire::version::Version;
use bytes::Bytes;
use tokio::runtime::Handle;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const TENSOR_BYTES: u64 = 16 << 10;
const SEGMENT_ENTRIES: u64 = 4096;

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let number = |at: usize| -> Result<u64> {
        let arg = args.get(at).ok_or("too few arguments; see the source")?;
        Ok(arg.replace('_', "").parse()?)
    };
    let (verb, dir) = match &args[..] {
        [verb, dir, ..] => (verb.as_str(), dir),
        _ => return Err("too few arguments; see the source".into()),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let mut settings = match dir.starts_with("file://") {
        true => IndexSettings::in_store(place(dir, runtime.handle())?),
        false => IndexSettings::new(dir),
    };
    // What the allocator keeps of a segment's entries is there before.
    drop(entries_of(0, SEGMENT_ENTRIES)?);
    let mut watch = Watch::start()?;
    match verb {
        "fill" => fill(&ColdIndex::open(settings)?, number(2)?, &mut watch),
        "look" => look(&ColdIndex::open(settings)?, number(2)?, &mut watch),
        "churn" => churn(
            &ColdIndex::open(settings)?,
            number(2)?,
            number(3)?,
            &mut watch,
        ),
        "rebuild" => rebuild(settings, number(2)?, &mut watch),
        "remove" => {
            settings.fsync = true;
            remove(&ColdIndex::open(settings)?, number(2)?, &mut watch)
        }
        _ => Err(format!("no such verb; verb=`{verb}`").into()),
    }
}

/// A store, as the next start of a server finds it.
fn place(url: &str, runtime: &Handle) -> Result<InStore> {
    let store = Store::open(url, StoreSettings::default(), Arc::new(SystemClock::new()))?;
    let epoch = runtime.block_on(async {
        let epochs = store.list(Folder::Epochs).await?;
        let epoch = epochs.last().map_or(0, |last| last.name.number()) + 1;
        store
            .create(
                &ObjectName::Epoch(epoch),
                vec![Bytes::from_static(b"example\n")],
            )
            .await?;
        Ok::<_, StoreError>(epoch)
    })?;
    Ok(InStore {
        store,
        runtime: runtime.clone(),
        epoch,
    })
}

fn fill(index: &ColdIndex, entries: u64, watch: &mut Watch) -> Result<()> {
    index.set_state("example", 1)?;
    for segment in 0..entries.div_ceil(SEGMENT_ENTRIES) {
        index.insert_all(&entries_of(segment, entries)?)?;
        index.add_segment(Number(segment), SEGMENT_ENTRIES * TENSOR_BYTES)?;
        index.settle(Number(segment));
        if segment % (entries / SEGMENT_ENTRIES / 10).max(1) == 0 {
            watch.memory(index)?;
        }
    }
    watch.lap("entered", entries);
    index.save()?;
    watch.lap("saved", 1);
    watch.memory(index)
}

fn look(index: &ColdIndex, entries: u64, watch: &mut Watch) -> Result<()> {
    watch.lap("opened", 1);
    watch.memory(index)?;
    let tries = 1_000_000;
    let mut maybe = 0;
    let unknown = ask(tries, entries, u64::MAX / 4, watch, |id| {
        maybe += u64::from(index.may_have(id));
        Ok(())
    })?;
    report("asked for what is not there", tries, unknown);
    println!("  of which {maybe} may be there");
    let known = ask(tries, 0, entries, watch, |id| {
        maybe += u64::from(index.may_have(id));
        Ok(())
    })?;
    report("asked for what is there", tries, known);
    watch.memory(index)?;
    let mut found = 0;
    let got = ask(tries / 4, 0, entries, watch, |id| {
        found += u64::from(index.get(id)?.is_some());
        Ok(())
    })?;
    report("got", found, got);
    watch.memory(index)?;
    watch.restart();
    let mut scanned = 0;
    for entry in index.scan(&Tenant::public(), &Namespace::default(), "", None)? {
        entry?;
        scanned += 1;
        if scanned == tries {
            break;
        }
    }
    watch.lap("scanned", scanned);
    watch.memory(index)
}

/// How long `work` takes in all for so many names out of `of`, from `from` on.
fn ask(
    tries: u64,
    from: u64,
    of: u64,
    watch: &Watch,
    mut work: impl FnMut(&Id) -> Result<()>,
) -> Result<Duration> {
    let mut took = Duration::ZERO;
    for round in 0..tries / 1000 {
        let at = |n: u64| from + mix(round * 1000 + n) % of;
        let ids: Result<Vec<Id>> = (0..1000).map(|n| id(at(n))).collect();
        let ids = ids?;
        let started = watch.clock.monotonic();
        for id in &ids {
            work(id)?;
        }
        took += watch.clock.monotonic() - started;
    }
    Ok(took)
}

fn churn(index: &ColdIndex, entries: u64, rounds: u64, watch: &mut Watch) -> Result<()> {
    index.set_state("example", 1)?;
    let mut segment = 0;
    for round in 0..rounds.div_ceil(SEGMENT_ENTRIES) {
        segment += 1;
        let random = |at: u64| mix(round * SEGMENT_ENTRIES + at) % entries;
        let new: Result<Vec<Stored>> = (0..SEGMENT_ENTRIES)
            .map(|at| stored(random(at), segment, at))
            .collect();
        index.insert_all(&new?)?;
        for at in 0..SEGMENT_ENTRIES / 64 {
            let ids: Result<Vec<_>> = (0..32)
                .map(|n| Ok((id(random(mix(at * 32 + n)))?, None)))
                .collect();
            index.remove_all(&ids?, Number(segment + 1))?;
        }
        index.settle(Number(segment));
        for dead in index.segments() {
            if dead.live_entries == 0 && dead.number < Number(segment) {
                index.drop_segment(dead.number)?;
            }
        }
        if round % (rounds / SEGMENT_ENTRIES / 20).max(1) == 0 {
            watch.memory(index)?;
        }
    }
    watch.lap("entered and half of that removed", rounds);
    watch.memory(index)
}

fn rebuild(settings: IndexSettings, entries: u64, watch: &mut Watch) -> Result<()> {
    let mut rebuild = Rebuild::begin(settings)?;
    for segment in 0..entries.div_ceil(SEGMENT_ENTRIES) {
        let entries = entries_of(segment, entries)?;
        rebuild.segment(Number(segment), SEGMENT_ENTRIES * TENSOR_BYTES, &entries)?;
    }
    let index = rebuild.finish("example", 1)?;
    watch.lap("rebuilt", entries);
    watch.memory(&index)
}

fn remove(index: &ColdIndex, threads: u64, watch: &mut Watch) -> Result<()> {
    index.set_state("example", 1)?;
    let each = 100;
    let ids: Result<Vec<Vec<_>>> = (0..threads)
        .map(|thread| {
            (0..each)
                .map(|at| Ok((id(thread * each + at)?, None)))
                .collect()
        })
        .collect();
    let ids = ids?;
    let entries: Result<Vec<_>> = (0..threads * each).map(|at| stored(at, 1, at)).collect();
    index.insert_all(&entries?)?;
    watch.restart();
    std::thread::scope(|scope| {
        for ids in &ids {
            scope.spawn(move || {
                for id in ids {
                    if let Err(error) = index.remove_all(std::slice::from_ref(id), Number(2)) {
                        println!("{error}");
                    }
                }
            });
        }
    });
    watch.lap("removed", threads * each);
    Ok(())
}

fn entries_of(segment: u64, entries: u64) -> Result<Vec<Stored>> {
    let first = segment * SEGMENT_ENTRIES;
    let last = entries.min(first + SEGMENT_ENTRIES);
    (first..last)
        .map(|n| stored(n, segment, n - first))
        .collect()
}

fn stored(n: u64, segment: u64, at: u64) -> Result<Stored> {
    Ok(Stored {
        description: Description {
            attached: false,
            id: id(n)?,
            version: Version::from_parts(1_790_000_000_000 + segment, 0, 7),
            dtype: DType::parse("float32")?,
            shape: Shape::new(&[TENSOR_BYTES / 512, 128])?,
            len: TENSOR_BYTES,
            checksum: u128::from(mix(n)) << 64 | u128::from(mix(mix(n))),
            expires_at_ms: None,
            source_version: None,
            metadata: Vec::new(),
        },
        place: Place {
            prefix: Prefix::OWN,
            segment: Number(segment),
            offset: at * TENSOR_BYTES,
        },
        blocks: Vec::new(),
        frames: Vec::new(),
    })
}

/// Keys as they come out of a hash: 32 hexadecimal digits, in no order.
fn id(n: u64) -> Result<Id> {
    let key = format!("{:016x}{:016x}", mix(n), mix(mix(n)));
    Ok(Id::public(Namespace::default(), Key::parse(&key)?))
}

/// A permutation of all numbers (the finaliser of splitmix64).
fn mix(n: u64) -> u64 {
    let n = (n ^ (n >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let n = (n ^ (n >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    n ^ (n >> 31)
}

/// Time, and memory above what there was at the start.
struct Watch {
    clock: SystemClock,
    lap: Duration,
    rss_kib: u64,
}

impl Watch {
    fn start() -> Result<Watch> {
        Ok(Watch {
            clock: SystemClock::new(),
            lap: Duration::ZERO,
            rss_kib: status_kib("RssAnon:")?,
        })
    }

    fn restart(&mut self) {
        self.lap = self.clock.monotonic();
    }

    fn lap(&mut self, what: &str, n: u64) {
        let now = self.clock.monotonic();
        let took = now - std::mem::replace(&mut self.lap, now);
        report(what, n, took);
    }

    fn memory(&mut self, index: &ColdIndex) -> Result<()> {
        let mut line = String::new();
        for (name, field) in [("resident", "RssAnon:"), ("at most", "VmHWM:")] {
            let kib = status_kib(field)?.saturating_sub(self.rss_kib);
            write!(line, "{name} {:.1} MiB, ", in_mib(kib << 10))?;
        }
        println!(
            "{} entries: {line}by its own account {:.1} MiB, {} segments",
            index.len(),
            in_mib(index.resident_bytes()),
            index.segments().len(),
        );
        Ok(())
    }
}

fn report(what: &str, n: u64, took: Duration) {
    let each = took / u32::try_from(n.max(1)).unwrap_or(u32::MAX);
    println!("{what}: {n} in {took:.2?}, {each:.2?} each");
}

fn in_mib(bytes: u64) -> f64 {
    Duration::from_micros(bytes).as_secs_f64() * 1e6 / f64::from(1 << 20)
}

fn status_kib(field: &str) -> Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix(field));
    let number = line.and_then(|line| line.split_whitespace().next());
    Ok(number.ok_or("no such line in /proc/self/status")?.parse()?)
}
