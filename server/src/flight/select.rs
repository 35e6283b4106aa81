//! What a ticket means: found, checked, and with the schema that its stream will have. DoGet,
//! GetFlightInfo and GetSchema all ask here, so that they cannot disagree.

use std::borrow::Borrow;
use std::ops::Range;

use bowstring_cache::Id;
use bowstring_cache::known::Known;
use bowstring_cache::lower::{Description, Reading};
use bowstring_cache::read::Entry;
use bowstring_wire::dtype::DType;
use bowstring_wire::error::{Code, Error, Result};
use bowstring_wire::metadata::Metadata;
use bowstring_wire::name::{Key, Namespace};
use bowstring_wire::schema::{StreamSchema, Tags};
use bowstring_wire::shape::Shape;
use bowstring_wire::ticket::{Layout, Missing, Select, Ticket};
use bowstring_wire::version::Version;

use super::authorize::Principal;
use super::service::Service;
use super::source::{self, Ready};

/// One entry as a ticket wants it.
#[derive(Debug)]
pub struct One {
    /// Where it is.
    pub namespace: Namespace,
    /// Its name.
    pub key: Key,
    /// Its element type.
    pub dtype: DType,
    /// The shape that is sent: the range's, where rows were asked for.
    pub shape: Shape,
    /// Which of its bytes are sent.
    pub range: Range<u64>,
    /// How they are laid out.
    pub layout: Layout,
    /// Which tensor of the key.
    pub version: Version,
    /// Its own metadata.
    pub metadata: Metadata,
    checksum: Option<u128>,
}

impl One {
    /// Checks what `ticket` asks of an entry.
    ///
    /// # Errors
    /// `failed_precondition`, `not_modified`, or `invalid_argument` for rows that are not there.
    pub fn of(
        known: &Known<impl Borrow<Entry>, impl Borrow<Description>>,
        ticket: &Ticket,
    ) -> Result<Self> {
        let Select::Key {
            key,
            rows,
            unless_version,
            version,
        } = &ticket.select
        else {
            return Err(Error::internal("the ticket is not one of a single key"));
        };
        let now = known.version();
        if let Some(wanted) = version
            && *wanted != now
        {
            return Err(Error::precondition(format!(
                "the entry has another version; version=`{now}` expected=`{wanted}`"
            )));
        }
        if *unless_version == Some(now) {
            return Err(Error::new(
                Code::NotModified,
                format!("the entry still has the version that you have; version=`{now}`"),
            ));
        }
        let (dtype, whole) = known.description();
        ticket.check_fixed(dtype, &whole)?;
        let (shape, range) = match rows {
            None => (whole, 0..known.bytes()),
            Some(rows) => rows_of(&whole, known.bytes(), *rows)?,
        };
        Ok(Self {
            namespace: ticket.namespace.clone(),
            key: key.clone(),
            dtype,
            shape,
            range,
            layout: ticket.layout.unwrap_or(Layout::Rows),
            version: now,
            metadata: Metadata::decode(known.metadata())?,
            checksum: rows.is_none().then(|| known.checksum()).flatten(),
        })
    }

    /// The schema of the stream.
    pub fn schema(&self) -> StreamSchema<'_> {
        if self.layout == Layout::Opaque {
            return StreamSchema::Opaque {
                nullable: false,
                with: &[],
            };
        }
        StreamSchema::Tensor {
            dtype: self.dtype,
            shape: &self.shape,
            flat: self.layout == Layout::Flat,
            tags: Tags {
                namespace: self.namespace.as_str(),
                key: self.key.as_str(),
                version: self.version,
                checksum: self.checksum,
                metadata: &self.metadata,
            },
        }
    }
}

/// The shape and bytes of rows `[start, end)` of the leading axis.
///
/// # Errors
/// `invalid_argument` for rows that are not there.
pub fn rows_of(whole: &Shape, bytes: u64, (start, end): (u64, u64)) -> Result<(Shape, Range<u64>)> {
    let Some((&count, cell)) = whole.dims().split_first() else {
        return Err(Error::invalid(
            "the entry is a scalar and has no rows; expected no `rows`",
        ));
    };
    if start > end || end > count {
        return Err(Error::invalid(format!(
            "rows are outside the leading axis; rows=`[{start}, {end})` expected within \
             `[0, {count})`"
        )));
    }
    let row_bytes = bytes.checked_div(count).unwrap_or(0);
    let mut dims = vec![end - start];
    dims.extend_from_slice(cell);
    Ok((Shape::new(&dims)?, start * row_bytes..end * row_bytes))
}

/// As [`find`], of what is known of it: nothing is read for that.
///
/// # Errors
/// As [`find`].
pub async fn know(service: &Service, principal: &Principal, ticket: &Ticket) -> Result<Known> {
    let key = key_of(ticket)?;
    let known = Known::find(&service.cache, &id(principal, &ticket.namespace, key)).await?;
    known.ok_or_else(|| not_found(&ticket.namespace, key))
}

/// Finds the tensor of a ticket for one key, and has the first bytes of what it asks for.
///
/// # Errors
/// `not_found`; as [`One::of`]; or whatever a lower tier meets.
pub async fn find(
    service: &Service,
    principal: &Principal,
    ticket: &Ticket,
) -> Result<(One, Ready)> {
    let key = key_of(ticket)?;
    let id = id(principal, &ticket.namespace, key);
    let reading = match &ticket.select {
        Select::Key { rows: Some(_), .. } => Reading::Part,
        _ => Reading::Whole,
    };
    let found = source::find(service, &id, reading, |known| {
        let one = One::of(known, ticket)?;
        let range = one.range.clone();
        Ok((one, range))
    });
    let found = found.await?;
    found.ok_or_else(|| not_found(&ticket.namespace, key))
}

fn key_of(ticket: &Ticket) -> Result<&Key> {
    match &ticket.select {
        Select::Key { key, .. } => Ok(key),
        _ => Err(Error::internal("the ticket is not one of a single key")),
    }
}

/// What is said of a key that is not there.
pub fn not_found(namespace: &Namespace, key: &Key) -> Error {
    Error::not_found(format!(
        "no such entry; namespace=`{namespace}` key=`{key}`"
    ))
}

/// The engine's name of a key.
pub fn id(principal: &Principal, namespace: &Namespace, key: &Key) -> Id {
    Id {
        tenant: principal.tenant.clone(),
        namespace: namespace.clone(),
        key: key.clone(),
    }
}

/// How many entries together become a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Together {
    /// A row each, of one dtype and shape.
    Rows(DType, Shape),
    /// A row each that says its own dtype and shape.
    Opaque,
    /// Nothing is known of any of them.
    Unknown,
}

impl Together {
    /// What the ticket itself decides; `None` where it is for the entries to say.
    ///
    /// # Errors
    /// `invalid_argument` for the layout `flat`, which is for one tensor.
    pub fn of(ticket: &Ticket, default: Layout) -> Result<Option<Self>> {
        match (ticket.layout, &ticket.fixed) {
            (Some(Layout::Flat), _) => Err(Error::invalid(
                "the layout `flat` is for one tensor; expected `rows` or `opaque` with many",
            )),
            (Some(Layout::Opaque), _) => Ok(Some(Self::Opaque)),
            (_, Some((dtype, shape))) => Ok(Some(Self::Rows(*dtype, shape.clone()))),
            (None, None) if default == Layout::Opaque => Ok(Some(Self::Opaque)),
            _ => Ok(None),
        }
    }

    /// What entries say that must all be of one dtype and shape.
    ///
    /// # Errors
    /// `failed_precondition` that says which differ.
    pub fn agreed<'a>(entries: impl Iterator<Item = (&'a str, DType, Shape)>) -> Result<Self> {
        let mut agreed: Option<(&str, DType, Shape)> = None;
        for (key, dtype, shape) in entries {
            match &agreed {
                None => agreed = Some((key, dtype, shape)),
                Some((first, d, s)) if *d != dtype || *s != shape => {
                    return Err(differ(&format!("`{first}` is {d}{s}"), key, dtype, &shape));
                }
                Some(_) => {}
            }
        }
        Ok(agreed.map_or(Self::Unknown, |(_, dtype, shape)| Self::Rows(dtype, shape)))
    }

    /// The schema of the stream.
    pub fn schema<'a>(&'a self, ticket: &'a Ticket) -> StreamSchema<'a> {
        let nullable = ticket.missing == Missing::Null;
        let with = &ticket.with;
        match self {
            Self::Rows(dtype, shape) => StreamSchema::Rows {
                dtype: *dtype,
                shape,
                nullable,
                with,
            },
            Self::Opaque => StreamSchema::Opaque { nullable, with },
            Self::Unknown => StreamSchema::Unknown,
        }
    }

    /// Whether an entry fits into the stream.
    ///
    /// # Errors
    /// `failed_precondition` that says what differs.
    pub fn check(&self, key: &str, dtype: DType, shape: &Shape) -> Result<()> {
        match self {
            Self::Rows(d, s) if *d != dtype || s != shape => {
                Err(differ(&format!("the stream is {d}{s}"), key, dtype, shape))
            }
            _ => Ok(()),
        }
    }
}

fn differ(expected: &str, key: &str, dtype: DType, shape: &Shape) -> Error {
    Error::precondition(format!(
        "entries differ in dtype or shape: {expected}, `{key}` is {dtype}{shape}; expected one \
         dtype and shape, or the layout `opaque`"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_a_range_of_the_leading_axis() {
        let whole = Shape::new(&[4, 3]).unwrap();
        let (shape, range) = rows_of(&whole, 48, (1, 3)).unwrap();
        assert_eq!((shape.dims(), range), (&[2, 3][..], 12..36));
        let (shape, range) = rows_of(&whole, 48, (4, 4)).unwrap();
        assert_eq!((shape.dims(), range), (&[0, 3][..], 48..48));
        assert_eq!(
            rows_of(&whole, 48, (3, 5)).unwrap_err().code,
            Code::InvalidArgument
        );
        assert_eq!(
            rows_of(&Shape::scalar(), 4, (0, 1)).unwrap_err().code,
            Code::InvalidArgument
        );
        let empty = Shape::new(&[0, 3]).unwrap();
        assert_eq!(rows_of(&empty, 0, (0, 0)).unwrap().1, 0..0);
    }

    #[test]
    fn entries_that_differ_are_named() {
        let f = |dims: &[u64]| Shape::new(dims).unwrap();
        let same = [
            ("a", DType::Float32, f(&[2])),
            ("b", DType::Float32, f(&[2])),
        ];
        assert_eq!(
            Together::agreed(same.into_iter()),
            Ok(Together::Rows(DType::Float32, f(&[2])))
        );
        let mixed = [
            ("a", DType::Float32, f(&[2])),
            ("b", DType::Float32, f(&[3])),
        ];
        let error = Together::agreed(mixed.into_iter()).unwrap_err();
        assert_eq!(error.code, Code::FailedPrecondition);
        assert!(error.message.contains("`a` is float32[2]") && error.message.contains("`b`"));
        assert_eq!(Together::agreed(std::iter::empty()), Ok(Together::Unknown));
    }
}
