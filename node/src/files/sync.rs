//! Background sync of a growing file, so that the final sync has little left to do.

use std::{fs::File, io, sync::Arc};
use tokio::{
    runtime::Handle,
    task::{JoinHandle, spawn_blocking},
};

/// Number of written bytes after which a sync starts.
const SYNC_INTERVAL_BYTES: usize = 8 * 1024 * 1024;

/// Syncs a file in the background while it is written. For threads that may block.
pub(super) struct BackgroundSync {
    file: Arc<File>,
    unsynced_bytes: usize,
    running: Option<JoinHandle<io::Result<()>>>,
}

impl BackgroundSync {
    pub(super) const fn new(file: Arc<File>) -> Self {
        Self {
            file,
            unsynced_bytes: 0,
            running: None,
        }
    }

    /// Counts `bytes` written bytes, and starts a sync if enough have accumulated. Fails if an
    /// earlier sync has failed.
    pub(super) fn record_write(&mut self, bytes: usize) -> io::Result<()> {
        self.unsynced_bytes += bytes;
        let is_idle = self.running.as_ref().is_none_or(JoinHandle::is_finished);
        if self.unsynced_bytes >= SYNC_INTERVAL_BYTES && is_idle {
            self.wait()?;
            let file = Arc::clone(&self.file);
            self.running = Some(spawn_blocking(move || file.sync_data()));
            self.unsynced_bytes = 0;
        }
        Ok(())
    }

    /// Waits for the running sync. The kernel reports a write error to one sync call only, so its
    /// result must not be lost.
    fn wait(&mut self) -> io::Result<()> {
        match self.running.take() {
            Some(running) => Handle::current()
                .block_on(running)
                .map_err(io::Error::other)?,
            None => Ok(()),
        }
    }

    /// Returns when the whole file is on disk.
    pub(super) fn finish(&mut self) -> io::Result<()> {
        self.wait()?;
        self.file.sync_all()
    }
}
