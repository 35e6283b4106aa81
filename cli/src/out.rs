//! Standard output: text for people, JSON for programs. A reader that goes away (`… | head`) ends the
//! command without a word.

use std::io::{self, Write as _};

use bowstring_wire::error::is_hidden;
use serde::Serialize;

use crate::Error;

/// What a command prints, and how.
#[derive(Clone, Copy, Debug, Default, clap::Args)]
pub struct Format {
    /// Print JSON: an object, or an object a line where there are many
    #[arg(long, help_heading = "Output")]
    pub json: bool,
    /// Print exact numbers of bytes and milliseconds instead of units
    #[arg(long, help_heading = "Output")]
    pub bytes: bool,
}

/// Writes to standard output, at once.
///
/// # Errors
/// [`Error::Closed`] where nobody reads any more.
pub fn print(text: &str) -> Result<(), Error> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())
        .and_then(|()| out.flush())
        .map_err(|source| match source.kind() {
            io::ErrorKind::BrokenPipe => Error::Closed,
            _ => Error::File {
                what: "cannot write standard output",
                path: "-".to_owned(),
                source: source.into(),
            },
        })
}

/// Adds a line of JSON to `text`. What would steer a terminal is escaped, which changes no value.
pub fn push_json(text: &mut String, value: &impl Serialize) {
    // Our own types are all of text and numbers: there is nothing in them that cannot be JSON.
    let json = serde_json::to_string(value).unwrap_or_default();
    for c in json.chars() {
        if is_hidden(c) {
            // Only within strings, and all of them have four digits.
            text.push_str(&format!("\\u{:04x}", u32::from(c)));
        } else {
            text.push(c);
        }
    }
    text.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_does_not_steer_a_terminal() {
        let mut text = String::new();
        push_json(&mut text, &"a\u{9b}31m\u{202e}ü\n");
        assert_eq!(text, "\"a\\u009b31m\\u202eü\\n\"\n");
        let back: String = serde_json::from_str(&text).unwrap();
        assert_eq!(back, "a\u{9b}31m\u{202e}ü\n");
    }
}
