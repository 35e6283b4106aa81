//! Catalogs, schemas, tables and keys.

use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_flight::sql::Command;
use arrow_flight::sql::metadata::GetCatalogsBuilder;
use arrow_schema::{DataType, Field, Schema};
use bowstring_sql::{CATALOG, Sql};
use bowstring_wire::error::Result;
use bowstring_wire::name::Tenant;

use super::arrow_error;

/// The kinds of tables.
const KINDS: [&str; 2] = ["TABLE", "VIEW"];

/// Answers a question about the catalogue; gives any other back.
pub async fn batch(
    sql: &Sql,
    tenant: &Tenant,
    command: Command,
) -> Result<std::result::Result<RecordBatch, Command>> {
    let batch = match command {
        Command::CommandGetCatalogs(_) => {
            let mut catalogs = GetCatalogsBuilder::new();
            catalogs.append(CATALOG);
            catalogs.build()
        }
        Command::CommandGetDbSchemas(of) => {
            let mut schemas = of.into_builder();
            let mut names: Vec<_> = sql
                .tables(tenant)
                .await?
                .iter()
                .map(|it| it.schema)
                .collect();
            names.dedup();
            names.iter().for_each(|name| schemas.append(CATALOG, name));
            schemas.build()
        }
        Command::CommandGetTables(of) => {
            let mut tables = of.into_builder();
            for table in sql.tables(tenant).await? {
                let (name, kind) = (&table.name, table.kind);
                tables
                    .append(CATALOG, table.schema, name, kind, &table.columns)
                    .map_err(arrow_error)?;
            }
            tables.build()
        }
        Command::CommandGetTableTypes(of) => {
            let mut kinds = of.into_builder();
            KINDS.iter().for_each(|kind| kinds.append(kind));
            kinds.build()
        }
        // No table has keys of its own that SQL knows of.
        Command::CommandGetPrimaryKeys(_) => Ok(RecordBatch::new_empty(primary_keys())),
        Command::CommandGetExportedKeys(_)
        | Command::CommandGetImportedKeys(_)
        | Command::CommandGetCrossReference(_) => Ok(RecordBatch::new_empty(foreign_keys())),
        other => return Ok(Err(other)),
    };
    batch.map(Ok).map_err(arrow_error)
}

fn primary_keys() -> Arc<Schema> {
    Arc::new(Schema::new(vec![
        Field::new("catalog_name", DataType::Utf8, true),
        Field::new("db_schema_name", DataType::Utf8, true),
        Field::new("table_name", DataType::Utf8, false),
        Field::new("column_name", DataType::Utf8, false),
        Field::new("key_name", DataType::Utf8, true),
        Field::new("key_sequence", DataType::Int32, false),
    ]))
}

fn foreign_keys() -> Arc<Schema> {
    Arc::new(Schema::new(vec![
        Field::new("pk_catalog_name", DataType::Utf8, true),
        Field::new("pk_db_schema_name", DataType::Utf8, true),
        Field::new("pk_table_name", DataType::Utf8, false),
        Field::new("pk_column_name", DataType::Utf8, false),
        Field::new("fk_catalog_name", DataType::Utf8, true),
        Field::new("fk_db_schema_name", DataType::Utf8, true),
        Field::new("fk_table_name", DataType::Utf8, false),
        Field::new("fk_column_name", DataType::Utf8, false),
        Field::new("key_sequence", DataType::Int32, false),
        Field::new("fk_key_name", DataType::Utf8, true),
        Field::new("pk_key_name", DataType::Utf8, true),
        Field::new("update_rule", DataType::UInt8, false),
        Field::new("delete_rule", DataType::UInt8, false),
    ]))
}
