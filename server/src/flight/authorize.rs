//! Who may do what. Every verb calls [`authorize`] before it touches a key; there are no
//! credentials yet, so it allows everything to the one tenant there is. Unit tests have another one, `asked`, which notes
//! what it is asked and refuses what a test says.

#[cfg(all(test, feature = "sql"))]
pub mod asked;

use bowstring_wire::error::Result;
use bowstring_wire::name::{Key, Namespace, Tenant};
use bowstring_wire::ticket::{Select, Ticket};
use http::HeaderMap;

use crate::listener::Peer;

/// Who calls. The tenant comes from the credentials, never from a request.
#[derive(Clone, Debug)]
pub struct Principal {
    /// Whose keys these are.
    pub tenant: Tenant,
}

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Read tensors.
    Get,
    /// Store tensors.
    Put,
    /// Delete tensors.
    Delete,
    /// See names, shapes and versions.
    Describe,
    /// See counters of the server and of namespaces.
    Stats,
    /// Change settings of namespaces.
    Configure,
}

/// What it is asked of.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(
    not(all(test, feature = "sql")),
    expect(dead_code, reason = "read once there are credentials")
)]
pub enum Resource<'a> {
    /// One key.
    Key(&'a Namespace, &'a Key),
    /// Keys of one namespace.
    Namespace(&'a Namespace),
    /// A table of SQL that is no namespace's: its schema and name.
    Table(&'a str, &'a str),
    /// The server.
    Server,
}

/// What a ticket asks for.
pub fn resource_of(ticket: &Ticket) -> Resource<'_> {
    match &ticket.select {
        Select::Key { key, .. } => Resource::Key(&ticket.namespace, key),
        Select::Keys { .. } | Select::Prefix { .. } => Resource::Namespace(&ticket.namespace),
    }
}

/// Finds out who calls.
pub fn authenticate(_headers: &HeaderMap, _peer: &Peer) -> Result<Principal> {
    Ok(Principal {
        tenant: Tenant::public(),
    })
}

#[cfg(all(test, feature = "sql"))]
pub use asked::authorize;

/// Refuses with `permission_denied` what `principal` may not do.
#[cfg(not(all(test, feature = "sql")))]
pub fn authorize(
    _principal: &Principal,
    _operation: Operation,
    _resource: Resource<'_>,
) -> Result<()> {
    Ok(())
}
