//! The queue for room. Whoever finds none waits here in turn, so that a large put is not starved
//! by the small ones that come after it.
//!
//! There are two lines. A put that already holds room goes before those that hold none: only its
//! end gives that room back, and if it waited behind a newcomer that needs the very room it holds,
//! both would wait until one gave up. Within a line, first come is first served.
//!
//! Nobody holds a lock while waiting. Whoever frees room calls [`RoomQueue::freed`]; the waiter in
//! front tries again, and also every [`RETRY`], because an entry that loses its last reader becomes
//! a victim without anything being freed.
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering, fence};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::clock::Clock;

/// How long the waiter in front goes without trying again.
const RETRY: Duration = Duration::from_millis(20);

/// Which line a waiter stands in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Line {
    /// Holds room already; served first.
    Holder,
    /// Holds nothing.
    Newcomer,
}

/// What one try for room came to.
#[derive(Debug)]
pub(crate) enum Attempt<T> {
    /// Here it is.
    Done(T),
    /// Some work is done and more is to do: try again after others have run.
    Again,
    /// Nothing to be done until something is freed.
    Wait,
    /// What could go has to stay.
    Never,
}

/// Why no room was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoRoom {
    /// The wait was as long as it may be.
    TimedOut,
    /// More waiters than the queue takes.
    QueueFull,
    /// What could go has to stay.
    Spared,
}

pub(crate) struct RoomQueue {
    clock: Arc<dyn Clock>,
    waiters_max: usize,
    lines: Mutex<Lines>,
    /// Length of both lines, so that `freed` costs one load where nobody waits.
    waiting: AtomicUsize,
}

#[derive(Default)]
struct Lines {
    next_id: u64,
    holders: VecDeque<Waiter>,
    newcomers: VecDeque<Waiter>,
}

struct Waiter {
    id: u64,
    wake: Arc<Notify>,
}

impl RoomQueue {
    pub(crate) fn new(clock: Arc<dyn Clock>, waiters_max: usize) -> Self {
        Self {
            clock,
            waiters_max,
            lines: Mutex::default(),
            waiting: AtomicUsize::new(0),
        }
    }

    /// Calls `attempt` until it gives something: at once where nobody waits who would go first,
    /// else when it is this caller's turn. Dropping the future leaves the queue.
    pub(crate) async fn room<T>(
        &self,
        line: Line,
        wait_max: Duration,
        mut attempt: impl FnMut() -> Attempt<T>,
    ) -> Result<T, NoRoom> {
        if !self.must_queue(line) {
            match attempt() {
                Attempt::Done(room) => return Ok(room),
                Attempt::Never => return Err(NoRoom::Spared),
                Attempt::Again | Attempt::Wait => {}
            }
        }
        let turn = self.enter(line)?;
        let deadline = self.clock.monotonic().saturating_add(wait_max);
        loop {
            if self.in_front(turn.id) {
                match attempt() {
                    Attempt::Done(room) => return Ok(room),
                    Attempt::Again => {
                        tokio::task::yield_now().await;
                        continue;
                    }
                    Attempt::Never => return Err(NoRoom::Spared),
                    Attempt::Wait => {}
                }
            }
            let left = deadline.saturating_sub(self.clock.monotonic());
            if left.is_zero() {
                return Err(NoRoom::TimedOut);
            }
            tokio::select! {
                () = turn.wake.notified() => {}
                () = self.clock.sleep(left.min(RETRY)) => {}
            }
        }
    }

    /// Some room has become free: the waiter in front tries again.
    pub(crate) fn freed(&self) {
        // Orders the freeing before the load: a waiter counts itself before it tries.
        fence(Ordering::SeqCst);
        if self.waiting.load(Ordering::Relaxed) != 0 {
            self.wake_front();
        }
    }

    /// How many wait.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    fn must_queue(&self, line: Line) -> bool {
        if self.waiting.load(Ordering::Relaxed) == 0 {
            return false;
        }
        let lines = self.lines.lock();
        match line {
            Line::Holder => !lines.holders.is_empty(),
            Line::Newcomer => !(lines.holders.is_empty() && lines.newcomers.is_empty()),
        }
    }

    fn enter(&self, line: Line) -> Result<Turn<'_>, NoRoom> {
        let mut lines = self.lines.lock();
        if lines.holders.len() + lines.newcomers.len() >= self.waiters_max {
            return Err(NoRoom::QueueFull);
        }
        let id = lines.next_id;
        lines.next_id += 1;
        let wake = Arc::new(Notify::new());
        lines.line(line).push_back(Waiter {
            id,
            wake: Arc::clone(&wake),
        });
        self.waiting.fetch_add(1, Ordering::SeqCst);
        Ok(Turn {
            queue: self,
            line,
            id,
            wake,
        })
    }

    fn in_front(&self, id: u64) -> bool {
        self.lines.lock().front().is_some_and(|w| w.id == id)
    }

    fn wake_front(&self) {
        let front = self.lines.lock().front().map(|w| Arc::clone(&w.wake));
        if let Some(wake) = front {
            wake.notify_one();
        }
    }
}

impl Lines {
    fn line(&mut self, line: Line) -> &mut VecDeque<Waiter> {
        match line {
            Line::Holder => &mut self.holders,
            Line::Newcomer => &mut self.newcomers,
        }
    }

    fn front(&self) -> Option<&Waiter> {
        self.holders.front().or_else(|| self.newcomers.front())
    }
}

/// A place in the queue; leaving it, for whatever reason, wakes the next in turn.
struct Turn<'a> {
    queue: &'a RoomQueue,
    line: Line,
    id: u64,
    wake: Arc<Notify>,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut lines = self.queue.lines.lock();
        let line = lines.line(self.line);
        if let Ok(at) = line.binary_search_by_key(&self.id, |w| w.id) {
            line.remove(at);
            self.queue.waiting.fetch_sub(1, Ordering::SeqCst);
        }
        drop(lines);
        self.queue.wake_front();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ManualClock;

    struct Pool {
        clock: Arc<ManualClock>,
        queue: Arc<RoomQueue>,
        free: Arc<Mutex<u64>>,
        served: Arc<Mutex<Vec<&'static str>>>,
    }

    impl Pool {
        fn new(waiters_max: usize) -> Self {
            let clock = Arc::new(ManualClock::new(0));
            Self {
                queue: Arc::new(RoomQueue::new(Arc::clone(&clock) as _, waiters_max)),
                clock,
                free: Arc::default(),
                served: Arc::default(),
            }
        }

        /// Starts a taker and lets it run until it waits.
        async fn take(
            &self,
            name: &'static str,
            line: Line,
            bytes: u64,
        ) -> tokio::task::JoinHandle<Result<(), NoRoom>> {
            let (queue, free) = (Arc::clone(&self.queue), Arc::clone(&self.free));
            let served = Arc::clone(&self.served);
            let task = tokio::spawn(async move {
                let attempt = || {
                    let mut free = free.lock();
                    match free.checked_sub(bytes) {
                        Some(left) => {
                            *free = left;
                            Attempt::Done(())
                        }
                        None => Attempt::Wait,
                    }
                };
                queue.room(line, Duration::from_secs(2), attempt).await?;
                served.lock().push(name);
                Ok(())
            });
            settle().await;
            task
        }

        async fn give(&self, bytes: u64) {
            *self.free.lock() += bytes;
            self.queue.freed();
            settle().await;
        }
    }

    async fn settle() {
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn a_large_newcomer_is_not_starved_by_small_ones() {
        let pool = Pool::new(8);
        let large = pool.take("large", Line::Newcomer, 10).await;
        let small = pool.take("small", Line::Newcomer, 1).await;
        for _ in 0..9 {
            pool.give(1).await;
        }
        assert!(pool.served.lock().is_empty(), "small waits behind large");
        pool.give(2).await;
        assert_eq!(*pool.served.lock(), ["large", "small"]);
        large.await.unwrap().unwrap();
        small.await.unwrap().unwrap();
        assert_eq!(pool.queue.waiting(), 0);
    }

    #[tokio::test]
    async fn holders_go_first_and_in_order() {
        let pool = Pool::new(8);
        for (name, line) in [
            ("n1", Line::Newcomer),
            ("h1", Line::Holder),
            ("n2", Line::Newcomer),
            ("h2", Line::Holder),
        ] {
            pool.take(name, line, 1).await;
        }
        for _ in 0..4 {
            pool.give(1).await;
        }
        assert_eq!(*pool.served.lock(), ["h1", "h2", "n1", "n2"]);
    }

    #[tokio::test]
    async fn waiting_ends_after_two_seconds_and_lets_the_next_one_in() {
        let pool = Pool::new(8);
        let large = pool.take("large", Line::Newcomer, 10).await;
        pool.clock.advance(Duration::from_secs(1));
        let small = pool.take("small", Line::Newcomer, 1).await;
        pool.give(1).await;
        pool.clock.advance(Duration::from_secs(1));
        assert_eq!(large.await.unwrap(), Err(NoRoom::TimedOut));
        small.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn leaving_the_queue_serves_the_next_and_its_length_is_bounded() {
        let pool = Pool::new(2);
        let large = pool.take("large", Line::Newcomer, 10).await;
        let small = pool.take("small", Line::Newcomer, 1).await;
        let refused = pool.take("refused", Line::Newcomer, 1).await;
        assert_eq!(refused.await.unwrap(), Err(NoRoom::QueueFull));
        pool.give(1).await;
        large.abort();
        settle().await;
        small.await.unwrap().unwrap();
        assert_eq!(pool.queue.waiting(), 0);
    }
}
