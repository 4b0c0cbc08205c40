//! Sealing of a file while it arrives.

use super::{DiskFileId, lock, sync::BackgroundSync};
use crate::fault::Fault;
use bytes::Bytes;
use sealpost_e2ee::attachment::{
    BlobSalt, BlobSealer, FileKey, SealError, SealStep, Sealed, SealedPart,
};
use sealpost_proto::limits::{self, PARTS_IN_FLIGHT_MAX};
use sha2::{Digest as _, Sha256};
use std::{
    collections::HashMap,
    fs::{File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::{
    runtime::Handle,
    sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc},
    time::timeout,
};

/// How long a sealed part waits for a memory permit if the part before it got one. This is about
/// the time to send a part over a fast network; on a slow network, sealing does not wait.
const PERMIT_TIMEOUT: Duration = Duration::from_millis(10);

/// Memory budget for parts that were just sealed and are about to be sent.
#[derive(Clone)]
pub(crate) struct PartMemoryBudget(Arc<Semaphore>);

impl Default for PartMemoryBudget {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(PARTS_IN_FLIGHT_MAX as usize)))
    }
}

impl PartMemoryBudget {
    /// Acquires memory for one part. For threads that may block.
    fn acquire(self, waits: bool) -> Option<OwnedSemaphorePermit> {
        match Arc::clone(&self.0).try_acquire_owned() {
            Err(_) if waits => Handle::current()
                .block_on(timeout(PERMIT_TIMEOUT, self.0.acquire_owned()))
                .ok()?
                .ok(),
            permit => permit.ok(),
        }
    }
}

/// Sealed part in memory, with its memory permit.
pub(crate) struct PartInMemory {
    pub bytes: Bytes,
    _permit: OwnedSemaphorePermit,
}

/// Sealed parts of a file, available to the upload while the rest is still being sealed.
pub(crate) struct SealedParts {
    pub file: DiskFileId,
    state: Mutex<SealedPartsState>,
    part_sealed: Arc<Notify>,
}

#[derive(Default)]
struct SealedPartsState {
    digests: Vec<[u8; 32]>,
    in_memory: HashMap<u32, PartInMemory>,
    /// `None` if all parts are to be read from disk.
    budget: Option<PartMemoryBudget>,
}

impl SealedParts {
    /// Creates the empty list for a file that is about to be sealed. Each sealed part triggers
    /// `part_sealed`. With a `budget`, some parts are also kept in memory.
    #[must_use]
    pub(crate) fn for_new_file(
        file: DiskFileId,
        part_sealed: Arc<Notify>,
        budget: Option<PartMemoryBudget>,
    ) -> Self {
        Self {
            file,
            state: Mutex::new(SealedPartsState {
                budget,
                ..SealedPartsState::default()
            }),
            part_sealed,
        }
    }

    /// Creates the list for a complete file from the SHA-256 digests of its parts.
    #[must_use]
    pub(crate) fn for_complete_file(file: DiskFileId, digests: Vec<[u8; 32]>) -> Self {
        Self {
            file,
            state: Mutex::new(SealedPartsState {
                digests,
                ..SealedPartsState::default()
            }),
            part_sealed: Arc::default(),
        }
    }

    /// Returns the number of parts sealed so far.
    #[must_use]
    pub(crate) fn count(&self) -> u32 {
        u32::try_from(lock(&self.state).digests.len()).unwrap_or(u32::MAX)
    }

    /// Returns the SHA-256 digest of a part.
    #[must_use]
    pub(crate) fn digest(&self, number: u32) -> Option<[u8; 32]> {
        lock(&self.state).digests.get(number as usize).copied()
    }

    /// Removes a part from memory and returns it. `None` if it has to be read from disk.
    #[must_use]
    pub(crate) fn take_from_memory(&self, number: u32) -> Option<PartInMemory> {
        lock(&self.state).in_memory.remove(&number)
    }

    /// Releases all parts in memory, because no upload is running. Later parts go to disk only.
    pub(crate) fn release_memory(&self) {
        let mut state = lock(&self.state);
        state.in_memory.clear();
        state.budget = None;
    }

    fn add(&self, part: SealedPart<'_>, permit: Option<OwnedSemaphorePermit>) {
        let SealedPart {
            index,
            bytes,
            sha256,
        } = part;
        let mut state = lock(&self.state);
        state.digests.push(sha256);
        if let (Some(permit), Some(_)) = (permit, &state.budget) {
            let part = PartInMemory {
                bytes: std::mem::take(bytes).into(),
                _permit: permit,
            };
            state.in_memory.insert(index, part);
        }
        drop(state);
        self.part_sealed.notify_one();
    }
}

/// File that was just sealed.
pub(crate) struct Staged {
    pub file: DiskFileId,
    pub file_key: FileKey,
    pub sealed: Sealed,
    /// SHA-256 digest of each part, so that no part is hashed again.
    pub part_digests: Vec<[u8; 32]>,
    /// SHA-256 digest of the plaintext, to recognise the same file.
    pub content_digest: [u8; 32],
    /// First bytes of the plaintext, for the detection of the file type.
    pub first_bytes: Vec<u8>,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum StageError {
    #[error("the file exceeds {limit_bytes} bytes")]
    TooLarge { limit_bytes: u64 },
    /// The client sent more or fewer bytes than it announced.
    #[error("received {actual_bytes} bytes; {announced_bytes} were announced")]
    Changed {
        actual_bytes: u64,
        announced_bytes: u64,
    },
    #[error("the upload was interrupted")]
    CutOff,
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
        Self::TooLarge {
            limit_bytes: limits::FILE_BYTES_MAX,
        }
    }
}

/// Error of a client that disconnected.
pub(super) struct CutOff;

/// Number of bytes that the detection of the file type uses.
const FIRST_BYTES: usize = limits::SNIFFED_BYTES;

/// Seals the arriving pieces, and returns when the file is on disk. For threads that may block.
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
    let mut writer = PartFile::create(path, Arc::clone(parts))?;
    let mut sealer = BlobSealer::new(&file_key, &salt);
    let mut content_hash = Sha256::new();
    let mut first_bytes = Vec::new();
    let mut actual_bytes = 0_u64;
    while let Some(piece) = arriving.blocking_recv() {
        let piece = piece.map_err(|CutOff| StageError::CutOff)?;
        actual_bytes += piece.len() as u64;
        if actual_bytes > announced_bytes {
            return Err(StageError::Changed {
                actual_bytes,
                announced_bytes,
            });
        }
        content_hash.update(&piece);
        first_bytes.extend(piece.iter().take(FIRST_BYTES - first_bytes.len()));
        let mut rest = &piece[..];
        while let Some(part) = sealer.push(&mut rest)? {
            writer.add(part)?;
        }
    }
    if actual_bytes != announced_bytes {
        return Err(StageError::Changed {
            actual_bytes,
            announced_bytes,
        });
    }
    let mut tail = sealer.finish();
    let sealed = loop {
        match tail.next_step() {
            SealStep::Part(part) => writer.add(part)?,
            SealStep::Done(sealed) => break sealed,
        }
    };
    writer.sync.finish()?;
    let part_digests = lock(&parts.state).digests.clone();
    Ok(Staged {
        file: parts.file,
        file_key,
        sealed,
        part_digests,
        content_digest: content_hash.finalize().into(),
        first_bytes,
    })
}

/// Blob that is being written part by part.
struct PartFile {
    file: Arc<File>,
    sync: BackgroundSync,
    parts: Arc<SealedParts>,
    last_got_permit: bool,
}

impl PartFile {
    fn create(path: &Path, parts: Arc<SealedParts>) -> io::Result<Self> {
        let file = Arc::new(
            OpenOptions::new()
                .create_new(true)
                .write(true)
                .mode(0o600)
                .open(path)?,
        );
        Ok(Self {
            sync: BackgroundSync::new(Arc::clone(&file)),
            file,
            parts,
            last_got_permit: true,
        })
    }

    fn add(&mut self, part: SealedPart<'_>) -> io::Result<()> {
        let bytes = part.bytes.len();
        (&*self.file).write_all(part.bytes)?;
        let budget = lock(&self.parts.state).budget.clone();
        let permit = budget.and_then(|budget| budget.acquire(self.last_got_permit));
        self.last_got_permit = permit.is_some();
        self.parts.add(part, permit);
        self.sync.record_write(bytes)
    }
}
