//! Tests that read the tables in the module documentation and check every cell.

use super::*;
use sealpost_proto::{
    batch_size::transfer_time,
    limits::{QUICK_BATCH_TIME, REFUSAL_PERIOD_MIN},
};

const NOW: Timestamp = Timestamp::from_millis(1_000_000_000);
const MINUTE: Duration = Duration::from_secs(60);
const FENCE: u64 = 7;
const FIRST: DeliveryId = DeliveryId(1);
const EMPTY_QUEUE: QueueSnapshot = QueueSnapshot {
    head: None,
    has_other_mailbox: false,
    has_set_aside_due: false,
};
const WAITING: QueueSnapshot = QueueSnapshot {
    head: Some(FIRST),
    has_other_mailbox: true,
    has_set_aside_due: false,
};

/// Markdown table with the names of its columns, and rows that each have a name and cells.
struct Table {
    columns: Vec<&'static str>,
    rows: Vec<(&'static str, Vec<&'static str>)>,
}

/// Parses the table of the module documentation whose first column has this name.
fn table(named: &str) -> Table {
    let page = include_str!("../lane.rs")
        .lines()
        .take_while(|line| line.starts_with("//!"));
    let lines = page.map(|line| line.trim_start_matches("//!").trim());
    let cells = |line: &'static str| {
        line.trim_matches('|')
            .split('|')
            .map(str::trim)
            .collect::<Vec<_>>()
    };
    let mut lines = lines.skip_while(|line| !line.starts_with(&format!("| {named} |")));
    let columns = cells(lines.next().expect("the table exists"))[1..].to_vec();
    let rows = lines
        .skip(1)
        .take_while(|line| line.starts_with('|'))
        .map(cells)
        .map(|row| (row[0], row[1..].to_vec()));
    let table = Table {
        columns,
        rows: rows.collect(),
    };
    assert!(
        table
            .rows
            .iter()
            .all(|(_, row)| row.len() == table.columns.len()),
        "every row of {named} is complete"
    );
    table
}

fn lane(state: State) -> Lane {
    Lane {
        state,
        webhook: WebhookState::Active,
        fence: FENCE,
        ..Lane::new(true)
    }
}

fn state(name: &str) -> State {
    let (past, soon) = (NOW.minus(MINUTE), NOW.plus(MINUTE));
    match name {
        "ready" => State::Ready,
        "pulled" => State::Leased {
            method: DeliveryMethod::Pull,
            until: soon,
        },
        "pulled, expired" => State::Leased {
            method: DeliveryMethod::Pull,
            until: NOW,
        },
        "called" => State::Leased {
            method: DeliveryMethod::Webhook(Selection::Batch),
            until: soon,
        },
        "called, expired" => State::Leased {
            method: DeliveryMethod::Webhook(Selection::Batch),
            until: past,
        },
        "backing off" => State::BackingOff {
            since: past,
            until: soon,
        },
        "backing off, due" => State::BackingOff {
            since: past,
            until: NOW,
        },
        "backing off, just failed" => State::BackingOff {
            since: NOW,
            until: soon,
        },
        "retry after" => State::RetryAfter { until: soon },
        "retry after, due" => State::RetryAfter { until: NOW },
        other => panic!("no state is called {other:?}"),
    }
}

fn state_name(state: State) -> &'static str {
    match state {
        State::Ready => "ready",
        State::Leased {
            method: DeliveryMethod::Pull,
            ..
        } => "pulled",
        State::Leased {
            method: DeliveryMethod::Webhook(_),
            ..
        } => "called",
        State::BackingOff { .. } => "backing off",
        State::RetryAfter { .. } => "retry after",
    }
}

fn finished(class: Class, retry_after: Option<Duration>) -> Event {
    Event::Finished {
        fence: FENCE,
        class,
        first: FIRST,
        items: 3,
        bytes: 6_144,
        elapsed: MINUTE,
        retry_after,
    }
}

fn end(name: &str) -> Event {
    match name {
        "succeeded" => finished(Class::Succeeded, None),
        "deferred" => finished(Class::Succeeded, Some(MINUTE)),
        "unreachable" => finished(Class::Unreachable, None),
        "timed out" => finished(Class::TimedOut, None),
        "unavailable" => finished(Class::Unavailable, None),
        "endpoint error" => finished(Class::EndpointError, None),
        "too large" => finished(Class::TooLarge, None),
        "refused" | "tenth refusal within an hour" | "tenth refusal after an hour" => {
            finished(Class::Refused, None)
        }
        "retry after" => finished(Class::RetryAfter(MINUTE), None),
        "gone" => finished(Class::Gone, None),
        other => panic!("no call ends as {other:?}"),
    }
}

fn event(name: &str) -> Event {
    match name {
        "pull" => Event::Pull { lease: MINUTE },
        "call" => Event::Call(WAITING),
        "acknowledged" => Event::Acknowledged {
            fence: FENCE,
            retry_after: None,
        },
        "acknowledged, deferred" => Event::Acknowledged {
            fence: FENCE,
            retry_after: Some(MINUTE),
        },
        "released" => Event::Released { fence: FENCE },
        "contact" => Event::Contact,
        "restarted" => Event::Restarted,
        "verified" => Event::Verified,
        "mode changed" | "mode changed to webhook" => {
            Event::DeliveryModeChanged { has_webhook: true }
        }
        "mode changed to pull" => Event::DeliveryModeChanged { has_webhook: false },
        end_of_call => end(end_of_call),
    }
}

#[test]
fn states_follow_the_table() {
    let table = table("state");
    assert_eq!((table.columns.len(), table.rows.len()), (19, 10));
    for (row, cells) in &table.rows {
        for (column, cell) in table.columns.iter().zip(cells) {
            let before = lane(state(row));
            let mut after = before.clone();
            let _ = after.step(NOW, event(column), 0);
            if *cell == "same" {
                assert_eq!(after.state, before.state, "{row} under {column}");
            } else {
                assert_eq!(state_name(after.state), *cell, "{row} under {column}");
                assert_ne!(after, before, "{row} under {column}");
            }
        }
    }
}

#[test]
fn stale_fence_has_no_effect() {
    let table = table("state");
    for (row, _) in &table.rows {
        for column in &table.columns {
            let older = match event(column) {
                Event::Finished {
                    class,
                    first,
                    items,
                    bytes,
                    elapsed,
                    retry_after,
                    ..
                } => Event::Finished {
                    fence: FENCE - 1,
                    class,
                    first,
                    items,
                    bytes,
                    elapsed,
                    retry_after,
                },
                Event::Acknowledged { retry_after, .. } => Event::Acknowledged {
                    fence: FENCE - 1,
                    retry_after,
                },
                Event::Released { .. } => Event::Released { fence: FENCE - 1 },
                _ => continue,
            };
            let mut after = lane(state(row));
            assert!(
                after.step(NOW, older, 0).is_empty() && after == lane(state(row)),
                "{row} under {column}"
            );
        }
    }
}

#[test]
fn only_leases_increment_the_fence() {
    let table = table("state");
    for (row, _) in &table.rows {
        for column in &table.columns {
            let mut lane = lane(state(row));
            let effects = lane.step(NOW, event(column), 0);
            let leases = effects
                .iter()
                .any(|effect| matches!(effect, Effect::Lease { .. }));
            assert_eq!(
                lane.fence,
                FENCE + u64::from(leases),
                "{row} under {column}"
            );
        }
    }
}

fn webhook(name: &str) -> WebhookState {
    match name {
        "none" => WebhookState::None,
        "unverified" => WebhookState::Unverified,
        "active" => WebhookState::Active,
        "off" => WebhookState::Off,
        other => panic!("no webhook is {other:?}"),
    }
}

#[test]
fn webhook_states_follow_the_table() {
    let table = table("webhook");
    assert_eq!((table.columns.len(), table.rows.len()), (7, 4));
    for (row, cells) in &table.rows {
        for (column, cell) in table.columns.iter().zip(cells) {
            let (refusals, period) = match *column {
                "tenth refusal within an hour" => (9, REFUSAL_PERIOD_MIN - MINUTE),
                "tenth refusal after an hour" => (9, REFUSAL_PERIOD_MIN),
                _ => (0, Duration::ZERO),
            };
            let is_called = refusals > 0 || *column == "gone";
            let state = state(if is_called { "called" } else { "ready" });
            let mut lane = Lane {
                webhook: webhook(row),
                refusals,
                refused_since: (refusals > 0).then(|| NOW.minus(period)),
                ..lane(state)
            };
            let effects = lane.step(NOW, event(column), 0);
            match *cell {
                "called" => assert_eq!(effects.len(), 1, "{row} under {column}"),
                "not called" => assert!(effects.is_empty(), "{row} under {column}"),
                "same" => assert_eq!(lane.webhook, webhook(row), "{row} under {column}"),
                next => assert_eq!(lane.webhook, webhook(next), "{row} under {column}"),
            }
            let wants_calls = lane.due_at(NOW, true, None).is_some();
            assert_eq!(
                wants_calls,
                lane.webhook == WebhookState::Active,
                "{row} under {column}"
            );
        }
    }
}

/// State of the search and the items that wait.
fn poison_search(name: &str) -> (PoisonSearch, QueueSnapshot) {
    let item = FIRST;
    let alone = QueueSnapshot {
        has_other_mailbox: false,
        ..WAITING
    };
    match name {
        "idle" => (PoisonSearch::Idle, WAITING),
        "idle, single item" => (PoisonSearch::Idle, alone),
        "head 0" => (PoisonSearch::Head { item, failures: 0 }, WAITING),
        "head 1" => (PoisonSearch::Head { item, failures: 1 }, WAITING),
        "head 2" => (PoisonSearch::Head { item, failures: 2 }, WAITING),
        "comparison" => (
            PoisonSearch::Comparison { item },
            QueueSnapshot {
                has_set_aside_due: true,
                ..WAITING
            },
        ),
        "comparison, set-aside due" => (
            PoisonSearch::Comparison { item },
            QueueSnapshot {
                has_set_aside_due: true,
                ..alone
            },
        ),
        "comparison, no other item" => (PoisonSearch::Comparison { item }, alone),
        "last attempt" => (PoisonSearch::LastAttempt { item }, WAITING),
        other => panic!("no search is called {other:?}"),
    }
}

fn selection_name(selection: Selection) -> &'static str {
    match selection {
        Selection::Batch => "batch",
        Selection::Probe => "probe",
        Selection::Head => "head",
        Selection::Other => "other",
        Selection::SetAside => "set aside",
    }
}

/// Starts a call and finishes it with the given event.
fn attempt(lane: &mut Lane, waiting: QueueSnapshot, end: Event) -> (Selection, Vec<Effect>) {
    let [
        Effect::Lease {
            fence,
            method: DeliveryMethod::Webhook(selection),
            ..
        },
    ] = lane.step(NOW, Event::Call(waiting), 0)[..]
    else {
        panic!("{lane:?} does not call");
    };
    let Event::Finished {
        class,
        first,
        bytes,
        elapsed,
        retry_after,
        ..
    } = end
    else {
        panic!("{end:?} ends no call")
    };
    let items = if waiting.has_other_mailbox && selection == Selection::Batch {
        3
    } else {
        1
    };
    (
        selection,
        lane.step(
            NOW,
            Event::Finished {
                fence,
                class,
                first,
                items,
                bytes,
                elapsed,
                retry_after,
            },
            0,
        ),
    )
}

#[test]
fn poison_search_follows_the_table() {
    let table = table("search");
    assert_eq!((table.columns.len(), table.rows.len()), (10, 9));
    for (row, cells) in &table.rows {
        let (before, waiting) = poison_search(row);
        for (column, cell) in table.columns.iter().zip(cells).skip(1) {
            let mut lane = Lane {
                poison_search: before,
                ..lane(State::Ready)
            };
            let (selection, _) = attempt(&mut lane, waiting, end(column));
            assert_eq!(selection_name(selection), cells[0], "{row}");
            let after = if *cell == "same" {
                before
            } else {
                poison_search(cell).0
            };
            assert_eq!(lane.poison_search, after, "{row} under {column}");
        }
    }
}

#[test]
fn new_head_or_endpoint_restarts_search() {
    for (row, _) in table("search").rows {
        let (before, waiting) = poison_search(row);
        let mut lane = Lane {
            poison_search: before,
            ..lane(State::Ready)
        };
        let _ = lane.step(
            NOW,
            Event::Call(QueueSnapshot {
                head: Some(DeliveryId(2)),
                has_set_aside_due: false,
                ..waiting
            }),
            0,
        );
        assert_eq!(lane.poison_search, PoisonSearch::Idle, "{row}");
        for event in [
            Event::Verified,
            Event::DeliveryModeChanged { has_webhook: true },
        ] {
            let mut lane = Lane {
                poison_search: before,
                ..self::lane(State::Ready)
            };
            let _ = lane.step(NOW, event, 0);
            assert_eq!(lane.poison_search, PoisonSearch::Idle, "{row}");
        }
        for event in [
            Event::Pull { lease: MINUTE },
            Event::Contact,
            Event::Restarted,
            Event::Released { fence: FENCE },
        ] {
            let mut lane = Lane {
                poison_search: before,
                ..self::lane(State::Ready)
            };
            let _ = lane.step(NOW, event, 0);
            assert_eq!(lane.poison_search, before, "{row}");
        }
    }
}

fn effect_names(effects: &[Effect]) -> String {
    let name = |effect: &Effect| match effect {
        Effect::Lease { .. } => "lease",
        Effect::Retry { .. } => "retry",
        Effect::SetAside { .. } => "set aside",
        Effect::TurnedOff => "turned off",
    };
    if effects.is_empty() {
        "nothing".to_owned()
    } else {
        effects.iter().map(name).collect::<Vec<_>>().join(", ")
    }
}

#[test]
fn effects_follow_the_table() {
    let table = table("end of a call");
    assert_eq!((table.columns.len(), table.rows.len()), (4, 10));
    let comparison = PoisonSearch::Comparison { item: FIRST };
    let last_try = PoisonSearch::LastAttempt { item: FIRST };
    let set_aside = QueueSnapshot {
        has_set_aside_due: true,
        ..EMPTY_QUEUE
    };
    let calls = [
        vec![(PoisonSearch::Idle, 0, WAITING)],
        vec![
            (PoisonSearch::Idle, 1, WAITING),
            (
                PoisonSearch::Head {
                    item: FIRST,
                    failures: 2,
                },
                1,
                WAITING,
            ),
            (comparison, 1, WAITING),
        ],
        vec![
            (PoisonSearch::Idle, 0, set_aside),
            (
                comparison,
                1,
                QueueSnapshot {
                    has_other_mailbox: false,
                    has_set_aside_due: true,
                    ..WAITING
                },
            ),
        ],
        vec![(last_try, 0, WAITING)],
    ];
    for (row, cells) in &table.rows {
        for (cell, calls) in cells.iter().zip(&calls) {
            for (poison_search, failures, waiting) in calls {
                let mut lane = Lane {
                    poison_search: *poison_search,
                    failures: *failures,
                    ..lane(State::Ready)
                };
                let (selection, effects) = attempt(&mut lane, *waiting, end(row));
                assert_eq!(effect_names(&effects), *cell, "{selection:?} under {row}");
            }
        }
    }
}

/// Returns a lane that starts a call of this kind, with what waits, and the items of the call.
fn lane_before_call(kind: &str) -> (Lane, QueueSnapshot, usize) {
    let (poison_search, failures, items) = match kind {
        "batch" => (PoisonSearch::Idle, 0, 3),
        "probe" => (PoisonSearch::Idle, 1, 3),
        "one item" => (
            PoisonSearch::Head {
                item: FIRST,
                failures: 0,
            },
            1,
            1,
        ),
        other => panic!("no call is made with {other:?}"),
    };
    let lane = Lane {
        poison_search,
        failures,
        batch_size: BatchSize::new(FULL_BYTES),
        ..lane(State::Ready)
    };
    (lane, WAITING, items)
}

/// Size of a full batch in the table of sizes.
const FULL_BYTES: usize = 16_384;

#[test]
fn batch_sizes_follow_the_table() {
    let table = table("end of a full call");
    assert_eq!((table.columns.len(), table.rows.len()), (3, 10));
    let millisecond = Duration::from_millis(1);
    for (row, cells) in &table.rows {
        let (class, elapsed) = match *row {
            "succeeded quickly" => (Class::Succeeded, QUICK_BATCH_TIME),
            "succeeded slowly" => (Class::Succeeded, QUICK_BATCH_TIME + millisecond),
            "timed out early" => (Class::TimedOut, transfer_time(FULL_BYTES) - millisecond),
            "timed out late" => (Class::TimedOut, transfer_time(FULL_BYTES)),
            name => match end(name) {
                Event::Finished { class, .. } => (class, millisecond),
                other => panic!("{other:?} ends no call"),
            },
        };
        for (column, cell) in table.columns.iter().zip(cells) {
            let (mut lane, waiting, items) = lane_before_call(column);
            let before = lane.batch_size;
            let _ = lane.step(NOW, Event::Call(waiting), 0);
            let finished = Event::Finished {
                fence: lane.fence,
                class,
                first: FIRST,
                items,
                bytes: FULL_BYTES,
                elapsed,
                retry_after: None,
            };
            let _ = lane.step(NOW, finished, 0);
            let mut expected = before;
            match *cell {
                "same" => {}
                "doubled" => expected = BatchSize::new(2 * FULL_BYTES),
                "halved" => expected.halve(FULL_BYTES),
                "limited" => expected.limit(NOW, FULL_BYTES),
                other => panic!("no size is {other:?}"),
            }
            assert_eq!(lane.batch_size, expected, "{row} with {column}");
        }
    }
}
