//! A file that is written to the disk while more of it comes, so that at its end little is left to wait for.

use std::{fs::File, io, sync::Arc};
use tokio::{
    runtime::Handle,
    task::{JoinHandle, spawn_blocking},
};

/// So much is written before the disk is asked to have it.
const SYNCED_EVERY_BYTES: usize = 8 * 1024 * 1024;

/// Asks the disk now and then, in the background. For threads that may block.
pub(super) struct Syncing {
    file: Arc<File>,
    unsynced_bytes: usize,
    under_way: Option<JoinHandle<io::Result<()>>>,
}

impl Syncing {
    pub(super) const fn new(file: Arc<File>) -> Self {
        Self {
            file,
            unsynced_bytes: 0,
            under_way: None,
        }
    }

    /// So much more was written; fails when the disk did not take what was written before.
    pub(super) fn wrote(&mut self, bytes: usize) -> io::Result<()> {
        self.unsynced_bytes += bytes;
        let is_idle = self.under_way.as_ref().is_none_or(JoinHandle::is_finished);
        if self.unsynced_bytes >= SYNCED_EVERY_BYTES && is_idle {
            self.synced()?;
            let file = Arc::clone(&self.file);
            self.under_way = Some(spawn_blocking(move || file.sync_data()));
            self.unsynced_bytes = 0;
        }
        Ok(())
    }

    /// Waits for what the disk was asked; a failure is told once, and only to who asked.
    fn synced(&mut self) -> io::Result<()> {
        match self.under_way.take() {
            Some(under_way) => Handle::current()
                .block_on(under_way)
                .map_err(io::Error::other)?,
            None => Ok(()),
        }
    }

    /// Returns when all of it is on disk.
    pub(super) fn finish(&mut self) -> io::Result<()> {
        self.synced()?;
        self.file.sync_all()
    }
}
