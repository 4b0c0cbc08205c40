//! Load generator. In a closed loop a fixed number of requests is always in flight. In an open loop
//! each request is due at a fixed time, independent of earlier responses. Latency counts from the
//! due time, so a server that stalls cannot hide it (no coordinated omission).

use crate::{
    account::Target,
    connection::Connection,
    latency::{Latencies, Quantiles},
    stamp::{Stamp, now_ns},
};
use bytes::Bytes;
use http::StatusCode;
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

/// How requests are paced.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Pace {
    /// A fixed number of concurrent requests.
    Closed {
        /// Concurrent requests.
        in_flight: u64,
        /// How long new requests are started.
        time: Duration,
        /// Limit on the number of requests.
        requests: u64,
        /// Envelopes in each request.
        envelopes: u64,
    },
    /// Requests at fixed times.
    Open {
        /// Requests per second.
        rate: f64,
        /// How long requests are due.
        time: Duration,
        /// Connections. If all of them wait for a response, due requests wait as well, and that
        /// time counts.
        connections: u64,
    },
}

impl Pace {
    /// Creates a closed loop with one envelope per request.
    #[must_use]
    pub(crate) const fn closed(in_flight: u64, time: Duration) -> Self {
        Self::Closed {
            in_flight,
            time,
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

/// Result of a round at the sender.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Sent {
    /// Due time of the first request, in Unix nanoseconds.
    pub(crate) started_ns: u64,
    /// Number of accepted envelopes by account.
    pub(crate) accepted: Vec<u64>,
    /// Number of requests refused with 429 or 503.
    pub(crate) refused: u64,
    /// Number of requests that failed in any other way.
    pub(crate) failed: u64,
    /// Number of requests that were due but not sent before the end of the round.
    pub(crate) unsent: u64,
    /// The first failure.
    pub(crate) failure: Option<String>,
    /// Time from when a request was due to its response, for accepted requests.
    pub(crate) latency: Quantiles,
}

impl Sent {
    /// Returns the number of accepted envelopes of all accounts.
    #[must_use]
    pub(crate) fn accepted(&self) -> u64 {
        self.accepted.iter().sum()
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
    fn new(pace: Pace, started_ns: u64) -> anyhow::Result<Self> {
        match pace {
            Pace::Closed { time, requests, .. } => Ok(Self::Closed {
                next: AtomicU64::new(0),
                requests,
                end: Instant::now().checked_add(time),
            }),
            Pace::Open { rate, time, .. } => {
                let (schedule, due) = mpsc::unbounded_channel();
                std::thread::Builder::new()
                    .spawn(move || emit_due_requests(rate, time, started_ns, &schedule))?;
                // Late requests may be sent for the same time again; the rest is reported as
                // unsent.
                Ok(Self::Open {
                    due: Mutex::new(due),
                    end: Instant::now() + time + time,
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
        let mut left = 0;
        while due.recv().await.is_some() {
            left += 1;
        }
        left
    }
}

/// Emits requests when they are due. Runs in its own thread, because the timer of the runtime has a
/// resolution of one millisecond.
fn emit_due_requests(
    rate: f64,
    time: Duration,
    started_ns: u64,
    schedule: &mpsc::UnboundedSender<DueRequest>,
) {
    let started = Instant::now();
    for number in 0.. {
        let due = Duration::from_secs_f64(number as f64 / rate);
        if due >= time {
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

/// Counts of one connection.
struct WorkerCounts {
    sent: Sent,
    latencies: Latencies,
}

/// Sends the requests of a round; a failed request is counted.
pub(crate) async fn send(target: &Arc<Target>, round: u32, pace: Pace) -> anyhow::Result<Sent> {
    let started_ns = now_ns();
    let schedule = Arc::new(RequestSchedule::new(pace, started_ns)?);
    let mut workers = JoinSet::new();
    for _ in 0..pace.connections() {
        workers.spawn(work(
            Arc::clone(target),
            Arc::clone(&schedule),
            round,
            pace.envelopes(),
        ));
    }
    let mut all = WorkerCounts::new(target)?;
    while let Some(counts) = workers.join_next().await {
        all.merge(counts??)?;
    }
    let unsent = match Arc::into_inner(schedule) {
        Some(schedule) => schedule.count_unsent().await,
        None => 0,
    };
    Ok(Sent {
        started_ns,
        unsent,
        latency: all.latencies.quantiles(),
        ..all.sent
    })
}

async fn work(
    target: Arc<Target>,
    schedule: Arc<RequestSchedule>,
    round: u32,
    envelopes: u64,
) -> anyhow::Result<WorkerCounts> {
    let mut connection = Connection::new(&target.authority);
    let mut counts = WorkerCounts::new(&target)?;
    while let Some(DueRequest { number, due_ns }) = schedule.next().await {
        let range = number * envelopes..(number + 1) * envelopes;
        let sender = target.sender_of(&range);
        let request = target.submission(range, Stamp { due_ns, round })?;
        counts.record(sender, due_ns, connection.send(request).await);
    }
    Ok(counts)
}

impl WorkerCounts {
    fn new(target: &Target) -> anyhow::Result<Self> {
        let sent = Sent {
            accepted: vec![0; target.accounts.len()],
            ..Sent::default()
        };
        Ok(Self {
            sent,
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
                let accepted = accepted(&body);
                self.sent.accepted[sender] += accepted;
                self.latencies.add(due_ns, now_ns());
                if accepted == 0 {
                    self.record_failure(&String::from_utf8_lossy(&body));
                }
            }
            Ok((StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE, _)) => {
                self.sent.refused += 1
            }
            Ok((status, body)) => {
                self.record_failure(&format!("{status}: {}", String::from_utf8_lossy(&body)))
            }
            Err(error) => self.record_failure(&format!("{error:#}")),
        }
    }

    fn record_failure(&mut self, reason: &str) {
        self.sent.failed += 1;
        self.sent.failure.get_or_insert_with(|| reason.to_owned());
    }

    fn merge(&mut self, other: Self) -> anyhow::Result<()> {
        let Sent {
            accepted,
            refused,
            failed,
            failure,
            ..
        } = other.sent;
        for (sum, one) in self.sent.accepted.iter_mut().zip(accepted) {
            *sum += one;
        }
        self.sent.refused += refused;
        self.sent.failed += failed;
        self.sent.failure = self.sent.failure.take().or(failure);
        self.latencies.merge(&other.latencies)
    }
}

/// Counts the accepted envelopes in a response of the relay. The ceiling's empty response means
/// one.
fn accepted(body: &[u8]) -> u64 {
    if body.is_empty() {
        1
    } else {
        memchr::memmem::find_iter(body, br#""outcome":"accepted""#).count() as u64
    }
}
