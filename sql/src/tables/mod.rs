//! The tables of the schemas `cache` and `ns`.
//!
//! - `tensors`: what is in the cache, an entry a row
//! - `namespaces`: their limits, use and hits
//! - `memory`, `evictions`, `loads`, `stats`, `settings`: small ones, each made in one piece ([`live`])
//! - `alike`: the schema `ns`, of a table for each namespace

pub mod alike;
mod evictions;
pub mod live;
mod loads;
mod memory;
mod namespaces;
pub mod settings;
pub mod stats;
pub mod tensors;

use std::sync::Arc;

use arrow_array::{ArrayRef, TimestampMillisecondArray};
use arrow_schema::{DataType, Field, SchemaRef, TimeUnit};
use bowstring_cache::Cache;
use bowstring_wire::name::Tenant;
use datafusion::catalog::TableProvider;

use self::alike::Alike;
use self::live::{Live, LiveTable};
use self::namespaces::Namespaces;
use self::tensors::Tensors;
use crate::catalog::Tables;
use crate::normal::Normal;

/// A tenant's tables. `brought` are the server's.
pub fn of(cache: &Cache, tenant: &Tenant, normal: &Normal, brought: &[Live]) -> Tables {
    let tensors = Tensors::new(cache.clone(), tenant.clone(), normal.clone());
    let namespaces = Namespaces::new(cache.clone(), tenant.clone(), normal.handle.clone());
    let own: [(String, Arc<dyn TableProvider>); 2] = [
        ("tensors".to_owned(), Arc::new(tensors)),
        ("namespaces".to_owned(), Arc::new(namespaces)),
    ];
    let small = [
        memory::memory(cache.clone()),
        evictions::evictions(cache.clone()),
        loads::loads(cache.clone()),
    ];
    let small = brought.iter().cloned().chain(small).map(|live| {
        let name = live.name().to_owned();
        let table = LiveTable::new(live, tenant.clone(), normal.handle.clone());
        let table: Arc<dyn TableProvider> = Arc::new(table);
        (name, table)
    });
    let alike = Alike::new(cache.clone(), tenant.clone(), normal.clone());
    Tables::new(own.into_iter().chain(small), alike)
}

/// The columns of `tensors`.
pub fn tensor_columns() -> SchemaRef {
    tensors::columns()
}

/// Unix milliseconds, shown as a time.
fn time(name: &str) -> Field {
    Field::new(
        name,
        DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into())),
        true,
    )
}

fn times(of: impl Iterator<Item = Option<u64>>) -> ArrayRef {
    let times = of.map(|ms| ms.map(int));
    Arc::new(TimestampMillisecondArray::from_iter(times).with_timezone("UTC"))
}

/// Counts are `int64`, which every client has; none comes so far.
pub fn int(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}
