//! The Flight service: what every call passes before and after its verb.

use std::sync::Arc;
use std::time::Duration;

use bowstring_cache::Cache;
use bowstring_cache::clock::Clock;
use bowstring_cold::tier::Cold;
use bowstring_wire::error::{Code, Error, clip};
use h2::RecvStream;
use h2::server::SendResponse;
use http::{Method, Request};
use tokio_util::sync::CancellationToken;
use tonic_health::pb::health_server::HealthServer;
use tonic_health::server::{HealthReporter, HealthService};

use super::authorize::{Principal, authenticate};
use super::client::Client;
use super::counter::Counter;
use super::gather::BufferPool;
use super::load::Loads;
use super::out::Failure;
use super::room::{CallBytes, CallRoom};
use super::slow::{Began, Line, Notes};
use super::snapshots::Snapshots;
use super::sql::{Asking, Cookie, Prepared, Sql};
use super::stall::{self, Cut, Stalls};
use super::turns::Turns;
use super::verb::Verb;
use crate::attached::Attached;
use crate::config::LoadRoot;
use crate::conn::{ConnHandle, WireBudget};
use crate::grpc::{self, Chunk, RequestBody, Responder};
use crate::metrics::{Begun, Metrics};

/// Settings of the verbs.
#[derive(Clone, Debug)]
pub struct FlightSettings {
    /// A put whose client sends nothing for this long is cut off.
    pub put_idle: Duration,
    /// A request that takes longer gets a line in the log.
    pub slow_request: Option<Duration>,
    /// Whether gRPC reflection is served.
    pub reflection: bool,
    /// Where files lie that may be loaded.
    pub load_roots: Vec<LoadRoot>,
    /// How many bytes of them a second.
    pub load_rate: u64,
}

/// Everything a verb needs. Cheap to clone.
#[derive(Clone)]
pub struct Service(Arc<Parts>);

/// The parts of a [`Service`].
pub struct Parts {
    /// The engine.
    pub cache: Cache,
    /// The tier below it, for its figures.
    pub cold: Option<Cold>,
    /// Namespaces that are rows of files.
    pub attached: Attached,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// The wire account.
    pub budget: WireBudget,
    /// Gather buffers.
    pub buffers: BufferPool,
    /// What calls themselves cost.
    pub room: CallRoom,
    /// Queries over it.
    pub sql: Option<Sql>,
    /// Statements that were prepared.
    pub prepared: Prepared,
    /// Queries that are under way, and sessions.
    pub asking: Asking,
    /// Loads of files.
    pub loads: Loads,
    /// Snapshots whose partitions may be asked for.
    pub snapshots: Snapshots,
    /// Who stores the rows of all bulk puts: together about as many as there are threads.
    pub writers: Counter,
    /// Responses that wait for their peer.
    pub stalls: Stalls,
    /// Whose rows are stored next.
    pub turns: Turns,
    /// Counters.
    pub metrics: Metrics,
    /// Settings.
    pub settings: FlightSettings,
    health: HealthReporter,
    draining: CancellationToken,
}

/// One call, as a verb sees it.
pub struct Call<'a> {
    /// Who calls.
    pub principal: Principal,
    /// What kind of client.
    pub client: Client,
    /// The session of Flight SQL that it names.
    pub cookie: Cookie,
    /// By when it must be done, counted from its beginning.
    pub deadline: Option<Duration>,
    /// The request's body.
    pub body: RequestBody,
    /// Room for what has come of it.
    pub room: CallBytes,
    /// The connection.
    pub conn: Arc<ConnHandle>,
    /// Where its bytes are counted.
    pub counted: &'a Begun,
    /// What the slow-request log may say of it.
    pub notes: &'a Notes,
}

impl std::ops::Deref for Service {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.0
    }
}

impl Service {
    /// A service over `cache`.
    pub fn new(
        cache: Cache,
        (cold, attached): (Option<Cold>, Attached),
        sql: Option<Sql>,
        clock: Arc<dyn Clock>,
        budget: WireBudget,
        metrics: Metrics,
        settings: FlightSettings,
    ) -> Self {
        let health = HealthReporter::new();
        let buffers = BufferPool::new(budget.clone());
        let stalls = Stalls::default();
        let room = CallRoom::new(cache.clone());
        let snapshots = Snapshots::new(cache.ledger(), &clock);
        let prepared = Prepared::new(cache.clone());
        let asking = Asking::new(cache.clone());
        Self(Arc::new(Parts {
            cache,
            cold,
            attached,
            clock,
            budget,
            buffers,
            room,
            sql,
            prepared,
            asking,
            loads: Loads::new(settings.load_roots.clone(), settings.load_rate),
            snapshots,
            writers: Counter::default(),
            stalls,
            turns: Turns::new(),
            metrics,
            settings,
            health,
            draining: CancellationToken::new(),
        }))
    }

    /// Tells the health service that we are going; calls that are under way go on. Those who watch
    /// it are told and sent away: such a call has no end of its own, and the drain would wait for it
    /// until its time is over.
    pub async fn set_draining(&self) {
        let not_serving = tonic_health::ServingStatus::NotServing;
        let mut health = self.health.clone();
        health.set_service_status("", not_serving).await;
        // A status that goes ends its watchers, once they have been told the last of it.
        health.clear_service_status("").await;
        health.set_service_status("", not_serving).await;
        self.draining.cancel();
    }

    /// Cancelled when we are going: for calls that have no end of their own.
    pub fn draining(&self) -> CancellationToken {
        self.draining.child_token()
    }

    /// Takes a request on; the answer is made by a task of its own.
    pub fn on_call(
        &self,
        request: Request<RecvStream>,
        respond: SendResponse<Chunk>,
        conn: &Arc<ConnHandle>,
    ) {
        let (service, conn) = (self.clone(), conn.clone());
        // On the heap at once: the runtime moves a task several times before and after it runs, and
        // moving this one was half of what a small get cost.
        tokio::spawn(Box::pin(async move {
            let clock = service.clock.clone();
            let request = request.map(|stream| RequestBody::new(stream, clock));
            let respond = Responder::new(respond);
            match service.room.call(&conn) {
                Ok(_room) => service.route(request, respond, conn).await,
                Err(error) => {
                    let verb = Verb::of_path(request.uri().path());
                    service.metrics.begin(verb).failed(error.code);
                    let _ = respond.fail(&error);
                }
            }
        }));
    }

    async fn route(self, request: Request<RequestBody>, respond: Responder, conn: Arc<ConnHandle>) {
        let path = request.uri().path();
        if let Some(verb) = Verb::of_path(path) {
            self.answer(verb, request, respond, conn).await;
        } else if path.starts_with("/grpc.health.v1.Health/") {
            let health = HealthService::from_health_reporter(self.health.clone());
            let health = HealthServer::new(health);
            let _ = Box::pin(grpc::call_mounted(health, request, respond)).await;
        } else if self.settings.reflection && path.starts_with("/grpc.reflection.") {
            Box::pin(self.reflect(request, respond)).await;
        } else {
            let error = Error::unimplemented(format!(
                "no such method; got=`{}` expected=`/arrow.flight.protocol.FlightService/…`",
                clip(path, 128)
            ));
            let _ = respond.fail(&error);
        }
    }

    /// Its streams have no end of their own: a drain ends them.
    async fn reflect(&self, request: Request<RequestBody>, respond: Responder) {
        let files = super::reflection::files();
        let mounted = async {
            if request
                .uri()
                .path()
                .starts_with("/grpc.reflection.v1alpha.")
            {
                let Ok(service) = files.build_v1alpha() else {
                    return;
                };
                let _ = grpc::call_mounted(service, request, respond).await;
            } else {
                let Ok(service) = files.build_v1() else {
                    return;
                };
                let _ = grpc::call_mounted(service, request, respond).await;
            }
        };
        tokio::select! {
            () = mounted => {}
            () = self.draining.cancelled() => {}
        }
    }

    async fn answer(
        self,
        verb: Verb,
        request: Request<RequestBody>,
        mut respond: Responder,
        conn: Arc<ConnHandle>,
    ) {
        let counted = self.metrics.begin(Some(verb));
        let (began, notes) = (Began::now(&self), Notes::new(&self));
        let run = self.run(verb, request, &mut respond, &conn, (&counted, &notes));
        let result = match run.await {
            Ok(()) => respond.finish().map_err(Failure::from),
            failed => failed,
        };
        counted.sent(respond.take_uncounted_bytes());
        // The requests of an exchange have lines of their own.
        if verb != Verb::DoExchange {
            let line = Line {
                tenant: notes.tenant(),
                verb: verb.name(),
                code: result.as_ref().err().map(Failure::code),
                bytes: respond.sent_bytes(),
                room: notes.room(),
                sending: respond.waited(),
            };
            began.log(&self, &line, || notes.whom());
        }
        match result {
            Ok(()) => {
                counted.ok();
                self.watch(respond, &conn).await;
            }
            Err(Failure::Gone) => {
                respond.reset();
                counted.failed(Code::Cancelled);
            }
            // Trailers in the middle of a message are INTERNAL to the clients of Go and Java; of a reset behind their
            // deadline all make DEADLINE_EXCEEDED.
            Err(Failure::Late(error)) => {
                tracing::debug!(verb = verb.name(), %error, "too late");
                counted.failed(error.code);
                if respond.has_begun() {
                    respond.reset();
                } else {
                    let _ = respond.fail(&error);
                }
            }
            Err(Failure::Stalled) => {
                let written = conn.written_bytes();
                respond.reset();
                counted.failed(Code::ResourceExhausted);
                stall::after_reset(&self, &conn, written).await;
            }
            Err(Failure::Refused(error)) => {
                if error.code == Code::Internal {
                    tracing::error!(verb = verb.name(), %error, "a call failed for a reason of ours");
                } else {
                    tracing::debug!(verb = verb.name(), %error, "refused");
                }
                counted.failed(error.code);
                let _ = respond.fail(&error);
            }
        }
    }

    /// Watches a response that has ended until its peer has taken it, while the wire account is scarce:
    /// a reader that asks for little and reads nothing would keep it for ever.
    async fn watch(&self, respond: Responder, conn: &Arc<ConnHandle>) {
        if !self.budget.is_scarce() {
            return;
        }
        let untaken = respond.untaken();
        if let Err(Cut) = self.stalls.until_taken(&*self.clock, untaken).await {
            let written = conn.written_bytes();
            respond.reset();
            stall::after_reset(self, conn, written).await;
        }
    }

    async fn run(
        &self,
        verb: Verb,
        request: Request<RequestBody>,
        respond: &mut Responder,
        conn: &Arc<ConnHandle>,
        (counted, notes): (&Begun, &Notes),
    ) -> Result<(), Failure> {
        let (head, body) = request.into_parts();
        check_grpc(&head)?;
        let principal = authenticate(&head.headers, conn.peer())?;
        notes.of(&principal.tenant);
        let deadline = grpc::parse_timeout(&head.headers)?;
        if verb == Verb::DoExchange {
            super::do_exchange::check_headers(&head.headers)?;
        }
        let client = Client::of(&head.headers);
        let call = Call {
            principal,
            client,
            cookie: Cookie::of(&head.headers),
            deadline,
            body,
            room: self.room.nothing(),
            conn: conn.clone(),
            counted,
            notes,
        };
        let verb = self.dispatch(verb, call, respond);
        match deadline {
            None => verb.await,
            Some(deadline) => tokio::select! {
                biased;
                result = verb => result,
                () = self.clock.sleep(deadline) => Err(Failure::Late(Error::new(
                    Code::DeadlineExceeded,
                    format!("the call's own deadline has passed; deadline_ms=`{}`", deadline.as_millis()),
                ))),
            },
        }
    }

    async fn dispatch(
        &self,
        verb: Verb,
        call: Call<'_>,
        respond: &mut Responder,
    ) -> Result<(), Failure> {
        // Boxed, so that a get of one tensor does not carry the room that a put needs.
        match verb {
            Verb::DoGet => super::do_get::run(self, call, respond).await,
            Verb::DoPut => Box::pin(super::do_put::run(self, call, respond)).await,
            Verb::GetFlightInfo => Box::pin(super::get_flight_info::run(self, call, respond)).await,
            Verb::GetSchema => {
                Box::pin(super::get_flight_info::run_schema(self, call, respond)).await
            }
            Verb::ListFlights => Box::pin(super::list_flights::run(self, call, respond)).await,
            Verb::DoAction => Box::pin(super::do_action::run(self, call, respond)).await,
            Verb::ListActions => super::do_action::list(call, respond).await,
            Verb::DoExchange => Box::pin(super::do_exchange::run(self, call, respond)).await,
            Verb::Handshake | Verb::PollFlightInfo => Err(Failure::Refused(Error::unimplemented(
                format!("this verb is not built yet; verb=`{}`", verb.name()),
            ))),
        }
    }
}

/// What gRPC over HTTP/2 asks of a request.
fn check_grpc(head: &http::request::Parts) -> Result<(), Error> {
    if head.method != Method::POST {
        return Err(Error::invalid(format!(
            "gRPC requests are POST; got=`{}`",
            head.method
        )));
    }
    let content_type = head
        .headers
        .get("content-type")
        .map(http::HeaderValue::as_bytes);
    if !content_type.is_some_and(|value| value.starts_with(b"application/grpc")) {
        return Err(Error::invalid(
            "the content-type of a gRPC request is `application/grpc`",
        ));
    }
    match head
        .headers
        .get("grpc-encoding")
        .map(http::HeaderValue::as_bytes)
    {
        None | Some(b"identity") => Ok(()),
        Some(other) => Err(Error::unimplemented(format!(
            "compression is not taken; got grpc-encoding=`{}` expected=`identity`",
            String::from_utf8_lossy(other)
        ))),
    }
}
