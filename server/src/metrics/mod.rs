//! Counters of the edge, and the page that shows them with everybody else's.
//!
//! - `text`: the exposition format and its limit on series
//! - `histogram`: times in fixed buckets
//! - `process`: memory that the machine charges, descriptors, CPU time
//! - `engine`: the cache's figures, read when somebody asks
//!
//! Counting is a few relaxed additions: no lock, no allocation, and no label that a client chose.

mod engine;
mod histogram;
mod process;
mod text;

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use bowstring_wire::error::Code;
use parking_lot::Mutex;

pub use engine::render as render_engine;
pub use process::ProcessMemory;
pub use text::{Family, SERIES_MAX, Text};

use crate::flight::verb::Verb;
use histogram::Histogram;

/// A handle to all counters; clones share them.
#[derive(Clone, Default)]
pub struct Metrics(Arc<Inner>);

/// Whom we stopped in the middle, because memory waited for them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CutOff {
    /// A reader that did not read: its stream was reset.
    ReaderStream,
    /// A reader whose socket was stuck: its connection was closed.
    ReaderConnection,
    /// A put that held room and sent nothing for `put_idle`.
    PutIdle,
}

impl Metrics {
    /// Counters at zero.
    pub fn new() -> Self {
        Self::default()
    }

    /// Counts a request from now until [`Begun::end`] or its drop. `None` is a service beside
    /// Flight, such as health.
    pub fn begin(&self, verb: impl Into<Option<Verb>>) -> Begun {
        let at = verb.into().map_or(VERBS - 1, |verb| verb as usize);
        self.0.verbs[at].in_flight.fetch_add(1, Relaxed);
        Begun {
            inner: self.0.clone(),
            at,
            ended: false,
        }
    }

    /// Counts a connection from now until the guard is dropped.
    pub fn connection(&self) -> Connection {
        self.0.connections_opened.fetch_add(1, Relaxed);
        self.0.connections.fetch_add(1, Relaxed);
        Connection {
            inner: self.0.clone(),
        }
    }

    /// Counts a connection that was not taken.
    pub fn connection_refused(&self) {
        self.0.connections_refused.fetch_add(1, Relaxed);
    }

    /// Counts somebody that we stopped.
    pub fn cut_off(&self, whom: CutOff) {
        self.0.cut_offs[whom as usize].fetch_add(1, Relaxed);
    }

    /// Adds figures that are read when the page is asked for; called once for each at start.
    /// What `source` writes must be of a number that is known beforehand.
    pub fn add_source(&self, source: impl Fn(&mut Text) + Send + Sync + 'static) {
        self.0.sources.lock().push(Box::new(source));
    }

    /// The page. Reads files of `/proc`: not for a thread that must not block.
    pub fn render(&self) -> String {
        let mut text = Text::default();
        text.gauge("bowstring_build_info", "Always 1; the version is a label.")
            .labelled(&[("version", env!("CARGO_PKG_VERSION"))], 1);
        self.0.render(&mut text);
        for source in self.0.sources.lock().iter() {
            source(&mut text);
        }
        process::render(&mut text);
        text.finish()
    }
}

/// A request that is being answered. Dropped before its end, it was `cancelled`.
#[must_use]
pub struct Begun {
    inner: Arc<Inner>,
    at: usize,
    ended: bool,
}

impl Begun {
    /// Counts bytes of the request's body, as they come.
    pub fn received(&self, bytes: u64) {
        self.inner.verbs[self.at]
            .received_bytes
            .fetch_add(bytes, Relaxed);
    }

    /// The answer has ended: well, or with `code`, after `sent_bytes` of body and so much `time`
    /// since the request's headers.
    pub fn end(mut self, code: Option<Code>, sent_bytes: u64, time: Duration) {
        let verb = &self.inner.verbs[self.at];
        verb.sent_bytes.fetch_add(sent_bytes, Relaxed);
        verb.time.record(time);
        self.count(code.map_or(OK, |code| code as usize));
    }

    fn count(&mut self, outcome: usize) {
        self.ended = true;
        let verb = &self.inner.verbs[self.at];
        verb.in_flight.fetch_sub(1, Relaxed);
        verb.outcomes[outcome].fetch_add(1, Relaxed);
    }
}

impl Drop for Begun {
    fn drop(&mut self) {
        if !self.ended {
            self.count(Code::Cancelled as usize);
        }
    }
}

/// One open connection, counted.
#[must_use]
pub struct Connection {
    inner: Arc<Inner>,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.inner.connections.fetch_sub(1, Relaxed);
    }
}

/// Flight's verbs and all else.
const VERBS: usize = Verb::ALL.len() + 1;
/// Error codes and success, which is the last.
const OUTCOMES: usize = Code::ALL.len() + 1;
const OK: usize = OUTCOMES - 1;
const CUT_OFFS: [(&str, &str); 3] = [
    ("reader", "stream_reset"),
    ("reader", "connection_closed"),
    ("put", "idle"),
];

#[derive(Default)]
struct Inner {
    verbs: [PerVerb; VERBS],
    connections: AtomicI64,
    connections_opened: AtomicU64,
    connections_refused: AtomicU64,
    cut_offs: [AtomicU64; CUT_OFFS.len()],
    sources: Mutex<Vec<Source>>,
}

type Source = Box<dyn Fn(&mut Text) + Send + Sync>;

/// On lines of its own: gets on one core must not slow puts on another.
#[derive(Default)]
#[repr(align(128))]
struct PerVerb {
    in_flight: AtomicI64,
    received_bytes: AtomicU64,
    sent_bytes: AtomicU64,
    outcomes: [AtomicU64; OUTCOMES],
    time: Histogram,
}

impl Inner {
    fn render(&self, text: &mut Text) {
        let mut family = text.counter("bowstring_requests_total", "Requests answered, by code.");
        for (verb, name) in self.named() {
            for (at, count) in verb.outcomes.iter().enumerate() {
                let count = count.load(Relaxed);
                let code = Code::ALL.get(at).map_or("ok", |code| code.as_str());
                // A code that never came up says nothing.
                if count > 0 || at == OK {
                    family.labelled(&[("verb", name), ("code", code)], count);
                }
            }
        }
        self.each_verb(
            text.gauge(
                "bowstring_requests_in_flight",
                "Requests that are being answered.",
            ),
            |verb| verb.in_flight.load(Relaxed),
        );
        self.each_verb(
            text.counter("bowstring_received_bytes_total", "Bytes of request bodies."),
            |verb| verb.received_bytes.load(Relaxed),
        );
        self.each_verb(
            text.counter("bowstring_sent_bytes_total", "Bytes of response bodies."),
            |verb| verb.sent_bytes.load(Relaxed),
        );
        let mut family = text.histogram(
            "bowstring_request_duration_seconds",
            "From a request's headers to the last byte of its answer.",
        );
        for (verb, name) in self.named() {
            verb.time.render(&mut family, ("verb", name));
        }
        text.gauge("bowstring_connections", "Open connections.")
            .value(self.connections.load(Relaxed));
        text.counter("bowstring_connections_opened_total", "Connections taken.")
            .value(self.connections_opened.load(Relaxed));
        text.counter(
            "bowstring_connections_refused_total",
            "Connections closed because there were too many.",
        )
        .value(self.connections_refused.load(Relaxed));
        let mut family = text.counter(
            "bowstring_cut_off_total",
            "Readers and puts stopped because memory waited for them.",
        );
        for ((whom, how), count) in CUT_OFFS.iter().zip(&self.cut_offs) {
            family.labelled(&[("whom", whom), ("how", how)], count.load(Relaxed));
        }
    }

    fn named(&self) -> impl Iterator<Item = (&PerVerb, &'static str)> {
        let names = Verb::ALL.iter().map(|verb| verb.name()).chain(["other"]);
        self.verbs.iter().zip(names)
    }

    fn each_verb<N: std::fmt::Display>(&self, mut family: Family<'_>, of: impl Fn(&PerVerb) -> N) {
        for (verb, name) in self.named() {
            family.labelled(&[("verb", name)], of(verb));
        }
    }
}

#[cfg(test)]
mod tests;
