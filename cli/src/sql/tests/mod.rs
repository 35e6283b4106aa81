//! Answers as they are printed: `values` of every type, and the `layouts` that they stand in.

mod layouts;
mod values;

use arrow_array::{ArrayRef, RecordBatch};
use serde_json::Value as Json;

use super::print::{Expanded, Layout, Printer};

fn batch(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
    let columns = columns
        .into_iter()
        .map(|(name, column)| (name, column, true));
    RecordBatch::try_from_iter_with_nullable(columns).unwrap()
}

fn printed(
    layout: Layout,
    expanded: Expanded,
    limit: Option<usize>,
    batches: &[RecordBatch],
) -> String {
    let mut printer = Printer::new(&batches[0].schema(), layout, expanded, limit);
    let mut text = String::new();
    for batch in batches {
        printer.push(&mut text, batch).unwrap();
    }
    printer.end(&mut text);
    match layout {
        Layout::Table => console::strip_ansi_codes(&text).into_owned(),
        _ => text,
    }
}

fn table(batch: &RecordBatch) -> String {
    printed(
        Layout::Table,
        Expanded::Auto,
        None,
        std::slice::from_ref(batch),
    )
}

fn csv(batch: &RecordBatch) -> String {
    printed(
        Layout::Csv,
        Expanded::Auto,
        None,
        std::slice::from_ref(batch),
    )
}

fn json(batch: &RecordBatch) -> Vec<Json> {
    let text = printed(
        Layout::Json,
        Expanded::Auto,
        None,
        std::slice::from_ref(batch),
    );
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}
