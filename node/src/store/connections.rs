//! Connections. The visible fields are plain columns; the protocol state with its keys is sealed in
//! the column `secrets`.

use crate::{
    fault::Fault,
    store::{
        Tx, deduplication,
        events::{self, Subject},
        ids,
    },
};
use rusqlite::Row;
use sealpost_node_core::{
    connection::{Connection, Phase, Role},
    contact_name::comparison_key,
    model::{
        ChatId, ConnectionId, ConnectionStatus, ConnectionWarning, Direction, HealthState,
        InviteId, InviteKey, Refusal, RefusalCode,
    },
    name::visible_name,
};
use sealpost_proto::{MailboxId, Timestamp};
use sealpost_sqlite::{Damaged, RowError, RowExt as _, to_integer, to_millis};
use std::time::Duration;

const TABLE: &str = "connections";

/// Visible fields of a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ConnectionRow {
    pub id: ConnectionId,
    /// Who requested the connection.
    pub direction: Direction,
    pub status: ConnectionStatus,
    /// Name on the peer's card, with everything visible.
    pub contact: String,
    /// Text that came with the request or the rejection.
    pub note: String,
    pub fingerprint: [u8; 32],
    /// Whether users have compared the safety number.
    pub verified: bool,
    /// The peer's relay.
    pub relay: String,
    /// Our invite that the peer used, if any.
    pub invite: Option<InviteId>,
    /// The direct chat, once the connection is accepted.
    pub chat: Option<ChatId>,
    pub health: HealthState,
    pub health_reason: Option<String>,
    /// Warning that nobody has acknowledged yet.
    pub warning: Option<ConnectionWarning>,
    /// Time when an envelope of the peer was last opened.
    pub last_contact_at: Option<Timestamp>,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

/// Connection to be inserted.
pub(crate) struct NewConnection<'a> {
    pub secrets: &'a Connection,
    /// Name on the peer's card.
    pub contact: &'a str,
    pub note: &'a str,
    /// Our invite that the peer used, if any.
    pub invite: Option<InviteId>,
    /// The peer's relay.
    pub relay: &'a str,
}

/// Returns the visible status of a phase.
#[must_use]
pub(crate) const fn status_for_phase(phase: Phase) -> ConnectionStatus {
    match phase {
        Phase::RequestSent | Phase::RequestReceived => ConnectionStatus::Pending,
        Phase::Accepting | Phase::Accepted => ConnectionStatus::Accepted,
        Phase::Rejected => ConnectionStatus::Rejected,
        Phase::Blocked => ConnectionStatus::Blocked,
    }
}

/// Returns the visible status of a connection with a warning.
fn visible_status(phase: Phase, warning: Option<ConnectionWarning>) -> ConnectionStatus {
    match status_for_phase(phase) {
        ConnectionStatus::Accepted if warning == Some(ConnectionWarning::OtherIdentity) => {
            ConnectionStatus::Suspended
        }
        status => status,
    }
}

pub(crate) fn insert(tx: &mut Tx<'_>, new: &NewConnection<'_>) -> Result<ConnectionId, Fault> {
    let id: ConnectionId = ids::generate(tx)?;
    let text = id.to_string();
    let contact = visible_name(new.contact);
    let sealed = tx.seal(TABLE, text.as_bytes(), "secrets", 1, &new.secrets.encode());
    let direction = match new.secrets.role {
        Role::Inviter => Direction::In,
        Role::Invitee => Direction::Out,
    };
    tx.execute(
        "INSERT INTO connections (id, direction, status, name, name_key, note, fingerprint, relay,
             invite, invite_key, secrets, version, created_at, updated_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, 1, ?12, ?12)",
        &[
            &text,
            &direction.as_str(),
            &status_for_phase(new.secrets.phase).as_str(),
            &contact,
            &comparison_key(&contact),
            &new.note,
            new.secrets.peer.fingerprint().as_bytes(),
            &new.relay,
            &new.invite.map(|invite| invite.to_string()),
            new.secrets.invite_id.as_bytes(),
            &sealed,
            &to_millis(tx.now),
        ],
    )?;
    insert_mailbox(tx, id, new.secrets)?;
    events::add(tx, Subject::Connection(id))?;
    Ok(id)
}

fn insert_mailbox(tx: &Tx<'_>, id: ConnectionId, secrets: &Connection) -> Result<(), Fault> {
    if let Some(own) = &secrets.own_mailbox {
        tx.execute(
            "INSERT OR IGNORE INTO mailboxes (id, connection) VALUES (?1, ?2)",
            &[own.id.as_bytes(), &id.to_string()],
        )?;
    }
    Ok(())
}

/// Secrets of a connection and their version, for [`save`].
pub(crate) struct LoadedConnection {
    pub id: ConnectionId,
    pub secrets: Connection,
    version: u64,
}

pub(crate) fn load_secrets(tx: &Tx<'_>, id: ConnectionId) -> Result<LoadedConnection, Fault> {
    let text = id.to_string();
    let sql = "SELECT secrets, version FROM connections WHERE id = ?1";
    let row = tx.query_row(sql, &[&text], |row| {
        Ok((row.read::<Vec<u8>>("secrets")?, row.read("version")?))
    })?;
    let (sealed, version) = row.ok_or_else(|| not_found(&text))?;
    let secrets = tx.open(TABLE, text.as_bytes(), "secrets", version, &sealed)?;
    let secrets = Connection::parse(&secrets).map_err(|_| Damaged::new(TABLE, "secrets"))?;
    Ok(LoadedConnection {
        id,
        secrets,
        version,
    })
}

/// Stores changed secrets and the status of their phase.
///
/// # Errors
/// Fails if another transaction has changed the connection since it was loaded.
pub(crate) fn save(tx: &mut Tx<'_>, loaded: &mut LoadedConnection) -> Result<(), Fault> {
    let version = loaded.version + 1;
    let text = loaded.id.to_string();
    let encoded = loaded.secrets.encode();
    let sealed = tx.seal(TABLE, text.as_bytes(), "secrets", version, &encoded);
    let sql = "SELECT status, warning FROM connections WHERE id = ?1";
    let before = tx.query_row(sql, &[&text], |row| {
        Ok((
            row.parse("status", ConnectionStatus::parse)?,
            row.optional_parse("warning", ConnectionWarning::parse)?,
        ))
    })?;
    let warning = before.and_then(|(_, warning)| warning);
    let status = visible_status(loaded.secrets.phase, warning);
    let changed = tx.execute(
        "UPDATE connections SET secrets = ?2, status = ?3, version = version + 1
         WHERE id = ?1 AND version = ?4",
        &[
            &text,
            &sealed,
            &status.as_str(),
            &to_integer(loaded.version),
        ],
    )?;
    if changed != 1 {
        return Err(Fault::failed("another transaction changed the connection"));
    }
    loaded.version = version;
    insert_mailbox(tx, loaded.id, &loaded.secrets)?;
    if before.is_some_and(|(before, _)| before != status) {
        record_change(tx, loaded.id)
    } else {
        Ok(())
    }
}

/// Records and announces a visible change.
pub(crate) fn record_change(tx: &Tx<'_>, id: ConnectionId) -> Result<(), Fault> {
    tx.execute(
        "UPDATE connections SET updated_at = ?2 WHERE id = ?1",
        &[&id.to_string(), &to_millis(tx.now)],
    )?;
    events::add(tx, Subject::Connection(id))
}

/// Records that an envelope of the peer was opened, which makes the connection healthy.
pub(crate) fn record_peer_activity(tx: &Tx<'_>, id: ConnectionId) -> Result<(), Fault> {
    tx.execute(
        "UPDATE connections SET last_contact_at = ?2 WHERE id = ?1",
        &[&id.to_string(), &to_millis(tx.now)],
    )?;
    set_health(tx, id, HealthState::Ok, None)
}

/// Health of a connection whose partner no longer has a mailbox for it.
pub(crate) const CLOSED_BY_PARTNER: &str =
    "the partner closed the connection: ask for a new invite";

/// Records that the partner has a mailbox for a connection, which it may have opened again.
pub(crate) fn clear_closed_by_partner(tx: &Tx<'_>, id: ConnectionId) -> Result<(), Fault> {
    let sql = "SELECT 1 FROM connections WHERE id = ?1 AND health_reason = ?2";
    let was_closed: Option<i64> = tx.query_value(sql, &[&id.to_string(), &CLOSED_BY_PARTNER])?;
    match was_closed {
        Some(_) => set_health(tx, id, HealthState::Ok, None),
        None => Ok(()),
    }
}

/// Stores the health of a connection, and announces it if it has changed.
pub(crate) fn set_health(
    tx: &Tx<'_>,
    id: ConnectionId,
    health: HealthState,
    reason: Option<&str>,
) -> Result<(), Fault> {
    let changed = tx.execute(
        "UPDATE connections SET health = ?2, health_reason = ?3
         WHERE id = ?1 AND (health <> ?2 OR health_reason IS NOT ?3)",
        &[&id.to_string(), &health.as_str(), &reason],
    )?;
    if changed == 1 {
        record_change(tx, id)
    } else {
        Ok(())
    }
}

/// Records that users have compared the safety number, which also acknowledges a warning.
pub(crate) fn set_verified(tx: &Tx<'_>, id: ConnectionId) -> Result<(), Fault> {
    tx.execute(
        "UPDATE connections SET verified = 1 WHERE id = ?1",
        &[&id.to_string()],
    )?;
    acknowledge(tx, id)
}

/// Stores a warning unless a more serious one has not been acknowledged. A warning that casts doubt
/// on who the partner is withdraws `verified`.
pub(crate) fn set_warning(
    tx: &Tx<'_>,
    id: ConnectionId,
    warning: ConnectionWarning,
) -> Result<(), Fault> {
    let row = load(tx, id)?;
    let rank = |warning| {
        ConnectionWarning::ALL
            .iter()
            .position(|one| *one == warning)
    };
    let is_minor = row
        .warning
        .is_some_and(|present| rank(present) <= rank(warning));
    if is_minor {
        return Ok(());
    }
    let is_identity_doubtful = matches!(
        warning,
        ConnectionWarning::OtherIdentity | ConnectionWarning::Reset
    );
    tx.execute(
        "UPDATE connections SET warning = ?2, verified = verified AND NOT ?3,
             status = CASE WHEN ?4 AND status = 'accepted' THEN 'suspended' ELSE status END
         WHERE id = ?1",
        &[
            &id.to_string(),
            &warning.as_str(),
            &is_identity_doubtful,
            &(warning == ConnectionWarning::OtherIdentity),
        ],
    )?;
    record_change(tx, id)
}

/// Clears the warning of a connection, which ends a suspension.
pub(crate) fn acknowledge(tx: &Tx<'_>, id: ConnectionId) -> Result<(), Fault> {
    tx.execute(
        "UPDATE connections SET warning = NULL,
             status = CASE status WHEN 'suspended' THEN 'accepted' ELSE status END
         WHERE id = ?1",
        &[&id.to_string()],
    )?;
    record_change(tx, id)
}

/// Stores the text that came with a rejection.
pub(crate) fn set_note(tx: &Tx<'_>, id: ConnectionId, note: &str) -> Result<(), Fault> {
    tx.execute(
        "UPDATE connections SET note = ?2 WHERE id = ?1",
        &[&id.to_string(), &note],
    )?;
    record_change(tx, id)
}

const COLUMNS: &str = "SELECT n.id, n.direction, n.status, n.name, n.note, n.fingerprint,
    n.verified, n.relay, n.invite, c.id AS chat, n.health, n.health_reason, n.warning,
    n.last_contact_at, n.created_at, n.updated_at
    FROM connections n LEFT JOIN chats c ON c.connection = n.id AND c.type = 'direct'";

fn read(row: &Row<'_>) -> Result<ConnectionRow, RowError> {
    Ok(ConnectionRow {
        id: row.parse("id", ConnectionId::parse)?,
        direction: row.parse("direction", Direction::parse)?,
        status: row.parse("status", ConnectionStatus::parse)?,
        contact: row.read("name")?,
        note: row.read("note")?,
        fingerprint: row.read("fingerprint")?,
        verified: row.read("verified")?,
        relay: row.read("relay")?,
        invite: row.optional_parse("invite", InviteId::parse)?,
        chat: row.optional_parse("chat", ChatId::parse)?,
        health: row.parse("health", HealthState::parse)?,
        health_reason: row.read("health_reason")?,
        warning: row.optional_parse("warning", ConnectionWarning::parse)?,
        last_contact_at: row.optional_timestamp("last_contact_at")?,
        created_at: row.timestamp("created_at")?,
        updated_at: row.timestamp("updated_at")?,
    })
}

fn read_id(row: &Row<'_>) -> Result<ConnectionId, RowError> {
    row.parse("id", ConnectionId::parse)
}

pub(crate) fn load(tx: &Tx<'_>, id: ConnectionId) -> Result<ConnectionRow, Fault> {
    let text = id.to_string();
    tx.query_row(&format!("{COLUMNS} WHERE n.id = ?1"), &[&text], read)?
        .ok_or_else(|| not_found(&text))
}

/// Returns a page of connections with ids above `after`, ordered by id.
pub(crate) fn load_page(tx: &Tx<'_>, after: &str, limit: i64) -> Result<Vec<ConnectionRow>, Fault> {
    tx.query_rows(
        &format!("{COLUMNS} WHERE n.id > ?1 ORDER BY n.id LIMIT ?2"),
        &[&after, &limit],
        read,
    )
}

/// Finds a connection by its id, or by its contact's name if that is unique.
///
/// # Errors
/// Refuses with `not_found` or `ambiguous_name`.
pub(crate) fn resolve(tx: &Tx<'_>, text: &str) -> Result<ConnectionId, Fault> {
    let text = text.trim();
    if let Ok(id) = ConnectionId::parse(text) {
        let sql = "SELECT id FROM connections WHERE id = ?1";
        if let Some(id) = tx.query_row(sql, &[&id.to_string()], read_id)? {
            return Ok(id);
        }
    }
    let open = "SELECT id FROM connections
                WHERE name_key = ?1 AND status NOT IN ('rejected', 'blocked') LIMIT 2";
    let any = "SELECT id FROM connections WHERE name_key = ?1 LIMIT 2";
    let key = comparison_key(text);
    for sql in [open, any] {
        match tx.query_rows(sql, &[&key], read_id)?.as_slice() {
            [] => {}
            [id] => return Ok(*id),
            _ => {
                let detail = format!("several connections are named {text:?}");
                return Err(Refusal::new(RefusalCode::AmbiguousName, detail).into());
            }
        }
    }
    Err(not_found(text))
}

fn not_found(text: &str) -> Fault {
    let detail = format!("there is no connection {text:?}");
    Refusal::new(RefusalCode::NotFound, detail).into()
}

/// Returns the connection that owns one of our mailboxes.
pub(crate) fn find_by_mailbox(
    tx: &Tx<'_>,
    mailbox: &MailboxId,
) -> Result<Option<ConnectionId>, Fault> {
    let sql = "SELECT connection FROM mailboxes WHERE id = ?1";
    let id = tx.query_row(sql, &[mailbox.as_bytes()], |row| {
        row.optional_parse("connection", ConnectionId::parse)
    })?;
    Ok(id.flatten())
}

/// Returns the connections that were made with an invite, latest first.
pub(crate) fn find_by_invite(tx: &Tx<'_>, invite: &InviteKey) -> Result<Vec<ConnectionId>, Fault> {
    let sql = "SELECT id FROM connections WHERE invite_key = ?1 ORDER BY created_at DESC, id";
    tx.query_rows(sql, &[invite.as_bytes()], read_id)
}

/// Records that the peer was asked for all receipts that this node expects.
pub(crate) fn set_receipts_queried(tx: &Tx<'_>, id: ConnectionId) -> Result<(), Fault> {
    let sql = "UPDATE connections SET receipts_queried_at = ?2 WHERE id = ?1";
    tx.execute(sql, &[&id.to_string(), &to_millis(tx.now)])?;
    Ok(())
}

/// Returns the accepted connections whose peers have not been asked for receipts for this time,
/// except broken ones. A time ahead of the clock counts too, because the clock must have been set
/// back.
pub(crate) fn find_unqueried(tx: &Tx<'_>, pause: Duration) -> Result<Vec<ConnectionId>, Fault> {
    let sql = "SELECT id FROM connections WHERE status = 'accepted' AND health <> 'broken'
               AND (receipts_queried_at <= ?1 OR receipts_queried_at > ?2) ORDER BY id";
    let params = (to_millis(tx.now.minus(pause)), to_millis(tx.now));
    tx.query_rows(sql, &[&params.0, &params.1], |row| {
        row.parse("id", ConnectionId::parse)
    })
}

/// Returns the pending, accepted and suspended connections, which need maintenance.
pub(crate) fn find_open(tx: &Tx<'_>) -> Result<Vec<ConnectionId>, Fault> {
    let sql = "SELECT id FROM connections WHERE status IN ('pending', 'accepted', 'suspended')
               ORDER BY id";
    tx.query_rows(sql, &[], read_id)
}

/// Returns all connections.
pub(crate) fn find_all(tx: &Tx<'_>) -> Result<Vec<ConnectionId>, Fault> {
    tx.query_rows("SELECT id FROM connections ORDER BY id", &[], read_id)
}

/// Counts the connections that are being healed.
pub(crate) fn count_healing(tx: &Tx<'_>) -> Result<u64, Fault> {
    let sql = "SELECT count(*) FROM connections WHERE health = 'healing'
               AND status IN ('accepted', 'suspended')";
    Ok(tx.query_value(sql, &[])?.unwrap_or(0))
}

/// Returns the connections of a peer that were made with an invite, latest first.
pub(crate) fn find_by_peer(
    tx: &Tx<'_>,
    invite: &InviteKey,
    fingerprint: &[u8],
) -> Result<Vec<ConnectionId>, Fault> {
    let sql = "SELECT id FROM connections WHERE fingerprint = ?1 AND invite_key = ?2
               ORDER BY created_at DESC, id";
    tx.query_rows(sql, &[&fingerprint, invite.as_bytes()], read_id)
}

/// Deletes a pending incoming request, because a newer one replaces it.
pub(crate) fn delete_request(tx: &Tx<'_>, id: ConnectionId) -> Result<(), Fault> {
    deduplication::delete_for_connection(tx, id)?;
    tx.execute(
        "DELETE FROM connections WHERE id = ?1 AND status = 'pending' AND direction = 'in'",
        &[&id.to_string()],
    )?;
    Ok(())
}

/// Returns the pending requests at an invite, latest first.
pub(crate) fn find_pending(tx: &Tx<'_>, invite: InviteId) -> Result<Vec<ConnectionId>, Fault> {
    let sql = "SELECT id FROM connections WHERE invite = ?1 AND status = 'pending'
               ORDER BY created_at DESC, id";
    tx.query_rows(sql, &[&invite.to_string()], read_id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Pair, TestNode, connected_pair, settle};

    #[test]
    fn names_match_without_case_or_composition() {
        let (mut acme, mut peer) = (TestNode::new("Acme", 1), TestNode::new("MÜLLER GmbH", 2));
        let (_, invite, prekeys) = peer.invite(true);
        let id = acme.connect(&invite, &prekeys);
        for name in [
            "MÜLLER GmbH",
            "Müller GmbH",
            "mu\u{308}ller gmbh",
            " Müller GMBH ",
        ] {
            assert_eq!(acme.step(|tx, _| resolve(tx, name)), id, "{name}");
        }
        let other = acme.commit(|tx, _| resolve(tx, "Muller GmbH"));
        assert!(matches!(other, Err(Fault::Refused(_))));
    }

    #[test]
    fn deceptive_names_are_stored_visibly() {
        let mut acme = TestNode::new("Acme", 1);
        for (seed, name, visible) in [
            (2, "Bolt\u{200b}", "Bolt\u{fffd}"),
            (3, "\u{412}olt", "\u{412}[U+0412]olt"),
        ] {
            let mut peer = TestNode::new(name, seed);
            let (_, invite, prekeys) = peer.invite(true);
            let id = acme.connect(&invite, &prekeys);
            let row = acme.step(|tx, _| load(tx, id));
            assert_eq!(row.contact, visible);
            assert_eq!(acme.step(|tx, _| resolve(tx, visible)), id);
        }
    }

    #[test]
    fn warnings_remain_until_a_person_acts() {
        let mut pair = connected_pair(910);
        let to_bolt = pair.to_bolt;
        pair.acme.step(|tx, _| set_verified(tx, to_bolt));
        pair.acme
            .step(|tx, _| set_warning(tx, to_bolt, ConnectionWarning::Reset));
        pair.bolt.send(pair.to_acme, "hello");
        settle(&mut pair.bolt, &mut pair.acme);
        let row = pair.acme.connection(to_bolt);
        assert_eq!(row.warning, Some(ConnectionWarning::Reset));
        assert_eq!((row.health, row.verified), (HealthState::Ok, false));
        pair.acme
            .step(|tx, _| set_warning(tx, to_bolt, ConnectionWarning::ManyRepairs));
        let row = pair.acme.connection(to_bolt);
        assert_eq!(row.warning, Some(ConnectionWarning::Reset), "more serious");
        pair.acme.step(|tx, _| set_verified(tx, to_bolt));
        let row = pair.acme.connection(to_bolt);
        assert_eq!((row.warning, row.verified), (None, true));
    }

    #[test]
    fn suspended_connections_send_nothing() {
        let mut pair = connected_pair(912);
        let to_bolt = pair.to_bolt;
        pair.acme.send(to_bolt, "hello");
        pair.acme
            .step(|tx, _| set_warning(tx, to_bolt, ConnectionWarning::OtherIdentity));
        let status = |pair: &mut Pair| pair.acme.connection(to_bolt).status;
        assert_eq!(status(&mut pair), ConnectionStatus::Suspended);
        assert!(pair.acme.seal().is_empty());
        pair.bolt.send(pair.to_acme, "still arrives");
        settle(&mut pair.bolt, &mut pair.acme);
        assert_eq!(pair.acme.received_texts(), ["still arrives"]);
        assert_eq!(status(&mut pair), ConnectionStatus::Suspended);
        pair.acme.step(|tx, _| acknowledge(tx, to_bolt));
        assert_eq!(status(&mut pair), ConnectionStatus::Accepted);
        settle(&mut pair.acme, &mut pair.bolt);
        assert_eq!(pair.bolt.received_texts(), ["hello"]);
    }
}
