//! Invites and connections: each function is one transaction's worth of change.

use crate::{
    fault::Fault,
    identity::NodeIdentity,
    store::{
        Tx, chats,
        connections::{self, Loaded, NewConnection},
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
pub struct InviteTerms {
    /// How often it may be used.
    pub kind: InviteKind,
    /// How long a single-use invite lives.
    pub life: Duration,
    /// Whether requests are accepted without asking.
    pub auto_accept: bool,
}

/// Creates an invite. The caller waits until the relay jobs have published its mailbox and prekeys
/// before it hands out the URL.
pub fn make_invite(
    tx: &mut Tx<'_>,
    identity: &NodeIdentity,
    terms: InviteTerms,
) -> Result<InviteId, Fault> {
    let mailbox = MailboxRef {
        relay: identity.relay.clone(),
        id: MailboxId::from_bytes(tx.random()),
    };
    let expires_at = tx.now.plus(terms.life);
    let (kind, expires_at, base_life) = match terms.kind {
        InviteKind::Single => (
            KindOnWire::SingleUse {
                expires: expires_at,
            },
            Some(expires_at),
            terms.life,
        ),
        InviteKind::Contact => (KindOnWire::ContactAddress, None, limits::PREKEYS_LIFETIME),
    };
    let invite = Invite::generate(kind, mailbox, *identity.keys.fingerprint(), tx.rng);
    let mut held = HeldInvite::new(invite);
    let sealed = held
        .publish_base(&identity.keys, &identity.card, base_life, tx.now, tx.rng)
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
    relay_jobs::remove_subject(tx, id.into())?;
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
pub fn connection_for_invite(tx: &Tx<'_>, invite: &Invite) -> Result<Option<ConnectionId>, Fault> {
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
    if let Some(known) = connection_for_invite(tx, invite)? {
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
    publish(tx, id, &requested.publication)?;
    let uuid = MessageUuid::from_bytes(tx.random());
    let kind = Kind::CONNECTION_REQUEST;
    outbox::add_payload(tx, id, kind, &uuid, &requested.body)?;
    Ok(id)
}

fn contact_name(card: &SignedCard) -> &str {
    &card.card().name
}

/// Opens a mailbox and publishes its prekeys, before the capability for it is sent.
fn publish(tx: &mut Tx<'_>, id: ConnectionId, publishing: &PrekeyPublication) -> Result<(), Fault> {
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
    publish_base(tx, id, publishing)
}

/// Publishes fresh prekeys in an open mailbox.
pub fn publish_base(
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
pub fn on_request(
    tx: &mut Tx<'_>,
    identity: &NodeIdentity,
    invite: &invites::InviteRow,
    asked: &ReceivedRequest,
) -> Result<(), Fault> {
    if same_peer(tx, asked)? == Earlier::Stays {
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
            .outbound
            .as_ref()
            .map_or("", |way| way.mailbox.relay.as_str()),
    };
    let id = connections::insert(tx, &new)?;
    opened::add_digest(tx, DigestScope::Connection(id), &asked.msg_hash)?;
    opened::add_uuid(tx, id, &asked.message_id)?;
    match refusal {
        Some(why) => reject(tx, id, Some(why)),
        None if invite.auto_accept => accept(tx, identity, id),
        None => delete_overflow(tx, invite),
    }
}

#[derive(PartialEq, Eq)]
enum Earlier {
    Stays,
    Gone,
}

/// Of several waiting requests of one identity the one with the highest epoch counts; an identity that is connected
/// already stays so until a person decides.
fn same_peer(tx: &Tx<'_>, asked: &ReceivedRequest) -> Result<Earlier, Fault> {
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
fn delete_overflow(tx: &Tx<'_>, invite: &invites::InviteRow) -> Result<(), Fault> {
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
    let uuid = MessageUuid::from_bytes(tx.random());
    let (publishing, body) = loaded
        .secrets
        .accept(&identity.keys, &identity.relay, uuid, tx.now, tx.rng)
        .map_err(|_| not_waiting(id))?;
    connections::save(tx, &mut loaded)?;
    publish(tx, id, &publishing)?;
    outbox::add_payload(tx, id, Kind::CONNECTION_ACCEPT, &uuid, &body)?;
    open_chat(tx, &loaded)?;
    if let Some(invite) = connections::load(tx, id)?.invite
        && load_invite(tx, invite)?.kind == InviteKind::Single
    {
        invites::close(tx, invite, InviteStatus::Used)?;
        // Requests that wait beside this one get the same answer as later ones.
        for other in connections::find_waiting(tx, invite)? {
            reject(tx, other, Some(USED))?;
        }
    }
    await_confirmation(tx, id)?;
    connections::touch(tx, id)
}

/// Notes why messages wait although the connection is accepted: nothing else is sent before the
/// receipt of the accept.
pub fn await_confirmation(tx: &Tx<'_>, id: ConnectionId) -> Result<(), Fault> {
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
pub fn open_chat(tx: &mut Tx<'_>, loaded: &Loaded) -> Result<ChatId, Fault> {
    let mut uuid = [0; 16];
    uuid.copy_from_slice(&loaded.secrets.conn_id.as_bytes()[..16]);
    chats::open_direct(tx, loaded.id, &uuid)
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
    let uuid = MessageUuid::from_bytes(tx.random());
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
    if let Some(own) = loaded.secrets.inbound.clone() {
        close_mailbox_after(tx, id.into(), &own.id, Duration::ZERO)?;
    }
    receipts::delete_connection(tx, id)?;
    fail_all(tx, id, FailureCode::Cancelled)
}

/// Fails all messages that are on their way to a connection.
pub fn fail_all(tx: &Tx<'_>, id: ConnectionId, code: FailureCode) -> Result<(), Fault> {
    let change = deliveries::Change {
        code: Some(code),
        ..deliveries::Change::default()
    };
    for key in outbox::remove_connection(tx, id)? {
        deliveries::advance(tx, key, DeliveryStatus::Failed, &change)?;
    }
    Ok(())
}

/// Closes the invite's mailbox a day after the peer has learned that we accepted.
pub fn complete(tx: &mut Tx<'_>, id: ConnectionId) -> Result<(), Fault> {
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
        } else if row.held.is_base_old(tx.now) {
            let sealed = row.held.publish_base(
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
        if !loaded.secrets.is_base_old(tx.now)
            || relay_jobs::contains(tx, id.into(), JobKind::PublishPrekeys)?
        {
            continue;
        }
        if let Some(publishing) = loaded.secrets.publish_base(&identity.keys, tx.now, tx.rng) {
            connections::save(tx, &mut loaded)?;
            publish_base(tx, id, &publishing)?;
        }
    }
    Ok(())
}

/// The relay that an invite's mailbox is at, when it is not our own: connecting there waits for federation.
#[must_use]
pub fn foreign_relay<'a>(identity: &NodeIdentity, invite: &'a Invite) -> Option<&'a Origin> {
    Some(&invite.mailbox().relay).filter(|relay| **relay != identity.relay)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{TestNode, carry, settle};
    use sealpost_node_core::model::{ConnectionStatus, UserId};
    use sealpost_proto::{
        ErrorCode,
        wire::{DeliveryOutcome, SubmitOutcome},
    };

    fn three() -> [TestNode; 3] {
        [
            TestNode::new("Acme", 300),
            TestNode::new("Bolt", 301),
            TestNode::new("Carl", 302),
        ]
    }

    /// What Carl sees when he takes the invite up after `before` happened at Acme.
    fn refused(before: impl FnOnce(&mut TestNode, InviteId)) -> (ConnectionStatus, String) {
        let [mut acme, _, mut carl] = three();
        let (name, invite, prekeys) = acme.invite(true);
        let at_carl = carl.connect(&invite, &prekeys);
        before(&mut acme, name);
        settle(&mut carl, &mut acme);
        let seen = carl.connection(at_carl);
        (seen.status, seen.note)
    }

    #[test]
    fn a_second_acceptor_is_rejected_with_words() {
        let [mut acme, mut bolt, mut carl] = three();
        let (name, invite, prekeys) = acme.invite(true);
        let (at_bolt, at_carl) = (
            bolt.connect(&invite, &prekeys),
            carl.connect(&invite, &prekeys),
        );
        settle(&mut bolt, &mut acme);
        assert_eq!(
            acme.step(|tx, _| load_invite(tx, name)).status,
            InviteStatus::Used
        );
        settle(&mut carl, &mut acme);
        assert_eq!(bolt.connection(at_bolt).status, ConnectionStatus::Accepted);
        let late = carl.connection(at_carl);
        assert_eq!(
            (late.status, late.note.as_str()),
            (ConnectionStatus::Rejected, "the invite was used before")
        );
    }

    #[test]
    fn of_those_who_wait_at_an_invite_for_one_the_others_are_rejected_with_the_first_yes() {
        let [mut acme, mut bolt, mut carl] = three();
        let (_, invite, prekeys) = acme.invite(false);
        let (at_bolt, at_carl) = (
            bolt.connect(&invite, &prekeys),
            carl.connect(&invite, &prekeys),
        );
        settle(&mut bolt, &mut acme);
        let asked = acme
            .step(|tx, _| connections::find_by_invite(tx, &invite.id()))
            .remove(0);
        settle(&mut carl, &mut acme);
        acme.step(|tx, identity| accept(tx, identity, asked));
        acme.run_relay_jobs();
        let sealed = acme.seal();
        acme.accepted(&sealed);
        for (node, at) in [(&mut bolt, at_bolt), (&mut carl, at_carl)] {
            assert_eq!(
                sealed
                    .iter()
                    .filter(|envelope| node.receive(envelope) == DeliveryOutcome::Stored)
                    .count(),
                1,
                "{at}"
            );
        }
        assert_eq!(bolt.connection(at_bolt).status, ConnectionStatus::Accepted);
        let beside = carl.connection(at_carl);
        assert_eq!(
            (beside.status, beside.note.as_str()),
            (ConnectionStatus::Rejected, USED)
        );
    }

    #[test]
    fn a_revoked_invite_says_so() {
        let (status, note) = refused(|acme, name| acme.step(|tx, _| revoke_invite(tx, name)));
        assert_eq!(
            (status, note.as_str()),
            (ConnectionStatus::Rejected, "the invite was revoked")
        );
    }

    #[test]
    fn an_expired_invite_says_so() {
        let expire = |acme: &mut TestNode, name: InviteId| {
            acme.pass(limits::INVITE_LIFETIME_DEFAULT);
            acme.step(maintain_invites);
            assert_eq!(
                acme.step(|tx, _| load_invite(tx, name)).status,
                InviteStatus::Expired
            );
        };
        let words = (
            ConnectionStatus::Rejected,
            "the invite has expired".to_owned(),
        );
        assert_eq!(refused(expire), words);
        assert_eq!(
            refused(|acme, _| acme.pass(limits::INVITE_LIFETIME_DEFAULT)),
            words,
            "before anybody looked after it"
        );
    }

    #[test]
    fn an_invite_is_taken_back_once() {
        let [mut acme, ..] = three();
        let (name, ..) = acme.invite(true);
        acme.step(|tx, _| revoke_invite(tx, name));
        let again = acme.commit(|tx, _| revoke_invite(tx, name));
        assert!(
            matches!(again, Err(Fault::Refused(refusal)) if refusal.code == RefusalCode::Conflict)
        );
    }

    #[test]
    fn prekeys_of_somebody_else_are_not_trusted() {
        let [mut acme, mut bolt, mut carl] = three();
        let ((_, invite, _), (_, _, strange)) = (acme.invite(true), bolt.invite(true));
        let refused = carl.commit(|tx, identity| connect(tx, identity, &invite, &strange, None));
        assert!(
            matches!(refused, Err(Fault::Refused(refusal)) if refusal.code == RefusalCode::InviteUntrusted)
        );
        assert_eq!(carl.number("SELECT count(*) FROM connections"), 0);
    }

    #[test]
    fn an_invite_that_was_taken_up_is_the_same_connection() {
        let [mut acme, mut bolt, _] = three();
        let (_, invite, prekeys) = acme.invite(true);
        let once = bolt.connect(&invite, &prekeys);
        assert_eq!(bolt.connect(&invite, &prekeys), once);
        settle(&mut bolt, &mut acme);
        assert_eq!(bolt.connect(&invite, &prekeys), once);
        assert_eq!(acme.number("SELECT count(*) FROM connections"), 1);
    }

    #[test]
    fn a_request_waits_for_a_person_and_is_answered_once() {
        let [mut acme, mut bolt, _] = three();
        let (_, invite, prekeys) = acme.invite(false);
        let at_bolt = bolt.connect(&invite, &prekeys);
        settle(&mut bolt, &mut acme);
        let at_acme = acme
            .step(|tx, _| connections::find_by_invite(tx, &invite.id()))
            .remove(0);
        assert_eq!(acme.connection(at_acme).status, ConnectionStatus::Pending);
        acme.step(|tx, identity| accept(tx, identity, at_acme));
        let again = acme.commit(|tx, identity| accept(tx, identity, at_acme));
        assert!(
            matches!(again, Err(Fault::Refused(refusal)) if refusal.code == RefusalCode::Conflict)
        );
        settle(&mut acme, &mut bolt);
        assert_eq!(bolt.connection(at_bolt).status, ConnectionStatus::Accepted);
    }

    #[test]
    fn blocking_ends_what_is_under_way() {
        let [mut acme, mut bolt, _] = three();
        let (to_bolt, to_acme) = crate::testing::join(&mut acme, &mut bolt);
        let message = acme.send(to_bolt, "hello");
        acme.step(|tx, _| block(tx, to_bolt));
        let shown = acme.delivery(&message);
        assert_eq!(
            (shown.status, shown.code),
            (DeliveryStatus::Failed, Some(FailureCode::Cancelled))
        );
        bolt.send(to_acme, "are you there?");
        let sealed = bolt.seal();
        bolt.accepted(&sealed);
        acme.receive(&sealed[0]);
        assert!(acme.texts().is_empty());
        assert_eq!(carry(&mut acme, &mut bolt), 0);
    }

    #[test]
    fn what_waits_for_an_accept_that_will_never_arrive_ends_with_it() {
        let [mut acme, mut bolt, _] = three();
        let (_, invite, prekeys) = acme.invite(false);
        bolt.connect(&invite, &prekeys);
        settle(&mut bolt, &mut acme);
        let at_acme = acme
            .step(|tx, _| connections::find_by_invite(tx, &invite.id()))
            .remove(0);
        acme.step(|tx, identity| accept(tx, identity, at_acme));
        acme.run_relay_jobs();
        let message = acme.send(at_acme, "welcome");
        let sealed = acme.seal();
        let gone = SubmitOutcome::Refused {
            code: ErrorCode::MailboxUnknown,
            retry_after_ms: None,
        };
        acme.answered(&sealed, &gone);
        let shown = acme.delivery(&message);
        assert_eq!(
            (shown.status, shown.code),
            (DeliveryStatus::Failed, Some(FailureCode::MailboxUnknown))
        );
        assert_eq!(acme.number("SELECT count(*) FROM outbox"), 0);
        let draft = crate::testing::draft(at_acme, "are you there?");
        let again = acme.commit(|tx, identity| crate::outbox::send(tx, identity, &draft, 0));
        assert!(
            matches!(again, Err(Fault::Refused(refusal)) if refusal.code == RefusalCode::NotAccepted)
        );
    }

    #[test]
    fn no_receipt_waits_for_a_connection_that_is_blocked() {
        let [mut acme, mut bolt, _] = three();
        let (to_bolt, to_acme) = crate::testing::join(&mut acme, &mut bolt);
        for text in ["read before", "read after"] {
            bolt.send(to_acme, text);
        }
        let sealed = bolt.seal();
        bolt.accepted(&sealed);
        for envelope in &sealed {
            acme.receive(envelope);
        }
        let [first, second] = acme.arrived().try_into().ok().unwrap();
        acme.step(|tx, _| crate::conversation::mark_read(tx, UserId::FIRST, first.id));
        acme.step(|tx, _| block(tx, to_bolt));
        acme.step(|tx, _| crate::conversation::mark_read(tx, UserId::FIRST, second.id));
        assert!(acme.seal().is_empty());
        assert_eq!(
            acme.number(
                "SELECT (SELECT count(*) FROM receipts_due) + (SELECT count(*) FROM outbox)"
            ),
            0
        );
    }
}
