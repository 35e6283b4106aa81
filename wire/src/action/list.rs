//! Every action of the wire contract, for ListActions and for the answer to one that is none.

/// An action as ListActions describes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ActionInfo {
    /// The action's type.
    pub name: &'static str,
    /// The members of its body.
    pub members: &'static [&'static str],
    /// What it does.
    pub does: &'static str,
}

impl ActionInfo {
    /// What ListActions says of it.
    pub fn description(&self) -> String {
        let members = match self.members {
            [] => String::from("no members"),
            members => format!("members: {}", members.join(", ")),
        };
        format!("{}; {members}", self.does)
    }
}

/// Every action of the wire contract.
pub const ACTIONS: &[ActionInfo] = &[
    action(
        "exists",
        &["namespace", "keys"],
        "says which keys are there, and how many from the first are all present",
    ),
    action(
        "delete",
        &["namespace", "keys", "prefix", "if_version"],
        "deletes keys, or all keys that begin with a prefix; a missing key is no error",
    ),
    action(
        "describe",
        &["namespace", "keys"],
        "says dtype, shape, size, version, checksum, metadata and expiry of keys",
    ),
    action("stats", &[], "says counters and memory of this server"),
    action(
        "namespaces",
        &["limit", "after"],
        "lists namespaces with their entries, bytes, counters and settings",
    ),
    action(
        "expire",
        &["namespace", "keys", "ttl_ms"],
        "gives keys a time to live from now on; null takes it away",
    ),
    action("pin", &["namespace", "keys"], "keeps keys from eviction"),
    action(
        "unpin",
        &["namespace", "keys"],
        "lets keys be evicted again",
    ),
    action(
        "namespace_set",
        &["namespace", "settings", "if_version"],
        "changes settings of a namespace: default_ttl_ms, mode, bytes_max, entries_max, admit, \
         write_policy, compression; null takes one back, {} changes none",
    ),
    action(
        "clear",
        &["namespace", "confirm"],
        "deletes all keys of one namespace; confirm must be true",
    ),
    action(
        "flush",
        &["namespace"],
        "writes what only memory has of a namespace to the cold tier, and waits for that",
    ),
    action(
        "evict",
        &["namespace", "keys", "prefix"],
        "moves entries out of memory into the cold tier",
    ),
    action(
        "prewarm",
        &["namespace", "keys", "prefix"],
        "reads entries from the cold tier into memory",
    ),
    action(
        "load",
        &[
            "namespace",
            "files",
            "columns",
            "prefix",
            "mode",
            "ttl_ms",
            "replace_all",
            "detach",
        ],
        "reads files of Parquet and Arrow that lie with the server into a namespace, as one load: all of them or nothing",
    ),
    action(
        "load_status",
        &["load_id", "namespace"],
        "says how far the server is with the files of a load",
    ),
    action(
        "attach",
        &["namespace", "files", "columns"],
        "serves files of Parquet and Arrow that lie with the server as a namespace, read-only, without loading them",
    ),
    action(
        "detach",
        &["namespace"],
        "ends that: the namespace is an empty one",
    ),
    action(
        "begin_load",
        &["namespace", "replace_all", "size_bytes"],
        "opens a load: puts that carry its load_id are invisible until it is committed",
    ),
    action(
        "commit_load",
        &["load_id", "namespace"],
        "publishes all of a load at once",
    ),
    action("abort_load", &["load_id", "namespace"], "forgets a load"),
    action(
        "rollback_load",
        &["load_id", "namespace"],
        "restores what was before a load, while that is still held",
    ),
];

const fn action(
    name: &'static str,
    members: &'static [&'static str],
    does: &'static str,
) -> ActionInfo {
    ActionInfo {
        name,
        members,
        does,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::Object;

    fn find(name: &str) -> Option<&'static ActionInfo> {
        ACTIONS.iter().find(|action| action.name == name)
    }

    #[test]
    fn each_lists_the_members_that_it_reads() {
        let members = |name| find(name).unwrap().members;
        assert_eq!(members("exists"), super::super::ExistsMembers::MEMBERS);
        assert_eq!(members("delete"), super::super::DeleteMembers::MEMBERS);
        assert_eq!(members("describe"), super::super::DescribeMembers::MEMBERS);
        assert_eq!(
            members("expire"),
            super::super::entry::ExpireMembers::MEMBERS
        );
        assert_eq!(members("pin"), super::super::entry::PinMembers::MEMBERS);
        assert_eq!(members("unpin"), members("pin"));
        use super::super::space;
        assert_eq!(members("namespaces"), space::NamespacesMembers::MEMBERS);
        assert_eq!(
            members("namespace_set"),
            space::NamespaceSetMembers::MEMBERS
        );
        assert_eq!(members("clear"), space::ClearMembers::MEMBERS);
        assert_eq!(
            members("begin_load"),
            super::super::load::BeginLoadMembers::MEMBERS
        );
        assert_eq!(
            members("load"),
            super::super::files::LoadFilesMembers::MEMBERS
        );
        for name in ["load_status", "commit_load", "abort_load", "rollback_load"] {
            assert_eq!(members(name), super::super::load::LoadMembers::MEMBERS);
        }
        use super::super::attach;
        assert_eq!(members("attach"), attach::AttachMembers::MEMBERS);
        assert_eq!(members("detach"), attach::DetachMembers::MEMBERS);
        use super::super::tiers;
        assert_eq!(members("flush"), tiers::FlushMembers::MEMBERS);
        assert_eq!(members("evict"), tiers::MoveMembers::MEMBERS);
        assert_eq!(members("prewarm"), members("evict"));
        assert_eq!(members("stats"), [""; 0]);
        assert_eq!(ACTIONS.len(), 21, "each of them is above");
    }

    #[test]
    fn names_are_found_once() {
        for (i, action) in ACTIONS.iter().enumerate() {
            assert_eq!(find(action.name), Some(action));
            assert!(ACTIONS[..i].iter().all(|other| other.name != action.name));
        }
        assert_eq!(find("Exists"), None);
        let text = find("detach").unwrap().description();
        let expected = "ends that: the namespace is an empty one; members: namespace";
        assert_eq!(text, expected);
    }
}
