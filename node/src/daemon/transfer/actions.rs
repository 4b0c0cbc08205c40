//! User actions on a transfer: cancel it, or request a download that did not start automatically.

use super::error::fail_messages;
use crate::{
    fault::Fault,
    store::{
        Tx, attachments,
        files::{self, FileRequests, StoredFile},
        outbox, postings,
    },
};
use sealpost_node_core::model::{Direction, FileStatus, RefusalCode};
use sealpost_proto::{FailureCode, limits};
use std::borrow::Cow;

/// Cancels the transfer of a file. Idempotent.
///
/// Cancelling an upload also fails the messages that need it. A cancelled download can be
/// requested again.
///
/// # Errors
/// `conflict` when it is too late to cancel.
pub(crate) fn cancel(tx: &Tx<'_>, file: &StoredFile) -> Result<(), Fault> {
    match file.status {
        FileStatus::Uploading | FileStatus::Uploaded => cancel_upload(tx, file),
        FileStatus::Waiting | FileStatus::Downloading => files::advance(
            tx,
            file.id,
            FileStatus::Offered,
            Some("cancelled by a user of this node"),
        )
        .map(|_| ()),
        FileStatus::Cancelled | FileStatus::Offered | FileStatus::Failed => Ok(()),
        FileStatus::Staged => Err(conflict("no message uses the file yet", "delete it")),
        FileStatus::Ready => Err(conflict(
            "the file is already downloaded",
            "ignore the file if you do not need it",
        )),
        FileStatus::Released => Err(conflict(
            "the file has already arrived, or its message is no longer pending",
            "tell the recipients not to use the file",
        )),
    }
}

fn cancel_upload(tx: &Tx<'_>, file: &StoredFile) -> Result<(), Fault> {
    for message in files::find_messages(tx, file.id)? {
        if !outbox::is_unsealed(tx, message)? {
            let ids = postings::find_by_message(tx, message)?;
            let id = ids.first().map(ToString::to_string).unwrap_or_default();
            return Err(conflict(
                format!("{id} was already sent with the file"),
                "tell the recipients not to use the file",
            ));
        }
    }
    files::advance(tx, file.id, FileStatus::Cancelled, None)?;
    let reason = format!("its file {} was cancelled", file.attachment);
    fail_messages(tx, file.id, FailureCode::Cancelled, &reason)
}

/// Queues the download of a file that was not downloaded automatically, or whose download was
/// cancelled or has failed. Idempotent.
///
/// # Errors
/// `conflict` for an outgoing file; `files_too_large` if the files of its message exceed the limit
/// in total.
pub(crate) fn request_download(tx: &Tx<'_>, file: &StoredFile) -> Result<(), Fault> {
    if file.direction == Direction::Out {
        return Err(conflict(
            "the file was sent by this node",
            "use your original file",
        ));
    }
    for message in files::find_messages(tx, file.id)? {
        let attachments = attachments::load_for_message(tx, message)?;
        let total = attachments.iter().fold(0_u64, |sum, attachment| {
            sum.saturating_add(attachment.file.descriptor.sealed.pt_len)
        });
        if total > limits::MESSAGE_FILES_BYTES_MAX {
            let detail = format!(
                "{total} bytes in total; the limit is {}",
                limits::MESSAGE_FILES_BYTES_MAX
            );
            let next = "ask the sender to send the files in several messages";
            return Err(Fault::refused_with_next(
                RefusalCode::FilesTooLarge,
                detail,
                next,
            ));
        }
    }
    if files::advance(tx, file.id, FileStatus::Waiting, None)? {
        // The sender may be asked again if the relay does not have the file.
        files::set_file_requests(tx, file.id, FileRequests::default())?;
    }
    Ok(())
}

fn conflict(detail: impl Into<Cow<'static, str>>, next: &'static str) -> Fault {
    Fault::refused_with_next(RefusalCode::Conflict, detail, next)
}
