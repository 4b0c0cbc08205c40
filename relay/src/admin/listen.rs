//! Listener of the admin API. Its address and token are stored in two files of the data directory,
//! where the operator commands find them.

use crate::config::AdminListen;
use sealpost_proto::b64;
use sealpost_service::{
    DataDir, SecretError,
    http::{Endpoint, EndpointError, LocalGuard, SocketAccess},
    random_array,
};
use std::{io, net::SocketAddr};
use zeroize::Zeroizing;

/// File with the address of the admin API.
pub(crate) const ADDRESS_FILE: &str = "admin-address";
/// File with the token of the admin API, mode 0600. If it is missing, the next start creates a new
/// token.
pub(crate) const TOKEN_FILE: &str = "admin-token";

/// Reason why the admin API cannot start.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// The address or socket cannot be opened.
    #[error("admin API: {0} with --admin-listen, or off")]
    Listen(#[from] EndpointError),
    /// A file in the data directory cannot be read or written.
    #[error(transparent)]
    Files(#[from] SecretError),
}

/// Listener of the admin API, with the guard that checks its requests.
pub(crate) struct AdminListener {
    pub(crate) endpoint: Endpoint,
    pub(crate) guard: LocalGuard,
    /// Actual address, with the assigned port.
    pub(crate) address: AdminListen,
}

impl AdminListener {
    /// Starts to listen and stores the address in the data directory; returns `None` if the API is
    /// off. The token stays the same across restarts, so that programs that use it keep working.
    pub(crate) async fn open(
        listen: &AdminListen,
        directory: &DataDir,
    ) -> Result<Option<Self>, AdminError> {
        let endpoint = match listen {
            AdminListen::Off => {
                directory.write_secret(ADDRESS_FILE, listen.to_string().as_bytes())?;
                return Ok(None);
            }
            AdminListen::Tcp(address) => listen_tcp(*address).await?,
            AdminListen::Unix(path) => Endpoint::unix(path, SocketAccess::Owner)?,
        };
        let token = read_or_create_token(directory)?;
        let (guard, address) = match endpoint.address() {
            Some(address) => (LocalGuard::new(&token, address), AdminListen::Tcp(address)),
            None => (LocalGuard::for_unix_socket(&token), listen.clone()),
        };
        directory.write_secret(ADDRESS_FILE, address.to_string().as_bytes())?;
        Ok(Some(Self {
            endpoint,
            guard,
            address,
        }))
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
    async fn token_is_kept_and_replaced_if_invalid() {
        let parent = tempfile::tempdir().unwrap();
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
