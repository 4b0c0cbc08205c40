//! Seeds that must pass, one seed that is run twice, and mutants that must be detected.
//!
//! `SEALPOST_SEED=17 cargo test -p sealpost-simulation --test seeds every_seed -- --nocapture`
//! runs one seed again and prints its log.

#![expect(clippy::expect_used, clippy::panic, reason = "tests fail by panicking")]

use sealpost_simulation::{Mutant, Outcome, Span, run};
use std::{
    collections::BTreeMap,
    io::{Write as _, stderr},
    panic::resume_unwind,
    sync::Mutex,
};

const SEEDS: u64 = 50;
/// A mutant must be detected within this many seeds, or within the years that the tests play.
const MUTANT_SEEDS: u64 = 200;

fn seed_from_env() -> Option<u64> {
    std::env::var("SEALPOST_SEED")
        .ok()
        .map(|text| text.parse().expect("SEALPOST_SEED is a number"))
}

fn run_without_mutant(seed: u64) -> Outcome {
    run(seed, Span::Hour, None).expect("the simulation itself runs")
}

fn ensure_no_violation(seed: u64) -> Outcome {
    let outcome = run_without_mutant(seed);
    if let Some(violation) = &outcome.violation {
        let lines: Vec<_> = outcome.log.lines().collect();
        let tail = lines[lines.len().saturating_sub(60)..].join("\n");
        panic!("{tail}\n\nseed {seed}: {violation}\nrun it again with SEALPOST_SEED={seed}");
    }
    outcome
}

/// Applies `work` to every item, on as many threads as there are cores.
fn map_on_all_cores<I: Send, O: Send>(
    items: impl Iterator<Item = I> + Send,
    work: impl Fn(I) -> O + Sync,
) -> Vec<O> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let items = Mutex::new(items);
    let next = || {
        items
            .lock()
            .expect("no thread panics while it holds the lock")
            .next()
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..cores)
            .map(|_| scope.spawn(|| std::iter::from_fn(next).map(&work).collect::<Vec<_>>()))
            .collect();
        threads
            .into_iter()
            .flat_map(|thread| thread.join().unwrap_or_else(|panic| resume_unwind(panic)))
            .collect()
    })
}

fn sum_counts<'a, W: Ord + Clone + 'a>(
    counts: impl Iterator<Item = &'a BTreeMap<W, usize>>,
) -> BTreeMap<W, usize> {
    let mut total = BTreeMap::new();
    for (name, count) in counts.flatten() {
        *total.entry(name.clone()).or_default() += count;
    }
    total
}

#[test]
fn every_seed_keeps_the_guarantees() {
    if let Some(seed) = seed_from_env() {
        println!("{}", run_without_mutant(seed).log);
        ensure_no_violation(seed);
        return;
    }
    let outcomes = map_on_all_cores(0..SEEDS, ensure_no_violation);
    let sent: usize = outcomes.iter().map(|outcome| outcome.sent).sum();
    let crashes: usize = outcomes.iter().map(|outcome| outcome.crashes).sum();
    let set_aside: u64 = outcomes.iter().map(|outcome| outcome.set_aside).sum();
    let multi_envelope_calls: usize = outcomes
        .iter()
        .map(|outcome| outcome.multi_envelope_calls)
        .sum();
    let partially_stored_calls: usize = outcomes
        .iter()
        .map(|outcome| outcome.partially_stored_calls)
        .sum();
    let message_outcomes = sum_counts(outcomes.iter().map(|outcome| &outcome.message_outcomes));
    let connection_outcomes =
        sum_counts(outcomes.iter().map(|outcome| &outcome.connection_outcomes));
    let summary = format!(
        "{sent} messages ({message_outcomes:?}), {connection_outcomes:?}, {crashes} crashes, \
         {set_aside} envelopes set aside, {multi_envelope_calls} calls with several envelopes, \
         {partially_stored_calls} partially stored"
    );
    println!("{SEEDS} seeds, {summary}");
    let covers_enough = sent > 500
        && crashes > 50
        && set_aside > 5
        && multi_envelope_calls > 20
        && partially_stored_calls > 3;
    assert!(covers_enough, "the seeds cover too little: {summary}");
    let count = |status: &str| message_outcomes.get(status).copied().unwrap_or_default();
    assert!(
        count("failed") > 10 && count("read") + count("delivered") > 500,
        "{summary}"
    );
    assert!(
        ["accepted ok", "blocked ok", "pending broken", "rejected ok"]
            .iter()
            .all(|outcome| connection_outcomes.contains_key(*outcome)),
        "{summary}"
    );
}

/// Years that are simulated, unless `SIMULATED_YEARS` says otherwise.
const YEARS: u64 = 3;

#[test]
fn every_year_keeps_the_guarantees() {
    let run_year = |seed| {
        let outcome = run(seed, Span::Year, None).expect("the simulation itself runs");
        // Not captured, so that the seeds are in the output of a passing test too.
        let written = writeln!(
            stderr(),
            "year {seed}: {} messages {:?}, {} crashes, connections {:?} {}",
            outcome.sent,
            outcome.message_outcomes,
            outcome.crashes,
            outcome.connection_outcomes,
            outcome.violation.as_deref().unwrap_or_default()
        );
        written.expect("standard error is open");
        (seed, outcome)
    };
    if let Some(seed) = seed_from_env() {
        let (_, outcome) = run_year(seed);
        println!("{}", outcome.log);
        assert!(outcome.violation.is_none(), "{:?}", outcome.violation);
        return;
    }
    let number = |name: &str, default| {
        std::env::var(name).map_or(default, |text| text.parse().expect("a number"))
    };
    let first = number("SIMULATED_YEAR_FIRST", 0);
    let years = first..first + number("SIMULATED_YEARS", YEARS);
    let outcomes = map_on_all_cores(years, run_year);
    let violations: Vec<_> = outcomes
        .iter()
        .filter_map(|(seed, outcome)| Some((seed, outcome.violation.as_ref()?)))
        .collect();
    assert!(
        violations.is_empty(),
        "repeat one with SEALPOST_SEED=…: {violations:#?}"
    );
}

#[test]
fn same_seed_gives_the_same_log() {
    let seed = seed_from_env().unwrap_or(7);
    let (first, second) = (run_without_mutant(seed), run_without_mutant(seed));
    assert!(first.log.lines().count() > 200);
    assert!(
        first.log == second.log,
        "seed {seed} gave two different logs"
    );
}

#[test]
fn every_mutant_is_detected() {
    let only = std::env::var("SEALPOST_MUTANT").ok();
    let is_selected = |mutant: &Mutant| {
        only.as_ref()
            .is_none_or(|name| *name == format!("{mutant:?}"))
    };
    let mutants = Mutant::ALL.into_iter().filter(is_selected);
    let detected = map_on_all_cores(mutants, |mutant| {
        let seeds = match mutant.span() {
            Span::Hour => MUTANT_SEEDS,
            Span::Year => YEARS,
        };
        let violation = (0..seeds).find_map(|seed| {
            let outcome =
                run(seed, mutant.span(), Some(mutant)).expect("the simulation itself runs");
            outcome
                .violation
                .map(|violation| format!("seed {seed}: {violation}"))
        });
        println!("{mutant:?}: {violation:?}");
        (mutant, violation)
    });
    for (mutant, violation) in detected {
        assert!(violation.is_some(), "{mutant:?} is not detected");
    }
}
