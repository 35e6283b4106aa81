//! Requests in the counters and in the slow-request log.

use std::time::Duration;

use bowstring_wire::error::Code;
use bowstring_wire::mux::{MuxRequest, kind_of};
use bowstring_wire::name::{Namespace, Tenant};
use bytes::Bytes;

use crate::flight::service::Service;
use crate::flight::slow::{About, Began, Line};
use crate::metrics::ExchangeOp;

/// Which request it is and, where the log is on, when it was taken.
pub struct Timed {
    op: ExchangeOp,
    began: Began,
    /// And whose exchange it is of, on which namespace.
    header: Option<(Bytes, Tenant, Namespace)>,
    /// How long the exchange had waited for its client by then.
    waited: Duration,
}

/// How a request ended.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ended {
    /// Bytes of its tensor, where that was sent.
    pub bytes: u64,
    /// What failed.
    pub code: Option<Code>,
    /// How long it waited for room.
    pub room: Duration,
}

impl Timed {
    /// Now, when the exchange has waited for its client that long.
    pub fn now(
        service: &Service,
        header: &Bytes,
        (tenant, namespace): (&Tenant, &Namespace),
        waited: Duration,
    ) -> Self {
        let wanted = service.settings.slow_request.is_some();
        Self {
            op: kind_of(header).into(),
            began: Began::now(service),
            header: wanted.then(|| (header.clone(), tenant.clone(), namespace.clone())),
            waited,
        }
    }

    /// The request was answered; by now the exchange has waited for its client that long.
    pub fn answered(&self, service: &Service, ended: Ended, waited: Duration) {
        service.metrics.exchanged(self.op, ended.code);
        let Some((header, tenant, namespace)) = &self.header else {
            return;
        };
        let line = Line {
            tenant: Some(tenant),
            verb: self.op.name(),
            code: ended.code,
            bytes: ended.bytes,
            room: ended.room,
            sending: waited.saturating_sub(self.waited),
        };
        self.began.log(service, &line, || {
            let request = MuxRequest::decode(header).ok();
            let request = request.as_ref();
            let named = request.and_then(|request| request.namespace);
            let key = request.map_or("", |request| request.key);
            About::new(named.unwrap_or(namespace.as_str()), key)
        });
    }
}
