//! Files that the settings attach: there from the first moment on, after each start, and for a successor.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use bowstring_tests::{Builder, Server};
use bowstring_wire::dtype::DType;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::attach::{Files, ROWS, is_as_written, key, number};
use crate::space::{Space, refused};
use crate::sql::{client, query, rows};
use crate::tensor::Tensor;

/// A settings file, and what else a server of it keeps.
struct Settings(TempDir);

impl Settings {
    fn new() -> Self {
        Self(TempDir::new().unwrap())
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.0.path().join(name)
    }

    /// `server` with this text as its settings file.
    fn of(&self, server: Builder, text: &str) -> Builder {
        let path = self.path("bowstring.toml");
        fs::write(&path, text).unwrap();
        server.flag("--config", path)
    }
}

fn attaching(namespace: &str, file: &str) -> String {
    format!("[attach.\"{namespace}\"]\nfiles = [\"{file}\"]\n")
}

async fn space(server: &Arc<Server>, namespace: &str) -> Space {
    let mut space = Space::on(Arc::clone(server), namespace).await;
    space.namespace = namespace.to_owned();
    space
}

async fn attached(space: &Space) -> Value {
    let listed = space.act_raw("namespaces", "{}").await.unwrap();
    let listed: Value = serde_json::from_slice(&listed[0]).unwrap();
    let mut all = listed["namespaces"].as_array().unwrap().iter();
    let found = all.find(|of| of["namespace"] == json!(space.namespace));
    found.unwrap()["attached"].clone()
}

#[tokio::test]
async fn what_the_settings_attach_is_there_after_each_start() {
    let (files, settings) = (Files::new(), Settings::new());
    let text = format!(
        "{}columns = {{ key = \"key\", tensor = \"tensor\" }}\n[attach.\"other\"]\nfiles = [\"{}\"]\n\
         [namespace.\"users\"]\nbytes_max = 1048576\n",
        attaching("users", &files.text("")),
        files.text("b.arrow"),
    );
    let builder = settings.of(files.server("64MiB"), &text);
    for _ in 0..2 {
        let server = Arc::new(builder.start());
        let users = space(&server, "users").await;
        is_as_written(&users, 5).await;
        is_as_written(&users, ROWS - 1).await;
        assert_eq!(number(&attached(&users).await["rows"]), ROWS as u64);
        let other = space(&server, "other").await;
        is_as_written(&other, 1_300).await;
        refused(other.tensor(&key(5)).await, "not_found", &[]);
        let told = server.said("attached").await;
        assert!(
            told.contains("users") || told.contains("other"),
            "which: {told}"
        );
        let mut sql = client(&server).await;
        let text = "SELECT namespace, attached_rows, bytes_max FROM namespaces ORDER BY 1";
        assert_eq!(
            rows(&query(&mut sql, text).await.unwrap()),
            ["other 1200 ", &*format!("users {ROWS} 1048576")]
        );

        // Until the next start only.
        let index = async || server.stats().await.memory.accounts["index"].used_bytes;
        let before = index().await;
        let gone = users.act("detach", &json!({})).await.unwrap();
        assert_eq!(number(&gone["rows"]), ROWS as u64);
        // Each key was paid for, though it was read before there was a cache.
        let keys = ROWS as u64 * (10 + 12);
        let after = index().await;
        assert!(before >= after + keys, "{before} {after}");
        refused(users.tensor(&key(5)).await, "not_found", &[]);
        let tensor = Tensor::sample(DType::Int8, &[3]);
        users.put(&key(5), &tensor).await.unwrap();
    }
}

#[test]
fn what_cannot_be_attached_ends_the_start() {
    let (files, settings, elsewhere) = (Files::new(), Settings::new(), TempDir::new().unwrap());
    fs::copy(
        files.path("a.parquet"),
        elsewhere.path().join("out.parquet"),
    )
    .unwrap();
    fs::write(files.path("broken.parquet"), b"PAR1 and no more").unwrap();
    let outside = elsewhere.path().join("out.parquet").display().to_string();
    let twice = format!(
        "[attach.\"users\"]\nfiles = [\"{0}\", \"{1}\"]\n",
        files.text("a.parquet"),
        files.text("copy.parquet")
    );
    fs::copy(files.path("a.parquet"), files.path("copy.parquet")).unwrap();
    let no_column = format!(
        "{}columns = {{ tensor = \"vector\" }}\n",
        attaching("users", &files.text("a.parquet"))
    );
    for (text, words) in [
        (
            attaching("users", &files.text("none.parquet")),
            &["none.parquet", "not_found"][..],
        ),
        (
            attaching("users", &outside),
            &["out.parquet", "load_roots", "permission_denied"],
        ),
        (
            attaching("users", &files.text("broken.parquet")),
            &["broken.parquet"],
        ),
        (twice, &["copy.parquet", "twice"]),
        (no_column, &["a.parquet", "vector"]),
    ] {
        let told = settings.of(files.server("64MiB"), &text).fail();
        assert_eq!((told.code, &*told.stdout), (Some(2), ""), "{told:?}");
        for word in ["cannot attach", "namespace=`users`"].iter().chain(words) {
            assert!(told.stderr.contains(word), "{word}: {told:?}");
        }
    }
    let text = attaching("users", &files.text("a.parquet"));
    let none = settings.of(Server::builder().memory("64MiB"), &text).fail();
    assert_eq!(none.code, Some(2), "{none:?}");
    assert!(none.stderr.contains("load_roots=`none`"), "{none:?}");
    let many = format!("[attach.\"users\"]\nfile = \"{}\"\n", files.text(""));
    let unknown = settings.of(files.server("64MiB"), &many).fail();
    assert_eq!(unknown.code, Some(2), "{unknown:?}");
    assert!(unknown.stderr.contains("member=`file`"), "{unknown:?}");
}

#[tokio::test]
async fn a_namespace_with_entries_in_the_cold_tier_ends_the_start() {
    let (files, settings) = (Files::new(), Settings::new());
    let cold = |path: &Path| {
        let store = format!("file://{}", path.join("store").display());
        let server = files.server("64MiB").flag("--cold", store);
        server.flag("--state-dir", path.join("state"))
    };
    let before = cold(settings.0.path());
    let server = Arc::new(before.start());
    let users = space(&server, "users").await;
    let tensor = Tensor::sample(DType::Int8, &[3]);
    users.put("mine", &tensor).await.unwrap();
    users.act("flush", &json!({})).await.unwrap();
    drop((users, server));
    let text = attaching("users", &files.text("a.parquet"));
    let after = settings.of(cold(settings.0.path()), &text);
    let told = after.fail();
    assert_eq!(told.code, Some(2), "{told:?}");
    for word in ["cannot attach", "namespace=`users`", "empty"] {
        assert!(told.stderr.contains(word), "{word}: {told:?}");
    }
    // It says what to do, and that helps.
    let server = Arc::new(before.start());
    let users = space(&server, "users").await;
    assert_eq!(users.tensor("mine").await.unwrap().bytes, tensor.bytes);
    users.act("clear", &json!({"confirm": true})).await.unwrap();
    drop((users, server));
    let server = Arc::new(after.start());
    is_as_written(&space(&server, "users").await, 7).await;
}

#[tokio::test]
async fn a_successor_attaches_what_its_own_settings_say() {
    let (files, settings) = (Files::new(), Settings::new());
    let server = || {
        let server = files.server("64MiB");
        server.flag("--takeover", settings.path("takeover"))
    };
    let text = attaching("users", &files.text(""));
    let first = Arc::new(settings.of(server(), &text).start());
    let (users, own) = (space(&first, "users").await, space(&first, "own").await);
    is_as_written(&users, 1).await;
    let tensor = Tensor::sample(DType::Float32, &[9]);
    own.put("mine", &tensor).await.unwrap();
    drop((users, own));

    let successor = settings.of(server(), &text).start();
    assert_eq!(Arc::into_inner(first).unwrap().ended().await, Some(0));
    let taken = successor.said("taken over").await;
    assert!(taken.contains(" entries=1 "), "{taken}");
    let second = Arc::new(successor);
    let users = space(&second, "users").await;
    is_as_written(&users, 1).await;
    is_as_written(&users, 2).await;
    let own = space(&second, "own").await;
    assert_eq!(own.tensor("mine").await.unwrap().bytes, tensor.bytes);
    users.act("detach", &json!({})).await.unwrap();
    drop((users, own));

    // One that does not say so has it no more.
    let successor = settings.of(server(), "").start();
    assert_eq!(Arc::into_inner(second).unwrap().ended().await, Some(0));
    successor.said("taken over").await;
    let third = Arc::new(successor);
    let users = space(&third, "users").await;
    refused(users.tensor(&key(1)).await, "not_found", &[]);
}

#[tokio::test]
async fn a_successor_that_cannot_attach_leaves_its_predecessor_all_that_it_has() {
    let (files, settings) = (Files::new(), Settings::new());
    let server = || {
        let server = files.server("64MiB");
        server.flag("--takeover", settings.path("takeover"))
    };
    let first = Arc::new(server().start());
    let tensor = Tensor::sample(DType::Float32, &[3, 50_000]);
    let users = space(&first, "users").await;
    users.put("mine", &tensor).await.unwrap();
    drop(users);
    for (file, word) in [("none.parquet", "none.parquet"), ("a.parquet", "empty")] {
        let text = attaching("users", &files.text(file));
        let told = settings.of(server(), &text).fail();
        assert_eq!(told.code, Some(2), "{told:?}");
        for word in ["cannot attach", "namespace=`users`", word] {
            assert!(told.stderr.contains(word), "{word}: {told:?}");
        }
        let users = space(&first, "users").await;
        assert_eq!(users.tensor("mine").await.unwrap().bytes, tensor.bytes);
        users.put("more", &tensor).await.unwrap();
    }
    // And can still be replaced.
    let text = attaching("rows", &files.text("a.parquet"));
    let successor = settings.of(server(), &text).start();
    assert_eq!(Arc::into_inner(first).unwrap().ended().await, Some(0));
    let second = Arc::new(successor);
    let users = space(&second, "users").await;
    assert_eq!(users.tensor("mine").await.unwrap().bytes, tensor.bytes);
    is_as_written(&space(&second, "rows").await, 3).await;
}
