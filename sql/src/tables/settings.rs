//! `settings`: what the server was started with.

use super::live::{Columns, Live};

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
    Columns::default()
        .text("name", |setting: &Setting| &setting.name)
        .text_if_any("value", |setting| setting.value.as_deref())
        .table("settings", move |_| Ok(settings.clone()))
}
