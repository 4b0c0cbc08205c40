//! Accounts with one mailbox each, registered and signed in as a node does, and their signed
//! requests.

use crate::{
    receiver::ReceiverClient,
    stamp::{Stamp, now_ns},
};
use anyhow::{Context as _, ensure};
use bytes::Bytes;
use ed25519_dalek::SigningKey;
use http::{Request, header};
use http_body_util::Full;
use sealpost_bench_support::connection::Connection;
use sealpost_proto::{
    B64, EnvelopeId, MailboxId, MailboxRef, Origin, SendKey, SessionKey, Timestamp,
    limits::ENVELOPE_BYTES_MIN,
    wire::{
        DeliveryMode, OpenMailbox, RegisterRequest, Registered, Session, SubmitRequest,
        SubmittedEnvelope, WebhookTest,
    },
};
use sealpost_service::random_array;
use sealpost_signatures::{
    ContentDigest, Nonce, RequestParts, SessionId, SignedHeaders, proofs, request,
};
use serde::de::DeserializeOwned;
use std::{
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};
use tokio::task::JoinSet;

/// Random bytes that stand in for sealed data; every envelope is a slice of them.
const NOISE_BYTES: usize = 64 * 1024;
/// Maximum number of accounts that are set up concurrently.
const SET_UPS_MAX: usize = 32;
const SUBMIT: &str = "/v1/envelopes";

/// Signed-in account and the mailbox that it sends to.
#[derive(Debug, Clone)]
pub(crate) struct Account {
    session: String,
    key: SessionKey,
    mailbox: MailboxRef,
    send_key: SendKey,
}

/// Server address with the accounts that send to it.
#[derive(Debug)]
pub(crate) struct Target {
    /// `host:port`.
    pub(crate) authority: String,
    /// The sending accounts, used round-robin.
    pub(crate) accounts: Vec<Account>,
    noise: Vec<u8>,
}

impl Target {
    /// Creates a target with unregistered accounts, for a server without authentication; the bytes
    /// on the wire are the same.
    pub(crate) fn unregistered(authority: &str) -> anyhow::Result<Self> {
        let session = SessionId {
            account: sealpost_proto::AccountId::from_bytes(random_array()),
            key_generation: 1,
            expires_at: Timestamp::from_millis(now_ns() / 1_000_000),
            random: random_array(),
        };
        let account = Account {
            session: session.to_string(),
            key: SessionKey::from_bytes(random_array()),
            mailbox: generate_mailbox(authority)?,
            send_key: SendKey::from_bytes(random_array()),
        };
        Ok(Self::new(authority, vec![account]))
    }

    /// Registers the given number of accounts at a relay, each with a mailbox and, if it has a
    /// receiver, an active webhook.
    pub(crate) async fn register<'a>(
        authority: &str,
        count: usize,
        receiver_of: impl Fn(usize) -> Option<&'a Arc<ReceiverClient>>,
    ) -> anyhow::Result<Self> {
        let receivers: Arc<[_]> = (0..count)
            .map(|number| receiver_of(number).cloned())
            .collect();
        let next = Arc::new(AtomicUsize::new(0));
        let mut workers = JoinSet::new();
        for _ in 0..SET_UPS_MAX.min(count) {
            let (receivers, next) = (Arc::clone(&receivers), Arc::clone(&next));
            let mut connection = Connection::new(authority);
            let authority = authority.to_owned();
            workers.spawn(async move {
                let mut registered = Vec::new();
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    let Some(receiver) = receivers.get(number) else {
                        return anyhow::Ok(registered);
                    };
                    registered.push((
                        number,
                        set_up(&mut connection, &authority, number, receiver.as_deref()).await?,
                    ));
                }
            });
        }
        let mut accounts = Vec::with_capacity(count);
        while let Some(worker) = workers.join_next().await {
            accounts.extend(worker??);
        }
        accounts.sort_unstable_by_key(|(number, _)| *number);
        Ok(Self::new(
            authority,
            accounts.into_iter().map(|(_, account)| account).collect(),
        ))
    }

    fn new(authority: &str, accounts: Vec<Account>) -> Self {
        let noise = (0..NOISE_BYTES / 32)
            .flat_map(|_| random_array::<32>())
            .collect();
        Self {
            authority: authority.to_owned(),
            accounts,
            noise,
        }
    }

    /// Builds the signed request that submits the envelopes with these numbers, as a node does.
    pub(crate) fn build_submission(
        &self,
        envelopes_range: Range<u64>,
        stamp: Stamp,
    ) -> anyhow::Result<Request<Full<Bytes>>> {
        let account = &self.accounts[self.sender_of(&envelopes_range)];
        let now = Timestamp::from_millis(now_ns() / 1_000_000);
        let envelopes = envelopes_range
            .map(|number| self.build_envelope(account, now, number, stamp))
            .collect();
        let body = serde_json::to_vec(&SubmitRequest { envelopes })?;
        let parts = request_parts("POST", &self.authority, SUBMIT);
        let signed = request::sign_hmac(
            &account.session,
            &account.key,
            &parts,
            &ContentDigest::of(&body),
            now,
        );
        build_request(&parts, &signed, body)
    }

    /// Returns the index of the account that sends the request with these envelopes.
    #[must_use]
    pub(crate) fn sender_of(&self, envelopes_range: &Range<u64>) -> usize {
        let request = envelopes_range.start / (envelopes_range.end - envelopes_range.start).max(1);
        usize::try_from(request).unwrap_or_default() % self.accounts.len()
    }

    fn build_envelope(
        &self,
        account: &Account,
        now: Timestamp,
        number: u64,
        stamp: Stamp,
    ) -> SubmittedEnvelope {
        let start =
            usize::try_from(number).unwrap_or_default() % (NOISE_BYTES - ENVELOPE_BYTES_MIN);
        let mut bytes = self.noise[start..start + ENVELOPE_BYTES_MIN].to_vec();
        stamp.write(&mut bytes);
        let id = EnvelopeId::new(now, random_array());
        let proof = proofs::prove_post(&account.send_key, account.mailbox.id, id, &bytes);
        let mailbox = account.mailbox.clone();
        SubmittedEnvelope {
            id,
            mailbox,
            proof: B64(proof.to_vec()),
            expires_at: None,
            bytes: B64(bytes),
        }
    }
}

fn generate_mailbox(authority: &str) -> anyhow::Result<MailboxRef> {
    let relay = Origin::parse(&format!("http://{authority}"))?;
    Ok(MailboxRef {
        relay,
        id: MailboxId::from_bytes(random_array()),
    })
}

async fn set_up(
    connection: &mut Connection,
    authority: &str,
    number: usize,
    receiver: Option<&ReceiverClient>,
) -> anyhow::Result<Account> {
    let mut node = Node {
        connection,
        authority,
        key: SigningKey::from_bytes(&random_array()),
    };
    let delivery = match receiver {
        Some(receiver) => DeliveryMode::Webhook {
            url: receiver.webhook_url(number),
        },
        None => DeliveryMode::Pull,
    };
    let registration = serde_json::to_vec(&RegisterRequest {
        delivery,
        token: None,
    })?;
    let registered: Registered = node.call("POST", "/v1/accounts", registration).await?;
    if let Some(receiver) = receiver {
        receiver
            .set_secret(number, &registered.webhook_secret)
            .await?;
        let test: WebhookTest = node
            .call("POST", "/v1/account/webhook-test", Vec::new())
            .await?;
        ensure!(
            test.ok,
            "the webhook did not become active: {:?}",
            test.steps
        );
    }
    let (mailbox, send_key) = (
        generate_mailbox(authority)?,
        SendKey::from_bytes(random_array()),
    );
    let keys = serde_json::to_vec(&OpenMailbox {
        send_keys: vec![send_key.clone()],
        sender_envelopes_max: None,
    })?;
    node.send("PUT", &format!("/v1/mailboxes/{}", mailbox.id), keys)
        .await?;
    let session: Session = node.call("POST", "/v1/session", Vec::new()).await?;
    Ok(Account {
        session: session.session_id,
        key: session.key,
        mailbox,
        send_key,
    })
}

/// Node that sets up its account.
struct Node<'a> {
    connection: &'a mut Connection,
    authority: &'a str,
    key: SigningKey,
}

impl Node<'_> {
    async fn call<T: DeserializeOwned>(
        &mut self,
        method: &str,
        path: &str,
        body: Vec<u8>,
    ) -> anyhow::Result<T> {
        serde_json::from_slice(&self.send(method, path, body).await?)
            .with_context(|| format!("{method} {path}"))
    }

    async fn send(&mut self, method: &str, path: &str, body: Vec<u8>) -> anyhow::Result<Bytes> {
        let parts = request_parts(method, self.authority, path);
        let now = Timestamp::from_millis(now_ns() / 1_000_000);
        let nonce = Nonce::from_random(random_array());
        let signed =
            request::sign_ed25519(&self.key, &parts, &ContentDigest::of(&body), now, &nonce);
        let (status, response) = self
            .connection
            .send(build_request(&parts, &signed, body)?)
            .await?;
        ensure!(
            status.is_success(),
            "{method} {path} failed with {status}: {}",
            String::from_utf8_lossy(&response)
        );
        Ok(response)
    }
}

const fn request_parts<'a>(method: &'a str, authority: &'a str, path: &'a str) -> RequestParts<'a> {
    RequestParts {
        method,
        authority,
        path,
        query: None,
    }
}

fn build_request(
    parts: &RequestParts<'_>,
    signed: &SignedHeaders,
    body: Vec<u8>,
) -> anyhow::Result<Request<Full<Bytes>>> {
    let mut request = Request::builder().method(parts.method).uri(parts.path);
    for (name, value) in signed.pairs() {
        request = request.header(name, value);
    }
    Ok(request
        .header(header::CONTENT_TYPE, "application/json")
        .body(Full::from(body))?)
}
