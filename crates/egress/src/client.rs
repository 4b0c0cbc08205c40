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
use sealpost_proto::limits::{
    CLIENT_IDLE_PER_HOST_MAX, CLIENT_IDLE_TIMEOUT, HTTP1_BUFFER_BYTES, WEBHOOK_ANSWER_BYTES_MAX,
    WEBHOOK_CONNECT_TIMEOUT, WEBHOOK_TIMEOUT,
};
use std::{error::Error, io, net::IpAddr, sync::Arc, time::Duration};
use url::{Host, Url};

/// What one call may cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Time for a connection to one address.
    pub connect: Duration,
    /// Time for the whole call, from the name to the last byte.
    pub whole: Duration,
    /// Bytes of the answer's body that are read; the rest is cut off.
    pub answer_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connect: WEBHOOK_CONNECT_TIMEOUT,
            whole: WEBHOOK_TIMEOUT,
            answer_bytes: WEBHOOK_ANSWER_BYTES_MAX,
        }
    }
}

/// One call.
#[derive(Debug, Clone)]
pub struct Request<'a> {
    /// Its method.
    pub method: Method,
    /// Where to: http or https, without user and password. The fragment is not sent.
    pub url: &'a Url,
    /// Its headers; `Host` and `Content-Length` are set by the client.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Bytes,
}

/// An answer, whatever its status: 3xx is an answer like any other.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The body, up to the limit.
    pub body: Bytes,
    /// Whether more was sent than is in `body`.
    pub truncated: bool,
}

/// Why a call has no answer.
///
/// The text is for the owner of the URL and names no more than an address; [`CallError::reason`] is for everybody.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// The URL is not one that can be called.
    #[error("the URL cannot be called: {reason}")]
    Url {
        /// What is wrong with it.
        reason: &'static str,
    },
    /// It leads inside.
    #[error("the address {address} may not be called")]
    Forbidden {
        /// Where it leads.
        address: IpAddr,
    },
    /// The name does not resolve.
    #[error("the name does not resolve")]
    Dns,
    /// Nobody takes the connection.
    #[error("the connection fails: {kind}")]
    Connect {
        /// What the system says.
        kind: io::ErrorKind,
    },
    /// The certificate or the handshake is not good.
    #[error("the encrypted connection fails: {detail}")]
    Tls {
        /// What is wrong with it.
        detail: String,
    },
    /// The time is up.
    #[error("no answer in time")]
    Timeout,
    /// The other side speaks no proper HTTP, or hangs up.
    #[error("the answer is not proper HTTP, or the connection was cut")]
    Http,
}

impl CallError {
    /// A few stable words for status events, which strangers read: no address, no URL.
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Url { .. } => "the endpoint's URL is not valid",
            Self::Forbidden { .. } => "the endpoint's address is not allowed",
            Self::Dns => "the endpoint's name does not resolve",
            Self::Connect { .. } => "the endpoint takes no connection",
            Self::Tls { .. } => "the endpoint's certificate is not good",
            Self::Timeout => "the endpoint does not answer in time",
            Self::Http => "the endpoint cut the connection",
        }
    }
}

/// Calls URLs that strangers name. Clones share connections.
#[derive(Clone)]
pub struct Client {
    http: HttpClient<HttpsConnector<GuardedConnector>, Full<Bytes>>,
    guard: Arc<Guard>,
    limits: Limits,
}

impl Client {
    /// A client behind `guard`.
    ///
    /// # Errors
    /// When TLS cannot be set up.
    pub fn new(guard: Guard, limits: Limits) -> Result<Self, CallError> {
        Self::with_resolver(guard, limits, system_resolver())
    }

    pub(crate) fn with_resolver(
        guard: Guard,
        limits: Limits,
        resolve: Resolve,
    ) -> Result<Self, CallError> {
        let guard = Arc::new(guard);
        let connector = GuardedConnector {
            guard: Arc::clone(&guard),
            resolve,
            connect_timeout: limits.connect,
        };
        let tls = HttpsConnectorBuilder::new()
            .with_provider_and_webpki_roots(rustls::crypto::ring::default_provider())
            .map_err(|error| CallError::Tls {
                detail: error.to_string(),
            })?;
        let http = HttpClient::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(CLIENT_IDLE_TIMEOUT)
            .pool_max_idle_per_host(CLIENT_IDLE_PER_HOST_MAX)
            .http1_max_buf_size(HTTP1_BUFFER_BYTES)
            .build(tls.https_or_http().enable_http1().wrap_connector(connector));
        Ok(Self {
            http,
            guard,
            limits,
        })
    }

    /// Calls once. Connections are kept; redirects are not followed.
    ///
    /// # Errors
    /// [`CallError`] when there is no answer, whatever the reason.
    pub async fn call(&self, request: Request<'_>) -> Result<Answer, CallError> {
        let request = self.checked(request)?;
        let answering = async {
            let (parts, body) = self
                .http
                .request(request)
                .await
                .map_err(|error| explain(&error))?
                .into_parts();
            let (body, truncated) = read_up_to(body, self.limits.answer_bytes).await?;
            Ok(Answer {
                status: parts.status.as_u16(),
                headers: parts.headers,
                body,
                truncated,
            })
        };
        tokio::time::timeout(self.limits.whole, answering)
            .await
            .unwrap_or(Err(CallError::Timeout))
    }

    /// What a URL says without asking anybody is checked before anything is sent; the connector checks the rest.
    fn checked(&self, request: Request<'_>) -> Result<http::Request<Full<Bytes>>, CallError> {
        let uri = checked_uri(request.url)?;
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

fn checked_uri(url: &Url) -> Result<Uri, CallError> {
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
        let Ok(piece) = frame.into_data() else {
            continue;
        };
        let room = limit_bytes - read.len();
        if piece.len() > room {
            read.extend_from_slice(&piece[..room]);
            return Ok((read.freeze(), true));
        }
        read.extend_from_slice(&piece);
    }
    Ok((read.freeze(), false))
}

fn explain(error: &hyper_util::client::legacy::Error) -> CallError {
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
    // Whatever else goes wrong while connecting is the handshake.
    if error.is_connect() {
        CallError::Tls {
            detail: innermost(error),
        }
    } else {
        CallError::Http
    }
}

fn innermost(error: &dyn Error) -> String {
    let mut innermost = error;
    while let Some(cause) = innermost.source() {
        innermost = cause;
    }
    innermost.to_string()
}

#[cfg(test)]
mod tests;
