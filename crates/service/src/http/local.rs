//! Who may use an API that is meant for this machine: callers with the token, and no page of another site.

use http::{HeaderMap, header};
use sha2::{Digest as _, Sha256};
use std::net::SocketAddr;
use subtle::ConstantTimeEq as _;

/// What a request to a local API is held to. Of the token only its digest stays in memory.
#[derive(Debug, Clone)]
pub struct LocalGuard {
    token: [u8; 32],
    /// None: the API is on a Unix socket, which no browser reaches.
    port: Option<u16>,
}

impl LocalGuard {
    /// For an API on this address, which `Host` must name.
    #[must_use]
    pub fn new(token: &str, address: SocketAddr) -> Self {
        Self {
            token: Sha256::digest(token).into(),
            port: Some(address.port()),
        }
    }

    /// For an API on a Unix socket.
    #[must_use]
    pub fn on_socket(token: &str) -> Self {
        Self {
            token: Sha256::digest(token).into(),
            port: None,
        }
    }

    /// Whether the request shows the token (`Authorization: Bearer …`); compared in constant time.
    #[must_use]
    pub fn is_authorized(&self, headers: &HeaderMap) -> bool {
        let shown = headers
            .get(header::AUTHORIZATION)
            .and_then(|value| value.to_str().ok());
        let Some(token) = shown.and_then(|value| value.strip_prefix("Bearer ")) else {
            return false;
        };
        Sha256::digest(token).as_slice().ct_eq(&self.token).into()
    }

    /// Whether the request comes to this machine by its own name: DNS that is pointed at it gives another `Host`, and a page
    /// of another site its own `Origin`.
    #[must_use]
    pub fn is_local(&self, headers: &HeaderMap) -> bool {
        let Some(port) = self.port else { return true };
        let host = headers
            .get(header::HOST)
            .and_then(|value| value.to_str().ok());
        let Some(host) = host.filter(|host| is_loopback_name(host, port)) else {
            return false;
        };
        match headers.get(header::ORIGIN).map(|value| value.to_str()) {
            None => true,
            Some(Ok(origin)) => origin
                .strip_prefix("http://")
                .is_some_and(|origin| origin == host),
            Some(Err(_)) => false,
        }
    }
}

fn is_loopback_name(host: &str, port: u16) -> bool {
    ["127.0.0.1", "localhost", "[::1]"].iter().any(|name| {
        let rest = host
            .strip_prefix(name)
            .and_then(|rest| rest.strip_prefix(':'));
        rest.is_some_and(|text| text.parse() == Ok(port))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(header::HeaderName, &str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| (name.clone(), value.parse().unwrap()))
            .collect()
    }

    #[test]
    fn only_this_machine_with_the_token_gets_in() {
        let guard = LocalGuard::new("secret", "127.0.0.1:4680".parse().unwrap());
        for host in ["127.0.0.1:4680", "localhost:4680", "[::1]:4680"] {
            assert!(guard.is_local(&headers(&[(header::HOST, host)])), "{host}");
        }
        for host in [
            "127.0.0.1",
            "127.0.0.1:80",
            "evil.example:4680",
            "localhost.evil.example:4680",
            "127.0.0.1.:4680",
        ] {
            assert!(!guard.is_local(&headers(&[(header::HOST, host)])), "{host}");
        }
        let origin = |value| headers(&[(header::HOST, "localhost:4680"), (header::ORIGIN, value)]);
        assert!(guard.is_local(&origin("http://localhost:4680")));
        assert!(
            !guard.is_local(&origin("http://evil.example")) && !guard.is_local(&origin("null"))
        );
        assert!(guard.is_authorized(&headers(&[(header::AUTHORIZATION, "Bearer secret")])));
        for wrong in ["Bearer secre", "secret", "Basic secret"] {
            assert!(
                !guard.is_authorized(&headers(&[(header::AUTHORIZATION, wrong)])),
                "{wrong}"
            );
        }
    }

    #[test]
    fn a_socket_has_no_host_and_still_a_token() {
        let guard = LocalGuard::on_socket("secret");
        assert!(guard.is_local(&HeaderMap::new()) && !guard.is_authorized(&HeaderMap::new()));
    }
}
