//! File whose transfer is running.

use super::{
    Download, EarlyUpload, PROGRESS_SAVE_INTERVAL, TransferError, Upload, meter::Meter,
    snapshot::FileIdentity,
};
use crate::{
    daemon::Database,
    fault::Fault,
    progress::Progress,
    store::files::{self, StoredFile},
};
use sealpost_node_core::transfer::{PartSet, Step};
use sealpost_proto::BlobSize;
use std::sync::Arc;
use tokio::{task::AbortHandle, time::Instant};

/// Active file with its running steps, which are aborted when it is dropped.
pub(super) struct ActiveFile {
    pub(super) transfer: FileTransfer,
    /// `None` for an early upload, which no message needs yet.
    pub(super) row: Option<StoredFile>,
    progress_saved_at: Instant,
    tasks: Vec<AbortHandle>,
}

#[derive(Clone)]
pub(super) enum FileTransfer {
    Upload(Arc<Upload>),
    Early(Arc<EarlyUpload>),
    Download(Arc<Download>),
}

/// Result of a step of the schedule.
pub(super) struct FinishedStep {
    /// Key of the active file in the schedule.
    pub(super) key: u64,
    pub(super) step: Step,
    pub(super) outcome: Result<StepOutcome, TransferError>,
}

pub(super) enum StepOutcome {
    /// The transfer is prepared; these parts need not be transferred.
    Present(PartSet),
    Done,
}

impl FileTransfer {
    pub(super) async fn run_step(self, step: Step) -> Result<StepOutcome, TransferError> {
        match step {
            Step::Prepare => self.prepare().await.map(StepOutcome::Present),
            Step::Part(number) => self.transfer_part(number).await.map(|()| StepOutcome::Done),
            Step::Finish => self.complete().await.map(|()| StepOutcome::Done),
        }
    }

    async fn prepare(&self) -> Result<PartSet, TransferError> {
        match self {
            Self::Upload(file) => file.prepare().await,
            Self::Early(file) => file.prepare().await,
            Self::Download(file) => file.prepare().await,
        }
    }

    async fn transfer_part(&self, number: u32) -> Result<(), TransferError> {
        match self {
            Self::Upload(file) => file.blob.put_part(number).await,
            Self::Early(file) => file.blob.put_part(number).await,
            Self::Download(file) => file.fetch_part(number).await,
        }
    }

    async fn complete(&self) -> Result<(), TransferError> {
        match self {
            Self::Upload(file) => file.complete().await,
            // The schedule completes an early upload only after its promotion.
            Self::Early(_) => Ok(()),
            Self::Download(file) => file.complete().await,
        }
    }

    fn meter(&self) -> &Arc<Meter> {
        match self {
            Self::Upload(file) => &file.blob.meter,
            Self::Early(file) => &file.blob.meter,
            Self::Download(file) => &file.meter,
        }
    }

    fn size(&self) -> BlobSize {
        match self {
            Self::Upload(file) => file.blob.size,
            Self::Early(file) => file.blob.size,
            Self::Download(file) => file.size,
        }
    }
}

impl ActiveFile {
    pub(super) fn new(transfer: FileTransfer, row: Option<StoredFile>) -> Self {
        Self {
            transfer,
            row,
            progress_saved_at: Instant::now(),
            tasks: Vec::new(),
        }
    }

    pub(super) fn add_task(&mut self, task: AbortHandle) {
        self.tasks.retain(|task| !task.is_finished());
        self.tasks.push(task);
    }

    pub(super) fn transferred_bytes(&self) -> u64 {
        self.transfer.meter().bytes()
    }

    pub(super) fn identity(&self) -> FileIdentity {
        match (&self.transfer, &self.row) {
            (FileTransfer::Early(upload), None) => FileIdentity::Early {
                blob: upload.blob.id,
                is_being_sealed: upload.is_being_sealed(),
            },
            (_, row) => FileIdentity::Row(row.as_ref().map(|row| row.id)),
        }
    }

    /// Continues an early upload as the upload of `row`. Running steps finish as steps of the new
    /// upload.
    pub(super) fn promote(&mut self, row: StoredFile, present: PartSet, progress: &Progress) {
        let FileTransfer::Early(early) = &self.transfer else {
            return;
        };
        let upload = Upload::from_early(early, row.clone());
        (self.transfer, self.row) = (FileTransfer::Upload(Arc::new(upload)), Some(row));
        self.start_meter(present, progress);
    }

    /// Publishes the progress of the file from now on, unless no message needs it yet.
    pub(super) fn start_meter(&self, present: PartSet, progress: &Progress) {
        if let Some(row) = &self.row {
            self.transfer
                .meter()
                .start(progress, row, self.transfer.size(), present);
        }
    }

    /// Resets the failure count after a successful step, and stores the progress at intervals.
    pub(super) async fn record_progress(&mut self, database: &Database) -> Result<(), Fault> {
        let bytes = self.transferred_bytes();
        let Some(row) = &mut self.row else {
            return Ok(());
        };
        let has_failed = row.attempt > 0 || row.reason.is_some();
        if !has_failed && self.progress_saved_at.elapsed() < PROGRESS_SAVE_INTERVAL {
            return Ok(());
        }
        (row.attempt, row.reason, self.progress_saved_at) = (0, None, Instant::now());
        let id = row.id;
        database
            .write_without_wake_up(move |tx| files::set_transferred(tx, id, bytes))
            .await
    }
}

impl Drop for ActiveFile {
    fn drop(&mut self) {
        self.tasks.iter().for_each(AbortHandle::abort);
    }
}
