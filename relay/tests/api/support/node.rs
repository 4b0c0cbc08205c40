//! Node that signs its own requests.

use super::{HttpClient, Relay, Reply, eventually_some, json, stored, within_deadline};
use crate::openapi_check;
use bytes::Bytes;
use ed25519_dalek::SigningKey;
use http::{Method, Request};
use http_body_util::Full;
use sealpost_proto::{
    AccountId, B64, EnvelopeId, EnvelopeState, MailboxId, MailboxRef, Origin, SendKey, SessionKey,
    WebhookSecret, b64,
    wire::{
        DeliveryBatch, DeliveryMode, DeliveryResult, DeliveryResults, EnvelopeStatus, OpenMailbox,
        RegisterRequest, Registered, Session, StatusEvent, SubmitOutcome, SubmitRequest,
        SubmitResponse, SubmittedEnvelope, WebhookTest,
    },
};
use sealpost_service::{Clock as _, ManualClock, random_array};
use sealpost_signatures::{ContentDigest, Nonce, RequestParts, SignedHeaders, proofs, request};
use serde::Serialize;
use serde_json::Value;
use tokio::sync::OnceCell;

/// OpenAPI document, which is the same for every relay in these tests.
static DOCUMENT: OnceCell<Value> = OnceCell::const_new();

/// Mailbox with its send key.
#[derive(Clone)]
pub(crate) struct Mailbox {
    pub(crate) id: MailboxId,
    pub(crate) key: SendKey,
}

/// Node as the relay sees it.
pub(crate) struct Node {
    pub(crate) key: SigningKey,
    pub(crate) clock: ManualClock,
    pub(crate) origin: Origin,
    pub(crate) account: Option<AccountId>,
    pub(crate) session: Option<(String, SessionKey)>,
    pub(crate) secret: Option<WebhookSecret>,
    http: HttpClient,
}

impl Node {
    pub(crate) fn new(relay: &Relay) -> Self {
        Self::for_origin(relay.origin.clone(), relay.clock.clone())
    }

    /// Returns a node for a relay that can be another process.
    pub(crate) fn for_origin(origin: Origin, clock: ManualClock) -> Self {
        Self {
            key: SigningKey::from_bytes(&random_array()),
            clock,
            origin,
            account: None,
            session: None,
            secret: None,
            http: HttpClient::new(),
        }
    }

    /// Sends a request and checks that the OpenAPI document contains the response.
    pub(crate) async fn send(&self, request: Request<Full<Bytes>>) -> Reply {
        let document = DOCUMENT.get_or_init(|| async {
            let request = self.unsigned_request(Method::GET, "/openapi.json", "");
            self.http.send(request).await.ok()
        });
        let (document, method, path) = (
            document.await,
            request.method().clone(),
            request.uri().path().to_owned(),
        );
        let reply = self.http.send(request).await;
        openapi_check::check(document, &method, &path, &reply);
        reply
    }

    /// Sends a request that the OpenAPI document does not describe.
    pub(crate) async fn send_undocumented(&self, request: Request<Full<Bytes>>) -> Reply {
        self.http.send(request).await
    }

    pub(crate) fn unsigned_request(
        &self,
        method: Method,
        target: &str,
        body: impl Into<Bytes>,
    ) -> Request<Full<Bytes>> {
        let builder = Request::builder()
            .method(method)
            .uri(format!("{}{target}", self.origin));
        builder
            .header("content-type", "application/json")
            .body(Full::new(body.into()))
            .unwrap()
    }

    pub(crate) fn session_request(
        &self,
        method: Method,
        target: &str,
        body: impl Into<Bytes>,
    ) -> Request<Full<Bytes>> {
        let body = body.into();
        let (id, key) = self.session.as_ref().expect("signed in");
        let signed = self.sign(&method, target, |parts| {
            request::sign_hmac(id, key, parts, &ContentDigest::of(&body), self.clock.now())
        });
        with_headers(self.unsigned_request(method, target, body), &signed)
    }

    pub(crate) fn key_request(
        &self,
        method: Method,
        target: &str,
        body: impl Into<Bytes>,
    ) -> Request<Full<Bytes>> {
        let body = body.into();
        let nonce = Nonce::from_random(random_array());
        let signed = self.sign(&method, target, |parts| {
            request::sign_ed25519(
                &self.key,
                parts,
                &ContentDigest::of(&body),
                self.clock.now(),
                &nonce,
            )
        });
        with_headers(self.unsigned_request(method, target, body), &signed)
    }

    fn sign<T>(
        &self,
        method: &Method,
        target: &str,
        sign: impl FnOnce(&RequestParts<'_>) -> T,
    ) -> T {
        let (path, query) = target
            .split_once('?')
            .map_or((target, None), |(path, query)| (path, Some(query)));
        sign(&RequestParts {
            method: method.as_str(),
            authority: self.origin.authority(),
            path,
            query,
        })
    }

    pub(crate) async fn send_with_session(
        &self,
        method: Method,
        target: &str,
        body: impl Into<Bytes>,
    ) -> Reply {
        self.send(self.session_request(method, target, body)).await
    }

    pub(crate) async fn get(&self, target: &str) -> Reply {
        self.send_with_session(Method::GET, target, "").await
    }

    pub(crate) async fn post<T: Serialize>(&self, target: &str, body: &T) -> Reply {
        self.send_with_session(Method::POST, target, json(body))
            .await
    }

    pub(crate) async fn send_with_key(
        &self,
        method: Method,
        target: &str,
        body: impl Into<Bytes>,
    ) -> Reply {
        self.send(self.key_request(method, target, body)).await
    }

    pub(crate) async fn register(&mut self, delivery: DeliveryMode) -> Registered {
        let registered: Registered = self.try_register(delivery, None).await.ok();
        self.account = Some(registered.account_id);
        self.secret = Some(registered.webhook_secret.clone());
        registered
    }

    pub(crate) async fn try_register(&self, delivery: DeliveryMode, token: Option<&str>) -> Reply {
        let request = RegisterRequest {
            delivery,
            token: token.map(str::to_owned),
        };
        self.send_with_key(Method::POST, "/v1/accounts", json(&request))
            .await
    }

    pub(crate) async fn sign_in(&mut self) -> Session {
        let session: Session = self
            .send_with_key(Method::POST, "/v1/session", "")
            .await
            .ok();
        self.session = Some((session.session_id.clone(), session.key.clone()));
        session
    }

    pub(crate) async fn open_mailbox(&self) -> Mailbox {
        let mailbox = Mailbox {
            id: MailboxId::from_bytes(random_array()),
            key: SendKey::from_bytes(random_array()),
        };
        self.put_mailbox(mailbox.id, vec![mailbox.key.clone()])
            .await
            .assert_no_content();
        mailbox
    }

    pub(crate) async fn put_mailbox(&self, id: MailboxId, send_keys: Vec<SendKey>) -> Reply {
        let body = json(&OpenMailbox {
            send_keys,
            sender_envelopes_max: None,
        });
        self.send_with_key(Method::PUT, &format!("/v1/mailboxes/{id}"), body)
            .await
    }

    pub(crate) async fn close_mailbox(&self, mailbox: &Mailbox) {
        self.send_with_key(Method::DELETE, &format!("/v1/mailboxes/{}", mailbox.id), "")
            .await
            .assert_no_content();
    }

    pub(crate) fn new_envelope(&self, mailbox: &Mailbox, fill: u8) -> SubmittedEnvelope {
        let id = EnvelopeId::from_bytes(random_array());
        let bytes = vec![fill; 2_048];
        SubmittedEnvelope {
            id,
            mailbox: MailboxRef {
                relay: self.origin.clone(),
                id: mailbox.id,
            },
            proof: B64(proofs::prove_post(&mailbox.key, mailbox.id, id, &bytes).to_vec()),
            expires_at: None,
            bytes: B64(bytes),
        }
    }

    pub(crate) async fn submit(&self, envelopes: Vec<SubmittedEnvelope>) -> Vec<SubmitOutcome> {
        let response: SubmitResponse = self
            .post("/v1/envelopes", &SubmitRequest { envelopes })
            .await
            .ok();
        response
            .results
            .into_iter()
            .map(|result| result.outcome)
            .collect()
    }

    /// Submits an envelope filled with this byte and expects it to be accepted.
    pub(crate) async fn submit_one(&self, mailbox: &Mailbox, fill: u8) -> EnvelopeId {
        let envelope = self.new_envelope(mailbox, fill);
        let id = envelope.id;
        let outcomes = self.submit(vec![envelope]).await;
        assert!(
            matches!(outcomes[..], [SubmitOutcome::Accepted { .. }]),
            "{outcomes:?}"
        );
        id
    }

    /// Submits one envelope to each mailbox.
    pub(crate) async fn submit_to_each(&self, mailboxes: &[Mailbox]) -> Vec<EnvelopeId> {
        let envelopes: Vec<_> = mailboxes
            .iter()
            .map(|mailbox| self.new_envelope(mailbox, 1))
            .collect();
        let ids = envelopes.iter().map(|envelope| envelope.id).collect();
        for some in envelopes.chunks(100) {
            let outcomes = self.submit(some.to_vec()).await;
            assert!(
                outcomes
                    .iter()
                    .all(|outcome| matches!(outcome, SubmitOutcome::Accepted { .. })),
                "{outcomes:?}"
            );
        }
        ids
    }

    pub(crate) async fn status(&self, id: EnvelopeId) -> EnvelopeStatus {
        self.get(&format!("/v1/envelopes/{id}")).await.ok()
    }

    /// Waits until a sent envelope has this state.
    pub(crate) async fn wait_for_state(&self, id: EnvelopeId, state: EnvelopeState) {
        eventually_some(async || (self.status(id).await.state == state).then_some(())).await;
    }

    pub(crate) async fn recall(&self, mailbox: &Mailbox, id: EnvelopeId) -> Reply {
        let proof = proofs::prove_recall(&mailbox.key, mailbox.id, id);
        let mut request = self.session_request(Method::DELETE, &format!("/v1/envelopes/{id}"), "");
        request
            .headers_mut()
            .insert("sealpost-proof", b64::encode(&proof).parse().unwrap());
        self.send(request).await
    }

    pub(crate) async fn pull(&self, wait: u64) -> DeliveryBatch {
        self.get(&format!("/v1/deliveries?wait={wait}")).await.ok()
    }

    pub(crate) async fn acknowledge(&self, fence: u64, results: Vec<DeliveryResult>) {
        self.post("/v1/deliveries/ack", &DeliveryResults { fence, results })
            .await
            .assert_no_content();
    }

    /// Pulls one batch and acknowledges all items as stored.
    pub(crate) async fn pull_and_store(&self, wait: u64) -> DeliveryBatch {
        let batch = self.pull(wait).await;
        self.acknowledge(batch.fence, stored(&batch)).await;
        batch
    }

    /// Pulls until an event with this state arrives.
    pub(crate) async fn wait_for_event(
        &self,
        envelope: EnvelopeId,
        state: EnvelopeState,
    ) -> StatusEvent {
        self.find_event(|event| event.envelope == envelope && event.state == state)
            .await
    }

    /// Pulls until an event reports the given number of failed attempts. Only then has the relay
    /// recorded the last one and chosen its delay, so only then can a test advance the clock.
    pub(crate) async fn wait_for_failed_attempt(
        &self,
        envelope: EnvelopeId,
        attempts: u32,
    ) -> StatusEvent {
        let matches_event = |event: &StatusEvent| {
            event.state == EnvelopeState::Retrying && event.attempts == attempts
        };
        self.find_event(|event| event.envelope == envelope && matches_event(event))
            .await
    }

    async fn find_event(&self, matches_event: impl Fn(&StatusEvent) -> bool) -> StatusEvent {
        let pulling = async {
            loop {
                if let Some(event) = self
                    .pull_and_store(5)
                    .await
                    .events
                    .into_iter()
                    .find(&matches_event)
                {
                    return event;
                }
            }
        };
        within_deadline(pulling).await
    }

    pub(crate) async fn test_webhook(&self) -> WebhookTest {
        self.send_with_key(Method::POST, "/v1/account/webhook-test", "")
            .await
            .ok()
    }
}

fn with_headers(mut request: Request<Full<Bytes>>, signed: &SignedHeaders) -> Request<Full<Bytes>> {
    for (name, value) in signed.pairs() {
        request.headers_mut().insert(name, value.parse().unwrap());
    }
    request
}
