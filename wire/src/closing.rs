//! What the last batches of a get of many say, in the `app_metadata` of a batch of no rows.

use serde::Deserialize;

use crate::error::Result;
use crate::json::{self, words};
use crate::name::Key;

words! {
    /// What a closing batch names.
    pub enum Closing {
        /// Keys that were asked for and are not there.
        Missing = "missing",
        /// Keys of a prefix's snapshot that were replaced, evicted or deleted before their turn.
        Gone = "gone",
    }
}

/// The keys that closing batches named.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
pub struct ClosingKeys {
    /// See [`Closing::Missing`].
    #[serde(default)]
    pub missing: Vec<Key>,
    /// See [`Closing::Gone`].
    #[serde(default)]
    pub gone: Vec<Key>,
}

impl Closing {
    /// The `app_metadata` of the closing batches: `{"missing":[…]}`, as many as it takes for none
    /// to pass `max_bytes` (a single key may), at least one.
    pub fn batches<'a>(
        self,
        keys: impl IntoIterator<Item = &'a Key>,
        max_bytes: usize,
    ) -> Vec<String> {
        let open = format!("{{\"{}\":[", self.as_str());
        let mut batches = Vec::new();
        let mut batch = open.clone();
        for key in keys {
            let key = json::to_string(key);
            let first = batch.len() == open.len();
            if !first && batch.len() + 1 + key.len() + CLOSE.len() > max_bytes {
                batch.push_str(CLOSE);
                batches.push(std::mem::replace(&mut batch, open.clone()));
            } else if !first {
                batch.push(',');
            }
            batch.push_str(&key);
        }
        batch.push_str(CLOSE);
        batches.push(batch);
        batches
    }
}

impl ClosingKeys {
    /// Adds what one closing batch says.
    ///
    /// # Errors
    /// `internal` where it is no such JSON.
    pub fn add(&mut self, app_metadata: &[u8]) -> Result<()> {
        let more: ClosingKeys = json::read_reply("closing batch", app_metadata)?;
        self.missing.extend(more.missing);
        self.gone.extend(more.gone);
        Ok(())
    }
}

const CLOSE: &str = "]}";

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn nothing_missing_is_said_too() {
        assert_eq!(Closing::Missing.batches([], 100), [r#"{"missing":[]}"#]);
        assert_eq!(Closing::Gone.batches([], 0), [r#"{"gone":[]}"#]);
    }

    proptest! {
        #[test]
        fn no_batch_is_larger_and_no_key_is_lost(
            keys in prop::collection::vec("[^\0]{1,20}", 0..40),
            max_bytes in 0usize..300,
        ) {
            let keys: Vec<Key> = keys.iter().map(|key| Key::parse(key).unwrap()).collect();
            let mut read = ClosingKeys::default();
            for batch in Closing::Gone.batches(&keys, max_bytes) {
                let before = read.gone.len();
                read.add(batch.as_bytes()).unwrap();
                prop_assert!(batch.len() <= max_bytes || read.gone.len() <= before + 1);
            }
            prop_assert_eq!(read.gone, keys);
        }
    }
}
