//! `/v1/attachments`

use super::{ApiResult, Params, page_items, page_with_cursors, parse_cursor, parse_id};
use crate::{
    api::{
        model::{
            Attachment, AttachmentListItem, AttachmentStatus, AttachmentsQuery, Direction, Order,
            Page, StageQuery,
        },
        problem::{Problem, ProblemCode},
        render,
    },
    daemon::{
        Database,
        transfer::{self, EarlyUploads, Staging},
    },
    fault::Fault,
    files::{Files, StageError, Staged},
    identity::NodeIdentity,
    preview,
    store::{
        Tx, attachments,
        files::{self, StoredFile},
        unreferenced_blobs,
    },
};
use axum::{
    Json,
    body::Body,
    extract::{Path, State},
    response::{IntoResponse, Response},
};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use sealpost_e2ee::attachment::Descriptor;
use sealpost_node_core::{
    file_type::FileType,
    filename::FileName,
    model::{AttachmentId, RefusalCode},
};
use sealpost_proto::{BlobRef, limits};
use std::sync::Arc;

/// `POST /v1/attachments?filename=NAME`: seals the body while it arrives.
pub(super) async fn stage(
    State(identity): State<Arc<NodeIdentity>>,
    State(database): State<Database>,
    State(disk): State<Files>,
    State(early_uploads): State<Arc<EarlyUploads>>,
    Params(query): Params<StageQuery>,
    headers: HeaderMap,
    body: Body,
) -> ApiResult<impl IntoResponse> {
    let name = FileName::parse(&query.filename)
        .map_err(|refusal| Problem::new(ProblemCode::FileNameInvalid, refusal.to_string()))?;
    let announced: u64 = headers
        .get(header::CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok()?.parse().ok())
        .ok_or_else(|| Problem::new(ProblemCode::Malformed, "a `Content-Length` is required"))?;
    let staging = Staging::new(early_uploads, announced);
    let sealing = disk.stage(
        body.into_data_stream(),
        announced,
        Arc::clone(&staging.parts),
    );
    let (staged, ()) = tokio::join!(sealing, staging.start_early_upload());
    let staged = staged.map_err(stage_problem)?;
    let file_type = FileType::detect(&staged.first_bytes, announced, name.as_str());
    let preview = create_preview(&disk, &staged, &file_type.content_type).await;
    let blob = BlobRef {
        relay: identity.relay.clone(),
        id: staging.blob,
    };
    let descriptor = Descriptor {
        blob,
        fetch_token: staging.fetch_token.clone(),
        file_key: staged.file_key,
        sealed: staged.sealed,
        mime: file_type.content_type.clone(),
        name: name.as_str().to_owned(),
        preview,
    };
    let (file, part_digests) = (staged.file, staged.part_digests);
    let content_digest = staged.content_digest;
    let insert = database.write(move |tx| {
        let new = files::NewFile {
            direction: Direction::Out,
            status: AttachmentStatus::Staged,
            descriptor: &descriptor,
            file_type: Some(&file_type),
            disk_file: file,
            part_digests: &part_digests,
            content_digest: Some(&content_digest),
        };
        let id = files::insert(tx, &new)?;
        attachments::insert_staged(tx, id)?;
        // From now on, the status of the file decides whether the blob is deleted.
        unreferenced_blobs::remove(tx, &descriptor.blob.id)?;
        files::load(tx, id)?.ok_or_else(|| Fault::not_found("file", id))
    });
    let row = insert.await?;
    Ok((StatusCode::CREATED, Json(render::file(&row))))
}

/// Creates the preview of an image. A file that cannot be decoded gets none.
async fn create_preview(disk: &Files, staged: &Staged, content_type: &str) -> Option<Vec<u8>> {
    if !preview::is_supported(content_type)
        || staged.sealed.pt_len > limits::PREVIEW_SOURCE_BYTES_MAX
    {
        return None;
    }
    let image = disk
        .read_plaintext(staged.file, &staged.file_key, &staged.sealed)
        .await
        .ok()?;
    preview::create_from_stream(content_type.to_owned(), image).await
}

fn stage_problem(error: StageError) -> super::ErrorResponse {
    let code = match error {
        StageError::TooLarge { .. } => ProblemCode::FileTooLarge,
        StageError::Changed { .. } | StageError::CutOff => ProblemCode::FileChanged,
        StageError::Fault(fault) => return fault.into(),
    };
    Problem::new(code, error.to_string()).into()
}

/// Loads an attachment with its file.
///
/// # Errors
/// Refuses with `not_found`.
fn load(tx: &Tx<'_>, id: &str) -> Result<attachments::Attachment, Fault> {
    let id: AttachmentId = parse_id("file", id)?;
    attachments::load(tx, id)?.ok_or_else(|| Fault::not_found("file", id))
}

/// `GET /v1/attachments`
pub(super) async fn list(
    State(database): State<Database>,
    Params(query): Params<AttachmentsQuery>,
) -> ApiResult<Json<Page<AttachmentListItem>>> {
    let limit = page_items(query.limit);
    let filter = files::Filter {
        direction: query.direction,
        is_descending: query.order == Some(Order::Desc),
        after: parse_cursor(query.after.as_deref())?,
        limit: limit + 1,
    };
    let rows = database
        .read(move |tx| files::load_page(tx, &filter))
        .await?;
    let items = rows.iter().map(|row| {
        let cursor = row.position.to_string();
        Ok((cursor, render::attachment_list_item(row)))
    });
    Ok(Json(page_with_cursors(items, limit)?))
}

/// `GET /v1/attachments/{id}`
pub(super) async fn show(
    State(database): State<Database>,
    Path(id): Path<String>,
) -> ApiResult<Json<Attachment>> {
    let row = database.read(move |tx| load(tx, &id)).await?;
    Ok(Json(render::attachment(row.id, &row.file)))
}

/// `DELETE /v1/attachments/{id}`
pub(super) async fn remove(
    State(database): State<Database>,
    State(disk): State<Files>,
    Path(id): Path<String>,
) -> ApiResult<StatusCode> {
    let file = database
        .write(move |tx| {
            let file = load(tx, &id)?.file;
            if files::delete_staged(tx, file.id)? {
                Ok(file.disk_file)
            } else {
                Err(Fault::refused_with_next(
                    RefusalCode::Conflict,
                    "a message uses this file",
                    "cancel the transfer instead: sealpost files cancel FILE",
                ))
            }
        })
        .await?;
    disk.remove(file).await;
    Ok(StatusCode::NO_CONTENT)
}

/// `POST /v1/attachments/{id}/download`: downloads a file that was not downloaded automatically,
/// was cancelled or failed.
pub(super) async fn download(
    State(database): State<Database>,
    Path(id): Path<String>,
) -> ApiResult<Json<Attachment>> {
    change(&database, id, transfer::request_download).await
}

/// `POST /v1/attachments/{id}/cancel`: cancels a transfer. Messages that need an outgoing file
/// fail; a received file can be downloaded later.
pub(super) async fn cancel(
    State(database): State<Database>,
    Path(id): Path<String>,
) -> ApiResult<Json<Attachment>> {
    change(&database, id, transfer::cancel).await
}

async fn change(
    database: &Database,
    id: String,
    change: impl FnOnce(&Tx<'_>, &StoredFile) -> Result<(), Fault> + Send + 'static,
) -> ApiResult<Json<Attachment>> {
    let changed = database.write(move |tx| {
        change(tx, &load(tx, &id)?.file)?;
        load(tx, &id)
    });
    let row = changed.await?;
    Ok(Json(render::attachment(row.id, &row.file)))
}

/// `GET /v1/attachments/{id}/content`: the plaintext of a complete and verified file.
pub(super) async fn content(
    State(database): State<Database>,
    State(disk): State<Files>,
    Path(id): Path<String>,
) -> ApiResult<Response> {
    let row = database.read(move |tx| load(tx, &id)).await?.file;
    if !is_readable(row.status) {
        return Err(unreadable_problem(&row).into());
    }
    let descriptor = &row.descriptor;
    let plaintext = disk
        .read_plaintext(row.disk_file, &descriptor.file_key, &descriptor.sealed)
        .await;
    let stream = plaintext.map_err(Fault::from)?;
    let mut response = Body::from_stream(stream).into_response();
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_LENGTH,
        HeaderValue::from(descriptor.sealed.pt_len),
    );
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/octet-stream"),
    );
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    headers.insert(
        header::CONTENT_DISPOSITION,
        disposition(&FileName::from_remote(&descriptor.name).safe_name()),
    );
    Ok(response)
}

/// `GET /v1/attachments/{id}/preview`: a small image made by the sender, which this node has never
/// decoded.
pub(super) async fn show_preview(
    State(database): State<Database>,
    Path(id): Path<String>,
) -> ApiResult<Response> {
    let preview = database
        .read(move |tx| files::load_preview(tx, load(tx, &id)?.file.id))
        .await?
        .unwrap_or_default();
    let Some(content_type) = preview::content_type(&preview) else {
        return Err(
            Problem::new(ProblemCode::NotFound, "the file has no preview")
                .next("show the file without a preview")
                .into(),
        );
    };
    let headers = [
        (header::CONTENT_TYPE, content_type),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (
            header::CONTENT_SECURITY_POLICY,
            "default-src 'none'; sandbox",
        ),
    ];
    Ok((headers, preview).into_response())
}

/// Describes why the content of a file cannot be read in its status.
fn unreadable_problem(file: &StoredFile) -> Problem {
    let reason = file.reason.as_deref();
    let reason = reason.map_or_else(String::new, |reason| format!(": {reason}"));
    let detail = match file.status {
        AttachmentStatus::Released => {
            let detail = "no message needs the file any more, so this node no longer offers it";
            detail.to_owned()
        }
        AttachmentStatus::Offered => format!("the file is not downloaded{reason}"),
        status => format!("the file is {status}{reason}"),
    };
    Problem::new(ProblemCode::Conflict, detail).next(next_before_reading(file))
}

fn next_before_reading(file: &StoredFile) -> String {
    let id = file.attachment;
    match file.status {
        AttachmentStatus::Offered => format!("download it first: sealpost files fetch {id}"),
        AttachmentStatus::Failed if file.direction == Direction::In => format!(
            "download it again: sealpost files fetch {id}. If that fails, ask the sender to send \
             the file again"
        ),
        AttachmentStatus::Waiting | AttachmentStatus::Downloading => {
            "wait until the file is ready".to_owned()
        }
        AttachmentStatus::Failed | AttachmentStatus::Released | AttachmentStatus::Cancelled => {
            "use your original file".to_owned()
        }
        AttachmentStatus::Staged
        | AttachmentStatus::Uploading
        | AttachmentStatus::Uploaded
        | AttachmentStatus::Ready => "try again".to_owned(),
    }
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

/// Builds `Content-Disposition: attachment` with the name encoded as in RFC 6266 and RFC 8187.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{connected_pair, settle};

    #[test]
    fn unreadable_file_names_the_step_for_its_status() {
        let mut pair = connected_pair(267);
        let staged = [pair.acme.stage(10)];
        pair.acme.send_files(pair.to_bolt, "", &staged);
        pair.acme.record_uploaded(staged[0]);
        settle(&mut pair.acme, &mut pair.bolt);
        let mut file = pair.bolt.received_files().remove(0);
        for (direction, status, detail, next) in [
            (
                Direction::In,
                AttachmentStatus::Offered,
                "not downloaded",
                "download it first: sealpost files fetch ATC-",
            ),
            (
                Direction::In,
                AttachmentStatus::Downloading,
                "downloading",
                "wait until",
            ),
            (
                Direction::In,
                AttachmentStatus::Failed,
                "failed",
                "download it again: sealpost files fetch ATC-",
            ),
            (
                Direction::Out,
                AttachmentStatus::Failed,
                "failed",
                "use your original file",
            ),
            (
                Direction::Out,
                AttachmentStatus::Released,
                "no longer offers it",
                "use your original file",
            ),
            (
                Direction::Out,
                AttachmentStatus::Cancelled,
                "cancelled",
                "use your original file",
            ),
        ] {
            (file.direction, file.status) = (direction, status);
            let problem = unreadable_problem(&file);
            assert!(problem.detail.contains(detail), "{problem:?}");
            assert!(problem.next.starts_with(next), "{problem:?}");
        }
    }
}
