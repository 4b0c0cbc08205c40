use crate::support::{Node, Relay, config, json, private_directory};
use http::{Method, StatusCode};
use sealpost_proto::{
    B64, ErrorCode, MailboxId, SendKey,
    wire::{
        Account, Checkpoint, DeliveryMode, Mailboxes, OpenMailbox, Registered, RegistrationPolicy,
        SealedPrekeys, SubmitOutcome, WellKnown,
    },
};
use sealpost_service::{Shutdown, SystemClock};
use sealpost_signatures::proofs;
use std::{sync::Arc, time::Duration};

#[tokio::test]
async fn repeated_registration_returns_the_account() {
    let relay = Relay::start().await;
    let mut node = Node::new(&relay);
    let first = node.register(DeliveryMode::Pull).await;
    let second = node.register(DeliveryMode::Pull).await;
    assert_eq!(first, second);
    node.sign_in().await;
    let account: Account = node.get("/v1/account").await.ok();
    assert_eq!((account.account_id, account.backlog), (first.account_id, 0));
}

#[tokio::test]
async fn registration_follows_the_policy() {
    let relay = Relay::start_with(|config| {
        config.registration.policy = RegistrationPolicy::Token;
        config.registration.tokens = vec!["open sesame".to_owned()];
    })
    .await;
    let node = Node::new(&relay);
    for (token, status) in [
        (None, 403),
        (Some("guess"), 403),
        (Some("open sesame"), 201),
        (None, 200),
    ] {
        let reply = node.try_register(DeliveryMode::Pull, token).await;
        assert_eq!(reply.status.as_u16(), status, "{token:?}");
    }
    let closed =
        Relay::start_with(|config| config.registration.policy = RegistrationPolicy::Closed).await;
    let reply = Node::new(&closed)
        .try_register(DeliveryMode::Pull, Some("open sesame"))
        .await;
    assert_eq!(reply.code(), ErrorCode::RegistrationClosed);
}

#[tokio::test]
async fn session_survives_restart_until_expiry() {
    let relay = Relay::start().await;
    let mut node = relay.node().await;
    let relay = relay.restart().await;
    assert_eq!(node.get("/v1/account").await.status, StatusCode::OK);
    relay.clock.advance(Duration::from_secs(3_601));
    assert_eq!(
        node.get("/v1/account").await.code(),
        ErrorCode::SessionInvalid
    );
    node.sign_in().await;
    assert_eq!(node.get("/v1/account").await.status, StatusCode::OK);
}

#[tokio::test]
async fn deleted_account_is_unknown() {
    let relay = Relay::start().await;
    let (acme, bolt) = (relay.node().await, relay.node().await);
    let mailbox = bolt.open_mailbox().await;
    let id = acme.submit_one(&mailbox, 1).await;
    bolt.send_with_key(Method::DELETE, "/v1/account", "")
        .await
        .assert_no_content();
    assert_eq!(
        bolt.get("/v1/account").await.code(),
        ErrorCode::SessionInvalid
    );
    assert_eq!(
        bolt.send_with_key(Method::POST, "/v1/session", "")
            .await
            .code(),
        ErrorCode::AccountUnknown
    );
    let event = acme
        .wait_for_event(id, sealpost_proto::EnvelopeState::Failed)
        .await;
    assert_eq!(event.reason.as_deref(), Some("mailbox_unknown"));
}

#[tokio::test]
async fn closed_mailbox_ids_are_not_reused() {
    let relay = Relay::start().await;
    let (acme, bolt) = (relay.node().await, relay.node().await);
    let mailbox = bolt.open_mailbox().await;
    let path = format!("/v1/mailboxes/{}", mailbox.id);
    let keys = |count: u8| {
        (0..count)
            .map(|key| SendKey::from_bytes([key; 32]))
            .collect()
    };
    bolt.put_mailbox(mailbox.id, keys(2))
        .await
        .assert_no_content();
    for count in [0, 3] {
        assert_eq!(
            bolt.put_mailbox(mailbox.id, keys(count)).await.code(),
            ErrorCode::Malformed
        );
    }
    assert_eq!(
        acme.put_mailbox(mailbox.id, keys(1)).await.code(),
        ErrorCode::Conflict
    );
    let listed: Mailboxes = bolt.get("/v1/mailboxes").await.ok();
    assert_eq!(
        (listed.mailboxes.len(), listed.mailboxes[0].id, listed.next),
        (1, mailbox.id, None)
    );
    acme.send_with_key(Method::DELETE, &path, "")
        .await
        .assert_no_content();
    assert_eq!(
        bolt.get("/v1/mailboxes")
            .await
            .ok::<Mailboxes>()
            .mailboxes
            .len(),
        1
    );
    bolt.close_mailbox(&mailbox).await;
    bolt.close_mailbox(&mailbox).await;
    assert!(
        bolt.get("/v1/mailboxes")
            .await
            .ok::<Mailboxes>()
            .mailboxes
            .is_empty()
    );
    assert_eq!(
        bolt.put_mailbox(mailbox.id, keys(1)).await.code(),
        ErrorCode::Conflict
    );
}

#[tokio::test]
async fn new_account_of_the_same_key_reopens_mailboxes() {
    let relay = Relay::start().await;
    let (acme, mut bolt) = (relay.node().await, relay.node().await);
    let mailbox = bolt.open_mailbox().await;
    bolt.send_with_key(Method::DELETE, "/v1/account", "")
        .await
        .assert_no_content();
    bolt.register(DeliveryMode::Pull).await;
    bolt.sign_in().await;
    let keys = || vec![mailbox.key.clone()];
    assert_eq!(
        acme.put_mailbox(mailbox.id, keys()).await.code(),
        ErrorCode::Conflict
    );
    bolt.put_mailbox(mailbox.id, keys())
        .await
        .assert_no_content();
    let id = acme.submit_one(&mailbox, 1).await;
    assert_eq!(bolt.pull(5).await.deliveries[0].envelope, id);
}

#[tokio::test]
async fn owner_limits_each_sender_of_a_mailbox() {
    let relay = Relay::start().await;
    let (acme, carl, bolt) = (relay.node().await, relay.node().await, relay.node().await);
    let mailbox = bolt.open_mailbox().await;
    let path = format!("/v1/mailboxes/{}", mailbox.id);
    let limit = async |sender_envelopes_max| {
        let body = OpenMailbox {
            send_keys: vec![mailbox.key.clone()],
            sender_envelopes_max: Some(sender_envelopes_max),
        };
        bolt.send_with_key(Method::PUT, &path, json(&body)).await
    };
    for invalid in [0, 1_000_001] {
        assert_eq!(limit(invalid).await.code(), ErrorCode::Malformed);
    }
    limit(1).await.assert_no_content();
    acme.submit_one(&mailbox, 1).await;
    bolt.pull_and_store(5).await;
    let refused = acme.submit(vec![acme.new_envelope(&mailbox, 2)]).await;
    assert!(
        matches!(
            refused[0],
            SubmitOutcome::Refused {
                code: ErrorCode::MailboxFull,
                ..
            }
        ),
        "{refused:?}"
    );
    carl.submit_one(&mailbox, 3).await;
}

#[tokio::test]
async fn number_of_mailboxes_is_limited() {
    let relay = Relay::start_with(|config| config.quotas.account_mailboxes = 1).await;
    let bolt = relay.node().await;
    let mailbox = bolt.open_mailbox().await;
    let other = MailboxId::from_bytes([1; 16]);
    let send_keys = vec![mailbox.key.clone()];
    let reply = bolt.put_mailbox(other, send_keys.clone()).await;
    assert_eq!(reply.code(), ErrorCode::QuotaExceeded);
    assert!(reply.headers.contains_key("retry-after"));
    bolt.close_mailbox(&mailbox).await;
    bolt.put_mailbox(other, send_keys).await.assert_no_content();
}

#[tokio::test]
async fn prekeys_are_readable_with_a_proof() {
    let relay = Relay::start().await;
    let (acme, bolt) = (relay.node().await, relay.node().await);
    let mailbox = bolt.open_mailbox().await;
    let path = format!("/v1/mailboxes/{}/prekeys", mailbox.id);
    assert_eq!(bolt.get(&path).await.code(), ErrorCode::NotFound);
    let sealed = SealedPrekeys {
        sealed: B64(vec![9; 2_048]),
    };
    let body = json(&sealed);
    assert_eq!(
        acme.send_with_key(Method::PUT, &path, body.clone())
            .await
            .code(),
        ErrorCode::NotFound
    );
    bolt.send_with_key(Method::PUT, &path, body)
        .await
        .assert_no_content();
    assert_eq!(bolt.get(&path).await.ok::<SealedPrekeys>(), sealed);
    assert_eq!(acme.get(&path).await.code(), ErrorCode::ProofInvalid);
    let read = async |at: sealpost_proto::Timestamp| {
        let proof = proofs::prove_read(&mailbox.key, mailbox.id, at);
        let mut request = acme.session_request(Method::GET, &path, "");
        request.headers_mut().insert(
            "sealpost-proof",
            sealpost_proto::b64::encode(&proof).parse().unwrap(),
        );
        request.headers_mut().insert(
            "sealpost-proof-time",
            at.as_millis().to_string().parse().unwrap(),
        );
        acme.send(request).await
    };
    assert_eq!(read(relay.now()).await.ok::<SealedPrekeys>(), sealed);
    assert_eq!(
        read(relay.now().minus(Duration::from_secs(301)))
            .await
            .code(),
        ErrorCode::ProofInvalid
    );
    bolt.close_mailbox(&mailbox).await;
    assert_eq!(read(relay.now()).await.code(), ErrorCode::MailboxClosed);
}

#[tokio::test]
async fn checkpoint_write_requires_the_current_etag() {
    let relay = Relay::start().await;
    let node = relay.node().await;
    let path = "/v1/account/checkpoint";
    assert_eq!(node.get(path).await.code(), ErrorCode::NotFound);
    let write = async |fill: u8, tag: Option<&str>| {
        let body = json(&Checkpoint {
            sealed: B64(vec![fill; 40]),
        });
        let mut request = node.session_request(Method::PUT, path, body);
        if let Some(tag) = tag {
            request
                .headers_mut()
                .insert("if-match", tag.parse().unwrap());
        }
        node.send(request).await
    };
    assert_eq!(write(1, None).await.code(), ErrorCode::Malformed);
    let first = write(1, Some("\"none\"")).await;
    let tag = first.headers["etag"].to_str().unwrap().to_owned();
    assert_eq!(
        write(2, Some("\"none\"")).await.code(),
        ErrorCode::PreconditionFailed
    );
    let second = write(2, Some(&tag)).await;
    assert_eq!(second.status, StatusCode::OK);
    assert_eq!(
        write(3, Some(&tag)).await.status,
        StatusCode::PRECONDITION_FAILED
    );
    let shown = node.get(path).await;
    assert_eq!(shown.headers["etag"], second.headers["etag"]);
    assert_eq!(shown.ok::<Checkpoint>().sealed, B64(vec![2; 40]));
}

#[tokio::test]
async fn public_routes_need_no_signature() {
    let relay = Relay::start().await;
    let node = Node::new(&relay);
    let fetch = async |path: &str| {
        node.send(node.unsigned_request(Method::GET, path, ""))
            .await
    };
    let known: WellKnown = fetch("/.well-known/sealpost").await.ok();
    assert_eq!(
        (known.origin, known.relay_time),
        (relay.origin.clone(), relay.now())
    );
    assert_eq!(known.limits.envelope_bytes, 262_144);
    assert_eq!(fetch("/healthz").await.body, "ok");
    assert_eq!(fetch("/readyz").await.body, "ready");
    let page = fetch("/i").await;
    let policy = page.headers["content-security-policy"].to_str().unwrap();
    assert!(
        policy.starts_with("default-src 'none'")
            && !policy.contains("unsafe")
            && !policy.contains("script")
    );
    assert_eq!(fetch("/nowhere").await.code(), ErrorCode::NotFound);
    let wrong = node
        .send(node.unsigned_request(Method::POST, "/healthz", ""))
        .await;
    assert_eq!(wrong.code(), ErrorCode::MethodNotAllowed);
}

#[tokio::test]
async fn second_relay_on_a_directory_is_refused() {
    let relay = Relay::start().await;
    let again = sealpost_relay::start(
        config(relay.directory.path()),
        Arc::new(SystemClock),
        Shutdown::new(),
    )
    .await;
    assert!(
        again
            .unwrap_err()
            .to_string()
            .contains("in use by another process")
    );
}

#[tokio::test]
async fn public_listener_requires_a_public_url() {
    let directory = private_directory();
    let mut config = config(directory.path());
    config.listen = ([0, 0, 0, 0], 0).into();
    let started = sealpost_relay::start(config, Arc::new(SystemClock), Shutdown::new()).await;
    assert!(started.unwrap_err().to_string().contains("--public-url"));
}

#[tokio::test]
async fn data_survives_a_restart() {
    let relay = Relay::start().await;
    let mut node = relay.node().await;
    let before: Registered = node.register(DeliveryMode::Pull).await;
    let mailbox = node.open_mailbox().await;
    let relay = relay.restart().await;
    assert_eq!(node.register(DeliveryMode::Pull).await, before);
    assert_eq!(
        node.get("/v1/mailboxes").await.ok::<Mailboxes>().mailboxes[0].id,
        mailbox.id
    );
    drop(relay);
}
