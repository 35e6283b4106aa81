//! The whole name of an entry.

use bowstring_wire::name::{Key, Namespace, Tenant};

/// What the index compares: a hash only finds.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Id {
    /// From the credentials, never from a request.
    pub tenant: Tenant,
    /// The set of keys.
    pub namespace: Namespace,
    /// The key within it.
    pub key: Key,
}

impl Id {
    /// A key of the one tenant that there is without credentials.
    pub fn public(namespace: Namespace, key: Key) -> Self {
        Self {
            tenant: Tenant::public(),
            namespace,
            key,
        }
    }
}
