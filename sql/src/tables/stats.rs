//! `stats`: every counter and gauge, one a row.

use std::sync::Arc;

use arrow_array::{ArrayRef, Int64Array, StringArray};
use arrow_schema::{DataType, Field, Schema};

use super::int;
use super::live::Live;
use super::memory::batch;

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
    let schema = Arc::new(Schema::new(vec![
        Field::new("name", DataType::Utf8, false),
        Field::new("value", DataType::Int64, false),
    ]));
    let of = schema.clone();
    Live::new("stats", schema, move || {
        let figures = figures();
        let names = figures.iter().map(|figure| &figure.name);
        let values = figures.iter().map(|figure| int(figure.value));
        let columns: Vec<ArrayRef> = vec![
            Arc::new(StringArray::from_iter_values(names)),
            Arc::new(Int64Array::from_iter_values(values)),
        ];
        batch(of.clone(), columns)
    })
}
