use super::*;
use axum::{
    Router,
    body::{Body, to_bytes},
    extract::{Request, State},
    response::{Html, IntoResponse, Redirect, Response},
};
use bytes::Bytes;
use ed25519_dalek::SigningKey;
use http::{HeaderMap, StatusCode, header};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use sealpost_proto::{
    AccountId, B64, BlobId, BlobRef, EnvelopeId, ErrorCode, FetchToken, MailboxId, MailboxRef,
    Origin, Problem, SendKey, Timestamp, limits,
    wire::{Checkpoint, OpenMailbox, Session, SubmitRequest, WebhookState},
};
use sealpost_service::{Clock as _, ManualClock, http::ProblemResponse, random_array};
use sealpost_signatures::{
    AccountKey, ReceivedSignature, RelaySecret, RequestParts, SessionId, Signer, proofs,
};
use serde_json::json;
use std::{
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::{
    io::AsyncWriteExt as _,
    net::{TcpListener, TcpSocket},
};

const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_000);
const MAILBOX: MailboxId = MailboxId::from_bytes([3; 16]);
const ENVELOPE: EnvelopeId = EnvelopeId::from_bytes([4; 16]);
const BLOB: BlobId = BlobId::from_bytes([5; 16]);

/// What the relay of a test saw of one request.
#[derive(Clone)]
struct Seen {
    method: String,
    target: String,
    signer: Option<Signer>,
    headers: HeaderMap,
    body: Bytes,
}

type Answers = dyn Fn(&Seen) -> Response + Send + Sync;

/// Relay that checks signatures and signs in like a real one, and responds as the test defines.
struct Relay {
    origin: Origin,
    clock: ManualClock,
    secret: RelaySecret,
    generation: Mutex<u32>,
    seen: Mutex<Vec<Seen>>,
    answers: Box<Answers>,
}

impl Relay {
    async fn start(answers: impl Fn(&Seen) -> Response + Send + Sync + 'static) -> Arc<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let relay = Arc::new(Self {
            origin: Origin::parse(&format!("http://{}", listener.local_addr().unwrap())).unwrap(),
            clock: ManualClock::new(NOW),
            secret: RelaySecret::from_bytes([1; 32]),
            generation: Mutex::new(1),
            seen: Mutex::new(Vec::new()),
            answers: Box::new(answers),
        });
        let router = Router::new()
            .fallback(response)
            .with_state(Arc::clone(&relay));
        tokio::spawn(async move { axum::serve(listener, router).await });
        relay
    }

    fn client(&self, clock: &ManualClock) -> RelayClient {
        RelayClient::new(
            self.origin.clone(),
            account(),
            Arc::new(clock.clone()),
            build_http_client(&[]).unwrap(),
        )
    }

    /// Method and target of every request, in order.
    fn requests(&self) -> Vec<String> {
        self.seen
            .lock()
            .unwrap()
            .iter()
            .map(|seen| format!("{} {}", seen.method, seen.target))
            .collect()
    }

    fn last(&self) -> Seen {
        self.seen.lock().unwrap().last().unwrap().clone()
    }

    fn end_sessions(&self) {
        *self.generation.lock().unwrap() += 1;
    }

    fn check(
        &self,
        signature: &ReceivedSignature,
        parts: &RequestParts<'_>,
    ) -> Result<Signer, Problem> {
        let skewed = |error: sealpost_signatures::SignatureError| {
            Problem::new(error.code(), "").relay_time(self.clock.now())
        };
        match signature.params().signer {
            Signer::Account(_) => {
                assert!(signature.params().nonce.is_some());
                signature
                    .verify_ed25519(parts, self.clock.now())
                    .map(Signer::Account)
                    .map_err(skewed)
            }
            Signer::Session(id) => {
                if id.key_generation != *self.generation.lock().unwrap() {
                    return Err(ErrorCode::SessionInvalid.into());
                }
                let key = self.secret.session_key(&id);
                signature
                    .verify_hmac(parts, &key, self.clock.now())
                    .map(Signer::Session)
                    .map_err(skewed)
            }
        }
    }

    fn open_session(&self) -> Response {
        let id = SessionId {
            account: AccountId::from_bytes([9; 16]),
            key_generation: *self.generation.lock().unwrap(),
            expires_at: self.clock.now().plus(limits::SESSION_LIFETIME),
            random: random_array(),
        };
        let key = self.secret.session_key(&id);
        let relay_time = self.clock.now();
        axum::Json(Session {
            session_id: id.to_string(),
            key,
            expires_at: id.expires_at,
            relay_time,
            webhook: Some(WebhookState::Active),
        })
        .into_response()
    }
}

async fn response(State(relay): State<Arc<Relay>>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let body = to_bytes(body, usize::MAX).await.unwrap();
    let mut seen = Seen {
        method: head.method.to_string(),
        target: head.uri.to_string(),
        signer: None,
        headers: head.headers,
        body,
    };
    let verdict = ReceivedSignature::from_headers(&seen.headers)
        .ok()
        .map(|signature| {
            signature.check_body(&seen.body).unwrap();
            let parts = RequestParts {
                method: &seen.method,
                authority: relay.origin.authority(),
                path: head.uri.path(),
                query: head.uri.query(),
            };
            relay.check(&signature, &parts)
        });
    seen.signer = verdict
        .as_ref()
        .and_then(|verdict| verdict.as_ref().ok().copied());
    relay.seen.lock().unwrap().push(seen.clone());
    match verdict {
        Some(Err(problem)) => ProblemResponse::from(problem).into_response(),
        _ if seen.target == "/v1/session" => relay.open_session(),
        _ => (relay.answers)(&seen),
    }
}

fn account() -> SigningKey {
    SigningKey::from_bytes(&[2; 32])
}

fn empty(_: &Seen) -> Response {
    StatusCode::NO_CONTENT.into_response()
}

fn account_json(_: &Seen) -> Response {
    let account = json!({
        "account_id": AccountId::from_bytes([9; 16]), "delivery": {"mode": "pull"},
        "webhook_state": "none",
        "backlog": 0, "created_at": 5, "added_later": true
    });
    axum::Json(account).into_response()
}

fn problem(code: ErrorCode) -> Response {
    ProblemResponse::from(Problem::new(code, "so it is").retry_after_ms(1_500)).into_response()
}

#[tokio::test]
async fn client_signs_in_once() {
    let relay = Relay::start(account_json).await;
    let client = relay.client(&relay.clock);
    let (one, two) = tokio::join!(client.fetch_account(), client.fetch_account());
    assert_eq!(one.unwrap(), two.unwrap());
    assert_eq!(
        relay.requests(),
        ["POST /v1/session", "GET /v1/account", "GET /v1/account"]
    );
    let signers: Vec<_> = relay
        .seen
        .lock()
        .unwrap()
        .iter()
        .map(|seen| seen.signer)
        .collect();
    assert_eq!(
        signers[0],
        Some(Signer::Account(AccountKey::of(&account())))
    );
    assert!(matches!(signers[1], Some(Signer::Session(_))));
}

#[tokio::test]
async fn expired_session_is_reopened_once() {
    let relay = Relay::start(account_json).await;
    let client = relay.client(&relay.clock);
    client.fetch_account().await.unwrap();
    relay.end_sessions();
    client.fetch_account().await.unwrap();
    let expected = [
        "POST /v1/session",
        "GET /v1/account",
        "GET /v1/account",
        "POST /v1/session",
        "GET /v1/account",
    ];
    assert_eq!(relay.requests(), expected);

    let stubborn = Relay::start(|_| problem(ErrorCode::SessionInvalid)).await;
    let error = stubborn
        .client(&stubborn.clock)
        .fetch_account()
        .await
        .unwrap_err();
    assert!(
        matches!(error, ClientError::Problem(problem) if problem.code == ErrorCode::SessionInvalid)
    );
    assert_eq!(stubborn.requests().len(), 4);
}

#[tokio::test]
async fn session_is_renewed_before_expiry() {
    let relay = Relay::start(account_json).await;
    let client = relay.client(&relay.clock);
    client.fetch_account().await.unwrap();
    relay
        .clock
        .advance(limits::SESSION_LIFETIME - Duration::from_secs(30));
    client.fetch_account().await.unwrap();
    assert_eq!(
        relay
            .requests()
            .iter()
            .filter(|request| *request == "POST /v1/session")
            .count(),
        2
    );
}

#[tokio::test]
async fn client_adopts_relay_clock() {
    for (ours, offset) in [
        (NOW.minus(Duration::from_secs(3_600)), 3_600_000),
        (NOW.plus(Duration::from_secs(7_200)), -7_200_000),
    ] {
        let relay = Relay::start(account_json).await;
        let client = relay.client(&ManualClock::new(ours));
        assert_eq!(client.clock_offset_ms(), 0);
        client.fetch_account().await.unwrap();
        assert_eq!(client.clock_offset_ms(), offset);
        assert_eq!(
            relay.requests(),
            ["POST /v1/session", "POST /v1/session", "GET /v1/account"]
        );
    }
}

#[tokio::test]
async fn corrected_clock_is_adopted() {
    let relay = Relay::start(account_json).await;
    let clock = ManualClock::new(NOW.minus(Duration::from_secs(3_600)));
    let client = relay.client(&clock);
    client.fetch_account().await.unwrap();
    clock.set(NOW);
    client.fetch_account().await.unwrap();
    assert_eq!(client.clock_offset_ms(), 0);
}

#[tokio::test]
async fn problems_are_parsed() {
    let relay = Relay::start(|_| problem(ErrorCode::Overloaded)).await;
    let error = relay
        .client(&relay.clock)
        .submit(&SubmitRequest::default())
        .await
        .unwrap_err();
    assert!(error.is_retryable());
    assert_eq!(error.retry_after(), Some(Duration::from_millis(1_500)));
    let relay = Relay::start(|_| problem(ErrorCode::TooLate)).await;
    let mailbox = MailboxRef {
        relay: relay.origin.clone(),
        id: MAILBOX,
    };
    let key = SendKey::from_bytes([7; 32]);
    let error = relay
        .client(&relay.clock)
        .recall(&mailbox, ENVELOPE, &key)
        .await
        .unwrap_err();
    assert!(!error.is_retryable());
}

#[tokio::test]
async fn unexpected_responses_are_reported() {
    let other = Relay::start(|_| axum::Json(json!({"a": 1})).into_response()).await;
    assert!(matches!(
        other.client(&other.clock).fetch_account().await,
        Err(ClientError::Unexpected { .. })
    ));
    let portal = Relay::start(|_| Html("<p>Please sign in</p>").into_response()).await;
    let error = portal.client(&portal.clock).fetch_account().await;
    let error = error.unwrap_err();
    assert!(error.to_string().contains("HTML page"), "{error}");
    assert!(error.is_retryable());
}

#[tokio::test]
async fn failures_of_proxies_are_named() {
    let page = Relay::start(|_| (StatusCode::BAD_GATEWAY, Html("<html>")).into_response()).await;
    let error = page.client(&page.clock).fetch_account().await.unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("a proxy in front of the relay responded with 502")
    );
    assert!(error.is_retryable() && error.retry_after().is_none());
}

#[tokio::test]
async fn proxies_can_request_a_delay() {
    // NOW is 2023-11-14T22:13:20Z.
    for (status, delay, seconds) in [
        (StatusCode::TOO_MANY_REQUESTS, "120", 120),
        (
            StatusCode::SERVICE_UNAVAILABLE,
            "Tue, 14 Nov 2023 22:14:20 GMT",
            60,
        ),
    ] {
        let busy =
            Relay::start(move |_| (status, [(header::RETRY_AFTER, delay)], "busy").into_response());
        let busy = busy.await;
        let error = busy.client(&busy.clock).fetch_account().await.unwrap_err();
        assert_eq!(
            error.retry_after(),
            Some(Duration::from_secs(seconds)),
            "{error}"
        );
    }
    let beside = Relay::start(|_| {
        let problem = ProblemResponse::from(Problem::from(ErrorCode::Overloaded));
        ([(header::RETRY_AFTER, "7")], problem).into_response()
    });
    let beside = beside.await;
    let error = beside.client(&beside.clock).fetch_account().await;
    assert_eq!(
        error.unwrap_err().retry_after(),
        Some(Duration::from_secs(7))
    );
}

#[tokio::test]
async fn redirects_are_reported_and_not_followed() {
    for (location, target) in [
        (
            "https://user:pw@relay.example/v1/account?a=b",
            "https://relay.example",
        ),
        ("//relay.example:444/", "http://relay.example:444"),
    ] {
        let redirecting = Relay::start(|_| Redirect::temporary(location).into_response()).await;
        let client = redirecting.client(&redirecting.clock);
        let error = client.fetch_account().await.unwrap_err();
        let (status, target) = (307, target.to_owned());
        assert_eq!(error, ClientError::Redirected { status, target });
        assert_eq!(
            redirecting.requests().len(),
            2,
            "the redirect is not followed"
        );
    }
    let nowhere = Relay::start(|_| StatusCode::FOUND.into_response()).await;
    let error = nowhere.client(&nowhere.clock).fetch_account().await;
    assert!(matches!(error, Err(ClientError::Proxy { status: 302, .. })));
}

/// Serves `204` over TLS on loopback with a certificate for `localhost`.
async fn serve_tls() -> (Origin, CertificateDer<'static>) {
    let key = rcgen::KeyPair::generate().unwrap();
    let params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let certificate = params.self_signed(&key).unwrap().der().clone();
    let private = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.clone()], private)
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            // A client that refuses the certificate ends the handshake.
            if let Ok(mut stream) = acceptor.accept(socket).await {
                let response = b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n";
                let _ = stream.write_all(response).await;
                let _ = stream.shutdown().await;
            }
        }
    });
    let origin = Origin::parse(&format!("https://localhost:{port}")).unwrap();
    (origin, certificate)
}

#[tokio::test]
async fn private_authorities_are_trusted_if_configured() {
    let (origin, certificate) = serve_tls().await;
    let call = async |authorities: &[CertificateDer<'static>]| {
        let clock = Arc::new(ManualClock::new(NOW));
        let http = build_http_client(authorities).unwrap();
        let client = RelayClient::new(origin.clone(), account(), clock, http);
        client.delete_account().await
    };
    let refused = call(&[]).await;
    assert!(
        matches!(refused, Err(ClientError::Unreachable { .. })),
        "{refused:?}"
    );
    assert_eq!(call(&[certificate]).await, Ok(()));
}

#[tokio::test]
async fn stopped_relay_is_unreachable() {
    // Bound, so that nobody else gets it, and not listening.
    let nobody = TcpSocket::new_v4().unwrap();
    nobody.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let origin = Origin::parse(&format!("http://{}", nobody.local_addr().unwrap())).unwrap();
    let clock = Arc::new(ManualClock::new(NOW));
    let client = RelayClient::new(origin, account(), clock, build_http_client(&[]).unwrap());
    let error = client.sign_in().await.unwrap_err();
    let loss = RequestLoss::NotSent;
    assert!(matches!(&error, ClientError::Unreachable { loss: found, .. } if *found == loss));
    assert!(error.is_retryable());
    assert!(!error.to_string().contains("/v1"), "{error}");
}

#[tokio::test]
async fn changes_are_signed_with_the_account_key() {
    let relay = Relay::start(empty).await;
    let client = relay.client(&relay.clock);
    client
        .open_mailbox(
            MAILBOX,
            &OpenMailbox {
                send_keys: vec![SendKey::from_bytes([7; 32])],
                sender_envelopes_max: None,
            },
        )
        .await
        .unwrap();
    client.close_mailbox(MAILBOX).await.unwrap();
    client.delete_account().await.unwrap();
    let path = format!("/v1/mailboxes/{MAILBOX}");
    assert_eq!(
        relay.requests(),
        [
            format!("PUT {path}"),
            format!("DELETE {path}"),
            "DELETE /v1/account".to_owned()
        ]
    );
    assert!(
        relay
            .seen
            .lock()
            .unwrap()
            .iter()
            .all(|seen| matches!(seen.signer, Some(Signer::Account(_))))
    );
}

#[tokio::test]
async fn mailbox_requests_carry_proofs() {
    let relay = Relay::start(|seen| match seen.method.as_str() {
        "GET" => axum::Json(json!({"sealed": "AAAA"})).into_response(),
        _ => empty(seen),
    })
    .await;
    let client = relay.client(&relay.clock);
    let key = SendKey::from_bytes([7; 32]);
    let proof_of = |seen: &Seen| -> [u8; 16] {
        sealpost_proto::b64::parse_array(seen.headers["sealpost-proof"].to_str().unwrap()).unwrap()
    };
    let mailbox = MailboxRef {
        relay: relay.origin.clone(),
        id: MAILBOX,
    };
    client.fetch_prekeys(&mailbox, &key).await.unwrap();
    let read = relay.last();
    assert_eq!(
        read.headers["sealpost-proof-time"],
        NOW.as_millis().to_string().as_str()
    );
    assert!(proofs::verify_read(
        std::slice::from_ref(&key),
        MAILBOX,
        NOW,
        NOW,
        &proof_of(&read)
    ));
    client.recall(&mailbox, ENVELOPE, &key).await.unwrap();
    assert!(proofs::verify_recall(
        &[key],
        MAILBOX,
        ENVELOPE,
        &proof_of(&relay.last())
    ));
}

#[tokio::test]
async fn foreign_resources_go_through_home_relay() {
    let relay = Relay::start(|_| problem(ErrorCode::ForeignRelayUnsupported)).await;
    let client = relay.client(&relay.clock);
    for (foreign, host) in [
        ("https://other.example", "other.example"),
        ("https://[::1]:8443", "[::1]:8443"),
    ] {
        let mailbox = MailboxRef {
            relay: Origin::parse(foreign).unwrap(),
            id: MAILBOX,
        };
        let error = client
            .fetch_prekeys(&mailbox, &SendKey::from_bytes([7; 32]))
            .await
            .unwrap_err();
        assert!(matches!(
            error,
            ClientError::Problem(problem) if problem.code == ErrorCode::ForeignRelayUnsupported
        ));
        assert_eq!(
            relay.last().target,
            format!("/v1/at/{host}/mailboxes/{MAILBOX}/prekeys")
        );
    }
}

fn record_progress() -> (ProgressCallback, Arc<Mutex<Vec<usize>>>) {
    let reported = Arc::new(Mutex::new(Vec::new()));
    let callback_reports = Arc::clone(&reported);
    (
        Arc::new(move |bytes| callback_reports.lock().unwrap().push(bytes)),
        reported,
    )
}

/// Asserts that progress was reported in small steps up to the whole part.
fn assert_progress(reported: &[usize], whole: usize) {
    assert_eq!(reported.last(), Some(&whole));
    assert!(
        reported
            .windows(2)
            .all(|two| two[0] <= two[1] && two[1] - two[0] <= 1 << 20),
        "{reported:?}"
    );
}

#[tokio::test]
async fn part_uploads_report_progress() {
    let relay = Relay::start(empty).await;
    let client = relay.client(&relay.clock);
    let part = Bytes::from(vec![8; limits::PART_BYTES]);
    let digest = sealpost_signatures::ContentDigest::of(&part);
    let (progress, reported) = record_progress();
    client
        .upload_part(BLOB, 1, part.clone(), digest, progress)
        .await
        .unwrap();
    assert_progress(&reported.lock().unwrap(), limits::PART_BYTES);
    let seen = relay.last();
    assert_eq!(
        (seen.body, &seen.headers["content-length"]),
        (part, &limits::PART_BYTES.to_string().parse().unwrap())
    );
}

#[tokio::test]
async fn oversized_parts_are_refused() {
    let relay = Relay::start(|seen| match seen.target.as_str() {
        target if target.ends_with("/0") => {
            Body::from(vec![1; limits::PART_BYTES_MAX]).into_response()
        }
        _ => Body::from(vec![1; limits::PART_BYTES_MAX + 1]).into_response(),
    })
    .await;
    let client = relay.client(&relay.clock);
    let blob = BlobRef {
        relay: relay.origin.clone(),
        id: BLOB,
    };
    let token = FetchToken::from_bytes([6; 32]);
    let (progress, reported) = record_progress();
    let read = async |number, progress| {
        let (mut body, mut bytes) = (client.fetch_part(&blob, number, &token, progress).await?, 0);
        while let Some(chunk) = body.next().await? {
            bytes += chunk.len();
        }
        Ok::<_, ClientError>(bytes)
    };
    assert_eq!(read(0, progress).await.unwrap(), limits::PART_BYTES_MAX);
    assert_progress(&reported.lock().unwrap(), limits::PART_BYTES_MAX);
    assert_eq!(
        relay.last().headers["sealpost-fetch-token"],
        sealpost_proto::b64::encode(&[6; 32]).as_str()
    );
    assert!(matches!(
        read(1, record_progress().0).await,
        Err(ClientError::Unexpected { .. })
    ));
}

#[tokio::test]
async fn checkpoint_update_names_replaced_tag() {
    let relay = Relay::start(|seen| match seen.method.as_str() {
        "GET" => problem(ErrorCode::NotFound),
        _ => (
            [("etag", "\"next\"")],
            axum::Json(json!({"sealed": "AAAA"})),
        )
            .into_response(),
    })
    .await;
    let client = relay.client(&relay.clock);
    assert_eq!(client.fetch_checkpoint().await.unwrap(), None);
    let checkpoint = Checkpoint {
        sealed: B64(vec![0; 3]),
    };
    assert_eq!(
        client.put_checkpoint(&checkpoint, None).await.unwrap(),
        "\"next\""
    );
    assert_eq!(relay.last().headers["if-match"], "\"none\"");
    client
        .put_checkpoint(&checkpoint, Some("\"next\""))
        .await
        .unwrap();
    assert_eq!(relay.last().headers["if-match"], "\"next\"");
}

#[tokio::test]
async fn pulls_state_their_size_and_time() {
    let relay = Relay::start(|_| {
        axum::Json(json!({
            "deliveries": [], "events": [], "backlog": 0, "lease": 1, "webhook": "off"
        }))
        .into_response()
    })
    .await;
    let client = relay.client(&relay.clock);
    client.sign_in().await.unwrap();
    assert_eq!(client.webhook_state(), Some(WebhookState::Active));
    client.pull(Duration::from_secs(600), 5_000).await.unwrap();
    assert_eq!(
        relay.last().target,
        "/v1/deliveries?wait=25&bytes=5000&within=46"
    );
    assert_eq!(client.webhook_state(), Some(WebhookState::Off));
    client.pull(Duration::ZERO, 1_048_576).await.unwrap();
    assert_eq!(
        relay.last().target,
        "/v1/deliveries?wait=0&bytes=1048576&within=338"
    );
}
