//! The last slow requests: what their lines in the log say, for who asks for them later.

use std::collections::VecDeque;

use bowstring_wire::name::Tenant;
use parking_lot::Mutex;

use super::Metrics;

/// As many are kept, under 100 KiB: what they quote is cut.
const SLOW_MAX: usize = 256;

/// A request that took longer than `slow_request` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlowRequest {
    /// Whose.
    pub tenant: Tenant,
    /// When it had been answered, in Unix milliseconds.
    pub at_ms: u64,
    /// The verb, or the op of an exchange.
    pub verb: &'static str,
    /// `ok`, or the code that it failed with.
    pub code: &'static str,
    /// What it was about; empty where that is not one namespace.
    pub namespace: String,
    /// Its key, or what stands in the place of one; cut.
    pub key: String,
    /// Bytes of the answer.
    pub bytes: u64,
    /// How long it took, in milliseconds.
    pub elapsed_ms: u64,
    /// Of that, how long it waited for room.
    pub room_ms: u64,
    /// And for its client to read.
    pub sending_ms: u64,
}

impl Metrics {
    /// Keeps a slow request, in the place of the oldest.
    pub fn slow(&self, request: SlowRequest) {
        let mut kept = self.0.slow.0.lock();
        if kept.len() >= SLOW_MAX {
            kept.pop_front();
        }
        kept.push_back(request);
    }

    /// The tenant's among the last slow requests of all tenants, the oldest first.
    pub fn slow_requests(&self, tenant: &Tenant) -> Vec<SlowRequest> {
        let kept = self.0.slow.0.lock();
        let of_tenant = kept.iter().filter(|request| request.tenant == *tenant);
        of_tenant.cloned().collect()
    }
}

#[derive(Default)]
pub(super) struct Slow(Mutex<VecDeque<SlowRequest>>);
