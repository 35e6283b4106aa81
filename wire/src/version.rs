//! Versions of entries: when, how often within that millisecond, and in which start.

use std::fmt;

use crate::error::{Error, Result, clip};
use crate::limits::MAX_QUOTED_BYTES;

/// The version of an entry: 96 bits, printed as one decimal string (never a JSON number).
///
/// Equality is exact, also over a restart; the order means something within one start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Version {
    /// A hybrid logical clock: 48 bits of Unix milliseconds, 16 of counter.
    pub hlc: u64,
    /// Drawn at random when the server started.
    pub start: u32,
}

impl Version {
    /// A version of its parts; of `ms` the low 48 bits.
    pub fn from_parts(ms: u64, counter: u16, start: u32) -> Version {
        Version {
            hlc: (ms << 16) | u64::from(counter),
            start,
        }
    }

    /// Unix milliseconds.
    pub fn ms(self) -> u64 {
        self.hlc >> 16
    }

    /// The counter within the millisecond.
    pub fn counter(self) -> u16 {
        #[expect(clippy::cast_possible_truncation, reason = "the low 16 bits are meant")]
        let counter = self.hlc as u16;
        counter
    }

    /// Reads what [`Display`](fmt::Display) prints: digits without sign or leading zero.
    ///
    /// # Errors
    /// `invalid_argument`.
    pub fn parse(text: &str) -> Result<Version> {
        let canonical = !text.is_empty()
            && text.bytes().all(|b| b.is_ascii_digit())
            && (text == "0" || !text.starts_with('0'));
        let number = canonical.then(|| text.parse::<u128>().ok()).flatten();
        let hlc = number.and_then(|number| u64::try_from(number >> 32).ok());
        match (number, hlc) {
            (Some(number), Some(hlc)) => Ok(Version {
                hlc,
                #[expect(clippy::cast_possible_truncation, reason = "the low 32 bits are meant")]
                start: number as u32,
            }),
            _ => Err(Error::invalid(format!(
                "not a version; version=`{}` expected the decimal digits of a number below 2^96",
                clip(text, MAX_QUOTED_BYTES).escape_debug(),
            ))),
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}",
            (u128::from(self.hlc) << 32) | u128::from(self.start)
        )
    }
}

impl serde::Serialize for Version {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn only_the_printed_form_is_read() {
        for bad in [
            "",
            "01",
            "+1",
            "-1",
            "1 ",
            "1.0",
            "0x1",
            "٣",
            "79228162514264337593543950336",
            "340282366920938463463374607431768211456",
        ] {
            assert!(Version::parse(bad).is_err(), "{bad}");
        }
        let largest = Version::from_parts((1 << 48) - 1, u16::MAX, u32::MAX);
        assert_eq!(largest.to_string(), "79228162514264337593543950335");
        assert_eq!(largest.counter(), u16::MAX);
        assert_eq!(largest.ms(), (1 << 48) - 1);
    }

    proptest! {
        #[test]
        fn round_trip(hlc in any::<u64>(), start in any::<u32>()) {
            let version = Version { hlc, start };
            prop_assert_eq!(Version::parse(&version.to_string()), Ok(version));
        }

        #[test]
        fn any_text_is_a_version_or_an_error(text in "\\PC*|[0-9]{20,40}") {
            if let Ok(version) = Version::parse(&text) {
                prop_assert_eq!(version.to_string(), text);
            }
        }
    }
}
