//! Why a file does not come further, and what that means for it and for the messages that need it.

use crate::{
    api::model::{AttachmentStatus, Direction},
    daemon::{self, Daemon},
    fault::Fault,
    files::FetchError,
    store::{
        Tx,
        attachments::{self, Attachment},
        deliveries::{self, Change},
        outbox,
    },
};
use sealpost_proto::{DeliveryStatus, FailureCode};
use sealpost_relay_client::ClientError;
use std::time::Duration;

/// Why a step failed.
pub(super) enum Halt {
    /// Try again after a while.
    Later {
        reason: String,
        wait: Option<Duration>,
    },
    /// It cannot be.
    Never(String),
}

impl From<Fault> for Halt {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::DiskFull => {
                Self::later("this node's disk is full: make room, and it goes on by itself")
            }
            fault => {
                tracing::error!(%fault, "a file does not move; it is tried again");
                Self::later(fault.to_string())
            }
        }
    }
}

impl From<std::io::Error> for Halt {
    fn from(error: std::io::Error) -> Self {
        Fault::from(error).into()
    }
}

impl From<FetchError> for Halt {
    fn from(error: FetchError) -> Self {
        match error {
            FetchError::NotDescribed => {
                Self::Never(format!("{error}: ask for it to be sent again"))
            }
            FetchError::PartLength => Self::later(error.to_string()),
            FetchError::Disk(error) => error.into(),
        }
    }
}

/// Whatever the relay says passes: a suspended account is resumed, a part that came too slowly or changed on the way is sent
/// again. What does not pass is told apart where it is asked.
impl From<ClientError> for Halt {
    fn from(error: ClientError) -> Self {
        let wait = error.retry_after().map(|_| daemon::wait_after(&error, 0));
        Self::Later {
            reason: error.to_string(),
            wait,
        }
    }
}

impl Halt {
    pub(super) fn later(reason: impl Into<String>) -> Self {
        Self::Later {
            reason: reason.into(),
            wait: None,
        }
    }

    pub(super) const fn is_final(&self) -> bool {
        matches!(self, Self::Never(_))
    }

    /// Writes it down; `bytes` have moved so far.
    pub(super) async fn note(
        self,
        daemon: &Daemon,
        file: &Attachment,
        bytes: u64,
    ) -> Result<(), Fault> {
        match self {
            Self::Later { reason, wait } => postpone(daemon, file, bytes, reason, wait).await,
            Self::Never(reason) => {
                tracing::error!(file = file.name, reason, "a file cannot be moved");
                let (name, direction) = (file.name.clone(), file.direction);
                daemon
                    .write(move |tx| lose(tx, &name, direction, &reason))
                    .await
            }
        }
    }
}

/// A file that waits says why, and so do the messages of ours that wait for it.
async fn postpone(
    daemon: &Daemon,
    file: &Attachment,
    bytes: u64,
    reason: String,
    wait: Option<Duration>,
) -> Result<(), Fault> {
    let at = daemon
        .now()
        .plus(wait.unwrap_or_else(|| daemon::backoff(file.attempt).min(daemon::LONGEST_SILENCE)));
    let (name, attempt, is_ours) = (
        file.name.clone(),
        file.attempt + 1,
        file.direction == Direction::Out,
    );
    daemon
        .commit(move |tx| {
            attachments::set_transferred(tx, &name, bytes)?;
            attachments::postpone(tx, &name, attempt, &reason, at)?;
            let waiting = if is_ours {
                attachments::messages_of(tx, &name)?
            } else {
                Vec::new()
            };
            let why = format!("a file is not at the relay yet: {reason}");
            waiting
                .iter()
                .try_for_each(|message| deliveries::explain(tx, message, &why, Some(at)))
        })
        .await
}

/// A file that cannot be moved ends; the messages of ours that need it fail, and say so.
fn lose(tx: &Tx<'_>, name: &str, direction: Direction, reason: &str) -> Result<(), Fault> {
    if attachments::advance(tx, name, AttachmentStatus::Failed, Some(reason))?
        && direction == Direction::Out
    {
        fail_messages(tx, name, FailureCode::FileLost, reason)?;
    }
    Ok(())
}

/// The messages that need a file of ours are not sent.
///
/// # Errors
/// When the database fails.
pub(super) fn fail_messages(
    tx: &Tx<'_>,
    name: &str,
    code: FailureCode,
    reason: &str,
) -> Result<(), Fault> {
    let change = Change {
        code: Some(code),
        reason: Some(reason.to_owned()),
        ..Change::default()
    };
    for message in attachments::messages_of(tx, name)? {
        outbox::remove_message(tx, &message)?;
        deliveries::advance(tx, &message, DeliveryStatus::Failed, &change)?;
    }
    attachments::release_unless_needed(tx, name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{pair, settle};

    #[test]
    fn a_file_that_is_lost_fails_its_message_and_those_behind_go_on() {
        let mut pair = pair(500);
        let file = pair.acme.stage(10);
        let lost = pair
            .acme
            .send_files(&pair.to_bolt, "with a file", std::slice::from_ref(&file));
        let goes = pair.acme.send(&pair.to_bolt, "without");
        pair.acme
            .step(|tx, _| lose(tx, &file, Direction::Out, "the disk lost it"));
        let shown = pair.acme.delivery(&lost);
        assert_eq!(
            (shown.status, shown.code),
            (DeliveryStatus::Failed, Some(FailureCode::FileLost))
        );
        assert_eq!(shown.reason.as_deref(), Some("the disk lost it"));
        settle(&mut pair.acme, &mut pair.bolt);
        assert_eq!(pair.bolt.texts(), ["without"]);
        assert_eq!(pair.acme.delivery(&goes).status, DeliveryStatus::Delivered);
    }

    #[test]
    fn a_file_of_theirs_that_is_lost_fails_alone() {
        let mut pair = pair(510);
        let file = pair.acme.stage(10);
        pair.acme
            .send_files(&pair.to_bolt, "with a file", std::slice::from_ref(&file));
        pair.acme.uploaded(&file);
        settle(&mut pair.acme, &mut pair.bolt);
        let message = pair.bolt.arrived().remove(0).name;
        let theirs = pair
            .bolt
            .step(|tx, _| attachments::of_message(tx, &message))
            .remove(0)
            .name;
        pair.bolt.step(|tx, _| {
            lose(
                tx,
                &theirs,
                Direction::In,
                "not the file that was described",
            )
        });
        let shown = pair
            .bolt
            .step(|tx, _| attachments::load(tx, &theirs))
            .unwrap();
        assert_eq!(shown.status, AttachmentStatus::Failed);
        assert_eq!(pair.bolt.texts(), ["with a file"]);
    }
}
