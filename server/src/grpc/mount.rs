//! Services written for tonic (health, later Flight SQL) on our connections.

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use http_body_util::BodyExt;
use tower::ServiceExt;
use tower_service::Service;

use super::chunk::Chunk;
use super::request::RequestBody;
use super::response::{Gone, Responder};

/// Calls `service` and sends what it answers.
pub async fn call<S, B>(
    service: S,
    request: Request<RequestBody>,
    respond: Responder,
) -> Result<(), Gone>
where
    S: Service<Request<RequestBody>, Response = Response<B>, Error = std::convert::Infallible>,
    B: Body<Data = Bytes> + Unpin,
{
    let Ok(response) = service.oneshot(request).await;
    let (parts, mut body) = response.into_parts();
    let head = Response::from_parts(parts, ());
    let Some(mut respond) = respond.start_with(head, body.is_end_stream())? else {
        return Ok(());
    };
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else {
            respond.reset();
            return Err(Gone);
        };
        match frame.into_data() {
            Ok(data) => respond.data(Chunk::from(data)).await?,
            Err(frame) => {
                if let Ok(trailers) = frame.into_trailers() {
                    return respond.finish_with_trailers(trailers);
                }
            }
        }
    }
    respond.finish()
}
