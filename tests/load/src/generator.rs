//! Load generator. In a closed loop a fixed number of requests is always in flight. In an open loop
//! each request is due at a fixed time, independent of earlier responses. Latency counts from the
//! due time, so a server that stalls cannot hide it (no coordinated omission).

use crate::{
    account::Target,
    latency::{Latencies, Quantiles},
    stamp::{Stamp, now_ns},
};
use bytes::Bytes;
use http::StatusCode;
use sealpost_bench_support::connection::Connection;
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::{
    sync::{Mutex, mpsc},
    task::JoinSet,
};

/// Load model.
#[derive(Debug, Clone, Copy)]
pub(crate) enum LoadModel {
    /// A fixed number of concurrent requests.
    Closed {
        /// Concurrent requests.
        in_flight: u64,
        /// Time during which new requests are started.
        duration: Duration,
        /// Limit on the number of requests.
        requests: u64,
        /// Envelopes in each request.
        envelopes: u64,
    },
    /// Requests at fixed times.
    Open {
        /// Requests per second.
        rate: f64,
        /// Time during which new requests become due.
        duration: Duration,
        /// Connections. If all of them wait for a response, due requests wait as well, and that
        /// time counts.
        connections: u64,
    },
}

impl LoadModel {
    /// Creates a closed loop with one envelope per request.
    #[must_use]
    pub(crate) const fn closed(in_flight: u64, duration: Duration) -> Self {
        Self::Closed {
            in_flight,
            duration,
            requests: u64::MAX,
            envelopes: 1,
        }
    }

    const fn connections(self) -> u64 {
        match self {
            Self::Closed { in_flight, .. } => in_flight,
            Self::Open { connections, .. } => connections,
        }
    }

    const fn envelopes(self) -> u64 {
        match self {
            Self::Closed { envelopes, .. } => envelopes,
            Self::Open { .. } => 1,
        }
    }
}

/// Report of the sender about a round.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct RoundReport {
    /// Due time of the first request, in Unix nanoseconds.
    pub(crate) started_ns: u64,
    /// Number of accepted envelopes of each account.
    pub(crate) accepted_by_account: Vec<u64>,
    /// Number of requests refused with 429 or 503.
    pub(crate) refused: u64,
    /// Number of requests that failed in any other way.
    pub(crate) failed: u64,
    /// Number of requests that were due but not sent before the end of the round.
    pub(crate) unsent: u64,
    pub(crate) first_failure: Option<String>,
    /// Time from the due time of a request to its response, for requests with accepted envelopes.
    pub(crate) latency: Quantiles,
}

impl RoundReport {
    /// Returns the number of accepted envelopes of all accounts.
    #[must_use]
    pub(crate) fn total_accepted(&self) -> u64 {
        self.accepted_by_account.iter().sum()
    }
}

/// Request that is due.
#[derive(Debug, Clone, Copy)]
struct DueRequest {
    number: u64,
    due_ns: u64,
}

/// Source of due requests.
enum RequestSchedule {
    /// `end` is `None` if it is too far in the future for the clock.
    Closed {
        next: AtomicU64,
        requests: u64,
        end: Option<Instant>,
    },
    Open {
        due: Mutex<mpsc::UnboundedReceiver<DueRequest>>,
        end: Instant,
    },
}

impl RequestSchedule {
    fn new(model: LoadModel, started_ns: u64) -> anyhow::Result<Self> {
        match model {
            LoadModel::Closed {
                duration, requests, ..
            } => Ok(Self::Closed {
                next: AtomicU64::new(0),
                requests,
                end: Instant::now().checked_add(duration),
            }),
            LoadModel::Open { rate, duration, .. } => {
                let (schedule, due) = mpsc::unbounded_channel();
                std::thread::Builder::new()
                    .spawn(move || emit_due_requests(rate, duration, started_ns, &schedule))?;
                // Overdue requests may be sent for the same duration again. Those that still wait
                // after it are reported as unsent.
                Ok(Self::Open {
                    due: Mutex::new(due),
                    end: Instant::now() + duration + duration,
                })
            }
        }
    }

    async fn next(&self) -> Option<DueRequest> {
        match self {
            Self::Closed {
                next,
                requests,
                end,
            } => {
                let number = next.fetch_add(1, Ordering::Relaxed);
                (number < *requests && end.is_none_or(|end| Instant::now() < end)).then(|| {
                    DueRequest {
                        number,
                        due_ns: now_ns(),
                    }
                })
            }
            Self::Open { due, end } => {
                let mut due = due.lock().await;
                if Instant::now() < *end {
                    due.recv().await
                } else {
                    None
                }
            }
        }
    }

    async fn count_unsent(self) -> u64 {
        let Self::Open { due, .. } = self else {
            return 0;
        };
        let mut due = due.into_inner();
        let mut unsent = 0;
        while due.recv().await.is_some() {
            unsent += 1;
        }
        unsent
    }
}

/// Emits requests when they are due. Runs in its own thread, because the timer of the runtime has a
/// resolution of one millisecond.
fn emit_due_requests(
    rate: f64,
    duration: Duration,
    started_ns: u64,
    schedule: &mpsc::UnboundedSender<DueRequest>,
) {
    let started = Instant::now();
    for number in 0.. {
        let due = Duration::from_secs_f64(number as f64 / rate);
        if due >= duration {
            return;
        }
        if let Some(pause) = due.checked_sub(started.elapsed()) {
            std::thread::sleep(pause);
        }
        let due_ns = started_ns + u64::try_from(due.as_nanos()).unwrap_or_default();
        if schedule.send(DueRequest { number, due_ns }).is_err() {
            return;
        }
    }
}

/// Counts of one connection or, merged, of all connections.
struct RequestCounts {
    accepted_by_account: Vec<u64>,
    refused: u64,
    failed: u64,
    first_failure: Option<String>,
    latencies: Latencies,
}

/// Sends the requests of a round. Failed requests are counted, not returned as errors.
pub(crate) async fn send(
    target: &Arc<Target>,
    round: u32,
    model: LoadModel,
) -> anyhow::Result<RoundReport> {
    let started_ns = now_ns();
    let schedule = Arc::new(RequestSchedule::new(model, started_ns)?);
    let mut workers = JoinSet::new();
    for _ in 0..model.connections() {
        workers.spawn(run_worker(
            Arc::clone(target),
            Arc::clone(&schedule),
            round,
            model.envelopes(),
        ));
    }
    let mut all = RequestCounts::new(target)?;
    while let Some(counts) = workers.join_next().await {
        all.merge(counts??)?;
    }
    let unsent = match Arc::into_inner(schedule) {
        Some(schedule) => schedule.count_unsent().await,
        None => 0,
    };
    Ok(RoundReport {
        started_ns,
        accepted_by_account: all.accepted_by_account,
        refused: all.refused,
        failed: all.failed,
        unsent,
        first_failure: all.first_failure,
        latency: all.latencies.quantiles(),
    })
}

async fn run_worker(
    target: Arc<Target>,
    schedule: Arc<RequestSchedule>,
    round: u32,
    envelopes: u64,
) -> anyhow::Result<RequestCounts> {
    let mut connection = Connection::new(&target.authority);
    let mut counts = RequestCounts::new(&target)?;
    while let Some(DueRequest { number, due_ns }) = schedule.next().await {
        let range = number * envelopes..(number + 1) * envelopes;
        let sender = target.sender_of(&range);
        let request = target.build_submission(range, Stamp { due_ns, round })?;
        counts.record(sender, due_ns, connection.send(request).await);
    }
    Ok(counts)
}

impl RequestCounts {
    fn new(target: &Target) -> anyhow::Result<Self> {
        Ok(Self {
            accepted_by_account: vec![0; target.accounts.len()],
            refused: 0,
            failed: 0,
            first_failure: None,
            latencies: Latencies::new()?,
        })
    }

    fn record(
        &mut self,
        sender: usize,
        due_ns: u64,
        response: anyhow::Result<(StatusCode, Bytes)>,
    ) {
        match response {
            Ok((StatusCode::OK, body)) => {
                let accepted = count_accepted(&body);
                self.accepted_by_account[sender] += accepted;
                if accepted == 0 {
                    self.record_failure(&String::from_utf8_lossy(&body));
                } else {
                    self.latencies.add(due_ns, now_ns());
                }
            }
            Ok((StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE, _)) => {
                self.refused += 1
            }
            Ok((status, body)) => {
                self.record_failure(&format!("{status}: {}", String::from_utf8_lossy(&body)))
            }
            Err(error) => self.record_failure(&format!("{error:#}")),
        }
    }

    fn record_failure(&mut self, reason: &str) {
        self.failed += 1;
        self.first_failure.get_or_insert_with(|| reason.to_owned());
    }

    fn merge(&mut self, other: Self) -> anyhow::Result<()> {
        let accepted = self.accepted_by_account.iter_mut();
        for (sum, count) in accepted.zip(other.accepted_by_account) {
            *sum += count;
        }
        self.refused += other.refused;
        self.failed += other.failed;
        self.first_failure = self.first_failure.take().or(other.first_failure);
        self.latencies.merge(&other.latencies)
    }
}

/// Counts the accepted envelopes in a response. The ceiling responds without a body, which
/// counts as one envelope.
fn count_accepted(body: &[u8]) -> u64 {
    if body.is_empty() {
        1
    } else {
        memchr::memmem::find_iter(body, br#""outcome":"accepted""#).count() as u64
    }
}
