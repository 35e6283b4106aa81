//! A server that answers what it should not: an error, never a panic or a wrong tensor.

use bowstring_wire::dtype::DType;
use bowstring_wire::error::{Code, Error};
use bowstring_wire::mux::{MuxPrefix, MuxReply, MuxTensor};
use bowstring_wire::shape::Shape;
use bowstring_wire::version::Version;

use super::Mux;
use crate::peer::play;

/// An HTTP/2 frame.
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let [_, a, b, c] = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let stream = stream.to_be_bytes();
    [&[a, b, c, kind, flags][..], &stream, payload].concat()
}

/// An exchange whose first answer is `replies`, and which goes on if `open`.
fn answered(replies: &[Vec<u8>], open: bool) -> Mux {
    let fields = [(":status", "200")];
    let fields = fields.iter().map(|(n, v)| (n.as_bytes(), v.as_bytes()));
    let headers = loona_hpack::Encoder::new().encode(fields);
    let answer = [
        frame(1, 4, 1, &headers),
        frame(0, u8::from(!open), 1, &replies.concat()),
    ];
    let (address, _peer) = play(vec![frame(4, 0, 0, &[]), answer.concat()]);
    Mux::connect(&address, "default").unwrap()
}

fn message(header: &[u8], body: &[u8]) -> Vec<u8> {
    let prefix = MuxPrefix::new(header.len(), body.len() as u64).unwrap();
    [&prefix.front[..], header, &prefix.back, body].concat()
}

fn reply(id: u32, reply: &MuxReply, body: &[u8]) -> Vec<u8> {
    let mut header = Vec::new();
    reply.encode(id, &mut header);
    message(&header, body)
}

fn tensor(bytes: u64, more: bool) -> MuxReply {
    MuxReply::Tensor {
        tensor: MuxTensor {
            dtype: DType::UInt8,
            shape: Shape::new(&[bytes]).unwrap(),
            version: Version::from_parts(1, 2, 3),
            checksum: None,
        },
        more,
    }
}

const MORE: MuxReply = MuxReply::More { more: true };
const LAST: MuxReply = MuxReply::More { more: false };

#[test]
fn a_tensor_in_pieces_and_an_error_in_the_middle() {
    let pieces = [
        reply(1, &tensor(5, true), b"ab"),
        reply(1, &MORE, b"c"),
        reply(1, &LAST, b"de"),
    ];
    assert_eq!(answered(&pieces, true).get("a").unwrap().1, b"abcde");
    let failed = MuxReply::Failed(Error::data_loss("gone"));
    let broken = [reply(1, &tensor(5, true), b"ab"), reply(1, &failed, b"")];
    let mux = answered(&broken, true);
    assert_eq!(mux.get("a").unwrap_err(), Error::data_loss("gone"));
    assert!(mux.is_open(), "the error is the request's");
}

#[test]
fn what_is_no_answer_closes_the_exchange() {
    let stored = MuxReply::Stored {
        version: Version::from_parts(1, 2, 3),
        existed: false,
    };
    for replies in [
        vec![reply(2, &tensor(1, false), b"a")],
        vec![reply(1, &tensor(3, false), b"abcd")],
        vec![reply(1, &tensor(3, false), b"ab")],
        vec![reply(1, &tensor(3, false), b"")],
        vec![reply(1, &LAST, b"a")],
        vec![reply(1, &stored, b"")],
        vec![reply(1, &tensor(3, true), b"a"), reply(1, &LAST, b"bcd")],
        vec![reply(1, &tensor(3, true), b"a"), reply(1, &LAST, b"b")],
        vec![reply(1, &tensor(3, true), b"a"), reply(2, &LAST, b"bc")],
        vec![
            reply(1, &tensor(3, true), b"a"),
            reply(1, &tensor(3, true), b"a"),
        ],
        vec![message(b"", b"")],
        vec![message(&[9; 40], b"")],
        vec![message(&[1, 99, 0, 0, 1, 0, 0, 0], b"")],
        vec![vec![0, 0, 0, 0, 9, 0x7f]],
    ] {
        let mux = answered(&replies, false);
        let error = mux.get("a").unwrap_err();
        assert!(!mux.is_open(), "{replies:?}: {error}");
        assert_eq!(mux.get("a").unwrap_err(), error, "for good");
        let mux = answered(&replies, false);
        let mut told = 0;
        let many = mux.get_many(&["a"], |_, _| told += 1);
        assert!(many.is_err() && told == 0, "{replies:?}");
    }
}

#[test]
fn a_stream_that_ends_is_no_answer() {
    let mux = answered(&[], false);
    assert!(mux.get("a").is_err() && !mux.is_open());
    let mux = answered(&[reply(1, &tensor(9, true), b"abc")], false);
    assert!(mux.get("a").is_err() && !mux.is_open());
    let missing = MuxReply::Failed(Error::not_found("no such key"));
    let mux = answered(&[reply(1, &missing, b"")], true);
    assert_eq!(mux.exists("a").unwrap(), None);
    let mux = answered(&[reply(1, &missing, b"")], true);
    assert_eq!(mux.get("a").unwrap_err().code, Code::NotFound);
}
