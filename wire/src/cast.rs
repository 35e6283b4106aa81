//! From one dtype to another: every value arrives as the nearest one, or does not fit.
//!
//! Between floating point, and from integers to it, a value is rounded to the nearest, ties to even;
//! one that would become infinite does not fit. To integers only whole numbers fit that are in
//! range, to `bool` only 0 and 1. Infinity fits where there is one, NaN in every float. Real numbers
//! become complex with an imaginary part of 0; complex ones become only complex.

mod narrow;

use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};

use crate::dtype::DType;
use crate::error::{Error, Result};
use narrow::{E4M3FN, E5M2, decode_e4m3fn};

/// A cast between two dtypes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cast {
    from: DType,
    to: DType,
}

/// A value on its way.
#[derive(Clone, Copy, Debug)]
enum Number {
    Int(i128),
    Float(f64),
}

/// Values that are cast at once: few enough for the stack.
const STEP: usize = 256;

impl Cast {
    /// `None` where there is nothing to do.
    ///
    /// # Errors
    /// `invalid_argument` from complex numbers to real ones.
    pub fn new(from: DType, to: DType) -> Result<Option<Cast>> {
        if from.storage_per_element() > to.storage_per_element() {
            return Err(Error::invalid(format!(
                "complex numbers cannot become real ones; dtype=`{to}` expected `complex64` or \
                 `complex128` for tensors of `{from}`"
            )));
        }
        Ok((from != to).then_some(Cast { from, to }))
    }

    /// What the values are.
    pub fn from(&self) -> DType {
        self.from
    }

    /// What the values become.
    pub fn to(&self) -> DType {
        self.to
    }

    /// Bytes of one value that is cast by itself: one part of a complex number.
    pub fn part_bytes(&self) -> usize {
        self.from.size() / self.from.storage_per_element()
    }

    /// Bytes that so many bytes of values become; `None` where that is no number.
    pub fn cast_bytes(&self, bytes: u64) -> Option<u64> {
        let values = bytes / self.from.size() as u64;
        values.checked_mul(self.to.size() as u64)
    }

    /// Casts whole values and adds them to `to`.
    ///
    /// # Errors
    /// `invalid_argument` with the first that does not fit.
    pub fn append(&self, values: &[u8], to: &mut Vec<u8>) -> Result<()> {
        let values_len = values.len() as u64;
        to.reserve(usize::try_from(self.cast_bytes(values_len).unwrap_or(0)).unwrap_or(0));
        let done = match (self.from, self.to) {
            (DType::Float64, DType::Float32) => halve(values, to),
            (DType::Float32, DType::Float16) => {
                let narrow = |from: &[f32], to: &mut [f16]| to.convert_from_f32_slice(from);
                shorten(values, to, narrow, f16::is_infinite, f16::to_le_bytes)
            }
            (DType::Float32, DType::BFloat16) => {
                let narrow = |from: &[f32], to: &mut [bf16]| to.convert_from_f32_slice(from);
                shorten(values, to, narrow, bf16::is_infinite, bf16::to_le_bytes)
            }
            (DType::Float16, DType::Float32) => {
                each(values, to, |b| f16::from_le_bytes(b).to_f32().to_le_bytes())
            }
            (DType::BFloat16, DType::Float32) => each(values, to, |b| {
                bf16::from_le_bytes(b).to_f32().to_le_bytes()
            }),
            (DType::Float32, DType::Float64) => each(values, to, |b| {
                f64::from(f32::from_le_bytes(b)).to_le_bytes()
            }),
            _ => return self.one_by_one(values, to),
        };
        match done {
            true => Ok(()),
            // Again, to tell which.
            false => self.one_by_one(values, to),
        }
    }

    fn one_by_one(&self, values: &[u8], to: &mut Vec<u8>) -> Result<()> {
        let imaginary = self.to.storage_per_element() > self.from.storage_per_element();
        for value in values.chunks_exact(self.part_bytes()) {
            let number = read(self.from, value);
            if !write(self.to, number, to) {
                let value = match number {
                    Number::Int(value) => value.to_string(),
                    Number::Float(value) => format!("{value:?}"),
                };
                return Err(Error::invalid(format!(
                    "a value does not fit the dtype that it is cast to; value=`{value}` from=`{}` \
                     dtype=`{}`",
                    self.from, self.to
                )));
            }
            if imaginary {
                to.resize(to.len() + self.to.size() / 2, 0);
            }
        }
        Ok(())
    }
}

/// Casts values that all fit.
fn each<const N: usize, const M: usize>(
    values: &[u8],
    to: &mut Vec<u8>,
    cast: impl Fn([u8; N]) -> [u8; M],
) -> bool {
    let (values, _) = values.as_chunks::<N>();
    values
        .iter()
        .for_each(|value| to.extend_from_slice(&cast(*value)));
    true
}

/// `float64` to `float32`; false, and nothing done, where one does not fit.
#[expect(
    clippy::cast_possible_truncation,
    reason = "rounding is meant, as IEEE 754 has it"
)]
fn halve(values: &[u8], to: &mut Vec<u8>) -> bool {
    let (start, mut over) = (to.len(), false);
    let (values, _) = values.as_chunks::<8>();
    for value in values {
        let value = f64::from_le_bytes(*value);
        let near = value as f32;
        over |= near.is_infinite() & value.is_finite();
        to.extend_from_slice(&near.to_le_bytes());
    }
    if over {
        to.truncate(start);
    }
    !over
}

/// `float32` to 16 bits, by vector instructions where there are any; false, and nothing done, where
/// one does not fit.
fn shorten<T: Copy + Default>(
    values: &[u8],
    to: &mut Vec<u8>,
    narrow: impl Fn(&[f32], &mut [T]),
    is_infinite: impl Fn(T) -> bool,
    bytes: impl Fn(T) -> [u8; 2],
) -> bool {
    let (start, mut over) = (to.len(), false);
    let (values, _) = values.as_chunks::<4>();
    let (mut wide, mut short) = ([0.0f32; STEP], [T::default(); STEP]);
    for values in values.chunks(STEP) {
        for (wide, value) in wide.iter_mut().zip(values) {
            *wide = f32::from_le_bytes(*value);
        }
        let (wide, short) = (&wide[..values.len()], &mut short[..values.len()]);
        narrow(wide, short);
        for (wide, short) in wide.iter().zip(short.iter()) {
            over |= is_infinite(*short) & wide.is_finite();
            to.extend_from_slice(&bytes(*short));
        }
    }
    if over {
        to.truncate(start);
    }
    !over
}

/// A value; of a complex number, one part.
fn read(dtype: DType, bytes: &[u8]) -> Number {
    let mut word = [0; 8];
    let len = bytes.len().min(8);
    word[..len].copy_from_slice(&bytes[..len]);
    let unsigned = u64::from_le_bytes(word);
    let shift = 64 - 8 * len.max(1);
    let [a, b, c, d, ..] = word;
    match dtype {
        DType::Int8 | DType::Int16 | DType::Int32 | DType::Int64 => {
            Number::Int(i128::from(unsigned.cast_signed() << shift >> shift))
        }
        DType::Bool | DType::UInt8 | DType::UInt16 | DType::UInt32 | DType::UInt64 => {
            Number::Int(i128::from(unsigned))
        }
        DType::Float16 => Number::Float(f16::from_le_bytes([a, b]).to_f64()),
        DType::BFloat16 => Number::Float(bf16::from_le_bytes([a, b]).to_f64()),
        DType::Float8E4M3Fn => Number::Float(decode_e4m3fn(a)),
        // It is the upper half of a float16.
        DType::Float8E5M2 => Number::Float(f16::from_le_bytes([0, a]).to_f64()),
        DType::Float32 | DType::Complex64 => {
            Number::Float(f64::from(f32::from_le_bytes([a, b, c, d])))
        }
        DType::Float64 | DType::Complex128 => Number::Float(f64::from_le_bytes(word)),
    }
}

/// Adds a value, or answers false where it does not fit.
fn write(dtype: DType, number: Number, to: &mut Vec<u8>) -> bool {
    macro_rules! int {
        ($kind:ty) => {
            whole(number)
                .and_then(|value| <$kind>::try_from(value).ok())
                .map(|value| to.extend_from_slice(&value.to_le_bytes()))
        };
    }
    let written = match dtype {
        DType::Int8 => int!(i8),
        DType::Int16 => int!(i16),
        DType::Int32 => int!(i32),
        DType::Int64 => int!(i64),
        DType::UInt8 => int!(u8),
        DType::UInt16 => int!(u16),
        DType::UInt32 => int!(u32),
        DType::UInt64 => int!(u64),
        DType::Bool => {
            let value = whole(number).and_then(|value| u8::try_from(value).ok());
            value
                .filter(|value| *value <= 1)
                .map(|value| to.push(value))
        }
        DType::Float16 => narrow::F16
            .encode(sticky(number))
            .map(|bits| put_16(bits, to)),
        DType::BFloat16 => narrow::BF16
            .encode(sticky(number))
            .map(|bits| put_16(bits, to)),
        DType::Float8E4M3Fn => E4M3FN.encode(sticky(number)).map(|bits| put_8(bits, to)),
        DType::Float8E5M2 => E5M2.encode(sticky(number)).map(|bits| put_8(bits, to)),
        DType::Float32 | DType::Complex64 => {
            single(number).map(|value| to.extend_from_slice(&value.to_le_bytes()))
        }
        DType::Float64 | DType::Complex128 => {
            to.extend_from_slice(&double(number).to_le_bytes());
            Some(())
        }
    };
    written.is_some()
}

fn put_16(bits: u16, to: &mut Vec<u8>) {
    to.extend_from_slice(&bits.to_le_bytes());
}

fn put_8(bits: u16, to: &mut Vec<u8>) {
    to.push(bits.to_le_bytes()[0]);
}

/// As an integer, where it is one.
#[expect(
    clippy::cast_possible_truncation,
    reason = "a whole number, or out of every range"
)]
fn whole(number: Number) -> Option<i128> {
    match number {
        Number::Int(value) => Some(value),
        Number::Float(value) if value.is_finite() && value.fract() == 0.0 => Some(value as i128),
        Number::Float(_) => None,
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    reason = "rounding is meant, as IEEE 754 has it"
)]
fn single(number: Number) -> Option<f32> {
    match number {
        Number::Int(value) => Some(value as f32),
        Number::Float(value) => {
            let near = value as f32;
            (near.is_finite() || !value.is_finite()).then_some(near)
        }
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "rounding is meant, as IEEE 754 has it"
)]
fn double(number: Number) -> f64 {
    match number {
        Number::Int(value) => value as f64,
        Number::Float(value) => value,
    }
}

/// As a double that rounds to fewer bits as the number itself does: what is between two doubles
/// becomes the one of them whose last bit is 1, which is never half-way between shorter ones.
#[expect(
    clippy::cast_possible_truncation,
    reason = "a double that an integer became fits one"
)]
fn sticky(number: Number) -> f64 {
    let near = double(number);
    let Number::Int(value) = number else {
        return near;
    };
    let back = near as i128;
    if back == value {
        return near;
    }
    let beyond = back.unsigned_abs() > value.unsigned_abs();
    f64::from_bits((near.to_bits() - u64::from(beyond)) | 1)
}

#[cfg(test)]
mod tests;
