//! What a session has otherwise than the settings say.

use std::time::Duration;

use bowstring_wire::error::{Error, Result, clip};

use crate::catalog::{ALIKE, SCHEMA};
use crate::limits::Limits;

/// The schemas that can be meant where a statement names none.
pub const SCHEMAS: [&str; 3] = [SCHEMA, ALIKE, "information_schema"];

/// What one query has otherwise than the settings say: it may have less, never more.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scope {
    schema: Option<String>,
    timeout: Option<Duration>,
    rows_max: Option<u64>,
}

impl Scope {
    /// The schema that is meant where none is named.
    pub fn schema(&self) -> &str {
        self.schema.as_deref().unwrap_or(SCHEMA)
    }

    /// How long a query may take.
    pub fn timeout(&self, limits: &Limits) -> Duration {
        let timeout = self.timeout.unwrap_or(limits.timeout);
        timeout.min(limits.timeout)
    }

    /// How many rows an answer may have.
    pub fn rows_max(&self, limits: &Limits) -> u64 {
        self.rows_max.unwrap_or(limits.rows).min(limits.rows)
    }

    /// Sets the schema; `None` is the one of the settings again.
    ///
    /// # Errors
    /// `invalid_argument` where there is none of that name.
    pub fn set_schema(&mut self, schema: Option<&str>) -> Result<()> {
        match schema {
            Some(schema) if !SCHEMAS.contains(&schema) => Err(Error::invalid(format!(
                "no such schema; got=`{}` expected=`{}`",
                clip(schema, 64),
                SCHEMAS.join("`, `")
            ))),
            schema => {
                self.schema = schema.map(str::to_owned);
                Ok(())
            }
        }
    }

    /// Sets how long a query may take, where that is less than the setting.
    pub fn set_timeout(&mut self, timeout: Option<Duration>) {
        self.timeout = timeout;
    }

    /// Sets how many rows an answer may have, where that is less than the setting.
    pub fn set_rows_max(&mut self, rows_max: Option<u64>) {
        self.rows_max = rows_max;
    }

    /// What was set, in this order: schema, time, rows.
    pub fn set(&self) -> (Option<&str>, Option<Duration>, Option<u64>) {
        (self.schema.as_deref(), self.timeout, self.rows_max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scope_has_less_than_the_settings_never_more() {
        let limits = Limits::within(1 << 30, 2);
        let mut scope = Scope::default();
        assert_eq!(scope.schema(), "cache");
        assert_eq!(scope.timeout(&limits), limits.timeout);
        assert_eq!(scope.rows_max(&limits), limits.rows);
        scope.set_timeout(Some(Duration::MAX));
        scope.set_rows_max(Some(u64::MAX));
        assert_eq!(scope.timeout(&limits), limits.timeout);
        assert_eq!(scope.rows_max(&limits), limits.rows);
        scope.set_timeout(Some(Duration::from_secs(1)));
        scope.set_rows_max(Some(7));
        assert_eq!(scope.timeout(&limits), Duration::from_secs(1));
        assert_eq!(scope.rows_max(&limits), 7);
        assert!(scope.set_schema(Some("elsewhere")).is_err());
        scope.set_schema(Some("ns")).unwrap();
        assert_eq!(scope.schema(), "ns");
    }
}
