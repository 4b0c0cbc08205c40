use super::*;
use proptest::prelude::*;
use sealpost_proto::limits::{REFUSED_CALLS_MAX, WEBHOOK_NODE_PULL_INTERVAL};

const NOW: Timestamp = Timestamp::from_millis(1_000_000);
const FIRST: DeliveryId = DeliveryId(1);
const WAITING: QueueSnapshot = QueueSnapshot {
    head: Some(FIRST),
    has_other_mailbox: true,
    has_set_aside_due: false,
};
const ALONE: QueueSnapshot = QueueSnapshot {
    has_other_mailbox: false,
    ..WAITING
};
const MINUTE: Duration = Duration::from_secs(60);

fn after(seconds: u64) -> Timestamp {
    NOW.plus(Duration::from_secs(seconds))
}

fn lane(state: State) -> Lane {
    Lane {
        state,
        webhook: WebhookState::Active,
        fence: 7,
        ..Lane::new(true)
    }
}

#[test]
fn expired_times_allow_a_call() {
    let past = NOW.minus(MINUTE);
    for state in [
        State::Leased {
            method: DeliveryMethod::Pull,
            until: past,
        },
        State::Leased {
            method: DeliveryMethod::Webhook(Selection::Batch),
            until: past,
        },
        State::BackingOff {
            since: past,
            until: NOW,
        },
        State::RetryAfter { until: NOW },
    ] {
        let mut lane = lane(state);
        assert_eq!(
            lane.step(NOW, Event::Call(WAITING), 0).len(),
            1,
            "{state:?}"
        );
    }
}

#[test]
fn impossible_times_allow_a_call() {
    let week = NOW.plus(Duration::from_secs(7 * 86_400));
    for state in [
        State::Leased {
            method: DeliveryMethod::Pull,
            until: week,
        },
        State::Leased {
            method: DeliveryMethod::Webhook(Selection::Batch),
            until: week,
        },
        State::BackingOff {
            since: week,
            until: week.plus(MINUTE),
        },
        State::RetryAfter { until: week },
    ] {
        let mut lane = lane(state);
        assert_eq!(lane.due_at(NOW, true, None), Some(NOW), "{state:?}");
        assert_eq!(
            lane.step(NOW, Event::Call(WAITING), 0).len(),
            1,
            "{state:?}"
        );
    }
}

/// Makes a call that ends with `class`; returns its selection and the effects.
fn attempt(
    lane: &mut Lane,
    now: Timestamp,
    waiting: QueueSnapshot,
    class: Class,
) -> (Option<Selection>, Vec<Effect>) {
    let leased = lane.step(now, Event::Call(waiting), 0);
    let Some(Effect::Lease {
        fence,
        method: DeliveryMethod::Webhook(selection),
        ..
    }) = leased.first().copied()
    else {
        return (None, Vec::new());
    };
    let items = if selection == Selection::Batch { 2 } else { 1 };
    let end = Event::Finished {
        fence,
        class,
        first: FIRST,
        items,
        bytes: items * 2_048,
        elapsed: Duration::ZERO,
        retry_after: None,
    };
    (Some(selection), lane.step(now, end, u64::MAX))
}

#[test]
fn unreachable_endpoint_is_probed_with_backoff() {
    let mut lane = lane(State::Ready);
    let mut now = NOW;
    for seconds in [5, 10, 20, 40, 80, 160, 320, 640, 1_280, 2_560, 3_600, 3_600] {
        let (selection, effects) = attempt(&mut lane, now, WAITING, Class::Unreachable);
        assert_eq!(
            selection,
            Some(if seconds == 5 {
                Selection::Batch
            } else {
                Selection::Probe
            })
        );
        let next = now.plus(Duration::from_secs(seconds));
        assert_eq!(
            effects,
            [Effect::Retry {
                next_attempt_at: next
            }]
        );
        assert_eq!(
            attempt(
                &mut lane,
                next.minus(Duration::from_millis(1)),
                WAITING,
                Class::Succeeded
            )
            .0,
            None
        );
        now = next;
    }
    assert_eq!(
        attempt(&mut lane, now, WAITING, Class::Succeeded),
        (Some(Selection::Probe), vec![])
    );
    assert_eq!((lane.failures, lane.state), (0, State::Ready));
}

#[test]
fn contact_ends_backoff_at_most_once_per_second() {
    let mut lane = lane(State::Ready);
    let _ = attempt(&mut lane, NOW, WAITING, Class::Unreachable);
    assert!(lane.contact_ends_backoff());
    let _ = lane.step(NOW, Event::Contact, 0);
    assert_eq!(lane.due_at(NOW, true, None), Some(after(1)));
    let _ = lane.step(after(1), Event::Contact, 0);
    assert_eq!(lane.due_at(after(1), true, None), Some(after(1)));
    assert_eq!(lane.state, State::Ready);
}

#[test]
fn contact_does_not_override_retry_after() {
    let mut lane = lane(State::Ready);
    let _ = attempt(&mut lane, NOW, WAITING, Class::RetryAfter(MINUTE));
    let _ = lane.step(NOW, Event::Contact, 0);
    assert_eq!(lane.due_at(NOW, true, None), Some(after(60)));
}

#[test]
fn ten_refusals_turn_webhook_off() {
    let mut lane = lane(State::Ready);
    let mut now = NOW;
    for _ in 1..REFUSED_CALLS_MAX {
        let (_, effects) = attempt(&mut lane, now, ALONE, Class::Refused);
        assert!(!effects.contains(&Effect::TurnedOff));
        now = now.plus(Duration::from_secs(7_200));
    }
    let (_, effects) = attempt(&mut lane, now, WAITING, Class::Refused);
    assert_eq!(
        effects,
        [
            Effect::TurnedOff,
            Effect::Retry {
                next_attempt_at: now.plus(WEBHOOK_NODE_PULL_INTERVAL)
            }
        ]
    );
    assert_eq!(lane.webhook, WebhookState::Off);
    let _ = lane.step(now, Event::Verified, 0);
    assert_eq!(
        (lane.webhook, lane.due_at(now, true, None)),
        (WebhookState::Active, Some(now))
    );
}

#[test]
fn success_resets_refusals() {
    let mut lane = Lane {
        refusals: 9,
        ..lane(State::Ready)
    };
    let _ = attempt(&mut lane, NOW, WAITING, Class::Succeeded);
    let _ = attempt(&mut lane, NOW, WAITING, Class::Refused);
    assert_eq!((lane.refusals, lane.webhook), (1, WebhookState::Active));
}

#[test]
fn gone_turns_webhook_off_immediately() {
    let mut lane = lane(State::Ready);
    let (_, effects) = attempt(&mut lane, NOW, WAITING, Class::Gone);
    assert_eq!(effects[0], Effect::TurnedOff);
}

/// Outcome at an endpoint on which every call that contains the first item fails.
fn class_when_head_fails(selection: Selection) -> Class {
    match selection {
        Selection::Other => Class::Succeeded,
        Selection::Batch | Selection::Probe | Selection::Head | Selection::SetAside => {
            Class::EndpointError
        }
    }
}

#[test]
fn poison_envelope_is_set_aside() {
    let mut lane = lane(State::Ready);
    let mut now = NOW;
    let mut sent = Vec::new();
    loop {
        let mut trial = lane.clone();
        let (selection, _) = attempt(&mut trial, now, WAITING, Class::Succeeded);
        let selection = selection.unwrap();
        sent.push(selection);
        let (_, effects) = attempt(&mut lane, now, WAITING, class_when_head_fails(selection));
        if effects
            .iter()
            .any(|effect| matches!(effect, Effect::SetAside { .. }))
        {
            break;
        }
        now = now.plus(Duration::from_secs(7_200));
        assert!(sent.len() < 20, "{sent:?}");
    }
    use Selection::{Batch, Head, Other};
    assert_eq!(sent, [Batch, Head, Head, Head, Other, Head]);
    assert_eq!(
        (lane.state, lane.poison_search, lane.failures),
        (State::Ready, PoisonSearch::Idle, 0)
    );
}

#[test]
fn nothing_is_set_aside_while_all_calls_fail() {
    let mut lane = lane(State::Ready);
    let mut now = NOW;
    for _ in 0..200 {
        let (_, effects) = attempt(&mut lane, now, WAITING, Class::EndpointError);
        assert!(
            effects
                .iter()
                .all(|effect| !matches!(effect, Effect::SetAside { .. }))
        );
        now = now.plus(Duration::from_secs(3_600));
    }
    assert_eq!(lane.webhook, WebhookState::Active);
}

#[test]
fn single_envelope_is_never_set_aside() {
    let mut lane = lane(State::Ready);
    let mut now = NOW;
    for _ in 0..50 {
        let (_, effects) = attempt(&mut lane, now, ALONE, Class::EndpointError);
        assert!(matches!(effects[..], [Effect::Retry { .. }]));
        now = now.plus(Duration::from_secs(3_600));
    }
}

#[test]
fn set_aside_envelope_is_retried_hourly() {
    let mut lane = lane(State::Ready);
    let due = QueueSnapshot {
        has_set_aside_due: true,
        ..WAITING
    };
    let (selection, effects) = attempt(&mut lane, NOW, due, Class::EndpointError);
    assert_eq!(selection, Some(Selection::SetAside));
    assert_eq!(
        effects,
        [Effect::SetAside {
            until: after(3_600)
        }]
    );
    assert_eq!(
        (lane.state, lane.failures, lane.refusals),
        (State::Ready, 0, 0)
    );
    assert_eq!(
        lane.due_at(NOW, false, Some(after(3_600))),
        Some(after(3_600))
    );
}

#[test]
fn second_pull_replaces_the_first_lease() {
    let mut lane = lane(State::Ready);
    let _ = lane.step(NOW, Event::Pull { lease: MINUTE }, 0);
    let second = lane.step(NOW, Event::Pull { lease: MINUTE }, 0);
    assert!(matches!(second[..], [Effect::Lease { fence: 9, .. }]));
    let _ = lane.step(
        NOW,
        Event::Acknowledged {
            fence: 8,
            retry_after: None,
        },
        0,
    );
    assert!(lane.is_leased(NOW));
}

#[test]
fn stored_lane_round_trips() {
    for state in [
        State::Ready,
        State::Leased {
            method: DeliveryMethod::Webhook(Selection::Other),
            until: NOW,
        },
        State::BackingOff {
            since: NOW,
            until: NOW,
        },
        State::RetryAfter { until: NOW },
    ] {
        let stored = Lane {
            poison_search: PoisonSearch::Head {
                item: FIRST,
                failures: 2,
            },
            ..lane(state)
        };
        let text = serde_json::to_string(&stored).unwrap();
        assert_eq!(serde_json::from_str::<Lane>(&text).unwrap(), stored);
    }
}

#[test]
fn outage_sets_nothing_aside() {
    let mut lane = lane(State::Ready);
    let mut now = NOW;
    for round in 0..200 {
        // Other items succeed; most attempts of the head coincide with an outage.
        let mut trial = lane.clone();
        let (selection, _) = attempt(&mut trial, now, WAITING, Class::Succeeded);
        let class = match selection.unwrap() {
            Selection::Other => Class::Succeeded,
            Selection::Head if round % 5 == 0 => Class::EndpointError,
            _ => Class::Unreachable,
        };
        let (_, effects) = attempt(&mut lane, now, WAITING, class);
        assert!(
            effects
                .iter()
                .all(|effect| !matches!(effect, Effect::SetAside { .. })),
            "{round}"
        );
        now = now.plus(Duration::from_secs(3_600));
    }
}

#[test]
fn deferred_pull_notifies_senders() {
    let mut lane = lane(State::Ready);
    let _ = lane.step(NOW, Event::Pull { lease: MINUTE }, 0);
    let effects = lane.step(
        NOW,
        Event::Acknowledged {
            fence: 8,
            retry_after: Some(MINUTE),
        },
        0,
    );
    assert_eq!(
        effects,
        [Effect::Retry {
            next_attempt_at: after(60)
        }]
    );
}

#[test]
fn pull_leaves_endpoint_failing() {
    let mut lane = lane(State::Ready);
    let _ = attempt(&mut lane, NOW, WAITING, Class::Unreachable);
    let _ = lane.step(NOW, Event::Pull { lease: MINUTE }, 0);
    let _ = lane.step(
        NOW,
        Event::Acknowledged {
            fence: lane.fence,
            retry_after: None,
        },
        0,
    );
    assert!(lane.is_failing());
    assert_eq!(
        attempt(&mut lane, NOW, WAITING, Class::Succeeded).0,
        Some(Selection::Probe)
    );
    assert!(!lane.is_failing());
}

/// Any event, with the current fencing token.
fn any_event(choice: usize, fence: u64) -> Event {
    let ended = |class, retry_after| Event::Finished {
        fence,
        class,
        first: FIRST,
        items: 2,
        bytes: 4_096,
        elapsed: Duration::ZERO,
        retry_after,
    };
    let events = [
        Event::Pull { lease: MINUTE },
        Event::Call(WAITING),
        Event::Call(ALONE),
        Event::Call(QueueSnapshot {
            has_set_aside_due: true,
            ..WAITING
        }),
        ended(Class::Succeeded, None),
        ended(Class::Succeeded, Some(MINUTE)),
        ended(Class::Unreachable, None),
        ended(Class::TimedOut, None),
        ended(Class::Unavailable, None),
        ended(Class::EndpointError, None),
        ended(Class::TooLarge, None),
        ended(Class::RetryAfter(MINUTE), None),
        ended(Class::Refused, None),
        Event::Acknowledged {
            fence,
            retry_after: None,
        },
        Event::Acknowledged {
            fence,
            retry_after: Some(MINUTE),
        },
        Event::Released { fence },
        Event::Contact,
        Event::Restarted,
        Event::Verified,
        Event::DeliveryModeChanged { has_webhook: true },
    ];
    events[choice % events.len()]
}

proptest! {
    #[test]
    fn active_lane_is_due_within_a_day(
        choices in proptest::collection::vec(
            (any::<usize>(), 0..100_u64, any::<u64>(), any::<bool>()),
            0..200
        )
    ) {
        let mut lane = lane(State::Ready);
        let mut now = NOW;
        for (choice, seconds, random, back) in choices {
            let _ = lane.step(now, any_event(choice, lane.fence), random);
            let step = Duration::from_secs(seconds);
            // Clocks can jump, even backwards.
            now = if back && seconds == 7 { now.minus(step * 3_600) } else { now.plus(step) };
            if lane.webhook == WebhookState::Active {
                let due = lane.due_at(now, true, None).unwrap();
                prop_assert!(due <= now.plus(Duration::from_secs(86_400)));
            }
        }
    }
}
