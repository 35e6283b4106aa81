//! What is gone, of which the store's log has to say so and does not yet, where no index remembers that: it does
//! not outlast the process, or it cannot be written. Until a record is there, who deletes such a key once more is
//! not told that there is nothing to delete.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use bowstring_cache::Id;
use parking_lot::Mutex;

use crate::entry::Number;
use crate::format::Gone;

/// Something that is owed.
pub(super) type Debt = Vec<(Gone, Owing)>;

/// Since when, and what of it is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Owing {
    /// It was owed again since where this is another one.
    turn: u64,
    /// All that lies in segments of a lower number.
    pub(super) below: Number,
}

#[derive(Default)]
pub(super) struct Owed {
    /// Of `state`, for who only wants to know whether to look.
    count: AtomicUsize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    gone: HashMap<Gone, Owing>,
    last: u64,
}

impl Owed {
    pub(super) fn is_empty(&self) -> bool {
        self.count.load(Ordering::Acquire) == 0
    }

    /// Whether a key is among what is owed.
    pub(super) fn has(&self, id: &Id) -> bool {
        if self.is_empty() {
            return false;
        }
        let name = Gone::Name(id.clone());
        let all_of_it = Gone::Namespace(id.tenant.clone(), id.namespace.clone());
        let state = self.state.lock();
        state.gone.contains_key(&name) || state.gone.contains_key(&all_of_it)
    }

    pub(super) fn owe(&self, gone: impl Iterator<Item = Gone>, below: Number) -> Debt {
        let mut state = self.state.lock();
        state.last += 1;
        let turn = state.last;
        let debt: Debt = gone.map(|gone| (gone, Owing { turn, below })).collect();
        state.gone.extend(debt.iter().cloned());
        self.count.store(state.gone.len(), Ordering::Release);
        debt
    }

    /// Some of what is owed.
    pub(super) fn some(&self, limit: usize) -> Debt {
        if self.is_empty() {
            return Vec::new();
        }
        let state = self.state.lock();
        let some = state.gone.iter().take(limit);
        some.map(|(gone, owing)| (gone.clone(), *owing)).collect()
    }

    /// The log says these; what was owed again since stays so.
    pub(super) fn paid(&self, debt: &Debt) {
        let mut state = self.state.lock();
        for (gone, paid) in debt {
            if state
                .gone
                .get(gone)
                .is_some_and(|owing| owing.turn == paid.turn)
            {
                state.gone.remove(gone);
            }
        }
        self.count.store(state.gone.len(), Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use bowstring_wire::name::{Key, Namespace, Tenant};

    use super::*;

    fn id(key: &str) -> Id {
        Id::public(Namespace::default(), Key::parse(key).unwrap())
    }

    #[test]
    fn what_is_owed_again_is_not_paid_by_what_was_paid_before() {
        let owed = Owed::default();
        assert!(!owed.has(&id("a")));
        let first = owed.owe(
            [Gone::Name(id("a")), Gone::Name(id("b"))].into_iter(),
            Number(1),
        );
        let again = owed.owe(std::iter::once(Gone::Name(id("a"))), Number(2));
        owed.paid(&first);
        assert!(owed.has(&id("a")) && !owed.has(&id("b")));
        owed.paid(&again);
        assert!(owed.is_empty());
        let all = Gone::Namespace(Tenant::public(), Namespace::default());
        let all = owed.owe(std::iter::once(all), Number(3));
        assert!(owed.has(&id("c")));
        assert_eq!(owed.some(9), all);
    }
}
