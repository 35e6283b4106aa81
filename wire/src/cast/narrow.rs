//! Floating point of 8 and 16 bits: how a double becomes one.

/// A format of few bits: sign, exponent, mantissa.
#[derive(Clone, Copy, Debug)]
pub(super) struct Narrow {
    mantissa_bits: i32,
    bias: i32,
    /// The largest finite value.
    max: f64,
    /// Bits of a NaN.
    nan: u16,
    /// Bits of infinity, where there is one.
    infinity: Option<u16>,
    sign: u16,
}

pub(super) const F16: Narrow = Narrow {
    mantissa_bits: 10,
    bias: 15,
    max: 65_504.0,
    nan: 0x7e00,
    infinity: Some(0x7c00),
    sign: 0x8000,
};

pub(super) const BF16: Narrow = Narrow {
    mantissa_bits: 7,
    bias: 127,
    // 2¹²⁸ − 2¹²⁰
    max: 338_953_138_925_153_547_590_470_800_371_487_866_880.0,
    nan: 0x7fc0,
    infinity: Some(0x7f80),
    sign: 0x8000,
};

pub(super) const E4M3FN: Narrow = Narrow {
    mantissa_bits: 3,
    bias: 7,
    max: 448.0,
    nan: 0x7f,
    infinity: None,
    sign: 0x80,
};

pub(super) const E5M2: Narrow = Narrow {
    mantissa_bits: 2,
    bias: 15,
    max: 57_344.0,
    nan: 0x7e,
    infinity: Some(0x7c),
    sign: 0x80,
};

impl Narrow {
    /// The bits of the nearest value, ties to even; `None` where it does not fit.
    pub fn encode(&self, value: f64) -> Option<u16> {
        let sign = if value.is_sign_negative() {
            self.sign
        } else {
            0
        };
        let value = value.abs();
        if value.is_nan() {
            return Some(sign | self.nan);
        }
        if value.is_infinite() {
            return self.infinity.map(|infinity| sign | infinity);
        }
        let least = 1 - self.bias;
        // Between two neighbours lies a power of two. To multiply by one is exact.
        let exponent = exponent(value).max(least);
        let steps = (value * power(self.mantissa_bits - exponent)).round_ties_even();
        if steps * power(exponent - self.mantissa_bits) > self.max {
            return None;
        }
        // Steps past the implied bit carry into the exponent, as they do in the format.
        let implied = power(self.mantissa_bits);
        let field = f64::from(exponent - least);
        Some(sign | count(field * implied + steps))
    }
}

/// A whole number of at most 15 bits.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the largest finite value of 16 bits is below"
)]
fn count(value: f64) -> u16 {
    value as u16
}

/// The exponent of a positive value: below all of ours for those that are too small to have one.
fn exponent(value: f64) -> i32 {
    let bits = value.to_bits() >> 52;
    i32::try_from(bits).unwrap_or(i32::MAX) - 1023
}

/// 2 to the power of `n`, which is in the range of doubles.
fn power(n: i32) -> f64 {
    let bits = u64::try_from(n + 1023).unwrap_or(0);
    f64::from_bits(bits << 52)
}

/// The value of a `float8_e4m3fn`.
pub(super) fn decode_e4m3fn(bits: u8) -> f64 {
    let (exponent, mantissa) = (i32::from(bits >> 3 & 0xf), f64::from(bits & 7));
    let value = match (exponent, bits & 7) {
        (15, 7) => f64::NAN,
        (0, _) => mantissa * power(-9),
        _ => (1.0 + mantissa / 8.0) * power(exponent - 7),
    };
    if bits & 0x80 == 0 { value } else { -value }
}
