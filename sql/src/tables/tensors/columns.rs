//! The columns of `tensors`.

use std::mem;
use std::sync::Arc;

use arrow_array::builder::{MapBuilder, MapFieldNames, StringBuilder};
use arrow_array::{ArrayRef, Int32Array, Int64Array, RecordBatch, RecordBatchOptions, StringArray};
use arrow_schema::{DataType, Field, Fields, Schema, SchemaRef};
use bowstring_wire::metadata::Metadata;
use bowstring_wire::name::Namespace;
use datafusion::common::project_schema;
use datafusion::error::DataFusionError;

use super::rows::{Rest, Rows, Wants};
use super::uniform::Uniform;
use super::value::Values;
use super::{KEY, NAMESPACE};
use crate::DfResult;
use crate::tables::{int, time, times};
use crate::tensor;

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

/// What makes a column of that type.
pub fn map_builder() -> MapBuilder<StringBuilder, StringBuilder> {
    let names = MapFieldNames {
        entry: "entries".to_owned(),
        key: "key".to_owned(),
        value: "value".to_owned(),
    };
    MapBuilder::new(Some(names), StringBuilder::new(), StringBuilder::new())
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

    /// What is needed of a row.
    pub fn wants(&self) -> Wants {
        let any = |names: &[&str]| names.iter().any(|name| self.has(name));
        // Of a table whose rows are alike, the one that is not is told by its key.
        let is_checked = self.uniform.is_some() && self.want_values();
        Wants {
            key: any(&[KEY]) || is_checked,
            version: any(&["version", "created_at"]),
            form: any(&["dtype", "shape", "rank", "elements", "value"]),
            bytes: any(&["bytes"]),
            expires_at: any(&["expires_at"]),
            tier: any(&["tier"]),
            rest: any(&["last_access_at", "hits", "pins", "checksum", "metadata"]),
        }
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
        rows: Rows,
        values: Values,
    ) -> DfResult<RecordBatch> {
        // Where no column is wanted, there is still a number of rows.
        let options = RecordBatchOptions::new().with_row_count(Some(rows.len()));
        let mut values = values;
        let columns = self
            .schema
            .fields()
            .iter()
            .map(|field| match &**field.name() {
                "value" => self.value(&rows, mem::take(&mut values)),
                KEY => Ok(Arc::new(rows.keys()?) as ArrayRef),
                name => column(name, namespace, &rows),
            });
        let columns = columns.collect::<DfResult<Vec<_>>>()?;
        Ok(RecordBatch::try_new_with_options(
            self.schema.clone(),
            columns,
            &options,
        )?)
    }

    fn value(&self, rows: &Rows, values: Values) -> DfResult<ArrayRef> {
        if let Some(uniform) = &self.uniform {
            return uniform.column(rows, values);
        }
        let tensors = tensor::of_parts(dtypes(rows), shapes(rows), values.finish()?)?;
        Ok(Arc::new(tensors))
    }
}

fn column(name: &str, namespace: &Namespace, rows: &Rows) -> DfResult<ArrayRef> {
    Ok(match name {
        NAMESPACE => Arc::new(StringArray::new_repeated(namespace.as_str(), rows.len())),
        "version" => texts(rows.versions.iter().map(ToString::to_string)),
        "dtype" => dtypes(rows),
        "shape" => shapes(rows),
        "rank" => {
            let ranks = rows.each_form().map(|form| form.shape.rank());
            let ranks = ranks.map(|rank| i32::try_from(rank).unwrap_or(0));
            Arc::new(Int32Array::from_iter_values(ranks))
        }
        "elements" => ints(
            rows.each_form()
                .map(|form| form.shape.elements().unwrap_or(0)),
        ),
        "bytes" => ints(rows.bytes.iter().copied()),
        "tier" => texts(rows.tiers.iter()),
        // A version begins with the time at which it was made.
        "created_at" => times(rows.versions.iter().map(|version| Some(version.ms()))),
        "last_access_at" => times(rests(rows)?.iter().map(|rest| rest.last_access_ms)),
        "hits" => ints(rests(rows)?.iter().map(|rest| rest.hits)),
        "expires_at" => times(rows.expires_at_ms.iter().copied()),
        "pins" => {
            let pins = rests(rows)?.iter().map(|rest| rest.pins);
            Arc::new(Int32Array::from_iter_values(pins))
        }
        "checksum" => {
            let sums = rests(rows)?.iter().map(|rest| rest.checksum);
            let sums = sums.map(|sum| sum.map(|sum| format!("{sum:032x}")));
            Arc::new(sums.collect::<StringArray>())
        }
        "metadata" => metadata(rests(rows)?)?,
        other => {
            return Err(DataFusionError::Internal(format!(
                "no such column of tensors; column=`{other}`"
            )));
        }
    })
}

fn rests(rows: &Rows) -> DfResult<&[Rest]> {
    let is_there = rows.rests.len() == rows.len();
    let missing = || DataFusionError::Internal("an entry was not looked up".to_owned());
    is_there.then_some(&*rows.rests).ok_or_else(missing)
}

fn texts(texts: impl ExactSizeIterator<Item = impl AsRef<str>>) -> ArrayRef {
    Arc::new(StringArray::from_iter_values(texts))
}

fn ints(numbers: impl Iterator<Item = u64>) -> ArrayRef {
    Arc::new(Int64Array::from_iter_values(numbers.map(int)))
}

fn dtypes(rows: &Rows) -> ArrayRef {
    let mut dtypes = StringBuilder::new();
    for form in rows.each_form() {
        dtypes.append_value(form.dtype.name());
    }
    Arc::new(dtypes.finish())
}

fn shapes(rows: &Rows) -> ArrayRef {
    tensor::shapes(rows.each_form().map(|form| &form.shape))
}

fn metadata(rests: &[Rest]) -> DfResult<ArrayRef> {
    let mut maps = map_builder();
    for rest in rests {
        let metadata = Metadata::decode(&rest.metadata).map_err(crate::error::passed)?;
        for (name, value) in metadata.iter() {
            maps.keys().append_value(name);
            maps.values().append_value(value);
        }
        maps.append(true)?;
    }
    Ok(Arc::new(maps.finish()))
}
