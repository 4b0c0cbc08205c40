//! Where connections come from: an address of the network, or a socket in the file system.

use sealpost_proto::limits::UNSENT_BYTES_MAX;
use socket2::SockRef;
use std::{
    fmt::{self, Display},
    fs::{self, Metadata, Permissions},
    io,
    net::SocketAddr,
    os::unix::{
        fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _},
        net::UnixStream as BlockingUnixStream,
    },
    path::{Path, PathBuf},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, UnixListener, UnixSocket},
};

/// Connections that the system holds until they are accepted.
const BACKLOG: u32 = 1_024;

/// Where a listener accepts connections.
#[derive(Debug)]
pub enum Endpoint {
    /// An address of the network.
    Tcp(TcpListener),
    /// A socket in the file system.
    Unix(UnixEndpoint),
}

/// Who may connect to a socket in the file system.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum SocketAccess {
    /// The user of this process (mode 0600).
    #[default]
    Owner,
    /// Also the group of this process (mode 0660).
    Group,
}

/// A socket in the file system that this process made. Dropping it removes the file.
#[derive(Debug)]
pub struct UnixEndpoint {
    listener: UnixListener,
    path: PathBuf,
    made: (u64, u64),
}

/// Why nothing can be accepted there.
#[derive(Debug, thiserror::Error)]
pub enum EndpointError {
    /// Another process accepts connections at this socket.
    #[error("{} is in use by another process: stop that one first, or choose another path", path.display())]
    InUse {
        /// The socket.
        path: PathBuf,
    },
    /// Something that is no socket stands there. It is left alone.
    #[error("{} is there and is not a socket: choose another path", path.display())]
    NotASocket {
        /// What was named.
        path: PathBuf,
    },
    /// The system says no.
    #[error("cannot listen on {place}: {source}; choose another one")]
    Failed {
        /// Address or path.
        place: String,
        /// What the system says.
        source: io::Error,
    },
}

/// A connection, whatever carries it.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

impl Endpoint {
    /// Listens on an address; port 0 takes a free one.
    ///
    /// # Errors
    /// [`EndpointError::Failed`].
    pub async fn tcp(address: SocketAddr) -> Result<Self, EndpointError> {
        let listener = TcpListener::bind(address).await;
        Ok(Self::Tcp(listener.map_err(|source| {
            EndpointError::Failed {
                place: address.to_string(),
                source,
            }
        })?))
    }

    /// Listens on a socket in the file system. One that a dead process left behind is replaced.
    ///
    /// # Errors
    /// [`EndpointError::InUse`] when somebody answers there, [`EndpointError::NotASocket`] when something else stands
    /// there, [`EndpointError::Failed`].
    pub fn unix(path: &Path, access: SocketAccess) -> Result<Self, EndpointError> {
        let failed = |source| EndpointError::Failed {
            place: path.display().to_string(),
            source,
        };
        remove_left_over(path)?;
        let socket = UnixSocket::new_stream().map_err(failed)?;
        socket.bind(path).map_err(failed)?;
        // Nobody can connect before `listen`, so there is no moment in which the wrong people can.
        fs::set_permissions(path, Permissions::from_mode(access.mode())).map_err(failed)?;
        let made = identity(&fs::symlink_metadata(path).map_err(failed)?);
        let listener = socket.listen(BACKLOG).map_err(failed)?;
        Ok(Self::Unix(UnixEndpoint {
            listener,
            path: path.to_owned(),
            made,
        }))
    }

    /// The address of the network it is; `None` for a socket in the file system.
    #[must_use]
    pub fn address(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(listener) => listener.local_addr().ok(),
            Self::Unix(_) => None,
        }
    }

    /// The next connection, with the client's address when it has one.
    pub(super) async fn accept(&self) -> io::Result<(Box<dyn Stream>, Option<SocketAddr>)> {
        match self {
            Self::Tcp(listener) => {
                let (stream, peer) = listener.accept().await?;
                stream.set_nodelay(true)?;
                // So that room to write comes in small steps, by which a slow reader is told from one that reads nothing,
                // and so that the system does not hold megabytes for either.
                SockRef::from(&stream).set_tcp_notsent_lowat(UNSENT_BYTES_MAX)?;
                Ok((Box::new(stream), Some(peer)))
            }
            Self::Unix(endpoint) => Ok((Box::new(endpoint.listener.accept().await?.0), None)),
        }
    }
}

impl From<TcpListener> for Endpoint {
    fn from(listener: TcpListener) -> Self {
        Self::Tcp(listener)
    }
}

impl Display for Endpoint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(listener) => match listener.local_addr() {
                Ok(address) => address.fmt(formatter),
                Err(_) => formatter.write_str("a closed address"),
            },
            Self::Unix(endpoint) => endpoint.path.display().fmt(formatter),
        }
    }
}

impl SocketAccess {
    fn mode(self) -> u32 {
        match self {
            Self::Owner => 0o600,
            Self::Group => 0o660,
        }
    }
}

impl Drop for UnixEndpoint {
    fn drop(&mut self) {
        // Another process may have put its own there since.
        if fs::symlink_metadata(&self.path).is_ok_and(|there| identity(&there) == self.made) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn remove_left_over(path: &Path) -> Result<(), EndpointError> {
    let failed = |source| EndpointError::Failed {
        place: path.display().to_string(),
        source,
    };
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(source) => return Err(failed(source)),
        Ok(there) if !there.file_type().is_socket() => {
            return Err(EndpointError::NotASocket {
                path: path.to_owned(),
            });
        }
        Ok(_) => {}
    }
    match BlockingUnixStream::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            fs::remove_file(path).map_err(failed)
        }
        Ok(_) => Err(EndpointError::InUse {
            path: path.to_owned(),
        }),
        Err(source) => Err(failed(source)),
    }
}

/// What no other file has at the same time.
fn identity(metadata: &Metadata) -> (u64, u64) {
    (metadata.dev(), metadata.ino())
}
