//! A broad outage: many endpoints are dead, and the living do not feel it.

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

/// More than a relay calls at a time, and then as many as may hang up together unnoticed.
const DEAD: usize = FAILING_CALLS_MAX + FAILING_CALLS_MAX / 2 + 20;
const LIVING: usize = 4;

/// What the endpoints of the dead do.
#[derive(Clone, Copy, PartialEq)]
enum Death {
    Refuse,
    Hang,
}

struct Endpoints {
    secrets: HashMap<usize, WebhookSecret>,
    death: Death,
    refused: usize,
    hanging: usize,
    hanging_most: usize,
}

/// The endpoints of everybody: paths of one listener, numbered; the first [`DEAD`] are dead.
#[derive(Clone)]
struct Crowd {
    url: String,
    state: Arc<Mutex<Endpoints>>,
}

impl Crowd {
    async fn listen() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let state = Endpoints {
            secrets: HashMap::new(),
            death: Death::Refuse,
            refused: 0,
            hanging: 0,
            hanging_most: 0,
        };
        let crowd = Self {
            url,
            state: Arc::new(Mutex::new(state)),
        };
        let router = Router::new()
            .route("/{number}", post(answer))
            .with_state(crowd.clone());
        tokio::spawn(sealpost_service::http::serve(
            listener,
            router,
            ListenerLimits::default(),
            Shutdown::new(),
        ));
        crowd
    }

    fn with<T>(&self, look: impl FnOnce(&mut Endpoints) -> T) -> T {
        look(&mut self.state.lock().unwrap())
    }

    /// A node whose webhook is active, and its mailbox.
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

/// Counts a call that hangs for as long as the caller waits.
struct Hanging(Crowd);

impl Hanging {
    fn begin(crowd: &Crowd) -> Self {
        crowd.with(|state| {
            state.hanging += 1;
            state.hanging_most = state.hanging_most.max(state.hanging);
        });
        Self(crowd.clone())
    }
}

impl Drop for Hanging {
    fn drop(&mut self) {
        self.0.with(|state| state.hanging -= 1);
    }
}

async fn answer(
    State(crowd): State<Crowd>,
    Path(number): Path<usize>,
    body: Bytes,
) -> (StatusCode, Vec<u8>) {
    let json = match serde_json::from_slice(&body).unwrap() {
        WebhookCall::Challenge { challenge, .. } => {
            let secret = crowd.with(|state| state.secrets[&number].clone());
            let answer = webhook::answer_challenge(&secret, challenge.as_slice());
            serde_json::json!({ "answer": B64(answer.to_vec()) })
                .to_string()
                .into_bytes()
        }
        WebhookCall::Deliveries { .. } if number < DEAD => {
            if crowd.with(|state| state.death) == Death::Hang {
                let _hanging = Hanging::begin(&crowd);
                std::future::pending::<()>().await;
            }
            crowd.with(|state| state.refused += 1);
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

async fn all_are(sender: &Node, ids: &[EnvelopeId], state: EnvelopeState) {
    for id in ids {
        sender.sees(*id, state).await;
    }
}

#[tokio::test]
async fn while_many_endpoints_hang_the_living_are_served_and_the_dead_are_called_a_few_at_a_time() {
    let relay = Relay::start().await;
    let crowd = Crowd::listen().await;
    let mut mailboxes = Vec::new();
    for from in (0..DEAD + LIVING).step_by(16) {
        let numbers = from..(from + 16).min(DEAD + LIVING);
        mailboxes.extend(join_all(numbers.map(|number| crowd.join(&relay, number))).await);
    }
    let (dead, living) = mailboxes.split_at(DEAD);
    let acme = relay.node().await;
    let lost: Vec<_> = acme.post_to_each(dead).await;
    all_are(&acme, &lost, EnvelopeState::Retrying).await;
    assert_eq!(
        crowd.with(|state| state.refused),
        DEAD,
        "each was called once"
    );

    crowd.with(|state| state.death = Death::Hang);
    relay.clock.advance(Duration::from_secs(10));
    eventually(|| crowd.with(|state| state.hanging_most) >= FAILING_CALLS_MAX).await;
    let good = acme.post_to_each(living).await;
    all_are(&acme, &good, EnvelopeState::Stored).await;
    let most = crowd.with(|state| state.hanging_most);
    // The relay may have hung up before the listener notices.
    assert!(
        most < DEAD,
        "{most} of {DEAD} dead endpoints were called at a time"
    );
}
