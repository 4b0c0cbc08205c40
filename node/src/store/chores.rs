//! Calls of the relay that a change made necessary: a row in the transaction of the change, carried out after its commit.

use crate::{
    fault::Fault,
    store::{Tx, millis, timestamp},
};
use sealpost_proto::{ErrorCode, MailboxId, Timestamp};
use zeroize::Zeroizing;

const TABLE: &str = "chores";

/// What the relay has to be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Chore {
    /// Open a mailbox of ours; the payload is its send key.
    OpenMailbox,
    /// Publish a prekey base in it; the payload is the sealed base.
    PublishPrekeys,
    /// Fetch the peer's base and begin a new session; no payload.
    RotateSession,
    /// Close a mailbox of ours; no payload.
    CloseMailbox,
}

impl Chore {
    const ALL: [Self; 4] = [
        Self::OpenMailbox,
        Self::PublishPrekeys,
        Self::RotateSession,
        Self::CloseMailbox,
    ];

    /// Whether this refusal ends it: of a peer that closed its mailbox there are no prekeys to come.
    #[must_use]
    pub const fn is_over(self, refusal: ErrorCode) -> bool {
        matches!(
            (self, refusal),
            (Self::RotateSession, ErrorCode::MailboxUnknown)
        )
    }

    const fn as_str(self) -> &'static str {
        match self {
            Self::OpenMailbox => "open_mailbox",
            Self::PublishPrekeys => "publish_prekeys",
            Self::RotateSession => "rotate_session",
            Self::CloseMailbox => "close_mailbox",
        }
    }
}

/// A chore that is due.
pub struct DueChore {
    /// Its row.
    pub id: i64,
    /// The invite or connection it belongs to.
    pub subject: String,
    /// What to ask.
    pub chore: Chore,
    /// For which mailbox.
    pub mailbox: MailboxId,
    /// What goes with it.
    pub payload: Zeroizing<Vec<u8>>,
    /// Tries that failed.
    pub attempt: u32,
}

/// Adds a chore that is due at `at`.
///
/// # Errors
/// When SQLite fails.
pub fn add(
    tx: &mut Tx<'_>,
    subject: &str,
    chore: Chore,
    mailbox: &MailboxId,
    payload: &[u8],
    at: Timestamp,
) -> Result<(), Fault> {
    let mut item = [0; 16];
    tx.rng.fill_bytes(&mut item);
    let payload = tx.seal(TABLE, &item, "payload", 1, payload);
    tx.execute(
        "INSERT INTO chores (item, subject, kind, mailbox, payload, next_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        &[&item, &subject, &chore.as_str(), mailbox.as_bytes(), &payload, &millis(at)],
    )?;
    Ok(())
}

/// The oldest chore of each subject that is due: those behind it wait for it.
///
/// # Errors
/// When SQLite fails or a row does not open.
pub fn due(tx: &Tx<'_>, limit: i64) -> Result<Vec<DueChore>, Fault> {
    let sql = "SELECT id, item, subject, kind, mailbox, payload, attempt FROM chores c
               WHERE next_at <= ?1 AND NOT EXISTS (SELECT 1 FROM chores o WHERE o.subject = c.subject AND o.id < c.id AND o.kind <> 'close_mailbox')
               ORDER BY id LIMIT ?2";
    let rows = tx.rows(sql, &[&millis(tx.now), &limit], |row| {
        Ok((
            row.get::<_, i64>(0)?,
            row.get::<_, [u8; 16]>(1)?,
            row.get::<_, String>(2)?,
            row.get::<_, String>(3)?,
            row.get::<_, [u8; 16]>(4)?,
            row.get::<_, Vec<u8>>(5)?,
            row.get::<_, u32>(6)?,
        ))
    })?;
    rows.into_iter()
        .map(|(id, item, subject, kind, mailbox, payload, attempt)| {
            let chore = Chore::ALL.into_iter().find(|chore| chore.as_str() == kind);
            Ok(DueChore {
                id,
                subject,
                chore: chore.ok_or_else(|| Fault::failed("a chore in the database is broken"))?,
                mailbox: MailboxId::from_bytes(mailbox),
                payload: tx.open(TABLE, &item, "payload", 1, &payload)?,
                attempt,
            })
        })
        .collect()
}

/// Whether the subject has a chore of this kind.
///
/// # Errors
/// When SQLite fails.
pub fn has(tx: &Tx<'_>, subject: &str, chore: Chore) -> Result<bool, Fault> {
    let sql = "SELECT 1 FROM chores WHERE subject = ?1 AND kind = ?2";
    Ok(tx
        .value::<i64>(sql, &[&subject, &chore.as_str()])?
        .is_some())
}

/// Whether the subject's mailbox is open and its prekeys are published.
///
/// # Errors
/// When SQLite fails.
pub fn is_ready(tx: &Tx<'_>, subject: &str) -> Result<bool, Fault> {
    let sql =
        "SELECT 1 FROM chores WHERE subject = ?1 AND kind IN ('open_mailbox', 'publish_prekeys')";
    Ok(tx.value::<i64>(sql, &[&subject])?.is_none())
}

/// Forgets what a subject still had to ask.
///
/// # Errors
/// When SQLite fails.
pub fn forget(tx: &Tx<'_>, subject: &str) -> Result<(), Fault> {
    tx.execute("DELETE FROM chores WHERE subject = ?1", &[&subject])?;
    Ok(())
}

/// A chore is done.
///
/// # Errors
/// When SQLite fails.
pub fn finish(tx: &Tx<'_>, id: i64) -> Result<(), Fault> {
    tx.execute("DELETE FROM chores WHERE id = ?1", &[&id])?;
    Ok(())
}

/// A chore did not work; it is due again at `at`.
///
/// # Errors
/// When SQLite fails.
pub fn postpone(tx: &Tx<'_>, id: i64, at: Timestamp) -> Result<(), Fault> {
    tx.execute(
        "UPDATE chores SET attempt = attempt + 1, next_at = ?2 WHERE id = ?1",
        &[&id, &millis(at)],
    )?;
    Ok(())
}

/// What waits after a failure is due now: the relay is back.
///
/// # Errors
/// When SQLite fails.
pub fn hurry(tx: &Tx<'_>) -> Result<(), Fault> {
    tx.execute("UPDATE chores SET next_at = 0 WHERE attempt > 0", &[])?;
    Ok(())
}

/// When the next chore is due.
///
/// # Errors
/// When SQLite fails.
pub fn next_due(tx: &Tx<'_>) -> Result<Option<Timestamp>, Fault> {
    Ok(tx
        .value::<Option<i64>>("SELECT min(next_at) FROM chores", &[])?
        .flatten()
        .map(timestamp))
}
