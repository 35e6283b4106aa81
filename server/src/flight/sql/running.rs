//! What runs under a ticket, so that whoever has the ticket can end it.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bowstring_wire::error::{Code, Error, Result};
use bowstring_wire::name::Tenant;
use bytes::Bytes;
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use crate::flight::authorize::Principal;
use crate::flight::out::Failure;

/// All gets of Flight SQL that are under way, by their tickets. Cheap to clone.
#[derive(Clone, Default)]
pub struct Running(Arc<Mutex<HashMap<Bytes, Vec<Arc<Run>>>>>);

struct Run {
    tenant: Tenant,
    cancel: CancellationToken,
    ended: CancellationToken,
    /// Whether it ended because of that.
    cancelled: AtomicBool,
}

/// One of them, until it is dropped.
pub struct Ticketed {
    running: Running,
    ticket: Bytes,
    run: Arc<Run>,
}

impl Running {
    /// Begins to run under a ticket.
    pub fn begin(&self, principal: &Principal, ticket: &[u8]) -> Ticketed {
        let run = Arc::new(Run {
            tenant: principal.tenant.clone(),
            cancel: CancellationToken::new(),
            ended: CancellationToken::new(),
            cancelled: AtomicBool::new(false),
        });
        let ticket = Bytes::copy_from_slice(ticket);
        let mut running = self.0.lock();
        let under = running.entry(ticket.clone()).or_default();
        under.push(run.clone());
        drop(running);
        Ticketed {
            running: self.clone(),
            ticket,
            run,
        }
    }

    /// Ends what runs under these tickets for who asks, and waits until it has ended. `false` where nothing did, or all of it
    /// ended by itself.
    pub async fn cancel(
        &self,
        principal: &Principal,
        tickets: impl IntoIterator<Item = Bytes>,
    ) -> bool {
        let mut found = Vec::new();
        {
            let running = self.0.lock();
            for ticket in tickets {
                let under = running.get(&ticket).into_iter().flatten();
                found.extend(under.filter(|run| run.tenant == principal.tenant).cloned());
            }
        }
        for run in &found {
            run.cancel.cancel();
        }
        let mut any = false;
        for run in found {
            run.ended.cancelled().await;
            any |= run.cancelled.load(Ordering::Acquire);
        }
        any
    }
}

impl Ticketed {
    /// What `work` makes, unless it is cancelled: for the steps of a query, between which its client can be told.
    ///
    /// # Errors
    /// `cancelled`.
    pub async fn step<T>(&self, work: impl Future<Output = T>) -> Result<T> {
        tokio::select! {
            biased;
            done = work => Ok(done),
            () = self.run.cancel.cancelled() => Err(cancelled()),
        }
    }

    /// All that runs under the ticket. Where that does not see by itself that it is cancelled, it is dropped, which may be in
    /// the middle of a message.
    pub async fn whole(
        &self,
        work: impl Future<Output = Result<(), Failure>>,
    ) -> Result<(), Failure> {
        let done = self.step(work).await;
        let done = done.unwrap_or_else(|error| Err(Failure::Late(error)));
        let failed = done.as_ref().err().map(Failure::code);
        let was = self.run.cancel.is_cancelled() && failed == Some(Code::Cancelled);
        self.run.cancelled.store(was, Ordering::Release);
        done
    }
}

impl Drop for Ticketed {
    fn drop(&mut self) {
        let mut running = self.running.0.lock();
        if let Some(under) = running.get_mut(&self.ticket) {
            under.retain(|run| !Arc::ptr_eq(run, &self.run));
            if under.is_empty() {
                running.remove(&self.ticket);
            }
        }
        drop(running);
        self.run.ended.cancel();
    }
}

fn cancelled() -> Error {
    Error::new(
        Code::Cancelled,
        "the query was cancelled by its client; what a statement had changed before that stays so",
    )
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use super::*;

    fn of(tenant: &str) -> Principal {
        Principal {
            tenant: Tenant::parse(tenant).unwrap(),
        }
    }

    #[tokio::test]
    async fn only_its_own_tenant_ends_what_runs_under_a_ticket() {
        let running = Running::default();
        let (ours, theirs) = (of("ours"), of("theirs"));
        let ticket = Bytes::from_static(b"a ticket");
        let run = running.begin(&ours, &ticket);
        let ends = tokio::spawn(async move { run.whole(pending()).await });
        assert!(!running.cancel(&theirs, [ticket.clone()]).await);
        let other = Bytes::from_static(b"another ticket");
        assert!(!running.cancel(&ours, [other]).await);
        assert!(!ends.is_finished());
        assert!(running.cancel(&ours, [ticket.clone()]).await);
        let ended = ends.await.unwrap().unwrap_err();
        assert_eq!(ended.code(), Code::Cancelled);
        // It has ended: there is nothing to cancel.
        assert!(!running.cancel(&ours, [ticket]).await);
        assert!(running.0.lock().is_empty());
    }

    #[tokio::test]
    async fn what_ends_by_itself_was_not_cancelled() {
        let running = Running::default();
        let ours = of("ours");
        let ticket = Bytes::from_static(b"a ticket");
        let run = running.begin(&ours, &ticket);
        run.run.cancel.cancel();
        assert!(run.whole(async { Ok(()) }).await.is_ok());
        assert!(!run.run.cancelled.load(Ordering::Acquire));
        drop(run);
        let runs = [running.begin(&ours, &ticket), running.begin(&ours, &ticket)];
        let ends = runs.map(|run| tokio::spawn(async move { run.whole(pending()).await }));
        assert!(running.cancel(&ours, [ticket]).await, "both");
        for end in ends {
            assert!(end.await.unwrap().is_err());
        }
    }
}
