//! Randomness is drawn once, when a cache starts: nothing draws any later, so a simulation that
//! brings its own [`Entropy`] repeats exactly.

use bowstring_wire::error::{Error, Result};

/// What one start of the engine needs to be unlike every other start.
#[derive(Clone, Copy)]
pub struct Entropy {
    /// Tells the versions of this start from those of any other.
    pub start: u32,
    /// Keys the hash of the index, so that nobody outside can choose colliding keys.
    pub hash_key: [u64; 2],
}

impl Entropy {
    /// Draws from the operating system.
    ///
    /// # Errors
    /// `internal` when the operating system has no randomness to give.
    #[expect(
        clippy::disallowed_methods,
        reason = "the one place that draws randomness"
    )]
    pub fn draw() -> Result<Self> {
        let mut drawn = [0_u8; 20];
        getrandom::fill(&mut drawn)
            .map_err(|e| Error::internal(format!("no randomness from the system: {e}")))?;
        let word = |at: usize| {
            let mut eight = [0_u8; 8];
            eight.copy_from_slice(&drawn[at..at + 8]);
            u64::from_le_bytes(eight)
        };
        Ok(Self {
            start: u32::from_le_bytes([drawn[16], drawn[17], drawn[18], drawn[19]]),
            hash_key: [word(0), word(8)],
        })
    }

    /// Not random at all: for tests and simulations that must repeat.
    pub fn fixed(seed: u64) -> Self {
        let [a, b, c, d, ..] = seed.to_le_bytes();
        Self {
            start: u32::from_le_bytes([a, b, c, d]),
            hash_key: [seed, !seed],
        }
    }
}

/// The hash key is a secret of the process.
impl std::fmt::Debug for Entropy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Entropy")
            .field("start", &self.start)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_starts_differ_and_the_key_is_not_printed() {
        let (one, two) = (Entropy::draw().unwrap(), Entropy::draw().unwrap());
        assert_ne!(one.hash_key, two.hash_key);
        assert!(!format!("{one:?}").contains("hash_key"));
    }
}
