//! Free space of the disk, and the reserve on it.
//!
//! New work calls [`Storage::admit`] first and is refused while less space is free than the
//! reserve. Acknowledgements, deletions and outcomes do not call it, so that they can use the
//! reserve. A part of the reserve is a file, so that other programs cannot use it: when a commit
//! finds the disk full nevertheless, [`Storage::release_reserve`] truncates the file and the commit
//! is retried. The file grows again when there is enough free space.

use crate::{data_layout::RESERVE_FILE, health::Health};
use rustix::fs::{FallocateFlags, StatVfs, fallocate, statvfs};
use sealpost_proto::limits::{
    STORAGE_BYTES_PER_REQUEST, STORAGE_CHECK_INTERVAL, STORAGE_WRITE_AMPLIFICATION,
};
use sealpost_relay_core::space::{DiskSpace, Reserve};
use sealpost_service::{DataDir, Shutdown};
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

/// Unit of `st_blocks`, independent of the block size of the file system.
const BLOCK_BYTES: u64 = 512;

/// Disk space of a relay, and the reserve.
pub(crate) struct Storage {
    directories: Vec<PathBuf>,
    reserve: Reserve,
    health: Arc<Health>,
    /// Bytes that may be admitted before the disk is checked again.
    budget: AtomicI64,
    state: Mutex<State>,
}

struct State {
    reserve_file: File,
    /// Whether it was logged that the reserve's file cannot grow.
    has_warned: bool,
    last_check: DiskStatus,
}

/// Result of a check of the disk.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct DiskStatus {
    /// Whether there is enough space for new work.
    pub(crate) space: DiskSpace,
    /// Free bytes, including those of the reserve's file.
    pub(crate) free_bytes: u64,
    pub(crate) reserve_bytes: u64,
}

/// Space of a disk.
#[derive(Debug, Clone, Copy)]
pub(crate) struct DiskUsage {
    /// Free bytes, including those of the reserve's file.
    pub(crate) free_bytes: u64,
    /// Bytes of the reserve's file.
    pub(crate) reserve_file_bytes: u64,
    pub(crate) reserve_bytes: u64,
}

impl DiskUsage {
    /// Measures the directory whose disk has less free space. Returns nothing if the system does
    /// not report it.
    pub(crate) fn measure(
        directories: &[PathBuf],
        reserve_file: Option<&Metadata>,
        reserve: Reserve,
    ) -> Option<Self> {
        let bytes = |stat: StatVfs| {
            (
                stat.f_bavail.saturating_mul(stat.f_frsize),
                stat.f_blocks.saturating_mul(stat.f_frsize),
            )
        };
        let (free, total) = directories
            .iter()
            .filter_map(|directory| statvfs(directory).ok().map(bytes))
            .min()?;
        let reserve_file_bytes = reserve_file
            .map(|file| file.blocks().saturating_mul(BLOCK_BYTES))
            .unwrap_or_default();
        Some(Self {
            free_bytes: free.saturating_add(reserve_file_bytes),
            reserve_file_bytes,
            reserve_bytes: reserve.bytes_on(total),
        })
    }
}

impl Storage {
    /// Opens the reserve of a data directory and of another directory in it, which may be on
    /// another disk. If the disk is already full, the reserve is released at once, so that the
    /// database can be opened.
    pub(crate) fn open(
        directory: &DataDir,
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
            .open(directory.join(RESERVE_FILE))?;
        let storage = Self {
            directories: vec![directory.path().to_owned(), directory.join(other)],
            reserve,
            health,
            budget: AtomicI64::new(0),
            state: Mutex::new(State {
                reserve_file: file,
                has_warned: false,
                last_check: DiskStatus::default(),
            }),
        };
        let status = storage.check();
        let file_bytes = storage.lock().reserve_file_bytes();
        if status.free_bytes.saturating_sub(file_bytes) < file_bytes / 2 {
            storage.release_reserve();
        }
        Ok(storage)
    }

    /// Returns whether there is enough space for a request with this many bytes that stores
    /// something new.
    #[must_use]
    pub(crate) fn admit(&self, bytes: u64) -> bool {
        let cost = bytes
            .saturating_mul(STORAGE_WRITE_AMPLIFICATION)
            .saturating_add(STORAGE_BYTES_PER_REQUEST);
        let cost = i64::try_from(cost).unwrap_or(i64::MAX);
        if self.budget.fetch_sub(cost, Ordering::Relaxed) >= cost {
            return true;
        }
        // While space is low, only the monitor checks the disk: refused requests must not cause
        // system calls.
        if self.status().space == DiskSpace::Low {
            return false;
        }
        self.check();
        self.budget.fetch_sub(cost, Ordering::Relaxed) >= cost
    }

    /// Returns the result of the last check.
    #[must_use]
    pub(crate) fn status(&self) -> DiskStatus {
        self.lock().last_check
    }

    /// Truncates the reserve's file. Returns whether that freed any space.
    pub(crate) fn release_reserve(&self) -> bool {
        let mut state = self.lock();
        let file_bytes = state.reserve_file_bytes();
        if file_bytes == 0 || state.reserve_file.set_len(0).is_err() {
            return false;
        }
        state.last_check.space = DiskSpace::Low;
        self.budget.store(0, Ordering::Relaxed);
        tracing::error!(
            bytes = file_bytes,
            "the disk is full: the reserve is used to finish accepted work"
        );
        self.report(state.last_check);
        true
    }

    /// Checks the disk every second until the shutdown.
    pub(crate) async fn monitor(&self, shutdown: &Shutdown) {
        while !shutdown.is_triggered() {
            self.check();
            tokio::select! {
                () = tokio::time::sleep(STORAGE_CHECK_INTERVAL) => {}
                () = shutdown.triggered() => {}
            }
        }
    }

    fn check(&self) -> DiskStatus {
        let mut state = self.lock();
        let file = state.reserve_file.metadata().ok();
        let Some(usage) = DiskUsage::measure(&self.directories, file.as_ref(), self.reserve) else {
            return state.last_check;
        };
        let DiskUsage {
            free_bytes,
            reserve_bytes,
            ..
        } = usage;
        let space = state.last_check.space.step(free_bytes, reserve_bytes);
        let status = DiskStatus {
            space,
            free_bytes,
            reserve_bytes,
        };
        state.last_check = status;
        let budget = if space == DiskSpace::Sufficient {
            state.resize_reserve(Reserve::file_bytes(reserve_bytes));
            free_bytes.saturating_sub(reserve_bytes)
        } else {
            0
        };
        self.budget
            .store(i64::try_from(budget).unwrap_or(i64::MAX), Ordering::Relaxed);
        self.report(status);
        status
    }

    fn report(&self, status: DiskStatus) {
        let DiskStatus {
            space,
            free_bytes,
            reserve_bytes,
        } = status;
        self.health
            .set_storage_low((space == DiskSpace::Low).then(|| {
                format!(
                    "{free_bytes} bytes are free on the disk, {reserve_bytes} are reserved to \
                     finish accepted work: free some space"
                )
            }));
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn reserve_file_bytes(&self) -> u64 {
        self.reserve_file
            .metadata()
            .map(|meta| meta.blocks().saturating_mul(BLOCK_BYTES))
            .unwrap_or_default()
    }

    /// Sets the length of the reserve's file, and allocates its blocks.
    fn resize_reserve(&mut self, bytes: u64) {
        let length = self
            .reserve_file
            .metadata()
            .map(|meta| meta.len())
            .unwrap_or_default();
        if length == bytes {
            return;
        }
        let resized = match bytes.checked_sub(length) {
            Some(_) => fallocate(&self.reserve_file, FallocateFlags::empty(), 0, bytes)
                .map_err(io::Error::from),
            None => self.reserve_file.set_len(bytes),
        };
        match resized {
            Ok(()) => self.has_warned = false,
            Err(error) if !self.has_warned => {
                self.has_warned = true;
                tracing::warn!(%error, "the reserve's file cannot be resized: other programs may \
                    use its disk space");
            }
            Err(_) => {}
        }
    }
}
