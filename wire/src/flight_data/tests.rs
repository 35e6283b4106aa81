use proptest::prelude::*;
use prost::Message;

use bytes::{BufMut, Bytes, BytesMut};

use super::head::{HEAD_OVERHEAD_BYTES, put_varint};
use super::*;
use crate::error::Result;

/// Flight.proto's message, as another implementation encodes it.
#[derive(Clone, PartialEq, Message)]
struct FlightData {
    #[prost(bytes = "vec", tag = "1")]
    flight_descriptor: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    data_header: Vec<u8>,
    #[prost(bytes = "vec", tag = "3")]
    app_metadata: Vec<u8>,
    #[prost(bytes = "vec", tag = "1000")]
    data_body: Vec<u8>,
}

fn grpc(message: &[u8]) -> Vec<u8> {
    let length = u32::try_from(message.len()).unwrap().to_be_bytes();
    [&[0], &length[..], message].concat()
}

/// All events, body chunks of one body joined, when `bytes` come in frames of `sizes` (the
/// last size repeated).
fn parse(bytes: &[u8], sizes: &[usize]) -> Result<Vec<Event>> {
    let mut parser = Parser::new();
    let mut events: Vec<Event> = Vec::new();
    let mut sizes = sizes.iter().copied().chain(std::iter::repeat(64));
    let mut rest = bytes;
    while !rest.is_empty() {
        let (frame, tail) = rest.split_at(sizes.next().unwrap().clamp(1, rest.len()));
        rest = tail;
        parser.push(Bytes::copy_from_slice(frame));
        while let Some(event) = parser.next_event()? {
            match (events.last_mut(), event) {
                (Some(Event::BodyChunk(held)), Event::BodyChunk(more)) => {
                    *held = [&held[..], &more[..]].concat().into();
                }
                (_, event) => events.push(event),
            }
        }
    }
    parser.finish()?;
    Ok(events)
}

fn expected(message: &FlightData) -> Vec<Event> {
    let field = |bytes: &Vec<u8>, event: fn(Bytes) -> Event| {
        (!bytes.is_empty()).then(|| event(Bytes::from(bytes.clone())))
    };
    let body = &message.data_body;
    let start = Event::BodyStart {
        len: body.len() as u64,
    };
    [
        field(&message.flight_descriptor, Event::Descriptor),
        field(&message.data_header, Event::Header),
        field(&message.app_metadata, Event::AppMetadata),
        (!body.is_empty()).then_some(start),
        field(body, Event::BodyChunk),
        Some(Event::MessageEnd),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn message() -> impl Strategy<Value = FlightData> {
    let bytes = |max| prop::collection::vec(any::<u8>(), 0..max);
    (bytes(40), bytes(400), bytes(40), bytes(400)).prop_map(|(d, mut h, a, b)| {
        if !b.is_empty() {
            h.push(1);
        }
        FlightData {
            flight_descriptor: d,
            data_header: h,
            app_metadata: a,
            data_body: b,
        }
    })
}

proptest! {
    #[test]
    fn the_head_is_what_prost_reads_and_the_body_is_at_48_mod_64(
        header in prop::collection::vec(1u8.., 1..500),
        descriptor in prop::collection::vec(any::<u8>(), 0..200),
        metadata in prop::collection::vec(any::<u8>(), 0..200),
        body_len in 0usize..70_000,
    ) {
        let mut out = BytesMut::new();
        encode_head_into(&mut out, &descriptor, &header, &metadata, body_len as u64).unwrap();
        if body_len > 0 {
            prop_assert_eq!((out.len() - GRPC_PREFIX_BYTES) % 64, 48);
        }
        prop_assert!(out.len() <= header.len() + metadata.len() + descriptor.len() + HEAD_OVERHEAD_BYTES + 80);
        out.put_bytes(7, body_len);
        let length = u32::from_be_bytes(out[1..5].try_into().unwrap()) as usize;
        prop_assert_eq!(length, out.len() - GRPC_PREFIX_BYTES);
        let read = FlightData::decode(&out[GRPC_PREFIX_BYTES..]).unwrap();
        prop_assert_eq!(&read.data_header[..header.len()], &header[..]);
        prop_assert!(read.data_header[header.len()..].iter().all(|b| *b == 0));
        prop_assert_eq!(read.app_metadata, metadata);
        prop_assert_eq!(read.flight_descriptor, descriptor);
        prop_assert_eq!(read.data_body, vec![7; body_len]);
    }

    #[test]
    fn any_split_gives_the_same_events(
        messages in prop::collection::vec(message(), 0..4),
        sizes in prop::collection::vec(1usize..200, 0..60),
    ) {
        let bytes: Vec<u8> = messages.iter().flat_map(|m| grpc(&m.encode_to_vec())).collect();
        let wanted: Vec<Event> = messages.iter().flat_map(expected).collect();
        prop_assert_eq!(parse(&bytes, &sizes).unwrap(), wanted.clone());
        prop_assert_eq!(parse(&bytes, &vec![1; bytes.len()]).unwrap(), wanted);
    }

    #[test]
    fn arbitrary_bytes_never_panic_and_hold_no_more_than_came(
        bytes in prop::collection::vec(any::<u8>(), 0..300), sizes in prop::collection::vec(1usize..20, 0..20),
    ) {
        let _ = parse(&bytes, &sizes);
        let _ = parse(&grpc(&bytes), &sizes);
    }

    #[test]
    fn a_damaged_message_is_an_error_or_events(
        message in message(), at in any::<prop::sample::Index>(), to in any::<u8>(), cut in any::<prop::sample::Index>(),
    ) {
        let mut bytes = grpc(&message.encode_to_vec());
        let at = at.index(bytes.len());
        bytes[at] = to;
        let _ = parse(&bytes, &[]);
        let cut = cut.index(bytes.len());
        prop_assert!(cut == 0 || parse(&grpc(&message.encode_to_vec())[..cut], &[]).is_err());
    }
}

#[test]
fn a_field_in_one_frame_is_not_copied() {
    let bytes = Bytes::from(grpc(&[&[0x12, 3][..], b"abc"].concat()));
    let at = bytes[7..].as_ptr();
    let mut parser = Parser::new();
    parser.push(bytes);
    match parser.next_event() {
        Ok(Some(Event::Header(header))) => assert_eq!(header.as_ptr(), at),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_body_before_its_header_comes_behind_it() {
    let body_first = [&[0xc2, 0x3e, 2][..], b"bo", &[0x12, 1], b"h"].concat();
    let events = parse(&grpc(&body_first), &[]).unwrap();
    let wanted = FlightData {
        data_header: b"h".to_vec(),
        data_body: b"bo".to_vec(),
        ..FlightData::default()
    };
    assert_eq!(events, expected(&wanted));
}

#[test]
fn unknown_fields_are_skipped() {
    let message = [
        &[0x20, 0x96, 0x01][..],         // field 4, varint
        &[0x29, 1, 2, 3, 4, 5, 6, 7, 8], // field 5, 64 bits
        &[0x35, 1, 2, 3, 4],             // field 6, 32 bits
        &[0x3a, 2, 9, 9, 0x3a, 0],       // field 7, bytes, twice
        &[0x1a, 1, b'm'],
    ]
    .concat();
    let events = parse(&grpc(&message), &[3, 1]).unwrap();
    let metadata = Event::AppMetadata(Bytes::from_static(b"m"));
    assert_eq!(events, [metadata, Event::MessageEnd]);
}

#[test]
fn refusals_say_what_and_come_before_the_bytes() {
    let long = |field: u8, len: u64| {
        let mut message = BytesMut::new();
        message.put_slice(&[0, 0xff, 0xff, 0xff, 0xff, field << 3 | 2]);
        put_varint(&mut message, len);
        message.to_vec()
    };
    for (bytes, says) in [
        (
            vec![1, 0, 0, 0, 0],
            "unimplemented: gRPC message compression",
        ),
        (vec![2, 0, 0, 0, 0], "compressed_flag=`2`"),
        (
            long(2, 1 << 30),
            "resource_exhausted: message field is too large; field=`data_header`",
        ),
        (long(3, 1 << 30), "field=`app_metadata`"),
        (long(1, 1 << 30), "field=`flight_descriptor`"),
        (long(2, 1 << 40), "a field ends behind its message"),
        (long(2, u64::MAX), "a field ends behind its message"),
        (grpc(&[0xc2, 0x3e, 1, 0]), "no data_header"),
        (
            grpc(&[0x12, 1, 0, 0x12, 1, 0]),
            "twice; field=`data_header`",
        ),
        (grpc(&[0x10, 1]), "wrong type"),
        (grpc(&[0x02, 0]), "wrong type or number"),
        (grpc(&[0x2b]), "unknown wire type"),
        (grpc(&[0x29, 1]), "a field ends behind its message"),
        (grpc(&[0x80]), "a field ends behind its message"),
        (grpc(&[0xff; 11]), "more than 64 bits"),
        (vec![0, 0, 0], "stream ended inside a message"),
    ] {
        let refused = parse(&bytes, &[]).unwrap_err().to_string();
        assert!(refused.contains(says), "{refused} / {says}");
    }
    let mut early = grpc(&[]);
    early[1..5].copy_from_slice(&[0xff; 4]);
    early.extend([0xc2, 0x3e, 0xff, 0xff, 0xff, 0x7f]);
    let refused = parse(&early, &[]).unwrap_err().to_string();
    assert!(
        refused.contains("data_header before data_body"),
        "{refused}"
    );
}

#[test]
fn an_error_stays() {
    let mut parser = Parser::new();
    parser.push(Bytes::from_static(&[9]));
    parser.push(Bytes::from(grpc(&[])));
    parser.push(Bytes::from(grpc(&[])));
    assert!(parser.next_event().is_err());
    parser.push(Bytes::from(grpc(&[])));
    assert!(parser.next_event().is_err());
}

#[test]
fn too_large_for_grpc_is_refused() {
    assert!(encode_head(b"h", b"", u64::from(u32::MAX)).is_err());
    assert!(encode_head(b"h", b"", u64::from(u32::MAX) - 1000).is_ok());
}

#[test]
fn the_body_is_aligned_where_the_headers_length_takes_a_byte_more() {
    for header_len in (1..300).chain(16_200..16_500) {
        let header = vec![1; header_len];
        for metadata in 0..66 {
            let metadata = vec![2; metadata];
            let head = encode_head(&header, &metadata, 1).unwrap();
            assert_eq!((head.len() - GRPC_PREFIX_BYTES) % 64, 48, "{header_len}");
            assert!(head.len() < header_len + metadata.len() + 64 + 64 + 20);
        }
    }
}
