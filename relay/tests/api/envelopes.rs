use crate::support::{Relay, fills};
use http::StatusCode;
use sealpost_proto::{
    B64, EnvelopeState, ErrorCode, MailboxRef, Origin,
    limits::{ENVELOPE_LIFETIME_DEFAULT, ENVELOPE_LIFETIME_MAX},
    wire::{StatusRequest, StatusResponse, SubmitOutcome, SubmitRequest},
};
use std::time::Duration;

fn code(outcome: &SubmitOutcome) -> Option<ErrorCode> {
    match outcome {
        SubmitOutcome::Refused { code, .. } => Some(*code),
        SubmitOutcome::Accepted { .. } | SubmitOutcome::Duplicate { .. } => None,
    }
}

#[tokio::test]
async fn accepted_envelope_is_delivered() {
    let relay = Relay::start().await;
    let (acme, bolt) = (relay.node().await, relay.node().await);
    let mailbox = bolt.open_mailbox().await;
    let id = acme.submit_one(&mailbox, 7).await;
    let status = acme.status(id).await;
    assert_eq!(
        (status.state, status.expires_at),
        (
            EnvelopeState::Queued,
            relay.now().plus(ENVELOPE_LIFETIME_DEFAULT)
        )
    );
    let batch = bolt.pull_and_store(0).await;
    assert_eq!(
        (
            batch.deliveries[0].envelope,
            batch.deliveries[0].mailbox,
            batch.backlog
        ),
        (id, mailbox.id, 0)
    );
    assert_eq!(batch.deliveries[0].bytes, B64(vec![7; 2_048]));
    assert_eq!(acme.status(id).await.state, EnvelopeState::Stored);
    assert!(bolt.pull(0).await.deliveries.is_empty());
    assert!(
        acme.pull(0).await.events.is_empty(),
        "the sender gets no event for a stored envelope"
    );
}

#[tokio::test]
async fn order_is_preserved_across_requests() {
    let relay = Relay::start().await;
    let (acme, bolt) = (relay.node().await, relay.node().await);
    let (one, two) = (bolt.open_mailbox().await, bolt.open_mailbox().await);
    for fill in 0..20 {
        acme.submit_one(if fill % 3 == 0 { &one } else { &two }, fill)
            .await;
    }
    let batch = bolt.pull_and_store(0).await;
    assert_eq!(fills(&batch.deliveries), (0..20).collect::<Vec<u8>>());
}

#[tokio::test]
async fn resubmission_is_a_duplicate_or_conflict() {
    let relay = Relay::start().await;
    let (acme, bolt) = (relay.node().await, relay.node().await);
    let mailbox = bolt.open_mailbox().await;
    let envelope = acme.new_envelope(&mailbox, 1);
    acme.submit(vec![envelope.clone()]).await;
    let again = acme.submit(vec![envelope.clone(), envelope.clone()]).await;
    let duplicate = |state| SubmitOutcome::Duplicate { state };
    assert_eq!(
        again,
        [
            duplicate(EnvelopeState::Queued),
            duplicate(EnvelopeState::Queued)
        ]
    );
    let mut changed = acme.new_envelope(&mailbox, 2);
    changed.id = envelope.id;
    assert_eq!(
        code(&acme.submit(vec![changed]).await[0]),
        Some(ErrorCode::Conflict)
    );
    assert_eq!(bolt.pull_and_store(0).await.deliveries.len(), 1);
    relay.clock.advance(ENVELOPE_LIFETIME_MAX);
    let mut acme = acme;
    acme.sign_in().await;
    assert_eq!(
        acme.submit(vec![envelope]).await,
        [duplicate(EnvelopeState::Stored)]
    );
}

#[tokio::test]
async fn invalid_envelopes_are_refused_with_their_code() {
    let relay = Relay::start().await;
    let (acme, bolt) = (relay.node().await, relay.node().await);
    let (mailbox, closed) = (bolt.open_mailbox().await, bolt.open_mailbox().await);
    bolt.close_mailbox(&closed).await;
    let mut wrong_proof = acme.new_envelope(&mailbox, 1);
    wrong_proof.proof.0[0] ^= 1;
    let mut short = acme.new_envelope(&mailbox, 1);
    short.bytes.0.pop();
    let mut late = acme.new_envelope(&mailbox, 1);
    late.expires_at = Some(relay.now());
    let mut foreign = acme.new_envelope(&mailbox, 1);
    foreign.mailbox = MailboxRef {
        relay: Origin::parse("https://elsewhere.example").unwrap(),
        id: mailbox.id,
    };
    let outcomes = acme
        .submit(vec![
            wrong_proof,
            short,
            late,
            foreign,
            acme.new_envelope(&closed, 1),
            acme.new_envelope(&mailbox, 9),
        ])
        .await;
    let codes: Vec<_> = outcomes.iter().map(code).collect();
    use ErrorCode::{
        EnvelopeExpired, EnvelopeInvalid, ForeignRelayUnsupported, MailboxClosed, ProofInvalid,
    };
    let expected = [
        ProofInvalid,
        EnvelopeInvalid,
        EnvelopeExpired,
        ForeignRelayUnsupported,
        MailboxClosed,
    ];
    assert_eq!(codes[..5], expected.map(Some));
    assert_eq!(
        codes[5], None,
        "a final refusal does not affect later items"
    );
    assert_eq!(fills(&bolt.pull_and_store(0).await.deliveries), [9]);
}

#[tokio::test]
async fn full_mailbox_preserves_order() {
    let relay = Relay::start_with(|config| config.quotas.mailbox_envelopes = 2).await;
    let (acme, bolt) = (relay.node().await, relay.node().await);
    let (full, free) = (bolt.open_mailbox().await, bolt.open_mailbox().await);
    let envelopes = [&full, &full, &full, &free, &full]
        .map(|mailbox| acme.new_envelope(mailbox, 1))
        .to_vec();
    let outcomes = acme.submit(envelopes.clone()).await;
    let codes: Vec<_> = outcomes.iter().map(code).collect();
    assert_eq!(
        codes,
        [
            None,
            None,
            Some(ErrorCode::MailboxFull),
            None,
            Some(ErrorCode::EarlierEnvelopeRefused)
        ]
    );
    assert!(
        matches!(outcomes[2], SubmitOutcome::Refused { retry_after_ms: Some(wait), .. } if wait > 0)
    );
    bolt.pull_and_store(0).await;
    let again = acme.submit(envelopes[2..].to_vec()).await;
    assert_eq!(
        again.iter().map(code).collect::<Vec<_>>(),
        [None, None, None]
    );
}

#[tokio::test]
async fn expired_envelope_notifies_its_sender() {
    let relay = Relay::start().await;
    let (mut acme, mut bolt) = (relay.node().await, relay.node().await);
    let (mailbox, other) = (bolt.open_mailbox().await, bolt.open_mailbox().await);
    let mut envelope = acme.new_envelope(&mailbox, 1);
    envelope.expires_at = Some(relay.now().plus(Duration::from_secs(60)));
    let id = envelope.id;
    acme.submit(vec![envelope]).await;
    relay.clock.advance(Duration::from_secs(7_200));
    acme.sign_in().await;
    bolt.sign_in().await;
    assert!(
        bolt.pull(0).await.deliveries.is_empty(),
        "an expired envelope is not delivered"
    );
    bolt.close_mailbox(&other).await;
    let event = acme.wait_for_event(id, EnvelopeState::Expired).await;
    assert!(event.reason.unwrap().contains("expired before"));
    assert_eq!(acme.status(id).await.state, EnvelopeState::Expired);
}

#[tokio::test]
async fn closing_a_mailbox_fails_its_envelopes() {
    let relay = Relay::start().await;
    let (acme, bolt) = (relay.node().await, relay.node().await);
    let mailbox = bolt.open_mailbox().await;
    let id = acme.submit_one(&mailbox, 1).await;
    bolt.close_mailbox(&mailbox).await;
    assert_eq!(
        acme.wait_for_event(id, EnvelopeState::Failed)
            .await
            .reason
            .as_deref(),
        Some("mailbox_unknown")
    );
    assert!(bolt.pull(0).await.deliveries.is_empty());
}

#[tokio::test]
async fn recall_works_until_the_envelope_is_leased() {
    let relay = Relay::start().await;
    let (acme, bolt) = (relay.node().await, relay.node().await);
    let mailbox = bolt.open_mailbox().await;
    let (first, second) = (
        acme.submit_one(&mailbox, 1).await,
        acme.submit_one(&mailbox, 2).await,
    );
    let mut stranger = mailbox.clone();
    stranger.key = sealpost_proto::SendKey::from_bytes([0; 32]);
    assert_eq!(
        acme.recall(&stranger, first).await.code(),
        ErrorCode::ProofInvalid
    );
    assert_eq!(
        bolt.recall(&mailbox, first).await.code(),
        ErrorCode::NotFound,
        "only the sender can recall it"
    );
    acme.recall(&mailbox, first).await.assert_no_content();
    acme.recall(&mailbox, first).await.assert_no_content();
    assert_eq!(acme.status(first).await.state, EnvelopeState::Recalled);
    let batch = bolt.pull(0).await;
    assert_eq!(fills(&batch.deliveries), [2]);
    assert_eq!(
        acme.recall(&mailbox, second).await.code(),
        ErrorCode::TooLate
    );
    bolt.acknowledge(batch.fence, crate::support::stored(&batch))
        .await;
    assert_eq!(
        acme.recall(&mailbox, second).await.code(),
        ErrorCode::TooLate
    );
}

#[tokio::test]
async fn only_the_sender_sees_the_status() {
    let relay = Relay::start().await;
    let (acme, bolt) = (relay.node().await, relay.node().await);
    let mailbox = bolt.open_mailbox().await;
    let id = acme.submit_one(&mailbox, 1).await;
    assert_eq!(
        bolt.get(&format!("/v1/envelopes/{id}")).await.code(),
        ErrorCode::NotFound
    );
    let unknown = sealpost_proto::EnvelopeId::from_bytes([0; 16]);
    let found: StatusResponse = acme
        .post(
            "/v1/envelopes/status",
            &StatusRequest {
                ids: vec![unknown, id],
            },
        )
        .await
        .ok();
    assert_eq!(found.envelopes.len(), 1);
}

#[tokio::test]
async fn request_contains_1_to_100_envelopes() {
    let relay = Relay::start().await;
    let (acme, bolt) = (relay.node().await, relay.node().await);
    let mailbox = bolt.open_mailbox().await;
    for count in [0, 101] {
        let envelopes = (0..count).map(|_| acme.new_envelope(&mailbox, 1)).collect();
        let reply = acme
            .post("/v1/envelopes", &SubmitRequest { envelopes })
            .await;
        assert_eq!(
            (reply.status, reply.code()),
            (StatusCode::BAD_REQUEST, ErrorCode::Malformed),
            "{count}"
        );
    }
    let envelopes = (0..100).map(|_| acme.new_envelope(&mailbox, 1)).collect();
    assert!(
        acme.submit(envelopes)
            .await
            .iter()
            .all(|outcome| code(outcome).is_none())
    );
}

#[tokio::test]
async fn concurrent_submissions_are_delivered_once() {
    let relay = Relay::start().await;
    let (acme, bolt) = (relay.node().await, relay.node().await);
    let mailbox = bolt.open_mailbox().await;
    futures_util::future::join_all((0..64).map(|fill| acme.submit_one(&mailbox, fill))).await;
    let mut delivered = fills(&bolt.pull_and_store(0).await.deliveries);
    delivered.sort_unstable();
    assert_eq!(delivered, (0..64).collect::<Vec<u8>>());
}
