//! `stats`: every counter and gauge, one a row.

use bowstring_wire::error::Result;
use bowstring_wire::name::Tenant;

use super::int;
use super::live::{Columns, Live};

/// One row of `stats`.
#[derive(Clone, Debug, PartialEq)]
pub struct Figure {
    /// What it is; names that belong together begin alike.
    pub name: String,
    /// What tells it from others of its name.
    pub labels: Vec<(String, String)>,
    /// How much, now, without a fraction.
    pub value: i64,
    /// How much, with it.
    pub value_float: f64,
}

impl Figure {
    /// A count that is the only one of its name.
    pub fn new(name: impl Into<String>, value: u64) -> Self {
        Self {
            name: name.into(),
            labels: Vec::new(),
            value: int(value),
            value_float: value as f64,
        }
    }
}

/// The table of what `figures` says whenever it is read.
pub fn stats(figures: impl Fn(&Tenant) -> Result<Vec<Figure>> + Send + Sync + 'static) -> Live {
    Columns::default()
        .text("name", |figure: &Figure| &figure.name)
        .number("value", |figure| figure.value)
        .texts_by_name("labels", |figure| &figure.labels)
        .float("value_float", |figure| figure.value_float)
        .table("stats", figures)
}
