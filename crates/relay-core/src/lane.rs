//! The lane of an account: when its queue is handed out, to whom, how much of it, and what follows when that fails.
//!
//! One lane for each account, stored with it. Two ways lead out of it, the call of a webhook and the pull of the node,
//! under one lease at a time. The tables are complete: a test reads them from this page and tries every cell. `same` means
//! that nothing changes. A time that lies further ahead than any that the state can have been given counts as passed, so
//! that a clock that was put back holds nothing up.
//!
//! # What a lane does
//!
//! Of a lane whose webhook is active and in which something waits. *Answered* to *gone* are the ends of a call, *stored*
//! and *put off* what the node says of what it pulled; they count, as *returned* does, only with the fencing number of the
//! lease that stands. The second `pulled` and `called` are leases whose time has passed, the second `backing off` and
//! `waiting` those that are due.
//!
//! | state | pull | call | answered | later | outage | broke | refused | asked to wait | gone | stored | put off | returned | contact | restarted | verified | changed |
//! |---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|
//! | ready | pulled | called | same | same | same | same | same | same | same | same | same | same | same | same | same | same |
//! | pulled | pulled | same | same | same | same | same | same | same | same | ready | waiting | same | same | same | same | same |
//! | pulled, passed | pulled | called | same | same | same | same | same | same | same | ready | waiting | same | same | same | same | same |
//! | called | same | same | ready | waiting | backing off | backing off | backing off | waiting | ready | same | same | ready | same | ready | same | same |
//! | called, passed | pulled | called | ready | waiting | backing off | backing off | backing off | waiting | ready | same | same | ready | same | ready | same | same |
//! | backing off | pulled | same | same | same | same | same | same | same | same | same | same | same | ready | same | ready | ready |
//! | backing off, due | pulled | called | same | same | same | same | same | same | same | same | same | same | ready | same | ready | ready |
//! | backing off since a moment | pulled | same | same | same | same | same | same | same | same | same | same | same | backing off | same | ready | ready |
//! | waiting | pulled | same | same | same | same | same | same | same | same | same | same | same | same | same | ready | ready |
//! | waiting, due | pulled | called | same | same | same | same | same | same | same | same | same | same | same | same | ready | ready |
//!
//! # Whether its webhook is called
//!
//! | webhook | call | gone | refused for the tenth time | verified | changed to a webhook | changed to pulling |
//! |---|---|---|---|---|---|---|
//! | none | not called | same | same | same | unverified | same |
//! | unverified | not called | same | same | active | same | none |
//! | active | called | off | off | same | unverified | none |
//! | off | not called | same | same | active | unverified | none |
//!
//! # Which envelope is the trouble
//!
//! [`PoisonSearch`] finds the one that makes calls fail. What tells of an outage, and not of what was sent, neither moves it
//! on nor back, except that the last try is only worth something right after another one passed. When another item has
//! come to the head of the queue, the search starts anew.
//!
//! | poison_search | is called with | passed | later | broke | refused | outage | asked to wait |
//! |---|---|---|---|---|---|---|---|
//! | nobody | batch | nobody | same | head 0 | head 0 | same | same |
//! | nobody, one waits | batch | nobody | same | head 1 | head 1 | same | same |
//! | head 0 | head | nobody | same | head 1 | head 1 | same | same |
//! | head 1 | head | nobody | same | head 2 | head 2 | same | same |
//! | head 2 | head | nobody | same | others | others | same | same |
//! | others | other | last try | same | head 0 | head 0 | same | same |
//! | others, one set aside is due | set aside | last try | same | same | same | same | same |
//! | others, there is none | head | nobody | same | same | same | same | same |
//! | last try | head | nobody | same | nobody | nobody | others | others |
//!
//! The failure of the last try sets the item aside. From then on it is tried alone every hour, and what came later to the
//! same mailbox waits behind it; so the order within a mailbox holds, and no mailbox holds up another.
//!
//! # What has to be done
//!
//! | end of a call | with batch, probe, head or other | with one set aside | as last try |
//! |---|---|---|---|
//! | answered | nothing | nothing | nothing |
//! | later | retry | set aside | retry |
//! | outage | retry | set aside | retry |
//! | broke | retry | set aside | set aside |
//! | refused | retry | set aside | set aside |
//! | asked to wait | retry | retry | retry |
//! | gone | switched off, retry | switched off, retry | switched off, retry |

mod finished_call;

use crate::classify::Class;
use sealpost_proto::{
    DeliveryId, Timestamp,
    limits::{
        BACKOFF_MAX, CONTACT_RETRY_INTERVAL_MIN, DELIVERY_BATCH_BYTES_MAX,
        DELIVERY_BATCH_ITEMS_MAX, LEASE_DURATION, PROBE_BYTES_MAX, PROBE_ITEMS_MAX,
        RETRY_AFTER_MAX,
    },
    wire::WebhookState,
};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// A lane as it is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lane {
    /// What it does now.
    pub state: State,
    /// Whether its webhook is called.
    pub webhook: WebhookState,
    /// The fencing number of the last lease; rises with every lease.
    pub fence: u64,
    /// Calls in a row that failed.
    pub failures: u32,
    /// Calls in a row that were refused.
    pub refusals: u32,
    /// The search for an envelope that makes calls fail.
    pub poison_search: PoisonSearch,
}

/// What a lane does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Nothing holds it.
    Ready,
    /// A batch is out.
    Leased {
        /// Which method.
        method: DeliveryMethod,
        /// The end of the lease.
        until: Timestamp,
    },
    /// Calls failed.
    BackingOff {
        /// When the last one failed.
        since: Timestamp,
        /// When the next one is due.
        until: Timestamp,
    },
    /// The endpoint asked for patience.
    RetryAfter {
        /// When the next call is due.
        until: Timestamp,
    },
}

/// How a batch goes out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeliveryMethod {
    /// The node asked.
    Pull,
    /// The webhook is called with that.
    Webhook(Selection),
}

/// What a batch holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Selection {
    /// As much as fits.
    Batch,
    /// A little, to see whether the endpoint is back.
    Probe,
    /// The first item alone.
    Head,
    /// The first item that is not of the first one's mailbox, alone.
    Other,
    /// An envelope that was set aside and is due, alone.
    SetAside,
}

/// How much a batch holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchLimits {
    /// Items at most.
    pub items: usize,
    /// Bytes of envelopes at most, unless the first alone is larger.
    pub bytes: usize,
}

impl DeliveryMethod {
    /// How much goes out this method.
    #[must_use]
    pub const fn batch_limits(self) -> BatchLimits {
        match self {
            Self::Pull | Self::Webhook(Selection::Batch) => BatchLimits {
                items: DELIVERY_BATCH_ITEMS_MAX,
                bytes: DELIVERY_BATCH_BYTES_MAX,
            },
            Self::Webhook(Selection::Probe) => BatchLimits {
                items: PROBE_ITEMS_MAX,
                bytes: PROBE_BYTES_MAX,
            },
            Self::Webhook(Selection::Head | Selection::Other | Selection::SetAside) => {
                BatchLimits {
                    items: 1,
                    bytes: DELIVERY_BATCH_BYTES_MAX,
                }
            }
        }
    }
}

/// How far the search for an item that makes calls fail has come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PoisonSearch {
    /// None: batches go out.
    #[default]
    Idle,
    /// A call failed that this item headed; it is sent alone.
    Head {
        /// The suspect.
        item: DeliveryId,
        /// How often it failed alone.
        failures: u32,
    },
    /// It failed three times; does one of another mailbox pass?
    Others {
        /// The suspect.
        item: DeliveryId,
    },
    /// One did; the suspect gets its last try.
    LastAttempt {
        /// The suspect.
        item: DeliveryId,
    },
}

impl PoisonSearch {
    const fn suspect(self) -> Option<DeliveryId> {
        match self {
            Self::Idle => None,
            Self::Head { item, .. } | Self::Others { item } | Self::LastAttempt { item } => {
                Some(item)
            }
        }
    }
}

/// What waits in a lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueueSnapshot {
    /// The first item of the queue. What is set aside, and what waits behind that, is not in the queue.
    pub head: Option<DeliveryId>,
    /// Whether an item waits that is not of the head's mailbox; looked at only where [`Lane::comparison_suspect`] asks.
    pub has_other_mailbox: bool,
    /// Whether an envelope that was set aside is due.
    pub has_set_aside_due: bool,
}

/// What happens to a lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// The node asks for what waits.
    Pull,
    /// The scheduler would call the webhook.
    Call(QueueSnapshot),
    /// A call of the webhook came to its end.
    Finished {
        /// The lease's fencing number.
        fence: u64,
        /// How it went.
        class: Class,
        /// The first item of the batch.
        first: DeliveryId,
        /// Items of the batch.
        items: usize,
        /// With [`Class::Succeeded`]: how long the node asks to be left alone.
        retry_after: Option<Duration>,
    },
    /// The node acknowledges what it pulled.
    Acknowledged {
        /// The lease's fencing number.
        fence: u64,
        /// How long the node asks to be left alone.
        retry_after: Option<Duration>,
    },
    /// A lease is given back unused.
    Released {
        /// The lease's fencing number.
        fence: u64,
    },
    /// The account was heard of.
    Contact,
    /// The relay started: calls that were under method are not any more.
    Restarted,
    /// The webhook answered its challenge.
    Verified,
    /// The account chose another method of delivery.
    DeliveryModeChanged {
        /// Whether it has a webhook now.
        has_webhook: bool,
    },
}

/// What the edge has to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// Hand out what [`DeliveryMethod::take`] says, under this lease.
    Lease {
        /// Its fencing number.
        fence: u64,
        /// Its end.
        until: Timestamp,
        /// Its method.
        method: DeliveryMethod,
    },
    /// Count a failed attempt for each envelope of the batch that still waits, and tell their senders.
    Retry {
        /// When the next attempt is due; absent while the webhook is off.
        next_attempt_at: Option<Timestamp>,
    },
    /// Set the batch's only envelope aside.
    SetAside {
        /// When it is tried again.
        until: Timestamp,
    },
    /// The webhook is off now: write down why.
    SwitchedOff,
}

impl Lane {
    /// The lane of a new account.
    #[must_use]
    pub const fn new(webhook: bool) -> Self {
        Self {
            state: State::Ready,
            webhook: if webhook {
                WebhookState::Unverified
            } else {
                WebhookState::None
            },
            fence: 0,
            failures: 0,
            refusals: 0,
            poison_search: PoisonSearch::Idle,
        }
    }

    /// Takes one event. `random` is uniform over all of `u64`; it draws the backoff's delay.
    #[must_use]
    pub fn step(&mut self, now: Timestamp, event: Event, random: u64) -> Vec<Effect> {
        match event {
            Event::Pull => self.pull(now),
            Event::Call(waiting) => self.call(now, waiting),
            Event::Finished {
                fence,
                class,
                first,
                items,
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
                self.reset(Self::new(has_webhook).webhook)
            }
        }
    }

    /// When the scheduler has to look at this lane: absent when only the node can move it. `set_aside_at` is when the
    /// first envelope that was set aside is due.
    #[must_use]
    pub fn due_at(
        &self,
        now: Timestamp,
        waits: bool,
        set_aside_at: Option<Timestamp>,
    ) -> Option<Timestamp> {
        if self.webhook != WebhookState::Active {
            return None;
        }
        let work = if waits { Some(now) } else { set_aside_at };
        work.map(|at| self.blocked_until(now).map_or(at, |until| at.max(until)))
    }

    /// Whether [`Event::Contact`] would change anything.
    #[must_use]
    pub const fn contact_ends_backoff(&self) -> bool {
        matches!(self.state, State::BackingOff { .. })
    }

    /// Whether a batch is out at this time.
    #[must_use]
    pub fn is_leased(&self, now: Timestamp) -> bool {
        matches!(self.state, State::Leased { .. }) && self.blocked_until(now).is_some()
    }

    /// Whether the last call failed, so that the next one is a try.
    #[must_use]
    pub const fn is_failing(&self) -> bool {
        self.failures > 0
    }

    /// The item that the next call comparison_suspect with another one.
    #[must_use]
    pub const fn comparison_suspect(&self) -> Option<DeliveryId> {
        match self.poison_search {
            PoisonSearch::Others { item } => Some(item),
            PoisonSearch::Idle | PoisonSearch::Head { .. } | PoisonSearch::LastAttempt { .. } => {
                None
            }
        }
    }

    /// Until when no call goes out, if it is held up now. A time beyond the longest that the state can have been given is no time: the clock was
    /// put back.
    #[must_use]
    pub fn blocked_until(&self, now: Timestamp) -> Option<Timestamp> {
        let (until, longest) = match self.state {
            State::Ready => return None,
            State::Leased { until, .. } => (until, LEASE_DURATION),
            State::BackingOff { until, .. } => (until, BACKOFF_MAX),
            State::RetryAfter { until } => (until, RETRY_AFTER_MAX),
        };
        (until > now && until <= now.plus(longest)).then_some(until)
    }

    fn pull(&mut self, now: Timestamp) -> Vec<Effect> {
        match self.state {
            State::Leased {
                method: DeliveryMethod::Webhook(_),
                ..
            } if self.blocked_until(now).is_some() => Vec::new(),
            State::Ready
            | State::Leased { .. }
            | State::BackingOff { .. }
            | State::RetryAfter { .. } => self.lease(now, DeliveryMethod::Pull),
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
            Some(selection) => self.lease(now, DeliveryMethod::Webhook(selection)),
            None => Vec::new(),
        }
    }

    const fn select(&self, waiting: QueueSnapshot) -> Option<Selection> {
        let aside = if waiting.has_set_aside_due {
            Some(Selection::SetAside)
        } else {
            None
        };
        if waiting.head.is_none() {
            return aside;
        }
        match self.poison_search {
            PoisonSearch::Idle if waiting.has_set_aside_due => aside,
            PoisonSearch::Idle if self.is_failing() => Some(Selection::Probe),
            PoisonSearch::Idle => Some(Selection::Batch),
            PoisonSearch::Others { .. } if waiting.has_other_mailbox => Some(Selection::Other),
            PoisonSearch::Others { .. } if waiting.has_set_aside_due => aside,
            PoisonSearch::Head { .. }
            | PoisonSearch::Others { .. }
            | PoisonSearch::LastAttempt { .. } => Some(Selection::Head),
        }
    }

    fn lease(&mut self, now: Timestamp, method: DeliveryMethod) -> Vec<Effect> {
        let until = now.plus(LEASE_DURATION);
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
                // That the node pulls says nothing of its webhook: the next call of one that failed is still a try.
                self.failures = self.failures.min(1);
                self.state = idle_state(now, retry_after);
                retry_after
                    .map(|wait| Effect::Retry {
                        next_attempt_at: Some(now.plus(wait)),
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
                let soonest = since.plus(CONTACT_RETRY_INTERVAL_MIN);
                self.failures = self.failures.min(1);
                self.state = if now < soonest {
                    State::BackingOff {
                        since,
                        until: until.min(soonest),
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
    }
}

fn idle_state(now: Timestamp, retry_after: Option<Duration>) -> State {
    retry_after.map_or(State::Ready, |wait| State::RetryAfter {
        until: now.plus(wait),
    })
}

#[cfg(test)]
mod table;
#[cfg(test)]
mod tests;
