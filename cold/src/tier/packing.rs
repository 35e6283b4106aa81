//! What goes together into one segment: tensors of one namespace, dtype and shape; and those of which there
//! are too few for a file of their own, in one for all of them.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bowstring_cache::Id;
use bowstring_wire::dtype::DType;
use bowstring_wire::name::{Namespace, Tenant};
use bowstring_wire::shape::Shape;

use super::queue::Waiting;
use super::settings::ColdSettings;
use crate::format::Layout;

/// So many, or so many bytes, are worth a file of their own.
const OWN_ENTRIES: usize = 64;
const OWN_BYTES: u64 = 1 << 20;

/// What goes together.
pub(super) type Kind = (Tenant, Namespace, DType, Shape);

/// Tensors for one segment.
pub(super) struct Batch {
    pub(super) layout: Layout,
    pub(super) waiting: Vec<Arc<Waiting>>,
}

#[derive(Default)]
struct Group {
    waiting: Vec<Arc<Waiting>>,
    bytes: u64,
}

/// Tensors that wait for others of their kind.
pub(super) struct Packing {
    segment_bytes: u64,
    wait: Duration,
    wait_urgent: Duration,
    groups: HashMap<Kind, Group>,
}

impl Packing {
    pub(super) fn new(settings: &ColdSettings) -> Self {
        Self {
            segment_bytes: settings.segment_bytes,
            wait: settings.segment_wait,
            wait_urgent: settings.segment_wait_urgent,
            groups: HashMap::new(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    /// Adds a tensor; gives what is full with it.
    pub(super) fn add(&mut self, waiting: Arc<Waiting>) -> Option<Batch> {
        let (dtype, shape) = waiting.entry.description();
        let kind = kind_of(&waiting.id, dtype, shape);
        let group = self.groups.entry(kind.clone()).or_default();
        group.bytes += waiting.entry.len();
        group.waiting.push(waiting);
        if group.bytes < self.segment_bytes {
            return None;
        }
        let group = self.groups.remove(&kind)?;
        Some(own(kind, group))
    }

    /// What has waited long enough, or all of it.
    pub(super) fn due(&mut self, now: Duration, all: bool) -> Vec<Batch> {
        let (wait, wait_urgent) = (self.wait, self.wait_urgent);
        let is_due = |group: &Group| {
            group.waiting.iter().any(|waiting| {
                let wait = match waiting.urgent.load(Ordering::Relaxed) {
                    true => wait_urgent,
                    false => wait,
                };
                waiting.since + wait <= now
            })
        };
        let due: Vec<(Kind, Group)> = self
            .groups
            .extract_if(|_, group| all || is_due(group))
            .collect();
        let mut batches = Vec::new();
        let mut few = Group::default();
        for (kind, group) in due {
            if group.waiting.len() >= OWN_ENTRIES || group.bytes >= OWN_BYTES {
                batches.push(own(kind, group));
                continue;
            }
            few.bytes += group.bytes;
            few.waiting.extend(group.waiting);
            if few.bytes >= self.segment_bytes {
                batches.push(together(std::mem::take(&mut few)));
            }
        }
        if !few.waiting.is_empty() {
            batches.push(together(few));
        }
        batches
    }
}

pub(super) fn kind_of(id: &Id, dtype: DType, shape: Shape) -> Kind {
    (id.tenant.clone(), id.namespace.clone(), dtype, shape)
}

/// Of a file of tensors of one kind.
pub(super) fn layout_of((_, _, dtype, shape): Kind) -> Layout {
    Layout::Rows { dtype, shape }
}

fn own(kind: Kind, group: Group) -> Batch {
    Batch {
        layout: layout_of(kind),
        waiting: group.waiting,
    }
}

fn together(group: Group) -> Batch {
    Batch {
        layout: Layout::Opaque,
        waiting: group.waiting,
    }
}
