use crate::{
    described,
    support::{DEADLINE, Hook, Node, Relay, Reply, Script},
};
use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use sealpost_proto::{
    AccountId, EnvelopeState, ErrorCode, Timestamp,
    wire::{DeliveryMode, RegisterRequest, RegistrationPolicy, SubmitOutcome},
};
use serde_json::{Value, json};
use std::{net::SocketAddr, os::unix::fs::PermissionsExt as _, time::Duration};

/// The operator, who reads the token in the data folder.
pub(crate) struct Operator {
    pub(crate) address: SocketAddr,
    token: String,
    http: Client<HttpConnector, Full<Bytes>>,
}

impl Operator {
    pub(crate) fn of(relay: &Relay) -> Self {
        let token = std::fs::read_to_string(relay.folder.path().join("admin-token")).unwrap();
        Self {
            address: relay.admin(),
            token,
            http: Client::builder(TokioExecutor::new()).build_http(),
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
        let response = tokio::time::timeout(DEADLINE, self.http.request(request))
            .await
            .unwrap()
            .unwrap();
        let (parts, body) = response.into_parts();
        Reply {
            status: parts.status,
            headers: parts.headers,
            body: body.collect().await.unwrap().to_bytes(),
        }
    }

    /// Asks the API; what is answered has to stand in its document.
    async fn call(&self, method: Method, target: &str, body: Value) -> Reply {
        let reply = self.send(self.request(method.clone(), target, &body)).await;
        let (path, _) = target.split_once('?').unwrap_or((target, ""));
        if path.starts_with("/admin/v1/") {
            described::check(&self.document().await, &method, path, &reply);
        }
        reply
    }

    pub(crate) async fn document(&self) -> Value {
        let request = self.request(Method::GET, "/admin/openapi.json", &Value::Null);
        self.send(request).await.ok()
    }

    async fn get(&self, target: &str) -> Value {
        self.call(Method::GET, target, Value::Null).await.ok()
    }

    async fn post(&self, target: &str) -> Value {
        self.call(Method::POST, target, Value::Null).await.ok()
    }

    /// Waits until a lane looks like this; the calls of webhooks end in their own time.
    async fn lane(&self, node: &Node, holds: impl Fn(&Value) -> bool) -> Value {
        let target = format!("/admin/v1/queues/{}", account(node));
        let looking = async {
            loop {
                let lane = self.get(&target).await;
                if holds(&lane) {
                    return lane;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(DEADLINE, looking)
            .await
            .expect("it looked so in time")
    }
}

fn account(node: &Node) -> AccountId {
    node.account.expect("registered")
}

#[tokio::test]
async fn only_this_machine_with_the_token_gets_an_answer() {
    let relay = Relay::start().await;
    let operator = Operator::of(&relay);
    for name in ["admin-token", "admin-address"] {
        let mode = std::fs::metadata(relay.folder.path().join(name))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
    let written = std::fs::read_to_string(relay.folder.path().join("admin-address")).unwrap();
    assert_eq!(written, operator.address.to_string());
    let with = |target: &str, header: &'static str, value: Option<&str>| {
        let mut request = operator.request(Method::GET, target, &Value::Null);
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
        Some(&*operator.token),
    ] {
        let reply = operator.send(with(stats, "authorization", token)).await;
        assert_eq!(
            (reply.status, reply.code()),
            (StatusCode::UNAUTHORIZED, ErrorCode::AdminTokenInvalid),
            "{token:?}"
        );
    }
    for target in [stats, "/", "/page.js"] {
        let rebound = operator
            .send(with(target, "host", Some("relay.example:8441")))
            .await;
        assert_eq!(
            (rebound.status, rebound.code()),
            (StatusCode::FORBIDDEN, ErrorCode::HostForbidden),
            "{target}"
        );
        let foreign = operator
            .send(with(target, "origin", Some("https://evil.example")))
            .await;
        assert_eq!(foreign.code(), ErrorCode::HostForbidden, "{target}");
    }
    assert_eq!(
        operator.send(with("/", "authorization", None)).await.status,
        StatusCode::OK
    );
    assert_eq!(operator.get(stats).await["readiness"], "ready");
    let node = Node::new(&relay);
    let public = node.send(node.plain(Method::GET, stats, "")).await;
    assert_eq!(
        public.code(),
        ErrorCode::NotFound,
        "nothing of it on the public listener"
    );
    let token = operator.token.clone();
    let relay = relay.restart().await;
    assert_eq!(
        Operator::of(&relay).token,
        token,
        "what was given it goes on"
    );
}

#[tokio::test]
async fn what_is_not_there_or_makes_no_sense_is_answered_with_a_problem() {
    let relay = Relay::start().await;
    let operator = Operator::of(&relay);
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
            operator.call(method, &target, Value::Null).await.code(),
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
            operator.call(Method::GET, target, Value::Null).await.code(),
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
        json!({"name": "a", "life_ms": 0}),
        json!({"name": "a", "colour": "red"}),
    ] {
        let reply = operator
            .call(Method::POST, "/admin/v1/tokens", body.clone())
            .await;
        assert_eq!(reply.code(), ErrorCode::Malformed, "{body}");
    }
    let wrong = operator
        .call(Method::PUT, "/admin/v1/stats", Value::Null)
        .await;
    assert_eq!(wrong.code(), ErrorCode::MethodNotAllowed);
}

#[tokio::test]
async fn accounts_are_listed_by_pages_and_found_by_the_beginning_of_their_id() {
    let relay = Relay::start().await;
    let hook = Hook::listen().await;
    let operator = Operator::of(&relay);
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
        let page = operator
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
    let first = operator
        .get(&format!("/admin/v1/accounts/{}", account(&nodes[0])))
        .await;
    assert_eq!(
        (&first["mailboxes"], &first["state"], &first["suspended"]),
        (&json!(1), &json!("pull"), &json!(false))
    );
    let whole = account(&nodes[2]).to_string();
    for length in [22, 10] {
        let found = operator
            .get(&format!("/admin/v1/accounts?prefix={}", &whole[..length]))
            .await;
        assert_eq!(found["accounts"].as_array().unwrap().len(), 1);
        assert_eq!(found["accounts"][0]["account_id"], *whole);
        assert_eq!(
            found["accounts"][0]["webhook_host"],
            hook.url.split('/').nth(2).unwrap(),
            "no more than the host"
        );
    }
}

#[tokio::test]
async fn a_suspended_account_is_held_and_goes_on_where_it_was() {
    let relay = Relay::start().await;
    let (hook, other) = (Hook::listen().await, Hook::listen().await);
    let (acme, bolt) = (relay.node().await, relay.node_with_webhook(&hook).await);
    let carol = relay.node_with_webhook(&other).await;
    let operator = Operator::of(&relay);
    let (mailbox, control) = (bolt.open_mailbox().await, carol.open_mailbox().await);
    assert!(bolt.test_webhook().await.ok && carol.test_webhook().await.ok);
    hook.always(Script::Status(500));
    let first = acme.post_to(&mailbox, 1).await;
    operator
        .lane(&bolt, |lane| lane["state"] == "backing_off")
        .await;
    let suspended = operator
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
        bolt.key_call(Method::POST, "/v1/session", "").await.code(),
        ErrorCode::AccountSuspended
    );
    let again = serde_json::to_vec(&RegisterRequest {
        delivery: DeliveryMode::Pull,
        token: None,
    })
    .unwrap();
    assert_eq!(
        bolt.key_call(Method::POST, "/v1/accounts", again)
            .await
            .code(),
        ErrorCode::AccountSuspended
    );
    let refused = acme
        .submit(vec![acme.envelope(&mailbox, 2), acme.envelope(&mailbox, 3)])
        .await;
    for outcome in &refused {
        let SubmitOutcome::Refused {
            code: ErrorCode::MailboxSuspended,
            retry_after_ms: Some(_),
        } = outcome
        else {
            panic!("it passes later: {refused:?}")
        };
    }

    hook.always(Script::Store);
    let relay = relay.restart().await;
    let operator = Operator::of(&relay);
    let calls = hook.calls();
    for round in 1..=3 {
        relay.clock.advance(Duration::from_secs(3_600));
        let control = acme_again(&relay, &acme)
            .await
            .post_to(&control, round)
            .await;
        acme_again(&relay, &acme)
            .await
            .sees(control, EnvelopeState::Stored)
            .await;
    }
    assert_eq!(hook.calls(), calls, "others were called, this one was not");
    let shown = operator
        .get(&format!("/admin/v1/queues/{}", account(&bolt)))
        .await;
    assert_eq!(
        shown["items"].as_array().unwrap().len(),
        1,
        "nothing is lost"
    );

    operator
        .post(&format!("/admin/v1/accounts/{}/resume", account(&bolt)))
        .await;
    let acme = acme_again(&relay, &acme).await;
    acme.sees(first, EnvelopeState::Stored).await;
    let second = acme.post_to(&mailbox, 4).await;
    acme.sees(second, EnvelopeState::Stored).await;
}

/// The same node with a session of now: an hour ends the one it had.
async fn acme_again(relay: &Relay, node: &Node) -> Node {
    let mut again = Node::new(relay);
    again.key = node.key.clone();
    again.account = node.account;
    again.sign_in().await;
    again
}

#[tokio::test]
async fn a_deleted_account_is_gone_and_senders_are_told() {
    let relay = Relay::start().await;
    let (acme, bolt) = (relay.node().await, relay.node().await);
    let operator = Operator::of(&relay);
    let mailbox = bolt.open_mailbox().await;
    let id = acme.post_to(&mailbox, 1).await;
    let target = format!("/admin/v1/accounts/{}", account(&bolt));
    operator
        .call(Method::DELETE, &target, Value::Null)
        .await
        .done();
    assert_eq!(
        operator
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
        acme.news(id, EnvelopeState::Failed).await.reason.as_deref(),
        Some("mailbox_unknown")
    );
    let refused = acme.submit(vec![acme.envelope(&mailbox, 2)]).await;
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

async fn register(relay: &Relay, token: &str) -> StatusCode {
    let node = Node::new(relay);
    register_as(&node, token).await
}

async fn register_as(node: &Node, token: &str) -> StatusCode {
    let request = RegisterRequest {
        delivery: DeliveryMode::Pull,
        token: Some(token.to_owned()),
    };
    node.key_call(
        Method::POST,
        "/v1/accounts",
        serde_json::to_vec(&request).unwrap(),
    )
    .await
    .status
}

async fn token(operator: &Operator, body: Value) -> String {
    let reply = operator.call(Method::POST, "/admin/v1/tokens", body).await;
    assert_eq!(reply.status, StatusCode::CREATED, "{reply:?}");
    reply.json::<Value>()["token"].as_str().unwrap().to_owned()
}

async fn relay_by_token() -> Relay {
    Relay::start_with(|config| {
        config.registration.policy = RegistrationPolicy::Token;
        config.registration.tokens = vec!["configured".to_owned()];
    })
    .await
}

#[tokio::test]
async fn a_registration_token_is_good_for_as_many_accounts_as_it_says() {
    let relay = relay_by_token().await;
    let operator = Operator::of(&relay);
    let three = token(&operator, json!({"name": "three", "uses": 3})).await;
    let tries = (0..8).map(|_| register(&relay, &three));
    let answers = futures_util::future::join_all(tries).await;
    assert_eq!(
        answers
            .iter()
            .filter(|status| **status == StatusCode::CREATED)
            .count(),
        3,
        "{answers:?}"
    );
    assert!(
        answers
            .iter()
            .all(|status| [StatusCode::CREATED, StatusCode::FORBIDDEN].contains(status)),
        "{answers:?}"
    );
    let any = token(&operator, json!({"name": "any"})).await;
    let node = Node::new(&relay);
    assert_eq!(register_as(&node, &any).await, StatusCode::CREATED);
    assert_eq!(
        register_as(&node, &any).await,
        StatusCode::OK,
        "the same account again"
    );
    assert_eq!(register(&relay, "configured").await, StatusCode::CREATED);
    assert_eq!(register(&relay, "guess").await, StatusCode::FORBIDDEN);
    let listed = operator.get("/admin/v1/tokens").await;
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
async fn a_registration_token_ends_and_is_revoked_and_only_its_digest_is_kept() {
    let relay = relay_by_token().await;
    let operator = Operator::of(&relay);
    let brief = token(&operator, json!({"name": "brief", "life_ms": 86_400_000})).await;
    let lasting = token(&operator, json!({"name": "lasting"})).await;
    let twice = operator
        .call(Method::POST, "/admin/v1/tokens", json!({"name": "brief"}))
        .await;
    assert_eq!(twice.code(), ErrorCode::Conflict);
    assert_eq!(register(&relay, &brief).await, StatusCode::CREATED);
    relay.clock.advance(Duration::from_secs(86_400));
    assert_eq!(register(&relay, &brief).await, StatusCode::FORBIDDEN);
    assert_eq!(register(&relay, &lasting).await, StatusCode::CREATED);
    operator
        .call(Method::DELETE, "/admin/v1/tokens/lasting", Value::Null)
        .await
        .done();
    assert_eq!(register(&relay, &lasting).await, StatusCode::FORBIDDEN);
    for name in ["relay.db", "relay.db-wal"] {
        let bytes = std::fs::read(relay.folder.path().join(name)).unwrap_or_default();
        for secret in [&brief, &lasting] {
            assert!(
                !bytes
                    .windows(secret.len())
                    .any(|window| window == secret.as_bytes()),
                "{name}"
            );
        }
    }
    let page = operator.get("/admin/v1/tokens?limit=1").await;
    assert_eq!(
        (page["tokens"].as_array().unwrap().len(), &page["next"]),
        (1, &Value::Null)
    );
}

#[tokio::test]
async fn queues_are_listed_by_age_and_shown_without_what_they_hold() {
    let relay = Relay::start().await;
    let hook = Hook::listen().await;
    let acme = relay.node().await;
    let nodes = [
        relay.node().await,
        relay.node_with_webhook(&hook).await,
        relay.node().await,
    ];
    let operator = Operator::of(&relay);
    assert!(nodes[1].test_webhook().await.ok);
    hook.always(Script::Status(500));
    let mut ids = Vec::new();
    for (node, fill) in nodes.iter().zip([0xa1, 0xa2, 0xa3]) {
        let mailbox = node.open_mailbox().await;
        ids.push(acme.post_to(&mailbox, fill).await);
        acme.post_to(&mailbox, fill).await;
        relay.clock.advance(Duration::from_millis(100));
    }
    operator
        .lane(&nodes[1], |lane| lane["state"] == "backing_off")
        .await;
    let (mut seen, mut after) = (Vec::new(), String::new());
    loop {
        let page = operator
            .get(&format!("/admin/v1/queues?limit=1{after}"))
            .await;
        seen.extend(page["queues"].as_array().unwrap().clone());
        let Some(next) = page["next"].as_str() else {
            break;
        };
        after = format!("&after={next}");
    }
    let senders = account(&acme).to_string();
    let (news, seen): (Vec<_>, Vec<_>) = seen
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
    assert_eq!(news.len(), 1, "the sender has news that waits");
    let failing = operator.get("/admin/v1/queues?failing=true").await;
    let failing = failing["queues"].as_array().unwrap();
    assert_eq!(
        (failing.len(), &failing[0]["account_id"]),
        (1, &seen[1]["account_id"])
    );
    assert_eq!(
        (&failing[0]["reason"], &failing[0]["failures"]),
        (&json!("the endpoint answered 500"), &json!(1))
    );
    assert!(failing[0]["next_attempt_at"].as_u64().unwrap() > relay.now().as_millis());

    let shown = operator
        .get(&format!("/admin/v1/queues/{}?limit=1", account(&nodes[1])))
        .await;
    let item = &shown["items"][0];
    assert_eq!(
        (&item["kind"], &item["size_bytes"], &item["attempts"]),
        (&json!("envelope"), &json!(2_048), &json!(1))
    );
    assert_eq!(item["envelope"], ids[1].to_string());
    let next = shown["next"].as_u64().unwrap();
    let rest = operator
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
    let news = operator
        .get(&format!("/admin/v1/queues/{}", account(&acme)))
        .await;
    assert_eq!(
        (&news["items"][0]["kind"], &news["items"][0]["state"]),
        (&json!("event"), &json!("retrying"))
    );
}

#[tokio::test]
async fn a_queue_that_backs_off_is_tried_again_at_once() {
    for all in [false, true] {
        let relay = Relay::start().await;
        let hook = Hook::listen().await;
        let (acme, bolt) = (relay.node().await, relay.node_with_webhook(&hook).await);
        let operator = Operator::of(&relay);
        let mailbox = bolt.open_mailbox().await;
        assert!(bolt.test_webhook().await.ok);
        hook.always(Script::Status(500));
        let id = acme.post_to(&mailbox, 1).await;
        operator
            .lane(&bolt, |lane| lane["state"] == "backing_off")
            .await;
        hook.always(Script::Store);
        // Less than any backoff, and as far apart as calls have to be.
        relay.clock.advance(Duration::from_secs(1));
        let target = if all {
            "retry".to_owned()
        } else {
            format!("{}/retry", account(&bolt))
        };
        let retried = operator.post(&format!("/admin/v1/queues/{target}")).await;
        assert_eq!(
            retried["queues"],
            1 + u64::from(all),
            "all: {all}; the sender's own has news"
        );
        acme.sees(id, EnvelopeState::Stored).await;
    }
}

#[tokio::test]
async fn what_was_set_aside_is_tried_again_at_once() {
    let relay = Relay::start().await;
    let hook = Hook::listen().await;
    let (acme, bolt) = (relay.node().await, relay.node_with_webhook(&hook).await);
    let operator = Operator::of(&relay);
    let (mailbox, other) = (bolt.open_mailbox().await, bolt.open_mailbox().await);
    hook.always(Script::Choke { fill: 13 });
    let envelopes = vec![
        acme.envelope(&mailbox, 13),
        acme.envelope(&other, 1),
        acme.envelope(&other, 2),
    ];
    let ids: Vec<_> = envelopes.iter().map(|envelope| envelope.id).collect();
    acme.submit(envelopes).await;
    assert!(bolt.test_webhook().await.ok);
    let is_aside = |lane: &Value| {
        let items = lane["items"].as_array().unwrap();
        relay.clock.advance(Duration::from_secs(45));
        items.len() == 1 && items[0].get("set_aside_until").is_some()
    };
    operator.lane(&bolt, is_aside).await;
    hook.always(Script::Store);
    let retried = operator
        .post(&format!("/admin/v1/queues/{}/retry", account(&bolt)))
        .await;
    assert_eq!(retried["set_aside"], 1);
    acme_again(&relay, &acme)
        .await
        .sees(ids[0], EnvelopeState::Stored)
        .await;
}

#[tokio::test]
async fn a_dropped_envelope_fails_and_its_sender_is_told() {
    let relay = Relay::start().await;
    let (acme, bolt) = (relay.node().await, relay.node().await);
    let operator = Operator::of(&relay);
    let mailbox = bolt.open_mailbox().await;
    let (first, second) = (
        acme.post_to(&mailbox, 1).await,
        acme.post_to(&mailbox, 2).await,
    );
    let dropped = operator
        .call(
            Method::DELETE,
            &format!("/admin/v1/envelopes/{first}"),
            Value::Null,
        )
        .await;
    assert_eq!(dropped.ok::<Value>(), json!({"dropped": 1}));
    let event = acme.news(first, EnvelopeState::Failed).await;
    assert_eq!(event.reason.as_deref(), Some("dropped_by_operator"));
    let again = operator
        .call(
            Method::DELETE,
            &format!("/admin/v1/envelopes/{first}"),
            Value::Null,
        )
        .await;
    assert_eq!(again.code(), ErrorCode::NotFound, "it has ended");
    let batch = bolt.take_all(0).await;
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
async fn a_long_queue_is_dropped_in_steps_and_what_comes_meanwhile_stays() {
    let relay = Relay::start().await;
    let (acme, bolt) = (relay.node().await, relay.node().await);
    let operator = Operator::of(&relay);
    let mailbox = bolt.open_mailbox().await;
    for _ in 0..6 {
        acme.submit((0..100).map(|_| acme.envelope(&mailbox, 1)).collect())
            .await;
    }
    let target = format!("/admin/v1/queues/{}", account(&bolt));
    let first: Value = operator
        .call(Method::DELETE, &target, Value::Null)
        .await
        .ok();
    assert_eq!(first["dropped"], 500);
    let late = acme.post_to(&mailbox, 2).await;
    let rest = format!("{target}?up_to={}", first["up_to"]);
    let second: Value = operator.call(Method::DELETE, &rest, Value::Null).await.ok();
    assert_eq!(second, json!({"dropped": 100}));
    let shown = operator.get(&target).await;
    assert_eq!(
        (&shown["waiting"], &shown["items"][0]["envelope"]),
        (&json!(1), &json!(late))
    );
    let news = operator
        .get(&format!("/admin/v1/queues/{}", account(&acme)))
        .await;
    assert_eq!(news["waiting"], 600, "every sender is told");
}

#[tokio::test]
async fn the_figures_are_those_of_the_relay() {
    let relay = Relay::start().await;
    let hook = Hook::listen().await;
    let (acme, bolt) = (relay.node().await, relay.node_with_webhook(&hook).await);
    let operator = Operator::of(&relay);
    let empty = operator.get("/admin/v1/stats").await;
    assert_eq!(
        (&empty["queued"], &empty["oldest_at"], &empty["accounts"]),
        (&json!(0), &Value::Null, &json!(2))
    );
    assert_eq!(empty["minutes"].as_array().unwrap().len(), 60);
    let mailbox = bolt.open_mailbox().await;
    assert!(bolt.test_webhook().await.ok);
    hook.then(Script::Status(500));
    let accepted_at = relay.now();
    let id = acme.post_to(&mailbox, 1).await;
    let mut wrong = acme.envelope(&mailbox, 2);
    wrong.proof.0[0] ^= 1;
    acme.submit(vec![wrong]).await;
    operator
        .lane(&bolt, |lane| lane["state"] == "backing_off")
        .await;
    let busy = operator.get("/admin/v1/stats").await;
    assert_eq!(
        (&busy["queues"], &busy["failing"], &busy["mailboxes"]),
        (&json!(2), &json!(1), &json!(1))
    );
    assert_eq!(
        busy["oldest_at"].as_u64().map(Timestamp::from_millis),
        Some(accepted_at)
    );
    relay.clock.advance(Duration::from_secs(60));
    acme.sees(id, EnvelopeState::Stored).await;
    // What happened is counted after it was written down.
    let counting = async {
        loop {
            let stats = operator.get("/admin/v1/stats").await;
            if stats["last_hour"]["delivered"] == 1 {
                return stats;
            }
        }
    };
    let done = tokio::time::timeout(DEADLINE, counting)
        .await
        .expect("it was counted in time");
    let expected = json!({"accepted": 1, "delivered": 1, "failed_calls": 1, "refused": 1});
    assert_eq!(done["last_hour"], expected);
    assert_eq!(
        (
            &done["minutes"][58]["accepted"],
            &done["minutes"][59]["delivered"]
        ),
        (&json!(1), &json!(1))
    );
    assert!(
        done["storage"]["database_bytes"].as_u64().unwrap() > 0
            && done["storage"]["free_bytes"].is_u64()
    );
    relay.clock.advance(Duration::from_secs(3_600));
    assert_eq!(
        operator.get("/admin/v1/stats").await["last_hour"]["accepted"],
        0
    );
}

#[tokio::test]
async fn the_document_is_whole_and_needs_no_token() {
    let relay = Relay::start().await;
    let operator = Operator::of(&relay);
    let mut request = operator.request(Method::GET, "/admin/openapi.json", &Value::Null);
    request.headers_mut().remove("authorization");
    let document: Value = operator.send(request).await.ok();
    let text = document.to_string();
    for name in text
        .split("\"$ref\":\"#")
        .skip(1)
        .filter_map(|rest| rest.split('"').next())
    {
        assert!(
            document.pointer(name).is_some(),
            "{name} is named and not there"
        );
    }
    let operations = document["paths"]
        .as_object()
        .unwrap()
        .values()
        .flat_map(|path| path.as_object().unwrap().values());
    for operation in operations {
        assert!(
            operation["summary"].is_string() && operation["security"][0]["token"].is_array(),
            "{operation}"
        );
    }
}

#[tokio::test]
async fn the_page_brings_nothing_from_elsewhere() {
    let relay = Relay::start().await;
    let operator = Operator::of(&relay);
    for (path, kind) in [
        ("/", "text/html; charset=utf-8"),
        ("/page.css", "text/css; charset=utf-8"),
        ("/page.js", "text/javascript; charset=utf-8"),
        ("/chart.js", "text/javascript; charset=utf-8"),
        ("/icon.svg", "image/svg+xml"),
    ] {
        let reply = operator.call(Method::GET, path, Value::Null).await;
        assert_eq!(
            (reply.status, &reply.headers["content-type"]),
            (StatusCode::OK, &http::HeaderValue::from_static(kind))
        );
        let policy = reply.headers["content-security-policy"].to_str().unwrap();
        assert!(
            policy.starts_with("default-src 'none'; script-src 'self'")
                && !policy.contains("unsafe"),
            "{policy}"
        );
        let text = std::str::from_utf8(&reply.body).unwrap();
        let without_names = text.replace("http://www.w3.org/2000/svg", "");
        assert!(
            !without_names.contains("http://") && !without_names.contains("https://"),
            "{path}"
        );
        assert!(!text.contains(&operator.token), "{path}");
        assert!(
            !text.contains("innerHTML") && !text.contains(" style=") && !text.contains(" onclick"),
            "{path}"
        );
    }
}
