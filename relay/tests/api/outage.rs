//! Widespread endpoint failure: many failing endpoints do not delay deliveries to healthy ones.

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

/// More endpoints than the relay calls concurrently. The surplus is large, because calls that timed
/// out at the relay still count at the server until it notices that the connection is closed.
const FAILING_ENDPOINTS: usize = FAILING_CALLS_MAX + FAILING_CALLS_MAX / 2 + 20;
const HEALTHY_ENDPOINTS: usize = 4;

const CONCURRENT_REGISTRATIONS: usize = 16;

/// Behaviour of the failing endpoints.
#[derive(Clone, Copy, PartialEq)]
enum FailureMode {
    BadGateway,
    Hang,
}

struct Endpoints {
    secrets: HashMap<usize, WebhookSecret>,
    failure_mode: FailureMode,
    failed: usize,
    hanging: usize,
    hanging_max: usize,
}

/// Server with one numbered path for each endpoint; the first [`FAILING_ENDPOINTS`] endpoints fail.
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
            failure_mode: FailureMode::BadGateway,
            failed: 0,
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

    fn with_state<T>(&self, access: impl FnOnce(&mut Endpoints) -> T) -> T {
        access(&mut self.state.lock().unwrap())
    }

    /// Registers a node with an active webhook and returns its mailbox.
    async fn register_node(&self, relay: &Relay, number: usize) -> Mailbox {
        let mut node = Node::new(relay);
        let registered = node
            .register(DeliveryMode::Webhook {
                url: format!("{}/{number}", self.url),
            })
            .await;
        self.with_state(|state| state.secrets.insert(number, registered.webhook_secret));
        node.sign_in().await;
        let test = node.test_webhook().await;
        assert!(test.ok, "{test:?}");
        node.open_mailbox().await
    }
}

/// Counts a call that hangs until the relay closes the connection.
struct HangingCall(WebhookServer);

impl HangingCall {
    fn start(server: &WebhookServer) -> Self {
        server.with_state(|state| {
            state.hanging += 1;
            state.hanging_max = state.hanging_max.max(state.hanging);
        });
        Self(server.clone())
    }
}

impl Drop for HangingCall {
    fn drop(&mut self) {
        self.0.with_state(|state| state.hanging -= 1);
    }
}

async fn handle_call(
    State(server): State<WebhookServer>,
    Path(number): Path<usize>,
    body: Bytes,
) -> (StatusCode, Vec<u8>) {
    let json = match serde_json::from_slice(&body).unwrap() {
        WebhookCall::Challenge { challenge, .. } => {
            let secret = server.with_state(|state| state.secrets[&number].clone());
            let response = webhook::respond_to_challenge(&secret, challenge.as_slice());
            serde_json::json!({ "answer": B64(response.to_vec()) })
                .to_string()
                .into_bytes()
        }
        WebhookCall::Deliveries { .. } if number < FAILING_ENDPOINTS => {
            if server.with_state(|state| state.failure_mode) == FailureMode::Hang {
                let _hanging = HangingCall::start(&server);
                std::future::pending::<()>().await;
            }
            server.with_state(|state| state.failed += 1);
            return (StatusCode::BAD_GATEWAY, Vec::new());
        }
        WebhookCall::Deliveries { data, .. } => serde_json::to_vec(&DeliveryResults {
            fence: data.fence,
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

/// Registers all nodes and submits an envelope to each failing one, which is then retried.
async fn fail_all_calls(relay: &Relay, server: &WebhookServer) -> (Node, Vec<Mailbox>) {
    let mut mailboxes = Vec::new();
    let count = FAILING_ENDPOINTS + HEALTHY_ENDPOINTS;
    for from in (0..count).step_by(CONCURRENT_REGISTRATIONS) {
        let numbers = from..(from + CONCURRENT_REGISTRATIONS).min(count);
        mailboxes.extend(join_all(numbers.map(|number| server.register_node(relay, number))).await);
    }
    let healthy = mailboxes.split_off(FAILING_ENDPOINTS);
    let acme = relay.node().await;
    let ids: Vec<_> = acme.submit_to_each(&mailboxes).await;
    wait_for_states(&acme, &ids, EnvelopeState::Retrying).await;
    (acme, healthy)
}

#[tokio::test]
async fn healthy_endpoints_are_served_while_others_hang() {
    let relay = Relay::start().await;
    let server = WebhookServer::listen().await;
    let (acme, healthy) = fail_all_calls(&relay, &server).await;
    assert_eq!(
        server.with_state(|state| state.failed),
        FAILING_ENDPOINTS,
        "each endpoint is called once"
    );

    server.with_state(|state| state.failure_mode = FailureMode::Hang);
    relay.clock.advance(Duration::from_secs(10));
    eventually(|| server.with_state(|state| state.hanging_max) >= FAILING_CALLS_MAX).await;
    let healthy_ids = acme.submit_to_each(&healthy).await;
    wait_for_states(&acme, &healthy_ids, EnvelopeState::Stored).await;
    let max = server.with_state(|state| state.hanging_max);
    // Not `max <= FAILING_CALLS_MAX`: see `FAILING_ENDPOINTS`. Without the limit, all would be
    // called.
    assert!(
        max < FAILING_ENDPOINTS,
        "{max} of {FAILING_ENDPOINTS} failing endpoints were called concurrently"
    );
}
