//! Sends envelopes: in a closed loop, where so many requests are always under way, or in an open loop, where each is due at
//! a time that does not care how the ones before it fare. What is sent late counts from when it was due, so that a program
//! that stalls cannot hide it (no coordinated omission).

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

/// How fast.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Pace {
    /// So many requests under way, for so long, and no more than so many requests.
    Closed {
        /// Requests under way.
        in_flight: u64,
        /// For how long new ones begin.
        time: Duration,
        /// Requests at most.
        requests: u64,
        /// Envelopes in each.
        envelopes: u64,
    },
    /// A request at fixed times.
    Open {
        /// Requests a second.
        rate: f64,
        /// For how long.
        time: Duration,
        /// Connections; when all of them wait for an answer, what is due has to wait too, and that counts.
        connections: u64,
    },
}

impl Pace {
    /// One envelope a request, so many under way, for a time.
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

/// What came of a round, as its sender saw it.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Sent {
    /// When the first request was due, in Unix nanoseconds.
    pub(crate) began_ns: u64,
    /// Envelopes accepted, for each account.
    pub(crate) accepted: Vec<u64>,
    /// Requests answered 429 or 503.
    pub(crate) refused: u64,
    /// Requests that failed in any other way.
    pub(crate) failed: u64,
    /// Requests that were due and never sent, as the round had ended.
    pub(crate) unsent: u64,
    /// The first failure.
    pub(crate) failure: Option<String>,
    /// From the time a request was due to its answer, if it was accepted.
    pub(crate) latency: Quantiles,
}

impl Sent {
    /// Envelopes accepted, all accounts together.
    #[must_use]
    pub(crate) fn accepted(&self) -> u64 {
        self.accepted.iter().sum()
    }
}

/// One request that is due.
#[derive(Debug, Clone, Copy)]
struct Ticket {
    number: u64,
    due_ns: u64,
}

/// Where the next ticket comes from.
enum Tickets {
    /// Without an end when it lies beyond what the clock knows.
    Closed {
        next: AtomicU64,
        requests: u64,
        end: Option<Instant>,
    },
    Open {
        due: Mutex<mpsc::UnboundedReceiver<Ticket>>,
        end: Instant,
    },
}

impl Tickets {
    fn of(pace: Pace, began_ns: u64) -> anyhow::Result<Self> {
        match pace {
            Pace::Closed { time, requests, .. } => Ok(Self::Closed {
                next: AtomicU64::new(0),
                requests,
                end: Instant::now().checked_add(time),
            }),
            Pace::Open { rate, time, .. } => {
                let (tickets, due) = mpsc::unbounded_channel();
                std::thread::Builder::new().spawn(move || issue(rate, time, began_ns, &tickets))?;
                // What is late may be sent for as long again; what is still not sent then is said.
                Ok(Self::Open {
                    due: Mutex::new(due),
                    end: Instant::now() + time + time,
                })
            }
        }
    }

    async fn next(&self) -> Option<Ticket> {
        match self {
            Self::Closed {
                next,
                requests,
                end,
            } => {
                let number = next.fetch_add(1, Ordering::Relaxed);
                (number < *requests && end.is_none_or(|end| Instant::now() < end)).then(|| Ticket {
                    number,
                    due_ns: now_ns(),
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

    async fn left(self) -> u64 {
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

/// Issues tickets when they are due, from a thread of its own: the timer of the runtime knows no less than a millisecond.
fn issue(rate: f64, time: Duration, began_ns: u64, tickets: &mpsc::UnboundedSender<Ticket>) {
    let began = Instant::now();
    for number in 0.. {
        let due = Duration::from_secs_f64(number as f64 / rate);
        if due >= time {
            return;
        }
        if let Some(pause) = due.checked_sub(began.elapsed()) {
            std::thread::sleep(pause);
        }
        let due_ns = began_ns + u64::try_from(due.as_nanos()).unwrap_or_default();
        if tickets.send(Ticket { number, due_ns }).is_err() {
            return;
        }
    }
}

/// What one connection saw.
struct Tally {
    sent: Sent,
    latencies: Latencies,
}

/// Sends a round.
///
/// # Errors
/// When it cannot begin; a request that fails is counted.
pub(crate) async fn send(target: &Arc<Target>, round: u32, pace: Pace) -> anyhow::Result<Sent> {
    let began_ns = now_ns();
    let tickets = Arc::new(Tickets::of(pace, began_ns)?);
    let mut workers = JoinSet::new();
    for _ in 0..pace.connections() {
        workers.spawn(work(
            Arc::clone(target),
            Arc::clone(&tickets),
            round,
            pace.envelopes(),
        ));
    }
    let mut all = Tally::new(target)?;
    while let Some(tally) = workers.join_next().await {
        all.merge(tally??)?;
    }
    let unsent = match Arc::into_inner(tickets) {
        Some(tickets) => tickets.left().await,
        None => 0,
    };
    Ok(Sent {
        began_ns,
        unsent,
        latency: all.latencies.quantiles(),
        ..all.sent
    })
}

async fn work(
    target: Arc<Target>,
    tickets: Arc<Tickets>,
    round: u32,
    envelopes: u64,
) -> anyhow::Result<Tally> {
    let mut connection = Connection::to(&target.authority);
    let mut tally = Tally::new(&target)?;
    while let Some(Ticket { number, due_ns }) = tickets.next().await {
        let tickets = number * envelopes..(number + 1) * envelopes;
        let sender = target.sender_of(&tickets);
        let request = target.submission(tickets, Stamp { due_ns, round })?;
        tally.note(sender, due_ns, connection.send(request).await);
    }
    Ok(tally)
}

impl Tally {
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

    fn note(&mut self, sender: usize, due_ns: u64, answer: anyhow::Result<(StatusCode, Bytes)>) {
        match answer {
            Ok((StatusCode::OK, body)) => {
                let accepted = accepted(&body);
                self.sent.accepted[sender] += accepted;
                self.latencies.add(due_ns, now_ns());
                if accepted == 0 {
                    self.fail(&String::from_utf8_lossy(&body));
                }
            }
            Ok((StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE, _)) => {
                self.sent.refused += 1
            }
            Ok((status, body)) => {
                self.fail(&format!("{status}: {}", String::from_utf8_lossy(&body)))
            }
            Err(error) => self.fail(&format!("{error:#}")),
        }
    }

    fn fail(&mut self, what: &str) {
        self.sent.failed += 1;
        self.sent.failure.get_or_insert_with(|| what.to_owned());
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

/// Envelopes accepted in an answer of the relay. The ceiling says nothing and means one.
fn accepted(body: &[u8]) -> u64 {
    if body.is_empty() {
        1
    } else {
        memchr::memmem::find_iter(body, br#""outcome":"accepted""#).count() as u64
    }
}
