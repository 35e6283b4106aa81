//! What a put has done so far, told after each batch where it is asked for.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bowstring_wire::put_result::PutReply;
use bytes::Bytes;
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};

use super::result_of;
use crate::flight::reply;
use crate::grpc::Responder;

/// Replies that wait for a client that does not read them. Each counts all that was done, so the
/// oldest may go.
const WAITING_MAX: usize = 256;

/// Tells a client without waiting for it.
pub struct Progress<'r> {
    /// `None` where nobody asked.
    respond: Option<&'r mut Responder>,
    waiting: VecDeque<Bytes>,
}

impl<'r> Progress<'r> {
    /// Where it is `asked` for.
    pub fn new(respond: &'r mut Responder, asked: bool) -> Self {
        Self {
            respond: asked.then_some(respond),
            waiting: VecDeque::new(),
        }
    }

    /// Where nobody can be told.
    #[cfg(feature = "sql")]
    pub fn none() -> Self {
        Self {
            respond: None,
            waiting: VecDeque::new(),
        }
    }

    /// Whether it is told at all.
    pub fn is_asked(&self) -> bool {
        self.respond.is_some()
    }

    /// Tells what is done, as soon as the client takes it.
    pub fn tell(&mut self, done: &PutReply) {
        let Some(respond) = &mut self.respond else {
            return;
        };
        // A few numbers are no reply too large.
        let Ok(message) = reply::frame(&result_of(done)) else {
            return;
        };
        if self.waiting.len() >= WAITING_MAX {
            self.waiting.pop_front();
        }
        self.waiting.push_back(message);
        while let Some(next) = self.waiting.front() {
            // Whoever has gone is noticed where the put goes on.
            if !respond.data_now(next).unwrap_or(true) {
                return;
            }
            self.waiting.pop_front();
        }
    }

    /// What `work` comes to, telling meanwhile what `done` counts.
    pub async fn beside<T>(&mut self, done: &mut Told, work: impl Future<Output = T>) -> T {
        let mut work = std::pin::pin!(work);
        let result = loop {
            tokio::select! {
                biased;
                result = &mut work => break result,
                Some(now) = done.0.recv() => self.tell(&now),
            }
        };
        while let Ok(now) = done.0.try_recv() {
            self.tell(&now);
        }
        result
    }
}

/// What the writers of a put have done together.
#[derive(Clone)]
pub struct Done {
    counts: Arc<[AtomicU64; 4]>,
    told: UnboundedSender<PutReply>,
}

/// What was done after each batch.
pub struct Told(UnboundedReceiver<PutReply>);

/// The end of a batch: told when it is dropped.
pub struct Ended(Done);

impl Done {
    /// Nothing, so far.
    pub fn new() -> (Self, Told) {
        let (told, heard) = mpsc::unbounded_channel();
        let counts = Arc::default();
        (Self { counts, told }, Told(heard))
    }

    /// Adds what a writer did.
    pub fn add(&self, now: &PutReply, before: &PutReply) {
        for (count, more) in self.counts.iter().zip([
            now.stored - before.stored,
            now.existed - before.existed,
            now.bytes - before.bytes,
            now.errors_total - before.errors_total,
        ]) {
            count.fetch_add(more, Ordering::Relaxed);
        }
    }

    /// What tells the end of a batch when its last writer lets go of it.
    pub fn ended(&self) -> Ended {
        Ended(self.clone())
    }
}

impl Drop for Ended {
    fn drop(&mut self) {
        let [stored, existed, bytes, errors_total] =
            [0, 1, 2, 3].map(|at: usize| self.0.counts[at].load(Ordering::Relaxed));
        // Who has given up hears nothing.
        let _ = self.0.told.send(PutReply {
            stored,
            existed,
            bytes,
            errors_total,
            ..PutReply::default()
        });
    }
}
