//! Golden vectors of gets, `proto-notes/vectors/get`: Arrow streams as our codec writes them, out
//! of the tensors that `put.json` lists. `make.py --check` reads them with PyArrow.
//!
//! What is on the wire does not change by accident: this test compares byte for byte.
//! `BOWSTRING_WRITE_VECTORS=1 cargo test -p bowstring-wire --test get_vectors` writes them anew.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use bowstring_wire::dtype::DType;
use bowstring_wire::get_layout::Chunks;
use bowstring_wire::get_rows::{OpaqueRow, opaque_batch};
use bowstring_wire::metadata::Metadata;
use bowstring_wire::schema::{StreamSchema, Tags, encapsulate};
use bowstring_wire::shape::Shape;
use bowstring_wire::ticket::Layout;
use bowstring_wire::version::Version;
use serde_json::{Value, json};
use twox_hash::XxHash3_128;

/// Several batches for all but the smallest tensors.
const MAX_MESSAGE_BYTES: u64 = 64;

struct Tensor {
    name: String,
    dtype: DType,
    shape: Shape,
    data: Vec<u8>,
}

#[test]
fn streams_are_what_they_were() {
    let mut files = BTreeMap::new();
    let mut entries = Vec::new();
    for tensor in tensors() {
        // Rank 3 stands for all in the layouts that do not depend on it.
        let all = tensor.shape.dims().len() == 3;
        for layout in [Layout::Rows, Layout::Flat, Layout::Opaque] {
            if layout != Layout::Rows && !all {
                continue;
            }
            let file = format!("get/{}-{}.arrows", tensor.name, layout.as_str());
            entries.push(json!({
                "file": file,
                "layout": layout.as_str(),
                "key": tensor.name,
                "dtype": tensor.dtype.name(),
                "shape": tensor.shape.dims(),
                "data": hex(&tensor.data),
            }));
            files.insert(file, stream(&tensor, layout));
        }
    }
    assert!(files.len() > 100, "{}", files.len());
    let lines: Vec<String> = entries.iter().map(Value::to_string).collect();
    let list = format!("[\n{}\n]\n", lines.join(",\n"));
    files.insert("get.json".to_owned(), list.into_bytes());

    if std::env::var_os("BOWSTRING_WRITE_VECTORS").is_some() {
        fs::create_dir_all(vectors().join("get")).unwrap();
        for (file, bytes) in &files {
            fs::write(vectors().join(file), bytes).unwrap();
        }
    }
    for (file, bytes) in &files {
        let kept = fs::read(vectors().join(file)).unwrap_or_default();
        assert!(kept == *bytes, "{file} is not what it was");
    }
    let kept = fs::read_dir(vectors().join("get")).unwrap().count();
    assert_eq!(kept + 1, files.len(), "files are left over");
}

/// The plain tensors of `put.json`: every dtype, every rank, and some without elements.
fn tensors() -> Vec<Tensor> {
    let list = fs::read_to_string(vectors().join("put.json")).unwrap();
    let list: Vec<Value> = serde_json::from_str(&list).unwrap();
    let text = |entry: &Value, name: &str| entry[name].as_str().unwrap_or_default().to_owned();
    let tensor = |entry: &Value| {
        let file = text(entry, "file");
        let name = file.strip_prefix("put/")?.strip_suffix(".arrows")?;
        let dtype = DType::parse(&text(entry, "dtype")).ok()?;
        let rank = name.strip_prefix(dtype.name());
        let plain = rank.is_some_and(|rank| rank[1..].parse::<u8>().is_ok());
        (plain || name.starts_with("empty-")).then(|| {
            let dims = entry["shape"].as_array().unwrap().iter();
            let dims: Vec<u64> = dims.map(|dim| dim.as_u64().unwrap()).collect();
            Tensor {
                name: name.to_owned(),
                dtype,
                shape: Shape::new(&dims).unwrap(),
                data: unhex(&text(entry, "data")),
            }
        })
    };
    list.iter().filter_map(tensor).collect()
}

/// The whole stream, as a file: messages behind their lengths, and the end.
fn stream(tensor: &Tensor, layout: Layout) -> Vec<u8> {
    let metadata = Metadata::new([("model".to_owned(), "m1".to_owned())]).unwrap();
    let tags = Tags {
        namespace: "vectors",
        key: &tensor.name,
        version: Version::from_parts(1_763_769_600_000, 1, 2),
        checksum: Some(XxHash3_128::oneshot(&tensor.data)),
        metadata: &metadata,
    };
    let schema = match layout {
        Layout::Opaque => StreamSchema::Opaque {
            nullable: false,
            with: &[],
        },
        _ => StreamSchema::Tensor {
            dtype: tensor.dtype,
            shape: &tensor.shape,
            flat: layout == Layout::Flat,
            tags,
        },
    };
    let mut out = schema.encapsulated().unwrap().to_vec();
    if layout == Layout::Opaque {
        let row = OpaqueRow {
            key: &tensor.name,
            tensor: Some((tensor.dtype, &tensor.shape)),
        };
        let batch = opaque_batch(&[row], false, &[]).unwrap();
        out.extend_from_slice(&encapsulate(&batch.header));
        out.extend_from_slice(&batch.prelude);
        out.extend_from_slice(&tensor.data);
        out.extend_from_slice(&batch.tail);
    } else {
        let chunks = Chunks::new(tensor.dtype, &tensor.shape, layout, MAX_MESSAGE_BYTES);
        for chunk in chunks.unwrap() {
            let at = |offset: u64| usize::try_from(offset).unwrap();
            out.extend_from_slice(&encapsulate(&chunk.header));
            out.extend_from_slice(&tensor.data[at(chunk.body.start)..at(chunk.body.end)]);
            out.resize(out.len() + at(chunk.padding), 0);
        }
    }
    out.extend_from_slice(&[0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0]);
    out
}

fn vectors() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../proto-notes/vectors")
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Vec<u8> {
    let digits = |at| u8::from_str_radix(&text[at..at + 2], 16).unwrap();
    (0..text.len()).step_by(2).map(digits).collect()
}
