//! How far it is: a bar on a terminal, else a line every ten seconds.

use std::io::{IsTerminal as _, stderr};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::clock::Stopwatch;

const LINE_EVERY: Duration = Duration::from_secs(10);

/// Rows that are through, of how many.
pub struct Progress {
    bar: Option<ProgressBar>,
    watch: Stopwatch,
    said: Duration,
    rows: u64,
    bytes: u64,
    total: Option<u64>,
    /// Rows that were there before this run.
    before: u64,
    quiet: bool,
}

impl Progress {
    /// Begins. `before` rows were done by an earlier run.
    pub fn start(total: Option<u64>, before: u64, quiet: bool) -> Progress {
        let bar = (!quiet && stderr().is_terminal()).then(|| {
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
        Progress {
            bar,
            watch: Stopwatch::start(),
            said: Duration::ZERO,
            rows: before,
            bytes: 0,
            total,
            before,
            quiet,
        }
    }

    /// So many more are through.
    pub fn add(&mut self, rows: u64, bytes: u64) {
        self.rows += rows;
        self.bytes += bytes;
        if let Some(bar) = &self.bar {
            bar.set_position(self.rows);
            bar.set_message(self.rate());
        } else if !self.quiet && self.watch.elapsed() >= self.said + LINE_EVERY {
            self.said = self.watch.elapsed();
            let of = self
                .total
                .map_or(String::new(), |total| format!(" of {total}"));
            eprintln!("bowstring: {}{of} rows, {}", self.rows, self.rate());
        }
    }

    /// Takes the bar away; how long it took.
    pub fn end(&self) -> Duration {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        self.watch.elapsed()
    }

    fn rate(&self) -> String {
        let seconds = self.watch.elapsed().as_secs_f64().max(1e-3);
        let rows = (self.rows - self.before) as f64 / seconds;
        let mib = self.bytes as f64 / seconds / f64::from(1 << 20);
        format!("{rows:.0} rows/s, {mib:.1} MiB/s")
    }
}
