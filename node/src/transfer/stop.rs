//! What a person may do to a file on the move: stop it, and ask for one that was not fetched by itself.

use super::halt::fail_messages;
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

/// Stops a file. One of ours is not sent, and no message that needs it is; one of theirs can be asked for again. What is
/// stopped already stays so.
///
/// # Errors
/// `conflict` when it is too late.
pub fn cancel(tx: &Tx<'_>, file: &Attachment) -> Result<(), Fault> {
    match file.status {
        AttachmentStatus::Uploading | AttachmentStatus::Uploaded => cancel_ours(tx, file),
        AttachmentStatus::Waiting | AttachmentStatus::Downloading => attachments::advance(
            tx,
            &file.name,
            AttachmentStatus::Offered,
            Some("it was stopped here"),
        )
        .map(|_| ()),
        AttachmentStatus::Cancelled | AttachmentStatus::Offered | AttachmentStatus::Failed => {
            Ok(())
        }
        AttachmentStatus::Staged => Err(conflict("no message has taken it yet: delete it")),
        AttachmentStatus::Ready => Err(conflict("it is here already")),
        AttachmentStatus::Released => {
            Err(conflict("it has arrived already, or its message has ended"))
        }
    }
}

fn cancel_ours(tx: &Tx<'_>, file: &Attachment) -> Result<(), Fault> {
    for message in attachments::messages_of(tx, &file.name)? {
        if !outbox::is_waiting(tx, &message)? {
            return Err(conflict(format!("{message} has gone with it already")));
        }
    }
    attachments::advance(tx, &file.name, AttachmentStatus::Cancelled, None)?;
    let why = format!("its file {} was cancelled", file.name);
    fail_messages(tx, &file.name, FailureCode::Cancelled, &why)
}

/// Asks for a file of theirs that is not fetched by itself, was stopped or failed. What is on its way or here stays so.
///
/// # Errors
/// `conflict` for a file of ours; `files_too_large` for one of a message whose files are over the limit together.
pub fn fetch(tx: &Tx<'_>, file: &Attachment) -> Result<(), Fault> {
    if file.direction == Direction::Out {
        return Err(conflict("it is a file of this node's own"));
    }
    for message in attachments::messages_of(tx, &file.name)? {
        let files = attachments::of_message(tx, &message)?;
        let total = files.iter().fold(0_u64, |sum, file| {
            sum.saturating_add(file.descriptor.sealed.pt_len)
        });
        if total > limits::MESSAGE_FILES_BYTES_MAX {
            let detail = format!(
                "{total} bytes in all, the limit is {}",
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
