//! One load of files: begun, filled batch by batch, and committed or forgotten.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use bowstring_cache::Cache;
use bowstring_cache::loads::LoadOutcome;
use bowstring_files::ColumnMap;
use bowstring_wire::action::LoadFilesRequest;
use bowstring_wire::descriptor::PutCommand;
use bowstring_wire::error::{Code, Error, Result, visible};
use bowstring_wire::name::{Namespace, Tenant};
use bowstring_wire::put_result::PutReply;
use bowstring_wire::put_schema::PutSchema;
use bowstring_wire::reply::LoadFilesReply;
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use super::read::{Piece, Reading};
use super::roots::Found;
use crate::flight::authorize::Principal;
use crate::flight::counter::Counted;
use crate::flight::do_put::bulk::{Storing, store_of};
use crate::flight::service::Service;

/// A load of files, for who asks how far it is.
#[derive(Debug)]
pub struct Job {
    /// The load's id.
    pub load_id: String,
    /// Whose it is.
    pub tenant: Tenant,
    /// Where its keys go.
    pub namespace: Namespace,
    files: u64,
    files_done: AtomicU64,
    rows: AtomicU64,
    /// Ends it.
    pub cancel: CancellationToken,
    ended: Mutex<Option<Result<LoadOutcome>>>,
}

impl Job {
    /// One that begins.
    pub fn new(
        load_id: String,
        tenant: Tenant,
        namespace: Namespace,
        files: usize,
        cancel: CancellationToken,
    ) -> Job {
        Job {
            load_id,
            tenant,
            namespace,
            files: files as u64,
            files_done: AtomicU64::new(0),
            rows: AtomicU64::new(0),
            cancel,
            ended: Mutex::new(None),
        }
    }

    /// Whether it goes on.
    pub fn is_open(&self) -> bool {
        self.ended.lock().is_none()
    }

    /// How far it is.
    pub fn reply(&self, cache: &Cache) -> LoadFilesReply {
        let ended = self.ended.lock().clone();
        let loads = cache.loads(&self.tenant);
        let listed = loads.into_iter().find(|load| load.id == self.load_id);
        let state = match (&listed, &ended) {
            (Some(load), _) => load.state,
            (None, Some(Ok(_))) => "committed",
            (None, _) => "aborted",
        };
        let outcome = match &ended {
            Some(Ok(outcome)) => Some(*outcome),
            _ => listed.as_ref().map(|load| load.holds),
        };
        let error = ended.and_then(Result::err);
        LoadFilesReply {
            load_id: self.load_id.clone(),
            state: state.to_owned(),
            files: self.files,
            files_done: self.files_done.load(Relaxed),
            rows: self.rows.load(Relaxed),
            entries: outcome.map_or(0, |outcome| outcome.entries),
            bytes: outcome.map_or(0, |outcome| outcome.bytes),
            code: error.as_ref().map(|error| error.code.as_str().to_owned()),
            message: error.map(|error| error.message.into_owned()),
        }
    }
}

/// Fills the load from its files and commits it. Where that fails, or is given up, the load is aborted.
///
/// # Errors
/// Of the first file or row that cannot be loaded; `cancelled`; those of a put and of a commit.
pub async fn run(
    service: Service,
    job: Arc<Job>,
    principal: Principal,
    request: LoadFilesRequest,
    files: Vec<Found>,
    _counted: Counted,
) -> Result<()> {
    let mut open = Open {
        cache: service.cache.clone(),
        job: Arc::clone(&job),
        why: cancelled(),
    };
    let filled = tokio::select! {
        biased;
        () = job.cancel.cancelled() => Err(cancelled()),
        filled = fill(&service, &job, &principal, request, files.into()) => filled,
    };
    let committed = match filled {
        Ok(()) => service.cache.commit_load(&job.tenant, &job.load_id).await,
        Err(error) => Err(error),
    };
    match committed {
        Ok(outcome) => {
            *job.ended.lock() = Some(Ok(outcome));
            Ok(())
        }
        Err(error) => {
            open.why = error.clone();
            Err(error)
        }
    }
}

/// A load that is forgotten unless it has been committed.
struct Open {
    cache: Cache,
    job: Arc<Job>,
    why: Error,
}

impl Drop for Open {
    fn drop(&mut self) {
        let mut ended = self.job.ended.lock();
        if ended.is_none() {
            *ended = Some(Err(self.why.clone()));
            drop(ended);
            // It may have been aborted, or forgotten, by others.
            let _ = self.cache.abort_load(&self.job.tenant, &self.job.load_id);
        }
    }
}

fn cancelled() -> Error {
    Error::new(
        Code::Cancelled,
        "the load was given up before its files were read; nothing was loaded",
    )
}

async fn fill(
    service: &Service,
    job: &Job,
    principal: &Principal,
    request: LoadFilesRequest,
    files: Arc<[Found]>,
) -> Result<()> {
    let command = PutCommand {
        namespace: job.namespace.clone(),
        mode: request.mode,
        ttl_ms: request.ttl_ms,
        load_id: Some(job.load_id.clone()),
        ..PutCommand::default()
    };
    let mut pieces = Reading {
        files: Arc::clone(&files),
        map: ColumnMap {
            key: request.columns.key,
            tensor: request.columns.tensor,
            metadata: request.columns.metadata,
            ..ColumnMap::default()
        },
        prefix: request.prefix,
        cache: service.cache.clone(),
        load: service
            .cache
            .load(&job.tenant, &job.namespace, &job.load_id)?,
    }
    .start();
    let mut storing: Option<Part> = None;
    while let Some(piece) = pieces.recv().await {
        match piece? {
            Piece::Columns { file, row, schema } => {
                finish(storing.take(), &files).await?;
                let wrong = |error: Error| of_file(error, &files[file]);
                let PutSchema::Bulk(schema) = PutSchema::parse(&schema).map_err(wrong)? else {
                    return Err(Error::internal("rows of a file have one column"));
                };
                let store = store_of(service, principal, command.clone(), &schema);
                let store = store.map_err(wrong)?;
                let newcomer = service.turns.enter(None)?;
                let rows = Storing::new(store, newcomer, None);
                storing = Some(Part { rows, file, row });
            }
            Piece::Batch { batch, rows } => {
                let Some(part) = &mut storing else {
                    return Err(Error::internal("rows of a file came before its columns"));
                };
                let rate = &service.loads.rate;
                rate.take(&*service.clock, batch.body.len()).await;
                let pushed = part.rows.push(batch).await;
                pushed.map_err(|error| of_file(error, &files[part.file]))?;
                job.rows.fetch_add(rows, Relaxed);
            }
            Piece::End => {
                finish(storing.take(), &files).await?;
                job.files_done.fetch_add(1, Relaxed);
            }
        }
    }
    match job.files_done.load(Relaxed) {
        done if done == job.files => Ok(()),
        _ => Err(Error::internal("whoever read the files has stopped")),
    }
}

/// Rows of one file that have the same columns.
struct Part {
    rows: Storing,
    file: usize,
    /// The first of them.
    row: u64,
}

/// Waits until its rows are stored, all of them.
async fn finish(part: Option<Part>, files: &[Found]) -> Result<()> {
    let Some(Part { rows, file, row }) = part else {
        return Ok(());
    };
    let PutReply {
        errors,
        errors_total,
        ..
    } = rows.finish().await?;
    let Some(first) = errors.first() else {
        return Ok(());
    };
    let code = Code::from_str(&first.code).unwrap_or(Code::InvalidArgument);
    Err(Error::new(
        code,
        format!(
            "a row cannot be loaded, and so nothing was: {}; file=`{}` row=`{}` key=`{}` bad_rows=`{errors_total}`",
            first.message,
            files[file].name(),
            row + first.row,
            first.key.as_deref().map(visible).unwrap_or_default(),
        ),
    ))
}

/// What is wrong, and with which file.
fn of_file(error: Error, file: &Found) -> Error {
    Error::new(
        error.code,
        format!(
            "a file cannot be loaded, and so nothing was: {}; file=`{}`",
            error.message,
            file.name()
        ),
    )
}
