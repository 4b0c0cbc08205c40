//! Invites and connections: each function is one transaction's worth of change.

use crate::{
    api::{
        model::{HealthState, InviteKind, InviteStatus},
        problem::ProblemCode,
    },
    fault::Fault,
    me::Me,
    store::{
        Tx, chats,
        chores::{self, Chore},
        connections::{self, Loaded, NewConnection},
        deliveries, invites, outbox, receipts, seen,
    },
};
use sealpost_e2ee::{
    SignedCard,
    invite::{Invite, InviteKind as KindOnWire},
    plaintext::Kind,
};
use sealpost_node_core::{
    connection::{Asked, Connection, Phase, Publishing, RequestArgs, RequestError, fit_note},
    held_invite::HeldInvite,
};
use sealpost_proto::{
    DeliveryStatus, FailureCode, MailboxId, MailboxRef, MessageId, Origin, limits,
};
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

/// Makes an invite: its mailbox and prekeys are published before anybody is told the URL (the caller waits for the chores).
///
/// # Errors
/// When the database fails.
pub fn make_invite(tx: &mut Tx<'_>, me: &Me, terms: InviteTerms) -> Result<String, Fault> {
    let mailbox = MailboxRef {
        relay: me.relay.clone(),
        id: MailboxId::from_bytes(draw(tx)),
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
        InviteKind::Contact => (KindOnWire::ContactAddress, None, limits::PREKEYS_LIFE),
    };
    let invite = Invite::generate(kind, mailbox, *me.identity.fingerprint(), tx.rng);
    let mut held = HeldInvite::new(invite);
    let sealed = held
        .publish_base(&me.identity, &me.card, base_life, tx.now, tx.rng)
        .ok_or_else(|| Fault::failed("the prekeys of an invite cannot be sealed"))?;
    let name = invites::insert(tx, terms.kind, terms.auto_accept, expires_at, &held)?;
    let mailbox = held.invite.mailbox().id;
    let now = tx.now;
    chores::add(
        tx,
        &name,
        Chore::OpenMailbox,
        &mailbox,
        held.invite.send_key().expose(),
        now,
    )?;
    chores::add(tx, &name, Chore::PublishPrekeys, &mailbox, &sealed, now)?;
    Ok(name)
}

/// Takes an invite back: its mailbox closes.
///
/// # Errors
/// `not_found`, or `conflict` when it is not open any more.
pub fn revoke_invite(tx: &mut Tx<'_>, name: &str) -> Result<(), Fault> {
    let row = load_invite(tx, name)?;
    if !invites::close(tx, name, InviteStatus::Revoked)? {
        return Err(Fault::refused(
            ProblemCode::Conflict,
            "the invite is not open any more",
        ));
    }
    close_mailbox_at(tx, name, &row.held.invite.mailbox().id, Duration::ZERO)
}

/// Forgets an invite that was never handed out. Its mailbox closes, in case the relay opened it.
///
/// # Errors
/// When the database fails.
pub fn discard_invite(tx: &mut Tx<'_>, name: &str) -> Result<(), Fault> {
    let row = load_invite(tx, name)?;
    chores::forget(tx, name)?;
    invites::remove(tx, name)?;
    close_mailbox_at(tx, name, &row.held.invite.mailbox().id, Duration::ZERO)
}

/// One invite of ours.
///
/// # Errors
/// `not_found`.
pub fn load_invite(tx: &Tx<'_>, name: &str) -> Result<invites::InviteRow, Fault> {
    invites::load(tx, name)?.ok_or_else(|| {
        Fault::refused(
            ProblemCode::NotFound,
            format!("there is no invite {name:?}"),
        )
    })
}

/// What everybody but the first hears at an invite for one.
const USED: &str = "the invite was used before";

fn close_mailbox_at(
    tx: &mut Tx<'_>,
    subject: &str,
    mailbox: &MailboxId,
    later: Duration,
) -> Result<(), Fault> {
    let at = tx.now.plus(later);
    chores::add(tx, subject, Chore::CloseMailbox, mailbox, &[], at)
}

/// The connection that came from this invite before, if it was taken up before.
///
/// # Errors
/// When the database fails.
pub fn taken_up(tx: &Tx<'_>, invite: &Invite) -> Result<Option<String>, Fault> {
    Ok(connections::of_invite(tx, &invite.id())?.into_iter().next())
}

/// Takes an invite up with what lay in its mailbox.
///
/// # Errors
/// `invite_untrusted` when the keys do not fit the invite's fingerprint, `invite_expired` when they are past their life.
pub fn connect(
    tx: &mut Tx<'_>,
    me: &Me,
    invite: &Invite,
    sealed_prekeys: &[u8],
    note: Option<&str>,
) -> Result<String, Fault> {
    if let Some(known) = taken_up(tx, invite)? {
        return Ok(known);
    }
    let args = RequestArgs {
        me: &me.identity,
        card: &me.card,
        relay: &me.relay,
        invite,
        sealed_prekeys,
        note: note.and_then(fit_note),
        now: tx.now,
    };
    let requested = Connection::request(&args, tx.rng).map_err(|error| match error {
        RequestError::Untrusted => Fault::refused(ProblemCode::InviteUntrusted, error.to_string()),
        RequestError::Stale => Fault::refused(ProblemCode::InviteExpired, error.to_string()),
    })?;
    let new = NewConnection {
        secrets: &requested.connection,
        contact: contact_name(&requested.peer_card),
        note: note.unwrap_or_default(),
        invite: None,
        relay: invite.mailbox().relay.as_str(),
    };
    let name = connections::insert(tx, &new)?;
    publish(tx, &name, &requested.publishing)?;
    let id = MessageId::from_bytes(draw(tx));
    outbox::add(
        tx,
        &name,
        Kind::CONNECTION_REQUEST,
        &id,
        None,
        &requested.body,
    )?;
    Ok(name)
}

fn contact_name(card: &SignedCard) -> &str {
    &card.card().name
}

/// What the relay has to be told before the capability flows: the mailbox, then the base.
fn publish(tx: &mut Tx<'_>, name: &str, publishing: &Publishing) -> Result<(), Fault> {
    let now = tx.now;
    let mailbox = publishing.mailbox.id;
    chores::add(
        tx,
        name,
        Chore::OpenMailbox,
        &mailbox,
        publishing.mailbox.send_key.expose(),
        now,
    )?;
    publish_base(tx, name, publishing)
}

/// Puts a fresh base into a mailbox that is open.
///
/// # Errors
/// When the database fails.
pub fn publish_base(tx: &mut Tx<'_>, name: &str, publishing: &Publishing) -> Result<(), Fault> {
    let now = tx.now;
    chores::add(
        tx,
        name,
        Chore::PublishPrekeys,
        &publishing.mailbox.id,
        &publishing.sealed_base,
        now,
    )
}

/// What becomes of a request that opened at an invite of ours.
///
/// # Errors
/// When the database fails.
pub fn on_request(
    tx: &mut Tx<'_>,
    me: &Me,
    invite: &invites::InviteRow,
    asked: &Asked,
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
        invite: Some(&invite.name),
        relay: asked
            .connection
            .outbound
            .as_ref()
            .map_or("", |way| way.mailbox.relay.as_str()),
    };
    let name = connections::insert(tx, &new)?;
    seen::remember_digest(tx, &name, &asked.msg_hash)?;
    seen::remember_message(tx, &name, &asked.message_id)?;
    match refusal {
        Some(why) => reject(tx, &name, Some(why)),
        None if invite.auto_accept => accept(tx, me, &name),
        None => forget_overflow(tx, invite),
    }
}

#[derive(PartialEq, Eq)]
enum Earlier {
    Stays,
    Gone,
}

/// Of several waiting requests of one identity the one with the highest epoch counts; an identity that is connected
/// already stays so until a person decides.
fn same_peer(tx: &Tx<'_>, asked: &Asked) -> Result<Earlier, Fault> {
    let fingerprint = asked.connection.peer.fingerprint();
    for name in connections::of_invite(tx, &asked.connection.invite_id)? {
        let earlier = connections::load_secrets(tx, &name)?.secrets;
        if earlier.peer.fingerprint() != fingerprint {
            continue;
        }
        let is_newer = earlier
            .sessions
            .current_epoch()
            .is_none_or(|epoch| epoch < asked.session_epoch);
        if earlier.phase != Phase::Asked || !is_newer {
            return Ok(Earlier::Stays);
        }
        connections::forget_request(tx, &name)?;
    }
    Ok(Earlier::Gone)
}

/// At most 100 requests wait at an invite; the oldest goes.
fn forget_overflow(tx: &Tx<'_>, invite: &invites::InviteRow) -> Result<(), Fault> {
    let waiting = connections::waiting_of_invite(tx, &invite.name)?;
    waiting
        .iter()
        .skip(limits::WAITING_REQUESTS_MAX)
        .try_for_each(|name| connections::forget_request(tx, name))
}

/// Says yes to a request.
///
/// # Errors
/// `conflict` when there is nothing to answer.
pub fn accept(tx: &mut Tx<'_>, me: &Me, name: &str) -> Result<(), Fault> {
    let mut loaded = connections::load_secrets(tx, name)?;
    let id = MessageId::from_bytes(draw(tx));
    let (publishing, body) = loaded
        .secrets
        .accept(&me.identity, &me.relay, id, tx.now, tx.rng)
        .map_err(|_| nothing_to_answer(name))?;
    connections::save(tx, &mut loaded)?;
    publish(tx, name, &publishing)?;
    outbox::add(tx, name, Kind::CONNECTION_ACCEPT, &id, None, &body)?;
    open_chat(tx, &loaded)?;
    if let Some(invite) = connections::load(tx, name)?.invite
        && load_invite(tx, &invite)?.kind == InviteKind::Single
    {
        invites::close(tx, &invite, InviteStatus::Used)?;
        // It lets one in: who waits beside them is told the same as who comes later.
        let others = connections::waiting_of_invite(tx, &invite)?;
        others
            .iter()
            .try_for_each(|other| reject(tx, other, Some(USED)))?;
    }
    await_confirmation(tx, name)?;
    connections::touch(tx, name)
}

/// Says why messages wait although the connection is accepted: until the accept is receipted nothing else flows.
///
/// # Errors
/// When the database fails.
pub fn await_confirmation(tx: &Tx<'_>, name: &str) -> Result<(), Fault> {
    let why =
        "the other side has not confirmed the connection yet; messages go out as soon as it has";
    connections::set_health(tx, name, HealthState::Waiting, Some(why))
}

fn nothing_to_answer(name: &str) -> Fault {
    Fault::refused(
        ProblemCode::Conflict,
        format!("{name} is not a request that waits for an answer"),
    )
}

/// Makes the direct chat; its uuid is the same on both sides because it comes from the connection's own name.
///
/// # Errors
/// When the database fails.
pub fn open_chat(tx: &mut Tx<'_>, loaded: &Loaded) -> Result<String, Fault> {
    let mut uuid = [0; 16];
    uuid.copy_from_slice(&loaded.secrets.conn_id.as_bytes()[..16]);
    chats::direct(tx, &loaded.name, &uuid)
}

/// Says no to a request, with a word where there is one.
///
/// # Errors
/// `conflict` when there is nothing to answer.
pub fn reject(tx: &mut Tx<'_>, name: &str, why: Option<&str>) -> Result<(), Fault> {
    let mut loaded = connections::load_secrets(tx, name)?;
    let body = loaded
        .secrets
        .reject(why.map(str::to_owned))
        .map_err(|_| nothing_to_answer(name))?;
    connections::save(tx, &mut loaded)?;
    let id = MessageId::from_bytes(draw(tx));
    outbox::add(tx, name, Kind::CONNECTION_REJECT, &id, None, &body)
}

/// Closes a connection for good: our mailbox closes, what was under way ends.
///
/// # Errors
/// When the database fails.
pub fn block(tx: &mut Tx<'_>, name: &str) -> Result<(), Fault> {
    let mut loaded = connections::load_secrets(tx, name)?;
    if loaded.secrets.phase == Phase::Blocked {
        return Ok(());
    }
    loaded.secrets.block();
    connections::save(tx, &mut loaded)?;
    if let Some(own) = loaded.secrets.inbound.clone() {
        close_mailbox_at(tx, name, &own.id, Duration::ZERO)?;
    }
    receipts::forget(tx, name)?;
    fail_all(tx, name, FailureCode::Cancelled)
}

/// Ends everything that is under way to a connection.
///
/// # Errors
/// When the database fails.
pub fn fail_all(tx: &Tx<'_>, name: &str, code: FailureCode) -> Result<(), Fault> {
    let change = deliveries::Change {
        code: Some(code),
        ..deliveries::Change::default()
    };
    for message in outbox::drop_connection(tx, name)? {
        deliveries::advance(tx, &message, DeliveryStatus::Failed, &change)?;
    }
    Ok(())
}

/// The peer knows that we accepted: the invite's mailbox closes a day later.
///
/// # Errors
/// When the database fails.
pub fn complete(tx: &mut Tx<'_>, name: &str) -> Result<(), Fault> {
    let Some(invite) = connections::load(tx, name)?.invite else {
        return Ok(());
    };
    let row = load_invite(tx, &invite)?;
    if row.kind == InviteKind::Single && !chores::has(tx, &invite, Chore::CloseMailbox)? {
        close_mailbox_at(
            tx,
            &invite,
            &row.held.invite.mailbox().id,
            limits::INVITE_MAILBOX_KEPT,
        )?;
    }
    Ok(())
}

/// Tends invites: single-use ones past their end expire, contact addresses get fresh prekeys every week.
///
/// # Errors
/// When the database fails.
pub fn tend_invites(tx: &mut Tx<'_>, me: &Me) -> Result<(), Fault> {
    for mut row in invites::to_tend(tx)? {
        let mailbox = row.held.invite.mailbox().id;
        if row.kind == InviteKind::Single {
            invites::close(tx, &row.name, InviteStatus::Expired)?;
            close_mailbox_at(tx, &row.name, &mailbox, Duration::ZERO)?;
        } else if row.held.base_is_old(tx.now) {
            let sealed =
                row.held
                    .publish_base(&me.identity, &me.card, limits::PREKEYS_LIFE, tx.now, tx.rng);
            let sealed =
                sealed.ok_or_else(|| Fault::failed("the prekeys of an invite cannot be sealed"))?;
            invites::save(tx, &row)?;
            let now = tx.now;
            chores::add(tx, &row.name, Chore::PublishPrekeys, &mailbox, &sealed, now)?;
        }
    }
    Ok(())
}

/// Tends connections: a base that nobody used for a week is replaced.
///
/// # Errors
/// When the database fails.
pub fn tend_connections(tx: &mut Tx<'_>, me: &Me) -> Result<(), Fault> {
    for name in connections::living(tx)? {
        let mut loaded = connections::load_secrets(tx, &name)?;
        if !loaded.secrets.base_is_old(tx.now) || chores::has(tx, &name, Chore::PublishPrekeys)? {
            continue;
        }
        if let Some(publishing) = loaded.secrets.publish_base(&me.identity, tx.now, tx.rng) {
            connections::save(tx, &mut loaded)?;
            publish_base(tx, &name, &publishing)?;
        }
    }
    Ok(())
}

/// The relay that an invite's mailbox is at, when it is not our own: connecting there waits for federation.
#[must_use]
pub fn foreign_relay<'a>(me: &Me, invite: &'a Invite) -> Option<&'a Origin> {
    Some(&invite.mailbox().relay).filter(|relay| **relay != me.relay)
}

/// Random bytes for a new id.
pub fn draw<const N: usize>(tx: &mut Tx<'_>) -> [u8; N] {
    let mut id = [0; N];
    tx.rng.fill_bytes(&mut id);
    id
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        api::model::ConnectionStatus,
        testing::{TestNode, carry, settle},
    };
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
    fn refused(before: impl FnOnce(&mut TestNode, &str)) -> (ConnectionStatus, String) {
        let [mut acme, _, mut carl] = three();
        let (name, invite, prekeys) = acme.invite(true);
        let at_carl = carl.connect(&invite, &prekeys);
        before(&mut acme, &name);
        settle(&mut carl, &mut acme);
        let seen = carl.connection(&at_carl);
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
            acme.step(|tx, _| load_invite(tx, &name)).status,
            InviteStatus::Used
        );
        settle(&mut carl, &mut acme);
        assert_eq!(bolt.connection(&at_bolt).status, ConnectionStatus::Accepted);
        let late = carl.connection(&at_carl);
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
            .step(|tx, _| connections::of_invite(tx, &invite.id()))
            .remove(0);
        settle(&mut carl, &mut acme);
        acme.step(|tx, me| accept(tx, me, &asked));
        acme.carry_out_chores();
        let sealed = acme.seal();
        acme.accepted(&sealed);
        for (node, at) in [(&mut bolt, &at_bolt), (&mut carl, &at_carl)] {
            assert_eq!(
                sealed
                    .iter()
                    .filter(|envelope| node.receive(envelope) == DeliveryOutcome::Stored)
                    .count(),
                1,
                "{at}"
            );
        }
        assert_eq!(bolt.connection(&at_bolt).status, ConnectionStatus::Accepted);
        let beside = carl.connection(&at_carl);
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
        let expire = |acme: &mut TestNode, name: &str| {
            acme.pass(limits::INVITE_LIFE_DEFAULT);
            acme.step(tend_invites);
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
            refused(|acme, _| acme.pass(limits::INVITE_LIFE_DEFAULT)),
            words,
            "before anybody looked after it"
        );
    }

    #[test]
    fn an_invite_is_taken_back_once() {
        let [mut acme, ..] = three();
        let (name, ..) = acme.invite(true);
        acme.step(|tx, _| revoke_invite(tx, &name));
        let again = acme.commit(|tx, _| revoke_invite(tx, &name));
        assert!(
            matches!(again, Err(Fault::Refused(problem)) if problem.code == ProblemCode::Conflict)
        );
    }

    #[test]
    fn prekeys_of_somebody_else_are_not_trusted() {
        let [mut acme, mut bolt, mut carl] = three();
        let ((_, invite, _), (_, _, strange)) = (acme.invite(true), bolt.invite(true));
        let refused = carl.commit(|tx, me| connect(tx, me, &invite, &strange, None));
        assert!(
            matches!(refused, Err(Fault::Refused(problem)) if problem.code == ProblemCode::InviteUntrusted)
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
            .step(|tx, _| connections::of_invite(tx, &invite.id()))
            .remove(0);
        assert_eq!(acme.connection(&at_acme).status, ConnectionStatus::Pending);
        acme.step(|tx, me| accept(tx, me, &at_acme));
        let again = acme.commit(|tx, me| accept(tx, me, &at_acme));
        assert!(
            matches!(again, Err(Fault::Refused(problem)) if problem.code == ProblemCode::Conflict)
        );
        settle(&mut acme, &mut bolt);
        assert_eq!(bolt.connection(&at_bolt).status, ConnectionStatus::Accepted);
    }

    #[test]
    fn blocking_ends_what_is_under_way() {
        let [mut acme, mut bolt, _] = three();
        let (to_bolt, to_acme) = crate::testing::join(&mut acme, &mut bolt);
        let message = acme.send(&to_bolt, "hello");
        acme.step(|tx, _| block(tx, &to_bolt));
        let shown = acme.delivery(&message);
        assert_eq!(
            (shown.status, shown.code),
            (DeliveryStatus::Failed, Some(FailureCode::Cancelled))
        );
        bolt.send(&to_acme, "are you there?");
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
            .step(|tx, _| connections::of_invite(tx, &invite.id()))
            .remove(0);
        acme.step(|tx, me| accept(tx, me, &at_acme));
        acme.carry_out_chores();
        let message = acme.send(&at_acme, "welcome");
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
        let draft = crate::testing::draft(&at_acme, "are you there?");
        let again = acme.commit(|tx, me| crate::outbox::send(tx, me, &draft, 0));
        assert!(
            matches!(again, Err(Fault::Refused(problem)) if problem.code == ProblemCode::NotAccepted)
        );
    }

    #[test]
    fn no_receipt_waits_for_a_connection_that_is_blocked() {
        let [mut acme, mut bolt, _] = three();
        let (to_bolt, to_acme) = crate::testing::join(&mut acme, &mut bolt);
        for text in ["read before", "read after"] {
            bolt.send(&to_acme, text);
        }
        let sealed = bolt.seal();
        bolt.accepted(&sealed);
        for envelope in &sealed {
            acme.receive(envelope);
        }
        let [first, second] = acme.arrived().try_into().ok().unwrap();
        acme.step(|tx, _| crate::inbox::mark_read(tx, &first));
        acme.step(|tx, _| block(tx, &to_bolt));
        acme.step(|tx, _| crate::inbox::mark_read(tx, &second));
        assert!(acme.seal().is_empty());
        assert_eq!(
            acme.number(
                "SELECT (SELECT count(*) FROM receipts_due) + (SELECT count(*) FROM outbox)"
            ),
            0
        );
    }
}
