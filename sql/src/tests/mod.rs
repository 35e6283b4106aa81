//! Queries over a real cache.
//!
//! `reading`: what the tables say; `operating`: those that operators ask; `finding`: look-ups, walks and early ends; `values`: the
//! bytes of tensors; `asking`: schemas, parameters and the catalogue; `changing`, `racing`: DELETE and UPDATE; `annotating`: of metadata; `inserting`: INSERT; `running_away`:
//! what queries may not do; `functions`: numbers of tensors; `parts`: their elements and slices; `named`: tensors that a query
//! names; `alike`: a table for each namespace; `allowing`: what statements read; `limiting`: sessions, and the disk;
//! `counting`: what is counted of queries
#![expect(clippy::cast_possible_truncation, reason = "small figures")]

mod alike;
mod allowing;
mod annotating;
mod asking;
mod changing;
mod counting;
mod finding;
mod functions;
mod inserting;
mod limiting;
mod named;
mod operating;
mod parts;
mod racing;
mod reading;
mod running_away;
mod values;

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::Float64Type;
use arrow_array::{Array, RecordBatch};
use arrow_cast::pretty::pretty_format_batches;
use arrow_schema::DataType;
use bowstring_cache::clock::ManualClock;
use bowstring_cache::put::PutSpec;
use bowstring_cache::{Cache, CacheConfig, Id};
use bowstring_wire::descriptor::Mode;
use bowstring_wire::dtype::DType;
use bowstring_wire::error::{Error, Result};
use bowstring_wire::name::{Key, Namespace, Tenant};
use bowstring_wire::shape::Shape;

use crate::{Figure, Limits, Setting, Sql, SqlStats, settings, stats};

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
        Self::at(NOW_MS, change)
    }

    /// Where the clock shows this.
    fn at(now_ms: u64, change: impl FnOnce(&mut Limits)) -> Self {
        let clock = Arc::new(ManualClock::new(now_ms));
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
            stats(move |_| Ok(vec![Figure::new("entries", figures.stats().entries)])),
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
        let shape = [values.len() as u64];
        self.put_bytes((tenant, namespace, key), DType::Float32, &shape, &bytes)
            .await;
    }

    /// Puts a tensor of any dtype and shape.
    async fn put_as(&self, namespace: &str, key: &str, dtype: DType, shape: &[u64], bytes: &[u8]) {
        self.put_bytes((&Tenant::public(), namespace, key), dtype, shape, bytes)
            .await;
    }

    async fn put_bytes(
        &self,
        (tenant, namespace, key): (&Tenant, &str, &str),
        dtype: DType,
        shape: &[u64],
        bytes: &[u8],
    ) {
        let id = Id {
            tenant: tenant.clone(),
            namespace: Namespace::parse(namespace).unwrap(),
            key: Key::parse(key).unwrap(),
        };
        let spec = PutSpec {
            mode: Mode::Replace,
            ..PutSpec::new(dtype)
        };
        let mut put = self.cache.put(id, spec).unwrap();
        put.reserve(bytes.len() as u64).await.unwrap();
        put.write(bytes).unwrap();
        put.publish(Shape::new(shape).unwrap()).await.unwrap();
    }

    async fn delete(&self, namespace: &str, key: &str) {
        let id = Id::public(
            Namespace::parse(namespace).unwrap(),
            Key::parse(key).unwrap(),
        );
        self.cache.delete(&id, None).await.unwrap();
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

    /// All columns of the answer's rows as numbers.
    async fn numbers(&self, text: &str) -> Vec<Vec<Option<f64>>> {
        let batches = self.batches(text).await.unwrap();
        let mut found = Vec::new();
        for batch in &batches {
            let columns = batch.columns().iter();
            let columns: Vec<_> = columns
                .map(|column| arrow_cast::cast(column, &DataType::Float64).unwrap())
                .collect();
            for row in 0..batch.num_rows() {
                let cells = columns.iter().map(|column| {
                    let column = column.as_primitive::<Float64Type>();
                    column.is_valid(row).then(|| column.value(row))
                });
                found.push(cells.collect());
            }
        }
        found
    }

    async fn error(&self, text: &str) -> Error {
        match self.batches(text).await {
            Ok(batches) => panic!("{} batches of {text}", batches.len()),
            Err(error) => error,
        }
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
