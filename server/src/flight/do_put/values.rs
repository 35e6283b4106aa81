//! From the values of a column, in any split, to the bytes of a tensor.

use bowstring_cache::put::Put;
use bowstring_wire::column::Transform;
use bowstring_wire::error::{Error, Result};
use bowstring_wire::permute::Permute;
use bowstring_wire::single::Values;
use bowstring_wire::transform::{BitUnpacker, check_bool, normalise_bool8};

use crate::conn::{WireBudget, WireBytes};

/// Writes values into a put. Plain ones are copied once, from the frame to the arena.
pub struct ValuesWriter {
    transform: Transform,
    bits: BitUnpacker,
    scratch: Vec<u8>,
    cell: Option<Cell>,
}

/// One cell whose axes are to be put in order; there is no way to do that in a stream.
struct Cell {
    permute: Permute,
    received: Vec<u8>,
    ordered: Vec<u8>,
    _room: WireBytes,
}

impl ValuesWriter {
    /// For a column of this transform and order of axes. Room for a cell to be reordered comes
    /// from the wire account.
    pub async fn new(
        transform: Transform,
        permute: Option<Permute>,
        budget: &WireBudget,
    ) -> Result<Self> {
        let cell = match permute {
            None => None,
            Some(permute) => {
                let bytes = permute.cell_bytes();
                let room = budget.take(2 * bytes as u64).await?;
                let (received, ordered) = (Vec::with_capacity(bytes), vec![0; bytes]);
                Some(Cell {
                    permute,
                    received,
                    ordered,
                    _room: room,
                })
            }
        };
        let bits = BitUnpacker::new(0, 0);
        Ok(Self {
            transform,
            bits,
            scratch: Vec::new(),
            cell,
        })
    }

    /// Begins the values of a batch.
    pub fn begin(&mut self, values: &Values) {
        self.bits = BitUnpacker::new(values.first_bit, values.count);
    }

    /// Writes the next bytes of a batch's values.
    pub fn write(&mut self, mut bytes: &[u8], put: &mut Put) -> Result<()> {
        // Steps, so that scratch space stays small and warm.
        const STEP: usize = 16 * 1024;
        match self.transform {
            Transform::Plain => return self.order(bytes, put),
            Transform::CheckBool => {
                check_bool(bytes)?;
                return self.order(bytes, put);
            }
            Transform::UnpackBits | Transform::NormaliseBool8 => {}
        }
        let mut scratch = std::mem::take(&mut self.scratch);
        while !bytes.is_empty() {
            let (step, rest) = bytes.split_at(bytes.len().min(STEP));
            scratch.clear();
            if self.transform == Transform::UnpackBits {
                self.bits.push(step, &mut scratch);
            } else {
                scratch.extend_from_slice(step);
                normalise_bool8(&mut scratch);
            }
            self.order(&scratch, put)?;
            bytes = rest;
        }
        self.scratch = scratch;
        Ok(())
    }

    fn order(&mut self, mut bytes: &[u8], put: &mut Put) -> Result<()> {
        let Some(cell) = &mut self.cell else {
            return put.write(bytes);
        };
        while !bytes.is_empty() {
            let wanted = cell.permute.cell_bytes() - cell.received.len();
            let (now, rest) = bytes.split_at(bytes.len().min(wanted));
            cell.received.extend_from_slice(now);
            bytes = rest;
            if cell.received.len() == cell.permute.cell_bytes() {
                if !cell.permute.apply(&cell.received, &mut cell.ordered) {
                    return Err(Error::internal(
                        "a cell has another size than its permutation",
                    ));
                }
                put.write(&cell.ordered)?;
                cell.received.clear();
            }
        }
        Ok(())
    }
}
