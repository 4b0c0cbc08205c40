//! A relay and a few nodes in one process, without sockets and without time of their own: a seed decides what is lost,
//! repeated, late or overtaken, when a process ends in the middle of its work and where a clock jumps, and a small
//! reference model says whether all that was promised came true.
//!
//! What runs is the real thing: the node's transactions over its own schema in memory, the relay's store and decisions.
//! What is played is what lies around them: the network, the tasks that carry out what rows say is due, and people. The
//! same seed gives the same log, letter for letter.
//!
//! Start reading at [`run`], then `world`.

mod agenda;
mod chance;
mod fault;
mod model;
mod network;
mod node;
mod people;
mod relay;
mod spoil;
mod tasks;
mod wire;
mod world;

pub use fault::Mutant;

use std::collections::BTreeMap;

/// How a run ended.
#[derive(Debug)]
pub struct Outcome {
    /// What happened, a line each.
    pub log: String,
    /// What was not as promised, if anything.
    pub broken: Option<String>,
    /// Messages that people sent.
    pub sent: usize,
    /// Times that a process ended in the middle of its work.
    pub crashes: usize,
    /// Envelopes that were set aside at a time.
    pub set_aside: u64,
    /// Calls of webhooks that carried several envelopes.
    pub several: usize,
    /// Those of them of which a part was stored and a part put off.
    pub mixed: usize,
    /// How messages ended, each word with its count.
    pub endings: BTreeMap<&'static str, usize>,
    /// How connections ended at those who asked for them, each word with its count.
    pub joinings: BTreeMap<String, usize>,
}

/// Plays one seed to its end, with a mutant or without.
///
/// # Errors
/// When the simulation itself cannot go on; that a promise was broken is no error but the outcome.
pub fn run(seed: u64, mutant: Option<Mutant>) -> anyhow::Result<Outcome> {
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    runtime.block_on(async { world::World::new(seed, mutant).await?.play().await })
}
