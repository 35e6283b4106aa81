//! `/healthz` and `/metrics` over HTTP/1.1, for probes and scrapers.
//!
//! A request a connection, a few seconds each, and a cap on both: whoever holds these open holds
//! nothing else.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use bowstring_cache::clock::Clock;
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

use crate::metrics::Metrics;
use crate::shutdown::Shutdown;

/// Most connections at once; further ones wait in the kernel's queue.
const CONNECTIONS_MAX: usize = 128;
/// Time for one request and its answer.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
/// Pause after an accept that failed, as it does where descriptors have run out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Most bytes of a request's head.
const HEAD_BYTES_MAX: usize = 16 << 10;

/// What the routes need.
#[derive(Clone)]
pub struct HttpState {
    /// The counters behind `/metrics`.
    pub metrics: Metrics,
    /// Whether we drain, for `/healthz`.
    pub shutdown: Shutdown,
}

/// The routes, for any server.
pub fn router(state: HttpState) -> Router {
    Router::new()
        .route("/healthz", get(healthz))
        .route("/metrics", get(metrics))
        .with_state(state)
}

/// Serves the routes until `stop` is cancelled. They answer all through a drain, so that a probe
/// sees it: `stop` comes after it.
pub async fn serve(
    listener: TcpListener,
    state: HttpState,
    clock: Arc<dyn Clock>,
    stop: CancellationToken,
) {
    let router = router(state);
    let permits = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => return,
            accepted = accept(&listener, &permits) => accepted,
        };
        match accepted {
            Ok((socket, permit)) => {
                let (router, clock, stop) = (router.clone(), clock.clone(), stop.clone());
                tokio::spawn(async move {
                    let _permit = permit;
                    tokio::select! {
                        () = answer(socket, router) => {}
                        () = clock.sleep(REQUEST_TIMEOUT) => {}
                        () = stop.cancelled() => {}
                    }
                });
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept an http connection");
                clock.sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn accept(
    listener: &TcpListener,
    permits: &Arc<Semaphore>,
) -> io::Result<(TcpStream, tokio::sync::OwnedSemaphorePermit)> {
    let permit = permits
        .clone()
        .acquire_owned()
        .await
        .map_err(io::Error::other)?;
    let (socket, _) = listener.accept().await?;
    Ok((socket, permit))
}

async fn answer(socket: TcpStream, router: Router) {
    let service = hyper::service::service_fn(move |request: http::Request<Incoming>| {
        router.clone().oneshot(request.map(axum::body::Body::new))
    });
    let served = hyper::server::conn::http1::Builder::new()
        .keep_alive(false)
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(socket), service)
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "http connection ended");
    }
}

async fn healthz(State(state): State<HttpState>) -> Response {
    if state.shutdown.is_draining() {
        (StatusCode::SERVICE_UNAVAILABLE, "draining").into_response()
    } else {
        "ok".into_response()
    }
}

async fn metrics(State(state): State<HttpState>) -> Response {
    match tokio::task::spawn_blocking(move || state.metrics.render()).await {
        Ok(page) => {
            let kind = "text/plain; version=0.0.4; charset=utf-8";
            ([(header::CONTENT_TYPE, kind)], page).into_response()
        }
        // It panicked, and the hook has logged that.
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::{Body, to_bytes};
    use axum::http::Request;
    use bowstring_cache::clock::ManualClock;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    fn state() -> (HttpState, Arc<ManualClock>) {
        let clock = Arc::new(ManualClock::new(0));
        let state = HttpState {
            metrics: Metrics::new(clock.clone()),
            shutdown: Shutdown::new(),
        };
        (state, clock)
    }

    async fn ask(state: &HttpState, method: &str, path: &str) -> (StatusCode, String, String) {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .body(Body::empty())
            .unwrap();
        let response = router(state.clone()).oneshot(request).await.unwrap();
        let kind = response.headers().get(header::CONTENT_TYPE);
        let kind = kind.map_or("", |kind| kind.to_str().unwrap()).to_owned();
        let status = response.status();
        let body = to_bytes(response.into_body(), 1 << 20).await.unwrap();
        (status, kind, String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn health_is_ok_until_the_drain() {
        let (state, _) = state();
        let (status, _, body) = ask(&state, "GET", "/healthz").await;
        assert_eq!((status, body.as_str()), (StatusCode::OK, "ok"));
        state.shutdown.drain();
        let (status, _, body) = ask(&state, "GET", "/healthz").await;
        assert_eq!(
            (status, body.as_str()),
            (StatusCode::SERVICE_UNAVAILABLE, "draining")
        );
    }

    #[tokio::test]
    async fn metrics_are_text_and_other_paths_nothing() {
        let (state, _) = state();
        let (status, kind, body) = ask(&state, "GET", "/metrics").await;
        assert_eq!(status, StatusCode::OK);
        assert!(kind.starts_with("text/plain; version=0.0.4"));
        assert!(body.contains("\nbowstring_requests_total{"));
        assert_eq!(ask(&state, "GET", "/").await.0, StatusCode::NOT_FOUND);
        assert_eq!(
            ask(&state, "POST", "/healthz").await.0,
            StatusCode::METHOD_NOT_ALLOWED
        );
    }

    #[tokio::test]
    async fn a_silent_connection_is_closed_and_others_are_answered() {
        let (state, clock) = state();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let server = tokio::spawn(serve(listener, state, clock.clone(), stop.clone()));

        let mut silent = TcpStream::connect(address).await.unwrap();
        let mut asking = TcpStream::connect(address).await.unwrap();
        asking
            .write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n")
            .await
            .unwrap();
        let mut answer = String::new();
        asking.read_to_string(&mut answer).await.unwrap();
        assert!(
            answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("\r\n\r\nok"),
            "{answer}"
        );

        // The second was accepted after the first, so the first's time runs.
        clock.advance(REQUEST_TIMEOUT);
        assert_eq!(silent.read(&mut [0]).await.unwrap(), 0);
        stop.cancel();
        server.await.unwrap();
    }
}
