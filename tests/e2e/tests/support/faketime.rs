//! Clocks of child processes, controlled with libfaketime.

use anyhow::{Context as _, ensure};
use sealpost_demo::process::Program;
use std::{fs, path::PathBuf};
use tempfile::TempDir;

/// Clock of all processes that it controls. It starts at the real time and runs at its pace.
pub(crate) struct Clock {
    directory: TempDir,
}

impl Clock {
    pub(crate) fn create() -> anyhow::Result<Self> {
        let clock = Self {
            directory: TempDir::new()?,
        };
        clock.set_days(0)?;
        Ok(clock)
    }

    /// Returns a program whose processes run by this clock.
    pub(crate) fn control(&self, program: Program) -> anyhow::Result<Program> {
        Ok(program
            .with_variable("LD_PRELOAD", find_library()?)
            .with_variable("FAKETIME_TIMESTAMP_FILE", self.file())
            .with_variable("FAKETIME_NO_CACHE", "1")
            .with_variable("FAKETIME_DONT_FAKE_MONOTONIC", "1")
            .with_variable("NO_FAKE_STAT", "1"))
    }

    /// Sets how many days the clock is ahead of the real time. All processes see that at once.
    pub(crate) fn set_days(&self, days: u32) -> anyhow::Result<()> {
        let new = self.directory.path().join("new");
        fs::write(&new, format!("+{days}d\n"))?;
        Ok(fs::rename(new, self.file())?)
    }

    fn file(&self) -> PathBuf {
        self.directory.path().join("clock")
    }
}

/// Finds the library in the directory of the machine's architecture.
fn find_library() -> anyhow::Result<PathBuf> {
    let architectures = fs::read_dir("/usr/lib").context("/usr/lib")?;
    let library = architectures
        .flatten()
        .map(|entry| entry.path().join("faketime/libfaketimeMT.so.1"))
        .find(|path| path.exists());
    ensure!(
        library.is_some(),
        "DID NOT RUN: libfaketime is missing. `./tests/run e2e` installs it from Debian"
    );
    library.context("libfaketime")
}
