//! What is run after another: statements, and the commands that begin with a backslash.

use std::io::{IsTerminal as _, stdout};

use console::style;

use super::print::{Expanded, Layout};
use super::query;
use super::split::Item;
use crate::client::Client;
use crate::clock::Stopwatch;
use crate::human::{of, shown, took};
use crate::{Error, out};

const HELP: &str = "\
\\d                 the tables
\\d TABLE           its columns
\\x [on|off|auto]   rows as records, of a line a column; auto: where a table is too wide
\\timing [on|off]   how many rows came in which time, or not
\\?                 this
\\q                 leaves, as Ctrl-D does
A statement ends with a semicolon, and may have many lines. Ctrl-C gives it up. Tab completes.
";

/// Commands, for completion.
pub const COMMANDS: [&str; 5] = ["\\d", "\\x", "\\timing", "\\?", "\\q"];

const TABLES: &str = "SELECT table_schema AS schema, table_name AS \"table\", table_type AS type \
    FROM information_schema.tables WHERE table_schema <> 'information_schema' ORDER BY 1, 2";

/// Whether there is more to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    More,
    Leave,
}

/// A connection, and how answers are shown.
pub struct Session {
    /// The connection.
    pub client: Client,
    layout: Layout,
    expanded: Expanded,
    timing: bool,
}

impl Session {
    /// On a terminal, with the time that each statement took.
    pub fn new(client: Client, layout: Layout) -> Session {
        Session {
            client,
            layout,
            expanded: Expanded::Auto,
            timing: layout == Layout::Table && stdout().is_terminal(),
        }
    }

    /// Runs one.
    pub async fn run(&mut self, item: &Item) -> Result<Next, Error> {
        match item.text.strip_prefix('\\') {
            Some(command) => self.command(command).await,
            None => {
                self.statement(&item.text, self.expanded).await?;
                Ok(Next::More)
            }
        }
    }

    async fn statement(&mut self, text: &str, expanded: Expanded) -> Result<(), Error> {
        let watch = Stopwatch::start();
        let rows = query::run(&mut self.client, text, self.layout, expanded).await?;
        if self.timing {
            let took = took(watch.elapsed());
            let told = match rows {
                Some(rows) => format!("{} in {took}", of(rows, "row", "rows")),
                None => format!("in {took}"),
            };
            out::print(&format!("{}\n", style(told).dim()))?;
        }
        Ok(())
    }

    async fn command(&mut self, command: &str) -> Result<Next, Error> {
        let mut words = command.trim_end_matches([';', ' ']).split_whitespace();
        match (words.next().unwrap_or_default(), words.next(), words.next()) {
            ("q", None, None) => return Ok(Next::Leave),
            ("?", None, None) => out::print(HELP)?,
            ("d", None, None) => self.statement(TABLES, Expanded::Off).await?,
            ("d", Some(table), None) => {
                let text = format!("DESCRIBE {table}");
                self.statement(&text, Expanded::Off).await?;
            }
            ("timing", switch, None) => self.timing = switched(switch, !self.timing)?,
            ("x", Some("auto"), None) => self.expanded = Expanded::Auto,
            ("x", switch, None) => {
                self.expanded = match switched(switch, self.expanded != Expanded::On)? {
                    true => Expanded::On,
                    false => Expanded::Off,
                };
            }
            _ => {
                return Err(Error::Usage(format!(
                    "no such command: `\\?` lists them; got=`\\{}`",
                    shown(command)
                )));
            }
        }
        Ok(Next::More)
    }
}

fn switched(switch: Option<&str>, other: bool) -> Result<bool, Error> {
    match switch {
        None => Ok(other),
        Some("on") => Ok(true),
        Some("off") => Ok(false),
        Some(unknown) => Err(Error::Usage(format!(
            "expected on or off; got=`{}`",
            shown(unknown)
        ))),
    }
}
