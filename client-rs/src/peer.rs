//! Servers to test against: one on the `h2` crate, and one that plays written frames.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use bowstring_wire::dtype::DType;
use bowstring_wire::flight_data::encode_head;
use bowstring_wire::form::Form;
use bowstring_wire::get_layout::Chunks;
use bowstring_wire::ipc_write::{ABSENT, Node, record_batch};
use bowstring_wire::metadata::Metadata;
use bowstring_wire::schema::{StreamSchema, Tags};
use bowstring_wire::shape::Shape;
use bowstring_wire::ticket::Layout;
use bowstring_wire::version::Version;
use bytes::Bytes;
use h2::server::SendResponse;
use http::{HeaderMap, HeaderValue, Request, Response};

use crate::address::Address;
use crate::put;

/// What the server on the `h2` crate does.
#[derive(Clone)]
pub(crate) struct Behaviour {
    pub(crate) frame_max: u32,
    pub(crate) window: u32,
    /// How the response's bytes are cut before `h2` gets them.
    pub(crate) piece_bytes: usize,
    /// Bodies of the batches of a get.
    pub(crate) message_bytes: u64,
    /// Ends a call after so many response bytes, with `data_loss`.
    pub(crate) fail_after: Option<usize>,
    /// Refuses a put once it has seen so many request bytes.
    pub(crate) refuse_after: Option<usize>,
    pub(crate) dtype: DType,
    pub(crate) shape: Shape,
    pub(crate) tensor: Bytes,
}

impl Behaviour {
    pub(crate) fn of(dtype: DType, dims: &[u64]) -> Behaviour {
        let shape = Shape::new(dims).unwrap();
        let length = usize::try_from(shape.bytes(dtype).unwrap()).unwrap();
        let tensor = (0..length)
            .map(|i| u8::try_from(i * 31 % 251).unwrap())
            .collect::<Vec<_>>();
        Behaviour {
            frame_max: 1 << 20,
            window: 8 << 20,
            piece_bytes: 1 << 20,
            message_bytes: 16 << 20,
            fail_after: None,
            refuse_after: None,
            dtype,
            shape,
            tensor: Bytes::from(tensor),
        }
    }
}

/// What the server has received by puts: each request's bytes.
pub(crate) type Received = Arc<Mutex<Vec<Vec<u8>>>>;

/// Serves any number of connections until the test process ends.
pub(crate) fn serve(behaviour: Behaviour) -> (Address, Received) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = Address::Tcp(listener.local_addr().unwrap().to_string());
    let received = Received::default();
    let into = Arc::clone(&received);
    thread::spawn(move || {
        for stream in listener.incoming() {
            let (behaviour, into) = (behaviour.clone(), Arc::clone(&into));
            thread::spawn(move || connection(stream.unwrap(), &behaviour, &into));
        }
    });
    (address, received)
}

fn connection(stream: TcpStream, behaviour: &Behaviour, received: &Received) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        stream.set_nonblocking(true).unwrap();
        let stream = tokio::net::TcpStream::from_std(stream).unwrap();
        let mut builder = h2::server::Builder::new();
        builder.max_frame_size(behaviour.frame_max);
        builder
            .initial_window_size(behaviour.window)
            .initial_connection_window_size(behaviour.window);
        let mut connection = builder.handshake::<_, Bytes>(stream).await.unwrap();
        while let Some(Ok((request, respond))) = connection.accept().await {
            let (behaviour, received) = (behaviour.clone(), Arc::clone(received));
            tokio::spawn(async move {
                if request.uri().path() == put::PATH {
                    do_put(request, respond, &behaviour, &received).await;
                } else {
                    do_get(request, respond, &behaviour).await;
                }
            });
        }
    });
}

async fn do_get(
    mut request: Request<h2::RecvStream>,
    mut respond: SendResponse<Bytes>,
    behaviour: &Behaviour,
) {
    let mut ticket = Vec::new();
    while let Some(data) = request.body_mut().data().await {
        ticket.extend_from_slice(&data.unwrap());
    }
    if ticket.ends_with(b"\"missing\"}") {
        let response = Response::builder()
            .header("content-type", "application/grpc")
            .header("grpc-status", "5")
            .header("grpc-message", "not_found: no such key, key=`missing`")
            .header("bowstring-code", "not_found");
        respond
            .send_response(response.body(()).unwrap(), true)
            .unwrap();
        return;
    }
    let response = Response::builder()
        .header("content-type", "application/grpc")
        .body(())
        .unwrap();
    let mut stream = respond.send_response(response, false).unwrap();
    let mut left = behaviour.fail_after.unwrap_or(usize::MAX);
    for mut part in response_parts(behaviour) {
        while !part.is_empty() && left > 0 {
            let mut piece = part.split_to(part.len().min(behaviour.piece_bytes).min(left));
            left -= piece.len();
            while !piece.is_empty() {
                stream.reserve_capacity(piece.len());
                let Some(Ok(granted)) = std::future::poll_fn(|cx| stream.poll_capacity(cx)).await
                else {
                    return;
                };
                let now = granted.min(piece.len());
                if stream.send_data(piece.split_to(now), false).is_err() {
                    return;
                }
            }
        }
    }
    if behaviour.fail_after.is_some() {
        let _ = stream.send_trailers(status(
            "15",
            "data_loss: the checksum does not agree",
            "data_loss",
        ));
    } else {
        let _ = stream.send_trailers(HeaderMap::from_iter([(
            "grpc-status".parse().unwrap(),
            HeaderValue::from(0),
        )]));
    }
}

/// Schema, batches, and a closing batch of no rows, as their pieces.
fn response_parts(behaviour: &Behaviour) -> Vec<Bytes> {
    let Behaviour { dtype, shape, .. } = behaviour;
    let schema = StreamSchema::Tensor {
        dtype: *dtype,
        shape,
        flat: false,
        tags: Tags {
            namespace: "default",
            key: "a",
            version: Version::from_parts(1, 2, 3),
            checksum: Some(7),
            metadata: &Metadata::new([("unit".to_owned(), "mm".to_owned())]).unwrap(),
        },
    };
    let mut parts = vec![encode_head(&schema.message().unwrap(), &[], 0).unwrap()];
    for chunk in Chunks::new(*dtype, shape, Layout::Rows, behaviour.message_bytes).unwrap() {
        let body =
            usize::try_from(chunk.body.start).unwrap()..usize::try_from(chunk.body.end).unwrap();
        parts.push(chunk.head(b"meta").unwrap());
        parts.push(behaviour.tensor.slice(body));
        parts.push(Bytes::from(vec![
            0;
            usize::try_from(chunk.padding).unwrap()
        ]));
    }
    let nodes: &[Node] = if Form::rows(*dtype, shape).unwrap().cell.is_some() {
        &[Node::of(0), Node::of(0)]
    } else {
        &[Node::of(0)]
    };
    let closing = record_batch(0, nodes, &vec![ABSENT; nodes.len() + 1], 0);
    parts.push(encode_head(&closing, b"{}", 0).unwrap());
    parts
}

async fn do_put(
    mut request: Request<h2::RecvStream>,
    mut respond: SendResponse<Bytes>,
    behaviour: &Behaviour,
    received: &Received,
) {
    let mut bytes = Vec::new();
    while let Some(data) = request.body_mut().data().await {
        let Ok(data) = data else { return };
        request
            .body_mut()
            .flow_control()
            .release_capacity(data.len())
            .unwrap();
        bytes.extend_from_slice(&data);
        if behaviour
            .refuse_after
            .is_some_and(|after| bytes.len() >= after)
        {
            let response = Response::builder()
                .header("content-type", "application/grpc")
                .body(())
                .unwrap();
            let mut stream = respond.send_response(response, false).unwrap();
            stream
                .send_trailers(status(
                    "8",
                    "resource_exhausted: no room, bytes=`9`",
                    "resource_exhausted",
                ))
                .unwrap();
            return;
        }
    }
    received.lock().unwrap().push(bytes);
    let response = Response::builder()
        .header("content-type", "application/grpc")
        .body(())
        .unwrap();
    let mut stream = respond.send_response(response, false).unwrap();
    let result = br#"{"stored":1,"existed":0,"bytes":0,"errors":[],"errors_total":0}"#;
    let length = u8::try_from(result.len()).unwrap();
    let mut message = vec![0, 0, 0, 0, length + 2, 0x0a, length];
    message.extend_from_slice(result);
    stream.send_data(Bytes::from(message), false).unwrap();
    stream
        .send_trailers(HeaderMap::from_iter([(
            "grpc-status".parse().unwrap(),
            HeaderValue::from(0),
        )]))
        .unwrap();
}

fn status(status: &'static str, message: &'static str, code: &'static str) -> HeaderMap {
    let pairs = [
        ("grpc-status", status),
        ("grpc-message", message),
        ("bowstring-code", code),
    ];
    pairs
        .into_iter()
        .map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_static(value)))
        .collect()
}

/// Plays `frames` to the first connection as soon as it has sent its preface, and then what `answers` say after each of
/// the client's writes; hands back all that the client sent once it is gone.
pub(crate) fn play(scripts: Vec<Vec<u8>>) -> (Address, thread::JoinHandle<Vec<u8>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = Address::Tcp(listener.local_addr().unwrap().to_string());
    let handle = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut seen = Vec::new();
        let mut buffer = vec![0; 1 << 16];
        for script in scripts {
            let read = stream.read(&mut buffer).unwrap();
            seen.extend_from_slice(&buffer[..read]);
            stream.write_all(&script).unwrap();
        }
        while let Ok(read @ 1..) = stream.read(&mut buffer) {
            seen.extend_from_slice(&buffer[..read]);
        }
        seen
    });
    (address, handle)
}
