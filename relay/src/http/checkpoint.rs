//! `GET, PUT /v1/account/checkpoint`: the node's sealed generation counter.
//!
//! A write names the checkpoint that it replaces in `If-Match`, so that a restored copy of a node
//! cannot overwrite a newer one without noticing it.

use super::{
    ApiResult,
    auth::SessionRequest,
    openapi::{JSON, SESSION, WRITES},
    problem,
};
use crate::{openapi::problems, store::Store};
use axum::{extract::State, response::Response};
use http::{HeaderValue, StatusCode, header};
use sealpost_proto::{B64, ErrorCode, b64, limits::CHECKPOINT_BYTES_MAX, wire::Checkpoint};
use sealpost_service::http::json_body;
use sha2::{Digest as _, Sha256};

/// `If-Match` value for writing the first checkpoint.
const NONE: &str = "\"none\"";

problems!(ShowProblems: SESSION; NotFound);

/// Read the checkpoint
#[utoipa::path(
    get, path = "/v1/account/checkpoint", operation_id = "show_checkpoint", tag = "accounts",
    security(("session" = [])),
    responses(
        (status = 200, description = "The checkpoint", body = Checkpoint,
            headers(("ETag" = String, description = "Its SHA-256, base64url in double quotes"))),
        ShowProblems,
    )
)]
pub(super) async fn show(State(store): State<Store>, signed: SessionRequest) -> ApiResult {
    let sealed = store
        .load_checkpoint(signed.account)
        .await?
        .ok_or(ErrorCode::NotFound)?;
    Ok(respond_with_tag(sealed))
}

problems!(WriteProblems: SESSION, JSON, WRITES; PreconditionFailed);

/// Write the checkpoint
#[utoipa::path(
    put, path = "/v1/account/checkpoint", operation_id = "write_checkpoint", tag = "accounts",
    security(("session" = [])),
    params(("If-Match" = String, Header, example = "\"none\"",
        description = "`ETag` of the checkpoint to replace, or `\"none\"` to write the first")),
    request_body = Checkpoint,
    responses(
        (status = 200, description = "The checkpoint is stored", body = Checkpoint,
            headers(("ETag" = String, description = "Its SHA-256, base64url in double quotes"))),
        WriteProblems,
    )
)]
pub(super) async fn write(State(store): State<Store>, signed: SessionRequest) -> ApiResult {
    let Checkpoint {
        sealed: B64(sealed),
    } = signed.body.json()?;
    if sealed.is_empty() || sealed.len() > CHECKPOINT_BYTES_MAX {
        return Err(problem(
            ErrorCode::Malformed,
            format!("a checkpoint must have 1 to {CHECKPOINT_BYTES_MAX} bytes"),
        ));
    }
    let Some(expected) = signed.body.header("if-match").map(str::to_owned) else {
        return Err(problem(
            ErrorCode::Malformed,
            "set If-Match to the ETag of the checkpoint to replace, or to \"none\"",
        ));
    };
    let matches = move |current: Option<&[u8]>| {
        current.map_or_else(|| NONE.to_owned(), compute_tag) == expected
    };
    if store
        .write_checkpoint(signed.account, sealed.clone(), matches)
        .await?
    {
        Ok(respond_with_tag(sealed))
    } else {
        Err(ErrorCode::PreconditionFailed.into())
    }
}

fn compute_tag(sealed: &[u8]) -> String {
    format!("\"{}\"", b64::encode(&Sha256::digest(sealed)))
}

fn respond_with_tag(sealed: Vec<u8>) -> Response {
    let tag = HeaderValue::from_str(&compute_tag(&sealed));
    let mut response = json_body(
        StatusCode::OK,
        &Checkpoint {
            sealed: B64(sealed),
        },
    );
    if let Ok(tag) = tag {
        response.headers_mut().insert(header::ETAG, tag);
    }
    response
}
