//! ListFlights: the entries of a namespace, in key order.

use arrow_flight::flight_descriptor::DescriptorType;
use arrow_flight::{Criteria, FlightDescriptor};
use bowstring_wire::action::ListFilter;
use bowstring_wire::name::Key;
use bowstring_wire::ticket::Ticket;

use super::authorize::{Operation, Resource, authorize};
use super::get_flight_info::of_entry;
use super::known::Known;
use super::out::Failure;
use super::reply;
use super::select::id;
use super::service::{Call, Service};
use crate::grpc::Responder;

/// Keys looked at in one step.
const STEP: usize = 1_000;

/// Streams a FlightInfo for each entry.
pub async fn run(
    service: &Service,
    mut call: Call<'_>,
    respond: &mut Responder,
) -> Result<(), Failure> {
    let criteria: Criteria = call.message().await?;
    let filter = ListFilter::parse(&criteria.expression)?;
    let principal = &call.principal;
    authorize(
        principal,
        Operation::Describe,
        Resource::Namespace(&filter.namespace),
    )?;
    let mut left = filter
        .limit
        .map_or(usize::MAX, |n| usize::try_from(n).unwrap_or(usize::MAX));
    let mut after = filter.after.clone();
    while left > 0 {
        let after_key = after.as_ref().map(Key::as_str);
        let want = left.min(STEP);
        let step = service.cache.scan(
            &principal.tenant,
            &filter.namespace,
            &filter.prefix,
            after_key,
            want,
        );
        let Some(last) = step.last() else { break };
        after = Some(last.key.clone());
        left -= step.len();
        let end = step.len() < want;
        for item in step {
            let id = id(principal, &filter.namespace, &item.key);
            // What went since the step was copied out is not listed.
            let Some(known) = Known::find(service, &id).await? else {
                continue;
            };
            let descriptor = FlightDescriptor {
                r#type: DescriptorType::Path.into(),
                cmd: bytes::Bytes::new(),
                path: vec![
                    filter.namespace.as_str().to_owned(),
                    item.key.as_str().to_owned(),
                ],
            };
            let ticket = Ticket::key(filter.namespace.clone(), item.key);
            let info = of_entry(&known, &ticket, descriptor)?;
            drop(known);
            reply::send(respond, &info).await?;
        }
        if end {
            break;
        }
    }
    Ok(())
}
