//! Broad outage: many failing endpoints do not delay deliveries to healthy ones.

use crate::support::{Mailbox, Node, Relay, eventually, stored};
use axum::{
    Router,
    body::Bytes,
    extract::{Path, State},
    routing::post,
};
use futures_util::future::join_all;
use http::StatusCode;
use sealpost_proto::{
    B64, EnvelopeId, EnvelopeState, WebhookSecret,
    limits::FAILING_CALLS_MAX,
    wire::{DeliveryMode, DeliveryResults, WebhookCall},
};
use sealpost_service::{Shutdown, http::ListenerLimits};
use sealpost_signatures::webhook;
use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::net::TcpListener;

/// More endpoints than the relay calls at a time, with a margin for connections that the relay
/// closes before the server notices.
const FAILING: usize = FAILING_CALLS_MAX + FAILING_CALLS_MAX / 2 + 20;
const HEALTHY: usize = 4;

/// Behaviour of the failing endpoints.
#[derive(Clone, Copy, PartialEq)]
enum FailureMode {
    Refuse,
    Hang,
}

struct Endpoints {
    secrets: HashMap<usize, WebhookSecret>,
    failure_mode: FailureMode,
    refused: usize,
    hanging: usize,
    hanging_max: usize,
}

/// Server with one numbered path for each endpoint; the first [`FAILING`] endpoints fail.
#[derive(Clone)]
struct WebhookServer {
    url: String,
    state: Arc<Mutex<Endpoints>>,
}

impl WebhookServer {
    async fn listen() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let state = Endpoints {
            secrets: HashMap::new(),
            failure_mode: FailureMode::Refuse,
            refused: 0,
            hanging: 0,
            hanging_max: 0,
        };
        let server = Self {
            url,
            state: Arc::new(Mutex::new(state)),
        };
        let router = Router::new()
            .route("/{number}", post(handle_call))
            .with_state(server.clone());
        tokio::spawn(sealpost_service::http::serve(
            listener,
            router,
            ListenerLimits::default(),
            Shutdown::new(),
        ));
        server
    }

    fn with<T>(&self, access: impl FnOnce(&mut Endpoints) -> T) -> T {
        access(&mut self.state.lock().unwrap())
    }

    /// Registers a node with an active webhook and returns its mailbox.
    async fn join(&self, relay: &Relay, number: usize) -> Mailbox {
        let mut node = Node::new(relay);
        let registered = node
            .register(DeliveryMode::Webhook {
                url: format!("{}/{number}", self.url),
            })
            .await;
        self.with(|state| state.secrets.insert(number, registered.webhook_secret));
        node.sign_in().await;
        let test = node.test_webhook().await;
        assert!(test.ok, "{test:?}");
        node.open_mailbox().await
    }
}

/// Counts a call that hangs until the caller closes it.
struct HangingCall(WebhookServer);

impl HangingCall {
    fn start(server: &WebhookServer) -> Self {
        server.with(|state| {
            state.hanging += 1;
            state.hanging_max = state.hanging_max.max(state.hanging);
        });
        Self(server.clone())
    }
}

impl Drop for HangingCall {
    fn drop(&mut self) {
        self.0.with(|state| state.hanging -= 1);
    }
}

async fn handle_call(
    State(server): State<WebhookServer>,
    Path(number): Path<usize>,
    body: Bytes,
) -> (StatusCode, Vec<u8>) {
    let json = match serde_json::from_slice(&body).unwrap() {
        WebhookCall::Challenge { challenge, .. } => {
            let secret = server.with(|state| state.secrets[&number].clone());
            let response = webhook::respond_to_challenge(&secret, challenge.as_slice());
            serde_json::json!({ "answer": B64(response.to_vec()) })
                .to_string()
                .into_bytes()
        }
        WebhookCall::Deliveries { .. } if number < FAILING => {
            if server.with(|state| state.failure_mode) == FailureMode::Hang {
                let _hanging = HangingCall::start(&server);
                std::future::pending::<()>().await;
            }
            server.with(|state| state.refused += 1);
            return (StatusCode::BAD_GATEWAY, Vec::new());
        }
        WebhookCall::Deliveries { data, .. } => serde_json::to_vec(&DeliveryResults {
            lease: data.lease,
            results: stored(&data),
        })
        .unwrap(),
    };
    (StatusCode::OK, json)
}

async fn wait_for_states(sender: &Node, ids: &[EnvelopeId], state: EnvelopeState) {
    for id in ids {
        sender.wait_for_state(*id, state).await;
    }
}

#[tokio::test]
async fn hanging_endpoints_do_not_delay_healthy_ones() {
    let relay = Relay::start().await;
    let server = WebhookServer::listen().await;
    let mut mailboxes = Vec::new();
    for from in (0..FAILING + HEALTHY).step_by(16) {
        let numbers = from..(from + 16).min(FAILING + HEALTHY);
        mailboxes.extend(join_all(numbers.map(|number| server.join(&relay, number))).await);
    }
    let (failing, healthy) = mailboxes.split_at(FAILING);
    let acme = relay.node().await;
    let failing_ids: Vec<_> = acme.submit_to_each(failing).await;
    wait_for_states(&acme, &failing_ids, EnvelopeState::Retrying).await;
    assert_eq!(
        server.with(|state| state.refused),
        FAILING,
        "each endpoint is called once"
    );

    server.with(|state| state.failure_mode = FailureMode::Hang);
    relay.clock.advance(Duration::from_secs(10));
    eventually(|| server.with(|state| state.hanging_max) >= FAILING_CALLS_MAX).await;
    let healthy_ids = acme.submit_to_each(healthy).await;
    wait_for_states(&acme, &healthy_ids, EnvelopeState::Stored).await;
    let max = server.with(|state| state.hanging_max);
    // The relay may have closed connections that the server still counts.
    assert!(
        max < FAILING,
        "{max} of {FAILING} failing endpoints were called at a time"
    );
}
