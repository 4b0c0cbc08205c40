//! What a story holds against the disk of the relay and the memory of the processes.

use memchr::memmem;
use std::{
    fs,
    path::{Path, PathBuf},
};

/// The most memory that relay and node may hold while files pass.
pub const MEMORY_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// What a relay must not have on its disk, and how to name it.
#[derive(Debug, Clone)]
pub struct Secret {
    /// For people.
    pub what: String,
    /// As it would stand there.
    pub bytes: Vec<u8>,
}

impl Secret {
    /// A secret.
    #[must_use]
    pub fn new(what: impl Into<String>, bytes: impl Into<Vec<u8>>) -> Self {
        Self {
            what: what.into(),
            bytes: bytes.into(),
        }
    }
}

/// What was looked through.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Searched {
    /// Files.
    pub files: usize,
    /// Bytes in them.
    pub bytes: u64,
}

/// Looks for secrets in the raw bytes of all files below a folder, their names included.
///
/// # Errors
/// The first secret that is there, and where; or a file that cannot be read.
pub fn ensure_blind(folder: &Path, secrets: &[Secret]) -> anyhow::Result<Searched> {
    let mut searched = Searched::default();
    for path in files_below(folder)? {
        // A file may go while the relay works.
        let Ok(content) = fs::read(&path) else {
            continue;
        };
        for secret in secrets {
            let name = path.as_os_str().as_encoded_bytes();
            let is_there = memmem::find(&content, &secret.bytes)
                .or_else(|| memmem::find(name, &secret.bytes))
                .is_some();
            anyhow::ensure!(!is_there, "{} stands in {}", secret.what, path.display());
        }
        searched.files += 1;
        searched.bytes += content.len() as u64;
    }
    Ok(searched)
}

/// All files below a folder.
///
/// # Errors
/// When the folder cannot be read.
pub fn files_below(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let (mut files, mut folders) = (Vec::new(), vec![folder.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let list = if entry.file_type()?.is_dir() {
                &mut folders
            } else {
                &mut files
            };
            list.push(entry.path());
        }
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_found_wherever_it_stands() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("inner")).unwrap();
        fs::write(folder.path().join("inner/file"), b"xx canary yy").unwrap();
        let look = |word: &str| ensure_blind(folder.path(), &[Secret::new("it", word)]);
        assert_eq!(
            look("another").unwrap(),
            Searched {
                files: 1,
                bytes: 12
            }
        );
        assert!(
            look("canary")
                .unwrap_err()
                .to_string()
                .starts_with("it stands in")
        );
        assert!(look("inner/file").is_err(), "a name counts as well");
    }
}
