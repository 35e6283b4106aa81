//! The actions that move entries between memory and the cold tier: `flush`, `evict`, `prewarm`.

use serde::ser::{Serialize, SerializeMap, Serializer};

use crate::error::{Error, Result};
use crate::json::{self, Keys, Prefix, object};
use crate::limits::MAX_ACTION_KEYS;
use crate::name::{Key, Namespace};

/// `flush`: writes down what only memory has.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct FlushRequest {
    /// Of which namespace.
    pub namespace: Namespace,
}

/// `evict` and `prewarm`: which entries leave memory, or come into it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MoveRequest {
    /// Where the keys are.
    pub namespace: Namespace,
    /// Which of them.
    pub select: MoveSelect,
}

/// Which entries are moved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MoveSelect {
    /// These, at most [`MAX_ACTION_KEYS`]; a missing one is no error.
    Keys(Vec<Key>),
    /// All that begin with it; `""` is all.
    Prefix(String),
}

impl FlushRequest {
    /// Reads the action's body; none is `{}`.
    ///
    /// # Errors
    /// `invalid_argument`.
    pub fn parse(body: &[u8]) -> Result<FlushRequest> {
        let members: FlushMembers = json::read_or_nothing(body)?;
        Ok(FlushRequest {
            namespace: members.namespace.unwrap_or_default(),
        })
    }

    /// The action's body.
    pub fn to_json(&self) -> String {
        json::to_string(self)
    }
}

impl MoveRequest {
    /// Reads the action's body.
    ///
    /// # Errors
    /// `invalid_argument`, or `resource_exhausted` past the size limit.
    pub fn parse(body: &[u8]) -> Result<MoveRequest> {
        let members: MoveMembers = json::read(body)?;
        let select = match (members.keys, members.prefix) {
            (Some(Keys(keys)), None) => MoveSelect::Keys(keys),
            (None, Some(Prefix(prefix))) => MoveSelect::Prefix(prefix),
            _ => {
                return Err(Error::invalid(
                    "request selects by both members or by none; expected exactly one of keys, \
                     prefix",
                ));
            }
        };
        Ok(MoveRequest {
            namespace: members.namespace.unwrap_or_default(),
            select,
        })
    }

    /// The action's body.
    pub fn to_json(&self) -> String {
        json::to_string(self)
    }
}

impl Serialize for MoveRequest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("namespace", &self.namespace)?;
        match &self.select {
            MoveSelect::Keys(keys) => map.serialize_entry("keys", keys)?,
            MoveSelect::Prefix(prefix) => map.serialize_entry("prefix", prefix)?,
        }
        map.end()
    }
}

object! {
    pub(super) struct FlushMembers as "flush request" { namespace: Namespace }
}
object! {
    pub(super) struct MoveMembers as "request" {
        namespace: Namespace,
        keys: Keys<MAX_ACTION_KEYS>,
        prefix: Prefix,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_or_a_prefix_are_moved() {
        let all = FlushRequest::parse(b"").unwrap();
        assert_eq!(FlushRequest::parse(all.to_json().as_bytes()), Ok(all));
        let keys = vec![Key::parse("a").unwrap()];
        for select in [MoveSelect::Keys(keys), MoveSelect::Prefix(String::new())] {
            let namespace = Namespace::parse("n").unwrap();
            let request = MoveRequest { namespace, select };
            let json = request.to_json();
            assert_eq!(MoveRequest::parse(json.as_bytes()), Ok(request));
        }
        for (body, says) in [
            ("{}", "expected exactly one of keys, prefix"),
            (r#"{"keys":[],"prefix":""}"#, "expected exactly one of"),
            (r#"{"key":"a"}"#, "unknown member; member=`key`"),
        ] {
            let told = MoveRequest::parse(body.as_bytes()).unwrap_err().to_string();
            assert!(told.contains(says), "{told}");
        }
        assert!(FlushRequest::parse(br#"{"keys":[]}"#).is_err());
    }
}
