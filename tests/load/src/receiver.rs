//! The endpoint of every webhook: each account's is a path of it. It answers challenges, says `stored` to everything, and
//! notes how long each envelope of the round under way was on its way.

use crate::{
    connection::{self, Connection, body_of},
    latency::{Latencies, Quantiles},
    stamp::{Stamp, now_ns},
};
use anyhow::Context as _;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use sealpost_proto::{
    B64, DeliveryId, WebhookSecret,
    wire::{ChallengeAnswer, DeliveryOutcome, DeliveryResult, DeliveryResults},
};
use sealpost_signatures::webhook::answer_challenge;
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
const SEEN: &str = "/seen";

/// Without anything new for so long, what is missing does not come any more.
const PATIENCE: Duration = Duration::from_secs(60);
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// What the receiver has seen of a round.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Seen {
    /// Envelopes; one that came twice counts twice.
    pub(crate) envelopes: u64,
    /// Calls that brought them.
    pub(crate) calls: u64,
    /// When the last one came, in Unix nanoseconds.
    pub(crate) last_ns: u64,
    /// From the time it was due to be sent to the receiver.
    pub(crate) latency: Quantiles,
}

struct Round {
    number: u32,
    seen: Seen,
    latencies: Latencies,
}

impl Round {
    fn new(number: u32) -> anyhow::Result<Self> {
        Ok(Self {
            number,
            seen: Seen::default(),
            latencies: Latencies::new()?,
        })
    }

    fn note<'a>(&mut self, envelopes: impl Iterator<Item = &'a str>) {
        let now = now_ns();
        let before = self.seen.envelopes;
        for stamp in envelopes
            .filter_map(Stamp::read)
            .filter(|stamp| stamp.round == self.number)
        {
            self.seen.envelopes += 1;
            self.latencies.add(stamp.due_ns, now);
        }
        if self.seen.envelopes > before {
            self.seen.calls += 1;
            self.seen.last_ns = now;
        }
    }
}

struct Receiver {
    round: Mutex<Round>,
    secrets: Mutex<HashMap<String, WebhookSecret>>,
}

/// Serves until the process ends.
///
/// # Errors
/// When the listener fails.
pub(crate) async fn serve(listener: TcpListener) -> anyhow::Result<()> {
    let receiver = Arc::new(Receiver {
        round: Mutex::new(Round::new(0)?),
        secrets: Mutex::default(),
    });
    connection::serve(listener, move |request| {
        let receiver = Arc::clone(&receiver);
        async move { receiver.answer(request).await }
    })
    .await
}

impl Receiver {
    async fn answer(&self, request: Request<Incoming>) -> anyhow::Result<Response<Full<Bytes>>> {
        let path = request.uri().path().to_owned();
        let body = body_of(request).await?;
        let answer = if let Some(account) = path.strip_prefix(HOOK) {
            self.take_call(account, &body)?
        } else if let Some(account) = path.strip_prefix(SECRET) {
            lock(&self.secrets).insert(account.to_owned(), serde_json::from_slice(&body)?);
            Vec::new()
        } else if let Some(number) = path.strip_prefix(ROUND) {
            *lock(&self.round) = Round::new(number.parse()?)?;
            Vec::new()
        } else {
            let round = lock(&self.round);
            serde_json::to_vec(&Seen {
                latency: round.latencies.quantiles(),
                ..round.seen
            })?
        };
        Ok(Response::new(Full::from(answer)))
    }

    fn take_call(&self, account: &str, body: &[u8]) -> anyhow::Result<Vec<u8>> {
        let call: Call<'_> = serde_json::from_slice(body)?;
        if let Some(challenge) = call.challenge {
            let secrets = lock(&self.secrets);
            let secret = secrets
                .get(account)
                .context("a challenge for an account that is not known")?;
            let answer = B64(answer_challenge(secret, challenge.as_slice()).to_vec());
            return Ok(serde_json::to_vec(&ChallengeAnswer { answer })?);
        }
        let Some(batch) = call.data else {
            lock(&self.round).note(call.envelopes.iter().map(|envelope| envelope.bytes));
            return Ok(Vec::new());
        };
        lock(&self.round).note(batch.deliveries.iter().map(|delivery| delivery.bytes));
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
            lease: batch.lease,
            results,
        })?)
    }
}

/// A call by the relay, or the request that the ceiling passes on as it came.
#[derive(Deserialize)]
struct Call<'a> {
    challenge: Option<B64>,
    #[serde(borrow)]
    data: Option<Batch<'a>>,
    #[serde(borrow, default)]
    envelopes: Vec<Passed<'a>>,
}

#[derive(Deserialize)]
struct Batch<'a> {
    #[serde(borrow)]
    deliveries: Vec<Delivered<'a>>,
    events: Vec<Told>,
    lease: u64,
}

#[derive(Deserialize)]
struct Delivered<'a> {
    id: DeliveryId,
    bytes: &'a str,
}

#[derive(Deserialize)]
struct Told {
    id: DeliveryId,
}

#[derive(Deserialize)]
struct Passed<'a> {
    bytes: &'a str,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The receiver as the program that measures knows it.
#[derive(Debug)]
pub(crate) struct Watch {
    authority: String,
}

impl Watch {
    /// The one at `host:port`.
    #[must_use]
    pub(crate) fn at(authority: &str) -> Self {
        Self {
            authority: authority.to_owned(),
        }
    }

    /// The URL of an account's webhook.
    #[must_use]
    pub(crate) fn hook(&self, account: usize) -> String {
        format!("http://{}{HOOK}{account}", self.authority)
    }

    /// Tells it the secret with which an account's challenges are answered.
    ///
    /// # Errors
    /// When it does not answer.
    pub(crate) async fn learn(&self, account: usize, secret: &WebhookSecret) -> anyhow::Result<()> {
        let body = serde_json::to_vec(secret)?;
        Connection::to(&self.authority)
            .ask("POST", &format!("{SECRET}{account}"), body)
            .await
            .map(|_| ())
    }

    /// From now on only envelopes of this round count.
    ///
    /// # Errors
    /// When it does not answer.
    pub(crate) async fn begin(&self, round: u32) -> anyhow::Result<()> {
        Connection::to(&self.authority)
            .ask("POST", &format!("{ROUND}{round}"), Vec::new())
            .await
            .map(|_| ())
    }

    /// Waits until so many envelopes of the round have come.
    ///
    /// # Errors
    /// When they do not come.
    pub(crate) async fn wait_for(&self, envelopes: u64) -> anyhow::Result<Seen> {
        let mut connection = Connection::to(&self.authority);
        let (mut last, mut since) = (0, Instant::now());
        loop {
            let seen: Seen =
                serde_json::from_slice(&connection.ask("GET", SEEN, Vec::new()).await?)?;
            if seen.envelopes >= envelopes {
                return Ok(seen);
            }
            if seen.envelopes > last {
                (last, since) = (seen.envelopes, Instant::now());
            }
            anyhow::ensure!(
                since.elapsed() < PATIENCE,
                "{last} envelopes came, {envelopes} were accepted"
            );
            sleep(LOOK_AGAIN).await;
        }
    }
}
