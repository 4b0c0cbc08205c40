//! Lane of an account: when its queue is delivered, by which method, how much of it, and what
//! follows a failure.
//!
//! Each account has one lane, which is stored with it. Its batches are delivered by calls of
//! the webhook or by pulls of the node, under one lease at a time. The tables below are complete: a
//! test reads them from this page and checks every cell. `same` means that nothing changes.
//!
//! A deadline further in the future than its state can set counts as expired, so that a clock that
//! was set back does not block a lane.
//!
//! # Delivery
//!
//! This table applies to a lane whose webhook is active and whose queue is not empty. *Succeeded*
//! to *gone* are outcomes of a call with several items; *acknowledged* and *acknowledged, deferred*
//! are the node's results for a pull. These events and *released* take effect only with the fencing
//! token of the current lease. Rows with `expired` are leases past their end; rows with `due` are
//! delays past theirs.
//!
//! | state | pull | call | succeeded | deferred | unreachable | timed out | unavailable | endpoint error | too large | refused | retry after | gone | acknowledged | acknowledged, deferred | released | contact | restarted | verified | mode changed |
//! |---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|
//! | ready | pulled | called | same | same | same | same | same | same | same | same | same | same | same | same | same | same | same | same | same |
//! | pulled | pulled | same | same | same | same | same | same | same | same | same | same | same | ready | retry after | same | same | same | same | same |
//! | pulled, expired | pulled | called | same | same | same | same | same | same | same | same | same | same | ready | retry after | same | same | same | same | same |
//! | called | same | same | ready | retry after | backing off | backing off | backing off | backing off | ready | backing off | retry after | ready | same | same | ready | same | ready | same | same |
//! | called, expired | pulled | called | ready | retry after | backing off | backing off | backing off | backing off | ready | backing off | retry after | ready | same | same | ready | same | ready | same | same |
//! | backing off | pulled | same | same | same | same | same | same | same | same | same | same | same | same | same | same | ready | same | ready | ready |
//! | backing off, due | pulled | called | same | same | same | same | same | same | same | same | same | same | same | same | same | ready | same | ready | ready |
//! | backing off, just failed | pulled | same | same | same | same | same | same | same | same | same | same | same | same | same | same | backing off | same | ready | ready |
//! | retry after | pulled | same | same | same | same | same | same | same | same | same | same | same | same | same | same | same | same | ready | ready |
//! | retry after, due | pulled | called | same | same | same | same | same | same | same | same | same | same | same | same | same | same | same | ready | ready |
//!
//! # State of the webhook
//!
//! A webhook is turned off by the tenth refusal in a row, but only if the refusals stretch over an
//! hour: contacts of the node end the backoff, so that a fault of a few seconds can cause ten
//! refusals. While it is off, the next attempt of an envelope is the node's next pull, within a
//! minute.
//!
//! | webhook | call | gone | tenth refusal within an hour | tenth refusal after an hour | verified | mode changed to webhook | mode changed to pull |
//! |---|---|---|---|---|---|---|---|
//! | none | not called | same | same | same | same | unverified | same |
//! | unverified | not called | same | same | same | active | same | none |
//! | active | called | off | same | off | same | unverified | none |
//! | off | not called | same | same | same | active | unverified | none |
//!
//! # Search for a poison envelope
//!
//! [`PoisonSearch`] finds the envelope that makes calls fail. An outcome that indicates an outage,
//! and not a problem with the content, does not move the search, with one exception: the last
//! attempt counts only directly after another item succeeded. The search restarts when another item
//! is at the head of the queue. A single item that is too large for the endpoint needs no search.
//!
//! | search | calls with | succeeded | deferred | endpoint error | refused | too large | unreachable | timed out | unavailable | retry after |
//! |---|---|---|---|---|---|---|---|---|---|---|
//! | idle | batch | idle | same | head 0 | head 0 | same | same | same | same | same |
//! | idle, single item | batch | idle | same | head 1 | head 1 | same | same | same | same | same |
//! | head 0 | head | idle | same | head 1 | head 1 | idle | same | same | same | same |
//! | head 1 | head | idle | same | head 2 | head 2 | idle | same | same | same | same |
//! | head 2 | head | idle | same | comparison | comparison | idle | same | same | same | same |
//! | comparison | other | last attempt | same | head 0 | head 0 | same | same | same | same | same |
//! | comparison, set-aside due | set aside | last attempt | same | same | same | same | same | same | same | same |
//! | comparison, no other item | head | idle | same | same | same | idle | same | same | same | same |
//! | last attempt | head | idle | same | idle | idle | idle | comparison | comparison | comparison | comparison |
//!
//! If the last attempt fails, the item is set aside. It is then sent alone every hour, and later
//! items for the same mailbox are held behind it. This preserves the order within a mailbox, and no
//! mailbox blocks another.
//!
//! # Effects
//!
//! | end of a call | with several items | with one item | with set-aside envelope | as last attempt |
//! |---|---|---|---|---|
//! | succeeded | nothing | nothing | nothing | nothing |
//! | deferred | retry | retry | set aside | retry |
//! | unreachable | retry | retry | set aside | retry |
//! | timed out | retry | retry | set aside | retry |
//! | unavailable | retry | retry | set aside | retry |
//! | endpoint error | retry | retry | set aside | set aside |
//! | too large | nothing | set aside | set aside | set aside |
//! | refused | retry | retry | set aside | set aside |
//! | retry after | retry | retry | retry | retry |
//! | gone | turned off, retry | turned off, retry | turned off, retry | turned off, retry |
//!
//! # Size of batches
//!
//! [`Lane::batch_size`] limits the batches and probes of the webhook. It adapts to the link and to
//! the limits of proxies, and is stored with the lane. *Limited* means halved, and for a while not
//! increased back to the size that failed ([`BatchSize::limit`]). A
//! timeout counts only if it is *early*, which means before the slowest supported link could have
//! carried the call: other timeouts have other causes.
//!
//! | end of a full call | batch | probe | one item |
//! |---|---|---|---|
//! | succeeded quickly | doubled | doubled | doubled |
//! | succeeded slowly | same | same | same |
//! | unreachable | same | same | same |
//! | timed out early | halved | halved | same |
//! | timed out late | same | same | same |
//! | unavailable | limited | same | same |
//! | endpoint error | limited | same | same |
//! | too large | limited | limited | same |
//! | refused | limited | same | same |
//! | retry after | same | same | same |
//!
//! A link can be too slow for a single item. The lane is then *slow* ([`Lane::is_slow`]): until an
//! item arrives clearly faster than over the slowest supported link, its calls use the call slots
//! of failing endpoints, in which a single item has the time that it needs.

mod finished_call;

use crate::classify::Class;
use sealpost_proto::{
    BatchSize, DeliveryId, Timestamp,
    limits::{
        BACKOFF_MAX, CONTACT_RETRY_INTERVAL_MIN, DELIVERY_BATCH_BYTES_MAX,
        DELIVERY_BATCH_ITEMS_MAX, LEASE_DURATION, LEASE_DURATION_MAX, PROBE_BYTES_MAX,
        PROBE_ITEMS_MAX, PULL_LEASE_MIN, RETRY_AFTER_MAX,
    },
    wire::WebhookState,
};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Stored state of a lane.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lane {
    /// Whether a batch can be leased now, and if not, why.
    pub state: State,
    /// State of the webhook.
    pub webhook: WebhookState,
    /// Fencing token of the last lease; every lease increments it.
    pub fence: u64,
    /// Consecutive failed calls.
    pub failures: u32,
    /// Consecutive refused calls.
    pub refusals: u32,
    /// When the first of these calls was refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused_since: Option<Timestamp>,
    /// Search for an envelope that makes calls fail.
    pub poison_search: PoisonSearch,
    /// Maximum size of the next batch of the webhook.
    #[serde(default, skip_serializing_if = "BatchSize::is_first")]
    pub batch_size: BatchSize,
    /// Whether a call with one item timed out before the slowest supported link could have carried
    /// the item. Calls then use the call slots of failing endpoints.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_slow: bool,
}

/// Delivery state of a lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// A batch can be leased.
    Ready,
    /// A batch is leased.
    Leased {
        /// How the batch is delivered.
        method: DeliveryMethod,
        /// End of the lease.
        until: Timestamp,
    },
    /// The last call failed.
    BackingOff {
        /// When the call failed.
        since: Timestamp,
        /// When the next call is due.
        until: Timestamp,
    },
    /// The endpoint requested a delay.
    RetryAfter {
        /// When the next call is due.
        until: Timestamp,
    },
}

/// How a batch is delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeliveryMethod {
    /// The node pulls.
    Pull,
    /// The relay calls the webhook with this selection.
    Webhook(Selection),
}

/// Selection of items for a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Selection {
    /// As many items as fit.
    Batch,
    /// A few items, to test whether the endpoint has recovered.
    Probe,
    /// The first item alone.
    Head,
    /// The first item of another mailbox than the head's, alone.
    Other,
    /// A due set-aside envelope, alone.
    SetAside,
}

/// Maximum size of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchLimits {
    /// Maximum number of items.
    pub items: usize,
    /// Maximum bytes of envelopes, unless the first envelope alone is larger.
    pub bytes: usize,
}

/// Progress of the search for an item that makes calls fail (a poison message).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PoisonSearch {
    /// No search: batches are sent.
    #[default]
    Idle,
    /// A call that started with this item failed; the item is sent alone.
    Head {
        /// Item that is suspected of making calls fail.
        item: DeliveryId,
        /// Number of times that it failed alone.
        failures: u32,
    },
    /// The suspect failed three times; an item of another mailbox is sent for comparison.
    Comparison {
        /// Item that is suspected of making calls fail.
        item: DeliveryId,
    },
    /// The other item succeeded; the suspect gets its last attempt.
    LastAttempt {
        /// Item that is suspected of making calls fail.
        item: DeliveryId,
    },
}

impl PoisonSearch {
    const fn suspect(self) -> Option<DeliveryId> {
        match self {
            Self::Idle => None,
            Self::Head { item, .. } | Self::Comparison { item } | Self::LastAttempt { item } => {
                Some(item)
            }
        }
    }
}

/// Summary of the items in a lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueueSnapshot {
    /// First item of the queue, which excludes set-aside envelopes and the items held behind them.
    pub head: Option<DeliveryId>,
    /// Whether an item of another mailbox than the head's waits. Consulted only if
    /// [`Lane::comparison_suspect`] returns an item.
    pub has_other_mailbox: bool,
    /// Whether a set-aside envelope is due.
    pub has_set_aside_due: bool,
}

/// Event that a lane handles.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// The node pulls.
    Pull {
        /// Time that the node needs to receive and acknowledge the batch.
        lease: Duration,
    },
    /// The scheduler wants to call the webhook.
    Call(QueueSnapshot),
    /// A call of the webhook finished.
    Finished {
        /// Fencing token of the lease.
        fence: u64,
        /// Outcome of the call.
        class: Class,
        /// First item of the batch.
        first: DeliveryId,
        /// Number of items in the batch.
        items: usize,
        /// Size of the batch: bytes of its envelopes, and [`DELIVERY_EVENT_BYTES`] for each event.
        ///
        /// [`DELIVERY_EVENT_BYTES`]: sealpost_proto::limits::DELIVERY_EVENT_BYTES
        bytes: usize,
        /// Duration of the call.
        elapsed: Duration,
        /// With [`Class::Succeeded`]: delay that the node requests.
        retry_after: Option<Duration>,
    },
    /// The node acknowledges a pulled batch.
    Acknowledged {
        /// Fencing token of the lease.
        fence: u64,
        /// Delay that the node requests.
        retry_after: Option<Duration>,
    },
    /// A lease is released unused.
    Released {
        /// Fencing token of the lease.
        fence: u64,
    },
    /// The account contacted the relay.
    Contact,
    /// The relay started, so no call is running.
    Restarted,
    /// The webhook passed its test.
    Verified,
    /// The account changed its delivery mode.
    DeliveryModeChanged {
        /// Whether the account has a webhook now.
        has_webhook: bool,
    },
}

/// Action that the caller performs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// Deliver a batch within [`Lane::batch_limits`] under this lease.
    Lease {
        /// Fencing token of the new lease.
        fence: u64,
        /// End of the lease.
        until: Timestamp,
        /// How the batch is delivered.
        method: DeliveryMethod,
    },
    /// Count a failed attempt for each envelope of the batch that still waits, and notify the
    /// senders.
    Retry {
        /// When the next attempt is due, at the latest.
        next_attempt_at: Timestamp,
    },
    /// Set aside the only envelope of the batch.
    SetAside {
        /// When the envelope is sent again.
        until: Timestamp,
    },
    /// Record why the webhook was turned off.
    TurnedOff,
}

impl Lane {
    /// Creates the lane of a new account.
    #[must_use]
    pub const fn new(has_webhook: bool) -> Self {
        Self {
            state: State::Ready,
            webhook: if has_webhook {
                WebhookState::Unverified
            } else {
                WebhookState::None
            },
            fence: 0,
            failures: 0,
            refusals: 0,
            refused_since: None,
            poison_search: PoisonSearch::Idle,
            batch_size: BatchSize::FIRST,
            is_slow: false,
        }
    }

    /// Handles one event. `random` is uniform over `u64` and provides the jitter of the backoff.
    #[must_use]
    pub fn step(&mut self, now: Timestamp, event: Event, random: u64) -> Vec<Effect> {
        match event {
            Event::Pull { lease } => self.pull(now, lease),
            Event::Call(waiting) => self.call(now, waiting),
            Event::Finished {
                fence,
                class,
                first,
                items,
                bytes,
                elapsed,
                retry_after,
            } => {
                let Some(selection) = self.active_call(fence) else {
                    return Vec::new();
                };
                finished_call::FinishedCall {
                    now,
                    selection,
                    first,
                    items,
                    bytes,
                    elapsed,
                    random,
                }
                .apply(self, class, retry_after)
            }
            Event::Acknowledged { fence, retry_after } => self.acknowledge(now, fence, retry_after),
            Event::Released { fence } => self.release(fence),
            Event::Contact => self.record_contact(now),
            Event::Restarted => self.restart(),
            Event::Verified => self.reset(if self.webhook == WebhookState::None {
                WebhookState::None
            } else {
                WebhookState::Active
            }),
            Event::DeliveryModeChanged { has_webhook } => {
                self.batch_size = BatchSize::FIRST;
                self.is_slow = false;
                self.reset(Self::new(has_webhook).webhook)
            }
        }
    }

    /// Returns when the scheduler has to inspect this lane, or `None` if only the node can act on
    /// it. `set_aside_at` is when the first set-aside envelope is due.
    #[must_use]
    pub fn due_at(
        &self,
        now: Timestamp,
        has_queued: bool,
        set_aside_at: Option<Timestamp>,
    ) -> Option<Timestamp> {
        if self.webhook != WebhookState::Active {
            return None;
        }
        let work = if has_queued { Some(now) } else { set_aside_at };
        work.map(|at| self.blocked_until(now).map_or(at, |until| at.max(until)))
    }

    /// Returns whether [`Event::Contact`] has an effect, which is only during a backoff.
    #[must_use]
    pub const fn contact_ends_backoff(&self) -> bool {
        matches!(self.state, State::BackingOff { .. })
    }

    /// Returns whether a batch is leased at this time.
    #[must_use]
    pub fn is_leased(&self, now: Timestamp) -> bool {
        matches!(self.state, State::Leased { .. }) && self.blocked_until(now).is_some()
    }

    /// Returns whether the last call failed, so that the next one is a probe.
    #[must_use]
    pub const fn is_failing(&self) -> bool {
        self.failures > 0
    }

    /// Returns whether the next call uses the call slots of failing endpoints.
    #[must_use]
    pub const fn uses_failing_slots(&self) -> bool {
        self.is_failing() || self.is_slow
    }

    /// Returns the maximum size of a batch for this method.
    #[must_use]
    pub fn batch_limits(&self, method: DeliveryMethod) -> BatchLimits {
        let adapted = self.batch_size.bytes();
        match method {
            DeliveryMethod::Pull => BatchLimits {
                items: DELIVERY_BATCH_ITEMS_MAX,
                bytes: DELIVERY_BATCH_BYTES_MAX,
            },
            DeliveryMethod::Webhook(Selection::Batch) => BatchLimits {
                items: DELIVERY_BATCH_ITEMS_MAX,
                bytes: adapted,
            },
            DeliveryMethod::Webhook(Selection::Probe) => BatchLimits {
                items: PROBE_ITEMS_MAX,
                bytes: PROBE_BYTES_MAX.min(adapted),
            },
            DeliveryMethod::Webhook(Selection::Head | Selection::Other | Selection::SetAside) => {
                BatchLimits {
                    items: 1,
                    bytes: DELIVERY_BATCH_BYTES_MAX,
                }
            }
        }
    }

    /// Returns the suspect that the next call compares with an item of another mailbox.
    #[must_use]
    pub const fn comparison_suspect(&self) -> Option<DeliveryId> {
        match self.poison_search {
            PoisonSearch::Comparison { item } => Some(item),
            PoisonSearch::Idle | PoisonSearch::Head { .. } | PoisonSearch::LastAttempt { .. } => {
                None
            }
        }
    }

    /// Returns until when no batch can be leased, if the lane is blocked now. A time beyond the
    /// longest that the state allows does not count: the clock was set back.
    #[must_use]
    pub fn blocked_until(&self, now: Timestamp) -> Option<Timestamp> {
        let (until, longest) = match self.state {
            State::Ready => return None,
            State::Leased { until, .. } => (until, LEASE_DURATION_MAX),
            State::BackingOff { until, .. } => (until, BACKOFF_MAX),
            State::RetryAfter { until } => (until, RETRY_AFTER_MAX),
        };
        (until > now && until <= now.plus(longest)).then_some(until)
    }

    fn pull(&mut self, now: Timestamp, lease: Duration) -> Vec<Effect> {
        match self.state {
            State::Leased {
                method: DeliveryMethod::Webhook(_),
                ..
            } if self.blocked_until(now).is_some() => Vec::new(),
            State::Ready
            | State::Leased { .. }
            | State::BackingOff { .. }
            | State::RetryAfter { .. } => {
                let lease = lease.clamp(PULL_LEASE_MIN, LEASE_DURATION_MAX);
                self.lease(now, DeliveryMethod::Pull, lease)
            }
        }
    }

    fn call(&mut self, now: Timestamp, waiting: QueueSnapshot) -> Vec<Effect> {
        if self.blocked_until(now).is_some() || self.webhook != WebhookState::Active {
            return Vec::new();
        }
        if self
            .poison_search
            .suspect()
            .is_some_and(|suspect| waiting.head != Some(suspect))
        {
            self.poison_search = PoisonSearch::Idle;
        }
        match self.select(waiting) {
            Some(selection) => self.lease(now, DeliveryMethod::Webhook(selection), LEASE_DURATION),
            None => Vec::new(),
        }
    }

    const fn select(&self, waiting: QueueSnapshot) -> Option<Selection> {
        let set_aside = if waiting.has_set_aside_due {
            Some(Selection::SetAside)
        } else {
            None
        };
        if waiting.head.is_none() {
            return set_aside;
        }
        match self.poison_search {
            PoisonSearch::Idle if waiting.has_set_aside_due => set_aside,
            PoisonSearch::Idle if self.is_failing() => Some(Selection::Probe),
            PoisonSearch::Idle => Some(Selection::Batch),
            PoisonSearch::Comparison { .. } if waiting.has_other_mailbox => Some(Selection::Other),
            PoisonSearch::Comparison { .. } if waiting.has_set_aside_due => set_aside,
            PoisonSearch::Head { .. }
            | PoisonSearch::Comparison { .. }
            | PoisonSearch::LastAttempt { .. } => Some(Selection::Head),
        }
    }

    fn lease(&mut self, now: Timestamp, method: DeliveryMethod, lease: Duration) -> Vec<Effect> {
        let until = now.plus(lease);
        self.fence += 1;
        self.state = State::Leased { method, until };
        vec![Effect::Lease {
            fence: self.fence,
            until,
            method,
        }]
    }

    const fn active_call(&self, fence: u64) -> Option<Selection> {
        match self.state {
            State::Leased {
                method: DeliveryMethod::Webhook(selection),
                ..
            } if fence == self.fence => Some(selection),
            State::Ready
            | State::Leased { .. }
            | State::BackingOff { .. }
            | State::RetryAfter { .. } => None,
        }
    }

    fn acknowledge(
        &mut self,
        now: Timestamp,
        fence: u64,
        retry_after: Option<Duration>,
    ) -> Vec<Effect> {
        match self.state {
            State::Leased {
                method: DeliveryMethod::Pull,
                ..
            } if fence == self.fence => {
                // A pull says nothing about the webhook: after a failure the next call is still a
                // probe.
                self.failures = self.failures.min(1);
                self.state = idle_state(now, retry_after);
                retry_after
                    .map(|wait| Effect::Retry {
                        next_attempt_at: now.plus(wait),
                    })
                    .into_iter()
                    .collect()
            }
            State::Ready
            | State::Leased { .. }
            | State::BackingOff { .. }
            | State::RetryAfter { .. } => Vec::new(),
        }
    }

    fn release(&mut self, fence: u64) -> Vec<Effect> {
        if self.active_call(fence).is_some() {
            self.state = State::Ready;
        }
        Vec::new()
    }

    fn record_contact(&mut self, now: Timestamp) -> Vec<Effect> {
        match self.state {
            State::BackingOff { since, until } => {
                let earliest = since.plus(CONTACT_RETRY_INTERVAL_MIN);
                self.failures = self.failures.min(1);
                self.state = if now < earliest {
                    State::BackingOff {
                        since,
                        until: until.min(earliest),
                    }
                } else {
                    State::Ready
                };
            }
            State::Ready | State::Leased { .. } | State::RetryAfter { .. } => {}
        }
        Vec::new()
    }

    fn restart(&mut self) -> Vec<Effect> {
        match self.state {
            State::Leased {
                method: DeliveryMethod::Webhook(_),
                ..
            } => self.state = State::Ready,
            State::Ready
            | State::Leased {
                method: DeliveryMethod::Pull,
                ..
            }
            | State::BackingOff { .. }
            | State::RetryAfter { .. } => {}
        }
        Vec::new()
    }

    fn reset(&mut self, webhook: WebhookState) -> Vec<Effect> {
        self.webhook = webhook;
        self.clear_failures();
        self.poison_search = PoisonSearch::Idle;
        match self.state {
            State::BackingOff { .. } | State::RetryAfter { .. } => self.state = State::Ready,
            State::Ready | State::Leased { .. } => {}
        }
        Vec::new()
    }

    const fn clear_failures(&mut self) {
        self.failures = 0;
        self.refusals = 0;
        self.refused_since = None;
    }
}

fn idle_state(now: Timestamp, retry_after: Option<Duration>) -> State {
    retry_after.map_or(State::Ready, |wait| State::RetryAfter {
        until: now.plus(wait),
    })
}

#[cfg(test)]
mod links;
#[cfg(test)]
mod table;
#[cfg(test)]
mod tests;
