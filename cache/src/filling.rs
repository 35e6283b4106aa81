//! A tensor's bytes while they come in: pages, what fills none, and the checksum of both.

use std::sync::Arc;

use bowstring_wire::error::{Error, Result};
use twox_hash::XxHash3_128;

use crate::arena::{PAGE_BYTES, PAGE_BYTES_U64, Pages};
use crate::engine::Engine;
use crate::head::split;
use crate::ledger::{Account, Charge};
use crate::read::Entry;
use crate::reserve::Line;
use crate::room::Asker;

/// Bytes that are copied before they are hashed: they are in the second-level cache then, and at
/// 64 KiB the calls themselves cost nothing.
const HASH_STEP: usize = 64 * 1024;

pub(crate) struct Filling {
    engine: Arc<Engine>,
    /// As [`Asker::spares`].
    spares: Option<u32>,
    pages: Option<Pages>,
    /// Bytes that fit into the pages.
    page_bytes: u64,
    /// What comes after the last full page, to lie beside the head. Never while there is room in
    /// the pages.
    staged: Vec<u8>,
    stage: Option<Charge>,
    /// Bytes that there is room for, written ones included.
    room: u64,
    /// Bytes that are counted as reserved for this.
    reserved: u64,
    /// Has seen what is in the pages. A tensor without pages is hashed at once, at the end.
    hasher: Option<Box<XxHash3_128>>,
}

impl Filling {
    pub(crate) fn new(engine: Arc<Engine>, spares: Option<u32>) -> Self {
        Self {
            engine,
            spares,
            pages: None,
            page_bytes: 0,
            staged: Vec::new(),
            stage: None,
            room: 0,
            reserved: 0,
            hasher: None,
        }
    }

    /// Waits for room for `total` bytes in all.
    pub(crate) async fn grow(&mut self, total: u64) -> Result<()> {
        if total <= self.room {
            return Ok(());
        }
        let plan = split(total);
        let wanted = u64::from(plan.pages) * PAGE_BYTES_U64;
        if let Some(more) = wanted.checked_sub(self.page_bytes).filter(|more| *more > 0) {
            let pages = u32::try_from(more / PAGE_BYTES_U64).unwrap_or(u32::MAX);
            let more_pages = self.engine.pages(pages, self.asker()).await?;
            self.reserved += more;
            self.append(more_pages, more);
        }
        let staged = plan.inline as u64;
        let resized = match &mut self.stage {
            Some(stage) => stage.resize(staged),
            None => staged == 0,
        };
        if !resized {
            // The old charge first: it may be what the new one lacks.
            self.stage = None;
            let asker = self.asker();
            let charge = (self.engine).charge_waiting(Account::Wire, staged, asker);
            self.stage = Some(charge.await?);
        }
        self.staged
            .reserve_exact(plan.inline.saturating_sub(self.staged.len()));
        self.room = total;
        Ok(())
    }

    /// Copies `bytes` to `at`, which is where the last write ended.
    pub(crate) fn write(&mut self, at: u64, bytes: &[u8]) -> Result<()> {
        if at + bytes.len() as u64 > self.room {
            return Err(Error::internal(format!(
                "wrote more than was reserved; written=`{at}` bytes=`{}` reserved=`{}`",
                bytes.len(),
                self.room
            )));
        }
        let in_pages = usize::try_from(self.page_bytes.saturating_sub(at)).unwrap_or(usize::MAX);
        let (paged, staged) = bytes.split_at(in_pages.min(bytes.len()));
        self.write_pages(at, paged);
        self.staged.extend_from_slice(staged);
        Ok(())
    }

    /// The checksum of all that was written. Nothing can be written after it.
    pub(crate) fn finish(&mut self) -> u128 {
        self.room = 0;
        match &mut self.hasher {
            Some(hasher) => {
                hasher.write(&self.staged);
                hasher.finish_128()
            }
            None => XxHash3_128::oneshot(&self.staged),
        }
    }

    /// Whether these are the bytes of `entry`.
    pub(crate) fn holds(&self, entry: &Entry) -> bool {
        let mut left = entry.len();
        let mut mine = Vec::new();
        if let Some(pages) = &self.pages {
            let mut at = 0;
            while at < self.page_bytes && left > 0 {
                let piece = pages.slice(at);
                let n = piece.len().min(usize::try_from(left).unwrap_or(usize::MAX));
                mine.push(&piece[..n]);
                at += n as u64;
                left -= n as u64;
            }
        }
        mine.push(&self.staged);
        entry.equals(&mine)
    }

    /// Hands over the pages and the bytes that lie beside the head, of `len` bytes in all. What
    /// was reserved beyond them is freed; the rest counts as reserved until this is dropped.
    pub(crate) fn take(&mut self, len: u64) -> (Option<Pages>, Vec<u8>) {
        let plan = split(len);
        let Some(mut pages) = self.pages.take() else {
            return (None, std::mem::take(&mut self.staged));
        };
        let kept = u64::from(plan.pages) * PAGE_BYTES_U64;
        let mut inline = std::mem::take(&mut self.staged);
        if kept < self.page_bytes {
            let mut at = kept;
            while inline.len() < plan.inline {
                let piece = pages.slice(at);
                let n = piece.len().min(plan.inline - inline.len());
                inline.extend_from_slice(&piece[..n]);
                at += n as u64;
            }
            pages.truncate(plan.pages);
            self.engine.unreserve(self.page_bytes - kept);
            self.reserved -= self.page_bytes - kept;
        }
        debug_assert_eq!(inline.len(), plan.inline);
        (Some(pages).filter(|_| plan.pages > 0), inline)
    }

    pub(crate) fn asker(&self) -> Asker {
        let line = if self.pages.is_some() {
            Line::Holder
        } else {
            Line::Newcomer
        };
        Asker {
            line,
            spares: self.spares,
        }
    }

    /// What was staged moves on into the new pages.
    fn append(&mut self, more: Pages, bytes: u64) {
        let at = self.page_bytes;
        match &mut self.pages {
            Some(pages) => pages.append(more),
            None => self.pages = Some(more),
        }
        self.page_bytes += bytes;
        let staged = std::mem::take(&mut self.staged);
        self.write_pages(at, &staged);
    }

    fn write_pages(&mut self, mut at: u64, bytes: &[u8]) {
        let Some(pages) = &mut self.pages else {
            return;
        };
        let hasher = self.hasher.get_or_insert_with(Box::default);
        for step in bytes.chunks(HASH_STEP) {
            pages.write(at, step);
            hasher.write(step);
            at += step.len() as u64;
        }
    }
}

impl Drop for Filling {
    fn drop(&mut self) {
        // The pages first: whoever is woken by the second finds them free.
        self.pages = None;
        if self.reserved > 0 {
            self.engine.unreserve(self.reserved);
        }
    }
}

const _: () = assert!(PAGE_BYTES >= HASH_STEP);
