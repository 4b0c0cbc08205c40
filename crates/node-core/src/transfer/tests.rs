use super::*;
use proptest::prelude::*;
use std::collections::HashMap;

/// Starts all steps that may start now.
fn next_steps(schedule: &mut Schedule<char>) -> Vec<(char, Step)> {
    std::iter::from_fn(|| schedule.next_step()).collect()
}

fn transferring(files: &[(char, u32)]) -> Schedule<char> {
    let mut schedule = Schedule::<char>::default();
    for (key, parts) in files {
        schedule.add(*key, *parts);
        assert_eq!(schedule.next_step(), Some((*key, Step::Prepare)));
        schedule.record_prepared(*key, PartSet::default());
    }
    schedule
}

#[test]
fn file_passes_all_steps_in_order() {
    let mut schedule = Schedule::<char>::default();
    schedule.add('a', 4);
    assert_eq!(next_steps(&mut schedule), [('a', Step::Prepare)]);
    schedule.record_prepared('a', [1, 40, 70].into_iter().collect());
    assert_eq!(
        next_steps(&mut schedule),
        [('a', Step::Part(0)), ('a', Step::Part(2))],
        "part 1 is present, 3 is too far ahead"
    );
    schedule.record_success('a', Step::Part(2));
    assert_eq!(next_steps(&mut schedule), []);
    schedule.record_success('a', Step::Part(0));
    assert_eq!(next_steps(&mut schedule), [('a', Step::Part(3))]);
    schedule.record_success('a', Step::Part(3));
    assert_eq!(next_steps(&mut schedule), [('a', Step::Finish)]);
    schedule.record_success('a', Step::Finish);
    assert!(!schedule.contains('a'));
}

#[test]
fn complete_file_is_only_finished() {
    let mut schedule = Schedule::<char>::default();
    schedule.add('a', 48);
    assert_eq!(next_steps(&mut schedule), [('a', Step::Prepare)]);
    schedule.record_prepared('a', PartSet::before(48));
    assert_eq!(next_steps(&mut schedule), [('a', Step::Finish)]);
}

#[test]
fn files_share_the_concurrency_limit() {
    let mut schedule = transferring(&[('a', 9), ('b', 9), ('c', 9)]);
    assert_eq!(
        next_steps(&mut schedule),
        [
            ('a', Step::Part(0)),
            ('b', Step::Part(0)),
            ('c', Step::Part(0))
        ]
    );
    for (key, part) in [('b', 0), ('b', 1), ('a', 0), ('b', 2)] {
        schedule.record_success(key, Step::Part(part));
        assert_eq!(
            next_steps(&mut schedule),
            [(key, Step::Part(part + 1))],
            "each finished step frees a slot for the same file"
        );
    }
    schedule.remove('b');
    assert_eq!(
        next_steps(&mut schedule),
        [('c', Step::Part(1))],
        "the slot goes to the file that has waited longest"
    );
}

#[test]
fn failure_reduces_concurrency_until_successes_restore_it() {
    let mut schedule = transferring(&[('a', 30), ('b', 30)]);
    let running = next_steps(&mut schedule);
    assert_eq!(
        running,
        [
            ('a', Step::Part(0)),
            ('b', Step::Part(0)),
            ('a', Step::Part(1))
        ]
    );
    assert!(
        schedule.record_failure('a', Step::Part(0)),
        "its first failure"
    );
    assert!(
        schedule.contains('a') && next_steps(&mut schedule).is_empty(),
        "its running steps may still end"
    );
    assert!(!schedule.record_failure('a', Step::Part(1)) && !schedule.contains('a'));
    let mut counts = Vec::new();
    let mut running = vec![('b', Step::Part(0))];
    for _ in 0..6 {
        let (key, step) = running.remove(0);
        schedule.record_success(key, step);
        running.extend(next_steps(&mut schedule));
        counts.push(running.len());
    }
    assert_eq!(counts, [2, 2, 3, 3, 3, 3]);
}

#[test]
fn late_results_are_ignored() {
    let mut schedule = transferring(&[('a', 3)]);
    assert_eq!(next_steps(&mut schedule).len(), 3);
    schedule.remove('a');
    schedule.record_success('a', Step::Part(0));
    assert!(!schedule.record_failure('a', Step::Part(1)));
    schedule.add('b', 3);
    assert_eq!(next_steps(&mut schedule), [('b', Step::Prepare)]);
    schedule.record_success('b', Step::Part(0));
    schedule.record_success('b', Step::Finish);
    assert!(
        next_steps(&mut schedule).is_empty(),
        "only running steps can end"
    );
}

#[test]
fn early_file_transfers_available_parts() {
    let mut schedule = Schedule::<char>::default();
    schedule.add_early('a', 3);
    assert_eq!(next_steps(&mut schedule), [('a', Step::Prepare)]);
    schedule.record_prepared('a', PartSet::default());
    assert_eq!(next_steps(&mut schedule), []);
    schedule.set_available('a', 2);
    assert_eq!(
        next_steps(&mut schedule),
        [('a', Step::Part(0)), ('a', Step::Part(1))]
    );
    schedule.set_available('a', 9);
    assert_eq!(next_steps(&mut schedule), [('a', Step::Part(2))]);
    for part in [1, 0, 2] {
        assert!(schedule.contains('a'));
        schedule.record_success('a', Step::Part(part));
    }
    assert!(
        !schedule.contains('a'),
        "it is removed without a finish step"
    );
}

#[test]
fn promoted_file_is_finished() {
    let mut schedule = Schedule::<char>::default();
    schedule.add_early('a', 2);
    assert_eq!(next_steps(&mut schedule), [('a', Step::Prepare)]);
    schedule.set_available('a', 1);
    schedule.record_prepared('a', PartSet::default());
    assert_eq!(next_steps(&mut schedule), [('a', Step::Part(0))]);
    schedule.record_success('a', Step::Part(0));
    assert_eq!(schedule.promote('a'), Some(PartSet::before(1)));
    assert_eq!(
        next_steps(&mut schedule),
        [('a', Step::Part(1))],
        "all parts are available"
    );
    schedule.record_success('a', Step::Part(1));
    assert_eq!(next_steps(&mut schedule), [('a', Step::Finish)]);
}

#[test]
fn draining_file_is_not_promoted() {
    let mut schedule = Schedule::<char>::default();
    schedule.add_early('a', 9);
    assert_eq!(next_steps(&mut schedule), [('a', Step::Prepare)]);
    schedule.set_available('a', 9);
    schedule.record_prepared('a', PartSet::default());
    assert_eq!(next_steps(&mut schedule).len(), 3);
    schedule.drain('a');
    assert_eq!(
        (schedule.promote('a'), next_steps(&mut schedule).len()),
        (None, 0)
    );
    for part in 0..3 {
        assert!(schedule.contains('a'), "part {part} is in flight");
        schedule.record_success('a', Step::Part(part));
    }
    assert!(!schedule.contains('a'));
    schedule.drain('a');
}

#[derive(Debug, Clone)]
enum Event {
    Add(u32, u64),
    End(usize, bool),
    Remove(usize),
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let event = prop_oneof![
        2 => (1..=BLOB_PARTS_MAX, any::<u64>()).prop_map(|(parts, present)| Event::Add(
            parts,
            present
        )),
        20 => (any::<usize>(), prop::bool::weighted(0.9)).prop_map(|(which, succeeds)| Event::End(
            which,
            succeeds
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

    /// Steps are limited in number, and no part is started twice, again when it is present, or too
    /// far ahead. Every file that is neither removed nor failed is finished.
    #[test]
    fn random_events_preserve_invariants(events in events()) {
        let mut schedule = Schedule::<u32>::default();
        let mut running: Vec<(u32, Step)> = Vec::new();
        let mut present: HashMap<u32, (u32, PartSet)> = HashMap::new();
        let mut initial: HashMap<u32, (u32, PartSet)> = HashMap::new();
        let mut keys = 0;
        let drain = std::iter::repeat_n(Event::End(0, true), 5_000);
        for event in events.into_iter().chain(drain) {
            match event {
                Event::Add(parts, present) => {
                    schedule.add(keys, parts);
                    initial.insert(keys, (parts, PartSet(present).within(parts)));
                    keys += 1;
                }
                Event::Remove(which) if keys > 0 => {
                    let key = u32::try_from(which % keys as usize).unwrap();
                    schedule.remove(key);
                    running.retain(|(other, _)| *other != key);
                }
                Event::End(which, succeeds) if !running.is_empty() => {
                    let (key, step) = running.remove(which % running.len());
                    match step {
                        _ if !succeeds => drop(schedule.record_failure(key, step)),
                        Step::Prepare => {
                            present.insert(key, initial[&key]);
                            schedule.record_prepared(key, initial[&key].1);
                        }
                        Step::Part(part) => {
                            present.get_mut(&key).unwrap().1.add(part);
                            schedule.record_success(key, step);
                        }
                        Step::Finish => {
                            schedule.record_success(key, step);
                            prop_assert!(!schedule.contains(key));
                        }
                    }
                }
                Event::End(..) | Event::Remove(_) => {}
            }
            while let Some((key, step)) = schedule.next_step() {
                prop_assert!(!running.contains(&(key, step)), "the step is already running");
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
        prop_assert!((0..keys).all(|key| !schedule.contains(key)), "all files have been removed");
    }
}
