//! What holds of every format.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use ::parquet::arrow::ArrowWriter;
use ::parquet::basic::{Compression, Encoding, ZstdLevel};
use ::parquet::file::properties::{WriterProperties, WriterPropertiesBuilder, WriterVersion};
use arrow_array::cast::AsArray as _;
use arrow_array::types::{Float32Type, Int32Type};
use arrow_array::{Array as _, ArrayRef, DictionaryArray, ListArray, RecordBatch, StringArray};
use arrow_ipc::CompressionType;
use arrow_ipc::writer::{FileWriter, IpcWriteOptions, StreamWriter};
use bytes::Bytes;

use super::*;

const ROWS: usize = 1000;

/// Keys from a dictionary, and lists of three numbers.
fn batch() -> RecordBatch {
    let keys: DictionaryArray<Int32Type> = (0..ROWS)
        .map(|row| format!("k{row}"))
        .collect::<Vec<_>>()
        .iter()
        .map(String::as_str)
        .collect();
    let lists = (0..ROWS).map(|row| Some(vec![Some(row as f32); 3]));
    let lists = ListArray::from_iter_primitive::<Float32Type, _, _>(lists);
    RecordBatch::try_from_iter([
        ("n", Arc::new(keys) as ArrayRef),
        ("left", Arc::new(StringArray::from(vec!["x"; ROWS]))),
        ("v", Arc::new(lists)),
    ])
    .unwrap()
}

fn map() -> ColumnMap {
    ColumnMap {
        key: Some("n".to_owned()),
        ..ColumnMap::default()
    }
}

fn written(properties: WriterPropertiesBuilder) -> Vec<u8> {
    let properties = properties
        .set_max_row_group_row_count(Some(300))
        .set_data_page_row_count_limit(100)
        .set_write_batch_size(50);
    let mut bytes = Vec::new();
    let mut writer =
        ArrowWriter::try_new(&mut bytes, batch().schema(), Some(properties.build())).unwrap();
    writer.write(&batch()).unwrap();
    writer.close().unwrap();
    bytes
}

/// The same rows in every format.
fn files() -> Vec<(Format, Vec<u8>)> {
    let options = IpcWriteOptions::default();
    let zstd = options
        .clone()
        .try_with_compression(Some(CompressionType::ZSTD));
    let (schema, batch) = (batch().schema(), batch());
    let pieces = || {
        (0..ROWS)
            .step_by(300)
            .map(|at| batch.slice(at, 300.min(ROWS - at)))
    };
    let mut all = Vec::new();
    for options in [options, zstd.unwrap()] {
        let mut bytes = Vec::new();
        let mut writer =
            FileWriter::try_new_with_options(&mut bytes, &schema, options.clone()).unwrap();
        pieces().for_each(|piece| writer.write(&piece).unwrap());
        writer.finish().unwrap();
        drop(writer);
        all.push((Format::Arrow, bytes));
        let mut bytes = Vec::new();
        let mut writer = StreamWriter::try_new_with_options(&mut bytes, &schema, options).unwrap();
        pieces().for_each(|piece| writer.write(&piece).unwrap());
        writer.finish().unwrap();
        drop(writer);
        all.push((Format::ArrowStream, bytes));
    }
    for compression in [
        Compression::UNCOMPRESSED,
        Compression::SNAPPY,
        Compression::ZSTD(ZstdLevel::default()),
    ] {
        let properties = WriterProperties::builder().set_compression(compression);
        all.push((Format::Parquet, written(properties)));
    }
    all
}

fn source(bytes: Vec<u8>) -> Source {
    let length = bytes.len() as u64;
    Source::new(Bytes::from(bytes), length).with_batch_bytes_max(64 << 20)
}

/// Key, first value and number of each row.
fn read(rows: &Rows) -> Vec<(String, f32, u64)> {
    let keys = rows.batch.column(0).as_string::<i32>();
    let tensors = rows.batch.column(1).as_fixed_size_list();
    (0..rows.batch.num_rows())
        .map(|at| {
            let tensor = tensors.value(at);
            let values = tensor.as_primitive::<Float32Type>().values();
            assert_eq!(values.len(), 3);
            (keys.value(at).to_owned(), values[2], rows.numbers.at(at))
        })
        .collect()
}

fn expected(rows: Range<usize>) -> Vec<(String, f32, u64)> {
    rows.map(|row| (format!("k{row}"), row as f32, row as u64))
        .collect()
}

#[test]
fn rows_come_in_order_from_the_beginning() {
    for (format, bytes) in files() {
        assert_eq!(Format::of_head(&bytes), Some(format));
        let mut table = open(source(bytes), format, &map()).unwrap();
        assert_eq!(table.left_out(), ["left"]);
        let mut all = Vec::new();
        while let Some(rows) = table.next().unwrap() {
            assert!(rows.bad.is_empty());
            all.extend(read(&rows));
        }
        assert_eq!(all, expected(0..ROWS), "{format:?}");
    }
}

#[test]
fn any_rows_are_read_and_keys_alone() {
    for (format, bytes) in files() {
        let lookup = open_at(source(bytes.clone()), format, &map()).unwrap();
        assert_eq!(lookup.rows(), ROWS as u64);
        for range in [0..1, 299..301, 0..1000, 650..651, 999..1000, 5..5] {
            let rows = lookup.read(range.start as u64..range.end as u64).unwrap();
            if range.is_empty() {
                assert_eq!(rows.batch.num_rows(), 0);
                continue;
            }
            assert_eq!(read(&rows), expected(range), "{format:?}");
        }
        assert_eq!(read(&lookup.read(998..5000).unwrap()), expected(998..1000));
        assert_eq!(lookup.read(2000..3000).unwrap().batch.num_rows(), 0);
        let only_keys = ColumnMap {
            only_keys: true,
            ..map()
        };
        let mut keys = open(source(bytes), format, &only_keys).unwrap();
        let mut row = 0;
        while let Some(rows) = keys.next().unwrap() {
            assert_eq!(rows.batch.num_columns(), 1);
            let texts = rows.batch.column_by_name("key").unwrap().as_string::<i32>();
            for at in 0..texts.len() {
                assert_eq!(texts.value(at), format!("k{}", rows.numbers.at(at)));
                row += 1;
            }
        }
        assert_eq!(row, ROWS);
    }
}

#[test]
fn a_broken_file_is_an_error_or_other_rows() {
    let map = map();
    let through = |format, bytes: Vec<u8>| -> Result<usize, Error> {
        let mut table = open(source(bytes.clone()), format, &map)?;
        let mut rows = 0;
        while let Some(more) = table.next()? {
            rows += more.batch.num_rows();
        }
        let lookup = open_at(source(bytes), format, &map)?;
        let _ = lookup.read(0..10);
        Ok(rows)
    };
    for (format, bytes) in files() {
        assert_eq!(through(format, bytes.clone()), Ok(ROWS));
        let cuts = (0..bytes.len()).step_by(1 + bytes.len() / 60);
        for cut in cuts.chain([bytes.len() - 1]) {
            // A stream may end between two of its messages.
            if format == Format::ArrowStream {
                let _ = through(format, bytes[..cut].to_vec());
            } else {
                assert!(
                    through(format, bytes[..cut].to_vec()).is_err(),
                    "{format:?} {cut}"
                );
            }
        }
        for at in (0..bytes.len()).step_by(1 + bytes.len() / 400) {
            let mut bytes = bytes.clone();
            bytes[at] ^= 1 << (at % 8);
            let _ = through(format, bytes);
        }
        // Where lengths and counts stand.
        for at in bytes.len().saturating_sub(300)..bytes.len() {
            let mut bytes = bytes.clone();
            bytes[at] = 0xff;
            let _ = through(format, bytes);
        }
    }
}

#[test]
fn what_a_batch_takes_is_asked_for_and_limited() {
    for (format, bytes) in files() {
        let asked = Arc::new(AtomicU64::new(0));
        let most = Arc::clone(&asked);
        let room: Room = Arc::new(move |bytes| {
            most.fetch_max(bytes, Ordering::Relaxed);
            true
        });
        let counted = source(bytes.clone()).with_room(room);
        let mut table = open(counted, format, &map()).unwrap();
        while table.next().unwrap().is_some() {}
        assert!(asked.load(Ordering::Relaxed) > 1000, "{format:?}");
        let refused = source(bytes.clone()).with_room(Arc::new(|_| false));
        let refused = open(refused, format, &map()).and_then(|mut table| table.next());
        let told = refused.unwrap_err().to_string();
        assert!(told.contains("no room in memory"), "{format:?}: {told}");
        let small = source(bytes).with_batch_bytes_max(700);
        let small = open(small, format, &map()).and_then(|mut table| table.next());
        assert!(small.is_err(), "{format:?}");
    }
}

#[test]
fn encodings_that_claim_what_nobody_can_check_are_for_files_of_ones_own() {
    let properties = WriterProperties::builder()
        .set_writer_version(WriterVersion::PARQUET_2_0)
        .set_dictionary_enabled(false)
        .set_column_encoding("n".into(), Encoding::DELTA_BYTE_ARRAY);
    let bytes = written(properties);
    let told = open(source(bytes.clone()), Format::Parquet, &map())
        .and_then(|mut table| table.next())
        .unwrap_err();
    assert!(told.to_string().contains("DELTA_BYTE_ARRAY"), "{told}");
    let mut table = open(source(bytes).trusted(), Format::Parquet, &map()).unwrap();
    assert!(table.next().unwrap().is_some());
}
