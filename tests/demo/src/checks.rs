//! Checks of the relay's disk and of the processes' memory.

use memchr::memmem;
use std::{
    fs,
    path::{Path, PathBuf},
};

/// Limit on the peak memory of relay and node while files are transferred.
pub const MEMORY_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Bytes that must not be on the relay's disk.
#[derive(Debug, Clone)]
pub struct Secret {
    /// Description for the error message.
    pub description: String,
    /// The bytes to search for.
    pub bytes: Vec<u8>,
}

impl Secret {
    /// Creates a secret.
    #[must_use]
    pub fn new(description: impl Into<String>, bytes: impl Into<Vec<u8>>) -> Self {
        Self {
            description: description.into(),
            bytes: bytes.into(),
        }
    }
}

/// Number and size of the searched files.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SearchedFiles {
    /// Number of files.
    pub files: usize,
    /// Number of bytes in them.
    pub bytes: u64,
}

/// Fails if a secret occurs in the contents or paths of the files below a directory.
pub fn ensure_no_secrets(directory: &Path, secrets: &[Secret]) -> anyhow::Result<SearchedFiles> {
    let mut searched = SearchedFiles::default();
    for path in list_files(directory)? {
        // The relay may delete a file during the search.
        let Ok(content) = fs::read(&path) else {
            continue;
        };
        for secret in secrets {
            let name = path.as_os_str().as_encoded_bytes();
            let is_found = memmem::find(&content, &secret.bytes)
                .or_else(|| memmem::find(name, &secret.bytes))
                .is_some();
            anyhow::ensure!(
                !is_found,
                "{} found in {}",
                secret.description,
                path.display()
            );
        }
        searched.files += 1;
        searched.bytes += content.len() as u64;
    }
    Ok(searched)
}

/// Lists all files below a directory.
pub fn list_files(directory: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let (mut files, mut directories) = (Vec::new(), vec![directory.to_owned()]);
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory)? {
            let entry = entry?;
            let target = if entry.file_type()?.is_dir() {
                &mut directories
            } else {
                &mut files
            };
            target.push(entry.path());
        }
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_found_in_contents_and_paths() {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("inner")).unwrap();
        fs::write(directory.path().join("inner/file"), b"xx canary yy").unwrap();
        let search = |word: &str| ensure_no_secrets(directory.path(), &[Secret::new("it", word)]);
        assert_eq!(
            search("another").unwrap(),
            SearchedFiles {
                files: 1,
                bytes: 12
            }
        );
        assert!(
            search("canary")
                .unwrap_err()
                .to_string()
                .starts_with("it found in")
        );
        assert!(search("inner/file").is_err(), "paths are searched as well");
    }
}
