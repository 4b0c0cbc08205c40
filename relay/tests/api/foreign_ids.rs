//! Requests for resources of other accounts and requests with forged sessions are refused.

use crate::bad_input::{ABSENT, Signature, assert_still_ready, method, relay};
use http::{Method, StatusCode};
use sealpost_proto::B64;
use sealpost_service::random_array;
use sealpost_signatures::{ContentDigest, request};
use serde_json::{Value, json};

#[tokio::test]
async fn ids_of_other_accounts_look_absent() {
    let relay = relay().await;
    let (acme, bolt) = (relay.node().await, relay.node().await);
    let mailbox = bolt.open_mailbox().await;
    let envelope = acme.submit_one(&mailbox, 1).await;
    let blob = sealpost_proto::BlobId::from_bytes(random_array());
    let create = json!({
        "id": blob,
        "size_bytes": 500,
        "fetch_token_hash": B64(vec![5; 32]),
        "expires_at": relay.now().as_millis() + 60_000
    });
    assert_eq!(
        bolt.post("/v1/blobs", &create).await.status,
        StatusCode::CREATED
    );
    let extend = json!({"expires_at": relay.now().as_millis() + 120_000}).to_string();
    let complete = json!({"digest": B64(vec![5; 32])}).to_string();
    let (prekeys, part) = (
        json!({"sealed": B64(vec![5; 2_048])}).to_string(),
        "x".repeat(500),
    );
    let (mailbox, envelope, blob) = (
        mailbox.id.to_string(),
        envelope.to_string(),
        blob.to_string(),
    );
    // Bolt requests the envelope of Acme, and Acme everything else of Bolt.
    for (stranger, name, path, signed, id, body) in [
        (
            &bolt,
            "GET",
            "/v1/envelopes/ID",
            Signature::Session,
            &envelope,
            "",
        ),
        (
            &bolt,
            "DELETE",
            "/v1/envelopes/ID",
            Signature::Session,
            &envelope,
            "",
        ),
        (&acme, "GET", "/v1/blobs/ID", Signature::Session, &blob, ""),
        (
            &acme,
            "PATCH",
            "/v1/blobs/ID",
            Signature::Session,
            &blob,
            extend.as_str(),
        ),
        (
            &acme,
            "DELETE",
            "/v1/blobs/ID",
            Signature::Session,
            &blob,
            "",
        ),
        (
            &acme,
            "POST",
            "/v1/blobs/ID/complete",
            Signature::Session,
            &blob,
            complete.as_str(),
        ),
        (
            &acme,
            "PUT",
            "/v1/blobs/ID/parts/0",
            Signature::Session,
            &blob,
            part.as_str(),
        ),
        (
            &acme,
            "GET",
            "/v1/blobs/ID/parts/0",
            Signature::Session,
            &blob,
            "",
        ),
        (
            &acme,
            "PUT",
            "/v1/mailboxes/ID/prekeys",
            Signature::Key,
            &mailbox,
            prekeys.as_str(),
        ),
        (
            &acme,
            "DELETE",
            "/v1/mailboxes/ID",
            Signature::Key,
            &mailbox,
            "",
        ),
    ] {
        let send = async |id: &str| {
            let target = path.replace("ID", id);
            let signed = if signed == Signature::Key {
                stranger.key_request(method(name), &target, body.to_owned())
            } else {
                stranger.session_request(method(name), &target, body.to_owned())
            };
            stranger.send(signed).await
        };
        let (theirs, absent) = (send(id).await, send(ABSENT).await);
        assert_eq!(
            (theirs.status, &theirs.body),
            (absent.status, &absent.body),
            "{name} {path}"
        );
        assert!(
            matches!(
                theirs.status,
                StatusCode::NOT_FOUND | StatusCode::NO_CONTENT
            ),
            "{name} {path}: {theirs:?}"
        );
    }
    assert_eq!(
        bolt.pull_and_store(0).await.deliveries.len(),
        1,
        "the requests had no effect"
    );
    assert_eq!(
        bolt.get(&format!("/v1/blobs/{blob}")).await.status,
        StatusCode::OK
    );
    assert_eq!(
        bolt.get("/v1/mailboxes").await.ok::<Value>()["mailboxes"]
            .as_array()
            .unwrap()
            .len(),
        1
    );
}

#[tokio::test]
async fn forged_session_ids_are_refused() {
    let relay = relay().await;
    let node = relay.node().await;
    let (id, key) = node.session.clone().unwrap();
    let body = ContentDigest::of(b"");
    let parts = sealpost_signatures::RequestParts {
        method: "GET",
        authority: relay.origin.authority(),
        path: "/v1/account",
        query: None,
    };
    let raw = sealpost_proto::b64::parse(&id).unwrap();
    for byte in 0..raw.len() {
        let mut changed = raw.clone();
        changed[byte] ^= 1;
        let id = sealpost_proto::b64::encode(&changed);
        let headers = request::sign_hmac(&id, &key, &parts, &body, relay.now());
        let mut request = node.unsigned_request(Method::GET, "/v1/account", "");
        for (name, value) in headers.pairs() {
            request.headers_mut().insert(name, value.parse().unwrap());
        }
        let reply = node.send(request).await;
        assert_eq!(
            reply.status,
            StatusCode::UNAUTHORIZED,
            "byte {byte}: {reply:?}"
        );
    }
    assert_still_ready(&node).await;
}
