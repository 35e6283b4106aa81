//! The thread of a tree: it writes full memtables to tables, merges tables, says in manifests which of them count, and
//! takes away those that do not.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;

use super::disown;
use super::rows::{Merged, Source};
use super::shared::{Sealed, Shared};
use super::table::{Run, Table};
use super::version::{Merge, Version};
use crate::format::{TableBuilder, encode_manifest};
use crate::index::error::{IndexError, Result};
use crate::store::ObjectName;

/// After something has failed.
const AGAIN: Duration = Duration::from_millis(100);
/// Between looks at what readers have let go.
const IDLE: Duration = Duration::from_secs(5);

struct Worker {
    shared: Arc<Shared>,
    /// Up to which key each level was merged.
    after: Vec<Vec<u8>>,
    /// The last manifest of ours.
    manifest: Option<u64>,
    /// Manifests of which nobody knows whether they were written, and the tables that they alone name.
    doubtful: Vec<(ObjectName, Vec<Arc<Table>>)>,
}

enum Job {
    Flush,
    Merge(Merge),
    Clean,
    Disown,
}

pub(super) fn start(shared: Arc<Shared>) {
    let worker = Worker {
        shared: Arc::clone(&shared),
        after: Vec::new(),
        manifest: None,
        doubtful: Vec::new(),
    };
    let thread = std::thread::Builder::new().name("cold-index".to_owned());
    if let Err(error) = thread.spawn(move || worker.run()) {
        shared.work.lock().failing = Some(format!("no thread; error=`{error}`"));
    }
}

impl Worker {
    fn run(mut self) {
        while let Some(job) = self.next() {
            let working = &self.shared.working_bytes;
            working.store(self.shared.sizes.work_bytes, Ordering::Relaxed);
            let done = match job {
                Job::Flush => self.flush_all(),
                Job::Merge(merge) => self.merge(&merge),
                Job::Clean => self.clean(),
                Job::Disown => self.disown(),
            };
            self.shared.working_bytes.store(0, Ordering::Relaxed);
            if self.is_closing() {
                return;
            }
            let done = self.shared.checked(done);
            let mut work = self.shared.work.lock();
            match done {
                Ok(()) => work.failing = None,
                Err(error) => {
                    if work.failing.is_none() && work.damaged.is_none() {
                        tracing::warn!(%error, "cold tier: the index was not written to the store, it is tried again");
                    }
                    work.failures += 1;
                    work.failing = Some(error.to_string());
                }
            }
            self.shared.changed.notify_all();
            if work.failing.is_some() {
                self.shared.changed.wait_for(&mut work, AGAIN);
            }
        }
    }

    /// What is to be done; none once the tree is dropped.
    fn next(&mut self) -> Option<Job> {
        let shared = Arc::clone(&self.shared);
        let mut work = shared.work.lock();
        loop {
            if self.is_closing() {
                return None;
            }
            if work.damaged.is_some() {
                if !work.disowned {
                    return Some(Job::Disown);
                }
            } else if !work.late {
                if work.sealed > work.flushed {
                    return Some(Job::Flush);
                }
                let version = Arc::clone(&shared.state.read().version);
                if let Some(merge) = version.next_merge(&shared.sizes, &mut self.after) {
                    return Some(Job::Merge(merge));
                }
                if shared.may_clean.load(Ordering::Acquire) && !shared.trash.lock().is_empty() {
                    return Some(Job::Clean);
                }
            }
            shared.changed.wait_for(&mut work, IDLE);
        }
    }

    fn is_closing(&self) -> bool {
        self.shared.closing.load(Ordering::Acquire)
    }

    /// Writes down what waits for it, the oldest first.
    fn flush_all(&mut self) -> Result<()> {
        loop {
            let sealed = self.shared.state.read().sealed.front().cloned();
            match sealed.filter(|_| !self.is_closing()) {
                Some(sealed) => self.flush(&sealed)?,
                None => return Ok(()),
            }
        }
    }

    fn flush(&mut self, sealed: &Arc<Sealed>) -> Result<()> {
        let shared = Arc::clone(&self.shared);
        let mut out = Output::new(&shared);
        for (key, value) in &sealed.rows.rows {
            out.push(key, value.as_ref())?;
        }
        let tables = out.finish()?;
        let version = Arc::clone(&shared.state.read().version);
        let version = version.flushed(tables.clone(), sealed.covered);
        self.tell(&version, &tables)?;
        {
            let mut state = shared.state.write();
            state.version = Arc::new(version);
            state.sealed.pop_front();
        }
        let mut work = shared.work.lock();
        work.flushed = work.flushed.max(sealed.nth);
        work.failing = None;
        shared.changed.notify_all();
        Ok(())
    }

    fn merge(&mut self, merge: &Merge) -> Result<()> {
        let shared = Arc::clone(&self.shared);
        let is_alone = merge.upper.len() == 1 && merge.lower.is_empty();
        if is_alone && merge.level > 0 {
            let version = Arc::clone(&shared.state.read().version);
            let version = version.merged(merge, merge.upper.clone());
            return self.put(version, &[]);
        }
        let sources = merge.upper.len() + 1;
        let at_once = shared.sizes.read_bytes / (shared.sizes.block_bytes * sources);
        let run = |tables: Vec<Arc<Table>>| {
            let run = Run::new(shared.io.clone(), None, at_once.max(1), tables, &[]);
            Source::Tables(Box::new(run))
        };
        let upper = merge.upper.iter();
        let mut sources: Vec<Source> = upper.map(|table| run(vec![Arc::clone(table)])).collect();
        sources.push(run(merge.lower.clone()));
        let mut merged = Merged::new(sources)?;
        let mut out = Output::new(&shared);
        let mut written = 0;
        while let Some((key, value)) = merged.next()? {
            if value.is_some() || !merge.is_last {
                out.push(&key, value.as_ref())?;
            }
            if out.tables.len() > written {
                written = out.tables.len();
                if self.is_closing() {
                    return Ok(());
                }
                // Nobody waits for room until a merge ends.
                self.flush_all()?;
            }
        }
        let tables = out.finish()?;
        let version = Arc::clone(&shared.state.read().version);
        self.put(version.merged(merge, tables.clone()), &tables)?;
        let old = merge.upper.iter().chain(&merge.lower);
        old.for_each(|table| table.give_up(&shared.trash));
        Ok(())
    }

    /// From now on, these are the tables.
    fn put(&mut self, version: Version, new: &[Arc<Table>]) -> Result<()> {
        self.tell(&version, new)?;
        self.shared.state.write().version = Arc::new(version);
        Ok(())
    }

    /// Says which tables count, `new` ones among them, where anybody is to believe it.
    fn tell(&mut self, version: &Version, new: &[Arc<Table>]) -> Result<()> {
        let shared = Arc::clone(&self.shared);
        if self.is_closing() {
            return Err(IndexError::Store("it is closed".to_owned()));
        }
        if !shared.work.lock().vouched {
            return Ok(());
        }
        let number = shared.io.number();
        let name = ObjectName::Manifest(number);
        let manifest = encode_manifest(number, &version.manifest(shared.io.epoch()));
        if let Err(error) = shared.io.create(name, vec![manifest]) {
            // It may be there all the same, and count until there is a later one.
            self.doubtful.push((name, new.to_vec()));
            return Err(error);
        }
        for (name, tables) in self.doubtful.drain(..) {
            shared.trash.lock().push(name);
            tables.iter().for_each(|table| table.give_up(&shared.trash));
        }
        if let Some(before) = self.manifest.replace(number) {
            shared.trash.lock().push(ObjectName::Manifest(before));
        }
        shared.may_clean();
        Ok(())
    }

    /// Takes away what no manifest names and nobody reads. A later start of a server may have found a manifest of ours
    /// before the last one: it has begun by then, and the look shows that.
    fn clean(&mut self) -> Result<()> {
        let shared = Arc::clone(&self.shared);
        let mut trash = std::mem::take(&mut *shared.trash.lock());
        let cleaned = self.delete(&mut trash);
        shared.trash.lock().append(&mut trash);
        cleaned
    }

    fn delete(&mut self, trash: &mut Vec<ObjectName>) -> Result<()> {
        let shared = Arc::clone(&self.shared);
        if !shared.io.is_latest()? {
            shared.work.lock().late = true;
            trash.clear();
            let why = "a later start of a server has taken over";
            return Err(IndexError::Store(why.to_owned()));
        }
        while let Some(name) = trash.last() {
            let is_wanted = {
                let work = shared.work.lock();
                work.sealed > work.flushed
            };
            if is_wanted || self.is_closing() {
                break;
            }
            shared.io.delete(*name)?;
            trash.pop();
        }
        Ok(())
    }

    fn disown(&mut self) -> Result<()> {
        disown(&self.shared.io)?;
        self.shared.work.lock().disowned = true;
        Ok(())
    }
}

/// Rows in order, on their way into tables.
struct Output<'s> {
    shared: &'s Shared,
    builder: Option<TableBuilder>,
    tables: Vec<Arc<Table>>,
}

impl<'s> Output<'s> {
    fn new(shared: &'s Shared) -> Self {
        Self {
            shared,
            builder: None,
            tables: Vec::new(),
        }
    }

    fn push(&mut self, key: &[u8], value: Option<&Bytes>) -> Result<()> {
        let sizes = &self.shared.sizes;
        let mut builder = match self.builder.take() {
            Some(builder) => builder,
            None => {
                TableBuilder::new(self.shared.io.number(), sizes.block_bytes).map_err(not_built)?
            }
        };
        builder
            .push(key, value.map(|value| &value[..]))
            .map_err(not_built)?;
        let is_full = builder.bytes() >= sizes.table_bytes;
        self.builder = Some(builder);
        if is_full { self.end() } else { Ok(()) }
    }

    fn finish(mut self) -> Result<Vec<Arc<Table>>> {
        self.end()?;
        Ok(std::mem::take(&mut self.tables))
    }

    fn end(&mut self) -> Result<()> {
        let Some(builder) = self.builder.take() else {
            return Ok(());
        };
        let built = builder.finish().map_err(not_built)?;
        let name = ObjectName::Table(built.name.number);
        let written = self.shared.io.create(name, built.file);
        if written.is_err() {
            // It may be there all the same.
            self.shared.trash.lock().push(name);
        }
        written?;
        let table = Table::new(built.name, built.tail);
        self.tables.push(Arc::new(table));
        Ok(())
    }
}

impl Drop for Output<'_> {
    /// What was not finished is of no use.
    fn drop(&mut self) {
        let unused = self.tables.iter();
        unused.for_each(|table| table.give_up(&self.shared.trash));
    }
}

fn not_built(error: bowstring_wire::error::Error) -> IndexError {
    IndexError::Store(error.message.to_string())
}
