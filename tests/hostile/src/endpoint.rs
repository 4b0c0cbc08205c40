//! Webhook endpoints of the accounts: one that stores everything and one that accepts connections
//! and never responds.

use anyhow::Context as _;
use bytes::Bytes;
use http::{Request, Response, header};
use http_body_util::Full;
use hyper::body::Incoming;
use sealpost_bench_support::connection::{read_body, serve};
use sealpost_proto::{
    EnvelopeId, WebhookSecret,
    wire::{
        ChallengeResponse, DeliveryBatch, DeliveryOutcome, DeliveryResult, DeliveryResults,
        WebhookCall,
    },
};
use sealpost_signatures::webhook::respond_to_challenge;
use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};
use tokio::{
    io::AsyncReadExt as _,
    net::TcpListener,
    sync::oneshot,
    task::{AbortHandle, JoinSet},
};

/// Endpoint that reports every item as stored. It stops when this is dropped.
pub(crate) struct StoringEndpoint {
    state: Arc<EndpointState>,
    address: SocketAddr,
    task: AbortHandle,
}

#[derive(Default)]
struct EndpointState {
    secret: Mutex<Option<WebhookSecret>>,
    /// Envelopes that somebody waits for.
    expected: Mutex<HashMap<EnvelopeId, oneshot::Sender<()>>>,
}

impl StoringEndpoint {
    /// Starts an endpoint on a free loopback port.
    pub(crate) async fn start() -> anyhow::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let state = Arc::new(EndpointState::default());
        let handler = Arc::clone(&state);
        let task = tokio::spawn(serve(listener, move |request| {
            let state = Arc::clone(&handler);
            async move { state.respond(request).await }
        }));
        Ok(Self {
            state,
            address,
            task: task.abort_handle(),
        })
    }

    /// Returns the URL. Its host is a name, so that each call resolves one.
    pub(crate) fn url(&self) -> String {
        format!("http://localhost:{}/webhook", self.address.port())
    }

    /// Sets the secret with which the endpoint responds to challenges.
    pub(crate) fn set_secret(&self, secret: WebhookSecret) {
        *lock(&self.state.secret) = Some(secret);
    }

    /// Returns a receiver that completes when this envelope arrives.
    pub(crate) fn expect(&self, envelope: EnvelopeId) -> oneshot::Receiver<()> {
        let (sender, receiver) = oneshot::channel();
        lock(&self.state.expected).insert(envelope, sender);
        receiver
    }
}

impl Drop for StoringEndpoint {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl EndpointState {
    async fn respond(&self, request: Request<Incoming>) -> anyhow::Result<Response<Full<Bytes>>> {
        let body = read_body(request).await?;
        let response = match serde_json::from_slice::<WebhookCall>(&body)? {
            WebhookCall::Challenge { challenge, .. } => {
                let secret = lock(&self.secret);
                let secret = secret.as_ref().context("a challenge before the secret")?;
                let answer = respond_to_challenge(secret, challenge.as_slice())
                    .to_vec()
                    .into();
                serde_json::to_vec(&ChallengeResponse { answer })?
            }
            WebhookCall::Deliveries { data, .. } => {
                self.record(&data);
                serde_json::to_vec(&store_all(&data))?
            }
        };
        // Without a connection to reuse, the next call resolves the name again.
        Ok(Response::builder()
            .header(header::CONNECTION, "close")
            .body(Full::from(response))?)
    }

    fn record(&self, batch: &DeliveryBatch) {
        let mut expected = lock(&self.expected);
        for delivery in &batch.deliveries {
            if let Some(sender) = expected.remove(&delivery.envelope) {
                // The waiting side may have given up.
                let _ = sender.send(());
            }
        }
    }
}

/// Returns the outcome `stored` for each item of a batch.
pub(crate) fn store_all(batch: &DeliveryBatch) -> DeliveryResults {
    let deliveries = batch.deliveries.iter().map(|delivery| delivery.id);
    let events = batch.events.iter().map(|event| event.id);
    let results = deliveries.chain(events).map(|id| DeliveryResult {
        id,
        outcome: DeliveryOutcome::Stored,
    });
    DeliveryResults {
        fence: batch.fence,
        results: results.collect(),
    }
}

/// Endpoint that accepts connections, reads them and never responds. It stops when this is dropped.
pub(crate) struct SilentEndpoint {
    /// Address of the endpoint.
    pub(crate) address: SocketAddr,
    connections: Arc<Connections>,
    task: AbortHandle,
}

#[derive(Default)]
struct Connections {
    open: AtomicUsize,
    peak: AtomicUsize,
}

impl SilentEndpoint {
    /// Starts an endpoint on a free loopback port.
    pub(crate) async fn start() -> anyhow::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let connections = Arc::new(Connections::default());
        let task = tokio::spawn(hold_connections(listener, Arc::clone(&connections)));
        Ok(Self {
            address,
            connections,
            task: task.abort_handle(),
        })
    }

    /// Returns the largest number of connections that were open at once.
    pub(crate) fn peak(&self) -> usize {
        self.connections.peak.load(Ordering::Relaxed)
    }
}

impl Drop for SilentEndpoint {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn hold_connections(listener: TcpListener, connections: Arc<Connections>) {
    let mut held = JoinSet::new();
    while let Ok((mut stream, _)) = listener.accept().await {
        let connections = Arc::clone(&connections);
        let open = connections.open.fetch_add(1, Ordering::Relaxed) + 1;
        connections.peak.fetch_max(open, Ordering::Relaxed);
        held.spawn(async move {
            let mut buffer = [0; 1024];
            while stream.read(&mut buffer).await.is_ok_and(|read| read > 0) {}
            connections.open.fetch_sub(1, Ordering::Relaxed);
        });
        while held.try_join_next().is_some() {}
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
