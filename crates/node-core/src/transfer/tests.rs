use super::*;
use proptest::prelude::*;
use std::collections::HashMap;

type Plan = Schedule<char>;

/// Starts all steps that may start now.
fn next_steps(plan: &mut Plan) -> Vec<(char, Step)> {
    std::iter::from_fn(|| plan.next_step()).collect()
}

fn moving(files: &[(char, u32)]) -> Plan {
    let mut plan = Plan::default();
    for (key, parts) in files {
        plan.add(*key, *parts);
        assert_eq!(plan.next_step(), Some((*key, Step::Prepare)));
        plan.prepared(*key, PartSet::default());
    }
    plan
}

#[test]
fn file_passes_all_steps_in_order() {
    let mut plan = Plan::default();
    plan.add('a', 4);
    assert_eq!(next_steps(&mut plan), [('a', Step::Prepare)]);
    plan.prepared('a', [1, 40, 70].into_iter().collect());
    assert_eq!(
        next_steps(&mut plan),
        [('a', Step::Part(0)), ('a', Step::Part(2))],
        "part 1 is present, 3 is too far ahead"
    );
    plan.succeeded('a', Step::Part(2));
    assert_eq!(next_steps(&mut plan), []);
    plan.succeeded('a', Step::Part(0));
    assert_eq!(next_steps(&mut plan), [('a', Step::Part(3))]);
    plan.succeeded('a', Step::Part(3));
    assert_eq!(next_steps(&mut plan), [('a', Step::Finish)]);
    plan.succeeded('a', Step::Finish);
    assert!(!plan.contains('a'));
}

#[test]
fn complete_file_is_only_finished() {
    let mut plan = Plan::default();
    plan.add('a', 48);
    assert_eq!(next_steps(&mut plan), [('a', Step::Prepare)]);
    plan.prepared('a', PartSet::before(48));
    assert_eq!(next_steps(&mut plan), [('a', Step::Finish)]);
}

#[test]
fn files_share_the_concurrency_limit() {
    let mut plan = moving(&[('a', 9), ('b', 9), ('c', 9)]);
    assert_eq!(
        next_steps(&mut plan),
        [
            ('a', Step::Part(0)),
            ('b', Step::Part(0)),
            ('c', Step::Part(0))
        ]
    );
    for (key, part) in [('b', 0), ('b', 1), ('a', 0), ('b', 2)] {
        plan.succeeded(key, Step::Part(part));
        assert_eq!(
            next_steps(&mut plan),
            [(key, Step::Part(part + 1))],
            "nobody takes another's place"
        );
    }
    plan.remove('b');
    assert_eq!(
        next_steps(&mut plan),
        [('c', Step::Part(1))],
        "its place goes to the one whose turn was longest ago"
    );
}

#[test]
fn failure_reduces_concurrency_until_successes_restore_it() {
    let mut plan = moving(&[('a', 30), ('b', 30)]);
    let running = next_steps(&mut plan);
    assert_eq!(
        running,
        [
            ('a', Step::Part(0)),
            ('b', Step::Part(0)),
            ('a', Step::Part(1))
        ]
    );
    assert!(plan.failed('a', Step::Part(0)), "its first failure");
    assert!(
        plan.contains('a') && next_steps(&mut plan).is_empty(),
        "what is under way of it may still come"
    );
    assert!(!plan.failed('a', Step::Part(1)) && !plan.contains('a'));
    let mut counts = Vec::new();
    let mut running = vec![('b', Step::Part(0))];
    for _ in 0..6 {
        let (key, step) = running.remove(0);
        plan.succeeded(key, step);
        running.extend(next_steps(&mut plan));
        counts.push(running.len());
    }
    assert_eq!(counts, [2, 2, 3, 3, 3, 3]);
}

#[test]
fn late_results_are_ignored() {
    let mut plan = moving(&[('a', 3)]);
    assert_eq!(next_steps(&mut plan).len(), 3);
    plan.remove('a');
    plan.succeeded('a', Step::Part(0));
    assert!(!plan.failed('a', Step::Part(1)));
    plan.add('b', 3);
    assert_eq!(next_steps(&mut plan), [('b', Step::Prepare)]);
    plan.succeeded('b', Step::Part(0));
    plan.succeeded('b', Step::Finish);
    assert!(
        next_steps(&mut plan).is_empty(),
        "only what is under way can end"
    );
}

#[test]
fn early_file_moves_available_parts() {
    let mut plan = Plan::default();
    plan.add_early('a', 3);
    assert_eq!(next_steps(&mut plan), [('a', Step::Prepare)]);
    plan.prepared('a', PartSet::default());
    assert_eq!(next_steps(&mut plan), []);
    plan.set_available('a', 2);
    assert_eq!(
        next_steps(&mut plan),
        [('a', Step::Part(0)), ('a', Step::Part(1))]
    );
    plan.set_available('a', 9);
    assert_eq!(next_steps(&mut plan), [('a', Step::Part(2))]);
    for part in [1, 0, 2] {
        assert!(plan.contains('a'));
        plan.succeeded('a', Step::Part(part));
    }
    assert!(!plan.contains('a'), "it is gone without an end");
}

#[test]
fn promoted_file_is_finished() {
    let mut plan = Plan::default();
    plan.add_early('a', 2);
    assert_eq!(next_steps(&mut plan), [('a', Step::Prepare)]);
    plan.set_available('a', 1);
    plan.prepared('a', PartSet::default());
    assert_eq!(next_steps(&mut plan), [('a', Step::Part(0))]);
    plan.succeeded('a', Step::Part(0));
    assert_eq!(plan.prioritize('a'), Some(PartSet::before(1)));
    assert_eq!(
        next_steps(&mut plan),
        [('a', Step::Part(1))],
        "all of it is available"
    );
    plan.succeeded('a', Step::Part(1));
    assert_eq!(next_steps(&mut plan), [('a', Step::Finish)]);
}

#[test]
fn draining_file_is_not_promoted() {
    let mut plan = Plan::default();
    plan.add_early('a', 9);
    assert_eq!(next_steps(&mut plan), [('a', Step::Prepare)]);
    plan.set_available('a', 9);
    plan.prepared('a', PartSet::default());
    assert_eq!(next_steps(&mut plan).len(), 3);
    plan.drain('a');
    assert_eq!(
        (plan.prioritize('a'), next_steps(&mut plan).len()),
        (None, 0)
    );
    for part in 0..3 {
        assert!(plan.contains('a'), "part {part} is under way");
        plan.succeeded('a', Step::Part(part));
    }
    assert!(!plan.contains('a'));
    plan.drain('a');
}

#[derive(Debug, Clone)]
enum Event {
    Add(u32, u64),
    Ends(usize, bool),
    Remove(usize),
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let event = prop_oneof![
        2 => (1..=BLOB_PARTS_MAX, any::<u64>()).prop_map(|(parts, present)| Event::Add(
            parts,
            present
        )),
        20 => (any::<usize>(), prop::bool::weighted(0.9)).prop_map(|(which, well)| Event::Ends(
            which,
            well
        )),
        1 => any::<usize>().prop_map(Event::Remove),
    ];
    prop::collection::vec(event, 0..600)
}

proptest! {
    #[test]
    fn part_set_contains_added_parts(
        parts in prop::collection::btree_set(0..BLOB_PARTS_MAX, 0..48),
    ) {
        let set: PartSet = parts.iter().copied().collect();
        prop_assert_eq!(
            (0..200).filter(|part| set.contains(*part)).collect::<Vec<_>>(),
            parts.iter().copied().collect::<Vec<_>>()
        );
        prop_assert_eq!(set.len() as usize, parts.len());
        prop_assert_eq!(set.first_missing(), (0..).find(|part| !parts.contains(part)).unwrap());
    }

    /// Whatever comes: never too many at a time, no part twice, none that is present, none too far
    /// ahead; and whatever has a place and no failure comes to its end.
    #[test]
    fn random_events_preserve_invariants(events in events()) {
        let mut plan = Schedule::<u32>::default();
        let mut running: Vec<(u32, Step)> = Vec::new();
        let mut present: HashMap<u32, (u32, PartSet)> = HashMap::new();
        let mut begin: HashMap<u32, (u32, PartSet)> = HashMap::new();
        let mut keys = 0;
        let drain = std::iter::repeat_n(Event::Ends(0, true), 5_000);
        for event in events.into_iter().chain(drain) {
            match event {
                Event::Add(parts, present) => {
                    plan.add(keys, parts);
                    begin.insert(keys, (parts, PartSet(present).within(parts)));
                    keys += 1;
                }
                Event::Remove(which) if keys > 0 => {
                    let key = u32::try_from(which % keys as usize).unwrap();
                    plan.remove(key);
                    running.retain(|(other, _)| *other != key);
                }
                Event::Ends(which, well) if !running.is_empty() => {
                    let (key, step) = running.remove(which % running.len());
                    match step {
                        _ if !well => drop(plan.failed(key, step)),
                        Step::Prepare => {
                            present.insert(key, begin[&key]);
                            plan.prepared(key, begin[&key].1);
                        }
                        Step::Part(part) => {
                            present.get_mut(&key).unwrap().1.add(part);
                            plan.succeeded(key, step);
                        }
                        Step::Finish => {
                            plan.succeeded(key, step);
                            prop_assert!(!plan.contains(key));
                        }
                    }
                }
                Event::Ends(..) | Event::Remove(_) => {}
            }
            while let Some((key, step)) = plan.next_step() {
                prop_assert!(!running.contains(&(key, step)), "twice at a time");
                match step {
                    Step::Prepare => {}
                    Step::Part(part) => {
                        let (parts, present) = present[&key];
                        prop_assert!(part < parts && !present.contains(part));
                        prop_assert!(part < present.first_missing() + PARTS_IN_FLIGHT_MAX);
                    }
                    Step::Finish => prop_assert_eq!(present[&key].1.len(), present[&key].0),
                }
                running.push((key, step));
            }
            prop_assert!(running.len() <= PARTS_IN_FLIGHT_MAX as usize);
        }
        prop_assert!((0..keys).all(|key| !plan.contains(key)), "all have come to their end");
    }
}
