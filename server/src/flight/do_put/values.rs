//! From the values of a column, in any split, to the bytes of a tensor.

use bowstring_cache::Cache;
use bowstring_cache::ledger::{Account, Charge};
use bowstring_cache::put::Put;
use bowstring_wire::cast::Cast;
use bowstring_wire::column::Transform;
use bowstring_wire::error::{Error, Result};
use bowstring_wire::permute::Permute;
use bowstring_wire::single::Values;
use bowstring_wire::transform::{BitUnpacker, check_bool, normalise_bool8};

/// Writes values into a put. Plain ones are copied once, from the frame to the arena.
pub struct ValuesWriter {
    transform: Transform,
    bits: BitUnpacker,
    scratch: Vec<u8>,
    cell: Option<Cell>,
    casting: Option<Casting>,
}

/// Values on their way to another dtype.
struct Casting {
    cast: Cast,
    /// The beginning of a value whose end has not come.
    partial: Vec<u8>,
    /// What has been cast, until it is written.
    done: Vec<u8>,
}

/// Bytes that are worked on at once, so that scratch space stays small and warm.
const STEP: usize = 16 * 1024;

/// The largest cell to be put in order as a part of the memory: it is there twice, and in the arena.
const CELL_MEMORY_SHARE: u64 = 8;

/// One cell whose axes are to be put in order; there is no way to do that in a stream.
struct Cell {
    permute: Permute,
    received: Vec<u8>,
    ordered: Vec<u8>,
    _room: Charge,
}

impl ValuesWriter {
    /// For a column of this transform and order of axes, cast in the end. Room for a cell to be put in order is
    /// made as for a batch: entries go for it where they must. `load` is as in
    /// [`Cache::charge_in`].
    ///
    /// # Errors
    /// `resource_exhausted` for a cell too large for the memory.
    pub fn new(
        transform: Transform,
        permute: Option<Permute>,
        cast: Option<Cast>,
        cache: &Cache,
        load: u32,
    ) -> Result<Self> {
        let cell = permute
            .map(|permute| Cell::new(permute, cache, load))
            .transpose()?;
        let bits = BitUnpacker::new(0, 0);
        Ok(Self {
            transform,
            bits,
            scratch: Vec::new(),
            cell,
            casting: cast.map(|cast| Casting {
                cast,
                partial: Vec::new(),
                done: Vec::new(),
            }),
        })
    }

    /// Whether it holds room before any bytes came.
    pub fn holds_room(&self) -> bool {
        self.cell.is_some()
    }

    /// Begins the values of a batch.
    pub fn begin(&mut self, values: &Values) {
        self.bits = BitUnpacker::new(values.first_bit, values.count);
    }

    /// Writes the next bytes of a batch's values.
    pub fn write(&mut self, mut bytes: &[u8], put: &mut Put) -> Result<()> {
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
        let casting = &mut self.casting;
        let Some(cell) = &mut self.cell else {
            return write(casting, bytes, put);
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
                write(casting, &cell.ordered, put)?;
                cell.received.clear();
            }
        }
        Ok(())
    }
}

fn write(casting: &mut Option<Casting>, bytes: &[u8], put: &mut Put) -> Result<()> {
    match casting {
        None => put.write(bytes),
        Some(casting) => casting.write(bytes, put),
    }
}

impl Casting {
    /// Casts the values that are whole by now.
    fn write(&mut self, mut bytes: &[u8], put: &mut Put) -> Result<()> {
        let width = self.cast.part_bytes();
        if !self.partial.is_empty() {
            let (end, rest) = bytes.split_at(bytes.len().min(width - self.partial.len()));
            self.partial.extend_from_slice(end);
            bytes = rest;
            if self.partial.len() == width {
                self.done.clear();
                self.cast.append(&self.partial, &mut self.done)?;
                put.write(&self.done)?;
                self.partial.clear();
            }
        }
        let (whole, begun) = bytes.split_at(bytes.len() / width * width);
        self.partial.extend_from_slice(begun);
        for step in whole.chunks(STEP) {
            self.done.clear();
            self.cast.append(step, &mut self.done)?;
            put.write(&self.done)?;
        }
        Ok(())
    }
}

impl Cell {
    fn new(permute: Permute, cache: &Cache, load: u32) -> Result<Self> {
        // As it came, and in order.
        let bytes = permute.cell_bytes() as u64;
        let limit = cache.config().memory / CELL_MEMORY_SHARE;
        let room = if bytes > limit {
            None
        } else {
            cache.charge_in(load, Account::Wire, 2 * bytes)
        };
        let room = room.ok_or_else(|| {
            Error::exhausted(format!(
                "a cell whose axes are permuted finds no room to be put in order; bytes=`{bytes}` \
                 limit=`{limit}`, or send it in C order"
            ))
        })?;
        Ok(Self {
            received: Vec::with_capacity(permute.cell_bytes()),
            ordered: vec![0; permute.cell_bytes()],
            permute,
            _room: room,
        })
    }
}
