//! ListFlights: the entries of a namespace, in key order.

use std::collections::BTreeMap;

use arrow_flight::flight_descriptor::DescriptorType;
use arrow_flight::{Criteria, FlightDescriptor};
use bowstring_cache::known::Known;
use bowstring_cache::lower::Description;
use bowstring_wire::action::ListFilter;
use bowstring_wire::name::Key;
use bowstring_wire::ticket::Ticket;

use super::authorize::{Operation, Resource, authorize};
use super::get_flight_info::of_entry;
use super::out::Failure;
use super::reply;
use super::select::id;
use super::service::{Call, Service};
use crate::grpc::Responder;

/// Keys looked at in one step.
const STEP: usize = 1_000;
/// Where there may be some below: what they are comes with them.
const COLD_STEP: usize = 256;

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
        let want = left.min(if service.cold.is_some() {
            COLD_STEP
        } else {
            STEP
        });
        let step = service.cache.scan(
            &principal.tenant,
            &filter.namespace,
            &filter.prefix,
            after_key,
            want,
        );
        // After memory: what leaves it meanwhile is below.
        let below = service.cache.lower().list(
            &principal.tenant,
            &filter.namespace,
            &filter.prefix,
            after_key,
            want,
        );
        let mut keys: BTreeMap<Key, Option<Description>> = BTreeMap::new();
        for below in below.await? {
            keys.insert(below.id.key.clone(), Some(below));
        }
        for item in step {
            keys.entry(item.key).or_default();
        }
        let end = keys.len() < want;
        let keys: Vec<_> = keys.into_iter().take(want).collect();
        let Some((last, _)) = keys.last() else { break };
        after = Some(last.clone());
        left -= keys.len();
        for (key, below) in keys {
            let id = id(principal, &filter.namespace, &key);
            let known = match (service.cache.peek(&id), below) {
                (Some(entry), _) => Some(Known::Hot(entry)),
                (None, Some(below)) => Some(Known::Cold(Box::new(below))),
                (None, None) => Known::find(&service.cache, &id).await?,
            };
            // What went since the step was copied out is not listed.
            let Some(known) = known else {
                continue;
            };
            let descriptor = FlightDescriptor {
                r#type: DescriptorType::Path.into(),
                cmd: bytes::Bytes::new(),
                path: vec![
                    filter.namespace.as_str().to_owned(),
                    key.as_str().to_owned(),
                ],
            };
            let ticket = Ticket::key(filter.namespace.clone(), key);
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
