//! What a person types: lines that can be edited, found again and completed, until a statement is whole.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::PathBuf;

use console::style;
use rustyline::error::ReadlineError;
use rustyline::history::FileHistory;
use rustyline::{CompletionType, Config, Editor};
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::complete::{Names, word};
use super::session::{Next, Session};
use super::split::Splitter;
use crate::target::Target;
use crate::{EXIT_INTERRUPTED, Error, state};

const HISTORY_MAX: usize = 1_000;

type Lines = Editor<Names, FileHistory>;

/// Runs what is typed, to the end of that.
pub async fn converse(mut session: Session, target: &Target) -> Result<u8, Error> {
    let names = Names::default();
    let mut lines = editor(names.clone()).map_err(|error| Error::System(system(error)))?;
    let history = history();
    if let Some(path) = &history {
        // There may be none yet.
        let _ = lines.load_history(path);
    }
    eprintln!("{}: `\\?` for help", target.endpoint);
    // From here on no interrupt ends the process.
    let mut interrupts = signal(SignalKind::interrupt()).map_err(Error::System)?;
    let mut interrupted = false;
    loop {
        names.ask(&session.client);
        let typed = tokio::task::block_in_place(|| lines.readline("bowstring> "));
        let typed = match typed {
            Ok(typed) => typed,
            Err(ReadlineError::Eof) => return Ok(0),
            Err(ReadlineError::Interrupted) if interrupted => return Ok(EXIT_INTERRUPTED),
            Err(ReadlineError::Interrupted) => {
                eprintln!("Ctrl-C again leaves, as \\q and Ctrl-D do");
                interrupted = true;
                continue;
            }
            Err(error) => return Err(Error::System(system(error))),
        };
        interrupted = false;
        remember(&mut lines, &history, &typed);
        if run(&mut session, &mut interrupts, &typed).await? == Next::Leave {
            return Ok(0);
        }
    }
}

/// Runs what was typed, up to the first that fails or is given up; that is said, and ends nothing.
async fn run(session: &mut Session, interrupts: &mut Signal, typed: &str) -> Result<Next, Error> {
    let mut splitter = Splitter::new();
    let mut items = splitter.push(word(typed).unwrap_or(typed));
    items.extend(splitter.finish());
    for item in &items {
        let done = tokio::select! {
            done = session.run(item) => done,
            _ = interrupts.recv() => {
                eprintln!("given up");
                break;
            }
        };
        match done {
            Ok(Next::More) => {}
            Ok(Next::Leave) => return Ok(Next::Leave),
            Err(Error::Closed) => return Err(Error::Closed),
            Err(error) => {
                eprintln!("{}", style(error).red().for_stderr());
                break;
            }
        }
    }
    Ok(Next::More)
}

fn editor(names: Names) -> rustyline::Result<Lines> {
    let config = Config::builder()
        .max_history_size(HISTORY_MAX)?
        .history_ignore_dups(true)?
        // What is not to be found again is typed with a space before it.
        .history_ignore_space(true)
        .completion_type(CompletionType::List)
        .build();
    let mut lines = Lines::with_config(config)?;
    lines.set_helper(Some(names));
    Ok(lines)
}

/// Where statements are kept from one time to the next, for their user only; `None` where there is no place for that.
fn history() -> Option<PathBuf> {
    let folder = state::folder()?;
    let made = DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&folder);
    made.ok()?;
    Some(folder.join("sql_history"))
}

fn remember(lines: &mut Lines, history: &Option<PathBuf>, typed: &str) {
    let added = lines.add_history_entry(typed.trim_end());
    if let (Ok(true), Some(path)) = (added, history) {
        // It holds for this time even where no file can be written.
        let _ = lines.append_history(path);
    }
}

fn system(error: ReadlineError) -> std::io::Error {
    match error {
        ReadlineError::Io(error) => error,
        other => std::io::Error::other(other),
    }
}
