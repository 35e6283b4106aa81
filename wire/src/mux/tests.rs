//! Round trips, any split, any bytes.

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::descriptor::Mode;
use crate::dtype::DType;
use crate::error::{Code, Error};
use crate::shape::Shape;
use crate::version::Version;

/// A whole message.
fn message(header: &[u8], body: &[u8]) -> Vec<u8> {
    let prefix = MuxPrefix::new(header.len(), body.len() as u64).unwrap();
    [&prefix.front[..], header, &prefix.back, body].concat()
}

/// All messages of a stream that was cut into frames of these sizes, in turn.
fn read(stream: &[u8], cuts: &[usize]) -> crate::error::Result<Vec<(Vec<u8>, Vec<u8>)>> {
    let mut messages = MuxMessages::default();
    let mut read: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
    let mut rest = stream;
    for cut in cuts.iter().cycle() {
        while let Some(event) = messages.next_event()? {
            match event {
                MuxEvent::Message { header, .. } => read.push((header.to_vec(), Vec::new())),
                MuxEvent::Body(piece) => read.last_mut().unwrap().1.extend_from_slice(&piece),
            }
        }
        if rest.is_empty() {
            break;
        }
        let (frame, after) = rest.split_at((*cut).min(rest.len()));
        messages.push(Bytes::copy_from_slice(frame));
        rest = after;
    }
    messages.finish()?;
    Ok(read)
}

#[test]
fn a_small_get_is_small() {
    let request = MuxRequest {
        id: 7,
        namespace: None,
        key: "00000001",
        op: MuxOp::Get {
            rows: None,
            unless_version: None,
        },
    };
    let mut header = Vec::new();
    request.encode(&mut header).unwrap();
    assert_eq!(header.len(), 16 + 8);
    assert_eq!(message(&header, &[]).len(), 5 + 2 + 24);
}

#[test]
fn what_does_not_begin_or_end_as_a_message_is_refused() {
    let good = message(&[1; 16], &[7; 300]);
    let refused = |bytes: &[u8]| read(bytes, &[usize::MAX]).unwrap_err().code;
    let with = |at: usize, byte: u8| {
        let mut bytes = good.clone();
        bytes[at] = byte;
        bytes
    };
    assert_eq!(refused(&with(0, 1)), Code::Unimplemented);
    assert_eq!(refused(&with(1, 1)), Code::ResourceExhausted);
    for at in [4, 5, 6, 23, 24, 25] {
        assert_eq!(refused(&with(at, 0x77)), Code::InvalidArgument, "{at}");
    }
    for cut in 1..good.len() {
        assert_eq!(refused(&good[..cut]), Code::InvalidArgument);
    }
    assert_eq!(refused(&[0, 0, 0, 0, 0]), Code::InvalidArgument);
    let long = [&[0, 0, 0, 255, 255, 26][..], &[0x80; 90_000]].concat();
    assert_eq!(refused(&long), Code::InvalidArgument);
}

#[test]
fn headers_of_tomorrow_are_not_implemented() {
    let mut header = Vec::new();
    let request = MuxRequest {
        id: 3,
        namespace: Some("a"),
        key: "k",
        op: MuxOp::Exists,
    };
    request.encode(&mut header).unwrap();
    let code = |at: usize, byte: u8| {
        let mut header = header.clone();
        header[at] = byte;
        MuxRequest::decode(&header).unwrap_err().code
    };
    assert_eq!(code(0, 2), Code::Unimplemented);
    assert_eq!(code(1, 9), Code::Unimplemented);
    assert_eq!(code(2, 0x80), Code::Unimplemented);
    for at in [3, 8, 10, 12, 13, 14, 15] {
        assert_eq!(code(at, 0xff), Code::InvalidArgument, "{at}");
    }
    assert_eq!(id_of(&header), Ok(3));
    assert_eq!(id_of(&header[..7]).unwrap_err().code, Code::InvalidArgument);
}

fn version() -> impl Strategy<Value = Version> {
    (any::<u64>(), any::<u32>()).prop_map(|(hlc, start)| Version { hlc, start })
}

fn shape() -> impl Strategy<Value = Shape> {
    prop::collection::vec(0u64..5, 0..8).prop_map(|dims| Shape::new(&dims).unwrap())
}

fn dtype() -> impl Strategy<Value = DType> {
    prop::sample::select(&DType::ALL[..])
}

fn put() -> impl Strategy<Value = MuxPut> {
    let mode = prop::sample::select(Mode::ALL);
    let options = (
        prop::option::of(version()),
        prop::option::of(any::<u128>()),
        prop::option::of(1u64..1 << 40),
    );
    (dtype(), shape(), mode, options).prop_map(|(dtype, shape, mode, options)| MuxPut {
        dtype,
        shape,
        mode,
        if_version: options.0,
        checksum: options.1,
        ttl_ms: options.2,
    })
}

fn op() -> impl Strategy<Value = MuxOp> {
    let rows = prop::option::of((any::<u64>(), any::<u64>()));
    let get = (rows, prop::option::of(version())).prop_map(|(rows, unless_version)| MuxOp::Get {
        rows,
        unless_version,
    });
    let others = prop_oneof![Just(MuxOp::Exists), Just(MuxOp::Cancel)];
    prop_oneof![get, put().prop_map(MuxOp::Put), others]
}

fn reply() -> impl Strategy<Value = MuxReply> {
    let tensor = (dtype(), shape(), version(), prop::option::of(any::<u128>())).prop_map(
        |(dtype, shape, version, checksum)| MuxTensor {
            dtype,
            shape,
            version,
            checksum,
        },
    );
    prop_oneof![
        (tensor, any::<bool>()).prop_map(|(tensor, more)| MuxReply::Tensor { tensor, more }),
        any::<bool>().prop_map(|more| MuxReply::More { more }),
        (version(), any::<bool>())
            .prop_map(|(version, existed)| MuxReply::Stored { version, existed }),
        (prop::sample::select(&Code::ALL[..]), "[ -~]{0,60}")
            .prop_map(|(code, message)| MuxReply::Failed(Error::new(code, message))),
    ]
}

proptest! {
    #[test]
    fn requests_round_trip(
        id: u32,
        namespace in prop::option::of("[a-z]{1,128}"),
        key in "\\PC{1,60}",
        op in op(),
    ) {
        let key = if op == MuxOp::Cancel { "" } else { &key };
        let request = MuxRequest { id, namespace: namespace.as_deref(), key, op };
        let mut header = Vec::new();
        request.encode(&mut header).unwrap();
        prop_assert_eq!(id_of(&header), Ok(id));
        prop_assert_eq!(kind_of(&header), Some(request.op.kind()));
        prop_assert_eq!(MuxRequest::decode(&header), Ok(request.clone()));
        for cut in 0..header.len() {
            prop_assert!(MuxRequest::decode(&header[..cut]).is_err());
        }
        header.push(0);
        prop_assert!(MuxRequest::decode(&header).is_err());
    }

    #[test]
    fn replies_round_trip(id: u32, reply in reply()) {
        let mut header = Vec::new();
        reply.encode(id, &mut header);
        prop_assert_eq!(MuxReply::decode(&header), Ok((id, reply)));
    }

    #[test]
    fn any_bytes_are_a_header_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let versioned = [&[MUX_VERSION][..], &bytes].concat();
        for bytes in [&bytes, &versioned] {
            let _ = (MuxRequest::decode(bytes), MuxReply::decode(bytes));
        }
    }

    #[test]
    fn a_changed_request_is_a_request_or_an_error(
        op in op(), at: prop::sample::Index, byte: u8,
    ) {
        let key = if op == MuxOp::Cancel { "" } else { "k" };
        let request = MuxRequest { id: 1, namespace: Some("n"), key, op };
        let mut header = Vec::new();
        request.encode(&mut header).unwrap();
        let at = at.index(header.len());
        header[at] = byte;
        if let Ok(read) = MuxRequest::decode(&header) {
            let mut again = Vec::new();
            read.encode(&mut again).unwrap();
            // One meaning, one form.
            prop_assert_eq!(again, header);
        }
    }

    #[test]
    fn messages_are_read_in_any_split(
        sent in prop::collection::vec(
            (prop::collection::vec(any::<u8>(), 0..300), prop::collection::vec(any::<u8>(), 0..600)),
            0..6,
        ),
        cuts in prop::collection::vec(1usize..400, 1..6),
    ) {
        let stream: Vec<u8> = sent.iter().flat_map(|(header, body)| message(header, body)).collect();
        prop_assert_eq!(read(&stream, &cuts).unwrap(), sent);
    }

    #[test]
    fn any_bytes_are_messages_or_an_error(
        bytes in prop::collection::vec(any::<u8>(), 0..200),
        cuts in prop::collection::vec(1usize..40, 1..4),
    ) {
        let framed = [&[0, 0, 0, 0, 30, 26][..], &bytes].concat();
        for bytes in [&bytes, &framed] {
            prop_assert_eq!(read(bytes, &cuts).is_ok(), read(bytes, &[usize::MAX]).is_ok());
        }
    }
}
