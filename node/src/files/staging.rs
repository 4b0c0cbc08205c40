//! Sealing a file while it arrives, into the bytes that will travel.

use super::FileId;
use crate::fault::Fault;
use bytes::Bytes;
use sealpost_e2ee::attachment::{BlobSalt, BlobSealer, FileKey, SealError, SealStep, Sealed, SealedPart};
use sealpost_proto::limits;
use std::{
    fs::{File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
    sync::Arc,
};
use tokio::{
    runtime::Handle,
    sync::mpsc,
    task::{JoinHandle, spawn_blocking},
};

/// A file that was just sealed.
pub struct Staged {
    /// Where it is.
    pub file: FileId,
    /// Its key.
    pub file_key: FileKey,
    /// Its lengths and digest.
    pub sealed: Sealed,
    /// SHA-256 of each of its parts, so that none is hashed again.
    pub part_digests: Vec<[u8; 32]>,
    /// The first bytes of the plaintext, to tell its type.
    pub first_bytes: Vec<u8>,
}

/// Why a file was not staged.
#[derive(Debug, thiserror::Error)]
pub enum StageError {
    /// More than a file may have.
    #[error("the file is over {limit_bytes} bytes")]
    TooLarge {
        /// The limit.
        limit_bytes: u64,
    },
    /// Fewer or more bytes came than were announced.
    #[error("{actual_bytes} bytes came, {announced_bytes} were announced")]
    Changed {
        /// What came.
        actual_bytes: u64,
        /// What was announced.
        announced_bytes: u64,
    },
    /// The caller went away.
    #[error("the upload was cut off")]
    CutOff,
    /// Our disk.
    #[error(transparent)]
    Fault(#[from] Fault),
}

impl From<io::Error> for StageError {
    fn from(error: io::Error) -> Self {
        Self::Fault(error.into())
    }
}

impl From<SealError> for StageError {
    fn from(_: SealError) -> Self {
        Self::TooLarge { limit_bytes: limits::FILE_BYTES_MAX }
    }
}

/// The caller went away.
pub(super) struct CutOff;

/// How much of a file is looked at to tell its type.
const FIRST_BYTES: usize = limits::SNIFFED_BYTES;
/// So much is written before the disk is asked to have it, while more is sealed.
const SYNCED_EVERY_BYTES: usize = 8 * 1024 * 1024;

/// Seals what arrives, and returns when it is on disk. For a thread that may block.
pub(super) fn seal(
    path: &Path,
    file: FileId,
    mut arriving: mpsc::Receiver<Result<Bytes, CutOff>>,
    announced_bytes: u64,
) -> Result<Staged, StageError> {
    let (file_key, salt) = {
        let mut rng = sealpost_service::entropy();
        (FileKey::generate(&mut rng), BlobSalt::generate(&mut rng))
    };
    let mut spool = Spool::create(path)?;
    let mut sealer = BlobSealer::new(&file_key, &salt);
    let mut first_bytes = Vec::new();
    let mut actual_bytes = 0_u64;
    while let Some(piece) = arriving.blocking_recv() {
        let piece = piece.map_err(|CutOff| StageError::CutOff)?;
        actual_bytes += piece.len() as u64;
        if actual_bytes > announced_bytes {
            return Err(StageError::Changed { actual_bytes, announced_bytes });
        }
        first_bytes.extend(piece.iter().take(FIRST_BYTES - first_bytes.len()));
        let mut rest = &piece[..];
        while let Some(part) = sealer.push(&mut rest)? {
            spool.add(part)?;
        }
    }
    if actual_bytes != announced_bytes {
        return Err(StageError::Changed { actual_bytes, announced_bytes });
    }
    let mut tail = sealer.finish();
    let sealed = loop {
        match tail.step() {
            SealStep::Part(part) => spool.add(part)?,
            SealStep::Done(sealed) => break sealed,
        }
    };
    Ok(Staged { file, file_key, sealed, part_digests: spool.finish()?, first_bytes })
}

/// A blob that is being written, part by part.
struct Spool {
    file: Arc<File>,
    digests: Vec<[u8; 32]>,
    unsynced_bytes: usize,
    syncing: Option<JoinHandle<io::Result<()>>>,
}

impl Spool {
    fn create(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().create_new(true).write(true).mode(0o600).open(path)?;
        Ok(Self { file: Arc::new(file), digests: Vec::new(), unsynced_bytes: 0, syncing: None })
    }

    fn add(&mut self, part: SealedPart<'_>) -> io::Result<()> {
        self.digests.push(part.sha256);
        (&*self.file).write_all(part.bytes)?;
        self.unsynced_bytes += part.bytes.len();
        let is_idle = self.syncing.as_ref().is_none_or(JoinHandle::is_finished);
        if self.unsynced_bytes >= SYNCED_EVERY_BYTES && is_idle {
            self.synced()?;
            let file = Arc::clone(&self.file);
            self.syncing = Some(spawn_blocking(move || file.sync_data()));
            self.unsynced_bytes = 0;
        }
        Ok(())
    }

    /// Waits for what the disk was asked; a failure is told once, and only to who asked.
    fn synced(&mut self) -> io::Result<()> {
        match self.syncing.take() {
            Some(syncing) => Handle::current().block_on(syncing).map_err(io::Error::other)?,
            None => Ok(()),
        }
    }

    /// Returns when all of it is on disk.
    fn finish(mut self) -> io::Result<Vec<[u8; 32]>> {
        self.synced()?;
        self.file.sync_all()?;
        Ok(self.digests)
    }
}
