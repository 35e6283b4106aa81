//! What the tests of this folder have in common.

use std::collections::{BTreeMap, BTreeSet};

use bowstring_cache::Id;
use bowstring_wire::dtype::DType;
use bowstring_wire::name::{Key, Namespace, Tenant};
use bowstring_wire::shape::Shape;
use bowstring_wire::version::Version;

use super::{ColdIndex, Rebuild};
use crate::entry::{Description, Number, Place, Prefix, Stored};
use crate::format::Gone;

pub(super) fn version(hlc: u64) -> Version {
    Version { hlc, start: 9 }
}

pub(super) fn id(namespace: &str, key: &str) -> Id {
    Id::public(
        Namespace::parse(namespace).unwrap(),
        Key::parse(key).unwrap(),
    )
}

/// An entry of which only what is given matters to the index.
pub(super) fn stored(id: Id, hlc: u64, segment: u64, offset: u64) -> Stored {
    let len = 8 + hlc % 5;
    Stored {
        description: Description {
            attached: false,
            id,
            version: version(hlc),
            dtype: DType::parse("uint8").unwrap(),
            shape: Shape::new(&[len]).unwrap(),
            len,
            checksum: u128::from(hlc) << 64 | u128::from(offset),
            expires_at_ms: hlc.is_multiple_of(3).then_some(hlc),
            source_version: None,
            metadata: Vec::new(),
        },
        place: Place {
            prefix: Prefix::OWN,
            segment: Number(segment),
            offset,
        },
        blocks: Vec::new(),
        frames: Vec::new(),
    }
}

/// What sidecars and log records say, for an index in the store: it is not kept elsewhere.
#[derive(Default)]
pub(super) struct Journal {
    said: BTreeMap<u64, Vec<Said>>,
    totals: BTreeMap<u64, u64>,
}

enum Said {
    Segment(Vec<Stored>),
    Gone(Gone),
}

impl Journal {
    pub(super) fn segment(&mut self, number: u64, entries: Vec<Stored>) {
        self.totals.entry(number).or_default();
        self.say(number, Said::Segment(entries));
    }

    pub(super) fn removed(&mut self, number: u64, ids: impl Iterator<Item = Id>) {
        ids.for_each(|id| self.say(number, Said::Gone(Gone::Name(id))));
    }

    pub(super) fn cleared(&mut self, number: u64, namespace: Namespace) {
        let all = Gone::Namespace(Tenant::public(), namespace);
        self.say(number, Said::Gone(all));
    }

    /// Its file and its sidecar are gone.
    pub(super) fn drop_segment(&mut self, number: u64) {
        self.totals.remove(&number);
        if let Some(said) = self.said.get_mut(&number) {
            said.retain(|said| !matches!(said, Said::Segment(_)));
        }
    }

    fn say(&mut self, number: u64, said: Said) {
        self.said.entry(number).or_default().push(said);
    }

    /// What a start does with an index that it has opened. Gives how much it had to read again.
    pub(super) fn read_onto(&self, index: ColdIndex, epoch: u64) -> (ColdIndex, usize) {
        let sidecars: BTreeSet<Number> = self.totals.keys().map(|n| Number(*n)).collect();
        let rebuild = Rebuild::onto(index, &sidecars).unwrap();
        let mut read = 0;
        for (number, all) in self.said.range(rebuild.next().0..) {
            rebuild.index.settle(Number(*number));
            for said in all {
                read += 1;
                // One number is said several times here: the test has few of them.
                match said {
                    Said::Segment(entries) => {
                        let total = self.totals[number];
                        rebuild.index.add_segment(Number(*number), total).unwrap();
                        rebuild.index.insert_all(entries).unwrap();
                    }
                    Said::Gone(gone) => {
                        let gone = [(gone.clone(), Number(*number))];
                        rebuild.index.remove_logged(&gone).unwrap();
                    }
                }
            }
        }
        let index = rebuild.finish("memory:", epoch).unwrap();
        (std::sync::Arc::into_inner(index).unwrap(), read)
    }
}
