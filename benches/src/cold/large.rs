//! Gets of large tensors that are in files only.

use bowstring_client::{Connection, DType, Descriptor, Shape};
use serde_json::json;

use super::file_tcp::FileTcp;
use super::{Client, PageCache, Place};
use crate::Outcome;
use crate::clock::Stopwatch;
use crate::grid::{median, pairs, size_name};
use crate::report::Goal;

const SIZES: [u64; 2] = [16 << 20, 64 << 20];
/// Tensors of each size: none is read so often that it would stay in memory.
const TENSORS: usize = 8;
const MEMORY: &str = "1GiB";

pub fn run(repeats: usize) -> Outcome<Vec<Goal>> {
    let mut goals = Vec::new();
    let mut peer = FileTcp::start()?;
    for bytes in SIZES {
        let place = Place::new("cold-large")?;
        let server = place.serve(MEMORY, &[])?;
        let mut connection = server.connect()?;
        put(&mut connection, bytes)?;
        drop((connection, server));
        let files = place.segments(bytes)?;
        if files.len() != TENSORS {
            return Err(format!("{} files of {TENSORS} tensors", files.len()).into());
        }
        for cache in [PageCache::Has, PageCache::HasNot] {
            goals.push(compare(&place, &mut peer, (bytes, &files), cache, repeats)?);
        }
    }
    Ok(goals)
}

fn put(connection: &mut Connection, bytes: u64) -> Outcome<()> {
    let shape = Shape::new(&[bytes / 4])?;
    for nth in 0..TENSORS {
        let tensor: Vec<u8> = (0..bytes / 4)
            .flat_map(|i| ((i * 31 + nth as u64) as f32).to_le_bytes())
            .collect();
        let command = json!({"key": format!("t{nth}"), "wait": "cold"}).to_string();
        let to = Descriptor::Command(command.as_bytes());
        connection.put(to, DType::Float32, &shape, &tensor)?;
    }
    Ok(())
}

fn compare(
    place: &Place,
    peer: &mut FileTcp,
    (bytes, files): (u64, &[std::path::PathBuf]),
    cache: PageCache,
    repeats: usize,
) -> Outcome<Goal> {
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    let server = place.serve(MEMORY, &[])?;
    let (mut connection, mut client) = (server.connect()?, Client::of(&server)?);
    let mut buffer = Vec::new();
    let mut get = |nth: usize| {
        let key = format!("t{}", nth % TENSORS);
        client.act("evict", &json!({"keys": [key]}))?;
        cache.settle(files)?;
        let ticket = json!({ "key": key }).to_string();
        let watch = Stopwatch::start();
        connection.get_into(ticket.as_bytes(), &mut buffer)?;
        Outcome::Ok(watch.seconds())
    };
    let mut copy = |nth: usize| {
        cache.settle(files)?;
        peer.copy(&files[nth % TENSORS])
    };
    // Each for the first time, and not counted.
    get(0)?;
    copy(0)?;
    for nth in 0..repeats {
        if nth % 2 == 0 {
            ours.push(get(nth)?);
            theirs.push(copy(nth)?);
        } else {
            theirs.push(copy(nth)?);
            ours.push(get(nth)?);
        }
    }
    let rate = |seconds: &[f64]| bytes as f64 / median(seconds) / 1e9;
    let mut goal = Goal::at_least(
        &format!("get {} from a file, {}", size_name(bytes), cache.name()),
        "the file copied through a loopback socket",
        0.7,
        pairs(&theirs, &ours),
    );
    goal.note(&format!(
        "{:.2} against {:.2} GB/s",
        rate(&ours),
        rate(&theirs)
    ));
    Ok(goal)
}
