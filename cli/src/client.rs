//! A connection to a server, and the calls of the wire contract over it that answer at once.

use std::error::Error as _;
use std::time::Duration;

use arrow_flight::flight_service_client::FlightServiceClient;
use arrow_flight::{Action, Criteria, FlightInfo};
use bowstring_client::Address;
use bowstring_wire::action::ListFilter;
use bowstring_wire::error::{Code, Error as WireError};
use bowstring_wire::reply::Reply;
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tonic::Status;
use tonic::transport::{Channel, Endpoint, Error as TransportError};

use crate::target::Target;
use crate::{Error, clock};

/// What one message may be, which is what gRPC can say: the server sends large ones only where a row is large by itself.
const MESSAGE_BYTES_MAX: usize = 4 << 30;

/// A Flight client of one server.
#[derive(Clone, Debug)]
pub struct Client {
    /// The connection.
    pub channel: Channel,
    /// For the verbs that are streams.
    pub flight: FlightServiceClient<Channel>,
}

impl Client {
    /// Connects.
    ///
    /// # Errors
    /// [`Error::Unreachable`].
    pub async fn connect(target: &Target) -> Result<Client, Error> {
        let unreachable = |cause: String| Error::Unreachable {
            endpoint: target.endpoint.clone(),
            cause,
        };
        let channel = match clock::within(target.timeout, channel(target)).await {
            Some(Ok(channel)) => channel,
            Some(Err(error)) => return Err(unreachable(root_of(&error))),
            None => return Err(unreachable("nothing came in time".to_owned())),
        };
        let flight =
            FlightServiceClient::new(channel.clone()).max_decoding_message_size(MESSAGE_BYTES_MAX);
        Ok(Client { channel, flight })
    }

    /// One action: its request's JSON, and its one reply.
    ///
    /// # Errors
    /// What the server said, or why it cannot be heard.
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

    /// The entries that `filter` lets through, all of them at once: give it a limit.
    ///
    /// # Errors
    /// What the server said, or why it cannot be heard.
    pub async fn list(&mut self, filter: &ListFilter) -> Result<Vec<FlightInfo>, Error> {
        let criteria = Criteria {
            expression: filter.to_json().into(),
        };
        let mut infos = self
            .flight
            .list_flights(criteria)
            .await
            .map_err(refused)?
            .into_inner();
        let mut listed = Vec::new();
        while let Some(info) = infos.message().await.map_err(refused)? {
            listed.push(info);
        }
        Ok(listed)
    }
}

/// What a server, or the way to it, said: a server's message begins with a stable code.
pub fn refused(status: Status) -> Error {
    if let Some((code, message)) = status.message().split_once(": ")
        && let Some(code) = Code::from_str(code)
    {
        return WireError::new(code, message.to_owned()).into();
    }
    // What broke the connection stands behind what tonic makes of it.
    if let Some(source) = status.source() {
        return Error::Broken {
            cause: root_of(source),
        };
    }
    let code = match status.code() {
        tonic::Code::Unavailable => Code::Unavailable,
        tonic::Code::DeadlineExceeded => Code::DeadlineExceeded,
        tonic::Code::Cancelled => Code::Cancelled,
        tonic::Code::Unimplemented => Code::Unimplemented,
        _ => Code::Internal,
    };
    WireError::new(code, status.message().to_owned()).into()
}

async fn channel(target: &Target) -> Result<Channel, TransportError> {
    match &target.endpoint {
        Address::Tcp(host) => {
            let endpoint = Endpoint::from_shared(format!("http://{host}"))?;
            watched(endpoint, target.timeout).connect().await
        }
        Address::Unix(path) => {
            let path = path.clone();
            let connector = tower::service_fn(move |_| {
                let path = path.clone();
                async move { UnixStream::connect(path).await.map(TokioIo::new) }
            });
            // tonic wants an authority, whatever the socket is.
            watched(Endpoint::from_static("http://localhost"), target.timeout)
                .connect_with_connector(connector)
                .await
        }
    }
}

/// A server that is stopped, or a network that is gone, closes no connection: pings tell.
fn watched(endpoint: Endpoint, timeout: Duration) -> Endpoint {
    endpoint
        .tcp_nodelay(true)
        .http2_keep_alive_interval(timeout / 2)
        .keep_alive_timeout(timeout / 2)
}

/// The last of a chain of causes, which is what a person can act on: `Connection refused`.
fn root_of(error: &(dyn std::error::Error + 'static)) -> String {
    let mut root = error;
    while let Some(source) = root.source() {
        root = source;
    }
    let told = root.to_string();
    match told.split_once(" (os error ") {
        Some((told, _)) => told.to_owned(),
        None => told,
    }
}
