//! `bowstring top`: what a server does, again and again.
//!
//! - `sample`: its figures at one moment, and what happened between two of them
//! - `frame`: how that is drawn

mod frame;
mod sample;

use std::time::Duration;

use bowstring_wire::duration;
use console::{Style, Term};

use self::frame::{Screen, frame};
use self::sample::{Rates, Sample};
use crate::client::Client;
use crate::human::shown;
use crate::out::{self, Format, push_json};
use crate::table::width;
use crate::target::Target;
use crate::{Error, clock};

/// Lines where no terminal says how many it has.
const LINES: usize = 30;

/// How often, and how long.
#[derive(Debug, clap::Args)]
pub struct Top {
    /// How long a sample lasts
    #[arg(short, long, value_name = "TIME", default_value = "2s", value_parser = duration::parse_non_zero)]
    interval: Duration,
    /// End after one sample; so it does where standard output is no terminal, but with --json
    #[arg(long)]
    once: bool,
    #[command(flatten)]
    format: Format,
    #[command(flatten)]
    target: Target,
}

impl Top {
    pub(crate) async fn run(self) -> Result<u8, Error> {
        let mut client = Client::connect(&self.target).await?;
        let term = Term::stdout();
        // Only what understands a few steps up can be drawn over.
        let live = term.is_term() && !console::is_dumb() && !self.format.json;
        let once = self.once || (!live && !self.format.json);
        let mut screen = Screen::new(live);
        let mut before = Sample::take(&mut client).await?;
        let mut note = String::new();
        loop {
            clock::sleep(self.interval).await;
            let now = match Sample::take(&mut client).await {
                Ok(now) => now,
                // The connection is made anew by the next question.
                Err(error) if error.exit_code() == 4 && !once => {
                    self.gone(&mut screen, &error)?;
                    continue;
                }
                Err(error) => return Err(error),
            };
            let Some(rates) = Rates::between(&before, &now) else {
                note = "the server was started anew: it began to count again".to_owned();
                before = now;
                continue;
            };
            let mut text = String::new();
            if self.format.json {
                push_json(&mut text, &rates);
            } else {
                let lines = term.size_checked().map(|size| usize::from(size.0));
                let lines = lines.unwrap_or(LINES).max(2) - 1;
                let endpoint = self.target.endpoint.to_string();
                text = frame(&rates, &endpoint, &note, width(), lines, self.format);
            }
            out::print(&screen.over(text))?;
            if once {
                return Ok(0);
            }
            before = now;
        }
    }

    /// Says that nobody answers: programs find nothing on standard output meanwhile.
    fn gone(&self, screen: &mut Screen, error: &Error) -> Result<(), Error> {
        let why = match error {
            Error::Broken { cause } => cause.clone(),
            other => other.to_string(),
        };
        let told = format!("no server answers, trying again: {}", shown(&why));
        if self.format.json {
            eprintln!("bowstring: {told}");
            return Ok(());
        }
        let red = Style::new().red();
        out::print(&screen.over(format!("{}\n", red.apply_to(told))))
    }
}
