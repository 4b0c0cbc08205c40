use super::*;
use proptest::prelude::*;

const NOW: Timestamp = Timestamp::from_millis(1_000_000);
const WAITING: Waiting = Waiting { items: 2, set_aside_due: false };
const MINUTE: Duration = Duration::from_secs(60);

fn after(seconds: u64) -> Timestamp {
    NOW.plus(Duration::from_secs(seconds))
}

fn lane(state: State) -> Lane {
    Lane { state, webhook: WebhookState::Active, fence: 7, ..Lane::new(true) }
}

fn finished(class: Class) -> Event {
    Event::Finished { fence: 7, class, items: 3, later: None }
}

fn name(state: State) -> &'static str {
    match state {
        State::Ready => "ready",
        State::Leased { way: Way::Pull, .. } => "pulled",
        State::Leased { way: Way::Webhook(_), .. } => "called",
        State::BackingOff { .. } => "backing off",
        State::AskedToWait { .. } => "asked to wait",
    }
}

fn events() -> Vec<(&'static str, Event)> {
    vec![
        ("pull", Event::Pull),
        ("call", Event::Call(WAITING)),
        ("answered", finished(Class::Answered)),
        ("put off", Event::Finished { fence: 7, class: Class::Answered, items: 3, later: Some(MINUTE) }),
        ("unreachable", finished(Class::Unreachable)),
        ("broke", finished(Class::Broke)),
        ("wait", finished(Class::AskedToWait(MINUTE))),
        ("refused", finished(Class::Refused)),
        ("gone", finished(Class::Gone)),
        ("acknowledged", Event::Acknowledged { fence: 7, later: None }),
        ("acknowledged later", Event::Acknowledged { fence: 7, later: Some(MINUTE) }),
        ("stale", Event::Acknowledged { fence: 6, later: None }),
        ("stale call", Event::Finished { fence: 6, class: Class::Unreachable, items: 3, later: None }),
        ("returned", Event::Returned { fence: 7 }),
        ("contact", Event::Contact),
        ("restarted", Event::Restarted),
        ("verified", Event::Verified),
        ("changed", Event::Changed { webhook: true }),
    ]
}

/// For each state the next state under each event, in the order of [`events`].
fn table() -> Vec<(State, [&'static str; 18])> {
    let out = |way| State::Leased { way, until: after(60) };
    let (r, p, c, b, w) = ("ready", "pulled", "called", "backing off", "asked to wait");
    vec![
        (State::Ready, [p, c, r, r, r, r, r, r, r, r, r, r, r, r, r, r, r, r]),
        (out(Way::Pull), [p, p, p, p, p, p, p, p, p, r, w, p, p, p, p, p, p, p]),
        (out(Way::Webhook(Selection::Batch)), [c, c, r, w, b, b, w, b, r, c, c, c, c, r, c, r, c, c]),
        (
            State::BackingOff { since: NOW.minus(MINUTE), until: after(60) },
            [p, b, b, b, b, b, b, b, b, b, b, b, b, b, r, b, r, r],
        ),
        (State::AskedToWait { until: after(60) }, [p, w, w, w, w, w, w, w, w, w, w, w, w, w, w, w, r, r]),
    ]
}

#[test]
fn every_state_under_every_event() {
    for (state, expected) in table() {
        for ((label, event), next) in events().into_iter().zip(expected) {
            let mut lane = lane(state);
            let _ = lane.step(NOW, event, 0);
            assert_eq!(name(lane.state), next, "{} under {label}", name(state));
        }
    }
}

#[test]
fn a_fence_rises_with_every_lease_and_only_then() {
    for (state, _) in table() {
        for (label, event) in events() {
            let mut lane = lane(state);
            let effects = lane.step(NOW, event, 0);
            let leased = effects.iter().any(|effect| matches!(effect, Effect::Lease { .. }));
            assert_eq!(lane.fence, 7 + u64::from(leased), "{} under {label}", name(state));
        }
    }
}

#[test]
fn times_that_passed_let_a_call_through() {
    let past = NOW.minus(MINUTE);
    for state in [
        State::Leased { way: Way::Pull, until: past },
        State::Leased { way: Way::Webhook(Selection::Batch), until: past },
        State::BackingOff { since: past, until: NOW },
        State::AskedToWait { until: NOW },
    ] {
        let mut lane = lane(state);
        assert_eq!(lane.step(NOW, Event::Call(WAITING), 0).len(), 1, "{state:?}");
        assert_eq!(name(lane.state), "called");
    }
}

#[test]
fn only_an_active_webhook_is_called() {
    for webhook in [WebhookState::None, WebhookState::Unverified, WebhookState::Off] {
        let mut lane = Lane { webhook, ..lane(State::Ready) };
        assert!(lane.step(NOW, Event::Call(WAITING), 0).is_empty());
        assert_eq!(lane.due_at(NOW, true, None), None);
        assert_eq!(lane.step(NOW, Event::Pull, 0).len(), 1);
    }
}

/// Calls and lets the call end like that; gives what was sent and what followed.
fn attempt(lane: &mut Lane, now: Timestamp, waiting: Waiting, class: Class) -> (Option<Selection>, Vec<Effect>) {
    let leased = lane.step(now, Event::Call(waiting), 0);
    let Some(Effect::Lease { fence, way: Way::Webhook(selection), .. }) = leased.first().copied() else {
        return (None, Vec::new());
    };
    let items = if selection == Selection::Batch { 2 } else { 1 };
    (Some(selection), lane.step(now, Event::Finished { fence, class, items, later: None }, u64::MAX))
}

#[test]
fn an_endpoint_that_is_down_gets_one_probe_each_time_at_growing_distances() {
    let mut lane = lane(State::Ready);
    let mut now = NOW;
    for seconds in [5, 10, 20, 40, 80, 160, 320, 640, 1_280, 2_560, 3_600, 3_600] {
        let (selection, effects) = attempt(&mut lane, now, WAITING, Class::Unreachable);
        assert_eq!(selection, Some(if seconds == 5 { Selection::Batch } else { Selection::Probe }));
        let next = now.plus(Duration::from_secs(seconds));
        assert_eq!(effects, [Effect::Retry { next_attempt_at: Some(next) }]);
        assert_eq!(attempt(&mut lane, next.minus(Duration::from_millis(1)), WAITING, Class::Answered).0, None);
        now = next;
    }
    assert_eq!(attempt(&mut lane, now, WAITING, Class::Answered), (Some(Selection::Probe), vec![]));
    assert_eq!((lane.failures, lane.state), (0, State::Ready));
}

#[test]
fn contact_wakes_but_not_more_often_than_once_a_second() {
    let mut lane = lane(State::Ready);
    let _ = attempt(&mut lane, NOW, WAITING, Class::Unreachable);
    assert!(lane.heeds_contact());
    let _ = lane.step(NOW, Event::Contact, 0);
    assert_eq!(lane.due_at(NOW, true, None), Some(after(1)));
    let _ = lane.step(after(1), Event::Contact, 0);
    assert_eq!(lane.due_at(after(1), true, None), Some(after(1)));
    assert_eq!(lane.state, State::Ready);
}

#[test]
fn contact_does_not_overrule_an_endpoint_that_asked_to_wait() {
    let mut lane = lane(State::Ready);
    let _ = attempt(&mut lane, NOW, WAITING, Class::AskedToWait(MINUTE));
    let _ = lane.step(NOW, Event::Contact, 0);
    assert_eq!(lane.due_at(NOW, true, None), Some(after(60)));
}

#[test]
fn ten_refusals_in_a_row_switch_off_and_a_test_switches_on() {
    let mut lane = lane(State::Ready);
    let mut now = NOW;
    for _ in 1..REFUSED_CALLS_MAX {
        let (_, effects) = attempt(&mut lane, now, Waiting { items: 1, set_aside_due: false }, Class::Refused);
        assert!(!effects.contains(&Effect::SwitchedOff));
        now = now.plus(Duration::from_secs(7_200));
    }
    let (_, effects) = attempt(&mut lane, now, WAITING, Class::Refused);
    assert_eq!(effects, [Effect::SwitchedOff, Effect::Retry { next_attempt_at: None }]);
    assert_eq!(lane.webhook, WebhookState::Off);
    let _ = lane.step(now, Event::Verified, 0);
    assert_eq!((lane.webhook, lane.due_at(now, true, None)), (WebhookState::Active, Some(now)));
}

#[test]
fn an_answer_ends_the_row_of_refusals() {
    let mut lane = Lane { refusals: 9, ..lane(State::Ready) };
    let _ = attempt(&mut lane, NOW, WAITING, Class::Answered);
    let _ = attempt(&mut lane, NOW, WAITING, Class::Refused);
    assert_eq!((lane.refusals, lane.webhook), (1, WebhookState::Active));
}

#[test]
fn gone_switches_off_at_once() {
    let mut lane = lane(State::Ready);
    let (_, effects) = attempt(&mut lane, NOW, WAITING, Class::Gone);
    assert_eq!(effects[0], Effect::SwitchedOff);
}

/// An endpoint on which every call fails that carries the first item.
fn poisoned(selection: Selection) -> Class {
    match selection {
        Selection::Second => Class::Answered,
        Selection::Batch | Selection::Probe | Selection::Head | Selection::SetAside => Class::Broke,
    }
}

#[test]
fn the_envelope_that_breaks_every_call_is_set_aside_and_the_others_pass() {
    let mut lane = lane(State::Ready);
    let mut now = NOW;
    let mut sent = Vec::new();
    loop {
        let mut trial = lane.clone();
        let (selection, _) = attempt(&mut trial, now, WAITING, Class::Answered);
        let selection = selection.unwrap();
        sent.push(selection);
        let (_, effects) = attempt(&mut lane, now, WAITING, poisoned(selection));
        if effects.iter().any(|effect| matches!(effect, Effect::SetAside { .. })) {
            break;
        }
        now = now.plus(Duration::from_secs(7_200));
        assert!(sent.len() < 20, "{sent:?}");
    }
    use Selection::{Batch, Head, Second};
    assert_eq!(sent, [Batch, Head, Head, Head, Second, Head]);
    assert_eq!((lane.state, lane.suspicion, lane.failures), (State::Ready, Suspicion::Nobody, 0));
}

#[test]
fn nothing_is_set_aside_while_every_call_breaks() {
    let mut lane = lane(State::Ready);
    let mut now = NOW;
    for _ in 0..200 {
        let (_, effects) = attempt(&mut lane, now, WAITING, Class::Broke);
        assert!(effects.iter().all(|effect| !matches!(effect, Effect::SetAside { .. })));
        now = now.plus(Duration::from_secs(3_600));
    }
    assert_eq!(lane.webhook, WebhookState::Active);
}

#[test]
fn a_lone_envelope_is_never_set_aside() {
    let mut lane = lane(State::Ready);
    let mut now = NOW;
    for _ in 0..50 {
        let alone = Waiting { items: 1, set_aside_due: false };
        let (_, effects) = attempt(&mut lane, now, alone, Class::Broke);
        assert!(matches!(effects[..], [Effect::Retry { .. }]));
        now = now.plus(Duration::from_secs(3_600));
    }
}

#[test]
fn what_is_set_aside_is_tried_hourly_and_never_holds_up_the_lane() {
    let mut lane = lane(State::Ready);
    let due = Waiting { items: 2, set_aside_due: true };
    let (selection, effects) = attempt(&mut lane, NOW, due, Class::Broke);
    assert_eq!(selection, Some(Selection::SetAside));
    assert_eq!(effects, [Effect::SetAside { until: after(3_600) }]);
    assert_eq!((lane.state, lane.failures, lane.refusals), (State::Ready, 0, 0));
    assert_eq!(lane.due_at(NOW, false, Some(after(3_600))), Some(after(3_600)));
}

#[test]
fn a_pull_takes_over_the_accounts_own_earlier_pull() {
    let mut lane = lane(State::Ready);
    let _ = lane.step(NOW, Event::Pull, 0);
    let second = lane.step(NOW, Event::Pull, 0);
    assert!(matches!(second[..], [Effect::Lease { fence: 9, .. }]));
    let _ = lane.step(NOW, Event::Acknowledged { fence: 8, later: None }, 0);
    assert!(lane.is_leased(NOW));
}

#[test]
fn what_is_stored_reads_back() {
    for (state, _) in table() {
        let stored = Lane { suspicion: Suspicion::Head { failures: 2 }, ..lane(state) };
        let text = serde_json::to_string(&stored).unwrap();
        assert_eq!(serde_json::from_str::<Lane>(&text).unwrap(), stored);
    }
}

proptest! {
    #[test]
    fn a_lane_with_work_and_an_active_webhook_is_always_due_within_a_day(
        choices in proptest::collection::vec((0..18_usize, 0..100_u64, any::<u64>()), 0..200)
    ) {
        let mut lane = lane(State::Ready);
        let mut now = NOW;
        for (choice, seconds, random) in choices {
            let event = match events()[choice].1 {
                Event::Finished { class, items, later, .. } => {
                    Event::Finished { fence: lane.fence, class, items, later }
                }
                event => event,
            };
            let _ = lane.step(now, event, random);
            now = now.plus(Duration::from_secs(seconds));
            if lane.webhook == WebhookState::Active {
                let due = lane.due_at(now, true, None).unwrap();
                prop_assert!(due <= now.plus(Duration::from_secs(86_400)));
            }
        }
    }
}
