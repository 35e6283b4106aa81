//! Readers that stall while memory waits for them.
//!
//! What a reader has not been sent yet stays where it is until it is: pages of the arena, pinned
//! small entries, gather buffers. The cache itself takes pages away from stalled readers when those
//! of entries that are gone near their limit, and tells us. For the rest, when puts wait for room or
//! the wire account is nearly used up, the response that has stood still longest is cut off; all
//! that it held goes with it.

use std::collections::BTreeMap;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bowstring_cache::clock::Clock;
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use super::service::Service;
use crate::conn::ConnHandle;
use crate::metrics::CutOff;

/// How often the supervisor looks.
const TICK: Duration = Duration::from_millis(100);
/// A response whose frame was taken within this time has not stalled.
const STALLED_AFTER: Duration = Duration::from_secs(1);
/// A socket that takes no byte in this time, not even a reset, is stuck.
const STUCK_AFTER: Duration = Duration::from_secs(1);

/// Responses that wait for their peer, in the order in which they began to.
#[derive(Clone, Debug, Default)]
pub struct Stalls(Arc<Mutex<Waiting>>);

#[derive(Debug, Default)]
struct Waiting {
    next: u64,
    since: BTreeMap<u64, (Duration, CancellationToken)>,
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
        mut sending: Pin<&mut F>,
    ) -> Result<F::Output, Cut> {
        let at_once = poll_fn(|cx| Poll::Ready(sending.as_mut().poll(cx))).await;
        if let Poll::Ready(sent) = at_once {
            return Ok(sent);
        }
        let _waiter = self.wait(clock.monotonic(), cut.clone());
        tokio::select! {
            biased;
            sent = sending => Ok(sent),
            () = cut.cancelled() => Err(Cut),
        }
    }

    fn wait(&self, since: Duration, cut: CancellationToken) -> Waiter<'_> {
        let mut waiting = self.0.lock();
        let ticket = waiting.next;
        waiting.next += 1;
        waiting.since.insert(ticket, (since, cut));
        Waiter {
            stalls: self,
            ticket,
        }
    }

    /// Cuts off the response that has waited longest, if it began to wait before `before`.
    fn cut_longest(&self, before: Duration) -> bool {
        let mut waiting = self.0.lock();
        match waiting.since.first_entry() {
            Some(longest) if longest.get().0 <= before => {
                longest.remove().1.cancel();
                true
            }
            _ => false,
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
    service.cache.stats().puts_waiting > 0
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
    use bowstring_cache::clock::ManualClock;
    use std::future::pending;
    use std::pin::pin;

    #[tokio::test]
    async fn only_who_has_waited_long_enough_is_cut_and_the_longest_first() {
        let (stalls, clock) = (Stalls::default(), ManualClock::new(0));
        let at_once = pin!(async { 7 });
        assert_eq!(
            stalls
                .unless_cut(&clock, &CancellationToken::new(), at_once)
                .await,
            Ok(7)
        );

        let cuts = [CancellationToken::new(), CancellationToken::new()];
        let first = stalls.wait(Duration::from_secs(1), cuts[0].clone());
        let second = stalls.wait(Duration::from_secs(2), cuts[1].clone());
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
        let sending = stalls.unless_cut(&clock, &token, sending);
        let (result, ()) = tokio::join!(sending, cut);
        assert_eq!(result, Err(Cut));
    }
}
