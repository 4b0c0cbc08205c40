//! One request: signed with the account key or the session's key, sent, read within limits, and
//! repeated once each for an ended session and for a wrong clock.

use crate::{ClientError, request_limit::RequestLimit};
use bytes::{Bytes, BytesMut};
use ed25519_dalek::SigningKey;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use http_body::{Body, Frame, SizeHint};
use reqwest::{Certificate, Response, Url, redirect};
use rustls::pki_types::CertificateDer;
use sealpost_proto::{
    ErrorCode, Origin, Problem, SessionKey, Timestamp,
    limits::{
        CLIENT_IDLE_TIMEOUT, ENVELOPES_REQUEST_BYTES_MAX, PART_SEGMENT_BYTES, PROBLEM_BYTES_MAX,
        RELAY_CALL_TIMEOUT, RELAY_CONNECT_TIMEOUT,
    },
    time::millis,
    wire::{Session, WebhookState},
};
use sealpost_service::{SharedClock, http::parse_retry_after, random_array};
use sealpost_signatures::{ContentDigest, Nonce, RequestParts, SignedHeaders, request};
use serde::{Serialize, de::DeserializeOwned};
use std::{
    convert::Infallible,
    pin::Pin,
    sync::{
        Arc, PoisonError,
        atomic::{AtomicI64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};
use tokio::sync::Mutex;

/// Time before its expiry at which a session is renewed.
const RENEWAL_MARGIN: Duration = Duration::from_secs(60);
/// Limit of every response but a part. The largest is a batch of deliveries, 1 MiB before base64.
const RESPONSE_BYTES_MAX: usize = ENVELOPES_REQUEST_BYTES_MAX;

const USER_AGENT: &str = concat!("sealpost/", env!("CARGO_PKG_VERSION"));
const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// Client for a node's account at its home relay. Clones share the session and the connections.
#[derive(Clone)]
pub struct RelayClient {
    inner: Arc<Inner>,
    limit: Option<Arc<RequestLimit>>,
}

struct Inner {
    origin: Origin,
    key: SigningKey,
    clock: SharedClock,
    http: reqwest::Client,
    /// Offset of the relay's clock from ours.
    offset_ms: AtomicI64,
    session: Mutex<Option<Arc<ActiveSession>>>,
    /// State of the account's webhook, as the relay last reported it.
    webhook_state: std::sync::Mutex<Option<WebhookState>>,
}

struct ActiveSession {
    id: String,
    key: SessionKey,
    expires_at: Timestamp,
}

/// Creates the HTTP client for [`RelayClient::new`]: rustls with the system's certificates and
/// these private certificate authorities, no redirects, no proxy, and timeouts.
///
/// # Errors
/// [`ClientError::Unexpected`] if TLS cannot be set up.
pub fn build_http_client(
    authorities: &[CertificateDer<'static>],
) -> Result<reqwest::Client, ClientError> {
    let failed = |error: reqwest::Error| ClientError::unexpected(error.to_string());
    let authorities: Result<Vec<_>, _> = authorities
        .iter()
        .map(|authority| Certificate::from_der(authority))
        .collect();
    let authorities = authorities.map_err(failed)?;
    // Other code in the process may have installed it already; only this provider is compiled in.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let builder = || {
        reqwest::Client::builder()
            .user_agent(USER_AGENT)
            .redirect(redirect::Policy::none())
            .no_proxy()
            .connect_timeout(RELAY_CONNECT_TIMEOUT)
            .pool_idle_timeout(CLIENT_IDLE_TIMEOUT)
            .tcp_nodelay(true)
    };
    // A machine without certificates can still reach a relay without TLS, for example on loopback.
    let with_system = builder().tls_certs_merge(authorities.clone());
    with_system.build().or_else(|error| {
        tracing::warn!(
            %error,
            "no certificates on this machine: relays with https cannot be reached, except with \
             tls.ca_file"
        );
        builder()
            .tls_certs_only(authorities)
            .build()
            .map_err(failed)
    })
}

/// Key that signs a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Signing {
    /// The account key, with a nonce: registration, sign-in, webhook tests, and changes to the
    /// account, mailboxes and prekeys.
    Account,
    /// The session key: everything else.
    Session,
}

/// Callback that receives the number of transferred bytes of a part. It restarts at zero when the
/// part is sent again.
pub type ProgressCallback = Arc<dyn Fn(usize) + Send + Sync>;

/// Request body that reports how much of it was passed to the connection.
struct MonitoredBody {
    remaining: Bytes,
    sent: usize,
    progress: ProgressCallback,
}

impl MonitoredBody {
    fn build_body(bytes: &Bytes, progress: Option<&ProgressCallback>) -> reqwest::Body {
        match progress {
            Some(progress) if !bytes.is_empty() => {
                progress(0);
                reqwest::Body::wrap(Self {
                    remaining: bytes.clone(),
                    sent: 0,
                    progress: Arc::clone(progress),
                })
            }
            _ => bytes.clone().into(),
        }
    }
}

impl Body for MonitoredBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.remaining.is_empty() {
            return Poll::Ready(None);
        }
        let next = self.remaining.len().min(PART_SEGMENT_BYTES);
        let chunk = self.remaining.split_to(next);
        self.sent += next;
        (self.progress)(self.sent);
        Poll::Ready(Some(Ok(Frame::data(chunk))))
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.remaining.len() as u64)
    }
}

/// A request before it is signed.
pub(crate) struct Call {
    pub(crate) method: Method,
    /// Path and query.
    pub(crate) target: String,
    pub(crate) signing: Signing,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    pub(crate) digest: Option<ContentDigest>,
    /// Receives the number of transferred bytes of the body or, for a call without a body, of the
    /// response.
    pub(crate) progress: Option<ProgressCallback>,
    pub(crate) timeout: Duration,
    pub(crate) response_bytes_max: usize,
    /// Whether a success alone does not count as progress, because the relay's responses can make
    /// the node repeat the request endlessly.
    pub(crate) is_recurring: bool,
}

impl Call {
    pub(crate) fn new(method: Method, target: impl Into<String>, signing: Signing) -> Self {
        Self {
            method,
            target: target.into(),
            signing,
            headers: HeaderMap::new(),
            body: Bytes::new(),
            digest: None,
            progress: None,
            timeout: RELAY_CALL_TIMEOUT,
            response_bytes_max: RESPONSE_BYTES_MAX,
            is_recurring: false,
        }
    }

    pub(crate) fn recurring(mut self) -> Self {
        self.is_recurring = true;
        self
    }

    pub(crate) fn get(target: impl Into<String>) -> Self {
        Self::new(Method::GET, target, Signing::Session)
    }

    pub(crate) fn json(mut self, body: &impl Serialize) -> Result<Self, ClientError> {
        self.body = serde_json::to_vec(body)
            .map_err(|error| ClientError::unexpected(error.to_string()))?
            .into();
        self.headers.insert(header::CONTENT_TYPE, JSON);
        Ok(self)
    }

    pub(crate) fn header(mut self, name: &'static str, value: &str) -> Result<Self, ClientError> {
        let value = HeaderValue::from_str(value)
            .map_err(|_| ClientError::unexpected(format!("the header {name}")))?;
        self.headers.insert(HeaderName::from_static(name), value);
        Ok(self)
    }
}

/// Streamed body of a response.
pub struct ResponseBody {
    response: Response,
    bytes: usize,
    limit_bytes: usize,
    progress: Option<ProgressCallback>,
}

impl ResponseBody {
    /// Returns the next chunk, or `None` at the end.
    ///
    /// # Errors
    /// [`ClientError`] if the connection breaks or the body exceeds its limit.
    pub async fn next(&mut self) -> Result<Option<Bytes>, ClientError> {
        let Some(chunk) = self.response.chunk().await? else {
            return Ok(None);
        };
        self.bytes += chunk.len();
        if self.bytes > self.limit_bytes {
            return Err(ClientError::unexpected(format!(
                "more than {} bytes",
                self.limit_bytes
            )));
        }
        if let Some(progress) = &self.progress {
            progress(self.bytes);
        }
        Ok(Some(chunk))
    }

    async fn read_to_end(mut self) -> Result<Bytes, ClientError> {
        let mut body = BytesMut::new();
        while let Some(chunk) = self.next().await? {
            body.extend_from_slice(&chunk);
        }
        Ok(body.freeze())
    }
}

/// Complete response with a success status.
pub(crate) struct FullResponse {
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl FullResponse {
    pub(crate) fn json<T: DeserializeOwned>(&self) -> Result<T, ClientError> {
        parse_json(&self.body)
    }
}

pub(crate) fn parse_json<T: DeserializeOwned>(body: &[u8]) -> Result<T, ClientError> {
    serde_json::from_slice(body).map_err(|error| {
        // The position, but not the content: a body may contain a key.
        ClientError::unexpected(format!(
            "line {}, column {} is not as expected",
            error.line(),
            error.column()
        ))
    })
}

impl RelayClient {
    /// Creates a client of the relay at `origin` for the account with this key. Sends nothing yet.
    /// `http` is the result of [`build_http_client`].
    #[must_use]
    pub fn new(origin: Origin, key: SigningKey, clock: SharedClock, http: reqwest::Client) -> Self {
        let inner = Inner {
            origin,
            key,
            clock,
            http,
            offset_ms: AtomicI64::new(0),
            session: Mutex::new(None),
            webhook_state: std::sync::Mutex::new(None),
        };
        Self {
            inner: Arc::new(inner),
            limit: None,
        }
    }

    /// Limits the rate of requests that lead to no progress. The client waits before it exceeds the
    /// rate.
    #[must_use]
    pub fn with_request_limit(self) -> Self {
        Self {
            limit: Some(Arc::new(RequestLimit::new())),
            ..self
        }
    }

    /// Removes requests from the count of the rate limit, because they have led to progress that
    /// their responses alone do not prove.
    pub fn credit_progress(&self, requests: u32) {
        if let Some(limit) = &self.limit {
            limit.return_requests(requests);
        }
    }

    /// Returns the origin of the home relay.
    #[must_use]
    pub fn origin(&self) -> &Origin {
        &self.inner.origin
    }

    /// Returns how far the relay's clock is ahead of ours (negative: behind), or zero until a
    /// time of the relay's clock has been adopted.
    #[must_use]
    pub fn clock_offset_ms(&self) -> i64 {
        self.inner.offset_ms.load(Ordering::Relaxed)
    }

    /// Returns whether the relay calls the account's webhook, as it last reported, or `None` if it
    /// has not reported it yet.
    #[must_use]
    pub fn webhook_state(&self) -> Option<WebhookState> {
        *self.lock_webhook_state()
    }

    pub(crate) fn set_webhook_state(&self, reported: Option<WebhookState>) {
        if reported.is_some() {
            *self.lock_webhook_state() = reported;
        }
    }

    fn lock_webhook_state(&self) -> std::sync::MutexGuard<'_, Option<WebhookState>> {
        let state = self.inner.webhook_state.lock();
        state.unwrap_or_else(PoisonError::into_inner)
    }

    /// Adopts `relay_time` if it is ahead of the current estimate of the relay's clock. Returns
    /// whether it was.
    pub fn advance_relay_time(&self, relay_time: Timestamp) -> bool {
        let is_ahead = relay_time > self.relay_now();
        if is_ahead {
            self.adopt_relay_time(relay_time);
        }
        is_ahead
    }

    /// Signs in, unless a session is open. The other methods sign in automatically.
    ///
    /// # Errors
    /// `account_unknown`, `account_suspended`, or no response.
    pub async fn sign_in(&self) -> Result<(), ClientError> {
        self.ensure_session().await.map(|_| ())
    }

    /// Sends a signed request and reads the whole response.
    pub(crate) async fn call(&self, call: &Call) -> Result<FullResponse, ClientError> {
        read(self.start(call).await?, call).await
    }

    /// Sends a signed request whose response is streamed.
    pub(crate) async fn call_streaming(&self, call: &Call) -> Result<ResponseBody, ClientError> {
        Ok(stream_body(self.start(call).await?, call))
    }

    async fn start(&self, call: &Call) -> Result<Response, ClientError> {
        let response = match call.signing {
            Signing::Account => self.call_with(call, None).await,
            Signing::Session => self.call_in_session(call).await,
        }?;
        if !call.is_recurring {
            self.credit_progress(1);
        }
        Ok(response)
    }

    pub(crate) async fn call_json<T: DeserializeOwned>(
        &self,
        call: &Call,
    ) -> Result<T, ClientError> {
        self.call(call).await?.json()
    }

    /// Sends a request that needs no signature.
    pub(crate) async fn call_unsigned(&self, call: &Call) -> Result<FullResponse, ClientError> {
        read(self.send(call, self.build_url(call)?, None).await?, call).await
    }

    /// Returns the path of a resource. A resource of another relay is reached through the home
    /// relay.
    pub(crate) fn path_at(&self, relay: &Origin, path: &str) -> String {
        if *relay == self.inner.origin {
            format!("/v1/{path}")
        } else {
            format!("/v1/at/{}/{path}", relay.authority())
        }
    }

    /// Returns the current time corrected by the known offset of the relay's clock.
    pub(crate) fn relay_now(&self) -> Timestamp {
        let now = self.inner.clock.now().as_millis();
        Timestamp::from_millis(now.saturating_add_signed(self.clock_offset_ms()))
    }

    async fn call_in_session(&self, call: &Call) -> Result<Response, ClientError> {
        let session = self.ensure_session().await?;
        match self.call_with(call, Some(&session)).await {
            Err(ClientError::Problem(problem)) if problem.code == ErrorCode::SessionInvalid => {
                self.discard_session(&session).await;
                let session = self.ensure_session().await?;
                self.call_with(call, Some(&session)).await
            }
            // A relay that has lost the account has no use for its sessions. The account gets new
            // ones when it is registered again.
            Err(ClientError::Problem(problem)) if problem.code == ErrorCode::AccountUnknown => {
                self.discard_session(&session).await;
                Err(problem.into())
            }
            response => response,
        }
    }

    /// Sends a request, and repeats it once with the relay's time if ours is wrong.
    async fn call_with(
        &self,
        call: &Call,
        session: Option<&ActiveSession>,
    ) -> Result<Response, ClientError> {
        match self.send_signed(call, session).await {
            Err(ClientError::Problem(problem)) if problem.code == ErrorCode::ClockSkew => {
                let Some(relay_time) = problem.relay_time else {
                    return Err(problem.into());
                };
                self.adopt_relay_time(relay_time);
                self.send_signed(call, session).await
            }
            response => response,
        }
    }

    /// Returns the open session or a new one. While one task signs in, the others wait.
    async fn ensure_session(&self) -> Result<Arc<ActiveSession>, ClientError> {
        let mut open = self.inner.session.lock().await;
        let renew_from = self.relay_now().plus(RENEWAL_MARGIN);
        if let Some(session) = open
            .as_ref()
            .filter(|session| session.expires_at > renew_from)
        {
            return Ok(Arc::clone(session));
        }
        let call = Call::new(Method::POST, "/v1/session", Signing::Account);
        let Session {
            session_id,
            key,
            expires_at,
            webhook,
            ..
        } = read(self.call_with(&call, None).await?, &call)
            .await?
            .json()?;
        self.set_webhook_state(webhook);
        let session = Arc::new(ActiveSession {
            id: session_id,
            key,
            expires_at,
        });
        *open = Some(Arc::clone(&session));
        Ok(session)
    }

    /// Discards an expired session, unless another task has already replaced it.
    async fn discard_session(&self, ended: &ActiveSession) {
        self.inner
            .session
            .lock()
            .await
            .take_if(|open| open.id == ended.id);
    }

    fn adopt_relay_time(&self, relay_time: Timestamp) {
        let ours = i128::from(self.inner.clock.now().as_millis());
        let offset = i64::try_from(i128::from(relay_time.as_millis()) - ours).unwrap_or_default();
        self.inner.offset_ms.store(offset, Ordering::Relaxed);
        tracing::warn!(
            offset_ms = offset,
            "this machine's clock differs from the relay's; the relay's time is used"
        );
    }

    async fn send_signed(
        &self,
        call: &Call,
        session: Option<&ActiveSession>,
    ) -> Result<Response, ClientError> {
        let url = self.build_url(call)?;
        let signed = self.sign(call, &url, session);
        self.send(call, url, Some(&signed)).await
    }

    fn sign(&self, call: &Call, url: &Url, session: Option<&ActiveSession>) -> SignedHeaders {
        let parts = RequestParts {
            method: call.method.as_str(),
            authority: self.inner.origin.authority(),
            path: url.path(),
            query: url.query(),
        };
        let digest = call.digest.unwrap_or_else(|| ContentDigest::of(&call.body));
        let now = self.relay_now();
        match session {
            Some(session) => request::sign_hmac(&session.id, &session.key, &parts, &digest, now),
            None => {
                let nonce = Nonce::from_random(random_array());
                request::sign_ed25519(&self.inner.key, &parts, &digest, now, &nonce)
            }
        }
    }

    async fn send(
        &self,
        call: &Call,
        url: Url,
        signed: Option<&SignedHeaders>,
    ) -> Result<Response, ClientError> {
        if let Some(limit) = &self.limit {
            limit.reserve_request().await;
        }
        let mut request = self
            .inner
            .http
            .request(call.method.clone(), url)
            .headers(call.headers.clone());
        for (name, value) in signed.iter().flat_map(|signed| signed.pairs()) {
            request = request.header(name, value);
        }
        let body = MonitoredBody::build_body(&call.body, call.progress.as_ref());
        let response = request.timeout(call.timeout).body(body).send().await?;
        let status = response.status();
        if status.is_success() {
            return if is_html(response.headers()) {
                Err(ClientError::unexpected("it is an HTML page"))
            } else {
                Ok(response)
            };
        }
        if let Some(location) = redirect_target(&response) {
            return Err(ClientError::Redirected {
                status: status.as_u16(),
                target: location,
            });
        }
        let retry_after = parse_retry_after(response.headers(), self.relay_now());
        let body = ResponseBody {
            response,
            bytes: 0,
            limit_bytes: PROBLEM_BYTES_MAX,
            progress: None,
        };
        let body = body.read_to_end().await?;
        Err(parse_problem(status, retry_after, &body))
    }

    fn build_url(&self, call: &Call) -> Result<Url, ClientError> {
        let url = format!("{}{}", self.inner.origin, call.target);
        url.parse()
            .map_err(|_| ClientError::unexpected("an invalid path"))
    }
}

/// Parses the body of a failure. A proxy can add `Retry-After` to the relay's problem, or respond
/// in its place.
fn parse_problem(status: StatusCode, retry_after: Option<Duration>, body: &[u8]) -> ClientError {
    match serde_json::from_slice::<Problem>(body) {
        Ok(problem) => Problem {
            retry_after_ms: problem.retry_after_ms.or(retry_after.map(millis)),
            ..problem
        }
        .into(),
        Err(_) => ClientError::Proxy {
            status: status.as_u16(),
            retry_after,
        },
    }
}

fn is_html(headers: &HeaderMap) -> bool {
    let content_type = headers.get(header::CONTENT_TYPE);
    content_type.is_some_and(|value| value.as_bytes().starts_with(b"text/html"))
}

/// Returns the origin to which a redirect leads, without anything else that its URL may contain.
fn redirect_target(response: &Response) -> Option<String> {
    if !response.status().is_redirection() {
        return None;
    }
    let location = response.headers().get(header::LOCATION)?;
    let target = response.url().join(location.to_str().ok()?).ok()?;
    let is_http = matches!(target.scheme(), "http" | "https");
    is_http.then(|| target.origin().ascii_serialization())
}

fn stream_body(response: Response, call: &Call) -> ResponseBody {
    // For a call with a body, the progress is that of the request.
    let progress = call.progress.clone().filter(|_| call.body.is_empty());
    ResponseBody {
        response,
        bytes: 0,
        limit_bytes: call.response_bytes_max,
        progress,
    }
}

async fn read(response: Response, call: &Call) -> Result<FullResponse, ClientError> {
    let headers = response.headers().clone();
    Ok(FullResponse {
        headers,
        body: stream_body(response, call).read_to_end().await?,
    })
}
