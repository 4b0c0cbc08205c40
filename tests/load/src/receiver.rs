//! The endpoint of every webhook, with a path for each account. It responds to challenges, reports
//! every delivery as stored and records the delivery time of each envelope of the current round.

use crate::{
    latency::{Latencies, Quantiles},
    stamp::{Stamp, now_ns},
};
use anyhow::Context as _;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use sealpost_bench_support::connection::{self, Connection, read_body};
use sealpost_proto::{
    B64, DeliveryId, WebhookSecret,
    wire::{ChallengeResponse, DeliveryOutcome, DeliveryResult, DeliveryResults},
};
use sealpost_signatures::webhook::respond_to_challenge;
use serde::{Deserialize, Serialize};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{
    net::TcpListener,
    time::{Instant, sleep},
};

const HOOK: &str = "/hook/";
const SECRET: &str = "/secret/";
const ROUND: &str = "/round/";
const RECEIVED: &str = "/received";

/// Time without a new envelope after which the missing ones count as lost.
const ARRIVAL_TIMEOUT: Duration = Duration::from_secs(60);
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// Result of a round at the receiver.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Received {
    /// Number of envelopes, duplicates included.
    pub(crate) envelopes: u64,
    /// Number of calls.
    pub(crate) calls: u64,
    /// Arrival of the last envelope, in Unix nanoseconds.
    pub(crate) last_ns: u64,
    /// Time from when an envelope was due until its arrival.
    pub(crate) latency: Quantiles,
}

struct Round {
    number: u32,
    received: Received,
    latencies: Latencies,
}

impl Round {
    fn new(number: u32) -> anyhow::Result<Self> {
        Ok(Self {
            number,
            received: Received::default(),
            latencies: Latencies::new()?,
        })
    }

    fn record<'a>(&mut self, envelopes: impl Iterator<Item = &'a str>) {
        let now = now_ns();
        let before = self.received.envelopes;
        for stamp in envelopes
            .filter_map(Stamp::read)
            .filter(|stamp| stamp.round == self.number)
        {
            self.received.envelopes += 1;
            self.latencies.add(stamp.due_ns, now);
        }
        if self.received.envelopes > before {
            self.received.calls += 1;
            self.received.last_ns = now;
        }
    }
}

struct Receiver {
    round: Mutex<Round>,
    secrets: Mutex<HashMap<String, WebhookSecret>>,
}

/// Serves until the process exits.
pub(crate) async fn serve(listener: TcpListener) -> anyhow::Result<()> {
    let receiver = Arc::new(Receiver {
        round: Mutex::new(Round::new(0)?),
        secrets: Mutex::default(),
    });
    connection::serve(listener, move |request| {
        let receiver = Arc::clone(&receiver);
        async move { receiver.handle(request).await }
    })
    .await
}

impl Receiver {
    async fn handle(&self, request: Request<Incoming>) -> anyhow::Result<Response<Full<Bytes>>> {
        let path = request.uri().path().to_owned();
        let body = read_body(request).await?;
        let response = if let Some(account) = path.strip_prefix(HOOK) {
            self.handle_call(account, &body)?
        } else if let Some(account) = path.strip_prefix(SECRET) {
            lock(&self.secrets).insert(account.to_owned(), serde_json::from_slice(&body)?);
            Vec::new()
        } else if let Some(number) = path.strip_prefix(ROUND) {
            *lock(&self.round) = Round::new(number.parse()?)?;
            Vec::new()
        } else {
            let round = lock(&self.round);
            serde_json::to_vec(&Received {
                latency: round.latencies.quantiles(),
                ..round.received
            })?
        };
        Ok(Response::new(Full::from(response)))
    }

    fn handle_call(&self, account: &str, body: &[u8]) -> anyhow::Result<Vec<u8>> {
        let call: WebhookCall<'_> = serde_json::from_slice(body)?;
        if let Some(challenge) = call.challenge {
            let secrets = lock(&self.secrets);
            let secret = secrets
                .get(account)
                .context("a challenge for an unknown account")?;
            let answer = B64(respond_to_challenge(secret, challenge.as_slice()).to_vec());
            return Ok(serde_json::to_vec(&ChallengeResponse { answer })?);
        }
        let Some(batch) = call.data else {
            lock(&self.round).record(call.envelopes.iter().map(|envelope| envelope.bytes));
            return Ok(Vec::new());
        };
        lock(&self.round).record(batch.deliveries.iter().map(|delivery| delivery.bytes));
        let ids = batch
            .deliveries
            .iter()
            .map(|delivery| delivery.id)
            .chain(batch.events.iter().map(|event| event.id));
        let results = ids
            .map(|id| DeliveryResult {
                id,
                outcome: DeliveryOutcome::Stored,
            })
            .collect();
        Ok(serde_json::to_vec(&DeliveryResults {
            fence: batch.fence,
            results,
        })?)
    }
}

/// Call of the relay, or the original request that the ceiling forwards.
#[derive(Deserialize)]
struct WebhookCall<'a> {
    challenge: Option<B64>,
    #[serde(borrow)]
    data: Option<Batch<'a>>,
    #[serde(borrow, default)]
    envelopes: Vec<ForwardedEnvelope<'a>>,
}

#[derive(Deserialize)]
struct Batch<'a> {
    #[serde(borrow)]
    deliveries: Vec<DeliveredEnvelope<'a>>,
    events: Vec<Event>,
    #[serde(rename = "lease")]
    fence: u64,
}

#[derive(Deserialize)]
struct DeliveredEnvelope<'a> {
    id: DeliveryId,
    bytes: &'a str,
}

#[derive(Deserialize)]
struct Event {
    id: DeliveryId,
}

#[derive(Deserialize)]
struct ForwardedEnvelope<'a> {
    bytes: &'a str,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Client for the receiver process.
#[derive(Debug)]
pub(crate) struct ReceiverClient {
    authority: String,
}

impl ReceiverClient {
    /// Creates a client for the receiver at `host:port`.
    #[must_use]
    pub(crate) fn new(authority: &str) -> Self {
        Self {
            authority: authority.to_owned(),
        }
    }

    /// Returns the webhook URL of an account.
    #[must_use]
    pub(crate) fn webhook_url(&self, account: usize) -> String {
        format!("http://{}{HOOK}{account}", self.authority)
    }

    /// Sets the secret with which the receiver responds to an account's challenges.
    pub(crate) async fn set_secret(
        &self,
        account: usize,
        secret: &WebhookSecret,
    ) -> anyhow::Result<()> {
        let body = serde_json::to_vec(secret)?;
        Connection::new(&self.authority)
            .request_ok("POST", &format!("{SECRET}{account}"), body)
            .await
            .map(|_| ())
    }

    /// Starts a round; only its envelopes count from now on.
    pub(crate) async fn start_round(&self, round: u32) -> anyhow::Result<()> {
        Connection::new(&self.authority)
            .request_ok("POST", &format!("{ROUND}{round}"), Vec::new())
            .await
            .map(|_| ())
    }

    /// Waits until the given number of envelopes of the round has arrived.
    pub(crate) async fn wait_for(&self, envelopes: u64) -> anyhow::Result<Received> {
        let mut connection = Connection::new(&self.authority);
        let (mut last, mut since) = (0, Instant::now());
        loop {
            let received: Received =
                serde_json::from_slice(&connection.request_ok("GET", RECEIVED, Vec::new()).await?)?;
            if received.envelopes >= envelopes {
                return Ok(received);
            }
            if received.envelopes > last {
                (last, since) = (received.envelopes, Instant::now());
            }
            anyhow::ensure!(
                since.elapsed() < ARRIVAL_TIMEOUT,
                "{last} envelopes arrived, {envelopes} were accepted"
            );
            sleep(POLL_INTERVAL).await;
        }
    }
}
