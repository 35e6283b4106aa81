//! What gRPC itself asks of both ends: content types, compression, deadlines.

use std::time::Duration;

use arrow_flight::{Empty, Ticket};
use bowstring_tests::{Server, within};
use bowstring_wire::dtype::DType;
use bytes::Bytes;
use futures::{StreamExt as _, stream};
use tonic::Request;

use crate::grpc::{call, connect, framed};
use crate::space::{Space, encoded, refused};
use crate::tensor::Tensor;

const SERVICE: &str = "/arrow.flight.protocol.FlightService";

#[tokio::test]
async fn what_is_not_grpc_or_not_ours() {
    let server = Server::shared();
    let send = connect(server.address()).await;
    let nothing = framed(&Empty {});
    let list = format!("{SERVICE}/ListActions");
    for (path, headers, code) in [
        (
            list.as_str(),
            &[("content-type", "text/plain")][..],
            "invalid_argument",
        ),
        (
            "/arrow.flight.protocol.FlightService/DoNothing",
            &[],
            "unimplemented",
        ),
        ("/other.Service/DoGet", &[], "unimplemented"),
        ("/", &[], "unimplemented"),
        (&list, &[("grpc-timeout", "soon")], "invalid_argument"),
    ] {
        let answer = call(&send, path, headers, nothing.clone(), true).await;
        assert_eq!(answer.code(), code, "{path} {headers:?}");
        assert_eq!(answer.headers["bowstring-wire"], "1");
    }
    let answer = call(&send, &list, &[], nothing, true).await;
    assert_eq!((answer.status(), answer.code()), ("0", ""));
    assert!(!answer.body.is_empty());
}

#[tokio::test]
async fn grpc_compression_is_refused() {
    let server = Server::shared();
    let send = connect(server.address()).await;
    let list = format!("{SERVICE}/ListActions");
    let plain = framed(&Empty {});
    for encoding in ["gzip", "zstd", "deflate", "identity,gzip"] {
        let headers = [("grpc-encoding", encoding)];
        let answer = call(&send, &list, &headers, plain.clone(), true).await;
        assert_eq!(
            (answer.status(), answer.code()),
            ("12", "unimplemented"),
            "{encoding}"
        );
    }
    let identity = call(
        &send,
        &list,
        &[("grpc-encoding", "identity")],
        plain.clone(),
        true,
    )
    .await;
    assert_eq!(identity.status(), "0");
    // The flag of the message, without the header.
    let flagged = |message: &Bytes| {
        let mut message = message.to_vec();
        message[0] = 1;
        Bytes::from(message)
    };
    for verb in [
        "DoGet",
        "DoPut",
        "GetFlightInfo",
        "DoAction",
        "ListFlights",
        "ListActions",
    ] {
        let message = framed(&Ticket::new("{\"key\": \"a\"}"));
        let path = format!("{SERVICE}/{verb}");
        let answer = call(&send, &path, &[], flagged(&message), true).await;
        assert_eq!(
            (answer.status(), answer.code()),
            ("12", "unimplemented"),
            "{verb}"
        );
    }
}

/// A deadline holds for the whole call, its body included: one that never comes, here.
#[tokio::test]
async fn a_clients_deadline_is_kept() {
    let server = Server::shared();
    let send = connect(server.address()).await;
    for verb in ["GetFlightInfo", "DoAction", "DoGet", "DoPut"] {
        let path = format!("{SERVICE}/{verb}");
        let headers = [("grpc-timeout", "50m")];
        let answer = call(&send, &path, &headers, Bytes::from_static(&[0]), false).await;
        assert_eq!(
            (answer.status(), answer.code()),
            ("4", "deadline_exceeded"),
            "{verb}"
        );
    }
    // A stock client keeps its own deadline too, and may be first.
    let space = Space::new("deadline").await;
    let batch = Tensor::sample(DType::Int8, &[1]).batch();
    let messages = encoded(space.path("a"), batch.schema(), vec![batch]).map(Result::unwrap);
    let mut request = Request::new(messages.chain(stream::pending()));
    request.set_timeout(Duration::from_millis(50));
    let mut client = space.client.inner().clone();
    let put = within("a put", async {
        match client.do_put(request).await {
            Ok(replies) => replies.into_inner().message().await.map(|_| ()),
            Err(status) => Err(status),
        }
    });
    let code = put.await.unwrap_err().code();
    let late = [tonic::Code::DeadlineExceeded, tonic::Code::Cancelled];
    assert!(late.contains(&code), "{code}");
    refused(space.tensor("a").await, "not_found", &[]);
}
