//! The golden files of `proto-notes/vectors/cold`, a folder a format version: what is there is read for
//! ever, and this release writes those of its own version byte for byte.
//!
//! With `BOWSTRING_WRITE_VECTORS=1` this writes them; only before a format version is first released.

use std::path::PathBuf;

use bowstring_cache::Id;
use bowstring_wire::dtype::DType;
use bowstring_wire::metadata::Metadata;
use bowstring_wire::name::{Key, Namespace, Tenant};
use bowstring_wire::shape::Shape;
use bowstring_wire::version::Version;
use bytes::Bytes;
use serde_json::{Value, json};
use twox_hash::XxHash3_128;

use super::table::Rows;
use super::{
    Built, BuiltTable, Census, Gone, Grave, Large, Layout, Manifest, Packer, SettingsRow,
    TableBuilder, Tensor, Unpacker, build, encode_census, encode_gone, encode_hidden, encode_hot,
    encode_manifest, encode_settings, read_block, read_census, read_gone, read_hidden, read_hot,
    read_manifest, read_settings, read_sidecar, read_tail, verify,
};
use crate::entry::{BLOCK_BYTES, Description, Number, Stored};

type Given = (Description, Vec<Bytes>);
type Space = (Tenant, Namespace);

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../proto-notes/vectors/cold/1")
}

fn tensor(namespace: &str, key: &str, nth: u64, dtype: DType, dims: &[u64]) -> Given {
    let shape = Shape::new(dims).unwrap();
    let len = shape.bytes(dtype).unwrap();
    let bytes: Bytes = (0..len).map(|i| ((i * 7 + nth * 13) % 113) as u8).collect();
    let metadata = match nth % 3 {
        0 => Metadata::default(),
        _ => Metadata::new([("source".to_owned(), format!("shard-{nth}"))]).unwrap(),
    };
    let description = Description {
        attached: false,
        id: Id {
            tenant: Tenant::public(),
            namespace: Namespace::parse(namespace).unwrap(),
            key: Key::parse(key).unwrap(),
        },
        version: Version::from_parts(1_700_000_000_000 + nth, 3, 0xbeef),
        dtype,
        shape,
        len,
        checksum: XxHash3_128::oneshot(&bytes),
        expires_at_ms: nth.is_multiple_of(2).then_some(1_800_000_000_000 + nth),
        source_version: (nth % 3 == 1).then_some(-5),
        metadata: metadata.encode(),
    };
    (description, vec![bytes])
}

fn rows() -> Vec<Given> {
    let of = |nth, key| tensor("embeddings", key, nth, DType::Float32, &[2, 3]);
    vec![of(0, "a"), of(1, "b/ä"), of(2, "c")]
}

fn opaque() -> Vec<Given> {
    vec![
        tensor("default", "scalar", 3, DType::Int64, &[]),
        tensor("default", "complex", 4, DType::Complex64, &[3]),
        tensor("other", "empty", 5, DType::BFloat16, &[0, 4]),
        tensor("other", "bools", 6, DType::Bool, &[5]),
    ]
}

fn large() -> Given {
    tensor(
        "models",
        "weights",
        7,
        DType::UInt8,
        &[2, BLOCK_BYTES / 2 + 50],
    )
}

/// Of a namespace that is compressed: a tensor of two blocks, one that is not worth it, a small one.
fn packed() -> Vec<Given> {
    vec![
        tensor("logs", "large", 8, DType::UInt8, &[BLOCK_BYTES + 999]),
        tensor("logs", "tiny", 9, DType::Float32, &[3]),
        tensor("logs", "small", 10, DType::Int16, &[40, 25]),
    ]
}

fn gone() -> Vec<(Gone, Number)> {
    let (one, _) = tensor("default", "scalar", 3, DType::Int64, &[]);
    vec![
        (Gone::Name(one.id), Number(3)),
        (
            Gone::Namespace(Tenant::public(), Namespace::parse("other").unwrap()),
            Number(4),
        ),
    ]
}

fn plain(tensors: Vec<(Description, Vec<Bytes>)>) -> Vec<Tensor> {
    let tensors = tensors.into_iter();
    tensors
        .map(|(description, pieces)| Tensor::new(description, pieces).unwrap())
        .collect()
}

/// What memory had, the hottest first.
fn hot() -> (Vec<Space>, [(usize, &'static str); 4]) {
    let of = |namespace| (Tenant::public(), Namespace::parse(namespace).unwrap());
    let names = [(1, "weights"), (0, "a"), (0, "b/ä"), (2, "gone since")];
    (vec![of("embeddings"), of("models"), of("other")], names)
}

fn encoded_hot() -> Bytes {
    let (namespaces, names) = hot();
    encode_hot(Number(6), &namespaces, names.into_iter())
}

fn census() -> Census {
    Census {
        first: Number(3 << 40),
        segments: [1 << 40, (1 << 40) + 5, 2 << 40].map(Number).into(),
    }
}

fn hidden() -> Vec<Grave> {
    let (one, _) = tensor("embeddings", "b/ä", 1, DType::Int64, &[]);
    let of = |namespace| (Tenant::public(), Namespace::parse(namespace).unwrap());
    vec![
        Grave::Name(one.id, one.version.hlc),
        Grave::Prefix(of("models"), "we".to_owned(), one.version.hlc + 1),
        Grave::Prefix(of("other"), String::new(), u64::MAX),
    ]
}

fn settings() -> Vec<SettingsRow> {
    let of = |namespace, nth: u64, json: &str| SettingsRow {
        tenant: Tenant::public(),
        namespace: Namespace::parse(namespace).unwrap(),
        version: Version::from_parts(1_700_000_000_000 + nth, 3, 0xbeef),
        json: json.to_owned(),
    };
    vec![
        of(
            "embeddings",
            11,
            r#"{"default_ttl_ms":86400000,"mode":"replace","bytes_max":"9007199254740993","entries_max":7,"admit":"probation","write_policy":"memory","compression":"zstd"}"#,
        ),
        of("other", 12, "{}"),
    ]
}

/// As [`Large`] writes it.
fn built_large(number: Number, (description, pieces): &Given) -> Built {
    let mut large = Large::begin(number, description.clone(), Vec::new()).unwrap();
    let mut file = vec![large.head()];
    for piece in pieces {
        large.pass(piece);
        file.push(piece.clone());
    }
    let (tail, sidecar, stored) = large.finish().unwrap();
    file.push(tail);
    Built {
        file,
        sidecar,
        entries: vec![stored],
    }
}

fn segments() -> Vec<(&'static str, Vec<Given>, Built)> {
    let shape = Shape::new(&[2, 3]).unwrap();
    let layout = Layout::Rows {
        dtype: DType::Float32,
        shape,
    };
    let large = large();
    vec![
        (
            "rows",
            rows(),
            build(Number(1), &layout, plain(rows())).unwrap(),
        ),
        (
            "opaque",
            opaque(),
            build(Number(2), &Layout::Opaque, plain(opaque())).unwrap(),
        ),
        ("large", vec![large.clone()], built_large(Number(3), &large)),
    ]
}

/// Its frames may be others with another release of zstd; what is in them is not.
fn built_packed() -> Built {
    let mut packer = Packer::new().unwrap();
    let mut tensors = Vec::new();
    for (description, pieces) in packed() {
        let (mut left, mut frames) = (&pieces.concat()[..], Vec::new());
        let next = |block: &mut [u8]| {
            block.copy_from_slice(left.split_off(..block.len()).unwrap());
            Ok(())
        };
        let packed = Tensor::pack(&description, &mut packer, next, &mut frames).unwrap();
        tensors.push(match packed {
            Some(packed) => Tensor::packed(description, packed, frames.into()),
            None => Tensor::new(description, pieces).unwrap(),
        });
    }
    build(Number(5), &Layout::Opaque, tensors).unwrap()
}

/// What another reader should find.
fn described(segments: &[(&str, Vec<Given>, Built)]) -> Value {
    let one = |(description, _): &Given| {
        let text = str::from_utf8(&description.metadata).unwrap();
        json!({
            "namespace": description.id.namespace.as_str(),
            "key": description.id.key.as_str(),
            "version": description.version.to_string(),
            "dtype": description.dtype.name(),
            "shape": description.shape.dims(),
            "checksum": format!("{:032x}", description.checksum),
            "expires_at_ms": description.expires_at_ms,
            "source_version": description.source_version,
            "metadata": serde_json::from_str::<Value>(text).unwrap_or_else(|_| json!({})),
        })
    };
    let all = segments.iter().map(|(name, tensors, built)| {
        let tensors: Vec<_> = tensors.iter().map(one).collect();
        let number = built.entries[0].place.segment.0;
        (
            name.to_string(),
            json!({"number": number, "tensors": tensors}),
        )
    });
    Value::Object(all.collect())
}

/// Rows of an index, one of them of a key that is gone.
fn indexed() -> Vec<(Vec<u8>, Option<Vec<u8>>)> {
    let row = |n: u32| {
        let key = format!("epublic\0default\0k{n:03}").into_bytes();
        (key, (n != 7).then(|| vec![n as u8; 20]))
    };
    (0..40).map(row).collect()
}

/// Its frames may be others with another release of zstd.
fn built_table() -> BuiltTable {
    let mut builder = TableBuilder::new(8, 512).unwrap();
    for (key, value) in indexed() {
        builder.push(&key, value.as_deref()).unwrap();
    }
    builder.finish().unwrap()
}

fn manifest(table: &BuiltTable) -> Manifest {
    Manifest {
        epoch: 2,
        covered: 2 << 40,
        levels: vec![Vec::new(), vec![table.name.clone()]],
    }
}

fn writes() -> bool {
    std::env::var_os("BOWSTRING_WRITE_VECTORS").is_some()
}

#[test]
fn this_release_writes_the_golden_files() {
    let segments = segments();
    let mut all = segments.clone();
    all.push(("packed", packed(), built_packed()));
    if writes() {
        let (_, _, packed) = &all[3];
        std::fs::write(folder().join("packed.arrow"), packed.file.concat()).unwrap();
        std::fs::write(folder().join("packed.idx"), &packed.sidecar).unwrap();
        let table = built_table();
        std::fs::write(folder().join("index.rows"), table.file.concat()).unwrap();
        let manifest = encode_manifest(9, &manifest(&table));
        std::fs::write(folder().join("index.tree"), manifest).unwrap();
    }
    let mut files = vec![
        (
            "cold.json".to_owned(),
            serde_json::to_vec_pretty(&described(&all)).unwrap(),
        ),
        (
            "gone.log".to_owned(),
            encode_gone(Number(4), &gone()).to_vec(),
        ),
        ("memory.hot".to_owned(), encoded_hot().to_vec()),
        (
            "others.hid".to_owned(),
            encode_hidden(Number(7), &hidden()).to_vec(),
        ),
        (
            "namespaces.set".to_owned(),
            encode_settings(Number(8), &settings()).to_vec(),
        ),
        (
            "start.census".to_owned(),
            encode_census(3, &census()).to_vec(),
        ),
    ];
    for (name, _, built) in &segments {
        files.push((format!("{name}.arrow"), built.file.concat()));
        files.push((format!("{name}.idx"), built.sidecar.to_vec()));
    }
    for (name, bytes) in files {
        let path = folder().join(&name);
        if writes() {
            std::fs::create_dir_all(folder()).unwrap();
            std::fs::write(&path, &bytes).unwrap();
        }
        assert!(
            std::fs::read(&path).unwrap() == bytes,
            "{name} is not what is written now"
        );
    }
}

/// Whatever is changed later: what version 1 wrote is read.
#[test]
fn what_format_1_wrote_is_read() {
    let read = |name: &str| std::fs::read(folder().join(name)).unwrap();
    for (number, name, tensors) in [
        (1, "rows", rows()),
        (2, "opaque", opaque()),
        (3, "large", vec![large()]),
    ] {
        let file = read(&format!("{name}.arrow"));
        let sidecar = read_sidecar(Number(number), &read(&format!("{name}.idx"))).unwrap();
        assert_eq!(sidecar.file_bytes, file.len() as u64);
        assert_eq!(sidecar.entries.len(), tensors.len());
        for (stored, (description, pieces)) in sidecar.entries.iter().zip(tensors) {
            assert_eq!(stored.description, description);
            let at = usize::try_from(stored.place.offset).unwrap();
            let bytes = &file[at..at + usize::try_from(description.len).unwrap()];
            assert_eq!(bytes, pieces.concat());
            let mut blocks = bytes.chunks(BLOCK_BYTES as usize).enumerate();
            assert!(blocks.all(|(nth, block)| verify(stored, nth, block)));
        }
    }
    assert_eq!(read_gone(Number(4), &read("gone.log")), Ok(gone()));
    assert_eq!(read_hidden(Number(7), &read("others.hid")), Ok(hidden()));
    let rows = read_settings(Number(8), &read("namespaces.set"));
    assert_eq!(rows, Ok(settings()));
    assert_eq!(read_census(3, &read("start.census")), Ok(census()));
    let names = read_hot(Number(6), &read("memory.hot").into()).unwrap();
    let (namespaces, expected) = hot();
    let names: Vec<_> = names.collect();
    assert_eq!(names.len(), expected.len());
    for (id, (at, key)) in names.iter().zip(expected) {
        assert_eq!((id.key.as_str(), &id.namespace), (key, &namespaces[at].1));
    }

    let manifest = read_manifest(9, &read("index.tree")).unwrap();
    assert_eq!((manifest.epoch, manifest.covered), (2, 2 << 40));
    let (name, table) = (&manifest.levels[1][0], read("index.rows"));
    assert_eq!(
        (name.number, name.bytes, name.rows),
        (8, table.len() as u64, 40)
    );
    let tail = read_tail(8, &table[name.tail_at as usize..]).unwrap();
    let blocks = (0..tail.blocks()).map(|block| {
        let place = tail.place(block).unwrap();
        read_block(&table[place.start as usize..place.end as usize]).unwrap()
    });
    let there: Vec<_> = blocks.flat_map(Rows::new).collect();
    let indexed = indexed();
    assert_eq!(there.len(), indexed.len());
    for ((key, value), (expected, of)) in there.iter().zip(indexed) {
        assert_eq!((&key[..], value.as_deref()), (&expected[..], of.as_deref()));
    }

    let (file, sidecar) = (read("packed.arrow"), read("packed.idx"));
    let sidecar = read_sidecar(Number(5), &sidecar).unwrap();
    assert_eq!(sidecar.file_bytes, file.len() as u64);
    let is_packed: Vec<bool> = sidecar.entries.iter().map(Stored::is_packed).collect();
    assert_eq!(is_packed, [true, false, true]);
    let mut unpacker = Unpacker::new().unwrap();
    for (stored, (description, pieces)) in sidecar.entries.iter().zip(packed()) {
        assert_eq!(stored.description, description);
        let all = pieces.concat();
        for (nth, block) in all.chunks(BLOCK_BYTES as usize).enumerate() {
            let at = nth as u64 * BLOCK_BYTES;
            let lies = stored.in_file(at..at + block.len() as u64);
            let lies = &file[lies.start as usize..lies.end as usize];
            let mut out = lies.to_vec();
            if stored.is_packed() {
                assert!(unpacker.unpack(lies, block.len(), &mut out));
            }
            assert!(out == block && verify(stored, nth, &out));
        }
    }
}

/// Of the file that holds tensors, each bit is one of a tensor, which its checksum finds, or one that we
/// do not read.
#[test]
fn a_flipped_bit_of_a_tensor_is_found() {
    for (name, _, built) in segments() {
        let file = built.file.concat();
        for stored in &built.entries {
            let at = usize::try_from(stored.place.offset).unwrap();
            let len = usize::try_from(stored.description.len).unwrap();
            for bit in (0..len * 8).step_by(1 + len / 40) {
                let mut bytes = file[at..at + len].to_vec();
                bytes[bit / 8] ^= 1 << (bit % 8);
                let block = bit / 8 / BLOCK_BYTES as usize;
                let damaged = bytes.chunks(BLOCK_BYTES as usize).nth(block).unwrap();
                assert!(!verify(stored, block, damaged), "{name} {bit}");
            }
        }
    }
}
