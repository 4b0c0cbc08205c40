//! What follows from the end of a webhook's call: for the lane, for the senders, and for the item that is suspected.

use super::{Effect, Lane, Selection, State, Suspicion, rest};
use crate::{backoff, classify::Class};
use sealpost_proto::{
    DeliveryId, Timestamp,
    limits::{ENVELOPE_FAILURES_MAX, REFUSED_CALLS_MAX, SET_ASIDE_RETRY},
    wire::WebhookState,
};
use std::time::Duration;

/// A call of the webhook that came to its end.
pub(super) struct Ended {
    pub(super) now: Timestamp,
    pub(super) selection: Selection,
    pub(super) first: DeliveryId,
    pub(super) items: usize,
    pub(super) random: u64,
}

impl Ended {
    pub(super) fn finish(
        &self,
        lane: &mut Lane,
        class: Class,
        later: Option<Duration>,
    ) -> Vec<Effect> {
        match class {
            Class::Answered => self.answered(lane, later),
            Class::Unreachable => self.unreachable(lane),
            Class::Broke => self.broke(lane),
            Class::AskedToWait(wait) => self.wait(lane, wait),
            Class::Refused => self.refused(lane),
            Class::Gone => switch_off(lane),
        }
    }

    fn answered(&self, lane: &mut Lane, later: Option<Duration>) -> Vec<Effect> {
        lane.passed();
        lane.state = rest(self.now, later);
        match later {
            Some(wait) if self.selection == Selection::SetAside => {
                lane.state = State::Ready;
                vec![Effect::SetAside {
                    until: self.now.plus(SET_ASIDE_RETRY.max(wait)),
                }]
            }
            Some(wait) => vec![Effect::Retry {
                next_attempt_at: Some(self.now.plus(wait)),
            }],
            None => {
                lane.suspicion = match (self.selection, lane.suspicion) {
                    (Selection::Other | Selection::SetAside, Suspicion::Others { item }) => {
                        Suspicion::LastTry { item }
                    }
                    (Selection::SetAside, suspicion) => suspicion,
                    (
                        Selection::Batch | Selection::Probe | Selection::Head | Selection::Other,
                        _,
                    ) => Suspicion::Nobody,
                };
                Vec::new()
            }
        }
    }

    fn unreachable(&self, lane: &mut Lane) -> Vec<Effect> {
        compare_again(lane);
        let retry = self.back_off(lane);
        if self.selection == Selection::SetAside {
            return vec![Effect::SetAside {
                until: self.now.plus(SET_ASIDE_RETRY),
            }];
        }
        retry
    }

    fn wait(&self, lane: &mut Lane, wait: Duration) -> Vec<Effect> {
        compare_again(lane);
        let until = self.now.plus(wait);
        lane.state = State::AskedToWait { until };
        vec![Effect::Retry {
            next_attempt_at: Some(until),
        }]
    }

    fn refused(&self, lane: &mut Lane) -> Vec<Effect> {
        if self.selection != Selection::SetAside {
            lane.refusals += 1;
            if lane.refusals >= REFUSED_CALLS_MAX {
                return switch_off(lane);
            }
        }
        self.broke(lane)
    }

    fn broke(&self, lane: &mut Lane) -> Vec<Effect> {
        let guilty = match (self.selection, lane.suspicion) {
            (Selection::SetAside, _) => true,
            (Selection::Head, Suspicion::LastTry { .. }) => {
                lane.suspicion = Suspicion::Nobody;
                lane.passed();
                true
            }
            (
                Selection::Batch | Selection::Probe | Selection::Head | Selection::Other,
                suspicion,
            ) => {
                lane.suspicion = self.suspect(suspicion);
                false
            }
        };
        if guilty {
            lane.state = State::Ready;
            return vec![Effect::SetAside {
                until: self.now.plus(SET_ASIDE_RETRY),
            }];
        }
        self.back_off(lane)
    }

    /// Where the search goes after a call that may have failed because of what it carried.
    const fn suspect(&self, suspicion: Suspicion) -> Suspicion {
        match (self.selection, suspicion) {
            (Selection::Head, Suspicion::Others { item }) => Suspicion::Others { item },
            (Selection::Head, Suspicion::Head { item, failures })
                if failures + 1 >= ENVELOPE_FAILURES_MAX =>
            {
                Suspicion::Others { item }
            }
            (Selection::Head, Suspicion::Head { item, failures }) => Suspicion::Head {
                item,
                failures: failures + 1,
            },
            // The other one fails as well: it is the endpoint.
            (Selection::Other, Suspicion::Others { item }) => Suspicion::Head { item, failures: 0 },
            (
                Selection::Batch
                | Selection::Probe
                | Selection::Head
                | Selection::Other
                | Selection::SetAside,
                Suspicion::Nobody
                | Suspicion::Head { .. }
                | Suspicion::Others { .. }
                | Suspicion::LastTry { .. },
            ) => Suspicion::Head {
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

/// The last try counts only right after another item passed; an outage between them makes that void.
const fn compare_again(lane: &mut Lane) {
    if let Suspicion::LastTry { item } = lane.suspicion {
        lane.suspicion = Suspicion::Others { item };
    }
}

fn switch_off(lane: &mut Lane) -> Vec<Effect> {
    lane.state = State::Ready;
    lane.suspicion = Suspicion::Nobody;
    lane.passed();
    match lane.webhook {
        WebhookState::Active => {
            lane.webhook = WebhookState::Off;
            vec![
                Effect::SwitchedOff,
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
