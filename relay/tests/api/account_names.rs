//! Labels of accounts and the names of their registration tokens.

use crate::{
    admin::{AdminClient, account},
    operator_commands::run_command,
    support::{Node, Relay},
};
use http::{Method, StatusCode};
use sealpost_proto::{
    AccountId, ErrorCode,
    limits::ACCOUNT_LABEL_CHARS_MAX,
    wire::{DeliveryMode, RegistrationPolicy},
};
use serde_json::{Value, json};

/// Starts a relay on which a node registered with the token `customers`, and returns it with its
/// client and the node.
async fn relay_with_customer() -> (Relay, AdminClient, Node) {
    let relay = Relay::start_with(|config| {
        config.registration.policy = RegistrationPolicy::Token;
        config.registration.tokens = vec!["configured".to_owned()];
    })
    .await;
    let admin = AdminClient::new(&relay);
    let created = admin
        .call(
            Method::POST,
            "/admin/v1/tokens",
            json!({"name": "customers"}),
        )
        .await;
    let token = created.json::<Value>()["token"]
        .as_str()
        .unwrap()
        .to_owned();
    let bolt = register(&relay, &token).await;
    (relay, admin, bolt)
}

async fn register(relay: &Relay, token: &str) -> Node {
    let mut node = Node::new(relay);
    let reply = node.try_register(DeliveryMode::Pull, Some(token)).await;
    assert_eq!(reply.status, StatusCode::CREATED, "{reply:?}");
    let registered: sealpost_proto::wire::Registered = reply.json();
    node.account = Some(registered.account_id);
    node.sign_in().await;
    node
}

async fn set_label(admin: &AdminClient, id: AccountId, label: &str) -> crate::support::Reply {
    let target = format!("/admin/v1/accounts/{id}/label");
    admin
        .call(Method::PUT, &target, json!({ "label": label }))
        .await
}

#[tokio::test]
async fn accounts_carry_their_token_name() {
    let (relay, admin, bolt) = relay_with_customer().await;
    let carol = register(&relay, "configured").await;
    admin
        .call(Method::DELETE, "/admin/v1/tokens/customers", Value::Null)
        .await
        .assert_no_content();
    for (node, name) in [(&bolt, json!("customers")), (&carol, Value::Null)] {
        let shown = admin
            .get(&format!("/admin/v1/accounts/{}", account(node)))
            .await;
        assert_eq!(shown["token_name"], name, "also after the revocation");
    }
    let open = Relay::start().await;
    let node = open.node().await;
    let shown = AdminClient::new(&open)
        .get(&format!("/admin/v1/accounts/{}", account(&node)))
        .await;
    assert_eq!(shown.get("token_name"), None, "registered without a token");
}

#[tokio::test]
async fn every_list_shows_label_and_token() {
    let (relay, admin, bolt) = relay_with_customer().await;
    let acme = register(&relay, "configured").await;
    let mailbox = bolt.open_mailbox().await;
    acme.submit_one(&mailbox, 1).await;
    let id = account(&bolt);
    let labelled = set_label(&admin, id, "  Müller & Sons ").await;
    assert_eq!(labelled.ok::<Value>()["label"], "Müller & Sons");
    let relay = relay.restart().await;
    let admin = AdminClient::new(&relay);
    let accounts = admin.get(&format!("/admin/v1/accounts?prefix={id}")).await;
    for shown in [
        &accounts["accounts"][0],
        &admin.get("/admin/v1/queues").await["queues"][0],
        &admin.get(&format!("/admin/v1/queues/{id}")).await,
        &admin.get(&format!("/admin/v1/accounts/{id}/quotas")).await,
    ] {
        assert_eq!(
            (&shown["account_id"], &shown["label"], &shown["token_name"]),
            (
                &json!(id.to_string()),
                &json!("Müller & Sons"),
                &json!("customers")
            ),
            "{shown}"
        );
    }
    for command in [
        "accounts list".to_owned(),
        "queue list".to_owned(),
        format!("accounts show {id}"),
        format!("queue show {id}"),
        format!("accounts quota {id}"),
    ] {
        let text = run_command(relay.directory.path(), &command).await.ok();
        assert!(
            text.contains("Müller & Sons") && text.contains("customers"),
            "{command}: {text}"
        );
    }
    assert!(
        !acme
            .get("/v1/account")
            .await
            .ok::<Value>()
            .to_string()
            .contains("label"),
        "nodes do not see it"
    );
}

#[tokio::test]
async fn label_command_sets_and_removes_labels() {
    let relay = Relay::start().await;
    let directory = relay.directory.path();
    let id = account(&relay.node().await);
    let prefix = &id.to_string()[..8];
    let set = run_command(directory, &format!("accounts label {prefix} Bolt")).await;
    assert_eq!(set.ok(), format!("Labelled {id} as Bolt.\n"));
    let shown = run_command(directory, &format!("accounts show {id}")).await;
    assert!(shown.ok().contains("label       Bolt\n"));
    let json = run_command(directory, &format!("accounts label {id} -5% --json")).await;
    let json: Value = serde_json::from_str(&json.ok()).unwrap();
    assert_eq!(json["label"], "-5%");
    let target = format!("/admin/v1/accounts/{id}/label");
    let admin = AdminClient::new(&relay);
    let removed = admin
        .call(Method::PUT, &target, json!({"label": " "}))
        .await;
    assert_eq!(removed.ok::<Value>().get("label"), None);
}

#[tokio::test]
async fn unusable_labels_are_refused() {
    let relay = Relay::start().await;
    let admin = AdminClient::new(&relay);
    let id = account(&relay.node().await);
    let longest = "ü".repeat(ACCOUNT_LABEL_CHARS_MAX);
    assert_eq!(
        set_label(&admin, id, &longest).await.ok::<Value>()["label"],
        *longest
    );
    for label in [
        &*format!("{longest}x"),
        "a\nb",
        "a\u{1b}[31mb",
        "a\u{202e}b",
    ] {
        let refused = set_label(&admin, id, label).await;
        assert_eq!(refused.code(), ErrorCode::Malformed, "{label:?}");
    }
    let target = format!("/admin/v1/accounts/{id}/label");
    for body in [
        json!({}),
        json!({"label": null}),
        json!({"label": "a", "x": 1}),
    ] {
        let refused = admin.call(Method::PUT, &target, body).await;
        assert_eq!(refused.code(), ErrorCode::Malformed);
    }
    let shown = admin.get(&format!("/admin/v1/accounts/{id}")).await;
    assert_eq!(shown["label"], *longest, "nothing changed");
    let nobody = AccountId::from_bytes([9; 16]);
    let unknown = set_label(&admin, nobody, "a").await;
    assert_eq!(unknown.code(), ErrorCode::NotFound);
}
