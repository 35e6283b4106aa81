//! Memory in the service manager's store, from the end of a process to the start of the next.
//!
//! Each region has a name there, and so has a file in memory with what a successor has to know:
//!
//! ```text
//! regions u32 | of each the number of its file (inode) u64, 0 where it is no more | the snapshot      numbers are little-endian
//! ```
//! That file is given last, so that where it is all is; and who takes it over empties it before anything changes, so that
//! nobody takes over a second time what is no longer true.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufWriter, Read as _, Seek as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;

use bowstring_cache::Cache;
use bowstring_cache::handover::{Exported, Handed};
use rustix::fs::{MemfdFlags, fstat, ftruncate, memfd_create};

use super::Manager;
use super::notify::Notify;
use crate::takeover::REGIONS_MAX;

const PREFIX: &str = "bowstring-";
const SNAPSHOT: &str = "bowstring-snapshot";

/// Whether a descriptor of that name was given to the store by us.
pub(super) fn is_ours(name: &str) -> bool {
    name.starts_with(PREFIX)
}

/// What the process before has left.
pub struct Kept {
    /// Its memory.
    pub handed: Handed,
    /// To be spent once that is taken over, and before anything changes.
    pub snapshot: Snapshot,
}

/// What says what is in the regions.
pub struct Snapshot(File);

impl Snapshot {
    /// Nobody else takes anything over by it from now on: what it says need not be true any more.
    ///
    /// # Errors
    /// Where that cannot be seen to: nothing may change then.
    pub fn spend(self) -> io::Result<()> {
        Ok(ftruncate(&self.0, 0)?)
    }
}

impl Manager {
    /// Whether it keeps anything.
    pub fn keeps(&self) -> bool {
        self.notify.is_some() && self.keeps_max > 0
    }

    /// Gives it memory, of which nobody changes anything any more: the process is about to end.
    ///
    /// # Errors
    /// Where it does not fit, or the manager does not read: nothing of it is there then.
    pub async fn keep(&self, cache: &Cache) -> io::Result<Exported> {
        let Some(notify) = self.notify.clone() else {
            return Err(io::ErrorKind::NotConnected.into());
        };
        let (cache, max) = (cache.clone(), self.keeps_max);
        cache.set_frozen(true);
        let keeping = tokio::task::spawn_blocking(move || keep(&cache, &notify, max));
        keeping.await.map_err(io::Error::other)?
    }

    /// What the process before has left, if it has.
    ///
    /// # Errors
    /// Where there is something, but not all of it.
    pub fn kept(&self) -> io::Result<Option<Kept>> {
        let mut given = BTreeMap::new();
        for (name, file) in &self.given {
            if given.insert(name.as_str(), file).is_some() {
                return Err(wrong(format!("two of one name; name=`{name}`")));
            }
        }
        if given.is_empty() {
            return Ok(None);
        }
        let snapshot = given.get(SNAPSHOT);
        let snapshot = snapshot.ok_or_else(|| wrong("no snapshot".to_owned()))?;
        let mut snapshot = File::from(snapshot.try_clone()?);
        snapshot.rewind()?;
        if snapshot.metadata()?.len() == 0 {
            return Err(wrong("it was taken over before".to_owned()));
        }
        let mut count = [0; 4];
        snapshot.read_exact(&mut count)?;
        let count = u32::from_le_bytes(count);
        if count as usize > REGIONS_MAX {
            return Err(wrong(format!("too many regions; regions=`{count}`")));
        }
        let mut regions = Vec::new();
        for number in 0..count {
            let mut inode = [0; 8];
            snapshot.read_exact(&mut inode)?;
            let inode = u64::from_le_bytes(inode);
            let there = given.get(region(number).as_str());
            let there = there.filter(|_| inode != 0);
            let there = there.map(|file| file.try_clone()).transpose()?;
            if there.as_ref().map_or(Ok(0), inode_of)? != inode {
                return Err(wrong(format!("a region is not there; region=`{number}`")));
            }
            regions.push(there);
        }
        Ok(Some(Kept {
            handed: Handed::new(snapshot.try_clone()?, regions),
            snapshot: Snapshot(snapshot),
        }))
    }

    /// Has the manager let go of all that it has kept, and lets go of it here.
    pub async fn let_go(&mut self) {
        let given = std::mem::take(&mut self.given);
        let Some(notify) = self.notify.clone().filter(|_| !given.is_empty()) else {
            return;
        };
        let letting_go = move || {
            given
                .iter()
                .try_for_each(|(name, _)| notify.say(&format!("FDSTOREREMOVE=1\nFDNAME={name}")))
        };
        let gone = tokio::task::spawn_blocking(letting_go).await;
        if let Err(error) = gone.map_err(io::Error::other).flatten() {
            tracing::warn!(%error, "the service manager may keep memory that nobody needs");
        }
    }
}

fn keep(cache: &Cache, notify: &Arc<Notify>, max: usize) -> io::Result<Exported> {
    let regions = cache.region_files()?;
    let wanted = regions.iter().flatten().count() + 1;
    if wanted > max {
        return Err(io::Error::other(format!(
            "the service manager keeps too few descriptors; FileDescriptorStoreMax=`{max}` expected=`{wanted}` or more"
        )));
    }
    let file = File::from(memfd_create("bowstring-kept", MemfdFlags::CLOEXEC)?);
    let mut out = BufWriter::new(&file);
    let count = u32::try_from(regions.len()).map_err(io::Error::other)?;
    out.write_all(&count.to_le_bytes())?;
    for region in &regions {
        let inode = region.as_ref().map_or(Ok(0), inode_of)?;
        out.write_all(&inode.to_le_bytes())?;
    }
    let exported = cache.export(&mut out)?;
    out.flush()?;
    drop(out);
    let mut names = Vec::with_capacity(wanted);
    let regions = (0..).zip(&regions);
    let named = regions.filter_map(|(number, file)| Some((region(number), file.as_ref()?.as_fd())));
    let given = named
        .chain([(SNAPSHOT.to_owned(), file.as_fd())])
        .try_for_each(|(name, file)| {
            let given = notify.give(&format!("FDSTORE=1\nFDNAME={name}\nFDPOLL=0"), file);
            names.push(name);
            given
        });
    if let Err(error) = given.and_then(|()| notify.was_read()) {
        // Whatever it has of it is of no use, and holds memory.
        let _ = ftruncate(&file, 0);
        for name in names {
            let _ = notify.say(&format!("FDSTOREREMOVE=1\nFDNAME={name}"));
        }
        return Err(error);
    }
    Ok(exported)
}

fn region(number: u32) -> String {
    format!("{PREFIX}{number}")
}

fn inode_of(file: &OwnedFd) -> io::Result<u64> {
    Ok(fstat(file)?.st_ino)
}

fn wrong(what: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}
