//! Request authentication, as axum extractors.
//!
//! Checks run in this order: `Content-Length` against the route's limit, the signature over the
//! headers, the session or account, the rate limits, the memory budget, the body, and the body's
//! digest. The body comes after authentication, so that only registered accounts can make the relay
//! hold one in memory.

use super::{
    client_address::client_address, problem, rate_limits::check_ip_rate_limit, retryable_problem,
    state::ApiState,
};
use crate::store::AccountState;
use axum::{
    body::Body,
    extract::{FromRequest, Request},
};
use bytes::Bytes;
use http::{HeaderMap, Uri, request::Parts};
use sealpost_proto::{
    AccountId, ErrorCode, Problem, Timestamp,
    limits::{
        BODY_BYTES_PER_SECOND_MIN, ENVELOPES_REQUEST_BYTES_MAX, JSON_REQUEST_BYTES_MAX,
        LINK_BYTES_PER_SECOND_MIN, PART_BYTES_MAX, PART_BYTES_PER_SECOND_MIN,
        REGISTRATION_REQUEST_BYTES_MAX, REQUEST_OVERHEAD_BYTES,
    },
};
use sealpost_relay_core::rates::RateOverrides;
use sealpost_service::{
    Clock as _,
    fair_pool::Permit,
    http::{BodyReader, ProblemResponse, body_bytes_max, content_length, parse_json},
};
use sealpost_signatures::{
    AccountKey, Nonce, ReceivedSignature, RequestParts, SignatureError, request::Signer,
};
use serde::de::DeserializeOwned;
use std::marker::PhantomData;

/// Kind of request body.
pub(super) trait BodyKind: Send {
    const BYTES_MAX: usize;
    /// Average rate at which the body must arrive.
    const BYTES_PER_SECOND_MIN: u32 = BODY_BYTES_PER_SECOND_MIN;
}

/// Empty body or a JSON document.
pub(super) enum JsonBody {}
/// JSON document with envelopes.
pub(super) enum EnvelopesBody {}
/// Registration as a JSON document.
enum RegistrationBody {}
/// Part of a blob.
pub(super) enum PartBody {}

impl BodyKind for JsonBody {
    const BYTES_MAX: usize = JSON_REQUEST_BYTES_MAX;
}

impl BodyKind for RegistrationBody {
    const BYTES_MAX: usize = REGISTRATION_REQUEST_BYTES_MAX;
}

impl BodyKind for EnvelopesBody {
    const BYTES_MAX: usize = ENVELOPES_REQUEST_BYTES_MAX;
    /// A single envelope must pass over the slowest supported link.
    const BYTES_PER_SECOND_MIN: u32 = LINK_BYTES_PER_SECOND_MIN;
}

impl BodyKind for PartBody {
    const BYTES_MAX: usize = PART_BYTES_MAX;
    const BYTES_PER_SECOND_MIN: u32 = PART_BYTES_PER_SECOND_MIN;
}

/// Request signed with a session key.
pub(super) struct SessionRequest<K = JsonBody> {
    pub(super) account: AccountId,
    pub(super) rate_overrides: RateOverrides,
    pub(super) body: SignedBody,
    kind: PhantomData<fn() -> K>,
}

/// Upload of a part, signed with a session key, whose body has not been read yet.
pub(super) struct PartUploadRequest {
    pub(super) account: AccountId,
    pub(super) rate_overrides: RateOverrides,
    /// SHA-256 of the body, as signed.
    pub(super) digest: [u8; 32],
    pub(super) body: BodyReader,
}

/// Request signed with the key of a registered account.
pub(super) struct AccountKeyRequest {
    pub(super) account: AccountState,
    pub(super) body: SignedBody,
}

/// Request signed with an account key that does not have to be registered.
pub(super) struct AnyKeyRequest {
    pub(super) key: AccountKey,
    pub(super) body: SignedBody,
}

/// Headers, URI and body of an authenticated request.
pub(super) struct SignedBody {
    pub(super) headers: HeaderMap,
    pub(super) uri: Uri,
    pub(super) bytes: Bytes,
    /// Permits of the body's memory, held until the handler returns.
    permits: Vec<Permit>,
}

impl SignedBody {
    pub(super) fn json<T: DeserializeOwned>(&self) -> Result<T, ProblemResponse> {
        Ok(parse_json(&self.headers, &self.bytes)?)
    }

    /// Frees the body and returns the permits of its memory, which remains reserved until they are
    /// dropped.
    pub(super) fn into_permits(self) -> Vec<Permit> {
        self.permits
    }

    /// Returns the value of a header, if it is present and visible ASCII.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

impl<K: BodyKind> FromRequest<ApiState> for SessionRequest<K> {
    type Rejection = ProblemResponse;

    async fn from_request(request: Request, state: &ApiState) -> Result<Self, ProblemResponse> {
        let request = UnreadRequest::<K>::new(request, state)?;
        let account = request.head.verify_session(state).await?;
        charge_request(state, &account)?;
        state.accounts.record_contact(account).await;
        let body = request.read(state, Some(account.id)).await?;
        Ok(Self {
            account: account.id,
            rate_overrides: account.rate_overrides,
            body,
            kind: PhantomData,
        })
    }
}

impl FromRequest<ApiState> for PartUploadRequest {
    type Rejection = ProblemResponse;

    async fn from_request(request: Request, state: &ApiState) -> Result<Self, ProblemResponse> {
        let UnreadRequest { head, body, .. } = UnreadRequest::<PartBody>::new(request, state)?;
        let body = BodyReader::new(&head.parts.headers, body, PART_BYTES_MAX)?
            .with_bytes_per_second_min(PartBody::BYTES_PER_SECOND_MIN);
        let account = head.verify_session(state).await?;
        if let Err(problem) = charge_request(state, &account) {
            body.drain().await;
            return Err(problem);
        }
        state.accounts.record_contact(account).await;
        let digest = *head.signature.digest().as_bytes();
        Ok(Self {
            account: account.id,
            rate_overrides: account.rate_overrides,
            digest,
            body,
        })
    }
}

impl FromRequest<ApiState> for AccountKeyRequest {
    type Rejection = ProblemResponse;

    async fn from_request(request: Request, state: &ApiState) -> Result<Self, ProblemResponse> {
        check_ip_rate_limit(
            &state.settings.load(),
            request.extensions(),
            request.headers(),
        )?;
        let request = UnreadRequest::<JsonBody>::new(request, state)?;
        let signature = request.head.verify_account_key(state.clock.now())?;
        let account = state
            .store
            .load_account_state_by_key(signature.key)
            .await?
            .ok_or(ErrorCode::AccountUnknown)?;
        if account.is_suspended {
            return Err(ErrorCode::AccountSuspended.into());
        }
        charge_request(state, &account)?;
        let body = request.read(state, Some(account.id)).await?;
        signature.record_nonce(state).await?;
        state.accounts.record_contact(account).await;
        Ok(Self { account, body })
    }
}

impl FromRequest<ApiState> for AnyKeyRequest {
    type Rejection = ProblemResponse;

    async fn from_request(request: Request, state: &ApiState) -> Result<Self, ProblemResponse> {
        check_ip_rate_limit(
            &state.settings.load(),
            request.extensions(),
            request.headers(),
        )?;
        let request = UnreadRequest::<RegistrationBody>::new(request, state)?;
        let signature = request.head.verify_account_key(state.clock.now())?;
        let body = request.read(state, None).await?;
        Ok(Self {
            key: signature.record_nonce(state).await?,
            body,
        })
    }
}

/// Checks the rate limit of requests and counts this one.
fn charge_request(state: &ApiState, account: &AccountState) -> Result<(), ProblemResponse> {
    let rate_limiters = state
        .settings
        .load()
        .rate_limiters
        .for_overrides(account.rate_overrides);
    Ok(rate_limiters.charge_request(account.id)?)
}

/// Request whose body has not been read yet.
struct UnreadRequest<K> {
    head: RequestHead,
    body: Body,
    kind: PhantomData<fn() -> K>,
}

/// Request without its body.
struct RequestHead {
    parts: Parts,
    signature: ReceivedSignature,
    authority: String,
}

impl<K: BodyKind> UnreadRequest<K> {
    fn new(request: Request, state: &ApiState) -> Result<Self, ProblemResponse> {
        let (parts, body) = request.into_parts();
        if content_length(&parts.headers).is_some_and(|bytes| bytes > K::BYTES_MAX as u64) {
            let limit = K::BYTES_MAX;
            return Err(problem(
                ErrorCode::TooLarge,
                format!("the body exceeds the limit of {limit} bytes"),
            ));
        }
        let signature = ReceivedSignature::from_headers(&parts.headers);
        let signature = signature.map_err(|error| signature_problem(error, state.clock.now()))?;
        let authority = state.origin.authority().to_owned();
        Ok(Self {
            head: RequestHead {
                parts,
                signature,
                authority,
            },
            body,
            kind: PhantomData,
        })
    }

    /// Reads the body. Its memory is reserved before the first byte is read, so that a body that
    /// progresses is never refused halfway.
    async fn read(
        self,
        state: &ApiState,
        account: Option<AccountId>,
    ) -> Result<SignedBody, ProblemResponse> {
        let Self {
            head: RequestHead {
                parts, signature, ..
            },
            body,
            ..
        } = self;
        let bytes_max = body_bytes_max(&parts.headers, &body, K::BYTES_MAX);
        let permits = reserve_memory(state, &parts, account, bytes_max).await?;
        let reader = BodyReader::new(&parts.headers, body, K::BYTES_MAX)?;
        let mut reader = reader.with_bytes_per_second_min(K::BYTES_PER_SECOND_MIN);
        for permit in &permits {
            reader.hold(permit.clone());
        }
        let bytes = reader.read_to_end().await?;
        signature
            .check_body(&bytes)
            .map_err(|error| signature_problem(error, state.clock.now()))?;
        Ok(SignedBody {
            headers: parts.headers,
            uri: parts.uri,
            bytes,
            permits,
        })
    }
}

/// Reserves the memory of a request with a body, for an account or for a stranger that registers.
async fn reserve_memory(
    state: &ApiState,
    parts: &Parts,
    account: Option<AccountId>,
    body_bytes: usize,
) -> Result<Vec<Permit>, ProblemResponse> {
    if body_bytes == 0 {
        return Ok(Vec::new());
    }
    let headers = parts.headers.iter();
    let header_bytes = headers.map(|(name, value)| name.as_str().len() + value.len());
    let bytes = REQUEST_OVERHEAD_BYTES + header_bytes.sum::<usize>() + body_bytes;
    let proxies = &state.settings.load().proxies;
    let address = client_address(&parts.extensions, &parts.headers, proxies);
    let permits = match account {
        Some(account) => state.request_memory.reserve(account, address, bytes).await,
        None => {
            state
                .request_memory
                .reserve_registration(address, bytes)
                .await
        }
    };
    permits.ok_or_else(|| retryable_problem(ErrorCode::Overloaded))
}

impl RequestHead {
    fn signed_parts(&self) -> RequestParts<'_> {
        RequestParts {
            method: self.parts.method.as_str(),
            authority: &self.authority,
            path: self.parts.uri.path(),
            query: self.parts.uri.query(),
        }
    }

    async fn verify_session(&self, state: &ApiState) -> Result<AccountState, ProblemResponse> {
        let now = state.clock.now();
        let Signer::Session(claimed) = self.signature.params().signer else {
            return Err(signature_problem(SignatureError::WrongKey, now));
        };
        let key = state.secret.session_key(&claimed);
        let id = self
            .signature
            .verify_hmac(&self.signed_parts(), &key, now)
            .map_err(|error| signature_problem(error, now))?;
        match state.accounts.load(id.account).await? {
            Some(account)
                if account.key_generation != id.key_generation || id.expires_at <= now =>
            {
                Err(ErrorCode::SessionInvalid.into())
            }
            Some(account) if account.is_suspended => Err(ErrorCode::AccountSuspended.into()),
            Some(account) => Ok(account),
            None => Err(ErrorCode::SessionInvalid.into()),
        }
    }

    fn verify_account_key(&self, now: Timestamp) -> Result<SingleUseSignature, ProblemResponse> {
        let verified = self.signature.verify_ed25519(&self.signed_parts(), now);
        let key = verified.map_err(|error| signature_problem(error, now))?;
        let params = self.signature.params();
        match params.nonce.clone() {
            Some(nonce) => Ok(SingleUseSignature {
                key,
                nonce,
                expires_at: params.expires,
            }),
            None => Err(problem(
                ErrorCode::SignatureInvalid,
                "this route requires a nonce",
            )),
        }
    }
}

/// Verified signature of an account key, whose nonce has not been recorded yet.
struct SingleUseSignature {
    key: AccountKey,
    nonce: Nonce,
    expires_at: Timestamp,
}

impl SingleUseSignature {
    /// Records the nonce and returns the key; refuses a nonce that was used before.
    async fn record_nonce(self, state: &ApiState) -> Result<AccountKey, ProblemResponse> {
        let Self {
            key,
            nonce,
            expires_at,
        } = self;
        let is_first_use = state.store.use_nonce(key, nonce, expires_at).await?;
        if is_first_use {
            Ok(key)
        } else {
            Err(ErrorCode::NonceUsed.into())
        }
    }
}

/// Converts a signature error into a problem; a clock skew includes the relay's time.
fn signature_problem(error: SignatureError, now: Timestamp) -> ProblemResponse {
    let problem = Problem::new(error.code(), error.to_string());
    match error {
        SignatureError::ClockSkew => problem.relay_time(now).into(),
        SignatureError::Missing
        | SignatureError::Malformed { .. }
        | SignatureError::DigestMismatch
        | SignatureError::WrongKey
        | SignatureError::Invalid => problem.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sealpost_proto::{
        batch_size::transfer_time,
        limits::{BODY_GRACE, ENVELOPE_BYTES_MAX, POOL_BYTES_PER_SECOND_MIN},
    };
    use std::time::Duration;

    #[test]
    fn slowest_supported_link_can_submit_envelopes() {
        let rate = EnvelopesBody::BYTES_PER_SECOND_MIN;
        let body = Duration::from_secs(ENVELOPE_BYTES_MAX as u64 * 7 / 5);
        assert!(transfer_time(ENVELOPE_BYTES_MAX) < BODY_GRACE + body / rate);
        assert!(
            rate > POOL_BYTES_PER_SECOND_MIN,
            "it never counts as stalled"
        );
    }
}
