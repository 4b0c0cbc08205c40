use crate::support::{Hook, Node, Relay, Script, eventually, fills};
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
async fn a_webhook_is_called_once_it_has_answered_its_challenge() {
    let relay = Relay::start().await;
    let hook = Hook::listen().await;
    let (acme, bolt) = (relay.node().await, relay.node_with_webhook(&hook).await);
    let mailbox = bolt.open_mailbox().await;
    let id = acme.post_to(&mailbox, 5).await;
    assert_eq!(account(&bolt).await.webhook_state, WebhookState::Unverified);
    let test = bolt.test_webhook().await;
    assert!(test.ok, "{test:?}");
    let steps: Vec<_> = test.steps.iter().map(|step| step.step.as_str()).collect();
    assert_eq!(steps, ["address", "call", "status", "challenge"]);
    hook.called(1).await;
    assert_eq!(fills(&hook.batches()[0].deliveries), [5]);
    acme.sees(id, EnvelopeState::Stored).await;
    assert_eq!(
        (
            account(&bolt).await.webhook_state,
            account(&bolt).await.backlog
        ),
        (WebhookState::Active, 0)
    );
}

#[tokio::test]
async fn a_webhook_inside_or_with_the_wrong_secret_fails_its_test_with_words() {
    let relay = Relay::start_with(|config| config.egress.allow.clear()).await;
    let hook = Hook::listen().await;
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
            .contains("may not be called")
    );
    assert_eq!(hook.calls(), 0);
}

#[tokio::test]
async fn a_url_that_is_none_is_refused() {
    let relay = Relay::start().await;
    let bolt = relay.node().await;
    for url in ["ftp://a.example/", "https://", "https://a b", "mailto:x@y"] {
        let change = AccountChange {
            delivery: Some(DeliveryMode::Webhook {
                url: url.to_owned(),
            }),
        };
        let reply = bolt
            .key_call(
                Method::PATCH,
                "/v1/account",
                serde_json::to_vec(&change).unwrap(),
            )
            .await;
        assert_eq!(reply.code(), ErrorCode::WebhookInvalid, "{url}");
    }
}

#[tokio::test]
async fn while_a_webhook_is_down_senders_hear_retrying_and_contact_brings_it_back() {
    let relay = Relay::start().await;
    let hook = Hook::listen().await;
    let (acme, bolt) = (relay.node().await, relay.node_with_webhook(&hook).await);
    let mailbox = bolt.open_mailbox().await;
    assert!(bolt.test_webhook().await.ok);
    hook.always(Script::Status(500));
    let id = acme.post_to(&mailbox, 1).await;
    let event = acme.news(id, EnvelopeState::Retrying).await;
    assert_eq!(
        (event.attempts, event.reason.as_deref()),
        (1, Some("the endpoint answered 500"))
    );
    let wait = event.next_attempt_at.unwrap().since(event.at);
    assert!(
        wait >= Duration::from_millis(2_500) && wait <= Duration::from_secs(5),
        "{wait:?}"
    );
    assert_eq!(acme.status(id).await.state, EnvelopeState::Retrying);
    relay.scheduler_looked().await;
    assert_eq!(hook.calls(), 1, "no call before its time");
    hook.always(Script::Store);
    let before = relay.now();
    relay.clock.advance(Duration::from_millis(1_500));
    bolt.get("/v1/account").await;
    acme.sees(id, EnvelopeState::Stored).await;
    assert_eq!(hook.times(), [before, relay.now()]);
}

#[tokio::test]
async fn the_backoff_grows_and_survives_a_restart() {
    let relay = Relay::start().await;
    let hook = Hook::listen().await;
    let (acme, bolt) = (relay.node().await, relay.node_with_webhook(&hook).await);
    let mailbox = bolt.open_mailbox().await;
    assert!(bolt.test_webhook().await.ok);
    hook.always(Script::Status(502));
    let id = acme.post_to(&mailbox, 1).await;
    for attempts in 1..=3 {
        acme.failed_attempts(id, attempts).await;
        relay.clock.advance(Duration::from_secs(41));
    }
    let event = acme.failed_attempts(id, 4).await;
    let next = event.next_attempt_at.unwrap();
    assert!(next.since(event.at) >= Duration::from_secs(20));
    let relay = relay.restart().await;
    hook.always(Script::Store);
    relay.scheduler_looked().await;
    assert_eq!(hook.calls(), 4, "the restart does not forget the backoff");
    relay.clock.set(next);
    acme.sees(id, EnvelopeState::Stored).await;
    assert_eq!((hook.calls(), hook.times().last()), (5, Some(&next)));
}

#[tokio::test]
async fn an_endpoint_that_asks_to_wait_is_left_alone() {
    let relay = Relay::start().await;
    let hook = Hook::listen().await;
    let (acme, bolt) = (relay.node().await, relay.node_with_webhook(&hook).await);
    let mailbox = bolt.open_mailbox().await;
    assert!(bolt.test_webhook().await.ok);
    hook.then(Script::Wait { seconds: 60 });
    hook.then(Script::Later { millis: 30_000 });
    let id = acme.post_to(&mailbox, 1).await;
    let event = acme.news(id, EnvelopeState::Retrying).await;
    assert_eq!(
        event.next_attempt_at.unwrap().since(event.at),
        Duration::from_secs(60)
    );
    bolt.get("/v1/account").await;
    relay.scheduler_looked().await;
    assert_eq!(hook.calls(), 1, "contact does not overrule a wish");
    let begin = relay.now();
    relay.clock.advance(Duration::from_secs(60));
    let event = acme.news(id, EnvelopeState::Retrying).await;
    assert_eq!(
        event.next_attempt_at.unwrap().since(event.at),
        Duration::from_secs(30)
    );
    relay.clock.advance(Duration::from_secs(30));
    acme.sees(id, EnvelopeState::Stored).await;
    assert_eq!(
        hook.times(),
        [0, 60, 90].map(|seconds| begin.plus(Duration::from_secs(seconds)))
    );
}

#[tokio::test]
async fn gone_switches_the_webhook_off_and_the_queue_waits_for_a_pull() {
    let relay = Relay::start().await;
    let hook = Hook::listen().await;
    let (acme, bolt) = (relay.node().await, relay.node_with_webhook(&hook).await);
    let mailbox = bolt.open_mailbox().await;
    assert!(bolt.test_webhook().await.ok);
    hook.always(Script::Status(410));
    let id = acme.post_to(&mailbox, 8).await;
    assert_eq!(
        acme.news(id, EnvelopeState::Retrying).await.next_attempt_at,
        None
    );
    let off = account(&bolt).await;
    assert_eq!(
        (off.webhook_state, off.webhook_reason.as_deref()),
        (WebhookState::Off, Some("the endpoint answered 410"))
    );
    assert_eq!(fills(&bolt.take_all(0).await.deliveries), [8]);
    hook.always(Script::Store);
    assert!(bolt.test_webhook().await.ok);
    let next = acme.post_to(&mailbox, 9).await;
    acme.sees(next, EnvelopeState::Stored).await;
}

/// Has an envelope set aside that makes every call fail: all that waits, it alone three times, and after another one it
/// again.
async fn until_it_is_set_aside(relay: &Relay, sender: &Node, id: EnvelopeId) {
    for attempts in 1..=4 {
        let event = sender.failed_attempts(id, attempts).await;
        relay.clock.set(event.next_attempt_at.unwrap());
    }
    sender.failed_attempts(id, 5).await;
}

const BEHIND: &str = "an earlier envelope of its mailbox is set aside";

#[tokio::test]
async fn an_envelope_that_chokes_the_endpoint_is_set_aside_and_holds_up_only_its_own_mailbox() {
    let relay = Relay::start().await;
    let hook = Hook::listen().await;
    let (mut acme, bolt) = (relay.node().await, relay.node_with_webhook(&hook).await);
    let (sick, sound) = (bolt.open_mailbox().await, bolt.open_mailbox().await);
    hook.always(Script::Choke { fill: 13 });
    let envelopes = [(&sick, 13), (&sick, 1), (&sound, 2)]
        .map(|(mailbox, fill)| acme.envelope(mailbox, fill))
        .to_vec();
    let ids: Vec<_> = envelopes.iter().map(|envelope| envelope.id).collect();
    acme.submit(envelopes).await;
    assert!(bolt.test_webhook().await.ok);
    until_it_is_set_aside(&relay, &acme, ids[0]).await;
    acme.sees(ids[2], EnvelopeState::Stored).await;
    let third = acme.post_to(&sound, 3).await;
    acme.sees(third, EnvelopeState::Stored).await;
    assert_eq!(acme.status(ids[0]).await.state, EnvelopeState::Retrying);
    assert_eq!(acme.status(ids[1]).await.reason.as_deref(), Some(BEHIND));
    let calls = hook.calls();
    hook.always(Script::Store);
    relay.clock.advance(Duration::from_secs(3_600));
    acme.sign_in().await;
    acme.sees(ids[1], EnvelopeState::Stored).await;
    let batches: Vec<_> = hook.batches()[calls..]
        .iter()
        .map(|batch| fills(&batch.deliveries))
        .collect();
    assert_eq!(batches, [[13], [1]]);
}

#[tokio::test]
async fn a_pull_sees_what_is_set_aside_and_what_waits_behind_it_in_order() {
    let relay = Relay::start().await;
    let hook = Hook::listen().await;
    let (acme, bolt) = (relay.node().await, relay.node_with_webhook(&hook).await);
    let (sick, sound) = (bolt.open_mailbox().await, bolt.open_mailbox().await);
    hook.always(Script::Choke { fill: 13 });
    let envelopes = [(&sick, 13), (&sick, 1), (&sound, 2)]
        .map(|(mailbox, fill)| acme.envelope(mailbox, fill))
        .to_vec();
    let ids: Vec<_> = envelopes.iter().map(|envelope| envelope.id).collect();
    acme.submit(envelopes).await;
    assert!(bolt.test_webhook().await.ok);
    until_it_is_set_aside(&relay, &acme, ids[0]).await;
    acme.sees(ids[2], EnvelopeState::Stored).await;
    let batch = bolt.take_all(20).await;
    assert_eq!(fills(&batch.deliveries), [13, 1]);
    for id in [ids[0], ids[1]] {
        assert_eq!(acme.status(id).await.state, EnvelopeState::Stored);
    }
}

#[tokio::test]
async fn news_travels_through_the_senders_own_webhook() {
    let relay = Relay::start().await;
    let hook = Hook::listen().await;
    let (acme, bolt) = (relay.node_with_webhook(&hook).await, relay.node().await);
    assert!(acme.test_webhook().await.ok);
    let mailbox = bolt.open_mailbox().await;
    let id = acme.post_to(&mailbox, 1).await;
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
async fn an_endpoint_that_was_away_gets_everything_in_order_when_it_is_back() {
    let relay = Relay::start().await;
    let mut hook = Hook::listen().await;
    let (acme, bolt) = (relay.node().await, relay.node_with_webhook(&hook).await);
    let mailbox = bolt.open_mailbox().await;
    assert!(bolt.test_webhook().await.ok);
    hook.stop().await;
    let first = acme.post_to(&mailbox, 1).await;
    let event = acme.news(first, EnvelopeState::Retrying).await;
    assert_eq!(
        event.reason.as_deref(),
        Some("the endpoint takes no connection")
    );
    for fill in 2..=5 {
        acme.post_to(&mailbox, fill).await;
    }
    hook.come_back().await;
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
    let came: Vec<_> = hook
        .batches()
        .iter()
        .flat_map(|batch| fills(&batch.deliveries))
        .collect();
    assert_eq!(came, [1, 2, 3, 4, 5]);
    acme.sees(first, EnvelopeState::Stored).await;
}

#[tokio::test]
async fn a_call_that_is_under_way_at_the_end_of_the_relay_is_finished() {
    let relay = Relay::start().await;
    let hook = Hook::listen().await;
    let (acme, bolt) = (relay.node().await, relay.node_with_webhook(&hook).await);
    let mailbox = bolt.open_mailbox().await;
    assert!(bolt.test_webhook().await.ok);
    hook.always(Script::Held);
    let id = acme.post_to(&mailbox, 1).await;
    hook.called(1).await;
    let relay = relay.restart_while(|| hook.release()).await;
    assert_eq!(acme.status(id).await.state, EnvelopeState::Stored);
    assert_eq!(hook.calls(), 1);
    drop(relay);
}

#[tokio::test]
async fn a_call_that_hangs_at_the_end_of_the_relay_is_given_back() {
    let relay = Relay::start().await;
    let hook = Hook::listen().await;
    let (acme, bolt) = (relay.node().await, relay.node_with_webhook(&hook).await);
    let mailbox = bolt.open_mailbox().await;
    assert!(bolt.test_webhook().await.ok);
    hook.always(Script::Held);
    acme.post_to(&mailbox, 1).await;
    hook.called(1).await;
    let folder = relay.stop().await;
    let db = rusqlite::Connection::open(folder.path().join("relay.db")).unwrap();
    let account = bolt.account.unwrap();
    let sql =
        "SELECT json_extract(machine, '$.state'), due_at IS NOT NULL FROM lanes WHERE account = ?";
    let lane: (String, bool) = db
        .query_row(sql, [account.as_bytes()], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })
        .unwrap();
    assert_eq!(lane, ("ready".to_owned(), true));
}
