//! Nodes with a webhook: a proxy that refuses calls for a while, and a clock that is set back.

use crate::support::{deliver, program, stop_all};
use anyhow::ensure;
use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    http::{StatusCode, Uri},
    response::{IntoResponse as _, Response},
};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use sealpost_demo::{
    environment::{Environment, pair},
    node::{DeliveryMode, Node},
    ports::reserve_port,
    wait::wait_for,
};
use sealpost_proto::{
    Timestamp,
    limits::WEBHOOK_NODE_PULL_INTERVAL,
    wire::{RegistrationPolicy, WebhookState},
};
use sealpost_service::{Clock, Shutdown, SystemClock};
use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::net::TcpListener;

/// Proxy in front of a webhook. It stops when this is dropped.
struct WebhookProxy {
    url: String,
    state: Arc<ProxyState>,
    task: tokio::task::JoinHandle<()>,
}

struct ProxyState {
    /// Address of the webhook.
    webhook: String,
    client: Client<HttpConnector, Body>,
    /// Response to all calls; without it they are forwarded.
    refusal: Mutex<Option<StatusCode>>,
}

impl WebhookProxy {
    /// Starts a proxy in front of the webhook at this address.
    async fn start(webhook: &str) -> anyhow::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", reserve_port()?)).await?;
        let url = format!("http://{}/sealpost", listener.local_addr()?);
        let state = Arc::new(ProxyState {
            webhook: webhook.to_owned(),
            client: Client::builder(TokioExecutor::new()).build_http(),
            refusal: Mutex::default(),
        });
        let app = Router::new()
            .fallback(forward)
            .with_state(Arc::clone(&state));
        let task = tokio::spawn(async move { drop(axum::serve(listener, app).await) });
        Ok(Self { url, state, task })
    }

    /// Refuses calls from now on, or forwards them again.
    fn set_refusal(&self, refusal: Option<StatusCode>) {
        *self.state.lock_refusal() = refusal;
    }
}

impl Drop for WebhookProxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl ProxyState {
    fn lock_refusal(&self) -> std::sync::MutexGuard<'_, Option<StatusCode>> {
        self.refusal.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn forward(State(state): State<Arc<ProxyState>>, mut request: Request) -> Response {
    let refusal = *state.lock_refusal();
    if let Some(status) = refusal {
        return status.into_response();
    }
    let target = format!("http://{}{}", state.webhook, request.uri().path());
    let Ok(uri) = target.parse::<Uri>() else {
        return StatusCode::BAD_REQUEST.into_response();
    };
    *request.uri_mut() = uri;
    match state.client.request(request).await {
        Ok(response) => response.map(Body::new).into_response(),
        Err(_) => StatusCode::BAD_GATEWAY.into_response(),
    }
}

/// Starts Bolt with a webhook behind a proxy, and waits until the relay calls it.
async fn start_behind_proxy(env: &Environment) -> anyhow::Result<(Node, WebhookProxy)> {
    let webhook = format!("127.0.0.1:{}", reserve_port()?);
    let proxy = WebhookProxy::start(&webhook).await?;
    let args = ["--webhook-listen", &webhook, "--webhook-url", &proxy.url];
    let (program, directory) = (env.program(), env.directory());
    let relay = env.relay.origin();
    let mut bolt = Node::init_with_args(program, directory, "Bolt", &relay, &args).await?;
    bolt.start().await?;
    wait_for_webhook(&bolt, WebhookState::Active).await?;
    Ok((bolt, proxy))
}

async fn wait_for_webhook(node: &Node, state: WebhookState) -> anyhow::Result<()> {
    let api = node.api()?;
    wait_for(&format!("the webhook is {state:?}"), async || {
        Ok((api.fetch_node().await?.webhook_state == Some(state)).then_some(()))
    })
    .await
}

#[tokio::test]
async fn webhook_that_was_turned_off_is_called_again() -> anyhow::Result<()> {
    let env = Environment::with_relay(program()).await?;
    let acme = env.start_node("Acme", DeliveryMode::Pull).await?;
    let (bolt, proxy) = start_behind_proxy(&env).await?;
    let pair = pair(&acme, &bolt).await?;
    deliver(&acme, &bolt, &pair.inviter.id, "by webhook").await?;
    proxy.set_refusal(Some(StatusCode::GONE));
    deliver(&acme, &bolt, &pair.inviter.id, "by pull").await?;
    wait_for_webhook(&bolt, WebhookState::Off).await?;
    let api = bolt.api()?;
    wait_for("the node states why the webhook is off", async || {
        let reason = api.fetch_node().await?.webhook_reason;
        Ok(reason.filter(|reason| reason.contains("410")))
    })
    .await?;
    let output = bolt.home().run_cli(&["status"]).await?;
    let printed = String::from_utf8(output.stdout)?;
    ensure!(printed.contains("no longer calls"), "{printed}");
    proxy.set_refusal(None);
    wait_for_webhook(&bolt, WebhookState::Active).await?;
    deliver(&acme, &bolt, &pair.inviter.id, "by webhook again").await?;
    stop_all(env, [acme, bolt]).await
}

/// Clock that can be set ahead, so that the clocks of all nodes are behind.
#[derive(Clone, Default)]
struct AdvancedClock(Arc<AtomicU64>);

impl Clock for AdvancedClock {
    fn now(&self) -> Timestamp {
        let ahead = Duration::from_millis(self.0.load(Ordering::Relaxed));
        SystemClock.now().plus(ahead)
    }
}

#[tokio::test]
async fn clock_that_falls_behind_is_corrected_at_once() -> anyhow::Result<()> {
    let env = Environment::new(program())?;
    let mut config = sealpost_relay::Config {
        listen: env.relay.origin().trim_start_matches("http://").parse()?,
        data: env.relay.directory().to_owned(),
        ..sealpost_relay::Config::default()
    };
    config.egress.allow = vec!["127.0.0.0/8".parse()?];
    config.registration.policy = RegistrationPolicy::Open;
    let (clock, shutdown) = (AdvancedClock::default(), Shutdown::new());
    let relay = sealpost_relay::start(config, Arc::new(clock.clone()), shutdown.clone()).await?;
    let acme = env.start_node("Acme", DeliveryMode::Pull).await?;
    let (bolt, proxy) = start_behind_proxy(&env).await?;
    let pair = pair(&acme, &bolt).await?;
    deliver(&acme, &bolt, &pair.inviter.id, "in time").await?;
    // Bolt sends nothing meanwhile, so only the calls can tell it.
    clock.0.store(600_000, Ordering::Relaxed);
    let started = Instant::now();
    deliver(&acme, &bolt, &pair.inviter.id, "ten minutes later").await?;
    ensure!(started.elapsed() < WEBHOOK_NODE_PULL_INTERVAL / 2);
    let offset = bolt.api()?.fetch_node().await?.relay.clock_offset_ms;
    ensure!(
        (590_000..=610_000).contains(&offset),
        "the relay is {offset} ms ahead"
    );
    drop(proxy);
    stop_all(env, [acme, bolt]).await?;
    shutdown.trigger();
    relay.ended().await;
    Ok(())
}
