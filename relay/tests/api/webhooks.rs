use crate::support::{Node, Relay, TestWebhook, WebhookBehavior, eventually, fills, json};
use futures_util::{StreamExt as _, future::join_all, stream::FuturesUnordered};
use http::Method;
use sealpost_proto::{
    EnvelopeId, EnvelopeState, ErrorCode, Problem,
    limits::{
        CONTACT_RETRY_INTERVAL_MIN, REFUSED_CALLS_MAX, SET_ASIDE_RETRY_INTERVAL,
        WEBHOOK_NODE_PULL_INTERVAL, WEBHOOK_TESTS_PER_SERVER_MAX, WEBHOOK_TIMEOUT,
    },
    wire::{Account, AccountChange, DeliveryMode, WebhookState},
};
use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};
use tokio::net::{TcpListener, TcpSocket};

async fn account(node: &Node) -> Account {
    node.get("/v1/account").await.ok()
}

#[tokio::test]
async fn webhook_is_called_after_passing_its_test() {
    let relay = Relay::start().await;
    let hook = TestWebhook::listen().await;
    let (acme, bolt) = (relay.node().await, relay.node_with_webhook(&hook).await);
    let mailbox = bolt.open_mailbox().await;
    let id = acme.submit_one(&mailbox, 5).await;
    assert_eq!(account(&bolt).await.webhook_state, WebhookState::Unverified);
    let test = bolt.test_webhook().await;
    assert!(test.ok, "{test:?}");
    let steps: Vec<_> = test.steps.iter().map(|step| step.step.as_str()).collect();
    assert_eq!(steps, ["address", "call", "status", "challenge"]);
    hook.wait_for_calls(1).await;
    assert_eq!(fills(&hook.batches()[0].deliveries), [5]);
    acme.wait_for_state(id, EnvelopeState::Stored).await;
    assert_eq!(
        (
            account(&bolt).await.webhook_state,
            account(&bolt).await.backlog
        ),
        (WebhookState::Active, 0)
    );
}

#[tokio::test]
async fn webhook_at_private_address_fails_its_test() {
    let relay = Relay::start_with(|config| config.egress.allow.clear()).await;
    let hook = TestWebhook::listen().await;
    let bolt = relay.node_with_webhook(&hook).await;
    let test = bolt.test_webhook().await;
    assert!(
        !test.ok && test.steps[0].step == "address" && test.steps[0].detail.contains("127.0.0.1"),
        "{test:?}"
    );
    assert!(
        account(&bolt)
            .await
            .webhook_reason
            .unwrap()
            .contains("is not allowed")
    );
    assert_eq!(hook.call_count(), 0);
}

#[tokio::test]
async fn invalid_webhook_urls_are_refused() {
    let relay = Relay::start().await;
    let bolt = relay.node().await;
    for url in [
        "ftp://a.example/",
        "https://",
        "https://a b",
        "mailto:x@y",
        "https://user:hunter2@a.example/",
        "https://a.example/#fragment",
        "https://a.example:0/",
    ] {
        let change = AccountChange {
            delivery: Some(DeliveryMode::Webhook {
                url: url.to_owned(),
            }),
        };
        let reply = bolt
            .send_with_key(Method::PATCH, "/v1/account", json(&change))
            .await;
        assert_eq!(reply.code(), ErrorCode::WebhookInvalid, "{url}");
        let problem: Problem = reply.json();
        assert!(!problem.to_string().contains("hunter2"), "{problem}");
    }
}

/// Listener that accepts connections and never responds, and counts those that are open.
struct SilentEndpoint {
    address: SocketAddr,
    open: Arc<AtomicUsize>,
    peak: Arc<AtomicUsize>,
}

impl SilentEndpoint {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (open, peak) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
        let counts = (Arc::clone(&open), Arc::clone(&peak));
        tokio::spawn(async move {
            while let Ok((mut socket, _)) = listener.accept().await {
                let (open, peak) = counts.clone();
                peak.fetch_max(open.fetch_add(1, SeqCst) + 1, SeqCst);
                tokio::spawn(async move {
                    let _ = tokio::io::copy(&mut socket, &mut tokio::io::sink()).await;
                    open.fetch_sub(1, SeqCst);
                });
            }
        });
        Self {
            address,
            open,
            peak,
        }
    }

    /// Registers an account whose webhook is a URL of this endpoint.
    async fn account(&self, relay: &Relay) -> Node {
        let mut node = Node::new(relay);
        let url = format!("http://{}/", self.address);
        node.register(DeliveryMode::Webhook { url }).await;
        node.sign_in().await;
        node
    }
}

#[tokio::test]
async fn failed_tests_have_same_text_and_duration() {
    let relay = Relay::start().await;
    let silent = SilentEndpoint::start().await;
    // Bound, so that no other process gets the port, but not listening.
    let closed = TcpSocket::new_v4().unwrap();
    closed.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let mut nodes = vec![silent.account(&relay).await];
    for scheme in ["http", "https"] {
        let mut node = Node::new(&relay);
        let url = format!("{scheme}://{}/", closed.local_addr().unwrap());
        node.register(DeliveryMode::Webhook { url }).await;
        node.sign_in().await;
        nodes.push(node);
    }
    let tests = join_all(nodes.iter().map(Node::test_webhook)).await;
    for test in &tests {
        assert_eq!(test.steps, tests[0].steps);
        assert!(!test.ok && test.steps[1].step == "call");
        assert!(Duration::from_millis(test.elapsed_ms) >= WEBHOOK_TIMEOUT);
    }
    let reason = account(&nodes[0]).await.webhook_reason;
    assert_eq!(account(&nodes[1]).await.webhook_reason, reason);
}

#[tokio::test]
async fn disconnecting_does_not_end_a_test() {
    let relay = Relay::start().await;
    let silent = SilentEndpoint::start().await;
    let bolt = silent.account(&relay).await;
    let target = "/v1/account/webhook-test";
    tokio::select! {
        reply = bolt.send_with_key(Method::POST, target, "") => panic!("{reply:?}"),
        () = eventually(|| silent.open.load(SeqCst) == 1) => {}
    }
    let second = bolt.send_with_key(Method::POST, target, "").await;
    assert_eq!(second.code(), ErrorCode::RateLimited);
    assert_eq!(silent.peak.load(SeqCst), 1);
}

#[tokio::test]
async fn tests_of_one_server_are_limited() {
    let relay = Relay::start().await;
    let silent = SilentEndpoint::start().await;
    let mut nodes = Vec::new();
    for _ in 0..20 {
        nodes.push(silent.account(&relay).await);
    }
    let target = "/v1/account/webhook-test";
    let tests = nodes
        .iter()
        .map(|node| node.send_with_key(Method::POST, target, ""));
    let mut tests: FuturesUnordered<_> = tests.collect();
    // Either a test finds no slot, or all of them run.
    while let Some(reply) = tests.next().await {
        if !reply.status.is_success() {
            assert_eq!(reply.code(), ErrorCode::Overloaded);
            break;
        }
    }
    // The endpoint can learn of the end of a test after the start of the one that replaces it.
    let peak = silent.peak.load(SeqCst);
    let limit = WEBHOOK_TESTS_PER_SERVER_MAX as usize;
    assert!((limit..=2 * limit).contains(&peak), "{peak}");
    let hook = TestWebhook::listen().await;
    let bolt = relay.node_with_webhook(&hook).await;
    assert!(bolt.test_webhook().await.ok);
}

#[tokio::test]
async fn contact_ends_the_backoff() {
    let relay = Relay::start().await;
    let hook = TestWebhook::listen().await;
    let (acme, bolt) = (relay.node().await, relay.node_with_webhook(&hook).await);
    let mailbox = bolt.open_mailbox().await;
    assert!(bolt.test_webhook().await.ok);
    hook.always(WebhookBehavior::Status(500));
    let id = acme.submit_one(&mailbox, 1).await;
    let event = acme.wait_for_event(id, EnvelopeState::Retrying).await;
    assert_eq!(
        (event.attempts, event.reason.as_deref()),
        (1, Some("the endpoint responded with 500"))
    );
    let wait = event.next_attempt_at.unwrap().since(event.at);
    assert!(
        wait >= Duration::from_millis(2_500) && wait <= Duration::from_secs(5),
        "{wait:?}"
    );
    assert_eq!(acme.status(id).await.state, EnvelopeState::Retrying);
    relay.wait_for_scheduler_pass().await;
    assert_eq!(hook.call_count(), 1, "not called before the backoff ends");
    hook.always(WebhookBehavior::Store);
    let before = relay.now();
    relay.clock.advance(Duration::from_millis(1_500));
    bolt.get("/v1/account").await;
    acme.wait_for_state(id, EnvelopeState::Stored).await;
    assert_eq!(hook.call_times(), [before, relay.now()]);
}

#[tokio::test]
async fn growing_backoff_survives_restart() {
    let relay = Relay::start().await;
    let hook = TestWebhook::listen().await;
    let (acme, bolt) = (relay.node().await, relay.node_with_webhook(&hook).await);
    let mailbox = bolt.open_mailbox().await;
    assert!(bolt.test_webhook().await.ok);
    hook.always(WebhookBehavior::Status(502));
    let id = acme.submit_one(&mailbox, 1).await;
    for attempts in 1..=3 {
        acme.wait_for_failed_attempt(id, attempts).await;
        relay.clock.advance(Duration::from_secs(41));
    }
    let event = acme.wait_for_failed_attempt(id, 4).await;
    let next = event.next_attempt_at.unwrap();
    assert!(next.since(event.at) >= Duration::from_secs(20));
    let relay = relay.restart().await;
    hook.always(WebhookBehavior::Store);
    relay.wait_for_scheduler_pass().await;
    assert_eq!(hook.call_count(), 4, "the restart preserves the backoff");
    relay.clock.set(next);
    acme.wait_for_state(id, EnvelopeState::Stored).await;
    assert_eq!(
        (hook.call_count(), hook.call_times().last()),
        (5, Some(&next))
    );
}

#[tokio::test]
async fn retry_after_is_honoured() {
    let relay = Relay::start().await;
    let hook = TestWebhook::listen().await;
    let (acme, bolt) = (relay.node().await, relay.node_with_webhook(&hook).await);
    let mailbox = bolt.open_mailbox().await;
    assert!(bolt.test_webhook().await.ok);
    hook.once(WebhookBehavior::RetryAfter { seconds: 60 });
    hook.once(WebhookBehavior::Defer { millis: 30_000 });
    let id = acme.submit_one(&mailbox, 1).await;
    let event = acme.wait_for_event(id, EnvelopeState::Retrying).await;
    assert_eq!(
        event.next_attempt_at.unwrap().since(event.at),
        Duration::from_secs(60)
    );
    bolt.get("/v1/account").await;
    relay.wait_for_scheduler_pass().await;
    assert_eq!(
        hook.call_count(),
        1,
        "contact does not override Retry-After"
    );
    let start = relay.now();
    relay.clock.advance(Duration::from_secs(60));
    let event = acme.wait_for_event(id, EnvelopeState::Retrying).await;
    assert_eq!(
        event.next_attempt_at.unwrap().since(event.at),
        Duration::from_secs(30)
    );
    relay.clock.advance(Duration::from_secs(30));
    acme.wait_for_state(id, EnvelopeState::Stored).await;
    assert_eq!(
        hook.call_times(),
        [0, 60, 90].map(|seconds| start.plus(Duration::from_secs(seconds)))
    );
}

#[tokio::test]
async fn status_410_turns_the_webhook_off() {
    let relay = Relay::start().await;
    let hook = TestWebhook::listen().await;
    let (acme, mut bolt) = (relay.node().await, relay.node_with_webhook(&hook).await);
    let mailbox = bolt.open_mailbox().await;
    assert!(bolt.test_webhook().await.ok);
    hook.always(WebhookBehavior::Status(410));
    let id = acme.submit_one(&mailbox, 8).await;
    let event = acme.wait_for_event(id, EnvelopeState::Retrying).await;
    assert_eq!(
        event.next_attempt_at,
        Some(event.at.plus(WEBHOOK_NODE_PULL_INTERVAL)),
        "the node pulls by then"
    );
    let off = account(&bolt).await;
    assert_eq!(
        (off.webhook_state, off.webhook_reason.as_deref()),
        (WebhookState::Off, Some("the endpoint responded with 410"))
    );
    let pulled = bolt.pull_and_store(0).await;
    assert_eq!(fills(&pulled.deliveries), [8]);
    assert_eq!(pulled.webhook, Some(WebhookState::Off));
    assert_eq!(bolt.pull(0).await.webhook, Some(WebhookState::Off));
    assert_eq!(bolt.sign_in().await.webhook, Some(WebhookState::Off));
    hook.always(WebhookBehavior::Store);
    assert!(bolt.test_webhook().await.ok);
    assert_eq!(bolt.pull(0).await.webhook, Some(WebhookState::Active));
    assert_eq!(bolt.sign_in().await.webhook, Some(WebhookState::Active));
    assert_eq!(acme.pull(0).await.webhook, Some(WebhookState::None));
    let next = acme.submit_one(&mailbox, 9).await;
    acme.wait_for_state(next, EnvelopeState::Stored).await;
}

#[tokio::test]
async fn burst_of_refusals_leaves_the_webhook_active() {
    let relay = Relay::start().await;
    let hook = TestWebhook::listen().await;
    let (acme, bolt) = (relay.node().await, relay.node_with_webhook(&hook).await);
    let mailbox = bolt.open_mailbox().await;
    assert!(bolt.test_webhook().await.ok);
    hook.always(WebhookBehavior::Status(404));
    let id = acme.submit_one(&mailbox, 8).await;
    for attempts in 1..=REFUSED_CALLS_MAX {
        acme.wait_for_failed_attempt(id, attempts).await;
        relay.clock.advance(CONTACT_RETRY_INTERVAL_MIN);
        bolt.get("/v1/account").await;
    }
    acme.wait_for_failed_attempt(id, REFUSED_CALLS_MAX + 1)
        .await;
    assert_eq!(account(&bolt).await.webhook_state, WebhookState::Active);
    hook.always(WebhookBehavior::Store);
    relay.clock.advance(CONTACT_RETRY_INTERVAL_MIN);
    bolt.get("/v1/account").await;
    acme.wait_for_state(id, EnvelopeState::Stored).await;
}

#[tokio::test]
async fn batches_shrink_to_what_a_proxy_accepts() {
    const ENVELOPES: usize = 200;
    let relay = Relay::start().await;
    let hook = TestWebhook::listen().await;
    let (acme, bolt) = (relay.node().await, relay.node_with_webhook(&hook).await);
    let mailbox = bolt.open_mailbox().await;
    let envelopes: Vec<_> = (0..ENVELOPES)
        .map(|_| acme.new_envelope(&mailbox, 7))
        .collect();
    let bytes = envelopes[0].bytes.0.len();
    let last = envelopes[ENVELOPES - 1].id;
    for chunk in envelopes.chunks(100) {
        acme.submit(chunk.to_vec()).await;
    }
    hook.always(WebhookBehavior::RefuseAbove {
        bytes: 10 * bytes,
        status: 413,
    });
    assert!(bolt.test_webhook().await.ok);
    acme.wait_for_state(last, EnvelopeState::Stored).await;
    let refused = hook
        .batches()
        .iter()
        .filter(|batch| batch.deliveries.len() > 10)
        .count();
    assert!((1..=4).contains(&refused), "{refused}");
    assert!(hook.call_count() <= 30 + refused, "{}", hook.call_count());
    assert_eq!(acme.status(last).await.attempts, 0, "no attempt has failed");
}

#[tokio::test]
async fn envelope_beyond_the_limit_is_set_aside() {
    let relay = Relay::start().await;
    let hook = TestWebhook::listen().await;
    let (acme, bolt) = (relay.node().await, relay.node_with_webhook(&hook).await);
    let mailbox = bolt.open_mailbox().await;
    assert!(bolt.test_webhook().await.ok);
    hook.always(WebhookBehavior::RefuseAbove {
        bytes: 0,
        status: 413,
    });
    let id = acme.submit_one(&mailbox, 8).await;
    let event = acme.wait_for_failed_attempt(id, 1).await;
    assert_eq!(
        event.next_attempt_at,
        Some(event.at.plus(SET_ASIDE_RETRY_INTERVAL))
    );
    relay.clock.advance(Duration::from_secs(60));
    relay.wait_for_scheduler_pass().await;
    assert_eq!(hook.call_count(), 1);
    assert_eq!(fills(&bolt.pull_and_store(0).await.deliveries), [8]);
    acme.wait_for_state(id, EnvelopeState::Stored).await;
}

/// Runs the attempts after which a poison envelope is set aside: all envelopes together, it alone
/// three times, another one, and it again.
async fn fail_until_set_aside(relay: &Relay, sender: &Node, id: EnvelopeId) {
    for attempts in 1..=4 {
        let event = sender.wait_for_failed_attempt(id, attempts).await;
        relay.clock.set(event.next_attempt_at.unwrap());
    }
    sender.wait_for_failed_attempt(id, 5).await;
}

const HELD_REASON: &str = "an earlier envelope of its mailbox is set aside";

#[tokio::test]
async fn poison_envelope_holds_only_its_own_mailbox() {
    let relay = Relay::start().await;
    let hook = TestWebhook::listen().await;
    let (mut acme, bolt) = (relay.node().await, relay.node_with_webhook(&hook).await);
    let (poisoned, healthy) = (bolt.open_mailbox().await, bolt.open_mailbox().await);
    hook.always(WebhookBehavior::FailOn { fill: 13 });
    let envelopes = [(&poisoned, 13), (&poisoned, 1), (&healthy, 2)]
        .map(|(mailbox, fill)| acme.new_envelope(mailbox, fill))
        .to_vec();
    let ids: Vec<_> = envelopes.iter().map(|envelope| envelope.id).collect();
    acme.submit(envelopes).await;
    assert!(bolt.test_webhook().await.ok);
    fail_until_set_aside(&relay, &acme, ids[0]).await;
    acme.wait_for_state(ids[2], EnvelopeState::Stored).await;
    let third = acme.submit_one(&healthy, 3).await;
    acme.wait_for_state(third, EnvelopeState::Stored).await;
    assert_eq!(acme.status(ids[0]).await.state, EnvelopeState::Retrying);
    assert_eq!(
        acme.status(ids[1]).await.reason.as_deref(),
        Some(HELD_REASON)
    );
    let calls = hook.call_count();
    hook.always(WebhookBehavior::Store);
    relay.clock.advance(Duration::from_secs(3_600));
    acme.sign_in().await;
    acme.wait_for_state(ids[1], EnvelopeState::Stored).await;
    let batches: Vec<_> = hook.batches()[calls..]
        .iter()
        .map(|batch| fills(&batch.deliveries))
        .collect();
    assert_eq!(batches, [[13], [1]]);
}

#[tokio::test]
async fn pull_returns_set_aside_and_held_envelopes() {
    let relay = Relay::start().await;
    let hook = TestWebhook::listen().await;
    let (acme, bolt) = (relay.node().await, relay.node_with_webhook(&hook).await);
    let (poisoned, healthy) = (bolt.open_mailbox().await, bolt.open_mailbox().await);
    hook.always(WebhookBehavior::FailOn { fill: 13 });
    let envelopes = [(&poisoned, 13), (&poisoned, 1), (&healthy, 2)]
        .map(|(mailbox, fill)| acme.new_envelope(mailbox, fill))
        .to_vec();
    let ids: Vec<_> = envelopes.iter().map(|envelope| envelope.id).collect();
    acme.submit(envelopes).await;
    assert!(bolt.test_webhook().await.ok);
    fail_until_set_aside(&relay, &acme, ids[0]).await;
    acme.wait_for_state(ids[2], EnvelopeState::Stored).await;
    let batch = bolt.pull_and_store(20).await;
    assert_eq!(fills(&batch.deliveries), [13, 1]);
    for id in [ids[0], ids[1]] {
        assert_eq!(acme.status(id).await.state, EnvelopeState::Stored);
    }
}

#[tokio::test]
async fn events_are_delivered_by_webhook() {
    let relay = Relay::start().await;
    let hook = TestWebhook::listen().await;
    let (acme, bolt) = (relay.node_with_webhook(&hook).await, relay.node().await);
    assert!(acme.test_webhook().await.ok);
    let mailbox = bolt.open_mailbox().await;
    let id = acme.submit_one(&mailbox, 1).await;
    bolt.close_mailbox(&mailbox).await;
    eventually(|| {
        let events = hook.batches().into_iter().flat_map(|batch| batch.events);
        events
            .into_iter()
            .any(|event| event.envelope == id && event.state == EnvelopeState::Failed)
    })
    .await;
}

#[tokio::test]
async fn order_is_preserved_after_an_outage() {
    let relay = Relay::start().await;
    let mut hook = TestWebhook::listen().await;
    let (acme, bolt) = (relay.node().await, relay.node_with_webhook(&hook).await);
    let mailbox = bolt.open_mailbox().await;
    assert!(bolt.test_webhook().await.ok);
    hook.stop().await;
    let first = acme.submit_one(&mailbox, 1).await;
    let event = acme.wait_for_event(first, EnvelopeState::Retrying).await;
    assert_eq!(
        event.reason.as_deref(),
        Some("the endpoint accepts no connection")
    );
    for fill in 2..=5 {
        acme.submit_one(&mailbox, fill).await;
    }
    hook.listen_again().await;
    relay.clock.advance(Duration::from_secs(1));
    bolt.get("/v1/account").await;
    eventually(|| {
        hook.batches()
            .iter()
            .map(|batch| batch.deliveries.len())
            .sum::<usize>()
            >= 5
    })
    .await;
    let delivered: Vec<_> = hook
        .batches()
        .iter()
        .flat_map(|batch| fills(&batch.deliveries))
        .collect();
    assert_eq!(delivered, [1, 2, 3, 4, 5]);
    acme.wait_for_state(first, EnvelopeState::Stored).await;
}

#[tokio::test]
async fn shutdown_waits_for_webhook_calls() {
    let relay = Relay::start().await;
    let hook = TestWebhook::listen().await;
    let (acme, bolt) = (relay.node().await, relay.node_with_webhook(&hook).await);
    let mailbox = bolt.open_mailbox().await;
    assert!(bolt.test_webhook().await.ok);
    hook.always(WebhookBehavior::Hold);
    let id = acme.submit_one(&mailbox, 1).await;
    hook.wait_for_calls(1).await;
    let relay = relay.restart_while(|| hook.release()).await;
    assert_eq!(acme.status(id).await.state, EnvelopeState::Stored);
    assert_eq!(hook.call_count(), 1);
    drop(relay);
}

#[tokio::test]
async fn shutdown_releases_the_lease_of_hanging_calls() {
    let relay = Relay::start().await;
    let hook = TestWebhook::listen().await;
    let (acme, bolt) = (relay.node().await, relay.node_with_webhook(&hook).await);
    let mailbox = bolt.open_mailbox().await;
    assert!(bolt.test_webhook().await.ok);
    hook.always(WebhookBehavior::Hold);
    acme.submit_one(&mailbox, 1).await;
    hook.wait_for_calls(1).await;
    let directory = relay.stop().await;
    let db = rusqlite::Connection::open(directory.path().join("relay.db")).unwrap();
    let account = bolt.account.unwrap();
    let sql = "SELECT json_extract(lane_state, '$.state'), due_at IS NOT NULL FROM lanes WHERE \
               account_id = ?";
    let lane: (String, bool) = db
        .query_row(sql, [account.as_bytes()], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })
        .unwrap();
    assert_eq!(lane, ("ready".to_owned(), true));
}
