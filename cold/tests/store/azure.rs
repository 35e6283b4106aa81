//! A server of Azure's blob storage: Azurite, as `tests/run` installs it from npm.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use bowstring_cache::clock::{Clock, SystemClock};
use bowstring_cold::store::Store;
use hyper::Method;
use object_store::ClientOptions;
use object_store::azure::{
    AzureAccessKey, AzureAuthorizer, AzureCredential, MicrosoftAzureBuilder,
};
use object_store::client::{HttpConnector, HttpRequest, HttpRequestBody, ReqwestConnector};
use tempfile::TempDir;

use crate::contract::Races;
use crate::{contract, installed, patient, run};

/// The account that Azurite always has.
const ACCOUNT: &str = "devstoreaccount1";
const KEY: &str =
    "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";

/// A server that ends with the test.
struct Azurite {
    process: Child,
    endpoint: String,
    _dir: TempDir,
}

impl Azurite {
    async fn start(program: PathBuf) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("log");
        let process = Command::new("node")
            .arg(program)
            .args([
                "--blobPort",
                "0",
                "--inMemoryPersistence",
                "--disableTelemetry",
            ])
            .stdin(Stdio::null())
            .stdout(File::create(&log).unwrap())
            .spawn()
            .unwrap();
        let mut azurite = Self {
            process,
            endpoint: String::new(),
            _dir: dir,
        };
        let clock = SystemClock::new();
        while azurite.endpoint.is_empty() {
            clock.sleep(Duration::from_millis(20)).await;
            assert!(
                azurite.process.try_wait().unwrap().is_none(),
                "it has ended"
            );
            let said = fs::read_to_string(&log).unwrap();
            let up = said.lines().find_map(|line| line.split_once("listens on "));
            if let Some((_, up)) = up {
                azurite.endpoint = format!("{}/{ACCOUNT}", up.trim());
            }
        }
        azurite
    }

    fn builder(&self) -> MicrosoftAzureBuilder {
        MicrosoftAzureBuilder::new()
            .with_account(ACCOUNT)
            .with_access_key(KEY)
            .with_endpoint(self.endpoint.clone())
            .with_allow_http(true)
            .with_url("az://bucket/a/prefix")
    }

    /// Containers are made by those who own an account, not by those who write to it.
    async fn make_container(&self) {
        let uri = format!("{}/bucket?restype=container", self.endpoint);
        let request = hyper::Request::builder().method(Method::PUT).uri(uri);
        let request = request.header("content-length", "0");
        let mut request: HttpRequest = request.body(HttpRequestBody::empty()).unwrap();
        let key = AzureCredential::AccessKey(AzureAccessKey::try_new(KEY).unwrap());
        AzureAuthorizer::new(&key, ACCOUNT).authorize(&mut request);
        let options = ClientOptions::new().with_allow_http(true);
        let client = ReqwestConnector::default().connect(&options).unwrap();
        let made = client.execute(request).await.unwrap();
        assert_eq!(made.status(), 201, "{made:?}");
    }
}

impl Drop for Azurite {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn azurite() {
    let Some(program) = installed("azurite/node_modules/azurite/dist/src/blob/main.js") else {
        return;
    };
    run(async {
        let azurite = Azurite::start(program).await;
        azurite.make_container().await;
        let (url, clock) = ("az://bucket/a/prefix", Arc::new(SystemClock::new()));
        let store = Store::azure(azurite.builder(), url, patient(), clock).unwrap();
        contract::all(&store, Races::Decided).await;
    });
}
