use crate::{
    admin::{AdminClient, account, signed_in_again},
    support::{Relay, TestWebhook, WebhookBehavior},
};
use http::Method;
use sealpost_proto::{EnvelopeState, ErrorCode, limits::ADMIN_BATCH_ROWS_MAX};
use serde_json::{Value, json};
use std::time::Duration;

#[tokio::test]
async fn queues_are_listed_by_age() {
    let relay = Relay::start().await;
    let hook = TestWebhook::listen().await;
    let acme = relay.node().await;
    let nodes = [
        relay.node().await,
        relay.node_with_webhook(&hook).await,
        relay.node().await,
    ];
    let admin = AdminClient::new(&relay);
    assert!(nodes[1].test_webhook().await.ok);
    hook.always(WebhookBehavior::Status(500));
    let mut ids = Vec::new();
    for (node, fill) in nodes.iter().zip([0xa1, 0xa2, 0xa3]) {
        let mailbox = node.open_mailbox().await;
        ids.push(acme.submit_one(&mailbox, fill).await);
        acme.submit_one(&mailbox, fill).await;
        relay.clock.advance(Duration::from_millis(100));
    }
    admin
        .wait_for_lane(&nodes[1], |lane| lane["state"] == "backing_off")
        .await;
    let (mut seen, mut after) = (Vec::new(), String::new());
    loop {
        let page = admin.get(&format!("/admin/v1/queues?limit=1{after}")).await;
        seen.extend(page["queues"].as_array().unwrap().clone());
        let Some(next) = page["next"].as_str() else {
            break;
        };
        after = format!("&after={next}");
    }
    let senders = account(&acme).to_string();
    let (events, seen): (Vec<_>, Vec<_>) = seen
        .into_iter()
        .partition(|queue| queue["account_id"] == *senders);
    let found: Vec<_> = seen
        .iter()
        .map(|queue| queue["account_id"].as_str().unwrap())
        .collect();
    assert_eq!(
        found,
        nodes.each_ref().map(|node| account(node).to_string())
    );
    assert_eq!(events.len(), 1, "the sender has a queued event");
    let failing = admin.get("/admin/v1/queues?failing=true").await;
    let failing = failing["queues"].as_array().unwrap();
    assert_eq!(
        (failing.len(), &failing[0]["account_id"]),
        (1, &seen[1]["account_id"])
    );
    assert_eq!(
        (&failing[0]["reason"], &failing[0]["failures"]),
        (&json!("the endpoint responded with 500"), &json!(1))
    );
    assert!(failing[0]["next_attempt_at"].as_u64().unwrap() > relay.now().as_millis());

    let shown = admin
        .get(&format!("/admin/v1/queues/{}?limit=1", account(&nodes[1])))
        .await;
    let item = &shown["items"][0];
    assert_eq!(
        (&item["kind"], &item["size_bytes"], &item["attempts"]),
        (&json!("envelope"), &json!(2_048), &json!(1))
    );
    assert_eq!(item["envelope_id"], ids[1].to_string());
    let next = shown["next"].as_u64().unwrap();
    let rest = admin
        .get(&format!(
            "/admin/v1/queues/{}?after={next}",
            account(&nodes[1])
        ))
        .await;
    assert_eq!(
        (rest["items"].as_array().unwrap().len(), &rest["next"]),
        (1, &Value::Null)
    );
    let sealed = sealpost_proto::b64::encode(&[0xa2; 30]);
    assert!(!rest.to_string().contains(&sealed) && rest["items"][0].get("bytes").is_none());
    let events = admin
        .get(&format!("/admin/v1/queues/{}", account(&acme)))
        .await;
    assert_eq!(
        (&events["items"][0]["kind"], &events["items"][0]["state"]),
        (&json!("event"), &json!("retrying"))
    );
}

#[tokio::test]
async fn retry_ends_the_backoff() {
    for all in [false, true] {
        let relay = Relay::start().await;
        let hook = TestWebhook::listen().await;
        let (acme, bolt) = (relay.node().await, relay.node_with_webhook(&hook).await);
        let admin = AdminClient::new(&relay);
        let mailbox = bolt.open_mailbox().await;
        assert!(bolt.test_webhook().await.ok);
        hook.always(WebhookBehavior::Status(500));
        let id = acme.submit_one(&mailbox, 1).await;
        admin
            .wait_for_lane(&bolt, |lane| lane["state"] == "backing_off")
            .await;
        hook.always(WebhookBehavior::Store);
        // Shorter than any backoff, but at least the interval between calls.
        relay.clock.advance(Duration::from_secs(1));
        let target = if all {
            "retry".to_owned()
        } else {
            format!("{}/retry", account(&bolt))
        };
        let retried = admin.post(&format!("/admin/v1/queues/{target}")).await;
        assert_eq!(
            retried["queues"],
            1 + u64::from(all),
            "all: {all}; the sender's queue has an event"
        );
        acme.wait_for_state(id, EnvelopeState::Stored).await;
    }
}

#[tokio::test]
async fn retry_includes_set_aside_envelopes() {
    let relay = Relay::start().await;
    let hook = TestWebhook::listen().await;
    let (acme, bolt) = (relay.node().await, relay.node_with_webhook(&hook).await);
    let admin = AdminClient::new(&relay);
    let (mailbox, other) = (bolt.open_mailbox().await, bolt.open_mailbox().await);
    hook.always(WebhookBehavior::FailOn { fill: 13 });
    let envelopes = vec![
        acme.new_envelope(&mailbox, 13),
        acme.new_envelope(&other, 1),
        acme.new_envelope(&other, 2),
    ];
    let ids: Vec<_> = envelopes.iter().map(|envelope| envelope.id).collect();
    acme.submit(envelopes).await;
    assert!(bolt.test_webhook().await.ok);
    let is_aside = |lane: &Value| {
        let items = lane["items"].as_array().unwrap();
        relay.clock.advance(Duration::from_secs(45));
        items.len() == 1 && items[0].get("set_aside_until").is_some()
    };
    admin.wait_for_lane(&bolt, is_aside).await;
    hook.always(WebhookBehavior::Store);
    let retried = admin
        .post(&format!("/admin/v1/queues/{}/retry", account(&bolt)))
        .await;
    assert_eq!(retried["set_aside"], 1);
    signed_in_again(&relay, &acme)
        .await
        .wait_for_state(ids[0], EnvelopeState::Stored)
        .await;
}

#[tokio::test]
async fn dropped_envelope_notifies_its_sender() {
    let relay = Relay::start().await;
    let (acme, bolt) = (relay.node().await, relay.node().await);
    let admin = AdminClient::new(&relay);
    let mailbox = bolt.open_mailbox().await;
    let (first, second) = (
        acme.submit_one(&mailbox, 1).await,
        acme.submit_one(&mailbox, 2).await,
    );
    let dropped = admin
        .call(
            Method::DELETE,
            &format!("/admin/v1/envelopes/{first}"),
            Value::Null,
        )
        .await;
    assert_eq!(dropped.ok::<Value>(), json!({"dropped": 1}));
    let event = acme.wait_for_event(first, EnvelopeState::Failed).await;
    assert_eq!(event.reason.as_deref(), Some("dropped_by_operator"));
    let again = admin
        .call(
            Method::DELETE,
            &format!("/admin/v1/envelopes/{first}"),
            Value::Null,
        )
        .await;
    assert_eq!(again.code(), ErrorCode::NotFound, "it has failed already");
    let batch = bolt.pull_and_store(0).await;
    assert_eq!(
        batch
            .deliveries
            .iter()
            .map(|delivery| delivery.envelope)
            .collect::<Vec<_>>(),
        [second]
    );
}

#[tokio::test]
async fn long_queue_is_dropped_in_steps() {
    let relay = Relay::start().await;
    let (acme, bolt) = (relay.node().await, relay.node().await);
    let admin = AdminClient::new(&relay);
    let mailbox = bolt.open_mailbox().await;
    for _ in 0..2 {
        acme.submit((0..100).map(|_| acme.new_envelope(&mailbox, 1)).collect())
            .await;
    }
    let target = format!("/admin/v1/queues/{}", account(&bolt));
    let first: Value = admin.call(Method::DELETE, &target, Value::Null).await.ok();
    assert_eq!(first["dropped"], ADMIN_BATCH_ROWS_MAX);
    let late = acme.submit_one(&mailbox, 2).await;
    let rest = format!("{target}?up_to={}", first["up_to"]);
    let second: Value = admin.call(Method::DELETE, &rest, Value::Null).await.ok();
    assert_eq!(second, json!({"dropped": 200 - ADMIN_BATCH_ROWS_MAX}));
    let shown = admin.get(&target).await;
    assert_eq!(
        (&shown["waiting"], &shown["items"][0]["envelope_id"]),
        (&json!(1), &json!(late))
    );
    let events = admin
        .get(&format!("/admin/v1/queues/{}", account(&acme)))
        .await;
    assert_eq!(
        events["waiting"], 200,
        "the sender of every envelope is notified"
    );
}
