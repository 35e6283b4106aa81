//! The slow-request log: one line for a request that took longer than the setting says; the last of
//! them can be asked for by SQL, too. Where the log is off, which it is by default, no clock is read and
//! nothing is written down.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use bowstring_wire::error::{Code, clip};
use bowstring_wire::limits::MAX_NAMESPACE_BYTES;
use bowstring_wire::name::Tenant;

use super::service::Service;
use crate::metrics::SlowRequest;

/// What is quoted of a key.
const KEY_BYTES_MAX: usize = 64;

/// What is written down of one call, for the line that it may get.
#[derive(Debug, Default)]
pub struct Notes {
    wanted: bool,
    tenant: OnceLock<Tenant>,
    about: OnceLock<About>,
    room_us: AtomicU64,
}

/// Whom a request is about.
#[derive(Clone, Debug, Default)]
pub struct About {
    namespace: String,
    key: String,
}

/// When a request began; `None` where the log is off.
#[derive(Clone, Copy, Debug)]
pub struct Began(Option<Duration>);

/// What a line says beside the time.
#[derive(Clone, Copy, Debug)]
pub struct Line<'a> {
    /// Whose request it is; `None` where that is not known yet.
    pub tenant: Option<&'a Tenant>,
    /// The verb, or the op of an exchange.
    pub verb: &'static str,
    /// None where all went well.
    pub code: Option<Code>,
    /// Bytes of the answer.
    pub bytes: u64,
    /// How long it waited for room to store its tensor in.
    pub room: Duration,
    /// How long it waited for its client to read.
    pub sending: Duration,
}

impl About {
    /// A key, or what stands in its place where there are many.
    pub fn new(namespace: &str, key: &str) -> Self {
        Self {
            namespace: clip(namespace, MAX_NAMESPACE_BYTES).into_owned(),
            key: clip(key, KEY_BYTES_MAX).into_owned(),
        }
    }
}

impl Notes {
    /// Notes for a call.
    pub fn new(service: &Service) -> Self {
        Self {
            wanted: service.settings.slow_request.is_some(),
            ..Self::default()
        }
    }

    /// Says whose call it is.
    pub fn of(&self, tenant: &Tenant) {
        if self.wanted {
            let _ = self.tenant.set(tenant.clone());
        }
    }

    /// Whose call it is, as far as that was said.
    pub fn tenant(&self) -> Option<&Tenant> {
        self.tenant.get()
    }

    /// Says whom the call is about.
    pub fn about(&self, about: impl FnOnce() -> About) {
        if self.wanted {
            let _ = self.about.set(about());
        }
    }

    /// Adds time that the call waited for room.
    pub fn waited_for_room(&self, time: Duration) {
        let us = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        self.room_us.fetch_add(us, Relaxed);
    }

    /// All of that time.
    pub fn room(&self) -> Duration {
        Duration::from_micros(self.room_us.load(Relaxed))
    }

    /// Whom the call is about, as far as that was said.
    pub fn whom(&self) -> About {
        self.about.get().cloned().unwrap_or_default()
    }
}

impl Began {
    /// Now.
    pub fn now(service: &Service) -> Self {
        Self(
            service
                .settings
                .slow_request
                .map(|_| service.clock.monotonic()),
        )
    }

    /// Time since then; none where the log is off.
    pub fn elapsed(self, service: &Service) -> Duration {
        self.0.map_or(Duration::ZERO, |began| {
            service.clock.monotonic().saturating_sub(began)
        })
    }

    /// Writes the line, if the request took longer than the setting says.
    pub fn log(self, service: &Service, line: &Line<'_>, about: impl FnOnce() -> About) {
        let elapsed = self.elapsed(service);
        let limit = service.settings.slow_request;
        if self.0.is_none() || limit.is_none_or(|limit| elapsed <= limit) {
            return;
        }
        let About { namespace, key } = about();
        let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let code = line.code.map_or("ok", |code| code.as_str());
        tracing::warn!(
            verb = line.verb,
            code,
            namespace,
            // Quoted, so that a key cannot forge a line.
            key = ?key,
            bytes = line.bytes,
            elapsed_ms = ms(elapsed),
            room_ms = ms(line.room),
            sending_ms = ms(line.sending),
            "slow request"
        );
        if let Some(tenant) = line.tenant {
            service.metrics.slow(SlowRequest {
                tenant: tenant.clone(),
                at_ms: service.clock.now_ms(),
                verb: line.verb,
                code,
                namespace,
                key,
                bytes: line.bytes,
                elapsed_ms: ms(elapsed),
                room_ms: ms(line.room),
                sending_ms: ms(line.sending),
            });
        }
    }
}
