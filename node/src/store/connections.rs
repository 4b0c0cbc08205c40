//! Connections: what people see of them in columns, what is secret sealed in one.

use crate::{
    api::model::{ConnectionStatus, Direction, EventTopic, HealthState},
    api::problem::ProblemCode,
    fault::Fault,
    store::{Tx, count, events, millis, refs, refs::Noun, timestamp, words},
};
use rusqlite::Row;
use sealpost_node_core::connection::{Connection, Phase, Role};
use sealpost_proto::{InviteId, MailboxId, Timestamp};

const TABLE: &str = "connections";

/// What people see of a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectionRow {
    /// `CON-…`
    pub name: String,
    /// Who asked.
    pub direction: Direction,
    /// How far it is.
    pub status: ConnectionStatus,
    /// The contact's name.
    pub contact: String,
    /// What the acceptor wrote.
    pub note: String,
    /// The peer's fingerprint.
    pub fingerprint: [u8; 32],
    /// Whether people compared the safety number.
    pub verified: bool,
    /// The peer's relay.
    pub relay: String,
    /// The invite it came from, when it is one of ours.
    pub invite: Option<String>,
    /// The direct chat, once it is accepted.
    pub chat: Option<String>,
    /// Whether messages pass.
    pub health: HealthState,
    /// Why not.
    pub health_reason: Option<String>,
    /// When something of the peer's opened last.
    pub last_contact_at: Option<Timestamp>,
    /// When it was asked for.
    pub created_at: Timestamp,
    /// When it changed last.
    pub updated_at: Timestamp,
}

/// A connection that is about to be stored.
pub struct NewConnection<'a> {
    /// Its secrets.
    pub secrets: &'a Connection,
    /// The contact's name.
    pub contact: &'a str,
    /// What the acceptor wrote.
    pub note: &'a str,
    /// The invite it came from, when it is one of ours.
    pub invite: Option<&'a str>,
    /// The peer's relay.
    pub relay: &'a str,
}

/// The state that people see for a phase.
#[must_use]
pub const fn status_of(phase: Phase) -> ConnectionStatus {
    match phase {
        Phase::Requested | Phase::Asked => ConnectionStatus::Pending,
        Phase::Accepting | Phase::Accepted => ConnectionStatus::Accepted,
        Phase::Rejected => ConnectionStatus::Rejected,
        Phase::Blocked => ConnectionStatus::Blocked,
    }
}

/// Stores a new connection and returns its name.
///
/// # Errors
/// When SQLite fails.
pub fn insert(tx: &mut Tx<'_>, new: &NewConnection<'_>) -> Result<String, Fault> {
    let name = refs::draw(tx, Noun::Connection)?;
    let sealed = tx.seal(TABLE, name.as_bytes(), "secrets", 1, &new.secrets.encode());
    let direction = match new.secrets.role {
        Role::Inviter => Direction::In,
        Role::Acceptor => Direction::Out,
    };
    tx.execute(
        "INSERT INTO connections (ref, direction, status, name, note, fingerprint, relay, invite, invite_id, secrets, version,
             created_at, updated_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, 1, ?11, ?11)",
        &[
            &name,
            &words::word(&direction),
            &words::word(&status_of(new.secrets.phase)),
            &new.contact,
            &new.note,
            new.secrets.peer.fingerprint().as_bytes(),
            &new.relay,
            &new.invite,
            new.secrets.invite_id.as_bytes(),
            &sealed,
            &millis(tx.now),
        ],
    )?;
    note_mailbox(tx, &name, new.secrets)?;
    events::add(tx, EventTopic::Connection, &name, None)?;
    Ok(name)
}

fn note_mailbox(tx: &Tx<'_>, name: &str, secrets: &Connection) -> Result<(), Fault> {
    if let Some(own) = &secrets.inbound {
        tx.execute(
            "INSERT OR IGNORE INTO mailboxes (id, connection) VALUES (?1, ?2)",
            &[own.id.as_bytes(), &name],
        )?;
    }
    Ok(())
}

/// A connection's secrets, loaded to be stepped. [`save`] refuses them when somebody else stepped them meanwhile.
pub struct Loaded {
    /// `CON-…`
    pub name: String,
    /// The secrets.
    pub secrets: Connection,
    version: u64,
}

/// Loads a connection's secrets.
///
/// # Errors
/// When SQLite fails, there is no such connection, or the row does not open.
pub fn load_secrets(tx: &Tx<'_>, name: &str) -> Result<Loaded, Fault> {
    let row = tx.row(
        "SELECT secrets, version FROM connections WHERE ref = ?1",
        &[&name],
        |row| Ok((row.get::<_, Vec<u8>>(0)?, row.get::<_, i64>(1)?)),
    )?;
    let (sealed, version) = row.ok_or_else(|| not_found(name))?;
    let version = count(version);
    let secrets = tx.open(TABLE, name.as_bytes(), "secrets", version, &sealed)?;
    let secrets = Connection::parse(&secrets).map_err(|error| Fault::failed(error.to_string()))?;
    Ok(Loaded {
        name: name.to_owned(),
        secrets,
        version,
    })
}

/// Commits stepped secrets; what people see follows their phase.
///
/// # Errors
/// When SQLite fails, or somebody else stepped the connection since it was loaded.
pub fn save(tx: &mut Tx<'_>, loaded: &mut Loaded) -> Result<(), Fault> {
    let version = loaded.version + 1;
    let sealed = tx.seal(
        TABLE,
        loaded.name.as_bytes(),
        "secrets",
        version,
        &loaded.secrets.encode(),
    );
    let status = words::word(&status_of(loaded.secrets.phase));
    let before = tx.value::<String>(
        "SELECT status FROM connections WHERE ref = ?1",
        &[&loaded.name],
    )?;
    let changed = tx.execute(
        "UPDATE connections SET secrets = ?2, status = ?3, version = version + 1 WHERE ref = ?1 AND version = ?4",
        &[&loaded.name, &sealed, &status, &i64::try_from(loaded.version).unwrap_or(i64::MAX)],
    )?;
    if changed != 1 {
        return Err(Fault::failed("a connection changed meanwhile"));
    }
    loaded.version = version;
    note_mailbox(tx, &loaded.name, &loaded.secrets)?;
    if before.is_some_and(|before| before != status) {
        touch(tx, &loaded.name)
    } else {
        Ok(())
    }
}

/// Notes a change that people see, and tells the listeners.
///
/// # Errors
/// When SQLite fails.
pub fn touch(tx: &Tx<'_>, name: &str) -> Result<(), Fault> {
    tx.execute(
        "UPDATE connections SET updated_at = ?2 WHERE ref = ?1",
        &[&name, &millis(tx.now)],
    )?;
    events::add(tx, EventTopic::Connection, name, None)
}

/// Notes that something of the peer's opened: the connection is well.
///
/// # Errors
/// When SQLite fails.
pub fn heard(tx: &Tx<'_>, name: &str) -> Result<(), Fault> {
    tx.execute(
        "UPDATE connections SET last_contact_at = ?2 WHERE ref = ?1",
        &[&name, &millis(tx.now)],
    )?;
    set_health(tx, name, HealthState::Ok, None)
}

/// Notes how a connection is, with the reason, and tells the listeners when that is new.
///
/// # Errors
/// When SQLite fails.
pub fn set_health(
    tx: &Tx<'_>,
    name: &str,
    health: HealthState,
    reason: Option<&str>,
) -> Result<(), Fault> {
    let changed = tx.execute(
        "UPDATE connections SET health = ?2, health_reason = ?3
         WHERE ref = ?1 AND (health <> ?2 OR health_reason IS NOT ?3)",
        &[&name, &words::word(&health), &reason],
    )?;
    if changed == 1 {
        touch(tx, name)
    } else {
        Ok(())
    }
}

/// Remembers that people compared the safety number.
///
/// # Errors
/// When SQLite fails.
pub fn set_verified(tx: &Tx<'_>, name: &str) -> Result<(), Fault> {
    tx.execute(
        "UPDATE connections SET verified = 1 WHERE ref = ?1",
        &[&name],
    )?;
    touch(tx, name)
}

/// Notes the reason that came with a rejection.
///
/// # Errors
/// When SQLite fails.
pub fn set_note(tx: &Tx<'_>, name: &str, note: &str) -> Result<(), Fault> {
    tx.execute(
        "UPDATE connections SET note = ?2 WHERE ref = ?1",
        &[&name, &note],
    )?;
    touch(tx, name)
}

const COLUMNS: &str =
    "SELECT n.ref, n.direction, n.status, n.name, n.note, n.fingerprint, n.verified, n.relay, n.invite,
    (SELECT c.ref FROM chats c WHERE c.connection = n.ref), n.health, n.health_reason, n.last_contact_at, n.created_at,
    n.updated_at FROM connections n";

fn read(row: &Row<'_>) -> rusqlite::Result<ConnectionRow> {
    Ok(ConnectionRow {
        name: row.get(0)?,
        direction: words::parse(&row.get::<_, String>(1)?).unwrap_or(Direction::In),
        status: words::parse(&row.get::<_, String>(2)?).unwrap_or(ConnectionStatus::Suspended),
        contact: row.get(3)?,
        note: row.get(4)?,
        fingerprint: row.get(5)?,
        verified: row.get(6)?,
        relay: row.get(7)?,
        invite: row.get(8)?,
        chat: row.get(9)?,
        health: words::parse(&row.get::<_, String>(10)?).unwrap_or(HealthState::Broken),
        health_reason: row.get(11)?,
        last_contact_at: row.get::<_, Option<i64>>(12)?.map(timestamp),
        created_at: timestamp(row.get(13)?),
        updated_at: timestamp(row.get(14)?),
    })
}

/// One connection.
///
/// # Errors
/// When SQLite fails or there is no such connection.
pub fn load(tx: &Tx<'_>, name: &str) -> Result<ConnectionRow, Fault> {
    tx.row(&format!("{COLUMNS} WHERE n.ref = ?1"), &[&name], read)?
        .ok_or_else(|| not_found(name))
}

/// A page of connections, by name after `after`.
///
/// # Errors
/// When SQLite fails.
pub fn page(tx: &Tx<'_>, after: &str, limit: i64) -> Result<Vec<ConnectionRow>, Fault> {
    tx.rows(
        &format!("{COLUMNS} WHERE n.ref > ?1 ORDER BY n.ref LIMIT ?2"),
        &[&after, &limit],
        read,
    )
}

/// Finds a connection by its name or, while that is unique, by its contact's.
///
/// # Errors
/// `not_found` or `ambiguous_name`.
pub fn resolve(tx: &Tx<'_>, text: &str) -> Result<String, Fault> {
    let text = text.trim();
    if let Some(name) = tx.value(
        "SELECT ref FROM connections WHERE ref = upper(?1)",
        &[&text],
    )? {
        return Ok(name);
    }
    let alive = "SELECT ref FROM connections WHERE lower(name) = lower(?1) AND status NOT IN ('rejected', 'blocked') LIMIT 2";
    let any = "SELECT ref FROM connections WHERE lower(name) = lower(?1) LIMIT 2";
    for sql in [alive, any] {
        let mut found: Vec<String> = tx.rows(sql, &[&text], |row| row.get(0))?;
        match (found.pop(), found.pop()) {
            (Some(_), Some(_)) => {
                let detail = format!("several connections are named {text:?}");
                return Err(Fault::refused(ProblemCode::AmbiguousName, detail));
            }
            (Some(name), None) => return Ok(name),
            (None, _) => {}
        }
    }
    Err(not_found(text))
}

fn not_found(name: &str) -> Fault {
    Fault::refused(
        ProblemCode::NotFound,
        format!("there is no connection {name:?}"),
    )
}

/// The connection that a mailbox of ours belongs to.
///
/// # Errors
/// When SQLite fails.
pub fn of_mailbox(tx: &Tx<'_>, mailbox: &MailboxId) -> Result<Option<String>, Fault> {
    Ok(tx
        .value::<Option<String>>(
            "SELECT connection FROM mailboxes WHERE id = ?1",
            &[mailbox.as_bytes()],
        )?
        .flatten())
}

/// The connections that came from an invite, latest first.
///
/// # Errors
/// When SQLite fails.
pub fn of_invite(tx: &Tx<'_>, invite_id: &InviteId) -> Result<Vec<String>, Fault> {
    let sql = "SELECT ref FROM connections WHERE invite_id = ?1 ORDER BY created_at DESC, ref";
    tx.rows(sql, &[invite_id.as_bytes()], |row| row.get(0))
}

/// The connections that may have something to tend: pending or accepted ones.
///
/// # Errors
/// When SQLite fails.
pub fn living(tx: &Tx<'_>) -> Result<Vec<String>, Fault> {
    tx.rows(
        "SELECT ref FROM connections WHERE status IN ('pending', 'accepted') ORDER BY ref",
        &[],
        |row| row.get(0),
    )
}

/// Forgets a waiting request that a later one of the same identity replaces, or that overflowed.
///
/// # Errors
/// When SQLite fails.
pub fn forget_request(tx: &Tx<'_>, name: &str) -> Result<(), Fault> {
    tx.execute("DELETE FROM seen WHERE scope = ?1", &[&name])?;
    tx.execute("DELETE FROM message_ids WHERE connection = ?1", &[&name])?;
    tx.execute(
        "DELETE FROM connections WHERE ref = ?1 AND status = 'pending' AND direction = 'in'",
        &[&name],
    )?;
    Ok(())
}

/// The requests that wait at an invite, latest first.
///
/// # Errors
/// When SQLite fails.
pub fn waiting_of_invite(tx: &Tx<'_>, invite: &str) -> Result<Vec<String>, Fault> {
    let sql = "SELECT ref FROM connections WHERE invite = ?1 AND status = 'pending' ORDER BY created_at DESC, ref";
    tx.rows(sql, &[&invite], |row| row.get(0))
}
