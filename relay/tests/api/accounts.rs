use crate::support::{Node, Relay, config};
use http::{Method, StatusCode};
use sealpost_proto::{
    B64, ErrorCode, MailboxId, SendKey,
    wire::{
        Account, Checkpoint, DeliveryMode, Mailboxes, OpenMailbox, RegisterRequest, Registered,
        RegistrationPolicy, SealedPrekeys, WellKnown,
    },
};
use sealpost_service::{Shutdown, SystemClock};
use sealpost_signatures::proofs;
use std::{sync::Arc, time::Duration};

#[tokio::test]
async fn registering_again_answers_as_before() {
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
async fn a_token_is_asked_for_where_the_operator_wants_one() {
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
        let request = RegisterRequest {
            delivery: DeliveryMode::Pull,
            token: token.map(str::to_owned),
        };
        let reply = node
            .key_call(
                Method::POST,
                "/v1/accounts",
                serde_json::to_vec(&request).unwrap(),
            )
            .await;
        assert_eq!(reply.status.as_u16(), status, "{token:?}");
    }
    let closed =
        Relay::start_with(|config| config.registration.policy = RegistrationPolicy::Closed).await;
    let request = RegisterRequest {
        delivery: DeliveryMode::Pull,
        token: Some("open sesame".to_owned()),
    };
    let reply = Node::new(&closed)
        .key_call(
            Method::POST,
            "/v1/accounts",
            serde_json::to_vec(&request).unwrap(),
        )
        .await;
    assert_eq!(reply.code(), ErrorCode::RegistrationClosed);
}

#[tokio::test]
async fn a_session_is_good_across_a_restart_and_ends_after_an_hour() {
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
async fn an_account_that_left_is_gone() {
    let relay = Relay::start().await;
    let (acme, bolt) = (relay.node().await, relay.node().await);
    let mailbox = bolt.open_mailbox().await;
    let id = acme.post_to(&mailbox, 1).await;
    bolt.key_call(Method::DELETE, "/v1/account", "")
        .await
        .done();
    assert_eq!(
        bolt.get("/v1/account").await.code(),
        ErrorCode::SessionInvalid
    );
    assert_eq!(
        bolt.key_call(Method::POST, "/v1/session", "").await.code(),
        ErrorCode::AccountUnknown
    );
    let event = acme.news(id, sealpost_proto::EnvelopeState::Failed).await;
    assert_eq!(event.reason.as_deref(), Some("mailbox_unknown"));
}

#[tokio::test]
async fn mailboxes_are_listed_replaced_and_never_given_out_again() {
    let relay = Relay::start().await;
    let (acme, bolt) = (relay.node().await, relay.node().await);
    let mailbox = bolt.open_mailbox().await;
    let path = format!("/v1/mailboxes/{}", mailbox.id);
    let open = |keys: usize| {
        let send_keys = (0..keys)
            .map(|key| SendKey::from_bytes([u8::try_from(key).unwrap(); 32]))
            .collect();
        serde_json::to_vec(&OpenMailbox { send_keys }).unwrap()
    };
    bolt.key_call(Method::PUT, &path, open(2)).await.done();
    for keys in [0, 3] {
        assert_eq!(
            bolt.key_call(Method::PUT, &path, open(keys)).await.code(),
            ErrorCode::Malformed
        );
    }
    assert_eq!(
        acme.key_call(Method::PUT, &path, open(1)).await.code(),
        ErrorCode::Conflict
    );
    let listed: Mailboxes = bolt.get("/v1/mailboxes").await.ok();
    assert_eq!(
        (listed.mailboxes.len(), listed.mailboxes[0].id, listed.next),
        (1, mailbox.id, None)
    );
    acme.key_call(Method::DELETE, &path, "").await.done();
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
        bolt.key_call(Method::PUT, &path, open(1)).await.code(),
        ErrorCode::Conflict
    );
}

#[tokio::test]
async fn an_account_has_so_many_mailboxes_and_no_more() {
    let relay = Relay::start_with(|config| config.quotas.account_mailboxes = 1).await;
    let bolt = relay.node().await;
    let mailbox = bolt.open_mailbox().await;
    let body = serde_json::to_vec(&OpenMailbox {
        send_keys: vec![mailbox.key.clone()],
    })
    .unwrap();
    let other = format!("/v1/mailboxes/{}", MailboxId::from_bytes([1; 16]));
    let reply = bolt.key_call(Method::PUT, &other, body.clone()).await;
    assert_eq!(reply.code(), ErrorCode::QuotaExceeded);
    assert!(reply.headers.contains_key("retry-after"));
    bolt.close_mailbox(&mailbox).await;
    bolt.key_call(Method::PUT, &other, body).await.done();
}

#[tokio::test]
async fn prekeys_are_read_by_their_owner_and_by_who_holds_the_key() {
    let relay = Relay::start().await;
    let (acme, bolt) = (relay.node().await, relay.node().await);
    let mailbox = bolt.open_mailbox().await;
    let path = format!("/v1/mailboxes/{}/prekeys", mailbox.id);
    assert_eq!(bolt.get(&path).await.code(), ErrorCode::NotFound);
    let sealed = SealedPrekeys {
        sealed: B64(vec![9; 2_048]),
    };
    let body = serde_json::to_vec(&sealed).unwrap();
    assert_eq!(
        acme.key_call(Method::PUT, &path, body.clone()).await.code(),
        ErrorCode::NotFound
    );
    bolt.key_call(Method::PUT, &path, body).await.done();
    assert_eq!(bolt.get(&path).await.ok::<SealedPrekeys>(), sealed);
    assert_eq!(acme.get(&path).await.code(), ErrorCode::ProofInvalid);
    let read = async |at: sealpost_proto::Timestamp| {
        let proof = proofs::read(&mailbox.key, mailbox.id, at);
        let mut request = acme.by_session(Method::GET, &path, "");
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
    assert_eq!(read(relay.now()).await.code(), ErrorCode::MailboxUnknown);
}

#[tokio::test]
async fn a_checkpoint_is_replaced_only_by_who_saw_it() {
    let relay = Relay::start().await;
    let node = relay.node().await;
    let path = "/v1/account/checkpoint";
    assert_eq!(node.get(path).await.code(), ErrorCode::NotFound);
    let write = async |fill: u8, tag: Option<&str>| {
        let body = serde_json::to_vec(&Checkpoint {
            sealed: B64(vec![fill; 40]),
        })
        .unwrap();
        let mut request = node.by_session(Method::PUT, path, body);
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
async fn the_public_pages_need_no_signature() {
    let relay = Relay::start().await;
    let node = Node::new(&relay);
    let fetch = async |path: &str| node.send(node.plain(Method::GET, path, "")).await;
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
    let wrong = node.send(node.plain(Method::POST, "/healthz", "")).await;
    assert_eq!(wrong.code(), ErrorCode::MethodNotAllowed);
}

#[tokio::test]
async fn a_second_relay_on_the_same_folder_is_told_so() {
    let relay = Relay::start().await;
    let again = sealpost_relay::start(
        config(relay.folder.path()),
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
async fn a_relay_that_others_reach_must_know_its_name() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = config(folder.path());
    config.listen = ([0, 0, 0, 0], 0).into();
    let started = sealpost_relay::start(config, Arc::new(SystemClock), Shutdown::new()).await;
    assert!(started.unwrap_err().to_string().contains("--public-url"));
}

#[tokio::test]
async fn what_is_kept_outlives_a_restart() {
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
