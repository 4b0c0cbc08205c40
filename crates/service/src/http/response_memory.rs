//! Memory of responses, which is reserved until they are sent.

use crate::fair_pool::{FairPool, Owner, Permit};
use axum::{body::HttpBody as _, response::Response};
use sealpost_proto::limits::RESERVED_RESPONSE_BYTES_MIN;

/// Reserves the memory of a response, unless its handler has done so or it is small. The listener
/// holds the permit, which is among the extensions of the response, until the last byte is sent.
/// Returns `None` if there is no memory.
pub async fn hold_response_memory(
    pool: &FairPool,
    owner: Option<Owner>,
    mut response: Response,
) -> Option<Response> {
    let bytes = response.body().size_hint().lower();
    let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
    let is_held = response.extensions().get::<Permit>().is_some();
    if !is_held && bytes >= RESERVED_RESPONSE_BYTES_MIN {
        let permit = pool.reserve_bytes(owner, bytes).await?;
        response.extensions_mut().insert(permit);
    }
    Some(response)
}
