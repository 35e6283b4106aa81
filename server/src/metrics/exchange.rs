//! The requests within exchanges: to Flight an exchange is one call, however many it answers.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use bowstring_wire::error::Code;
use bowstring_wire::mux::MuxKind;

use super::text::Text;
use super::{OK, OUTCOMES};

/// What a request within an exchange asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExchangeOp {
    /// A batch of keys.
    Keys,
    /// A tensor, over mux.
    MuxGet,
    /// What a get would say of it.
    MuxExists,
    /// To store one.
    MuxPut,
    /// What cannot be read, or is no op.
    MuxOther,
}

/// Counters of each op, by code.
#[derive(Default)]
#[repr(align(128))]
pub struct Exchanges([[AtomicU64; OUTCOMES]; ExchangeOp::ALL.len()]);

impl ExchangeOp {
    /// Every op.
    pub const ALL: [Self; 5] = [
        Self::Keys,
        Self::MuxGet,
        Self::MuxExists,
        Self::MuxPut,
        Self::MuxOther,
    ];

    /// Its name in counters and in the slow-request log.
    pub fn name(self) -> &'static str {
        match self {
            Self::Keys => "exchange.get",
            Self::MuxGet => "mux.get",
            Self::MuxExists => "mux.exists",
            Self::MuxPut => "mux.put",
            Self::MuxOther => "mux.other",
        }
    }
}

impl From<Option<MuxKind>> for ExchangeOp {
    fn from(kind: Option<MuxKind>) -> Self {
        match kind {
            Some(MuxKind::Get) => Self::MuxGet,
            Some(MuxKind::Exists) => Self::MuxExists,
            Some(MuxKind::Put) => Self::MuxPut,
            Some(MuxKind::Cancel) | None => Self::MuxOther,
        }
    }
}

impl Exchanges {
    /// One more.
    pub fn count(&self, op: ExchangeOp, failed: Option<Code>) {
        let outcome = failed.map_or(OK, |code| code as usize);
        self.0[op as usize][outcome].fetch_add(1, Relaxed);
    }

    /// Writes what was counted.
    pub fn render(&self, text: &mut Text) {
        let mut family = text.counter(
            "bowstring_exchange_requests_total",
            "Requests within exchanges answered, by code.",
        );
        for (op, outcomes) in ExchangeOp::ALL.into_iter().zip(&self.0) {
            for (at, count) in outcomes.iter().enumerate() {
                let count = count.load(Relaxed);
                let code = Code::ALL.get(at).map_or("ok", |code| code.as_str());
                // As for verbs.
                if count > 0 || at == OK {
                    family.labelled(&[("op", op.name()), ("code", code)], count);
                }
            }
        }
    }
}
