//! Consequences of a finished webhook call for the lane, the senders and the suspected item.

use super::{Effect, Lane, PoisonSearch, Selection, State, idle_state};
use crate::classify::Class;
use sealpost_proto::{
    DeliveryId, Timestamp, backoff,
    limits::{ENVELOPE_FAILURES_MAX, REFUSED_CALLS_MAX, SET_ASIDE_RETRY_INTERVAL},
    wire::WebhookState,
};
use std::time::Duration;

/// Finished call of the webhook.
pub(super) struct FinishedCall {
    pub(super) now: Timestamp,
    pub(super) selection: Selection,
    pub(super) first: DeliveryId,
    pub(super) items: usize,
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
            Class::Unreachable => self.apply_unreachable(lane),
            Class::EndpointError => self.apply_endpoint_error(lane),
            Class::RetryAfter(wait) => self.apply_retry_after(lane, wait),
            Class::Refused => self.apply_refusal(lane),
            Class::Gone => turn_off(lane),
        }
    }

    fn apply_success(&self, lane: &mut Lane, retry_after: Option<Duration>) -> Vec<Effect> {
        lane.clear_failures();
        lane.state = idle_state(self.now, retry_after);
        match retry_after {
            Some(wait) if self.selection == Selection::SetAside => {
                lane.state = State::Ready;
                vec![Effect::SetAside {
                    until: self.now.plus(SET_ASIDE_RETRY_INTERVAL.max(wait)),
                }]
            }
            Some(wait) => vec![Effect::Retry {
                next_attempt_at: Some(self.now.plus(wait)),
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

    fn apply_unreachable(&self, lane: &mut Lane) -> Vec<Effect> {
        restart_comparison(lane);
        let retry = self.back_off(lane);
        if self.selection == Selection::SetAside {
            return vec![Effect::SetAside {
                until: self.now.plus(SET_ASIDE_RETRY_INTERVAL),
            }];
        }
        retry
    }

    fn apply_retry_after(&self, lane: &mut Lane, wait: Duration) -> Vec<Effect> {
        restart_comparison(lane);
        let until = self.now.plus(wait);
        lane.state = State::RetryAfter { until };
        vec![Effect::Retry {
            next_attempt_at: Some(until),
        }]
    }

    fn apply_refusal(&self, lane: &mut Lane) -> Vec<Effect> {
        if self.selection != Selection::SetAside {
            lane.refusals += 1;
            if lane.refusals >= REFUSED_CALLS_MAX {
                return turn_off(lane);
            }
        }
        self.apply_endpoint_error(lane)
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
            next_attempt_at: Some(until),
        }]
    }
}

/// Repeats the comparison: the last attempt counts only directly after another item succeeded, not
/// after an outage in between.
const fn restart_comparison(lane: &mut Lane) {
    if let PoisonSearch::LastAttempt { item } = lane.poison_search {
        lane.poison_search = PoisonSearch::Comparison { item };
    }
}

fn turn_off(lane: &mut Lane) -> Vec<Effect> {
    lane.state = State::Ready;
    lane.poison_search = PoisonSearch::Idle;
    lane.clear_failures();
    match lane.webhook {
        WebhookState::Active => {
            lane.webhook = WebhookState::Off;
            vec![
                Effect::TurnedOff,
                Effect::Retry {
                    next_attempt_at: None,
                },
            ]
        }
        WebhookState::None | WebhookState::Unverified | WebhookState::Off => {
            vec![Effect::Retry {
                next_attempt_at: None,
            }]
        }
    }
}
