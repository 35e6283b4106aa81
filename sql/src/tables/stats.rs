//! `stats`: every counter and gauge, one a row.

use super::live::{Columns, Live};

/// One row of `stats`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Figure {
    /// What it is; names that belong together begin alike.
    pub name: String,
    /// How much, now.
    pub value: u64,
}

impl Figure {
    /// A row.
    pub fn new(name: impl Into<String>, value: u64) -> Self {
        Self {
            name: name.into(),
            value,
        }
    }
}

/// The table of what `figures` says whenever it is read.
pub fn stats(figures: impl Fn() -> Vec<Figure> + Send + Sync + 'static) -> Live {
    Columns::default()
        .text("name", |figure: &Figure| &figure.name)
        .count("value", |figure| figure.value)
        .table("stats", move |_| Ok(figures()))
}
