//! A server, through arrow-flight's client with its defaults.

use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;

use arrow_array::cast::AsArray as _;
use arrow_flight::error::FlightError;
use bowstring_tests::Server;
use bowstring_wire::descriptor::Mode;
use bowstring_wire::dtype::DType;
use bowstring_wire::error::{Code, Error, Result};
use bowstring_wire::version::Version;
use serde_json::{Map, Value, json};

use super::step::{SPACES, contents};
use super::target::{Coming, Seen, Stored, Target, Totals};
use crate::space::{Got, Space};
use crate::tensor::{Tensor, bulk, values};

pub struct Flight {
    spaces: Vec<Space>,
    /// What has been slept through, in milliseconds.
    passed: Cell<u64>,
}

impl Flight {
    /// Of a server that nobody else uses.
    pub async fn new(server: Arc<Server>) -> Self {
        let mut spaces = Vec::new();
        for _ in 0..SPACES {
            spaces.push(Space::on(Arc::clone(&server), "model").await);
        }
        Self {
            spaces,
            passed: Cell::new(0),
        }
    }

    async fn act(&self, space: usize, action: &str, members: Value) -> Result<Value> {
        self.spaces[space].act(action, &members).await.map_err(said)
    }

    /// What an action says of the one key that it is about.
    async fn of_key(&self, space: usize, action: &str, key: &str, more: Value) -> Result<Value> {
        let mut members = json!({"keys": [key]});
        let (all, more) = (members.as_object_mut().unwrap(), more.as_object().unwrap());
        all.extend(more.clone());
        let reply = self.act(space, action, members).await?;
        assert_eq!(reply["keys"].as_array().unwrap().len(), 1, "{reply}");
        assert_eq!(reply["keys"][0]["key"], key, "{reply}");
        Ok(reply["keys"][0].clone())
    }

    async fn deleted(&self, space: usize, action: &str, members: Value) -> u64 {
        let reply = self.act(space, action, members).await.unwrap();
        reply["deleted"].as_u64().unwrap()
    }
}

impl Target for Flight {
    const OWN_CLOCK: bool = false;

    fn now_ms(&self) -> u64 {
        self.passed.get()
    }

    async fn pass(&self, ms: u64) {
        bowstring_tests::pause(Duration::from_millis(ms)).await;
        self.passed.set(self.passed.get() + ms);
    }

    async fn evicted(&self) -> u64 {
        self.spaces[0].server.stats().await.counters["evicted"].0
    }

    async fn totals(&self, space: usize) -> Totals {
        let replies = self.spaces[space].act_raw("namespaces", "{}").await;
        let reply: Value = serde_json::from_slice(&replies.unwrap()[0]).unwrap();
        let all = reply["namespaces"].as_array().unwrap();
        let name = self.spaces[space].namespace.as_str();
        let of_space = all.iter().find(|of| of["namespace"] == name);
        let figure = |name: &str| of_space.map_or(0, |of| of[name].as_u64().unwrap());
        Totals {
            entries: figure("entries"),
            bytes: figure("bytes"),
        }
    }

    async fn put(&self, space: usize, key: &str, coming: &Coming) -> Result<Stored> {
        let mut members = members(coming);
        members["key"] = json!(key);
        let reply = self.spaces[space]
            .put_with(&members, &tensor(coming, &[]))
            .await;
        let reply = reply.map_err(said)?;
        Ok(Stored {
            version: Some(version(&reply["version"])),
            existed: Some(reply["existed"] == 1),
        })
    }

    async fn put_rows(
        &self,
        space: usize,
        keys: &[String],
        coming: &Coming,
    ) -> Vec<Result<Stored>> {
        let names: Vec<_> = keys.iter().map(String::as_str).collect();
        let batch = bulk(&names, &tensor(coming, &[keys.len()]));
        let reply = self.spaces[space].bulk_with(&members(coming), batch).await;
        let reply = match reply.map_err(said) {
            Ok(reply) => reply,
            Err(refused) => return keys.iter().map(|_| Err(refused.clone())).collect(),
        };
        let figure = |name: &str| reply[name].as_u64().unwrap();
        let all = figure("stored") + figure("existed") + figure("errors_total");
        assert_eq!(all, keys.len() as u64, "{reply}");
        let errors = reply["errors"].as_array().unwrap();
        let (stored, existed) = (figure("stored"), figure("existed"));
        let answer = |key: &String| match errors.iter().find(|error| error["key"] == **key) {
            Some(error) => Err(error_of(error["code"].as_str().unwrap(), error.to_string())),
            None => Ok(Stored {
                version: None,
                // Where they differ, nobody says which.
                existed: match (stored, existed) {
                    (_, 0) => Some(false),
                    (0, _) => Some(true),
                    _ => None,
                },
            }),
        };
        keys.iter().map(answer).collect()
    }

    async fn look(&self, space: usize, key: &str) -> Option<Seen> {
        let said_of = self
            .of_key(space, "describe", key, json!({}))
            .await
            .unwrap();
        let got = self.spaces[space].tensor(key).await.map_err(said);
        if said_of["found"] == false {
            assert_eq!(got.unwrap_err().code, Code::NotFound);
            return None;
        }
        Some(Seen {
            key: key.to_owned(),
            version: Some(version(&said_of["version"])),
            bytes: Some(got.unwrap().bytes),
            expires_at_ms: Some(said_of.get("ttl_ms").map(|_| 0)),
            pinned: Some(said_of["pinned"] == true),
        })
    }

    async fn many(&self, space: usize, keys: &[String]) -> Vec<Seen> {
        rows(
            &self.spaces[space]
                .get(&json!({"keys": keys}))
                .await
                .unwrap(),
        )
    }

    async fn scan(&self, space: usize, prefix: &str) -> Vec<Seen> {
        let got = self.spaces[space].get(&json!({"prefix": prefix})).await;
        let got = got.unwrap();
        assert_eq!(got.closing("gone").unwrap(), Vec::<String>::new());
        rows(&got)
    }

    async fn delete(&self, space: usize, key: &str, if_version: Option<Version>) -> Result<bool> {
        let more = match if_version {
            Some(version) => json!({"if_version": version.to_string()}),
            None => json!({}),
        };
        let reply = self.of_key(space, "delete", key, more).await?;
        Ok(reply["found"] == true)
    }

    async fn delete_prefix(&self, space: usize, prefix: &str) -> u64 {
        self.deleted(space, "delete", json!({"prefix": prefix}))
            .await
    }

    async fn clear(&self, space: usize) -> u64 {
        self.deleted(space, "clear", json!({"confirm": true})).await
    }

    async fn expire(&self, space: usize, key: &str, ttl_ms: Option<u64>) -> bool {
        let more = json!({"ttl_ms": ttl_ms});
        let reply = self.of_key(space, "expire", key, more).await.unwrap();
        reply["found"] == true
    }

    async fn pin(&self, space: usize, key: &str) -> Result<bool> {
        let reply = self.of_key(space, "pin", key, json!({})).await?;
        Ok(reply["found"] == true)
    }

    async fn unpin(&self, space: usize, key: &str) -> bool {
        let reply = self.of_key(space, "unpin", key, json!({})).await.unwrap();
        reply["found"] == true
    }

    async fn set(&self, space: usize, setting: &str, value: Option<u64>) -> Result<()> {
        let members = json!({"settings": {setting: value}});
        self.act(space, "namespace_set", members).await.map(drop)
    }

    async fn begin(&self, space: usize, replace_all: bool, size: Option<u64>) -> Result<String> {
        let mut members = json!({"replace_all": replace_all});
        if let Some(size) = size {
            members["size_bytes"] = json!(size);
        }
        let reply = self.act(space, "begin_load", members).await?;
        Ok(reply["load_id"].as_str().unwrap().to_owned())
    }

    async fn end(&self, space: usize, action: &str, load: &str) -> Result<u64> {
        let reply = self.act(space, action, json!({"load_id": load})).await?;
        Ok(reply["entries"].as_u64().unwrap())
    }
}

fn members(coming: &Coming) -> Value {
    let mode = match coming.mode {
        Mode::Create => "create",
        Mode::Keep => "keep",
        Mode::Replace => "replace",
    };
    let mut members = Map::new();
    members.insert("mode".to_owned(), json!(mode));
    members.insert("pin".to_owned(), json!(coming.pin));
    let version = coming.if_version.map(|version| version.to_string());
    let given = [
        ("ttl_ms", coming.ttl_ms.map(|ttl| json!(ttl))),
        ("if_version", version.map(|version| json!(version))),
        ("load_id", coming.load.as_ref().map(|load| json!(load))),
    ];
    for (name, value) in given {
        members.extend(value.map(|value| (name.to_owned(), value)));
    }
    Value::Object(members)
}

/// As many times what is put as `rows` says.
fn tensor(coming: &Coming, rows: &[usize]) -> Tensor {
    let content = &contents()[coming.content];
    Tensor {
        dtype: DType::UInt8,
        shape: rows.iter().copied().chain([content.len()]).collect(),
        bytes: content.repeat(rows.iter().product()),
    }
}

/// The rows of a stream, whichever layout it has.
pub fn rows(got: &Got) -> Vec<Seen> {
    let row = |(key, bytes)| Seen {
        key,
        bytes: Some(bytes),
        ..Seen::default()
    };
    let mut all = Vec::new();
    for batch in got.batches.iter().filter(|batch| batch.num_rows() > 0) {
        match batch.column_by_name("data") {
            Some(data) => {
                let data = data.as_binary::<i64>().iter();
                all.extend(data.map(|bytes| bytes.unwrap().to_vec()));
            }
            None => {
                let bytes = values(std::slice::from_ref(batch), "tensor");
                let each = bytes.chunks_exact(bytes.len() / batch.num_rows());
                all.extend(each.map(<[u8]>::to_vec));
            }
        }
    }
    let keys = got.texts("key");
    assert_eq!(keys.len(), all.len());
    keys.into_iter().zip(all).map(row).collect()
}

fn version(text: &Value) -> Version {
    Version::parse(text.as_str().unwrap()).unwrap()
}

pub fn said(error: FlightError) -> Error {
    let FlightError::Tonic(status) = error else {
        panic!("not an answer of the server: {error:?}");
    };
    let code = status.metadata().get("bowstring-code").unwrap();
    error_of(code.to_str().unwrap(), status.message().to_owned())
}

fn error_of(code: &str, message: String) -> Error {
    Error::new(Code::from_str(code).unwrap(), message)
}
