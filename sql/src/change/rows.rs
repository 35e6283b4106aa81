//! Rows that are to be put, read from the columns of a batch: texts, tensors, times and metadata in whatever type of Arrow
//! has them.

use std::borrow::Cow;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::TimestampMillisecondType;
use arrow_array::{
    Array, ArrayRef, BooleanArray, MapArray, RecordBatch, StringArray, TimestampMillisecondArray,
    new_null_array,
};
use arrow_cast::{CastOptions, cast_with_options};
use arrow_schema::{DataType, TimeUnit};
use bowstring_wire::cast::Cast;
use bowstring_wire::dtype::DType;
use bowstring_wire::error::{Error, Result, clip};
use bowstring_wire::metadata::Metadata;
use bowstring_wire::shape::Shape;

use super::insert::{Insert, Part};
use crate::tables::tensors::{Uniform, metadata_type};
use crate::tensor::read::{Column, Tensor};

/// Of a key that is quoted in an error, so much.
const QUOTED_BYTES_MAX: usize = 128;

/// The rows of a batch.
pub struct Rows {
    rows: usize,
    namespaces: Option<StringArray>,
    keys: StringArray,
    values: Column,
    expires_at: Option<TimestampMillisecondArray>,
    metadata: Option<MapArray>,
    pinned: Option<BooleanArray>,
    /// What all tensors are to be.
    alike: Option<Arc<Uniform>>,
    /// What was made for them: beside tensors that lie where a scan found them, which it has paid for.
    pub made_bytes: u64,
}

/// A row.
pub struct Row<'a> {
    /// Its key, unchecked.
    pub key: &'a str,
    /// Its element type.
    pub dtype: DType,
    /// Its shape.
    pub shape: Shape,
    /// Its tensor in C order; its own where it was cast.
    pub bytes: Cow<'a, [u8]>,
    /// Unix milliseconds from when on it is a miss.
    pub expires_at_ms: Option<u64>,
    /// As the cache keeps it.
    pub metadata: Vec<u8>,
}

impl Rows {
    /// Reads a batch whose columns are what `insert` says; each tensor is cast to the dtype of those that are `alike`.
    ///
    /// # Errors
    /// `invalid_argument` for a column of a type that has no such thing.
    pub fn read(insert: &Insert, alike: Option<Arc<Uniform>>, batch: &RecordBatch) -> Result<Self> {
        insert.check(&batch.schema())?;
        let column = |part| {
            let at = insert.parts.iter().position(|its| *its == part)?;
            Some((batch.column(at), batch.schema_ref().field(at)))
        };
        let missing = || Error::internal("an INSERT has no key or no value");
        let namespaces = column(Part::Namespace).map(|(array, _)| text("namespace", array, false));
        let (keys, _) = column(Part::Key).ok_or_else(missing)?;
        let (values, field) = column(Part::Value).ok_or_else(missing)?;
        let expires_at = column(Part::ExpiresAt).map(|(array, _)| {
            let of = DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into()));
            let times = cast("expires_at", array, &of)?;
            Ok(times.as_primitive::<TimestampMillisecondType>().clone())
        });
        let metadata = column(Part::Metadata).map(|(array, _)| maps(array));
        let pinned = column(Part::Pinned).map(|(array, _)| {
            let truths = cast("pinned", array, &DataType::Boolean)?;
            Ok(truths.as_boolean().clone())
        });
        let is_scanned = |array: &ArrayRef| matches!(array.data_type(), DataType::Struct(_));
        let made = batch.columns().iter().filter(|array| !is_scanned(array));
        let made = made.map(|array| array.to_data().get_slice_memory_size());
        let made = made.collect::<std::result::Result<Vec<_>, _>>();
        let made =
            made.map_err(|error| Error::internal(format!("a column has no size; {error}")))?;
        Ok(Self {
            rows: batch.num_rows(),
            namespaces: namespaces.transpose()?,
            keys: text("key", keys, true)?,
            values: Column::stored(values, field)?,
            expires_at: expires_at.transpose()?,
            metadata: metadata.transpose()?,
            pinned: pinned.transpose()?,
            alike,
            made_bytes: made.iter().map(|bytes| *bytes as u64).sum(),
        })
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.rows
    }

    /// A row's namespace, unchecked, where it says its own; and whether it is pinned.
    ///
    /// # Errors
    /// `invalid_argument` where its namespace is null.
    pub fn place(&self, row: usize) -> Result<(Option<&str>, bool)> {
        let namespace = match &self.namespaces {
            None => None,
            Some(names) if names.is_valid(row) => Some(names.value(row)),
            Some(_) => return Err(self.wrong(row, "a namespace is null; expected its name")),
        };
        let pinned = self.pinned.as_ref();
        let is_pinned = pinned.is_some_and(|pinned| pinned.is_valid(row) && pinned.value(row));
        Ok((namespace, is_pinned))
    }

    /// A row.
    ///
    /// # Errors
    /// Those of what is null, does not fit, or is not like the others; they name the key.
    pub fn row(&self, row: usize) -> Result<Row<'_>> {
        if self.keys.is_null(row) {
            return Err(self.wrong(row, "a key is null; expected a text or a whole number"));
        }
        let tensor = self
            .values
            .row(row)
            .map_err(|error| self.named(row, error))?;
        let tensor = tensor.ok_or_else(|| {
            self.wrong(
                row,
                "a tensor is null, or has a null in it; expected numbers",
            )
        })?;
        let (dtype, shape, bytes) = self.cast(tensor).map_err(|error| self.named(row, error))?;
        let times = self.expires_at.as_ref();
        let time = times.and_then(|times| times.is_valid(row).then(|| times.value(row)));
        Ok(Row {
            key: self.keys.value(row),
            dtype,
            shape,
            bytes,
            // What is before all times has passed.
            expires_at_ms: time.map(|ms| u64::try_from(ms).unwrap_or(0)),
            metadata: self.metadata(row).map_err(|error| self.named(row, error))?,
        })
    }

    fn cast<'a>(&self, tensor: Tensor<'a>) -> Result<(DType, Shape, Cow<'a, [u8]>)> {
        let Tensor {
            dtype,
            shape,
            bytes,
            ..
        } = tensor;
        let Some(alike) = &self.alike else {
            return Ok((dtype, shape, Cow::Borrowed(bytes)));
        };
        if shape != alike.shape {
            return Err(Error::precondition(format!(
                "the tensors of this namespace have another shape; put it into `tensors` where they are to differ; \
                 got=`{shape}` expected=`{}`",
                alike.shape
            )));
        }
        let bytes = match Cast::new(dtype, alike.dtype)? {
            None => Cow::Borrowed(bytes),
            Some(cast) => {
                let mut made = Vec::new();
                cast.append(bytes, &mut made)?;
                Cow::Owned(made)
            }
        };
        Ok((alike.dtype, shape, bytes))
    }

    fn metadata(&self, row: usize) -> Result<Vec<u8>> {
        let maps = self.metadata.as_ref();
        maps.map_or(Ok(Vec::new()), |maps| metadata_of(maps, row))
    }

    fn wrong(&self, row: usize, what: &'static str) -> Error {
        self.named(row, Error::invalid(what))
    }

    /// An error that says whose it is.
    pub fn named(&self, row: usize, error: Error) -> Error {
        let of = |texts: &StringArray| match texts.is_valid(row) {
            true => format!(
                "`{}`",
                clip(texts.value(row), QUOTED_BYTES_MAX).escape_debug()
            ),
            false => "null".to_owned(),
        };
        let key = of(&self.keys);
        let place = match &self.namespaces {
            Some(names) => format!("namespace={} key={key}", of(names)),
            None => format!("key={key}"),
        };
        Error::new(error.code, format!("{}; {place}", error.message))
    }
}

fn text(what: &'static str, array: &ArrayRef, or_number: bool) -> Result<StringArray> {
    let is_text = |of: &DataType| {
        matches!(
            of,
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View | DataType::Null
        )
    };
    let is_one = match array.data_type() {
        DataType::Dictionary(_, of) => is_text(of),
        of => is_text(of) || (or_number && of.is_integer()),
    };
    if !is_one {
        return Err(Error::invalid(format!(
            "a column is of the wrong type; column=`{what}` got=`{}` expected a text{}",
            array.data_type(),
            if or_number { " or whole numbers" } else { "" }
        )));
    }
    let texts = cast(what, array, &DataType::Utf8)?;
    Ok(texts.as_string::<i32>().clone())
}

/// A column of metadata.
///
/// # Errors
/// `invalid_argument` where it has no maps of what can be texts.
pub(super) fn maps(array: &ArrayRef) -> Result<MapArray> {
    let maps = match array.data_type() {
        DataType::Null => new_null_array(&metadata_type(), array.len()),
        _ => cast("metadata", array, &metadata_type())?,
    };
    Ok(maps.as_map().clone())
}

/// The metadata of a row, as the cache keeps it; a null is none.
///
/// # Errors
/// Those of [`Metadata::new`], and `invalid_argument` for a null in it.
pub(super) fn metadata_of(maps: &MapArray, row: usize) -> Result<Vec<u8>> {
    if maps.is_null(row) {
        return Ok(Vec::new());
    }
    let pairs = maps.value(row);
    let (names, values) = (pairs.column(0), pairs.column(1));
    let (names, values) = (names.as_string::<i32>(), values.as_string::<i32>());
    let pairs = names.iter().zip(values).map(|pair| match pair {
        (Some(name), Some(value)) => Ok((name.to_owned(), value.to_owned())),
        _ => Err(Error::invalid(
            "a name or value of the metadata is null; expected texts",
        )),
    });
    let pairs: Vec<(String, String)> = pairs.collect::<Result<_>>()?;
    Ok(Metadata::new(pairs)?.encode())
}

/// Where a value does not fit, that is an error, not a null.
fn cast(what: &'static str, array: &ArrayRef, to: &DataType) -> Result<ArrayRef> {
    let options = CastOptions {
        safe: false,
        ..CastOptions::default()
    };
    cast_with_options(array, to, &options).map_err(|error| {
        Error::invalid(format!(
            "a column has a value that is none; column=`{what}` got=`{}`; {error}",
            array.data_type()
        ))
    })
}
