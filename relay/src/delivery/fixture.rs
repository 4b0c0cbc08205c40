//! Relay without running tasks, as the fixture of the delivery tests.

use super::lane::{DeliveryContext, LaneRun};
use crate::{
    config::Config,
    serve::open,
    store::{NewAccount, Submission},
};
use axum::{Router, routing::post};
use sealpost_proto::{
    AccountId, B64, EnvelopeId, MailboxId, MailboxRef, Origin, SendKey, Timestamp, WebhookSecret,
    WebhookUrl,
    limits::WEBHOOK_TIMEOUT,
    wire::{RegistrationPolicy, SubmittedEnvelope},
};
use sealpost_relay_core::{EndpointHealth, Quotas};
use sealpost_service::{
    Clock as _, ManualClock, Shutdown,
    http::{ListenerLimits, serve},
};
use sealpost_signatures::{AccountKey, proofs};
use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};
use tempfile::TempDir;

pub(super) const BOLT: AccountId = AccountId::from_bytes([2; 16]);
const MAILBOX: MailboxId = MailboxId::from_bytes([9; 16]);

/// Relay without running tasks, with one account whose webhook is active.
pub(super) struct Fixture {
    pub(super) context: Arc<DeliveryContext>,
    origin: Origin,
    pub(super) clock: ManualClock,
    _directory: TempDir,
}

impl Fixture {
    pub(super) async fn new(webhook_url: &str) -> Self {
        let directory = crate::data_layout::temporary_data_directory();
        let mut config = Config {
            listen: ([127, 0, 0, 1], 0).into(),
            data: directory.path().to_owned(),
            ..Config::default()
        };
        config.admin.listen = "off".parse().unwrap();
        config.egress.allow = vec!["127.0.0.0/8".parse().unwrap()];
        let clock = ManualClock::new(Timestamp::from_millis(1_800_000_000_000));
        let parts = open(config, Arc::new(clock.clone()), Shutdown::new())
            .await
            .unwrap()
            .parts;
        let (context, origin) = (Arc::new(parts.delivery()), parts.origin.clone());
        let store = &context.store;
        let url = WebhookUrl::parse(webhook_url).unwrap();
        let new = NewAccount {
            account: BOLT,
            key: AccountKey::from_bytes([2; 32]),
            webhook_url: Some(url.clone()),
            webhook_secret: WebhookSecret::from_bytes([3; 32]),
            policy: RegistrationPolicy::Open,
            is_token_valid: false,
            token_digest: None,
        };
        store.register(clock.now(), new).await.unwrap().unwrap();
        let verified = store.verify_webhook(clock.now(), BOLT, url);
        assert!(verified.await.unwrap());
        let keys = vec![SendKey::from_bytes([7; 32])];
        store
            .open_mailbox(clock.now(), BOLT, MAILBOX, keys, Quotas::default())
            .await
            .unwrap()
            .unwrap();
        Self {
            context,
            origin,
            clock,
            _directory: directory,
        }
    }

    pub(super) async fn submit(&self, number: u8, bytes: usize) {
        let (id, bytes) = (EnvelopeId::from_bytes([number; 16]), vec![number; bytes]);
        let envelope = SubmittedEnvelope {
            id,
            mailbox: MailboxRef {
                relay: self.origin.clone(),
                id: MAILBOX,
            },
            proof: B64(
                proofs::prove_post(&SendKey::from_bytes([7; 32]), MAILBOX, id, &bytes).to_vec(),
            ),
            expires_at: None,
            bytes: B64(bytes),
        };
        let submission = Submission::new(&self.origin, envelope, false);
        self.context
            .store
            .submit(self.clock.now(), BOLT, vec![submission], Quotas::default())
            .await
            .unwrap();
    }

    pub(super) fn lane_run(&self) -> LaneRun {
        LaneRun {
            context: Arc::clone(&self.context),
            account: BOLT,
            health: EndpointHealth::Healthy,
            timeout: WEBHOOK_TIMEOUT,
            hard_shutdown: Shutdown::new(),
        }
    }
}

/// Starts an endpoint that stores everything and counts the calls, and returns its URL.
pub(super) async fn start_endpoint(calls: &Arc<AtomicUsize>) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let calls = Arc::clone(calls);
    let respond = move |body: axum::body::Bytes| async move {
        calls.fetch_add(1, Ordering::Relaxed);
        let call: serde_json::Value = serde_json::from_slice(&body).unwrap();
        let items = call["data"]["deliveries"].as_array().unwrap().iter();
        let results: Vec<_> = items
            .map(|item| serde_json::json!({"id": item["id"], "outcome": "stored"}))
            .collect();
        axum::Json(serde_json::json!({"lease": call["data"]["lease"], "results": results}))
    };
    let router = Router::new().route("/", post(respond));
    tokio::spawn(serve(
        listener,
        router,
        ListenerLimits::default(),
        Shutdown::new(),
    ));
    url
}
