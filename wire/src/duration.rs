//! Spans of time as people write them: `500ms`, `60s`, `2m`, `1h`, `30d`.

use std::time::Duration;

use crate::limits::MAX_TTL_MS;

/// The longest span that a setting takes: a day. Longer ones are slips of the pen.
pub const DURATION_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// Reads an integer with a unit. A bare number is refused: seconds to one is milliseconds to
/// another.
pub fn parse(text: &str) -> Result<Duration, String> {
    read_ms(text)?
        .map(Duration::from_millis)
        .filter(|duration| *duration <= DURATION_MAX)
        .ok_or_else(|| format!("`{text}` is not a time of at most 24h, as `60s` or `500ms` are"))
}

/// Reads a span that is not zero, for limits where zero would refuse everybody.
pub fn parse_non_zero(text: &str) -> Result<Duration, String> {
    match parse(text)? {
        Duration::ZERO => Err(format!("`{text}` must be longer than zero")),
        duration => Ok(duration),
    }
}

/// Reads how long an entry lives, in milliseconds: more than nothing, and at most [`MAX_TTL_MS`].
pub fn parse_ttl_ms(text: &str) -> Result<u64, String> {
    read_ms(text)?
        .filter(|ms| (1..=MAX_TTL_MS).contains(ms))
        .ok_or_else(|| format!("`{text}` is not a time to live, as `90s`, `12h` or `30d` are"))
}

/// Milliseconds; none where it is no number, or too large for one.
fn read_ms(text: &str) -> Result<Option<u64>, String> {
    let text = text.trim();
    let unit_at = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(unit_at);
    let unit_ms = match unit.trim_start() {
        "ms" => 1,
        "s" => 1_000,
        "m" | "min" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        "" => return Err(format!("`{text}` needs a unit, as `60s` or `500ms`")),
        other => return Err(format!("unit `{other}` is none of ms, s, m, h, d")),
    };
    let number = number.parse::<u64>().ok();
    Ok(number.and_then(|number| number.checked_mul(unit_ms)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_each_unit() {
        assert_eq!(parse("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(parse("60s"), Ok(Duration::from_secs(60)));
        assert_eq!(parse("2m"), Ok(Duration::from_secs(120)));
        assert_eq!(parse("24h"), Ok(DURATION_MAX));
        assert_eq!(parse("1d"), Ok(DURATION_MAX));
        assert_eq!(parse("0s"), Ok(Duration::ZERO));
    }

    #[test]
    fn entries_live_for_up_to_a_hundred_years() {
        assert_eq!(parse_ttl_ms("90d"), Ok(90 * 86_400_000));
        assert_eq!(parse_ttl_ms("36500d"), Ok(MAX_TTL_MS));
        for wrong in ["0s", "36501d", "99999999999999999d", "d"] {
            assert!(
                parse_ttl_ms(wrong).unwrap_err().contains("as `90s`"),
                "{wrong}"
            );
        }
    }

    #[test]
    fn says_what_is_wrong() {
        assert!(parse("60").unwrap_err().contains("needs a unit"));
        assert!(parse("60 fortnights").unwrap_err().contains("`fortnights`"));
        assert!(parse("").is_err() && parse("s").is_err() && parse("-1s").is_err());
        assert!(parse("25h").is_err() && parse("99999999999999999999s").is_err());
        assert!(
            parse_non_zero("0s")
                .unwrap_err()
                .contains("longer than zero")
        );
    }
}
