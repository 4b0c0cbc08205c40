//! Endpoints of a listener: TCP addresses and Unix sockets.

use crate::http::SocketPath;
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

/// Connections that the system queues until they are accepted.
const BACKLOG: u32 = 1_024;

/// Endpoint at which a listener accepts connections.
#[derive(Debug)]
pub enum Endpoint {
    /// Listens on a TCP address.
    Tcp(TcpListener),
    /// Listens on a Unix socket.
    Unix(UnixEndpoint),
}

/// Users that may connect to a Unix socket.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum SocketAccess {
    /// The user of this process (mode 0600).
    #[default]
    Owner,
    /// The user and the group of this process (mode 0660).
    Group,
}

/// Unix socket of this process. Dropping it removes the file.
#[derive(Debug)]
pub struct UnixEndpoint {
    listener: UnixListener,
    path: PathBuf,
    file_id: (u64, u64),
}

/// Error when opening an endpoint.
#[derive(Debug, thiserror::Error)]
pub enum EndpointError {
    /// Another process accepts connections at this socket.
    #[error(
        "{} is in use by another process: stop that process first, or choose another path",
        path.display()
    )]
    InUse {
        /// Path of the socket.
        path: PathBuf,
    },
    /// The path exists and is not a socket. It is left unchanged.
    #[error("{} exists and is not a socket: choose another path", path.display())]
    NotASocket {
        /// Path of the socket.
        path: PathBuf,
    },
    /// The operating system refuses the endpoint.
    #[error("cannot listen on {endpoint}: {source}; choose another address or path")]
    Failed {
        /// Address or path.
        endpoint: String,
        /// Error from the operating system.
        source: io::Error,
    },
}

/// Byte stream of a connection.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

impl Endpoint {
    /// Listens on a TCP address; port 0 selects a free port.
    ///
    /// # Errors
    /// [`EndpointError::Failed`].
    pub async fn tcp(address: SocketAddr) -> Result<Self, EndpointError> {
        let listener = TcpListener::bind(address).await;
        Ok(Self::Tcp(listener.map_err(|source| {
            EndpointError::Failed {
                endpoint: address.to_string(),
                source,
            }
        })?))
    }

    /// Listens on a Unix socket. Replaces a socket that an ended process left behind.
    ///
    /// # Errors
    /// Returns [`EndpointError::InUse`] if another process accepts connections there,
    /// [`EndpointError::NotASocket`] if the path is another kind of file, and
    /// [`EndpointError::Failed`] if the system refuses the endpoint.
    pub fn unix(path: &Path, access: SocketAccess) -> Result<Self, EndpointError> {
        let failed = |source| EndpointError::Failed {
            endpoint: path.display().to_string(),
            source,
        };
        let address = SocketPath::new(path).map_err(failed)?;
        remove_stale_socket(path, &address)?;
        let socket = UnixSocket::new_stream().map_err(failed)?;
        socket.bind(address.as_path()).map_err(failed)?;
        // Connections are possible only after `listen`, so the mode applies to all of them.
        fs::set_permissions(path, Permissions::from_mode(access.mode())).map_err(failed)?;
        let file_id = file_id(&fs::symlink_metadata(path).map_err(failed)?);
        let listener = socket.listen(BACKLOG).map_err(failed)?;
        Ok(Self::Unix(UnixEndpoint {
            listener,
            path: path.to_owned(),
            file_id,
        }))
    }

    /// Returns the TCP address; `None` for a Unix socket.
    #[must_use]
    pub fn address(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(listener) => listener.local_addr().ok(),
            Self::Unix(_) => None,
        }
    }

    /// Accepts the next connection; the address of the client is `None` for a Unix socket.
    pub(super) async fn accept(&self) -> io::Result<(Box<dyn Stream>, Option<SocketAddr>)> {
        match self {
            Self::Tcp(listener) => {
                let (stream, peer) = listener.accept().await?;
                stream.set_nodelay(true)?;
                // With a small send buffer a slow reader shows progress in small steps, unlike a
                // client that reads nothing, and the system does not buffer megabytes for either.
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
        // Another process may have replaced the file.
        if fs::symlink_metadata(&self.path).is_ok_and(|metadata| file_id(&metadata) == self.file_id)
        {
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn remove_stale_socket(path: &Path, address: &SocketPath) -> Result<(), EndpointError> {
    let failed = |source| EndpointError::Failed {
        endpoint: path.display().to_string(),
        source,
    };
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(source) => return Err(failed(source)),
        Ok(metadata) if !metadata.file_type().is_socket() => {
            return Err(EndpointError::NotASocket {
                path: path.to_owned(),
            });
        }
        Ok(_) => {}
    }
    match BlockingUnixStream::connect(address.as_path()) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            fs::remove_file(path).map_err(failed)
        }
        Ok(_) => Err(EndpointError::InUse {
            path: path.to_owned(),
        }),
        Err(source) => Err(failed(source)),
    }
}

/// Returns device and inode, which no other existing file has.
fn file_id(metadata: &Metadata) -> (u64, u64) {
    (metadata.dev(), metadata.ino())
}
