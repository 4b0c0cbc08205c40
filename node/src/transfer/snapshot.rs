//! State of the files in the database, compared with those that a worker is moving.

use super::{ACTIVE_FILES_MAX, Attachment, AttachmentStatus, Direction, Fault, Tx, attachments};
use sealpost_proto::{BlobId, Timestamp};

/// Identity of an active file in the database.
pub(super) enum FileSource {
    /// Name of its row.
    Row(String),
    /// Early upload, which may not have a row yet.
    Early { blob: BlobId, is_being_sealed: bool },
}

pub(super) enum StopMode {
    /// Aborts running steps.
    Immediately,
    /// Waits for running steps, so that no part reaches the relay after the request to delete the
    /// blob.
    AfterRunningSteps,
}

/// Changes that bring a worker up to date with the database.
pub(super) struct Snapshot {
    /// Active files that should no longer move.
    pub(super) stopped: Vec<(u64, StopMode)>,
    /// Early uploads whose files a message needs now.
    pub(super) promoted: Vec<(u64, Attachment)>,
    /// Files to start, with the digests of their parts.
    pub(super) new: Vec<(Attachment, Vec<[u8; 32]>)>,
    /// When the next file will be due.
    pub(super) due: Option<Timestamp>,
}

impl Snapshot {
    pub(super) fn read(
        tx: &Tx<'_>,
        direction: Direction,
        active: &[(u64, FileSource)],
    ) -> Result<Self, Fault> {
        let mut snapshot = Self {
            stopped: Vec::new(),
            promoted: Vec::new(),
            new: Vec::new(),
            due: attachments::next_due(tx, direction)?,
        };
        for (key, source) in active {
            match source {
                FileSource::Row(name) if attachments::is_moving(tx, name)? => {}
                FileSource::Row(_) => snapshot.stopped.push((*key, StopMode::Immediately)),
                FileSource::Early {
                    blob,
                    is_being_sealed,
                } => snapshot.check_early_upload(tx, *key, blob, *is_being_sealed)?,
            }
        }
        for row in attachments::moving(tx, direction, 2 * ACTIVE_FILES_MAX)? {
            if !active.iter().any(|(_, source)| source.matches(&row)) {
                let digests = attachments::part_digests(tx, &row.name)?;
                snapshot.new.push((row, digests));
            }
        }
        Ok(snapshot)
    }

    fn check_early_upload(
        &mut self,
        tx: &Tx<'_>,
        key: u64,
        blob: &BlobId,
        is_being_sealed: bool,
    ) -> Result<(), Fault> {
        match attachments::of_blob(tx, blob)? {
            Some(row) if row.status == AttachmentStatus::Uploading => {
                self.promoted.push((key, row));
            }
            Some(row) if row.status == AttachmentStatus::Staged => {}
            None if is_being_sealed => {}
            Some(_) | None => self.stopped.push((key, StopMode::AfterRunningSteps)),
        }
        Ok(())
    }
}

impl FileSource {
    fn matches(&self, row: &Attachment) -> bool {
        match self {
            Self::Row(name) => *name == row.name,
            Self::Early { blob, .. } => *blob == row.descriptor.blob.id,
        }
    }
}
