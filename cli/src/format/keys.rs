//! Keys that stand in a file of their own: a line each.

use std::io::{BufRead as _, BufReader, Read as _};
use std::sync::Arc;

use bowstring_wire::limits::MAX_KEY_BYTES;

use crate::Error;

/// Keys, in the order of the rows.
#[derive(Clone, Debug)]
pub struct Keys(Arc<[String]>);

impl Keys {
    /// Reads a text file.
    pub fn read(path: &str) -> Result<Keys, Error> {
        let failed = |error: std::io::Error| Error::file("cannot read the keys", path, error);
        let mut file = BufReader::new(std::fs::File::open(path).map_err(failed)?);
        let mut keys = Vec::new();
        let mut line = String::new();
        loop {
            line.clear();
            // A file without lines is not a file of keys, and is not read whole to find that out.
            let most = MAX_KEY_BYTES as u64 + 3;
            if file
                .by_ref()
                .take(most)
                .read_line(&mut line)
                .map_err(failed)?
                == 0
            {
                return Ok(Keys(keys.into()));
            }
            let key = line.trim_end_matches('\n');
            let key = key.strip_suffix('\r').unwrap_or(key);
            if key.len() > MAX_KEY_BYTES {
                let said = format!(
                    "line {} is too long for a key; expected at most {MAX_KEY_BYTES} bytes",
                    keys.len() + 1
                );
                return Err(Error::file("cannot read the keys", path, said));
            }
            keys.push(key.to_owned());
        }
    }

    /// How many.
    pub fn len(&self) -> u64 {
        self.0.len() as u64
    }

    /// `count` of them from `first` on; fewer where there are no more.
    pub fn range(&self, first: u64, count: usize) -> &[String] {
        let first = usize::try_from(first)
            .unwrap_or(usize::MAX)
            .min(self.0.len());
        let end = first.saturating_add(count).min(self.0.len());
        &self.0[first..end]
    }
}
