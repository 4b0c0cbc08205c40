//! Deterministic simulation of a relay and a few nodes in one process, without sockets and with
//! virtual time. A seed decides which requests are lost, duplicated, delayed or reordered, when a
//! process crashes and where a clock jumps. A small reference model checks every guarantee.
//!
//! The node's transactions run over its real schema in memory, and so do the relay's store and its
//! decisions. The network, the tasks that process due rows, and the users are simulated. The same
//! seed gives the same log, byte for byte.
//!
//! Start reading at [`run`], then `simulation`.

mod fault;
mod model;
mod mutation;
mod network;
mod node;
mod pace;
mod random;
mod relay;
mod restore;
mod schedule;
mod simulation;
mod tasks;
mod users;
mod wire;

pub use fault::Mutant;
pub use pace::Span;

use std::collections::BTreeMap;

/// How a run ended.
#[derive(Debug)]
pub struct Outcome {
    /// One line for each event.
    pub log: String,
    /// The first violated guarantee, if any.
    pub violation: Option<String>,
    /// Messages that users sent.
    pub sent: usize,
    /// Process crashes.
    pub crashes: usize,
    /// The largest number of envelopes that were set aside at once.
    pub set_aside: u64,
    /// Webhook calls that carried more than one envelope.
    pub multi_envelope_calls: usize,
    /// Webhook calls of which a part was stored and a part deferred.
    pub partially_stored_calls: usize,
    /// Number of messages by final status.
    pub message_outcomes: BTreeMap<&'static str, usize>,
    /// Number of connections by the final status and health at the requesting side.
    pub connection_outcomes: BTreeMap<String, usize>,
}

/// Runs one seed to its end, with or without a mutant.
pub fn run(seed: u64, span: Span, mutant: Option<Mutant>) -> anyhow::Result<Outcome> {
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    runtime.block_on(async {
        simulation::Simulation::new(seed, span, mutant)
            .await?
            .run()
            .await
    })
}
