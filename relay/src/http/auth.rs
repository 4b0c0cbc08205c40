//! Who asks. In this order: the announced length against the route's limit, the signature over the headers, the session or
//! account, how often it asks, room in memory, the body, and the body's digest. Only an account that is known can make the
//! relay hold a body.

use super::{passing_problem, problem};
use crate::{
    relay::{Relay, Room},
    store::AccountFacts,
};
use axum::{
    body::Body,
    extract::{FromRequest, Request},
};
use bytes::Bytes;
use http::{HeaderMap, Uri, header, request::Parts};
use sealpost_proto::{
    AccountId, ErrorCode, Problem, Timestamp,
    limits::{
        ENVELOPES_REQUEST_BYTES_MAX, JSON_REQUEST_BYTES_MAX, PART_BYTES_MAX,
        PART_BYTES_PER_SECOND_MIN,
    },
};
use sealpost_relay_core::rates::OwnRates;
use sealpost_service::http::{Arriving, ProblemResponse, parse_json, read_body_with};
use sealpost_signatures::{
    AccountKey, Nonce, ReceivedSignature, RequestParts, SignatureError, request::Signer,
};
use serde::de::DeserializeOwned;
use std::{marker::PhantomData, sync::Arc};

/// What kind of body a route takes.
pub(super) trait Kind: Send {
    /// Its longest body.
    const LIMIT_BYTES: usize;
}

/// JSON, or nothing.
pub(super) enum Small {}
/// A request of envelopes.
pub(super) enum Envelopes {}
/// A part of a blob.
pub(super) enum Part {}

impl Kind for Small {
    const LIMIT_BYTES: usize = JSON_REQUEST_BYTES_MAX;
}

impl Kind for Envelopes {
    const LIMIT_BYTES: usize = ENVELOPES_REQUEST_BYTES_MAX;
}

impl Kind for Part {
    const LIMIT_BYTES: usize = PART_BYTES_MAX;
}

/// A request signed with the key of a session.
pub(super) struct BySession<K = Small> {
    pub(super) account: AccountId,
    pub(super) own_rates: OwnRates,
    pub(super) body: SignedBody,
    kind: PhantomData<fn() -> K>,
}

/// A part of a blob, signed with the key of a session, that has still to come.
pub(super) struct PartBySession {
    pub(super) account: AccountId,
    pub(super) own_rates: OwnRates,
    /// The SHA-256 that was signed.
    pub(super) digest: [u8; 32],
    pub(super) body: Arriving,
}

/// A request signed with the key of an account that is known.
pub(super) struct ByAccountKey {
    pub(super) facts: AccountFacts,
    pub(super) body: SignedBody,
}

/// A request signed with an account key, known or not.
pub(super) struct ByAnyKey {
    pub(super) key: AccountKey,
    pub(super) body: SignedBody,
}

/// What was signed.
pub(super) struct SignedBody {
    pub(super) headers: HeaderMap,
    pub(super) uri: Uri,
    pub(super) bytes: Bytes,
    /// Held until the handler has answered.
    room: Room,
}

impl SignedBody {
    pub(super) fn json<T: DeserializeOwned>(&self) -> Result<T, ProblemResponse> {
        Ok(parse_json(&self.headers, &self.bytes)?)
    }

    /// Gives free what was taken apart, but for the room that it counts for: hundreds may wait for the same commit.
    pub(super) fn into_room(self) -> Room {
        self.room
    }

    /// A header, if it is there and text.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

impl<K: Kind> FromRequest<Arc<Relay>> for BySession<K> {
    type Rejection = ProblemResponse;

    async fn from_request(request: Request, relay: &Arc<Relay>) -> Result<Self, ProblemResponse> {
        let unread = Unread::<K>::begin(request, relay)?;
        let facts = unread.head.session(relay).await?;
        relay
            .rules()
            .meters
            .of(facts.own_rates)
            .request(facts.account)?;
        relay.hear(facts).await;
        let body = unread.read(relay).await?;
        Ok(Self {
            account: facts.account,
            own_rates: facts.own_rates,
            body,
            kind: PhantomData,
        })
    }
}

impl FromRequest<Arc<Relay>> for PartBySession {
    type Rejection = ProblemResponse;

    async fn from_request(request: Request, relay: &Arc<Relay>) -> Result<Self, ProblemResponse> {
        let Unread { head, body, .. } = Unread::<Part>::begin(request, relay)?;
        let body = Arriving::new(&head.parts.headers, body, PART_BYTES_MAX)?
            .at_least(PART_BYTES_PER_SECOND_MIN);
        let facts = head.session(relay).await?;
        if let Err(problem) = relay
            .rules()
            .meters
            .of(facts.own_rates)
            .request(facts.account)
        {
            body.drain().await;
            return Err(problem);
        }
        relay.hear(facts).await;
        let digest = *head.signature.digest().as_bytes();
        Ok(Self {
            account: facts.account,
            own_rates: facts.own_rates,
            digest,
            body,
        })
    }
}

impl FromRequest<Arc<Relay>> for ByAccountKey {
    type Rejection = ProblemResponse;

    async fn from_request(request: Request, relay: &Arc<Relay>) -> Result<Self, ProblemResponse> {
        relay.meet(request.extensions(), request.headers())?;
        let unread = Unread::<Small>::begin(request, relay)?;
        let spendable = unread.head.account_key(relay.now())?;
        let facts = relay
            .store
            .facts_by_key(spendable.key)
            .await?
            .ok_or(ErrorCode::AccountUnknown)?;
        if facts.suspended {
            return Err(ErrorCode::AccountSuspended.into());
        }
        relay
            .rules()
            .meters
            .of(facts.own_rates)
            .request(facts.account)?;
        let body = unread.read(relay).await?;
        spendable.spend(relay).await?;
        relay.hear(facts).await;
        Ok(Self { facts, body })
    }
}

impl FromRequest<Arc<Relay>> for ByAnyKey {
    type Rejection = ProblemResponse;

    async fn from_request(request: Request, relay: &Arc<Relay>) -> Result<Self, ProblemResponse> {
        relay.meet(request.extensions(), request.headers())?;
        let unread = Unread::<Small>::begin(request, relay)?;
        let spendable = unread.head.account_key(relay.now())?;
        let body = unread.read(relay).await?;
        Ok(Self {
            key: spendable.spend(relay).await?,
            body,
        })
    }
}

/// A request of which only the headers were looked at.
struct Unread<K> {
    head: Head,
    body: Body,
    kind: PhantomData<fn() -> K>,
}

/// Everything but the body.
struct Head {
    parts: Parts,
    signature: ReceivedSignature,
    authority: String,
}

impl<K: Kind> Unread<K> {
    fn begin(request: Request, relay: &Relay) -> Result<Self, ProblemResponse> {
        let (parts, body) = request.into_parts();
        if announced_bytes(&parts.headers).is_some_and(|bytes| bytes > K::LIMIT_BYTES as u64) {
            let limit = K::LIMIT_BYTES;
            return Err(problem(
                ErrorCode::TooLarge,
                format!("the body is over the limit of {limit} bytes"),
            ));
        }
        let signature = ReceivedSignature::from_headers(&parts.headers);
        let signature = signature.map_err(|error| unbelieved(error, relay.now()))?;
        let authority = relay.origin.authority().to_owned();
        Ok(Self {
            head: Head {
                parts,
                signature,
                authority,
            },
            body,
            kind: PhantomData,
        })
    }

    async fn read(self, relay: &Relay) -> Result<SignedBody, ProblemResponse> {
        let Self {
            head: Head {
                parts, signature, ..
            },
            body,
            ..
        } = self;
        let empty = http_body::Body::is_end_stream(&body);
        let bytes = announced_bytes(&parts.headers).unwrap_or(if empty {
            0
        } else {
            K::LIMIT_BYTES as u64
        });
        let mut room = relay
            .memory
            .request(bytes)
            .ok_or_else(|| passing_problem(ErrorCode::Overloaded))?;
        let bytes = read_body_with(&parts.headers, body, K::LIMIT_BYTES, |bytes| {
            room.grow(bytes)
        })
        .await?;
        signature
            .check_body(&bytes)
            .map_err(|error| unbelieved(error, relay.now()))?;
        Ok(SignedBody {
            headers: parts.headers,
            uri: parts.uri,
            bytes,
            room,
        })
    }
}

impl Head {
    fn signed_parts(&self) -> RequestParts<'_> {
        RequestParts {
            method: self.parts.method.as_str(),
            authority: &self.authority,
            path: self.parts.uri.path(),
            query: self.parts.uri.query(),
        }
    }

    async fn session(&self, relay: &Relay) -> Result<AccountFacts, ProblemResponse> {
        let now = relay.now();
        let Signer::Session(claimed) = self.signature.params().signer else {
            return Err(unbelieved(SignatureError::WrongKey, now));
        };
        let key = relay.secret.session_key(&claimed);
        let id = self
            .signature
            .verify_hmac(&self.signed_parts(), &key, now)
            .map_err(|error| unbelieved(error, now))?;
        match relay.facts(id.account).await? {
            Some(facts) if facts.generation != id.key_generation || id.expires_at <= now => {
                Err(ErrorCode::SessionInvalid.into())
            }
            Some(facts) if facts.suspended => Err(ErrorCode::AccountSuspended.into()),
            Some(facts) => Ok(facts),
            None => Err(ErrorCode::SessionInvalid.into()),
        }
    }

    fn account_key(&self, now: Timestamp) -> Result<Spendable, ProblemResponse> {
        let verified = self.signature.verify_ed25519(&self.signed_parts(), now);
        let key = verified.map_err(|error| unbelieved(error, now))?;
        let params = self.signature.params();
        match params.nonce.clone() {
            Some(nonce) => Ok(Spendable {
                key,
                nonce,
                expires_at: params.expires,
            }),
            None => Err(problem(
                ErrorCode::SignatureInvalid,
                "this route needs a nonce",
            )),
        }
    }
}

/// The signature of an account key, good once.
struct Spendable {
    key: AccountKey,
    nonce: Nonce,
    expires_at: Timestamp,
}

impl Spendable {
    async fn spend(self, relay: &Relay) -> Result<AccountKey, ProblemResponse> {
        let Self {
            key,
            nonce,
            expires_at,
        } = self;
        let first = relay.store.use_nonce(key, nonce, expires_at).await?;
        if first {
            Ok(key)
        } else {
            Err(ErrorCode::NonceUsed.into())
        }
    }
}

fn announced_bytes(headers: &HeaderMap) -> Option<u64> {
    headers
        .get(header::CONTENT_LENGTH)?
        .to_str()
        .ok()?
        .parse()
        .ok()
}

/// Why a signature is not believed, as a problem; with the relay's clock when it is about time.
fn unbelieved(error: SignatureError, now: Timestamp) -> ProblemResponse {
    let problem = Problem::new(error.code(), error.to_string());
    match error {
        SignatureError::ClockSkew => problem.relay_time(now).into(),
        SignatureError::Missing
        | SignatureError::Malformed { .. }
        | SignatureError::Digest
        | SignatureError::WrongKey
        | SignatureError::Invalid => problem.into(),
    }
}
