use proptest::prelude::*;

use super::*;
use crate::error::Code;

fn cast(from: DType, to: DType, values: &[u8]) -> Result<Vec<u8>> {
    let mut out = vec![7];
    Cast::new(from, to)?.unwrap().append(values, &mut out)?;
    assert_eq!(out.remove(0), 7);
    Ok(out)
}

fn floats(values: &[f32]) -> Vec<u8> {
    values
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect()
}

/// All values of a format of few bits, by their bits.
fn all(dtype: DType) -> Vec<(u16, f64)> {
    let bits = if dtype.size() == 1 {
        0..=0xff
    } else {
        0..=0xffff
    };
    let value = |bits: u16| match read(dtype, &bits.to_le_bytes()[..dtype.size()]) {
        Number::Float(value) => value,
        Number::Int(_) => panic!("{dtype}"),
    };
    bits.map(|bits| (bits, value(bits))).collect()
}

const NARROW: [DType; 4] = [
    DType::Float16,
    DType::BFloat16,
    DType::Float8E4M3Fn,
    DType::Float8E5M2,
];

fn narrowed(dtype: DType, value: f64) -> Option<u16> {
    let mut out = Vec::new();
    write(dtype, Number::Float(value), &mut out).then(|| {
        out.resize(2, 0);
        u16::from_le_bytes([out[0], out[1]])
    })
}

#[test]
fn what_fits_exactly_stays_as_it_is() {
    for dtype in NARROW {
        for (bits, value) in all(dtype) {
            let found = narrowed(dtype, value).unwrap();
            let same = found == bits || value.is_nan();
            assert!(same, "{dtype} {bits:x} {found:x} {value}");
        }
    }
}

#[test]
fn between_two_the_nearest_is_taken_and_of_two_as_near_the_even_one() {
    for dtype in NARROW {
        let mut known: Vec<_> = all(dtype);
        known.retain(|(_, value)| value.is_finite() && value.is_sign_positive());
        known.sort_by(|a, b| a.1.total_cmp(&b.1));
        for pair in known.windows(2) {
            let ((low, a), (high, b)) = (pair[0], pair[1]);
            let middle = a + (b - a) / 2.0;
            let even = if low % 2 == 0 { low } else { high };
            assert_eq!(narrowed(dtype, middle), Some(even), "{dtype} {middle}");
            assert_eq!(
                narrowed(dtype, middle.next_down()),
                Some(low),
                "{dtype} {middle}"
            );
            assert_eq!(
                narrowed(dtype, middle.next_up()),
                Some(high),
                "{dtype} {middle}"
            );
        }
        // Half a step past the largest, which is odd, and the next even one would be infinite.
        let (most, before) = (known[known.len() - 1], known[known.len() - 2].1);
        let over = most.1 + (most.1 - before) / 2.0;
        assert_eq!(narrowed(dtype, over.next_down()), Some(most.0), "{dtype}");
        assert_eq!(narrowed(dtype, over.next_up()), None, "{dtype}");
        assert_eq!(narrowed(dtype, f64::MAX), None, "{dtype}");
        let fits = dtype != DType::Float8E4M3Fn;
        assert_eq!(narrowed(dtype, f64::INFINITY).is_some(), fits, "{dtype}");
    }
}

#[test]
fn every_pair_is_cast_or_refused() {
    for from in DType::ALL {
        for to in DType::ALL {
            let zero = vec![0; 3 * from.size()];
            if from == to {
                assert_eq!(Cast::new(from, to), Ok(None));
                continue;
            }
            let found = cast(from, to, &zero);
            if from.storage_per_element() > to.storage_per_element() {
                assert_eq!(found.unwrap_err().code, Code::InvalidArgument);
                continue;
            }
            assert_eq!(found, Ok(vec![0; 3 * to.size()]), "{from} {to}");
            let made = Cast::new(from, to).unwrap().unwrap();
            assert_eq!(
                made.cast_bytes(3 * from.size() as u64),
                Some(3 * to.size() as u64)
            );
        }
    }
}

#[test]
fn what_does_not_fit_is_told() {
    for (from, to, value, says) in [
        (
            DType::Float32,
            DType::Float16,
            floats(&[1.0, 65_520.0]),
            "value=`65520.0`",
        ),
        (
            DType::Float32,
            DType::BFloat16,
            floats(&[f32::MAX]),
            "dtype=`bfloat16`",
        ),
        (DType::Float32, DType::Int8, floats(&[1.5]), "value=`1.5`"),
        (
            DType::Float32,
            DType::UInt64,
            floats(&[f32::NAN]),
            "value=`NaN`",
        ),
        (
            DType::Float32,
            DType::Int64,
            floats(&[1e30]),
            "value=`1.0000",
        ),
        (DType::Float32, DType::Bool, floats(&[2.0]), "value=`2.0`"),
        (
            DType::Float32,
            DType::Float8E4M3Fn,
            floats(&[f32::INFINITY]),
            "value=`inf`",
        ),
        (DType::Int8, DType::UInt8, vec![255], "value=`-1`"),
        (DType::UInt16, DType::Int8, vec![0, 1], "value=`256`"),
        (DType::UInt8, DType::Bool, vec![2], "value=`2`"),
        (
            DType::Float64,
            DType::Float32,
            1e39f64.to_le_bytes().to_vec(),
            "value=`1e39`",
        ),
        (
            DType::UInt32,
            DType::Float16,
            70_000u32.to_le_bytes().to_vec(),
            "value=`70000`",
        ),
    ] {
        let told = cast(from, to, &value).unwrap_err();
        assert_eq!(told.code, Code::InvalidArgument);
        assert!(told.message.contains(says), "{told}");
    }
    // Infinity is no overflow, and NaN fits every float.
    let special = floats(&[f32::INFINITY, f32::NEG_INFINITY]);
    for to in [
        DType::Float16,
        DType::BFloat16,
        DType::Float64,
        DType::Float8E5M2,
    ] {
        assert!(cast(DType::Float32, to, &special).is_ok(), "{to}");
    }
}

#[test]
fn real_numbers_become_complex_ones() {
    let found = cast(DType::Int8, DType::Complex64, &[1, 0xff]).unwrap();
    assert_eq!(found, floats(&[1.0, 0.0, -1.0, 0.0]));
    let wide = cast(DType::Complex64, DType::Complex128, &floats(&[1.5, -2.0])).unwrap();
    let expected = [1.5f64, -2.0].map(f64::to_le_bytes).concat();
    assert_eq!(wide, expected);
    assert_eq!(
        cast(DType::Complex128, DType::Complex64, &wide).unwrap(),
        floats(&[1.5, -2.0])
    );
}

#[test]
fn integers_are_rounded_once() {
    // Half-way between two bfloat16, and one more, which no double tells from it.
    let tie = (1i64 << 62) + (1 << 54);
    for (value, bits) in [
        (tie, 0x5e80u16),
        (tie + 1, 0x5e81),
        (-tie, 0xde80),
        (-tie - 1, 0xde81),
    ] {
        let found = cast(DType::Int64, DType::BFloat16, &value.to_le_bytes()).unwrap();
        assert_eq!(found, bits.to_le_bytes(), "{value}");
    }
}

proptest! {
    /// The common casts go by another way than the others.
    #[test]
    fn fast_casts_do_as_the_others(values in prop::collection::vec(any::<f32>(), 0..600), wide in prop::collection::vec(any::<f64>(), 0..50)) {
        let short = floats(&values);
        let long: Vec<u8> = wide.iter().flat_map(|value| value.to_le_bytes()).collect();
        for (from, to, values) in [
            (DType::Float32, DType::Float16, &short),
            (DType::Float32, DType::BFloat16, &short),
            (DType::Float32, DType::Float64, &short),
            (DType::Float64, DType::Float32, &long),
        ] {
            let made = Cast::new(from, to).unwrap().unwrap();
            let (mut fast, mut slow) = (Vec::new(), Vec::new());
            let fast = made.append(values, &mut fast).map(|()| fast);
            let slow = made.one_by_one(values, &mut slow).map(|()| slow);
            match (fast, slow) {
                (Ok(fast), Ok(slow)) => {
                    for (at, (fast, slow)) in fast.chunks(to.size()).zip(slow.chunks(to.size())).enumerate() {
                        let nan = |bytes| matches!(read(to, bytes), Number::Float(value) if value.is_nan());
                        prop_assert!(fast == slow || nan(fast) && nan(slow), "{from} {to} {at}");
                    }
                }
                (fast, slow) => prop_assert_eq!(fast, slow),
            }
        }
    }

    #[test]
    fn integers_come_back(value in any::<i64>()) {
        let bytes = value.to_le_bytes();
        for to in [DType::Int8, DType::Int16, DType::Int32, DType::UInt8, DType::UInt16, DType::UInt32, DType::UInt64] {
            match cast(DType::Int64, to, &bytes) {
                Ok(found) => prop_assert_eq!(cast(to, DType::Int64, &found).unwrap(), bytes),
                Err(told) => {
                    let says = format!("value=`{value}`");
                    prop_assert!(told.message.contains(&says));
                }
            }
        }
    }
}
