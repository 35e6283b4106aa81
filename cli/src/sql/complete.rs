//! What the prompt knows of SQL: how a word may go on, and whether a statement is at its end.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use rustyline::completion::Completer;
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::validate::{ValidationContext, ValidationResult, Validator};
use rustyline::{Context, Helper};

use super::query;
use super::session::COMMANDS;
use super::split::{Splitter, is_of_a_word};
use super::value::{Reader, Value};
use crate::Error;
use crate::client::Client;

const KEYWORDS: &str = "ALL ANALYZE AND ANY AS ASC AVG BETWEEN BY CASE CAST COALESCE COLUMNS COUNT CROSS DATE DELETE DESC \
    DESCRIBE DISTINCT ELSE END EXCEPT EXISTS EXPLAIN FALSE FROM FULL GROUP HAVING IN INNER INTERSECT INTERVAL IS JOIN \
    LEFT LIKE LIMIT MAX MIN NOT NULL OFFSET ON OR ORDER OUTER OVER PARTITION RIGHT SELECT SET SHOW SUM TABLES THEN \
    TIMESTAMP TRUE UNION UPDATE USING VALUES VERBOSE WHEN WHERE WITH";
/// Before the name of a table.
const BEFORE_TABLES: [&str; 5] = ["FROM", "JOIN", "UPDATE", "INTO", "DESCRIBE"];

const NAMES: &str =
    "SELECT table_schema, table_name, column_name FROM information_schema.columns LIMIT 10000";

/// The names of a server's tables and columns, once they are there. Cheap to clone.
#[derive(Clone, Default)]
pub struct Names {
    found: Arc<OnceLock<Found>>,
    asking: Arc<AtomicBool>,
}

#[derive(Default)]
struct Found {
    tables: Vec<String>,
    columns: Vec<String>,
}

impl Names {
    /// Asks for them, where they are not there; whoever types does not wait for that.
    pub fn ask(&self, client: &Client) {
        if self.found.get().is_some() || self.asking.swap(true, Ordering::Relaxed) {
            return;
        }
        let (names, mut client) = (self.clone(), client.clone());
        tokio::spawn(async move {
            // A server that does not tell is asked again before the next prompt.
            if let Ok(found) = find(&mut client).await {
                let _ = names.found.set(found);
            }
            names.asking.store(false, Ordering::Relaxed);
        });
    }

    /// Where the word before `at` begins, and how it may go on.
    fn complete(&self, line: &str, at: usize) -> (usize, Vec<String>) {
        let before = line.get(..at).unwrap_or_default();
        let word = before
            .trim_start()
            .strip_prefix('\\')
            .map(|command| !command.contains(' '));
        let start = match word {
            Some(true) => before.find('\\').unwrap_or(0),
            _ => before.rfind(|c| !is_of_a_word(c)).map_or(0, |at| {
                at + before[at..].chars().next().map_or(0, char::len_utf8)
            }),
        };
        let (before, prefix) = before.split_at(start);
        let nothing = Found::default();
        let found = self.found.get().unwrap_or(&nothing);
        let keyword = |keyword: &'static str| match prefix.chars().any(char::is_uppercase) {
            true => keyword.to_owned(),
            false => keyword.to_ascii_lowercase(),
        };
        let last = before.split_whitespace().next_back().unwrap_or_default();
        let last = last.to_ascii_uppercase();
        let mut candidates: Vec<String> = match () {
            () if word == Some(true) => COMMANDS.map(str::to_owned).to_vec(),
            () if word == Some(false) || BEFORE_TABLES.contains(&&*last) => found.tables.clone(),
            // All there is would be no help.
            () if prefix.is_empty() && !before.ends_with('.') => Vec::new(),
            () if before.ends_with('.') => [&found.columns[..], &found.tables].concat(),
            () => {
                let keywords = KEYWORDS.split_whitespace().map(keyword);
                let names = found.tables.iter().chain(&found.columns).cloned();
                names.chain(keywords).collect()
            }
        };
        let begins = |candidate: &String| {
            let head = candidate.get(..prefix.len());
            head.is_some_and(|head| head.eq_ignore_ascii_case(prefix))
        };
        candidates.retain(begins);
        candidates.sort_unstable();
        candidates.dedup();
        (start, candidates)
    }
}

async fn find(client: &mut Client) -> Result<Found, Error> {
    let mut answer = query::start(client, NAMES).await?;
    let mut found = Found::default();
    while let Some(batch) = answer.next().await? {
        let columns = batch.columns().iter();
        let readers: Vec<_> = columns.filter_map(|it| Reader::new(it).ok()).collect();
        let text = |at: usize, row| match readers.get(at).map(|it| it.value(row, 0)) {
            Some(Value::Text(text)) => text,
            _ => "",
        };
        for row in 0..batch.num_rows() {
            let (schema, table) = (text(0, row), text(1, row));
            match schema {
                "information_schema" => found.tables.push(format!("{schema}.{table}")),
                _ => {
                    found.tables.push(table.to_owned());
                    found.columns.push(text(2, row).to_owned());
                }
            }
        }
    }
    for names in [&mut found.tables, &mut found.columns] {
        names.sort_unstable();
        names.dedup();
    }
    Ok(found)
}

/// Whether Enter runs what is there. It adds a line to a statement whose `;` is missing.
pub fn is_whole(text: &str) -> bool {
    let mut splitter = Splitter::new();
    splitter.push(text);
    splitter.push("\n");
    splitter.is_at_end() || word(text).is_some()
}

/// What stands for a command, as people type it who do not know that.
pub fn word(text: &str) -> Option<&'static str> {
    match text.trim().trim_end_matches(';') {
        "exit" | "quit" => Some("\\q"),
        "help" => Some("\\?"),
        _ => None,
    }
}

impl Completer for Names {
    type Candidate = String;

    fn complete(
        &self,
        line: &str,
        at: usize,
        _: &Context<'_>,
    ) -> rustyline::Result<(usize, Vec<String>)> {
        Ok(Names::complete(self, line, at))
    }
}

impl Validator for Names {
    fn validate(&self, typed: &mut ValidationContext<'_>) -> rustyline::Result<ValidationResult> {
        Ok(match is_whole(typed.input()) {
            true => ValidationResult::Valid(None),
            false => ValidationResult::Incomplete,
        })
    }
}

impl Hinter for Names {
    type Hint = String;
}

impl Highlighter for Names {}

impl Helper for Names {}

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> Names {
        let names = Names::default();
        let of = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let found = Found {
            tables: of(&["information_schema.tables", "namespaces", "tensors"]),
            columns: of(&["bytes", "key", "namespace"]),
        };
        assert!(names.found.set(found).is_ok());
        names
    }

    #[track_caller]
    fn completes(line: &str, start: usize, candidates: &[&str]) {
        let (at, found) = names().complete(line, line.len());
        let found: Vec<&str> = found.iter().map(String::as_str).collect();
        assert_eq!((at, &found[..]), (start, candidates), "{line:?}");
    }

    #[test]
    fn words_go_on() {
        completes("sel", 0, &["select"]);
        completes("SELECT ke", 7, &["key"]);
        completes("SELECT 1 FR", 9, &["FROM"]);
        completes("SELECT 1\nwh", 9, &["when", "where"]);
        completes("SELECT sum(by", 11, &["by", "bytes"]);
        completes("SELECT * FROM t", 14, &["tensors"]);
        completes(
            "select * from ",
            14,
            &["information_schema.tables", "namespaces", "tensors"],
        );
        completes(
            "SELECT t.",
            9,
            &[
                "bytes",
                "information_schema.tables",
                "key",
                "namespace",
                "namespaces",
                "tensors",
            ],
        );
        completes("SELECT tensors.na", 15, &["namespace", "namespaces"]);
        completes("SELECT 'ü", 8, &[]);
        completes("SELECT ", 7, &[]);
    }

    #[test]
    fn commands_go_on_too() {
        completes("\\t", 0, &["\\timing"]);
        completes("\\d ten", 3, &["tensors"]);
        assert_eq!(names().complete("\\", 1).1.len(), COMMANDS.len());
    }

    #[test]
    fn without_names_there_are_keywords() {
        assert_eq!(
            Names::default().complete("SELECT di", 9),
            (7, vec!["distinct".to_owned()])
        );
        assert_eq!(Names::default().complete("x FROM t", 8), (7, Vec::new()));
    }

    #[test]
    fn enter_runs_what_is_whole() {
        for whole in [
            "",
            "SELECT 1;",
            "SELECT 1; -- done",
            "\\d tensors",
            "exit",
            " quit; ",
            "help",
        ] {
            assert!(is_whole(whole), "{whole:?}");
        }
        for part in [
            "SELECT 1",
            "SELECT ';",
            "SELECT 1; SELECT",
            "exits",
            "/* a;",
        ] {
            assert!(!is_whole(part), "{part:?}");
        }
    }
}
