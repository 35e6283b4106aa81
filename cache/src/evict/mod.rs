//! Which entry goes when room is needed: a policy a file behind one small trait.
//!
//! A policy strings records on the two links that each has ([`Records::prev`], [`Records::next`])
//! and reads the mark that a hit leaves; a hit itself never comes here. Calls to one policy are
//! made with no lock that a hit or a scan can wait for.

mod sieve;

use crate::index::{Handle, Records};

pub(crate) use sieve::Sieve;

pub(crate) trait Policy: Send + Sync {
    /// `entry` has just been published.
    fn insert(&self, records: &Records, entry: Handle);

    /// `entry` goes, for whatever reason. It was inserted and is removed once.
    fn remove(&self, records: &Records, entry: Handle);

    /// The next one to go among those that `takes` accepts. It stays where it is until it is
    /// removed. Looks at a bounded number of entries.
    fn victim(&self, records: &Records, takes: &mut dyn FnMut(Handle) -> bool) -> Choice;
}

/// What [`Policy::victim`] gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Choice {
    /// This one.
    Victim(Handle),
    /// None among those looked at; there are more.
    Later,
    /// None at all, at the moment.
    Nothing,
}
