//! A small file system that tests can fill.

use std::{
    fs::File,
    io::{ErrorKind, Write as _, stderr},
    path::{Path, PathBuf},
    process::Command,
};
use tempfile::TempDir;

/// Block of zeros with which the disk is filled.
const ZEROS: [u8; 4_096] = [0; 4_096];

/// Mounted tmpfs, unmounted when dropped.
pub(crate) struct SmallDisk {
    directory: TempDir,
}

impl SmallDisk {
    /// Mounts a file system of the given size in MiB. Without the right to mount it prints a
    /// warning and returns `None`.
    pub(crate) fn mount(mebibytes: u32) -> anyhow::Result<Option<Self>> {
        let directory = tempfile::tempdir()?;
        let size = format!("size={mebibytes}m,mode=0700");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &size, "tmpfs"])
            .arg(directory.path())
            .output()?;
        if mounted.status.success() {
            return Ok(Some(Self { directory }));
        }
        let why = String::from_utf8_lossy(&mounted.stderr);
        writeln!(
            stderr(),
            "NOT TESTED: full disks, because mounting a file system failed ({}); run the tests as \
             root",
            why.trim()
        )?;
        Ok(None)
    }

    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }

    fn ballast(&self) -> PathBuf {
        self.path().join("ballast")
    }

    /// Fills the file system to the last block.
    pub(crate) fn fill(&self) -> anyhow::Result<()> {
        let mut ballast = File::create(self.ballast())?;
        loop {
            match ballast.write_all(&ZEROS) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::StorageFull => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Deletes the file that fills the file system.
    pub(crate) fn free_space(&self) -> anyhow::Result<()> {
        Ok(std::fs::remove_file(self.ballast())?)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily, because a process that failed to stop may still hold a file open.
        let _ = Command::new("umount")
            .arg("--lazy")
            .arg(self.path())
            .status();
    }
}
