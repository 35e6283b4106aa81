//! An S3 server in the test's own process, over a directory, whose answers the test may spoil.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures::stream;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::Service;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use s3s::auth::SimpleAuth;
use s3s::service::{S3Service, S3ServiceBuilder};
use s3s_fs::FileSystem;
use tempfile::TempDir;
use tokio::net::TcpListener;

use crate::server::Builder;
use crate::wait::pause;

const KEY: &str = "test";
const SECRET: &str = "secret";
const BUCKET: &str = "bucket";

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spoiled {
    /// This status, and nothing is done.
    Status(StatusCode),
    /// The connection is closed before anything is done, or after all is.
    Reset {
        /// After.
        done: bool,
    },
    /// It is done after this long.
    Late(Duration),
    /// It is done once nothing is spoiled any more.
    Held,
    /// Of the answer half comes, then the connection is closed.
    Cut,
}

/// Says what becomes of the nth request, counted from 0.
pub type Spoil = Arc<dyn Fn(u64) -> Option<Spoiled> + Send + Sync>;

/// An S3 server with one bucket. It answers as long as the runtime that it was started on runs.
pub struct S3 {
    address: SocketAddr,
    seen: Arc<Seen>,
    root: TempDir,
}

#[derive(Default)]
struct Seen {
    spoil: Mutex<Option<Spoil>>,
    requests: AtomicU64,
    gets: Gauge,
}

/// How many there are, and the most there were.
#[derive(Default)]
struct Gauge(AtomicU64, AtomicU64);

type Answer = Response<UnsyncBoxBody<Bytes, io::Error>>;

impl S3 {
    /// A server on a free port of loopback.
    ///
    /// # Panics
    /// Where there is none.
    pub async fn start() -> Self {
        let root = tempfile::tempdir().expect("a directory");
        std::fs::create_dir(root.path().join(BUCKET)).expect("a directory");
        let files = FileSystem::new(root.path()).expect("a file system");
        let mut service = S3ServiceBuilder::new(files);
        service.set_auth(SimpleAuth::from_single(KEY, SECRET));
        let service = service.build();
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let seen = Arc::<Seen>::default();
        let counted = Arc::clone(&seen);
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let (service, seen) = (service.clone(), Arc::clone(&counted));
                let answer = hyper::service::service_fn(move |request| {
                    answer(service.clone(), request, Arc::clone(&seen))
                });
                let connection = hyper::server::conn::http1::Builder::new();
                tokio::spawn(connection.serve_connection(TokioIo::new(socket), answer));
            }
        });
        Self {
            address,
            seen,
            root,
        }
    }

    /// Spoils answers from now on.
    pub fn spoil(&self, how: impl Fn(u64) -> Option<Spoiled> + Send + Sync + 'static) {
        *self.seen.plan() = Some(Arc::new(how));
    }

    /// Spoils none from now on.
    pub fn heal(&self) {
        *self.seen.plan() = None;
    }

    /// Requests so far.
    pub fn requests(&self) -> u64 {
        self.seen.requests.load(Ordering::SeqCst)
    }

    /// The most GETs that were under way at one time since this was asked last.
    pub fn most_gets(&self) -> u64 {
        self.seen.gets.1.swap(0, Ordering::SeqCst)
    }

    /// `http://HOST:PORT`.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// A place in its bucket.
    pub fn url(&self) -> String {
        format!("s3://{BUCKET}/a/prefix")
    }

    /// Where the objects of [`S3::url`] are files.
    pub fn files(&self) -> PathBuf {
        self.root.path().join(BUCKET).join("a/prefix")
    }

    /// A server with its cold tier here.
    #[must_use]
    pub fn under(&self, builder: Builder) -> Builder {
        builder
            .flag("--cold", self.url())
            .variable("AWS_ENDPOINT", self.endpoint())
            .variable("AWS_ALLOW_HTTP", "true")
            .variable("AWS_REGION", "us-east-1")
            .variable("AWS_ACCESS_KEY_ID", KEY)
            .variable("AWS_SECRET_ACCESS_KEY", SECRET)
    }
}

impl Seen {
    fn plan(&self) -> std::sync::MutexGuard<'_, Option<Spoil>> {
        self.spoil.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One that is counted as long as this lives.
struct Counted(Arc<Seen>);

impl Counted {
    fn new(seen: &Arc<Seen>) -> Self {
        let Gauge(now, most) = &seen.gets;
        most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        Self(Arc::clone(seen))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.gets.0.fetch_sub(1, Ordering::SeqCst);
    }
}

async fn answer(
    service: S3Service,
    request: Request<Incoming>,
    seen: Arc<Seen>,
) -> io::Result<Answer> {
    let nth = seen.requests.fetch_add(1, Ordering::SeqCst);
    let _counted = (request.method() == Method::GET).then(|| Counted::new(&seen));
    let plan = seen.plan().clone();
    let spoiled = plan.and_then(|plan| plan(nth));
    let reset = || io::Error::from(io::ErrorKind::ConnectionReset);
    match spoiled {
        Some(Spoiled::Status(status)) => {
            let nothing = Full::default().map_err(|never| match never {});
            let mut answer = Response::new(nothing.boxed_unsync());
            *answer.status_mut() = status;
            return Ok(answer);
        }
        Some(Spoiled::Reset { done: false }) => return Err(reset()),
        Some(Spoiled::Late(by)) => pause(by).await,
        Some(Spoiled::Held) => {
            while seen.plan().is_some() {
                pause(Duration::from_millis(1)).await;
            }
        }
        _ => {}
    }
    let answer = Service::call(&service, request)
        .await
        .map_err(|_| reset())?;
    match spoiled {
        Some(Spoiled::Reset { .. }) => Err(reset()),
        Some(Spoiled::Cut) => {
            let (head, body) = answer.into_parts();
            let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
            let half = Frame::data(body.slice(..body.len() / 2));
            let pieces = stream::iter([Ok(half), Err(reset())]);
            let body = StreamBody::new(pieces).boxed_unsync();
            Ok(Response::from_parts(head, body))
        }
        _ => Ok(answer.map(|body| body.map_err(io::Error::other).boxed_unsync())),
    }
}
