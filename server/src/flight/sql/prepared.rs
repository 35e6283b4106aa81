//! Statements that are kept for who prepared them: their text, and the values of their parameters. They are planned
//! each time that they are asked for, so that what is kept is what was sent.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use arrow_array::RecordBatch;
use bowstring_cache::Cache;
use bowstring_cache::ledger::{Account, Charge};
use bowstring_wire::error::{Error, Result};
use bowstring_wire::name::Tenant;
use bytes::Bytes;
use parking_lot::Mutex;

use crate::flight::authorize::Principal;
use crate::flight::do_put::Messages;

/// Statements that are kept at once.
const KEPT_MAX: usize = 10_000;
/// For how long one is kept that nobody asks for.
const IDLE: Duration = Duration::from_secs(3600);
/// What one takes beside its text.
const STATEMENT_BYTES: u64 = 256;

/// All of them.
pub struct Prepared {
    cache: Cache,
    /// Which start this is: a handle of another one names nothing.
    start: u32,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    next: u64,
    kept: BTreeMap<u64, Kept>,
}

struct Kept {
    tenant: Tenant,
    text: Arc<str>,
    /// Whether it changes something, which it may do several times, each with other values.
    changes: bool,
    values: Option<(Vec<RecordBatch>, Charge)>,
    /// On the monotonic clock.
    used_at: Duration,
    _room: Charge,
}

impl Prepared {
    /// None yet. What they take is charged to the ledger of `cache`.
    pub fn new(cache: Cache) -> Self {
        Self {
            start: cache.stats().start,
            state: Mutex::default(),
            cache,
        }
    }

    /// Keeps a statement; gives its handle.
    ///
    /// # Errors
    /// `resource_exhausted` where too many are kept, or there is no memory for another.
    pub fn keep(&self, principal: &Principal, text: String, changes: bool) -> Result<Bytes> {
        let room = self.charge(text.len() as u64 + STATEMENT_BYTES)?;
        let now = self.cache.clock().monotonic();
        let mut state = self.state.lock();
        state.kept.retain(|_, kept| kept.used_at + IDLE > now);
        if state.kept.len() >= KEPT_MAX {
            return Err(Error::exhausted(format!(
                "too many statements are prepared; close those that are done with; limit=`prepared_max` \
                 value=`{KEPT_MAX}`"
            )));
        }
        state.next += 1;
        let number = state.next;
        let kept = Kept {
            tenant: principal.tenant.clone(),
            text: text.into(),
            changes,
            values: None,
            used_at: now,
            _room: room,
        };
        state.kept.insert(number, kept);
        Ok(format!("{:08x}-{number}", self.start).into())
    }

    /// A statement's text, and the values of its parameters: none where it was given none.
    ///
    /// # Errors
    /// `not_found` where it is not kept (any more).
    pub fn find(
        &self,
        principal: &Principal,
        handle: &[u8],
    ) -> Result<(Arc<str>, Vec<RecordBatch>)> {
        self.with(principal, handle, |kept| {
            let values = kept.values.as_ref().map(|(values, _)| values.clone());
            (kept.text.clone(), values.unwrap_or_default())
        })
    }

    /// Reads values for a statement's parameters.
    ///
    /// # Errors
    /// `not_found` where it is not kept (any more), `invalid_argument` for no row, `unimplemented` for several of a query.
    pub async fn bind(
        &self,
        principal: &Principal,
        handle: &[u8],
        messages: &mut Messages<'_>,
    ) -> Result<()> {
        let changes = self.with(principal, handle, |kept| kept.changes)?;
        let values = super::values::read(messages).await?;
        let rows: usize = values.iter().map(RecordBatch::num_rows).sum();
        if rows == 0 {
            return Err(Error::invalid(
                "expected one row with a value for each parameter; got=`0` rows",
            ));
        }
        if rows > 1 && !changes {
            return Err(Error::unimplemented(format!(
                "a query is run with one row of values; expected `1` row, got=`{rows}`"
            )));
        }
        let bytes = values.iter().map(RecordBatch::get_array_memory_size);
        let room = self.charge(bytes.sum::<usize>() as u64)?;
        self.with(principal, handle, |kept| {
            kept.values = Some((values, room));
        })
    }

    /// Forgets a statement, where it is there.
    pub fn close(&self, principal: &Principal, handle: &[u8]) {
        let number = self.number(handle);
        let mut state = self.state.lock();
        if let Some(number) = number
            && let Some(kept) = state.kept.get(&number)
            && kept.tenant == principal.tenant
        {
            state.kept.remove(&number);
        }
    }

    fn with<T>(
        &self,
        principal: &Principal,
        handle: &[u8],
        of: impl FnOnce(&mut Kept) -> T,
    ) -> Result<T> {
        let now = self.cache.clock().monotonic();
        let number = self.number(handle);
        let mut state = self.state.lock();
        let kept = number.and_then(|number| state.kept.get_mut(&number));
        let kept = kept.filter(|kept| kept.tenant == principal.tenant && kept.used_at + IDLE > now);
        let kept = kept.ok_or_else(|| {
            Error::not_found(
                "no such prepared statement: it was closed, or not used for an hour, or the server was started anew; \
                 prepare it again",
            )
        })?;
        kept.used_at = now;
        Ok(of(kept))
    }

    fn number(&self, handle: &[u8]) -> Option<u64> {
        let (start, number) = str::from_utf8(handle).ok()?.split_once('-')?;
        (start == format!("{:08x}", self.start)).then(|| number.parse().ok())?
    }

    fn charge(&self, bytes: u64) -> Result<Charge> {
        self.cache.charge(Account::Sql, bytes).ok_or_else(|| {
            Error::exhausted(format!(
                "no memory to keep a prepared statement; limit=`memory` wanted_bytes=`{bytes}`"
            ))
        })
    }
}
