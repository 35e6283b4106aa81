//! What actions and GetFlightInfo answer, as JSON. Members may be added; none changes its meaning.

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::dtype::DType;
use crate::error::Result;
use crate::json;
use crate::metadata::Metadata;
use crate::name::{Key, Namespace};
use crate::settings::NamespaceSettings;
use crate::shape::Shape;
use crate::version::Version;

/// What all replies can do.
pub trait Reply: Serialize + DeserializeOwned {
    /// How messages call it.
    const WHAT: &'static str;

    /// The reply's JSON.
    fn to_json(&self) -> String {
        json::to_string(self)
    }

    /// Reads what a server answered. Members that this version does not know are skipped.
    ///
    /// # Errors
    /// `internal` where it is no such JSON.
    fn parse(bytes: &[u8]) -> Result<Self> {
        json::read_reply(Self::WHAT, bytes)
    }
}

/// The reply to `exists`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExistsReply {
    /// One for each key asked, in order.
    pub keys: Vec<KeyExists>,
    /// How many keys, from the first, are all present.
    #[serde(with = "json::uint")]
    pub leading: u64,
}

/// A key, whether it is there, and what may end that.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyExists {
    /// The key.
    pub key: Key,
    /// Whether it is there.
    pub found: bool,
    /// Milliseconds until it expires; absent where it does not.
    #[serde(
        default,
        with = "json::uint_opt",
        skip_serializing_if = "Option::is_none"
    )]
    pub ttl_ms: Option<u64>,
    /// Whether it is pinned; absent where it is not.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub pinned: bool,
}

/// The reply to `expire`, `pin` and `unpin`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeysReply {
    /// One for each key asked, in order.
    pub keys: Vec<KeyFound>,
}

/// The reply to `delete`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeleteReply {
    /// One for each key asked, in order; absent for a prefix.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keys: Option<Vec<KeyFound>>,
    /// How many entries went.
    #[serde(with = "json::uint")]
    pub deleted: u64,
}

/// The reply to `flush`, `evict` and `prewarm`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MoveReply {
    /// One for each key asked, in order, and whether it is there, in memory or below; absent for a prefix
    /// and for `flush`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keys: Option<Vec<KeyFound>>,
    /// How many entries the cold tier has now, or have left memory, or have come into it.
    #[serde(with = "json::uint")]
    pub entries: u64,
}

/// The reply to `begin_load`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BeginLoadReply {
    /// Names the load, for puts and for the other actions.
    pub load_id: String,
}

/// The reply to `commit_load`, `abort_load` and `rollback_load`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoadReply {
    /// The load.
    pub load_id: String,
    /// Entries that it had.
    #[serde(with = "json::uint")]
    pub entries: u64,
    /// Their tensors' bytes.
    #[serde(with = "json::uint")]
    pub bytes: u64,
}

/// What `load` tells now and then, and at its end; and the reply to `load_status`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoadFilesReply {
    /// The load, for `load_status`, `abort_load` and `rollback_load`.
    pub load_id: String,
    /// `open`, `committed` or `aborted`.
    pub state: String,
    /// Files in all.
    #[serde(with = "json::uint")]
    pub files: u64,
    /// Files that were read to their ends.
    #[serde(with = "json::uint")]
    pub files_done: u64,
    /// Rows that were read.
    #[serde(with = "json::uint")]
    pub rows: u64,
    /// Entries that the load has.
    #[serde(with = "json::uint")]
    pub entries: u64,
    /// Their tensors' bytes.
    #[serde(with = "json::uint")]
    pub bytes: u64,
    /// The code of what ended it, where that was an error.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// And what was wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// The reply to `attach`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttachReply {
    /// Which.
    pub namespace: Namespace,
    /// Files that it is made of.
    #[serde(with = "json::uint")]
    pub files: u64,
    /// Rows in them, each a key.
    #[serde(with = "json::uint")]
    pub rows: u64,
    /// Bytes of their tensors.
    #[serde(with = "json::uint")]
    pub bytes: u64,
    /// Bytes of memory that the keys take.
    #[serde(with = "json::uint")]
    pub index_bytes: u64,
}

/// The reply to `detach`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DetachReply {
    /// Which.
    pub namespace: Namespace,
    /// Rows that it had.
    #[serde(with = "json::uint")]
    pub rows: u64,
}

/// A key, and whether it was there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyFound {
    /// The key.
    pub key: Key,
    /// Whether it was there.
    pub found: bool,
}

/// The reply to `describe`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DescribeReply {
    /// One for each key asked, in order.
    pub keys: Vec<KeyDescribed>,
}

/// A key, and what is known of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyDescribed {
    /// The key.
    pub key: Key,
    /// Whether it was there.
    pub found: bool,
    /// The entry's members beside these two; absent where it was not there.
    #[serde(flatten)]
    pub entry: Option<EntryDescribed>,
}

/// All about an entry but its bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EntryDescribed {
    /// Its element type.
    pub dtype: DType,
    /// Its logical shape.
    pub shape: Shape,
    /// Its tensor's bytes.
    #[serde(with = "json::uint")]
    pub bytes: u64,
    /// Its version.
    pub version: Version,
    /// xxh3-128 of the C-order bytes, 32 hexadecimal digits; absent of a row of a file that memory has not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checksum: Option<String>,
    /// Where it lies: `hot` is in memory, `cold` below it, `attached` in a file.
    pub tier: String,
    /// Its own metadata.
    #[serde(default)]
    pub metadata: Metadata,
    /// Milliseconds until it expires; absent where it does not.
    #[serde(
        default,
        with = "json::uint_opt",
        skip_serializing_if = "Option::is_none"
    )]
    pub ttl_ms: Option<u64>,
    /// Whether it is pinned.
    #[serde(default)]
    pub pinned: bool,
    /// How often it was asked for, as far as that is counted.
    #[serde(with = "json::uint")]
    pub hits: u64,
}

/// The `app_metadata` of a FlightInfo. Of many entries, only what all of them share.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct FlightMetadata {
    /// The element type.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dtype: Option<DType>,
    /// The logical shape.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shape: Option<Shape>,
    /// The version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<Version>,
    /// Where it lies: `hot` is in memory, `cold` below it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tier: Option<String>,
    /// The entry's own metadata.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<Metadata>,
}

/// The reply to `namespaces`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NamespacesReply {
    /// In the order of their names.
    pub namespaces: Vec<NamespaceDescribed>,
    /// Whether there are more behind the last one; absent where there are none.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub more: bool,
}

/// The reply to `namespace_set`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NamespaceSetReply {
    /// Its name.
    pub namespace: Namespace,
    /// What is set now.
    pub settings: NamespaceSettings,
    /// The settings' version; 0 where they were never set.
    pub version: Version,
}

/// A namespace and what is in it. Counters count from the start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NamespaceDescribed {
    /// Its name.
    pub namespace: Namespace,
    /// Its entries.
    #[serde(with = "json::uint")]
    pub entries: u64,
    /// Their tensors' bytes.
    #[serde(with = "json::uint")]
    pub bytes: u64,
    /// Gets that found their key.
    #[serde(default, with = "json::uint")]
    pub hits: u64,
    /// Gets that did not.
    #[serde(default, with = "json::uint")]
    pub misses: u64,
    /// Entries that were evicted.
    #[serde(default, with = "json::uint")]
    pub evicted: u64,
    /// Entries that expired.
    #[serde(default, with = "json::uint")]
    pub expired: u64,
    /// What is set.
    #[serde(default)]
    pub settings: NamespaceSettings,
    /// The settings' version; absent where they were never set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub settings_version: Option<Version>,
    /// The files that it is the rows of; absent where it is not attached.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attached: Option<AttachedDescribed>,
}

/// How much of files a namespace is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttachedDescribed {
    /// Files.
    #[serde(with = "json::uint")]
    pub files: u64,
    /// Rows in them.
    #[serde(with = "json::uint")]
    pub rows: u64,
    /// Bytes of their tensors.
    #[serde(with = "json::uint")]
    pub bytes: u64,
}

/// The reply to `stats`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct StatsReply {
    /// The server's version.
    pub server: String,
    /// The wire contract's version.
    pub wire: u32,
    /// Which start of the server this is: what its versions have last; another one after a restart.
    #[serde(default, with = "json::uint")]
    pub start: u64,
    /// Milliseconds since the server started.
    #[serde(with = "json::uint")]
    pub uptime_ms: u64,
    /// All entries, of every namespace.
    #[serde(with = "json::uint")]
    pub entries: u64,
    /// Their tensors' bytes.
    #[serde(with = "json::uint")]
    pub bytes: u64,
    /// What the budget is spent on.
    pub memory: MemoryStats,
    /// What goes when the budget is spent.
    #[serde(default)]
    pub eviction: EvictionStats,
    /// Counters by name, those of `/metrics`; they count from the start.
    #[serde(default)]
    pub counters: BTreeMap<String, Counter>,
    /// Requests by Flight's name of the verb, those that were asked for.
    #[serde(default)]
    pub requests: BTreeMap<String, RequestStats>,
    /// Open connections.
    #[serde(default, with = "json::uint")]
    pub connections: u64,
    /// The cold tier's gauges and counters by name, those of `/metrics`; absent where there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cold: Option<BTreeMap<String, Counter>>,
}

/// Requests of one verb. All but those in flight count from the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct RequestStats {
    /// Answered in full.
    #[serde(with = "json::uint")]
    pub ok: u64,
    /// Refused, failed, or given up by the client.
    #[serde(with = "json::uint")]
    pub failed: u64,
    /// Being answered now.
    #[serde(with = "json::uint")]
    pub in_flight: u64,
    /// Bytes of request bodies, as they come.
    #[serde(with = "json::uint")]
    pub received_bytes: u64,
    /// Bytes of response bodies, as they go.
    #[serde(with = "json::uint")]
    pub sent_bytes: u64,
}

/// The memory ledger.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct MemoryStats {
    /// The budget, `--memory`.
    #[serde(with = "json::uint")]
    pub limit_bytes: u64,
    /// Charged now, all accounts together.
    #[serde(with = "json::uint")]
    pub used_bytes: u64,
    /// Each account by name.
    #[serde(default)]
    pub accounts: BTreeMap<String, AccountStats>,
}

/// The eviction policy.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct EvictionStats {
    /// The one that was set.
    pub policy: String,
    /// The one that decides at the moment: another one where `policy` is `adaptive`.
    pub follows: String,
}

/// One account of the memory ledger.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct AccountStats {
    /// Charged now.
    #[serde(with = "json::uint")]
    pub used_bytes: u64,
    /// The most that was charged at once.
    #[serde(with = "json::uint")]
    pub peak_bytes: u64,
}

/// A number that only grows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Counter(#[serde(with = "json::uint")] pub u64);

impl ExistsReply {
    /// The reply for keys and whether each is there.
    pub fn new(keys: Vec<KeyExists>) -> ExistsReply {
        let leading = keys.iter().take_while(|key| key.found).count() as u64;
        ExistsReply { keys, leading }
    }
}

macro_rules! replies {
    ($($name:ident = $what:literal;)*) => {$(
        impl Reply for $name {
            const WHAT: &'static str = $what;
        }
    )*};
}

replies! {
    ExistsReply = "exists reply";
    KeysReply = "keys reply";
    BeginLoadReply = "begin_load reply";
    LoadReply = "load reply";
    LoadFilesReply = "load reply";
    AttachReply = "attach reply";
    DetachReply = "detach reply";
    DeleteReply = "delete reply";
    MoveReply = "move reply";
    DescribeReply = "describe reply";
    FlightMetadata = "flight info metadata";
    NamespacesReply = "namespaces reply";
    NamespaceSetReply = "namespace_set reply";
    StatsReply = "stats reply";
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn found(key: &str, found: bool) -> KeyExists {
        KeyExists {
            key: Key::parse(key).unwrap(),
            found,
            ttl_ms: (key == "c").then_some(5),
            pinned: key == "c",
        }
    }

    #[test]
    fn leading_stops_at_the_first_that_is_missing() {
        let reply = ExistsReply::new(vec![found("a", true), found("b", false), found("c", true)]);
        assert_eq!(
            reply.to_json(),
            r#"{"keys":[{"key":"a","found":true},{"key":"b","found":false},{"key":"c","found":true,"ttl_ms":5,"pinned":true}],"leading":1}"#
        );
        assert_eq!(ExistsReply::parse(reply.to_json().as_bytes()), Ok(reply));
    }

    #[test]
    fn a_prefix_delete_names_no_keys() {
        let reply = DeleteReply {
            keys: None,
            deleted: 3,
        };
        assert_eq!(reply.to_json(), r#"{"deleted":3}"#);
        assert_eq!(DeleteReply::parse(br#"{"deleted":3,"new":1}"#), Ok(reply));
        let told = DeleteReply::parse(b"{}").unwrap_err().to_string();
        assert!(
            told.starts_with("internal: delete reply is not what was expected: "),
            "{told}"
        );
    }

    proptest! {
        #[test]
        fn descriptions_round_trip(bytes in any::<u64>(), ttl_ms in prop::option::of(any::<u64>()), there in any::<bool>()) {
            let entry = EntryDescribed {
                dtype: DType::BFloat16,
                shape: Shape::new(&[2, 0, 1 << 60]).unwrap(),
                bytes,
                version: Version { hlc: bytes, start: 3 },
                checksum: Some(format!("{bytes:032x}")),
                tier: "hot".to_owned(),
                metadata: Metadata::new([("a".to_owned(), "ä".to_owned())]).unwrap(),
                ttl_ms,
                pinned: there,
                hits: 5,
            };
            let flight = FlightMetadata {
                dtype: Some(entry.dtype),
                shape: Some(entry.shape.clone()),
                version: Some(entry.version),
                ..FlightMetadata::default()
            };
            prop_assert_eq!(FlightMetadata::parse(flight.to_json().as_bytes()), Ok(flight));
            let key = Key::parse("k").unwrap();
            let keys = vec![KeyDescribed { key, found: there, entry: there.then_some(entry) }];
            let reply = DescribeReply { keys };
            prop_assert_eq!(DescribeReply::parse(reply.to_json().as_bytes()), Ok(reply));
        }

        #[test]
        fn stats_round_trip(value in any::<u64>()) {
            let mut reply = StatsReply { start: value >> 32, uptime_ms: value, entries: 1, ..StatsReply::default() };
            reply.counters.insert("gets".to_owned(), Counter(value));
            let account = AccountStats { used_bytes: value, peak_bytes: value };
            reply.memory.accounts.insert("arena".to_owned(), account);
            reply.eviction.policy = "adaptive".to_owned();
            let requests = RequestStats { ok: value, sent_bytes: value, ..RequestStats::default() };
            reply.requests.insert("DoGet".to_owned(), requests);
            reply.connections = value;
            prop_assert_eq!(StatsReply::parse(reply.to_json().as_bytes()), Ok(reply));
            let namespaces = NamespacesReply {
                namespaces: vec![NamespaceDescribed {
                attached: None,
                    namespace: Namespace::default(),
                    entries: value,
                    bytes: value,
                    hits: value,
                    misses: value,
                    evicted: value,
                    expired: value,
                    settings: NamespaceSettings { bytes_max: Some(value), ..NamespaceSettings::default() },
                    settings_version: Some(Version { hlc: value, start: 1 }),
                }],
                more: true,
            };
            prop_assert_eq!(NamespacesReply::parse(namespaces.to_json().as_bytes()), Ok(namespaces));
        }
    }
}
