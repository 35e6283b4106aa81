//! Snapshots of a prefix: one stream, or partitions, beside puts, deletes and eviction.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arrow_flight::{FlightDescriptor, FlightInfo, Ticket};
use bowstring_tests::Server;
use bowstring_wire::dtype::DType;
use serde_json::{Value, json};

use crate::space::{Got, Space, refused};
use crate::tensor::{Tensor, bulk};

fn keys(count: usize) -> Vec<String> {
    (0..count).map(|key| format!("k{key:06}")).collect()
}

async fn put_all(space: &Space, keys: &[String], cell: usize, with: &Value) {
    for some in keys.chunks(2_000) {
        let some: Vec<&str> = some.iter().map(String::as_str).collect();
        let batch = bulk(&some, &Tensor::sample(DType::UInt8, &[some.len(), cell]));
        let said = space.bulk_with(with, batch).await.unwrap();
        assert_eq!(said["errors_total"], 0, "{said}");
    }
}

/// Keys, each met once, with their versions; and those that are said to have gone.
fn met(got: &Got) -> (BTreeMap<String, String>, BTreeSet<String>) {
    let keys = got.texts("key");
    let count = keys.len();
    let met: BTreeMap<_, _> = keys.into_iter().zip(got.texts("version")).collect();
    assert_eq!(met.len(), count, "a key came twice");
    let gone: BTreeSet<_> = got.closing("gone").expect("the end").into_iter().collect();
    assert!(gone.iter().all(|key| !met.contains_key(key)));
    (met, gone)
}

async fn partitions(space: &Space, members: &Value) -> FlightInfo {
    let info = space.info(space.command(members)).await.unwrap();
    assert!(info.ordered);
    for endpoint in &info.endpoint {
        assert!(endpoint.location.is_empty());
        assert!(endpoint.expiration_time.is_some());
    }
    info
}

fn ticket(info: &FlightInfo, at: usize) -> Ticket {
    info.endpoint[at].ticket.clone().expect("a ticket")
}

#[tokio::test]
async fn partitions_are_one_snapshot_in_parts() {
    let space = Space::new("partitions").await;
    let all = keys(5_000);
    put_all(&space, &all, 8, &json!({})).await;
    let ask = json!({"prefix": "k", "partitions": 7, "with": ["version"], "dtype": "uint8", "shape": [8]});
    let info = partitions(&space, &ask).await;
    assert_eq!(
        (info.endpoint.len(), info.total_records, info.total_bytes),
        (7, 5_000, 40_000)
    );

    // Before any of it is read: one key goes, one is replaced, one comes.
    space
        .act("delete", &json!({"keys": [all[10]]}))
        .await
        .unwrap();
    let again = Tensor::sample(DType::UInt8, &[3]);
    space
        .put_with(&json!({"key": all[4_990], "mode": "replace"}), &again)
        .await
        .unwrap();
    space.put("k000010a", &again).await.unwrap();

    let (mut met_all, mut gone_all) = (Vec::new(), BTreeSet::new());
    for at in [3, 0, 6, 1, 2, 4, 5] {
        let got = space.follow(ticket(&info, at)).await.unwrap();
        let (met, gone) = met(&got);
        assert!((600..=850).contains(&met.len()), "{at}: {}", met.len());
        met_all.extend(met.into_keys());
        gone_all.extend(gone);
        // A second time it is the same.
        let got = space.follow(ticket(&info, at)).await.unwrap();
        assert!((600..=850).contains(&got.rows()));
    }
    met_all.sort_unstable();
    let expected: Vec<&String> = all.iter().filter(|key| !gone_all.contains(*key)).collect();
    assert_eq!(met_all.iter().collect::<Vec<_>>(), expected);
    let gone: Vec<&String> = gone_all.iter().collect();
    assert_eq!(gone, [&all[10], &all[4_990]]);
}

#[tokio::test]
async fn fewer_keys_than_partitions_and_none() {
    let space = Space::new("few-partitions").await;
    let info = partitions(&space, &json!({"prefix": "", "partitions": 5})).await;
    assert_eq!((info.endpoint.len(), info.total_records), (1, 0));
    let got = space.follow(ticket(&info, 0)).await.unwrap();
    assert_eq!((got.rows(), got.closing("gone")), (0, Some(vec![])));
    put_all(&space, &keys(3), 8, &json!({})).await;
    let info = partitions(&space, &json!({"prefix": "", "partitions": 1024})).await;
    assert_eq!((info.endpoint.len(), info.total_records), (3, 3));
    for at in 0..3 {
        assert_eq!(space.follow(ticket(&info, at)).await.unwrap().rows(), 1);
    }
}

#[tokio::test]
async fn tickets_of_snapshots_that_are_not_kept() {
    let space = Space::new("old-partitions").await;
    put_all(&space, &keys(4), 8, &json!({})).await;
    let of = |members: Value| space.ticket(&members);
    let stranger = of(json!({"prefix": "", "snapshot": "12", "partition": 0}));
    refused(
        space.follow(stranger).await,
        "not_found",
        &["no such snapshot", "12"],
    );
    let info = partitions(&space, &json!({"prefix": "k", "partitions": 2})).await;
    let minted: Value = serde_json::from_slice(&ticket(&info, 1).ticket).unwrap();
    let snapshot = minted["snapshot"].as_str().expect("a snapshot").to_owned();
    for changed in [
        json!({"prefix": "", "snapshot": snapshot, "partition": 0}),
        json!({"namespace": "elsewhere", "prefix": "k", "snapshot": snapshot, "partition": 0}),
    ] {
        refused(space.follow(of(changed)).await, "not_found", &[&snapshot]);
    }
    let third = of(json!({"prefix": "k", "snapshot": snapshot, "partition": 2}));
    refused(
        space.follow(third).await,
        "invalid_argument",
        &["partition=`2` expected less than 2"],
    );
    let asked = of(json!({"prefix": "k", "partitions": 2}));
    refused(
        space.follow(asked).await,
        "invalid_argument",
        &["GetFlightInfo"],
    );
    // A partition has an info of its own.
    let one = FlightDescriptor::new_cmd(ticket(&info, 1).ticket);
    assert_eq!(space.info(one).await.unwrap().total_records, 2);
}

#[tokio::test]
async fn only_so_many_are_kept() {
    let server = Arc::new(Server::builder().memory("256MiB").start());
    let space = Space::on(server, "many-snapshots").await;
    put_all(&space, &keys(4), 8, &json!({})).await;
    let ask = space.command(&json!({"prefix": "", "partitions": 2}));
    for _ in 0..64 {
        space.info(ask.clone()).await.unwrap();
    }
    refused(
        space.info(ask).await,
        "resource_exhausted",
        &["snapshots_max", "64"],
    );
    // One stream needs none of them.
    assert_eq!(space.get(&json!({"prefix": ""})).await.unwrap().rows(), 4);
}

/// Ten times the memory is put while all of it is read again and again: every key of the snapshot
/// is met or named, and puts go on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_cache_is_exported_beside_writers() {
    let server = Arc::new(Server::builder().memory("256MiB").start());
    let space = Space::on(Arc::clone(&server), "export").await;
    // More than it holds: it is full, and goes on evicting.
    put_all(&space, &keys(100_000), 3_000, &json!({})).await;
    let stop = Arc::new(AtomicBool::new(false));
    let writer = tokio::spawn({
        let (stop, client) = (Arc::clone(&stop), space.clone_client());
        let space = Space {
            server,
            client,
            namespace: space.namespace.clone(),
        };
        async move {
            let mut round = 0;
            while !stop.load(Ordering::Relaxed) {
                let new: Vec<String> = (0..1_000)
                    .map(|key| format!("n{round:04}{key:06}"))
                    .collect();
                put_all(&space, &new, 3_000, &json!({})).await;
                round += 1;
            }
            round
        }
    });
    for _ in 0..3 {
        let ask = json!({"prefix": "", "with": ["version"]});
        let info = space.info(space.command(&ask)).await.unwrap();
        let got = space.get(&ask).await.unwrap();
        let (met, gone) = met(&got);
        assert!(met.len() > 1_000, "met {}, gone {}", met.len(), gone.len());
        let there = usize::try_from(info.total_records).unwrap();
        assert!(met.len() + gone.len() > there / 2, "{there}");
    }
    stop.store(true, Ordering::Relaxed);
    assert!(writer.await.unwrap() > 0);
}
