//! The actions of files that are served as a namespace: `attach` and `detach`.

use serde::Serialize;

use super::files::{ColumnMembers, FileColumns, Files, check};
use crate::error::Result;
use crate::json::{self, Nested, Object as _, object, required};
use crate::name::Namespace;

/// `attach`: a namespace is the rows of files, read-only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AttachRequest {
    /// Which: it has no entries yet.
    pub namespace: Namespace,
    /// As [`LoadFilesRequest::files`](super::LoadFilesRequest::files).
    pub files: Vec<String>,
    /// Which columns are key and tensor, where the names or types do not say.
    #[serde(skip_serializing_if = "FileColumns::is_default")]
    pub columns: FileColumns,
}

/// The files of a namespace that a server attaches when it starts, as its settings name them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttachSettings {
    /// As [`AttachRequest::files`].
    pub files: Vec<String>,
    /// As [`AttachRequest::columns`].
    pub columns: FileColumns,
}

/// `detach`: a namespace is no longer the rows of files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DetachRequest {
    /// Which.
    pub namespace: Namespace,
}

impl AttachRequest {
    /// Reads the action's body. The namespace must be given: nobody makes `default` read-only because a name was forgotten.
    ///
    /// # Errors
    /// `invalid_argument`, or `resource_exhausted` past the size limit.
    pub fn parse(body: &[u8]) -> Result<AttachRequest> {
        let members: AttachMembers = json::read(body)?;
        let namespace = required("attach request", "namespace", members.namespace)?;
        let files = required("attach request", "files", members.files)?;
        Ok(AttachRequest {
            namespace,
            files: check("attach request", files)?,
            columns: members
                .columns
                .map(|columns| columns.0.into())
                .unwrap_or_default(),
        })
    }

    /// The action's body.
    pub fn to_json(&self) -> String {
        json::to_string(self)
    }
}

impl AttachSettings {
    /// Reads them as JSON, with the members of [`AttachRequest`] but its namespace.
    ///
    /// # Errors
    /// `invalid_argument`, or `resource_exhausted` past the size limit.
    pub fn parse(text: &str) -> Result<AttachSettings> {
        const WHAT: &str = AttachSettingsMembers::WHAT;
        let members: AttachSettingsMembers = json::read(text.as_bytes())?;
        let files = check(WHAT, required(WHAT, "files", members.files)?)?;
        let columns = members.columns.map(|columns| columns.0.into());
        Ok(AttachSettings {
            files,
            columns: columns.unwrap_or_default(),
        })
    }
}

impl DetachRequest {
    /// Reads the action's body.
    ///
    /// # Errors
    /// `invalid_argument`, or `resource_exhausted` past the size limit.
    pub fn parse(body: &[u8]) -> Result<DetachRequest> {
        let members: DetachMembers = json::read(body)?;
        let namespace = required("detach request", "namespace", members.namespace)?;
        Ok(DetachRequest { namespace })
    }

    /// The action's body.
    pub fn to_json(&self) -> String {
        json::to_string(self)
    }
}

object! {
    pub(super) struct AttachMembers as "attach request" {
        namespace: Namespace,
        files: Files,
        columns: Nested<ColumnMembers>,
    }
}
object! {
    struct AttachSettingsMembers as "attach settings" { files: Files, columns: Nested<ColumnMembers> }
}
object! {
    pub(super) struct DetachMembers as "detach request" { namespace: Namespace }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn namespace_and_files_are_named() {
        for (body, told) in [
            ("{}", "namespace"),
            (r#"{"files":["a"]}"#, "namespace"),
            (r#"{"namespace":"n"}"#, "files"),
            (r#"{"namespace":"n","files":[]}"#, "no files"),
            (r#"{"namespace":"n","files":["a"],"ttl_ms":5}"#, "ttl_ms"),
        ] {
            let error = AttachRequest::parse(body.as_bytes()).unwrap_err();
            assert!(error.to_string().contains(told), "{body}: {error}");
        }
        assert!(DetachRequest::parse(b"{}").is_err());
        let detach = DetachRequest::parse(br#"{"namespace":"n"}"#).unwrap();
        assert_eq!(
            DetachRequest::parse(detach.to_json().as_bytes()),
            Ok(detach)
        );
    }

    proptest! {
        #[test]
        fn round_trips(
            files in prop::collection::vec("[^\0]{1,20}", 1..4),
            tensor in prop::option::of("[a-z]{1,5}"),
        ) {
            let request = AttachRequest {
                namespace: Namespace::parse("n").unwrap(),
                files,
                columns: FileColumns { tensor, ..FileColumns::default() },
            };
            prop_assert_eq!(AttachRequest::parse(request.to_json().as_bytes()), Ok(request));
        }

        #[test]
        fn any_bytes_are_a_request_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            let _ = AttachRequest::parse(&bytes);
            let _ = DetachRequest::parse(&bytes);
        }
    }
}
