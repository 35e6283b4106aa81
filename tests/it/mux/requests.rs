//! What requests ask and replies say.

use std::thread;

use bowstring_client::mux::{GetOptions, PutOptions};
use bowstring_client::{Code, DType, Mux, Shape};
use bowstring_tests::Server;
use bowstring_wire::descriptor::Mode;
use serde_json::json;
use twox_hash::XxHash3_128;

use super::{content, open, put_bytes};
use crate::space::Space;
use crate::tensor::Tensor;

#[test]
fn what_was_put_is_got_with_its_description() {
    let server = Server::shared();
    let mux = open(&server, "mux.put_get");
    for (dtype, dims) in [
        (DType::Float32, &[2, 3][..]),
        (DType::Complex64, &[3]),
        (DType::BFloat16, &[]),
        (DType::Int64, &[4, 0]),
        (DType::UInt8, &[70_000]),
        (DType::UInt8, &[1 << 20]),
    ] {
        let shape = Shape::new(dims).unwrap();
        let bytes = content(
            dims.len(),
            usize::try_from(shape.bytes(dtype).unwrap()).unwrap(),
        );
        let key = format!("{dtype}{shape}");
        let put = |mode| {
            let options = PutOptions {
                mode,
                checksum: Some(XxHash3_128::oneshot(&bytes)),
                ..PutOptions::default()
            };
            mux.put(&key, dtype, &shape, &bytes, options).unwrap()
        };
        let (version, existed) = put(None);
        assert!(!existed);
        assert_eq!(put(None), (version, true), "the same again");
        let (tensor, got) = mux.get(&key).unwrap();
        assert!(got == bytes, "{key}");
        assert_eq!((tensor.dtype, &tensor.shape), (dtype, &shape));
        assert_eq!(tensor.version, version);
        assert_eq!(tensor.checksum, Some(XxHash3_128::oneshot(&bytes)));
        assert_eq!(mux.exists(&key).unwrap(), Some(tensor));
        assert_ne!(put(Some(Mode::Replace)).0, version);
    }
    assert_eq!(mux.exists("missing").unwrap(), None);
    assert!(mux.is_open());
}

#[test]
fn rows_and_versions() {
    let server = Server::shared();
    let mux = open(&server, "mux.rows");
    let shape = Shape::new(&[10, 30_000]).unwrap();
    let bytes = content(1, 300_000);
    let (version, _) = mux
        .put("a", DType::UInt8, &shape, &bytes, PutOptions::default())
        .unwrap();
    let mut got = Vec::new();
    for (start, end) in [(2, 3), (0, 10), (5, 5), (1, 9)] {
        let part = &bytes[start * 30_000..end * 30_000];
        let (start, end) = (start as u64, end as u64);
        let rows = GetOptions {
            rows: Some((start, end)),
            unless_version: None,
        };
        let tensor = mux.get_into("a", rows, &mut got).unwrap();
        assert_eq!(tensor.shape.dims(), [end - start, 30_000]);
        assert_eq!(tensor.checksum, None);
        assert!(got == part);
    }
    let beyond = GetOptions {
        rows: Some((3, 11)),
        unless_version: None,
    };
    let error = mux.get_into("a", beyond, &mut got).unwrap_err();
    assert_eq!(error.code, Code::InvalidArgument);
    let same = GetOptions {
        rows: None,
        unless_version: Some(version),
    };
    let error = mux.get_into("a", same, &mut got).unwrap_err();
    assert_eq!(error.code, Code::NotModified);
    let replace = PutOptions {
        if_version: Some(version),
        ..PutOptions::default()
    };
    mux.put("a", DType::UInt8, &shape, &bytes, replace).unwrap();
    let error = mux.put("a", DType::UInt8, &shape, &bytes, replace);
    assert_eq!(error.unwrap_err().code, Code::FailedPrecondition);
    mux.get_into("a", same, &mut got).unwrap();
}

#[test]
fn a_requests_error_is_its_own() {
    let server = Server::shared();
    let mux = open(&server, "mux.errors");
    put_bytes(&mux, "a", b"abc");
    let shape = Shape::new(&[3]).unwrap();
    let put = |key: &str, bytes: &[u8], options| mux.put(key, DType::UInt8, &shape, bytes, options);
    let wrong = PutOptions {
        checksum: Some(1),
        ..PutOptions::default()
    };
    for (error, code) in [
        (mux.get("missing").unwrap_err(), Code::NotFound),
        (mux.get("").unwrap_err(), Code::InvalidArgument),
        (mux.get("nul\0").unwrap_err(), Code::InvalidArgument),
        (
            put("a", b"abd", PutOptions::default()).unwrap_err(),
            Code::AlreadyExists,
        ),
        (put("b", b"abc", wrong).unwrap_err(), Code::DataLoss),
        (
            mux.put("c", DType::Bool, &shape, &[0, 1, 2], PutOptions::default())
                .unwrap_err(),
            Code::InvalidArgument,
        ),
    ] {
        assert_eq!(error.code, code, "{error}");
        assert!(mux.is_open(), "{error}");
        assert_eq!(mux.get("a").unwrap().1, b"abc");
    }
    assert_eq!(mux.exists("b").unwrap(), None);
    assert_eq!(mux.exists("c").unwrap(), None);
}

/// Small ones, large ones and missing ones, many more than may be under way at once.
#[test]
fn many_at_once_each_with_its_own_bytes() {
    let server = Server::shared();
    let mux = open(&server, "mux.many");
    let size = |at: usize| match at % 11 {
        0 => 300_000 + at,
        1 => 65_536,
        2 => 0,
        n => 40 * n + at,
    };
    for at in (0..200).filter(|at| at % 5 != 0) {
        put_bytes(&mux, &format!("{at}"), &content(at, size(at)));
    }
    let keys: Vec<String> = (0..400).map(|at| format!("{}", at % 200)).collect();
    let mut told = vec![0; keys.len()];
    mux.get_many(&keys, |at, got| {
        told[at] += 1;
        match got {
            Ok((tensor, bytes)) => {
                assert!(bytes == content(at % 200, size(at % 200)), "{at}");
                assert_eq!(tensor.shape.dims(), [bytes.len() as u64]);
            }
            Err(error) => assert_eq!((at % 5, error.code), (0, Code::NotFound)),
        }
    })
    .unwrap();
    assert_eq!(told, vec![1; keys.len()]);
    // Keys so long that few requests fit under way.
    let long = "k".repeat(1024);
    put_bytes(&mux, &long, b"x");
    let mut found = 0;
    mux.get_many(&vec![long.as_str(); 300], |_, got| {
        assert_eq!(got.unwrap().1, b"x");
        found += 1;
    })
    .unwrap();
    assert_eq!(found, 300);
}

/// One thread, several exchanges, all at work before the first reply is read.
#[test]
fn gets_that_were_begun_are_read_by_the_same_keys() {
    let server = Server::shared();
    let muxes = [0, 1, 2].map(|_| open(&server, "mux.begun"));
    for at in 0..200 {
        put_bytes(&muxes[0], &format!("{at}"), &content(at, 40 * at));
    }
    let keys: Vec<String> = (0..200).map(|at| format!("{at}")).collect();
    for count in [1, 16, 200] {
        let keys = &keys[..count];
        for mux in &muxes {
            mux.begin_many(keys).unwrap();
        }
        for mux in &muxes {
            // Another request's reply would be taken for one of theirs.
            for refused in [
                mux.get("0").unwrap_err(),
                mux.exists("0").unwrap_err(),
                mux.begin_many(keys).unwrap_err(),
                mux.get_many(&keys[1..1], |_, _| {}).unwrap_err(),
            ] {
                assert_eq!(refused.code, Code::InvalidArgument, "{refused}");
            }
            let mut told = vec![0; count];
            mux.get_many(keys, |at, got| {
                assert!(got.unwrap().1 == content(at, 40 * at), "{at}");
                told[at] += 1;
            })
            .unwrap();
            assert_eq!(told, vec![1; count]);
            assert_eq!(mux.get("1").unwrap().1, content(1, 40));
        }
    }
}

#[test]
fn callers_on_several_threads_take_turns() {
    let server = Server::shared();
    let mux = open(&server, "mux.threads");
    thread::scope(|scope| {
        for thread in 0..8 {
            let mux = &mux;
            scope.spawn(move || {
                for round in 0..30 {
                    let key = format!("{thread}.{round}");
                    put_bytes(mux, &key, &content(thread * 100 + round, 5000));
                    let (_, got) = mux.get(&key).unwrap();
                    assert!(got == content(thread * 100 + round, 5000));
                }
            });
        }
    });
}

/// Another verb's tensor, and one too large for a put over an exchange.
#[tokio::test]
async fn it_is_the_same_cache() {
    let space = Space::new("mux.same").await;
    let large = Tensor::sample(DType::Float32, &[5000, 300]);
    space.put("large", &large).await.unwrap();
    let (server, namespace) = (space.server.clone(), space.namespace.clone());
    let got = tokio::task::spawn_blocking(move || {
        let mux = open(&server, &namespace);
        put_bytes(&mux, "small", b"abc");
        mux.get("large").unwrap()
    });
    let (tensor, bytes) = got.await.unwrap();
    assert!(bytes == large.bytes);
    assert_eq!(tensor.shape.dims(), [5000, 300]);
    let got = space.get(&json!({"key": "small"})).await.unwrap();
    let version = &got.schema.metadata()["tensor.version"];
    assert!(!version.is_empty());
}

#[test]
fn a_namespace_that_is_none_is_refused_at_once() {
    let server = Server::shared();
    let address = server.uri().parse().unwrap();
    for namespace in ["", "a b", "\"", "ä"] {
        let refused = Mux::connect(&address, namespace).err().unwrap();
        assert_eq!(refused.code, Code::InvalidArgument, "{namespace} {refused}");
    }
}

#[test]
fn an_exchange_is_counted_under_its_verb() {
    let server = Server::start();
    let mux = open(&server, "default");
    put_bytes(&mux, "a", &content(1, 100_000));
    mux.get("a").unwrap();
    mux.close().unwrap();
    let metrics = server.metrics();
    let of = |name: &str| metrics.count(&format!("bowstring_{name}"));
    assert_eq!(of("requests_total{verb=\"DoExchange\",code=\"ok\"}"), 1);
    assert_eq!(of("requests_in_flight{verb=\"DoExchange\"}"), 0);
    assert!(of("received_bytes_total{verb=\"DoExchange\"}") > 100_000);
    assert!(of("sent_bytes_total{verb=\"DoExchange\"}") > 100_000);
}
