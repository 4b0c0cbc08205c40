//! Invites and connections: each function is one transaction's worth of change.

use crate::{
    fault::Fault,
    identity::NodeIdentity,
    store::{
        Tx, chats,
        connections::{self, LoadedConnection, NewConnection},
        deliveries, invites,
        opened::{self, DigestScope},
        outbox, receipts,
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
    held_invite::HeldInvite,
    model::{
        ChatId, ConnectionId, HealthState, InviteId, InviteKind, InviteStatus, MessageUuid,
        RefusalCode,
    },
};
use sealpost_proto::{DeliveryStatus, FailureCode, MailboxId, MailboxRef, Origin, limits};
use std::time::Duration;

/// What the maker of an invite asks for.
#[derive(Debug, Clone, Copy)]
pub struct InviteOptions {
    /// How often it may be used.
    pub kind: InviteKind,
    /// How long a single-use invite lives.
    pub lifetime: Duration,
    /// Whether requests are accepted without asking.
    pub auto_accept: bool,
}

/// Creates an invite. The caller waits until the relay jobs have published its mailbox and prekeys
/// before it hands out the URL.
pub fn create_invite(
    tx: &mut Tx<'_>,
    identity: &NodeIdentity,
    terms: InviteOptions,
) -> Result<InviteId, Fault> {
    let mailbox = MailboxRef {
        relay: identity.relay.clone(),
        id: MailboxId::from_bytes(tx.random_bytes()),
    };
    let expires_at = tx.now.plus(terms.lifetime);
    let (kind, expires_at, base_life) = match terms.kind {
        InviteKind::Single => (
            KindOnWire::SingleUse {
                expires: expires_at,
            },
            Some(expires_at),
            terms.lifetime,
        ),
        InviteKind::Contact => (KindOnWire::ContactAddress, None, limits::PREKEYS_LIFETIME),
    };
    let invite = Invite::generate(kind, mailbox, *identity.keys.fingerprint(), tx.rng);
    let mut held = HeldInvite::new(invite);
    let sealed = held
        .generate_base(&identity.keys, &identity.card, base_life, tx.now, tx.rng)
        .ok_or_else(|| Fault::failed("the prekeys of an invite cannot be sealed"))?;
    let id = invites::insert(tx, terms.kind, terms.auto_accept, expires_at, &held)?;
    let mailbox = held.invite.mailbox().id;
    let now = tx.now;
    relay_jobs::add(
        tx,
        id.into(),
        JobKind::OpenMailbox,
        &mailbox,
        held.invite.send_key().expose(),
        now,
    )?;
    let kind = JobKind::PublishPrekeys;
    relay_jobs::add(tx, id.into(), kind, &mailbox, &sealed, now)?;
    Ok(id)
}

/// Revokes an invite and closes its mailbox.
///
/// # Errors
/// Refuses with `not_found`, or `conflict` when it is not open any more.
pub fn revoke_invite(tx: &mut Tx<'_>, id: InviteId) -> Result<(), Fault> {
    let row = load_invite(tx, id)?;
    if !invites::close(tx, id, InviteStatus::Revoked)? {
        return Err(Fault::refused(
            RefusalCode::Conflict,
            "the invite is no longer open",
        ));
    }
    close_mailbox_after(tx, id.into(), &row.held.invite.mailbox().id, Duration::ZERO)
}

/// Deletes an invite that was never handed out, and closes its mailbox in case the relay opened it.
pub fn discard_invite(tx: &mut Tx<'_>, id: InviteId) -> Result<(), Fault> {
    let row = load_invite(tx, id)?;
    relay_jobs::remove_for_subject(tx, id.into())?;
    invites::delete(tx, id)?;
    close_mailbox_after(tx, id.into(), &row.held.invite.mailbox().id, Duration::ZERO)
}

/// Loads an invite of ours.
///
/// # Errors
/// Refuses with `not_found`.
pub fn load_invite(tx: &Tx<'_>, id: InviteId) -> Result<invites::InviteRow, Fault> {
    invites::load(tx, id)?.ok_or_else(|| Fault::not_found("invite", id))
}

/// The reason for everybody but the first at a single-use invite.
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

/// Returns the connection that was made with this invite before.
pub fn find_connection_for_invite(
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
/// Refuses with `invite_untrusted` when the keys do not match the invite's fingerprint, and with
/// `invite_expired` when they have expired.
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
        now: tx.now,
    };
    let requested = Connection::request(&args, tx.rng).map_err(|error| match error {
        RequestError::Untrusted => Fault::refused(RefusalCode::InviteUntrusted, error.to_string()),
        RequestError::Stale => Fault::refused(RefusalCode::InviteExpired, error.to_string()),
    })?;
    let new = NewConnection {
        secrets: &requested.connection,
        contact: contact_name(&requested.peer_card),
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

fn contact_name(card: &SignedCard) -> &str {
    &card.card().name
}

/// Opens a mailbox and publishes its prekeys, before the capability for it is sent.
fn open_and_publish_mailbox(
    tx: &mut Tx<'_>,
    id: ConnectionId,
    publishing: &PrekeyPublication,
) -> Result<(), Fault> {
    let now = tx.now;
    let mailbox = publishing.mailbox.id;
    relay_jobs::add(
        tx,
        id.into(),
        JobKind::OpenMailbox,
        &mailbox,
        publishing.mailbox.send_key.expose(),
        now,
    )?;
    publish_prekeys(tx, id, publishing)
}

/// Publishes fresh prekeys in an open mailbox.
pub fn publish_prekeys(
    tx: &mut Tx<'_>,
    id: ConnectionId,
    publishing: &PrekeyPublication,
) -> Result<(), Fault> {
    let now = tx.now;
    relay_jobs::add(
        tx,
        id.into(),
        JobKind::PublishPrekeys,
        &publishing.mailbox.id,
        &publishing.sealed_base,
        now,
    )
}

/// What becomes of a request that opened at an invite of ours.
pub fn receive_request(
    tx: &mut Tx<'_>,
    identity: &NodeIdentity,
    invite: &invites::InviteRow,
    asked: &ReceivedRequest,
) -> Result<(), Fault> {
    if replace_earlier_request(tx, asked)? == Earlier::Stays {
        return Ok(());
    }
    // An invite past its end stays open until it is tended.
    let is_past = invite.expires_at.is_some_and(|end| end <= tx.now);
    let refusal = match invite.status {
        InviteStatus::Open if !is_past => None,
        InviteStatus::Open | InviteStatus::Expired => Some("the invite has expired"),
        InviteStatus::Revoked => Some("the invite was revoked"),
        InviteStatus::Used => Some(USED),
    };
    let new = NewConnection {
        secrets: &asked.connection,
        contact: contact_name(&asked.peer_card),
        note: asked.note.as_deref().unwrap_or_default(),
        invite: Some(invite.id),
        relay: asked
            .connection
            .peer_mailbox
            .as_ref()
            .map_or("", |way| way.mailbox.relay.as_str()),
    };
    let id = connections::insert(tx, &new)?;
    opened::record_digest(tx, DigestScope::Connection(id), &asked.msg_hash)?;
    opened::record_uuid(tx, id, &asked.message_id)?;
    match refusal {
        Some(why) => reject(tx, id, Some(why)),
        None if invite.auto_accept => accept(tx, identity, id),
        None => delete_excess_requests(tx, invite),
    }
}

#[derive(PartialEq, Eq)]
enum Earlier {
    Stays,
    Gone,
}

/// Of several waiting requests of one identity the one with the highest epoch counts; an identity
/// that is connected already stays so until a person decides.
fn replace_earlier_request(tx: &Tx<'_>, asked: &ReceivedRequest) -> Result<Earlier, Fault> {
    let fingerprint = asked.connection.peer.fingerprint();
    for id in connections::find_by_invite(tx, &asked.connection.invite_id)? {
        let earlier = connections::load_secrets(tx, id)?.secrets;
        if earlier.peer.fingerprint() != fingerprint {
            continue;
        }
        let is_newer = earlier
            .sessions
            .current_epoch()
            .is_none_or(|epoch| epoch < asked.session_epoch);
        if earlier.phase != Phase::RequestReceived || !is_newer {
            return Ok(Earlier::Stays);
        }
        connections::delete_request(tx, id)?;
    }
    Ok(Earlier::Gone)
}

/// At most 100 requests wait at an invite; the oldest goes.
fn delete_excess_requests(tx: &Tx<'_>, invite: &invites::InviteRow) -> Result<(), Fault> {
    let waiting = connections::find_waiting(tx, invite.id)?;
    waiting
        .into_iter()
        .skip(limits::PENDING_REQUESTS_MAX)
        .try_for_each(|id| connections::delete_request(tx, id))
}

/// Accepts a request.
///
/// # Errors
/// Refuses with `conflict` when there is nothing to answer.
pub fn accept(tx: &mut Tx<'_>, identity: &NodeIdentity, id: ConnectionId) -> Result<(), Fault> {
    let mut loaded = connections::load_secrets(tx, id)?;
    let uuid = MessageUuid::from_bytes(tx.random_bytes());
    let (publishing, body) = loaded
        .secrets
        .accept(&identity.keys, &identity.relay, uuid, tx.now, tx.rng)
        .map_err(|_| not_waiting(id))?;
    connections::save(tx, &mut loaded)?;
    open_and_publish_mailbox(tx, id, &publishing)?;
    outbox::add_payload(tx, id, Kind::CONNECTION_ACCEPT, &uuid, &body)?;
    find_or_create_chat(tx, &loaded)?;
    if let Some(invite) = connections::load(tx, id)?.invite
        && load_invite(tx, invite)?.kind == InviteKind::Single
    {
        invites::close(tx, invite, InviteStatus::Used)?;
        // Requests that wait beside this one get the same answer as later ones.
        for other in connections::find_waiting(tx, invite)? {
            reject(tx, other, Some(USED))?;
        }
    }
    set_awaiting_confirmation(tx, id)?;
    connections::record_change(tx, id)
}

/// Notes why messages wait although the connection is accepted: nothing else is sent before the
/// receipt of the accept.
pub fn set_awaiting_confirmation(tx: &Tx<'_>, id: ConnectionId) -> Result<(), Fault> {
    let why = "the peer has not confirmed the connection yet; messages are sent as soon as it has";
    connections::set_health(tx, id, HealthState::Waiting, Some(why))
}

fn not_waiting(id: ConnectionId) -> Fault {
    Fault::refused(
        RefusalCode::Conflict,
        format!("{id} is not a request that waits for an answer"),
    )
}

/// Opens the direct chat. Its uuid is the same on both sides because it is derived from the
/// connection.
pub fn find_or_create_chat(tx: &mut Tx<'_>, loaded: &LoadedConnection) -> Result<ChatId, Fault> {
    let mut uuid = [0; 16];
    uuid.copy_from_slice(&loaded.secrets.conn_id.as_bytes()[..16]);
    chats::find_or_create_direct(tx, loaded.id, &uuid)
}

/// Rejects a request, with a reason if there is one.
///
/// # Errors
/// Refuses with `conflict` when there is nothing to answer.
pub fn reject(tx: &mut Tx<'_>, id: ConnectionId, why: Option<&str>) -> Result<(), Fault> {
    let mut loaded = connections::load_secrets(tx, id)?;
    let body = loaded
        .secrets
        .reject(why.map(str::to_owned))
        .map_err(|_| not_waiting(id))?;
    connections::save(tx, &mut loaded)?;
    let uuid = MessageUuid::from_bytes(tx.random_bytes());
    outbox::add_payload(tx, id, Kind::CONNECTION_REJECT, &uuid, &body)
}

/// Blocks a connection for good: closes our mailbox and fails open deliveries.
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

/// Fails all messages that are on their way to a connection.
pub fn fail_deliveries(tx: &Tx<'_>, id: ConnectionId, code: FailureCode) -> Result<(), Fault> {
    let change = deliveries::StatusChange {
        code: Some(code),
        ..deliveries::StatusChange::default()
    };
    for key in outbox::remove_for_connection(tx, id)? {
        deliveries::advance(tx, key, DeliveryStatus::Failed, &change)?;
    }
    Ok(())
}

/// Closes the invite's mailbox a day after the peer has learned that we accepted.
pub fn schedule_invite_mailbox_closing(tx: &mut Tx<'_>, id: ConnectionId) -> Result<(), Fault> {
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
            &row.held.invite.mailbox().id,
            limits::INVITE_MAILBOX_RETENTION,
        )?;
    }
    Ok(())
}

/// Closes single-use invites that have expired, and publishes fresh prekeys for contact addresses
/// every week.
pub fn maintain_invites(tx: &mut Tx<'_>, identity: &NodeIdentity) -> Result<(), Fault> {
    for mut row in invites::find_due_for_maintenance(tx)? {
        let mailbox = row.held.invite.mailbox().id;
        if row.kind == InviteKind::Single {
            invites::close(tx, row.id, InviteStatus::Expired)?;
            close_mailbox_after(tx, row.id.into(), &mailbox, Duration::ZERO)?;
        } else if row.held.is_base_rotation_due(tx.now) {
            let sealed = row.held.generate_base(
                &identity.keys,
                &identity.card,
                limits::PREKEYS_LIFETIME,
                tx.now,
                tx.rng,
            );
            let sealed =
                sealed.ok_or_else(|| Fault::failed("the prekeys of an invite cannot be sealed"))?;
            invites::save(tx, &row)?;
            let now = tx.now;
            let kind = JobKind::PublishPrekeys;
            relay_jobs::add(tx, row.id.into(), kind, &mailbox, &sealed, now)?;
        }
    }
    Ok(())
}

/// Replaces prekeys of connections that were not used for a week.
pub fn maintain_connections(tx: &mut Tx<'_>, identity: &NodeIdentity) -> Result<(), Fault> {
    for id in connections::find_open(tx)? {
        let mut loaded = connections::load_secrets(tx, id)?;
        if !loaded.secrets.is_base_rotation_due(tx.now)
            || relay_jobs::contains(tx, id.into(), JobKind::PublishPrekeys)?
        {
            continue;
        }
        if let Some(publishing) = loaded.secrets.renew_prekeys(&identity.keys, tx.now, tx.rng) {
            connections::save(tx, &mut loaded)?;
            publish_prekeys(tx, id, &publishing)?;
        }
    }
    Ok(())
}

/// The relay that an invite's mailbox is at, when it is not our own: connecting there waits for
/// federation.
#[must_use]
pub fn foreign_relay<'a>(identity: &NodeIdentity, invite: &'a Invite) -> Option<&'a Origin> {
    Some(&invite.mailbox().relay).filter(|relay| **relay != identity.relay)
}

#[cfg(test)]
mod tests;
