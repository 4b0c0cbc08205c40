//! Access control for an API on this machine: callers need the token, and pages of other sites are
//! refused.

use http::{HeaderMap, Request, header, uri::Authority};
use sha2::{Digest as _, Sha256};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use subtle::ConstantTimeEq as _;

/// Checks of requests to a local API. Only the digest of the token stays in memory.
#[derive(Debug, Clone)]
pub struct LocalGuard {
    token_digest: [u8; 32],
    /// Address of the listener; `None` for a Unix socket, which browsers cannot reach.
    address: Option<SocketAddr>,
}

impl LocalGuard {
    /// Creates a guard for an API on a TCP address; `Host` must name it, or a loopback address with
    /// its port.
    #[must_use]
    pub fn new(token: &str, address: SocketAddr) -> Self {
        Self {
            token_digest: Sha256::digest(token).into(),
            address: Some(address),
        }
    }

    /// Creates a guard for an API on a Unix socket.
    #[must_use]
    pub fn for_unix_socket(token: &str) -> Self {
        Self {
            token_digest: Sha256::digest(token).into(),
            address: None,
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

    /// Returns whether the request names this listener as its host, and its `Origin`, if present,
    /// is the same. DNS rebinding sends another host, and a page of another site its own `Origin`.
    #[must_use]
    pub fn is_local<B>(&self, request: &Request<B>) -> bool {
        let Some(listener) = self.address else {
            return true;
        };
        let values = |name| {
            let values = request.headers().get_all(name).into_iter();
            values.map(|value| value.to_str().ok())
        };
        // HTTP/2 has an authority instead of `Host`; a request with several must not contradict
        // itself.
        let authority = request.uri().authority().map(Authority::as_str);
        let hosts = values(header::HOST).chain(authority.map(Some));
        let hosts: Option<Vec<_>> = hosts.map(|host| LocalHost::parse(host?)).collect();
        let Some([host, others @ ..]) = hosts.as_deref() else {
            return false;
        };
        host.is_at(listener)
            && others.iter().all(|other| other == host)
            && values(header::ORIGIN).all(|origin| {
                let origin = origin.and_then(|origin| origin.strip_prefix("http://"));
                origin.and_then(LocalHost::parse).as_ref() == Some(host)
            })
    }
}

/// Host that no DNS server can redirect: `localhost` or an IP address, with its port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct LocalHost {
    /// `None` for `localhost`.
    ip: Option<IpAddr>,
    port: u16,
}

impl LocalHost {
    /// Parses the value of a `Host` header. A name is compared without case and without the dot
    /// that can end it. A missing port is the default port of HTTP.
    fn parse(text: &str) -> Option<Self> {
        let (name, port) = match text.rsplit_once(':') {
            Some((name, port)) if !port.contains(']') => (name, port.parse().ok()?),
            _ => (text, 80),
        };
        let name = name.strip_suffix('.').unwrap_or(name);
        let ip = if name.eq_ignore_ascii_case("localhost") {
            None
        } else if let Some(ip) = name.strip_prefix('[') {
            let ip: Ipv6Addr = ip.strip_suffix(']')?.parse().ok()?;
            Some(IpAddr::V6(ip).to_canonical())
        } else {
            Some(IpAddr::V4(name.parse().ok()?))
        };
        Some(Self { ip, port })
    }

    fn is_at(&self, listener: SocketAddr) -> bool {
        let own = listener.ip().to_canonical();
        self.port == listener.port() && self.ip.is_none_or(|ip| ip.is_loopback() || ip == own)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(target: &str, headers: &[(header::HeaderName, &str)]) -> Request<()> {
        let builder = headers
            .iter()
            .fold(Request::get(target), |builder, (name, value)| {
                builder.header(name, *value)
            });
        builder.body(()).unwrap()
    }

    fn is_local(address: &str, headers: &[(header::HeaderName, &str)]) -> bool {
        LocalGuard::new("secret", address.parse().unwrap()).is_local(&request("/", headers))
    }

    #[test]
    fn loopback_hosts_are_accepted() {
        for host in [
            "127.0.0.1:4680",
            "127.0.0.2:4680",
            "127.255.255.254:4680",
            "127.0.0.1.:4680",
            "localhost:4680",
            "LocalHost:4680",
            "localhost.:4680",
            "[::1]:4680",
            "[0:0:0:0:0:0:0:1]:4680",
            "[::ffff:127.0.0.1]:4680",
        ] {
            for address in ["127.0.0.1:4680", "127.0.0.2:4680", "[::1]:4680"] {
                assert!(is_local(address, &[(header::HOST, host)]), "{host}");
            }
        }
        assert!(is_local("127.0.0.1:80", &[(header::HOST, "localhost")]));
        assert!(is_local(
            "192.0.2.1:8441",
            &[(header::HOST, "192.0.2.1:8441")]
        ));
    }

    #[test]
    fn other_hosts_are_refused() {
        for host in [
            "127.0.0.1",
            "127.0.0.1:80",
            "127.0.0.1:",
            "127.1:4680",
            "0177.0.0.1:4680",
            "2130706433:4680",
            "0.0.0.0:4680",
            "192.0.2.1:4680",
            "[::2]:4680",
            "[::1:4680",
            "::1:4680",
            "user@127.0.0.1:4680",
            "evil.example:4680",
            "localhost.evil.example:4680",
            "localhost..:4680",
            "127.0.0.1.evil.example:4680",
            "",
        ] {
            assert!(
                !is_local("127.0.0.1:4680", &[(header::HOST, host)]),
                "{host}"
            );
        }
        assert!(!is_local("127.0.0.1:4680", &[]));
        let two = [
            (header::HOST, "localhost:4680"),
            (header::HOST, "evil.example:4680"),
        ];
        assert!(!is_local("127.0.0.1:4680", &two));
    }

    #[test]
    fn authority_counts_as_host() {
        let guard = LocalGuard::new("secret", "127.0.0.1:4680".parse().unwrap());
        assert!(guard.is_local(&request("http://localhost:4680/", &[])));
        assert!(!guard.is_local(&request("http://evil.example:4680/", &[])));
        let host = [(header::HOST, "localhost:4680")];
        assert!(!guard.is_local(&request("http://evil.example:4680/", &host)));
    }

    #[test]
    fn pages_of_other_sites_are_refused() {
        let from = |origin| {
            let headers = [(header::HOST, "localhost:4680"), (header::ORIGIN, origin)];
            is_local("127.0.0.1:4680", &headers)
        };
        assert!(from("http://localhost:4680") && from("http://LOCALHOST:4680"));
        for origin in [
            "http://evil.example",
            "http://localhost:4681",
            "http://127.0.0.2:4680",
            "https://localhost:4680",
            "null",
        ] {
            assert!(!from(origin), "{origin}");
        }
    }

    #[test]
    fn requests_need_the_token() {
        let guard = LocalGuard::for_unix_socket("secret");
        assert!(guard.is_local(&request("/", &[])) && !guard.is_authorized(&HeaderMap::new()));
        let is_authorized = |value| {
            let request = request("/", &[(header::AUTHORIZATION, value)]);
            guard.is_authorized(request.headers())
        };
        assert!(is_authorized("Bearer secret"));
        for wrong in ["Bearer secre", "secret", "Basic secret"] {
            assert!(!is_authorized(wrong), "{wrong}");
        }
    }
}
