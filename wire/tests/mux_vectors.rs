//! The headers of the mux exchange, held against vectors that a Python script made from
//! `proto-notes/mux.md` alone.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use bowstring_wire::descriptor::Mode;
use bowstring_wire::dtype::DType;
use bowstring_wire::error::{Code, Error};
use bowstring_wire::mux::{MuxOp, MuxPrefix, MuxPut, MuxReply, MuxRequest, MuxTensor};
use bowstring_wire::shape::Shape;
use bowstring_wire::version::Version;
use serde_json::Value;

fn vectors(list: &str) -> Vec<Value> {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../proto-notes/vectors/mux.json"
    );
    let text = std::fs::read_to_string(path).unwrap();
    let vectors: Value = serde_json::from_str(&text).unwrap();
    vectors[list].as_array().unwrap().clone()
}

fn bytes(vector: &Value, name: &str) -> Vec<u8> {
    let hex = vector[name].as_str().unwrap_or_default();
    let byte = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
    (0..hex.len()).step_by(2).map(byte).collect()
}

fn id(vector: &Value) -> u32 {
    u32::try_from(vector["id"].as_u64().unwrap()).unwrap()
}

fn version(vector: &Value, name: &str) -> Option<Version> {
    Some(Version::parse(vector[name].as_str()?).unwrap())
}

fn checksum(vector: &Value) -> Option<u128> {
    Some(u128::from_str_radix(vector["checksum"].as_str()?, 16).unwrap())
}

fn dtype(vector: &Value) -> DType {
    DType::parse(vector["dtype"].as_str().unwrap()).unwrap()
}

fn numbers(value: &Value) -> Vec<u64> {
    let numbers = value.as_array().into_iter().flatten();
    numbers.map(|number| number.as_u64().unwrap()).collect()
}

fn op(vector: &Value) -> MuxOp {
    match vector["op"].as_str().unwrap() {
        "get" => MuxOp::Get {
            rows: match numbers(&vector["rows"])[..] {
                [start, end] => Some((start, end)),
                _ => None,
            },
            unless_version: version(vector, "unless_version"),
        },
        "exists" => MuxOp::Exists,
        "put" => MuxOp::Put(MuxPut {
            dtype: dtype(vector),
            shape: Shape::new(&numbers(&vector["shape"])).unwrap(),
            mode: serde_json::from_value::<Mode>(vector["mode"].clone()).unwrap(),
            if_version: version(vector, "if_version"),
            checksum: checksum(vector),
            ttl_ms: vector["ttl_ms"].as_u64(),
        }),
        "cancel" => MuxOp::Cancel,
        other => panic!("{other}"),
    }
}

fn check_message(vector: &Value, header: &[u8]) {
    let body = bytes(vector, "body");
    if !body.is_empty() {
        let prefix = MuxPrefix::new(header.len(), body.len() as u64).unwrap();
        let message = [&prefix.front[..], header, &prefix.back, &body].concat();
        assert_eq!(message, bytes(vector, "wire"), "{vector}");
    }
}

#[test]
fn requests() {
    for vector in vectors("requests") {
        let request = MuxRequest {
            id: id(&vector),
            namespace: vector["namespace"].as_str(),
            key: vector["key"].as_str().unwrap_or_default(),
            op: op(&vector),
        };
        let mut header = Vec::new();
        request.encode(&mut header).unwrap();
        assert_eq!(header, bytes(&vector, "header"), "{vector}");
        assert_eq!(MuxRequest::decode(&header), Ok(request), "{vector}");
        check_message(&vector, &header);
    }
}

#[test]
fn replies() {
    for vector in vectors("replies") {
        let more = vector["more"].as_bool().unwrap_or_default();
        let reply = match vector["kind"].as_str().unwrap() {
            "tensor" => MuxReply::Tensor {
                tensor: MuxTensor {
                    dtype: dtype(&vector),
                    shape: Shape::new(&numbers(&vector["shape"])).unwrap(),
                    version: version(&vector, "version").unwrap(),
                    checksum: checksum(&vector),
                },
                more,
            },
            "more" => MuxReply::More { more },
            "stored" => MuxReply::Stored {
                version: version(&vector, "version").unwrap(),
                existed: vector["existed"].as_bool().unwrap_or_default(),
            },
            _ => MuxReply::Failed(Error::new(
                Code::from_str(vector["failed"].as_str().unwrap()).unwrap(),
                vector["message"].as_str().unwrap().to_owned(),
            )),
        };
        let mut header = Vec::new();
        reply.encode(id(&vector), &mut header);
        assert_eq!(header, bytes(&vector, "header"), "{vector}");
        assert_eq!(MuxReply::decode(&header), Ok((id(&vector), reply)));
        check_message(&vector, &header);
    }
}

#[test]
fn refused_requests() {
    for vector in vectors("refused") {
        let refused = MuxRequest::decode(&bytes(&vector, "header")).unwrap_err();
        assert_eq!(refused.code.as_str(), vector["code"], "{vector}: {refused}");
    }
}
