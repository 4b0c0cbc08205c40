//! State of the files in the database, compared with the running transfers.

use super::{ACTIVE_FILES_MAX, Direction, Fault, FileStatus, StoredFile, Tx, files};
use sealpost_node_core::model::FileId;
use sealpost_proto::{BlobId, Timestamp};

/// Identity of an active file in the database.
pub(super) enum FileIdentity {
    /// Id of its row.
    Row(Option<FileId>),
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

/// Changes that bring the running transfers up to date with the database.
pub(super) struct Snapshot {
    /// Active files whose transfer must stop.
    pub(super) stopped: Vec<(u64, StopMode)>,
    /// Early uploads whose files a message needs now.
    pub(super) promoted: Vec<(u64, StoredFile)>,
    /// Files to start, with the digests of their parts.
    pub(super) new: Vec<(StoredFile, Vec<[u8; 32]>)>,
    /// When the next file will be due.
    pub(super) due: Option<Timestamp>,
}

impl Snapshot {
    pub(super) fn read(
        tx: &Tx<'_>,
        direction: Direction,
        active: &[(u64, FileIdentity)],
    ) -> Result<Self, Fault> {
        let mut snapshot = Self {
            stopped: Vec::new(),
            promoted: Vec::new(),
            new: Vec::new(),
            due: files::find_next_due(tx, direction)?,
        };
        for (key, identity) in active {
            match identity {
                FileIdentity::Row(Some(id)) if files::is_transferring(tx, *id)? => {}
                FileIdentity::Row(_) => snapshot.stopped.push((*key, StopMode::Immediately)),
                FileIdentity::Early {
                    blob,
                    is_being_sealed,
                } => snapshot.check_early_upload(tx, *key, blob, *is_being_sealed)?,
            }
        }
        for row in files::load_due_transfers(tx, direction, 2 * ACTIVE_FILES_MAX)? {
            if !active.iter().any(|(_, identity)| identity.matches(&row)) {
                let digests = files::load_part_digests(tx, row.id)?;
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
        match files::find_by_blob(tx, blob)? {
            Some(row) if row.status == FileStatus::Uploading => {
                self.promoted.push((key, row));
            }
            Some(row) if row.status == FileStatus::Staged => {}
            None if is_being_sealed => {}
            Some(_) | None => self.stopped.push((key, StopMode::AfterRunningSteps)),
        }
        Ok(())
    }
}

impl FileIdentity {
    fn matches(&self, row: &StoredFile) -> bool {
        match self {
            Self::Row(id) => *id == Some(row.id),
            Self::Early { blob, .. } => *blob == row.descriptor.blob.id,
        }
    }
}
