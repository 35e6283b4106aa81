//! Snapshots that GetFlightInfo took for several DoGets: their tickets name them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bowstring_cache::clock::Clock;
use bowstring_cache::ledger::{Account, Charge, Ledger};
use bowstring_cache::snapshot::{self, Snapshot};
use bowstring_wire::error::{Error, Result};
use bowstring_wire::limits::SNAPSHOT_LIFETIME_MS;
use bowstring_wire::name::{Key, Namespace, Tenant};
use bowstring_wire::ticket::{Part, Select, Ticket};
use bowstring_wire::version::Version;
use parking_lot::Mutex;

use super::authorize::Principal;

/// Snapshots that are kept at once.
const KEPT_MAX: usize = 64;
/// What a key takes beside its own bytes.
const KEY_BYTES: usize = 64;

/// One of them.
pub struct Kept {
    tenant: Tenant,
    namespace: Namespace,
    prefix: String,
    snapshot: Snapshot,
    /// The last keys of all parts but the last.
    ends: Vec<Key>,
    /// On the monotonic clock.
    until: Duration,
    _room: Charge,
}

/// All of them.
pub struct Snapshots {
    ledger: Arc<Ledger>,
    clock: Arc<dyn Clock>,
    kept: Mutex<BTreeMap<Version, Arc<Kept>>>,
}

impl Snapshots {
    /// None yet.
    pub fn new(ledger: &Arc<Ledger>, clock: &Arc<dyn Clock>) -> Self {
        Self {
            ledger: Arc::clone(ledger),
            clock: Arc::clone(clock),
            kept: Mutex::default(),
        }
    }

    /// Keeps a snapshot of `prefix`, cut behind the keys `ends`, for its lifetime.
    ///
    /// # Errors
    /// `resource_exhausted` where too many are kept, or there is no memory for another.
    pub fn keep(
        &self,
        principal: &Principal,
        (namespace, prefix): (&Namespace, &str),
        snapshot: Snapshot,
        ends: Vec<Key>,
    ) -> Result<Version> {
        let bytes: usize = ends.iter().map(|key| key.as_str().len() + KEY_BYTES).sum();
        let room = self.ledger.charge(Account::Scan, bytes as u64);
        let room =
            room.ok_or_else(|| Error::exhausted("no memory to keep a snapshot; limit=`memory`"))?;
        let now = self.clock.monotonic();
        let mut kept = self.kept.lock();
        kept.retain(|_, kept| kept.until > now);
        if kept.len() >= KEPT_MAX {
            return Err(Error::exhausted(format!(
                "too many snapshots are kept for their partitions; limit=`snapshots_max` \
                 value=`{KEPT_MAX}` expected a DoGet of the prefix itself, or a later try"
            )));
        }
        let version = snapshot.version();
        let one = Kept {
            tenant: principal.tenant.clone(),
            namespace: namespace.clone(),
            prefix: prefix.to_owned(),
            snapshot,
            ends,
            until: now + Duration::from_millis(SNAPSHOT_LIFETIME_MS),
            _room: room,
        };
        kept.insert(version, Arc::new(one));
        Ok(version)
    }

    /// The snapshot of a ticket that was minted for it.
    ///
    /// # Errors
    /// `not_found` where it is not kept (any more).
    pub fn find(&self, principal: &Principal, ticket: &Ticket, part: Part) -> Result<Arc<Kept>> {
        let now = self.clock.monotonic();
        let kept = self.kept.lock().get(&part.snapshot).cloned();
        let kept = kept.filter(|kept| {
            let prefix = |select: &Select| matches!(select, Select::Prefix { prefix, .. } if *prefix == kept.prefix);
            kept.until > now
                && kept.tenant == principal.tenant
                && kept.namespace == ticket.namespace
                && prefix(&ticket.select)
        });
        kept.ok_or_else(|| {
            Error::not_found(format!(
                "no such snapshot: it is not known here, or its time is over; snapshot=`{}` \
                 expected one of GetFlightInfo with `partitions`, within {} minutes",
                part.snapshot,
                SNAPSHOT_LIFETIME_MS / 60_000
            ))
        })
    }

    /// Forgets those whose time is over.
    pub fn forget_old(&self) {
        let now = self.clock.monotonic();
        self.kept.lock().retain(|_, kept| kept.until > now);
    }
}

impl Kept {
    /// What is kept.
    pub fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }

    /// The keys of one part.
    ///
    /// # Errors
    /// `invalid_argument` where there is no such part.
    pub fn part(&self, Part { partition, .. }: Part) -> Result<snapshot::Part> {
        let at = partition as usize;
        if at > self.ends.len() {
            return Err(Error::invalid(format!(
                "the snapshot has no such partition; partition=`{partition}` expected less than {}",
                self.ends.len() + 1
            )));
        }
        let before = at.checked_sub(1).and_then(|before| self.ends.get(before));
        Ok(snapshot::Part {
            after: before.cloned(),
            last: self.ends.get(at).cloned(),
        })
    }
}
