//! What can be set in a session.

use bowstring_sql::{CATALOG, Limits, Scope};
use bowstring_wire::duration;

use super::messages::{OptionValue, Options, Value, Why};

/// Sets one option; a value with nothing in it takes it back.
pub fn set(
    scope: &mut Scope,
    limits: &Limits,
    (name, value): (&str, Option<&Value>),
) -> Result<(), Why> {
    match (name, value) {
        ("catalog", None) => {}
        ("catalog", Some(Value::Text(name))) if name == CATALOG => {}
        ("schema", None) => scope.set_schema(None).map_err(|_| Why::Error)?,
        ("schema", Some(Value::Text(name))) => {
            scope
                .set_schema(Some(name))
                .map_err(|_| Why::InvalidValue)?;
        }
        ("sql_timeout", None) => scope.set_timeout(None),
        ("sql_timeout", Some(Value::Text(time))) => {
            let timeout = duration::parse_non_zero(time).ok();
            let timeout = timeout.filter(|timeout| *timeout <= limits.timeout);
            scope.set_timeout(Some(timeout.ok_or(Why::InvalidValue)?));
        }
        ("sql_rows_max", None) => scope.set_rows_max(None),
        ("sql_rows_max", Some(value)) => {
            let rows = match value {
                Value::Int(rows) => u64::try_from(*rows).ok(),
                Value::Text(rows) => rows.parse().ok(),
                _ => None,
            };
            let rows = rows.filter(|rows| (1..=limits.rows).contains(rows));
            scope.set_rows_max(Some(rows.ok_or(Why::InvalidValue)?));
        }
        ("catalog" | "schema" | "sql_timeout", Some(_)) => return Err(Why::InvalidValue),
        _ => return Err(Why::InvalidName),
    }
    Ok(())
}

/// All options as they are.
pub fn all(scope: &Scope, limits: &Limits) -> Options {
    let timeout = scope.timeout(limits).as_millis();
    let rows = i64::try_from(scope.rows_max(limits)).unwrap_or(i64::MAX);
    let options = [
        ("catalog", Value::Text(CATALOG.to_owned())),
        ("schema", Value::Text(scope.schema().to_owned())),
        ("sql_timeout", Value::Text(format!("{timeout}ms"))),
        ("sql_rows_max", Value::Int(rows)),
    ]
    .map(|(name, value)| {
        let value = OptionValue { value: Some(value) };
        (name.to_owned(), value)
    });
    Options {
        options: options.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_set_within_the_settings_and_taken_back() {
        let limits = Limits::within(1 << 30, 2);
        let text = |text: &str| Some(Value::Text(text.to_owned()));
        let untouched = Scope::default();
        let mut scope = Scope::default();
        for (name, value, expected) in [
            ("catalog", text("bowstring"), Ok(())),
            ("catalog", text("other"), Err(Why::InvalidValue)),
            ("catalog", Some(Value::Int(1)), Err(Why::InvalidValue)),
            ("schema", text("ns"), Ok(())),
            ("schema", text("other"), Err(Why::InvalidValue)),
            ("schema", Some(Value::Bool(true)), Err(Why::InvalidValue)),
            ("sql_timeout", text("5s"), Ok(())),
            ("sql_timeout", text("0s"), Err(Why::InvalidValue)),
            ("sql_timeout", text("61s"), Err(Why::InvalidValue)),
            ("sql_timeout", Some(Value::Int(5)), Err(Why::InvalidValue)),
            ("sql_rows_max", Some(Value::Int(10)), Ok(())),
            ("sql_rows_max", text("9"), Ok(())),
            ("sql_rows_max", Some(Value::Int(0)), Err(Why::InvalidValue)),
            (
                "sql_rows_max",
                Some(Value::Int(i64::MAX)),
                Err(Why::InvalidValue),
            ),
            (
                "sql_rows_max",
                Some(Value::Double(1.0)),
                Err(Why::InvalidValue),
            ),
            ("colour", text("red"), Err(Why::InvalidName)),
            ("colour", None, Err(Why::InvalidName)),
        ] {
            let set = set(&mut scope, &limits, (name, value.as_ref()));
            assert_eq!(set, expected, "{name} {value:?}");
        }
        let shown = all(&scope, &limits).options;
        let shown = |name: &str| shown[name].value.clone();
        assert_eq!(shown("schema"), text("ns"));
        assert_eq!(shown("sql_timeout"), text("5000ms"));
        assert_eq!(shown("sql_rows_max"), Some(Value::Int(9)));
        for name in ["catalog", "schema", "sql_timeout", "sql_rows_max"] {
            set(&mut scope, &limits, (name, None)).unwrap();
        }
        assert_eq!(scope, untouched);
    }
}
