//! Invites and connections. Each public function runs in one transaction.

use crate::{
    fault::Fault,
    identity::NodeIdentity,
    store::{
        Tx, chats,
        connections::{self, LoadedConnection, NewConnection},
        deduplication::{self, DigestScope},
        deliveries, invites, outbox, receipts,
        relay_jobs::{self, JobKind, JobSubject},
    },
};
use sealpost_e2ee::{
    SignedCard,
    invite::{Invite, InviteKind as KindOnWire},
    plaintext::Kind,
};
use sealpost_node_core::{
    connection::{
        Connection, Phase, PrekeyPublication, ReceivedRequest, RequestArgs, RequestError,
        truncate_note,
    },
    issued_invite::IssuedInvite,
    model::{
        ChatId, ConnectionId, HealthState, InviteId, InviteKind, InviteStatus, MessageUuid,
        RefusalCode,
    },
};
use sealpost_proto::{
    DeliveryStatus, FailureCode, MailboxId, MailboxRef, Origin, limits, wire::DeliveryOutcome,
};
use std::time::Duration;

/// Options of a new invite.
#[derive(Debug, Clone, Copy)]
pub struct InviteOptions {
    /// Single use or contact address.
    pub kind: InviteKind,
    /// Lifetime of a single-use invite.
    pub lifetime: Duration,
    /// Whether requests are accepted automatically.
    pub auto_accept: bool,
}

/// Creates an invite. The caller must not hand out the URL before the relay jobs have opened the
/// mailbox and published its prekeys.
pub fn create_invite(
    tx: &mut Tx<'_>,
    identity: &NodeIdentity,
    options: InviteOptions,
) -> Result<InviteId, Fault> {
    let mailbox = MailboxRef {
        relay: identity.relay.clone(),
        id: MailboxId::from_bytes(tx.random_bytes()),
    };
    let expires_at = tx.relay_now.plus(options.lifetime);
    let (kind, expires_at, bundle_lifetime) = match options.kind {
        InviteKind::Single => (
            KindOnWire::SingleUse {
                expires: expires_at,
            },
            Some(expires_at),
            options.lifetime,
        ),
        InviteKind::Contact => (KindOnWire::ContactAddress, None, limits::PREKEYS_LIFETIME),
    };
    let invite = Invite::generate(kind, mailbox, *identity.keys.fingerprint(), tx.rng);
    let mut issued = IssuedInvite::new(invite);
    let sealed = generate_invite_bundle(tx, identity, &mut issued, bundle_lifetime)?;
    let id = invites::insert(tx, options.kind, options.auto_accept, expires_at, &issued)?;
    add_invite_jobs(tx, id, &issued, &sealed)?;
    Ok(id)
}

fn generate_invite_bundle(
    tx: &mut Tx<'_>,
    identity: &NodeIdentity,
    issued: &mut IssuedInvite,
    lifetime: Duration,
) -> Result<[u8; limits::SEALED_PREKEYS_BYTES], Fault> {
    issued
        .generate_bundle(
            &identity.keys,
            &identity.card,
            lifetime,
            tx.relay_now,
            tx.rng,
        )
        .ok_or_else(|| Fault::failed("the prekeys of an invite cannot be sealed"))
}

/// Queues the relay jobs that open the mailbox of an invite and publish its prekeys.
fn add_invite_jobs(
    tx: &mut Tx<'_>,
    id: InviteId,
    issued: &IssuedInvite,
    sealed_bundle: &[u8],
) -> Result<(), Fault> {
    let (now, mailbox) = (tx.now, issued.invite.mailbox().id);
    let send_key = issued.invite.send_key();
    let kind = JobKind::OpenMailbox;
    relay_jobs::add(tx, id.into(), kind, &mailbox, send_key.expose(), now)?;
    let kind = JobKind::PublishPrekeys;
    relay_jobs::add(tx, id.into(), kind, &mailbox, sealed_bundle, now)
}

/// Revokes an invite and closes its mailbox.
///
/// # Errors
/// Refuses with `not_found`, or with `conflict` if the invite is no longer open.
pub fn revoke_invite(tx: &mut Tx<'_>, id: InviteId) -> Result<(), Fault> {
    let row = load_invite(tx, id)?;
    if !invites::close(tx, id, InviteStatus::Revoked)? {
        return Err(Fault::refused(
            RefusalCode::Conflict,
            "the invite is no longer open",
        ));
    }
    close_mailbox_after(
        tx,
        id.into(),
        &row.issued.invite.mailbox().id,
        Duration::ZERO,
    )
}

/// Deletes an invite that was never handed out, and closes its mailbox in case the relay has opened
/// the mailbox.
pub(crate) fn discard_invite(tx: &mut Tx<'_>, id: InviteId) -> Result<(), Fault> {
    let row = load_invite(tx, id)?;
    relay_jobs::remove_for_subject(tx, id.into())?;
    invites::delete(tx, id)?;
    close_mailbox_after(
        tx,
        id.into(),
        &row.issued.invite.mailbox().id,
        Duration::ZERO,
    )
}

/// Loads one of our invites.
///
/// # Errors
/// Refuses with `not_found`.
pub fn load_invite(tx: &Tx<'_>, id: InviteId) -> Result<invites::InviteRow, Fault> {
    invites::load(tx, id)?.ok_or_else(|| Fault::not_found("invite", id))
}

/// Reason of the rejection if another request was accepted for a single-use invite.
const USED: &str = "the invite was used before";

fn close_mailbox_after(
    tx: &mut Tx<'_>,
    subject: JobSubject,
    mailbox: &MailboxId,
    delay: Duration,
) -> Result<(), Fault> {
    let at = tx.now.plus(delay);
    relay_jobs::add(tx, subject, JobKind::CloseMailbox, mailbox, &[], at)
}

/// Returns the latest connection that was made with this invite.
pub(crate) fn find_connection_for_invite(
    tx: &Tx<'_>,
    invite: &Invite,
) -> Result<Option<ConnectionId>, Fault> {
    Ok(connections::find_by_invite(tx, &invite.id())?
        .into_iter()
        .next())
}

/// Requests a connection with an invite and the prekeys from its mailbox.
///
/// # Errors
/// Refuses with `invite_untrusted` if the keys do not match the invite's fingerprint, and with
/// `invite_expired` if they have expired.
pub fn connect(
    tx: &mut Tx<'_>,
    identity: &NodeIdentity,
    invite: &Invite,
    sealed_prekeys: &[u8],
    note: Option<&str>,
) -> Result<ConnectionId, Fault> {
    if let Some(known) = find_connection_for_invite(tx, invite)? {
        return Ok(known);
    }
    let args = RequestArgs {
        identity: &identity.keys,
        card: &identity.card,
        relay: &identity.relay,
        invite,
        sealed_prekeys,
        note: note.and_then(truncate_note),
        now: tx.relay_now,
    };
    let requested = Connection::request(&args, tx.rng).map_err(|error| match error {
        RequestError::Untrusted => Fault::refused(RefusalCode::InviteUntrusted, error.to_string()),
        RequestError::Stale => Fault::refused(RefusalCode::InviteExpired, error.to_string()),
    })?;
    let new = NewConnection {
        secrets: &requested.connection,
        contact: card_name(&requested.peer_card),
        note: note.unwrap_or_default(),
        invite: None,
        relay: invite.mailbox().relay.as_str(),
    };
    let id = connections::insert(tx, &new)?;
    open_and_publish_mailbox(tx, id, &requested.publication)?;
    let uuid = MessageUuid::from_bytes(tx.random_bytes());
    let kind = Kind::CONNECTION_REQUEST;
    outbox::add_payload(tx, id, kind, &uuid, &requested.body)?;
    Ok(id)
}

fn card_name(card: &SignedCard) -> &str {
    &card.card().name
}

/// Queues the relay jobs that open a mailbox and publish its prekeys. Both must finish before the
/// mailbox's capability is sent to the peer.
fn open_and_publish_mailbox(
    tx: &mut Tx<'_>,
    id: ConnectionId,
    publication: &PrekeyPublication,
) -> Result<(), Fault> {
    let now = tx.now;
    let mailbox = publication.mailbox.id;
    relay_jobs::add(
        tx,
        id.into(),
        JobKind::OpenMailbox,
        &mailbox,
        publication.mailbox.send_key.expose(),
        now,
    )?;
    publish_prekeys(tx, id, publication)
}

/// Queues the relay job that publishes new prekeys in an open mailbox.
pub(crate) fn publish_prekeys(
    tx: &mut Tx<'_>,
    id: ConnectionId,
    publication: &PrekeyPublication,
) -> Result<(), Fault> {
    let now = tx.now;
    relay_jobs::add(
        tx,
        id.into(),
        JobKind::PublishPrekeys,
        &publication.mailbox.id,
        &publication.sealed_bundle,
        now,
    )
}

/// Stores a request that was received at one of our open invites, and accepts it if the invite was
/// created with auto-accept. A request for an invite that already has too many pending requests is
/// refused and only counted: anybody who has the invite can send any number of them. The earliest
/// requests remain, so that nobody can displace what a person has not seen yet.
pub(crate) fn receive_request(
    tx: &mut Tx<'_>,
    identity: &NodeIdentity,
    invite: &invites::InviteRow,
    request: &ReceivedRequest,
) -> Result<DeliveryOutcome, Fault> {
    if replace_earlier_request(tx, request)? == EarlierRequest::Retained {
        return Ok(DeliveryOutcome::Stored);
    }
    if connections::find_pending(tx, invite.id)?.len() >= limits::PENDING_REQUESTS_MAX {
        invites::count_refused_request(tx, invite.id)?;
        return Ok(DeliveryOutcome::Refused);
    }
    let new = NewConnection {
        secrets: &request.connection,
        contact: card_name(&request.peer_card),
        note: request.note.as_deref().unwrap_or_default(),
        invite: Some(invite.id),
        relay: request
            .connection
            .peer_mailbox
            .as_ref()
            .map_or("", |capability| capability.mailbox.relay.as_str()),
    };
    let id = connections::insert(tx, &new)?;
    deduplication::record_digest(tx, DigestScope::Connection(id), &request.msg_hash)?;
    deduplication::record_uuid(tx, id, &request.message_id)?;
    if invite.auto_accept {
        accept(tx, identity, id)?;
    }
    Ok(DeliveryOutcome::Stored)
}

/// Returns whether an invite can still be used. An expired one has the status `open` until the next
/// maintenance run.
pub(crate) fn is_open(tx: &Tx<'_>, invite: &invites::InviteRow) -> bool {
    let has_expired = invite.expires_at.is_some_and(|end| end <= tx.relay_now);
    invite.status == InviteStatus::Open && !has_expired
}

/// Outcome for an earlier request of the same peer.
#[derive(PartialEq, Eq)]
enum EarlierRequest {
    Retained,
    /// Deleted, or there was none.
    Replaced,
}

/// Resolves several requests of one identity at the same invite: the pending request with the
/// highest session epoch replaces the others. A request that was accepted or rejected is never
/// replaced.
fn replace_earlier_request(
    tx: &Tx<'_>,
    request: &ReceivedRequest,
) -> Result<EarlierRequest, Fault> {
    let invite = &request.connection.invite_id;
    let fingerprint = request.connection.peer.fingerprint();
    for id in connections::find_by_peer(tx, invite, fingerprint.as_bytes())? {
        let earlier = connections::load_secrets(tx, id)?.secrets;
        let is_newer = earlier
            .sessions
            .current_epoch()
            .is_none_or(|epoch| epoch < request.session_epoch);
        if earlier.phase != Phase::RequestReceived || !is_newer {
            return Ok(EarlierRequest::Retained);
        }
        connections::delete_request(tx, id)?;
    }
    Ok(EarlierRequest::Replaced)
}

/// Accepts a request.
///
/// # Errors
/// Refuses with `conflict` if the connection is not a pending incoming request.
pub fn accept(tx: &mut Tx<'_>, identity: &NodeIdentity, id: ConnectionId) -> Result<(), Fault> {
    let mut loaded = connections::load_secrets(tx, id)?;
    let uuid = MessageUuid::from_bytes(tx.random_bytes());
    let (publication, body) = loaded
        .secrets
        .accept(&identity.keys, &identity.relay, uuid, tx.relay_now, tx.rng)
        .map_err(|_| not_pending(id))?;
    connections::save(tx, &mut loaded)?;
    open_and_publish_mailbox(tx, id, &publication)?;
    outbox::add_payload(tx, id, Kind::CONNECTION_ACCEPT, &uuid, &body)?;
    find_or_create_chat(tx, &loaded)?;
    if let Some(invite) = connections::load(tx, id)?.invite
        && load_invite(tx, invite)?.kind == InviteKind::Single
    {
        invites::close(tx, invite, InviteStatus::Used)?;
        // The other pending requests are rejected with a reason; later ones are refused without one.
        for other in connections::find_pending(tx, invite)? {
            reject(tx, other, Some(USED))?;
        }
    }
    set_awaiting_confirmation(tx, id)?;
    connections::record_change(tx, id)
}

/// Shows on the connection why messages wait although it is accepted: before the receipt of the
/// acceptance arrives, only the acceptance is sent.
pub(crate) fn set_awaiting_confirmation(tx: &Tx<'_>, id: ConnectionId) -> Result<(), Fault> {
    let why =
        "the partner has not confirmed the connection yet; messages are sent as soon as it has";
    connections::set_health(tx, id, HealthState::Waiting, Some(why))
}

fn not_pending(id: ConnectionId) -> Fault {
    Fault::refused(
        RefusalCode::Conflict,
        format!("{id} is not a pending incoming request"),
    )
}

/// Returns the direct chat of a connection, and creates it if it does not exist. The chat's uuid is
/// derived from `conn_id`, which is the same on both sides.
pub(crate) fn find_or_create_chat(
    tx: &mut Tx<'_>,
    loaded: &LoadedConnection,
) -> Result<ChatId, Fault> {
    let mut uuid = [0; 16];
    uuid.copy_from_slice(&loaded.secrets.conn_id.as_bytes()[..16]);
    chats::find_or_create_direct(tx, loaded.id, &uuid)
}

/// Rejects a request, with a reason if there is one.
///
/// # Errors
/// Refuses with `conflict` if the connection is not a pending incoming request.
pub fn reject(tx: &mut Tx<'_>, id: ConnectionId, reason: Option<&str>) -> Result<(), Fault> {
    let mut loaded = connections::load_secrets(tx, id)?;
    let body = loaded
        .secrets
        .reject(reason.map(str::to_owned))
        .map_err(|_| not_pending(id))?;
    connections::save(tx, &mut loaded)?;
    let uuid = MessageUuid::from_bytes(tx.random_bytes());
    outbox::add_payload(tx, id, Kind::CONNECTION_REJECT, &uuid, &body)
}

/// Blocks a connection permanently: closes our mailbox and fails unfinished deliveries.
pub fn block(tx: &mut Tx<'_>, id: ConnectionId) -> Result<(), Fault> {
    let mut loaded = connections::load_secrets(tx, id)?;
    if loaded.secrets.phase == Phase::Blocked {
        return Ok(());
    }
    loaded.secrets.block();
    connections::save(tx, &mut loaded)?;
    if let Some(own) = loaded.secrets.own_mailbox.clone() {
        close_mailbox_after(tx, id.into(), &own.id, Duration::ZERO)?;
    }
    receipts::delete_for_connection(tx, id)?;
    fail_deliveries(tx, id, FailureCode::Cancelled)
}

/// Fails the unfinished deliveries to a connection.
pub(crate) fn fail_deliveries(
    tx: &Tx<'_>,
    id: ConnectionId,
    code: FailureCode,
) -> Result<(), Fault> {
    let change = deliveries::StatusChange {
        code: Some(code),
        ..deliveries::StatusChange::default()
    };
    for key in outbox::remove_for_connection(tx, id)? {
        deliveries::advance(tx, key, DeliveryStatus::Failed, &change)?;
    }
    Ok(())
}

/// Schedules the closing of a single-use invite's mailbox, after the peer has confirmed our
/// acceptance. Until then, late requests are refused and counted like those at any invite that is
/// not open.
pub(crate) fn schedule_invite_mailbox_closing(
    tx: &mut Tx<'_>,
    id: ConnectionId,
) -> Result<(), Fault> {
    let Some(invite) = connections::load(tx, id)?.invite else {
        return Ok(());
    };
    let row = load_invite(tx, invite)?;
    if row.kind == InviteKind::Single
        && !relay_jobs::contains(tx, invite.into(), JobKind::CloseMailbox)?
    {
        close_mailbox_after(
            tx,
            invite.into(),
            &row.issued.invite.mailbox().id,
            limits::INVITE_MAILBOX_RETENTION,
        )?;
    }
    Ok(())
}

/// Opens the mailboxes of all open invites and connections again and publishes new prekeys, because
/// the relay has lost the account.
pub(crate) fn reopen_mailboxes(tx: &mut Tx<'_>, identity: &NodeIdentity) -> Result<(), Fault> {
    for row in invites::find_open(tx)? {
        relay_jobs::remove_for_subject(tx, row.id.into())?;
        open_invite_mailbox(tx, identity, row)?;
    }
    for id in connections::find_open(tx)? {
        relay_jobs::remove_for_subject(tx, id.into())?;
        reopen_mailbox(tx, identity, id.into())?;
    }
    Ok(())
}

/// Opens a mailbox again and publishes new prekeys in it, because the relay does not have it: the
/// relay may have been rolled back to a time before it opened the mailbox. It refuses if the mailbox was
/// deleted. Does nothing if the invite or the connection is closed.
pub(crate) fn reopen_mailbox(
    tx: &mut Tx<'_>,
    identity: &NodeIdentity,
    subject: JobSubject,
) -> Result<(), Fault> {
    for kind in [JobKind::OpenMailbox, JobKind::PublishPrekeys] {
        relay_jobs::remove_kind(tx, subject, kind)?;
    }
    match subject {
        JobSubject::Invite(id) => {
            let row = load_invite(tx, id)?;
            let has_expired = row.expires_at.is_some_and(|at| at <= tx.relay_now);
            if row.status != InviteStatus::Open || has_expired {
                return Ok(());
            }
            open_invite_mailbox(tx, identity, row)
        }
        JobSubject::Connection(id) => {
            let mut loaded = connections::load_secrets(tx, id)?;
            if matches!(loaded.secrets.phase, Phase::Rejected | Phase::Blocked) {
                return Ok(());
            }
            let publication = loaded
                .secrets
                .renew_prekeys(&identity.keys, tx.relay_now, tx.rng);
            connections::save(tx, &mut loaded)?;
            match &publication {
                Some(publication) => open_and_publish_mailbox(tx, id, publication),
                None => Ok(()),
            }
        }
    }
}

/// Replaces the prekeys of all open invites, because an earlier copy of this node may have used
/// their secrets since.
pub(crate) fn replace_invite_prekeys(
    tx: &mut Tx<'_>,
    identity: &NodeIdentity,
) -> Result<(), Fault> {
    for mut row in invites::find_open(tx)? {
        if row.expires_at.is_some_and(|at| at <= tx.relay_now) {
            continue;
        }
        row.issued.bundles.clear();
        relay_jobs::remove_for_subject(tx, row.id.into())?;
        open_invite_mailbox(tx, identity, row)?;
    }
    Ok(())
}

/// Queues the relay jobs that open the mailbox of an invite and publish new prekeys in it.
fn open_invite_mailbox(
    tx: &mut Tx<'_>,
    identity: &NodeIdentity,
    mut row: invites::InviteRow,
) -> Result<(), Fault> {
    let lifetime = row
        .expires_at
        .map_or(limits::PREKEYS_LIFETIME, |at| at.since(tx.relay_now));
    let sealed = generate_invite_bundle(tx, identity, &mut row.issued, lifetime)?;
    invites::save(tx, &row)?;
    add_invite_jobs(tx, row.id, &row.issued, &sealed)
}

/// Closes expired single-use invites, and renews the prekeys of contact addresses.
pub(crate) fn maintain_invites(tx: &mut Tx<'_>, identity: &NodeIdentity) -> Result<(), Fault> {
    for mut row in invites::find_due_for_maintenance(tx)? {
        let mailbox = row.issued.invite.mailbox().id;
        if row.kind == InviteKind::Single {
            invites::close(tx, row.id, InviteStatus::Expired)?;
            close_mailbox_after(tx, row.id.into(), &mailbox, Duration::ZERO)?;
        } else if row.issued.is_bundle_rotation_due(tx.relay_now) {
            let lifetime = limits::PREKEYS_LIFETIME;
            let sealed = generate_invite_bundle(tx, identity, &mut row.issued, lifetime)?;
            invites::save(tx, &row)?;
            let now = tx.now;
            let kind = JobKind::PublishPrekeys;
            relay_jobs::add(tx, row.id.into(), kind, &mailbox, &sealed, now)?;
        }
    }
    Ok(())
}

/// Renews old prekeys of connections.
pub(crate) fn maintain_connections(tx: &mut Tx<'_>, identity: &NodeIdentity) -> Result<(), Fault> {
    for id in connections::find_open(tx)? {
        let mut loaded = connections::load_secrets(tx, id)?;
        if !loaded.secrets.is_bundle_rotation_due(tx.relay_now)
            || relay_jobs::contains(tx, id.into(), JobKind::PublishPrekeys)?
        {
            continue;
        }
        if let Some(publication) =
            loaded
                .secrets
                .renew_prekeys(&identity.keys, tx.relay_now, tx.rng)
        {
            connections::save(tx, &mut loaded)?;
            publish_prekeys(tx, id, &publication)?;
        }
    }
    Ok(())
}

/// Returns the relay of an invite's mailbox if it is not our home relay. Connecting to it requires
/// federation, which is not supported yet.
#[must_use]
pub(crate) fn foreign_relay<'a>(identity: &NodeIdentity, invite: &'a Invite) -> Option<&'a Origin> {
    Some(&invite.mailbox().relay).filter(|relay| **relay != identity.relay)
}

#[cfg(test)]
mod tests;
