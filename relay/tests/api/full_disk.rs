//! Full disk: the relay refuses new data, finishes accepted work, and recovers without a restart.

#[path = "../../../tests/e2e/tests/support/disk.rs"]
mod disk;

use crate::support::{Mailbox, Node, Relay, Reply, eventually_some, fills, json, stored};
use disk::SmallDisk;
use http::{Method, StatusCode};
use sealpost_proto::{
    B64, BlobId, EnvelopeId, EnvelopeState, ErrorCode, MailboxId, SendKey,
    wire::{CreateBlob, DeliveryMode, SealedPrekeys, SubmitRequest},
};
use sealpost_service::{config::ByteSize, random_array};
use std::time::Duration;

async fn fetch_readiness(node: &Node) -> Reply {
    node.send(node.unsigned_request(Method::GET, "/readyz", ""))
        .await
}

/// Waits until `/readyz` reports this readiness.
async fn wait_for_readiness(node: &Node, ready: bool) {
    eventually_some(async || {
        (fetch_readiness(node).await.status.is_success() == ready).then_some(())
    })
    .await;
}

fn create_blob(relay: &Relay) -> CreateBlob {
    CreateBlob {
        id: BlobId::from_bytes(random_array()),
        size_bytes: 100_000,
        fetch_token_hash: B64(vec![1; 32]),
        expires_at: relay.now().plus(Duration::from_secs(86_400)),
    }
}

fn part(node: &Node, blob: BlobId) -> http::Request<http_body_util::Full<bytes::Bytes>> {
    node.session_request(
        Method::PUT,
        &format!("/v1/blobs/{blob}/parts/0"),
        vec![7; 100_000],
    )
}

/// Sends one request of each kind that stores new data.
async fn send_new_work(relay: &Relay, node: &Node, blob: BlobId, mailbox: &Mailbox) -> Vec<Reply> {
    let new_mailbox = MailboxId::from_bytes(random_array());
    let send_keys = vec![SendKey::from_bytes([1; 32])];
    let prekeys = json(&SealedPrekeys {
        sealed: B64(vec![9; 2_048]),
    });
    vec![
        node.post(
            "/v1/envelopes",
            &SubmitRequest {
                envelopes: vec![node.new_envelope(mailbox, 1)],
            },
        )
        .await,
        node.post("/v1/blobs", &create_blob(relay)).await,
        node.send(part(node, blob)).await,
        node.put_mailbox(new_mailbox, send_keys).await,
        node.send_with_key(
            Method::PUT,
            &format!("/v1/mailboxes/{}/prekeys", mailbox.id),
            prekeys,
        )
        .await,
        Node::new(relay)
            .try_register(DeliveryMode::Pull, None)
            .await,
    ]
}

fn assert_all_refused(replies: &[Reply]) {
    for (number, reply) in replies.iter().enumerate() {
        assert_eq!(
            reply.status,
            StatusCode::INSUFFICIENT_STORAGE,
            "{number}: {reply:?}"
        );
        assert_eq!(reply.code(), ErrorCode::StorageFull);
        assert!(reply.headers.contains_key("retry-after"), "{number}");
    }
}

/// Objects accepted before the disk is full.
struct Accepted {
    envelopes: Vec<EnvelopeId>,
    mailbox: Mailbox,
    other: Mailbox,
    blob: BlobId,
    deleted_blob: BlobId,
}

async fn accept(relay: &Relay, acme: &Node, bolt: &Node) -> Accepted {
    let (mailbox, other) = (bolt.open_mailbox().await, bolt.open_mailbox().await);
    let mut envelopes = Vec::new();
    for fill in 0..40 {
        envelopes.push(acme.submit_one(&mailbox, fill).await);
    }
    let (blob, deleted_blob) = (create_blob(relay), create_blob(relay));
    for blob in [&blob, &deleted_blob] {
        assert_eq!(
            bolt.post("/v1/blobs", blob).await.status,
            StatusCode::CREATED
        );
    }
    bolt.send(part(bolt, deleted_blob.id))
        .await
        .assert_no_content();
    Accepted {
        envelopes,
        mailbox,
        other,
        blob: blob.id,
        deleted_blob: deleted_blob.id,
    }
}

/// Recalls, acknowledges and deletes accepted objects, until 20 envelopes are left.
async fn finish_some_work(acme: &mut Node, bolt: &mut Node, accepted: &Accepted) {
    acme.recall(&accepted.mailbox, accepted.envelopes[39])
        .await
        .assert_no_content();
    let batch = bolt.pull(0).await;
    let mut results = stored(&batch);
    results.truncate(19);
    bolt.acknowledge(batch.fence, results).await;
    bolt.close_mailbox(&accepted.other).await;
    bolt.send_with_session(
        Method::DELETE,
        &format!("/v1/blobs/{}", accepted.deleted_blob),
        "",
    )
    .await
    .assert_no_content();
    acme.sign_in().await;
    bolt.sign_in().await;
}

async fn assert_nothing_is_lost(acme: &Node, bolt: &Node, accepted: &Accepted) {
    let batch = bolt.pull_and_store(0).await;
    assert_eq!(fills(&batch.deliveries), (19..39).collect::<Vec<u8>>());
    for (number, id) in accepted.envelopes.iter().enumerate() {
        let expected = if number == 39 {
            EnvelopeState::Recalled
        } else {
            EnvelopeState::Stored
        };
        assert_eq!(acme.status(*id).await.state, expected, "{number}");
    }
}

#[tokio::test]
async fn accepted_work_is_finished_within_the_reserve() {
    let relay = Relay::start().await;
    let (mut acme, mut bolt) = (relay.node().await, relay.node().await);
    let accepted = accept(&relay, &acme, &bolt).await;
    // A reserve larger than any disk.
    let reserve_all = |config: &mut sealpost_relay::Config| {
        config.storage.reserve_bytes = ByteSize::from_bytes(u64::MAX);
        config.storage.reserve_percent = 100;
    };
    let relay = relay.restart_with(reserve_all).await;
    let reply = fetch_readiness(&acme).await;
    assert_eq!(reply.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(
        std::str::from_utf8(&reply.body)
            .unwrap()
            .contains("free some space"),
        "{reply:?}"
    );
    assert_all_refused(&send_new_work(&relay, &bolt, accepted.blob, &accepted.mailbox).await);
    finish_some_work(&mut acme, &mut bolt, &accepted).await;
    let relay = relay
        .restart_with(|config| config.storage = sealpost_relay::Config::default().storage)
        .await;
    wait_for_readiness(&acme, true).await;
    assert_nothing_is_lost(&acme, &bolt, &accepted).await;
    bolt.send(part(&bolt, accepted.blob))
        .await
        .assert_no_content();
    acme.submit_one(&accepted.mailbox, 99).await;
    drop(relay);
}

#[tokio::test]
async fn relay_recovers_from_a_full_disk() {
    let Some(disk) = SmallDisk::mount(64).unwrap() else {
        return;
    };
    let relay = Relay::start_with(|config| config.data = disk.path().join("relay")).await;
    let (mut acme, mut bolt) = (relay.node().await, relay.node().await);
    let accepted = accept(&relay, &acme, &bolt).await;
    let reserve = disk.path().join("relay/reserve");
    let reserve_bytes = async || std::fs::metadata(&reserve).unwrap().len();
    assert!(reserve_bytes().await > 0, "the reserve is allocated");

    disk.fill().unwrap();
    wait_for_readiness(&acme, false).await;
    assert_all_refused(&send_new_work(&relay, &bolt, accepted.blob, &accepted.mailbox).await);
    finish_some_work(&mut acme, &mut bolt, &accepted).await;
    assert_eq!(reserve_bytes().await, 0, "the reserve was used");

    let relay = relay.restart().await;
    wait_for_readiness(&acme, false).await;
    assert_all_refused(&send_new_work(&relay, &bolt, accepted.blob, &accepted.mailbox).await);

    disk.free_space().unwrap();
    wait_for_readiness(&acme, true).await;
    assert_nothing_is_lost(&acme, &bolt, &accepted).await;
    bolt.send(part(&bolt, accepted.blob))
        .await
        .assert_no_content();
    assert!(reserve_bytes().await > 0, "the reserve is allocated again");
    drop(relay);
}
