//! Listeners of the admin API: a Unix socket in the data directory, and the configured one.
//!
//! The operator commands use the socket, never a TCP port: while the relay is stopped, any user of
//! the machine could listen on its port and receive the token.

use crate::config::AdminListen;
use sealpost_proto::b64;
use sealpost_service::{
    DataDir, SecretError,
    http::{Endpoint, EndpointError, LocalGuard, SocketAccess},
    random_array,
};
use std::{io, net::SocketAddr, path::Path};
use zeroize::Zeroizing;

/// Unix socket of the operator commands in the data directory, mode 0600.
pub(crate) const SOCKET_FILE: &str = "admin.sock";
/// File with the address of the configured listener.
pub(crate) const ADDRESS_FILE: &str = "admin-address";
/// File with the token of the admin API, mode 0600. If it is missing, the next start creates a new
/// token.
pub(crate) const TOKEN_FILE: &str = "admin-token";

/// Reason why the admin API cannot start.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// The configured address or socket cannot be opened.
    #[error("admin API: {0} with --admin-listen, or off")]
    Listen(#[from] EndpointError),
    /// The socket in the data directory cannot be opened.
    #[error("admin API: {0}")]
    Socket(EndpointError),
    /// A file in the data directory cannot be read or written.
    #[error(transparent)]
    Files(#[from] SecretError),
}

/// Listeners of the admin API.
pub(crate) struct AdminListeners {
    /// Listeners, each with the guard that checks its requests. The first one is the Unix socket in
    /// the data directory, which the operator commands use.
    pub(crate) endpoints: Vec<(Endpoint, LocalGuard)>,
    /// Actual address of the configured listener, with the assigned port.
    pub(crate) address: AdminListen,
}

impl AdminListeners {
    /// Starts to listen and stores the address in the data directory. The token stays the same
    /// across restarts, so that programs that use it keep working.
    pub(crate) async fn open(
        listen: &AdminListen,
        directory: &DataDir,
    ) -> Result<Self, AdminError> {
        let token = read_or_create_token(directory)?;
        let for_socket = |path: &Path| {
            let endpoint = Endpoint::unix(path, SocketAccess::Owner)?;
            Ok::<_, EndpointError>((endpoint, LocalGuard::for_unix_socket(&token)))
        };
        let socket = directory.join(SOCKET_FILE);
        let mut endpoints = vec![for_socket(&socket).map_err(AdminError::Socket)?];
        let mut address = listen.clone();
        match listen {
            AdminListen::Unix(path) if *path != socket => endpoints.push(for_socket(path)?),
            AdminListen::Unix(_) | AdminListen::Off => {}
            AdminListen::Tcp(wanted) => {
                let endpoint = listen_tcp(*wanted).await?;
                let actual = endpoint.address().unwrap_or(*wanted);
                address = AdminListen::Tcp(actual);
                endpoints.push((endpoint, LocalGuard::new(&token, actual)));
            }
        }
        directory.write_secret(ADDRESS_FILE, address.to_string().as_bytes())?;
        Ok(Self { endpoints, address })
    }
}

/// Opens a TCP listener. If the default port is taken, for example by another relay, any free port
/// is used.
async fn listen_tcp(wanted: SocketAddr) -> Result<Endpoint, EndpointError> {
    let endpoint = match Endpoint::tcp(wanted).await {
        Err(EndpointError::Failed { source, .. })
            if source.kind() == io::ErrorKind::AddrInUse
                && wanted == AdminListen::DEFAULT_ADDRESS =>
        {
            Endpoint::tcp((wanted.ip(), 0).into()).await
        }
        endpoint => endpoint,
    }?;
    if !wanted.ip().is_loopback() {
        tracing::warn!(
            address = %endpoint,
            "the admin API is reachable from other machines and is not encrypted"
        );
    }
    Ok(endpoint)
}

fn read_or_create_token(directory: &DataDir) -> Result<Zeroizing<String>, SecretError> {
    if let Some(token) = read_token(directory)? {
        return Ok(token);
    }
    let bytes = Zeroizing::new(random_array::<32>());
    let token = Zeroizing::new(b64::encode(&*bytes));
    directory.write_secret(TOKEN_FILE, token.as_bytes())?;
    Ok(token)
}

/// Reads the stored token. Returns `None` for a truncated one.
fn read_token(directory: &DataDir) -> Result<Option<Zeroizing<String>>, SecretError> {
    let bytes = directory.read_secret(TOKEN_FILE)?;
    let text = bytes.and_then(|bytes| {
        std::str::from_utf8(&bytes)
            .ok()
            .map(|text| text.trim().to_owned())
    });
    Ok(text
        .filter(|text| b64::parse_array::<32>(text).is_ok())
        .map(Zeroizing::new))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_an_invalid_token_is_replaced() {
        let parent = crate::data_layout::temporary_data_directory();
        let directory = DataDir::open(parent.path()).unwrap();
        let first = read_or_create_token(&directory).unwrap();
        assert_eq!(read_or_create_token(&directory).unwrap(), first);
        directory.write_secret(TOKEN_FILE, b"").unwrap();
        assert_ne!(read_or_create_token(&directory).unwrap(), first);
    }

    #[tokio::test]
    async fn default_port_in_use_falls_back_to_another() {
        let (first, second) = (
            listen_tcp(AdminListen::DEFAULT_ADDRESS).await.unwrap(),
            listen_tcp(AdminListen::DEFAULT_ADDRESS).await.unwrap(),
        );
        assert_ne!(first.address(), second.address());
        assert!(listen_tcp(second.address().unwrap()).await.is_err());
    }
}
