//! A disk that fills up: nothing new is taken, what was accepted is finished, and it recovers by itself.

#[path = "../../../tests/e2e/tests/support/disk.rs"]
mod disk;

use crate::support::{DEADLINE, Mailbox, Node, Relay, Reply, fills, stored};
use disk::SmallDisk;
use http::{Method, StatusCode};
use sealpost_proto::{
    B64, BlobId, EnvelopeId, EnvelopeState, ErrorCode, MailboxId, SendKey,
    wire::{CreateBlob, DeliveryMode, OpenMailbox, RegisterRequest, SealedPrekeys, SubmitRequest},
};
use sealpost_service::random_array;
use std::time::Duration;

async fn readiness(node: &Node) -> Reply {
    node.send(node.plain(Method::GET, "/readyz", "")).await
}

/// Waits until `/readyz` answers so.
async fn until_ready(node: &Node, ready: bool) {
    let waiting = async {
        while readiness(node).await.status.is_success() != ready {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(DEADLINE, waiting)
        .await
        .unwrap_or_else(|_| panic!("ready: {ready} did not come"));
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
    node.by_session(
        Method::PUT,
        &format!("/v1/blobs/{blob}/parts/0"),
        vec![7; 100_000],
    )
}

/// Everything that makes the relay keep more, each asked for once.
async fn new_work(relay: &Relay, node: &Node, blob: BlobId, mailbox: &Mailbox) -> Vec<Reply> {
    let json = |value| serde_json::to_vec(&value).unwrap();
    let open = json(
        serde_json::to_value(OpenMailbox {
            send_keys: vec![SendKey::from_bytes([1; 32])],
        })
        .unwrap(),
    );
    let fresh = format!("/v1/mailboxes/{}", MailboxId::from_bytes(random_array()));
    let prekeys = serde_json::to_vec(&SealedPrekeys {
        sealed: B64(vec![9; 2_048]),
    })
    .unwrap();
    let register = serde_json::to_vec(&RegisterRequest {
        delivery: DeliveryMode::Pull,
        token: None,
    })
    .unwrap();
    vec![
        node.post(
            "/v1/envelopes",
            &SubmitRequest {
                envelopes: vec![node.envelope(mailbox, 1)],
            },
        )
        .await,
        node.post("/v1/blobs", &create_blob(relay)).await,
        node.send(part(node, blob)).await,
        node.key_call(Method::PUT, &fresh, open).await,
        node.key_call(
            Method::PUT,
            &format!("/v1/mailboxes/{}/prekeys", mailbox.id),
            prekeys,
        )
        .await,
        Node::new(relay)
            .key_call(Method::POST, "/v1/accounts", register)
            .await,
    ]
}

fn all_refused(replies: &[Reply]) {
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

/// What was accepted while there was room.
struct Accepted {
    envelopes: Vec<EnvelopeId>,
    mailbox: Mailbox,
    other: Mailbox,
    blob: BlobId,
    doomed: BlobId,
}

async fn accept(relay: &Relay, acme: &Node, bolt: &Node) -> Accepted {
    let (mailbox, other) = (bolt.open_mailbox().await, bolt.open_mailbox().await);
    let mut envelopes = Vec::new();
    for fill in 0..40 {
        envelopes.push(acme.post_to(&mailbox, fill).await);
    }
    let (blob, doomed) = (create_blob(relay), create_blob(relay));
    for blob in [&blob, &doomed] {
        assert_eq!(
            bolt.post("/v1/blobs", blob).await.status,
            StatusCode::CREATED
        );
    }
    bolt.send(part(bolt, doomed.id)).await.done();
    Accepted {
        envelopes,
        mailbox,
        other,
        blob: blob.id,
        doomed: doomed.id,
    }
}

/// Everything that ends or takes away what was accepted, down to the last 20 envelopes.
async fn finish_some(acme: &mut Node, bolt: &mut Node, accepted: &Accepted) {
    acme.recall(&accepted.mailbox, accepted.envelopes[39])
        .await
        .done();
    let batch = bolt.pull(0).await;
    let mut results = stored(&batch);
    results.truncate(19);
    bolt.acknowledge(batch.lease, results).await;
    bolt.close_mailbox(&accepted.other).await;
    bolt.session_call(
        Method::DELETE,
        &format!("/v1/blobs/{}", accepted.doomed),
        "",
    )
    .await
    .done();
    acme.sign_in().await;
    bolt.sign_in().await;
}

async fn nothing_is_lost(acme: &Node, bolt: &Node, accepted: &Accepted) {
    let batch = bolt.take_all(0).await;
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
async fn with_little_room_nothing_new_is_taken_and_what_was_accepted_is_finished() {
    let relay = Relay::start().await;
    let (mut acme, mut bolt) = (relay.node().await, relay.node().await);
    let accepted = accept(&relay, &acme, &bolt).await;
    // More than any disk has free.
    let whole = |config: &mut sealpost_relay::Config| {
        config.storage.reserve_bytes = u64::MAX;
        config.storage.reserve_percent = 100;
    };
    let relay = relay.restart_with(whole).await;
    let words = readiness(&acme).await;
    assert_eq!(words.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(
        std::str::from_utf8(&words.body)
            .unwrap()
            .contains("make room"),
        "{words:?}"
    );
    all_refused(&new_work(&relay, &bolt, accepted.blob, &accepted.mailbox).await);
    finish_some(&mut acme, &mut bolt, &accepted).await;
    let relay = relay
        .restart_with(|config| config.storage = sealpost_relay::Config::default().storage)
        .await;
    until_ready(&acme, true).await;
    nothing_is_lost(&acme, &bolt, &accepted).await;
    bolt.send(part(&bolt, accepted.blob)).await.done();
    acme.post_to(&accepted.mailbox, 99).await;
    drop(relay);
}

#[tokio::test]
async fn on_a_disk_that_others_fill_the_relay_keeps_its_word_and_recovers_by_itself() {
    let Some(disk) = SmallDisk::mount(64).unwrap() else {
        return;
    };
    let relay = Relay::start_with(|config| config.data = disk.path().join("relay")).await;
    let (mut acme, mut bolt) = (relay.node().await, relay.node().await);
    let accepted = accept(&relay, &acme, &bolt).await;
    let reserve = disk.path().join("relay/reserve");
    let held = async || std::fs::metadata(&reserve).unwrap().len();
    assert!(held().await > 0, "the reserve is on the disk");

    disk.fill().unwrap();
    until_ready(&acme, false).await;
    all_refused(&new_work(&relay, &bolt, accepted.blob, &accepted.mailbox).await);
    finish_some(&mut acme, &mut bolt, &accepted).await;
    assert_eq!(held().await, 0, "the reserve was used");

    let relay = relay.restart().await;
    until_ready(&acme, false).await;
    all_refused(&new_work(&relay, &bolt, accepted.blob, &accepted.mailbox).await);

    disk.make_room().unwrap();
    until_ready(&acme, true).await;
    nothing_is_lost(&acme, &bolt, &accepted).await;
    bolt.send(part(&bolt, accepted.blob)).await.done();
    assert!(held().await > 0, "there is a reserve again");
    drop(relay);
}
