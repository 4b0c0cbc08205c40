use crate::{
    openapi_check,
    support::{HttpClient, Node, Relay, Reply, TestWebhook, WebhookBehavior, eventually_some},
};
use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::Full;
use sealpost_proto::{
    AccountId, EnvelopeState, ErrorCode,
    wire::{DeliveryMode, SubmitOutcome},
};
use serde_json::{Value, json};
use std::{net::SocketAddr, os::unix::fs::PermissionsExt as _, time::Duration};

/// Client of the admin API, with the token from the data directory.
pub(crate) struct AdminClient {
    pub(crate) address: SocketAddr,
    pub(crate) token: String,
    http: HttpClient,
}

impl AdminClient {
    pub(crate) fn new(relay: &Relay) -> Self {
        let token = std::fs::read_to_string(relay.directory.path().join("admin-token")).unwrap();
        Self {
            address: relay.admin_address(),
            token,
            http: HttpClient::new(),
        }
    }

    pub(crate) fn request(
        &self,
        method: Method,
        target: &str,
        body: &Value,
    ) -> Request<Full<Bytes>> {
        let body = if body.is_null() {
            Vec::new()
        } else {
            serde_json::to_vec(body).unwrap()
        };
        let builder = Request::builder()
            .method(method)
            .uri(format!("http://{}{target}", self.address));
        let builder = builder.header("authorization", format!("Bearer {}", self.token));
        builder
            .header("content-type", "application/json")
            .body(Full::new(body.into()))
            .unwrap()
    }

    pub(crate) async fn send(&self, request: Request<Full<Bytes>>) -> Reply {
        self.http.send(request).await
    }

    /// Calls the API and checks that its OpenAPI document contains the response.
    pub(crate) async fn call(&self, method: Method, target: &str, body: Value) -> Reply {
        let reply = self.send(self.request(method.clone(), target, &body)).await;
        let (path, _) = target.split_once('?').unwrap_or((target, ""));
        if path.starts_with("/admin/v1/") {
            openapi_check::check(&self.document().await, &method, path, &reply);
        }
        reply
    }

    pub(crate) async fn document(&self) -> Value {
        let request = self.request(Method::GET, "/admin/openapi.json", &Value::Null);
        self.send(request).await.ok()
    }

    pub(crate) async fn get(&self, target: &str) -> Value {
        self.call(Method::GET, target, Value::Null).await.ok()
    }

    pub(crate) async fn post(&self, target: &str) -> Value {
        self.call(Method::POST, target, Value::Null).await.ok()
    }

    /// Waits until the lane of a node meets a condition, because webhook calls end asynchronously.
    pub(crate) async fn wait_for_lane(&self, node: &Node, holds: impl Fn(&Value) -> bool) -> Value {
        let target = format!("/admin/v1/queues/{}", account(node));
        eventually_some(async || Some(self.get(&target).await).filter(&holds)).await
    }
}

pub(crate) fn account(node: &Node) -> AccountId {
    node.account.expect("registered")
}

#[tokio::test]
async fn admin_api_requires_local_host_and_token() {
    let relay = Relay::start().await;
    let admin = AdminClient::new(&relay);
    for name in ["admin-token", "admin-address"] {
        let mode = std::fs::metadata(relay.directory.path().join(name))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
    let written = std::fs::read_to_string(relay.directory.path().join("admin-address")).unwrap();
    assert_eq!(written, admin.address.to_string());
    let with = |target: &str, header: &'static str, value: Option<&str>| {
        let mut request = admin.request(Method::GET, target, &Value::Null);
        match value {
            Some(value) => request.headers_mut().insert(header, value.parse().unwrap()),
            None => request.headers_mut().remove(header),
        };
        request
    };
    let stats = "/admin/v1/stats";
    for token in [
        None,
        Some("Bearer "),
        Some("Bearer AAAA"),
        Some("Basic AAAA"),
        Some(&*admin.token),
    ] {
        let reply = admin.send(with(stats, "authorization", token)).await;
        assert_eq!(
            (reply.status, reply.code()),
            (StatusCode::UNAUTHORIZED, ErrorCode::AdminTokenInvalid),
            "{token:?}"
        );
    }
    for target in [stats, "/", "/page.js"] {
        let rebound = admin
            .send(with(target, "host", Some("relay.example:8441")))
            .await;
        assert_eq!(
            (rebound.status, rebound.code()),
            (StatusCode::FORBIDDEN, ErrorCode::HostForbidden),
            "{target}"
        );
        let foreign = admin
            .send(with(target, "origin", Some("https://evil.example")))
            .await;
        assert_eq!(foreign.code(), ErrorCode::HostForbidden, "{target}");
    }
    assert_eq!(
        admin.send(with("/", "authorization", None)).await.status,
        StatusCode::OK
    );
    assert_eq!(admin.get(stats).await["readiness"], "ready");
    let node = Node::new(&relay);
    let public = node
        .send(node.unsigned_request(Method::GET, stats, ""))
        .await;
    assert_eq!(
        public.code(),
        ErrorCode::NotFound,
        "not on the public listener"
    );
    let token = admin.token.clone();
    let relay = relay.restart().await;
    assert_eq!(
        AdminClient::new(&relay).token,
        token,
        "the token stays the same"
    );
}

#[tokio::test]
async fn invalid_admin_requests_return_problems() {
    let relay = Relay::start().await;
    let admin = AdminClient::new(&relay);
    let nobody = AccountId::from_bytes([9; 16]);
    for (method, target) in [
        (Method::GET, format!("/admin/v1/accounts/{nobody}")),
        (Method::DELETE, format!("/admin/v1/accounts/{nobody}")),
        (Method::POST, format!("/admin/v1/accounts/{nobody}/suspend")),
        (Method::GET, format!("/admin/v1/queues/{nobody}")),
        (Method::POST, format!("/admin/v1/queues/{nobody}/retry")),
        (Method::DELETE, format!("/admin/v1/queues/{nobody}")),
        (Method::DELETE, format!("/admin/v1/envelopes/{nobody}")),
        (Method::DELETE, "/admin/v1/tokens/none".to_owned()),
        (Method::GET, "/admin/v1/nothing".to_owned()),
    ] {
        assert_eq!(
            admin.call(method, &target, Value::Null).await.code(),
            ErrorCode::NotFound,
            "{target}"
        );
    }
    for target in [
        "/admin/v1/accounts/x",
        "/admin/v1/accounts?limit=-1",
        "/admin/v1/accounts?prefix=%20",
        "/admin/v1/accounts?after=x",
        "/admin/v1/queues?after=1.x",
        "/admin/v1/queues?failing=perhaps",
    ] {
        assert_eq!(
            admin.call(Method::GET, target, Value::Null).await.code(),
            ErrorCode::Malformed,
            "{target}"
        );
    }
    for body in [
        json!({}),
        json!({"name": ""}),
        json!({"name": "a b"}),
        json!({"name": "-a"}),
        json!({"name": "a".repeat(65)}),
        json!({"name": "a", "uses": 0}),
        json!({"name": "a", "uses": -1}),
        json!({"name": "a", "lifetime_ms": 0}),
        json!({"name": "a", "color": "red"}),
    ] {
        let reply = admin
            .call(Method::POST, "/admin/v1/tokens", body.clone())
            .await;
        assert_eq!(reply.code(), ErrorCode::Malformed, "{body}");
    }
    let wrong = admin
        .call(Method::PUT, "/admin/v1/stats", Value::Null)
        .await;
    assert_eq!(wrong.code(), ErrorCode::MethodNotAllowed);
}

#[tokio::test]
async fn accounts_are_found_by_prefix() {
    let relay = Relay::start().await;
    let hook = TestWebhook::listen().await;
    let admin = AdminClient::new(&relay);
    let nodes = [
        relay.node().await,
        relay.node().await,
        relay.node_with_webhook(&hook).await,
    ];
    nodes[0].open_mailbox().await;
    let mut ids: Vec<_> = nodes.iter().map(account).collect();
    ids.sort_unstable();
    let (mut seen, mut after) = (Vec::<AccountId>::new(), String::new());
    loop {
        let page = admin
            .get(&format!("/admin/v1/accounts?limit=2{after}"))
            .await;
        let accounts = page["accounts"].as_array().unwrap();
        seen.extend(accounts.iter().map(|account| {
            account["account_id"]
                .as_str()
                .unwrap()
                .parse::<AccountId>()
                .unwrap()
        }));
        let Some(next) = page["next"].as_str() else {
            break;
        };
        assert_eq!(accounts.len(), 2);
        after = format!("&after={next}");
    }
    assert_eq!(seen, ids);
    let first = admin
        .get(&format!("/admin/v1/accounts/{}", account(&nodes[0])))
        .await;
    assert_eq!(
        (&first["mailboxes"], &first["state"], &first["suspended"]),
        (&json!(1), &json!("pull"), &json!(false))
    );
    let whole = account(&nodes[2]).to_string();
    for length in [22, 10] {
        let found = admin
            .get(&format!("/admin/v1/accounts?prefix={}", &whole[..length]))
            .await;
        assert_eq!(found["accounts"].as_array().unwrap().len(), 1);
        assert_eq!(found["accounts"][0]["account_id"], *whole);
        assert_eq!(
            found["accounts"][0]["webhook_host"],
            hook.url.split('/').nth(2).unwrap(),
            "only the host"
        );
    }
}

#[tokio::test]
async fn suspended_account_keeps_its_queue() {
    let relay = Relay::start().await;
    let (hook, other) = (TestWebhook::listen().await, TestWebhook::listen().await);
    let (acme, bolt) = (relay.node().await, relay.node_with_webhook(&hook).await);
    let carol = relay.node_with_webhook(&other).await;
    let admin = AdminClient::new(&relay);
    let (mailbox, control) = (bolt.open_mailbox().await, carol.open_mailbox().await);
    assert!(bolt.test_webhook().await.ok && carol.test_webhook().await.ok);
    hook.always(WebhookBehavior::Status(500));
    let first = acme.submit_one(&mailbox, 1).await;
    admin
        .wait_for_lane(&bolt, |lane| lane["state"] == "backing_off")
        .await;
    let suspended = admin
        .post(&format!("/admin/v1/accounts/{}/suspend", account(&bolt)))
        .await;
    assert_eq!(
        (&suspended["suspended"], &suspended["state"]),
        (&json!(true), &json!("suspended"))
    );

    assert_eq!(
        bolt.get("/v1/account").await.code(),
        ErrorCode::AccountSuspended
    );
    assert_eq!(
        bolt.get("/v1/deliveries").await.code(),
        ErrorCode::AccountSuspended
    );
    assert_eq!(
        bolt.send_with_key(Method::POST, "/v1/session", "")
            .await
            .code(),
        ErrorCode::AccountSuspended
    );
    assert_eq!(
        bolt.try_register(DeliveryMode::Pull, None).await.code(),
        ErrorCode::AccountSuspended
    );
    let refused = acme
        .submit(vec![
            acme.new_envelope(&mailbox, 2),
            acme.new_envelope(&mailbox, 3),
        ])
        .await;
    for outcome in &refused {
        let SubmitOutcome::Refused {
            code: ErrorCode::MailboxSuspended,
            retry_after_ms: Some(_),
        } = outcome
        else {
            panic!("not retryable: {refused:?}")
        };
    }

    hook.always(WebhookBehavior::Store);
    let relay = relay.restart().await;
    let admin = AdminClient::new(&relay);
    let calls = hook.call_count();
    for round in 1..=3 {
        relay.clock.advance(Duration::from_secs(3_600));
        let control = signed_in_again(&relay, &acme)
            .await
            .submit_one(&control, round)
            .await;
        signed_in_again(&relay, &acme)
            .await
            .wait_for_state(control, EnvelopeState::Stored)
            .await;
    }
    assert_eq!(hook.call_count(), calls, "only other endpoints were called");
    let shown = admin
        .get(&format!("/admin/v1/queues/{}", account(&bolt)))
        .await;
    assert_eq!(
        shown["items"].as_array().unwrap().len(),
        1,
        "the queue is kept"
    );

    admin
        .post(&format!("/admin/v1/accounts/{}/resume", account(&bolt)))
        .await;
    let acme = signed_in_again(&relay, &acme).await;
    acme.wait_for_state(first, EnvelopeState::Stored).await;
    let second = acme.submit_one(&mailbox, 4).await;
    acme.wait_for_state(second, EnvelopeState::Stored).await;
}

/// Returns the same node with a new session, because its session expires after an hour.
pub(crate) async fn signed_in_again(relay: &Relay, node: &Node) -> Node {
    let mut again = Node::new(relay);
    again.key = node.key.clone();
    again.account = node.account;
    again.sign_in().await;
    again
}

#[tokio::test]
async fn deleting_an_account_notifies_senders() {
    let relay = Relay::start().await;
    let (acme, bolt) = (relay.node().await, relay.node().await);
    let admin = AdminClient::new(&relay);
    let mailbox = bolt.open_mailbox().await;
    let id = acme.submit_one(&mailbox, 1).await;
    let target = format!("/admin/v1/accounts/{}", account(&bolt));
    admin
        .call(Method::DELETE, &target, Value::Null)
        .await
        .assert_no_content();
    assert_eq!(
        admin
            .call(Method::DELETE, &target, Value::Null)
            .await
            .code(),
        ErrorCode::NotFound
    );
    assert_eq!(
        bolt.get("/v1/account").await.code(),
        ErrorCode::SessionInvalid
    );
    assert_eq!(
        acme.wait_for_event(id, EnvelopeState::Failed)
            .await
            .reason
            .as_deref(),
        Some("mailbox_unknown")
    );
    let refused = acme.submit(vec![acme.new_envelope(&mailbox, 2)]).await;
    assert!(
        matches!(
            refused[..],
            [SubmitOutcome::Refused {
                code: ErrorCode::MailboxUnknown,
                ..
            }]
        ),
        "{refused:?}"
    );
}
