//! The keys that a command names: on its command line, or on standard input.

use std::io::{BufRead, BufReader, Read as _, Stdin, stdin};
use std::vec;

use bowstring_wire::limits::MAX_KEY_BYTES;
use bowstring_wire::name::Key;

use crate::Error;

/// Keys of one action: 100,000 are allowed, and an answer should come soon.
const KEYS_EACH: usize = 10_000;

/// Which keys.
#[derive(Debug, Default, clap::Args)]
pub struct Keys {
    /// The keys; `-` alone reads them from standard input, one a line
    #[arg(value_name = "KEY")]
    pub keys: Vec<Key>,
    /// On standard input a NUL ends each key, as `ls --null` writes them: no key contains one
    #[arg(short = '0', long, requires = "keys")]
    pub null: bool,
}

impl Keys {
    /// True where the command line names none.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Refuses to do nothing.
    ///
    /// # Errors
    /// [`Error::Usage`] where none are named.
    pub fn required(self) -> Result<Self, Error> {
        match self.is_empty() {
            true => Err(Error::Usage(
                "no keys are named; expected some, or `-` to read them from standard input"
                    .to_owned(),
            )),
            false => Ok(self),
        }
    }

    /// The keys, as many at a time as one action takes.
    pub fn chunks(self) -> Chunks {
        match &self.keys[..] {
            [one] if one.as_str() == "-" => Chunks::Input {
                input: BufReader::new(stdin()),
                end: if self.null { 0 } else { b'\n' },
                line: 0,
            },
            _ => Chunks::Named(self.keys.into_iter()),
        }
    }
}

/// Keys, some at a time.
pub enum Chunks {
    /// Of the command line.
    Named(vec::IntoIter<Key>),
    /// Of standard input.
    Input {
        input: BufReader<Stdin>,
        end: u8,
        /// The last that was read, from 1.
        line: u64,
    },
}

impl Iterator for Chunks {
    type Item = Result<Vec<Key>, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        let chunk = match self {
            Self::Named(keys) => Ok(keys.by_ref().take(KEYS_EACH).collect()),
            Self::Input { input, end, line } => read(input, *end, line),
        };
        match chunk {
            Ok(keys) if keys.is_empty() => None,
            chunk => Some(chunk),
        }
    }
}

/// The next keys; none at the end. Empty lines are none.
fn read(input: &mut impl BufRead, end: u8, line: &mut u64) -> Result<Vec<Key>, Error> {
    let refused = |line: u64, source: Box<dyn std::error::Error + Send + Sync>| Error::File {
        what: "cannot read keys from standard input",
        path: format!("-:{line}"),
        source,
    };
    let mut keys = Vec::new();
    let mut bytes = Vec::new();
    while keys.len() < KEYS_EACH {
        bytes.clear();
        *line += 1;
        // What is longer than any key is no key; it need not be read to its end to be refused.
        let mut one = input.by_ref().take(MAX_KEY_BYTES as u64 + 2);
        let read = one.read_until(end, &mut bytes);
        if read.map_err(|source| refused(*line, source.into()))? == 0 {
            break;
        }
        if bytes.last() == Some(&end) {
            bytes.pop();
        }
        if bytes.is_empty() {
            continue;
        }
        let text = str::from_utf8(&bytes).map_err(|source| refused(*line, source.into()))?;
        keys.push(Key::parse(text).map_err(|source| refused(*line, source.message.into()))?);
    }
    Ok(keys)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(mut input: &[u8], end: u8) -> Result<Vec<String>, String> {
        let (mut keys, mut line) = (Vec::new(), 0);
        loop {
            match read(&mut input, end, &mut line) {
                Ok(some) if some.is_empty() => return Ok(keys),
                Ok(some) => keys.extend(some.iter().map(|key| key.as_str().to_owned())),
                Err(error) => return Err(error.to_string()),
            }
        }
    }

    #[test]
    fn lines_are_keys() {
        assert_eq!(
            all(b"a\n\nb c\nd", b'\n'),
            Ok(["a", "b c", "d"].map(String::from).to_vec())
        );
        assert_eq!(
            all(b"a\nb\0c\0", 0),
            Ok(["a\nb", "c"].map(String::from).to_vec())
        );
        let many = "k\n".repeat(2 * KEYS_EACH + 1);
        assert_eq!(
            all(many.as_bytes(), b'\n').unwrap().len(),
            2 * KEYS_EACH + 1
        );
    }

    #[test]
    fn what_is_no_key_is_named_by_its_line() {
        let long = format!("a\n{}", "x".repeat(MAX_KEY_BYTES + 1));
        assert!(all(long.as_bytes(), b'\n').unwrap_err().contains("-:2"));
        assert!(all(b"a\nb\n\xff\n", b'\n').unwrap_err().contains("-:3"));
        assert!(all(b"a\0b\n", b'\n').unwrap_err().contains("NUL"));
    }
}
