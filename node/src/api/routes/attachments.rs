//! `/v1/attachments`

use super::{Answer, Params};
use crate::{
    api::{
        model::{Attachment, AttachmentStatus, Direction, StageQuery},
        problem::{Problem, ProblemCode},
        render,
    },
    daemon::Daemon,
    fault::Fault,
    files::{StageError, Staged},
    pairing,
    store::{Tx, attachments},
    transfer,
};
use axum::{
    Json,
    body::Body,
    extract::{Path, State},
    response::{IntoResponse, Response},
};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use sealpost_e2ee::attachment::Descriptor;
use sealpost_node_core::filename::{self, FileName};
use sealpost_proto::{BlobId, BlobRef, FetchToken};
use std::sync::Arc;

/// `POST /v1/attachments?filename=NAME`: seals the body while it arrives.
pub(super) async fn stage(
    State(daemon): State<Arc<Daemon>>,
    Params(query): Params<StageQuery>,
    headers: HeaderMap,
    body: Body,
) -> Answer<impl IntoResponse> {
    let name = FileName::parse(&query.filename)
        .map_err(|refusal| Problem::new(ProblemCode::FileNameInvalid, refusal.to_string()))?;
    let announced = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    let announced =
        announced.ok_or_else(|| Problem::new(ProblemCode::Malformed, "the length of the file must be announced"))?;
    let staged = daemon.files.stage(body.into_data_stream(), announced).await.map_err(stage_problem)?;
    let row = daemon.write(insert(&daemon, name, staged)).await?;
    Ok((StatusCode::CREATED, Json(render::attachment(&row))))
}

fn insert(
    daemon: &Daemon,
    name: FileName,
    staged: Staged,
) -> impl FnOnce(&mut Tx<'_>) -> Result<attachments::Attachment, Fault> + Send + 'static {
    let relay = daemon.me.relay.clone();
    move |tx| {
        let descriptor = Descriptor {
            blob: BlobRef { relay, id: BlobId::from_bytes(pairing::draw(tx)) },
            fetch_token: FetchToken::from_bytes(sealpost_service::random_array()),
            file_key: staged.file_key,
            sealed: staged.sealed,
            mime: filename::content_type(&staged.first_bytes, name.as_str()).to_owned(),
            name: name.as_str().to_owned(),
            preview: None,
        };
        let new = attachments::NewAttachment {
            direction: Direction::Out,
            status: AttachmentStatus::Staged,
            descriptor: &descriptor,
            file: staged.file,
            part_digests: &staged.part_digests,
        };
        let name = attachments::insert(tx, &new)?;
        load(tx, &name)
    }
}

fn stage_problem(error: StageError) -> super::Refused {
    let code = match error {
        StageError::TooLarge { .. } => ProblemCode::FileTooLarge,
        StageError::Changed { .. } | StageError::CutOff => ProblemCode::FileChanged,
        StageError::Fault(fault) => return fault.into(),
    };
    Problem::new(code, error.to_string()).into()
}

/// One file.
///
/// # Errors
/// `not_found`.
pub(super) fn load(tx: &Tx<'_>, id: &str) -> Result<attachments::Attachment, Fault> {
    attachments::load(tx, &id.to_uppercase())?
        .ok_or_else(|| Fault::refused(ProblemCode::NotFound, format!("there is no file {id:?}")))
}

/// `GET /v1/attachments/{id}`
pub(super) async fn show(State(daemon): State<Arc<Daemon>>, Path(id): Path<String>) -> Answer<Json<Attachment>> {
    let row = daemon.read(move |tx| load(tx, &id)).await?;
    Ok(Json(render::attachment(&row)))
}

/// `DELETE /v1/attachments/{id}`
pub(super) async fn remove(State(daemon): State<Arc<Daemon>>, Path(id): Path<String>) -> Answer<StatusCode> {
    let file = daemon
        .write(move |tx| {
            let row = load(tx, &id)?;
            if attachments::remove_staged(tx, &row.name)? {
                Ok(row.file)
            } else {
                Err(Fault::refused(ProblemCode::Conflict, "a message uses this file"))
            }
        })
        .await?;
    daemon.files.remove(file).await;
    Ok(StatusCode::NO_CONTENT)
}

/// `POST /v1/attachments/{id}/download`: fetches a file that is not fetched by itself, was stopped or failed.
pub(super) async fn download(State(daemon): State<Arc<Daemon>>, Path(id): Path<String>) -> Answer<Json<Attachment>> {
    change(&daemon, id, transfer::fetch).await
}

/// `POST /v1/attachments/{id}/cancel`: stops a file. The messages that need one of ours are not sent; one of theirs can be
/// asked for again.
pub(super) async fn cancel(State(daemon): State<Arc<Daemon>>, Path(id): Path<String>) -> Answer<Json<Attachment>> {
    change(&daemon, id, transfer::cancel).await
}

async fn change(
    daemon: &Daemon,
    id: String,
    change: impl FnOnce(&Tx<'_>, &attachments::Attachment) -> Result<(), Fault> + Send + 'static,
) -> Answer<Json<Attachment>> {
    let changed = daemon.write(move |tx| {
        let row = load(tx, &id)?;
        change(tx, &row)?;
        load(tx, &row.name)
    });
    Ok(Json(render::attachment(&changed.await?)))
}

/// `GET /v1/attachments/{id}/content`: the plaintext, only of a file that is whole and verified.
pub(super) async fn content(State(daemon): State<Arc<Daemon>>, Path(id): Path<String>) -> Answer<Response> {
    let row = daemon.read(move |tx| load(tx, &id)).await?;
    if !is_readable(row.status) {
        let why = row.reason.as_deref().unwrap_or("wait until it is ready");
        let detail = format!("the file is {}: {why}", crate::store::words::word(&row.status));
        return Err(Problem::new(ProblemCode::Conflict, detail).into());
    }
    let descriptor = &row.descriptor;
    let opened = daemon.files.read_plaintext(row.file, &descriptor.file_key, &descriptor.sealed).await;
    let stream = opened.map_err(Fault::from)?;
    let mut response = Body::from_stream(stream).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(descriptor.sealed.pt_len));
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::CONTENT_DISPOSITION, disposition(&FileName::from_remote(&descriptor.name).safe_name()));
    Ok(response)
}

const fn is_readable(status: AttachmentStatus) -> bool {
    match status {
        AttachmentStatus::Staged
        | AttachmentStatus::Uploading
        | AttachmentStatus::Uploaded
        | AttachmentStatus::Ready => true,
        AttachmentStatus::Released
        | AttachmentStatus::Cancelled
        | AttachmentStatus::Offered
        | AttachmentStatus::Waiting
        | AttachmentStatus::Downloading
        | AttachmentStatus::Failed => false,
    }
}

/// `attachment` with the name as RFC 6266 and RFC 8187 write it.
fn disposition(name: &str) -> HeaderValue {
    use std::fmt::Write as _;
    let mut text = "attachment; filename*=UTF-8''".to_owned();
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            text.push(char::from(byte));
        } else {
            let _ = write!(text, "%{byte:02X}");
        }
    }
    HeaderValue::from_str(&text).unwrap_or(HeaderValue::from_static("attachment"))
}
