//! The action `load`: files that lie with the server become entries of a namespace, all at once, and `load_status` of that.
//!
//! - `roots` (with `pattern`): which files there are, and that they may be read
//! - `read`: their rows, on a thread; `rate`: how fast
//! - `job`: one load, from its beginning to its commit
//! - here: those that there are

mod job;
mod pattern;
mod rate;
mod read;
pub mod roots;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use arrow_flight::Result as ActionResult;
use bowstring_cache::loads::LoadSpec;
use bowstring_wire::action::{LoadFilesRequest, LoadRequest};
use bowstring_wire::error::{Error, Result, clip};
use bowstring_wire::limits::MAX_QUOTED_BYTES;
use bowstring_wire::name::Tenant;
use bowstring_wire::reply::Reply as _;
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::authorize::{Operation, Principal, Resource, authorize};
use super::counter::Counter;
use super::out::Failure;
use super::reply;
use super::service::Service;
use crate::config::LoadRoot;
use crate::grpc::Responder;
use job::Job;
use rate::Rate;
use roots::{Found, Roots};

/// Loads of files at one time.
const JOBS_MAX: usize = 4;
/// Loads of files that can be asked for, when they have ended too.
const REMEMBERED_MAX: usize = 256;
/// How often it is told how far a load is.
const TOLD_EVERY: Duration = Duration::from_millis(500);

/// The loads of files of a server.
#[derive(Debug)]
pub struct Loads {
    roots: Roots,
    rate: Rate,
    running: Counter,
    jobs: Mutex<VecDeque<Arc<Job>>>,
}

impl Loads {
    /// None yet, of files under `roots`, all together at so many bytes a second.
    pub fn new(roots: Vec<LoadRoot>, bytes_per_second: u64) -> Loads {
        Loads {
            roots: Roots::new(roots),
            rate: Rate::new(bytes_per_second),
            running: Counter::default(),
            jobs: Mutex::default(),
        }
    }

    /// Whether a load is one of files that are being read; then nobody else commits it.
    pub fn is_filling(&self, tenant: &Tenant, load_id: &str) -> bool {
        self.find(tenant, load_id).is_some_and(|job| job.is_open())
    }

    /// Has a load of files, if it is one, end now; nothing of it is kept.
    pub fn cancel(&self, tenant: &Tenant, load_id: &str) {
        if let Some(job) = self.find(tenant, load_id) {
            job.cancel.cancel();
        }
    }

    /// The files that a request names.
    ///
    /// # Errors
    /// Those of [`Roots::find`].
    pub async fn found(&self, named: Vec<String>) -> Result<Vec<Found>> {
        self.roots.find_apart(named).await
    }

    fn find(&self, tenant: &Tenant, load_id: &str) -> Option<Arc<Job>> {
        let jobs = self.jobs.lock();
        let mut of_tenant = jobs.iter().filter(|job| job.tenant == *tenant);
        of_tenant.find(|job| job.load_id == load_id).cloned()
    }

    fn remember(&self, job: &Arc<Job>) {
        let mut jobs = self.jobs.lock();
        while jobs.len() >= REMEMBERED_MAX {
            let Some(ended) = jobs.iter().position(|job| !job.is_open()) else {
                break;
            };
            jobs.remove(ended);
        }
        jobs.push_back(Arc::clone(job));
    }
}

/// Answers `load`: tells now and then how far it is, and at the end what it came to. Whoever goes before that ends it, but for one that is detached.
pub async fn load(
    service: &Service,
    principal: &Principal,
    body: &[u8],
    respond: &mut Responder,
) -> Result<(), Failure> {
    let mut request = LoadFilesRequest::parse(body)?;
    let namespace = request.namespace.clone();
    authorize(principal, Operation::Put, Resource::Namespace(&namespace))?;
    let (counted, running) = service.loads.running.add();
    if running >= JOBS_MAX {
        return Err(Failure::Refused(Error::exhausted(format!(
            "too many loads of files are under way, try again when one has ended; limit=`{JOBS_MAX}`"
        ))));
    }
    let found = std::mem::take(&mut request.files);
    let found = service.loads.found(found).await?;
    let spec = LoadSpec {
        replace_all: request.replace_all,
        size_bytes: None,
    };
    let tenant = &principal.tenant;
    let job = Arc::new(Job::new(
        service.cache.begin_load(tenant, &namespace, spec)?,
        tenant.clone(),
        namespace,
        found.len(),
        match request.detach {
            // Nobody waits for it, so the end of the server does not either.
            true => service.draining(),
            false => CancellationToken::new(),
        },
    ));
    service.loads.remember(&job);
    let detach = request.detach;
    let run = job::run(
        service.clone(),
        Arc::clone(&job),
        principal.clone(),
        request,
        found,
        counted,
    );
    let run = tokio::spawn(run);
    if detach {
        return tell(service, &job, respond).await;
    }
    let mut run = AbortOnDropHandle::new(run);
    loop {
        tell(service, &job, respond).await?;
        tokio::select! {
            biased;
            ended = &mut run => {
                ended.map_err(|_| Error::internal("a load has stopped"))??;
                return tell(service, &job, respond).await;
            }
            () = respond.gone() => return Err(Failure::Gone),
            () = service.clock.sleep(TOLD_EVERY) => {}
        }
    }
}

/// Answers `load_status`.
pub fn status(service: &Service, principal: &Principal, body: &[u8]) -> Result<String> {
    let LoadRequest { load_id, namespace } = LoadRequest::parse(body)?;
    let job = service.loads.find(&principal.tenant, &load_id);
    let job = job.filter(|job| namespace.is_none_or(|namespace| namespace == job.namespace));
    let job = job.ok_or_else(|| {
        Error::not_found(format!(
            "no such load of files, or its end is forgotten; load_id=`{}`",
            clip(&load_id, MAX_QUOTED_BYTES)
        ))
    })?;
    let resource = Resource::Namespace(&job.namespace);
    authorize(principal, Operation::Put, resource)?;
    Ok(job.reply(&service.cache).to_json())
}

async fn tell(service: &Service, job: &Job, respond: &mut Responder) -> Result<(), Failure> {
    let body = job.reply(&service.cache).to_json().into();
    reply::send(respond, &ActionResult { body }).await
}
