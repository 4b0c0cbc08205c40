//! How much room the disk has, and the reserve on it.
//!
//! New work asks [`Storage::admit`] first. It is told no while less is free than the reserve; acknowledgements, deletions
//! and outcomes do not ask, so the reserve is theirs. A part of it is a file, `reserve`, which keeps others from taking it:
//! when a commit finds the disk full all the same, [`Storage::give_way`] shortens the file and the commit is tried again.
//! The file is made whole again when there is room.

use crate::health::Health;
use rustix::fs::{FallocateFlags, StatVfs, fallocate, statvfs};
use sealpost_proto::limits::{STORAGE_BYTES_PER_REQUEST, STORAGE_COPIES, STORAGE_LOOK_INTERVAL};
use sealpost_relay_core::space::{Reserve, Space};
use sealpost_service::{DataFolder, Shutdown};
use std::{
    fs::{File, Metadata, OpenOptions},
    io,
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicI64, Ordering},
    },
};

/// The file of the reserve in the data folder.
pub(crate) const FILE: &str = "reserve";
/// Of the unit that `st_blocks` counts, whatever the file system's own is.
const BLOCK_BYTES: u64 = 512;

/// The disk of a relay.
pub(crate) struct Storage {
    folders: Vec<PathBuf>,
    reserve: Reserve,
    health: Arc<Health>,
    /// What may be admitted until the disk has to be looked at again.
    budget: AtomicI64,
    state: Mutex<State>,
}

struct State {
    file: File,
    /// Whether it was said that the file cannot be made.
    warned: bool,
    seen: Seen,
}

/// What was seen of the disk at the last look.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Seen {
    /// Whether there is room for new work.
    pub(crate) space: Space,
    /// Free bytes, the reserve's file counted as free.
    pub(crate) free_bytes: u64,
    /// What is kept for finishing what was accepted.
    pub(crate) reserve_bytes: u64,
}

/// What a disk has.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Disk {
    /// Free bytes, the reserve's file counted as free.
    pub(crate) free_bytes: u64,
    /// What of it is the reserve's file.
    pub(crate) held_bytes: u64,
    /// What is kept for finishing what was accepted.
    pub(crate) reserve_bytes: u64,
}

impl Disk {
    /// The one of two folders that has less; absent when the system does not say. `file` is the reserve's.
    pub(crate) fn look(
        folders: &[PathBuf],
        file: Option<&Metadata>,
        reserve: Reserve,
    ) -> Option<Self> {
        let bytes = |stat: StatVfs| {
            (
                stat.f_bavail.saturating_mul(stat.f_frsize),
                stat.f_blocks.saturating_mul(stat.f_frsize),
            )
        };
        let (free, total) = folders
            .iter()
            .filter_map(|folder| statvfs(folder).ok().map(bytes))
            .min()?;
        let held_bytes = file
            .map(|file| file.blocks().saturating_mul(BLOCK_BYTES))
            .unwrap_or_default();
        Some(Self {
            free_bytes: free.saturating_add(held_bytes),
            held_bytes,
            reserve_bytes: reserve.of(total),
        })
    }
}

impl Storage {
    /// Looks at the disk of a data folder, and at that of another folder in it should that be another one. A disk that is full
    /// already gets the reserve at once, so that the database can be opened.
    ///
    /// # Errors
    /// When the reserve's file cannot be opened.
    pub(crate) fn open(
        folder: &DataFolder,
        other: &str,
        reserve: Reserve,
        health: Arc<Health>,
    ) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        let file = options
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(folder.join(FILE))?;
        let storage = Self {
            folders: vec![folder.path().to_owned(), folder.join(other)],
            reserve,
            health,
            budget: AtomicI64::new(0),
            state: Mutex::new(State {
                file,
                warned: false,
                seen: Seen::default(),
            }),
        };
        let seen = storage.look();
        let held = storage.lock().held_bytes();
        if seen.free_bytes.saturating_sub(held) < held / 2 {
            storage.give_way();
        }
        Ok(storage)
    }

    /// Whether there is room for a request with so many bytes that makes the relay keep more.
    #[must_use]
    pub(crate) fn admit(&self, bytes: u64) -> bool {
        let cost = bytes
            .saturating_mul(STORAGE_COPIES)
            .saturating_add(STORAGE_BYTES_PER_REQUEST);
        let cost = i64::try_from(cost).unwrap_or(i64::MAX);
        if self.budget.fetch_sub(cost, Ordering::Relaxed) >= cost {
            return true;
        }
        // While it is low only the watch looks: a crowd that is refused must not hammer the disk.
        if self.seen().space == Space::Low {
            return false;
        }
        self.look();
        self.budget.fetch_sub(cost, Ordering::Relaxed) >= cost
    }

    /// What was seen at the last look.
    #[must_use]
    pub(crate) fn seen(&self) -> Seen {
        self.lock().seen
    }

    /// Gives the reserve's file to whoever needs it now. True when that made room.
    pub(crate) fn give_way(&self) -> bool {
        let mut state = self.lock();
        let held = state.held_bytes();
        if held == 0 || state.file.set_len(0).is_err() {
            return false;
        }
        state.seen.space = Space::Low;
        self.budget.store(0, Ordering::Relaxed);
        tracing::error!(
            bytes = held,
            "the disk is full: the reserve is used to finish what was accepted"
        );
        self.report(state.seen);
        true
    }

    /// Looks every second, until the shutdown.
    pub(crate) async fn watch(&self, shutdown: &Shutdown) {
        while !shutdown.is_triggered() {
            self.look();
            tokio::select! {
                () = tokio::time::sleep(STORAGE_LOOK_INTERVAL) => {}
                () = shutdown.triggered() => {}
            }
        }
    }

    fn look(&self) -> Seen {
        let mut state = self.lock();
        let file = state.file.metadata().ok();
        let Some(disk) = Disk::look(&self.folders, file.as_ref(), self.reserve) else {
            return state.seen;
        };
        let Disk {
            free_bytes,
            reserve_bytes,
            ..
        } = disk;
        let space = state.seen.space.step(free_bytes, reserve_bytes);
        state.seen = Seen {
            space,
            free_bytes,
            reserve_bytes,
        };
        if space == Space::Roomy {
            state.fill(Reserve::of_file(reserve_bytes));
        }
        let room = if space == Space::Roomy {
            free_bytes.saturating_sub(reserve_bytes)
        } else {
            0
        };
        self.budget
            .store(i64::try_from(room).unwrap_or(i64::MAX), Ordering::Relaxed);
        self.report(state.seen);
        state.seen
    }

    fn report(&self, seen: Seen) {
        let Seen {
            space,
            free_bytes,
            reserve_bytes,
        } = seen;
        self.health.storage((space == Space::Low).then(|| {
            format!("{free_bytes} bytes are free on the disk, {reserve_bytes} are kept to finish what was accepted: make room")
        }));
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn held_bytes(&self) -> u64 {
        self.file
            .metadata()
            .map(|meta| meta.blocks().saturating_mul(BLOCK_BYTES))
            .unwrap_or_default()
    }

    /// Makes the file so long, with blocks of its own.
    fn fill(&mut self, bytes: u64) {
        let length = self
            .file
            .metadata()
            .map(|meta| meta.len())
            .unwrap_or_default();
        if length == bytes {
            return;
        }
        let filled = match bytes.checked_sub(length) {
            Some(_) => {
                fallocate(&self.file, FallocateFlags::empty(), 0, bytes).map_err(io::Error::from)
            }
            None => self.file.set_len(bytes),
        };
        match filled {
            Ok(()) => self.warned = false,
            Err(error) if !self.warned => {
                self.warned = true;
                tracing::warn!(%error, "the reserve on the disk has no file: others may take it");
            }
            Err(_) => {}
        }
    }
}
