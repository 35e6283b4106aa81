//! What a small entry costs elsewhere: Redis and memcached, filled over their own protocols.

use std::io::{Read, Write};
use std::net::TcpStream;

use crate::Outcome;
use crate::entries::{SMALL_BYTES, key};
use crate::peers::memcached::Memcached;
use crate::peers::redis::Redis;
use crate::process::charged_bytes;

/// Commands that are sent before their replies are read.
const PIPELINE: u64 = 10_000;

/// Charged bytes an entry of 64 bytes beyond its value and its key, of so many in Redis.
pub fn redis(count: u64) -> Outcome<f64> {
    let server = Redis::start()?;
    let empty = charged_bytes(server.id())?;
    let mut stream = TcpStream::connect(("127.0.0.1", server.port))?;
    let value = "v".repeat(SMALL_BYTES);
    for start in (0..count).step_by(usize::try_from(PIPELINE)?) {
        let end = count.min(start + PIPELINE);
        let mut commands = String::new();
        for i in start..end {
            let key = key(i);
            commands += &format!("*3\r\n$3\r\nSET\r\n${}\r\n{key}\r\n", key.len());
            commands += &format!("${SMALL_BYTES}\r\n{value}\r\n");
        }
        stream.write_all(commands.as_bytes())?;
        let mut replies = vec![0; usize::try_from(end - start)? * "+OK\r\n".len()];
        stream.read_exact(&mut replies)?;
        if !replies.starts_with(b"+OK\r\n") {
            return Err("redis refused a SET".into());
        }
    }
    beyond(charged_bytes(server.id())? - empty, count)
}

/// The same of memcached.
pub fn memcached(count: u64) -> Outcome<f64> {
    let mib = u32::try_from(count / 2048 + 256)?;
    let server = Memcached::start(mib)?;
    let empty = charged_bytes(server.id())?;
    let mut stream = TcpStream::connect(("127.0.0.1", server.port))?;
    let value = "v".repeat(SMALL_BYTES);
    let mut commands = String::new();
    for i in 0..count {
        commands += &format!("set {} 0 0 {SMALL_BYTES} noreply\r\n{value}\r\n", key(i));
        if commands.len() > 1 << 20 {
            stream.write_all(commands.as_bytes())?;
            commands.clear();
        }
    }
    // Whoever answers the last has done all of them.
    let last = format!("get {}\r\n", key(count - 1));
    stream.write_all((commands + &last).as_bytes())?;
    let mut reply = [0; 5];
    stream.read_exact(&mut reply)?;
    if &reply != b"VALUE" {
        return Err("memcached lost a value".into());
    }
    beyond(charged_bytes(server.id())? - empty, count)
}

fn beyond(charged: u64, count: u64) -> Outcome<f64> {
    let own = u64::try_from(SMALL_BYTES + key(0).len())?;
    Ok(charged as f64 / count as f64 - own as f64)
}
