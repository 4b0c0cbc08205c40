//! A relay in this process, a node that signs by hand, and a webhook that does as it is told.

use crate::described;
use axum::{
    Router, body::Bytes as Body, extract::State, http::HeaderMap as Headers, routing::post,
};
use bytes::Bytes;
use ed25519_dalek::SigningKey;
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use sealpost_proto::{
    AccountId, B64, DeliveryId, EnvelopeId, EnvelopeState, ErrorCode, MailboxId, MailboxRef,
    Origin, Problem, SendKey, SessionKey, Timestamp, WebhookSecret,
    limits::CLIENT_IDLE_TIMEOUT,
    wire::{
        Delivery, DeliveryBatch, DeliveryMode, DeliveryOutcome, DeliveryResult, DeliveryResults,
        EnvelopeStatus, OpenMailbox, RegisterRequest, Registered, RegistrationPolicy, Session,
        StatusEvent, SubmitOutcome, SubmitRequest, SubmitResponse, SubmittedEnvelope, WebhookCall,
        WebhookTest,
    },
};
use sealpost_relay::{AdminListen, Config, Running, start};
use sealpost_service::{Clock as _, ManualClock, Shutdown, http::ListenerLimits, random_array};
use sealpost_signatures::{ContentDigest, Nonce, RequestParts, proofs, request, webhook};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;
use std::{
    collections::VecDeque,
    net::SocketAddr,
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};
use tempfile::TempDir;
use tokio::{
    net::{TcpListener, TcpSocket},
    sync::{OnceCell, Semaphore},
    task::JoinHandle,
};

/// How long a test waits for what has to come: far longer than a slow and busy machine takes.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);
/// `/openapi.json`, the same for every relay here.
static DOCUMENT: OnceCell<Value> = OnceCell::const_new();
const START: Timestamp = Timestamp::from_millis(1_800_000_000_000);

/// An address on loopback that is this one's as long as it lives, whether somebody listens there or not: a port that is
/// bound is given to nobody else, and without a listener it refuses connections.
#[derive(Clone)]
pub(crate) struct Reserved {
    pub(crate) address: SocketAddr,
    _bound: Arc<TcpSocket>,
}

impl Reserved {
    pub(crate) fn new() -> Self {
        let bound = TcpSocket::new_v4().unwrap();
        // So that others may listen there beside it.
        bound.set_reuseaddr(true).unwrap();
        bound.bind(([127, 0, 0, 1], 0).into()).unwrap();
        Self {
            address: bound.local_addr().unwrap(),
            _bound: Arc::new(bound),
        }
    }
}

/// A relay that runs in this process, on a folder that outlives it.
pub(crate) struct Relay {
    pub(crate) clock: ManualClock,
    pub(crate) folder: Arc<TempDir>,
    pub(crate) origin: Origin,
    running: Running,
    shutdown: Shutdown,
    config: Config,
    /// Keeps the origin the same when the relay starts again.
    place: Reserved,
}

pub(crate) fn config(folder: &Path) -> Config {
    let mut config = Config {
        listen: ([127, 0, 0, 1], 0).into(),
        data: folder.to_owned(),
        ..Config::default()
    };
    config.admin.listen = "127.0.0.1:0".parse().unwrap();
    config.egress.allow = vec!["127.0.0.0/8".parse().unwrap()];
    config.registration.policy = RegistrationPolicy::Open;
    // Many relays at a time keep as many reserves.
    config.storage.reserve_bytes = 8 * 1024 * 1024;
    config
}

impl Relay {
    pub(crate) async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    pub(crate) async fn start_with(change: impl FnOnce(&mut Config)) -> Self {
        let folder = Arc::new(tempfile::tempdir().unwrap());
        let place = Reserved::new();
        let mut config = Config {
            listen: place.address,
            ..config(folder.path())
        };
        change(&mut config);
        Self::open(folder, config, place, ManualClock::new(START)).await
    }

    async fn open(
        folder: Arc<TempDir>,
        config: Config,
        place: Reserved,
        clock: ManualClock,
    ) -> Self {
        let shutdown = Shutdown::new();
        let running = start(config.clone(), Arc::new(clock.clone()), shutdown.clone())
            .await
            .unwrap();
        let origin = running.origin.clone();
        Self {
            clock,
            folder,
            origin,
            running,
            shutdown,
            config,
            place,
        }
    }

    /// Ends it in good order and starts it again on the same folder and under the same name.
    pub(crate) async fn restart(self) -> Self {
        self.restart_while(|| {}).await
    }

    /// As [`Self::restart`]; something happens when it was told to end and has not yet.
    pub(crate) async fn restart_while(self, something: impl FnOnce()) -> Self {
        self.restart_as(something, |_| {}).await
    }

    /// As [`Self::restart`], with another configuration.
    pub(crate) async fn restart_with(self, change: impl FnOnce(&mut Config)) -> Self {
        self.restart_as(|| {}, change).await
    }

    async fn restart_as(self, something: impl FnOnce(), change: impl FnOnce(&mut Config)) -> Self {
        let Self {
            clock,
            folder,
            running,
            shutdown,
            mut config,
            place,
            ..
        } = self;
        change(&mut config);
        shutdown.trigger();
        something();
        running.ended().await;
        Self::open(folder, config, place, clock).await
    }

    /// Ends it in good order.
    pub(crate) async fn end(self) {
        self.shutdown.trigger();
        self.running.ended().await;
    }

    /// Ends it in good order and starts it again under the same name on another folder.
    pub(crate) async fn restart_on(mut self, folder: TempDir) -> Self {
        self.config.data = folder.path().to_owned();
        let before = std::mem::replace(&mut self.folder, Arc::new(folder));
        let relay = self.restart().await;
        drop(before);
        relay
    }

    /// Returns when the scheduler has looked for lanes that are due: it has called one that was not due before.
    pub(crate) async fn scheduler_looked(&self) {
        let hook = Hook::listen().await;
        let (sender, recipient) = (self.node().await, self.node_with_webhook(&hook).await);
        let mailbox = recipient.open_mailbox().await;
        assert!(recipient.test_webhook().await.ok);
        sender.post_to(&mailbox, 0).await;
        hook.called(1).await;
    }

    /// Ends it in good order; what is left is its folder.
    pub(crate) async fn stop(self) -> Arc<TempDir> {
        self.shutdown.trigger();
        self.running.ended().await;
        self.folder
    }

    /// Where the operator's API listens.
    pub(crate) fn admin(&self) -> SocketAddr {
        match &self.running.admin {
            Some(AdminListen::Tcp(address)) => *address,
            elsewhere => panic!("{elsewhere:?}"),
        }
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// A registered and signed-in node.
    pub(crate) async fn node(&self) -> Node {
        let mut node = Node::new(self);
        node.register(DeliveryMode::Pull).await;
        node.sign_in().await;
        node
    }

    pub(crate) async fn node_with_webhook(&self, hook: &Hook) -> Node {
        let mut node = Node::new(self);
        node.register(DeliveryMode::Webhook {
            url: hook.url.clone(),
        })
        .await;
        node.sign_in().await;
        hook.state.lock().unwrap().secret = node.secret.clone();
        node
    }
}

/// An answer, read.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Reply {
    pub(crate) fn json<T: DeserializeOwned>(&self) -> T {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    pub(crate) fn ok<T: DeserializeOwned>(&self) -> T {
        assert!(self.status.is_success(), "{self:?}");
        self.json()
    }

    pub(crate) fn code(&self) -> ErrorCode {
        self.json::<Problem>().code
    }

    pub(crate) fn done(&self) {
        assert_eq!(self.status, StatusCode::NO_CONTENT, "{self:?}");
    }
}

/// A mailbox and the key for posting to it.
#[derive(Clone)]
pub(crate) struct Mailbox {
    pub(crate) id: MailboxId,
    pub(crate) key: SendKey,
}

/// A node as far as the relay sees one.
pub(crate) struct Node {
    pub(crate) key: SigningKey,
    pub(crate) clock: ManualClock,
    pub(crate) origin: Origin,
    pub(crate) account: Option<AccountId>,
    pub(crate) session: Option<(String, SessionKey)>,
    pub(crate) secret: Option<WebhookSecret>,
    http: Client<HttpConnector, Full<Bytes>>,
}

impl Node {
    pub(crate) fn new(relay: &Relay) -> Self {
        Self::of(relay.origin.clone(), relay.clock.clone())
    }

    /// One of a relay that may be another process.
    pub(crate) fn of(origin: Origin, clock: ManualClock) -> Self {
        Self {
            key: SigningKey::from_bytes(&random_array()),
            clock,
            origin,
            account: None,
            session: None,
            secret: None,
            http: Client::builder(TokioExecutor::new())
                .pool_timer(TokioTimer::new())
                .pool_idle_timeout(CLIENT_IDLE_TIMEOUT)
                .build_http(),
        }
    }

    /// Sends a request and reads the answer, which has to be one that the relay describes.
    pub(crate) async fn send(&self, request: Request<Full<Bytes>>) -> Reply {
        let document = DOCUMENT.get_or_init(|| async {
            self.exchange(self.plain(Method::GET, "/openapi.json", ""))
                .await
                .ok()
        });
        let (document, method, path) = (
            document.await,
            request.method().clone(),
            request.uri().path().to_owned(),
        );
        let reply = self.exchange(request).await;
        described::check(document, &method, &path, &reply);
        reply
    }

    async fn exchange(&self, request: Request<Full<Bytes>>) -> Reply {
        let response = tokio::time::timeout(DEADLINE, self.http.request(request))
            .await
            .unwrap()
            .unwrap();
        let (parts, body) = response.into_parts();
        Reply {
            status: parts.status,
            headers: parts.headers,
            body: body.collect().await.unwrap().to_bytes(),
        }
    }

    /// A request without a signature.
    pub(crate) fn plain(
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

    /// A request signed with the session's key.
    pub(crate) fn by_session(
        &self,
        method: Method,
        target: &str,
        body: impl Into<Bytes>,
    ) -> Request<Full<Bytes>> {
        let body = body.into();
        let (id, key) = self.session.as_ref().expect("signed in");
        let signed = self.parts(&method, target, |parts| {
            request::sign_hmac(id, key, parts, &ContentDigest::of(&body), self.clock.now())
        });
        self.with(self.plain(method, target, body), &signed)
    }

    /// A request signed with the account key.
    pub(crate) fn by_key(
        &self,
        method: Method,
        target: &str,
        body: impl Into<Bytes>,
    ) -> Request<Full<Bytes>> {
        let body = body.into();
        let nonce = Nonce::from_random(random_array());
        let signed = self.parts(&method, target, |parts| {
            request::sign_ed25519(
                &self.key,
                parts,
                &ContentDigest::of(&body),
                self.clock.now(),
                &nonce,
            )
        });
        self.with(self.plain(method, target, body), &signed)
    }

    fn parts<T>(
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

    fn with(
        &self,
        mut request: Request<Full<Bytes>>,
        signed: &sealpost_signatures::SignedHeaders,
    ) -> Request<Full<Bytes>> {
        for (name, value) in signed.pairs() {
            request.headers_mut().insert(name, value.parse().unwrap());
        }
        request
    }

    pub(crate) async fn session_call(
        &self,
        method: Method,
        target: &str,
        body: impl Into<Bytes>,
    ) -> Reply {
        self.send(self.by_session(method, target, body)).await
    }

    pub(crate) async fn get(&self, target: &str) -> Reply {
        self.session_call(Method::GET, target, "").await
    }

    pub(crate) async fn post<T: Serialize>(&self, target: &str, body: &T) -> Reply {
        self.session_call(Method::POST, target, serde_json::to_vec(body).unwrap())
            .await
    }

    pub(crate) async fn key_call(
        &self,
        method: Method,
        target: &str,
        body: impl Into<Bytes>,
    ) -> Reply {
        self.send(self.by_key(method, target, body)).await
    }

    pub(crate) async fn register(&mut self, delivery: DeliveryMode) -> Registered {
        let body = serde_json::to_vec(&RegisterRequest {
            delivery,
            token: None,
        })
        .unwrap();
        let registered: Registered = self.key_call(Method::POST, "/v1/accounts", body).await.ok();
        self.account = Some(registered.account_id);
        self.secret = Some(registered.webhook_secret.clone());
        registered
    }

    pub(crate) async fn sign_in(&mut self) -> Session {
        let session: Session = self.key_call(Method::POST, "/v1/session", "").await.ok();
        self.session = Some((session.session_id.clone(), session.key.clone()));
        session
    }

    pub(crate) async fn open_mailbox(&self) -> Mailbox {
        let mailbox = Mailbox {
            id: MailboxId::from_bytes(random_array()),
            key: SendKey::from_bytes(random_array()),
        };
        let body = serde_json::to_vec(&OpenMailbox {
            send_keys: vec![mailbox.key.clone()],
        })
        .unwrap();
        self.key_call(Method::PUT, &format!("/v1/mailboxes/{}", mailbox.id), body)
            .await
            .done();
        mailbox
    }

    pub(crate) async fn close_mailbox(&self, mailbox: &Mailbox) {
        self.key_call(Method::DELETE, &format!("/v1/mailboxes/{}", mailbox.id), "")
            .await
            .done();
    }

    pub(crate) fn envelope(&self, mailbox: &Mailbox, fill: u8) -> SubmittedEnvelope {
        let id = EnvelopeId::from_bytes(random_array());
        let bytes = vec![fill; 2_048];
        SubmittedEnvelope {
            id,
            mailbox: MailboxRef {
                relay: self.origin.clone(),
                id: mailbox.id,
            },
            proof: B64(proofs::post(&mailbox.key, mailbox.id, id, &bytes).to_vec()),
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

    /// Submits one envelope that is accepted.
    pub(crate) async fn post_to(&self, mailbox: &Mailbox, fill: u8) -> EnvelopeId {
        let envelope = self.envelope(mailbox, fill);
        let id = envelope.id;
        let outcomes = self.submit(vec![envelope]).await;
        assert!(
            matches!(outcomes[..], [SubmitOutcome::Accepted { .. }]),
            "{outcomes:?}"
        );
        id
    }

    /// Submits one envelope to each.
    pub(crate) async fn post_to_each(&self, mailboxes: &[Mailbox]) -> Vec<EnvelopeId> {
        let envelopes: Vec<_> = mailboxes
            .iter()
            .map(|mailbox| self.envelope(mailbox, 1))
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

    /// Waits until an envelope that it sent is in this state.
    pub(crate) async fn sees(&self, id: EnvelopeId, state: EnvelopeState) {
        let looking = async {
            while self.status(id).await.state != state {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(DEADLINE, looking)
            .await
            .unwrap_or_else(|_| panic!("{id} is not {state:?} in time"));
    }

    pub(crate) async fn recall(&self, mailbox: &Mailbox, id: EnvelopeId) -> Reply {
        let proof = proofs::recall(&mailbox.key, mailbox.id, id);
        let mut request = self.by_session(Method::DELETE, &format!("/v1/envelopes/{id}"), "");
        request
            .headers_mut()
            .insert("sealpost-proof", B64(proof.to_vec()).to_header());
        self.send(request).await
    }

    pub(crate) async fn pull(&self, wait: u64) -> DeliveryBatch {
        self.get(&format!("/v1/deliveries?wait={wait}")).await.ok()
    }

    pub(crate) async fn acknowledge(&self, lease: u64, results: Vec<DeliveryResult>) {
        self.post("/v1/deliveries/ack", &DeliveryResults { lease, results })
            .await
            .done();
    }

    /// Pulls one batch and stores all of it.
    pub(crate) async fn take_all(&self, wait: u64) -> DeliveryBatch {
        let batch = self.pull(wait).await;
        self.acknowledge(batch.lease, stored(&batch)).await;
        batch
    }

    /// Pulls until news of an envelope in this state came.
    pub(crate) async fn news(&self, envelope: EnvelopeId, state: EnvelopeState) -> StatusEvent {
        self.event(|event| event.envelope == envelope && event.state == state)
            .await
    }

    /// Pulls until news came that so many attempts failed: only then has the relay written the last one down and drawn
    /// its delay, so only then may a test move the clock.
    pub(crate) async fn failed_attempts(&self, envelope: EnvelopeId, attempts: u32) -> StatusEvent {
        let is_it = |event: &StatusEvent| {
            event.state == EnvelopeState::Retrying && event.attempts == attempts
        };
        self.event(|event| event.envelope == envelope && is_it(event))
            .await
    }

    async fn event(&self, is_it: impl Fn(&StatusEvent) -> bool) -> StatusEvent {
        let looking = async {
            loop {
                if let Some(event) = self.take_all(5).await.events.into_iter().find(&is_it) {
                    return event;
                }
            }
        };
        tokio::time::timeout(DEADLINE, looking)
            .await
            .expect("the news came in time")
    }

    pub(crate) async fn test_webhook(&self) -> WebhookTest {
        self.key_call(Method::POST, "/v1/account/webhook-test", "")
            .await
            .ok()
    }
}

/// Bytes as the value of a header.
pub(crate) trait ToHeader {
    fn to_header(&self) -> http::HeaderValue;
}

impl ToHeader for B64 {
    fn to_header(&self) -> http::HeaderValue {
        sealpost_proto::b64::encode(self.as_slice())
            .parse()
            .unwrap()
    }
}

pub(crate) fn outcome(id: DeliveryId, outcome: DeliveryOutcome) -> DeliveryResult {
    DeliveryResult { id, outcome }
}

/// `stored` for everything.
pub(crate) fn stored(batch: &DeliveryBatch) -> Vec<DeliveryResult> {
    let deliveries = batch.deliveries.iter().map(|delivery| delivery.id);
    let ids = deliveries.chain(batch.events.iter().map(|event| event.id));
    ids.map(|id| outcome(id, DeliveryOutcome::Stored)).collect()
}

pub(crate) fn fills(deliveries: &[Delivery]) -> Vec<u8> {
    deliveries
        .iter()
        .map(|delivery| delivery.bytes.0[0])
        .collect()
}

/// What a webhook does with a call.
#[derive(Debug, Clone)]
pub(crate) enum Script {
    Store,
    Status(u16),
    Wait {
        seconds: u64,
    },
    Later {
        millis: u64,
    },
    /// Stores, once the test lets it.
    Held,
    /// Fails whenever one of the envelopes starts with this byte.
    Choke {
        fill: u8,
    },
}

struct HookState {
    secret: Option<WebhookSecret>,
    script: VecDeque<Script>,
    always: Script,
    calls: Vec<(Timestamp, DeliveryBatch)>,
}

/// A webhook on loopback.
pub(crate) struct Hook {
    pub(crate) url: String,
    state: Arc<Mutex<HookState>>,
    /// A permit for each held call that may go on.
    release: Arc<Semaphore>,
    place: Reserved,
    shutdown: Shutdown,
    server: JoinHandle<()>,
}

impl Hook {
    pub(crate) async fn listen() -> Self {
        let place = Reserved::new();
        let state = HookState {
            secret: None,
            script: VecDeque::new(),
            always: Script::Store,
            calls: Vec::new(),
        };
        let (state, release) = (Arc::new(Mutex::new(state)), Arc::new(Semaphore::new(0)));
        let shutdown = Shutdown::new();
        let server = serve(&place, &state, &release, &shutdown).await;
        Self {
            url: format!("http://{}/hook", place.address),
            state,
            release,
            place,
            shutdown,
            server,
        }
    }

    /// Hangs up and takes no connection any more.
    pub(crate) async fn stop(&mut self) {
        self.shutdown.trigger();
        tokio::time::timeout(DEADLINE, &mut self.server)
            .await
            .expect("it stopped in time")
            .unwrap();
    }

    /// Listens where it did before.
    pub(crate) async fn come_back(&mut self) {
        self.shutdown = Shutdown::new();
        self.server = serve(&self.place, &self.state, &self.release, &self.shutdown).await;
    }

    /// Lets one call go on that is [held](Script::Held).
    pub(crate) fn release(&self) {
        self.release.add_permits(1);
    }

    pub(crate) fn always(&self, script: Script) {
        self.state.lock().unwrap().always = script;
    }

    pub(crate) fn then(&self, script: Script) {
        self.state.lock().unwrap().script.push_back(script);
    }

    pub(crate) fn calls(&self) -> usize {
        self.state.lock().unwrap().calls.len()
    }

    pub(crate) fn batches(&self) -> Vec<DeliveryBatch> {
        self.state
            .lock()
            .unwrap()
            .calls
            .iter()
            .map(|(_, batch)| batch.clone())
            .collect()
    }

    /// The relay's time at each call.
    pub(crate) fn times(&self) -> Vec<Timestamp> {
        self.state
            .lock()
            .unwrap()
            .calls
            .iter()
            .map(|(at, _)| *at)
            .collect()
    }

    /// Waits until so many calls came. What came of the last of them the relay has not written down yet.
    pub(crate) async fn called(&self, calls: usize) {
        eventually(|| self.calls() >= calls).await;
    }
}

type Answering = (Arc<Mutex<HookState>>, Arc<Semaphore>);

async fn serve(
    place: &Reserved,
    state: &Arc<Mutex<HookState>>,
    release: &Arc<Semaphore>,
    shutdown: &Shutdown,
) -> JoinHandle<()> {
    let listener = TcpListener::bind(place.address).await.unwrap();
    let router = Router::new()
        .route("/hook", post(answer))
        .with_state((Arc::clone(state), Arc::clone(release)));
    tokio::spawn(sealpost_service::http::serve(
        listener,
        router,
        ListenerLimits::default(),
        shutdown.clone(),
    ))
}

async fn answer(
    State((state, release)): State<Answering>,
    headers: Headers,
    body: Body,
) -> HookAnswer {
    let (answer, is_held) = decide(&mut state.lock().unwrap(), &headers, &body);
    if is_held {
        release.acquire().await.unwrap().forget();
    }
    answer
}

type HookAnswer = (StatusCode, Headers, Vec<u8>);

fn decide(state: &mut HookState, headers: &Headers, body: &[u8]) -> (HookAnswer, bool) {
    let secret = state.secret.clone().expect("the node has registered");
    let at: u64 = headers["webhook-timestamp"]
        .to_str()
        .unwrap()
        .parse()
        .unwrap();
    let now = Timestamp::from_millis(at * 1_000);
    webhook::verify_webhook(std::slice::from_ref(&secret), headers, body, now)
        .expect("the relay signed");
    match serde_json::from_slice(body).unwrap() {
        WebhookCall::Challenge { challenge, .. } => {
            let answer = webhook::answer_challenge(&secret, challenge.as_slice());
            let json = serde_json::json!({ "answer": B64(answer.to_vec()) });
            (
                (
                    StatusCode::OK,
                    Headers::new(),
                    json.to_string().into_bytes(),
                ),
                false,
            )
        }
        WebhookCall::Deliveries { data, timestamp } => {
            let script = state
                .script
                .pop_front()
                .unwrap_or_else(|| state.always.clone());
            state.calls.push((timestamp, data.clone()));
            (follow(&script, &data), matches!(script, Script::Held))
        }
    }
}

fn follow(script: &Script, data: &DeliveryBatch) -> HookAnswer {
    let results = |results| {
        serde_json::to_vec(&DeliveryResults {
            lease: data.lease,
            results,
        })
        .unwrap()
    };
    let status = |code| {
        (
            StatusCode::from_u16(code).unwrap(),
            Headers::new(),
            Vec::new(),
        )
    };
    match script {
        Script::Choke { fill }
            if data
                .deliveries
                .iter()
                .any(|delivery| delivery.bytes.0[0] == *fill) =>
        {
            status(500)
        }
        Script::Store | Script::Held | Script::Choke { .. } => {
            (StatusCode::OK, Headers::new(), results(stored(data)))
        }
        Script::Status(code) => status(*code),
        Script::Wait { seconds } => {
            let headers = [(
                http::header::RETRY_AFTER,
                seconds.to_string().parse().unwrap(),
            )]
            .into_iter()
            .collect();
            (StatusCode::SERVICE_UNAVAILABLE, headers, Vec::new())
        }
        Script::Later { millis } => {
            let later = DeliveryOutcome::Later {
                retry_after_ms: Some(*millis),
            };
            let first = data
                .deliveries
                .iter()
                .map(|delivery| outcome(delivery.id, later.clone()));
            (StatusCode::OK, Headers::new(), results(first.collect()))
        }
    }
}

/// Waits until something holds.
pub(crate) async fn eventually(holds: impl Fn() -> bool) {
    let waiting = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(DEADLINE, waiting)
        .await
        .expect("it held in time");
}
