//! Healing of connections: new sessions, and messages and receipts that are sent again, so that
//! nothing that was accepted is lost when a session is replaced or a node is restored
//! (docs/e2ee.md#healing).

use crate::{
    fault::Fault,
    identity::NodeIdentity,
    pairing,
    store::{
        Tx,
        connections::{self, LoadedConnection},
        deduplication, deliveries,
        outbox::{self, OutboxState},
        postings::{self, ReceivedMessage},
        receipts,
        relay_jobs::{self, JobKind, SessionStart},
    },
};
use sealpost_e2ee::{
    payload::{ReceiptKind, Resend, Resume, Void},
    plaintext::Kind,
    sessions::{InitReason, RejectReason},
};
use sealpost_node_core::{
    connection::StartedSession,
    model::{ConnectionId, ConnectionWarning, HealthState, MessageUuid},
};
use sealpost_proto::{Timestamp, limits};

/// Queues the rotation of a session that is due for it. The current session remains in use until
/// then.
pub(crate) fn rotate_if_due(
    tx: &mut Tx<'_>,
    identity: &NodeIdentity,
    loaded: &LoadedConnection,
) -> Result<(), Fault> {
    if loaded.secrets.is_rotation_due(&identity.keys, tx.relay_now) {
        let now = tx.now;
        queue_session(tx, loaded, InitReason::Rotate, now)?;
    }
    Ok(())
}

/// Queues a session that replaces all earlier ones, which this node has lost.
pub(crate) fn queue_session_after_loss(
    tx: &mut Tx<'_>,
    loaded: &LoadedConnection,
    at: Timestamp,
) -> Result<(), Fault> {
    relay_jobs::remove_kind(tx, loaded.id.into(), JobKind::StartSession)?;
    queue_session(tx, loaded, InitReason::Restore, at)
}

/// Queues a session that replaces the current one.
pub(crate) fn queue_session(
    tx: &mut Tx<'_>,
    loaded: &LoadedConnection,
    reason: InitReason,
    at: Timestamp,
) -> Result<(), Fault> {
    let start = SessionStart {
        reason,
        is_obsolete_when_confirmed: false,
        replaces: loaded.secrets.sessions.current_id(),
    };
    queue_session_start(tx, loaded, start, at)
}

fn queue_session_start(
    tx: &mut Tx<'_>,
    loaded: &LoadedConnection,
    start: SessionStart,
    at: Timestamp,
) -> Result<(), Fault> {
    let Some(capability) = &loaded.secrets.peer_mailbox else {
        return Ok(());
    };
    let subject = loaded.id.into();
    if relay_jobs::contains(tx, subject, JobKind::StartSession)? {
        return Ok(());
    }
    let mailbox = capability.mailbox.id;
    relay_jobs::add(
        tx,
        subject,
        JobKind::StartSession,
        &mailbox,
        &start.encode(),
        at,
    )
}

/// Starts a new session with the peer's prekeys, unless the job is obsolete. If the prekeys are
/// unusable, keeps the current session, or tries again later if there is none. Returns whether a
/// session was started.
pub fn start_session(
    tx: &mut Tx<'_>,
    identity: &NodeIdentity,
    connection: ConnectionId,
    start: SessionStart,
    sealed_bundle: &[u8],
) -> Result<bool, Fault> {
    let mut loaded = connections::load_secrets(tx, connection)?;
    let sessions = &loaded.secrets.sessions;
    if start.is_obsolete(sessions) {
        // The peer has started a session in the meantime, or has confirmed the one that it did not
        // know.
        if start.reason == InitReason::Restore {
            request_missing(tx, &loaded, Timestamp::default())?;
        }
        return Ok(false);
    }
    let started = loaded.secrets.start_session(
        &identity.keys,
        sealed_bundle,
        start.reason,
        tx.relay_now,
        tx.rng,
    );
    if let Err(error) = started {
        tracing::warn!(
            %connection,
            %error,
            "the session was not replaced; the current one remains in use"
        );
        if loaded.secrets.sessions.current_id().is_none() {
            let at = tx.now.plus(limits::SESSION_RETRY_INTERVAL);
            queue_session_after_loss(tx, &loaded, at)?;
        }
        return Ok(false);
    }
    tracing::info!(%connection, reason = ?start.reason, "started a new session");
    // A node that was rolled back without noticing it has no secrets of the bundle at the relay.
    let publication = match start.reason {
        InitReason::Desync => loaded
            .secrets
            .renew_prekeys(&identity.keys, tx.relay_now, tx.rng),
        _ => None,
    };
    connections::save(tx, &mut loaded)?;
    if let Some(publication) = &publication {
        pairing::publish_prekeys(tx, connection, publication)?;
    }
    let now = tx.now;
    send_again(tx, connection, None, now)?;
    request_missing(tx, &loaded, Timestamp::default())?;
    // What is sent next carries the INIT.
    ensure_init_is_sent(tx, connection)?;
    Ok(true)
}

/// Queues an empty request to the peer if nothing else waits to be sent, so that the new session
/// becomes known to the peer, or confirmed there.
fn ensure_init_is_sent(tx: &mut Tx<'_>, connection: ConnectionId) -> Result<(), Fault> {
    if outbox::has_waiting(tx, connection)? {
        return Ok(());
    }
    queue_resend(tx, connection, &Resend::default(), Timestamp::default())
}

/// Queues a request or a notice of the kind `resend`, which is sealed at `at` at the earliest.
pub(crate) fn queue_resend(
    tx: &mut Tx<'_>,
    connection: ConnectionId,
    resend: &Resend,
    at: Timestamp,
) -> Result<(), Fault> {
    let uuid = MessageUuid::from_bytes(tx.random_bytes());
    outbox::add_payload_at(tx, connection, Kind::RESEND, &uuid, &resend.encode(), at)
}

/// Queues requests for everything that has not arrived, one for each incarnation of the peer.
fn request_missing(tx: &mut Tx<'_>, loaded: &LoadedConnection, at: Timestamp) -> Result<(), Fault> {
    for request in loaded.secrets.request_missing() {
        queue_resend(tx, loaded.id, &request, at)?;
    }
    Ok(())
}

/// Handles a session that the peer has started.
pub(crate) fn join_session(
    tx: &mut Tx<'_>,
    identity: &NodeIdentity,
    loaded: &mut LoadedConnection,
    started: &StartedSession,
) -> Result<(), Fault> {
    let id = loaded.id;
    let at = schedule_answer(tx, loaded)?;
    match &started.resume {
        Some(resume) if loaded.secrets.is_ahead(resume) => {
            send_again(tx, id, None, at)?;
            recover_connection(tx, identity, loaded, at)?;
        }
        Some(resume) => {
            send_again(tx, id, Some(resume), at)?;
            answer_resume(tx, loaded, resume, at)?;
        }
        None => send_again(tx, id, None, at)?,
    }
    match started.reason {
        InitReason::Restore => {
            deliveries::mark_healing(
                tx,
                id,
                "the partner's node lost its sessions; the message is sent again",
            )?;
        }
        InitReason::Desync => {
            let why = "the partner's node could not open a message; it is sent again";
            deliveries::mark_healing(tx, id, why)?;
        }
        InitReason::Pairing | InitReason::Rotate => {}
    }
    request_missing(tx, loaded, Timestamp::default())?;
    ensure_init_is_sent(tx, id)
}

/// Requeues everything that the peer may be unable to open after a change of session: what has no
/// receipt yet and has not arrived as far as the peer states it. Receipts that were lost with the
/// session are asked for.
fn send_again(
    tx: &mut Tx<'_>,
    connection: ConnectionId,
    arrived: Option<&Resume>,
    at: Timestamp,
) -> Result<(), Fault> {
    outbox::requeue_unconfirmed(tx, connection, at)?;
    if let Some(arrived) = arrived {
        for row in outbox::load_numbered(tx, connection, arrived.incarnation, 0)? {
            if arrived.contains(row.seq) && row.state == OutboxState::Waiting {
                outbox::set_arrived(tx, row.id)?;
            }
        }
    }
    if at > tx.now {
        return Ok(());
    }
    query_receipts(tx, connection)
}

/// Asks the peer for the receipts of messages that have arrived and that nobody has read yet, as
/// far as this node knows: such a receipt is not confirmed, so its sender cannot know that it was
/// lost.
fn query_receipts(tx: &mut Tx<'_>, connection: ConnectionId) -> Result<(), Fault> {
    connections::set_receipts_queried(tx, connection)?;
    let since = tx.now.minus(limits::RECEIPT_QUERY_AGE_MAX);
    let unread = deliveries::find_unread(tx, connection, since, limits::RECEIPTS_QUERIED_MAX)?;
    for query in unread.chunks(limits::RECEIPT_IDS_MAX) {
        queue_query(tx, connection, query.to_vec())?;
    }
    Ok(())
}

fn queue_query(
    tx: &mut Tx<'_>,
    connection: ConnectionId,
    query: Vec<MessageUuid>,
) -> Result<(), Fault> {
    let request = Resend {
        query,
        ..Resend::default()
    };
    queue_resend(tx, connection, &request, Timestamp::default())
}

/// Sends the receipts of a message again that has arrived again.
pub(crate) fn repeat_receipts_for(
    tx: &Tx<'_>,
    connection: ConnectionId,
    uuid: &MessageUuid,
) -> Result<(), Fault> {
    match postings::find_received(tx, connection, uuid)? {
        Some(message) => repeat_receipts(tx, connection, &message),
        None => Ok(()),
    }
}

fn repeat_receipts(
    tx: &Tx<'_>,
    connection: ConnectionId,
    message: &ReceivedMessage,
) -> Result<(), Fault> {
    let at = message.received_at;
    receipts::repeat(tx, connection, &message.uuid, ReceiptKind::DELIVERED, at)?;
    if message.is_reported_read {
        receipts::repeat(tx, connection, &message.uuid, ReceiptKind::READ, at)?;
    }
    for blob in &message.downloaded {
        let id = MessageUuid::from_bytes(*blob.as_bytes());
        receipts::repeat(tx, connection, &id, ReceiptKind::FETCHED, at)?;
    }
    Ok(())
}

/// Schedules a session that replaces the current one, because an envelope cannot be opened. If it
/// belongs to an unknown session and an INIT of this side is on its way, that one is repeated first.
pub(crate) fn schedule_session(
    tx: &mut Tx<'_>,
    loaded: &mut LoadedConnection,
    why: &RejectReason,
) -> Result<(), Fault> {
    let is_init_sent = matches!(why, RejectReason::UnknownSession)
        && loaded.secrets.sessions.has_unconfirmed_init();
    if is_init_sent {
        schedule_resume(tx, loaded)?;
    }
    if relay_jobs::contains(tx, loaded.id.into(), JobKind::StartSession)? {
        return Ok(());
    }
    let scheduled = loaded.secrets.session_repairs.schedule(tx.now);
    connections::save(tx, loaded)?;
    if scheduled.is_excessive {
        tracing::warn!(connection = %loaded.id, "the session had to be replaced many times today");
        connections::set_warning(tx, loaded.id, ConnectionWarning::ManyRepairs)?;
    }
    let start = SessionStart {
        reason: InitReason::Desync,
        is_obsolete_when_confirmed: is_init_sent,
        replaces: loaded.secrets.sessions.current_id(),
    };
    let at = if is_init_sent {
        let answered_by = tx.now.plus(limits::REPAIR_INTERVAL_FIRST);
        scheduled.at.max(answered_by)
    } else {
        scheduled.at
    };
    queue_session_start(tx, loaded, start, at)
}

/// Schedules a request to the peer to send again what has not arrived.
pub(crate) fn schedule_resume(tx: &mut Tx<'_>, loaded: &mut LoadedConnection) -> Result<(), Fault> {
    if outbox::is_waiting(tx, loaded.id, Kind::RESEND)? {
        return Ok(());
    }
    let scheduled = loaded.secrets.resume_repairs.schedule(tx.now);
    connections::save(tx, loaded)?;
    request_missing(tx, loaded, scheduled.at)
}

/// Returns when to send again what the peer asks for: at once, unless it asks too often.
fn schedule_answer(tx: &mut Tx<'_>, loaded: &mut LoadedConnection) -> Result<Timestamp, Fault> {
    let immediate = limits::IMMEDIATE_RESENDS_PER_DAY_MAX;
    let scheduled = loaded.secrets.answers.schedule_after(immediate, tx.now);
    connections::save(tx, loaded)?;
    Ok(scheduled.at)
}

/// Handles a request of the peer to send messages again.
pub(crate) fn answer_resend(
    tx: &mut Tx<'_>,
    identity: &NodeIdentity,
    loaded: &mut LoadedConnection,
    request: &Resend,
) -> Result<(), Fault> {
    if let Some(resume) = &request.resume {
        let at = schedule_answer(tx, loaded)?;
        // If this node was rolled back, a number can state that another message has arrived.
        outbox::requeue_queried(tx, loaded.id, at)?;
        if loaded.secrets.is_ahead(resume) {
            recover_connection(tx, identity, loaded, at)?;
        } else {
            answer_resume(tx, loaded, resume, at)?;
        }
    }
    if !request.query.is_empty() {
        answer_query(tx, loaded, &request.query)?;
    }
    Ok(())
}

/// Sends the receipts again of the messages that are stored, and asks for the others.
fn answer_query(
    tx: &mut Tx<'_>,
    loaded: &mut LoadedConnection,
    ids: &[MessageUuid],
) -> Result<(), Fault> {
    let mut is_complete = true;
    for uuid in ids {
        if let Some(message) = postings::find_received(tx, loaded.id, uuid)? {
            repeat_receipts(tx, loaded.id, &message)?;
        } else if deduplication::has_uuid(tx, loaded.id, uuid)? {
            receipts::add(tx, loaded.id, uuid, ReceiptKind::DELIVERED)?;
        } else {
            is_complete = false;
        }
    }
    if is_complete {
        return Ok(());
    }
    schedule_resume(tx, loaded)
}

/// Queues the messages again that the peer does not have, and reports the numbers of those that
/// will not be sent.
fn answer_resume(
    tx: &mut Tx<'_>,
    loaded: &LoadedConnection,
    resume: &Resume,
    at: Timestamp,
) -> Result<(), Fault> {
    let rows = outbox::load_numbered(tx, loaded.id, resume.incarnation, resume.upto)?;
    let mut void = Vec::new();
    let mut expected = resume.upto.saturating_add(1);
    let own = &loaded.secrets;
    let end = if resume.incarnation == own.incarnation {
        own.next_seq
    } else {
        expected.saturating_add(8 * resume.bitmap.len() as u64)
    };
    for row in &rows {
        void.extend(
            (expected..row.seq)
                .filter(|seq| !resume.contains(*seq))
                .take(VOID_MAX),
        );
        expected = row.seq + 1;
        if !resume.contains(row.seq) && row.state != OutboxState::Waiting {
            outbox::requeue_at(tx, row.id, at)?;
        }
    }
    void.extend(
        (expected..end)
            .filter(|seq| !resume.contains(*seq))
            .take(VOID_MAX),
    );
    void.truncate(VOID_MAX);
    if void.is_empty() {
        return Ok(());
    }
    let notice = Resend {
        void: Some(Void {
            incarnation: resume.incarnation,
            seqs: void,
        }),
        ..Resend::default()
    };
    queue_resend(tx, loaded.id, &notice, at)
}

const VOID_MAX: usize = limits::VOID_SEQS_MAX;

/// Recovers a connection whose state is older than what the peer has received. Only this connection
/// gets a new incarnation and a new session, at a limited rate, because the peer can claim to have
/// received anything. `at` is when the messages without a receipt are sent again.
fn recover_connection(
    tx: &mut Tx<'_>,
    identity: &NodeIdentity,
    loaded: &mut LoadedConnection,
    at: Timestamp,
) -> Result<(), Fault> {
    let id = loaded.id;
    tracing::warn!(
        connection = %id,
        "the partner has received more than this node has sent: this node was rolled back, or a \
         second node runs with its identity; starting a new session"
    );
    // The peer has other messages under the numbers of these.
    outbox::forget_numbers(tx, id, loaded.secrets.incarnation, at)?;
    loaded.secrets.renew_incarnation(tx.rng);
    connections::set_warning(tx, id, ConnectionWarning::RolledBack)?;
    if relay_jobs::contains(tx, id.into(), JobKind::StartSession)? {
        return connections::save(tx, loaded);
    }
    let scheduled = loaded.secrets.session_repairs.schedule(tx.now);
    let publication = loaded
        .secrets
        .renew_prekeys(&identity.keys, tx.relay_now, tx.rng);
    connections::save(tx, loaded)?;
    if let Some(publication) = &publication {
        pairing::publish_prekeys(tx, id, publication)?;
    }
    if scheduled.is_excessive {
        connections::set_warning(tx, id, ConnectionWarning::ManyRepairs)?;
    }
    let why = "the partner has received more than this node has sent; a new session is started";
    connections::set_health(tx, id, HealthState::Healing, Some(why))?;
    deliveries::mark_healing(tx, id, why)?;
    queue_session(tx, loaded, InitReason::Restore, scheduled.at)
}

/// Asks the peers about messages that the relay has accepted and for which no receipt arrived, and
/// from time to time about those that nobody has read yet.
pub(crate) fn query_overdue(tx: &mut Tx<'_>) -> Result<(), Fault> {
    for (connection, query) in outbox::postpone_overdue(tx, limits::RECEIPT_IDS_MAX)? {
        if !outbox::is_waiting(tx, connection, Kind::RESEND)? {
            outbox::record_query(tx, connection, &query)?;
            queue_query(tx, connection, query)?;
        }
    }
    for connection in connections::find_unqueried(tx, limits::READ_RECEIPT_QUERY_INTERVAL)? {
        // Requests that cannot be sent yet must not accumulate.
        if !outbox::is_waiting(tx, connection, Kind::RESEND)? {
            query_receipts(tx, connection)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
