//! Values of every type, for people and for programs.

use std::sync::Arc;

use arrow_array::builder::{FixedSizeBinaryBuilder, MapBuilder, StringBuilder};
use arrow_array::types::{Float32Type, Int32Type, Int64Type};
use arrow_array::{
    Array, ArrayRef, BinaryArray, BinaryViewArray, BooleanArray, Date32Array, Decimal128Array,
    DictionaryArray, FixedSizeListArray, Float16Array, Float32Array, Float64Array, Int8Array,
    Int32Array, Int64Array, LargeListArray, ListArray, ListViewArray, NullArray, StringArray,
    StringViewArray, StructArray, TimestampMillisecondArray, UInt64Array,
};
use arrow_schema::{DataType, Field, Fields};
use half::f16;
use serde_json::{Value as Json, json};

use super::{batch, csv, json, printed, table};
use crate::sql::print::{Expanded, Layout};

/// A column's second value in each layout; the first is null.
#[track_caller]
fn shows(column: impl Array + 'static, in_table: &str, in_json: Json, in_csv: &str) {
    let batch = batch(vec![("v", Arc::new(column))]);
    let lines = [table(&batch), csv(&batch)];
    let lines = lines
        .each_ref()
        .map(|text| text.lines().map(str::trim).collect::<Vec<_>>());
    assert_eq!(lines[0], ["v", "NULL", in_table]);
    assert_eq!(lines[1], ["v", "", in_csv]);
    assert_eq!(json(&batch), [json!({"v": null}), json!({"v": in_json})]);
}

#[test]
fn numbers_keep_their_digits() {
    shows(
        Int8Array::from(vec![None, Some(-128)]),
        "-128",
        json!(-128),
        "-128",
    );
    // What 53 bits do not hold is a text.
    let (most, more) = ((1_i64 << 53) - 1, 1_i64 << 53);
    let (most_told, more_told) = (most.to_string(), more.to_string());
    shows(
        Int64Array::from(vec![None, Some(most)]),
        &most_told,
        json!(most),
        &most_told,
    );
    shows(
        Int64Array::from(vec![None, Some(more)]),
        &more_told,
        json!(more_told),
        &more_told,
    );
    let largest = u64::MAX.to_string();
    shows(
        UInt64Array::from(vec![None, Some(u64::MAX)]),
        &largest,
        json!(largest),
        &largest,
    );
    let tenth = f16::from_f32(0.5);
    shows(
        Float16Array::from(vec![None, Some(tenth)]),
        "0.5",
        json!(0.5),
        "0.5",
    );
    shows(
        Float32Array::from(vec![None, Some(0.1)]),
        "0.1",
        json!(0.1),
        "0.1",
    );
    shows(
        Float64Array::from(vec![None, Some(0.1 + 0.2)]),
        "0.30000000000000004",
        json!(0.1 + 0.2),
        "0.30000000000000004",
    );
    shows(
        Float64Array::from(vec![None, Some(f64::NAN)]),
        "NaN",
        json!("NaN"),
        "NaN",
    );
    shows(
        Float32Array::from(vec![None, Some(f32::NEG_INFINITY)]),
        "-inf",
        json!("-Infinity"),
        "-inf",
    );
    let large = json(&batch(vec![(
        "v",
        Arc::new(Float64Array::from(vec![1e300, 1e16])),
    )]));
    assert_eq!(large, [json!({"v": 1e300}), json!({"v": 1e16})]);
    let decimal = Decimal128Array::from(vec![None, Some(12_345)]).with_precision_and_scale(38, 2);
    shows(decimal.unwrap(), "123.45", json!("123.45"), "123.45");
}

#[test]
fn truth_times_and_nothing() {
    shows(
        BooleanArray::from(vec![None, Some(true)]),
        "true",
        json!(true),
        "true",
    );
    shows(
        Date32Array::from(vec![None, Some(20_000)]),
        "2024-10-04",
        json!("2024-10-04"),
        "2024-10-04",
    );
    let time = TimestampMillisecondArray::from(vec![None, Some(1_795_355_411_001)]);
    let told = "2026-11-22T13:50:11.001Z";
    for zone in ["UTC", "+01:00", "Europe/Berlin"] {
        shows(time.clone().with_timezone(zone), told, json!(told), told);
    }
    let told = told.trim_end_matches('Z');
    shows(time, told, json!(told), told);
    let none = batch(vec![("v", Arc::new(NullArray::new(1)))]);
    assert_eq!(
        (table(&none).as_str(), csv(&none).as_str()),
        ("v\nNULL\n", "v\n\n")
    );
    assert_eq!(json(&none), [json!({"v": null})]);
}

#[test]
fn texts_steer_no_terminal_and_come_back_whole() {
    let odd = "a\u{1b}[31m\n\"漢\", b";
    let told = "a\\u{1b}[31m\\n\"漢\", b";
    for column in [
        Arc::new(StringArray::from(vec![odd, ""])) as ArrayRef,
        Arc::new(StringViewArray::from(vec![odd, ""])),
        Arc::new(DictionaryArray::<Int32Type>::from_iter([odd, ""])),
    ] {
        let batch = batch(vec![
            ("v", column),
            ("n", Arc::new(Int32Array::from(vec![7, 12]))),
        ]);
        let lines: Vec<String> = table(&batch).lines().map(str::to_owned).collect();
        let width = console::measure_text_width(told);
        assert_eq!(lines[1], format!("{told}   7"));
        assert_eq!(lines[2], format!("{}  12", " ".repeat(width)));
        assert_eq!(json(&batch)[0], json!({"v": odd, "n": 7}));
        assert!(
            !printed(
                Layout::Json,
                Expanded::Auto,
                None,
                std::slice::from_ref(&batch)
            )
            .contains('\u{1b}')
        );
        // An empty text is none that is missing.
        assert_eq!(
            csv(&batch),
            format!("v,n\n\"{}\",7\n\"\",12\n", odd.replace('"', "\"\""))
        );
    }
    let keys = DictionaryArray::<Int32Type>::from_iter([None::<&str>, Some("x")]);
    shows(keys, "x", json!("x"), "x");
    let empty = DictionaryArray::<Int32Type>::from_iter([None::<&str>]);
    assert_eq!(table(&batch(vec![("v", Arc::new(empty))])), "v\nNULL\n");
}

#[test]
fn bytes_are_counted_where_they_are_many() {
    let few: &[u8] = &[0, 0xff, 0x1b];
    shows(
        BinaryArray::from(vec![None, Some(few)]),
        "\\x00ff1b",
        json!("00ff1b"),
        "00ff1b",
    );
    shows(
        BinaryViewArray::from(vec![None, Some(few)]),
        "\\x00ff1b",
        json!("00ff1b"),
        "00ff1b",
    );
    let mut fixed = FixedSizeBinaryBuilder::new(3);
    fixed.append_null();
    fixed.append_value(few).unwrap();
    shows(fixed.finish(), "\\x00ff1b", json!("00ff1b"), "00ff1b");
    let many = vec![7; 100_000];
    let hex = "07".repeat(100_000);
    shows(
        BinaryViewArray::from(vec![None, Some(&many[..])]),
        "<100,000 bytes>",
        json!(hex),
        &hex,
    );
}

#[test]
fn lists_are_short_for_people_and_whole_for_programs() {
    let few = || vec![None, Some(vec![Some(1), None, Some(3)])];
    let (told, whole, line) = ("[1, NULL, 3]", json!([1, null, 3]), "\"[1,null,3]\"");
    shows(
        ListArray::from_iter_primitive::<Int64Type, _, _>(few()),
        told,
        whole.clone(),
        line,
    );
    shows(
        LargeListArray::from_iter_primitive::<Int64Type, _, _>(few()),
        told,
        whole.clone(),
        line,
    );
    shows(
        FixedSizeListArray::from_iter_primitive::<Int64Type, _, _>(few(), 3),
        told,
        whole.clone(),
        line,
    );
    let list = ListArray::from_iter_primitive::<Int64Type, _, _>(few());
    shows(ListViewArray::from(list), told, whole, line);
    let many = vec![None, Some((0..1_000).map(Some).collect::<Vec<_>>())];
    let many = ListArray::from_iter_primitive::<Int64Type, _, _>(many);
    let all: Vec<i64> = (0..1_000).collect();
    let line = format!("\"{}\"", json!(all));
    shows(
        many,
        "[0, 1, 2, 3, 4, 5, 6, 7, … 992 more]",
        json!(all),
        &line,
    );
    // A part of a batch has offsets that do not begin at 0.
    let lists = ListArray::from_iter_primitive::<Float32Type, _, _>(
        [[1.5, 2.5], [3.5, 4.5], [5.5, 6.5]].map(|row| Some(row.map(Some))),
    );
    let part = batch(vec![("v", Arc::new(lists))]).slice(1, 1);
    assert_eq!(
        (table(&part).as_str(), json(&part)),
        ("v\n[3.5, 4.5]\n", vec![json!({"v": [3.5, 4.5]})])
    );
}

/// `value` of the table `tensors`.
fn tensor(shape: Vec<i64>, bytes: usize) -> StructArray {
    let shape = shape.into_iter().map(Some).collect::<Vec<_>>();
    let shape = ListArray::from_iter_primitive::<Int64Type, _, _>([None, Some(shape)]);
    let columns: Vec<(&str, ArrayRef)> = vec![
        (
            "dtype",
            Arc::new(StringArray::from(vec![None, Some("float32")])),
        ),
        ("shape", Arc::new(shape)),
        (
            "data",
            Arc::new(BinaryViewArray::from(vec![None, Some(&vec![1; bytes][..])])),
        ),
    ];
    let fields = columns
        .iter()
        .map(|(name, column)| Field::new(*name, column.data_type().clone(), true));
    let nulls = vec![false, true].into();
    let arrays = columns.iter().map(|(_, column)| column.clone()).collect();
    StructArray::new(Fields::from_iter(fields), arrays, Some(nulls))
}

#[test]
fn tensors_are_named_by_their_shape() {
    let whole = json!({"dtype": "float32", "shape": [2, 1], "data": "0101010101010101"});
    let line = format!(
        "\"{}\"",
        r#"{"dtype":"float32","shape":[2,1],"data":"0101010101010101"}"#.replace('"', "\"\"")
    );
    shows(tensor(vec![2, 1], 8), "<2 x 1 x float32>", whole, &line);
    for (shape, told) in [
        (vec![], "<float32>"),
        (vec![1; 9], "<1 x 1 x 1 x 1 x 1 x 1 x 1 x 1 x … x float32>"),
    ] {
        let batch = batch(vec![("v", Arc::new(tensor(shape, 4)))]);
        assert_eq!(table(&batch).lines().last(), Some(told));
    }
    let megabytes = batch(vec![("v", Arc::new(tensor(vec![1 << 20], 4 << 20)))]);
    assert_eq!(
        table(&megabytes).lines().last(),
        Some("<1048576 x float32>")
    );
}

#[test]
fn structs_and_maps() {
    let columns: Vec<(Arc<Field>, ArrayRef)> = vec![
        (
            Arc::new(Field::new("a", DataType::Int32, true)),
            Arc::new(Int32Array::from(vec![None, None])),
        ),
        (
            Arc::new(Field::new("b\n", DataType::Utf8, true)),
            Arc::new(StringArray::from(vec!["x", "y,"])),
        ),
    ];
    let both = StructArray::from(columns);
    let both = StructArray::new(
        both.fields().clone(),
        both.columns().to_vec(),
        Some(vec![false, true].into()),
    );
    shows(
        both,
        "{a: NULL, b\\n: y,}",
        json!({"a": null, "b\n": "y,"}),
        r#""{""a"":null,""b\n"":""y,""}""#,
    );
    let mut map = MapBuilder::new(None, StringBuilder::new(), StringBuilder::new());
    map.append(false).unwrap();
    map.keys().append_value("format");
    map.values().append_value("rgb");
    map.keys().append_value("k");
    map.values().append_null();
    map.append(true).unwrap();
    shows(
        map.finish(),
        "{format: rgb, k: NULL}",
        json!({"format": "rgb", "k": null}),
        r#""{""format"":""rgb"",""k"":null}""#,
    );
}
