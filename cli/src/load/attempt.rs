//! Puts, one after the other on one connection, so that the last of two rows with one key is the last on the server too.

use std::time::Duration;

use bowstring_wire::action::{BeginLoadRequest, LoadRequest};
use bowstring_wire::descriptor::PutCommand;
use bowstring_wire::error::{Code, Error as WireError};
use bowstring_wire::name::Key;
use bowstring_wire::put_result::PutReply;
use bowstring_wire::reply::{BeginLoadReply, LoadReply, StatsReply};

use crate::Error;
use crate::client::Client;
use crate::clock::sleep;
use crate::load::bad_rows::BadRows;
use crate::load::feed::{Feed, Shared, batches};
use crate::load::journal::{Journal, State};
use crate::load::source::{Plan, What};
use crate::progress::Progress;
use crate::put_stream::{self, MESSAGE_BYTES};
use crate::target::Target;

const WAIT_FIRST: Duration = Duration::from_millis(100);
const WAIT_MOST: Duration = Duration::from_secs(5);
/// `resource_exhausted` also answers what no wait makes fit.
const EXHAUSTED_TRIES: u32 = 3;

/// A load on its way.
pub struct Attempt {
    pub target: Target,
    pub command: PutCommand,
    /// Whether a key that is there is to be anything but kept.
    pub mode_given: bool,
    pub plan: Plan,
    pub atomic: bool,
    pub replace_all: bool,
    pub patience: Duration,
    pub part_bytes: usize,
    pub bad_rows: Option<BadRows>,
    pub journal: Option<Journal>,
    pub state: State,
    pub progress: Progress,
}

/// How it ended.
#[derive(Clone, Copy, Debug)]
pub enum Ended {
    /// All is there.
    Done,
    /// It was to be all or nothing, and is nothing.
    Aborted,
    /// What the server had of it is gone.
    Again(&'static str),
}

const RESTARTED: &str = "the server was restarted and has forgotten what it had";
const LOAD_LOST: &str = "the load is no longer open on the server";

impl Attempt {
    /// How many rows an earlier run has done.
    pub fn rows_done(&self) -> u64 {
        let counts = self.state.counts;
        counts.stored + counts.existed + counts.bad
    }

    /// Begins anew.
    pub fn forget(&mut self) -> Result<(), Error> {
        self.state = State::default();
        if let Some(bad_rows) = &mut self.bad_rows {
            bad_rows.cut(0)?;
        }
        self.journal.as_mut().map_or(Ok(()), Journal::forget)
    }

    /// From where it is to the end.
    pub async fn run(&mut self) -> Result<Ended, Error> {
        let mut client = Client::connect(&self.target).await?;
        let start = start_of(&mut client).await?;
        let resumed = self.state != State::default();
        if resumed && self.state.start != start {
            return Ok(Ended::Again(RESTARTED));
        }
        if resumed {
            eprintln!(
                "bowstring: goes on where an earlier run was, after {} rows; --restart begins at the beginning",
                self.rows_done()
            );
        }
        self.state.start = start;
        if self.atomic {
            let load_id = match self.state.load_id.clone() {
                Some(load_id) => load_id,
                None => {
                    let request = BeginLoadRequest {
                        namespace: self.command.namespace.clone(),
                        replace_all: self.replace_all,
                        size_bytes: None,
                    };
                    let reply: BeginLoadReply =
                        client.action("begin_load", request.to_json()).await?;
                    self.state.load_id = Some(reply.load_id.clone());
                    self.remember()?;
                    reply.load_id
                }
            };
            self.command.load_id = Some(load_id);
        }
        let moved = self.move_all(&mut client).await;
        let ended = match moved {
            Ok(None) => self.finish(&mut client).await,
            Ok(Some(again)) => return Ok(again),
            Err(error) => Err(error),
        };
        match ended {
            Err(Error::Refused(error)) if self.atomic && is_lost(error.code) => {
                Ok(Ended::Again(LOAD_LOST))
            }
            // What is wrong with a file will be wrong with it the next time: the server need not wait for that.
            Err(error @ Error::File { .. }) if self.atomic => {
                self.abort(&mut client).await?;
                self.forget()?;
                Err(error)
            }
            other => other,
        }
    }

    /// Puts all that the files have.
    async fn move_all(&mut self, client: &mut Client) -> Result<Option<Ended>, Error> {
        let feed = Feed::new(
            self.plan.start(self.state.position),
            self.part_bytes,
            self.progress.clone(),
        );
        let mut unwritten = false;
        while feed.lock().await.begin().await {
            // Of the last put there is nothing to remember: the load is at its end.
            if std::mem::take(&mut unwritten) {
                self.remember()?;
            }
            let reply = match self.put(client, &feed).await? {
                Ok(reply) => reply,
                Err(again) => return Ok(Some(again)),
            };
            let items = std::mem::take(&mut feed.lock().await.kept);
            self.answered(client, &items, reply).await?;
            unwritten = true;
        }
        let failed = feed.lock().await.failed.take();
        if failed.is_some() && unwritten {
            self.remember()?;
        }
        failed.map_or(Ok(None), Err)
    }

    async fn finish(&mut self, client: &mut Client) -> Result<Ended, Error> {
        // A channel connects again by itself, so a restart between two puts is seen nowhere else.
        if self.again(client).await?.is_some() {
            return Ok(Ended::Again(RESTARTED));
        }
        if !self.atomic {
            return Ok(Ended::Done);
        }
        if self.state.counts.bad > 0 {
            self.abort(client).await?;
            return Ok(Ended::Aborted);
        }
        let _: LoadReply = client
            .action("commit_load", self.load_request().to_json())
            .await?;
        Ok(Ended::Done)
    }

    async fn abort(&mut self, client: &mut Client) -> Result<(), Error> {
        let aborted: Result<LoadReply, Error> = client
            .action("abort_load", self.load_request().to_json())
            .await;
        match aborted {
            Err(Error::Refused(error)) if error.code == Code::NotFound => Ok(()),
            other => other.map(drop),
        }
    }

    fn load_request(&self) -> LoadRequest {
        LoadRequest {
            load_id: self.state.load_id.clone().unwrap_or_default(),
            namespace: Some(self.command.namespace.clone()),
        }
    }

    /// One put, until it is answered.
    async fn put(
        &mut self,
        client: &mut Client,
        feed: &Shared,
    ) -> Result<Result<PutReply, Ended>, Error> {
        let (mut wait, mut waited, mut exhausted) = (WAIT_FIRST, Duration::ZERO, 0);
        loop {
            let error = match self.put_once(client, feed).await {
                Ok(reply) => return Ok(Ok(reply)),
                Err(error) => error,
            };
            let code = match &error {
                Error::Refused(error) => Some(error.code),
                Error::Unreachable { .. } | Error::Broken { .. } => Some(Code::Unavailable),
                _ => None,
            };
            let retry = match code {
                Some(Code::Unavailable | Code::DeadlineExceeded) => waited < self.patience,
                Some(Code::ResourceExhausted) if !self.atomic => {
                    exhausted += 1;
                    exhausted < EXHAUSTED_TRIES
                }
                _ => false,
            };
            if !retry {
                return Err(error);
            }
            if waited.is_zero() {
                eprintln!("bowstring: tries again: {error}");
            }
            sleep(wait).await;
            waited += wait;
            wait = (wait * 2).min(WAIT_MOST);
            if let Ok(connected) = Client::connect(&self.target).await {
                *client = connected;
                if let Ok(Some(again)) = self.again(client).await {
                    return Ok(Err(again));
                }
            }
        }
    }

    /// What is to be said where the server is not the one that the load began on.
    async fn again(&self, client: &mut Client) -> Result<Option<Ended>, Error> {
        let same = start_of(client).await? == self.state.start;
        Ok((!same).then_some(Ended::Again(RESTARTED)))
    }

    async fn put_once(&self, client: &mut Client, feed: &Shared) -> Result<PutReply, Error> {
        let (schema, tensor) = {
            let feed = feed.lock().await;
            let tensor = match feed.kept.first().map(|item| &item.what) {
                Some(What::Tensor(tensor)) => Some(tensor.clone()),
                _ => None,
            };
            (feed.schema(), tensor)
        };
        if let Some(tensor) = tensor {
            let key = tensor.key.as_deref().unwrap_or_default();
            let put = self.put_alone(client, key, &tensor).await;
            return self.as_row(key, put);
        }
        let schema = schema.ok_or_else(|| WireError::internal("a put of nothing"))?;
        put_stream::put(client, &self.command, &schema, batches(feed)).await
    }

    async fn put_alone(
        &self,
        client: &mut Client,
        key: &str,
        tensor: &crate::format::Tensor,
    ) -> Result<PutReply, Error> {
        let command = PutCommand {
            key: Some(Key::parse(key)?),
            ..self.command.clone()
        };
        let flat = tensor.flat(MESSAGE_BYTES);
        let (schema, batches) = flat.map_err(|error| Error::file("cannot put", key, error))?;
        put_stream::put(client, &command, &schema, futures::stream::iter(batches)).await
    }

    /// What is wrong with one tensor loses no other, as in a put of many.
    fn as_row(&self, key: &str, put: Result<PutReply, Error>) -> Result<PutReply, Error> {
        let mut reply = PutReply::default();
        match put {
            // The default of a put of many.
            Err(Error::Refused(error)) if error.code == Code::AlreadyExists && !self.mode_given => {
                reply.existed = 1
            }
            Err(Error::Refused(error))
                if matches!(error.code, Code::AlreadyExists | Code::InvalidArgument) =>
            {
                reply.push_error(0, Some(key), &error);
            }
            other => return other,
        }
        Ok(reply)
    }

    fn remember(&mut self) -> Result<(), Error> {
        let state = &self.state;
        self.journal
            .as_mut()
            .map_or(Ok(()), |journal| journal.reached(state))
    }
}

/// What is said of a load that was forgotten, and of one that somebody ended.
fn is_lost(code: Code) -> bool {
    matches!(code, Code::NotFound | Code::FailedPrecondition)
}

/// Which start of the server this is.
async fn start_of(client: &mut Client) -> Result<u64, Error> {
    let stats: StatsReply = client.action("stats", "{}".to_owned()).await?;
    Ok(stats.start)
}
