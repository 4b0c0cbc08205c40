//! Files whose blob the relay has lost or deleted while a recipient needs it: the recipient asks
//! the sender, which uploads the same file again and responds (docs/e2ee.md#lost-files).

use crate::{
    fault::Fault,
    healing,
    store::{
        Tx, connections,
        files::{self, FileRequests, RepeatedUploads, StoredFile},
    },
};
use sealpost_e2ee::payload::{AttachmentRequest, AttachmentResponse, Resend};
use sealpost_node_core::model::{ConnectionId, ConnectionStatus, FileId, FileStatus, MessageUuid};
use sealpost_proto::{Timestamp, limits};

/// Asks the sender of a file to upload it again, because the relay does not have it any more. The
/// download waits for the response. The file fails if the sender cannot be asked, or was asked in
/// vain.
pub(crate) fn request_file(tx: &mut Tx<'_>, id: FileId) -> Result<(), Fault> {
    let asked = files::load_file_requests(tx, id)?;
    // A time in the future means that the clock was set back.
    if let Some(at) = asked.requested_at
        && at <= tx.now
        && tx.now.since(at) < limits::FILE_REQUEST_INTERVAL
    {
        return wait_for_response(tx, id);
    }
    if asked.requests >= limits::FILE_REQUESTS_MAX {
        let reason = "the relay no longer has the file, and its sender has not uploaded it again; \
                      ask the sender to send it again";
        return fail(tx, id, reason);
    }
    let Some((connection, message)) = find_source(tx, id)? else {
        let reason = "the relay no longer has the file; ask the sender to send it again";
        return fail(tx, id, reason);
    };
    let Some(file) = files::load(tx, id)? else {
        return Ok(());
    };
    let request = AttachmentRequest {
        message,
        blob: file.descriptor.blob.id,
    };
    let requests = FileRequests {
        requests: asked.requests + 1,
        requested_at: Some(tx.now),
    };
    files::set_file_requests(tx, id, requests)?;
    tracing::info!(file = %id, "the relay no longer has the file; asking its sender for it");
    let resend = Resend {
        attachment: Some(request),
        ..Resend::default()
    };
    healing::queue_resend(tx, connection, &resend, Timestamp::default())?;
    wait_for_response(tx, id)
}

/// Returns a message with the file whose sender can be asked.
fn find_source(tx: &Tx<'_>, id: FileId) -> Result<Option<(ConnectionId, MessageUuid)>, Fault> {
    for (connection, message) in files::find_sources(tx, id)? {
        let status = connections::load(tx, connection)?.status;
        if matches!(
            status,
            ConnectionStatus::Accepted | ConnectionStatus::Suspended
        ) {
            return Ok(Some((connection, message)));
        }
    }
    Ok(None)
}

fn wait_for_response(tx: &Tx<'_>, id: FileId) -> Result<(), Fault> {
    let asked_at = files::load_file_requests(tx, id)?.requested_at;
    let until = asked_at
        .unwrap_or(tx.now)
        .plus(limits::FILE_REQUEST_INTERVAL);
    let reason = "the relay no longer has the file; its sender was asked to upload it again";
    files::postpone(tx, id, 0, reason, until)
}

fn fail(tx: &Tx<'_>, id: FileId, reason: &str) -> Result<(), Fault> {
    files::advance(tx, id, FileStatus::Failed, Some(reason)).map(|_| ())
}

/// Handles the response of a sender that this node has asked for a file.
pub(crate) fn receive_response(
    tx: &Tx<'_>,
    connection: ConnectionId,
    response: &AttachmentResponse,
) -> Result<(), Fault> {
    let AttachmentRequest { message, blob } = response.request;
    for id in files::find_requested(tx, connection, &message, &blob)? {
        if response.is_gone {
            let reason = "neither the relay nor the sender's node has the file any more; ask the \
                          sender to send it again";
            fail(tx, id, reason)?;
        } else {
            files::resume_download(tx, id)?;
        }
    }
    Ok(())
}

/// Handles the request of a recipient that cannot fetch one of our files. If this node still has
/// the file, uploads it again; the recipient gets the response when that is done. A recipient that
/// asks too often is ignored; it asks again later.
pub(crate) fn receive_request(
    tx: &mut Tx<'_>,
    connection: ConnectionId,
    request: &AttachmentRequest,
) -> Result<(), Fault> {
    let found = files::find_sent(tx, connection, &request.message, &request.blob)?;
    let Some(file) = found else {
        return respond(tx, connection, request, true);
    };
    let before = files::find_repeated_uploads(tx, connection, file.id)?;
    let before = before.unwrap_or(RepeatedUploads {
        uploads: 0,
        requested_at: Timestamp::default(),
    });
    if file.status == FileStatus::Uploading {
        return files::set_upload_request(tx, connection, file.id, &request.message, before);
    }
    if is_rate_exceeded(tx, connection, before)? {
        tracing::info!(
            %connection,
            file = %file.id,
            "ignored a request to upload a file again: the partner asks too often"
        );
        return Ok(());
    }
    if before.uploads >= limits::REPEATED_UPLOADS_PER_FILE_MAX {
        return respond(tx, connection, request, true);
    }
    upload_again(tx, connection, request, &file, before)
}

fn upload_again(
    tx: &mut Tx<'_>,
    connection: ConnectionId,
    request: &AttachmentRequest,
    file: &StoredFile,
    before: RepeatedUploads,
) -> Result<(), Fault> {
    if !files::upload_for_recipient(tx, file.id, connection)? {
        return respond(tx, connection, request, true);
    }
    tracing::info!(%connection, file = %file.id, "uploading a file again for a recipient");
    let repeated = RepeatedUploads {
        uploads: before.uploads + 1,
        requested_at: tx.now,
    };
    files::set_upload_request(tx, connection, file.id, &request.message, repeated)
}

fn is_rate_exceeded(
    tx: &Tx<'_>,
    connection: ConnectionId,
    before: RepeatedUploads,
) -> Result<bool, Fault> {
    let since = tx.now.minus(limits::REPEATED_UPLOADS_PERIOD);
    Ok(
        tx.now.since(before.requested_at) < limits::REPEATED_UPLOAD_INTERVAL
            || files::count_repeated_uploads(tx, Some(connection), since)?
                >= limits::REPEATED_UPLOADS_PER_CONNECTION_MAX
            || files::count_repeated_uploads(tx, None, since)?
                >= limits::REPEATED_UPLOADS_PER_DAY_MAX,
    )
}

/// Queues the responses to requests whose files were uploaded again, or cannot be.
pub(crate) fn respond_to_requests(tx: &mut Tx<'_>) -> Result<(), Fault> {
    for completed in files::close_completed_requests(tx)? {
        let request = AttachmentRequest {
            message: completed.message,
            blob: completed.blob,
        };
        respond(tx, completed.connection, &request, !completed.is_uploaded)?;
    }
    Ok(())
}

fn respond(
    tx: &mut Tx<'_>,
    connection: ConnectionId,
    request: &AttachmentRequest,
    is_gone: bool,
) -> Result<(), Fault> {
    let resend = Resend {
        attachment_response: Some(AttachmentResponse {
            request: *request,
            is_gone,
        }),
        ..Resend::default()
    };
    healing::queue_resend(tx, connection, &resend, Timestamp::default())
}

#[cfg(test)]
mod tests;
