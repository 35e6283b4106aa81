//! What a namespace shows of the generations of its entries, in one word.
//!
//! Each generation has a number of its own ([`crate::namespaces::Space`]). One is the base, where
//! single puts go; another may be beside it. Whoever looks reads the word once: all that it finds
//! by it is of one generation, and to commit a load is one store.
//!
//! ```text
//! base 20 | beside 20 | role 2 | epoch 20
//! ```

use crate::index::record::ID_MAX;
use crate::index::sync::{AtomicU32, AtomicU64, Ordering, fence};

/// `load_generation` of an entry that its load brought into the generation where it still is.
pub const LOADED: u32 = 1;
/// Numbers below this are no epochs: in `load_generation` they mean what is said above, or nothing.
const EPOCH_FIRST: u32 = 2;

/// What the generation beside the base is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// There is none.
    Alone,
    /// A committed load: where both have a key, it shows.
    Over,
    /// A load that replaced all and was rolled back: what was put into it since shows, and is never
    /// also in the base.
    Back,
    /// What was before a load that replaced all. It does not show.
    Kept,
}

/// Where an entry stands in a view.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layer {
    /// It shows, whatever the base has.
    Over,
    /// It shows where nothing is over it.
    Base,
    /// It does not show.
    Hidden,
}

/// See above. Two views of one namespace that are equal show the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct View(u64);

impl View {
    /// The first view of a namespace: one generation.
    pub fn first(base: u32) -> View {
        View::pack(base, None, EPOCH_FIRST)
    }

    pub fn from_bits(bits: u64) -> View {
        View(bits)
    }

    pub fn bits(self) -> u64 {
        self.0
    }

    pub fn base(self) -> u32 {
        low20(self.0)
    }

    /// The generation beside the base.
    pub fn beside(self) -> Option<u32> {
        (self.role() != Role::Alone).then(|| low20(self.0 >> 20))
    }

    pub fn role(self) -> Role {
        match self.0 >> 40 & 3 {
            0 => Role::Alone,
            1 => Role::Over,
            2 => Role::Back,
            _ => Role::Kept,
        }
    }

    /// Counts what was committed and rolled back.
    pub fn epoch(self) -> u32 {
        low20(self.0 >> 42)
    }

    /// The same entries show, but the generation beside the base is this, or none.
    pub fn with(self, beside: Option<(u32, Role)>) -> View {
        View::pack(self.base(), beside, self.epoch())
    }

    /// The view after a commit or a rollback.
    pub fn next(self, base: u32, beside: Option<(u32, Role)>) -> View {
        let epoch = if self.epoch() == ID_MAX {
            EPOCH_FIRST
        } else {
            self.epoch() + 1
        };
        View::pack(base, beside, epoch)
    }

    /// Whether no load was ever committed here.
    pub fn is_first(self) -> bool {
        self.epoch() == EPOCH_FIRST && self.role() == Role::Alone
    }

    /// Whether something beside the base shows.
    pub fn is_layered(self) -> bool {
        matches!(self.role(), Role::Over | Role::Back)
    }

    /// Where an entry of generation `number` stands, whose `load_generation` is `load`.
    pub fn layer(self, number: u32, load: u32) -> Layer {
        if number == self.base() {
            // It may have been merged into the base by a load that this view is too old for.
            let newer = load >= EPOCH_FIRST && is_after(load, self.epoch());
            return if newer { Layer::Hidden } else { Layer::Base };
        }
        match self.role() {
            Role::Over if self.beside() == Some(number) => Layer::Over,
            Role::Back if self.beside() == Some(number) && load != LOADED => Layer::Over,
            _ => Layer::Hidden,
        }
    }

    fn pack(base: u32, beside: Option<(u32, Role)>, epoch: u32) -> View {
        let (number, role) = beside.unwrap_or((0, Role::Alone));
        let role = match role {
            Role::Alone => 0,
            Role::Over => 1,
            Role::Back => 2,
            Role::Kept => 3,
        };
        View(u64::from(base) | u64::from(number) << 20 | role << 40 | u64::from(epoch) << 42)
    }
}

/// Epochs come round after a million: what is less than half of that ahead is after.
fn is_after(epoch: u32, other: u32) -> bool {
    let ahead = epoch.wrapping_sub(other) & ID_MAX;
    ahead != 0 && ahead <= ID_MAX / 2
}

/// The word itself, of one namespace.
pub struct Word(AtomicU64);

impl Word {
    /// One that shows this.
    pub fn new(view: View) -> Self {
        Self(AtomicU64::new(view.bits()))
    }

    /// What shows now.
    pub fn view(&self) -> View {
        View::from_bits(self.0.load(Ordering::Acquire))
    }

    /// For who has the base locked.
    pub fn set(&self, view: View) {
        self.0.store(view.bits(), Ordering::Release);
    }

    /// What shows now, once `count` has told the generations of that view that somebody reads it, and
    /// `uncount` those of others that nobody does after all. Until it is let go, none of them is
    /// emptied or used again.
    pub fn hold(&self, count: impl Fn(View), uncount: impl Fn(View)) -> View {
        loop {
            let view = self.view();
            count(view);
            // With the fence in `Readers::none`: one of the two sees what the other did.
            fence(Ordering::SeqCst);
            if self.view() == view {
                return view;
            }
            uncount(view);
        }
    }
}

/// Who may look into a generation by a view that is not the present one.
#[derive(Default)]
pub struct Readers(AtomicU32);

impl Readers {
    /// One more, for [`Word::hold`].
    pub fn come(&self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }

    /// One less.
    pub fn go(&self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }

    /// Whether there is nobody: then nor will there be, if the generation is in no view that shows.
    pub fn none(&self) -> bool {
        fence(Ordering::SeqCst);
        self.0.load(Ordering::Acquire) == 0
    }
}

fn low20(bits: u64) -> u32 {
    u32::try_from(bits & u64::from(ID_MAX)).unwrap_or(ID_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_shows_is_what_the_role_says() {
        let first = View::first(7);
        assert_eq!(first.layer(7, 0), Layer::Base);
        assert_eq!(first.layer(8, 0), Layer::Hidden);
        assert!(first.is_first() && !first.is_layered());

        let merged = first.next(7, Some((8, Role::Over)));
        assert_eq!(merged.layer(8, LOADED), Layer::Over);
        assert_eq!(merged.layer(7, 0), Layer::Base);
        // Once it is folded into the base, only those who knew of the load see it.
        assert_eq!(merged.layer(7, merged.epoch()), Layer::Base);
        assert_eq!(first.layer(7, merged.epoch()), Layer::Hidden);
        assert_eq!(merged.with(None).epoch(), merged.epoch());

        let replaced = first.next(8, Some((7, Role::Kept)));
        assert_eq!(replaced.layer(8, LOADED), Layer::Base);
        assert_eq!(replaced.layer(7, 0), Layer::Hidden);
        let back = replaced.next(7, Some((8, Role::Back)));
        assert_eq!(back.layer(8, LOADED), Layer::Hidden);
        assert_eq!(back.layer(8, 0), Layer::Over);
        assert!(!back.is_first() && !back.with(None).is_first());
    }

    #[test]
    fn epochs_come_round() {
        let mut view = View::first(0);
        for _ in 0..ID_MAX - EPOCH_FIRST {
            view = view.next(0, None);
        }
        assert_eq!(view.epoch(), ID_MAX);
        let round = view.next(0, None);
        assert_eq!(round.epoch(), EPOCH_FIRST);
        assert!(is_after(round.epoch(), view.epoch()) && !is_after(view.epoch(), round.epoch()));
    }

    proptest! {
        #[test]
        fn all_parts_come_back(base in 0..=ID_MAX, beside in 0..=ID_MAX, which in 0..4) {
            let role = [Role::Alone, Role::Over, Role::Back, Role::Kept][which as usize];
            let view = View::first(base).next(base, Some((beside, role)));
            prop_assert_eq!((view.base(), view.role(), view.epoch()), (base, role, EPOCH_FIRST + 1));
            prop_assert_eq!(view.beside(), (role != Role::Alone).then_some(beside));
            prop_assert_eq!(View::from_bits(view.bits()), view);
        }
    }
}
