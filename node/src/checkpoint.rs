//! Checkpoints of this node: writing them, and what follows from one that was found elsewhere
//! (docs/e2ee.md#checkpoint). The rules are in [`sealpost_node_core::checkpoint`].

use crate::{
    fault::Fault,
    identity::NodeIdentity,
    recovery,
    store::{Tx, checkpoints, node_warnings, restoration},
};
use sealpost_e2ee::{Checkpoint, CheckpointMark};
use sealpost_node_core::{
    checkpoint::{Decision, Moment, evaluate, next_generation},
    model::NodeWarning,
};

/// Checkpoint that was committed, to be stored outside the database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WrittenCheckpoint {
    pub decision: Decision,
    /// Bytes to store.
    pub sealed: Vec<u8>,
}

/// Evaluates the checkpoints that were found in the local file and at the relay at start, recovers
/// the node if its database was rolled back, and writes the next checkpoint.
pub fn start(
    tx: &mut Tx<'_>,
    identity: &NodeIdentity,
    found: &[Checkpoint],
) -> Result<WrittenCheckpoint, Fault> {
    let own = checkpoints::load(tx)?;
    let ahead: Vec<_> = found
        .iter()
        .filter(|found| evaluate(&own, Some(found), Moment::Start) == Decision::Recover)
        .collect();
    let Some(latest) = ahead.iter().max_by_key(|found| found.generation) else {
        return write(tx, identity, Decision::Write, None);
    };
    if was_just_restored(tx, own.last())? {
        return write(tx, identity, Decision::Write, Some(latest));
    }
    let connections = recovery::recover(tx, identity)?;
    tracing::warn!(
        connections,
        database = own.last().map_or(0, |own| own.generation),
        checkpoint = latest.generation,
        "the database is older than what this node has done since: it was rolled back or restored, or \
         a second node runs with this identity; starting new sessions with all partners"
    );
    node_warnings::set(tx, NodeWarning::RolledBack)?;
    write(tx, identity, Decision::Recover, Some(latest))
}

/// Whether this node was restored from a backup and has recovered since the latest checkpoint, so
/// that the checkpoint of the original is expected.
fn was_just_restored(tx: &Tx<'_>, latest: Option<&Checkpoint>) -> Result<bool, Fault> {
    let recovered_at = restoration::load(tx)?.and_then(|restoration| restoration.recovered_at);
    let written_at = latest.map(|latest| latest.written_at);
    Ok(recovered_at.is_some_and(|at| Some(at) > written_at))
}

/// Writes the next checkpoint if anything was sent or received since the latest one.
pub fn write_if_active(
    tx: &mut Tx<'_>,
    identity: &NodeIdentity,
) -> Result<Option<WrittenCheckpoint>, Fault> {
    if checkpoints::has_activity(tx)? {
        write(tx, identity, Decision::Write, None).map(Some)
    } else {
        Ok(None)
    }
}

/// Evaluates another checkpoint than expected that the relay has while this node runs. Returns the
/// checkpoint to write over it, unless the latest one is stored already.
pub fn resolve(
    tx: &mut Tx<'_>,
    identity: &NodeIdentity,
    found: Option<&Checkpoint>,
) -> Result<Option<WrittenCheckpoint>, Fault> {
    let own = checkpoints::load(tx)?;
    let decision = evaluate(&own, found, Moment::Running);
    match decision {
        Decision::Nothing => Ok(None),
        Decision::Write | Decision::Recover => write(tx, identity, decision, None).map(Some),
        Decision::Alert => {
            tracing::error!(
                "a second node runs with this identity, or this node was rolled back while it ran: \
                 stop one of them"
            );
            node_warnings::set(tx, NodeWarning::SecondNode)?;
            write(tx, identity, decision, found).map(Some)
        }
    }
}

/// Writes the next checkpoint. Adopting that of another copy of this node makes all earlier ones
/// obsolete.
fn write(
    tx: &mut Tx<'_>,
    identity: &NodeIdentity,
    decision: Decision,
    adopted: Option<&Checkpoint>,
) -> Result<WrittenCheckpoint, Fault> {
    let own = checkpoints::load(tx)?;
    if adopted.is_some() {
        checkpoints::delete_all(tx)?;
    }
    let checkpoint = Checkpoint {
        generation: next_generation(&own, adopted),
        mark: CheckpointMark::generate(tx.rng),
        written_at: tx.now,
    };
    checkpoints::insert(tx, &checkpoint)?;
    Ok(WrittenCheckpoint {
        decision,
        sealed: checkpoint.seal(&identity.keys, tx.rng),
    })
}

#[cfg(test)]
mod tests;
