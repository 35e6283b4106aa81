//! GetFlightInfo and GetSchema: what DoGet would send for a descriptor or a ticket.

use arrow_flight::flight_descriptor::DescriptorType;
use arrow_flight::{
    FlightDescriptor, FlightEndpoint, FlightInfo, SchemaResult, Ticket as FlightTicket,
};
use bowstring_cache::known::{self, Known};
use bowstring_wire::descriptor::parse_path;
use bowstring_wire::error::{Error, Result};
use bowstring_wire::form::Form;
use bowstring_wire::limits::SNAPSHOT_LIFETIME_MS;
use bowstring_wire::reply::{FlightMetadata, Reply};
use bowstring_wire::ticket::{Layout, Missing, Part, Select, Ticket};
use bowstring_wire::version::Version;
use bytes::Bytes;

use super::authorize::{Operation, authorize, resource_of};
use super::do_get;
use super::out::Failure;
use super::reply;
use super::select::{One, Together, know};
use super::service::{Call, Service};
use super::sql;
use crate::grpc::Responder;

/// Answers one GetFlightInfo.
pub async fn run(
    service: &Service,
    mut call: Call<'_>,
    respond: &mut Responder,
) -> Result<(), Failure> {
    let descriptor: FlightDescriptor = call.message().await?;
    if is_sql(&descriptor) {
        let info = sql::flight_info(service, &call, descriptor).await?;
        return reply::send(respond, &info).await;
    }
    let ticket = ticket_of(&descriptor)?;
    let info = info(service, &call, &ticket, descriptor).await?;
    reply::send(respond, &info).await
}

/// Answers one GetSchema.
pub async fn run_schema(
    service: &Service,
    mut call: Call<'_>,
    respond: &mut Responder,
) -> Result<(), Failure> {
    let descriptor: FlightDescriptor = call.message().await?;
    if is_sql(&descriptor) {
        let schema = sql::schema(service, &call, &descriptor.cmd).await?;
        return reply::send(respond, &schema).await;
    }
    let mut ticket = ticket_of(&descriptor)?;
    // Nobody will read them.
    ticket.partitions = None;
    let schema = info(service, &call, &ticket, descriptor).await?.schema;
    reply::send(respond, &SchemaResult { schema }).await
}

/// What is known of one entry, as ListFlights streams it too.
pub fn of_entry(
    known: &Known,
    ticket: &Ticket,
    descriptor: FlightDescriptor,
) -> Result<FlightInfo> {
    let one = One::of(known, ticket)?;
    let records = match one.layout {
        Layout::Opaque => 1,
        Layout::Rows => Form::rows(one.dtype, &one.shape)?.rows,
        Layout::Flat => Form::flat(one.dtype, &one.shape)?.rows,
    };
    let mut minted = ticket.clone();
    if let Select::Key {
        version,
        unless_version,
        ..
    } = &mut minted.select
    {
        // The version makes the schema hold; it has just been found to differ from the other one.
        *version = Some(one.version);
        *unless_version = None;
    }
    let metadata = FlightMetadata {
        dtype: Some(one.dtype),
        shape: Some(one.shape.clone()),
        version: Some(one.version),
        tier: Some(known.tier().to_owned()),
        metadata: Some(one.metadata.clone()),
    };
    let schema = one.schema().encapsulated()?;
    Ok(flight_info(
        schema,
        descriptor,
        &minted,
        records,
        one.range.end - one.range.start,
        &metadata,
    ))
}

async fn info(
    service: &Service,
    call: &Call<'_>,
    ticket: &Ticket,
    descriptor: FlightDescriptor,
) -> Result<FlightInfo> {
    authorize(&call.principal, Operation::Describe, resource_of(ticket))?;
    let mut parts = None;
    let (together, records, bytes, tier) = match &ticket.select {
        Select::Key { .. } => {
            let known = know(service, &call.principal, ticket).await?;
            return of_entry(&known, ticket, descriptor);
        }
        Select::Keys { keys } => {
            let tenant = &call.principal.tenant;
            let generation = service.cache.generation(tenant, &ticket.namespace);
            let together =
                do_get::together(service, &call.principal, ticket, keys, &generation).await?;
            let of = (&ticket.namespace, &keys[..]);
            let size = |known: Option<Known>| {
                Ok(known.map(|known| (known.bytes(), matches!(known, Known::Cold(_)))))
            };
            let sizes = known::each(&service.cache, tenant, of, Some(&generation), size).await?;
            let found = sizes.iter().flatten().count() as u64;
            let below = sizes.iter().flatten().filter(|(_, below)| *below).count() as u64;
            let bytes: u64 = sizes.iter().flatten().map(|(bytes, _)| bytes).sum();
            let null = ticket.missing == Missing::Null;
            (
                together,
                if null { keys.len() as u64 } else { found },
                bytes,
                tier(found, below),
            )
        }
        Select::Prefix { prefix, part } => {
            let measured = match part {
                None => {
                    let (tenant, namespace) = (&call.principal.tenant, &ticket.namespace);
                    let snapshot = service.cache.snapshot(tenant, namespace, prefix).await?;
                    let measured = do_get::measure_all(&snapshot, ticket).await?;
                    if let Some(n) = ticket.partitions {
                        let (ends, of) = (measured.ends(n), (&ticket.namespace, prefix.as_str()));
                        // Before anything is kept for them.
                        measured.together(ticket)?;
                        let count = ends.len() + 1;
                        let kept = service
                            .snapshots
                            .keep(&call.principal, of, snapshot, ends)?;
                        parts = Some((kept, count));
                    }
                    measured
                }
                Some(part) => {
                    let kept = service.snapshots.find(&call.principal, ticket, *part)?;
                    let walk = kept.snapshot().walk(kept.part(*part)?);
                    do_get::measure(walk, ticket).await?
                }
            };
            let tier = tier(measured.entries, measured.below);
            let together = measured.together(ticket)?;
            (together, measured.entries, measured.bytes, tier)
        }
    };
    let mut minted = ticket.clone();
    minted.partitions = None;
    let mut metadata = FlightMetadata {
        tier: tier.map(str::to_owned),
        ..FlightMetadata::default()
    };
    if let Together::Rows(dtype, shape) = &together {
        metadata.dtype = Some(*dtype);
        metadata.shape = Some(shape.clone());
        // So that the schema holds even if all keys go.
        minted.fixed = Some((*dtype, shape.clone()));
    }
    let schema = together.schema(ticket).encapsulated()?;
    let mut info = flight_info(schema, descriptor, &minted, records, bytes, &metadata);
    if let Some((snapshot, count)) = parts {
        info.endpoint = endpoints(service, &minted, snapshot, count);
    }
    Ok(info)
}

/// Where many are, if all are in one place.
fn tier(entries: u64, below: u64) -> Option<&'static str> {
    match below {
        0 => Some("hot"),
        below if below == entries => Some("cold"),
        _ => None,
    }
}

/// An endpoint for each part of a snapshot.
fn endpoints(
    service: &Service,
    minted: &Ticket,
    snapshot: Version,
    count: usize,
) -> Vec<FlightEndpoint> {
    let until_ms = service.clock.now_ms() + SNAPSHOT_LIFETIME_MS;
    let expiration_time = prost_types::Timestamp {
        seconds: i64::try_from(until_ms / 1000).unwrap_or(i64::MAX),
        nanos: i32::try_from(until_ms % 1000 * 1_000_000).unwrap_or(0),
    };
    let parts = (0..count).filter_map(|partition| u32::try_from(partition).ok());
    let endpoint = |partition| {
        let mut ticket = minted.clone();
        if let Select::Prefix { part, .. } = &mut ticket.select {
            *part = Some(Part {
                snapshot,
                partition,
            });
        }
        FlightEndpoint {
            ticket: Some(FlightTicket {
                ticket: ticket.to_json().into(),
            }),
            expiration_time: Some(expiration_time),
            ..FlightEndpoint::default()
        }
    };
    parts.map(endpoint).collect()
}

fn flight_info(
    schema: Bytes,
    descriptor: FlightDescriptor,
    minted: &Ticket,
    records: u64,
    bytes: u64,
    metadata: &FlightMetadata,
) -> FlightInfo {
    let ticket = FlightTicket {
        ticket: minted.to_json().into(),
    };
    // No location: the connection that asked is the one to use.
    let endpoint = FlightEndpoint {
        ticket: Some(ticket),
        ..FlightEndpoint::default()
    };
    FlightInfo {
        schema,
        flight_descriptor: Some(descriptor),
        endpoint: vec![endpoint],
        total_records: i64::try_from(records).unwrap_or(-1),
        total_bytes: i64::try_from(bytes).unwrap_or(-1),
        ordered: true,
        app_metadata: metadata.to_json().into(),
    }
}

/// Whether a descriptor is of a command of Flight SQL.
pub fn is_sql(descriptor: &FlightDescriptor) -> bool {
    descriptor.r#type() == DescriptorType::Cmd && do_get::is_sql(&descriptor.cmd)
}

fn ticket_of(descriptor: &FlightDescriptor) -> Result<Ticket> {
    match descriptor.r#type() {
        DescriptorType::Path => {
            let (namespace, key) = parse_path(&descriptor.path)?;
            Ok(Ticket::key(namespace, key))
        }
        DescriptorType::Cmd => do_get::parse(&descriptor.cmd),
        DescriptorType::Unknown => Err(Error::invalid(
            "the descriptor has no type; expected PATH [key], PATH [namespace, key], or CMD with \
             a ticket's JSON",
        )),
    }
}
