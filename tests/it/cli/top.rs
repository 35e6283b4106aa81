//! `top`: what a server does.

use std::io::{BufRead as _, BufReader};
use std::sync::Arc;

use arrow_flight::{FlightClient, FlightDescriptor};
use bowstring_tests::{Cli, Server};
use bowstring_wire::dtype::DType;
use futures::TryStreamExt as _;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::cells;
use crate::space::{Space, encoded};
use crate::tensor::{Tensor, bulk};

#[tokio::test]
async fn one_sample_where_there_is_no_terminal() {
    let server = Arc::new(Server::start());
    let space = Space::on(server.clone(), "top").await;
    let tensors = Tensor::sample(DType::Float32, &[3, 5]);
    space.bulk(bulk(&["a", "b", "c"], &tensors)).await.unwrap();
    let told = Cli::new(server.uri(), ["top", "--interval", "50ms"]).told();
    assert_eq!((told.code, &*told.stderr), (Some(0), ""));
    assert!(!told.stdout.contains('\u{1b}'), "{told:?}");
    let lines: Vec<_> = told.stdout.lines().map(cells).collect();
    assert!(lines[0].contains(&"3 entries"), "{lines:?}");
    let row = lines.last().unwrap();
    assert_eq!(row[..], [&space.namespace, "0", "–", "0", "3", "60 B"]);
    let [sample] = Cli::new(server.uri(), ["top", "--once", "--json", "-i", "50ms"])
        .told()
        .json()
        .try_into()
        .unwrap();
    assert_eq!(
        (&sample["entries"], &sample["hit_ratio"]),
        (&3.into(), &Value::Null)
    );
    assert_eq!(sample["memory"]["limit_bytes"], 256 << 20);
    assert_eq!(sample["namespaces"][0]["namespace"], space.namespace);
    assert!(sample["connections"].as_u64() >= Some(2), "{sample}");
}

/// Programs get a line a sample, until they have enough; a server that is started anew is found again.
#[tokio::test]
async fn a_server_that_is_started_anew_is_watched_on() {
    let folder = tempfile::tempdir().unwrap();
    let address = format!("unix:{}", folder.path().join("b.sock").display());
    let server = || Server::builder().listen([&*address]).start();
    let mut first = server();
    let channel = bowstring_tests::channel(first.uri()).await.unwrap();
    let mut client = FlightClient::new(channel);
    let descriptor = FlightDescriptor::new_path(vec!["a".to_owned()]);
    let batch = Tensor::sample(DType::Int8, &[3]).batch();
    let put = encoded(descriptor, batch.schema(), vec![batch]);
    let replies = client.do_put(put).await.unwrap();
    replies.try_collect::<Vec<_>>().await.unwrap();

    let mut child = Cli::new(&address, ["top", "--json", "--interval", "20ms"]).spawn();
    let mut samples = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut said = BufReader::new(child.stderr.take().unwrap()).lines();
    let mut sample = || serde_json::from_str::<Value>(&samples.next().unwrap().unwrap()).unwrap();
    let before = sample();
    let after = sample();
    assert!(before["uptime_ms"].as_u64() < after["uptime_ms"].as_u64());
    assert_eq!(after["entries"], 1);
    first.kill();
    let gone = said.next().unwrap().unwrap();
    assert!(gone.contains("no server answers, trying again"), "{gone}");
    let _second = server();
    // Some samples of the old one may still be in the pipe.
    while sample()["entries"] != 0 {}
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    kill_process(pid.unwrap(), Signal::INT).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130));
}

#[test]
fn no_server_is_4() {
    let told = Cli::new("127.0.0.1:1", ["top"]).told();
    assert_eq!(told.code, Some(4), "{told:?}");
}
