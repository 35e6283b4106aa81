//! A tensor's bytes on their way out: out of memory, or from below it.

use std::ops::Range;

use bowstring_cache::Id;
use bowstring_cache::known::Known;
use bowstring_cache::lower::{Coming, Description, Found, InPieces, Reading};
use bowstring_cache::read::{Entry, Pieces, Reader};
use bowstring_wire::error::{Code, Error, Result};
use bytes::Bytes;

use super::service::Service;

/// How often a tensor that is replaced all the time is looked for.
pub const ROUNDS: usize = 8;

/// A tensor whose first bytes are there.
pub enum Ready {
    /// In memory.
    Here(Entry),
    /// They come from below.
    Coming(Box<dyn Coming>),
}

/// What an attempt to read a tensor from below came to.
pub enum Begun {
    /// Its first bytes are there.
    Ready(Box<dyn Coming>),
    /// Something has taken its place: look for the key again.
    Changed,
    /// It is there, and cannot be had: to who reads, that is a miss.
    Missing,
}

/// Bytes to be sent.
pub enum Source {
    /// Out of memory.
    Here(Reader),
    /// From below, and what has come and was not taken yet.
    Coming(Box<dyn Coming>, Bytes),
}

impl Source {
    /// Has some bytes at hand: where there are none, waits for those that come from below. Nothing is lost where
    /// this is dropped before it is done.
    ///
    /// # Errors
    /// As [`Coming::next`].
    pub async fn more(&mut self) -> Result<()> {
        if let Self::Coming(coming, piece) = self
            && piece.is_empty()
        {
            *piece = coming.next().await?;
            if piece.is_empty() {
                return Err(Error::internal("a tensor has fewer bytes than it should"));
            }
        }
        Ok(())
    }

    /// How many can be taken without waiting.
    pub fn at_hand(&self) -> u64 {
        match self {
            Self::Here(_) => u64::MAX,
            Self::Coming(_, piece) => piece.len() as u64,
        }
    }

    /// The next bytes, at most `n` and no more than are at hand.
    ///
    /// # Errors
    /// As [`Reader::take`].
    pub fn take(&mut self, n: usize) -> Result<Pieces> {
        match self {
            Self::Here(reader) => reader.take(n),
            Self::Coming(_, piece) => {
                let taken = piece.split_to(n.min(piece.len()));
                Ok(std::iter::once(taken).collect())
            }
        }
    }
}

/// Begins to read a range of a tensor from below.
///
/// # Errors
/// Where memory has no room for a piece of it.
pub async fn begin(below: &dyn InPieces, range: Range<u64>) -> Result<Begun> {
    match below.read(range).await {
        Ok(Some(coming)) => Ok(Begun::Ready(coming)),
        Ok(None) => Ok(Begun::Changed),
        Err(error) if error.code == Code::Unavailable => Ok(Begun::Missing),
        Err(error) => Err(error),
    }
}

/// Finds a key, and has the first bytes of what `of` says is wanted of it.
///
/// # Errors
/// Those of `of`; whatever the tier below meets.
pub async fn find<T>(
    service: &Service,
    id: &Id,
    reading: Reading,
    of: impl Fn(&Known<&Entry, &Description>) -> Result<(T, Range<u64>)>,
) -> Result<Option<(T, Ready)>> {
    for _ in 0..ROUNDS {
        match service.cache.open(id, reading).await? {
            None => return Ok(None),
            Some(Found::Here(entry)) => {
                let (wanted, _) = of(&Known::Hot(&entry))?;
                return Ok(Some((wanted, Ready::Here(entry))));
            }
            Some(Found::Below(below)) => {
                let (wanted, range) = of(&Known::Cold(below.description()))?;
                match begin(&*below, range).await? {
                    Begun::Ready(coming) => return Ok(Some((wanted, Ready::Coming(coming)))),
                    Begun::Changed => {}
                    Begun::Missing => return Ok(None),
                }
            }
        }
    }
    Ok(None)
}

/// What is known of a tensor that was found.
pub fn known(found: &Found) -> Known<&Entry, &Description> {
    match found {
        Found::Here(entry) => Known::Hot(entry),
        Found::Below(below) => Known::Cold(below.description()),
    }
}
