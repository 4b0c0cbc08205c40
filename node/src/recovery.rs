//! Recovery of a node whose database is older than what it has sent and received: restored from a
//! backup, or rolled back to an earlier copy (docs/e2ee.md#healing).

use crate::{
    conversation,
    fault::Fault,
    healing,
    identity::NodeIdentity,
    pairing,
    store::{
        Tx, chats, connections, deliveries, outbox,
        restoration::{self, Restoration},
    },
    utc,
};
use sealpost_node_core::{
    connection::Phase,
    model::{ConnectionId, HealthState},
};
use sealpost_proto::Timestamp;
use std::time::Duration;

/// Time for each connection over which the new sessions are distributed at first, so that the
/// partners do not answer all at once, and its maximum for all connections.
const SPREAD_PER_CONNECTION: Duration = Duration::from_millis(100);
const SPREAD_MAX: Duration = Duration::from_secs(30);

/// Replaces all sessions, prekeys and incarnations, because an earlier copy of this node may have
/// used them since, and asks every partner for what is missing. Returns the number of connections.
pub fn recover(tx: &mut Tx<'_>, identity: &NodeIdentity) -> Result<usize, Fault> {
    pairing::replace_invite_prekeys(tx, identity)?;
    let connections = connections::find_open(tx)?;
    let count = u32::try_from(connections.len()).unwrap_or(u32::MAX);
    let spread = SPREAD_PER_CONNECTION.saturating_mul(count).min(SPREAD_MAX);
    for id in &connections {
        let at = tx.now.plus(random_delay(tx, spread));
        recover_connection(tx, identity, *id, at)?;
    }
    Ok(connections.len())
}

/// Recovers a node that was restored from a backup, once, and says so in each chat. Returns the
/// number of connections, or `None` if there is nothing to recover.
pub(crate) fn recover_restored(
    tx: &mut Tx<'_>,
    identity: &NodeIdentity,
) -> Result<Option<usize>, Fault> {
    let Some(restoration) = restoration::load(tx)? else {
        return Ok(None);
    };
    if restoration.recovered_at.is_some() {
        return Ok(None);
    }
    let count = recover(tx, identity)?;
    let text = describe_gap(&restoration, restoration.restored_at.unwrap_or(tx.now));
    for id in connections::find_open(tx)? {
        if let Some(chat) = chats::find_direct(tx, id)? {
            conversation::add_system_message(tx, chat, &text)?;
        }
    }
    restoration::complete(tx, count)?;
    Ok(Some(count))
}

fn describe_gap(restoration: &Restoration, restored_at: Timestamp) -> String {
    format!(
        "This node was restored on {} from a backup of {}. It requests what your partner sent in \
         between. What this node sent in between remains with your partner and is missing here, \
         and so are changes to this chat.",
        utc::format_minute(restored_at),
        utc::format_minute(restoration.backed_up_at)
    )
}

fn recover_connection(
    tx: &mut Tx<'_>,
    identity: &NodeIdentity,
    id: ConnectionId,
    at: Timestamp,
) -> Result<(), Fault> {
    let mut loaded = connections::load_secrets(tx, id)?;
    loaded.secrets.discard_sessions(tx.relay_now, tx.rng);
    let publication = loaded
        .secrets
        .renew_prekeys(&identity.keys, tx.relay_now, tx.rng);
    connections::save(tx, &mut loaded)?;
    // An envelope of a discarded session would look to the partner like one of a second node.
    outbox::requeue_unconfirmed(tx, id, Timestamp::default())?;
    if let Some(publication) = &publication {
        pairing::publish_prekeys(tx, id, publication)?;
    }
    if !matches!(loaded.secrets.phase, Phase::Accepting | Phase::Accepted) {
        let why = "this node lost its sessions before the connection was accepted: connect again \
                   with a new invite";
        return connections::set_health(tx, id, HealthState::Broken, Some(why));
    }
    let why = "this node starts new sessions and requests what is missing";
    connections::set_health(tx, id, HealthState::Healing, Some(why))?;
    deliveries::mark_healing(tx, id, why)?;
    healing::queue_session_after_loss(tx, &loaded, at)
}

fn random_delay(tx: &mut Tx<'_>, below: Duration) -> Duration {
    let millis = u64::try_from(below.as_millis()).unwrap_or(u64::MAX);
    Duration::from_millis(tx.rng.next_u64() % millis.max(1))
}

#[cfg(test)]
mod tests;
