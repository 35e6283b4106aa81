//! What objects are called: a folder, twenty digits, an ending. No text of a client's ever becomes part of
//! a name, so there is nothing to escape and no way out of the prefix.

use std::fmt;

use object_store::path::Path;

use crate::entry::Number;

/// An object of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ObjectName {
    /// Tensors.
    Segment(Number),
    /// What is in the segment of that number.
    Sidecar(Number),
    /// What is gone from segments of lower numbers.
    Log(Number),
    /// A start of a server.
    Epoch(u64),
    /// What lay there when it began.
    Census(u64),
    /// What was in memory in a start.
    Hot(u64),
    /// What of others' prefixes is not to be found any more.
    Hidden(u64),
    /// What is set of namespaces.
    Settings(u64),
    /// Rows of the index, where that lies in the store.
    Table(u64),
    /// Which tables are the index.
    Manifest(u64),
}

/// Where objects of a kind lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Folder {
    /// [`ObjectName::Segment`] and [`ObjectName::Sidecar`].
    Segments,
    /// [`ObjectName::Log`].
    Log,
    /// [`ObjectName::Epoch`] and [`ObjectName::Census`].
    Epochs,
    /// [`ObjectName::Hot`].
    Hot,
    /// [`ObjectName::Hidden`].
    Hidden,
    /// [`ObjectName::Settings`].
    Settings,
    /// [`ObjectName::Table`] and [`ObjectName::Manifest`].
    Index,
}

impl Folder {
    /// All of them.
    pub const ALL: [Folder; 7] = [
        Folder::Segments,
        Folder::Log,
        Folder::Epochs,
        Folder::Hot,
        Folder::Hidden,
        Folder::Settings,
        Folder::Index,
    ];

    /// The folder's own name, under the prefix.
    pub fn as_str(self) -> &'static str {
        match self {
            Folder::Segments => "segments",
            Folder::Log => "log",
            Folder::Epochs => "epoch",
            Folder::Hot => "hot",
            Folder::Hidden => "hidden",
            Folder::Settings => "settings",
            Folder::Index => "index",
        }
    }

    pub(super) fn to_path(self, prefix: &Path) -> Path {
        prefix.clone().join(self.as_str())
    }
}

const DIGITS: usize = 20;

impl ObjectName {
    /// Where the object lies.
    pub fn folder(self) -> Folder {
        match self {
            ObjectName::Segment(_) | ObjectName::Sidecar(_) => Folder::Segments,
            ObjectName::Log(_) => Folder::Log,
            ObjectName::Epoch(_) | ObjectName::Census(_) => Folder::Epochs,
            ObjectName::Hot(_) => Folder::Hot,
            ObjectName::Hidden(_) => Folder::Hidden,
            ObjectName::Settings(_) => Folder::Settings,
            ObjectName::Table(_) | ObjectName::Manifest(_) => Folder::Index,
        }
    }

    /// The number in it.
    pub fn number(self) -> u64 {
        match self {
            ObjectName::Segment(number) | ObjectName::Sidecar(number) | ObjectName::Log(number) => {
                number.0
            }
            ObjectName::Epoch(number)
            | ObjectName::Census(number)
            | ObjectName::Hot(number)
            | ObjectName::Hidden(number)
            | ObjectName::Settings(number)
            | ObjectName::Table(number)
            | ObjectName::Manifest(number) => number,
        }
    }

    /// The object under a prefix.
    pub fn to_path(self, prefix: &Path) -> Path {
        let file = format!("{:0DIGITS$}{}", self.number(), self.ending());
        self.folder().to_path(prefix).join(file)
    }

    /// The object of a path; `None` for one that is none of ours.
    pub fn parse(prefix: &Path, path: &Path) -> Option<ObjectName> {
        let mut parts = path.prefix_match(prefix)?;
        let folder = parts.next()?;
        let file = parts.next()?;
        let file = file.as_ref();
        let digits = file.get(..DIGITS)?;
        let canonical = parts.next().is_none() && digits.bytes().all(|b| b.is_ascii_digit());
        let number = digits.parse().ok().filter(|_| canonical)?;
        let ours = [
            ObjectName::Segment(Number(number)),
            ObjectName::Sidecar(Number(number)),
            ObjectName::Log(Number(number)),
            ObjectName::Epoch(number),
            ObjectName::Census(number),
            ObjectName::Hot(number),
            ObjectName::Hidden(number),
            ObjectName::Settings(number),
            ObjectName::Table(number),
            ObjectName::Manifest(number),
        ];
        let ending = file.get(DIGITS..)?;
        ours.into_iter()
            .find(|name| name.ending() == ending && name.folder().as_str() == folder.as_ref())
    }

    fn ending(self) -> &'static str {
        match self {
            ObjectName::Segment(_) => ".arrow",
            ObjectName::Sidecar(_) => ".idx",
            ObjectName::Log(_) => ".log",
            ObjectName::Epoch(_) => "",
            ObjectName::Census(_) => ".census",
            ObjectName::Hot(_) => ".hot",
            ObjectName::Hidden(_) => ".hid",
            ObjectName::Settings(_) => ".set",
            ObjectName::Table(_) => ".rows",
            ObjectName::Manifest(_) => ".tree",
        }
    }
}

/// As it lies under the prefix.
impl fmt::Display for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.to_path(&Path::default()).as_ref())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_names_are_for_ever() {
        let names = [
            (
                ObjectName::Segment(Number(7)),
                "segments/00000000000000000007.arrow",
            ),
            (
                ObjectName::Sidecar(Number(7)),
                "segments/00000000000000000007.idx",
            ),
            (
                ObjectName::Log(Number(u64::MAX)),
                "log/18446744073709551615.log",
            ),
            (ObjectName::Epoch(1), "epoch/00000000000000000001"),
            (ObjectName::Census(1), "epoch/00000000000000000001.census"),
            (ObjectName::Hot(2), "hot/00000000000000000002.hot"),
            (ObjectName::Hidden(9), "hidden/00000000000000000009.hid"),
            (ObjectName::Settings(3), "settings/00000000000000000003.set"),
            (ObjectName::Table(3), "index/00000000000000000003.rows"),
            (ObjectName::Manifest(4), "index/00000000000000000004.tree"),
        ];
        for (name, text) in names {
            assert_eq!(name.to_string(), text);
            for prefix in ["", "a/b"].map(Path::from) {
                assert_eq!(
                    ObjectName::parse(&prefix, &name.to_path(&prefix)),
                    Some(name)
                );
            }
        }
    }

    #[test]
    fn foreign_objects_are_none_of_ours() {
        let foreign = [
            "segments/7.arrow",
            "segments/00000000000000000007.log",
            "segments/00000000000000000007.arrow.bak",
            "segments/00000000000000000007",
            "segments/+0000000000000000007.arrow",
            "segments/99999999999999999999.arrow",
            "segments/x/00000000000000000007.arrow",
            "log/00000000000000000007.arrow",
            "Log/00000000000000000007.log",
            "epoch/00000000000000000007.idx",
            "00000000000000000007.arrow",
            "README",
        ];
        for path in foreign {
            assert_eq!(
                ObjectName::parse(&Path::default(), &Path::from(path)),
                None,
                "{path}"
            );
        }
        let elsewhere = Path::from("b/epoch/00000000000000000007");
        assert_eq!(ObjectName::parse(&Path::from("a"), &elsewhere), None);
    }

    proptest! {
        #[test]
        fn whatever_is_found_is_at_its_own_place(path in "(segments|log|epoch|hot|hidden|settings|index|\\PC{0,4})/[0-9a.]{0,21}(\\.arrow|\\.idx|\\.log|\\PC{0,3})") {
            let path = Path::from(path);
            if let Some(name) = ObjectName::parse(&Path::default(), &path) {
                prop_assert_eq!(name.to_path(&Path::default()), path);
            }
        }
    }
}
