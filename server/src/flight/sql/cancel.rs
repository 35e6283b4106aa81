//! CancelFlightInfo and the older CancelQuery: whoever has a query's FlightInfo ends what runs by it. RenewFlightEndpoint.

use arrow_flight::sql::{ActionCancelQueryRequest, ActionCancelQueryResult, ProstMessageExt};
use arrow_flight::{
    CancelFlightInfoRequest, CancelFlightInfoResult, CancelStatus, FlightInfo,
    Result as ActionResult,
};
use bowstring_wire::error::{Error, Result};
use prost::Message;

use super::unpacked;
use crate::flight::authorize::Principal;
use crate::flight::out::Failure;
use crate::flight::reply;
use crate::flight::service::Service;
use crate::grpc::Responder;

/// Answers CancelFlightInfo.
pub async fn flight_info(
    service: &Service,
    principal: &Principal,
    body: &[u8],
    respond: &mut Responder,
) -> Result<(), Failure> {
    let request = CancelFlightInfoRequest::decode(body).ok();
    let info = request.and_then(|request| request.info);
    let info = info.ok_or_else(|| no_info("CancelFlightInfoRequest"))?;
    let result = CancelFlightInfoResult::new(cancel(service, principal, info).await);
    let body = result.encode_to_vec().into();
    reply::send(respond, &ActionResult { body }).await
}

/// Answers CancelQuery.
pub async fn query(
    service: &Service,
    principal: &Principal,
    body: &[u8],
    respond: &mut Responder,
) -> Result<(), Failure> {
    let request: ActionCancelQueryRequest = unpacked(body)?;
    let info = FlightInfo::decode(request.info);
    let info = info.map_err(|_| no_info("ActionCancelQueryRequest"))?;
    let result = ActionCancelQueryResult {
        // The same numbers.
        result: cancel(service, principal, info).await.into(),
    };
    let body = result.as_any().encode_to_vec().into();
    reply::send(respond, &ActionResult { body }).await
}

async fn cancel(service: &Service, principal: &Principal, info: FlightInfo) -> CancelStatus {
    let tickets = info.endpoint.into_iter().filter_map(|of| of.ticket);
    let tickets = tickets.map(|ticket| ticket.ticket);
    match service.asking.running.cancel(principal, tickets).await {
        true => CancelStatus::Cancelled,
        false => CancelStatus::NotCancellable,
    }
}

fn no_info(what: &str) -> Error {
    Error::invalid(format!(
        "the action's body is not what it should be; expected=`{what}` with the FlightInfo that GetFlightInfo has given"
    ))
}

/// What RenewFlightEndpoint is answered.
pub fn renewal() -> Error {
    Error::unimplemented(
        "there is nothing to renew: endpoints have no end of validity here; use the ticket, or ask GetFlightInfo for another",
    )
}
