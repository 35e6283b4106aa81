//! How far it is: a bar on a terminal, else a line every ten seconds.

use std::io::{IsTerminal as _, stderr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::clock::Stopwatch;

/// How often a line is said where there is no terminal.
pub const LINE_EVERY: Duration = Duration::from_secs(10);

/// Rows that are through, of how many. Clones tell of the same.
#[derive(Clone)]
pub struct Progress {
    state: Arc<Mutex<State>>,
}

struct State {
    bar: Option<ProgressBar>,
    watch: Stopwatch,
    /// When the last line was said.
    said: Duration,
    line_every: Option<Duration>,
    through: Count,
    /// On their way: sent, and not answered for.
    sent: Count,
    total: Option<u64>,
    /// Rows that were there before this run.
    before: u64,
}

#[derive(Clone, Copy, Default)]
struct Count {
    rows: u64,
    bytes: u64,
}

impl Progress {
    /// Begins. `before` rows were done by an earlier run; with no `line_every`, nothing is shown.
    pub fn start(total: Option<u64>, before: u64, line_every: Option<Duration>) -> Progress {
        let bar = (line_every.is_some() && stderr().is_terminal()).then(|| {
            let bar = ProgressBar::with_draw_target(total, ProgressDrawTarget::stderr_with_hz(5));
            let template = match total {
                Some(_) => {
                    "{bar:24} {percent:>3} %  {human_pos} of {human_len} rows  {msg}  {eta} left"
                }
                None => "{spinner} {human_pos} rows  {msg}",
            };
            if let Ok(style) = ProgressStyle::with_template(template) {
                bar.set_style(style.progress_chars("=> "));
            }
            bar.set_position(before);
            bar.reset_eta();
            bar
        });
        let state = State {
            bar,
            watch: Stopwatch::start(),
            said: Duration::ZERO,
            line_every,
            through: Count {
                rows: before,
                bytes: 0,
            },
            sent: Count::default(),
            total,
            before,
        };
        Progress {
            state: Arc::new(Mutex::new(state)),
        }
    }

    /// So many more are on their way.
    pub fn sent(&self, rows: u64, bytes: u64) {
        let mut state = self.state();
        state.sent.rows += rows;
        state.sent.bytes += bytes;
        state.show();
    }

    /// What was on its way did not arrive.
    pub fn lost(&self) {
        self.state().sent = Count::default();
    }

    /// So many more are through, and none is on its way.
    pub fn add(&self, rows: u64, bytes: u64) {
        let mut state = self.state();
        state.sent = Count::default();
        state.through.rows += rows;
        state.through.bytes += bytes;
        state.show();
    }

    /// Takes the bar away; how long it took.
    pub fn end(&self) -> Duration {
        let state = self.state();
        if let Some(bar) = &state.bar {
            bar.finish_and_clear();
        }
        state.watch.elapsed()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn show(&mut self) {
        let rows = self.through.rows + self.sent.rows;
        if let Some(bar) = &self.bar {
            bar.set_position(rows);
            bar.set_message(self.rate());
            return;
        }
        let now = self.watch.elapsed();
        if self
            .line_every
            .is_some_and(|every| now >= self.said + every)
        {
            self.said = now;
            let of = self
                .total
                .map_or(String::new(), |total| format!(" of {total}"));
            eprintln!("bowstring: {rows}{of} rows, {}", self.rate());
        }
    }

    fn rate(&self) -> String {
        let seconds = self.watch.elapsed().as_secs_f64().max(1e-3);
        let rows = (self.through.rows + self.sent.rows - self.before) as f64 / seconds;
        let bytes = (self.through.bytes + self.sent.bytes) as f64 / seconds;
        let mib = bytes / f64::from(1 << 20);
        format!("{rows:.0} rows/s, {mib:.1} MiB/s")
    }
}
