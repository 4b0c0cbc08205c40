use super::{ATTACK_TIME, Finding, PreparedAttack};
use crate::testbed::Testbed;
use bytes::Bytes;
use http::{Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use sealpost_bench_support::connection::{read_body, serve};
use sealpost_demo::node::{DeliveryMode, Node};
use sealpost_proto::{
    AccountId, SessionKey, WebhookSecret,
    limits::PULL_WAIT_MAX,
    wire::{DeliveryBatch, Registered},
};
use sealpost_service::{Clock as _, SystemClock, random_array};
use serde_json::json;
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{
    net::TcpListener,
    sync::watch,
    time::{sleep, timeout},
};

/// Largest accepted number of polls during the attack: a burst and a few each second.
const POLLS_MAX: u64 = 100;

/// Relay that keeps a poll waiting until the attack begins.
struct FastRelay {
    polls: AtomicU64,
    has_begun: watch::Sender<bool>,
}

/// A node has a relay that responds to every long poll at once with an empty batch.
pub(super) async fn prepare(testbed: &Testbed) -> anyhow::Result<PreparedAttack> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    let origin = format!("http://{}", listener.local_addr()?);
    let relay = Arc::new(FastRelay {
        polls: AtomicU64::new(0),
        has_begun: watch::channel(false).0,
    });
    let served = Arc::clone(&relay);
    let server = tokio::spawn(serve(listener, move |request| {
        let relay = Arc::clone(&served);
        async move { relay.respond(request).await }
    }));
    let (program, directory) = (testbed.env.program(), testbed.env.directory());
    let mut node = Node::init(program, directory, "Polling", &origin, DeliveryMode::Pull).await?;
    node.start().await?;
    node.wait_until_connected().await?;
    Ok(Box::pin(async move {
        let before = relay.polls.load(Ordering::Relaxed);
        relay.has_begun.send_replace(true);
        sleep(ATTACK_TIME).await;
        let during = relay.polls.load(Ordering::Relaxed) - before;
        let peak = node.process()?.peak_memory_bytes()? / (1 << 20);
        node.kill().await?;
        server.abort();
        Ok(vec![
            Finding::new("long polls", during).with_limit(POLLS_MAX),
            Finding::new("MiB of the polling node", peak).with_limit(96),
        ])
    }))
}

impl FastRelay {
    async fn respond(&self, request: Request<Incoming>) -> anyhow::Result<Response<Full<Bytes>>> {
        let (method, path) = (request.method().clone(), request.uri().path().to_owned());
        read_body(request).await?;
        let now = SystemClock.now();
        let body = match (method.as_str(), path.as_str()) {
            ("GET", "/v1/deliveries") => {
                self.polls.fetch_add(1, Ordering::Relaxed);
                let mut has_begun = self.has_begun.subscribe();
                let begun = has_begun.wait_for(|begun| *begun);
                // Until then the relay responds as slowly as any other.
                let _ = timeout(PULL_WAIT_MAX, begun).await;
                serde_json::to_value(DeliveryBatch::default())?
            }
            ("POST", "/v1/accounts") => serde_json::to_value(Registered {
                account_id: AccountId::from_bytes(random_array()),
                webhook_secret: WebhookSecret::from_bytes(random_array()),
            })?,
            ("POST", "/v1/session") => json!({
                "session_id": "A".repeat(50),
                "key": SessionKey::from_bytes(random_array()),
                "expires_at": now.plus(Duration::from_secs(3_600)),
                "relay_time": now,
            }),
            // The tag of the checkpoint is in a header.
            ("PUT", "/v1/account/checkpoint") => json!({}),
            _ => return not_found(),
        };
        let mut response = Response::new(Full::from(serde_json::to_vec(&body)?));
        response
            .headers_mut()
            .insert(header::CONTENT_TYPE, "application/json".parse()?);
        response
            .headers_mut()
            .insert(header::ETAG, "\"1\"".parse()?);
        Ok(response)
    }
}

fn not_found() -> anyhow::Result<Response<Full<Bytes>>> {
    let problem = json!({"code": "not_found", "title": "not found", "status": 404, "detail": ""});
    Ok(Response::builder()
        .status(StatusCode::NOT_FOUND)
        .header(header::CONTENT_TYPE, "application/problem+json")
        .body(Full::from(serde_json::to_vec(&problem)?))?)
}
