//! Stock clients: tonic's channel and arrow-flight's client, with their defaults.

use std::path::Path;

use arrow_flight::flight_service_client::FlightServiceClient;
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint, Error};

/// The largest message that a stock gRPC client takes.
pub const MESSAGE_BYTES_MAX: usize = 4 << 20;

/// A channel to what `bowstring serve` prints behind `flight`: `grpc://HOST:PORT`, or
/// `grpc+unix:PATH`.
///
/// # Errors
/// Where nobody listens.
pub async fn channel(uri: &str) -> Result<Channel, Error> {
    if let Some(path) = unix_path(uri) {
        let path = path.to_owned();
        // tonic wants an authority, whatever the socket is.
        let endpoint = Endpoint::from_static("http://localhost");
        let connector = tower::service_fn(move |_| {
            let path = path.clone();
            async move { UnixStream::connect(path).await.map(TokioIo::new) }
        });
        return endpoint.connect_with_connector(connector).await;
    }
    let address = uri.strip_prefix("grpc://").unwrap_or(uri);
    Endpoint::from_shared(format!("http://{address}"))?
        .connect()
        .await
}

/// A Flight client with its defaults on a channel of its own.
///
/// # Panics
/// Where nobody listens.
pub async fn flight(uri: &str) -> FlightServiceClient<Channel> {
    match channel(uri).await {
        Ok(channel) => FlightServiceClient::new(channel),
        Err(error) => panic!("cannot connect; uri=`{uri}` source=`{error:?}`"),
    }
}

fn unix_path(uri: &str) -> Option<&Path> {
    let path = uri.strip_prefix("grpc+unix:")?;
    Some(Path::new(path.strip_prefix("//").unwrap_or(path)))
}
