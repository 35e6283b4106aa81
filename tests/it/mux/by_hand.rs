//! An exchange by hand, for what our own client cannot be made to do.

use arrow_flight::FlightData;
use bowstring_tests::within;
use bowstring_wire::mux::{MuxOp, MuxPrefix, MuxReply, MuxRequest};
use bytes::{Buf as _, Bytes, BytesMut};
use h2::client::SendRequest;
use h2::{RecvStream, SendStream};
use http::{HeaderMap, Request};
use prost::Message as _;
use tokio::net::TcpStream;

use crate::grpc::framed;

/// One exchange, read as slowly as its test wants.
pub struct Exchange {
    send: SendStream<Bytes>,
    receive: RecvStream,
    received: BytesMut,
}

/// A connection whose streams are read one by one: none takes another's window.
pub async fn connect(address: &str) -> SendRequest<Bytes> {
    let socket = TcpStream::connect(address).await.unwrap();
    let mut builder = h2::client::Builder::new();
    builder.initial_connection_window_size(1 << 30);
    let handshake = builder.handshake(socket);
    let (send, connection) = within("a handshake", handshake).await.unwrap();
    tokio::spawn(connection);
    send
}

pub fn get() -> MuxOp {
    MuxOp::Get {
        rows: None,
        unless_version: None,
    }
}

impl Exchange {
    /// Begins one, and waits for an answer to its first request: a look at a key that is not there.
    pub async fn open(connection: &SendRequest<Bytes>, namespace: &str) -> Exchange {
        let request =
            Request::post("http://localhost/arrow.flight.protocol.FlightService/DoExchange")
                .header("content-type", "application/grpc")
                .body(())
                .unwrap();
        let mut connection = within("a connection", connection.clone().ready())
            .await
            .unwrap();
        let (response, mut send) = connection.send_request(request, false).unwrap();
        let command = format!("{{\"exchange\":\"mux\",\"namespace\":\"{namespace}\"}}");
        let opening = FlightData {
            flight_descriptor: Some(arrow_flight::FlightDescriptor::new_cmd(command)),
            ..FlightData::default()
        };
        send.send_data(framed(&opening), false).unwrap();
        let look = message(0, "nobody has this", MuxOp::Exists, &[]);
        send.send_data(look, false).unwrap();
        let response = within("a response", response).await.unwrap();
        let mut exchange = Exchange {
            send,
            receive: response.into_body(),
            received: BytesMut::new(),
        };
        let (id, reply, _) = exchange.reply().await.unwrap();
        assert!(id == 0 && matches!(reply, MuxReply::Failed(_)));
        exchange
    }

    pub fn ask(&mut self, id: u32, key: &str, op: MuxOp) {
        self.send(message(id, key, op, &[]));
    }

    pub fn send(&mut self, bytes: Bytes) {
        self.send.send_data(bytes, false).unwrap();
    }

    pub fn end(&mut self) {
        self.send.send_data(Bytes::new(), true).unwrap();
    }

    /// The next message; the trailers where there is none.
    pub async fn reply(&mut self) -> Result<(u32, MuxReply, Bytes), HeaderMap> {
        within("a reply", async {
            loop {
                if let Some(length) = self.received.get(1..5) {
                    let length = u32::from_be_bytes(length.try_into().unwrap()) as usize;
                    if self.received.len() >= 5 + length {
                        self.received.advance(5);
                        let message = self.received.split_to(length).freeze();
                        let message = FlightData::decode(message).unwrap();
                        let (id, reply) = MuxReply::decode(&message.app_metadata).unwrap();
                        return Ok((id, reply, message.data_body));
                    }
                }
                match self.receive.data().await {
                    Some(Ok(data)) => {
                        self.receive
                            .flow_control()
                            .release_capacity(data.len())
                            .unwrap();
                        self.received.extend_from_slice(&data);
                    }
                    Some(Err(error)) => panic!("{error}"),
                    None => return Err(self.receive.trailers().await.unwrap().unwrap()),
                }
            }
        })
        .await
    }

    /// The error of a request, which must be the next message.
    pub async fn failed(&mut self, id: u32) -> bowstring_wire::error::Error {
        match self.reply().await {
            Ok((of, MuxReply::Failed(error), _)) if of == id => error,
            other => panic!("{other:?}"),
        }
    }

    /// The code with which the stream ends, after whatever was on its way.
    pub async fn ended(&mut self) -> String {
        loop {
            if let Err(trailers) = self.reply().await {
                let code = trailers.get("bowstring-code");
                return code.map_or("ok", |code| code.to_str().unwrap()).to_owned();
            }
        }
    }
}

/// A request as it goes over the wire.
pub fn message(id: u32, key: &str, op: MuxOp, body: &[u8]) -> Bytes {
    let namespace = None;
    let request = MuxRequest {
        id,
        namespace,
        key,
        op,
    };
    let mut header = Vec::new();
    request.encode(&mut header).unwrap();
    of_header(&header, body)
}

/// A message of any header.
pub fn of_header(header: &[u8], body: &[u8]) -> Bytes {
    let prefix = MuxPrefix::new(header.len(), body.len() as u64).unwrap();
    [&prefix.front[..], header, &prefix.back, body]
        .concat()
        .into()
}
