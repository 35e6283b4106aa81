//! The memory ledger: one total, named accounts, and the rule that the
//! accounts together never pass the total.
//!
//! There are no fixed shares. The arena and the index grow against each other,
//! and whoever comes first has the bytes; a refused charge is the caller's cue
//! to free something, to ask the arena to give pages back, or to say no.
//! Everything is a few atomics: a charge takes no lock.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Who holds memory. The names are those of the counters at `/metrics`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Account {
    /// Touched pages of the arena, the pre-touched window included.
    Arena,
    /// Records, hash table, key order, what the arena keeps about its pages, and the list of the last evictions.
    Index,
    /// Bytes read from sockets and not yet consumed, and answers not yet sent.
    Wire,
    /// Send and receive buffers of the sockets, in the kernel.
    Socket,
    /// What scans and listings copy out.
    Scan,
    /// Buffers between the arena and the cold tier.
    Cold,
    /// Query execution.
    Sql,
}

impl Account {
    /// Every account, in the order of the counters.
    pub const ALL: [Account; 7] = [
        Account::Arena,
        Account::Index,
        Account::Wire,
        Account::Socket,
        Account::Scan,
        Account::Cold,
        Account::Sql,
    ];

    /// The account's name in metrics and statistics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Account::Arena => "arena",
            Account::Index => "index",
            Account::Wire => "wire",
            Account::Socket => "socket",
            Account::Scan => "scan",
            Account::Cold => "cold",
            Account::Sql => "sql",
        }
    }
}

/// What one account shows, in bytes and refusals.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AccountUse {
    /// Whose figures these are.
    pub account: Account,
    /// Bytes charged now.
    pub used: u64,
    /// The most that was ever charged at once, in bytes.
    pub peak: u64,
    /// Charges refused because the total was used up.
    pub refused: u64,
}

/// The total and its accounts.
pub struct Ledger {
    total: AtomicU64,
    used: Padded<AtomicU64>,
    accounts: [Padded<Counters>; Account::ALL.len()],
}

impl Ledger {
    /// A ledger over `total` bytes, with nothing charged.
    #[must_use]
    pub fn new(total: u64) -> Arc<Ledger> {
        Arc::new(Ledger {
            total: AtomicU64::new(total),
            used: Padded::default(),
            accounts: Default::default(),
        })
    }

    /// The bytes that may be charged, over all accounts.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.total.load(Ordering::Relaxed)
    }

    /// Sets [`Ledger::total`]: for who takes over what is charged to the machine already, and then lets go of what is
    /// too much.
    pub(crate) fn set_total(&self, total: u64) {
        self.total.store(total, Ordering::Relaxed);
    }

    /// Bytes charged now, over all accounts; never more than [`Ledger::total`].
    #[must_use]
    pub fn used(&self) -> u64 {
        self.used.0.load(Ordering::Acquire)
    }

    /// Bytes that nobody has charged.
    #[must_use]
    pub fn free(&self) -> u64 {
        self.total().saturating_sub(self.used())
    }

    /// Bytes charged to `account` now.
    #[must_use]
    pub fn used_by(&self, account: Account) -> u64 {
        self.counters(account).used.load(Ordering::Acquire)
    }

    /// One account's figures.
    #[must_use]
    pub fn account(&self, account: Account) -> AccountUse {
        let counters = self.counters(account);
        AccountUse {
            account,
            used: counters.used.load(Ordering::Acquire),
            peak: counters.peak.load(Ordering::Acquire),
            refused: counters.refused.load(Ordering::Relaxed),
        }
    }

    /// Every account's figures, in the order of [`Account::ALL`]. The accounts
    /// are read one after the other, so their sum may differ from
    /// [`Ledger::used`] while others charge.
    pub fn accounts(&self) -> impl Iterator<Item = AccountUse> + '_ {
        Account::ALL
            .into_iter()
            .map(|account| self.account(account))
    }

    /// Charges `bytes` to `account`, or nothing: `false` when the total does
    /// not leave so many. Whoever charges releases: see [`Ledger::release`],
    /// or take a [`Charge`], which does so by itself.
    #[must_use]
    pub fn try_charge(&self, account: Account, bytes: u64) -> bool {
        let total = self.total();
        // The total first, so that the accounts' sum never passes it.
        let charged = self
            .used
            .0
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |used| {
                used.checked_add(bytes).filter(|sum| *sum <= total)
            });
        let counters = self.counters(account);
        if charged.is_err() {
            counters.refused.fetch_add(1, Ordering::Relaxed);
            return false;
        }
        let used = counters.used.fetch_add(bytes, Ordering::AcqRel) + bytes;
        counters.peak.fetch_max(used, Ordering::AcqRel);
        true
    }

    /// Gives back `bytes` of what was charged to `account`.
    ///
    /// # Panics
    /// In debug builds, when the account holds less than `bytes`: some memory
    /// would be counted twice or not at all from then on.
    pub fn release(&self, account: Account, bytes: u64) {
        // The account first: see `try_charge`.
        let before = self
            .counters(account)
            .used
            .fetch_sub(bytes, Ordering::AcqRel);
        debug_assert!(
            before >= bytes,
            "released more than was charged account=`{}` charged=`{before}` released=`{bytes}`",
            account.name()
        );
        self.used.0.fetch_sub(bytes, Ordering::AcqRel);
    }

    /// Charges `bytes` for as long as the guard lives; `None` when the total
    /// does not leave so many.
    #[must_use]
    pub fn charge(self: &Arc<Self>, account: Account, bytes: u64) -> Option<Charge> {
        self.try_charge(account, bytes).then(|| Charge {
            ledger: Arc::clone(self),
            account,
            bytes,
        })
    }

    fn counters(&self, account: Account) -> &Counters {
        &self.accounts[account as usize].0
    }
}

impl fmt::Debug for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("Ledger");
        out.field("total", &self.total())
            .field("used", &self.used());
        for account in self.accounts() {
            out.field(account.account.name(), &account.used);
        }
        out.finish()
    }
}

/// Bytes charged to one account, released when this is dropped.
#[derive(Debug)]
#[must_use = "dropping a charge releases it"]
pub struct Charge {
    ledger: Arc<Ledger>,
    account: Account,
    bytes: u64,
}

impl Charge {
    /// Bytes that this holds.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Charges `bytes` more; `false`, and nothing changed, when the total does
    /// not leave so many.
    #[must_use]
    pub fn grow(&mut self, bytes: u64) -> bool {
        let grown = self.ledger.try_charge(self.account, bytes);
        if grown {
            self.bytes += bytes;
        }
        grown
    }

    /// Releases `bytes` of it, or all that is left when that is less.
    pub fn shrink(&mut self, bytes: u64) {
        let bytes = bytes.min(self.bytes);
        self.bytes -= bytes;
        self.ledger.release(self.account, bytes);
    }

    /// Charges or releases until exactly `bytes` are held; `false`, and nothing
    /// changed, when the total does not leave so many.
    #[must_use]
    pub fn resize(&mut self, bytes: u64) -> bool {
        if bytes > self.bytes {
            return self.grow(bytes - self.bytes);
        }
        self.shrink(self.bytes - bytes);
        true
    }

    /// Moves `bytes` of it, or all that is left when that is less, into a
    /// charge of their own.
    pub fn split(&mut self, bytes: u64) -> Charge {
        let bytes = bytes.min(self.bytes);
        self.bytes -= bytes;
        Charge {
            ledger: Arc::clone(&self.ledger),
            account: self.account,
            bytes,
        }
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.ledger.release(self.account, self.bytes);
    }
}

#[derive(Default)]
struct Counters {
    used: AtomicU64,
    peak: AtomicU64,
    refused: AtomicU64,
}

/// On a cache line of its own (two, for the prefetcher's sake): the wire
/// account moves with every frame, and would take the others' lines along.
#[derive(Default)]
#[repr(align(128))]
struct Padded<T>(T);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_charge_past_the_total_changes_nothing_but_the_refusals() {
        let ledger = Ledger::new(100);
        assert!(ledger.try_charge(Account::Arena, 60));
        assert!(!ledger.try_charge(Account::Index, 41));
        assert!(!ledger.try_charge(Account::Index, u64::MAX));
        assert!(ledger.try_charge(Account::Index, 40));
        assert_eq!(ledger.free(), 0);
        assert_eq!(ledger.used_by(Account::Index), 40);
        assert_eq!(ledger.account(Account::Index).refused, 2);
        ledger.release(Account::Arena, 60);
        assert_eq!(ledger.used(), 40);
        assert_eq!(ledger.account(Account::Arena).peak, 60);
    }

    #[test]
    fn a_guard_releases_what_it_holds_and_its_parts_do_too() {
        let ledger = Ledger::new(100);
        let mut whole = ledger.charge(Account::Wire, 50).unwrap();
        let part = whole.split(20);
        assert!(whole.resize(80));
        assert!(!whole.grow(1));
        assert_eq!((whole.bytes(), part.bytes(), ledger.free()), (80, 20, 0));
        whole.shrink(1000);
        assert_eq!(ledger.used(), 20);
        drop((whole, part));
        assert_eq!(ledger.used(), 0);
        assert!(ledger.charge(Account::Wire, 101).is_none());
    }

    #[test]
    fn threads_never_pass_the_total_together() {
        const ROUNDS: u64 = if cfg!(miri) { 20 } else { 2000 };
        let ledger = Ledger::new(50);
        std::thread::scope(|scope| {
            for (at, account) in Account::ALL.into_iter().enumerate() {
                let ledger = &ledger;
                scope.spawn(move || {
                    for round in 0..ROUNDS {
                        let bytes = (round * 7 + at as u64) % 30;
                        if ledger.try_charge(account, bytes) {
                            assert!(ledger.used() <= 50);
                            ledger.release(account, bytes);
                        }
                    }
                });
            }
        });
        assert_eq!(ledger.used(), 0);
        assert!(ledger.accounts().all(|account| account.used == 0));
    }

    proptest! {
        #![proptest_config(ProptestConfig {
            cases: if cfg!(miri) { 4 } else { 256 },
            failure_persistence: None,
            ..ProptestConfig::default()
        })]

        #[test]
        fn the_accounts_sum_to_what_is_used(steps in prop::collection::vec((0usize..7, 0u64..400, any::<bool>()), 0..60)) {
            let ledger = Ledger::new(1000);
            let mut held: Vec<Charge> = Vec::new();
            for (account, bytes, release) in steps {
                if release {
                    held.pop();
                } else if let Some(charge) = ledger.charge(Account::ALL[account], bytes) {
                    held.push(charge);
                }
                let sum: u64 = held.iter().map(Charge::bytes).sum();
                prop_assert_eq!(ledger.used(), sum);
                prop_assert_eq!(ledger.accounts().map(|a| a.used).sum::<u64>(), sum);
                prop_assert!(sum <= ledger.total());
            }
        }
    }
}
