//! An S3 server of the test's own, whose answers the test may spoil, and a real one.

use std::sync::Arc;
use std::time::Duration;

use bowstring_cache::clock::SystemClock;
use bowstring_cold::entry::Number;
use bowstring_cold::store::{Folder, ObjectName, Store, StoreError, StoreSettings};
use bowstring_tests::{S3, Spoiled};
use futures::future::join_all;
use hyper::StatusCode;
use object_store::aws::AmazonS3Builder;

use crate::contract::Races;
use crate::failing::mixed;
use crate::{bytes, contract, patient, run};

/// Rarely a store this bad: 503 on 10 in a hundred, 429 on 5, a reset on 15, late 10, cut 10.
fn bad_day(nth: u64) -> Option<Spoiled> {
    match mixed(nth) % 100 {
        0..10 => Some(Spoiled::Status(StatusCode::SERVICE_UNAVAILABLE)),
        10..15 => Some(Spoiled::Status(StatusCode::TOO_MANY_REQUESTS)),
        15..30 => Some(Spoiled::Reset {
            done: nth.is_multiple_of(2),
        }),
        30..40 => Some(Spoiled::Late(LATE)),
        40..50 => Some(Spoiled::Cut),
        _ => None,
    }
}

/// Longer than the client waits.
const LATE: Duration = Duration::from_millis(700);

pub fn builder(endpoint: &str) -> AmazonS3Builder {
    AmazonS3Builder::new()
        .with_endpoint(endpoint)
        .with_allow_http(true)
        .with_region("us-east-1")
        .with_access_key_id("test")
        .with_secret_access_key("secret")
        .with_url("s3://bucket/a/prefix")
}

fn open(server: &S3, settings: StoreSettings) -> Store {
    let clock = Arc::new(SystemClock::new());
    Store::s3(
        builder(&server.endpoint()),
        "s3://bucket/a/prefix",
        settings,
        clock,
    )
    .unwrap()
}

#[test]
fn s3_in_process() {
    run(async {
        let server = S3::start().await;
        contract::all(&open(&server, patient()), Races::Undecided).await;
    });
}

/// Nothing is wrong, nothing is half there, and what was acknowledged is there.
#[test]
fn s3_on_a_bad_day() {
    run(async {
        let server = S3::start().await;
        server.spoil(bad_day);
        let settings = StoreSettings {
            concurrency: 128,
            timeout: Duration::from_millis(600),
            ..StoreSettings::default()
        };
        let store = open(&server, settings);
        let all = (0..400u64).map(|n| {
            let store = store.clone();
            async move {
                let name = ObjectName::Segment(Number(n));
                let data = bytes(n, 20_000);
                let created = store.create(&name, vec![data.clone()]).await;
                let mut read = 0;
                for at in (0..20_000).step_by(2_000) {
                    match store.read(&name, at..at + 2_000).await {
                        Ok(got) => {
                            assert_eq!(got, data.slice(at as usize..at as usize + 2_000));
                            read += 1;
                        }
                        Err(StoreError::Timeout | StoreError::Failed(_)) => {}
                        Err(error) => {
                            assert_eq!((error, created.is_ok()), (StoreError::NotFound, false))
                        }
                    }
                }
                (u64::from(created.is_ok()), read)
            }
        });
        let all = join_all(all).await;
        let (created, read) = all
            .iter()
            .fold((0, 0), |(a, b), one| (a + one.0, b + one.1));
        assert!(created > 350 && read > 2_500, "{created} {read}");
        let listed = store.list(Folder::Segments).await.unwrap();
        assert!(listed.len() as u64 >= created && listed.iter().all(|one| one.bytes == 20_000));

        let data = bytes(1, (17 << 20) + 1);
        let mut uploaded = 0;
        for n in 1000..1005 {
            let name = ObjectName::Segment(Number(n));
            let done = async {
                let mut upload = store.upload(&name, data.len() as u64).await?;
                upload.write(data.clone()).await?;
                upload.finish().await
            };
            if done.await.is_ok() {
                uploaded += 1;
                let there = loop {
                    match store.read_all(&name, 1 << 30).await {
                        Err(StoreError::Timeout | StoreError::Failed(_)) => {}
                        there => break there.unwrap(),
                    }
                };
                assert!(there == data);
            }
        }
        assert!(uploaded > 0);
        let counters = store.counters();
        assert!(
            counters.retries > 1_000 && counters.timeouts > 100,
            "{counters:?}"
        );
        assert!(server.requests() >= 4_400);
    });
}

#[test]
fn wrong_credentials_are_a_refusal_and_not_tried_again() {
    run(async {
        let server = S3::start().await;
        let wrong = builder(&server.endpoint()).with_secret_access_key("hunter2");
        let clock = Arc::new(SystemClock::new());
        let store = Store::s3(wrong, "s3://bucket/a/prefix", patient(), clock).unwrap();
        let refused = store.read_all(&ObjectName::Epoch(1), 10).await.unwrap_err();
        assert!(matches!(refused, StoreError::Refused(_)), "{refused}");
        assert!(!refused.to_string().contains("hunter2"), "{refused}");
        assert_eq!(server.requests(), 1);
    });
}
