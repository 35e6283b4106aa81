//! What a query finds by name: the catalog `bowstring` with the schemas `cache` and `ns`. DataFusion adds `information_schema`.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::catalog::{CatalogProvider, CatalogProviderList, SchemaProvider, TableProvider};

use crate::DfResult;
use crate::tables::alike::Alike;

/// The one catalog.
pub const CATALOG: &str = "bowstring";
/// The schema that is meant where none is named.
pub const SCHEMA: &str = "cache";
/// The schema of a table for each namespace.
pub const ALIKE: &str = "ns";

/// One tenant's tables, as catalogs, catalog and the schema `cache`. Cheap to clone.
#[derive(Clone)]
pub struct Tables {
    cache: Arc<BTreeMap<String, Arc<dyn TableProvider>>>,
    alike: Arc<Alike>,
}

impl Tables {
    /// The tables of `cache`, and the schema `ns`.
    pub fn new(
        tables: impl IntoIterator<Item = (String, Arc<dyn TableProvider>)>,
        alike: Alike,
    ) -> Self {
        Self {
            cache: Arc::new(tables.into_iter().collect()),
            alike: Arc::new(alike),
        }
    }

    /// The schema `ns`.
    pub fn alike(&self) -> &Alike {
        &self.alike
    }
}

impl fmt::Debug for Tables {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.cache.keys()).finish()
    }
}

impl CatalogProviderList for Tables {
    fn register_catalog(
        &self,
        _: String,
        _: Arc<dyn CatalogProvider>,
    ) -> Option<Arc<dyn CatalogProvider>> {
        None
    }

    fn catalog_names(&self) -> Vec<String> {
        vec![CATALOG.to_owned()]
    }

    fn catalog(&self, name: &str) -> Option<Arc<dyn CatalogProvider>> {
        (name == CATALOG).then(|| Arc::new(self.clone()) as Arc<dyn CatalogProvider>)
    }
}

impl CatalogProvider for Tables {
    fn schema_names(&self) -> Vec<String> {
        vec![SCHEMA.to_owned(), ALIKE.to_owned()]
    }

    fn schema(&self, name: &str) -> Option<Arc<dyn SchemaProvider>> {
        match name {
            SCHEMA => Some(Arc::new(self.clone())),
            ALIKE => Some(self.alike.clone()),
            _ => None,
        }
    }
}

#[async_trait]
impl SchemaProvider for Tables {
    fn table_names(&self) -> Vec<String> {
        self.cache.keys().cloned().collect()
    }

    async fn table(&self, name: &str) -> DfResult<Option<Arc<dyn TableProvider>>> {
        Ok(self.cache.get(name).cloned())
    }

    fn table_exist(&self, name: &str) -> bool {
        self.cache.contains_key(name)
    }
}
