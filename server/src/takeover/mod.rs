//! A server's memory, addresses and cold tier pass to the process that is to take its place, over a Unix socket.
//!
//! - `channel`: messages with descriptors over the socket
//! - `message`: what they say, which is a contract between releases (`proto-notes/takeover.md`)
//! - `predecessor`: listens for a successor, and hands over
//! - `successor`: asks, and takes over
//!
//! ```text
//! successor                                predecessor
//! hello: the formats that it knows    →
//!                                     ←    offer: addresses, with their sockets
//! begin: it could start               →
//!                                     ←    regions, with their files; ahead: there will be no more of them
//! mapped: it knows of no byte in them yet →
//!                                          drains, freezes memory, writes the cold tier's queue
//!                                     ←    snapshot, with a socket from which it comes
//! reads that while it is being written
//! mine: it has checked all            →
//!                                     ←    yours
//!                                          ends
//! sees the end, serves
//! ```
//! Until `mapped` the predecessor serves; until `mine` it can go on serving, and does when anything fails: its sockets are
//! open all the time, and whoever connects meanwhile waits in their queues. The successor touches nothing that the
//! predecessor could still need before that has ended, which the kernel says by closing the channel.

mod channel;
mod message;
mod predecessor;
mod successor;

use std::sync::Arc;
use std::time::Duration;

use bowstring_cache::clock::Clock;

use crate::shutdown::{Drained, Shutdown};

pub use message::Use;
pub use predecessor::{Asked, Door, Estate, HandedOver};
pub use successor::{Heir, Legacy, REGIONS_MAX};

/// How long the other one may take for an answer that takes no time.
const ANSWER_WAIT: Duration = Duration::from_secs(5);
/// How long a successor may take to bind what it has not inherited.
const BEGIN_WAIT: Duration = Duration::from_secs(30);
/// How long it may take to map regions: a second for many gigabytes.
const MAPPED_WAIT: Duration = Duration::from_secs(60);
/// How long the predecessor's calls may go on before they are cut off. All others wait meanwhile.
const DRAIN_WAIT: Duration = Duration::from_millis(800);
/// How long what was cut off may take to end, and what is on its way to the cold tier to be written.
pub const END_WAIT: Duration = Duration::from_secs(2);
/// How long the successor may take to take over.
const MINE_WAIT: Duration = Duration::from_secs(20);
/// How long it waits for what is handed over, and for the predecessor's end.
const HANDED_WAIT: Duration = Duration::from_secs(60);

/// Ends what is being served: those who can finish soon do, the others are cut off. False where some still run.
pub async fn stop(part: &Shutdown, clock: &Arc<dyn Clock>) -> bool {
    match part.drained(clock.sleep(DRAIN_WAIT)).await {
        Drained::Finished => true,
        Drained::TimedOut(calls) | Drained::Forced(calls) => {
            tracing::info!(calls, "cut off for the successor");
            part.ended(clock.sleep(END_WAIT)).await
        }
    }
}
