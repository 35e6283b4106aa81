//! How many bytes a key's tensor has.

use std::fmt;
use std::str::FromStr;

use bowstring_wire::byte_size::ByteSize;

/// Sizes and their shares. A key has the same one in every run.
#[derive(Clone, Debug, PartialEq)]
pub struct Sizes {
    /// Each with the sum of the weights up to it.
    steps: Vec<(ByteSize, u64)>,
}

impl Sizes {
    /// Bytes of the tensor of that key.
    pub fn of(&self, key: u64) -> u64 {
        let all = self.steps.last().map_or(1, |(_, sum)| *sum);
        let at = mixed(key) % all;
        let step = self.steps.iter().find(|(_, sum)| at < *sum);
        step.map_or(0, |(size, _)| size.bytes())
    }

    /// Of all sizes.
    pub fn largest(&self) -> u64 {
        let sizes = self.steps.iter().map(|(size, _)| size.bytes());
        sizes.max().unwrap_or(0)
    }
}

impl FromStr for Sizes {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut steps = Vec::new();
        let mut sum = 0_u64;
        for part in text.split(',') {
            let (size, weight) = part.split_once(':').unwrap_or((part, "1"));
            let size: ByteSize = size.parse()?;
            let weight: u32 = weight
                .trim()
                .parse()
                .ok()
                .filter(|weight| *weight > 0)
                .ok_or_else(|| format!("a share is a whole number from 1, share=`{weight}`"))?;
            if size.bytes() < 8 {
                return Err(format!("a tensor here has at least 8 bytes, size=`{size}`"));
            }
            sum += u64::from(weight);
            steps.push((size, sum));
        }
        Ok(Self { steps })
    }
}

impl fmt::Display for Sizes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut before = 0;
        for (i, (size, sum)) in self.steps.iter().enumerate() {
            let comma = if i > 0 { "," } else { "" };
            match self.steps.len() {
                1 => write!(f, "{size}")?,
                _ => write!(f, "{comma}{size}:{}", sum - before)?,
            }
            before = *sum;
        }
        Ok(())
    }
}

/// Splitmix64: neighbours have nothing in common.
pub fn mixed(number: u64) -> u64 {
    let mut z = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_keeps_its_size_and_shares_are_kept() {
        let sizes: Sizes = "3KiB:90,1MiB:10".parse().unwrap();
        assert_eq!(sizes.to_string(), "3KiB:90,1MiB:10");
        assert_eq!(sizes.largest(), 1 << 20);
        let large = (0..10_000).filter(|key| sizes.of(*key) == 1 << 20).count();
        assert!((900..1100).contains(&large), "{large}");
        assert_eq!(sizes.of(7), sizes.of(7));
    }

    #[test]
    fn one_size_needs_no_share() {
        let sizes: Sizes = "3072".parse().unwrap();
        assert_eq!((sizes.of(1), sizes.to_string()), (3072, "3KiB".to_owned()));
        for wrong in ["", "1KiB:0", "1KiB:x", "much", "4", "1KiB,,2KiB"] {
            assert!(wrong.parse::<Sizes>().is_err(), "{wrong}");
        }
    }
}
