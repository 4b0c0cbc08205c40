//! User actions on a transfer: cancel it, or fetch a file that was not fetched automatically.

use super::error::fail_messages;
use crate::{
    api::{
        model::{AttachmentStatus, Direction},
        problem::ProblemCode,
    },
    fault::Fault,
    store::{
        Tx,
        attachments::{self, Attachment},
        outbox,
    },
};
use sealpost_proto::{FailureCode, limits};

/// Cancels the transfer of a file. Idempotent.
///
/// Cancelling an upload also fails the messages that need it. A cancelled download can be fetched
/// again.
///
/// # Errors
/// `conflict` when it is too late to cancel.
pub fn cancel(tx: &Tx<'_>, file: &Attachment) -> Result<(), Fault> {
    match file.status {
        AttachmentStatus::Uploading | AttachmentStatus::Uploaded => cancel_upload(tx, file),
        AttachmentStatus::Waiting | AttachmentStatus::Downloading => attachments::advance(
            tx,
            &file.name,
            AttachmentStatus::Offered,
            Some("cancelled by a user of this node"),
        )
        .map(|_| ()),
        AttachmentStatus::Cancelled | AttachmentStatus::Offered | AttachmentStatus::Failed => {
            Ok(())
        }
        AttachmentStatus::Staged => Err(conflict("no message uses the file yet; delete it")),
        AttachmentStatus::Ready => Err(conflict("the file is already downloaded")),
        AttachmentStatus::Released => Err(conflict(
            "the file has already arrived, or its message is no longer pending",
        )),
    }
}

fn cancel_upload(tx: &Tx<'_>, file: &Attachment) -> Result<(), Fault> {
    for message in attachments::messages_of(tx, &file.name)? {
        if !outbox::is_waiting(tx, &message)? {
            return Err(conflict(format!(
                "{message} was already sent with the file"
            )));
        }
    }
    attachments::advance(tx, &file.name, AttachmentStatus::Cancelled, None)?;
    let reason = format!("its file {} was cancelled", file.name);
    fail_messages(tx, &file.name, FailureCode::Cancelled, &reason)
}

/// Queues the download of a file that was not fetched automatically, was cancelled or failed.
/// Idempotent.
///
/// # Errors
/// `conflict` for an outgoing file; `files_too_large` if the files of its message exceed the limit
/// in total.
pub fn fetch(tx: &Tx<'_>, file: &Attachment) -> Result<(), Fault> {
    if file.direction == Direction::Out {
        return Err(conflict("the file was sent by this node"));
    }
    for message in attachments::messages_of(tx, &file.name)? {
        let files = attachments::of_message(tx, &message)?;
        let total = files.iter().fold(0_u64, |sum, file| {
            sum.saturating_add(file.descriptor.sealed.pt_len)
        });
        if total > limits::MESSAGE_FILES_BYTES_MAX {
            let detail = format!(
                "{total} bytes in total; the limit is {}",
                limits::MESSAGE_FILES_BYTES_MAX
            );
            return Err(Fault::refused(ProblemCode::FilesTooLarge, detail));
        }
    }
    attachments::advance(tx, &file.name, AttachmentStatus::Waiting, None).map(|_| ())
}

fn conflict(detail: impl Into<std::borrow::Cow<'static, str>>) -> Fault {
    Fault::refused(ProblemCode::Conflict, detail)
}
