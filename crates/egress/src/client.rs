use crate::{
    Guard,
    connector::{ConnectError, GuardedConnector, Resolve, system_resolver},
};
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Method, Uri};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::Client as HttpClient,
    rt::{TokioExecutor, TokioTimer},
};
use rustls::{
    ClientConfig, RootCertStore, crypto::ring::default_provider, pki_types::CertificateDer,
};
use sealpost_proto::limits::{
    CLIENT_IDLE_PER_HOST_MAX, CLIENT_IDLE_TIMEOUT, HTTP1_BUFFER_BYTES, WEBHOOK_CONNECT_TIMEOUT,
    WEBHOOK_RESPONSE_BYTES_MAX, WEBHOOK_TIMEOUT,
};
use std::{error::Error, io, net::IpAddr, sync::Arc, time::Duration};
use url::{Host, Url};

/// Limits of one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Time to connect to one address.
    pub connect_timeout: Duration,
    /// Time of the whole call, from the name resolution to the last byte.
    pub total_timeout: Duration,
    /// Maximum size of the response body; the rest is not read.
    pub response_bytes_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connect_timeout: WEBHOOK_CONNECT_TIMEOUT,
            total_timeout: WEBHOOK_TIMEOUT,
            response_bytes_max: WEBHOOK_RESPONSE_BYTES_MAX,
        }
    }
}

/// Request of one call.
#[derive(Debug, Clone)]
pub struct Request<'a> {
    /// HTTP method of the request.
    pub method: Method,
    /// URL with the scheme http or https and without user and password. The fragment is not sent.
    pub url: &'a Url,
    /// Headers; the client sets `Host` and `Content-Length`.
    pub headers: HeaderMap,
    /// Body of the request.
    pub body: Bytes,
}

/// Response with any status, including 3xx.
#[derive(Debug, Clone)]
pub struct Response {
    /// HTTP status of the response.
    pub status: u16,
    /// Headers of the response.
    pub headers: HeaderMap,
    /// Body, up to [`Limits::response_bytes_max`].
    pub body: Bytes,
    /// Whether the body was longer than the limit.
    pub is_truncated: bool,
}

/// Error returned by a call without a response.
///
/// `Display` is for the owner of the URL and may name an address; [`CallError::reason`] is for
/// everybody.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// The URL is not valid for a call.
    #[error("the URL is not valid: {reason}")]
    Url {
        /// What is wrong with the URL.
        reason: &'static str,
    },
    /// The URL leads to an address that the [`Guard`] refuses.
    #[error("the address {address} is not allowed")]
    Forbidden {
        /// The refused address.
        address: IpAddr,
    },
    /// The name does not resolve.
    #[error("the name does not resolve")]
    Dns,
    /// No address accepts the connection.
    #[error("the connection failed: {kind}")]
    Connect {
        /// Error from the operating system.
        kind: io::ErrorKind,
    },
    /// The server responded with a certificate that is not valid for its name, has expired, or was
    /// issued by an unknown certificate authority.
    #[error("the certificate is not accepted: {detail}")]
    Certificate {
        /// Message of the TLS library.
        detail: String,
    },
    /// The TLS handshake failed.
    #[error("the TLS handshake failed: {detail}")]
    Tls {
        /// Message of the TLS library.
        detail: String,
    },
    /// There was no complete response within [`Limits::total_timeout`].
    #[error("no response in time")]
    Timeout,
    /// The server sent invalid HTTP or closed the connection.
    #[error("the response is not valid HTTP, or the connection was closed")]
    Http,
}

impl CallError {
    /// Returns a stable message without address and URL, for status events that peers receive.
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Url { .. } => "the endpoint's URL is not valid",
            Self::Forbidden { .. } => "the endpoint's address is not allowed",
            Self::Dns => "the endpoint's name does not resolve",
            Self::Connect { .. } => "the endpoint accepts no connection",
            Self::Certificate { .. } => "the endpoint's certificate is not accepted",
            Self::Tls { .. } => "the TLS handshake with the endpoint failed",
            Self::Timeout => "the endpoint does not respond in time",
            Self::Http => "the endpoint closed the connection or sent invalid HTTP",
        }
    }
}

/// HTTP client for untrusted URLs. Clones share connections.
#[derive(Clone)]
pub struct Client {
    http: HttpClient<HttpsConnector<GuardedConnector>, Full<Bytes>>,
    guard: Arc<Guard>,
    limits: Limits,
}

impl Client {
    /// Creates a client that connects only to addresses that `guard` permits.
    ///
    /// # Errors
    /// Returns [`CallError::Tls`] if TLS cannot be set up.
    pub fn new(guard: Guard, limits: Limits) -> Result<Self, CallError> {
        Self::with_authorities(guard, limits, &[])
    }

    /// Creates a client that also trusts these certificate authorities, besides the public ones.
    ///
    /// # Errors
    /// Returns [`CallError::Tls`] if TLS cannot be set up or a certificate is damaged.
    pub fn with_authorities(
        guard: Guard,
        limits: Limits,
        authorities: &[CertificateDer<'static>],
    ) -> Result<Self, CallError> {
        Self::with_resolver(guard, limits, authorities, system_resolver())
    }

    pub(crate) fn with_resolver(
        guard: Guard,
        limits: Limits,
        authorities: &[CertificateDer<'static>],
        resolve: Resolve,
    ) -> Result<Self, CallError> {
        let guard = Arc::new(guard);
        let connector = GuardedConnector {
            guard: Arc::clone(&guard),
            resolve,
            connect_timeout: limits.connect_timeout,
        };
        let tls = tls_config(authorities).map_err(|error| CallError::Tls {
            detail: error.to_string(),
        })?;
        let https = HttpsConnectorBuilder::new().with_tls_config(tls);
        let http = HttpClient::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(CLIENT_IDLE_TIMEOUT)
            .pool_max_idle_per_host(CLIENT_IDLE_PER_HOST_MAX)
            .http1_max_buf_size(HTTP1_BUFFER_BYTES)
            .build(
                https
                    .https_or_http()
                    .enable_http1()
                    .wrap_connector(connector),
            );
        Ok(Self {
            http,
            guard,
            limits,
        })
    }

    /// Sends one request. Connections are reused; redirects are not followed.
    ///
    /// # Errors
    /// Returns [`CallError`] if there is no response.
    pub async fn call(&self, request: Request<'_>) -> Result<Response, CallError> {
        let request = self.build_checked_request(request)?;
        let exchange = async {
            let (parts, body) = self
                .http
                .request(request)
                .await
                .map_err(|error| to_call_error(&error))?
                .into_parts();
            let (body, truncated) = read_up_to(body, self.limits.response_bytes_max).await?;
            Ok(Response {
                status: parts.status.as_u16(),
                headers: parts.headers,
                body,
                is_truncated: truncated,
            })
        };
        tokio::time::timeout(self.limits.total_timeout, exchange)
            .await
            .unwrap_or(Err(CallError::Timeout))
    }

    /// Checks the URL and a literal address in it; the connector checks the addresses of a name.
    fn build_checked_request(
        &self,
        request: Request<'_>,
    ) -> Result<http::Request<Full<Bytes>>, CallError> {
        let uri = check_uri(request.url)?;
        let literal = match request.url.host() {
            Some(Host::Ipv4(address)) => Some(IpAddr::V4(address)),
            Some(Host::Ipv6(address)) => Some(IpAddr::V6(address)),
            Some(Host::Domain(_)) | None => None,
        };
        if let Some(address) = literal.filter(|address| !self.guard.permits(*address)) {
            return Err(CallError::Forbidden { address });
        }
        let mut checked = http::Request::new(Full::new(request.body));
        *checked.method_mut() = request.method;
        *checked.uri_mut() = uri;
        *checked.headers_mut() = request.headers;
        Ok(checked)
    }
}

fn tls_config(authorities: &[CertificateDer<'static>]) -> Result<ClientConfig, rustls::Error> {
    let mut roots: RootCertStore = webpki_roots::TLS_SERVER_ROOTS.iter().cloned().collect();
    for authority in authorities {
        roots.add(authority.clone())?;
    }
    let config = ClientConfig::builder_with_provider(Arc::new(default_provider()));
    let config = config.with_safe_default_protocol_versions()?;
    Ok(config.with_root_certificates(roots).with_no_client_auth())
}

fn check_uri(url: &Url) -> Result<Uri, CallError> {
    let refuse = |reason| Err(CallError::Url { reason });
    if !matches!(url.scheme(), "http" | "https") {
        return refuse("it is neither http nor https");
    }
    if !url.username().is_empty() || url.password().is_some() {
        return refuse("it names a user or a password");
    }
    if !url.has_host() || url.port() == Some(0) {
        return refuse("it has no host or port to call");
    }
    let mut plain = url.clone();
    plain.set_fragment(None);
    plain
        .as_str()
        .parse()
        .or_else(|_| refuse("it does not parse"))
}

async fn read_up_to(mut body: Incoming, limit_bytes: usize) -> Result<(Bytes, bool), CallError> {
    let mut read = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| CallError::Http)?;
        let Ok(chunk) = frame.into_data() else {
            continue;
        };
        let remaining = limit_bytes - read.len();
        if chunk.len() > remaining {
            read.extend_from_slice(&chunk[..remaining]);
            return Ok((read.freeze(), true));
        }
        read.extend_from_slice(&chunk);
    }
    Ok((read.freeze(), false))
}

fn to_call_error(error: &hyper_util::client::legacy::Error) -> CallError {
    let mut source = error.source();
    while let Some(cause) = source {
        match cause.downcast_ref::<ConnectError>() {
            Some(ConnectError::Forbidden { address }) => {
                return CallError::Forbidden { address: *address };
            }
            Some(ConnectError::Dns) => return CallError::Dns,
            Some(ConnectError::Connect(kind)) => return CallError::Connect { kind: *kind },
            None => source = cause.source(),
        }
    }
    // Any other error while connecting comes from the handshake.
    let innermost = innermost_error(error);
    let detail = innermost.to_string();
    match as_tls_error(innermost) {
        Some(rustls::Error::InvalidCertificate(_)) => CallError::Certificate { detail },
        _ if error.is_connect() => CallError::Tls { detail },
        _ => CallError::Http,
    }
}

/// The TLS stream wraps its errors in those of the standard library, which skip them as sources.
fn as_tls_error<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a rustls::Error> {
    match error.downcast_ref::<io::Error>() {
        Some(wrapper) => as_tls_error(wrapper.get_ref()?),
        None => error.downcast_ref(),
    }
}

fn innermost_error<'a>(error: &'a (dyn Error + 'static)) -> &'a (dyn Error + 'static) {
    let mut innermost = error;
    while let Some(cause) = innermost.source() {
        innermost = cause;
    }
    innermost
}

#[cfg(test)]
mod tests;
