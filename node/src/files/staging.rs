//! Sealing a file while it arrives, into the bytes that will travel.

use super::{FileId, lock, syncing::Syncing};
use crate::fault::Fault;
use bytes::Bytes;
use sealpost_e2ee::attachment::{
    BlobSalt, BlobSealer, FileKey, SealError, SealStep, Sealed, SealedPart,
};
use sealpost_proto::limits::{self, PARTS_IN_FLIGHT_MAX};
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

/// So long a part that was sealed waits for room in memory if the one before it found some: about what it takes to send one
/// over a fast line. Over a slow line the sealing waits for nobody.
const ROOM_WAIT: Duration = Duration::from_millis(10);

/// Room in memory for parts that were sealed just now and are about to be sent.
#[derive(Clone)]
pub struct PartRoom(Arc<Semaphore>);

impl Default for PartRoom {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(PARTS_IN_FLIGHT_MAX as usize)))
    }
}

impl PartRoom {
    /// Room for one; for threads that may block.
    fn take(self, waits: bool) -> Option<OwnedSemaphorePermit> {
        match Arc::clone(&self.0).try_acquire_owned() {
            Err(_) if waits => Handle::current()
                .block_on(timeout(ROOM_WAIT, self.0.acquire_owned()))
                .ok()?
                .ok(),
            room => room.ok(),
        }
    }
}

/// A part in memory, with the room that it takes.
pub struct PartInMemory {
    /// Its bytes.
    pub bytes: Bytes,
    _room: OwnedSemaphorePermit,
}

/// The parts of a file that are sealed so far, for whoever sends them meanwhile.
pub struct SealedParts {
    /// Where they are.
    pub file: FileId,
    so_far: Mutex<SoFar>,
    more: Arc<Notify>,
}

#[derive(Default)]
struct SoFar {
    digests: Vec<[u8; 32]>,
    in_memory: HashMap<u32, PartInMemory>,
    /// None: all are read from the disk.
    room: Option<PartRoom>,
}

impl SealedParts {
    /// Those of a file that is about to be sealed; `more` is told of each. With `room` some of them can be had from memory.
    #[must_use]
    pub fn of_new(file: FileId, more: Arc<Notify>, room: Option<PartRoom>) -> Self {
        Self {
            file,
            so_far: Mutex::new(SoFar {
                room,
                ..SoFar::default()
            }),
            more,
        }
    }

    /// All parts of a file, by their SHA-256.
    #[must_use]
    pub fn of_whole(file: FileId, digests: Vec<[u8; 32]>) -> Self {
        Self {
            file,
            so_far: Mutex::new(SoFar {
                digests,
                ..SoFar::default()
            }),
            more: Arc::default(),
        }
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> u32 {
        u32::try_from(lock(&self.so_far).digests.len()).unwrap_or(u32::MAX)
    }

    /// SHA-256 of one of them.
    #[must_use]
    pub fn digest(&self, number: u32) -> Option<[u8; 32]> {
        lock(&self.so_far).digests.get(number as usize).copied()
    }

    /// One of them, once, unless it has to be read from the disk.
    #[must_use]
    pub fn take(&self, number: u32) -> Option<PartInMemory> {
        lock(&self.so_far).in_memory.remove(&number)
    }

    /// Nobody sends them for now: none stays in memory.
    pub fn forget(&self) {
        let mut so_far = lock(&self.so_far);
        so_far.in_memory.clear();
        so_far.room = None;
    }

    fn add(&self, part: SealedPart<'_>, room: Option<OwnedSemaphorePermit>) {
        let SealedPart {
            index,
            bytes,
            sha256,
        } = part;
        let mut so_far = lock(&self.so_far);
        so_far.digests.push(sha256);
        if let (Some(room), Some(_)) = (room, &so_far.room) {
            let bytes = std::mem::take(bytes).into();
            so_far
                .in_memory
                .insert(index, PartInMemory { bytes, _room: room });
        }
        drop(so_far);
        self.more.notify_one();
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
        Self::TooLarge {
            limit_bytes: limits::FILE_BYTES_MAX,
        }
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
            return Err(StageError::Changed {
                actual_bytes,
                announced_bytes,
            });
        }
        first_bytes.extend(piece.iter().take(FIRST_BYTES - first_bytes.len()));
        let mut rest = &piece[..];
        while let Some(part) = sealer.push(&mut rest)? {
            spool.add(part)?;
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
        match tail.step() {
            SealStep::Part(part) => spool.add(part)?,
            SealStep::Done(sealed) => break sealed,
        }
    };
    spool.syncing.finish()?;
    let part_digests = lock(&parts.so_far).digests.clone();
    Ok(Staged {
        file: parts.file,
        file_key,
        sealed,
        part_digests,
        first_bytes,
    })
}

/// A blob that is being written, part by part.
struct Spool {
    file: Arc<File>,
    syncing: Syncing,
    parts: Arc<SealedParts>,
    last_found_room: bool,
}

impl Spool {
    fn create(path: &Path, parts: Arc<SealedParts>) -> io::Result<Self> {
        let file = Arc::new(
            OpenOptions::new()
                .create_new(true)
                .write(true)
                .mode(0o600)
                .open(path)?,
        );
        Ok(Self {
            syncing: Syncing::new(Arc::clone(&file)),
            file,
            parts,
            last_found_room: true,
        })
    }

    fn add(&mut self, part: SealedPart<'_>) -> io::Result<()> {
        let bytes = part.bytes.len();
        (&*self.file).write_all(part.bytes)?;
        let wanted = lock(&self.parts.so_far).room.clone();
        let room = wanted.and_then(|room| room.take(self.last_found_room));
        self.last_found_room = room.is_some();
        self.parts.add(part, room);
        self.syncing.wrote(bytes)
    }
}
