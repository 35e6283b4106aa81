//! The dictionaries of a stream: what they are at a batch, for later ones may replace them or add
//! to them.

use std::any::Any;
use std::sync::Arc;

use super::BulkReader;
use super::role::Text;
use super::texts::Values;
use crate::body::Body;
use crate::error::{Error, Result};
use crate::ipc_check::{self, Tree};
use crate::limits::MAX_DICTIONARY_DELTAS;

/// A dictionary that some column of a schema wants.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    pub id: i64,
    /// Of its values, as a batch of one column.
    pub tree: Tree,
    pub values: Text,
}

/// The dictionaries of a stream as they are now. A copy costs a few counters, and stays as it is.
#[derive(Clone, Debug, Default)]
pub struct Dictionaries(Vec<Dictionary>);

/// What is kept as long as the values of a dictionary are: their share of the memory.
pub type Held = Arc<dyn Any + Send + Sync>;

/// What values take beside their message's body, and each buffer that views point into.
const VALUES_BYTES: u64 = 256;
const BUFFER_BYTES: u64 = 64;

/// The values of a dictionary, as they came.
#[derive(Clone, Debug, Default)]
pub(super) struct Dictionary(Arc<Vec<Part>>);

#[derive(Clone, Debug)]
struct Part {
    /// The index behind its last value.
    end: u64,
    values: Arc<Values>,
    /// Its body, and what else it takes.
    bytes: u64,
    _held: Held,
}

impl BulkReader {
    /// Takes a message that brings the values of a dictionary; false where it is another one, a
    /// batch. `held` finds room for so many bytes beside the body; what it gives is dropped when the
    /// values are wanted no more.
    ///
    /// # Errors
    /// `invalid_argument` for a header that lies, offsets that do not ascend, or values to be added
    /// to none; `resource_exhausted` for too many additions; `unimplemented` for compression; what
    /// `held` answers.
    pub fn dictionary(
        &self,
        to: &mut Dictionaries,
        header: &[u8],
        body: &Body,
        held: impl FnOnce(u64) -> Result<Held>,
    ) -> Result<bool> {
        take(&self.tree, &self.wanted, to, header, body, held)
    }
}

/// As [`BulkReader::dictionary`].
pub(super) fn take(
    tree: &Tree,
    wanted: &[Wanted],
    to: &mut Dictionaries,
    header: &[u8],
    body: &Body,
    held: impl FnOnce(u64) -> Result<Held>,
) -> Result<bool> {
    if !tree.has_dictionaries() {
        return Ok(false);
    }
    let Some(message) = ipc_check::dictionary(header, body.len())? else {
        return Ok(false);
    };
    let found = wanted.iter().position(|one| one.id == message.id);
    let Some((number, one)) = found.and_then(|at| Some((at, wanted.get(at)?))) else {
        // Of a column that is not read.
        return Ok(true);
    };
    let batch = message.check(&one.tree)?;
    let buffers: usize = batch.viewed.iter().map(|(_, buffers)| buffers.len()).sum();
    let beside = VALUES_BYTES + BUFFER_BYTES * buffers as u64;
    let part = Part {
        end: batch.rows,
        values: Arc::new(Values::new(body, &batch, one.values)?),
        bytes: body.len() + beside,
        _held: held(beside)?,
    };
    to.0.resize_with(wanted.len(), Dictionary::default);
    let Some(dictionary) = to.0.get_mut(number) else {
        return Err(Error::internal("a dictionary without its place"));
    };
    if !message.is_delta {
        *dictionary = Dictionary::default();
    } else if dictionary.0.is_empty() {
        return Err(Error::invalid(format!(
            "a dictionary is added to before it came; id=`{}` expected its values first",
            message.id
        )));
    }
    dictionary.push(part)?;
    Ok(true)
}

impl Dictionaries {
    /// What they take.
    pub fn bytes(&self) -> u64 {
        let parts = self.0.iter().flat_map(|dictionary| dictionary.0.iter());
        parts.fold(0, |all, part| all.saturating_add(part.bytes))
    }

    /// The dictionary that a column wants.
    pub(super) fn get(&self, number: usize) -> Dictionary {
        self.0.get(number).cloned().unwrap_or_default()
    }
}

impl Dictionary {
    /// Adds values; the end of the part is how many they are.
    fn push(&mut self, part: Part) -> Result<()> {
        if self.0.len() >= MAX_DICTIONARY_DELTAS {
            return Err(Error::exhausted(format!(
                "a dictionary is added to too often; limit=`{MAX_DICTIONARY_DELTAS}`, send it anew"
            )));
        }
        let end = self.len().checked_add(part.end);
        let end = end.ok_or_else(|| Error::invalid("a dictionary has too many values"))?;
        Arc::make_mut(&mut self.0).push(Part { end, ..part });
        Ok(())
    }

    fn len(&self) -> u64 {
        self.0.last().map_or(0, |part| part.end)
    }

    /// The text of an index; `None` where the dictionary has null there.
    ///
    /// # Errors
    /// `invalid_argument` for an index outside, or what is not UTF-8.
    pub fn text(&self, index: i128) -> Result<Option<&str>> {
        let at = u64::try_from(index).ok();
        let found = at.and_then(|at| {
            let number = self.0.partition_point(|part| part.end <= at);
            let before = number.checked_sub(1).and_then(|before| self.0.get(before));
            let first = before.map_or(0, |part| part.end);
            Some((at - first, self.0.get(number)?))
        });
        let Some((at, part)) = found else {
            return Err(Error::invalid(format!(
                "an index lies outside its dictionary; index=`{index}` expected less than `{}`",
                self.len()
            )));
        };
        part.values.get(at)
    }
}
