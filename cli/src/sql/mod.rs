//! `bowstring sql`: statements of SQL to a server, and what they answer.
//!
//! - `prompt`: what a person types; `complete`: what Tab finds, and when Enter ends a statement
//! - `split`: where a statement ends; `session`: what is run after another, and the commands of the terminal
//! - `query`: one statement, whose answer is printed while it comes
//! - `print`: tables, records, JSON, CSV, of the values that `value` reads and `text`, `json` and `csv` write

mod complete;
mod csv;
mod json;
mod print;
mod prompt;
mod query;
mod session;
mod split;
mod text;
mod value;

#[cfg(test)]
mod tests;

use std::fs::File;
use std::io::{BufRead, BufReader, IsTerminal as _, Read as _, stdin, stdout};

use bowstring_client::Address;
use bowstring_wire::error::Error as WireError;
use tokio::task::block_in_place;

use self::print::Layout;
use self::session::{Next, Session};
use self::split::{Item, Splitter};
use crate::Error;
use crate::client::Client;
use crate::target::Target;

/// No statement is longer; what the server takes is less.
const STATEMENT_BYTES_MAX: usize = 16 << 20;

/// What is asked, and how answers are printed.
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub struct Sql {
    /// Which server, in place of --endpoint
    #[arg(value_name = "URI")]
    uri: Option<Address>,
    /// Run these statements, and end; may be given several times
    #[arg(short, long = "command", value_name = "SQL")]
    commands: Vec<String>,
    /// Run the statements in a file, and end; - is standard input
    #[arg(short, long, value_name = "FILE", conflicts_with = "commands")]
    file: Option<String>,
    /// Print JSON: an object a row
    #[arg(long, help_heading = "Output")]
    json: bool,
    /// Print CSV, below the names of the columns
    #[arg(long, conflicts_with = "json", help_heading = "Output")]
    csv: bool,
    #[command(flatten)]
    target: Target,
}

const AFTER_HELP: &str = "\
Without --command and --file it asks for statements on a terminal, and reads them from standard
input where there is none. A statement ends with a semicolon; `\\?` lists what else there is.";

impl Sql {
    /// Whether an interrupt ends a statement, not the program.
    pub(crate) fn takes_interrupts(&self) -> bool {
        let asks = self.commands.is_empty() && self.file.is_none();
        asks && stdin().is_terminal() && stdout().is_terminal()
    }

    pub(crate) async fn run(self) -> Result<u8, Error> {
        let is_interactive = self.takes_interrupts();
        let layout = match (self.json, self.csv) {
            (true, _) => Layout::Json,
            (_, true) => Layout::Csv,
            _ => Layout::Table,
        };
        let mut target = self.target;
        if let Some(uri) = self.uri {
            target.endpoint = uri;
        }
        let mut session = Session::new(Client::connect(&target).await?, layout);
        if is_interactive {
            return prompt::converse(session, &target).await;
        }
        match self.file.as_deref() {
            _ if !self.commands.is_empty() => {
                for text in &self.commands {
                    let mut splitter = Splitter::new();
                    let mut items = splitter.push(text);
                    items.extend(splitter.finish());
                    if all(&mut session, items, false).await? == Next::Leave {
                        break;
                    }
                }
            }
            None | Some("-") => script(&mut session, "-", BufReader::new(stdin())).await?,
            Some(path) => {
                let file = File::open(path);
                let file = file.map_err(|error| Error::file("cannot open", path, error))?;
                script(&mut session, path, BufReader::new(file)).await?;
            }
        }
        Ok(0)
    }
}

/// Runs all that is read, each statement when it is there.
async fn script(session: &mut Session, path: &str, mut input: impl BufRead) -> Result<(), Error> {
    let failed = |error: std::io::Error| Error::file("cannot read statements", path, error);
    let mut splitter = Splitter::new();
    let mut line = Vec::new();
    loop {
        line.clear();
        let mut some = (&mut input).take(STATEMENT_BYTES_MAX as u64 + 1);
        // What waits for a signal goes on on another thread meanwhile.
        let read = block_in_place(|| some.read_until(b'\n', &mut line));
        read.map_err(failed)?;
        let text = str::from_utf8(&line);
        let text = text.map_err(|error| failed(std::io::Error::other(error)))?;
        let mut items = splitter.push(text);
        if line.is_empty() {
            items.extend(splitter.finish());
        }
        if splitter.pending_bytes() > STATEMENT_BYTES_MAX {
            let error = format!("a statement has more than {STATEMENT_BYTES_MAX} bytes");
            return Err(failed(std::io::Error::other(error)));
        }
        let next = all(session, items, true).await?;
        if line.is_empty() || next == Next::Leave {
            return Ok(());
        }
    }
}

/// Runs them, up to the first that fails.
async fn all(session: &mut Session, items: Vec<Item>, says_line: bool) -> Result<Next, Error> {
    for item in items {
        match session.run(&item).await {
            Ok(Next::More) => {}
            Ok(Next::Leave) => return Ok(Next::Leave),
            Err(Error::Refused(error)) if says_line => {
                let message = format!("{}; line=`{}`", error.message, item.line);
                return Err(WireError::new(error.code, message).into());
            }
            Err(error) => return Err(error),
        }
    }
    Ok(Next::More)
}
