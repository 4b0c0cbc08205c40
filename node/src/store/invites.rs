//! Invites of ours, with the secrets that open what comes to their mailboxes.

use crate::{
    api::model::{InviteKind, InviteStatus},
    fault::Fault,
    store::{Tx, count, millis, refs, refs::Noun, timestamp, words},
};
use rusqlite::Row;
use sealpost_node_core::held_invite::HeldInvite;
use sealpost_proto::{MailboxId, Timestamp};

const TABLE: &str = "invites";

/// One invite.
#[derive(Clone)]
pub struct InviteRow {
    /// `INV-…`
    pub name: String,
    /// How often it may be used.
    pub kind: InviteKind,
    /// Whether it may still be used.
    pub status: InviteStatus,
    /// Whether requests are accepted without asking.
    pub auto_accept: bool,
    /// When a single-use invite ends.
    pub expires_at: Option<Timestamp>,
    /// When it was made.
    pub created_at: Timestamp,
    /// The invite and its secrets.
    pub held: HeldInvite,
    version: u64,
}

/// Stores a new invite and its mailbox; returns its name.
///
/// # Errors
/// When SQLite fails.
pub fn insert(
    tx: &mut Tx<'_>,
    kind: InviteKind,
    auto_accept: bool,
    expires_at: Option<Timestamp>,
    held: &HeldInvite,
) -> Result<String, Fault> {
    let name = refs::draw(tx, Noun::Invite)?;
    let secrets = tx.seal(TABLE, name.as_bytes(), "secrets", 1, &held.encode());
    let mailbox = held.invite.mailbox().id;
    tx.execute(
        "INSERT INTO invites (ref, invite_id, mailbox, kind, status, auto_accept, expires_at, secrets, version, created_at)
         VALUES (?1, ?2, ?3, ?4, 'open', ?5, ?6, ?7, 1, ?8)",
        &[
            &name,
            held.invite.id().as_bytes(),
            mailbox.as_bytes(),
            &words::word(&kind),
            &auto_accept,
            &expires_at.map(millis),
            &secrets,
            &millis(tx.now),
        ],
    )?;
    tx.execute(
        "INSERT INTO mailboxes (id, invite) VALUES (?1, ?2)",
        &[mailbox.as_bytes(), &name],
    )?;
    Ok(name)
}

const COLUMNS: &str =
    "SELECT ref, kind, status, auto_accept, expires_at, created_at, secrets, version FROM invites";

struct Raw {
    name: String,
    kind: String,
    status: String,
    auto_accept: bool,
    expires_at: Option<i64>,
    created_at: i64,
    secrets: Vec<u8>,
    version: i64,
}

fn read(row: &Row<'_>) -> rusqlite::Result<Raw> {
    Ok(Raw {
        name: row.get(0)?,
        kind: row.get(1)?,
        status: row.get(2)?,
        auto_accept: row.get(3)?,
        expires_at: row.get(4)?,
        created_at: row.get(5)?,
        secrets: row.get(6)?,
        version: row.get(7)?,
    })
}

fn open(tx: &Tx<'_>, raw: Raw) -> Result<InviteRow, Fault> {
    let broken = || Fault::failed("an invite in the database is broken");
    let version = count(raw.version);
    let secrets = tx.open(TABLE, raw.name.as_bytes(), "secrets", version, &raw.secrets)?;
    Ok(InviteRow {
        kind: words::parse(&raw.kind).ok_or_else(broken)?,
        status: words::parse(&raw.status).ok_or_else(broken)?,
        held: HeldInvite::parse(&secrets).map_err(|_| broken())?,
        auto_accept: raw.auto_accept,
        expires_at: raw.expires_at.map(timestamp),
        created_at: timestamp(raw.created_at),
        name: raw.name,
        version,
    })
}

/// One invite.
///
/// # Errors
/// When SQLite fails or the row does not open.
pub fn load(tx: &Tx<'_>, name: &str) -> Result<Option<InviteRow>, Fault> {
    let raw = tx.row(&format!("{COLUMNS} WHERE ref = ?1"), &[&name], read)?;
    raw.map(|raw| open(tx, raw)).transpose()
}

/// A page of invites, by name after `after`.
///
/// # Errors
/// When SQLite fails or a row does not open.
pub fn page(tx: &Tx<'_>, after: &str, limit: i64) -> Result<Vec<InviteRow>, Fault> {
    let rows = tx.rows(
        &format!("{COLUMNS} WHERE ref > ?1 ORDER BY ref LIMIT ?2"),
        &[&after, &limit],
        read,
    )?;
    rows.into_iter().map(|raw| open(tx, raw)).collect()
}

/// The invite that a mailbox belongs to.
///
/// # Errors
/// When SQLite fails.
pub fn of_mailbox(tx: &Tx<'_>, mailbox: &MailboxId) -> Result<Option<String>, Fault> {
    Ok(tx
        .value::<Option<String>>(
            "SELECT invite FROM mailboxes WHERE id = ?1",
            &[mailbox.as_bytes()],
        )?
        .flatten())
}

/// Moves an invite to another status; false when it was not open.
///
/// # Errors
/// When SQLite fails.
pub fn close(tx: &Tx<'_>, name: &str, status: InviteStatus) -> Result<bool, Fault> {
    let sql = "UPDATE invites SET status = ?2 WHERE ref = ?1 AND status = 'open'";
    Ok(tx.execute(sql, &[&name, &words::word(&status)])? == 1)
}

/// Forgets an invite that nobody knows.
///
/// # Errors
/// When SQLite fails.
pub fn remove(tx: &Tx<'_>, name: &str) -> Result<(), Fault> {
    tx.execute("DELETE FROM mailboxes WHERE invite = ?1", &[&name])?;
    tx.execute("DELETE FROM invites WHERE ref = ?1", &[&name])?;
    Ok(())
}

/// Stores changed secrets of an invite.
///
/// # Errors
/// When SQLite fails.
pub fn save(tx: &mut Tx<'_>, row: &InviteRow) -> Result<(), Fault> {
    let version = row.version + 1;
    let secrets = tx.seal(
        TABLE,
        row.name.as_bytes(),
        "secrets",
        version,
        &row.held.encode(),
    );
    let changed = tx.execute(
        "UPDATE invites SET secrets = ?2, version = version + 1 WHERE ref = ?1 AND version = ?3",
        &[
            &row.name,
            &secrets,
            &i64::try_from(row.version).unwrap_or(i64::MAX),
        ],
    )?;
    if changed == 1 {
        Ok(())
    } else {
        Err(Fault::failed("an invite changed meanwhile"))
    }
}

/// Open single-use invites that are past their end, and open contact addresses.
///
/// # Errors
/// When SQLite fails or a row does not open.
pub fn to_tend(tx: &Tx<'_>) -> Result<Vec<InviteRow>, Fault> {
    let sql = format!("{COLUMNS} WHERE status = 'open' AND (expires_at <= ?1 OR kind = 'contact')");
    tx.rows(&sql, &[&millis(tx.now)], read)?
        .into_iter()
        .map(|raw| open(tx, raw))
        .collect()
}
