//! Where the operator's API listens, and how the operator's commands find it: its address and its token lie in two files of
//! the data folder.

use sealpost_proto::b64;
use sealpost_service::{
    DataFolder, SecretError,
    http::{Endpoint, EndpointError, LocalGuard, SocketAccess},
    random_array,
};
use serde::{Deserialize, Serialize};
use std::{
    fmt, io,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    str::FromStr,
};
use zeroize::Zeroizing;

/// The file with the address of the operator's API.
pub(crate) const ADDRESS_FILE: &str = "admin-address";
/// The file with its token, mode 0600. Without it the next start makes another token.
pub(crate) const TOKEN_FILE: &str = "admin-token";

const OFF: &str = "off";
const UNIX: &str = "unix:";
const DEFAULT: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 8441);

/// Where the operator's API listens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum AdminListen {
    /// Nowhere.
    Off,
    /// On an address; port 0 takes a free one.
    Tcp(SocketAddr),
    /// On a socket in the file system, for this user alone.
    Unix(PathBuf),
}

impl Default for AdminListen {
    fn default() -> Self {
        Self::Tcp(DEFAULT)
    }
}

/// A text that says nothing of the operator's API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the operator's API listens on ADDRESS:PORT or unix:PATH, or is off")]
pub struct NotAdminListen;

impl FromStr for AdminListen {
    type Err = NotAdminListen;

    fn from_str(text: &str) -> Result<Self, NotAdminListen> {
        match text.strip_prefix(UNIX) {
            _ if text == OFF => Ok(Self::Off),
            Some("") => Err(NotAdminListen),
            Some(path) => Ok(Self::Unix(path.into())),
            None => text.parse().map(Self::Tcp).map_err(|_| NotAdminListen),
        }
    }
}

impl TryFrom<String> for AdminListen {
    type Error = NotAdminListen;

    fn try_from(text: String) -> Result<Self, NotAdminListen> {
        text.parse()
    }
}

impl From<AdminListen> for String {
    fn from(listen: AdminListen) -> Self {
        listen.to_string()
    }
}

impl fmt::Display for AdminListen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => f.write_str(OFF),
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "{UNIX}{}", path.display()),
        }
    }
}

/// Why the operator's API is not there.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// Its address or socket.
    #[error("the operator's API: {0} with --admin-listen, or off")]
    Listen(#[from] EndpointError),
    /// Its files in the data folder.
    #[error(transparent)]
    Files(#[from] SecretError),
}

/// The listener of the operator's API, and what callers are held to.
pub(crate) struct AdminListener {
    pub(crate) endpoint: Endpoint,
    pub(crate) guard: LocalGuard,
    /// Where it is, with the port that it got.
    pub(crate) place: AdminListen,
}

impl AdminListener {
    /// Listens, and writes down how the API is found; absent when it is off. The token stays the same across restarts, so
    /// that what was given it goes on.
    ///
    /// # Errors
    /// [`AdminError`].
    pub(crate) async fn open(
        listen: &AdminListen,
        folder: &DataFolder,
    ) -> Result<Option<Self>, AdminError> {
        let endpoint = match listen {
            AdminListen::Off => {
                folder.write_secret(ADDRESS_FILE, OFF.as_bytes())?;
                return Ok(None);
            }
            AdminListen::Tcp(address) => tcp(*address).await?,
            AdminListen::Unix(path) => Endpoint::unix(path, SocketAccess::Owner)?,
        };
        let token = token(folder)?;
        let (guard, place) = match endpoint.address() {
            Some(address) => (LocalGuard::new(&token, address), AdminListen::Tcp(address)),
            None => (LocalGuard::on_socket(&token), listen.clone()),
        };
        folder.write_secret(ADDRESS_FILE, place.to_string().as_bytes())?;
        Ok(Some(Self {
            endpoint,
            guard,
            place,
        }))
    }
}

/// A second relay on the machine takes a free port where nobody has chosen one.
async fn tcp(wanted: SocketAddr) -> Result<Endpoint, EndpointError> {
    let endpoint = match Endpoint::tcp(wanted).await {
        Err(EndpointError::Failed { source, .. })
            if source.kind() == io::ErrorKind::AddrInUse && wanted == DEFAULT =>
        {
            Endpoint::tcp((wanted.ip(), 0).into()).await
        }
        endpoint => endpoint,
    }?;
    if !wanted.ip().is_loopback() {
        tracing::warn!(address = %endpoint, "the operator's API can be reached from other machines, and is not encrypted");
    }
    Ok(endpoint)
}

fn token(folder: &DataFolder) -> Result<Zeroizing<String>, SecretError> {
    if let Some(token) = kept(folder)? {
        return Ok(token);
    }
    let bytes = Zeroizing::new(random_array::<32>());
    let token = Zeroizing::new(b64::encode(&*bytes));
    folder.write_secret(TOKEN_FILE, token.as_bytes())?;
    Ok(token)
}

/// The token that lies there, if it is one: half a token lets nobody in.
fn kept(folder: &DataFolder) -> Result<Option<Zeroizing<String>>, SecretError> {
    let bytes = folder.read_secret(TOKEN_FILE)?;
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

    #[test]
    fn a_place_is_an_address_or_none() {
        for text in [
            "off",
            "127.0.0.1:8441",
            "[::1]:0",
            "unix:/run/sealpost/admin",
        ] {
            assert_eq!(text.parse::<AdminListen>().unwrap().to_string(), text);
        }
        for none in ["8441", "unix:", "localhost:1"] {
            assert_eq!(none.parse::<AdminListen>(), Err(NotAdminListen), "{none}");
        }
    }

    #[tokio::test]
    async fn the_token_stays_and_a_broken_one_is_replaced() {
        let parent = tempfile::tempdir().unwrap();
        let folder = DataFolder::open(parent.path()).unwrap();
        let first = token(&folder).unwrap();
        assert_eq!(token(&folder).unwrap(), first);
        folder.write_secret(TOKEN_FILE, b"").unwrap();
        assert_ne!(token(&folder).unwrap(), first);
    }

    #[tokio::test]
    async fn a_second_relay_finds_a_port_of_its_own_unless_one_was_chosen() {
        let (first, second) = (tcp(DEFAULT).await.unwrap(), tcp(DEFAULT).await.unwrap());
        assert_ne!(first.address(), second.address());
        assert!(tcp(second.address().unwrap()).await.is_err());
    }
}
