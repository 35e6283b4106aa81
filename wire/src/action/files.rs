//! The actions of files that the server reads: `load`, and `load_status` of what it is doing.

use serde::Serialize;

use crate::descriptor::{Mode, check_ttl_ms};
use crate::error::{Error, Result, clip};
use crate::json::{self, Nested, Uint, list, object, required};
use crate::limits::{MAX_KEY_BYTES, MAX_LOAD_FILES, MAX_PATH_BYTES, MAX_QUOTED_BYTES};
use crate::name::Namespace;

/// `load`: files that the server reads become entries of a namespace.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct LoadFilesRequest {
    /// Where their keys go.
    pub namespace: Namespace,
    /// Paths of files and folders, and patterns of them: 1 to [`MAX_LOAD_FILES`].
    pub files: Vec<String>,
    /// Which columns are what, where the names or types do not say.
    #[serde(skip_serializing_if = "FileColumns::is_default")]
    pub columns: FileColumns,
    /// What to put before each key.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub prefix: String,
    /// Which of several rows with one key stays; `None` is as a bulk put has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<Mode>,
    /// Milliseconds until the entries expire.
    #[serde(
        skip_serializing_if = "Option::is_none",
        serialize_with = "json::uint_opt::serialize"
    )]
    pub ttl_ms: Option<u64>,
    /// Keys of the namespace that are not among them go.
    pub replace_all: bool,
    /// It is answered as soon as it has begun, and goes on by itself.
    pub detach: bool,
}

/// Columns of files; within structs `name.name`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct FileColumns {
    /// The keys.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// The tensors.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tensor: Option<String>,
    /// The metadata of each: maps of strings to strings.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metadata: Option<String>,
}

impl FileColumns {
    pub(super) fn is_default(&self) -> bool {
        *self == FileColumns::default()
    }
}

impl LoadFilesRequest {
    /// Reads the action's body.
    ///
    /// # Errors
    /// `invalid_argument`, or `resource_exhausted` past the size limit.
    pub fn parse(body: &[u8]) -> Result<LoadFilesRequest> {
        let members: LoadFilesMembers = json::read(body)?;
        let files = required("load request", "files", members.files)?;
        let files = check("load request", files)?;
        let prefix = members.prefix.unwrap_or_default();
        if prefix.len() > MAX_KEY_BYTES {
            return Err(Error::invalid(format!(
                "load request has a prefix that no key has; bytes=`{}` expected at most {MAX_KEY_BYTES}",
                prefix.len()
            )));
        }
        let columns = members.columns.map(|columns| columns.0.into());
        Ok(LoadFilesRequest {
            namespace: members.namespace.unwrap_or_default(),
            files,
            columns: columns.unwrap_or_default(),
            prefix,
            mode: members.mode,
            ttl_ms: members.ttl_ms.map(|ms| check_ttl_ms(ms.0)).transpose()?,
            replace_all: members.replace_all.unwrap_or_default(),
            detach: members.detach.unwrap_or_default(),
        })
    }

    /// The action's body.
    pub fn to_json(&self) -> String {
        json::to_string(self)
    }
}

/// The paths that a request names.
///
/// # Errors
/// `invalid_argument` for none, and for one that no file has.
pub(super) fn check(what: &str, Files(files): Files) -> Result<Vec<String>> {
    if files.is_empty() {
        return Err(Error::invalid(format!(
            "{what} names no files; expected paths of files or folders in files"
        )));
    }
    let odd = |file: &&String| file.is_empty() || file.len() > MAX_PATH_BYTES;
    match files.iter().find(odd) {
        Some(file) => Err(Error::invalid(format!(
            "{what} names an impossible file; file=`{}` expected a path of 1 to {MAX_PATH_BYTES} bytes",
            clip(file, MAX_QUOTED_BYTES)
        ))),
        None => Ok(files),
    }
}

/// A list of paths.
#[derive(Debug)]
pub(super) struct Files(Vec<String>);

impl<'de> serde::Deserialize<'de> for Files {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Files, D::Error> {
        list(deserializer, "a list of paths", MAX_LOAD_FILES).map(Files)
    }
}

object! {
    pub(super) struct LoadFilesMembers as "load request" {
        namespace: Namespace,
        files: Files,
        columns: Nested<ColumnMembers>,
        prefix: String,
        mode: Mode,
        ttl_ms: Uint,
        replace_all: bool,
        detach: bool,
    }
}
object! {
    #[derive(Debug)]
    pub(super) struct ColumnMembers as "columns" { key: String, tensor: String, metadata: String }
}

impl From<ColumnMembers> for FileColumns {
    fn from(columns: ColumnMembers) -> FileColumns {
        FileColumns {
            key: columns.key,
            tensor: columns.tensor,
            metadata: columns.metadata,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn files_are_named_and_all_else_has_a_default() {
        let request = LoadFilesRequest::parse(br#"{"files":["/data/a.parquet"]}"#).unwrap();
        let expected = LoadFilesRequest {
            files: vec!["/data/a.parquet".to_owned()],
            ..LoadFilesRequest::default()
        };
        assert_eq!(request, expected);
        let long = format!(r#"{{"files":["{}"]}}"#, "x".repeat(MAX_PATH_BYTES + 1));
        for (body, told) in [
            ("{}", "files"),
            (r#"{"files":[]}"#, "no files"),
            (r#"{"files":[""]}"#, "impossible file"),
            (&long, "impossible file"),
            (r#"{"files":"/data"}"#, "a list of paths"),
            (r#"{"files":["a"],"columns":{"value":"v"}}"#, "value"),
            (r#"{"files":["a"],"ttl_ms":0}"#, "ttl_ms"),
        ] {
            let error = LoadFilesRequest::parse(body.as_bytes()).unwrap_err();
            assert!(error.to_string().contains(told), "{body}: {error}");
        }
    }

    proptest! {
        #[test]
        fn round_trips(
            files in prop::collection::vec("[^\0]{1,20}", 1..4),
            key in prop::option::of("[a-z]{1,5}"),
            ttl_ms in prop::option::of(1_u64..1000),
            flags in any::<(bool, bool)>(),
        ) {
            let request = LoadFilesRequest {
                files,
                columns: FileColumns { key, ..FileColumns::default() },
                prefix: "p/".to_owned(),
                mode: Some(Mode::Replace),
                ttl_ms,
                replace_all: flags.0,
                detach: flags.1,
                ..LoadFilesRequest::default()
            };
            prop_assert_eq!(LoadFilesRequest::parse(request.to_json().as_bytes()), Ok(request));
        }

        #[test]
        fn any_bytes_are_a_request_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            let _ = LoadFilesRequest::parse(&bytes);
        }
    }
}
