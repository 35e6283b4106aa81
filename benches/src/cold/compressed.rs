//! What `compression: zstd` of a namespace saves in the store and costs those who read: tensors that compress and some
//! that do not, beside the same ones in a namespace without it.

use bowstring_client::{DType, Descriptor, Shape};
use serde_json::json;

use super::working_set::mix;
use super::{Client, PageCache, Place};
use crate::Outcome;
use crate::clock::Stopwatch;
use crate::grid::{median, pairs, size_name};
use crate::report::Goal;

/// Of each kind.
const TENSORS: u64 = 200;
const BYTES: u64 = 512 << 10;
const MEMORY: &str = "1GiB";
/// Words of a tokenizer.
const WORDS: u32 = 50_000;
/// Elements of a row of a mask.
const ROW: u64 = 2_048;

#[derive(Clone, Copy)]
enum Kind {
    Tokens,
    Masks,
    Floats,
}

/// Tensors in a store, and how much of it they take.
struct Stored {
    place: Place,
    bytes: u64,
}

pub fn run(repeats: usize) -> Outcome<Vec<Goal>> {
    let mut goals = Vec::new();
    for kind in [Kind::Tokens, Kind::Masks, Kind::Floats] {
        let tensors = kind.tensors();
        let plain = put(kind, &tensors, "none")?;
        let packed = put(kind, &tensors, "zstd")?;
        for cache in [PageCache::Has, PageCache::HasNot] {
            let (mut without, mut with) = (Vec::new(), Vec::new());
            for nth in 0..repeats {
                if nth % 2 == 0 {
                    without.push(read(&plain, &tensors, cache)?);
                    with.push(read(&packed, &tensors, cache)?);
                } else {
                    with.push(read(&packed, &tensors, cache)?);
                    without.push(read(&plain, &tensors, cache)?);
                }
            }
            let rate = |seconds: &[f64]| (TENSORS * BYTES) as f64 / median(seconds) / 1e9;
            let name = format!(
                "compression zstd, {} of {}: read once, {}",
                kind.name(),
                size_name(BYTES),
                cache.name()
            );
            let measured = format!(
                "{:.2} × the speed, {:.2} against {:.2} GB/s; {:.3} × the bytes stored",
                pairs(&without, &with),
                rate(&with),
                rate(&without),
                packed.bytes as f64 / plain.bytes as f64
            );
            goals.push(Goal::figure(
                &name,
                "the same namespace without compression",
                measured,
            ));
        }
    }
    Ok(goals)
}

fn put(kind: Kind, tensors: &[Vec<u8>], compression: &str) -> Outcome<Stored> {
    let place = Place::new(&format!("cold-{compression}"))?;
    let server = place.serve(MEMORY, &[])?;
    let (mut connection, mut client) = (server.connect()?, Client::of(&server)?);
    client.act(
        "namespace_set",
        &json!({"settings": {"compression": compression}}),
    )?;
    let dtype = kind.dtype();
    let shape = Shape::new(&[BYTES / dtype.size() as u64])?;
    for (nth, tensor) in tensors.iter().enumerate() {
        let key = format!("t{nth}");
        connection.put(Descriptor::Path(&[&key]), dtype, &shape, tensor)?;
    }
    client.act("flush", &json!({}))?;
    drop((connection, client, server));
    let mut bytes = 0;
    for file in place.segments(0)? {
        bytes += file.metadata()?.len();
    }
    Ok(Stored { place, bytes })
}

/// Seconds for all of them, by a server that has read none before.
fn read(stored: &Stored, tensors: &[Vec<u8>], cache: PageCache) -> Outcome<f64> {
    let server = stored.place.serve(MEMORY, &[])?;
    let mut connection = server.connect()?;
    cache.settle(&stored.place.segments(0)?)?;
    let (mut seconds, mut buffer) = (0.0, Vec::new());
    for (nth, tensor) in tensors.iter().enumerate() {
        let ticket = json!({"key": format!("t{nth}")}).to_string();
        let watch = Stopwatch::start();
        connection.get_into(ticket.as_bytes(), &mut buffer)?;
        seconds += watch.seconds();
        if buffer != *tensor {
            return Err(format!("t{nth} has bytes that are not its own").into());
        }
    }
    Ok(seconds)
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Kind::Tokens => "token ids (int64)",
            Kind::Masks => "masks (int8)",
            Kind::Floats => "random float16",
        }
    }

    fn dtype(self) -> DType {
        match self {
            Kind::Tokens => DType::Int64,
            Kind::Masks => DType::Int8,
            Kind::Floats => DType::Float16,
        }
    }

    fn tensors(self) -> Vec<Vec<u8>> {
        let words = words();
        let of = |nth| match self {
            Kind::Tokens => tokens(nth, &words),
            Kind::Masks => masks(nth),
            Kind::Floats => floats(nth),
        };
        (0..TENSORS).map(of).collect()
    }
}

/// Up to which of the sum of all shares each word goes, by Zipf's law; the more frequent one has the lower number, as
/// merged pairs of bytes have.
fn words() -> Vec<f64> {
    let mut sum = 0.0;
    let share = |word: u32| {
        sum += 1.0 / f64::from(word + 1);
        sum
    };
    (0..WORDS).map(share).collect()
}

fn tokens(nth: u64, words: &[f64]) -> Vec<u8> {
    let sum = words.last().copied().unwrap_or(0.0);
    let count = BYTES / 8;
    let token = |at: u64| {
        let draw = (mix(nth * count + at) >> 11) as f64 / (1_u64 << 53) as f64 * sum;
        words.partition_point(|share| *share < draw) as u64
    };
    (0..count).flat_map(|at| token(at).to_le_bytes()).collect()
}

/// Of sequences that are filled up to one length: ones, then zeros.
fn masks(nth: u64) -> Vec<u8> {
    let row = |row: u64| {
        let ones = mix(nth << 32 | row) % ROW;
        (0..ROW).map(move |at| u8::from(at < ones))
    };
    (0..BYTES / ROW).flat_map(row).collect()
}

/// Evenly spread over −1 to 1: sign and mantissa are noise, and each exponent is half as frequent as the one above.
fn floats(nth: u64) -> Vec<u8> {
    let float = |at: u64| {
        let bits = mix(nth << 32 | at);
        let exponent = 14_u64.saturating_sub(u64::from((bits >> 16).trailing_zeros()));
        let [low, high, ..] = (bits & 0x83ff | exponent << 10).to_le_bytes();
        [low, high]
    };
    (0..BYTES / 2).flat_map(float).collect()
}
