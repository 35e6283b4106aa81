//! The tables that there are, for catalogues.

use std::sync::Arc;

use arrow_schema::SchemaRef;
use bowstring_wire::error::Result;
use bowstring_wire::name::Tenant;
use datafusion::catalog::SchemaProvider;
use datafusion::catalog::information_schema::{INFORMATION_SCHEMA, InformationSchemaProvider};
use datafusion::datasource::TableType;

use super::Sql;
use crate::catalog::{ALIKE, SCHEMA};
use crate::{error, tables};

/// A table, as the catalogue names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// The schema that it is in.
    pub schema: &'static str,
    /// Its name.
    pub name: String,
    /// `TABLE` or `VIEW`.
    pub kind: &'static str,
    /// Its columns.
    pub columns: SchemaRef,
}

impl Sql {
    /// The tables there are, in order of their schemas and names.
    pub async fn tables(&self, tenant: &Tenant) -> Result<Vec<Table>> {
        let own = tables::of(&self.0.cache, tenant, &self.0.normal, &self.0.brought);
        let about = InformationSchemaProvider::new(Arc::new(own.clone()));
        let alike = own.alike();
        // Not `table_names` of what would wait for these threads.
        let schemas: [(&'static str, &dyn SchemaProvider, Vec<String>); 3] = [
            (SCHEMA, &own, own.table_names()),
            (INFORMATION_SCHEMA, &about, about.table_names()),
            (ALIKE, alike, alike.names()),
        ];
        let mut all = Vec::new();
        for (schema, provider, mut names) in schemas {
            names.sort();
            for name in names {
                let table = provider.table(&name).await;
                let Some(table) = table.map_err(|error| error::of(&error))? else {
                    continue;
                };
                let kind = match table.table_type() {
                    TableType::Base => "TABLE",
                    TableType::View | TableType::Temporary => "VIEW",
                };
                let columns = table.schema();
                all.push(Table {
                    schema,
                    name,
                    kind,
                    columns,
                });
            }
        }
        Ok(all)
    }
}
