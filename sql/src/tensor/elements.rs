//! A tensor's elements as numbers. They are widened a block at a time, on the stack, from the bytes where they lie, which may
//! be unaligned; sums are made in lanes of a block, which the compiler turns into vector instructions, and blocks are
//! added up as doubles.
//!
//! Sums of half precision, bfloat16, int8 and single precision are made in single precision: their elements are exact in
//! it. No sum of more products than a block has is ever rounded to it, so errors do not grow with the tensor, and those of int8 are
//! exact. Where any is double precision, all is.
//!
//! There is no library for this, and no choice of instructions while the server runs: the cosine of 768 float32 takes 13 GB/s
//! of one thread with the vectors that every x86-64 has, and 18 with AVX2 (one Xeon core, both measured in one run). To find a
//! tensor of the cache takes as long, and AVX2 takes `unsafe` code, or a library that has it.

use std::ops::{Add, Mul, Sub};

use bowstring_wire::dtype::DType;
use bowstring_wire::error::{Error, Result};
use half::f16;
use half::slice::HalfFloatSliceExt;

/// Sums made side by side.
pub const LANES: usize = 16;
/// Elements that are added to so many sums. Behind the last of a tensor there are zeros, so that none is added by itself.
pub type Lanes<T> = [T; LANES];
/// Lanes widened at once: 1 KiB of single precision.
pub const BLOCK: usize = 16;
/// A tensor of no more than that has a block of its own: to clear a whole one would take longer than to fill this.
const SMALL: usize = 4;

/// Refuses a dtype whose elements are no numbers that functions take.
///
/// # Errors
/// `invalid_argument` that names it.
pub fn check(function: &str, dtype: DType) -> Result<()> {
    use DType::{BFloat16, Float16, Float32, Float64, Int8};
    match dtype {
        Float16 | BFloat16 | Float32 | Float64 | Int8 => Ok(()),
        _ => Err(Error::invalid(format!(
            "a tensor's dtype is not one that the function takes; function=`{function}` dtype=`{dtype}` expected one of \
             float16, bfloat16, float32, float64, int8"
        ))),
    }
}

/// What elements are widened to.
pub trait Wide:
    Copy
    + Default
    + PartialOrd
    + Into<f64>
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
{
    /// Widens `out.len()` elements.
    fn widen(dtype: DType, bytes: &[u8], out: &mut [Self]);
}

impl Wide for f32 {
    fn widen(dtype: DType, bytes: &[u8], out: &mut [f32]) {
        match dtype {
            DType::Float16 => {
                let mut halves = [f16::ZERO; BLOCK * LANES];
                for (out, bytes) in out
                    .chunks_mut(BLOCK * LANES)
                    .zip(bytes.chunks(2 * BLOCK * LANES))
                {
                    let halves = &mut halves[..out.len()];
                    each(bytes, halves, f16::from_le_bytes);
                    halves.convert_to_f32_slice(out);
                }
            }
            DType::BFloat16 => each(bytes, out, |b| {
                f32::from_bits(u32::from(u16::from_le_bytes(b)) << 16)
            }),
            DType::Int8 => each(bytes, out, |b| f32::from(i8::from_le_bytes(b))),
            // Of others there are none: see `check`.
            _ => each(bytes, out, f32::from_le_bytes),
        }
    }
}

impl Wide for f64 {
    fn widen(dtype: DType, bytes: &[u8], out: &mut [f64]) {
        if dtype == DType::Float64 {
            return each(bytes, out, f64::from_le_bytes);
        }
        let mut singles = [0.0_f32; BLOCK * LANES];
        for (out, bytes) in out
            .chunks_mut(BLOCK * LANES)
            .zip(bytes.chunks(dtype.size() * BLOCK * LANES))
        {
            let singles = &mut singles[..out.len()];
            f32::widen(dtype, bytes, singles);
            for (out, single) in out.iter_mut().zip(singles) {
                *out = f64::from(*single);
            }
        }
    }
}

fn each<const N: usize, T>(bytes: &[u8], out: &mut [T], of: impl Fn([u8; N]) -> T) {
    let (values, _) = bytes.as_chunks::<N>();
    for (out, value) in out.iter_mut().zip(values) {
        *out = of(*value);
    }
}

/// Elements where they lie.
#[derive(Clone, Copy, Debug)]
pub struct Elements<'a> {
    /// One that [`check`] lets through.
    pub dtype: DType,
    /// In C order.
    pub bytes: &'a [u8],
}

impl Elements<'_> {
    /// How many.
    pub fn len(&self) -> usize {
        self.bytes.len() / self.dtype.size()
    }

    /// All of them, for sums.
    pub fn all<T: Wide>(&self) -> Vec<Lanes<T>> {
        let mut all = vec![[T::default(); LANES]; self.len().div_ceil(LANES)];
        T::widen(
            self.dtype,
            self.bytes,
            &mut all.as_flattened_mut()[..self.len()],
        );
        all
    }

    /// One of them.
    pub fn at(&self, index: usize) -> Option<f64> {
        let size = self.dtype.size();
        let from = index.checked_mul(size)?;
        let bytes = self.bytes.get(from..from.checked_add(size)?)?;
        let mut value = [0.0_f64];
        f64::widen(self.dtype, bytes, &mut value);
        Some(value[0])
    }

    /// Block by block, in order.
    pub fn blocks<T: Wide>(&self, mut of: impl FnMut(&[T])) {
        self.in_blocks(|block: &[Lanes<T>], len| of(&block.as_flattened()[..len]));
    }

    /// Block by block, for sums.
    pub fn lanes<T: Wide>(&self, mut of: impl FnMut(&[Lanes<T>])) {
        self.in_blocks(|block, _| of(block));
    }

    /// Says how many of a block's are elements; those behind are 0.
    fn in_blocks<T: Wide>(&self, of: impl FnMut(&[Lanes<T>], usize)) {
        match self.len() <= SMALL * LANES {
            true => self.blocks_of::<T, SMALL>(of),
            false => self.blocks_of::<T, BLOCK>(of),
        }
    }

    fn blocks_of<T: Wide, const N: usize>(&self, mut of: impl FnMut(&[Lanes<T>], usize)) {
        let mut block = [[T::default(); LANES]; N];
        for bytes in self.bytes.chunks(N * LANES * self.dtype.size()) {
            let len = bytes.len() / self.dtype.size();
            of(
                widened(self.dtype, bytes, &mut block[..len.div_ceil(LANES)]),
                len,
            );
        }
    }
}

/// Widens elements, and clears what is behind them.
fn widened<'a, T: Wide>(dtype: DType, bytes: &[u8], block: &'a mut [Lanes<T>]) -> &'a [Lanes<T>] {
    let (elements, behind) = block
        .as_flattened_mut()
        .split_at_mut(bytes.len() / dtype.size());
    T::widen(dtype, bytes, elements);
    behind.fill(T::default());
    block
}

/// Block by block of two that have as many elements, for sums.
pub fn pairs<T: Wide>(
    left: Elements<'_>,
    right: Elements<'_>,
    mut of: impl FnMut(&[Lanes<T>], &[Lanes<T>]),
) {
    let mut other = [[T::default(); LANES]; BLOCK];
    let mut rest = right.bytes;
    left.in_blocks(|block, len| {
        let (bytes, behind) = rest.split_at((len * right.dtype.size()).min(rest.len()));
        rest = behind;
        of(
            block,
            widened(right.dtype, bytes, &mut other[..block.len()]),
        );
    });
}

/// The sum of `of` each pair, at most [`BLOCK`] lanes of them; of two that are 0 it is 0.
pub fn sum<T: Wide>(left: &[Lanes<T>], right: &[Lanes<T>], of: impl Fn(T, T) -> T) -> f64 {
    let [sum] = sums(left, right, |left, right| [of(left, right)]);
    sum
}

/// As [`sum`], of several functions of the same pairs.
pub fn sums<T: Wide, const N: usize>(
    left: &[Lanes<T>],
    right: &[Lanes<T>],
    of: impl Fn(T, T) -> [T; N],
) -> [f64; N] {
    let mut lanes = [[T::default(); LANES]; N];
    for (left, right) in left.iter().zip(right) {
        for (nth, lanes) in lanes.iter_mut().enumerate() {
            for ((lane, left), right) in lanes.iter_mut().zip(left).zip(right) {
                *lane = *lane + of(*left, *right)[nth];
            }
        }
    }
    lanes.map(|lanes| {
        // Halves onto halves: no addition waits for more than a few.
        let mut lanes: [f64; LANES] = lanes.map(Into::into);
        let mut width = LANES / 2;
        while width > 0 {
            let (low, high) = lanes.split_at_mut(width);
            for (low, high) in low.iter_mut().zip(high) {
                *low += *high;
            }
            width /= 2;
        }
        lanes[0]
    })
}

#[cfg(test)]
#[expect(
    clippy::cast_possible_truncation,
    reason = "figures that a float32 has"
)]
mod tests {
    use half::bf16;
    use proptest::prelude::*;

    use super::*;

    fn bytes_of<const N: usize>(values: &[f64], of: impl Fn(f64) -> [u8; N]) -> Vec<u8> {
        values.iter().flat_map(|value| of(*value)).collect()
    }

    #[test]
    fn each_dtype_is_widened_from_any_address() {
        let values = [0.0, -1.5, 2.0, 120.0, -0.25];
        let bytes = [
            (
                DType::Float16,
                bytes_of(&values, |v| f16::from_f64(v).to_le_bytes()),
            ),
            (
                DType::BFloat16,
                bytes_of(&values, |v| bf16::from_f64(v).to_le_bytes()),
            ),
            (
                DType::Float32,
                bytes_of(&values, |v| (v as f32).to_le_bytes()),
            ),
            (DType::Float64, bytes_of(&values, f64::to_le_bytes)),
        ];
        for (dtype, bytes) in bytes {
            for shift in 0..8 {
                let mut moved = vec![0xff; shift];
                moved.extend(&bytes);
                let elements = Elements {
                    dtype,
                    bytes: &moved[shift..],
                };
                assert_eq!(
                    elements.all::<f64>().as_flattened()[..5],
                    values,
                    "{dtype} from {shift}"
                );
                assert_eq!(elements.at(3), Some(120.0), "{dtype}");
                assert_eq!(elements.at(5), None, "{dtype}");
            }
        }
        let int8 = Elements {
            dtype: DType::Int8,
            bytes: &[0, 127, 128, 255],
        };
        assert_eq!(
            int8.all::<f32>().as_flattened()[..5],
            [0.0, 127.0, -128.0, -1.0, 0.0]
        );
        assert!(
            Elements {
                dtype: DType::Float16,
                bytes: &[0, 0x7e]
            }
            .at(0)
            .is_some_and(f64::is_nan)
        );
    }

    #[test]
    fn other_dtypes_are_refused_by_name() {
        for dtype in DType::ALL {
            let refused = check("dot", dtype).err().map(|error| error.to_string());
            let is_named = refused
                .as_ref()
                .is_none_or(|text| text.contains(dtype.name()));
            assert!(is_named, "{refused:?}");
        }
        assert!(check("dot", DType::Int64).is_err());
        assert!(check("dot", DType::Complex64).is_err());
    }

    proptest! {
        #[test]
        fn sums_are_those_of_doubles(values in prop::collection::vec((-100_i8..100, -100_i8..100), 0..2_000)) {
            let left: Vec<u8> = values.iter().map(|(left, _)| left.to_le_bytes()[0]).collect();
            let right: Vec<u8> = values.iter().flat_map(|(_, right)| f32::from(*right).to_le_bytes()).collect();
            let (left, right) = (
                Elements { dtype: DType::Int8, bytes: &left },
                Elements { dtype: DType::Float32, bytes: &right },
            );
            let mut found = 0.0;
            pairs(left, right, |left: &[Lanes<f32>], right: &[Lanes<f32>]| found += sum(left, right, |a, b| a * b));
            let exact: f64 = values.iter().map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
            prop_assert_eq!(found, exact);
        }
    }
}
