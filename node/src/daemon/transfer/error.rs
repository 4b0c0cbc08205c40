//! Errors of a file transfer, and their consequences for the file and the messages that need it.

use crate::{
    daemon::{
        Database,
        retry::{unreachable_backoff, wait_after},
    },
    fault::Fault,
    files::DownloadError,
    lost_blobs,
    store::{
        Tx,
        deliveries::{self, StatusChange},
        files::{self, StoredFile},
        outbox,
    },
};
use sealpost_node_core::model::{Direction, FileId, FileStatus, MessageRowId};
use sealpost_proto::{DeliveryStatus, FailureCode};
use sealpost_relay_client::ClientError;
use std::time::Duration;

/// Error of a transfer step.
pub(super) enum TransferError {
    Retryable {
        reason: String,
        /// Delay that the relay requested.
        retry_after: Option<Duration>,
    },
    Permanent(String),
    /// The relay does not have the blob of an incoming file. Its sender may upload it again.
    BlobGone,
}

impl From<Fault> for TransferError {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::DiskFull => Self::retryable(
                "this node's disk is full; the transfer resumes once there is space",
            ),
            fault => {
                tracing::error!(%fault, "a file transfer failed and will be retried");
                Self::retryable(fault.to_string())
            }
        }
    }
}

impl From<std::io::Error> for TransferError {
    fn from(error: std::io::Error) -> Self {
        Fault::from(error).into()
    }
}

impl From<DownloadError> for TransferError {
    fn from(error: DownloadError) -> Self {
        match error {
            DownloadError::NotDescribed => {
                Self::Permanent(format!("{error}; ask the sender to send it again"))
            }
            DownloadError::PartLength => Self::retryable(error.to_string()),
            DownloadError::Disk(error) => error.into(),
        }
    }
}

/// Treats every error of the relay as retryable: a suspended account can resume, and a part that
/// was slow or corrupted on the network can be sent again. Callers that know of permanent errors
/// match on them first.
impl From<ClientError> for TransferError {
    fn from(error: ClientError) -> Self {
        let retry_after = error.retry_after().map(|_| wait_after(&error, 0));
        Self::Retryable {
            reason: error.to_string(),
            retry_after,
        }
    }
}

impl TransferError {
    pub(super) fn retryable(reason: impl Into<String>) -> Self {
        Self::Retryable {
            reason: reason.into(),
            retry_after: None,
        }
    }

    /// Whether the transfer must not continue until something else has changed.
    pub(super) const fn ends_transfer(&self) -> bool {
        matches!(self, Self::Permanent(_) | Self::BlobGone)
    }

    /// Stores the error with the file; `bytes` is the progress so far.
    pub(super) async fn record(
        self,
        database: &Database,
        file: &StoredFile,
        bytes: u64,
    ) -> Result<(), Fault> {
        match self {
            Self::Retryable {
                reason,
                retry_after,
            } => schedule_retry(database, file, bytes, reason, retry_after).await,
            Self::Permanent(reason) => {
                tracing::error!(
                    file = %file.id,
                    reason,
                    "a file transfer failed permanently"
                );
                let (id, direction) = (file.id, file.direction);
                database
                    .write(move |tx| fail_file(tx, id, direction, &reason))
                    .await
            }
            Self::BlobGone => {
                let id = file.id;
                database
                    .write(move |tx| lost_blobs::request_file(tx, id))
                    .await
            }
        }
    }
}

/// Schedules a retry and stores the reason, for an upload also with the messages that wait for it.
async fn schedule_retry(
    database: &Database,
    file: &StoredFile,
    bytes: u64,
    reason: String,
    retry_after: Option<Duration>,
) -> Result<(), Fault> {
    let wait = retry_after.unwrap_or_else(|| unreachable_backoff(file.attempt));
    let at = database.now().plus(wait);
    let (id, attempt, is_upload) = (file.id, file.attempt + 1, file.direction == Direction::Out);
    database
        .write_without_wake_up(move |tx| {
            files::set_transferred(tx, id, bytes)?;
            files::postpone(tx, id, attempt, &reason, at)?;
            let waiting = if is_upload {
                files::find_messages(tx, id)?
            } else {
                Vec::new()
            };
            let reason = format!("waiting for the upload of a file: {reason}");
            waiting.into_iter().try_for_each(|message| {
                deliveries::set_waiting_reasons(tx, message, &reason, Some(at))
            })
        })
        .await
}

/// Marks a file as failed. If it is an upload, the messages that need it fail too. A file that was
/// uploaded before and cannot be uploaded again is released, and only messages that were never sent
/// fail.
fn fail_file(tx: &Tx<'_>, id: FileId, direction: Direction, reason: &str) -> Result<(), Fault> {
    if direction == Direction::In {
        return files::advance(tx, id, FileStatus::Failed, Some(reason)).map(|_| ());
    }
    if files::was_uploaded(tx, id)? {
        let reason = format!("it could not be uploaded again: {reason}");
        for message in files::find_messages(tx, id)? {
            if outbox::is_unsealed(tx, message)? {
                fail_message(tx, message, FailureCode::FileLost, &reason)?;
            }
        }
        return files::release_after_failure(tx, id, &reason);
    }
    if files::advance(tx, id, FileStatus::Failed, Some(reason))? {
        fail_messages(tx, id, FailureCode::FileLost, reason)?;
    }
    Ok(())
}

/// Fails all messages that need a file.
pub(super) fn fail_messages(
    tx: &Tx<'_>,
    id: FileId,
    code: FailureCode,
    reason: &str,
) -> Result<(), Fault> {
    for message in files::find_messages(tx, id)? {
        fail_message(tx, message, code, reason)?;
    }
    files::release_unless_needed(tx, id)
}

fn fail_message(
    tx: &Tx<'_>,
    message: MessageRowId,
    code: FailureCode,
    reason: &str,
) -> Result<(), Fault> {
    let change = StatusChange {
        code: Some(code),
        reason: Some(reason.to_owned()),
        ..StatusChange::default()
    };
    outbox::remove_for_message(tx, message)?;
    deliveries::advance_all(tx, message, DeliveryStatus::Failed, &change)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{connected_pair, settle};

    #[test]
    fn failed_upload_fails_only_its_message() {
        let mut pair = connected_pair(500);
        let file = pair.acme.stage(10);
        let lost = pair.acme.send_files(pair.to_bolt, "with a file", &[file]);
        let other = pair.acme.send(pair.to_bolt, "without");
        pair.acme
            .step(|tx, _| fail_file(tx, file, Direction::Out, "the disk lost it"));
        let stored = pair.acme.delivery(&lost);
        assert_eq!(
            (stored.status, stored.code),
            (DeliveryStatus::Failed, Some(FailureCode::FileLost))
        );
        assert_eq!(stored.reason.as_deref(), Some("the disk lost it"));
        settle(&mut pair.acme, &mut pair.bolt);
        assert_eq!(pair.bolt.received_texts(), ["without"]);
        assert_eq!(pair.acme.delivery(&other).status, DeliveryStatus::Delivered);
    }

    #[test]
    fn failed_repeated_upload_fails_no_sent_message() {
        let mut pair = connected_pair(503);
        let file = pair.acme.stage(10);
        let sent = pair.acme.send_files(pair.to_bolt, "sent before", &[file]);
        pair.acme.record_uploaded(file);
        settle(&mut pair.acme, &mut pair.bolt);
        pair.acme.step(|tx, _| files::upload_again(tx, file));
        let unsent = pair.acme.send_files(pair.to_bolt, "waits for it", &[file]);
        pair.acme
            .step(|tx, _| fail_file(tx, file, Direction::Out, "the disk lost it"));
        assert_eq!(pair.acme.file(file).status, FileStatus::Released);
        assert_eq!(pair.acme.delivery(&sent).status, DeliveryStatus::Delivered);
        let rows = "SELECT count(*) FROM outbox WHERE message IS NOT NULL";
        assert_eq!(pair.acme.query_number(rows), 1, "it can be sent again");
        let stored = pair.acme.delivery(&unsent);
        let expected = (DeliveryStatus::Failed, Some(FailureCode::FileLost));
        assert_eq!((stored.status, stored.code), expected);
    }

    #[test]
    fn blob_requests_leave_the_file_reason() {
        let mut pair = connected_pair(505);
        let file = pair.acme.stage(10);
        pair.acme.send_files(pair.to_bolt, "with a file", &[file]);
        pair.acme
            .step(|tx, _| fail_file(tx, file, Direction::Out, "the disk lost it"));
        let at = pair.acme.now.plus(Duration::from_secs(5));
        pair.acme.step(|tx, _| {
            files::postpone_blob_request(tx, file, 1, "the relay does not respond", at)
        });
        let stored = pair.acme.file(file);
        assert_eq!(
            (stored.attempt, stored.reason.as_deref()),
            (0, Some("the disk lost it"))
        );
        pair.acme
            .step(|tx, _| files::complete_blob_request(tx, file));
        let stored = pair.acme.file(file);
        assert_eq!(stored.status, FileStatus::Failed);
        assert_eq!(stored.reason.as_deref(), Some("the disk lost it"));
    }

    #[test]
    fn failed_download_leaves_its_message() {
        let mut pair = connected_pair(510);
        let file = pair.acme.stage(10);
        pair.acme.send_files(pair.to_bolt, "with a file", &[file]);
        pair.acme.record_uploaded(file);
        settle(&mut pair.acme, &mut pair.bolt);
        let received = pair.bolt.received_files().remove(0).id;
        pair.bolt.step(|tx, _| {
            fail_file(
                tx,
                received,
                Direction::In,
                "not the file that was described",
            )
        });
        let stored = pair.bolt.step(|tx, _| files::load(tx, received)).unwrap();
        assert_eq!(stored.status, FileStatus::Failed);
        assert_eq!(pair.bolt.received_texts(), ["with a file"]);
    }
}
