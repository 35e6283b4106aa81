//! Commands of DoExchange.
//!
//! An exchange is ours when its command is JSON with a member `exchange` that we know. Any other,
//! JSON or not, is left free for others and answered `unimplemented`, not judged.

use serde::Deserialize;

use crate::dtype::DType;
use crate::error::{Error, Result, clip};
use crate::json::{self, Uint, object, required};
use crate::limits::{MAX_JSON_BYTES, MAX_QUOTED_BYTES};
use crate::name::Namespace;
use crate::shape::Shape;
use crate::ticket::{Layout, Missing, Select, Ticket};

/// What a stream of DoExchange is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ExchangeCommand {
    /// Batches of keys in, batches of tensors out.
    Get(Box<ExchangeGet>),
    /// Small requests and replies, see [`crate::mux`].
    Mux {
        /// For requests that name none.
        namespace: Namespace,
    },
}

/// How the batches of a `get` exchange are answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExchangeGet {
    /// What every batch of keys asks for, with the keys left out.
    pub ticket: Ticket,
    /// The column that takes the place of `key`.
    pub key_column: Option<String>,
}

impl ExchangeCommand {
    /// Reads the bytes of a `CMD`.
    ///
    /// # Errors
    /// `unimplemented` for what is not ours, `invalid_argument` for what is and cannot be.
    pub fn parse(bytes: &[u8]) -> Result<ExchangeCommand> {
        match name_of(bytes).as_deref() {
            Some("get") => json::read::<GetMembers>(bytes)?.command(),
            Some("mux") => {
                let members: MuxMembers = json::read(bytes)?;
                Ok(ExchangeCommand::Mux {
                    namespace: members.namespace.unwrap_or_default(),
                })
            }
            Some(other) => Err(Error::unimplemented(format!(
                "no such exchange; exchange=`{}` expected `get` or `mux`",
                clip(other, MAX_QUOTED_BYTES)
            ))),
            None => Err(not_ours()),
        }
    }
}

/// What is answered to an exchange that is somebody else's.
pub fn not_ours() -> Error {
    Error::unimplemented(
        "the exchange is none of ours; expected a command such as `{\"exchange\": \"get\"}` or \
         `{\"exchange\": \"mux\"}`",
    )
}

/// The member `exchange`, whatever else there is.
fn name_of(bytes: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Name {
        exchange: String,
    }
    if !json::is_ours(bytes) || bytes.len() > MAX_JSON_BYTES {
        return None;
    }
    let name: Name = serde_json::from_slice(bytes).ok()?;
    Some(name.exchange)
}

object! {
    struct GetMembers as "exchange command" {
        exchange: String,
        namespace: Namespace,
        dtype: DType,
        shape: Shape,
        max_message_bytes: Uint,
        key_column: String,
    }
}

object! {
    struct MuxMembers as "exchange command" {
        exchange: String,
        namespace: Namespace,
    }
}

impl GetMembers {
    fn command(self) -> Result<ExchangeCommand> {
        let fixed = match (self.dtype, self.shape) {
            (None, None) => None,
            (dtype, shape) => {
                let dtype = required("exchange command with shape", "dtype", dtype)?;
                let shape = required("exchange command with dtype", "shape", shape)?;
                shape.bytes(dtype)?;
                Some((dtype, shape))
            }
        };
        if self.max_message_bytes == Some(Uint(0)) {
            return Err(Error::invalid(
                "exchange command allows no bytes in a message; max_message_bytes=`0` expected at \
                 least 1",
            ));
        }
        let ticket = Ticket {
            namespace: self.namespace.unwrap_or_default(),
            select: Select::Keys { keys: Vec::new() },
            layout: fixed.is_none().then_some(Layout::Opaque),
            max_message_bytes: self.max_message_bytes.map(|bytes| bytes.0),
            fixed,
            with: Vec::new(),
            missing: Missing::Named,
            partitions: None,
        };
        Ok(ExchangeCommand::Get(Box::new(ExchangeGet {
            ticket,
            key_column: self.key_column,
        })))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Code;

    #[test]
    fn commands_of_ours() {
        let mux = ExchangeCommand::parse(br#"{"exchange": "mux", "namespace": "m"}"#).unwrap();
        let namespace = Namespace::parse("m").unwrap();
        assert_eq!(mux, ExchangeCommand::Mux { namespace });
        let Ok(ExchangeCommand::Get(get)) = ExchangeCommand::parse(br#"{"exchange": "get"}"#)
        else {
            panic!("a get");
        };
        assert_eq!(get.ticket.namespace, Namespace::default());
        assert_eq!(get.ticket.layout, Some(Layout::Opaque));
        let fixed = br#"{"exchange":"get","dtype":"float32","shape":[3],"max_message_bytes":9}"#;
        let Ok(ExchangeCommand::Get(get)) = ExchangeCommand::parse(fixed) else {
            panic!("a get");
        };
        let shape = Shape::new(&[3]).unwrap();
        assert_eq!(get.ticket.fixed, Some((DType::Float32, shape)));
        assert_eq!(
            (get.ticket.layout, get.ticket.max_message_bytes),
            (None, Some(9))
        );
    }

    #[test]
    fn what_is_ours_is_judged_and_the_rest_is_not() {
        for (command, code) in [
            (
                &br#"{"exchange":"get","keys":["a"]}"#[..],
                Code::InvalidArgument,
            ),
            (
                br#"{"exchange":"get","dtype":"int8"}"#,
                Code::InvalidArgument,
            ),
            (
                br#"{"exchange":"get","max_message_bytes":0}"#,
                Code::InvalidArgument,
            ),
            (
                br#"{"exchange":"mux","namespace":""}"#,
                Code::InvalidArgument,
            ),
            (br#"{"exchange":"mux","x":1}"#, Code::InvalidArgument),
            (br#"{"exchange":"put"}"#, Code::Unimplemented),
            (br#"{"exchange":7}"#, Code::Unimplemented),
            (br#"{"key":"a"}"#, Code::Unimplemented),
            (br#"{"#, Code::Unimplemented),
            (b"\x0a\x03abc", Code::Unimplemented),
            (b"", Code::Unimplemented),
        ] {
            let error = ExchangeCommand::parse(command).unwrap_err();
            assert_eq!(error.code, code, "{}", String::from_utf8_lossy(command));
        }
    }
}
