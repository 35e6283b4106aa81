//! What a server has, and how to take it away from it.

use std::fs;
use std::os::unix::fs::MetadataExt as _;

use arrow_flight::Action;
use bowstring_tests::{Metrics, Server, until};
use prost::Message as _;
use serde_json::{Value, json};

use super::raw::{Answer, Raw};

/// Bytes in use, at a moment when nothing is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InUse {
    /// Pages and slots that hold something.
    pub arena: u64,
    /// What the wire account lends to puts and gets: the idle server's share is in it.
    pub wire: u64,
    /// Entries that can be found.
    pub entries: u64,
}

impl InUse {
    /// Waits until no call is under way and nobody holds anything, and looks then.
    pub async fn at_rest(server: &Server) -> Self {
        until("a server at rest", async || {
            let metrics = server.metrics();
            is_at_rest(&metrics).then(|| Self {
                arena: metrics.count("bowstring_arena_used_bytes"),
                wire: metrics.count("bowstring_memory_used_bytes{account=\"wire\"}"),
                entries: metrics.count("bowstring_entries"),
            })
        })
        .await
    }
}

fn is_at_rest(metrics: &Metrics) -> bool {
    let zeros = [
        "bowstring_puts_reserved_bytes",
        "bowstring_puts_waiting",
        "bowstring_readers_held_bytes",
        "bowstring_reads_open",
    ];
    zeros.iter().all(|name| metrics.count(name) == 0)
        && metrics.sum("bowstring_requests_in_flight") == 0.0
}

/// What all accounts have now.
pub fn ledger_used(metrics: &Metrics) -> f64 {
    metrics.sum("bowstring_memory_used_bytes")
}

/// What the machine charges the server for data: anonymous pages, and those of memory files, whether
/// somebody has touched them or not.
pub fn charged_bytes(server: &Server) -> u64 {
    let resident = server.resident();
    resident.anon + resident.shmem.max(memfd_bytes(server.pid()))
}

/// Every descriptor that a process has open: where it leads.
pub fn open_files(pid: u32) -> Vec<String> {
    let links = fs::read_dir(format!("/proc/{pid}/fd")).expect("a process");
    let target = |entry: std::io::Result<fs::DirEntry>| fs::read_link(entry.ok()?.path()).ok();
    links
        .filter_map(target)
        .map(|path| path.to_string_lossy().into_owned())
        .collect()
}

fn memfd_bytes(pid: u32) -> u64 {
    let mut files = std::collections::BTreeMap::new();
    for entry in fs::read_dir(format!("/proc/{pid}/fd")).expect("a process") {
        let Ok(path) = entry.map(|entry| entry.path()) else {
            continue;
        };
        let is_memfd = fs::read_link(&path)
            .is_ok_and(|link| link.as_os_str().as_encoded_bytes().starts_with(b"/memfd:"));
        if let (true, Ok(file)) = (is_memfd, fs::metadata(&path)) {
            files.insert(file.ino(), file.blocks() * 512);
        }
    }
    files.values().sum()
}

/// One action: JSON in, JSON out.
///
/// # Panics
/// Where it is refused.
pub async fn act(raw: &mut Raw, name: &str, body: &Value) -> Value {
    let answer = act_raw(raw, name, body.to_string().as_bytes()).await;
    assert!(answer.is_ok(), "{name} {body}: {answer:?}");
    result_of(&answer)
}

/// One action, whatever comes of it.
pub async fn act_raw(raw: &mut Raw, name: &str, body: &[u8]) -> Answer {
    let action = Action {
        r#type: name.to_owned(),
        body: bytes::Bytes::copy_from_slice(body),
    };
    raw.unary("DoAction", &action.encode_to_vec()).await
}

/// The JSON of an action's answer.
pub fn result_of(answer: &Answer) -> Value {
    let messages = answer.messages();
    let message = messages.first().expect("a result");
    let result = arrow_flight::Result::decode(*message).expect("a result");
    serde_json::from_slice(&result.body).expect("JSON")
}

/// The namespaces that have entries.
pub async fn namespaces(raw: &mut Raw) -> Vec<String> {
    let reply = act(raw, "namespaces", &json!({})).await;
    let list = reply["namespaces"].as_array().expect("a list");
    let name = |space: &Value| space["namespace"].as_str().map(str::to_owned);
    list.iter().filter_map(name).collect()
}

/// Deletes everything.
pub async fn wipe(raw: &mut Raw) {
    for namespace in namespaces(raw).await {
        let all = json!({"namespace": namespace, "prefix": ""});
        act(raw, "delete", &all).await;
    }
}
