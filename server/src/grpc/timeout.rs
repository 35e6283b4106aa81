//! The header `grpc-timeout`: at most eight digits and a unit.

use std::time::Duration;

use bowstring_wire::error::{Error, Result};
use http::HeaderMap;

/// The deadline the caller gave, if any.
pub fn parse(headers: &HeaderMap) -> Result<Option<Duration>> {
    let Some(value) = headers.get("grpc-timeout") else {
        return Ok(None);
    };
    let bad = || {
        Error::invalid(format!(
            "grpc-timeout must be at most 8 digits and one of H, M, S, m, u, n; got=`{value:?}`"
        ))
    };
    let text = value.to_str().map_err(|_| bad())?;
    let (digits, unit) = text
        .split_at_checked(text.len().wrapping_sub(1))
        .ok_or_else(bad)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(bad());
    }
    let n: u64 = digits.parse().map_err(|_| bad())?;
    Ok(Some(match unit {
        "H" => Duration::from_secs(n * 3600),
        "M" => Duration::from_secs(n * 60),
        "S" => Duration::from_secs(n),
        "m" => Duration::from_millis(n),
        "u" => Duration::from_micros(n),
        "n" => Duration::from_nanos(n),
        _ => return Err(bad()),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(value: &str) -> Result<Option<Duration>> {
        let mut headers = HeaderMap::new();
        headers.insert("grpc-timeout", value.parse().unwrap());
        parse(&headers)
    }

    #[test]
    fn units_and_refusals() {
        assert_eq!(parse(&HeaderMap::new()), Ok(None));
        assert_eq!(of("15S"), Ok(Some(Duration::from_secs(15))));
        assert_eq!(
            of("99999999H"),
            Ok(Some(Duration::from_secs(99_999_999 * 3600)))
        );
        assert_eq!(of("250m"), Ok(Some(Duration::from_millis(250))));
        for bad in ["", "S", "1", "-1S", "123456789S", "1X", "1é"] {
            let _ = of(bad).map(|_| panic!("{bad} was taken"));
        }
    }
}
