//! What is asked by Flight SQL, in a build without SQL: all of it is refused.

use arrow_flight::{FlightDescriptor, FlightInfo, SchemaResult};
use bowstring_cache::Cache;
use bowstring_cold::tier::Cold;
use bowstring_wire::error::{Error, Result};
use http::HeaderMap;

use super::authorize::Principal;
use super::do_put::{Caller, Messages};
use super::out::Failure;
use super::service::{Call, Service};
use crate::config::Config;
use crate::grpc::Responder;
use crate::metrics::Metrics;

/// There is none.
#[derive(Clone)]
pub enum Sql {}

/// Nothing is prepared.
pub struct Prepared;

impl Prepared {
    pub fn new(_: Cache) -> Self {
        Self
    }
}

/// Nothing is asked.
pub struct Asking;

impl Asking {
    pub fn new(_: Cache) -> Self {
        Self
    }
}

/// No session is named.
pub struct Cookie;

impl Cookie {
    pub fn of(_: &HeaderMap) -> Self {
        Self
    }
}

/// There is nothing to open.
pub fn open(_: &Config, _: u64, _: (&Cache, Option<&Cold>, &Metrics)) -> Result<Option<Sql>> {
    Ok(None)
}

pub async fn flight_info(_: &Service, _: &Call<'_>, _: FlightDescriptor) -> Result<FlightInfo> {
    Err(refused())
}

pub async fn schema(_: &Service, _: &Call<'_>, _: &[u8]) -> Result<SchemaResult> {
    Err(refused())
}

pub async fn get(_: &Service, _: &Call<'_>, _: &[u8], _: &mut Responder) -> Result<(), Failure> {
    Err(Failure::Refused(refused()))
}

pub async fn put(
    _: &Service,
    _: Caller<'_>,
    _: &[u8],
    _: &mut Messages<'_>,
    _: &mut Responder,
) -> Result<(), Failure> {
    Err(Failure::Refused(refused()))
}

/// None of the actions that there are is one of Flight SQL.
pub async fn action(
    _: &Service,
    _: (&Principal, &Cookie),
    _: &str,
    _: &[u8],
    _: &mut Responder,
) -> Option<Result<(), Failure>> {
    None
}

fn refused() -> Error {
    Error::unimplemented(
        "expected a ticket or a command as JSON, such as `{\"key\": \"…\"}`; this server was built without SQL",
    )
}
