//! What goes out: a message is committed first, sealed together with the ratchet's step when its turn comes, and sent byte
//! for byte until the relay has answered.

use crate::{
    api::{
        model::{AttachmentStatus, Direction, EventTopic, HealthState},
        problem::ProblemCode,
        render,
    },
    fault::Fault,
    inbox,
    me::Me,
    pairing,
    store::{
        Tx, attachments,
        chores::{self, Chore},
        connections,
        deliveries::{self, Change},
        events, messages,
        outbox::{self, Waiting},
        receipts,
    },
};
use sealpost_e2ee::{
    attachment::Descriptor,
    payload::{Author, ContentType, Message, Receipt},
    plaintext::Kind,
};
use sealpost_node_core::{
    connection::{Connection, Phase, SealRefusal},
    submission::{self, Submitted},
};
use sealpost_proto::{
    DeliveryStatus, EnvelopeId, MessageId, Timestamp, limits,
    wire::{SubmitResult, SubmittedEnvelope},
};

/// A message that a person or program wants sent, checked.
#[derive(Debug, Clone)]
pub struct Draft {
    /// Connections, without repetition.
    pub to: Vec<String>,
    /// What it says, in Markdown.
    pub content: String,
    /// Staged files.
    pub attachments: Vec<String>,
    /// The message it answers.
    pub reply_to: Option<String>,
    /// Whether somebody has to do something.
    pub action_required: bool,
    /// When it must have arrived.
    pub deliver_by: Option<Timestamp>,
    /// When it must have been read.
    pub read_by: Option<Timestamp>,
}

/// Commits a message to each recipient: from here on it goes out, whatever happens. Returns the messages' names.
///
/// # Errors
/// `not_accepted` for a connection that messages cannot flow on, `not_found` for a file that is not staged,
/// `files_too_large` over `files_bytes_max`.
pub fn send(
    tx: &mut Tx<'_>,
    me: &Me,
    draft: &Draft,
    files_bytes_max: u64,
) -> Result<Vec<String>, Fault> {
    let files = take_files(tx, &draft.attachments, files_bytes_max)?;
    let uuid = MessageId::from_bytes(pairing::draw(tx));
    let now = tx.now;
    let mut names = Vec::new();
    for connection in &draft.to {
        let chat = sendable_chat(tx, connection)?;
        let new = messages::NewMessage {
            chat: &chat,
            uuid,
            direction: Direction::Out,
            kind: Kind::MESSAGE.0,
            sender_name: &me.name,
            content: &draft.content,
            content_type: render::MARKDOWN,
            seq: None,
            action_required: draft.action_required,
            reply_to: reply_uuid(tx, draft.reply_to.as_deref())?,
            deliver_by: draft.deliver_by,
            read_by: draft.read_by,
            sent_at: now,
        };
        let name = messages::insert(tx, &new)?;
        for (ordinal, file) in files.iter().enumerate() {
            attachments::link(tx, &name, ordinal, &file.name)?;
        }
        outbox::add(tx, connection, Kind::MESSAGE, &uuid, Some(&name), &[])?;
        events::add(tx, EventTopic::Message, &name, None)?;
        deliveries::insert(tx, &name, connection, &uuid)?;
        names.push(name);
    }
    Ok(names)
}

fn sendable_chat(tx: &Tx<'_>, connection: &str) -> Result<String, Fault> {
    let row = connections::load(tx, connection)?;
    // Our yes did not arrive, and nothing would ever confirm it: a message would wait for ever.
    if row.health == HealthState::Broken && row.last_contact_at.is_none() {
        let why = row.health_reason.unwrap_or_default();
        let detail = format!(
            "the connection with {} was never confirmed: {why}",
            row.contact
        );
        return Err(Fault::refused(ProblemCode::NotAccepted, detail));
    }
    let accepted = row.status == crate::api::model::ConnectionStatus::Accepted;
    row.chat.filter(|_| accepted).ok_or_else(|| {
        let detail = format!(
            "the connection with {} is {}",
            row.contact,
            crate::store::words::word(&row.status)
        );
        Fault::refused(ProblemCode::NotAccepted, detail)
    })
}

fn reply_uuid(tx: &Tx<'_>, name: Option<&str>) -> Result<Option<MessageId>, Fault> {
    let Some(name) = name else { return Ok(None) };
    let message = messages::load(tx, name)?;
    let message = message.ok_or_else(|| {
        Fault::refused(
            ProblemCode::NotFound,
            format!("there is no message {name:?}"),
        )
    })?;
    Ok(Some(message.uuid))
}

/// Staged files begin to move with the message that takes them; one that is uploaded already can be sent again.
fn take_files(
    tx: &Tx<'_>,
    names: &[String],
    bytes_max: u64,
) -> Result<Vec<attachments::Attachment>, Fault> {
    let mut files = Vec::new();
    let mut total = 0_u64;
    for name in names {
        let file = attachments::load(tx, name)?.filter(|file| file.direction == Direction::Out);
        let file = file.ok_or_else(|| {
            Fault::refused(ProblemCode::NotFound, format!("there is no file {name:?}"))
        })?;
        total = total.saturating_add(file.descriptor.sealed.pt_len);
        if !matches!(
            file.status,
            AttachmentStatus::Staged | AttachmentStatus::Uploading | AttachmentStatus::Uploaded
        ) {
            let detail = format!("the file {name:?} is not here any more: hand it over again");
            return Err(Fault::refused(ProblemCode::NotFound, detail));
        }
        if file.status == AttachmentStatus::Staged {
            attachments::advance(tx, name, AttachmentStatus::Uploading, None)?;
        }
        files.push(file);
    }
    if total > bytes_max {
        let detail = format!("{total} bytes in all, the limit is {bytes_max}");
        return Err(Fault::refused(ProblemCode::FilesTooLarge, detail));
    }
    Ok(files)
}

/// Seals what may go now, and returns what is to be submitted. Everything is committed before it is transmitted.
///
/// # Errors
/// When the database fails.
pub fn seal_round(tx: &mut Tx<'_>, me: &Me) -> Result<Vec<SubmittedEnvelope>, Fault> {
    outbox::repeat_unconfirmed(tx)?;
    for name in receipts::connections(tx)? {
        for receipt in receipts::take(tx, &name)? {
            let id = MessageId::from_bytes(pairing::draw(tx));
            outbox::add(
                tx,
                &name,
                Kind::RECEIPT,
                &id,
                None,
                &Receipt::encode(&receipt),
            )?;
        }
    }
    // Counted are those that did seal: what waits for a file or a broken session holds up no other connection.
    let mut sealed = 0;
    for name in outbox::connections_to_seal(tx)? {
        sealed += usize::from(seal_connection(tx, me, &name)?);
        if sealed == limits::CONNECTIONS_PER_ROUND_MAX {
            break;
        }
    }
    outbox::to_submit(
        tx,
        limits::ENVELOPES_PER_REQUEST_MAX,
        limits::SUBMITTED_BYTES_MAX,
    )
}

/// Seals what may go to one connection; returns whether anything did.
fn seal_connection(tx: &mut Tx<'_>, me: &Me, name: &str) -> Result<bool, Fault> {
    let waiting = outbox::waiting(tx, name, limits::SEALED_PER_CONNECTION_MAX)?;
    let mut loaded = connections::load_secrets(tx, name)?;
    let mut sealed_any = false;
    let mut messages_held = false;
    for row in waiting {
        let is_message = row.outgoing.kind == Kind::MESSAGE;
        if (is_message && messages_held) || !is_ready(tx, name, &loaded.secrets, &row)? {
            messages_held |= is_message;
            continue;
        }
        match seal_row(tx, &mut loaded.secrets, row)? {
            Ok(()) => sealed_any = true,
            Err(SealRefusal::NotYet) => messages_held |= is_message,
            Err(SealRefusal::Broken) => {
                let why = "the session cannot seal: the other side has to connect again";
                connections::set_health(tx, name, HealthState::Broken, Some(why))?;
                break;
            }
        }
    }
    if sealed_any {
        connections::save(tx, &mut loaded)?;
        rotate_if_due(tx, me, &loaded)?;
    }
    Ok(sealed_any)
}

/// Whether a row's turn has come: what flows in this phase, whose files are uploaded, and not before the mailbox that its
/// capability names is open.
fn is_ready(
    tx: &Tx<'_>,
    name: &str,
    connection: &Connection,
    row: &Waiting,
) -> Result<bool, Fault> {
    if !connection.may_flow(row.outgoing.kind) {
        return Ok(false);
    }
    match row.outgoing.kind {
        Kind::CONNECTION_REQUEST | Kind::CONNECTION_ACCEPT => chores::is_ready(tx, name),
        Kind::MESSAGE => files_are_uploaded(tx, row.message.as_deref()),
        _ => Ok(true),
    }
}

fn files_are_uploaded(tx: &Tx<'_>, message: Option<&str>) -> Result<bool, Fault> {
    let Some(message) = message else {
        return Ok(false);
    };
    let files = attachments::of_message(tx, message)?;
    Ok(files
        .iter()
        .all(|file| file.status == AttachmentStatus::Uploaded))
}

fn seal_row(
    tx: &mut Tx<'_>,
    connection: &mut Connection,
    mut row: Waiting,
) -> Result<Result<(), SealRefusal>, Fault> {
    if row.outgoing.kind == Kind::MESSAGE
        && let Some(message) = &row.message
    {
        row.outgoing.body = message_body(tx, message)?;
    }
    let sealed = match connection.seal(&row.outgoing, tx.now, tx.rng) {
        Ok(sealed) => sealed,
        Err(refusal) => return Ok(Err(refusal)),
    };
    let envelope_id = EnvelopeId::new(tx.now, pairing::draw(tx));
    outbox::set_sealed(tx, row.id, &sealed, envelope_id)?;
    Ok(Ok(()))
}

/// The payload of a message, from its row and its files: nothing of it is kept twice.
fn message_body(tx: &Tx<'_>, name: &str) -> Result<Vec<u8>, Fault> {
    let message = messages::load(tx, name)?.ok_or_else(|| Fault::failed("a message is missing"))?;
    let files = attachments::of_message(tx, name)?;
    let reply_to = match &message.reply_to {
        Some(reply) => messages::load(tx, reply)?.map(|reply| reply.uuid),
        None => None,
    };
    let payload = Message {
        author: Some(Author {
            name: message.sender_name,
            avatar: None,
        }),
        content_type: ContentType::MARKDOWN,
        attachments: files
            .into_iter()
            .map(|file| described(tx, file))
            .collect::<Result<_, _>>()?,
        reply_to,
        action_required: message.action_required,
        deliver_by: message.deliver_by,
        read_by: message.read_by,
        ..Message::text(message.content)
    };
    Ok(payload.encode())
}

fn described(tx: &Tx<'_>, file: attachments::Attachment) -> Result<Descriptor, Fault> {
    let preview = attachments::preview(tx, &file.name)?;
    Ok(Descriptor {
        preview,
        ..file.descriptor
    })
}

/// A session that is old or has carried enough is replaced with the peer's fresh prekeys; until then it goes on.
fn rotate_if_due(tx: &mut Tx<'_>, me: &Me, loaded: &connections::Loaded) -> Result<(), Fault> {
    if !loaded.secrets.rotation_due(&me.identity, tx.now)
        || chores::has(tx, &loaded.name, Chore::RotateSession)?
    {
        return Ok(());
    }
    let Some(outbound) = &loaded.secrets.outbound else {
        return Ok(());
    };
    let now = tx.now;
    chores::add(
        tx,
        &loaded.name,
        Chore::RotateSession,
        &outbound.mailbox.id,
        &[],
        now,
    )
}

/// Records the relay's answer to a request.
///
/// # Errors
/// When the database fails; the same envelopes are then submitted again, and the relay knows them.
pub fn record(tx: &mut Tx<'_>, results: &[SubmitResult]) -> Result<(), Fault> {
    for result in results {
        let Some(row) = outbox::by_envelope(tx, &result.id)? else {
            continue;
        };
        let random = tx.rng.next_u64();
        match submission::submitted(&result.outcome, row.attempt, tx.now, random) {
            Submitted::Accepted { expires_at } => accepted(tx, &row, expires_at)?,
            Submitted::Again { at, reason } => {
                outbox::postpone(tx, row.id, at)?;
                if let Some(message) = &row.message {
                    deliveries::explain(tx, message, &reason, Some(at))?;
                }
            }
            Submitted::Failed(code) => {
                outbox::remove(tx, row.id)?;
                inbox::on_failed_control(tx, &row, code)?;
                if let Some(message) = &row.message {
                    let change = Change {
                        code: Some(code),
                        ..Change::default()
                    };
                    deliveries::advance(tx, message, DeliveryStatus::Failed, &change)?;
                }
            }
        }
    }
    Ok(())
}

fn accepted(
    tx: &mut Tx<'_>,
    row: &outbox::Row,
    expires_at: Option<Timestamp>,
) -> Result<(), Fault> {
    if row.kind == Kind::RECEIPT || row.kind == Kind::CONNECTION_REJECT {
        return outbox::remove(tx, row.id);
    }
    let again =
        (row.kind == Kind::CONNECTION_ACCEPT).then(|| tx.now.plus(limits::ACCEPT_REPEATED_AFTER));
    outbox::set_accepted(tx, row.id, again)?;
    if let Some(message) = &row.message {
        deliveries::advance(tx, message, DeliveryStatus::Sent, &Change::default())?;
        // Of one that it knew before, the relay says no end: it is no later than that of one that came now.
        let expires_at = expires_at.unwrap_or_else(|| tx.now.plus(limits::ENVELOPE_LIFE_DEFAULT));
        deliveries::set_expiry(tx, message, expires_at)?;
        attachments::keep_until(
            tx,
            message,
            expires_at.plus(limits::BLOB_LIFE_BEYOND_MESSAGE),
        )?;
    }
    Ok(())
}

/// The relay did not answer: what is sealed waits, and says why.
///
/// # Errors
/// When the database fails.
pub fn unreachable(tx: &Tx<'_>, reason: &str, next_at: Timestamp) -> Result<(), Fault> {
    let sql = "SELECT message FROM deliveries WHERE status = 'pending' LIMIT 1000";
    let messages: Vec<String> = tx.rows(sql, &[], |row| row.get(0))?;
    messages
        .iter()
        .try_for_each(|message| deliveries::explain(tx, message, reason, Some(next_at)))
}

/// Starts the new session for which the peer's base was fetched; nothing changes when the base cannot be used.
///
/// # Errors
/// When the database fails.
pub fn rotate(tx: &mut Tx<'_>, me: &Me, name: &str, sealed_base: &[u8]) -> Result<(), Fault> {
    let mut loaded = connections::load_secrets(tx, name)?;
    if loaded.secrets.phase != Phase::Accepted || !loaded.secrets.rotation_due(&me.identity, tx.now)
    {
        return Ok(());
    }
    match loaded
        .secrets
        .rotate(&me.identity, sealed_base, tx.now, tx.rng)
    {
        Ok(()) => {
            outbox::seal_again(tx, name)?;
            connections::save(tx, &mut loaded)
        }
        Err(error) => {
            tracing::warn!(connection = name, %error, "the session was not replaced; the old one goes on");
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        store::messages::Message as Stored,
        testing::{TestNode, carry, join, pair, settle},
    };
    use sealpost_e2ee::payload::ReceiptKind;
    use sealpost_proto::{
        DeliveryId, EnvelopeState, ErrorCode, FailureCode,
        wire::{StatusEvent, SubmitOutcome},
    };
    use std::time::Duration;

    #[test]
    fn messages_go_in_order_and_one_request_is_in_flight() {
        let mut pair = pair(100);
        let texts: Vec<_> = (0..20).map(|number| format!("number {number}")).collect();
        texts
            .iter()
            .for_each(|text| drop(pair.acme.send(&pair.to_bolt, text)));
        let first = pair.acme.seal();
        assert_eq!(first.len(), limits::SEALED_PER_CONNECTION_MAX);
        assert_eq!(
            pair.acme.seal(),
            first,
            "byte for byte, until the relay has answered"
        );
        pair.acme.accepted(&first);
        let second = pair.acme.seal();
        assert_eq!(second.len(), texts.len() - first.len());
        for envelope in first.iter().chain(&second) {
            pair.bolt.receive(envelope);
        }
        assert_eq!(pair.bolt.texts(), texts);
    }

    #[test]
    fn a_message_whose_first_answer_was_lost_is_not_waited_for_for_ever() {
        let mut pair = pair(105);
        let message = pair.acme.send(&pair.to_bolt, "hello");
        let sealed = pair.acme.seal();
        pair.acme.answered(
            &sealed,
            &SubmitOutcome::Duplicate {
                state: EnvelopeState::Stored,
            },
        );
        assert_eq!(pair.acme.delivery(&message).status, DeliveryStatus::Sent);
        pair.acme.pass(
            limits::ENVELOPE_LIFE_DEFAULT + limits::UNCONFIRMED_AFTER + Duration::from_secs(1),
        );
        pair.acme.step(crate::daemon::tend::look_after);
        let shown = pair.acme.delivery(&message);
        assert_eq!(
            (shown.status, shown.code),
            (DeliveryStatus::Failed, Some(FailureCode::Unconfirmed))
        );
    }

    #[test]
    fn what_is_sealed_again_keeps_its_number_and_time() {
        let mut pair = pair(110);
        let (message, to_bolt) = (pair.acme.send(&pair.to_bolt, "hello"), pair.to_bolt.clone());
        let first = pair.acme.seal();
        let (seq, sent_at) = ("SELECT seq FROM outbox", "SELECT sent_at FROM outbox");
        let before = (pair.acme.number(seq), pair.acme.number(sent_at));
        pair.acme.pass(Duration::from_secs(300));
        pair.acme.step(|tx, _| outbox::seal_again(tx, &to_bolt));
        let second = pair.acme.seal();
        assert_eq!((pair.acme.number(seq), pair.acme.number(sent_at)), before);
        assert_ne!(
            (first[0].id, &first[0].bytes),
            (second[0].id, &second[0].bytes)
        );
        pair.acme.answered(
            &first,
            &SubmitOutcome::Refused {
                code: ErrorCode::MailboxUnknown,
                retry_after_ms: None,
            },
        );
        assert_eq!(
            pair.acme.delivery(&message).status,
            DeliveryStatus::Pending,
            "that envelope does not count any more"
        );
        pair.bolt.receive(&second[0]);
        let Stored { sent_at, .. } = pair.bolt.arrived().remove(0);
        assert_eq!(sent_at, crate::testing::START);
    }

    #[test]
    fn receipts_go_in_batches_of_one_kind() {
        let mut pair = pair(120);
        let to_acme = pair.to_acme.clone();
        for number in 0..130 {
            let id = MessageId::from_bytes([number; 16]);
            pair.bolt
                .step(|tx, _| receipts::add(tx, &to_acme, &id, ReceiptKind::DELIVERED));
        }
        let id = MessageId::from_bytes([1; 16]);
        pair.bolt
            .step(|tx, _| receipts::add(tx, &to_acme, &id, ReceiptKind::READ));
        assert_eq!(
            pair.bolt.seal().len(),
            4,
            "64, 64 and 2 delivered, and one read"
        );
        assert_eq!(pair.bolt.number("SELECT count(*) FROM receipts_due"), 0);
    }

    /// Acme has accepted Bolt, and the relay has that.
    fn with_an_accept_at_the_relay(seed: u64) -> (TestNode, TestNode, Vec<SubmittedEnvelope>) {
        let (mut acme, mut bolt) = (TestNode::new("Acme", seed), TestNode::new("Bolt", seed + 1));
        let (_, invite, prekeys) = acme.invite(true);
        bolt.connect(&invite, &prekeys);
        carry(&mut bolt, &mut acme);
        acme.carry_out_chores();
        let accept = acme.seal();
        acme.accepted(&accept);
        (acme, bolt, accept)
    }

    #[test]
    fn an_accept_is_repeated_every_hour_until_it_is_confirmed() {
        let (mut acme, mut bolt, lost) = with_an_accept_at_the_relay(130);
        acme.pass(limits::ACCEPT_REPEATED_AFTER - Duration::from_secs(1));
        assert!(acme.seal().is_empty());
        acme.pass(Duration::from_secs(1));
        let repeated = acme.seal();
        assert_eq!(repeated.len(), 1);
        assert_ne!(repeated[0].id, lost[0].id);
        acme.accepted(&repeated);
        bolt.receive(&repeated[0]);
        settle(&mut bolt, &mut acme);
        acme.pass(2 * limits::ACCEPT_REPEATED_AFTER);
        assert!(acme.seal().is_empty());
    }

    #[test]
    fn an_accept_that_expired_at_the_relay_goes_again() {
        let (mut acme, mut bolt, expired) = with_an_accept_at_the_relay(134);
        let (envelope, at) = (expired[0].id, acme.now);
        let event = StatusEvent {
            id: DeliveryId(1),
            envelope,
            state: EnvelopeState::Expired,
            attempts: 0,
            reason: None,
            next_attempt_at: None,
            at,
        };
        acme.step(|tx, _| inbox::relay_event(tx, &event));
        settle(&mut acme, &mut bolt);
        assert_eq!(
            bolt.number("SELECT count(*) FROM connections WHERE status = 'accepted'"),
            1
        );
    }

    #[test]
    fn an_accept_is_repeated_when_the_clock_had_been_ahead() {
        let (mut acme, _, _) = with_an_accept_at_the_relay(132);
        assert!(acme.seal().is_empty());
        acme.now = acme.now.minus(Duration::from_secs(1));
        assert_eq!(
            acme.seal().len(),
            1,
            "an hour from then is further ahead than an hour from now"
        );
    }

    #[test]
    fn a_message_waits_for_its_files_and_those_behind_wait_with_it() {
        let mut pair = pair(140);
        let file = pair.acme.stage(10);
        pair.acme
            .send_files(&pair.to_bolt, "with a file", std::slice::from_ref(&file));
        pair.acme.send(&pair.to_bolt, "without");
        assert!(pair.acme.seal().is_empty());
        pair.acme.uploaded(&file);
        settle(&mut pair.acme, &mut pair.bolt);
        assert_eq!(pair.bolt.texts(), ["with a file", "without"]);
    }

    #[test]
    fn receipts_do_not_wait_behind_messages() {
        let mut pair = pair(145);
        let (file, to_bolt) = (pair.acme.stage(10), pair.to_bolt.clone());
        for _ in 0..=limits::SEALED_PER_CONNECTION_MAX {
            pair.acme
                .send_files(&to_bolt, "with a file", std::slice::from_ref(&file));
        }
        let id = MessageId::from_bytes([1; 16]);
        pair.acme
            .step(|tx, _| receipts::add(tx, &to_bolt, &id, ReceiptKind::DELIVERED));
        assert_eq!(pair.acme.seal().len(), 1);
    }

    /// As many requests as seal in one round wait until the relay has opened their mailboxes; a message does not.
    #[test]
    fn a_connection_that_waits_holds_up_no_other() {
        let (mut acme, mut bolt) = (TestNode::new("Acme", 150), TestNode::new("Bolt", 151));
        let (_, to_acme) = join(&mut acme, &mut bolt);
        for _ in 0..limits::CONNECTIONS_PER_ROUND_MAX {
            let (_, invite, prekeys) = acme.invite(true);
            bolt.step(|tx, me| pairing::connect(tx, me, &invite, &prekeys, None));
        }
        bolt.send(&to_acme, "hello");
        assert_eq!(bolt.seal().len(), 1);
    }

    #[test]
    fn what_the_relay_says_is_what_people_see() {
        let mut pair = pair(160);
        let message = pair.acme.send(&pair.to_bolt, "hello");
        let sealed = pair.acme.seal();
        let full = SubmitOutcome::Refused {
            code: ErrorCode::MailboxFull,
            retry_after_ms: Some(60_000),
        };
        pair.acme.answered(&sealed, &full);
        let waits = pair.acme.delivery(&message);
        assert_eq!(waits.status, DeliveryStatus::Pending);
        assert!(
            waits.reason.is_some()
                && waits.next_attempt_at >= Some(pair.acme.now.plus(Duration::from_secs(60)))
        );
        assert!(pair.acme.seal().is_empty(), "not before its time");
        pair.acme.now = waits.next_attempt_at.unwrap();
        assert_eq!(pair.acme.seal(), sealed);
        pair.acme.accepted(&sealed);
        assert_eq!(pair.acme.delivery(&message).status, DeliveryStatus::Sent);
        pair.bolt.receive(&sealed[0]);
        settle(&mut pair.bolt, &mut pair.acme);
        assert_eq!(
            pair.acme.delivery(&message).status,
            DeliveryStatus::Delivered
        );
        assert_eq!(pair.acme.number("SELECT count(*) FROM outbox"), 0);
    }

    #[test]
    fn a_refusal_for_good_fails_the_message_alone() {
        let mut pair = pair(170);
        let messages = ["one", "two"].map(|text| pair.acme.send(&pair.to_bolt, text));
        let sealed = pair.acme.seal();
        let gone = SubmitOutcome::Refused {
            code: ErrorCode::MailboxUnknown,
            retry_after_ms: None,
        };
        pair.acme.answered(&sealed[..1], &gone);
        pair.acme.accepted(&sealed[1..]);
        let [failed, sent] = messages.map(|message| pair.acme.delivery(&message));
        assert_eq!(
            (failed.status, failed.code),
            (DeliveryStatus::Failed, Some(FailureCode::MailboxUnknown))
        );
        assert_eq!(sent.status, DeliveryStatus::Sent);
    }
}
