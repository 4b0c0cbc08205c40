//! Files on the move: ours to the relay, theirs from it, several parts at a time. What moves next is decided in
//! [`sealpost_node_core::transfer`]; here it is done. After a crash, a cut or a failure both ways go on where they were,
//! because what is there is asked of the relay and of this disk, never remembered.
//!
//! A file that fails for a passing reason leaves the schedule and waits in its row; when its time has come it is taken up
//! like one that was never tried. A file that is still being sealed goes out early, as far as it is; then it has no row.

mod download;
mod early;
mod halt;
mod keep;
mod meter;
mod stop;
mod upload;

pub use early::{EarlyUploads, Staging};
pub use keep::keep;
pub use stop::{cancel, fetch};

use crate::{
    api::model::{AttachmentStatus, Direction},
    daemon::Daemon,
    fault::Fault,
    store::{
        Tx,
        attachments::{self, Attachment},
    },
};
use download::Download;
use early::Early;
use futures_util::future::Either;
use halt::Halt;
use sealpost_node_core::transfer::{PartSet, Schedule, Step};
use sealpost_proto::{BlobId, BlobSize, Timestamp, limits};
use std::{collections::HashMap, sync::Arc, time::Duration};
use tokio::{
    task::{AbortHandle, JoinSet},
    time::Instant,
};
use upload::Upload;

/// Files of a direction that are on the move at a time.
const FILES_MOVING_MAX: usize = 16;
/// Files that go out early at a time, beside them.
const EARLY_FILES_MAX: usize = limits::FILES_PER_MESSAGE_MAX;
/// How often it is written down how far a file is.
const NOTED_EVERY: Duration = Duration::from_secs(1);
/// The database fails, or its disk is full: so long nothing is tried.
const PAUSE_AFTER_FAULT: Duration = Duration::from_secs(1);

/// Uploads until the end.
pub async fn upload(daemon: Arc<Daemon>) {
    Transfer::new(daemon, Direction::Out).run().await;
}

/// Downloads until the end.
pub async fn download(daemon: Arc<Daemon>) {
    Transfer::new(daemon, Direction::In).run().await;
}

/// The files of one direction.
struct Transfer {
    daemon: Arc<Daemon>,
    direction: Direction,
    schedule: Schedule<u64>,
    files: HashMap<u64, File>,
    taken_up: u64,
    under_way: JoinSet<Ended>,
}

/// A file on the move, and what is under way of it.
struct File {
    way: Way,
    /// None as long as no message needs it.
    row: Option<Attachment>,
    noted_at: Instant,
    under_way: Vec<AbortHandle>,
}

impl Drop for File {
    fn drop(&mut self) {
        self.under_way.iter().for_each(AbortHandle::abort);
    }
}

#[derive(Clone)]
enum Way {
    Up(Arc<Upload>),
    Down(Arc<Download>),
}

struct Ended {
    key: u64,
    step: Step,
    outcome: Result<Outcome, Halt>,
}

enum Outcome {
    There(PartSet),
    Done,
}

impl Way {
    async fn carry_out(self, step: Step) -> Result<Outcome, Halt> {
        match (self, step) {
            (Self::Up(file), Step::Begin) => file.begin().await.map(Outcome::There),
            (Self::Up(file), Step::Part(number)) => file.part(number).await.map(|()| Outcome::Done),
            (Self::Up(file), Step::End) => file.end().await.map(|()| Outcome::Done),
            (Self::Down(file), Step::Begin) => file.begin().await.map(Outcome::There),
            (Self::Down(file), Step::Part(number)) => {
                file.part(number).await.map(|()| Outcome::Done)
            }
            (Self::Down(file), Step::End) => file.end().await.map(|()| Outcome::Done),
        }
    }

    /// What goes out early, or did when it was taken up.
    fn early(&self) -> Option<(&Arc<Upload>, &Arc<Early>)> {
        match self {
            Self::Up(file) => file.early.as_ref().map(|early| (file, early)),
            Self::Down(_) => None,
        }
    }

    /// Sealed bytes that have moved.
    fn bytes(&self) -> u64 {
        match self {
            Self::Up(file) => file.meter.bytes(),
            Self::Down(file) => file.meter.bytes(),
        }
    }
}

impl Transfer {
    fn new(daemon: Arc<Daemon>, direction: Direction) -> Self {
        Self {
            daemon,
            direction,
            schedule: Schedule::default(),
            files: HashMap::new(),
            taken_up: 0,
            under_way: JoinSet::new(),
        }
    }

    async fn run(mut self) {
        let daemon = Arc::clone(&self.daemon);
        let sealed = daemon.part_sealed();
        while !daemon.shutdown.is_triggered() {
            let due = self.look().await.unwrap_or_else(|fault| {
                tracing::error!(%fault, "files on the move could not be read");
                Some(daemon.now().plus(PAUSE_AFTER_FAULT))
            });
            let rest = match self.direction {
                Direction::Out => Either::Left(daemon.rest_before_upload(due)),
                Direction::In => Either::Right(daemon.rest_before_download(due)),
            };
            tokio::pin!(rest);
            loop {
                self.start_what_may_go();
                let files = self.files.len();
                tokio::select! {
                    () = &mut rest => break,
                    Some(ended) = self.under_way.join_next() => if let Ok(ended) = ended {
                        self.settle(ended).await;
                    },
                    () = sealed.notified(), if self.direction == Direction::Out => {}
                }
                if self.files.len() < files {
                    break;
                }
            }
        }
    }

    /// Takes up what should move now, and lets go of what should not any more; returns when more will be due.
    async fn look(&mut self) -> Result<Option<Timestamp>, Fault> {
        let direction = self.direction;
        let taken_up: Vec<_> = self
            .files
            .iter()
            .map(|(key, file)| (*key, file.taken_up()))
            .collect();
        let seen = self
            .daemon
            .read(move |tx| Seen::read(tx, direction, &taken_up))
            .await?;
        for (key, ending) in seen.stopped {
            match ending {
                Ending::AtOnce => self.schedule.remove(key),
                Ending::WhenSettled => self.schedule.leave(key),
            }
            self.forget_unless_known(key);
        }
        for (key, row) in seen.needed {
            self.keep(key, row);
        }
        if direction == Direction::Out {
            self.take_up_early();
        }
        let room = FILES_MOVING_MAX.saturating_sub(self.files.len());
        for (row, part_digests) in seen.new.into_iter().take(room) {
            self.take_up(row, part_digests).await?;
        }
        Ok(seen.due)
    }

    /// A message needs what goes out early. What leaves is taken up anew once it has left.
    fn keep(&mut self, key: u64, row: Attachment) {
        let Some(there) = self.schedule.keep(key) else {
            return;
        };
        if let Some(file) = self.files.get_mut(&key)
            && let Some((upload, _)) = file.way.early()
        {
            upload.keep(&row, there);
            file.row = Some(row);
        }
    }

    fn take_up_early(&mut self) {
        let going = self
            .files
            .values()
            .filter(|file| file.row.is_none())
            .count();
        for early in self
            .daemon
            .early
            .take_up(EARLY_FILES_MAX.saturating_sub(going))
        {
            self.taken_up += 1;
            self.schedule.add_early(self.taken_up, early.size.parts());
            let way = Way::Up(Arc::new(Upload::early(&self.daemon, early)));
            self.files.insert(
                self.taken_up,
                File {
                    way,
                    row: None,
                    noted_at: Instant::now(),
                    under_way: Vec::new(),
                },
            );
        }
    }

    fn forget_unless_known(&mut self, key: u64) {
        if !self.schedule.knows(key) {
            self.files.remove(&key);
        }
    }

    async fn take_up(&mut self, row: Attachment, part_digests: Vec<[u8; 32]>) -> Result<(), Fault> {
        let Ok(size) = BlobSize::parse(row.descriptor.sealed.ct_len, limits::BLOB_BYTES_MAX) else {
            return Halt::Never("no file is that large".to_owned())
                .note(&self.daemon, &row, 0)
                .await;
        };
        let way = match self.direction {
            Direction::Out => Way::Up(Arc::new(Upload::new(
                &self.daemon,
                row.clone(),
                size,
                part_digests,
            ))),
            Direction::In => Way::Down(Arc::new(Download::new(&self.daemon, row.clone(), size))),
        };
        self.taken_up += 1;
        self.schedule.add(self.taken_up, size.parts());
        self.files.insert(
            self.taken_up,
            File {
                way,
                row: Some(row),
                noted_at: Instant::now(),
                under_way: Vec::new(),
            },
        );
        Ok(())
    }

    fn start_what_may_go(&mut self) {
        for (key, file) in &self.files {
            if let Some((upload, _)) = file.way.early() {
                self.schedule.made(*key, upload.parts.count());
            }
        }
        while let Some((key, step)) = self.schedule.turn() {
            let Some(file) = self.files.get_mut(&key) else {
                self.schedule.remove(key);
                continue;
            };
            let way = file.way.clone();
            let job = async move {
                Ended {
                    key,
                    step,
                    outcome: way.carry_out(step).await,
                }
            };
            file.under_way.retain(|started| !started.is_finished());
            file.under_way.push(self.under_way.spawn(job));
        }
    }

    async fn settle(&mut self, ended: Ended) {
        let Ended { key, step, outcome } = ended;
        let Some(file) = self.files.get_mut(&key) else {
            return;
        };
        let noted = match outcome {
            Ok(Outcome::There(parts)) => {
                self.schedule.begun(key, parts);
                Ok(())
            }
            Ok(Outcome::Done) => {
                self.schedule.done(key, step);
                file.went_on(&self.daemon).await
            }
            Err(halt) => match (self.schedule.failed(key, step), &file.row) {
                (true, Some(row)) => {
                    if halt.is_final() {
                        self.schedule.remove(key);
                    }
                    halt.note(&self.daemon, row, file.way.bytes()).await
                }
                // What goes out early and fails goes out later.
                (true, None) | (false, _) => Ok(()),
            },
        };
        if let Err(fault) = noted {
            let file = file.row.as_ref().map(|row| &row.name);
            tracing::error!(%fault, file, "how far a file is could not be stored");
            tokio::time::sleep(PAUSE_AFTER_FAULT).await;
        }
        self.forget_unless_known(key);
    }
}

/// A file that is taken up.
enum TakenUp {
    /// By the name of its row.
    Row(String),
    /// It goes out early.
    Early { blob: BlobId, is_being_sealed: bool },
}

/// How a file stops.
enum Ending {
    /// What is under way of it is given up.
    AtOnce,
    /// What is under way of it is waited for, so that nothing reaches the relay after it was asked to delete the blob.
    WhenSettled,
}

/// What the rows say.
struct Seen {
    /// Files that are taken up and should not move any more.
    stopped: Vec<(u64, Ending)>,
    /// Files that go out early and that a message needs now.
    needed: Vec<(u64, Attachment)>,
    /// Files that should move now and are not taken up, with the digests of their parts.
    new: Vec<(Attachment, Vec<[u8; 32]>)>,
    /// When the next will be due.
    due: Option<Timestamp>,
}

impl Seen {
    fn read(tx: &Tx<'_>, direction: Direction, taken_up: &[(u64, TakenUp)]) -> Result<Self, Fault> {
        let due = attachments::next_due(tx, direction)?;
        let mut seen = Self {
            stopped: Vec::new(),
            needed: Vec::new(),
            new: Vec::new(),
            due,
        };
        for (key, file) in taken_up {
            match file {
                TakenUp::Row(name) if attachments::is_moving(tx, name)? => {}
                TakenUp::Row(_) => seen.stopped.push((*key, Ending::AtOnce)),
                TakenUp::Early {
                    blob,
                    is_being_sealed,
                } => seen.look_at_early(tx, *key, blob, *is_being_sealed)?,
            }
        }
        for row in attachments::moving(tx, direction, 2 * FILES_MOVING_MAX)? {
            if !taken_up.iter().any(|(_, file)| file.is(&row)) {
                let digests = attachments::part_digests(tx, &row.name)?;
                seen.new.push((row, digests));
            }
        }
        Ok(seen)
    }

    fn look_at_early(
        &mut self,
        tx: &Tx<'_>,
        key: u64,
        blob: &BlobId,
        is_being_sealed: bool,
    ) -> Result<(), Fault> {
        match attachments::of_blob(tx, blob)? {
            Some(row) if row.status == AttachmentStatus::Uploading => self.needed.push((key, row)),
            Some(row) if row.status == AttachmentStatus::Staged => {}
            None if is_being_sealed => {}
            Some(_) | None => self.stopped.push((key, Ending::WhenSettled)),
        }
        Ok(())
    }
}

impl TakenUp {
    fn is(&self, row: &Attachment) -> bool {
        match self {
            Self::Row(name) => *name == row.name,
            Self::Early { blob, .. } => *blob == row.descriptor.blob.id,
        }
    }
}

impl File {
    fn taken_up(&self) -> TakenUp {
        match (&self.row, self.way.early()) {
            (None, Some((upload, early))) => TakenUp::Early {
                blob: upload.blob,
                is_being_sealed: early.is_being_sealed(),
            },
            (row, _) => TakenUp::Row(row.as_ref().map(|row| row.name.clone()).unwrap_or_default()),
        }
    }

    /// A step succeeded: failures count from zero again, and how far it is is written down now and then.
    async fn went_on(&mut self, daemon: &Daemon) -> Result<(), Fault> {
        let Some(row) = &mut self.row else {
            return Ok(());
        };
        let is_well = row.attempt == 0 && row.reason.is_none();
        if is_well && self.noted_at.elapsed() < NOTED_EVERY {
            return Ok(());
        }
        (row.attempt, row.reason, self.noted_at) = (0, None, Instant::now());
        let (name, bytes) = (row.name.clone(), self.way.bytes());
        daemon
            .commit(move |tx| attachments::set_transferred(tx, &name, bytes))
            .await
    }
}

#[cfg(test)]
mod tests;
