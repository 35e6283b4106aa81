//! Counters of the edge, and the page that shows them with everybody else's.
//!
//! - `text`: the exposition format and its limit on series
//! - `exchange`: the requests within exchanges, by op
//! - `histogram`: times in fixed buckets
//! - `process`: memory that the machine charges, descriptors, CPU time
//! - `engine`: the cache's figures, read when somebody asks
//! - `namespaces`: those of the first namespaces; `cold`: those of the tier below; `sql`: those of queries
//! - `connections`: who is connected; `slow`: the last slow requests
//!
//! What the page says is the table `stats` of SQL, too: whoever adds a metric adds it to both.
//!
//! Counting is a few relaxed additions: no lock, no allocation, and no label that a client chose but
//! the names of the first namespaces. Only a connection that comes or goes, and a slow request, take a lock.

mod cold;
mod connections;
mod engine;
mod exchange;
mod histogram;
mod namespaces;
mod process;
mod slow;
#[cfg(feature = "sql")]
mod sql;
mod text;

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use bowstring_cache::clock::Clock;
use bowstring_wire::error::Code;
use bowstring_wire::reply::RequestStats;
use parking_lot::Mutex;

pub use cold::{counters as cold_counters, gauges as cold_gauges, render as render_cold};
pub use connections::{Connected, Connection};
pub use engine::render as render_engine;
pub use exchange::ExchangeOp;
pub use namespaces::{NAMESPACES_SHOWN, render as render_namespaces};
pub use process::ProcessMemory;
pub use slow::SlowRequest;
#[cfg(feature = "sql")]
pub use sql::render as render_sql;
pub use text::{Family, SERIES_MAX, Sample, Text, Value};

use crate::flight::verb::Verb;
use connections::Connections;
use exchange::Exchanges;
use histogram::Histogram;
use slow::Slow;

/// A handle to all counters; clones share them.
#[derive(Clone)]
pub struct Metrics(Arc<Inner>);

/// Why a connection was not taken, or not kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// As many connections as are allowed were there.
    ConnectionsMax,
    /// Too many had connected and not greeted.
    HalfOpenMax,
    /// No HTTP/2 greeting in time.
    GreetingTimeout,
    /// The peer broke HTTP/2.
    Protocol,
    /// No answer to a ping.
    KeepaliveTimeout,
}

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
    /// Counters at zero. `clock` times the requests.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self(Arc::new(Inner {
            clock,
            verbs: Default::default(),
            connections: Connections::default(),
            slow: Slow::default(),
            refusals: Default::default(),
            cut_offs: Default::default(),
            exchanges: Exchanges::default(),
            sources: Mutex::default(),
        }))
    }

    /// Counts a request from now until the [`Begun`] is ended or dropped. `None` is a service
    /// beside Flight, such as health.
    pub fn begin(&self, verb: impl Into<Option<Verb>>) -> Begun {
        let at = verb.into().map_or(VERBS - 1, |verb| verb as usize);
        self.0.verbs[at].in_flight.fetch_add(1, Relaxed);
        Begun {
            began: self.0.clock.monotonic(),
            inner: self.0.clone(),
            at,
            ended: false,
        }
    }

    /// Counts a connection that was not taken or not kept.
    pub fn refused(&self, why: Refusal) {
        self.0.refusals[why as usize].fetch_add(1, Relaxed);
    }

    /// Counts somebody that we stopped.
    pub fn cut_off(&self, whom: CutOff) {
        self.0.cut_offs[whom as usize].fetch_add(1, Relaxed);
    }

    /// Counts a request within an exchange that was answered, or with which code it failed.
    pub fn exchanged(&self, op: ExchangeOp, failed: Option<Code>) {
        self.0.exchanges.count(op, failed);
    }

    /// Each verb's requests, and those of all else as `other`; verbs that were never asked for are left out.
    pub fn requests(&self) -> impl Iterator<Item = (&'static str, RequestStats)> {
        let of = |(verb, name): (&PerVerb, _)| {
            let count = |at: usize| verb.outcomes[at].load(Relaxed);
            let stats = RequestStats {
                ok: count(OK),
                failed: (0..OK).map(count).sum(),
                in_flight: u64::try_from(verb.in_flight.load(Relaxed)).unwrap_or(0),
                received_bytes: verb.received_bytes.load(Relaxed),
                sent_bytes: verb.sent_bytes.load(Relaxed),
            };
            (stats.ok + stats.failed + stats.in_flight > 0).then_some((name, stats))
        };
        self.0.named().filter_map(of)
    }

    /// Adds figures that are read when the page is asked for; called once for each at start.
    /// What `source` writes must be of a number that is known beforehand.
    pub fn add_source(&self, source: impl Fn(&mut Text) + Send + Sync + 'static) {
        self.0.sources.lock().push(Box::new(source));
    }

    /// The page. Reads files of `/proc`: not for a thread that must not block.
    pub fn render(&self) -> String {
        self.text().finish()
    }

    /// All that the page says, in its order. As [`Metrics::render`], not for a thread that must not block.
    pub fn samples(&self) -> Vec<Sample> {
        self.text().samples()
    }

    fn text(&self) -> Text {
        let mut text = Text::default();
        text.gauge("bowstring_build_info", "Always 1; the version is a label.")
            .labelled(&[("version", env!("CARGO_PKG_VERSION"))], 1);
        self.0.render(&mut text);
        for source in self.0.sources.lock().iter() {
            source(&mut text);
        }
        process::render(&mut text);
        text
    }
}

/// A request that is being answered. Dropped before its end, it was `cancelled`: the client went
/// away.
///
/// Whoever sends the last byte of the answer holds it, so that the time is that of the whole.
#[must_use]
pub struct Begun {
    inner: Arc<Inner>,
    at: usize,
    began: Duration,
    ended: bool,
}

impl Begun {
    /// Counts bytes of the request's body.
    pub fn received(&self, bytes: u64) {
        let verb = &self.inner.verbs[self.at];
        verb.received_bytes.fetch_add(bytes, Relaxed);
    }

    /// Counts bytes of the answer's body.
    pub fn sent(&self, bytes: u64) {
        let verb = &self.inner.verbs[self.at];
        verb.sent_bytes.fetch_add(bytes, Relaxed);
    }

    /// The request was answered in full.
    pub fn ok(mut self) {
        self.end(OK);
    }

    /// The request was answered with this code.
    pub fn failed(mut self, code: Code) {
        self.end(code as usize);
    }

    fn end(&mut self, outcome: usize) {
        self.ended = true;
        let verb = &self.inner.verbs[self.at];
        verb.in_flight.fetch_sub(1, Relaxed);
        verb.outcomes[outcome].fetch_add(1, Relaxed);
        let now = self.inner.clock.monotonic();
        verb.time.record(now.saturating_sub(self.began));
    }
}

impl Drop for Begun {
    fn drop(&mut self) {
        if !self.ended {
            self.end(Code::Cancelled as usize);
        }
    }
}

/// Flight's verbs and all else.
const VERBS: usize = Verb::ALL.len() + 1;
/// Error codes and success, which is the last.
const OUTCOMES: usize = Code::ALL.len() + 1;
const OK: usize = OUTCOMES - 1;
const REFUSALS: [&str; 5] = [
    "connections_max",
    "half_open_max",
    "greeting_timeout",
    "protocol",
    "keepalive_timeout",
];
const CUT_OFFS: [(&str, &str); 3] = [
    ("reader", "stream_reset"),
    ("reader", "connection_closed"),
    ("put", "idle"),
];

struct Inner {
    clock: Arc<dyn Clock>,
    verbs: [PerVerb; VERBS],
    connections: Connections,
    slow: Slow,
    refusals: [AtomicU64; REFUSALS.len()],
    cut_offs: [AtomicU64; CUT_OFFS.len()],
    exchanges: Exchanges,
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
        self.exchanges.render(text);
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
        self.connections.render(text);
        let mut family = text.counter(
            "bowstring_connections_refused_total",
            "Connections not taken, or not kept.",
        );
        for (name, count) in REFUSALS.iter().zip(&self.refusals) {
            family.labelled(&[("reason", name)], count.load(Relaxed));
        }
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

    fn each_verb<N: Into<Value>>(&self, mut family: Family<'_>, of: impl Fn(&PerVerb) -> N) {
        for (verb, name) in self.named() {
            family.labelled(&[("verb", name)], of(verb));
        }
    }
}

#[cfg(test)]
mod tests;
