//! grpc.health.v1, as Kubernetes and load balancers ask it.

use bowstring_tests::{Server, within};
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};

fn of(service: &str) -> HealthCheckRequest {
    HealthCheckRequest {
        service: service.to_owned(),
    }
}

fn serving(reply: Option<HealthCheckResponse>) -> Option<ServingStatus> {
    reply.map(|reply| reply.status())
}

#[tokio::test]
async fn a_server_that_serves_says_so() {
    let server = Server::shared();
    let mut client = HealthClient::new(server.channel().await);
    let reply = client.check(of("")).await.unwrap().into_inner();
    assert_eq!(reply.status(), ServingStatus::Serving);
    let unknown = client.check(of("no such service")).await.unwrap_err();
    assert_eq!(unknown.code(), tonic::Code::NotFound);
    assert_eq!(server.http_get("/healthz").0, 200);
    assert_eq!(server.http_get("/nothing").0, 404);
}

/// Who watches is told, and does not hold up the end.
#[tokio::test]
async fn a_watcher_is_told_of_the_drain() {
    let mut server = Server::start();
    let mut client = HealthClient::new(server.channel().await);
    let mut watch = client.watch(of("")).await.unwrap().into_inner();
    let first = within("the first status", watch.message()).await.unwrap();
    assert_eq!(serving(first), Some(ServingStatus::Serving));
    server.terminate();
    let last = within("the last status", watch.message()).await.unwrap();
    assert_eq!(serving(last), Some(ServingStatus::NotServing));
    assert_eq!(
        within("the end", watch.message()).await.ok().flatten(),
        None
    );
    assert_eq!(server.ended().await, Some(0));
    assert!(
        !server.stderr().contains("timed out"),
        "{}",
        server.stderr()
    );
}
