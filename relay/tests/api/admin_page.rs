//! Summary, OpenAPI document and status page of the admin API.

use crate::{
    admin::AdminClient,
    support::{Relay, TestWebhook, WebhookBehavior, eventually_some},
};
use http::{Method, StatusCode};
use sealpost_proto::{EnvelopeState, Timestamp};
use serde_json::{Value, json};
use std::{collections::BTreeSet, time::Duration};

#[tokio::test]
async fn stats_match_the_activity() {
    let relay = Relay::start().await;
    let hook = TestWebhook::listen().await;
    let (acme, bolt) = (relay.node().await, relay.node_with_webhook(&hook).await);
    let admin = AdminClient::new(&relay);
    let empty = admin.get("/admin/v1/stats").await;
    assert_eq!(
        (&empty["queued"], &empty["oldest_at"], &empty["accounts"]),
        (&json!(0), &Value::Null, &json!(2))
    );
    assert_eq!(empty["minutes"].as_array().unwrap().len(), 60);
    let mailbox = bolt.open_mailbox().await;
    assert!(bolt.test_webhook().await.ok);
    hook.once(WebhookBehavior::Status(500));
    let accepted_at = relay.now();
    let id = acme.submit_one(&mailbox, 1).await;
    let mut wrong = acme.new_envelope(&mailbox, 2);
    wrong.proof.0[0] ^= 1;
    acme.submit(vec![wrong]).await;
    admin
        .wait_for_lane(&bolt, |lane| lane["state"] == "backing_off")
        .await;
    let busy = admin.get("/admin/v1/stats").await;
    assert_eq!(
        (&busy["queues"], &busy["failing"], &busy["mailboxes"]),
        (&json!(2), &json!(1), &json!(1))
    );
    assert_eq!(
        busy["oldest_at"].as_u64().map(Timestamp::from_millis),
        Some(accepted_at)
    );
    relay.clock.advance(Duration::from_secs(60));
    acme.wait_for_state(id, EnvelopeState::Stored).await;
    // Deliveries are counted after they have been recorded.
    let done = eventually_some(async || {
        let stats = admin.get("/admin/v1/stats").await;
        Some(stats).filter(|stats| stats["last_hour"]["delivered"] == 1)
    })
    .await;
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
        admin.get("/admin/v1/stats").await["last_hour"]["accepted"],
        0
    );
}

#[tokio::test]
async fn admin_document_needs_no_token() {
    let relay = Relay::start().await;
    let admin = AdminClient::new(&relay);
    let mut request = admin.request(Method::GET, "/admin/openapi.json", &Value::Null);
    request.headers_mut().remove("authorization");
    let document: Value = admin.send(request).await.ok();
    let text = document.to_string();
    for name in text
        .split("\"$ref\":\"#")
        .skip(1)
        .filter_map(|rest| rest.split('"').next())
    {
        assert!(document.pointer(name).is_some(), "{name} does not exist");
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
async fn status_page_loads_nothing_external() {
    let relay = Relay::start().await;
    let admin = AdminClient::new(&relay);
    for (path, kind) in [
        ("/", "text/html; charset=utf-8"),
        ("/page.css", "text/css; charset=utf-8"),
        ("/page.js", "text/javascript; charset=utf-8"),
        ("/account.js", "text/javascript; charset=utf-8"),
        ("/api.js", "text/javascript; charset=utf-8"),
        ("/chart.js", "text/javascript; charset=utf-8"),
        ("/elements.js", "text/javascript; charset=utf-8"),
        ("/format.js", "text/javascript; charset=utf-8"),
        ("/icon.svg", "image/svg+xml"),
    ] {
        let reply = admin.call(Method::GET, path, Value::Null).await;
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
        assert!(!text.contains(&admin.token), "{path}");
        assert!(
            !text.contains("innerHTML") && !text.contains(" style=") && !text.contains(" onclick"),
            "{path}"
        );
    }
}

/// Text of a file of the status page.
async fn page_file(admin: &AdminClient, path: &str) -> String {
    let reply = admin.call(Method::GET, path, Value::Null).await;
    assert_eq!(reply.status, StatusCode::OK, "{path}");
    String::from_utf8(reply.body.to_vec()).unwrap()
}

/// Returns the texts that follow `before` and precede `after`.
fn texts_between<'a>(text: &'a str, before: &str, after: &str) -> BTreeSet<&'a str> {
    let rest = text.split(before).skip(1);
    rest.filter_map(|rest| rest.split_once(after))
        .map(|(found, _)| found)
        .collect()
}

#[tokio::test]
async fn page_scripts_find_their_modules_and_elements() {
    let relay = Relay::start().await;
    let admin = AdminClient::new(&relay);
    let html = page_file(&admin, "/").await;
    let ids = texts_between(&html, " id=\"", "\"");
    let (mut waiting, mut loaded) = (vec!["/page.js".to_owned()], BTreeSet::new());
    while let Some(path) = waiting.pop() {
        if !loaded.insert(path.clone()) {
            continue;
        }
        let script = page_file(&admin, &path).await;
        for id in texts_between(&script, "byId(\"", "\"").union(&texts_between(
            &script,
            "setText(\"",
            "\"",
        )) {
            assert!(ids.contains(id), "{path}: {id}");
        }
        waiting.extend(
            texts_between(&script, " from \"", "\"")
                .into_iter()
                .map(str::to_owned),
        );
    }
    assert_eq!(loaded.len(), 6, "{loaded:?}");
}

#[tokio::test]
async fn page_actions_are_documented_operations() {
    let relay = Relay::start().await;
    let admin = AdminClient::new(&relay);
    let document = admin.document().await;
    for script in ["/page.js", "/account.js"] {
        let script = page_file(&admin, script).await;
        for method in ["get", "post"] {
            let templates = texts_between(&script, &format!("{method}(`"), "`");
            let texts = texts_between(&script, &format!("{method}(\""), "\"");
            for target in templates.union(&texts) {
                // A part of a template is an account id, or the start of the path of a list.
                let path = target.split('?').next().unwrap_or_default();
                let path = path
                    .replace("${id}", "{id}")
                    .replace("${list}&failing=true", "queues");
                let operation = &document["paths"][format!("/admin/v1/{path}")][method];
                assert!(operation.is_object(), "{method} {target}");
            }
        }
    }
    let account = page_file(&admin, "/account.js").await;
    for action in [
        "queues/${id}/retry",
        "accounts/${id}/suspend",
        "accounts/${id}/resume",
    ] {
        assert!(account.contains(&format!("post(`{action}`)")), "{action}");
    }
}

#[tokio::test]
async fn page_shows_times_with_24_hours() {
    let relay = Relay::start().await;
    let admin = AdminClient::new(&relay);
    for script in ["/page.js", "/account.js", "/format.js", "/chart.js"] {
        let script = page_file(&admin, script).await;
        for depends_on_language in ["toLocaleTimeString", "toLocaleDateString", "DateTimeFormat"] {
            assert!(!script.contains(depends_on_language));
        }
    }
}
