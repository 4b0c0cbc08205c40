//! Our invites, with the secrets that open the requests in their mailboxes.

use crate::{
    fault::Fault,
    store::{Tx, ids},
};
use rusqlite::Row;
use sealpost_node_core::{
    issued_invite::IssuedInvite,
    model::{InviteId, InviteKind, InviteStatus},
};
use sealpost_proto::{MailboxId, Timestamp};
use sealpost_sqlite::{Damaged, RowError, RowExt as _, to_integer, to_millis};

const TABLE: &str = "invites";

/// Stored invite.
#[derive(Clone)]
pub struct InviteRow {
    pub id: InviteId,
    pub kind: InviteKind,
    pub status: InviteStatus,
    /// Whether requests are accepted automatically.
    pub auto_accept: bool,
    /// Expiry of a single-use invite.
    pub expires_at: Option<Timestamp>,
    pub created_at: Timestamp,
    /// Number of requests that were refused without a connection.
    pub refused_requests: u64,
    /// The invite and its secrets.
    pub issued: IssuedInvite,
    version: u64,
}

/// Stores a new invite and its mailbox.
pub fn insert(
    tx: &mut Tx<'_>,
    kind: InviteKind,
    auto_accept: bool,
    expires_at: Option<Timestamp>,
    issued: &IssuedInvite,
) -> Result<InviteId, Fault> {
    let id: InviteId = ids::generate(tx)?;
    let text = id.to_string();
    let secrets = tx.seal(TABLE, text.as_bytes(), "secrets", 1, &issued.encode());
    let mailbox = issued.invite.mailbox().id;
    tx.execute(
        "INSERT INTO invites (id, invite_key, mailbox, kind, status, auto_accept, expires_at,
             secrets, version, created_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, 1, ?9)",
        &[
            &text,
            issued.invite.id().as_bytes(),
            mailbox.as_bytes(),
            &kind.as_str(),
            &InviteStatus::Open.as_str(),
            &auto_accept,
            &expires_at.map(to_millis),
            &secrets,
            &to_millis(tx.now),
        ],
    )?;
    tx.execute(
        "INSERT INTO mailboxes (id, invite) VALUES (?1, ?2)",
        &[mailbox.as_bytes(), &text],
    )?;
    Ok(id)
}

const COLUMNS: &str = "SELECT id, kind, status, auto_accept, expires_at, created_at,
    refused_requests, secrets, version FROM invites";

/// Row with sealed secrets.
struct SealedInvite {
    id: InviteId,
    kind: InviteKind,
    status: InviteStatus,
    auto_accept: bool,
    expires_at: Option<Timestamp>,
    created_at: Timestamp,
    refused_requests: u64,
    secrets: Vec<u8>,
    version: u64,
}

fn read(row: &Row<'_>) -> Result<SealedInvite, RowError> {
    Ok(SealedInvite {
        id: row.parse("id", InviteId::parse)?,
        kind: row.parse("kind", InviteKind::parse)?,
        status: row.parse("status", InviteStatus::parse)?,
        auto_accept: row.read("auto_accept")?,
        expires_at: row.optional_timestamp("expires_at")?,
        created_at: row.timestamp("created_at")?,
        refused_requests: row.read("refused_requests")?,
        secrets: row.read("secrets")?,
        version: row.read("version")?,
    })
}

fn open(tx: &Tx<'_>, row: &SealedInvite) -> Result<InviteRow, Fault> {
    let key = row.id.to_string();
    let secrets = tx.open(TABLE, key.as_bytes(), "secrets", row.version, &row.secrets)?;
    Ok(InviteRow {
        id: row.id,
        kind: row.kind,
        status: row.status,
        issued: IssuedInvite::parse(&secrets).map_err(|_| Damaged::new(TABLE, "secrets"))?,
        auto_accept: row.auto_accept,
        expires_at: row.expires_at,
        created_at: row.created_at,
        refused_requests: row.refused_requests,
        version: row.version,
    })
}

pub fn load(tx: &Tx<'_>, id: InviteId) -> Result<Option<InviteRow>, Fault> {
    let sql = format!("{COLUMNS} WHERE id = ?1");
    let row = tx.query_row(&sql, &[&id.to_string()], read)?;
    row.map(|row| open(tx, &row)).transpose()
}

/// Returns a page of invites with ids above `after`, ordered by id.
pub fn load_page(tx: &Tx<'_>, after: &str, limit: i64) -> Result<Vec<InviteRow>, Fault> {
    let rows = tx.query_rows(
        &format!("{COLUMNS} WHERE id > ?1 ORDER BY id LIMIT ?2"),
        &[&after, &limit],
        read,
    )?;
    rows.into_iter().map(|row| open(tx, &row)).collect()
}

/// Returns the invite that owns a mailbox.
pub fn find_by_mailbox(tx: &Tx<'_>, mailbox: &MailboxId) -> Result<Option<InviteId>, Fault> {
    let sql = "SELECT invite FROM mailboxes WHERE id = ?1";
    let id = tx.query_row(sql, &[mailbox.as_bytes()], |row| {
        row.optional_parse("invite", InviteId::parse)
    })?;
    Ok(id.flatten())
}

/// Changes the status of an open invite and deletes the secrets of its prekeys, so that nobody who
/// takes the database later can open what was sealed with them. Returns false if the invite was not
/// open.
pub fn close(tx: &mut Tx<'_>, id: InviteId, status: InviteStatus) -> Result<bool, Fault> {
    let sql = "UPDATE invites SET status = ?2 WHERE id = ?1 AND status = 'open'";
    if tx.execute(sql, &[&id.to_string(), &status.as_str()])? != 1 {
        return Ok(false);
    }
    if let Some(mut row) = load(tx, id)? {
        row.issued.bundles.clear();
        save(tx, &row)?;
    }
    Ok(true)
}

/// Counts a request that is refused. It leaves no other trace, so that a late or excess request
/// costs nothing.
pub fn count_refused_request(tx: &Tx<'_>, id: InviteId) -> Result<(), Fault> {
    let sql = "UPDATE invites SET refused_requests = refused_requests + 1 WHERE id = ?1";
    tx.execute(sql, &[&id.to_string()])?;
    Ok(())
}

/// Deletes an invite that was never handed out.
pub fn delete(tx: &Tx<'_>, id: InviteId) -> Result<(), Fault> {
    let text = id.to_string();
    tx.execute("DELETE FROM mailboxes WHERE invite = ?1", &[&text])?;
    tx.execute("DELETE FROM invites WHERE id = ?1", &[&text])?;
    Ok(())
}

/// Stores changed secrets of an invite.
///
/// # Errors
/// Fails if another transaction has changed the invite since it was loaded.
pub fn save(tx: &mut Tx<'_>, row: &InviteRow) -> Result<(), Fault> {
    let (version, text) = (row.version + 1, row.id.to_string());
    let encoded = row.issued.encode();
    let secrets = tx.seal(TABLE, text.as_bytes(), "secrets", version, &encoded);
    let changed = tx.execute(
        "UPDATE invites SET secrets = ?2, version = version + 1 WHERE id = ?1 AND version = ?3",
        &[&text, &secrets, &to_integer(row.version)],
    )?;
    if changed == 1 {
        Ok(())
    } else {
        Err(Fault::failed("another transaction changed the invite"))
    }
}

/// Returns the open invites.
pub fn find_open(tx: &Tx<'_>) -> Result<Vec<InviteRow>, Fault> {
    select(tx, "status = 'open'")
}

/// Returns all invites.
pub(crate) fn load_all(tx: &Tx<'_>) -> Result<Vec<InviteRow>, Fault> {
    select(tx, "TRUE")
}

fn select(tx: &Tx<'_>, condition: &str) -> Result<Vec<InviteRow>, Fault> {
    let sql = format!("{COLUMNS} WHERE {condition}");
    tx.query_rows(&sql, &[], read)?
        .into_iter()
        .map(|row| open(tx, &row))
        .collect()
}

/// Returns the open single-use invites that have expired, and the open contact addresses.
pub fn find_due_for_maintenance(tx: &Tx<'_>) -> Result<Vec<InviteRow>, Fault> {
    let sql = format!("{COLUMNS} WHERE status = 'open' AND (expires_at <= ?1 OR kind = 'contact')");
    tx.query_rows(&sql, &[&to_millis(tx.relay_now)], read)?
        .into_iter()
        .map(|row| open(tx, &row))
        .collect()
}
