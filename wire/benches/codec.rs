//! The codec's inner loops: what a small get pays before its bytes, what a large one pays a
//! chunk, what a put pays a batch and a row.
//!
//! `cargo bench -p bowstring-wire --bench codec`

use std::hint::black_box;

use bowstring_wire::body::Body;
use bowstring_wire::bulk::Dictionaries;
use bowstring_wire::descriptor::PutCommand;
use bowstring_wire::dtype::DType;
use bowstring_wire::error::Result;
use bowstring_wire::flight_data::{Event, Parser, encode_head};
use bowstring_wire::get_layout::Chunks;
use bowstring_wire::get_rows::rows_batch;
use bowstring_wire::metadata::Metadata;
use bowstring_wire::permute::Permute;
use bowstring_wire::put_schema::PutSchema;
use bowstring_wire::schema::{StreamSchema, Tags};
use bowstring_wire::shape::Shape;
use bowstring_wire::ticket::Layout;
use bowstring_wire::version::Version;
use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

fn shape(dims: &[u64]) -> Shape {
    Shape::new(dims).unwrap_or_default()
}

fn one<'a>(shape: &'a Shape, metadata: &'a Metadata) -> StreamSchema<'a> {
    StreamSchema::Tensor {
        dtype: DType::Float32,
        shape,
        flat: false,
        tags: Tags {
            namespace: "default",
            key: "model/layer.7/weights",
            version: Version::from_parts(1_760_000_000_000, 3, 0xdead_beef),
            checksum: Some(0x0123_4567_89ab_cdef),
            metadata,
        },
    }
}

/// Everything of a 3 KiB get that is not the tensor: schema message, batch header, two heads.
fn small_get(c: &mut Criterion) {
    let metadata = Metadata::default();
    let mut group = c.benchmark_group("get");
    for (name, dims) in [("rank 1", &[768][..]), ("rank 3", &[4, 8, 24])] {
        let shape = shape(dims);
        group.bench_function(format!("schema message, {name}"), |b| {
            b.iter(|| black_box(one(black_box(&shape), &metadata)).message());
        });
        group.bench_function(format!("schema, batch and heads, {name}"), |b| {
            b.iter(|| -> Result<_> {
                let schema = one(black_box(&shape), &metadata).message()?;
                let first = encode_head(&schema, &[], 0)?;
                let chunk = Chunks::new(DType::Float32, &shape, Layout::Rows, 3 << 20)?.next();
                let second = chunk.map(|chunk| chunk.head(&[])).transpose()?;
                Ok((first, second))
            });
        });
    }
    let header = Bytes::from(vec![1; 300]);
    group.bench_function("encode head", |b| {
        b.iter(|| encode_head(black_box(&header), &[], black_box(3 << 20)));
    });
    let large = shape(&[65_536, 1024]);
    group.throughput(Throughput::Elements(86));
    group.bench_function("chunks and heads of 256 MiB", |b| {
        b.iter(|| {
            let chunks = Chunks::new(DType::Float32, black_box(&large), Layout::Rows, 3 << 20);
            let heads = chunks.into_iter().flatten().map(|chunk| chunk.head(&[]));
            heads
                .filter_map(Result::ok)
                .map(|head| head.len())
                .sum::<usize>()
        });
    });
    let keys: Vec<String> = (0..1000).map(|i| format!("key-{i:06}")).collect();
    let row = shape(&[768]);
    group.throughput(Throughput::Elements(1000));
    group.bench_function("rows batch of 1,000 keys", |b| {
        b.iter(|| rows_batch(DType::Float32, black_box(&row), &keys, None, &[]));
    });
    group.finish();
}

fn put(c: &mut Criterion) {
    let mut group = c.benchmark_group("put");
    let metadata = Metadata::default();
    let dims = shape(&[4, 8, 24]);
    let schema = one(&dims, &metadata).message().unwrap_or_default();
    group.bench_function("parse the schema of one tensor", |b| {
        b.iter(|| PutSchema::parse(black_box(&schema)));
    });
    let chunk = Chunks::new(DType::Float32, &dims, Layout::Rows, 3 << 20);
    let chunk = chunk.into_iter().flatten().next();
    if let (Ok(PutSchema::Single(put)), Some(chunk)) = (PutSchema::parse(&schema), chunk) {
        group.bench_function("check a batch of one tensor", |b| {
            b.iter(|| put.check_batch(black_box(&chunk.header), chunk.body_len()));
        });
    }

    // 40,000 embeddings of 50 floats in frames of 16 KiB.
    let keys: Vec<String> = (0..40_000).map(|i| format!("word-{i}")).collect();
    let row = shape(&[50]);
    let schema = StreamSchema::Rows {
        dtype: DType::Float32,
        shape: &row,
        nullable: false,
        with: &[],
    };
    let schema = schema.message().unwrap_or_default();
    let batch = rows_batch(DType::Float32, &row, &keys, None, &[]);
    if let (Ok(PutSchema::Bulk(put)), Ok(batch)) = (PutSchema::parse(&schema), batch)
        && let Ok(put) = put.with_command(&PutCommand::default())
    {
        let data = vec![0; usize::try_from(batch.data_len).unwrap_or(0)];
        let body = [&batch.prelude[..], &data, &batch.tail].concat();
        let body: Body = body.chunks(16 << 10).map(Bytes::copy_from_slice).collect();
        group.throughput(Throughput::Elements(keys.len() as u64));
        group.bench_function("rows of a batch of 40,000", |b| {
            b.iter(|| -> Result<_> {
                let mut scratch = Vec::new();
                let rows = put.decode(&batch.header, black_box(&body), &Dictionaries::default())?;
                let mut bytes = 0;
                for i in 0..rows.rows() {
                    let row = rows.row(i)?;
                    let pieces = rows.pieces(&row, &mut scratch)?;
                    bytes += row.key.len() + pieces.map(<[u8]>::len).sum::<usize>();
                }
                Ok(bytes)
            });
        });
    }

    // A message of 3 MiB in frames of 16 KiB.
    let head = encode_head(&[1; 300], &[], 3 << 20).unwrap_or_default();
    let message = Bytes::from([&head[..], &vec![0; 3 << 20]].concat());
    group.throughput(Throughput::Bytes(message.len() as u64));
    group.bench_function("parse frames of 16 KiB", |b| {
        b.iter(|| {
            let mut parser = Parser::new();
            let mut bytes = 0;
            for at in (0..message.len()).step_by(16 << 10) {
                parser.push(message.slice(at..message.len().min(at + (16 << 10))));
                while let Ok(Some(event)) = parser.next_event() {
                    if let Event::BodyChunk(piece) = event {
                        bytes += piece.len();
                    }
                }
            }
            bytes
        });
    });

    let cell = [64, 64, 64];
    let from = vec![1; 4 * 64 * 64 * 64];
    let mut to = vec![0; from.len()];
    group.throughput(Throughput::Bytes(from.len() as u64));
    for (name, order) in [
        ("a cycle of three axes", [2, 0, 1]),
        ("two outer axes", [1, 0, 2]),
    ] {
        let permute = Permute::new(&cell, &order, 4);
        group.bench_function(format!("permute {name}"), |b| {
            b.iter(|| {
                permute
                    .as_ref()
                    .map(|permute| permute.apply(black_box(&from), &mut to))
            });
        });
    }
    group.finish();
}

criterion_group!(codec, small_get, put);
criterion_main!(codec);
