//! `PUT, GET /v1/blobs/{id}/parts/{n}`: upload and download parts of a blob.
//!
//! A part is never held in memory as a whole: an upload is written and a download is read in
//! segments.

use super::{
    ApiResult,
    auth::{PartUploadRequest, SessionRequest},
    ids::PartId,
    openapi::{SESSION, WRITES},
    problem, require_space, retryable_problem,
    state::ApiState,
};
use crate::{
    blobs::{BlobError, Blobs, PartName},
    memory::TransferSlots,
    openapi::problems,
    settings::LiveSettings,
    storage::Storage,
    store::{PartState, Store},
};
use axum::{
    body::Body,
    extract::{FromRef, State},
    response::{IntoResponse as _, Response},
};
use bytes::Bytes;
use futures_util::{Stream, stream::unfold};
use http::{HeaderValue, StatusCode, header};
use sealpost_proto::{
    AccountId, BlobId, ErrorCode, FetchToken, b64, limits::PART_SEGMENT_BYTES, schema::PartBytes,
    wire::FETCH_TOKEN_HEADER,
};
use sealpost_relay_core::{
    blob::{RequestedRange, parse_range},
    rates::RateOverrides,
};
use sealpost_service::{
    Clock as _, SharedClock,
    fair_pool::Permit,
    http::{BodyReader, ProblemResponse},
};
use sha2::{Digest as _, Sha256};
use std::{ops::Range, sync::Arc};

/// Maximum number of received chunks in one write, which bounds the overhead of very small chunks.
const SEGMENT_CHUNKS_MAX: usize = 64;

problems!(UploadProblems: SESSION, WRITES; NotFound, Conflict, PartInvalid);

/// Upload a part
///
/// The signed `Content-Digest` is the SHA-256 of the part. Part 0 is 48 bytes longer than the
/// others; the last part may be shorter.
#[utoipa::path(
    put, path = "/v1/blobs/{id}/parts/{number}", operation_id = "upload_part", tag = "blobs",
    security(("session" = [])),
    params(PartId<BlobId>),
    request_body(content = PartBytes, content_type = "application/octet-stream"),
    responses((status = 204, description = "The part is on disk"), UploadProblems)
)]
pub(super) async fn upload(
    State(uploads): State<PartUploads>,
    PartId(blob, number): PartId<BlobId>,
    signed: PartUploadRequest,
) -> ApiResult {
    let PartUploadRequest {
        account,
        rate_overrides,
        digest,
        mut body,
    } = signed;
    let name = PartName {
        blob,
        number,
        digest,
    };
    let uploader = (account, rate_overrides);
    let result = uploads.store_part(uploader, name, &mut body).await;
    if result.is_err() {
        body.drain().await;
    }
    result
}

/// Parts of the relay that uploads use.
#[derive(Clone)]
pub(super) struct PartUploads {
    store: Store,
    blobs: Blobs,
    settings: LiveSettings,
    storage: Arc<Storage>,
    slots: TransferSlots,
    clock: SharedClock,
}

impl FromRef<ApiState> for PartUploads {
    fn from_ref(state: &ApiState) -> Self {
        Self {
            store: state.store.clone(),
            blobs: state.blobs.clone(),
            settings: state.settings.clone(),
            storage: Arc::clone(&state.storage),
            slots: state.transfer_slots.clone(),
            clock: Arc::clone(&state.clock),
        }
    }
}

impl PartUploads {
    /// Runs all checks before it reads the first byte, then writes the part while it arrives.
    async fn store_part(
        &self,
        (account, rate_overrides): (AccountId, RateOverrides),
        name: PartName,
        body: &mut BodyReader,
    ) -> ApiResult {
        let PartName {
            blob,
            number,
            digest,
        } = name;
        let now = self.clock.now();
        let part = self
            .store
            .load_part_state(now, account, blob, number)
            .await?;
        let bytes = match part.ok_or(ErrorCode::NotFound)? {
            PartState::OutOfRange => {
                return Err(problem(
                    ErrorCode::PartInvalid,
                    "the blob has no part with this number",
                ));
            }
            PartState::Present { digest: present } => {
                while body.next().await?.is_some() {}
                return require_same_digest(present, digest);
            }
            PartState::Missing { bytes } => bytes,
        };
        let rate_limiters = self
            .settings
            .load()
            .rate_limiters
            .for_overrides(rate_overrides);
        rate_limiters.charge_part(account, bytes)?;
        require_space(&self.storage, bytes)?;
        let slot = self.slots.uploads.reserve(Some(account.into()), 1).await;
        body.hold(slot.ok_or_else(|| retryable_problem(ErrorCode::Overloaded))?);
        write_part(&self.blobs, &name, bytes, body).await?;
        let (now, store) = (self.clock.now(), &self.store);
        let stored = store
            .record_part(now, account, blob, number, digest)
            .await?;
        require_same_digest(stored.ok_or(ErrorCode::NotFound)?, digest)
    }
}

/// Writes a part, and discards it unless it has the expected length and digest.
async fn write_part(
    blobs: &Blobs,
    name: &PartName,
    bytes: usize,
    body: &mut BodyReader,
) -> Result<(), ProblemResponse> {
    let wrong_length = || {
        problem(
            ErrorCode::PartInvalid,
            format!("this part must have {bytes} bytes"),
        )
    };
    let mut writer = blobs.start_part(name).await?;
    let (mut hash, mut received, mut chunks, mut pending) = (Sha256::new(), 0, Vec::new(), 0);
    while let Some(chunk) = body.next().await? {
        received += chunk.len();
        if received > bytes {
            return Err(wrong_length());
        }
        hash.update(&chunk);
        pending += chunk.len();
        chunks.push(chunk);
        if pending >= PART_SEGMENT_BYTES || chunks.len() == SEGMENT_CHUNKS_MAX {
            writer.write(std::mem::take(&mut chunks)).await?;
            pending = 0;
        }
    }
    if received != bytes {
        return Err(wrong_length());
    }
    if <[u8; 32]>::from(hash.finalize()) != name.digest {
        return Err(problem(
            ErrorCode::SignatureInvalid,
            "the body does not match the signed digest",
        ));
    }
    if !chunks.is_empty() {
        writer.write(chunks).await?;
    }
    Ok(writer.finish().await?)
}

fn require_same_digest(present: [u8; 32], digest: [u8; 32]) -> ApiResult {
    if present == digest {
        Ok(StatusCode::NO_CONTENT.into_response())
    } else {
        Err(ErrorCode::Conflict.into())
    }
}

problems!(DownloadProblems: SESSION; NotFound, RangeNotSatisfiable);

/// Download a part
///
/// Requires the blob's fetch token. Unknown blobs, wrong tokens and incomplete blobs return the
/// same error.
#[utoipa::path(
    get, path = "/v1/blobs/{id}/parts/{number}", operation_id = "download_part", tag = "blobs",
    security(("session" = [])),
    params(
        PartId<BlobId>,
        (
            "Sealpost-Fetch-Token" = inline(FetchToken),
            Header,
            description = "Fetch token from the sender"
        ),
        (
            "Range" = Option<String>,
            Header,
            nullable = false,
            example = "bytes=0-1023",
            description = "A single byte range; other values return the whole part"
        ),
    ),
    responses(
        (
            status = 200,
            description = "The part",
            body = PartBytes,
            content_type = "application/octet-stream"
        ),
        (status = 206, description = "The requested range of the part", body = PartBytes,
            content_type = "application/octet-stream",
            headers(("Content-Range" = String, description = "Range and total size"))),
        DownloadProblems,
    )
)]
pub(super) async fn download(
    State(store): State<Store>,
    State(blobs): State<Blobs>,
    State(slots): State<TransferSlots>,
    State(clock): State<SharedClock>,
    PartId(blob, number): PartId<BlobId>,
    signed: SessionRequest,
) -> ApiResult {
    let token = signed
        .body
        .header(FETCH_TOKEN_HEADER)
        .and_then(|text| b64::parse_array::<32>(text).ok());
    let token_hash = Sha256::digest(token.ok_or(ErrorCode::NotFound)?).into();
    let part = store
        .find_part(clock.now(), blob, number, token_hash)
        .await?;
    let (digest, bytes) = part.ok_or(ErrorCode::NotFound)?;
    let name = PartName {
        blob,
        number,
        digest,
    };
    let length = bytes as u64;
    let slot = slots
        .downloads
        .reserve(Some(signed.account.into()), 1)
        .await;
    let slot = slot.ok_or_else(|| retryable_problem(ErrorCode::Overloaded))?;
    match parse_range(signed.body.header("range"), length) {
        RequestedRange::Full => Ok(respond_with_range(
            blobs,
            name,
            slot,
            0..length,
            length,
            StatusCode::OK,
        )),
        RequestedRange::Partial(range) => Ok(respond_with_range(
            blobs,
            name,
            slot,
            range,
            length,
            StatusCode::PARTIAL_CONTENT,
        )),
        RequestedRange::Unsatisfiable => Ok(unsatisfiable_response(length)),
    }
}

fn respond_with_range(
    blobs: Blobs,
    name: PartName,
    slot: Permit,
    range: Range<u64>,
    length: u64,
    status: StatusCode,
) -> Response {
    let sent_bytes = range.end - range.start;
    let content_range = format!(
        "bytes {}-{}/{length}",
        range.start,
        range.end.saturating_sub(1)
    );
    let mut response = Response::new(Body::from_stream(stream_segments(blobs, name, range)));
    *response.status_mut() = status;
    // The listener holds it until the last byte is sent.
    response.extensions_mut().insert(slot);
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/octet-stream"),
    );
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(sent_bytes));
    headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    if let (StatusCode::PARTIAL_CONTENT, Ok(value)) =
        (status, HeaderValue::from_str(&content_range))
    {
        headers.insert(header::CONTENT_RANGE, value);
    }
    response
}

/// Streams a range of a part in segments, and reads the next one when the previous one is being
/// sent.
fn stream_segments(
    blobs: Blobs,
    name: PartName,
    range: Range<u64>,
) -> impl Stream<Item = Result<Bytes, BlobError>> {
    unfold(range, move |remaining| {
        let (blobs, name) = (blobs.clone(), name);
        async move {
            if remaining.is_empty() {
                return None;
            }
            let end = remaining
                .end
                .min(remaining.start + PART_SEGMENT_BYTES as u64);
            let bytes = blobs.read(&name, remaining.start..end).await;
            Some((bytes, end..remaining.end))
        }
    })
}

fn unsatisfiable_response(length: u64) -> Response {
    let detail = format!("the range starts beyond the {length} bytes of this part");
    let mut response = problem(ErrorCode::RangeNotSatisfiable, detail).into_response();
    if let Ok(value) = HeaderValue::from_str(&format!("bytes */{length}")) {
        response.headers_mut().insert(header::CONTENT_RANGE, value);
    }
    response
}
