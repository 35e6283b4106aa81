//! `settings`: what the server was started with.

use std::sync::Arc;

use arrow_array::{ArrayRef, StringArray};
use arrow_schema::{DataType, Field, Schema};

use super::live::Live;
use super::memory::batch;

/// One row of `settings`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// As in the settings file.
    pub name: String,
    /// As a person would write it; `None` where nothing is set.
    pub value: Option<String>,
}

/// The table of these settings.
pub fn settings(settings: Vec<Setting>) -> Live {
    let schema = Arc::new(Schema::new(vec![
        Field::new("name", DataType::Utf8, false),
        Field::new("value", DataType::Utf8, true),
    ]));
    let of = schema.clone();
    Live::new("settings", schema, move || {
        let names = settings.iter().map(|setting| &setting.name);
        let values = settings.iter().map(|setting| setting.value.as_deref());
        let columns: Vec<ArrayRef> = vec![
            Arc::new(StringArray::from_iter_values(names)),
            Arc::new(StringArray::from_iter(values)),
        ];
        batch(of.clone(), columns)
    })
}
