//! Address setting of the admin API.

use serde::{Deserialize, Serialize};
use std::{
    fmt,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    str::FromStr,
};

const OFF: &str = "off";
const UNIX: &str = "unix:";

/// Address on which the admin API listens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum AdminListen {
    /// The API is disabled.
    Off,
    /// TCP address; port 0 selects a free port.
    Tcp(SocketAddr),
    /// Unix socket that only the relay's user can open.
    Unix(PathBuf),
}

impl AdminListen {
    /// TCP address that is used unless another one is configured.
    pub(crate) const DEFAULT_ADDRESS: SocketAddr =
        SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 8441);
}

impl Default for AdminListen {
    fn default() -> Self {
        Self::Tcp(Self::DEFAULT_ADDRESS)
    }
}

/// The text is not an [`AdminListen`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected ADDRESS:PORT, unix:PATH or off for the admin API")]
pub struct ParseAdminListenError;

impl FromStr for AdminListen {
    type Err = ParseAdminListenError;

    fn from_str(text: &str) -> Result<Self, ParseAdminListenError> {
        match text.strip_prefix(UNIX) {
            _ if text == OFF => Ok(Self::Off),
            Some("") => Err(ParseAdminListenError),
            Some(path) => Ok(Self::Unix(path.into())),
            None => text
                .parse()
                .map(Self::Tcp)
                .map_err(|_| ParseAdminListenError),
        }
    }
}

impl TryFrom<String> for AdminListen {
    type Error = ParseAdminListenError;

    fn try_from(text: String) -> Result<Self, ParseAdminListenError> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn setting_is_address_socket_or_off() {
        for text in [
            "off",
            "127.0.0.1:8441",
            "[::1]:0",
            "unix:/run/sealpost/admin",
        ] {
            assert_eq!(text.parse::<AdminListen>().unwrap().to_string(), text);
        }
        for invalid in ["8441", "unix:", "localhost:1"] {
            assert_eq!(
                invalid.parse::<AdminListen>(),
                Err(ParseAdminListenError),
                "{invalid}"
            );
        }
    }
}
