//! Readers that stall while memory waits for them.
//!
//! What a reader has not been sent yet stays where it is until it is: pages of the arena, pinned
//! small entries, gather buffers. The cache itself takes pages away from stalled readers when those
//! of entries that are gone near their limit, and tells us. For the rest, when puts wait for room or
//! the wire account is nearly used up, the response that has stood still longest is cut off; all
//! that it held goes with it. A response that waits for us, its peer having taken all there was, has
//! not stood still, however long that takes.

use std::collections::BTreeMap;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bowstring_cache::clock::Clock;
use bowstring_cold::tier::Cold;
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use super::service::Service;
use crate::conn::ConnHandle;
use crate::grpc::Untaken;
use crate::metrics::CutOff;

/// How often the supervisor looks.
const TICK: Duration = Duration::from_millis(100);
/// A response whose frame was taken within this time has not stalled.
const STALLED_AFTER: Duration = Duration::from_secs(1);
/// A socket that takes no byte in this time, not even a reset, is stuck.
const STUCK_AFTER: Duration = Duration::from_secs(1);
/// How often it is looked whether a response that has ended was taken.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// Responses that wait for their peer, in the order in which they began to.
#[derive(Clone, Debug, Default)]
pub struct Stalls(Arc<Mutex<Waiting>>);

#[derive(Debug, Default)]
struct Waiting {
    next: u64,
    since: BTreeMap<u64, (Duration, CancellationToken, Holds)>,
}

/// What a response that waits holds for its peer.
#[derive(Clone, Debug)]
pub enum Holds {
    /// A frame that it is sending.
    Frame,
    /// What it has handed over, if that is not taken yet.
    Untaken(Untaken),
}

/// The response was cut off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cut;

impl Stalls {
    /// Sends; gives up when `cut` is cancelled, by the supervisor or by the cache. Costs nothing
    /// while the peer keeps up.
    pub async fn unless_cut<F: Future>(
        &self,
        clock: &dyn Clock,
        cut: &CancellationToken,
        holds: Holds,
        mut sending: Pin<&mut F>,
    ) -> Result<F::Output, Cut> {
        let at_once = poll_fn(|cx| Poll::Ready(sending.as_mut().poll(cx))).await;
        if let Poll::Ready(sent) = at_once {
            return Ok(sent);
        }
        let _waiter = self.wait(clock.monotonic(), cut.clone(), holds);
        tokio::select! {
            biased;
            sent = sending => Ok(sent),
            () = cut.cancelled() => Err(Cut),
        }
    }

    /// Waits until the peer has taken all that was handed over for it.
    pub async fn until_taken(&self, clock: &dyn Clock, untaken: Untaken) -> Result<(), Cut> {
        let taken = pin!(async {
            while untaken.is_any() {
                clock.sleep(LOOK_AGAIN).await;
            }
        });
        let holds = Holds::Untaken(untaken.clone());
        self.unless_cut(clock, &CancellationToken::new(), holds, taken)
            .await
    }

    fn wait(&self, since: Duration, cut: CancellationToken, holds: Holds) -> Waiter<'_> {
        let mut waiting = self.0.lock();
        let ticket = waiting.next;
        waiting.next += 1;
        waiting.since.insert(ticket, (since, cut, holds));
        Waiter {
            stalls: self,
            ticket,
        }
    }

    /// Cuts off the response that has waited longest of those that hold something for their peer,
    /// if it began to wait before `before`.
    fn cut_longest(&self, before: Duration) -> bool {
        let mut waiting = self.0.lock();
        let longest = waiting
            .since
            .iter()
            .take_while(|(_, (since, ..))| *since <= before)
            .find(|(_, (.., holds))| holds.is_any())
            .map(|(ticket, _)| *ticket);
        let cut = longest.and_then(|ticket| waiting.since.remove(&ticket));
        cut.inspect(|(_, cut, _)| cut.cancel()).is_some()
    }
}

impl Holds {
    fn is_any(&self) -> bool {
        match self {
            Self::Frame => true,
            Self::Untaken(untaken) => untaken.is_any(),
        }
    }
}

struct Waiter<'a> {
    stalls: &'a Stalls,
    ticket: u64,
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        self.stalls.0.lock().since.remove(&self.ticket);
    }
}

/// Cuts off stalled responses while memory is short. Runs until it is dropped.
pub async fn supervise(service: Service) {
    loop {
        service.clock.sleep(TICK).await;
        let before = service.clock.monotonic().checked_sub(STALLED_AFTER);
        if let Some(before) = before
            && is_short(&service)
        {
            service.stalls.cut_longest(before);
        }
    }
}

/// Whether somebody waits for memory, or will soon.
fn is_short(service: &Service) -> bool {
    let cold = service.cold.as_ref();
    service.cache.stats().puts_waiting > 0
        || cold.is_some_and(Cold::is_short_of_room)
        || service.budget.used_bytes() > service.budget.total_bytes() / 8 * 7
}

/// Counts a reader whose stream was reset, and closes its connection where the socket takes
/// nothing any more: then a frame that it was being sent is still held.
///
/// `before` is what the socket had taken when the stream was reset.
pub async fn after_reset(service: &Service, conn: &Arc<ConnHandle>, before: u64) {
    service.clock.sleep(STUCK_AFTER).await;
    // The reset itself is a few bytes: a socket that is not stuck has taken them.
    let stuck = conn.written_bytes() == before;
    if stuck {
        conn.kill();
        service.metrics.cut_off(CutOff::ReaderConnection);
    } else {
        service.metrics.cut_off(CutOff::ReaderStream);
    }
    tracing::warn!(
        peer = ?conn.peer(),
        connection_closed = stuck,
        "cut off a reader that stalled while memory was short"
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grpc::{Chunk, Mark};
    use bowstring_cache::clock::ManualClock;
    use bytes::Bytes;
    use std::future::pending;

    #[tokio::test]
    async fn only_who_has_waited_long_enough_is_cut_and_the_longest_first() {
        let (stalls, clock) = (Stalls::default(), ManualClock::new(0));
        let at_once = pin!(async { 7 });
        assert_eq!(
            stalls
                .unless_cut(&clock, &CancellationToken::new(), Holds::Frame, at_once)
                .await,
            Ok(7)
        );

        let cuts = [CancellationToken::new(), CancellationToken::new()];
        let [first, second] = [0, 1].map(|at| {
            let since = Duration::from_secs(at as u64 + 1);
            stalls.wait(since, cuts[at].clone(), Holds::Frame)
        });
        assert!(!stalls.cut_longest(Duration::from_millis(999)));
        assert!(stalls.cut_longest(Duration::from_secs(1)));
        assert!(cuts[0].is_cancelled() && !cuts[1].is_cancelled());
        assert!(!stalls.cut_longest(Duration::from_secs(1)));
        drop((first, second));
        assert!(stalls.0.lock().since.is_empty());

        let cut = async {
            while !stalls.cut_longest(Duration::MAX) {
                tokio::task::yield_now().await;
            }
        };
        let token = CancellationToken::new();
        let sending = pin!(pending::<()>());
        let sending = stalls.unless_cut(&clock, &token, Holds::Frame, sending);
        let (result, ()) = tokio::join!(sending, cut);
        assert_eq!(result, Err(Cut));
    }

    #[test]
    fn who_holds_nothing_for_its_peer_is_not_cut_however_long_it_waits() {
        let stalls = Stalls::default();
        let wait = |seconds, mark: &Mark| {
            let cut = CancellationToken::new();
            let holds = Holds::Untaken(mark.untaken());
            (
                stalls.wait(Duration::from_secs(seconds), cut.clone(), holds),
                cut,
            )
        };
        let (taken, untaken) = (Mark::default(), Mark::default());
        let handed_over = Chunk::from(Bytes::from_static(b"frame")).marked(&untaken);
        let (_first, longest) = wait(1, &taken);
        let (_second, stalled) = wait(2, &untaken);
        assert!(!stalls.cut_longest(Duration::from_secs(1)));
        assert!(stalls.cut_longest(Duration::from_secs(2)));
        assert!(stalled.is_cancelled() && !longest.is_cancelled());

        let (_third, slow) = wait(3, &untaken);
        drop(handed_over);
        assert!(!stalls.cut_longest(Duration::MAX));
        assert!(!slow.is_cancelled());
    }
}
