//! Rows of a file, and which of them cannot be put.

use std::sync::Arc;

use arrow_array::RecordBatch;

/// Rows of a file.
#[derive(Debug)]
pub struct Rows {
    /// `key` and `tensor`, or `key`, `dtype`, `shape` and `data`; perhaps `ttl_ms` and `metadata`. Only `key` where only keys are wanted.
    pub batch: RecordBatch,
    /// Which row of the file each of them is.
    pub numbers: Numbers,
    /// Those that are not among them.
    pub bad: Vec<BadRow>,
}

/// Row numbers of a batch.
#[derive(Clone, Debug)]
pub enum Numbers {
    /// From this one on, all.
    From(u64),
    /// These.
    Each(Arc<[u64]>),
}

/// A row that is not put.
#[derive(Clone, Debug)]
pub struct BadRow {
    /// Which one of its file.
    pub row: u64,
    /// Its key, where it has one.
    pub key: Option<String>,
    /// Which column is wrong.
    pub column: String,
    /// What it is like.
    pub message: String,
}

impl Numbers {
    /// The number of the row at `at`.
    #[must_use]
    pub fn at(&self, at: usize) -> u64 {
        match self {
            Numbers::From(first) => first + at as u64,
            Numbers::Each(rows) => rows.get(at).copied().unwrap_or(u64::MAX),
        }
    }

    /// Those from `at` on.
    #[must_use]
    pub fn skip(&self, at: usize) -> Numbers {
        match self {
            Numbers::From(first) => Numbers::From(first + at as u64),
            Numbers::Each(rows) => Numbers::Each(rows.get(at..).unwrap_or(&[]).into()),
        }
    }
}
