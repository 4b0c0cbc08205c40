use super::*;
use crate::{
    store::{connections, relay_jobs},
    testing::{TestNode, connected_pair},
};
use sealpost_proto::limits;

fn start_with(node: &mut TestNode, found: &[Checkpoint]) -> WrittenCheckpoint {
    let found = found.to_vec();
    node.step(move |tx, identity| start(tx, identity, &found))
}

fn open(node: &TestNode, written: &WrittenCheckpoint) -> Checkpoint {
    Checkpoint::open(&node.identity.keys, &written.sealed).unwrap()
}

/// Checkpoint of a copy of the node.
fn foreign(generation: u64) -> Checkpoint {
    Checkpoint {
        generation,
        mark: CheckpointMark::from_bytes([9; 16]),
        written_at: crate::testing::START,
    }
}

fn warnings(node: &mut TestNode) -> Vec<NodeWarning> {
    let warnings = node.step(|tx, _| node_warnings::load_all(tx));
    warnings.into_iter().map(|(warning, _)| warning).collect()
}

fn count_healing(node: &mut TestNode) -> u64 {
    node.step(|tx, _| connections::count_healing(tx))
}

#[test]
fn generation_rises_at_every_start() {
    let mut node = TestNode::new("Acme", 900);
    let first = start_with(&mut node, &[]);
    let first = open(&node, &first);
    let second = start_with(&mut node, &[first]);
    let second = open(&node, &second);
    assert_eq!((first.generation, second.generation), (1, 2));
    assert_ne!(first.mark, second.mark);
    assert!(warnings(&mut node).is_empty());
}

#[test]
fn known_checkpoints_cause_no_recovery() {
    let mut pair = connected_pair(910);
    let first = start_with(&mut pair.acme, &[]);
    let first = open(&pair.acme, &first);
    let second = start_with(&mut pair.acme, &[first]);
    let second = open(&pair.acme, &second);
    for found in [vec![], vec![first], vec![second], vec![first, second]] {
        assert_eq!(start_with(&mut pair.acme, &found).decision, Decision::Write);
    }
    assert_eq!(count_healing(&mut pair.acme), 0);
}

#[test]
fn database_that_was_rolled_back_recovers_once() {
    let mut pair = connected_pair(920);
    start_with(&mut pair.acme, &[]);
    let ahead = foreign(7);
    let written = start_with(&mut pair.acme, &[ahead]);
    assert_eq!(written.decision, Decision::Recover);
    assert_eq!(open(&pair.acme, &written).generation, 8);
    assert_eq!(warnings(&mut pair.acme), [NodeWarning::RolledBack]);
    assert_eq!(count_healing(&mut pair.acme), 1);
    let jobs = "SELECT count(*) FROM relay_jobs WHERE kind = 'start_session'";
    assert_eq!(pair.acme.query_number(jobs), 1);
    // The relay presents the adopted checkpoint and earlier ones again.
    for generation in [7, 1] {
        let again = start_with(&mut pair.acme, &[foreign(generation)]);
        assert_eq!(again.decision, Decision::Write, "{generation}");
    }
}

#[test]
fn restored_nodes_recover_once() {
    let mut pair = connected_pair(925);
    start_with(&mut pair.acme, &[]);
    pair.acme.advance(limits::CHECKPOINT_INTERVAL);
    pair.acme.sql(
        "INSERT INTO restoration (id, backed_up_at, restored_at)
         VALUES (1, 1700000000000, 1700000000000)",
    );
    pair.acme.step(recovery::recover_restored).unwrap();
    assert_eq!(
        start_with(&mut pair.acme, &[foreign(7)]).decision,
        Decision::Write
    );
    assert!(warnings(&mut pair.acme).is_empty());
    // The same database is put back later.
    pair.acme.advance(limits::CHECKPOINT_INTERVAL);
    let again = start_with(&mut pair.acme, &[foreign(90)]);
    assert_eq!(again.decision, Decision::Recover);
}

#[test]
fn either_place_can_show_that_the_database_is_old() {
    for (at_relay, in_file) in [(7, 1), (1, 7)] {
        let mut node = TestNode::new("Acme", 930);
        start_with(&mut node, &[]);
        let own = start_with(&mut node, &[]);
        let own = open(&node, &own);
        let place = |generation| if generation == 7 { foreign(7) } else { own };
        let written = start_with(&mut node, &[place(at_relay), place(in_file)]);
        assert_eq!(written.decision, Decision::Recover);
    }
}

#[test]
fn second_node_is_reported_without_recovery() {
    let mut pair = connected_pair(940);
    start_with(&mut pair.acme, &[]);
    for generation in [1, 5] {
        let found = foreign(generation);
        let written = pair
            .acme
            .step(move |tx, identity| resolve(tx, identity, Some(&found)))
            .unwrap();
        assert_eq!(written.decision, Decision::Alert);
        assert_eq!(open(&pair.acme, &written).generation, generation + 1);
        assert_eq!(warnings(&mut pair.acme), [NodeWarning::SecondNode]);
        pair.acme.step(|tx, _| node_warnings::acknowledge(tx));
    }
    assert_eq!(count_healing(&mut pair.acme), 0);
    assert!(
        pair.acme
            .step(|tx, _| relay_jobs::load_due(tx, 9))
            .is_empty()
    );
}

#[test]
fn two_copies_alert_each_other() {
    let mut one = TestNode::new("Acme", 950);
    let mut other = TestNode::new("Acme", 950);
    let base = start_with(&mut one, &[]);
    let base = open(&one, &base);
    let copied = start_with(&mut other, &[]);
    assert_eq!(open(&other, &copied), base);
    // The original starts again and writes; then the copy starts.
    let original = start_with(&mut one, &[base]);
    let original = open(&one, &original);
    other.random_step();
    let copy = start_with(&mut other, &[original]);
    assert_eq!(copy.decision, Decision::Recover);
    let mut stored = open(&other, &copy);
    for turn in 0..3 {
        let node = if turn % 2 == 0 { &mut one } else { &mut other };
        let found = stored;
        let written = node
            .step(move |tx, identity| resolve(tx, identity, Some(&found)))
            .unwrap();
        assert_eq!(written.decision, Decision::Alert);
        stored = open(node, &written);
        assert_eq!(warnings(node)[0], NodeWarning::SecondNode);
    }
}

#[test]
fn lost_response_causes_no_alert() {
    let mut node = TestNode::new("Acme", 960);
    let first = start_with(&mut node, &[]);
    let first = open(&node, &first);
    let second = start_with(&mut node, &[first]);
    let second = open(&node, &second);
    let mut resolved = |found: Option<Checkpoint>| {
        node.step(move |tx, identity| resolve(tx, identity, found.as_ref()))
            .map(|written| written.decision)
    };
    assert_eq!(resolved(Some(second)), None);
    assert_eq!(resolved(Some(first)), Some(Decision::Write));
    assert_eq!(resolved(None), Some(Decision::Write));
}

#[test]
fn idle_nodes_write_no_checkpoints() {
    let mut pair = connected_pair(970);
    start_with(&mut pair.acme, &[]);
    let write = |node: &mut TestNode| node.step(write_if_active);
    assert_eq!(write(&mut pair.acme), None);
    pair.acme.send(pair.to_bolt, "hello");
    assert!(write(&mut pair.acme).is_some());
    assert_eq!(write(&mut pair.acme), None);
    pair.bolt.send(pair.to_acme, "hello");
    crate::testing::carry(&mut pair.bolt, &mut pair.acme);
    assert!(write(&mut pair.acme).is_some());
}

#[test]
fn receipts_are_activity() {
    let mut pair = connected_pair(980);
    pair.acme.send(pair.to_bolt, "hello");
    crate::testing::carry(&mut pair.acme, &mut pair.bolt);
    start_with(&mut pair.acme, &[]);
    crate::testing::carry(&mut pair.bolt, &mut pair.acme);
    assert!(pair.acme.step(write_if_active).is_some());
}

#[test]
fn number_of_checkpoints_is_bounded() {
    let mut node = TestNode::new("Acme", 990);
    let first = start_with(&mut node, &[]);
    let first = open(&node, &first);
    for _ in 0..limits::CHECKPOINTS_KEPT {
        start_with(&mut node, &[]);
    }
    let stored = node.query_number("SELECT count(*) FROM checkpoints");
    assert_eq!(usize::try_from(stored), Ok(limits::CHECKPOINTS_KEPT));
    // A relay that was restored from an old backup presents a forgotten one.
    assert_eq!(start_with(&mut node, &[first]).decision, Decision::Write);
}
