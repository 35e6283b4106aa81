//! A tensor's values, as they come: all of a small one; of a large one some, from places that lie
//! evenly from its beginning to its end.

use std::ops::Range;

use arrow_array::Array as _;
use arrow_buffer::Buffer;
use arrow_flight::Ticket as FlightTicket;
use arrow_flight::decode::FlightRecordBatchStream;
use arrow_flight::error::FlightError;
use bowstring_wire::error::Error as WireError;
use bowstring_wire::name::{Key, Namespace};
use bowstring_wire::reply::EntryDescribed;
use bowstring_wire::ticket::{Layout, Select, Ticket};
use futures::TryStreamExt as _;

use crate::Error;
use crate::client::{Client, refused};

/// Places of which a large tensor is read.
const PLACES: u64 = 16;

/// The bytes of a tensor's values, whole elements in each piece, at most about `bytes_max`; and of how
/// many places they are.
///
/// # Errors
/// What the server said; also where the entry has another version by now.
pub async fn pieces(
    client: &mut Client,
    namespace: Namespace,
    key: &Key,
    entry: &EntryDescribed,
    bytes_max: u64,
) -> Result<(Vec<Buffer>, u64), Error> {
    let mut pieces = Vec::new();
    if bytes_max == 0 || entry.bytes == 0 {
        return Ok((pieces, 0));
    }
    let element = entry.dtype.size() as u64;
    let leading = entry.shape.dims().first().copied();
    let places = places(leading, entry.bytes, bytes_max);
    let count = places.len() as u64;
    for place in places {
        let mut ticket = Ticket::key(namespace.clone(), key.clone());
        ticket.layout = Some(Layout::Flat);
        ticket.select = Select::Key {
            key: key.clone(),
            rows: place.rows.map(|rows| (rows.start, rows.end)),
            unless_version: None,
            version: Some(entry.version),
        };
        let ticket = FlightTicket::new(ticket.to_json());
        let stream = client.flight.do_get(ticket).await.map_err(refused)?;
        let stream = stream.into_inner().map_err(FlightError::from);
        let mut batches = FlightRecordBatchStream::new_from_flight_data(stream);
        let mut left = place.bytes_max / element * element;
        // A row can be larger than its place: the rest of it is not waited for.
        while left > 0 {
            let Some(batch) = batches.try_next().await.map_err(unreadable)? else {
                break;
            };
            let data = batch.column(0).to_data();
            let Some(buffer) = data.buffers().first() else {
                return Err(unreadable(FlightError::DecodeError("no values".to_owned())));
            };
            let width = data.data_type().primitive_width().unwrap_or(1);
            let piece = buffer.slice_with_length(data.offset() * width, data.len() * width);
            let length = piece.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            left -= length as u64;
            pieces.push(piece.slice_with_length(0, length));
        }
    }
    Ok((pieces, count))
}

/// A part of a tensor.
#[derive(Debug, PartialEq)]
struct Place {
    /// Of the leading axis; all where there is none, or where all are read.
    rows: Option<Range<u64>>,
    bytes_max: u64,
}

fn places(leading: Option<u64>, bytes: u64, bytes_max: u64) -> Vec<Place> {
    let leading = leading.unwrap_or(1).max(1);
    if bytes <= bytes_max || leading == 1 {
        return vec![Place {
            rows: None,
            bytes_max,
        }];
    }
    let count = PLACES.min(leading);
    let bytes_each = (bytes_max / count).max(1);
    let rows_each = (bytes_each / (bytes / leading).max(1)).max(1);
    // The first begins at the beginning, the last ends at the end.
    let last = leading - rows_each.min(leading);
    let place = |at: u64| {
        let start = u128::from(last) * u128::from(at) / u128::from(count - 1).max(1);
        let start = u64::try_from(start).unwrap_or(last);
        Place {
            rows: Some(start..start + rows_each),
            bytes_max: bytes_each,
        }
    };
    (0..count).map(place).collect()
}

fn unreadable(error: FlightError) -> Error {
    match error {
        FlightError::Tonic(status) => refused(*status),
        other => WireError::internal(format!("the tensor cannot be read; source=`{other}`")).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_tensor_is_read_whole() {
        for leading in [None, Some(1), Some(10), Some(0)] {
            let all = Place {
                rows: None,
                bytes_max: 100,
            };
            assert_eq!(places(leading, 100, 100), [all]);
        }
    }

    #[test]
    fn a_large_one_in_places_from_end_to_end() {
        for (leading, bytes, bytes_max) in [
            (1_000_000, 4_000_000, 64_000),
            (100, 100 << 20, 1 << 20),
            (3, 3 << 30, 1 << 20),
            (2, 1 << 40, 1),
        ] {
            let places = places(Some(leading), bytes, bytes_max);
            let rows: Vec<_> = places.iter().map(|it| it.rows.clone().unwrap()).collect();
            assert_eq!(rows[0].start, 0);
            assert_eq!(rows.last().unwrap().end, leading, "{rows:?}");
            assert!(
                rows.windows(2).all(|two| two[0].end <= two[1].start),
                "{rows:?}"
            );
            let sum: u64 = places.iter().map(|it| it.bytes_max).sum();
            assert!(sum <= bytes_max.max(places.len() as u64));
        }
        // One row that is too large is read from its beginning.
        assert_eq!(places(Some(1), 1 << 30, 10).len(), 1);
    }
}
