//! The actions of loads: `begin_load`, and those that take what it answers.

use serde::Serialize;

use crate::error::Result;
use crate::json::{self, Uint, object, required};
use crate::limits::check_load_id;
use crate::name::Namespace;

/// `begin_load`: opens a load.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct BeginLoadRequest {
    /// Where its keys go.
    pub namespace: Namespace,
    /// When it is committed, keys that it lacks go.
    pub replace_all: bool,
    /// Tensor bytes that it will hold, where they are known.
    #[serde(
        skip_serializing_if = "Option::is_none",
        serialize_with = "json::uint_opt::serialize"
    )]
    pub size_bytes: Option<u64>,
}

/// `commit_load`, `abort_load`, `rollback_load`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LoadRequest {
    /// What `begin_load` answered.
    pub load_id: String,
    /// Where the load is; one that is elsewhere is not found.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<Namespace>,
}

impl BeginLoadRequest {
    /// Reads the action's body.
    ///
    /// # Errors
    /// `invalid_argument`, or `resource_exhausted` past the size limit.
    pub fn parse(body: &[u8]) -> Result<BeginLoadRequest> {
        let members: BeginLoadMembers = json::read(body)?;
        Ok(BeginLoadRequest {
            namespace: members.namespace.unwrap_or_default(),
            replace_all: members.replace_all.unwrap_or_default(),
            size_bytes: members.size_bytes.map(|bytes| bytes.0),
        })
    }

    /// The action's body.
    pub fn to_json(&self) -> String {
        json::to_string(self)
    }
}

impl LoadRequest {
    /// Reads the action's body.
    ///
    /// # Errors
    /// `invalid_argument`, or `resource_exhausted` past the size limit.
    pub fn parse(body: &[u8]) -> Result<LoadRequest> {
        let members: LoadMembers = json::read(body)?;
        let load_id = required("load request", "load_id", members.load_id)?;
        check_load_id("load request", &load_id)?;
        Ok(LoadRequest {
            load_id,
            namespace: members.namespace,
        })
    }

    /// The action's body.
    pub fn to_json(&self) -> String {
        json::to_string(self)
    }
}

object! {
    pub(super) struct BeginLoadMembers as "begin_load request" {
        namespace: Namespace,
        replace_all: bool,
        size_bytes: Uint,
    }
}
object! {
    pub(super) struct LoadMembers as "load request" { load_id: String, namespace: Namespace }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_left_out_is_what_most_want() {
        let request = BeginLoadRequest::parse(b"{}").unwrap();
        assert_eq!(request, BeginLoadRequest::default());
        for body in [r#"{}"#, r#"{"load_id":""}"#, r#"{"load_id":1}"#] {
            assert!(LoadRequest::parse(body.as_bytes()).is_err(), "{body}");
        }
        let long = format!(r#"{{"load_id":"{}"}}"#, "x".repeat(129));
        let told = LoadRequest::parse(long.as_bytes()).unwrap_err().to_string();
        assert!(told.contains("impossible load_id"), "{told}");
    }

    proptest! {
        #[test]
        fn round_trips(replace_all in any::<bool>(), size_bytes in prop::option::of(any::<u64>()), load_id in "[^\0]{1,30}") {
            let namespace = Namespace::parse("n").unwrap();
            let of = replace_all.then(|| namespace.clone());
            let begin = BeginLoadRequest { namespace, replace_all, size_bytes };
            prop_assert_eq!(BeginLoadRequest::parse(begin.to_json().as_bytes()), Ok(begin));
            let load = LoadRequest { load_id, namespace: of };
            prop_assert_eq!(LoadRequest::parse(load.to_json().as_bytes()), Ok(load));
        }

        #[test]
        fn any_bytes_are_a_request_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            let _ = BeginLoadRequest::parse(&bytes);
            let _ = LoadRequest::parse(&bytes);
        }
    }
}
