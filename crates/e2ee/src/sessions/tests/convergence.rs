//! After any sequence of events, both sides converge to one session.

use super::network::{Event, Network};
use proptest::prelude::*;
use std::time::Duration;

const ROUNDS_MAX: u32 = 4;
const INITS_MAX: u32 = 3;

fn event() -> impl Strategy<Value = Event> {
    let side = || 0_usize..2;
    prop_oneof![
        10 => side().prop_map(Event::Seal),
        4 => side().prop_map(Event::Initiate),
        10 => any::<usize>().prop_map(Event::Deliver),
        4 => any::<usize>().prop_map(Event::Lose),
        2 => side().prop_map(Event::Restore),
        2 => side().prop_map(Event::Copy),
        2 => (side(), any::<usize>()).prop_map(|(side, pick)| Event::Rollback { side, pick }),
        1 => Just(Event::Wait),
    ]
}

/// Number of cases: as many as PROPTEST_CASES says, otherwise 64.
fn cases() -> u32 {
    let requested = std::env::var("PROPTEST_CASES").ok();
    requested.and_then(|cases| cases.parse().ok()).unwrap_or(64)
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: cases(),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn both_sides_converge_to_one_session(
        seed in 0_u64..1_000,
        clocks_differ in any::<bool>(),
        events in prop::collection::vec(event(), 1..40),
    ) {
        let clock_offset = if clocks_differ { Duration::from_secs(86_400) } else { Duration::ZERO };
        let mut network = Network::new(seed, clock_offset);
        for event in &events {
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
    }
}
