//! Flags before environment before file before defaults; what cannot be is refused with exit code 2.

use std::fs;

use bowstring_tests::{Builder, Server};
use serde_json::Value;

const MIB: u64 = 1 << 20;

/// No flags but the two addresses.
fn bare() -> Builder {
    Server::builder()
        .bare()
        .listen(["127.0.0.1:0"])
        .flag("--http", "127.0.0.1:0")
}

async fn memory(server: &Server) -> u64 {
    server.stats().await.memory.limit_bytes
}

#[tokio::test]
async fn flags_before_environment_before_file() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("bowstring.toml");
    let text =
        "memory = \"64MiB\"\nconnections_max = 7\nlog_format = \"json\"\nput_idle = \"9s\"\n";
    fs::write(&file, text).unwrap();
    // The line that says it is ready says what it goes by.
    let ready = async |server: &Server| {
        let line = server.said("connections_max").await;
        serde_json::from_str::<Value>(&line).unwrap_or_else(|_| panic!("not JSON: {line}"))
    };

    let server = bare().flag("--config", &file).start();
    assert_eq!(memory(&server).await, 64 * MIB);
    assert!(
        ready(&server)
            .await
            .to_string()
            .contains("\"connections_max\":7")
    );

    let from_environment = bare()
        .flag("--config", &file)
        .variable("BOWSTRING_MEMORY", "96MiB");
    let server = from_environment.start();
    assert_eq!(memory(&server).await, 96 * MIB);
    assert!(
        ready(&server)
            .await
            .to_string()
            .contains("\"connections_max\":7")
    );

    let server = from_environment.memory("128MiB").start();
    assert_eq!(memory(&server).await, 128 * MIB);

    // The file itself by the environment.
    let server = bare().variable("BOWSTRING_CONFIG", &file).start();
    assert_eq!(memory(&server).await, 64 * MIB);
    // An empty variable is how charts leave a setting out.
    let server = bare()
        .flag("--config", &file)
        .variable("BOWSTRING_MEMORY", "")
        .start();
    assert_eq!(memory(&server).await, 64 * MIB);
}

#[tokio::test]
async fn a_list_is_taken_whole_from_one_place() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("bowstring.toml");
    let text = "listen = [\"127.0.0.1:0\", \"127.0.0.1:0\", \"[::1]:0\"]\nhttp = \"127.0.0.1:0\"\n";
    // A machine without IPv6 has two addresses of the list.
    let has_ipv6 = std::net::TcpListener::bind("[::1]:0").is_ok();
    let text = if has_ipv6 {
        text.to_owned()
    } else {
        text.replace(", \"[::1]:0\"", "")
    };
    fs::write(&file, text).unwrap();
    let builder = Server::builder()
        .bare()
        .memory("64MiB")
        .flag("--config", &file);
    assert_eq!(
        builder.clone().start().uris().len(),
        if has_ipv6 { 3 } else { 2 }
    );
    let listed = builder.variable("BOWSTRING_LISTEN", "127.0.0.1:0, 127.0.0.1:0");
    assert_eq!(listed.clone().start().uris().len(), 2);
    assert_eq!(listed.listen(["127.0.0.1:0"]).start().uris().len(), 1);
}

#[tokio::test]
async fn memory_may_be_a_share() {
    let server = bare().memory("1%").start();
    let whole = memory(&server).await;
    assert!(whole > 0);
    let server = bare().memory("2%").start();
    let twice = memory(&server).await;
    assert!(twice.abs_diff(2 * whole) <= 2 * MIB, "{whole} {twice}");
}

#[test]
fn what_cannot_be_is_exit_code_2_and_a_sentence() {
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = directory.path().join(name);
        fs::write(&path, text).unwrap();
        bare().flag("--config", &path)
    };
    let cases: Vec<(Builder, &[&str])> = vec![
        (bare().flag("--memory", "much"), &["--memory", "much"]),
        (bare().memory("1KiB"), &["memory"]),
        (bare().flag("--colour", "red"), &["--colour"]),
        (bare().flag("--eviction", "random"), &["random", "tinylfu"]),
        (bare().flag("--cold", "tape://7"), &["tape://7"]),
        (bare().flag("--write-policy", "always"), &["on_evict"]),
        (bare().flag("--put-idle", "60"), &["60", "unit"]),
        (bare().flag("--connections-max", "0"), &["connections-max"]),
        (
            bare().memory("64MiB").flag("--connections-max", "60000"),
            &["connections_max", "60000"],
        ),
        (
            bare().flag("--config", "/nowhere/b.toml"),
            &["/nowhere/b.toml"],
        ),
        (
            bare().variable("BOWSTRING_MEMROY", "1GiB"),
            &["BOWSTRING_MEMROY", "BOWSTRING_MEMORY"],
        ),
        (
            bare().variable("BOWSTRING_MEMORY", "much"),
            &["BOWSTRING_MEMORY", "much"],
        ),
        (
            file("a.toml", "memroy = \"1GiB\""),
            &["memroy", "memory", "a.toml"],
        ),
        (
            file("b.toml", "memory = \"much\""),
            &["memory", "much", "b.toml"],
        ),
        (file("c.toml", "memory = "), &["c.toml"]),
        (
            file("d.toml", "memory = \"1GiB\"\nmemory = \"2GiB\""),
            &["duplicate", "d.toml"],
        ),
        (file("e.toml", "put_idle = 60"), &["put_idle", "e.toml"]),
        (
            file("f.toml", "[namespace.\"x\"]\nmemory_max = 5"),
            &["namespace `x`", "memory_max", "f.toml"],
        ),
        (
            Server::builder()
                .bare()
                .listen(["nonsense"])
                .flag("--http", "127.0.0.1:0"),
            &["nonsense"],
        ),
    ];
    for (builder, words) in cases {
        let refusal = builder.fail();
        assert_eq!(refusal.code, Some(2), "{builder:?}: {}", refusal.stderr);
        assert_eq!(refusal.stdout, "");
        for word in words {
            assert!(
                refusal.stderr.contains(word),
                "expected {word:?}: {}",
                refusal.stderr
            );
        }
    }
}

#[tokio::test]
async fn the_eviction_policy_is_the_one_that_was_set() {
    for policy in ["lru", "s3fifo", "sieve", "tinylfu", "adaptive"] {
        let server = bare().memory("32MiB").flag("--eviction", policy).start();
        let eviction = server.stats().await.eviction;
        assert_eq!(eviction.policy, policy);
        assert!(policy == "adaptive" || eviction.follows == policy);
        let (_, page) = server.http_get("/metrics");
        let info = format!("bowstring_eviction_info{{policy=\"{policy}\"");
        assert!(page.contains(&info), "{page}");
    }
}
