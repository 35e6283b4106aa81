//! Queries over a real cache.
//!
//! `reading`: what the tables say; `finding`: look-ups, walks and early ends; `values`: the bytes of tensors;
//! `asking`: schemas, parameters and the catalogue; `changing`, `racing`: DELETE and UPDATE; `running_away`: what queries may not do

mod asking;
mod changing;
mod finding;
mod racing;
mod reading;
mod running_away;
mod values;

use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_cast::pretty::pretty_format_batches;
use bowstring_cache::clock::ManualClock;
use bowstring_cache::put::{Mode, PutSpec};
use bowstring_cache::{Cache, CacheConfig, Id};
use bowstring_wire::dtype::DType;
use bowstring_wire::error::Result;
use bowstring_wire::name::{Key, Namespace, Tenant};
use bowstring_wire::shape::Shape;

use crate::{Figure, Limits, Setting, Sql, settings, stats};

const MIB: u64 = 1 << 20;
const NOW_MS: u64 = 1_700_000_000_000;

/// A cache, and queries over it.
struct Bed {
    cache: Cache,
    clock: Arc<ManualClock>,
    sql: Sql,
}

impl Bed {
    fn new() -> Self {
        Self::with(|_| {})
    }

    fn with(change: impl FnOnce(&mut Limits)) -> Self {
        let clock = Arc::new(ManualClock::new(NOW_MS));
        let config = CacheConfig {
            memory: 256 * MIB,
            ..CacheConfig::default()
        };
        let cache = Cache::new(config, Arc::clone(&clock) as _).unwrap();
        let mut limits = Limits {
            threads: 2,
            ..Limits::within(256 * MIB, 2)
        };
        change(&mut limits);
        let figures = cache.clone();
        let brought = vec![
            stats(move || vec![Figure::new("entries", figures.stats().entries)]),
            settings(vec![Setting {
                name: "memory".to_owned(),
                value: Some("256MiB".to_owned()),
            }]),
        ];
        let sql = Sql::new(cache.clone(), brought, limits).unwrap();
        Self { cache, clock, sql }
    }

    /// Puts `values` as a vector of float32.
    async fn put(&self, namespace: &str, key: &str, values: &[f32]) {
        self.put_for(&Tenant::public(), namespace, key, values)
            .await;
    }

    async fn put_for(&self, tenant: &Tenant, namespace: &str, key: &str, values: &[f32]) {
        let bytes: Vec<u8> = values
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect();
        let id = Id {
            tenant: tenant.clone(),
            namespace: Namespace::parse(namespace).unwrap(),
            key: Key::parse(key).unwrap(),
        };
        let mut spec = PutSpec::new(DType::Float32);
        spec.mode = Mode::Replace;
        let mut put = self.cache.put(id, spec).unwrap();
        put.reserve(bytes.len() as u64).await.unwrap();
        put.write(&bytes).unwrap();
        let shape = Shape::new(&[values.len() as u64]).unwrap();
        put.publish(shape).await.unwrap();
    }

    async fn batches(&self, text: &str) -> Result<Vec<RecordBatch>> {
        self.batches_for(&Tenant::public(), text).await
    }

    async fn batches_for(&self, tenant: &Tenant, text: &str) -> Result<Vec<RecordBatch>> {
        let plan = self.sql.plan(tenant, text).await?;
        let mut answer = self.sql.run(&plan, Ok).await?;
        let mut batches = Vec::new();
        while let Some(batch) = answer.next().await? {
            assert_eq!(batch.schema(), *plan.schema());
            batches.push(batch);
        }
        Ok(batches)
    }

    /// The answer as a table of text, a line a row, without its frame.
    async fn rows(&self, text: &str) -> Vec<String> {
        let batches = self.batches(text).await.unwrap();
        rows(&batches)
    }

    async fn one(&self, text: &str) -> String {
        self.rows(text).await.join("\n")
    }
}

fn rows(batches: &[RecordBatch]) -> Vec<String> {
    let table = pretty_format_batches(batches).unwrap().to_string();
    let lines = table.lines().filter(|line| line.starts_with('|')).skip(1);
    let cells = lines.map(|line| {
        let cells = line.trim_matches('|').split('|').map(str::trim);
        cells.collect::<Vec<_>>().join(" ")
    });
    cells.collect()
}
