//! Access control for an API on this machine: callers need the token, and pages of other sites are
//! refused.

use http::{HeaderMap, header};
use sha2::{Digest as _, Sha256};
use std::net::SocketAddr;
use subtle::ConstantTimeEq as _;

/// Checks of requests to a local API. Only the digest of the token stays in memory.
#[derive(Debug, Clone)]
pub struct LocalGuard {
    token_digest: [u8; 32],
    /// `None` for an API on a Unix socket, which browsers cannot reach.
    port: Option<u16>,
}

impl LocalGuard {
    /// Creates a guard for an API on a loopback address; `Host` must name its port.
    #[must_use]
    pub fn new(token: &str, address: SocketAddr) -> Self {
        Self {
            token_digest: Sha256::digest(token).into(),
            port: Some(address.port()),
        }
    }

    /// Creates a guard for an API on a Unix socket.
    #[must_use]
    pub fn for_unix_socket(token: &str) -> Self {
        Self {
            token_digest: Sha256::digest(token).into(),
            port: None,
        }
    }

    /// Returns whether the request has the token (`Authorization: Bearer …`), compared in constant
    /// time.
    #[must_use]
    pub fn is_authorized(&self, headers: &HeaderMap) -> bool {
        let value = headers
            .get(header::AUTHORIZATION)
            .and_then(|value| value.to_str().ok());
        let Some(token) = value.and_then(|value| value.strip_prefix("Bearer ")) else {
            return false;
        };
        Sha256::digest(token)
            .as_slice()
            .ct_eq(&self.token_digest)
            .into()
    }

    /// Returns whether `Host` is a loopback name and `Origin`, if present, matches it. DNS
    /// rebinding sends another `Host`, and a page of another site its own `Origin`.
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
    fn only_local_requests_with_token_are_accepted() {
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
    fn unix_sockets_need_a_token_but_no_host() {
        let guard = LocalGuard::for_unix_socket("secret");
        assert!(guard.is_local(&HeaderMap::new()) && !guard.is_authorized(&HeaderMap::new()));
    }
}
