//! `bowstring bench` against a real server: what it counts, and what it says where it cannot.

use std::process::{Command, Output};

use bowstring_tests::{Server, binary};
use serde_json::Value;

fn bench(endpoint: &str, flags: &[&str]) -> Output {
    let mut command = Command::new(binary());
    command.args(["bench", "--endpoint", endpoint]).args(flags);
    command.output().unwrap()
}

fn told(output: &Output) -> Value {
    let error = String::from_utf8_lossy(&output.stderr);
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("no JSON: {error}"))
}

fn complaint(output: &Output) -> (i32, String) {
    let said = String::from_utf8(output.stderr.clone()).unwrap();
    (output.status.code().unwrap(), said)
}

#[tokio::test]
async fn every_operation_is_counted_once() {
    let server = Server::start();
    for (via, pipeline, threads) in [("mux", "8", "2"), ("flight", "1", "1"), ("mux", "1", "3")] {
        let flags = [
            "--json",
            "--namespace",
            via,
            "--via",
            via,
            "--pipeline",
            pipeline,
            "--concurrency",
            "3",
            "--threads",
            threads,
            "--size",
            "64:3,70KiB:1",
            "--keys",
            "50",
            "--zipf",
            "0.99",
            "--read-share",
            "0.7",
            "--operations",
            "500",
        ];
        let output = bench(server.uri(), &flags);
        assert!(output.status.success(), "{output:?}");
        let told = told(&output);
        let count = |kind: &str| told[kind]["operations"].as_u64().unwrap();
        assert_eq!(count("get") + count("put"), 500, "{told}");
        assert!(count("get") > count("put") && count("put") > 0, "{told}");
        for none in ["misses", "missed", "failed", "wrong"] {
            assert_eq!(told[none], 0, "{none}");
        }
        assert_eq!(told["protocol"], via);
        assert!(told["get"]["max_us"].as_f64() >= told["get"]["p50_us"].as_f64());
    }
    assert_eq!(server.stats().await.entries, 100);
}

#[test]
fn a_rate_is_kept_to() {
    let server = Server::start();
    let flags = ["--json", "--rate", "200", "--duration", "500ms"];
    let told = told(&bench(
        server.uri(),
        &[&flags[..], &["--keys", "10"]].concat(),
    ));
    let done = told["get"]["operations"].as_u64().unwrap();
    // However slow the machine is: what was not started in time is said.
    assert_eq!(done + told["missed"].as_u64().unwrap(), 100, "{told}");
}

#[test]
fn what_is_not_there_is_a_miss_and_other_bytes_are_told() {
    let server = Server::start();
    let flags = ["--operations", "20", "--keys", "5"];
    let absent = bench(
        server.uri(),
        &[&flags[..], &["--json", "--no-load"]].concat(),
    );
    assert!(absent.status.success());
    assert_eq!(told(&absent)["misses"], 20);

    let table = bench(server.uri(), &[&flags[..], &["--size", "1KiB"]].concat());
    let table = String::from_utf8(table.stdout).unwrap();
    assert!(
        table.contains("5 of 1KiB") && table.contains("\nget "),
        "{table}"
    );

    let other = bench(server.uri(), &[&flags[..], &["--no-load"]].concat());
    let (code, said) = complaint(&other);
    assert_eq!(code, 1);
    assert!(said.contains("20 gets returned other bytes"), "{said}");
}

#[test]
fn a_person_is_told_what_to_do() {
    let (code, said) = complaint(&bench("127.0.0.1:1", &[]));
    assert_eq!(code, 1);
    assert!(said.contains("endpoint=`grpc://127.0.0.1:1`"), "{said}");
    let (code, said) = complaint(&bench("redis://127.0.0.1:1", &[]));
    assert_eq!(code, 1);
    assert!(said.contains("endpoint=`redis://127.0.0.1:1`"), "{said}");
    let (code, said) = complaint(&bench("127.0.0.1:1", &["--size", "2MiB", "--via", "mux"]));
    assert_eq!(code, 2);
    assert!(said.contains("use --via flight"), "{said}");
}
