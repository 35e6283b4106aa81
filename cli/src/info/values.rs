//! Bytes as numbers, and what there is to say of them.

use arrow_buffer::Buffer;
use bowstring_wire::dtype::DType;
use half::{bf16, f16};
use serde::Serialize;

/// What there is to say of some values.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Values {
    /// How many were read.
    pub elements: u64,
    /// Of those that are numbers and not infinite; none where there are none.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub range: Option<Numbers>,
    /// How many are zero.
    pub zero: u64,
    /// How many are no number.
    pub nan: u64,
    /// How many are infinite.
    pub positive_infinity: u64,
    /// How many are infinite, below zero.
    pub negative_infinity: u64,
}

/// Of finite numbers.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Numbers {
    /// The least.
    pub min: f64,
    /// The greatest.
    pub max: f64,
    /// Their mean.
    pub mean: f64,
    /// Their standard deviation, of all that were read.
    pub std: f64,
}

impl Values {
    /// Of all of `pieces`; `None` where there are none.
    pub fn of(dtype: DType, pieces: &[Buffer]) -> Option<Self> {
        let mut values = Self::default();
        // Welford's way: no sum of squares that outgrows what it is compared with.
        let (mut finite, mut squares) = (0.0, 0.0);
        let mut numbers = Numbers {
            min: f64::INFINITY,
            max: f64::NEG_INFINITY,
            ..Numbers::default()
        };
        each(dtype, pieces, |value| {
            values.elements += 1;
            if value.is_nan() {
                values.nan += 1;
            } else if value == f64::INFINITY {
                values.positive_infinity += 1;
            } else if value == f64::NEG_INFINITY {
                values.negative_infinity += 1;
            } else {
                values.zero += u64::from(value == 0.0);
                finite += 1.0;
                let from_mean = value - numbers.mean;
                numbers.mean += from_mean / finite;
                squares += from_mean * (value - numbers.mean);
                numbers.min = numbers.min.min(value);
                numbers.max = numbers.max.max(value);
            }
        });
        if finite > 0.0 {
            numbers.std = (squares / finite).sqrt();
            values.range = Some(numbers);
        }
        (values.elements > 0).then_some(values)
    }
}

/// Calls `take` with every value, of complex numbers with their magnitudes. Integers above 2⁵³ are
/// rounded.
pub fn each(dtype: DType, pieces: &[Buffer], mut take: impl FnMut(f64)) {
    macro_rules! all {
        ($width:literal, |$bytes:ident| $value:expr) => {
            for piece in pieces {
                for $bytes in piece.as_chunks::<$width>().0.iter().copied() {
                    take($value);
                }
            }
        };
    }
    let half32 = |bytes: [u8; 8]| {
        let (real, imaginary) = halves::<8, 4>(bytes);
        f64::from(f32::from_le_bytes(real)).hypot(f64::from(f32::from_le_bytes(imaginary)))
    };
    let half64 = |bytes: [u8; 16]| {
        let (real, imaginary) = halves::<16, 8>(bytes);
        f64::from_le_bytes(real).hypot(f64::from_le_bytes(imaginary))
    };
    match dtype {
        DType::Int8 => all!(1, |b| f64::from(i8::from_le_bytes(b))),
        DType::Int16 => all!(2, |b| f64::from(i16::from_le_bytes(b))),
        DType::Int32 => all!(4, |b| f64::from(i32::from_le_bytes(b))),
        DType::Int64 => all!(8, |b| i64::from_le_bytes(b) as f64),
        DType::UInt8 | DType::Bool => all!(1, |b| f64::from(b[0])),
        DType::UInt16 => all!(2, |b| f64::from(u16::from_le_bytes(b))),
        DType::UInt32 => all!(4, |b| f64::from(u32::from_le_bytes(b))),
        DType::UInt64 => all!(8, |b| u64::from_le_bytes(b) as f64),
        DType::Float16 => all!(2, |b| f16::from_le_bytes(b).to_f64()),
        DType::BFloat16 => all!(2, |b| bf16::from_le_bytes(b).to_f64()),
        DType::Float32 => all!(4, |b| f64::from(f32::from_le_bytes(b))),
        DType::Float64 => all!(8, |b| f64::from_le_bytes(b)),
        DType::Float8E4M3Fn => all!(1, |b| float8(b[0], 3, 7, false)),
        DType::Float8E5M2 => all!(1, |b| float8(b[0], 2, 15, true)),
        DType::Complex64 => all!(8, |b| half32(b)),
        DType::Complex128 => all!(16, |b| half64(b)),
    }
}

/// A number as people read it: as many digits as tell something.
pub fn told(value: f64) -> String {
    let size = value.abs();
    if value == value.trunc() && size < 1e15 {
        return format!("{value:.0}");
    }
    if !(1e-3..1e6).contains(&size) {
        return format!("{value:.4e}");
    }
    // Five digits in all.
    let whole = [10.0, 100.0, 1e3, 1e4]
        .iter()
        .filter(|limit| size >= **limit);
    format!("{value:.*}", 4 - whole.count())
}

fn halves<const N: usize, const H: usize>(bytes: [u8; N]) -> ([u8; H], [u8; H]) {
    let (mut one, mut other) = ([0; H], [0; H]);
    one.copy_from_slice(&bytes[..H]);
    other.copy_from_slice(&bytes[H..]);
    (one, other)
}

/// A sign, an exponent, and so many bits of mantissa. `infinite` as IEEE 754 has it: the highest
/// exponent is of infinities and of what is no number; without it only all ones is no number.
fn float8(bits: u8, mantissa_bits: u32, bias: i32, infinite: bool) -> f64 {
    let sign = if bits & 0x80 == 0 { 1.0 } else { -1.0 };
    let magnitude = bits & 0x7f;
    let exponent = magnitude >> mantissa_bits;
    let mantissa = magnitude & ((1 << mantissa_bits) - 1);
    let highest = 0x7f >> mantissa_bits;
    if infinite && exponent == highest {
        return if mantissa == 0 {
            sign * f64::INFINITY
        } else {
            f64::NAN
        };
    }
    if !infinite && magnitude == 0x7f {
        return f64::NAN;
    }
    let part = f64::from(mantissa) / f64::from(1 << mantissa_bits);
    // Without an exponent it has no leading one.
    let (whole, power) = match exponent {
        0 => (0.0, 1 - bias),
        exponent => (1.0, i32::from(exponent) - bias),
    };
    sign * (whole + part) * 2f64.powi(power)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(dtype: DType, bytes: &[u8]) -> Values {
        Values::of(dtype, &[Buffer::from(bytes.to_vec())]).unwrap()
    }

    #[test]
    fn every_dtype_is_read() {
        for (dtype, bytes, value) in [
            (DType::Int8, vec![0xff], -1.0),
            (DType::Int16, (-2_i16).to_le_bytes().to_vec(), -2.0),
            (DType::Int32, (-3_i32).to_le_bytes().to_vec(), -3.0),
            (DType::Int64, (-4_i64).to_le_bytes().to_vec(), -4.0),
            (DType::UInt8, vec![0xff], 255.0),
            (DType::UInt16, vec![0xff; 2], 65_535.0),
            (DType::UInt32, vec![0xff; 4], 4_294_967_295.0),
            (DType::UInt64, vec![5, 0, 0, 0, 0, 0, 0, 0], 5.0),
            (DType::Float16, vec![0x00, 0xc0], -2.0),
            (DType::BFloat16, vec![0x00, 0xc0], -2.0),
            (DType::Float32, 1.5_f32.to_le_bytes().to_vec(), 1.5),
            (DType::Float64, 1.5_f64.to_le_bytes().to_vec(), 1.5),
            (DType::Bool, vec![1], 1.0),
            (DType::Float8E4M3Fn, vec![0x7e], 448.0),
            (DType::Float8E5M2, vec![0xfb], -57_344.0),
            (
                DType::Complex64,
                [3_f32.to_le_bytes(), 4_f32.to_le_bytes()].concat(),
                5.0,
            ),
            (
                DType::Complex128,
                [3_f64.to_le_bytes(), 4_f64.to_le_bytes()].concat(),
                5.0,
            ),
        ] {
            let range = of(dtype, &bytes).range.unwrap();
            assert_eq!(
                (range.min, range.max, range.mean),
                (value, value, value),
                "{dtype}"
            );
        }
    }

    #[test]
    fn eight_bits() {
        // The least that is not zero, and the least with a leading one.
        assert_eq!(float8(0x01, 3, 7, false), 2f64.powi(-9));
        assert_eq!(float8(0x08, 3, 7, false), 2f64.powi(-6));
        assert_eq!(float8(0x01, 2, 15, true), 2f64.powi(-16));
        assert_eq!(float8(0x3c, 2, 15, true), 1.0);
        assert!(float8(0xff, 3, 7, false).is_nan() && float8(0x7d, 2, 15, true).is_nan());
        assert_eq!(float8(0xfc, 2, 15, true), f64::NEG_INFINITY);
    }

    #[test]
    fn what_is_not_finite_is_counted_apart() {
        let all = [1.0, f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 0.0, -1.0];
        let values = of(DType::Float32, &all.map(f32::to_le_bytes).concat());
        assert_eq!((values.elements, values.zero, values.nan), (6, 1, 1));
        assert_eq!((values.positive_infinity, values.negative_infinity), (1, 1));
        let range = values.range.unwrap();
        assert_eq!((range.min, range.max, range.mean), (-1.0, 1.0, 0.0));
        assert!((range.std - (2.0_f64 / 3.0).sqrt()).abs() < 1e-12);
        let none = of(DType::Float32, &f32::NAN.to_le_bytes());
        assert_eq!(none.range, None);
        assert_eq!(Values::of(DType::Float32, &[]), None);
    }

    #[test]
    fn numbers_as_people_read_them() {
        for (value, text) in [
            (0.0, "0"),
            (255.0, "255"),
            (-1.23456, "-1.2346"),
            (123.456, "123.46"),
            (12_345.6, "12346"),
            (1.234_56e-7, "1.2346e-7"),
            (2.5e20, "2.5000e20"),
        ] {
            assert_eq!(told(value), text);
        }
    }
}
