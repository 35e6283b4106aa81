//! Tables, records, plans, and answers of nothing.

use std::sync::Arc;

use arrow_array::{ArrayRef, Int32Array, Int64Array, StringArray};
use serde_json::{Value as Json, json};

use super::{batch, csv, json, printed, table};
use crate::sql::print::{Expanded, Layout};

#[test]
fn numbers_stand_on_the_right_and_columns_stay_as_wide_as_they_were() {
    let of = |names: Vec<&str>, counts: Vec<i64>| {
        let columns: Vec<(&str, ArrayRef)> = vec![
            ("名前", Arc::new(StringArray::from(names))),
            ("count", Arc::new(Int64Array::from(counts))),
        ];
        batch(columns)
    };
    let parts = [
        of(vec!["漢字漢", "b"], vec![1, 1_000_000]),
        of(vec!["a"], vec![2]),
    ];
    let lines = [
        "名前      count",
        "漢字漢        1",
        "b       1000000",
        "a             2",
    ];
    let text = printed(Layout::Table, Expanded::Auto, None, &parts);
    assert_eq!(text.lines().collect::<Vec<_>>(), lines);
}

#[test]
fn what_is_too_wide_becomes_records() {
    let wide = |text: &str| {
        let columns: Vec<(&str, ArrayRef)> = vec![
            ("key", Arc::new(StringArray::from(vec![text, "b"]))),
            ("bytes", Arc::new(Int64Array::from(vec![Some(16), None]))),
        ];
        batch(columns)
    };
    let long = "k".repeat(40);
    let records = |number: usize, key: &str| {
        format!(
            "-- row {number}\nkey    {key}\nbytes  16\n-- row {}\nkey    b\nbytes  NULL\n",
            number + 1
        )
    };
    let parts = [wide(&long), wide("c")];
    let told = printed(Layout::Table, Expanded::Auto, Some(40), &parts);
    assert_eq!(
        told,
        records(1, &long) + &records(3, "c"),
        "the first part decides"
    );
    let told = printed(Layout::Table, Expanded::On, None, &parts[1..]);
    assert_eq!(told, records(1, "c"));
    let told = printed(Layout::Table, Expanded::Off, Some(40), &parts);
    assert_eq!(
        told.lines().map(console::measure_text_width).max(),
        Some(40)
    );
    let told = printed(Layout::Table, Expanded::Auto, Some(40), &parts[1..]);
    assert_eq!(told, "key  bytes\nc       16\nb     NULL\n");
}

#[test]
fn plans_keep_their_lines() {
    let long = format!("Scan: {}", "x".repeat(100));
    let plan = format!("Projection: a\n  {long}\n");
    let batch = batch(vec![
        (
            "plan_type",
            Arc::new(StringArray::from(vec!["logical_plan", "physical_plan"])),
        ),
        ("plan", Arc::new(StringArray::from(vec![&*plan, "Exec"]))),
    ]);
    let told = printed(
        Layout::Table,
        Expanded::Auto,
        Some(40),
        std::slice::from_ref(&batch),
    );
    let lines = [
        "plan_type      plan".to_owned(),
        "logical_plan   Projection: a".to_owned(),
        format!("                 {long}"),
        "physical_plan  Exec".to_owned(),
    ];
    assert_eq!(told.lines().collect::<Vec<_>>(), lines);
    assert_eq!(json(&batch)[0]["plan"], plan);
}

#[test]
fn no_rows_are_the_names_of_the_columns() {
    let batch = batch(vec![
        ("a", Arc::new(Int32Array::from(vec![1]))),
        ("a", Arc::new(StringArray::from(vec!["b,"]))),
    ]);
    let none = batch.slice(0, 0);
    assert_eq!(
        (table(&none).as_str(), csv(&none).as_str()),
        ("a  a\n", "a,a\n")
    );
    assert_eq!(json(&none), [] as [Json; 0]);
    // Two columns of one name are two members.
    assert_eq!(json(&batch), [json!({"a": 1, "a_2": "b,"})]);
}
