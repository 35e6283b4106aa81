//! What is done to a valid put before it is sent.

use arrow_flight::FlightDescriptor;
use bytes::Bytes;

use super::dice::Dice;
use super::raw::{Answer, Raw, prefixed};
use super::stream::{Message, PutStream, encode_fields, field, put_varint};

/// A put as it will go over the wire.
#[derive(Clone, Debug)]
pub struct Mutant {
    /// What was done, for whoever reads the failure.
    pub what: String,
    /// Frames of the request's body.
    pub frames: Vec<Bytes>,
    pub ending: Ending,
    /// Nothing was done that a correct server may refuse.
    pub is_valid: bool,
}

/// What comes after the last frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The end of the request.
    Finish,
    /// A reset of its stream.
    Reset,
    /// The end of its connection.
    HangUp,
}

/// Makes a streaming call of these frames; gives what came back.
pub async fn send(raw: &mut Raw, method: &str, frames: &[Bytes], ending: Ending) -> Answer {
    let mut open = raw.open(method).await;
    for frame in frames {
        if !open.send(frame.clone(), false) {
            break;
        }
    }
    match ending {
        Ending::Finish => drop(open.send(Bytes::new(), true)),
        Ending::Reset => open.reset(),
        Ending::HangUp => {
            // What was queued is to be on its way.
            tokio::task::yield_now().await;
            raw.hang_up();
        }
    }
    open.answer().await
}

/// Numbers at which something overflows, wraps or turns negative.
const EDGES: [u64; 14] = [
    0,
    1,
    7,
    0x7f,
    0xffff,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_ffff,
    0x1_0000_0000,
    0x7fff_ffff_ffff_fff8,
    0x7fff_ffff_ffff_ffff,
    0x8000_0000_0000_0000,
    0xffff_ffff_ffff_fff8,
    0xffff_ffff_ffff_ffff,
];

/// What a reader of JSON may stumble over.
const ODD_JSON: [&[u8]; 9] = [
    b"\\ud800",
    b"\\u0000",
    b"\0",
    b"\xff\xfe",
    b"1e999",
    b"-0",
    b"null",
    b"\\",
    b"\xef\xbb\xbf",
];

/// Damages one of `seeds`, to be put at `descriptor`.
pub fn mutate(
    dice: &mut Dice,
    seeds: &[PutStream],
    descriptor: impl Fn(&PutStream) -> FlightDescriptor,
) -> Mutant {
    let seed = dice.pick(seeds);
    let mut messages = seed.with(&descriptor(seed));
    let mut what = seed.name.clone();
    let mut is_valid = false;
    let bytes = match dice.below(12) {
        0 => {
            is_valid = true;
            what += ": cut into odd frames";
            joined(&messages)
        }
        1 => {
            what += ": an edge in a header";
            let at = dice.below(messages.len());
            put_edge(dice, &mut messages[at].header);
            joined(&messages)
        }
        2 => {
            what += ": messages in another order";
            shuffle(dice, &mut messages);
            joined(&messages)
        }
        3 => {
            what += ": headers of another put";
            let other = dice.pick(seeds);
            what += &other.name;
            let from = dice.below(other.messages.len());
            let to = dice.below(messages.len());
            messages[to].header.clone_from(&other.messages[from].header);
            joined(&messages)
        }
        4 => {
            what += ": a body of another length";
            let at = dice.below(messages.len());
            resize(dice, &mut messages[at].body);
            joined(&messages)
        }
        5 => {
            what += ": edges in a body";
            let at = dice.below(messages.len());
            put_edge(dice, &mut messages[at].body);
            joined(&messages)
        }
        6 => {
            what += ": fields twice, lacking, or in another order";
            let at = dice.below(messages.len());
            let mut bytes = joined(&messages[..at]);
            bytes.extend(odd_fields(dice, &messages[at]));
            bytes.extend(joined(&messages[at + 1..]));
            bytes
        }
        7 => {
            what += ": a length that lies";
            let at = dice.below(messages.len());
            let mut bytes = joined(&messages[..at]);
            bytes.extend(lying_length(dice, &messages[at]));
            bytes.extend(joined(&messages[at + 1..]));
            bytes
        }
        8 => {
            what += ": bits flipped";
            let mut bytes = joined(&messages);
            for _ in 0..=dice.below(8) {
                let at = dice.below(bytes.len());
                bytes[at] ^= 1 << dice.below(8);
            }
            bytes
        }
        9 => {
            what += ": bytes inserted or removed";
            let mut bytes = joined(&messages);
            let at = dice.below(bytes.len());
            if dice.once_in(2) {
                let count = 1 + dice.below(64);
                let noise = dice.bytes(count);
                bytes.splice(at..at, noise);
            } else {
                let end = (at + 1 + dice.below(64)).min(bytes.len());
                bytes.drain(at..end);
            }
            bytes
        }
        10 => {
            what += ": cut off";
            let mut bytes = joined(&messages);
            bytes.truncate(dice.below(bytes.len()));
            bytes
        }
        _ => {
            what += ": noise";
            let count = dice.below(2000);
            dice.bytes(count)
        }
    };
    let ending = match dice.below(40) {
        0 => Ending::HangUp,
        1 | 2 => Ending::Reset,
        _ => Ending::Finish,
    };
    Mutant {
        what,
        frames: framed(dice, bytes),
        ending,
        is_valid: is_valid && ending == Ending::Finish,
    }
}

/// Damages a unary request: its JSON, its protobuf, or its prefix.
pub fn mutate_json(dice: &mut Dice, json: &[u8], wrap: impl Fn(Vec<u8>) -> Vec<u8>) -> Vec<u8> {
    let mut json = json.to_vec();
    match dice.below(8) {
        0 => put_noise(dice, &mut json),
        1 => {
            let number = dice.pick(&EDGES).to_string();
            let digit = json.iter().position(u8::is_ascii_digit);
            let at = digit.unwrap_or(dice.below(json.len()));
            json.splice(at..=at, number.into_bytes());
        }
        2 => {
            let (from, to) = (dice.below(json.len()), dice.below(json.len()));
            let piece = json[from.min(to)..from.max(to)].to_vec();
            let at = dice.below(json.len());
            json.splice(at..at, piece);
        }
        3 => {
            let at = dice.below(json.len());
            let deep = 1 + dice.below(20_000);
            let open = *dice.pick(b"[{\"");
            json.splice(at..at, std::iter::repeat_n(open, deep));
        }
        4 => json.truncate(dice.below(json.len())),
        5 => {
            let at = dice.below(json.len());
            json.splice(at..at, dice.pick(&ODD_JSON).iter().copied());
        }
        _ => {}
    }
    let mut message = wrap(json);
    match dice.below(6) {
        0 => put_noise(dice, &mut message),
        1 => message.truncate(dice.below(message.len() + 1)),
        _ => {}
    }
    let mut request = prefixed(&message);
    match dice.below(10) {
        0 => request[0] = dice.byte(),
        1 => put_edge(dice, &mut request[..5]),
        2 => request.truncate(dice.below(request.len())),
        3 => request.extend(prefixed(&message)),
        _ => {}
    }
    request
}

fn joined(messages: &[Message]) -> Vec<u8> {
    messages.iter().flat_map(Message::encode).collect()
}

/// Cuts bytes into frames: mostly as they are, sometimes byte by byte. None is empty: h2 takes a
/// hundred of those in a connection's life (`floods`).
fn framed(dice: &mut Dice, bytes: Vec<u8>) -> Vec<Bytes> {
    let most = *dice.pick(&[1 << 20, 1 << 20, 16_384, 1000, 17, 1]);
    // Thousands of frames a put would test the client.
    let most = most.max(bytes.len() / 400);
    let mut rest = Bytes::from(bytes);
    let mut frames = Vec::new();
    while !rest.is_empty() {
        let length = 1 + dice.below(most.min(rest.len()));
        frames.push(rest.split_to(length));
    }
    frames
}

/// Writes an edge over some bytes, at a place where a number of that width can lie.
fn put_edge(dice: &mut Dice, bytes: &mut [u8]) {
    let width = *dice.pick(&[1, 2, 4, 8]);
    let Some(places) = (bytes.len() / width).checked_sub(1) else {
        return;
    };
    let at = dice.below(places + 1) * width;
    let edge = dice.pick(&EDGES).to_le_bytes();
    bytes[at..at + width].copy_from_slice(&edge[..width]);
}

fn put_noise(dice: &mut Dice, bytes: &mut [u8]) {
    for _ in 0..=dice.below(4) {
        if !bytes.is_empty() {
            let at = dice.below(bytes.len());
            bytes[at] = dice.byte();
        }
    }
}

fn shuffle(dice: &mut Dice, messages: &mut Vec<Message>) {
    let (one, other) = (dice.below(messages.len()), dice.below(messages.len()));
    match dice.below(3) {
        0 => messages.swap(one, other),
        1 => drop(messages.remove(one)),
        _ => {
            let copy = messages[one].clone();
            messages.insert(other, copy);
        }
    }
}

fn resize(dice: &mut Dice, body: &mut Vec<u8>) {
    if dice.once_in(2) {
        let more = 1 + dice.below(100);
        body.resize(body.len() + more, 0);
    } else {
        body.truncate(dice.below(body.len() + 1));
    }
}

fn odd_fields(dice: &mut Dice, message: &Message) -> Vec<u8> {
    let mut fields = message.fields();
    if fields.is_empty() {
        fields.push((field::HEADER, &[]));
    }
    let (one, other) = (dice.below(fields.len()), dice.below(fields.len()));
    match dice.below(5) {
        0 => fields.swap(one, other),
        1 => drop(fields.remove(one)),
        2 => fields.insert(other, fields[one]),
        3 => fields[one].0 = *dice.pick(&[0, 1, 2, 3, 4, 15, 999, 1000, 1001, 1 << 28]),
        _ => fields.insert(other, (field::APP_METADATA, b"{\"a\":1}")),
    }
    prefixed(&encode_fields(&fields))
}

/// A message one of whose fields, or whose prefix, says another length than it has.
fn lying_length(dice: &mut Dice, message: &Message) -> Vec<u8> {
    let fields = message.fields();
    let liar = dice.below(fields.len() + 1);
    let edge = *dice.pick(&EDGES);
    let mut out = Vec::new();
    for (at, (number, bytes)) in fields.iter().enumerate() {
        put_varint(&mut out, number << 3 | 2);
        let near = (bytes.len() as u64).wrapping_add(edge);
        let lie = if dice.once_in(2) { edge } else { near };
        put_varint(&mut out, if at == liar { lie } else { bytes.len() as u64 });
        out.extend_from_slice(bytes);
    }
    let mut out = prefixed(&out);
    if liar == fields.len() {
        let edge = edge.to_be_bytes();
        out[1..5].copy_from_slice(&edge[4..]);
    }
    out
}
