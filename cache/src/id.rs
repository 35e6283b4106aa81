//! The whole name of an entry.

use bowstring_wire::error::Result;
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

    pub(crate) fn name(&self) -> Name<'_> {
        Name {
            tenant: &self.tenant,
            namespace: &self.namespace,
            key: self.key.as_str(),
        }
    }
}

/// A borrowed [`Id`]: a row of a bulk put has its key in the frames that it came in.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Name<'a> {
    pub(crate) tenant: &'a Tenant,
    pub(crate) namespace: &'a Namespace,
    pub(crate) key: &'a str,
}

impl Name<'_> {
    /// The same, owned.
    pub(crate) fn to_id(self) -> Result<Id> {
        Ok(Id {
            tenant: self.tenant.clone(),
            namespace: self.namespace.clone(),
            key: Key::parse(self.key)?,
        })
    }
}
