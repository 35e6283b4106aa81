//! The actions that change entries and leave their bytes: `expire`, `pin`, `unpin`.

use serde::Serialize;

use crate::descriptor::check_ttl_ms;
use crate::error::Result;
use crate::json::{self, Keys, Nullable, Uint, object, required};
use crate::limits::MAX_ACTION_KEYS;
use crate::name::{Key, Namespace};

/// `expire`: gives keys another time to live, from now on, or none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ExpireRequest {
    /// Where the keys are.
    pub namespace: Namespace,
    /// At most [`MAX_ACTION_KEYS`].
    pub keys: Vec<Key>,
    /// Milliseconds; `None`, which is `null`, takes the expiry away.
    #[serde(serialize_with = "json::uint_opt::serialize")]
    pub ttl_ms: Option<u64>,
}

/// `pin` and `unpin`: keep keys from eviction, or no more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PinRequest {
    /// Where the keys are.
    pub namespace: Namespace,
    /// At most [`MAX_ACTION_KEYS`].
    pub keys: Vec<Key>,
}

impl ExpireRequest {
    /// Reads the action's body.
    ///
    /// # Errors
    /// `invalid_argument`, or `resource_exhausted` past the size limit.
    pub fn parse(body: &[u8]) -> Result<ExpireRequest> {
        let members: ExpireMembers = json::read(body)?;
        let what = "expire request";
        let ttl_ms = required(what, "ttl_ms", members.ttl_ms)?.0;
        Ok(ExpireRequest {
            namespace: members.namespace.unwrap_or_default(),
            keys: required(what, "keys", members.keys)?.0,
            ttl_ms: ttl_ms.map(|ms| check_ttl_ms(ms.0)).transpose()?,
        })
    }

    /// The action's body.
    pub fn to_json(&self) -> String {
        json::to_string(self)
    }
}

impl PinRequest {
    /// Reads the action's body.
    ///
    /// # Errors
    /// `invalid_argument`, or `resource_exhausted` past the size limit.
    pub fn parse(body: &[u8]) -> Result<PinRequest> {
        let members: PinMembers = json::read(body)?;
        Ok(PinRequest {
            namespace: members.namespace.unwrap_or_default(),
            keys: required("pin request", "keys", members.keys)?.0,
        })
    }

    /// The action's body.
    pub fn to_json(&self) -> String {
        json::to_string(self)
    }
}

object! {
    pub(super) struct ExpireMembers as "expire request" {
        namespace: Namespace,
        keys: Keys<MAX_ACTION_KEYS>,
        ttl_ms: Nullable<Uint>,
    }
}
object! {
    pub(super) struct PinMembers as "pin request" { namespace: Namespace, keys: Keys<MAX_ACTION_KEYS> }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::MAX_TTL_MS;
    use proptest::prelude::*;

    #[test]
    fn no_expiry_is_null_and_must_be_said() {
        let never = ExpireRequest::parse(br#"{"keys":["a"],"ttl_ms":null}"#).unwrap();
        assert_eq!((never.ttl_ms, never.keys.len()), (None, 1));
        for (body, says) in [
            (r#"{"keys":["a"]}"#, "expected member=`ttl_ms`"),
            (r#"{"ttl_ms":5}"#, "expected member=`keys`"),
            (r#"{"keys":["a"],"ttl_ms":0}"#, "expected 1 to"),
            (r#"{"keys":["a"],"ttl_ms":-1}"#, "`ttl_ms` is wrong"),
            (r#"{"keys":["a"],"ttl_ms":"1h"}"#, "`ttl_ms` is wrong"),
            (r#"{"keys":["a"],"ttl_ms":9000000000000}"#, "milliseconds"),
        ] {
            let told = ExpireRequest::parse(body.as_bytes()).unwrap_err();
            assert!(told.to_string().contains(says), "{told}");
        }
        let told = PinRequest::parse(br#"{"keys":null}"#).unwrap_err();
        assert!(told.to_string().contains("`keys` is wrong"), "{told}");
    }

    proptest! {
        #[test]
        fn round_trips(
            keys in prop::collection::vec("[^\0]{1,12}".prop_map(|key| Key::parse(&key).unwrap()), 0..5),
            ttl_ms in prop::option::of(1..=MAX_TTL_MS),
        ) {
            let namespace = Namespace::parse("n").unwrap();
            let pin = PinRequest { namespace: namespace.clone(), keys: keys.clone() };
            prop_assert_eq!(PinRequest::parse(pin.to_json().as_bytes()), Ok(pin));
            let expire = ExpireRequest { namespace, keys, ttl_ms };
            prop_assert_eq!(ExpireRequest::parse(expire.to_json().as_bytes()), Ok(expire));
        }

        #[test]
        fn any_bytes_are_a_request_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            let _ = ExpireRequest::parse(&bytes);
            let _ = PinRequest::parse(&bytes);
        }
    }
}
