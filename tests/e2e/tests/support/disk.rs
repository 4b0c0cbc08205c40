//! A disk that is small enough to be filled.

use std::{
    fs::File,
    io::{ErrorKind, Write as _, stderr},
    path::{Path, PathBuf},
    process::Command,
};
use tempfile::TempDir;

/// Written at a time.
const BLOCK: [u8; 4_096] = [0; 4_096];

/// A mounted file system in memory, unmounted when dropped.
pub(crate) struct SmallDisk {
    folder: TempDir,
}

impl SmallDisk {
    /// Mounts one of so many MiB; `None`, said loudly, where this user must not mount.
    pub(crate) fn mount(mebibytes: u32) -> anyhow::Result<Option<Self>> {
        let folder = tempfile::tempdir()?;
        let size = format!("size={mebibytes}m,mode=0700");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &size, "tmpfs"])
            .arg(folder.path())
            .output()?;
        if mounted.status.success() {
            return Ok(Some(Self { folder }));
        }
        let why = String::from_utf8_lossy(&mounted.stderr);
        writeln!(
            stderr(),
            "NOT TESTED, because only root can mount: what a full disk does ({})",
            why.trim()
        )?;
        Ok(None)
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    fn ballast(&self) -> PathBuf {
        self.path().join("ballast")
    }

    /// Fills it to the last block.
    pub(crate) fn fill(&self) -> anyhow::Result<()> {
        let mut ballast = File::create(self.ballast())?;
        loop {
            match ballast.write_all(&BLOCK) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::StorageFull => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Takes away what filled it.
    pub(crate) fn make_room(&self) -> anyhow::Result<()> {
        Ok(std::fs::remove_file(self.ballast())?)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: a process that failed to stop may still hold a file.
        let _ = Command::new("umount")
            .arg("--lazy")
            .arg(self.path())
            .status();
    }
}
