//! Webhook with scripted behaviour.

use super::{ReservedAddress, eventually, outcome, stored, within_deadline};
use axum::{
    Router, body::Bytes as Body, extract::State, http::HeaderMap as Headers, routing::post,
};
use http::StatusCode;
use sealpost_proto::{
    B64, Timestamp, WebhookSecret,
    wire::{DeliveryBatch, DeliveryOutcome, DeliveryResults, WebhookCall},
};
use sealpost_service::{Shutdown, http::ListenerLimits};
use sealpost_signatures::webhook;
use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
};
use tokio::{net::TcpListener, sync::Semaphore, task::JoinHandle};

/// Reaction of a webhook to a call.
#[derive(Debug, Clone)]
pub(crate) enum WebhookBehavior {
    Store,
    Status(u16),
    RetryAfter {
        seconds: u64,
    },
    Defer {
        millis: u64,
    },
    /// Stores after the test has released the call.
    Hold,
    /// Responds with a status to calls with more bytes of envelopes, and stores the others.
    RefuseAbove {
        bytes: usize,
        status: u16,
    },
    /// Fails if one of the envelopes is filled with this byte.
    FailOn {
        fill: u8,
    },
}

struct ServerState {
    secret: Option<WebhookSecret>,
    once: VecDeque<WebhookBehavior>,
    always: WebhookBehavior,
    calls: Vec<(Timestamp, DeliveryBatch)>,
}

/// Webhook on loopback.
pub(crate) struct TestWebhook {
    pub(crate) url: String,
    state: Arc<Mutex<ServerState>>,
    /// One permit for each released call.
    release: Arc<Semaphore>,
    address: ReservedAddress,
    shutdown: Shutdown,
    server: JoinHandle<()>,
}

impl TestWebhook {
    pub(crate) async fn listen() -> Self {
        let address = ReservedAddress::new();
        let state = ServerState {
            secret: None,
            once: VecDeque::new(),
            always: WebhookBehavior::Store,
            calls: Vec::new(),
        };
        let (state, release) = (Arc::new(Mutex::new(state)), Arc::new(Semaphore::new(0)));
        let shutdown = Shutdown::new();
        let server = serve(&address, &state, &release, &shutdown).await;
        Self {
            url: format!("http://{}/hook", address.address),
            state,
            release,
            address,
            shutdown,
            server,
        }
    }

    pub(super) fn set_secret(&self, secret: Option<WebhookSecret>) {
        self.state.lock().unwrap().secret = secret;
    }

    /// Closes all connections and stops listening.
    pub(crate) async fn stop(&mut self) {
        self.shutdown.trigger();
        within_deadline(&mut self.server).await.unwrap();
    }

    /// Listens on the same address again.
    pub(crate) async fn listen_again(&mut self) {
        self.shutdown = Shutdown::new();
        self.server = serve(&self.address, &self.state, &self.release, &self.shutdown).await;
    }

    /// Releases one call that is on [hold](WebhookBehavior::Hold).
    pub(crate) fn release(&self) {
        self.release.add_permits(1);
    }

    pub(crate) fn always(&self, behavior: WebhookBehavior) {
        self.state.lock().unwrap().always = behavior;
    }

    pub(crate) fn once(&self, behavior: WebhookBehavior) {
        self.state.lock().unwrap().once.push_back(behavior);
    }

    pub(crate) fn call_count(&self) -> usize {
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

    /// Returns the relay's time of each call.
    pub(crate) fn call_times(&self) -> Vec<Timestamp> {
        self.state
            .lock()
            .unwrap()
            .calls
            .iter()
            .map(|(at, _)| *at)
            .collect()
    }

    /// Waits for the given number of calls. The relay may not have recorded the result of the last
    /// one yet.
    pub(crate) async fn wait_for_calls(&self, calls: usize) {
        eventually(|| self.call_count() >= calls).await;
    }
}

type HandlerState = (Arc<Mutex<ServerState>>, Arc<Semaphore>);

async fn serve(
    address: &ReservedAddress,
    state: &Arc<Mutex<ServerState>>,
    release: &Arc<Semaphore>,
    shutdown: &Shutdown,
) -> JoinHandle<()> {
    let listener = TcpListener::bind(address.address).await.unwrap();
    let router = Router::new()
        .route("/hook", post(handle_call))
        .with_state((Arc::clone(state), Arc::clone(release)));
    tokio::spawn(sealpost_service::http::serve(
        listener,
        router,
        ListenerLimits::default(),
        shutdown.clone(),
    ))
}

async fn handle_call(
    State((state, release)): State<HandlerState>,
    headers: Headers,
    body: Body,
) -> WebhookResponse {
    let (response, is_on_hold) = decide(&mut state.lock().unwrap(), &headers, &body);
    if is_on_hold {
        release.acquire().await.unwrap().forget();
    }
    response
}

type WebhookResponse = (StatusCode, Headers, Vec<u8>);

fn decide(state: &mut ServerState, headers: &Headers, body: &[u8]) -> (WebhookResponse, bool) {
    let secret = state.secret.clone().expect("the node is registered");
    let at: u64 = headers["webhook-timestamp"]
        .to_str()
        .unwrap()
        .parse()
        .unwrap();
    let now = Timestamp::from_millis(at * 1_000);
    webhook::verify_webhook(std::slice::from_ref(&secret), headers, body, now)
        .expect("a valid signature");
    match serde_json::from_slice(body).unwrap() {
        WebhookCall::Challenge { challenge, .. } => {
            let answer = webhook::respond_to_challenge(&secret, challenge.as_slice());
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
            let behavior = state
                .once
                .pop_front()
                .unwrap_or_else(|| state.always.clone());
            state.calls.push((timestamp, data.clone()));
            (
                respond(&behavior, &data),
                matches!(behavior, WebhookBehavior::Hold),
            )
        }
    }
}

fn respond(behavior: &WebhookBehavior, data: &DeliveryBatch) -> WebhookResponse {
    let results = |results| {
        serde_json::to_vec(&DeliveryResults {
            fence: data.fence,
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
    match behavior {
        WebhookBehavior::FailOn { fill }
            if data
                .deliveries
                .iter()
                .any(|delivery| delivery.bytes.0[0] == *fill) =>
        {
            status(500)
        }
        WebhookBehavior::RefuseAbove {
            bytes,
            status: code,
        } if data
            .deliveries
            .iter()
            .map(|item| item.bytes.0.len())
            .sum::<usize>()
            > *bytes =>
        {
            status(*code)
        }
        WebhookBehavior::Store
        | WebhookBehavior::Hold
        | WebhookBehavior::FailOn { .. }
        | WebhookBehavior::RefuseAbove { .. } => {
            (StatusCode::OK, Headers::new(), results(stored(data)))
        }
        WebhookBehavior::Status(code) => status(*code),
        WebhookBehavior::RetryAfter { seconds } => {
            let headers = [(
                http::header::RETRY_AFTER,
                seconds.to_string().parse().unwrap(),
            )]
            .into_iter()
            .collect();
            (StatusCode::SERVICE_UNAVAILABLE, headers, Vec::new())
        }
        WebhookBehavior::Defer { millis } => {
            let later = DeliveryOutcome::Deferred {
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
