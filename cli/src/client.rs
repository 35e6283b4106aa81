//! A connection to a server, and the actions of the wire contract over it.

use arrow_flight::Action;
use arrow_flight::flight_service_client::FlightServiceClient;
use bowstring_client::Address;
use bowstring_wire::error::{Code, Error as WireError};
use bowstring_wire::reply::Reply;
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint};

use crate::Error;

/// What one message may be: the server sends no larger ones, but a row that is larger by itself.
const MESSAGE_BYTES_MAX: usize = 2 << 30;

/// A Flight client of one server.
#[derive(Clone, Debug)]
pub struct Client {
    /// For the verbs that are streams.
    pub flight: FlightServiceClient<Channel>,
}

impl Client {
    /// Connects.
    pub async fn connect(address: &Address) -> Result<Client, Error> {
        let unreachable = |source| Error::Unreachable {
            endpoint: address.clone(),
            source,
        };
        let channel = match address {
            Address::Tcp(host) => {
                let endpoint = Endpoint::from_shared(format!("http://{host}"));
                endpoint
                    .map_err(unreachable)?
                    .tcp_nodelay(true)
                    .connect()
                    .await
            }
            Address::Unix(path) => {
                let path = path.clone();
                let connector = tower::service_fn(move |_| {
                    let path = path.clone();
                    async move { UnixStream::connect(path).await.map(TokioIo::new) }
                });
                // tonic wants an authority, whatever the socket is.
                Endpoint::from_static("http://localhost")
                    .connect_with_connector(connector)
                    .await
            }
        };
        let flight = FlightServiceClient::new(channel.map_err(unreachable)?)
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX);
        Ok(Client { flight })
    }

    /// One action: its request's JSON, and its one reply.
    pub async fn action<R: Reply>(&mut self, name: &str, request: String) -> Result<R, Error> {
        let action = Action::new(name, request);
        let mut replies = self
            .flight
            .do_action(action)
            .await
            .map_err(refused)?
            .into_inner();
        let reply = replies.message().await.map_err(refused)?;
        let reply = reply.ok_or_else(|| {
            WireError::internal(format!("the server answered nothing; action=`{name}`"))
        })?;
        Ok(R::parse(&reply.body)?)
    }
}

/// What a server, or the way to it, said: the stable code begins the message.
pub fn refused(status: tonic::Status) -> Error {
    let (code, message) = match status.message().split_once(": ") {
        Some((code, rest)) if Code::from_str(code).is_some() => (Code::from_str(code), rest),
        _ => (None, status.message()),
    };
    let code = code.unwrap_or(match status.code() {
        // What tonic itself says of a connection that broke.
        tonic::Code::Unavailable | tonic::Code::Unknown => Code::Unavailable,
        tonic::Code::DeadlineExceeded => Code::DeadlineExceeded,
        tonic::Code::Cancelled => Code::Cancelled,
        _ => Code::Internal,
    });
    WireError::new(code, message.to_owned()).into()
}
