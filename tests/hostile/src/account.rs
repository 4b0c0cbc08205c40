//! Accounts at the relay, each with an address of its own, and their signed requests before they
//! are sent.

use anyhow::Context as _;
use ed25519_dalek::SigningKey;
use http::header;
use sealpost_proto::{
    B64, EnvelopeId, MailboxId, MailboxRef, Origin, SendKey, Timestamp,
    limits::DELIVERY_BATCH_BYTES_MAX,
    wire::{
        DeliveryBatch, DeliveryMode, OpenMailbox, RegisterRequest, Registered, Session,
        SubmitRequest, SubmittedEnvelope,
    },
};
use sealpost_relay_client::{RelayClient, build_http_client};
use sealpost_service::{Clock as _, SystemClock, random_array};
use sealpost_signatures::{ContentDigest, Nonce, RequestParts, SignedHeaders, proofs, request};
use std::{net::Ipv4Addr, sync::Arc, time::Duration};

/// Digest of an empty body.
const EMPTY: &[u8] = b"";

/// Registered account whose requests come from one address.
pub(crate) struct Account {
    /// Typed client of the relay.
    pub(crate) client: RelayClient,
    /// Webhook secret and id.
    pub(crate) registered: Registered,
    /// Address from which the requests come.
    pub(crate) source: Ipv4Addr,
    key: SigningKey,
    http: reqwest::Client,
}

/// Open mailbox with the key that permits posting to it.
#[derive(Clone)]
pub(crate) struct Mailbox {
    pub(crate) address: MailboxRef,
    pub(crate) send_key: SendKey,
}

/// Signed request without its body.
pub(crate) struct SignedRequest {
    method: &'static str,
    authority: String,
    target: String,
    headers: SignedHeaders,
}

impl Account {
    /// Registers a new account from this address.
    pub(crate) async fn register(
        relay: &Origin,
        source: Ipv4Addr,
        delivery: DeliveryMode,
    ) -> anyhow::Result<Self> {
        let key = SigningKey::from_bytes(&random_array());
        let http = http_client(source)?;
        let client = RelayClient::new(
            relay.clone(),
            key.clone(),
            Arc::new(SystemClock),
            http.clone(),
        );
        let request = RegisterRequest {
            delivery,
            token: None,
        };
        let registered = client.register(&request).await?;
        Ok(Self {
            client,
            registered,
            source,
            key,
            http,
        })
    }

    /// Registers an account that pulls.
    pub(crate) async fn with_pull(relay: &Origin, source: Ipv4Addr) -> anyhow::Result<Self> {
        Self::register(relay, source, DeliveryMode::Pull).await
    }

    /// Returns a client of the same account whose requests come from another address.
    pub(crate) fn client_from(&self, source: Ipv4Addr) -> anyhow::Result<RelayClient> {
        let (relay, key) = (self.client.origin().clone(), self.key.clone());
        let http = http_client(source)?;
        Ok(RelayClient::new(relay, key, Arc::new(SystemClock), http))
    }

    /// Opens a new mailbox.
    pub(crate) async fn open_mailbox(&self) -> anyhow::Result<Mailbox> {
        open_mailbox(&self.client).await
    }
    /// Signs in; the session signs requests that the typed client cannot send.
    pub(crate) async fn sign_in(&self) -> anyhow::Result<Session> {
        let request = self.sign_with_account_key("POST", "/v1/session", &ContentDigest::of(EMPTY));
        let response = request.send(&self.http).await?.error_for_status()?;
        Ok(response.json().await?)
    }

    /// Signs a request with the account key.
    pub(crate) fn sign_with_account_key(
        &self,
        method: &'static str,
        target: &str,
        digest: &ContentDigest,
    ) -> SignedRequest {
        sign_with_key(&self.key, self.client.origin(), method, target, digest)
    }

    /// Signs a request with the key of a session.
    pub(crate) fn sign_with_session(
        &self,
        session: &Session,
        method: &'static str,
        target: &str,
        digest: &ContentDigest,
    ) -> SignedRequest {
        let authority = self.client.origin().authority();
        let parts = request_parts(authority, method, target);
        let now = SystemClock.now();
        let headers = request::sign_hmac(&session.session_id, &session.key, &parts, digest, now);
        SignedRequest::new(authority, method, target, headers)
    }
}

/// Opens a new mailbox of the client's account.
pub(crate) async fn open_mailbox(client: &RelayClient) -> anyhow::Result<Mailbox> {
    let mailbox = Mailbox {
        address: MailboxRef {
            relay: client.origin().clone(),
            id: MailboxId::from_bytes(random_array()),
        },
        send_key: SendKey::from_bytes(random_array()),
    };
    let keys = OpenMailbox {
        send_keys: vec![mailbox.send_key.clone()],
        sender_envelopes_max: None,
    };
    client.open_mailbox(mailbox.address.id, &keys).await?;
    Ok(mailbox)
}

/// Signs a request with an account key, whether it is registered or not.
pub(crate) fn sign_with_key(
    key: &SigningKey,
    relay: &Origin,
    method: &'static str,
    target: &str,
    digest: &ContentDigest,
) -> SignedRequest {
    let parts = request_parts(relay.authority(), method, target);
    let nonce = Nonce::from_random(random_array());
    let headers = request::sign_ed25519(key, &parts, digest, SystemClock.now(), &nonce);
    SignedRequest::new(relay.authority(), method, target, headers)
}

fn request_parts<'a>(authority: &'a str, method: &'a str, target: &'a str) -> RequestParts<'a> {
    let (path, query) = match target.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (target, None),
    };
    RequestParts {
        method,
        authority,
        path,
        query,
    }
}

impl SignedRequest {
    fn new(authority: &str, method: &'static str, target: &str, headers: SignedHeaders) -> Self {
        Self {
            method,
            authority: authority.to_owned(),
            target: target.to_owned(),
            headers,
        }
    }

    /// Returns the request with a body, for HTTP/2.
    pub(crate) fn with_body<B>(&self, body: B) -> anyhow::Result<http::Request<B>> {
        let mut request = http::Request::builder()
            .method(self.method)
            .uri(format!("http://{}{}", self.authority, self.target))
            .header(header::CONTENT_TYPE, "application/json");
        for (name, value) in self.headers.pairs() {
            request = request.header(name, value);
        }
        Ok(request.body(body)?)
    }

    /// Returns the head of the request in HTTP/1.1, with more headers.
    pub(crate) fn head(&self, body_bytes: usize, more: &str) -> Vec<u8> {
        let Self {
            method,
            authority,
            target,
            headers,
        } = self;
        let [input, signature, digest] = headers
            .pairs()
            .map(|(name, value)| format!("{name}: {value}\r\n"));
        format!(
            "{method} {target} HTTP/1.1\r\nhost: {authority}\r\ncontent-type: application/json\r\n\
             content-length: {body_bytes}\r\n{input}{signature}{digest}{more}\r\n"
        )
        .into_bytes()
    }

    /// Sends the request without a body and returns the response.
    pub(crate) async fn send(&self, http: &reqwest::Client) -> anyhow::Result<reqwest::Response> {
        let url = format!("http://{}{}", self.authority, self.target);
        let mut request = http.request(self.method.parse()?, url);
        for (name, value) in self.headers.pairs() {
            request = request.header(name, value);
        }
        Ok(request.send().await?)
    }
}

impl Mailbox {
    /// Creates a new envelope of random bytes for this mailbox.
    pub(crate) fn envelope(&self, bytes: usize) -> SubmittedEnvelope {
        let now: Timestamp = SystemClock.now();
        let id = EnvelopeId::new(now, random_array());
        let content: Vec<u8> = (0..bytes / 32).flat_map(|_| random_array::<32>()).collect();
        let proof = proofs::prove_post(&self.send_key, self.address.id, id, &content);
        SubmittedEnvelope {
            id,
            mailbox: self.address.clone(),
            proof: B64(proof.to_vec()),
            expires_at: None,
            bytes: B64(content),
        }
    }
}

/// Pulls as much as a relay delivers at a time.
pub(crate) async fn pull(client: &RelayClient, wait: Duration) -> anyhow::Result<DeliveryBatch> {
    Ok(client.pull(wait, DELIVERY_BATCH_BYTES_MAX).await?.batch)
}

/// Submits envelopes; any that the relay does not accept is an error.
pub(crate) async fn submit(
    client: &RelayClient,
    envelopes: Vec<SubmittedEnvelope>,
) -> anyhow::Result<()> {
    let response = client.submit(&SubmitRequest { envelopes }).await?;
    for result in response.results {
        anyhow::ensure!(
            matches!(
                result.outcome,
                sealpost_proto::wire::SubmitOutcome::Accepted { .. }
            ),
            "an envelope was not accepted: {:?}",
            result.outcome
        );
    }
    Ok(())
}

/// Creates a client whose connections come from one loopback address.
pub(crate) fn http_client(source: Ipv4Addr) -> anyhow::Result<reqwest::Client> {
    // It also installs the cryptography that every client needs.
    build_http_client(&[])?;
    reqwest::Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .local_address(std::net::IpAddr::from(source))
        .tls_certs_only([])
        .build()
        .context("an HTTP client")
}

/// Returns an address of an attacker, of which there are up to 256 in each network.
pub(crate) fn attacker_address(network: u8, number: usize) -> Ipv4Addr {
    let number = u8::try_from(number % 250).unwrap_or_default();
    Ipv4Addr::new(127, 66, network, number + 1)
}
