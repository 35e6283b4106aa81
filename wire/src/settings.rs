//! Settings of a namespace, in `namespace_set` and in the settings file: what puts into it are where
//! they do not say themselves, and how much it may hold.

use serde::{Deserialize, Serialize};

use crate::descriptor::{Admit, Mode, check_ttl_ms};
use crate::error::{Error, Result};
use crate::json::{self, Nullable, Uint, object, words};

words! {
    /// Where an entry is before its put is answered.
    pub enum WritePolicy {
        /// In memory.
        Memory = "memory",
        /// In memory and in the cold tier.
        WriteThrough = "write_through",
        /// In memory, and in the cold tier some time later.
        WriteBack = "write_back",
    }
}

words! {
    /// How tensors are compressed in the cold tier.
    pub enum Compression {
        /// Not at all.
        None = "none",
        /// By LZ4.
        Lz4 = "lz4",
        /// By Zstandard.
        Zstd = "zstd",
    }
}

/// What is set; the rest is as without any setting.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct NamespaceSettings {
    /// The time to live of entries whose put gives none, in milliseconds.
    #[serde(with = "json::uint_opt", skip_serializing_if = "Option::is_none")]
    pub default_ttl_ms: Option<u64>,
    /// The mode of puts that give none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<Mode>,
    /// Bytes of tensors that it may hold: then its own entries go.
    #[serde(with = "json::uint_opt", skip_serializing_if = "Option::is_none")]
    pub bytes_max: Option<u64>,
    /// Entries that it may hold: then its own entries go.
    #[serde(with = "json::uint_opt", skip_serializing_if = "Option::is_none")]
    pub entries_max: Option<u64>,
    /// Where the eviction policy lets entries in whose put does not say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub admit: Option<Admit>,
    /// Where an entry is before its put is answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub write_policy: Option<WritePolicy>,
    /// How tensors are compressed in the cold tier.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub compression: Option<Compression>,
}

object! {
    /// A change of settings: what is given is set, or taken back by `null`.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct SettingsChange as "settings" {
        default_ttl_ms: Nullable<Uint>,
        mode: Nullable<Mode>,
        bytes_max: Nullable<Uint>,
        entries_max: Nullable<Uint>,
        admit: Nullable<Admit>,
        write_policy: Nullable<WritePolicy>,
        compression: Nullable<Compression>,
    }
}

impl NamespaceSettings {
    /// Whether nothing is set.
    pub fn is_empty(&self) -> bool {
        *self == NamespaceSettings::default()
    }

    /// As JSON, which [`SettingsChange::parse`] reads.
    #[must_use]
    pub fn to_json(&self) -> String {
        json::to_string(self)
    }
}

impl SettingsChange {
    /// Reads a change that stands alone: a table of the settings file, as JSON.
    ///
    /// # Errors
    /// `invalid_argument`; `unimplemented` for a value that is not built yet.
    pub fn parse(text: &str) -> Result<SettingsChange> {
        let change: SettingsChange = json::read(text.as_bytes())?;
        change.check()?;
        Ok(change)
    }

    /// Refuses values that cannot be, or not yet.
    ///
    /// # Errors
    /// `invalid_argument`; `unimplemented` for a value that is not built yet.
    pub fn check(&self) -> Result<()> {
        if let Some(Nullable(Some(ttl))) = self.default_ttl_ms {
            check_ttl_ms(ttl.0)?;
        }
        for (name, max) in [
            ("bytes_max", self.bytes_max),
            ("entries_max", self.entries_max),
        ] {
            if max == Some(Nullable(Some(Uint(0)))) {
                return Err(Error::invalid(format!(
                    "a namespace that may hold nothing; {name}=`0` expected at least 1, or null \
                     for no limit"
                )));
            }
        }
        let policy = self.write_policy.and_then(|policy| policy.0);
        if let Some(later) = policy.filter(|policy| *policy != WritePolicy::Memory) {
            return Err(later_value("write_policy", later.as_str(), "memory"));
        }
        if self.compression == Some(Nullable(Some(Compression::Lz4))) {
            return Err(later_value("compression", "lz4", "none` and `zstd"));
        }
        Ok(())
    }

    /// What `settings` are after the change.
    pub fn apply(&self, settings: &NamespaceSettings) -> NamespaceSettings {
        fn pick<T, U>(given: Option<Nullable<T>>, there: Option<U>, of: fn(T) -> U) -> Option<U> {
            given.map_or(there, |given| given.0.map(of))
        }
        let uint = |uint: Uint| uint.0;
        NamespaceSettings {
            default_ttl_ms: pick(self.default_ttl_ms, settings.default_ttl_ms, uint),
            mode: pick(self.mode, settings.mode, |mode| mode),
            bytes_max: pick(self.bytes_max, settings.bytes_max, uint),
            entries_max: pick(self.entries_max, settings.entries_max, uint),
            admit: pick(self.admit, settings.admit, |admit| admit),
            write_policy: pick(self.write_policy, settings.write_policy, |policy| policy),
            compression: pick(self.compression, settings.compression, |by| by),
        }
    }

    /// The first setting that both changes give another value.
    pub fn differs_from(&self, other: &SettingsChange) -> Option<&'static str> {
        fn differ<T: PartialEq>(one: &Option<T>, other: &Option<T>) -> bool {
            matches!((one, other), (Some(one), Some(other)) if one != other)
        }
        macro_rules! first {
            ($($field:ident),*) => {$(
                if differ(&self.$field, &other.$field) {
                    return Some(stringify!($field));
                }
            )*};
        }
        first!(
            default_ttl_ms,
            mode,
            bytes_max,
            entries_max,
            admit,
            write_policy,
            compression
        );
        None
    }
}

fn later_value(name: &str, value: &str, built: &str) -> Error {
    Error::unimplemented(format!(
        "a value of a setting is not built yet; {name}=`{value}` built is `{built}`"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_given_is_set_and_null_takes_it_back() {
        let set = SettingsChange::parse(
            r#"{"default_ttl_ms":5,"mode":"replace","bytes_max":"9007199254740993","admit":"probation","write_policy":"memory","compression":"zstd"}"#,
        );
        let settings = set.unwrap().apply(&NamespaceSettings::default());
        assert_eq!(settings.bytes_max, Some((1 << 53) + 1));
        let back = SettingsChange::parse(r#"{"mode":null,"bytes_max":null,"entries_max":7}"#);
        let settings = back.unwrap().apply(&settings);
        assert_eq!(
            json::to_string(&settings),
            r#"{"default_ttl_ms":5,"entries_max":7,"admit":"probation","write_policy":"memory","compression":"zstd"}"#
        );
        let again: NamespaceSettings =
            json::read_reply("settings", json::to_string(&settings).as_bytes()).unwrap();
        assert_eq!(again, settings);
        assert!(!settings.is_empty() && NamespaceSettings::default().is_empty());
    }

    #[test]
    fn what_cannot_be_is_refused_by_name() {
        for (text, says) in [
            (
                r#"{"ttl_ms":5}"#,
                "invalid_argument: settings has an unknown member; member=`ttl_ms`",
            ),
            (
                r#"{"default_ttl_ms":0}"#,
                "invalid_argument: not a time to live",
            ),
            (r#"{"bytes_max":0}"#, "bytes_max=`0` expected at least 1"),
            (r#"{"entries_max":-1}"#, "member `entries_max` is wrong"),
            (r#"{"mode":"overwrite"}"#, "member `mode` is wrong"),
            (
                r#"{"write_policy":"write_back"}"#,
                "unimplemented: a value of a setting",
            ),
            (
                r#"{"compression":"lz4"}"#,
                "compression=`lz4` built is `none` and `zstd`",
            ),
            (
                r#"{"compression":"gzip"}"#,
                "expected one of none, lz4, zstd",
            ),
        ] {
            let told = SettingsChange::parse(text)
                .map(|_| ())
                .unwrap_err()
                .to_string();
            assert!(told.contains(says), "{told}");
        }
    }

    #[test]
    fn changes_differ_where_both_say_something_else() {
        let parse = |text| SettingsChange::parse(text).unwrap();
        let fixed = parse(r#"{"mode":"keep","bytes_max":5}"#);
        for (text, differs) in [
            (r#"{"mode":"keep","entries_max":1}"#, None),
            (r#"{"mode":"keep","bytes_max":6}"#, Some("bytes_max")),
            (r#"{"mode":null}"#, Some("mode")),
            ("{}", None),
        ] {
            assert_eq!(parse(text).differs_from(&fixed), differs, "{text}");
        }
    }
}
