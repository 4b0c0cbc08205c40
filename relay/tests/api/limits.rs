//! Rate limits and quotas, and their isolation between accounts.

use crate::support::{Node, Relay, Reply, within_deadline};
use bytes::Bytes;
use futures_util::future::join_all;
use http::{HeaderValue, Method, Request, StatusCode};
use http_body_util::Full;
use sealpost_proto::{
    ErrorCode, SessionKey,
    wire::{SubmitOutcome, SubmitRequest, WellKnown},
};

fn is_refused(reply: &Reply) -> bool {
    if reply.status != StatusCode::TOO_MANY_REQUESTS {
        assert_eq!(reply.status, StatusCode::OK, "{reply:?}");
        return false;
    }
    assert_eq!(reply.code(), ErrorCode::RateLimited);
    let seconds: u64 = reply.headers["retry-after"]
        .to_str()
        .unwrap()
        .parse()
        .unwrap();
    assert!(seconds > 0);
    true
}

#[tokio::test]
async fn request_rate_is_limited_per_account() {
    let relay = Relay::start_with(|config| {
        config.rates.requests_per_second = 1;
        config.rates.requests_burst = 5;
    })
    .await;
    let (acme, bolt) = (relay.node().await, relay.node().await);
    let replies = join_all((0..40).map(|_| acme.get("/v1/account"))).await;
    let refused: Vec<_> = replies.iter().filter(|reply| is_refused(reply)).collect();
    assert!(
        !refused.is_empty() && refused.len() < replies.len(),
        "{} of 40",
        refused.len()
    );
    for reply in &replies {
        assert_eq!(reply.headers["ratelimit-policy"], r#""requests";q=5;w=5"#);
        let rate_limit = reply.headers["ratelimit"].to_str().unwrap();
        assert!(
            rate_limit.starts_with(r#""requests";r="#)
                && (!is_refused(reply) || rate_limit.contains(";r=0;")),
            "{reply:?}"
        );
    }
    assert_eq!(
        bolt.get("/v1/account").await.status,
        StatusCode::OK,
        "each account has its own limit"
    );
    let again = async { while is_refused(&acme.get("/v1/account").await) {} };
    within_deadline(again).await;
}

#[tokio::test]
async fn envelope_rate_applies_to_whole_requests() {
    // One envelope per minute; the burst always allows a full request of 100.
    let relay = Relay::start_with(|config| config.rates.envelopes_per_minute = 1).await;
    let (acme, bolt) = (relay.node().await, relay.node().await);
    let mailbox = bolt.open_mailbox().await;
    let envelopes = (0..99).map(|_| acme.new_envelope(&mailbox, 1)).collect();
    assert!(
        acme.submit(envelopes)
            .await
            .iter()
            .all(|outcome| matches!(outcome, SubmitOutcome::Accepted { .. }))
    );
    let envelopes: Vec<_> = (0..50).map(|_| acme.new_envelope(&mailbox, 2)).collect();
    let reply = acme
        .post(
            "/v1/envelopes",
            &SubmitRequest {
                envelopes: envelopes.clone(),
            },
        )
        .await;
    assert!(is_refused(&reply));
    assert_eq!(
        reply.headers["ratelimit-policy"]
            .to_str()
            .unwrap()
            .matches("\"envelopes\";q=100;w=6000")
            .count(),
        1,
        "{reply:?}"
    );
    assert_eq!(
        acme.get(&format!("/v1/envelopes/{}", envelopes[0].id))
            .await
            .code(),
        ErrorCode::NotFound
    );
    bolt.submit(vec![bolt.new_envelope(&mailbox, 3)]).await;
}

async fn get_from_address(node: &Node, path: &str, address: Option<&str>) -> Reply {
    let mut request = node.unsigned_request(Method::GET, path, "");
    if let Some(address) = address {
        request
            .headers_mut()
            .insert("x-forwarded-for", address.parse().unwrap());
    }
    node.send(request).await
}

#[tokio::test]
async fn requests_without_session_are_limited_by_address() {
    let relay = Relay::start_with(|config| config.rates.address_requests_per_minute = 2).await;
    let node = Node::new(&relay);
    let known = "/.well-known/sealpost";
    for (path, address, refused) in [
        (known, Some("198.51.100.1"), false),
        ("/i", Some("198.51.100.1"), false),
        (known, Some("198.51.100.1"), true),
        ("/i", Some("1.2.3.4, 198.51.100.1"), true),
        (known, Some("198.51.100.2"), false),
        (known, None, false),
        ("/healthz", Some("198.51.100.1"), false),
        ("/readyz", Some("198.51.100.1"), false),
    ] {
        assert_eq!(
            is_refused(&get_from_address(&node, path, address).await),
            refused,
            "{path} {address:?}"
        );
    }
    let register = |address: &str| {
        let mut request = node.key_request(
            Method::POST,
            "/v1/accounts",
            r#"{"delivery":{"mode":"pull"}}"#,
        );
        request
            .headers_mut()
            .insert("x-forwarded-for", address.parse().unwrap());
        request
    };
    assert!(
        is_refused(&node.send(register("198.51.100.1")).await),
        "the limit applies to registration too"
    );
    assert_eq!(
        node.send(register("198.51.100.3")).await.status,
        StatusCode::CREATED
    );
}

#[tokio::test]
async fn unauthenticated_requests_count_against_the_address() {
    let relay = Relay::start_with(|config| config.rates.address_requests_per_minute = 1).await;
    let node = relay.node().await;
    let mut forged = relay.node().await;
    forged.session = Some((
        node.session.as_ref().unwrap().0.clone(),
        SessionKey::from_bytes([7; 32]),
    ));
    let requests = [
        forged.session_request(Method::GET, "/v1/account", ""),
        node.unsigned_request(Method::GET, "/v1/account", ""),
        node.unsigned_request(Method::GET, "/openapi.json", ""),
        node.unsigned_request(Method::DELETE, "/.well-known/sealpost", ""),
    ];
    for (number, request) in requests.into_iter().enumerate() {
        let address = format!("198.51.100.{number}").parse().unwrap();
        let with_address = |mut request: Request<Full<Bytes>>, address: &HeaderValue| {
            request
                .headers_mut()
                .insert("x-forwarded-for", address.clone());
            request
        };
        let first = with_address(request.clone(), &address);
        let first = node.send_undocumented(first).await;
        assert_ne!(first.status, StatusCode::TOO_MANY_REQUESTS, "{request:?}");
        let second = with_address(request.clone(), &address);
        let second = node.send_undocumented(second).await;
        assert_eq!(second.code(), ErrorCode::RateLimited, "{request:?}");
        let signed = node.session_request(Method::GET, "/v1/account", "");
        let signed = node.send(with_address(signed, &address)).await;
        assert_eq!(signed.status, StatusCode::OK, "accounts are not affected");
    }
}

#[tokio::test]
async fn forwarded_for_of_untrusted_clients_is_ignored() {
    let relay = Relay::start_with(|config| {
        config.rates.trusted_proxies.clear();
        config.rates.address_requests_per_minute = 1;
    })
    .await;
    let node = Node::new(&relay);
    assert!(!is_refused(
        &get_from_address(&node, "/i", Some("198.51.100.1")).await
    ));
    assert!(
        is_refused(&get_from_address(&node, "/i", Some("198.51.100.2")).await),
        "both requests have the same peer address"
    );
}

#[tokio::test]
async fn well_known_announces_configured_limits() {
    let relay = Relay::start_with(|config| {
        config.rates.requests_per_second = 7;
        config.rates.requests_burst = 9;
        config.rates.envelopes_per_minute = 0;
        config.quotas.account_envelopes = 11;
    })
    .await;
    let node = Node::new(&relay);
    let known: WellKnown = node
        .send(node.unsigned_request(Method::GET, "/.well-known/sealpost", ""))
        .await
        .ok();
    assert_eq!(
        (known.rates.requests_per_second, known.rates.requests_burst),
        (Some(7), Some(9))
    );
    assert_eq!(
        (
            known.rates.envelopes_per_minute,
            known.limits.account_envelopes
        ),
        (None, Some(11))
    );
}

#[tokio::test]
async fn mailboxes_of_an_account_share_a_quota() {
    let relay = Relay::start_with(|config| config.quotas.account_envelopes = 2).await;
    let (acme, bolt) = (relay.node().await, relay.node().await);
    let (one, two) = (bolt.open_mailbox().await, bolt.open_mailbox().await);
    let envelopes = [&one, &two, &one, &one]
        .map(|mailbox| acme.new_envelope(mailbox, 1))
        .to_vec();
    let outcomes = acme.submit(envelopes.clone()).await;
    let is_accepted = |outcome: &SubmitOutcome| matches!(outcome, SubmitOutcome::Accepted { .. });
    assert!(is_accepted(&outcomes[0]) && is_accepted(&outcomes[1]));
    let full = |code, outcome: &SubmitOutcome| {
        matches!(
            outcome,
            SubmitOutcome::Refused { code: found, retry_after_ms: Some(wait) }
                if *found == code && *wait > 0
        )
    };
    assert!(
        full(ErrorCode::MailboxFull, &outcomes[2])
            && full(ErrorCode::EarlierEnvelopeRefused, &outcomes[3]),
        "{outcomes:?}"
    );
    bolt.pull_and_store(0).await;
    assert!(
        acme.submit(envelopes[2..].to_vec())
            .await
            .iter()
            .all(is_accepted)
    );
}
