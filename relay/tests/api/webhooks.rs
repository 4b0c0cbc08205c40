use crate::support::{Node, Relay, TestWebhook, WebhookBehavior, eventually, fills, json};
use http::Method;
use sealpost_proto::{
    EnvelopeId, EnvelopeState, ErrorCode,
    wire::{Account, AccountChange, DeliveryMode, WebhookState},
};
use std::time::Duration;

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
    for url in ["ftp://a.example/", "https://", "https://a b", "mailto:x@y"] {
        let change = AccountChange {
            delivery: Some(DeliveryMode::Webhook {
                url: url.to_owned(),
            }),
        };
        let reply = bolt
            .send_with_key(Method::PATCH, "/v1/account", json(&change))
            .await;
        assert_eq!(reply.code(), ErrorCode::WebhookInvalid, "{url}");
    }
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
async fn backoff_grows_and_survives_restart() {
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
    let (acme, bolt) = (relay.node().await, relay.node_with_webhook(&hook).await);
    let mailbox = bolt.open_mailbox().await;
    assert!(bolt.test_webhook().await.ok);
    hook.always(WebhookBehavior::Status(410));
    let id = acme.submit_one(&mailbox, 8).await;
    assert_eq!(
        acme.wait_for_event(id, EnvelopeState::Retrying)
            .await
            .next_attempt_at,
        None
    );
    let off = account(&bolt).await;
    assert_eq!(
        (off.webhook_state, off.webhook_reason.as_deref()),
        (WebhookState::Off, Some("the endpoint responded with 410"))
    );
    assert_eq!(fills(&bolt.pull_and_store(0).await.deliveries), [8]);
    hook.always(WebhookBehavior::Store);
    assert!(bolt.test_webhook().await.ok);
    let next = acme.submit_one(&mailbox, 9).await;
    acme.wait_for_state(next, EnvelopeState::Stored).await;
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
    let sql = "SELECT json_extract(machine, '$.state'), due_at IS NOT NULL FROM lanes WHERE \
               account_id = ?";
    let lane: (String, bool) = db
        .query_row(sql, [account.as_bytes()], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })
        .unwrap();
    assert_eq!(lane, ("ready".to_owned(), true));
}
