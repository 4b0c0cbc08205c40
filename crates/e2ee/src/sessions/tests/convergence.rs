//! After any sequence of events, both sides converge to one session.

use super::network::{Event, Network};
use proptest::{prelude::*, test_runner::TestCaseResult};
use std::time::Duration;

const ROUNDS_MAX: u32 = 4;
const INITS_MAX: u32 = 3;

/// Event that happens to intact nodes.
fn ordinary_event() -> impl Strategy<Value = Event> {
    let side = || 0_usize..2;
    prop_oneof![
        10 => side().prop_map(Event::Seal),
        4 => side().prop_map(Event::Initiate),
        10 => any::<usize>().prop_map(Event::Deliver),
        4 => any::<usize>().prop_map(Event::Lose),
        1 => Just(Event::Wait),
    ]
}

fn event() -> impl Strategy<Value = Event> {
    let side = || 0_usize..2;
    prop_oneof![
        29 => ordinary_event(),
        2 => side().prop_map(Event::Restore),
        2 => side().prop_map(Event::Copy),
        2 => (side(), any::<usize>()).prop_map(|(side, pick)| Event::Rollback { side, pick }),
    ]
}

fn clock_offset() -> impl Strategy<Value = Duration> {
    prop_oneof![Just(Duration::ZERO), Just(Duration::from_secs(86_400))]
}

/// Plays the events, and then rounds without losses until both sides have one session.
fn converge(network: &mut Network, events: &[Event]) -> TestCaseResult {
    for event in events {
        network.step(event);
    }
    network.deliver_all();
    network.inits = 0;
    let mut rounds = 0;
    while !(network.round() && network.has_converged()) {
        rounds += 1;
        prop_assert!(rounds < ROUNDS_MAX, "no convergence");
    }
    prop_assert!(network.inits <= INITS_MAX, "{} INITs", network.inits);
    Ok(())
}

/// Configuration with as many cases as `PROPTEST_CASES` says, otherwise 64.
fn config() -> ProptestConfig {
    let requested = std::env::var("PROPTEST_CASES").ok();
    ProptestConfig {
        cases: requested.and_then(|cases| cases.parse().ok()).unwrap_or(64),
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn both_sides_converge_to_one_session(
        seed in 0_u64..1_000,
        clock_offset in clock_offset(),
        events in prop::collection::vec(event(), 1..40),
    ) {
        converge(&mut Network::new(seed, clock_offset), &events)?;
    }

    #[test]
    fn intact_sides_see_no_reset_or_alert(
        seed in 0_u64..1_000,
        clock_offset in clock_offset(),
        events in prop::collection::vec(ordinary_event(), 1..80),
    ) {
        let mut network = Network::new(seed, clock_offset);
        converge(&mut network, &events)?;
        prop_assert_eq!((network.resets, network.alerts), (0, 0), "resets and alerts");
    }
}
