//! Every limit of the wire, in one place. Sizes are bytes.

use crate::error::{Error, Result};

/// Axes of a tensor.
pub const MAX_RANK: usize = 32;
/// UTF-8 bytes of a key.
pub const MAX_KEY_BYTES: usize = 1024;
/// Characters (all ASCII) of a namespace or tenant.
pub const MAX_NAMESPACE_BYTES: usize = 128;

/// A ticket, command, action body or criteria. Refused before it is parsed.
pub const MAX_JSON_BYTES: usize = 16 << 20;
/// Keys in one ticket.
pub const MAX_TICKET_KEYS: usize = 10_000;
/// Keys in one action. As many as fit the JSON would make one Result too large to receive.
pub const MAX_ACTION_KEYS: usize = 100_000;
/// How often a stream may add to one of its dictionaries before it sends it anew.
pub const MAX_DICTIONARY_DELTAS: usize = 10_000;
/// Namespaces in one answer: the most, and where nobody says.
pub const MAX_NAMESPACES_LISTED: usize = 10_000;
/// As many as fit the 4 MiB of stock clients with all that is said of each.
pub const DEFAULT_NAMESPACES_LISTED: usize = 5_000;
/// Endpoints of one `partitions` request.
pub const MAX_PARTITIONS: u32 = 1024;
/// How long a snapshot is kept for the DoGets of its partitions.
pub const SNAPSHOT_LIFETIME_MS: u64 = 10 * 60 * 1000;
/// Errors that one `PutResult` spells out; the rest are counted.
pub const MAX_PUT_ERRORS: usize = 100;
/// An entry's own metadata, names and values together. It lives beside the entry's head in one
/// slot, and comes back in the schema message of every get.
pub const MAX_METADATA_BYTES: usize = 16 << 10;
/// A `load_id`.
pub const MAX_LOAD_ID_BYTES: usize = 128;
/// Paths and patterns in the action `load`.
pub const MAX_LOAD_FILES: usize = 10_000;
/// One of these.
pub const MAX_PATH_BYTES: usize = 4096;
/// A time to live, in milliseconds: 100 years, far inside the 48 bits that an expiry has.
pub const MAX_TTL_MS: u64 = 100 * 365 * 24 * 3600 * 1000;
/// What one error message may quote of something a stranger sent.
pub const MAX_QUOTED_BYTES: usize = 96;
/// One error message. gRPC carries it in a header, percent-encoded, and many stacks refuse a
/// header list over 8 KiB.
pub const MAX_ERROR_BYTES: usize = 1024;

/// The body of one message of a get, where the ticket does not say: under the 4 MiB that stock
/// clients accept, with room for the header.
pub const DEFAULT_MESSAGE_BYTES: u64 = 3 << 20;
/// The same, where the client is known to have no 4 MiB limit.
pub const LARGE_MESSAGE_BYTES: u64 = 16 << 20;
/// A row that is larger than a message may be is sent whole up to this; past it, only `flat`.
pub const MAX_ROW_BYTES: u64 = 1 << 30;

/// The IPC header (`data_header`) of one received message. A schema with the most metadata that an
/// entry may have is far below it.
pub const MAX_HEADER_BYTES: usize = 1 << 20;
/// The `app_metadata` of one received message.
pub const MAX_APP_METADATA_BYTES: usize = 1 << 20;
/// A received `FlightDescriptor`: the largest command and its protobuf wrapping.
pub const MAX_DESCRIPTOR_BYTES: usize = MAX_JSON_BYTES + 1024;
/// What may be held of a body that arrives before its header. Legal protobuf, but nobody sends it.
pub const MAX_BODY_BEFORE_HEADER_BYTES: usize = 1 << 20;

/// The body of one batch of keys of the exchange `get`: as many keys as it may have, each as long.
pub const MAX_KEYS_BATCH_BYTES: u64 = 16 << 20;
/// The header of one message of the mux exchange: the longest names, 32 axes, every optional field.
pub const MAX_MUX_HEADER_BYTES: usize = 2048;
/// A tensor that is put over the mux exchange: the requests behind it wait until it is stored.
pub const MAX_MUX_PUT_BYTES: u64 = 1 << 20;
/// Bytes of a tensor in one message of a reply of the mux exchange: what a small reply beside a
/// large one waits for.
pub const MUX_CHUNK_BYTES: u64 = 256 << 10;
/// Replies of one mux exchange that are sent in chunks at one time; no request is read meanwhile.
pub const MUX_LARGE_MAX: usize = 32;

/// The largest integer that every JSON reader keeps exact; larger ones travel as strings.
pub const MAX_JSON_INTEGER: u64 = 1 << 53;

/// Refuses what cannot be a `load_id`.
///
/// # Errors
/// `invalid_argument`.
pub(crate) fn check_load_id(what: &str, id: &str) -> Result<()> {
    if (1..=MAX_LOAD_ID_BYTES).contains(&id.len()) {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "{what} has an impossible load_id; bytes=`{}` expected what begin_load answered",
        id.len()
    )))
}
