use crate::{
    admin::AdminClient,
    support::{Node, Relay},
};
use http::{Method, StatusCode};
use sealpost_proto::{
    ErrorCode,
    wire::{DeliveryMode, RegistrationPolicy},
};
use serde_json::{Value, json};
use std::time::Duration;

async fn register(relay: &Relay, token: &str) -> StatusCode {
    let node = Node::new(relay);
    register_as(&node, token).await
}

async fn register_as(node: &Node, token: &str) -> StatusCode {
    node.try_register(DeliveryMode::Pull, Some(token))
        .await
        .status
}

async fn token(admin: &AdminClient, body: Value) -> String {
    let reply = admin.call(Method::POST, "/admin/v1/tokens", body).await;
    assert_eq!(reply.status, StatusCode::CREATED, "{reply:?}");
    reply.json::<Value>()["token"].as_str().unwrap().to_owned()
}

async fn relay_with_token_policy() -> Relay {
    Relay::start_with(|config| {
        config.registration.policy = RegistrationPolicy::Token;
        config.registration.tokens = vec!["configured".to_owned()];
    })
    .await
}

#[tokio::test]
async fn token_is_limited_to_its_uses() {
    let relay = relay_with_token_policy().await;
    let admin = AdminClient::new(&relay);
    let three = token(&admin, json!({"name": "three", "uses": 3})).await;
    let requests = (0..8).map(|_| register(&relay, &three));
    let statuses = futures_util::future::join_all(requests).await;
    assert_eq!(
        statuses
            .iter()
            .filter(|status| **status == StatusCode::CREATED)
            .count(),
        3,
        "{statuses:?}"
    );
    assert!(
        statuses
            .iter()
            .all(|status| [StatusCode::CREATED, StatusCode::FORBIDDEN].contains(status)),
        "{statuses:?}"
    );
    let any = token(&admin, json!({"name": "any"})).await;
    let node = Node::new(&relay);
    assert_eq!(register_as(&node, &any).await, StatusCode::CREATED);
    assert_eq!(
        register_as(&node, &any).await,
        StatusCode::OK,
        "the same account"
    );
    assert_eq!(register(&relay, "configured").await, StatusCode::CREATED);
    assert_eq!(register(&relay, "guess").await, StatusCode::FORBIDDEN);
    let listed = admin.get("/admin/v1/tokens").await;
    let of = |name: &str| {
        listed["tokens"]
            .as_array()
            .unwrap()
            .iter()
            .find(|token| token["name"] == name)
            .cloned()
    };
    let (three, any) = (of("three").unwrap(), of("any").unwrap());
    assert_eq!(
        (&three["uses"], &three["uses_left"]),
        (&json!(3), &json!(0))
    );
    assert_eq!((&any["uses"], &any["uses_left"]), (&json!(1), &Value::Null));
    assert_eq!(any["last_used_at"], relay.now().as_millis());
}

#[tokio::test]
async fn expired_or_revoked_tokens_are_refused() {
    let relay = relay_with_token_policy().await;
    let admin = AdminClient::new(&relay);
    let brief = token(&admin, json!({"name": "brief", "lifetime_ms": 86_400_000})).await;
    let lasting = token(&admin, json!({"name": "lasting"})).await;
    let twice = admin
        .call(Method::POST, "/admin/v1/tokens", json!({"name": "brief"}))
        .await;
    assert_eq!(twice.code(), ErrorCode::Conflict);
    assert_eq!(register(&relay, &brief).await, StatusCode::CREATED);
    relay.clock.advance(Duration::from_secs(86_400));
    assert_eq!(register(&relay, &brief).await, StatusCode::FORBIDDEN);
    assert_eq!(register(&relay, &lasting).await, StatusCode::CREATED);
    admin
        .call(Method::DELETE, "/admin/v1/tokens/lasting", Value::Null)
        .await
        .assert_no_content();
    assert_eq!(register(&relay, &lasting).await, StatusCode::FORBIDDEN);
    for name in ["relay.db", "relay.db-wal"] {
        let bytes = std::fs::read(relay.directory.path().join(name)).unwrap_or_default();
        for secret in [&brief, &lasting] {
            assert!(
                !bytes
                    .windows(secret.len())
                    .any(|window| window == secret.as_bytes()),
                "{name}"
            );
        }
    }
    let page = admin.get("/admin/v1/tokens?limit=1").await;
    assert_eq!(
        (page["tokens"].as_array().unwrap().len(), &page["next"]),
        (1, &Value::Null)
    );
}
