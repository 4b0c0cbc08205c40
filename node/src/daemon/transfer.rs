//! File transfers between this node and relays, several parts at a time.
//!
//! [`sealpost_node_core::transfer`] decides which part is transferred next; this module transfers
//! it. After a crash or a lost connection, both directions resume: which parts exist is read from
//! the relay and from this disk, never from memory.
//!
//! After a retryable error, a file is removed from the schedule, and its row in the database stores
//! when to retry. Once it is due, it starts like a new file. While a file is still being sealed,
//! its first parts can be uploaded ahead of its message ([`early`]); then it has no row yet.

mod actions;
mod active_file;
mod blob_maintenance;
mod download;
mod early;
mod error;
mod meter;
mod snapshot;
mod upload;

pub(crate) use actions::{cancel, request_download};
pub(super) use blob_maintenance::maintain_blobs;
pub(crate) use early::{EarlyUploads, Staging};

use super::{
    Database, HomeRelay,
    worker::{NextRun, PeriodicTask, Worker},
};
use crate::{
    fault::Fault,
    files::Files,
    progress::Progress,
    store::{
        Tx,
        files::{self, StoredFile},
    },
};
use active_file::{ActiveFile, FileTransfer, FinishedStep, StepOutcome};
use download::Download;
use early::EarlyUpload;
use error::TransferError;
use sealpost_node_core::{
    model::{Direction, FileStatus},
    transfer::Schedule,
};
use sealpost_proto::{BlobSize, Timestamp, limits};
use snapshot::{Snapshot, StopMode};
use std::{collections::HashMap, pin::pin, sync::Arc, time::Duration};
use tokio::task::JoinSet;
use upload::Upload;

/// Maximum number of active files per direction.
const ACTIVE_FILES_MAX: usize = 16;
/// Maximum number of early uploads, in addition to the active files.
const EARLY_FILES_MAX: usize = limits::FILES_PER_MESSAGE_MAX;
/// Interval at which the progress of a file is stored.
const PROGRESS_SAVE_INTERVAL: Duration = Duration::from_secs(1);
/// Pause after a failure of the database, for example because its disk is full.
const FAULT_RETRY_DELAY: Duration = Duration::from_secs(1);

/// Shared state of the tasks that upload, download and maintain blobs.
pub(super) struct TransferContext {
    pub(super) database: Database,
    pub(super) relay: Arc<HomeRelay>,
    pub(super) files: Files,
    pub(super) progress: Arc<Progress>,
    pub(super) early_uploads: Arc<EarlyUploads>,
}

/// Uploads files until shutdown.
pub(super) async fn upload(context: Arc<TransferContext>, worker: Worker) {
    run(context, worker, Direction::Out).await;
}

/// Downloads files until shutdown.
pub(super) async fn download(context: Arc<TransferContext>, worker: Worker) {
    run(context, worker, Direction::In).await;
}

async fn run(context: Arc<TransferContext>, worker: Worker, direction: Direction) {
    let wake_ups = Arc::clone(context.database.wake_ups());
    let task = TransferTask {
        context,
        worker: worker.clone(),
        direction,
        schedule: Schedule::default(),
        files: HashMap::new(),
        last_key: 0,
        running_steps: JoinSet::new(),
    };
    worker.run(wake_ups.transfers(direction), task).await;
}

/// Task that transfers the files of one direction.
struct TransferTask {
    context: Arc<TransferContext>,
    worker: Worker,
    direction: Direction,
    schedule: Schedule<u64>,
    files: HashMap<u64, ActiveFile>,
    last_key: u64,
    running_steps: JoinSet<FinishedStep>,
}

impl PeriodicTask for TransferTask {
    const ACTION: &'static str = "transfer files";
    const FAULT_RETRY_DELAY: Duration = FAULT_RETRY_DELAY;

    /// Brings the schedule up to date with the database, then runs steps until a file is
    /// removed from the schedule, a change wakes the task, or the next file is due.
    async fn run_once(&mut self) -> Result<NextRun, Fault> {
        let due = self.refresh().await?;
        if self.files.is_empty() {
            return Ok(NextRun::Idle(due));
        }
        let (worker, direction) = (self.worker.clone(), self.direction);
        let wake_ups = Arc::clone(self.context.database.wake_ups());
        // Created once, outside the loop: otherwise each finished step would restart the timer of
        // the next due file.
        let mut wake_up = pin!(worker.wait(wake_ups.transfers(direction), due));
        loop {
            self.start_steps();
            let active = self.files.len();
            tokio::select! {
                () = &mut wake_up => return Ok(NextRun::Continue),
                Some(finished) = self.running_steps.join_next() => if let Ok(step) = finished {
                    self.finish_step(step).await;
                },
                () = wake_ups.part_sealed.notified(), if direction == Direction::Out => {}
            }
            if self.files.len() < active {
                return Ok(NextRun::Continue);
            }
        }
    }
}

impl TransferTask {
    /// Starts transfers that are due and stops those that are no longer wanted. Returns when the
    /// next transfer will be due.
    async fn refresh(&mut self) -> Result<Option<Timestamp>, Fault> {
        let direction = self.direction;
        let active: Vec<_> = self
            .files
            .iter()
            .map(|(key, file)| (*key, file.identity()))
            .collect();
        let snapshot = self
            .context
            .database
            .read(move |tx| Snapshot::read(tx, direction, &active))
            .await?;
        for (key, mode) in snapshot.stopped {
            match mode {
                StopMode::Immediately => self.schedule.remove(key),
                StopMode::AfterRunningSteps => self.schedule.drain(key),
            }
            self.remove_if_finished(key);
        }
        for (key, row) in snapshot.promoted {
            self.promote_early_upload(key, row);
        }
        if direction == Direction::Out {
            self.start_early_uploads();
        }
        let capacity = ACTIVE_FILES_MAX.saturating_sub(self.files.len());
        for (row, part_digests) in snapshot.new.into_iter().take(capacity) {
            self.start_file(row, part_digests).await?;
        }
        Ok(snapshot.due)
    }

    /// Turns an early upload into the upload of a file that a message needs. If it is already
    /// draining, the next refresh starts the file anew.
    fn promote_early_upload(&mut self, key: u64, row: StoredFile) {
        let Some(present) = self.schedule.promote(key) else {
            return;
        };
        if let Some(file) = self.files.get_mut(&key) {
            file.promote(row, present, &self.context.progress);
        }
    }

    fn start_early_uploads(&mut self) {
        let running = self
            .files
            .values()
            .filter(|file| file.row.is_none())
            .count();
        let free = EARLY_FILES_MAX.saturating_sub(running);
        for early in self.context.early_uploads.start_ready(free) {
            let parts = early.size.parts();
            let upload = EarlyUpload::new(&self.context, early);
            let key = self.add_file(FileTransfer::Early(Arc::new(upload)), None);
            self.schedule.add_early(key, parts);
        }
    }

    fn add_file(&mut self, transfer: FileTransfer, row: Option<StoredFile>) -> u64 {
        self.last_key += 1;
        self.files
            .insert(self.last_key, ActiveFile::new(transfer, row));
        self.last_key
    }

    fn remove_if_finished(&mut self, key: u64) {
        if !self.schedule.contains(key) {
            self.files.remove(&key);
        }
    }

    async fn start_file(
        &mut self,
        row: StoredFile,
        part_digests: Vec<[u8; 32]>,
    ) -> Result<(), Fault> {
        let Ok(size) = BlobSize::parse(row.descriptor.sealed.ct_len, limits::BLOB_BYTES_MAX) else {
            return TransferError::Permanent(
                "the described size is not a valid file size".to_owned(),
            )
            .record(&self.context.database, &row, 0)
            .await;
        };
        let context = &self.context;
        let transfer = match self.direction {
            Direction::Out => {
                let upload = Upload::new(context, row.clone(), size, part_digests);
                FileTransfer::Upload(Arc::new(upload))
            }
            Direction::In => {
                FileTransfer::Download(Arc::new(Download::new(context, row.clone(), size)))
            }
        };
        let key = self.add_file(transfer, Some(row));
        self.schedule.add(key, size.parts());
        Ok(())
    }

    /// Starts as many steps as the schedule permits.
    fn start_steps(&mut self) {
        for (key, file) in &self.files {
            if let FileTransfer::Early(upload) = &file.transfer {
                self.schedule.set_available(*key, upload.blob.parts.count());
            }
        }
        while let Some((key, step)) = self.schedule.next_step() {
            let Some(file) = self.files.get_mut(&key) else {
                self.schedule.remove(key);
                continue;
            };
            let transfer = file.transfer.clone();
            let task = self.running_steps.spawn(async move {
                FinishedStep {
                    key,
                    step,
                    outcome: transfer.run_step(step).await,
                }
            });
            file.add_task(task);
        }
    }

    async fn finish_step(&mut self, finished: FinishedStep) {
        let FinishedStep { key, step, outcome } = finished;
        let Some(file) = self.files.get_mut(&key) else {
            return;
        };
        let recorded = match outcome {
            Ok(StepOutcome::Present(parts)) => {
                file.start_meter(parts, &self.context.progress);
                self.schedule.record_prepared(key, parts);
                Ok(())
            }
            Ok(StepOutcome::Done) => {
                self.schedule.record_success(key, step);
                file.record_progress(&self.context.database).await
            }
            Err(error) => {
                let is_first_failure = self.schedule.record_failure(key, step);
                match &file.row {
                    Some(row) if is_first_failure => {
                        if error.ends_transfer() {
                            self.schedule.remove(key);
                        }
                        error
                            .record(&self.context.database, row, file.transferred_bytes())
                            .await
                    }
                    // A failed early upload is no failure of its file, which is uploaded again once
                    // a message needs it.
                    Some(_) | None => Ok(()),
                }
            }
        };
        if let Err(fault) = recorded {
            let file = file.row.as_ref().map(|row| row.id.to_string());
            tracing::error!(%fault, file, "cannot store the progress of a file");
            tokio::time::sleep(FAULT_RETRY_DELAY).await;
        }
        self.remove_if_finished(key);
    }
}

#[cfg(test)]
mod tests;
