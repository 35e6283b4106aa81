//! Requests in the slow-request log.

use std::time::Duration;

use bowstring_wire::error::Code;
use bowstring_wire::mux::MuxRequest;
use bytes::Bytes;

use crate::flight::service::Service;
use crate::flight::slow::{About, Began, Line};

/// When a request was taken and, where the log is on, which it was.
pub struct Timed {
    began: Began,
    header: Option<Bytes>,
}

impl Timed {
    /// Now.
    pub fn now(service: &Service, header: &Bytes) -> Self {
        let wanted = service.settings.slow_request.is_some();
        Self {
            began: Began::now(service),
            header: wanted.then(|| header.clone()),
        }
    }

    /// The request was answered with so many bytes, or with a code; it waited for room that long.
    pub fn answered(&self, service: &Service, bytes: u64, code: Option<Code>, room: Duration) {
        let Some(header) = &self.header else {
            return;
        };
        let request = MuxRequest::decode(header).ok();
        let op = request.as_ref().map_or("none", |request| request.op.name());
        let line = Line {
            verb: &format!("mux.{op}"),
            code: code.map_or("ok", Code::as_str),
            bytes,
            room,
            sending: Duration::ZERO,
        };
        self.began.log(service, &line, || {
            let request = request.as_ref();
            let namespace = request.and_then(|request| request.namespace);
            let key = request.map_or("", |request| request.key);
            About::new(namespace.unwrap_or_default(), key)
        });
    }
}
