//! Seeds that have to pass, one seed that is played twice, and mutants that have to be noticed.
//!
//! `SEALPOST_SEED=17 cargo test -p sealpost-simulation --test seeds every_seed -- --nocapture`
//! plays one seed again and prints its log.

#![expect(
    clippy::expect_used,
    clippy::panic,
    reason = "a test speaks by panicking"
)]

use sealpost_simulation::{Mutant, Outcome, run};
use std::{collections::BTreeMap, panic::resume_unwind, sync::Mutex};

const SEEDS: u64 = 50;
/// A mutant has to be noticed within so many.
const MUTANT_SEEDS: u64 = 20;

fn chosen() -> Option<u64> {
    std::env::var("SEALPOST_SEED")
        .ok()
        .map(|text| text.parse().expect("SEALPOST_SEED is a number"))
}

fn play(seed: u64) -> Outcome {
    run(seed, None).expect("the simulation itself works")
}

fn check(seed: u64) -> Outcome {
    let outcome = play(seed);
    if let Some(broken) = &outcome.broken {
        let lines: Vec<_> = outcome.log.lines().collect();
        let tail = lines[lines.len().saturating_sub(60)..].join("\n");
        panic!("{tail}\n\nseed {seed}: {broken}\nplay it again with SEALPOST_SEED={seed}");
    }
    outcome
}

/// Does something with each, on as many threads as there are cores.
fn on_all_cores<I: Send, O: Send>(
    items: impl Iterator<Item = I> + Send,
    work: impl Fn(I) -> O + Sync,
) -> Vec<O> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let items = Mutex::new(items);
    let next = || items.lock().expect("no thread panics with the lock").next();
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

fn sum<'a, W: Ord + Clone + 'a>(
    counts: impl Iterator<Item = &'a BTreeMap<W, usize>>,
) -> BTreeMap<W, usize> {
    let mut total = BTreeMap::new();
    for (word, count) in counts.flatten() {
        *total.entry(word.clone()).or_default() += count;
    }
    total
}

#[test]
fn every_seed_ends_as_promised() {
    if let Some(seed) = chosen() {
        println!("{}", play(seed).log);
        check(seed);
        return;
    }
    let outcomes = on_all_cores(0..SEEDS, check);
    let sent: usize = outcomes.iter().map(|outcome| outcome.sent).sum();
    let crashes: usize = outcomes.iter().map(|outcome| outcome.crashes).sum();
    let set_aside: u64 = outcomes.iter().map(|outcome| outcome.set_aside).sum();
    let several: usize = outcomes.iter().map(|outcome| outcome.several).sum();
    let mixed: usize = outcomes.iter().map(|outcome| outcome.mixed).sum();
    let endings = sum(outcomes.iter().map(|outcome| &outcome.endings));
    let joinings = sum(outcomes.iter().map(|outcome| &outcome.joinings));
    let what = format!(
        "{sent} messages ({endings:?}), {joinings:?}, {crashes} crashes, {set_aside} envelopes set aside, \
         {several} calls with several envelopes, {mixed} answered in part"
    );
    println!("{SEEDS} seeds, {what}");
    let is_wild = sent > 500 && crashes > 50 && set_aside > 5 && several > 20 && mixed > 3;
    assert!(is_wild, "the seeds have become tame: {what}");
    let ended = |word: &str| endings.get(word).copied().unwrap_or_default();
    assert!(
        ended("failed") > 10 && ended("read") + ended("delivered") > 500,
        "{what}"
    );
    assert!(
        ["accepted ok", "blocked ok", "pending broken", "rejected ok"]
            .iter()
            .all(|end| joinings.contains_key(*end)),
        "{what}"
    );
}

#[test]
fn the_same_seed_gives_the_same_log() {
    let seed = chosen().unwrap_or(7);
    let (first, second) = (play(seed), play(seed));
    assert!(first.log.lines().count() > 200);
    assert!(first.log == second.log, "seed {seed} went two ways");
}

#[test]
fn every_mutant_is_noticed() {
    let noticed = on_all_cores(Mutant::ALL.into_iter(), |mutant| {
        let words = (0..MUTANT_SEEDS).find_map(|seed| {
            run(seed, Some(mutant))
                .expect("the simulation itself works")
                .broken
        });
        println!("{mutant:?}: {words:?}");
        (mutant, words)
    });
    for (mutant, words) in noticed {
        assert!(words.is_some(), "{mutant:?} goes unnoticed");
    }
}
