//! Who may use the local API: callers on this machine with the token, and no page of another site.

use crate::api::problem::{Problem, ProblemCode};
use axum::{
    extract::{Request, State},
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use http::{HeaderMap, header};
use sha2::{Digest as _, Sha256};
use std::{net::SocketAddr, sync::Arc};
use subtle::ConstantTimeEq as _;

/// What a request is held to.
pub(super) struct Guard {
    token: [u8; 32],
    port: u16,
}

impl Guard {
    /// `token` is what callers show; only its digest stays in memory.
    pub(super) fn new(token: &str, address: SocketAddr) -> Self {
        Self { token: Sha256::digest(token.as_bytes()).into(), port: address.port() }
    }

    fn is_authorized(&self, headers: &HeaderMap) -> bool {
        let shown = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let Some(token) = shown.and_then(|value| value.strip_prefix("Bearer ")) else { return false };
        let digest: [u8; 32] = Sha256::digest(token.as_bytes()).into();
        digest.ct_eq(&self.token).into()
    }

    /// DNS that is pointed at this machine gives another `Host` than a loopback name; a page gives its own `Origin`.
    fn is_local(&self, headers: &HeaderMap) -> bool {
        let host = headers.get(header::HOST).and_then(|value| value.to_str().ok());
        let Some(host) = host.filter(|host| self.is_own(host)) else { return false };
        match headers.get(header::ORIGIN).map(|value| value.to_str()) {
            None => true,
            Some(Ok(origin)) => origin.strip_prefix("http://").is_some_and(|origin| origin == host),
            Some(Err(_)) => false,
        }
    }

    fn is_own(&self, host: &str) -> bool {
        ["127.0.0.1", "localhost", "[::1]"].iter().any(|name| {
            host.strip_prefix(name)
                .and_then(|rest| rest.strip_prefix(':'))
                .is_some_and(|port| port.parse() == Ok(self.port))
        })
    }
}

/// Lets a request through, or answers it.
pub(super) async fn check(State(guard): State<Arc<Guard>>, request: Request, next: Next) -> Response {
    if !guard.is_local(request.headers()) {
        return Problem::from(ProblemCode::ForbiddenHost).into_response();
    }
    if !guard.is_authorized(request.headers()) {
        return Problem::from(ProblemCode::Unauthorized).into_response();
    }
    next.run(request).await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(header::HeaderName, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.clone(), value.parse().unwrap())).collect()
    }

    #[test]
    fn only_this_machine_with_the_token_gets_in() {
        let guard = Guard::new("secret", "127.0.0.1:4680".parse().unwrap());
        for host in ["127.0.0.1:4680", "localhost:4680", "[::1]:4680"] {
            assert!(guard.is_local(&headers(&[(header::HOST, host)])), "{host}");
        }
        for host in ["127.0.0.1", "127.0.0.1:80", "evil.example:4680", "localhost.evil.example:4680", "127.0.0.1.:4680"]
        {
            assert!(!guard.is_local(&headers(&[(header::HOST, host)])), "{host}");
        }
        let origin = |value| headers(&[(header::HOST, "localhost:4680"), (header::ORIGIN, value)]);
        assert!(guard.is_local(&origin("http://localhost:4680")));
        assert!(!guard.is_local(&origin("http://evil.example")) && !guard.is_local(&origin("null")));
        assert!(guard.is_authorized(&headers(&[(header::AUTHORIZATION, "Bearer secret")])));
        for wrong in ["Bearer secre", "secret", "Basic secret"] {
            assert!(!guard.is_authorized(&headers(&[(header::AUTHORIZATION, wrong)])), "{wrong}");
        }
    }
}
