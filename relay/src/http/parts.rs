//! `PUT, GET /v1/blobs/{id}/parts/{n}`: upload and download a part. Errors: `part_invalid`, `conflict`, `not_found`; for a
//! download `not_found` for an unknown blob, a wrong token or an incomplete blob alike.

use super::{
    Answer,
    auth::{BySession, PartBySession},
    ids::PartId,
    openapi::{SESSION, WRITES},
    passing_problem, problem,
};
use crate::{
    blobs::{BlobError, Blobs, PartName},
    openapi::problems,
    relay::Relay,
    slots::Slot,
    store::PartPlace,
};
use axum::{
    body::Body,
    extract::State,
    response::{IntoResponse as _, Response},
};
use bytes::Bytes;
use futures_util::{Stream, stream::unfold};
use http::{HeaderValue, StatusCode, header};
use sealpost_proto::{
    AccountId, BlobId, ErrorCode, FetchToken, b64,
    limits::{PART_STRETCH_BYTES, PART_TIMEOUT},
    schema::Octets,
    wire::FETCH_TOKEN_HEADER,
};
use sealpost_relay_core::{
    blob::{Asked, range},
    rates::OwnRates,
};
use sealpost_service::http::{Arriving, ProblemResponse};
use sha2::{Digest as _, Sha256};
use std::{ops::Range, sync::Arc};
use tokio::sync::mpsc;

/// Written together at most, however small they come.
const STRETCH_PIECES_MAX: usize = 64;

problems!(UploadProblems: SESSION, WRITES; NotFound, Conflict, PartInvalid);

/// Upload a part
///
/// Its `Content-Digest`, which is part of the signature, is the part's SHA-256. Part 0 is 48 bytes longer than the others, the
/// last may be shorter.
#[utoipa::path(
    put, path = "/v1/blobs/{id}/parts/{number}", operation_id = "upload_part", tag = "blobs", security(("session" = [])),
    params(PartId<BlobId>), request_body(content = Octets, content_type = "application/octet-stream"),
    responses((status = 204, description = "It is on the disk"), UploadProblems)
)]
pub(super) async fn upload(
    State(relay): State<Arc<Relay>>,
    PartId(blob, number): PartId<BlobId>,
    signed: PartBySession,
) -> Answer {
    let PartBySession {
        account,
        own_rates,
        digest,
        mut body,
    } = signed;
    let name = PartName {
        blob,
        number,
        digest,
    };
    let taken = take(&relay, (account, own_rates), name, &mut body).await;
    if taken.is_err() {
        body.drain().await;
    }
    taken
}

/// Decides before a byte of the part is read, and writes it down as it comes.
async fn take(
    relay: &Relay,
    (account, own_rates): (AccountId, OwnRates),
    name: PartName,
    body: &mut Arriving,
) -> Answer {
    let PartName {
        blob,
        number,
        digest,
    } = name;
    let place = relay
        .store
        .part_place(relay.now(), account, blob, number)
        .await?
        .ok_or(ErrorCode::NotFound)?;
    let bytes = match place {
        PartPlace::OutOfRange => {
            return Err(problem(
                ErrorCode::PartInvalid,
                "the blob has no part of this number",
            ));
        }
        PartPlace::Present { digest: present } => {
            while body.next().await?.is_some() {}
            return same(present, digest);
        }
        PartPlace::Missing { bytes } => bytes,
    };
    relay.rules().meters.of(own_rates).part(account, bytes)?;
    relay.admit(bytes)?;
    let _slot = relay
        .memory
        .coming
        .take(account)
        .ok_or_else(|| passing_problem(ErrorCode::Overloaded))?;
    write(&relay.blobs, &name, bytes, body).await?;
    let counts = relay
        .store
        .part_written(relay.now(), account, blob, number, digest)
        .await?;
    same(counts.ok_or(ErrorCode::NotFound)?, digest)
}

/// Writes a part of exactly so many bytes with exactly that digest, or none.
async fn write(
    blobs: &Blobs,
    name: &PartName,
    bytes: usize,
    body: &mut Arriving,
) -> Result<(), ProblemResponse> {
    let wrong_length = || {
        problem(
            ErrorCode::PartInvalid,
            format!("this part has {bytes} bytes"),
        )
    };
    let mut writing = blobs.begin(name).await?;
    let (mut hash, mut received, mut stretch, mut waiting) = (Sha256::new(), 0, Vec::new(), 0);
    while let Some(piece) = body.next().await? {
        received += piece.len();
        if received > bytes {
            return Err(wrong_length());
        }
        hash.update(&piece);
        waiting += piece.len();
        stretch.push(piece);
        if waiting >= PART_STRETCH_BYTES || stretch.len() == STRETCH_PIECES_MAX {
            writing.add(std::mem::take(&mut stretch)).await?;
            waiting = 0;
        }
    }
    if received != bytes {
        return Err(wrong_length());
    }
    if <[u8; 32]>::from(hash.finalize()) != name.digest {
        return Err(problem(
            ErrorCode::SignatureInvalid,
            "the body does not have the digest that was signed",
        ));
    }
    if !stretch.is_empty() {
        writing.add(stretch).await?;
    }
    Ok(writing.finish().await?)
}

fn same(present: [u8; 32], digest: [u8; 32]) -> Answer {
    if present == digest {
        Ok(StatusCode::NO_CONTENT.into_response())
    } else {
        Err(ErrorCode::Conflict.into())
    }
}

problems!(DownloadProblems: SESSION; NotFound, RangeNotSatisfiable);

/// Download a part
///
/// For any account that has the blob's fetch token. An unknown blob, a wrong token and an incomplete blob look alike.
#[utoipa::path(
    get, path = "/v1/blobs/{id}/parts/{number}", operation_id = "download_part", tag = "blobs", security(("session" = [])),
    params(
        PartId<BlobId>,
        ("Sealpost-Fetch-Token" = inline(FetchToken), Header, description = "What the sender gave out"),
        ("Range" = Option<String>, Header, nullable = false, example = "bytes=0-1023", description = "One stretch; anything else is the whole"),
    ),
    responses(
        (status = 200, description = "The part", body = Octets, content_type = "application/octet-stream"),
        (status = 206, description = "A stretch of it", body = Octets, content_type = "application/octet-stream",
            headers(("Content-Range" = String, description = "Which stretch of how much"))),
        DownloadProblems,
    )
)]
pub(super) async fn download(
    State(relay): State<Arc<Relay>>,
    PartId(blob, number): PartId<BlobId>,
    signed: BySession,
) -> Answer {
    let token = signed
        .body
        .header(FETCH_TOKEN_HEADER)
        .and_then(|text| b64::parse_array::<32>(text).ok());
    let token_hash = Sha256::digest(token.ok_or(ErrorCode::NotFound)?).into();
    let part = relay
        .store
        .fetch_part(relay.now(), blob, number, token_hash)
        .await?;
    let (digest, bytes) = part.ok_or(ErrorCode::NotFound)?;
    let name = PartName {
        blob,
        number,
        digest,
    };
    let length = bytes as u64;
    let slot = relay
        .memory
        .going
        .take(signed.account)
        .ok_or_else(|| passing_problem(ErrorCode::Overloaded))?;
    match range(signed.body.header("range"), length) {
        Asked::Whole => Ok(stream(
            &relay,
            name,
            slot,
            0..length,
            length,
            StatusCode::OK,
        )),
        Asked::Stretch(stretch) => Ok(stream(
            &relay,
            name,
            slot,
            stretch,
            length,
            StatusCode::PARTIAL_CONTENT,
        )),
        Asked::Unsatisfiable => Ok(unsatisfiable(length)),
    }
}

fn stream(
    relay: &Relay,
    name: PartName,
    slot: Slot,
    stretch: Range<u64>,
    length: u64,
    status: StatusCode,
) -> Response {
    let sent = stretch.end - stretch.start;
    let content_range = format!(
        "bytes {}-{}/{length}",
        stretch.start,
        stretch.end.saturating_sub(1)
    );
    let mut response = Response::new(Body::from_stream(stretches(
        relay.blobs.clone(),
        name,
        slot,
        stretch,
    )));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/octet-stream"),
    );
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(sent));
    headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    if let (StatusCode::PARTIAL_CONTENT, Ok(value)) =
        (status, HeaderValue::from_str(&content_range))
    {
        headers.insert(header::CONTENT_RANGE, value);
    }
    response
}

/// Reads one stretch after the other, each when the one before is on its way. A client that takes none for too long is given
/// up, so that it does not keep its place.
fn stretches(
    blobs: Blobs,
    name: PartName,
    slot: Slot,
    whole: Range<u64>,
) -> impl Stream<Item = Result<Bytes, BlobError>> {
    let (sender, receiver) = mpsc::channel(1);
    tokio::spawn(async move {
        let mut left = whole;
        while !left.is_empty() {
            let next = left.start..left.end.min(left.start + PART_STRETCH_BYTES as u64);
            left.start = next.end;
            let bytes = blobs.read(&name, next).await;
            if sender.send_timeout(bytes, PART_TIMEOUT).await.is_err() {
                break;
            }
        }
        drop(slot);
    });
    unfold(receiver, |mut receiver| async {
        Some((receiver.recv().await?, receiver))
    })
}

fn unsatisfiable(length: u64) -> Response {
    let detail = format!("the range lies beyond the {length} bytes of this part");
    let mut response = problem(ErrorCode::RangeNotSatisfiable, detail).into_response();
    if let Ok(value) = HeaderValue::from_str(&format!("bytes */{length}")) {
        response.headers_mut().insert(header::CONTENT_RANGE, value);
    }
    response
}
