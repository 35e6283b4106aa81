//! DoAction's names and requests, and the criteria of ListFlights. What they answer is in
//! [`crate::reply`].

use serde::ser::{Serialize, SerializeMap, Serializer};

use crate::error::{Error, Result};
use crate::json::{self, Keys, Prefix, Uint, object, required};
use crate::limits::MAX_ACTION_KEYS;
use crate::name::{Key, Namespace};
use crate::version::Version;

pub use attach::{AttachRequest, AttachSettings, DetachRequest};
pub use entry::{ExpireRequest, PinRequest};
pub use files::{FileColumns, LoadFilesRequest};
pub use list::{ACTIONS, ActionInfo};
pub use load::{BeginLoadRequest, LoadRequest};
pub use space::{ClearRequest, NamespaceSetRequest, NamespacesRequest};
pub use tiers::{FlushRequest, MoveRequest, MoveSelect};

mod attach;
mod entry;
mod files;
mod list;
mod load;
mod space;
mod tiers;

/// `exists`: which keys are there, and how many from the first are all present.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExistsRequest {
    /// Where the keys are.
    pub namespace: Namespace,
    /// At most [`MAX_ACTION_KEYS`].
    pub keys: Vec<Key>,
}

/// `describe`: all about some entries but their bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DescribeRequest {
    /// Where the keys are.
    pub namespace: Namespace,
    /// At most [`MAX_ACTION_KEYS`].
    pub keys: Vec<Key>,
}

/// `delete`: some keys, or all that begin with a prefix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeleteRequest {
    /// Where the keys are.
    pub namespace: Namespace,
    /// Which of them.
    pub select: DeleteSelect,
}

/// What `delete` deletes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DeleteSelect {
    /// These; a missing one is no error.
    Keys {
        /// At most [`MAX_ACTION_KEYS`].
        keys: Vec<Key>,
        /// Only an entry of this version. One key only: no two entries share a version.
        if_version: Option<Version>,
    },
    /// All that begin with it; `""` is all.
    Prefix {
        /// The prefix.
        prefix: String,
    },
}

/// The criteria of ListFlights.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ListFilter {
    /// The one namespace that is listed.
    pub namespace: Namespace,
    /// Keys that begin with it; `""` is all.
    pub prefix: String,
    /// At most so many entries, at least 1; `None` is all.
    pub limit: Option<u64>,
    /// Only keys above this one, to go on after it.
    pub after: Option<Key>,
}

impl ExistsRequest {
    /// Reads the action's body.
    ///
    /// # Errors
    /// `invalid_argument`, or `resource_exhausted` past the size limit.
    pub fn parse(body: &[u8]) -> Result<ExistsRequest> {
        let members: ExistsMembers = json::read(body)?;
        Ok(ExistsRequest {
            namespace: members.namespace.unwrap_or_default(),
            keys: required("exists request", "keys", members.keys)?.0,
        })
    }

    /// The action's body.
    pub fn to_json(&self) -> String {
        keys_json(&self.namespace, &self.keys)
    }
}

impl DescribeRequest {
    /// Reads the action's body.
    ///
    /// # Errors
    /// `invalid_argument`, or `resource_exhausted` past the size limit.
    pub fn parse(body: &[u8]) -> Result<DescribeRequest> {
        let members: DescribeMembers = json::read(body)?;
        Ok(DescribeRequest {
            namespace: members.namespace.unwrap_or_default(),
            keys: required("describe request", "keys", members.keys)?.0,
        })
    }

    /// The action's body.
    pub fn to_json(&self) -> String {
        keys_json(&self.namespace, &self.keys)
    }
}

impl DeleteRequest {
    /// Reads the action's body.
    ///
    /// # Errors
    /// `invalid_argument`, or `resource_exhausted` past the size limit.
    pub fn parse(body: &[u8]) -> Result<DeleteRequest> {
        let members: DeleteMembers = json::read(body)?;
        let select = match (members.keys, members.prefix) {
            (Some(Keys(keys)), None) => DeleteSelect::Keys {
                keys,
                if_version: members.if_version,
            },
            (None, Some(Prefix(prefix))) => DeleteSelect::Prefix { prefix },
            _ => {
                return Err(Error::invalid(
                    "delete request selects by both members or by none; expected exactly one of \
                     keys, prefix",
                ));
            }
        };
        let one = matches!(&select, DeleteSelect::Keys { keys, .. } if keys.len() == 1);
        if members.if_version.is_some() && !one {
            return Err(Error::invalid(
                "delete request has a member that does not go with the others; \
                 member=`if_version` expected it with exactly one key in keys",
            ));
        }
        Ok(DeleteRequest {
            namespace: members.namespace.unwrap_or_default(),
            select,
        })
    }

    /// The action's body.
    pub fn to_json(&self) -> String {
        json::to_string(self)
    }
}

/// Checks the body of `stats`, which says nothing: none, or `{}`.
///
/// # Errors
/// `invalid_argument` for anything else.
pub fn parse_nothing(body: &[u8]) -> Result<()> {
    json::read_or_nothing::<NoMembers>(body).map(|_| ())
}

impl ListFilter {
    /// Reads the criteria; none are `{}`.
    ///
    /// # Errors
    /// `invalid_argument`, or `resource_exhausted` past the size limit.
    pub fn parse(criteria: &[u8]) -> Result<ListFilter> {
        let members: ListMembers = json::read_or_nothing(criteria)?;
        if members.limit == Some(Uint(0)) {
            return Err(Error::invalid(
                "list criteria allow no entries; limit=`0` expected at least 1",
            ));
        }
        Ok(ListFilter {
            namespace: members.namespace.unwrap_or_default(),
            prefix: members.prefix.map(|prefix| prefix.0).unwrap_or_default(),
            limit: members.limit.map(|limit| limit.0),
            after: members.after,
        })
    }

    /// The criteria's JSON.
    pub fn to_json(&self) -> String {
        json::to_string(self)
    }
}

impl Serialize for DeleteRequest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("namespace", &self.namespace)?;
        match &self.select {
            DeleteSelect::Keys { keys, if_version } => {
                map.serialize_entry("keys", keys)?;
                if let Some(version) = if_version {
                    map.serialize_entry("if_version", version)?;
                }
            }
            DeleteSelect::Prefix { prefix } => map.serialize_entry("prefix", prefix)?,
        }
        map.end()
    }
}

impl Serialize for ListFilter {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("namespace", &self.namespace)?;
        map.serialize_entry("prefix", &self.prefix)?;
        if let Some(limit) = self.limit {
            map.serialize_entry("limit", &Uint(limit))?;
        }
        if let Some(after) = &self.after {
            map.serialize_entry("after", after)?;
        }
        map.end()
    }
}

object! {
    struct ExistsMembers as "exists request" { namespace: Namespace, keys: Keys<MAX_ACTION_KEYS> }
}
object! {
    struct DescribeMembers as "describe request" { namespace: Namespace, keys: Keys<MAX_ACTION_KEYS> }
}
object! {
    struct DeleteMembers as "delete request" {
        namespace: Namespace,
        keys: Keys<MAX_ACTION_KEYS>,
        prefix: Prefix,
        if_version: Version,
    }
}
object! {
    struct NoMembers as "request" {}
}
object! {
    struct ListMembers as "list criteria" {
        namespace: Namespace,
        prefix: Prefix,
        limit: Uint,
        after: Key,
    }
}

fn keys_json(namespace: &Namespace, keys: &[Key]) -> String {
    #[derive(serde::Serialize)]
    struct Body<'a> {
        namespace: &'a Namespace,
        keys: &'a [Key],
    }

    json::to_string(&Body { namespace, keys })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn key() -> impl Strategy<Value = Key> {
        "[^\0]{1,12}".prop_map(|key| Key::parse(&key).unwrap())
    }

    #[test]
    fn each_request_reads_its_members() {
        let exists = ExistsRequest::parse(br#"{"keys":["a","b"]}"#).unwrap();
        assert_eq!(exists.namespace, Namespace::default());
        assert_eq!(exists.keys.len(), 2);
        let delete = DeleteRequest::parse(br#"{"namespace":"n","prefix":""}"#).unwrap();
        let prefix = String::new();
        assert_eq!(delete.select, DeleteSelect::Prefix { prefix });
        assert_eq!(ListFilter::parse(b""), Ok(ListFilter::default()));
        assert_eq!(
            parse_nothing(b"{}").and_then(|()| parse_nothing(b"")),
            Ok(())
        );
    }

    #[test]
    fn what_is_wrong_is_said() {
        let told = |result: Result<()>| result.unwrap_err().to_string();
        for (body, says) in [
            (
                r#"{"keys":["a"],"prefix":"b"}"#,
                "expected exactly one of keys, prefix",
            ),
            ("{}", "expected exactly one of keys, prefix"),
            (
                r#"{"keys":["a","b"],"if_version":"1"}"#,
                "member=`if_version` expected it with",
            ),
            (
                r#"{"prefix":"a","if_version":"1"}"#,
                "member=`if_version` expected it with",
            ),
        ] {
            let told = told(DeleteRequest::parse(body.as_bytes()).map(|_| ()));
            assert!(told.contains(says), "{told}");
        }
        let lacks = told(ExistsRequest::parse(b"{}").map(|_| ()));
        assert_eq!(
            lacks,
            "invalid_argument: exists request lacks a member; expected member=`keys` to be given"
        );
        let extra = told(parse_nothing(br#"{"namespace":"a"}"#));
        assert!(
            extra.ends_with("unknown member; member=`namespace` expected none"),
            "{extra}"
        );
        assert!(told(ListFilter::parse(br#"{"limit":0}"#).map(|_| ())).contains("at least 1"));
        let many = format!(r#"{{"keys":[{}"a"]}}"#, r#""a","#.repeat(MAX_ACTION_KEYS));
        let many = told(DescribeRequest::parse(many.as_bytes()).map(|_| ()));
        assert!(many.contains("at most 100000 values"), "{many}");
    }

    proptest! {
        #[test]
        fn round_trips(
            keys in prop::collection::vec(key(), 0..5),
            prefix in "[^\0]{0,9}",
            version in any::<u64>(),
            limit in prop::option::of(1..u64::MAX),
            after in prop::option::of(key()),
        ) {
            let namespace = Namespace::parse("n").unwrap();
            let exists = ExistsRequest { namespace: namespace.clone(), keys: keys.clone() };
            prop_assert_eq!(ExistsRequest::parse(exists.to_json().as_bytes()), Ok(exists));
            let describe = DescribeRequest { namespace: namespace.clone(), keys: keys.clone() };
            prop_assert_eq!(DescribeRequest::parse(describe.to_json().as_bytes()), Ok(describe));
            let if_version = (keys.len() == 1).then_some(Version { hlc: version, start: 1 });
            for select in [
                DeleteSelect::Keys { keys, if_version },
                DeleteSelect::Prefix { prefix: prefix.clone() },
            ] {
                let delete = DeleteRequest { namespace: namespace.clone(), select };
                prop_assert_eq!(DeleteRequest::parse(delete.to_json().as_bytes()), Ok(delete));
            }
            let list = ListFilter { namespace, prefix, limit, after };
            prop_assert_eq!(ListFilter::parse(list.to_json().as_bytes()), Ok(list));
        }

        #[test]
        fn any_bytes_are_a_request_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            let _ = ExistsRequest::parse(&bytes);
            let _ = DescribeRequest::parse(&bytes);
            let _ = DeleteRequest::parse(&bytes);
            let _ = ListFilter::parse(&bytes);
            let _ = parse_nothing(&bytes);
        }

        #[test]
        fn a_broken_request_is_a_request_or_an_error(
            at in any::<prop::sample::Index>(),
            byte in any::<u8>(),
            cut in any::<prop::sample::Index>(),
        ) {
            let mut body = br#"{"namespace":"n","keys":["a"],"if_version":"12","limit":5}"#.to_vec();
            let at = at.index(body.len());
            body[at] = byte;
            let cut = cut.index(body.len()) + 1;
            for body in [&body[..], &body[..cut]] {
                let _ = ExistsRequest::parse(body);
                let _ = DeleteRequest::parse(body);
                let _ = ListFilter::parse(body);
            }
        }
    }
}
