//! Numbers as people read them.

use std::borrow::Cow;
use std::time::Duration;

use crate::out::Format;

/// Bytes: `812 B`, `76.3 MiB`; with `--bytes` all digits.
pub fn bytes(bytes: u64, format: Format) -> String {
    match format.bytes {
        true => bytes.to_string(),
        false => size(bytes as f64),
    }
}

/// Bytes a second.
pub fn byte_rate(rate: f64, format: Format) -> String {
    match format.bytes {
        true => format!("{rate:.0} B/s"),
        false => format!("{}/s", size(rate)),
    }
}

/// A number with its thousands apart: `400,000`.
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// How many a second: `41,203`, and `0.4` where it is few.
pub fn rate(rate: f64) -> String {
    if rate > 0.0 && rate < 9.95 {
        return format!("{rate:.1}");
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "it saturates, and rates are not negative"
    )]
    let whole = rate.round() as u64;
    count(whole)
}

/// A part of a whole: `99.2 %`, and `–` of nothing.
pub fn share(part: u64, whole: u64) -> String {
    match whole {
        0 => "–".to_owned(),
        _ => format!("{:.1} %", 100.0 * part as f64 / whole as f64),
    }
}

/// A time: `850 ms`, `12 s`, `3m 12s`, `4h 05m`, `2d 03h`; with `--bytes` milliseconds.
pub fn time(ms: u64, format: Format) -> String {
    let seconds = ms / 1_000;
    let (minutes, hours, days) = (seconds / 60, seconds / 3_600, seconds / 86_400);
    match () {
        () if format.bytes => ms.to_string(),
        () if ms < 1_000 => format!("{ms} ms"),
        () if minutes == 0 => format!("{seconds} s"),
        () if hours == 0 => format!("{minutes}m {:02}s", seconds % 60),
        () if days == 0 => format!("{hours}h {:02}m", minutes % 60),
        () => format!("{days}d {:02}h", hours % 24),
    }
}

/// How long something took: `3.4 ms`, `850 ms`, `1.25 s`, and as [`time`] says it from a minute on.
pub fn took(time: Duration) -> String {
    let seconds = time.as_secs_f64();
    match () {
        () if seconds < 0.009_95 => format!("{:.1} ms", seconds * 1_000.0),
        () if seconds < 0.999_5 => format!("{:.0} ms", seconds * 1_000.0),
        () if seconds < 59.995 => format!("{seconds:.2} s"),
        () => self::time(time.as_secs() * 1_000, Format::default()),
    }
}

/// A point in time, in UTC: `2026-11-22 13:50:11Z`.
pub fn date(unix_ms: u64) -> String {
    let (seconds, days) = (unix_ms / 1_000 % 86_400, unix_ms / 86_400_000);
    // Counted in years of March to February, of which 400 have 146,097 days: the leap day is the last.
    let since = days + 719_468;
    let (era, day) = (since / 146_097, since % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (month, next) = if month < 10 {
        (month + 3, 0)
    } else {
        (month - 9, 1)
    };
    format!(
        "{:04}-{month:02}-{day:02} {:02}:{:02}:{:02}Z",
        era * 400 + year + next,
        seconds / 3_600,
        seconds / 60 % 60,
        seconds % 60
    )
}

/// `one` of it, or so many of `many`: `1 key`, `2 keys`.
pub fn of(number: u64, one: &'static str, many: &'static str) -> String {
    let what = if number == 1 { one } else { many };
    format!("{} {what}", count(number))
}

/// What others named, so that it shows itself and does nothing else to a terminal.
pub fn shown(text: &str) -> Cow<'_, str> {
    bowstring_wire::error::visible(text)
}

fn size(bytes: f64) -> String {
    let mut scaled = bytes;
    for unit in ["B", "KiB", "MiB", "GiB", "TiB"] {
        // What would be rounded up to 1024.0 is one of the next.
        if scaled < 1023.95 {
            return match unit {
                "B" => format!("{scaled:.0} B"),
                _ => format!("{scaled:.1} {unit}"),
            };
        }
        scaled /= 1024.0;
    }
    format!("{scaled:.1} PiB")
}

#[cfg(test)]
mod tests {
    use super::*;

    const HUMAN: Format = Format {
        json: false,
        bytes: false,
    };
    const EXACT: Format = Format {
        json: false,
        bytes: true,
    };

    #[test]
    fn bytes_have_units() {
        for (number, told) in [
            (0, "0 B"),
            (1_023, "1023 B"),
            (1_024, "1.0 KiB"),
            (80_000_000, "76.3 MiB"),
            ((1 << 20) - 1, "1.0 MiB"),
            (u64::MAX, "16384.0 PiB"),
        ] {
            assert_eq!(bytes(number, HUMAN), told);
            assert_eq!(bytes(number, EXACT), number.to_string());
        }
        assert_eq!(byte_rate(1536.0, HUMAN), "1.5 KiB/s");
    }

    #[test]
    fn numbers() {
        assert_eq!(count(0), "0");
        assert_eq!(count(1_234_567), "1,234,567");
        assert_eq!(
            (rate(0.0), rate(0.44), rate(1_234.4)),
            ("0".into(), "0.4".into(), "1,234".into())
        );
        assert_eq!((share(1, 3), share(0, 0)), ("33.3 %".into(), "–".into()));
        assert_eq!(
            (of(1, "key", "keys"), of(0, "key", "keys")),
            ("1 key".into(), "0 keys".into())
        );
    }

    #[test]
    fn times() {
        for (ms, told) in [
            (999, "999 ms"),
            (59_999, "59 s"),
            (192_000, "3m 12s"),
            (14_700_000, "4h 05m"),
            (183_600_000, "2d 03h"),
        ] {
            assert_eq!(time(ms, HUMAN), told);
            assert_eq!(time(ms, EXACT), ms.to_string());
        }
    }

    #[test]
    fn what_took_how_long() {
        for (micros, told) in [
            (40, "0.0 ms"),
            (3_400, "3.4 ms"),
            (9_960, "10 ms"),
            (999_400, "999 ms"),
            (999_600, "1.00 s"),
            (192_400_000, "3m 12s"),
        ] {
            assert_eq!(took(Duration::from_micros(micros)), told);
        }
    }

    #[test]
    fn dates() {
        for (ms, told) in [
            (0, "1970-01-01 00:00:00Z"),
            (951_782_399_999, "2000-02-28 23:59:59Z"),
            (951_782_400_000, "2000-02-29 00:00:00Z"),
            (1_795_355_411_000, "2026-11-22 13:50:11Z"),
            (4_107_542_400_000, "2100-03-01 00:00:00Z"),
        ] {
            assert_eq!(date(ms), told);
        }
    }
}
