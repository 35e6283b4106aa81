//! `load_roots`: where files lie that the server may read for a client.

use std::fmt;
use std::path::{Component, Path, PathBuf};
use std::str::FromStr;

/// A folder, all of which may be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadRoot(PathBuf);

impl LoadRoot {
    /// The folder, as it was written.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl FromStr for LoadRoot {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let path = text.strip_prefix("file://").unwrap_or(text);
        if path.contains("://") {
            return Err(
                "expected the absolute path of a folder, or file:///FOLDER; files in object stores are not read"
                    .to_owned(),
            );
        }
        let path = Path::new(path);
        let plain = path
            .components()
            .all(|part| matches!(part, Component::RootDir | Component::Normal(_)));
        if !path.is_absolute() || !plain {
            return Err(format!(
                "`{text}` is no absolute path; expected one without `..`, or file:///FOLDER"
            ));
        }
        Ok(Self(path.components().collect()))
    }
}

impl fmt::Display for LoadRoot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.display().fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_root_is_an_absolute_folder() {
        for text in ["/data", "/data/", "file:///data", "/data/./"] {
            assert_eq!(text.parse::<LoadRoot>().unwrap().to_string(), "/data");
        }
        for text in [
            "",
            "data",
            "./data",
            "/data/../etc",
            "file://",
            "file://host/data",
            "s3://bucket/x",
        ] {
            assert!(text.parse::<LoadRoot>().is_err(), "{text}");
        }
    }
}
