//! Files on the move: ours to the relay, theirs from it, in parts, each on disk before the next. After a crash or a cut
//! both go on where they were.

use crate::{
    api::model::{AttachmentStatus, Direction},
    daemon::{self, Daemon},
    fault::Fault,
    files::Fetched,
    store::{
        Tx,
        attachments::{self, Attachment},
        deliveries::{self, Change},
        outbox,
    },
};
use sealpost_proto::{
    BlobSize, DeliveryStatus, ErrorCode, FailureCode, limits,
    wire::{BlobState, CompleteBlob, CreateBlob},
};
use sealpost_relay_client::ClientError;
use sealpost_signatures::ContentDigest;
use sha2::{Digest as _, Sha256};
use std::{sync::Arc, time::Duration};

/// Files looked at in one round of a direction.
const ROUND: i64 = 16;

/// Why a file did not come further.
enum Halt {
    /// Try again after a while.
    Later { reason: String, wait: Option<Duration> },
    /// It cannot be.
    Never(String),
    /// Our own fault.
    Fault(Fault),
}

impl From<Fault> for Halt {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

impl From<std::io::Error> for Halt {
    fn from(error: std::io::Error) -> Self {
        Self::Fault(error.into())
    }
}

impl From<ClientError> for Halt {
    fn from(error: ClientError) -> Self {
        let (reason, asks) = (error.to_string(), error.retry_after().is_some());
        let wait = asks.then(|| daemon::wait_after(&error, 0));
        if error.is_retryable() { Self::Later { reason, wait } } else { Self::Never(reason) }
    }
}

fn later(reason: &str) -> Halt {
    Halt::Later { reason: reason.to_owned(), wait: None }
}

/// Uploads until the end.
pub async fn upload(daemon: Arc<Daemon>) {
    move_all(daemon, Direction::Out).await;
}

/// Downloads until the end.
pub async fn download(daemon: Arc<Daemon>) {
    move_all(daemon, Direction::In).await;
}

async fn move_all(daemon: Arc<Daemon>, direction: Direction) {
    while !daemon.shutdown.is_triggered() {
        let moving = daemon.read(move |tx| attachments::moving(tx, direction, ROUND)).await.unwrap_or_else(|fault| {
            tracing::error!(%fault, "files on the move could not be read");
            Vec::new()
        });
        if moving.is_empty() {
            let due = daemon.read(move |tx| attachments::next_due(tx, direction)).await.unwrap_or_default();
            match direction {
                Direction::Out => daemon.rest_before_upload(due).await,
                Direction::In => daemon.rest_before_download(due).await,
            }
        }
        for file in moving {
            tokio::select! {
                () = move_one(&daemon, &file) => {}
                () = daemon.shutdown.triggered() => return,
            }
        }
    }
}

async fn move_one(daemon: &Daemon, file: &Attachment) {
    let moved = match file.direction {
        Direction::Out => upload_one(daemon, file).await,
        Direction::In => download_one(daemon, file).await,
    };
    let noted = match moved {
        Ok(()) => Ok(()),
        Err(Halt::Later { reason, wait }) => postpone(daemon, file, reason, wait).await,
        Err(Halt::Never(reason)) => give_up(daemon, file, reason).await,
        Err(Halt::Fault(fault)) => {
            tracing::error!(%fault, file = file.name, "a file does not move; it is tried again");
            postpone(daemon, file, fault.to_string(), None).await
        }
    };
    if let Err(fault) = noted {
        tracing::error!(%fault, file = file.name, "how far a file is could not be stored");
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

/// A file that waits says why, and so do the messages of ours that wait for it.
async fn postpone(daemon: &Daemon, file: &Attachment, reason: String, wait: Option<Duration>) -> Result<(), Fault> {
    let at = daemon.now().plus(wait.unwrap_or_else(|| daemon::backoff(file.attempt).min(daemon::LONGEST_SILENCE)));
    let (name, is_ours) = (file.name.clone(), file.direction == Direction::Out);
    daemon
        .commit(move |tx| {
            attachments::postpone(tx, &name, &reason, at)?;
            let waiting = if is_ours { attachments::messages_of(tx, &name)? } else { Vec::new() };
            let why = format!("a file is not at the relay yet: {reason}");
            waiting.iter().try_for_each(|message| deliveries::explain(tx, message, &why, Some(at)))
        })
        .await
}

/// A file that cannot be moved ends; the messages of ours that need it fail, and say so.
async fn give_up(daemon: &Daemon, file: &Attachment, reason: String) -> Result<(), Fault> {
    tracing::error!(file = file.name, reason, "a file cannot be moved");
    let (name, direction) = (file.name.clone(), file.direction);
    daemon.write(move |tx| lose(tx, &name, direction, &reason)).await
}

fn lose(tx: &Tx<'_>, name: &str, direction: Direction, reason: &str) -> Result<(), Fault> {
    attachments::set_status(tx, name, AttachmentStatus::Failed, Some(reason))?;
    if direction == Direction::In {
        return Ok(());
    }
    let change = Change { code: Some(FailureCode::FileLost), reason: Some(reason.to_owned()), ..Change::default() };
    for message in attachments::messages_of(tx, name)? {
        outbox::remove_message(tx, &message)?;
        deliveries::advance(tx, &message, DeliveryStatus::Failed, &change)?;
    }
    Ok(())
}

async fn upload_one(daemon: &Daemon, file: &Attachment) -> Result<(), Halt> {
    let descriptor = &file.descriptor;
    let size = BlobSize::parse(descriptor.sealed.ct_len, limits::BLOB_BYTES_MAX)
        .map_err(|code| Halt::Never(code.title().to_owned()))?;
    let life = limits::ENVELOPE_LIFE_DEFAULT.saturating_add(limits::BLOB_LIFE_BEYOND_MESSAGE);
    let create = CreateBlob {
        id: descriptor.blob.id,
        size_bytes: size.bytes(),
        fetch_token_hash: Sha256::digest(descriptor.fetch_token.expose()).to_vec().into(),
        expires_at: daemon.now().plus(life),
    };
    let mut blob = daemon.relay.create_blob(&create).await?;
    daemon.reached().await;
    if blob.state == BlobState::Uploading {
        for number in (0..size.parts()).filter(|number| !blob.present.contains(number)) {
            let range = size.part_range(number).unwrap_or_default();
            let end = range.end;
            let bytes = daemon.files.read_range(&descriptor.blob.id, range).await?;
            daemon.relay.put_part(descriptor.blob.id, number, bytes.clone(), ContentDigest::of(&bytes)).await?;
            note_progress(daemon, file, end).await?;
        }
        let complete = CompleteBlob { digest: descriptor.sealed.ct_hash.to_vec().into() };
        blob = daemon.relay.complete_blob(descriptor.blob.id, &complete).await?;
    }
    if blob.state != BlobState::Complete {
        return Err(later("the relay does not have all parts"));
    }
    let name = file.name.clone();
    Ok(daemon.write(move |tx| attachments::set_status(tx, &name, AttachmentStatus::Uploaded, None)).await?)
}

async fn note_progress(daemon: &Daemon, file: &Attachment, transferred: u64) -> Result<(), Fault> {
    let name = file.name.clone();
    daemon.commit(move |tx| attachments::set_transferred(tx, &name, transferred)).await
}

async fn download_one(daemon: &Daemon, file: &Attachment) -> Result<(), Halt> {
    let descriptor = &file.descriptor;
    let size = BlobSize::parse(descriptor.sealed.ct_len, limits::BLOB_BYTES_MAX)
        .map_err(|code| Halt::Never(code.title().to_owned()))?;
    if daemon.files.has(&descriptor.blob.id).await {
        return finish_download(daemon, file).await;
    }
    if file.status == AttachmentStatus::Waiting {
        let name = file.name.clone();
        daemon.commit(move |tx| attachments::set_status(tx, &name, AttachmentStatus::Downloading, None)).await?;
    }
    for number in 0..size.parts() {
        let range = size.part_range(number).unwrap_or_default();
        if range.end <= file.transferred {
            continue;
        }
        let bytes = fetch(daemon, file, number).await?;
        if bytes.len() as u64 != range.end - range.start {
            return Err(Halt::Never("the relay answers with parts of another length".to_owned()));
        }
        daemon.files.write_part(&descriptor.blob.id, range.start, &bytes).await?;
        note_progress(daemon, file, range.end).await?;
    }
    finish_download(daemon, file).await
}

async fn fetch(daemon: &Daemon, file: &Attachment, number: u32) -> Result<bytes::Bytes, Halt> {
    let descriptor = &file.descriptor;
    match daemon.relay.part(&descriptor.blob, number, &descriptor.fetch_token).await {
        Ok(bytes) => Ok(bytes),
        Err(ClientError::Problem(problem)) if problem.code == ErrorCode::NotFound => {
            Err(Halt::Never("the relay does not have the file any more: ask for it to be sent again".to_owned()))
        }
        Err(error) => Err(error.into()),
    }
}

/// All parts are here: the file is handed out only when it is the one that its sender described.
async fn finish_download(daemon: &Daemon, file: &Attachment) -> Result<(), Halt> {
    let descriptor = &file.descriptor;
    let fetched = daemon.files.verify_fetched(&descriptor.blob.id, &descriptor.file_key, &descriptor.sealed).await?;
    let sha256 = match fetched {
        Fetched::Whole(sha256) => sha256,
        Fetched::Other => {
            let why = "the file is not the one that its sender described: ask for it to be sent again";
            return Err(Halt::Never(why.to_owned()));
        }
        Fetched::Missing => {
            note_progress(daemon, file, 0).await?;
            return Err(later("its parts have gone from this disk; they are fetched again"));
        }
    };
    let name = file.name.clone();
    let store = daemon.write(move |tx| {
        attachments::set_sha256(tx, &name, &sha256)?;
        attachments::set_status(tx, &name, AttachmentStatus::Ready, None)
    });
    Ok(store.await?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{pair, settle};

    #[test]
    fn a_file_that_is_lost_fails_its_message_and_those_behind_go_on() {
        let mut pair = pair(500);
        let file = pair.acme.stage(10);
        let lost = pair.acme.send_files(&pair.to_bolt, "with a file", std::slice::from_ref(&file));
        let goes = pair.acme.send(&pair.to_bolt, "without");
        pair.acme.step(|tx, _| lose(tx, &file, Direction::Out, "the disk lost it"));
        let shown = pair.acme.delivery(&lost);
        assert_eq!((shown.status, shown.code), (DeliveryStatus::Failed, Some(FailureCode::FileLost)));
        assert_eq!(shown.reason.as_deref(), Some("the disk lost it"));
        settle(&mut pair.acme, &mut pair.bolt);
        assert_eq!(pair.bolt.texts(), ["without"]);
        assert_eq!(pair.acme.delivery(&goes).status, DeliveryStatus::Delivered);
    }

    #[test]
    fn a_file_of_theirs_that_is_lost_fails_alone() {
        let mut pair = pair(510);
        let file = pair.acme.stage(10);
        pair.acme.send_files(&pair.to_bolt, "with a file", std::slice::from_ref(&file));
        pair.acme.step(|tx, _| attachments::set_status(tx, &file, AttachmentStatus::Uploaded, None));
        settle(&mut pair.acme, &mut pair.bolt);
        let message = pair.bolt.arrived().remove(0).name;
        let theirs = pair.bolt.step(|tx, _| attachments::of_message(tx, &message)).remove(0).name;
        pair.bolt.step(|tx, _| lose(tx, &theirs, Direction::In, "not the file that was described"));
        let shown = pair.bolt.step(|tx, _| attachments::load(tx, &theirs)).unwrap();
        assert_eq!(shown.status, AttachmentStatus::Failed);
        assert_eq!(pair.bolt.texts(), ["with a file"]);
    }
}
