//! A number of bytes as people write it: `1GiB`, `512MiB`, `1500000`.

use std::fmt;
use std::str::FromStr;

/// A number of bytes.
///
/// Reads an integer or a decimal fraction with a unit: `KiB`, `MiB`, `GiB`, `TiB` (1,024),
/// `kB`, `MB`, `GB`, `TB` (1,000), Kubernetes' `Ki`, `Mi`, `Gi`, `Ti`, or none for bytes. A bare
/// `K`, `M` or `G` is refused, because half of the tools mean 1,000 by it and half 1,024.
///
/// Prints the largest binary unit that divides it, so what is printed reads back exactly.
///
/// ```
/// use bowstring_wire::byte_size::ByteSize;
/// assert_eq!("1.5GiB".parse(), Ok(ByteSize(1536 << 20)));
/// assert_eq!(ByteSize(1536 << 20).to_string(), "1536MiB");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ByteSize(pub u64);

impl ByteSize {
    /// The number of bytes.
    pub const fn bytes(self) -> u64 {
        self.0
    }
}

impl FromStr for ByteSize {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let unit_at = text
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(text.len());
        let (number, unit) = text.split_at(unit_at);
        let unit = unit_bytes(unit.trim_start())
            .ok_or_else(|| format!("unit `{}` is none of {UNITS}", unit.trim_start()))?;
        decimal_times(number, unit)
            .map(ByteSize)
            .ok_or_else(|| format!("`{text}` is not a size, as `1GiB`, `512MiB` or `1500000` are"))
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (shift, unit) in [(40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")] {
            if self.0 != 0 && self.0.trailing_zeros() >= shift {
                return write!(f, "{}{unit}", self.0 >> shift);
            }
        }
        write!(f, "{}", self.0)
    }
}

const UNITS: &str = "KiB, MiB, GiB, TiB, kB, MB, GB, TB, B";

fn unit_bytes(unit: &str) -> Option<u64> {
    Some(match unit {
        "" | "B" => 1,
        "KiB" | "Ki" => 1 << 10,
        "MiB" | "Mi" => 1 << 20,
        "GiB" | "Gi" => 1 << 30,
        "TiB" | "Ti" => 1 << 40,
        "kB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        "TB" => 1_000_000_000_000,
        _ => return None,
    })
}

/// `number` × `unit` without floating point, rounded down; none where it is no number or too large.
fn decimal_times(number: &str, unit: u64) -> Option<u64> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    if whole.is_empty() || fraction.is_empty() || fraction.len() > 18 {
        return None;
    }
    let whole: u128 = whole.parse().ok()?;
    let scale = 10u128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    let fraction: u128 = fraction.parse().ok()?;
    let unit = u128::from(unit);
    let bytes = whole
        .checked_mul(unit)?
        .checked_add(fraction * unit / scale)?;
    u64::try_from(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(text: &str) -> Result<u64, String> {
        text.parse::<ByteSize>().map(ByteSize::bytes)
    }

    #[test]
    fn reads_what_people_write() {
        assert_eq!(parse("1GiB"), Ok(1 << 30));
        assert_eq!(parse("512 MiB"), Ok(512 << 20));
        assert_eq!(parse("4Gi"), Ok(4 << 30));
        assert_eq!(parse("1500000"), Ok(1_500_000));
        assert_eq!(parse("10kB"), Ok(10_000));
        assert_eq!(parse("1.5GiB"), Ok(1536 << 20));
        assert_eq!(parse("0.1kB"), Ok(100));
        assert_eq!(parse("0"), Ok(0));
        assert_eq!(parse("18446744073709551615"), Ok(u64::MAX));
    }

    #[test]
    fn says_what_is_wrong() {
        assert!(parse("12 parsecs").unwrap_err().contains("`parsecs`"));
        assert!(
            parse("1G").unwrap_err().contains("`G`"),
            "1000 or 1024? ask"
        );
        for bad in [
            "",
            "GiB",
            ".",
            "1.",
            ".5GiB",
            "1.2.3",
            "18446744073709551616",
            "17179869184GiB",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
        assert!(parse("-1").is_err());
    }

    #[test]
    fn prints_the_largest_unit_that_divides() {
        assert_eq!(ByteSize(0).to_string(), "0");
        assert_eq!(ByteSize(1 << 40).to_string(), "1TiB");
        assert_eq!(ByteSize(1000).to_string(), "1000");
        assert_eq!(ByteSize(3 << 10).to_string(), "3KiB");
    }

    proptest! {
        #[test]
        fn prints_what_it_reads(bytes: u64, shift in 0u32..50) {
            for bytes in [bytes, (bytes >> 50) << shift] {
                prop_assert_eq!(parse(&ByteSize(bytes).to_string()), Ok(bytes));
            }
        }

        #[test]
        fn never_panics(text in "\\PC{0,24}") {
            let _ = parse(&text);
        }
    }
}
