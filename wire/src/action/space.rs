//! The actions on namespaces: `namespaces`, `namespace_set`, `clear`.

use serde::ser::{Serialize, SerializeMap, Serializer};

use crate::error::{Error, Result};
use crate::json::{self, Nested, Uint, object, required};
use crate::limits::{DEFAULT_NAMESPACES_LISTED, MAX_NAMESPACES_LISTED};
use crate::name::Namespace;
use crate::settings::SettingsChange;
use crate::version::Version;

/// `namespaces`: which there are, in the order of their names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamespacesRequest {
    /// At most so many.
    pub limit: usize,
    /// Only those above this one, to go on after it.
    pub after: Option<Namespace>,
}

/// `namespace_set`: changes settings of a namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamespaceSetRequest {
    /// Which.
    pub namespace: Namespace,
    /// What is changed; nothing where the settings are only asked for.
    pub settings: SettingsChange,
    /// Only where the settings have this version; 0 where they were never set.
    pub if_version: Option<Version>,
}

/// `clear`: deletes all keys of one namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClearRequest {
    /// Which.
    pub namespace: Namespace,
}

impl NamespacesRequest {
    /// Reads the action's body; none is `{}`.
    ///
    /// # Errors
    /// `invalid_argument`.
    pub fn parse(body: &[u8]) -> Result<NamespacesRequest> {
        let members: NamespacesMembers = json::read_or_nothing(body)?;
        let limit = match members.limit {
            None => DEFAULT_NAMESPACES_LISTED,
            Some(Uint(limit)) => usize::try_from(limit).unwrap_or(usize::MAX),
        };
        if !(1..=MAX_NAMESPACES_LISTED).contains(&limit) {
            return Err(Error::invalid(format!(
                "not a number of namespaces; limit=`{limit}` expected 1 to {MAX_NAMESPACES_LISTED}"
            )));
        }
        Ok(NamespacesRequest {
            limit,
            after: members.after,
        })
    }
}

impl NamespaceSetRequest {
    /// Reads the action's body.
    ///
    /// # Errors
    /// `invalid_argument`; `unimplemented` for a value that is not built yet;
    /// `resource_exhausted` past the size limit.
    pub fn parse(body: &[u8]) -> Result<NamespaceSetRequest> {
        let members: NamespaceSetMembers = json::read(body)?;
        let settings = required("namespace_set request", "settings", members.settings)?.0;
        settings.check()?;
        Ok(NamespaceSetRequest {
            namespace: members.namespace.unwrap_or_default(),
            settings,
            if_version: members.if_version,
        })
    }
}

impl ClearRequest {
    /// Reads the action's body. Both members must be given: nobody clears `default` because a name
    /// was forgotten.
    ///
    /// # Errors
    /// `invalid_argument`, or `resource_exhausted` past the size limit.
    pub fn parse(body: &[u8]) -> Result<ClearRequest> {
        let members: ClearMembers = json::read(body)?;
        let namespace = required("clear request", "namespace", members.namespace)?;
        if members.confirm != Some(true) {
            return Err(Error::invalid(
                "clear request is not confirmed; expected member=`confirm` to be true",
            ));
        }
        Ok(ClearRequest { namespace })
    }

    /// The action's body.
    pub fn to_json(&self) -> String {
        json::to_string(self)
    }
}

impl Serialize for ClearRequest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("namespace", &self.namespace)?;
        map.serialize_entry("confirm", &true)?;
        map.end()
    }
}

object! {
    pub(super) struct NamespacesMembers as "namespaces request" { limit: Uint, after: Namespace }
}
object! {
    pub(super) struct NamespaceSetMembers as "namespace_set request" {
        namespace: Namespace,
        settings: Nested<SettingsChange>,
        if_version: Version,
    }
}
object! {
    pub(super) struct ClearMembers as "clear request" { namespace: Namespace, confirm: bool }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::NamespaceSettings;
    use proptest::prelude::*;

    #[test]
    fn settings_are_read_within_their_request() {
        let body = br#"{"namespace":"n","settings":{"entries_max":5},"if_version":"0"}"#;
        let request = NamespaceSetRequest::parse(body).unwrap();
        assert_eq!(request.if_version, Some(Version { hlc: 0, start: 0 }));
        let settings = request.settings.apply(&NamespaceSettings::default());
        assert_eq!(settings.entries_max, Some(5));
        let asks = NamespaceSetRequest::parse(br#"{"settings":{}}"#).unwrap();
        assert_eq!(asks.settings, SettingsChange::default());
        for (body, says) in [
            ("{}", "expected member=`settings` to be given"),
            (
                r#"{"settings":{"colour":1}}"#,
                "member `settings` is wrong: has an unknown member; member=`colour` expected one of default_ttl_ms",
            ),
            (
                r#"{"settings":{"mode":7}}"#,
                "member `settings` is wrong: `mode`: ",
            ),
            (
                r#"{"settings":{"mode":"keep","mode":"keep"}}"#,
                "member twice; member=`mode`",
            ),
            (r#"{"settings":{"bytes_max":0}}"#, "bytes_max=`0`"),
            (r#"{"settings":[]}"#, "member `settings` is wrong"),
        ] {
            let told = NamespaceSetRequest::parse(body.as_bytes())
                .unwrap_err()
                .to_string();
            assert!(told.contains(says), "{told}");
        }
    }

    #[test]
    fn to_clear_takes_a_name_and_a_confirmation() {
        let clear = ClearRequest::parse(br#"{"namespace":"n","confirm":true}"#).unwrap();
        assert_eq!(ClearRequest::parse(clear.to_json().as_bytes()), Ok(clear));
        for (body, says) in [
            (r#"{"confirm":true}"#, "member=`namespace`"),
            (r#"{"namespace":"n"}"#, "member=`confirm` to be true"),
            (
                r#"{"namespace":"n","confirm":false}"#,
                "member=`confirm` to be true",
            ),
            (r#"{"namespace":"n","confirm":"yes"}"#, "`confirm` is wrong"),
        ] {
            let told = ClearRequest::parse(body.as_bytes())
                .unwrap_err()
                .to_string();
            assert!(told.contains(says), "{told}");
        }
    }

    #[test]
    fn namespaces_are_listed_a_page_at_a_time() {
        let all = NamespacesRequest::parse(b"").unwrap();
        assert_eq!((all.limit, &all.after), (DEFAULT_NAMESPACES_LISTED, &None));
        assert_eq!(NamespacesRequest::parse(b"{}"), Ok(all));
        let some = NamespacesRequest::parse(br#"{"limit":5,"after":"n"}"#).unwrap();
        assert_eq!((some.limit, some.after.unwrap().as_str()), (5, "n"));
        for limit in [0, MAX_NAMESPACES_LISTED + 1] {
            let body = format!(r#"{{"limit":{limit}}}"#);
            let told = NamespacesRequest::parse(body.as_bytes()).unwrap_err();
            assert!(told.to_string().contains("expected 1 to"), "{told}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_request_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            let _ = NamespacesRequest::parse(&bytes);
            let _ = NamespaceSetRequest::parse(&bytes);
            let _ = ClearRequest::parse(&bytes);
        }

        #[test]
        fn a_broken_request_is_a_request_or_an_error(at in any::<prop::sample::Index>(), byte in any::<u8>()) {
            let mut body = br#"{"namespace":"n","settings":{"mode":"keep","bytes_max":5},"if_version":"12"}"#.to_vec();
            let at = at.index(body.len());
            body[at] = byte;
            let _ = NamespaceSetRequest::parse(&body);
        }
    }
}
