//! Relay for tests of pulls and of the webhook's state: it accepts all requests, and each test
//! states how it responds.

use super::NodeComponents;
use axum::{
    Json, Router,
    body::Body,
    extract::{Request, State},
    response::{IntoResponse as _, Response},
};
use bytes::Bytes;
use futures_util::stream;
use http::{Method, StatusCode, header};
use sealpost_proto::{
    AccountId, B64, DeliveryId, EnvelopeId, ErrorCode, MailboxId, Origin, Problem, SessionKey,
    Timestamp, WebhookSecret, b64,
    wire::{
        DeliveredEnvelope, DeliveryBatch, Mailbox, Mailboxes, Registered, Session, WebhookState,
        WebhookTest, WebhookTestStep,
    },
};
use sealpost_service::{ManualClock, http::ProblemResponse};
use sha2::{Digest as _, Sha256};
use std::{
    io,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};
use tempfile::TempDir;
use tokio::net::TcpListener;

pub(super) const NOW: Timestamp = Timestamp::from_millis(1_766_000_000_000);

/// Relay on loopback, and a node that is registered there.
pub(super) struct ScriptedRelay {
    pub(super) node: NodeComponents,
    script: Arc<Mutex<Script>>,
    _directory: TempDir,
}

/// Responses of the relay, and the requests that it received.
pub(super) struct Script {
    /// State of the webhook that pulls report.
    pub(super) webhook: WebhookState,
    /// Whether a webhook test succeeds, which makes the webhook active.
    pub(super) passes_tests: bool,
    /// Size of the envelope in the next batches; a batch is empty without it.
    pub(super) envelope_bytes: Option<usize>,
    /// Whether the connection is cut within the response to a pull.
    pub(super) cuts_pulls: bool,
    /// Mailboxes of the account, all on one page.
    pub(super) mailboxes: Vec<Mailbox>,
    /// Whether the page of mailboxes names itself as the next one.
    pub(super) repeats_pages: bool,
    /// Methods and targets.
    pub(super) requests: Vec<String>,
    /// Body of the stored checkpoint.
    pub(super) checkpoint: Option<Bytes>,
    /// Whether each write of a checkpoint is refused, as if another was stored.
    pub(super) refuses_all_tags: bool,
    /// Whether the requests about the checkpoint get an internal error.
    pub(super) fails_checkpoints: bool,
}

impl ScriptedRelay {
    pub(super) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let origin = format!("http://{}", listener.local_addr().unwrap());
        let script = Arc::new(Mutex::new(Script {
            webhook: WebhookState::Active,
            passes_tests: true,
            envelope_bytes: None,
            cuts_pulls: false,
            mailboxes: Vec::new(),
            repeats_pages: false,
            requests: Vec::new(),
            checkpoint: None,
            refuses_all_tags: false,
            fails_checkpoints: false,
        }));
        let router = Router::new()
            .fallback(respond)
            .with_state(Arc::clone(&script));
        tokio::spawn(async move { axum::serve(listener, router).await });
        let (directory, clock) = (tempfile::tempdir().unwrap(), ManualClock::new(NOW));
        let origin = Origin::parse(&origin).unwrap();
        let node = NodeComponents::for_test(directory.path(), origin, clock).await;
        Self {
            node,
            script,
            _directory: directory,
        }
    }

    pub(super) fn script(&self) -> MutexGuard<'_, Script> {
        self.script.lock().unwrap()
    }

    /// Returns the last request.
    pub(super) fn last_request(&self) -> String {
        self.script().requests.last().unwrap().clone()
    }
}

async fn respond(State(script): State<Arc<Mutex<Script>>>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
    let request = Request::from_parts(head, ());
    let mut script = script.lock().unwrap();
    if request.uri().path() == "/v1/session" {
        return Json(session(script.webhook)).into_response();
    }
    let (method, target) = (request.method(), request.uri());
    script.requests.push(format!("{method} {target}"));
    match request.uri().path() {
        "/v1/deliveries" if script.cuts_pulls => cut_response(),
        "/v1/deliveries" => Json(script.batch()).into_response(),
        "/v1/account/checkpoint" => script.respond_checkpoint(&request, body),
        "/v1/mailboxes" => Json(script.list_mailboxes()).into_response(),
        "/v1/accounts" => Json(script.register()).into_response(),
        "/v1/account/webhook-test" => Json(script.test_webhook()).into_response(),
        _ => StatusCode::NO_CONTENT.into_response(),
    }
}

fn session(webhook: WebhookState) -> Session {
    Session {
        session_id: "a session".to_owned(),
        key: SessionKey::from_bytes([3; 32]),
        expires_at: NOW.plus(Duration::from_secs(1_000_000_000)),
        relay_time: NOW,
        webhook: Some(webhook),
    }
}

/// Returns a response whose connection closes before the end of the body.
fn cut_response() -> Response {
    let pieces = [
        Ok(Bytes::from_static(b"{")),
        Err(io::Error::other("the connection is cut")),
    ];
    Response::new(Body::from_stream(stream::iter(pieces)))
}

impl Script {
    /// Registers another account each time.
    fn register(&self) -> Registered {
        let number = u8::try_from(self.requests.len()).unwrap();
        Registered {
            account_id: AccountId::from_bytes([number; 16]),
            webhook_secret: WebhookSecret::from_bytes([number; 32]),
        }
    }

    fn respond_checkpoint(&mut self, request: &Request<()>, body: Bytes) -> Response {
        let problem = |code| ProblemResponse::from(Problem::from(code)).into_response();
        if self.fails_checkpoints {
            return problem(ErrorCode::Internal);
        }
        let tag = |body: &Bytes| format!("\"{}\"", b64::encode(&Sha256::digest(body)));
        let stored = self.checkpoint.as_ref().map(tag);
        if request.method() == Method::PUT {
            let expected = request.headers()[header::IF_MATCH].to_str().unwrap();
            if self.refuses_all_tags || expected != stored.as_deref().unwrap_or("\"none\"") {
                return problem(ErrorCode::PreconditionFailed);
            }
            self.checkpoint = Some(body);
        }
        match &self.checkpoint {
            Some(body) => ([(header::ETAG, tag(body))], body.clone()).into_response(),
            None => problem(ErrorCode::NotFound),
        }
    }

    fn batch(&self) -> DeliveryBatch {
        let envelope = self.envelope_bytes.map(|bytes| DeliveredEnvelope {
            id: DeliveryId(1),
            mailbox: MailboxId::from_bytes([1; 16]),
            envelope: EnvelopeId::from_bytes([2; 16]),
            accepted_at: NOW,
            bytes: B64(vec![0; bytes]),
        });
        DeliveryBatch {
            deliveries: envelope.into_iter().collect(),
            webhook: Some(self.webhook),
            ..DeliveryBatch::default()
        }
    }

    fn list_mailboxes(&self) -> Mailboxes {
        let last = self.mailboxes.last().map(|mailbox| mailbox.id);
        Mailboxes {
            mailboxes: self.mailboxes.clone(),
            next: last.filter(|_| self.repeats_pages),
        }
    }

    fn test_webhook(&mut self) -> WebhookTest {
        if self.passes_tests {
            self.webhook = WebhookState::Active;
        }
        let failed = WebhookTestStep {
            step: "status".to_owned(),
            ok: false,
            detail: "the endpoint responded with 404, expected 200".to_owned(),
        };
        WebhookTest {
            ok: self.passes_tests,
            steps: if self.passes_tests {
                vec![]
            } else {
                vec![failed]
            },
            elapsed_ms: 1,
        }
    }
}
