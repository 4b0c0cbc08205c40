//! The lane of an account: when its queue is handed out, to whom, how much of it, and what follows when that fails.
//!
//! One lane for each account, stored with it. Two ways lead out of it, the call of a webhook and the pull of the node,
//! under one lease at a time. `until` stands for a point in time that the state carries; a `Leased` whose time has
//! passed behaves as `Ready`, a `BackingOff` or `AskedToWait` whose time has passed lets calls through.
//!
//! | state \ event | pull | call | finished | acknowledged | returned | contact | restarted | verified, changed |
//! |---|---|---|---|---|---|---|---|---|
//! | Ready | Leased(pull) | Leased(webhook) | same | same | same | same | same | Ready |
//! | Leased(pull) | Leased(pull), next fence | same | same | Ready, AskedToWait | same | same | same | same |
//! | Leased(webhook) | same | same | see below | same | Ready | same | Ready | same |
//! | BackingOff | Leased(pull) | after `until`: Leased(webhook) | same | same | same | Ready, or BackingOff a moment | same | Ready |
//! | AskedToWait | Leased(pull) | after `until`: Leased(webhook) | same | same | same | same | same | Ready |
//!
//! A call leases only while the webhook is active and something waits. *Finished*, *acknowledged* and *returned* count
//! only with the fencing number of the lease that stands. A finished call leads to:
//!
//! | class | state | besides |
//! |---|---|---|
//! | answered | Ready, or AskedToWait when something was put off | failures and refusals in a row start anew |
//! | unreachable | BackingOff | senders are told |
//! | broke | BackingOff | senders are told; [`Suspicion`] moves on |
//! | asked to wait | AskedToWait | senders are told |
//! | refused | BackingOff; at the tenth in a row Ready with the webhook off | senders are told; [`Suspicion`] moves on |
//! | gone | Ready with the webhook off | senders are told |
//!
//! [`Suspicion`] finds the one envelope that makes calls fail: a batch that broke is sent singly from its head; when the
//! head failed three times alone, the one behind it is tried; if that passes, the head gets a last try, and if it fails
//! again it is set aside. If the one behind fails too, it is the endpoint, and the head is tried again.

use crate::{backoff, classify::Class};
use sealpost_proto::{
    Timestamp,
    limits::{
        CONTACT_SPACING, DELIVERY_BATCH_BYTES_MAX, DELIVERY_BATCH_ITEMS_MAX, ENVELOPE_FAILURES_MAX, LEASE_LIFE,
        PROBE_BYTES_MAX, PROBE_ITEMS_MAX, REFUSED_CALLS_MAX, SET_ASIDE_RETRY,
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
    pub suspicion: Suspicion,
}

/// What a lane does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Nothing holds it.
    Ready,
    /// A batch is out.
    Leased {
        /// Which way.
        way: Way,
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
    AskedToWait {
        /// When the next call is due.
        until: Timestamp,
    },
}

/// How a batch goes out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Way {
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
    /// The item behind the first, alone.
    Second,
    /// An envelope that was set aside and is due, alone.
    SetAside,
}

/// How much of the queue a batch takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Take {
    /// Items from the front that are left out.
    pub skip: usize,
    /// Items at most.
    pub items: usize,
    /// Bytes of envelopes at most, unless the first alone is larger.
    pub bytes: usize,
}

impl Way {
    /// How much of the queue goes out this way.
    #[must_use]
    pub const fn take(self) -> Take {
        let single = Take { skip: 0, items: 1, bytes: DELIVERY_BATCH_BYTES_MAX };
        match self {
            Self::Pull | Self::Webhook(Selection::Batch) => Take { items: DELIVERY_BATCH_ITEMS_MAX, ..single },
            Self::Webhook(Selection::Probe) => Take { skip: 0, items: PROBE_ITEMS_MAX, bytes: PROBE_BYTES_MAX },
            Self::Webhook(Selection::Head | Selection::SetAside) => single,
            Self::Webhook(Selection::Second) => Take { skip: 1, ..single },
        }
    }
}

/// How far the search for an envelope that makes calls fail has come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Suspicion {
    /// None: batches go out.
    #[default]
    Nobody,
    /// A batch failed; the head is sent alone and failed so many times.
    Head {
        /// Failures of the head alone.
        failures: u32,
    },
    /// The head failed three times; does the one behind it pass?
    Others,
    /// It did; the head gets its last try.
    LastTry,
}

/// What waits in a lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Waiting {
    /// Items that are not set aside, counted to 2 at most.
    pub items: usize,
    /// Whether an envelope that was set aside is due.
    pub set_aside_due: bool,
}

/// What happens to a lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// The node asks for what waits.
    Pull,
    /// The scheduler would call the webhook.
    Call(Waiting),
    /// A call of the webhook came to its end.
    Finished {
        /// The lease's fencing number.
        fence: u64,
        /// How it went.
        class: Class,
        /// Items that were in the batch.
        items: usize,
        /// With [`Class::Answered`]: how long the node asks to be left alone.
        later: Option<Duration>,
    },
    /// The node acknowledges what it pulled.
    Acknowledged {
        /// The lease's fencing number.
        fence: u64,
        /// How long the node asks to be left alone.
        later: Option<Duration>,
    },
    /// A lease is given back unused.
    Returned {
        /// The lease's fencing number.
        fence: u64,
    },
    /// The account was heard of.
    Contact,
    /// The relay started: calls that were under way are not any more.
    Restarted,
    /// The webhook answered its challenge.
    Verified,
    /// The account chose another way of delivery.
    Changed {
        /// Whether it has a webhook now.
        webhook: bool,
    },
}

/// What the edge has to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// Hand out what [`Way::take`] says, under this lease.
    Lease {
        /// Its fencing number.
        fence: u64,
        /// Its end.
        until: Timestamp,
        /// Its way.
        way: Way,
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
            webhook: if webhook { WebhookState::Unverified } else { WebhookState::None },
            fence: 0,
            failures: 0,
            refusals: 0,
            suspicion: Suspicion::Nobody,
        }
    }

    /// Takes one event. `random` is uniform over all of `u64`; it draws the backoff's delay.
    #[must_use]
    pub fn step(&mut self, now: Timestamp, event: Event, random: u64) -> Vec<Effect> {
        match event {
            Event::Pull => self.pull(now),
            Event::Call(waiting) => self.call(now, waiting),
            Event::Finished { fence, class, items, later } => {
                let Some(selection) = self.called(fence) else { return Vec::new() };
                let mut call = Ended { now, selection, items, random };
                call.finish(self, class, later)
            }
            Event::Acknowledged { fence, later } => self.acknowledge(now, fence, later),
            Event::Returned { fence } => self.give_back(fence),
            Event::Contact => self.hear(now),
            Event::Restarted => self.restart(),
            Event::Verified => {
                self.renew(if self.webhook == WebhookState::None { WebhookState::None } else { WebhookState::Active })
            }
            Event::Changed { webhook } => self.renew(Self::new(webhook).webhook),
        }
    }

    /// When the scheduler has to look at this lane: absent when only the node can move it. `set_aside_at` is when the
    /// first envelope that was set aside is due.
    #[must_use]
    pub fn due_at(&self, now: Timestamp, waits: bool, set_aside_at: Option<Timestamp>) -> Option<Timestamp> {
        if self.webhook != WebhookState::Active {
            return None;
        }
        let work = if waits { Some(now) } else { set_aside_at };
        match self.state {
            State::Ready => work,
            State::Leased { until, .. } | State::BackingOff { until, .. } | State::AskedToWait { until } => {
                work.map(|at| at.max(until))
            }
        }
    }

    /// Whether [`Event::Contact`] would change anything.
    #[must_use]
    pub const fn heeds_contact(&self) -> bool {
        matches!(self.state, State::BackingOff { .. })
    }

    /// Whether a batch is out at this time.
    #[must_use]
    pub fn is_leased(&self, now: Timestamp) -> bool {
        matches!(self.state, State::Leased { until, .. } if until > now)
    }

    fn pull(&mut self, now: Timestamp) -> Vec<Effect> {
        match self.state {
            State::Leased { way: Way::Webhook(_), until } if until > now => Vec::new(),
            State::Ready | State::Leased { .. } | State::BackingOff { .. } | State::AskedToWait { .. } => {
                self.lease(now, Way::Pull)
            }
        }
    }

    fn call(&mut self, now: Timestamp, waiting: Waiting) -> Vec<Effect> {
        let held = match self.state {
            State::Ready => false,
            State::Leased { until, .. } | State::BackingOff { until, .. } | State::AskedToWait { until } => until > now,
        };
        if held || self.webhook != WebhookState::Active {
            return Vec::new();
        }
        match self.select(waiting) {
            Some(selection) => self.lease(now, Way::Webhook(selection)),
            None => Vec::new(),
        }
    }

    const fn select(&self, waiting: Waiting) -> Option<Selection> {
        match (waiting, self.suspicion) {
            (Waiting { items: 0, set_aside_due: false }, _) => None,
            (Waiting { set_aside_due: true, .. }, Suspicion::Nobody) | (Waiting { items: 0, .. }, _) => {
                Some(Selection::SetAside)
            }
            (_, Suspicion::Nobody) if self.failures > 0 => Some(Selection::Probe),
            (_, Suspicion::Nobody) => Some(Selection::Batch),
            (Waiting { items: 1, .. }, Suspicion::Others) | (_, Suspicion::Head { .. } | Suspicion::LastTry) => {
                Some(Selection::Head)
            }
            (_, Suspicion::Others) => Some(Selection::Second),
        }
    }

    fn lease(&mut self, now: Timestamp, way: Way) -> Vec<Effect> {
        let until = now.plus(LEASE_LIFE);
        self.fence += 1;
        self.state = State::Leased { way, until };
        vec![Effect::Lease { fence: self.fence, until, way }]
    }

    const fn called(&self, fence: u64) -> Option<Selection> {
        match self.state {
            State::Leased { way: Way::Webhook(selection), .. } if fence == self.fence => Some(selection),
            State::Ready | State::Leased { .. } | State::BackingOff { .. } | State::AskedToWait { .. } => None,
        }
    }

    fn acknowledge(&mut self, now: Timestamp, fence: u64, later: Option<Duration>) -> Vec<Effect> {
        match self.state {
            State::Leased { way: Way::Pull, .. } if fence == self.fence => {
                self.failures = 0;
                self.state = rest(now, later);
            }
            State::Ready | State::Leased { .. } | State::BackingOff { .. } | State::AskedToWait { .. } => {}
        }
        Vec::new()
    }

    fn give_back(&mut self, fence: u64) -> Vec<Effect> {
        if self.called(fence).is_some() {
            self.state = State::Ready;
        }
        Vec::new()
    }

    fn hear(&mut self, now: Timestamp) -> Vec<Effect> {
        match self.state {
            State::BackingOff { since, until } => {
                let soonest = since.plus(CONTACT_SPACING);
                self.failures = self.failures.min(1);
                self.state =
                    if now < soonest { State::BackingOff { since, until: until.min(soonest) } } else { State::Ready };
            }
            State::Ready | State::Leased { .. } | State::AskedToWait { .. } => {}
        }
        Vec::new()
    }

    fn restart(&mut self) -> Vec<Effect> {
        match self.state {
            State::Leased { way: Way::Webhook(_), .. } => self.state = State::Ready,
            State::Ready
            | State::Leased { way: Way::Pull, .. }
            | State::BackingOff { .. }
            | State::AskedToWait { .. } => {}
        }
        Vec::new()
    }

    fn renew(&mut self, webhook: WebhookState) -> Vec<Effect> {
        self.webhook = webhook;
        self.passed();
        self.suspicion = Suspicion::Nobody;
        match self.state {
            State::BackingOff { .. } | State::AskedToWait { .. } => self.state = State::Ready,
            State::Ready | State::Leased { .. } => {}
        }
        Vec::new()
    }

    const fn passed(&mut self) {
        self.failures = 0;
        self.refusals = 0;
    }
}

fn rest(now: Timestamp, later: Option<Duration>) -> State {
    later.map_or(State::Ready, |wait| State::AskedToWait { until: now.plus(wait) })
}

/// A call of the webhook that came to its end.
struct Ended {
    now: Timestamp,
    selection: Selection,
    items: usize,
    random: u64,
}

impl Ended {
    fn finish(&mut self, lane: &mut Lane, class: Class, later: Option<Duration>) -> Vec<Effect> {
        match class {
            Class::Answered => self.answered(lane, later),
            Class::Unreachable => self.unreachable(lane),
            Class::Broke => self.broke(lane),
            Class::AskedToWait(wait) => self.wait(lane, wait),
            Class::Refused => self.refused(lane),
            Class::Gone => Self::switch_off(lane),
        }
    }

    fn answered(&self, lane: &mut Lane, later: Option<Duration>) -> Vec<Effect> {
        lane.passed();
        lane.state = rest(self.now, later);
        match later {
            Some(wait) if self.selection == Selection::SetAside => {
                lane.state = State::Ready;
                vec![Effect::SetAside { until: self.now.plus(SET_ASIDE_RETRY.max(wait)) }]
            }
            Some(wait) => vec![Effect::Retry { next_attempt_at: Some(self.now.plus(wait)) }],
            None => {
                lane.suspicion = match (self.selection, lane.suspicion) {
                    (Selection::Second, Suspicion::Others) => Suspicion::LastTry,
                    (Selection::SetAside, suspicion) => suspicion,
                    (Selection::Batch | Selection::Probe | Selection::Head | Selection::Second, _) => Suspicion::Nobody,
                };
                Vec::new()
            }
        }
    }

    fn unreachable(&self, lane: &mut Lane) -> Vec<Effect> {
        let mut effects = self.back_off(lane);
        if self.selection == Selection::SetAside {
            effects = vec![Effect::SetAside { until: self.now.plus(SET_ASIDE_RETRY) }];
        }
        effects
    }

    fn wait(&self, lane: &mut Lane, wait: Duration) -> Vec<Effect> {
        let until = self.now.plus(wait);
        lane.state = State::AskedToWait { until };
        vec![Effect::Retry { next_attempt_at: Some(until) }]
    }

    fn refused(&mut self, lane: &mut Lane) -> Vec<Effect> {
        if self.selection != Selection::SetAside {
            lane.refusals += 1;
            if lane.refusals >= REFUSED_CALLS_MAX {
                return Self::switch_off(lane);
            }
        }
        self.broke(lane)
    }

    fn broke(&mut self, lane: &mut Lane) -> Vec<Effect> {
        let guilty = match (self.selection, lane.suspicion) {
            (Selection::SetAside, _) => true,
            (Selection::Head, Suspicion::LastTry) => {
                lane.suspicion = Suspicion::Nobody;
                lane.passed();
                true
            }
            (Selection::Batch | Selection::Probe | Selection::Head | Selection::Second, suspicion) => {
                lane.suspicion = self.suspect(suspicion);
                false
            }
        };
        if guilty {
            lane.state = State::Ready;
            return vec![Effect::SetAside { until: self.now.plus(SET_ASIDE_RETRY) }];
        }
        self.back_off(lane)
    }

    /// Where the search goes after a call that may have failed because of what it carried.
    const fn suspect(&self, suspicion: Suspicion) -> Suspicion {
        let failures = match (self.selection, suspicion) {
            (Selection::Head, Suspicion::Others) => return Suspicion::Others,
            (Selection::Head, Suspicion::Head { failures }) => failures + 1,
            (Selection::Batch | Selection::Probe, _) if self.items == 1 => 1,
            (
                Selection::Batch | Selection::Probe | Selection::Head | Selection::Second | Selection::SetAside,
                Suspicion::Nobody | Suspicion::Head { .. } | Suspicion::Others | Suspicion::LastTry,
            ) => 0,
        };
        if failures >= ENVELOPE_FAILURES_MAX { Suspicion::Others } else { Suspicion::Head { failures } }
    }

    fn back_off(&self, lane: &mut Lane) -> Vec<Effect> {
        lane.failures = lane.failures.saturating_add(1);
        let until = self.now.plus(backoff::delay(lane.failures, self.random));
        lane.state = State::BackingOff { since: self.now, until };
        vec![Effect::Retry { next_attempt_at: Some(until) }]
    }

    fn switch_off(lane: &mut Lane) -> Vec<Effect> {
        lane.state = State::Ready;
        lane.suspicion = Suspicion::Nobody;
        lane.passed();
        match lane.webhook {
            WebhookState::Active => {
                lane.webhook = WebhookState::Off;
                vec![Effect::SwitchedOff, Effect::Retry { next_attempt_at: None }]
            }
            WebhookState::None | WebhookState::Unverified | WebhookState::Off => {
                vec![Effect::Retry { next_attempt_at: None }]
            }
        }
    }
}

#[cfg(test)]
mod tests;
