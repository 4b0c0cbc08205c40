//! Sealing a file while it arrives, into the bytes that will travel.

use super::{FileId, syncing::Syncing};
use crate::fault::Fault;
use bytes::Bytes;
use sealpost_e2ee::attachment::{BlobSalt, BlobSealer, FileKey, SealError, SealStep, Sealed, SealedPart};
use sealpost_proto::limits;
use std::{
    fs::{File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::sync::{Notify, mpsc};

/// The parts of a file that are sealed so far, for whoever sends them meanwhile.
pub struct SealedParts {
    /// Where they are.
    pub file: FileId,
    digests: Mutex<Vec<[u8; 32]>>,
    more: Arc<Notify>,
}

impl SealedParts {
    /// Those of a file that is about to be sealed; `more` is told of each.
    #[must_use]
    pub const fn of_new(file: FileId, more: Arc<Notify>) -> Self {
        Self { file, digests: Mutex::new(Vec::new()), more }
    }

    /// All parts of a file, by their SHA-256.
    #[must_use]
    pub fn of_whole(file: FileId, digests: Vec<[u8; 32]>) -> Self {
        Self { file, digests: Mutex::new(digests), more: Arc::default() }
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> u32 {
        u32::try_from(self.lock().len()).unwrap_or(u32::MAX)
    }

    /// SHA-256 of one of them.
    #[must_use]
    pub fn digest(&self, number: u32) -> Option<[u8; 32]> {
        self.lock().get(number as usize).copied()
    }

    fn add(&self, digest: [u8; 32]) {
        self.lock().push(digest);
        self.more.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, Vec<[u8; 32]>> {
        self.digests.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

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

/// Seals what arrives, and returns when it is on disk. For a thread that may block.
pub(super) fn seal(
    path: &Path,
    parts: &Arc<SealedParts>,
    mut arriving: mpsc::Receiver<Result<Bytes, CutOff>>,
    announced_bytes: u64,
) -> Result<Staged, StageError> {
    let (file_key, salt) = {
        let mut rng = sealpost_service::entropy();
        (FileKey::generate(&mut rng), BlobSalt::generate(&mut rng))
    };
    let mut spool = Spool::create(path, Arc::clone(parts))?;
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
    spool.syncing.finish()?;
    let part_digests = parts.lock().clone();
    Ok(Staged { file: parts.file, file_key, sealed, part_digests, first_bytes })
}

/// A blob that is being written, part by part.
struct Spool {
    file: Arc<File>,
    syncing: Syncing,
    parts: Arc<SealedParts>,
}

impl Spool {
    fn create(path: &Path, parts: Arc<SealedParts>) -> io::Result<Self> {
        let file = Arc::new(OpenOptions::new().create_new(true).write(true).mode(0o600).open(path)?);
        Ok(Self { syncing: Syncing::new(Arc::clone(&file)), file, parts })
    }

    fn add(&mut self, part: SealedPart<'_>) -> io::Result<()> {
        (&*self.file).write_all(part.bytes)?;
        self.parts.add(part.sha256);
        self.syncing.wrote(part.bytes.len())
    }
}
