//! What the server can, in the numbers of Flight SQL. Every one of them has a value: drivers fail over one that is missing.

use std::collections::HashMap;

use arrow_array::RecordBatch;
use arrow_flight::sql::metadata::{SqlInfoData, SqlInfoDataBuilder};
use arrow_flight::sql::{
    CommandGetSqlInfo, SqlInfo, SqlNullOrdering, SqlSupportedCaseSensitivity,
    SqlSupportedTransaction, SqlSupportsConvert,
};
use bowstring_sql::Limits;
use bowstring_sql::limits::STATEMENT_BYTES_MAX;
use bowstring_wire::error::{Error, Result};

use super::arrow_error;

/// More than anybody asks for: each is a pass over all.
const ASKED_MAX: usize = 1_000;

/// The rows that a command asks for.
pub fn batch(of: CommandGetSqlInfo, limits: &Limits) -> Result<RecordBatch> {
    if of.info.len() > ASKED_MAX {
        return Err(Error::exhausted(format!(
            "too many infos are asked for; got=`{}` limit=`{ASKED_MAX}`",
            of.info.len()
        )));
    }
    let infos = infos(limits).map_err(arrow_error)?;
    of.into_builder(&infos).build().map_err(arrow_error)
}

fn infos(limits: &Limits) -> std::result::Result<SqlInfoData, arrow_flight::error::FlightError> {
    use SqlInfo::*;
    let mut infos = SqlInfoDataBuilder::new();
    let timeout_ms = i32::try_from(limits.timeout.as_millis()).unwrap_or(i32::MAX);
    for (info, text) in [
        (FlightSqlServerName, "Bowstring"),
        (FlightSqlServerVersion, env!("CARGO_PKG_VERSION")),
        (FlightSqlServerArrowVersion, "59"),
        (FlightSqlServerSubstraitMinVersion, ""),
        (FlightSqlServerSubstraitMaxVersion, ""),
        (SqlIdentifierQuoteChar, "\""),
        (SqlSearchStringEscape, "\\"),
        (SqlExtraNameCharacters, ""),
        (SqlSchemaTerm, "schema"),
        (SqlProcedureTerm, "procedure"),
        (SqlCatalogTerm, "catalog"),
    ] {
        infos.append(info, text);
    }
    for (info, can) in [
        (FlightSqlServerReadOnly, false),
        (FlightSqlServerSql, true),
        (FlightSqlServerSubstrait, false),
        (FlightSqlServerCancel, true),
        (FlightSqlServerBulkIngestion, true),
        (FlightSqlServerIngestTransactionsSupported, false),
        (SqlDdlCatalog, false),
        (SqlDdlSchema, false),
        (SqlDdlTable, false),
        (SqlAllTablesAreSelectable, true),
        (SqlSupportsColumnAliasing, true),
        (SqlNullPlusNullIsNull, true),
        (SqlSupportsTableCorrelationNames, true),
        (SqlSupportsDifferentTableCorrelationNames, false),
        (SqlSupportsExpressionsInOrderBy, true),
        (SqlSupportsOrderByUnrelated, true),
        (SqlSupportsLikeEscapeClause, true),
        (SqlSupportsNonNullableColumns, true),
        (SqlSupportsIntegrityEnhancementFacility, false),
        (SqlCatalogAtStart, true),
        (SqlSelectForUpdateSupported, false),
        (SqlStoredProceduresSupported, false),
        (SqlCorrelatedSubqueriesSupported, true),
        (SqlMaxRowSizeIncludesBlobs, false),
        (SqlTransactionsSupported, false),
        (SqlDataDefinitionCausesTransactionCommit, false),
        (SqlDataDefinitionsInTransactionsIgnored, false),
        (SqlBatchUpdatesSupported, true),
        (SqlSavepointsSupported, false),
        (SqlNamedParametersSupported, false),
        (SqlLocatorsUpdateCopy, false),
        (SqlStoredFunctionsUsingCallSyntaxSupported, false),
    ] {
        infos.append(info, can);
    }
    for (info, word) in [
        (
            FlightSqlServerTransaction,
            SqlSupportedTransaction::None as i32,
        ),
        (FlightSqlServerStatementTimeout, timeout_ms),
        (FlightSqlServerTransactionTimeout, 0),
        (
            SqlIdentifierCase,
            SqlSupportedCaseSensitivity::SqlCaseSensitivityLowercase as i32,
        ),
        (
            SqlQuotedIdentifierCase,
            SqlSupportedCaseSensitivity::SqlCaseSensitivityCaseInsensitive as i32,
        ),
        (
            SqlNullOrdering,
            self::SqlNullOrdering::SqlNullsSortedHigh as i32,
        ),
        // Unrelated columns, and beyond the select list.
        (SqlSupportedGroupBy, 0b11),
        // Minimum, core and extended grammar; entry, intermediate and full level; limited and full outer joins.
        (SqlSupportedGrammar, 0b111),
        (SqlAnsi92SupportedLevel, 0b111),
        (SqlOuterJoinsSupportLevel, 0b110),
        (SqlSchemasSupportedActions, 0),
        (SqlCatalogsSupportedActions, 0),
        (SqlSupportedPositionedCommands, 0),
        // In comparisons, EXISTS, IN and quantified ones; UNION and UNION ALL.
        (SqlSupportedSubqueries, 0b1111),
        (SqlSupportedUnions, 0b11),
        (SqlSupportedTransactionsIsolationLevels, 0),
        // Forward only.
        (SqlSupportedResultSetTypes, 0b10),
        (SqlSupportedConcurrenciesForResultSetUnspecified, 0),
        (SqlSupportedConcurrenciesForResultSetForwardOnly, 0b10),
        (SqlSupportedConcurrenciesForResultSetScrollSensitive, 0),
        (SqlSupportedConcurrenciesForResultSetScrollInsensitive, 0),
    ] {
        infos.append(info, word);
    }
    // No limit, where none is known.
    for info in [
        SqlMaxBinaryLiteralLength,
        SqlMaxCharLiteralLength,
        SqlMaxColumnNameLength,
        SqlMaxColumnsInGroupBy,
        SqlMaxColumnsInIndex,
        SqlMaxColumnsInOrderBy,
        SqlMaxColumnsInSelect,
        SqlMaxColumnsInTable,
        SqlMaxConnections,
        SqlMaxCursorNameLength,
        SqlMaxIndexLength,
        SqlDbSchemaNameLength,
        SqlMaxProcedureNameLength,
        SqlMaxCatalogNameLength,
        SqlMaxRowSize,
        SqlMaxStatements,
        SqlMaxTableNameLength,
        SqlMaxTablesInSelect,
        SqlMaxUsernameLength,
    ] {
        infos.append(info, 0_i64);
    }
    let statement_bytes = i64::try_from(STATEMENT_BYTES_MAX).unwrap_or(0);
    infos.append(SqlMaxStatementLength, statement_bytes);
    // None; an ordinal of 32 bits by the protocol's text, and of 64 in Java, which fails over any other.
    infos.append(SqlDefaultTransactionIsolation, 0_i64);
    let words: &[(SqlInfo, &[&str])] = &[
        (
            SqlKeywords,
            &["EXPLAIN", "ILIKE", "LIMIT", "OFFSET", "SHOW"],
        ),
        (
            SqlNumericFunctions,
            &[
                "abs", "ceil", "exp", "floor", "ln", "log", "power", "round", "sqrt", "trunc",
            ],
        ),
        (
            SqlStringFunctions,
            &[
                "concat",
                "length",
                "lower",
                "replace",
                "starts_with",
                "strpos",
                "substr",
                "trim",
                "upper",
            ],
        ),
        (SqlSystemFunctions, &["coalesce", "nullif", "version"]),
        (
            SqlDatetimeFunctions,
            &["date_part", "date_trunc", "now", "to_timestamp"],
        ),
    ];
    for (info, words) in words {
        infos.append(*info, *words);
    }
    // What can be cast to what: everything of sense, which is not said pair by pair.
    infos.append(
        SqlSupportsConvert,
        HashMap::from([(self::SqlSupportsConvert::SqlConvertInteger as i32, vec![])]),
    );
    infos.build()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_info_has_a_value_and_those_asked_for_come() {
        let limits = Limits::within(1 << 30, 2);
        let all = batch(CommandGetSqlInfo::default(), &limits).unwrap();
        let known = (0..1_000).filter(|number| SqlInfo::try_from(*number).is_ok());
        assert_eq!(all.num_rows(), known.count());
        let two = CommandGetSqlInfo {
            info: vec![0, 3, 9_999],
        };
        assert_eq!(batch(two, &limits).unwrap().num_rows(), 2);
        let many = CommandGetSqlInfo {
            info: vec![0; ASKED_MAX + 1],
        };
        assert!(batch(many, &limits).is_err());
    }
}
