//! Paths of Unix sockets, however long the path of their directory is.

use sealpost_proto::limits::SOCKET_PATH_BYTES_MAX;
use std::{
    fs::File,
    io,
    os::fd::AsRawFd as _,
    path::{Path, PathBuf},
};

/// Path of a Unix socket in a form that fits into a socket address.
///
/// A longer path goes through a descriptor of its directory, as `/proc/self/fd/7/api.sock`, which
/// names the same file as long as this value exists.
#[derive(Debug)]
pub struct SocketPath {
    path: PathBuf,
    _directory: Option<File>,
}

impl SocketPath {
    /// Converts the path of a socket that exists or will be created.
    ///
    /// # Errors
    /// The path is too long, and its directory cannot be opened.
    pub fn new(path: &Path) -> io::Result<Self> {
        let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        if path.as_os_str().len() <= SOCKET_PATH_BYTES_MAX {
            return Ok(Self {
                path: path.to_owned(),
                _directory: None,
            });
        }
        let directory = File::open(directory)?;
        let descriptor = directory.as_raw_fd().to_string();
        Ok(Self {
            path: Path::new("/proc/self/fd").join(descriptor).join(name),
            _directory: Some(directory),
        })
    }

    /// Returns the path to bind or connect to.
    #[must_use]
    pub fn as_path(&self) -> &Path {
        &self.path
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::{UnixListener, UnixStream};

    #[test]
    fn sockets_in_deep_directories_are_reachable() {
        let parent = tempfile::tempdir().unwrap();
        let deep = parent.path().join("d".repeat(100)).join("e".repeat(100));
        std::fs::create_dir_all(&deep).unwrap();
        let path = deep.join("api.sock");
        assert!(UnixListener::bind(&path).is_err(), "too long as it is");
        let listener = UnixListener::bind(SocketPath::new(&path).unwrap().as_path()).unwrap();
        assert!(path.exists());
        UnixStream::connect(SocketPath::new(&path).unwrap().as_path()).unwrap();
        listener.accept().unwrap();
    }

    #[test]
    fn short_paths_stay_as_they_are() {
        let path = Path::new("/run/sealpost/api.sock");
        assert_eq!(SocketPath::new(path).unwrap().as_path(), path);
    }
}
