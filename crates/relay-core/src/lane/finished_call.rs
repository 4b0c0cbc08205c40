//! Consequences of a finished webhook call for the lane, the senders and the suspected item.

use super::{Effect, Lane, PoisonSearch, Selection, State, idle_state};
use crate::classify::Class;
use sealpost_proto::{
    DeliveryId, Timestamp, backoff,
    batch_size::transfer_time,
    limits::{
        ENVELOPE_FAILURES_MAX, REFUSAL_PERIOD_MIN, REFUSED_CALLS_MAX, SET_ASIDE_RETRY_INTERVAL,
        WEBHOOK_NODE_PULL_INTERVAL,
    },
    wire::WebhookState,
};
use std::time::Duration;

/// A slow lane is no longer slow when an item arrives this many times faster than over the slowest
/// supported link.
const FAST_LINK_FACTOR: u32 = 4;

/// Finished call of the webhook.
pub(super) struct FinishedCall {
    pub(super) now: Timestamp,
    pub(super) selection: Selection,
    pub(super) first: DeliveryId,
    pub(super) items: usize,
    pub(super) bytes: usize,
    pub(super) elapsed: Duration,
    pub(super) random: u64,
}

impl FinishedCall {
    pub(super) fn apply(
        &self,
        lane: &mut Lane,
        class: Class,
        retry_after: Option<Duration>,
    ) -> Vec<Effect> {
        match class {
            Class::Succeeded => self.apply_success(lane, retry_after),
            Class::Unreachable => self.apply_outage(lane),
            Class::TimedOut => {
                self.adapt_to_timeout(lane);
                self.apply_outage(lane)
            }
            Class::Unavailable => {
                self.adapt_to_failed_batch(lane);
                self.apply_outage(lane)
            }
            Class::EndpointError => {
                self.adapt_to_failed_batch(lane);
                self.apply_endpoint_error(lane)
            }
            Class::TooLarge => self.apply_too_large(lane),
            Class::RetryAfter(wait) => self.apply_retry_after(lane, wait),
            Class::Refused => self.apply_refusal(lane),
            Class::Gone => self.turn_off(lane),
        }
    }

    fn apply_success(&self, lane: &mut Lane, retry_after: Option<Duration>) -> Vec<Effect> {
        lane.clear_failures();
        lane.batch_size
            .record_success(self.now, self.bytes, self.elapsed);
        lane.is_slow &= self.elapsed > transfer_time(self.bytes) / FAST_LINK_FACTOR;
        lane.state = idle_state(self.now, retry_after);
        match retry_after {
            Some(wait) if self.selection == Selection::SetAside => {
                lane.state = State::Ready;
                vec![Effect::SetAside {
                    until: self.now.plus(SET_ASIDE_RETRY_INTERVAL.max(wait)),
                }]
            }
            Some(wait) => vec![Effect::Retry {
                next_attempt_at: self.now.plus(wait),
            }],
            None => {
                lane.poison_search = match (self.selection, lane.poison_search) {
                    (Selection::Other | Selection::SetAside, PoisonSearch::Comparison { item }) => {
                        PoisonSearch::LastAttempt { item }
                    }
                    (Selection::SetAside, poison_search) => poison_search,
                    (
                        Selection::Batch | Selection::Probe | Selection::Head | Selection::Other,
                        _,
                    ) => PoisonSearch::Idle,
                };
                Vec::new()
            }
        }
    }

    fn apply_outage(&self, lane: &mut Lane) -> Vec<Effect> {
        restart_comparison(lane);
        let retry = self.back_off(lane);
        if self.selection == Selection::SetAside {
            return vec![Effect::SetAside {
                until: self.now.plus(SET_ASIDE_RETRY_INTERVAL),
            }];
        }
        retry
    }

    /// A single item cannot be divided: if it needs more time, its lane is slow.
    fn adapt_to_timeout(&self, lane: &mut Lane) {
        if self.items > 1 {
            lane.batch_size.record_timeout(self.bytes, self.elapsed);
        } else {
            lane.is_slow |= transfer_time(self.bytes) > self.elapsed;
        }
    }

    /// Many proxies report a call that is too large with another status than 413, or cut the
    /// connection. A probe is small, and a single item cannot be divided.
    const fn adapt_to_failed_batch(&self, lane: &mut Lane) {
        if matches!(self.selection, Selection::Batch) && self.items > 1 {
            lane.batch_size.limit(self.now, self.bytes);
        }
    }

    /// A smaller batch follows at once: the endpoint is available. A single item is set aside.
    fn apply_too_large(&self, lane: &mut Lane) -> Vec<Effect> {
        if self.items > 1 {
            lane.batch_size.limit(self.now, self.bytes);
            lane.state = State::Ready;
            return Vec::new();
        }
        let set_aside = Effect::SetAside {
            until: self.now.plus(SET_ASIDE_RETRY_INTERVAL),
        };
        if self.selection == Selection::SetAside {
            lane.state = State::Ready;
            return vec![set_aside];
        }
        if self.selection == Selection::Head {
            lane.poison_search = PoisonSearch::Idle;
        }
        if self.count_refusal(lane) {
            return self.turn_off(lane);
        }
        // An endpoint that refuses everything must not be called once for each item without delay.
        let _ = self.back_off(lane);
        vec![set_aside]
    }

    fn apply_retry_after(&self, lane: &mut Lane, wait: Duration) -> Vec<Effect> {
        restart_comparison(lane);
        let until = self.now.plus(wait);
        lane.state = State::RetryAfter { until };
        vec![Effect::Retry {
            next_attempt_at: until,
        }]
    }

    fn apply_refusal(&self, lane: &mut Lane) -> Vec<Effect> {
        if self.selection != Selection::SetAside && self.count_refusal(lane) {
            return self.turn_off(lane);
        }
        self.adapt_to_failed_batch(lane);
        self.apply_endpoint_error(lane)
    }

    /// Counts a refusal and returns whether it turns the webhook off.
    fn count_refusal(&self, lane: &mut Lane) -> bool {
        lane.refusals = lane.refusals.saturating_add(1);
        // A time in the future was recorded before the clock was set back.
        let since = lane.refused_since.filter(|since| *since <= self.now);
        let since = *lane.refused_since.insert(since.unwrap_or(self.now));
        lane.refusals >= REFUSED_CALLS_MAX && self.now >= since.plus(REFUSAL_PERIOD_MIN)
    }

    fn apply_endpoint_error(&self, lane: &mut Lane) -> Vec<Effect> {
        let is_poison = match (self.selection, lane.poison_search) {
            (Selection::SetAside, _) => true,
            (Selection::Head, PoisonSearch::LastAttempt { .. }) => {
                lane.poison_search = PoisonSearch::Idle;
                lane.clear_failures();
                true
            }
            (
                Selection::Batch | Selection::Probe | Selection::Head | Selection::Other,
                poison_search,
            ) => {
                lane.poison_search = self.next_search(poison_search);
                false
            }
        };
        if is_poison {
            lane.state = State::Ready;
            return vec![Effect::SetAside {
                until: self.now.plus(SET_ASIDE_RETRY_INTERVAL),
            }];
        }
        self.back_off(lane)
    }

    /// Returns the next step of the search after a call that may have failed because of its
    /// content.
    const fn next_search(&self, poison_search: PoisonSearch) -> PoisonSearch {
        match (self.selection, poison_search) {
            (Selection::Head, PoisonSearch::Comparison { item }) => {
                PoisonSearch::Comparison { item }
            }
            (Selection::Head, PoisonSearch::Head { item, failures })
                if failures + 1 >= ENVELOPE_FAILURES_MAX =>
            {
                PoisonSearch::Comparison { item }
            }
            (Selection::Head, PoisonSearch::Head { item, failures }) => PoisonSearch::Head {
                item,
                failures: failures + 1,
            },
            // Another item fails as well, so the endpoint is the cause.
            (Selection::Other, PoisonSearch::Comparison { item }) => {
                PoisonSearch::Head { item, failures: 0 }
            }
            (
                Selection::Batch
                | Selection::Probe
                | Selection::Head
                | Selection::Other
                | Selection::SetAside,
                PoisonSearch::Idle
                | PoisonSearch::Head { .. }
                | PoisonSearch::Comparison { .. }
                | PoisonSearch::LastAttempt { .. },
            ) => PoisonSearch::Head {
                item: self.first,
                failures: if self.items == 1 { 1 } else { 0 },
            },
        }
    }

    fn back_off(&self, lane: &mut Lane) -> Vec<Effect> {
        lane.failures = lane.failures.saturating_add(1);
        let until = self.now.plus(backoff::delay(lane.failures, self.random));
        lane.state = State::BackingOff {
            since: self.now,
            until,
        };
        vec![Effect::Retry {
            next_attempt_at: until,
        }]
    }

    /// Turns the webhook off. The next attempt is then the next pull of the node.
    fn turn_off(&self, lane: &mut Lane) -> Vec<Effect> {
        lane.state = State::Ready;
        lane.poison_search = PoisonSearch::Idle;
        lane.clear_failures();
        let retry = Effect::Retry {
            next_attempt_at: self.now.plus(WEBHOOK_NODE_PULL_INTERVAL),
        };
        match lane.webhook {
            WebhookState::Active => {
                lane.webhook = WebhookState::Off;
                vec![Effect::TurnedOff, retry]
            }
            WebhookState::None | WebhookState::Unverified | WebhookState::Off => vec![retry],
        }
    }
}

/// Repeats the comparison: the last attempt counts only directly after another item succeeded, not
/// after an outage in between.
const fn restart_comparison(lane: &mut Lane) {
    if let PoisonSearch::LastAttempt { item } = lane.poison_search {
        lane.poison_search = PoisonSearch::Comparison { item };
    }
}
