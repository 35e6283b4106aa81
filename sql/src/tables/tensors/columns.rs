//! The columns of `tensors`.

use std::mem;
use std::sync::Arc;

use arrow_array::builder::{MapBuilder, MapFieldNames, StringBuilder};
use arrow_array::{ArrayRef, Int32Array, Int64Array, RecordBatch, RecordBatchOptions, StringArray};
use arrow_schema::{DataType, Field, Fields, Schema, SchemaRef};
use bowstring_cache::known::Known;
use bowstring_cache::scan::ScanItem;
use bowstring_wire::dtype::DType;
use bowstring_wire::error::Result;
use bowstring_wire::metadata::Metadata;
use bowstring_wire::name::{Key, Namespace};
use bowstring_wire::shape::Shape;
use bowstring_wire::version::Version;
use datafusion::common::project_schema;
use datafusion::error::DataFusionError;

use super::uniform::Uniform;
use super::value::Values;
use super::{KEY, NAMESPACE};
use crate::DfResult;
use crate::tables::{int, time, times};
use crate::tensor;

/// What is known of an entry.
#[derive(Debug)]
pub struct Row {
    pub key: Key,
    pub version: Version,
    pub dtype: DType,
    pub shape: Shape,
    pub bytes: u64,
    pub expires_at_ms: Option<u64>,
    pub tier: &'static str,
    /// What the key order does not say, where a column needs it.
    pub rest: Option<Rest>,
}

/// See [`Row::rest`].
#[derive(Debug)]
pub struct Rest {
    pub last_access_ms: Option<u64>,
    pub hits: u64,
    pub pins: i32,
    /// Not known of a row of a file.
    pub checksum: Option<u128>,
    pub metadata: Vec<u8>,
}

impl Row {
    /// What the order says.
    pub fn listed(item: ScanItem) -> Self {
        Self {
            key: item.key,
            version: item.version,
            dtype: item.dtype,
            shape: item.shape,
            bytes: item.bytes,
            expires_at_ms: item.expires_at_ms,
            tier: match (item.attached, item.below) {
                (true, _) => "attached",
                (false, true) => "cold",
                (false, false) => "hot",
            },
            rest: None,
        }
    }

    /// All that can be known without the tensor's bytes.
    pub fn known(known: &Known) -> Result<Self> {
        let (dtype, shape) = known.description();
        Ok(Self {
            key: Key::parse(known.key())?,
            version: known.version(),
            dtype,
            shape,
            bytes: known.bytes(),
            expires_at_ms: known.expires_at_ms(),
            tier: known.tier(),
            rest: Some(Rest {
                last_access_ms: known.last_access_ms(),
                hits: known.hits(),
                pins: i32::from(known.is_pinned()),
                checksum: known.checksum(),
                metadata: known.metadata().to_vec(),
            }),
        })
    }
}

/// The table's columns.
pub fn schema() -> SchemaRef {
    let text = |name| Field::new(name, DataType::Utf8, false);
    let count = |name| Field::new(name, DataType::Int64, false);
    Arc::new(Schema::new(vec![
        text(NAMESPACE),
        text(KEY),
        text("version"),
        text("dtype"),
        Field::new("shape", tensor::shape_type(), false),
        Field::new("rank", DataType::Int32, false),
        count("elements"),
        count("bytes"),
        text("tier"),
        time("created_at").with_nullable(false),
        time("last_access_at"),
        count("hits"),
        time("expires_at"),
        Field::new("pins", DataType::Int32, false),
        Field::new("checksum", DataType::Utf8, true),
        Field::new("metadata", metadata_type(), false),
        tensor::field("value"),
    ]))
}

/// The type of `metadata`, with the names of Arrow's own format: Java looks for them.
pub fn metadata_type() -> DataType {
    let entries = Fields::from(vec![
        Field::new("key", DataType::Utf8, false),
        Field::new("value", DataType::Utf8, true),
    ]);
    let entries = Field::new("entries", DataType::Struct(entries), false);
    DataType::Map(Arc::new(entries), false)
}

/// The columns that a query wants.
#[derive(Debug)]
pub struct Columns {
    schema: SchemaRef,
    /// What all tensors are, in a table of one namespace.
    uniform: Option<Uniform>,
}

impl Columns {
    /// Those of `projection`, in its order; all, where it is `None`.
    pub fn new(
        all: &SchemaRef,
        projection: Option<&Vec<usize>>,
        uniform: Option<Uniform>,
    ) -> DfResult<Self> {
        let schema = project_schema(all, projection)?;
        Ok(Self { schema, uniform })
    }

    /// The columns.
    pub fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    /// Whether entries have to be looked up one by one.
    pub fn want_rest(&self) -> bool {
        let rest = ["last_access_at", "hits", "pins", "checksum", "metadata"];
        rest.iter().any(|name| self.has(name))
    }

    /// Whether the tensors' bytes are asked for.
    pub fn want_values(&self) -> bool {
        self.has("value")
    }

    /// The table that they are of, for people.
    pub fn table(&self) -> String {
        match &self.uniform {
            Some(uniform) => format!("ns.{}", uniform.namespace.as_str()),
            None => "tensors".to_owned(),
        }
    }

    /// Their names, for people.
    pub fn names(&self) -> String {
        let names = self
            .schema
            .fields()
            .iter()
            .map(|field| field.name().as_str());
        names.collect::<Vec<_>>().join(", ")
    }

    fn has(&self, name: &str) -> bool {
        self.schema.column_with_name(name).is_some()
    }

    /// Rows of one namespace; `values` are those of the same rows, where a column of them is wanted.
    pub fn batch(
        &self,
        namespace: &Namespace,
        rows: &[Row],
        values: Values,
    ) -> DfResult<RecordBatch> {
        let mut values = values;
        let columns = self
            .schema
            .fields()
            .iter()
            .map(|field| match &**field.name() {
                "value" => self.value(rows, mem::take(&mut values)),
                name => column(name, namespace, rows),
            });
        let columns = columns.collect::<DfResult<Vec<_>>>()?;
        // Where no column is wanted, there is still a number of rows.
        let options = RecordBatchOptions::new().with_row_count(Some(rows.len()));
        Ok(RecordBatch::try_new_with_options(
            self.schema.clone(),
            columns,
            &options,
        )?)
    }

    fn value(&self, rows: &[Row], values: Values) -> DfResult<ArrayRef> {
        if let Some(uniform) = &self.uniform {
            return uniform.column(rows, values);
        }
        let dtypes = texts(rows.iter().map(|row| row.dtype.name()));
        let tensors = tensor::of_parts(dtypes, shapes(rows), values.finish()?)?;
        Ok(Arc::new(tensors))
    }
}

fn column(name: &str, namespace: &Namespace, rows: &[Row]) -> DfResult<ArrayRef> {
    let rest = |of: fn(&Rest) -> i64| -> DfResult<ArrayRef> {
        let numbers = rows.iter().map(|row| Ok(of(rest_of(row)?)));
        Ok(Arc::new(Int64Array::from_iter_values(
            numbers.collect::<DfResult<Vec<_>>>()?,
        )))
    };
    Ok(match name {
        NAMESPACE => Arc::new(StringArray::new_repeated(namespace.as_str(), rows.len())),
        KEY => texts(rows.iter().map(|row| row.key.as_str())),
        "version" => texts(rows.iter().map(|row| row.version.to_string())),
        "dtype" => texts(rows.iter().map(|row| row.dtype.name())),
        "shape" => shapes(rows),
        "rank" => {
            let ranks = rows
                .iter()
                .map(|row| i32::try_from(row.shape.rank()).unwrap_or(0));
            Arc::new(Int32Array::from_iter_values(ranks))
        }
        "elements" => ints(rows.iter().map(|row| row.shape.elements().unwrap_or(0))),
        "bytes" => ints(rows.iter().map(|row| row.bytes)),
        "tier" => texts(rows.iter().map(|row| row.tier)),
        // A version begins with the time at which it was made.
        "created_at" => times(rows.iter().map(|row| Some(row.version.ms()))),
        "last_access_at" => {
            let of = |row: &Row| row.rest.as_ref().and_then(|rest| rest.last_access_ms);
            times(rows.iter().map(of))
        }
        "hits" => rest(|rest| int(rest.hits))?,
        "expires_at" => times(rows.iter().map(|row| row.expires_at_ms)),
        "pins" => {
            let pins = rows.iter().map(|row| Ok(rest_of(row)?.pins));
            Arc::new(Int32Array::from_iter_values(
                pins.collect::<DfResult<Vec<_>>>()?,
            ))
        }
        "checksum" => {
            let sums = rows
                .iter()
                .map(|row| Ok(rest_of(row)?.checksum.map(|sum| format!("{sum:032x}"))));
            Arc::new(StringArray::from_iter(sums.collect::<DfResult<Vec<_>>>()?))
        }
        "metadata" => metadata(rows)?,
        other => {
            return Err(DataFusionError::Internal(format!(
                "no such column of tensors; column=`{other}`"
            )));
        }
    })
}

fn rest_of(row: &Row) -> DfResult<&Rest> {
    let missing = || DataFusionError::Internal("an entry was not looked up".to_owned());
    row.rest.as_ref().ok_or_else(missing)
}

fn texts(texts: impl Iterator<Item = impl AsRef<str>>) -> ArrayRef {
    Arc::new(StringArray::from_iter_values(texts))
}

fn ints(numbers: impl Iterator<Item = u64>) -> ArrayRef {
    Arc::new(Int64Array::from_iter_values(numbers.map(int)))
}

fn shapes(rows: &[Row]) -> ArrayRef {
    tensor::shapes(rows.iter().map(|row| &row.shape))
}

fn metadata(rows: &[Row]) -> DfResult<ArrayRef> {
    let names = MapFieldNames {
        entry: "entries".to_owned(),
        key: "key".to_owned(),
        value: "value".to_owned(),
    };
    let mut maps = MapBuilder::new(Some(names), StringBuilder::new(), StringBuilder::new());
    for row in rows {
        let metadata = Metadata::decode(&rest_of(row)?.metadata).map_err(crate::error::passed)?;
        for (name, value) in metadata.iter() {
            maps.keys().append_value(name);
            maps.values().append_value(value);
        }
        maps.append(true)?;
    }
    Ok(Arc::new(maps.finish()))
}
