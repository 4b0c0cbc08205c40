//! Relay jobs: requests to the relay about mailboxes and prekeys that a change requires. A job is
//! stored in the transaction of the change and runs after the commit. Requests about blobs are
//! stored with their files ([`super::files`]).

use crate::{fault::Fault, store::Tx};
use sealpost_e2ee::{SessionId, Sessions, sessions::InitReason};
use sealpost_node_core::model::{ConnectionId, InviteId};
use sealpost_proto::{ErrorCode, MailboxId, Timestamp, string_enum};
use sealpost_sqlite::{Damaged, RowExt as _, to_millis};
use std::fmt;
use zeroize::Zeroizing;

const TABLE: &str = "relay_jobs";

string_enum! {
    /// Action of a relay job.
    pub enum JobKind {
        /// Opens our mailbox; the payload is the send key.
        OpenMailbox = "open_mailbox",
        /// Publishes prekeys in a mailbox; the payload is the sealed prekey bundle.
        PublishPrekeys = "publish_prekeys",
        /// Fetches the peer's prekeys and starts a new session; the payload is a [`SessionStart`].
        StartSession = "start_session",
        /// Closes our mailbox; no payload.
        CloseMailbox = "close_mailbox",
    }
}

impl JobKind {
    /// Returns whether a refusal ends the job: a peer that has closed its mailbox has no prekeys, the
    /// relay stores prekeys only for a mailbox that it has, and it opens no mailbox again that was
    /// deleted.
    #[must_use]
    pub const fn is_ended_by(self, refusal: ErrorCode) -> bool {
        matches!(
            (self, refusal),
            (Self::StartSession, ErrorCode::MailboxClosed)
                | (Self::PublishPrekeys, ErrorCode::NotFound)
                | (Self::OpenMailbox, ErrorCode::Conflict)
        )
    }
}

/// Payload of a `start_session` job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionStart {
    pub reason: InitReason,
    /// Whether the job is obsolete once the current session is confirmed: the peer did not know the
    /// session, and may only have been about to learn of it.
    pub is_obsolete_when_confirmed: bool,
    /// Session that the new one replaces. If there is another one by then, the job is obsolete.
    pub replaces: Option<SessionId>,
}

impl SessionStart {
    pub(crate) fn encode(self) -> Vec<u8> {
        let mut bytes = vec![
            self.reason.to_byte(),
            u8::from(self.is_obsolete_when_confirmed),
        ];
        bytes.extend(self.replaces.iter().flat_map(SessionId::as_bytes));
        bytes
    }

    /// Parses the payload of a job.
    ///
    /// # Errors
    /// [`Fault::Damaged`] for any other payload.
    pub fn parse(payload: &[u8]) -> Result<Self, Fault> {
        let parse = || {
            let (&[reason, flag], id) = payload.split_first_chunk()?;
            let replaces = match id {
                [] => None,
                id => Some(SessionId::from_bytes(id.try_into().ok()?)),
            };
            Some(Self {
                reason: InitReason::from_byte(reason)?,
                is_obsolete_when_confirmed: flag != 0,
                replaces,
            })
        };
        parse().ok_or_else(|| Damaged::new(TABLE, "payload").into())
    }

    /// Whether another session is in use than the one that was to be replaced, or the peer has
    /// confirmed that one.
    pub(crate) fn is_obsolete(&self, sessions: &Sessions) -> bool {
        sessions.current_id() != self.replaces
            || self.is_obsolete_when_confirmed && sessions.is_confirmed()
    }
}

/// Invite or connection that a job belongs to. The jobs of one subject run in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum JobSubject {
    Invite(InviteId),
    Connection(ConnectionId),
}

impl fmt::Display for JobSubject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Invite(id) => id.fmt(f),
            Self::Connection(id) => id.fmt(f),
        }
    }
}

impl JobSubject {
    fn parse(text: &str) -> Option<Self> {
        let connection = ConnectionId::parse(text).map(Self::Connection);
        connection
            .or_else(|_| InviteId::parse(text).map(Self::Invite))
            .ok()
    }
}

impl From<InviteId> for JobSubject {
    fn from(id: InviteId) -> Self {
        Self::Invite(id)
    }
}

impl From<ConnectionId> for JobSubject {
    fn from(id: ConnectionId) -> Self {
        Self::Connection(id)
    }
}

/// Due job.
pub struct DueJob {
    pub id: i64,
    pub subject: JobSubject,
    pub kind: JobKind,
    pub mailbox: MailboxId,
    pub payload: Zeroizing<Vec<u8>>,
    /// Number of failed attempts.
    pub attempt: u32,
}

/// Adds a job that is due at `at`.
pub fn add(
    tx: &mut Tx<'_>,
    subject: JobSubject,
    kind: JobKind,
    mailbox: &MailboxId,
    payload: &[u8],
    at: Timestamp,
) -> Result<(), Fault> {
    let item: [u8; 16] = tx.random_bytes();
    let payload = tx.seal(TABLE, &item, "payload", 1, payload);
    tx.execute(
        "INSERT INTO relay_jobs (item, subject, kind, mailbox, payload, next_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        &[
            &item,
            &subject.to_string(),
            &kind.as_str(),
            mailbox.as_bytes(),
            &payload,
            &to_millis(at),
        ],
    )?;
    Ok(())
}

/// Returns the due jobs that do not wait for an earlier job of their subject. No job waits for a
/// `close_mailbox` job.
pub fn load_due(tx: &Tx<'_>, limit: i64) -> Result<Vec<DueJob>, Fault> {
    let sql = "SELECT id, item, subject, kind, mailbox, payload, attempt FROM relay_jobs j
               WHERE next_at <= ?1 AND NOT EXISTS (
                   SELECT 1 FROM relay_jobs o
                   WHERE o.subject = j.subject AND o.id < j.id AND o.kind <> 'close_mailbox')
               ORDER BY id LIMIT ?2";
    let rows = tx.query_rows(sql, &[&to_millis(tx.now), &limit], |row| {
        let job = DueJob {
            id: row.read("id")?,
            subject: row.parse("subject", JobSubject::parse)?,
            kind: row.parse("kind", JobKind::parse)?,
            mailbox: row.id("mailbox")?,
            payload: Zeroizing::default(),
            attempt: row.read("attempt")?,
        };
        Ok((
            job,
            row.read::<[u8; 16]>("item")?,
            row.read::<Vec<u8>>("payload")?,
        ))
    })?;
    rows.into_iter()
        .map(|(job, item, sealed)| {
            let payload = tx.open(TABLE, &item, "payload", 1, &sealed)?;
            Ok(DueJob { payload, ..job })
        })
        .collect()
}

/// Returns whether the subject has a job of a given kind.
pub fn contains(tx: &Tx<'_>, subject: JobSubject, kind: JobKind) -> Result<bool, Fault> {
    let sql = "SELECT 1 FROM relay_jobs WHERE subject = ?1 AND kind = ?2";
    let found = tx.query_value::<i64>(sql, &[&subject.to_string(), &kind.as_str()])?;
    Ok(found.is_some())
}

/// Returns whether the subject has a job of a given kind that has not been tried yet.
pub fn is_untried(tx: &Tx<'_>, subject: JobSubject, kind: JobKind) -> Result<bool, Fault> {
    let sql = "SELECT 1 FROM relay_jobs WHERE subject = ?1 AND kind = ?2 AND attempt = 0";
    let found = tx.query_value::<i64>(sql, &[&subject.to_string(), &kind.as_str()])?;
    Ok(found.is_some())
}

/// Returns whether the relay has opened the subject's mailbox and has its prekeys.
pub fn is_mailbox_ready(tx: &Tx<'_>, subject: JobSubject) -> Result<bool, Fault> {
    let sql = "SELECT 1 FROM relay_jobs
               WHERE subject = ?1 AND kind IN ('open_mailbox', 'publish_prekeys')";
    Ok(tx
        .query_value::<i64>(sql, &[&subject.to_string()])?
        .is_none())
}

/// Removes the jobs of a subject.
pub fn remove_for_subject(tx: &Tx<'_>, subject: JobSubject) -> Result<(), Fault> {
    tx.execute(
        "DELETE FROM relay_jobs WHERE subject = ?1",
        &[&subject.to_string()],
    )?;
    Ok(())
}

/// Removes the jobs of one kind of a subject.
pub fn remove_kind(tx: &Tx<'_>, subject: JobSubject, kind: JobKind) -> Result<(), Fault> {
    tx.execute(
        "DELETE FROM relay_jobs WHERE subject = ?1 AND kind = ?2",
        &[&subject.to_string(), &kind.as_str()],
    )?;
    Ok(())
}

/// Removes a completed job.
pub fn remove(tx: &Tx<'_>, id: i64) -> Result<(), Fault> {
    tx.execute("DELETE FROM relay_jobs WHERE id = ?1", &[&id])?;
    Ok(())
}

/// Delays a failed job.
pub fn postpone(tx: &Tx<'_>, id: i64, at: Timestamp) -> Result<(), Fault> {
    tx.execute(
        "UPDATE relay_jobs SET attempt = attempt + 1, next_at = ?2 WHERE id = ?1",
        &[&id, &to_millis(at)],
    )?;
    Ok(())
}

/// Makes failed jobs due now, because the relay responds again.
pub fn make_due_now(tx: &Tx<'_>) -> Result<(), Fault> {
    tx.execute("UPDATE relay_jobs SET next_at = 0 WHERE attempt > 0", &[])?;
    Ok(())
}

/// Returns when the next job is due.
pub fn find_next_due(tx: &Tx<'_>) -> Result<Option<Timestamp>, Fault> {
    let sql = "SELECT min(next_at) AS next_at FROM relay_jobs";
    let due = tx.query_row(sql, &[], |row| row.optional_timestamp(0))?;
    Ok(due.flatten())
}
