//! Mailboxes, their send keys and the prekeys in them.

use super::{
    Store, StoreError, accounts, quotas,
    rows::{count, first, int, millis, row, rows, run, time},
};
use rusqlite::{Connection, Row, params};
use sealpost_proto::{
    AccountId, ErrorCode, MailboxId, SendKey, Timestamp,
    limits::MAILBOXES_PER_PAGE,
    wire::{Mailbox, Mailboxes},
};
use sealpost_relay_core::{QuotaOverrides, Quotas, quota::Held};

/// An open mailbox, as far as accepting and reading prekeys need it.
#[derive(Debug, Clone)]
pub(crate) struct OpenMailboxFacts {
    /// Its owner.
    pub(crate) account: AccountId,
    /// One or two.
    pub(crate) keys: Vec<SendKey>,
    /// What waits in it.
    pub(crate) held: Held,
    /// Whether the operator suspended its owner.
    pub(crate) suspended: bool,
}

/// The account of a mailbox, as far as accepting needs it.
#[derive(Debug, Clone, Default)]
pub(super) struct Recipient {
    /// What waits in all its mailboxes.
    pub(super) held: Held,
    /// What of its quotas is different from what is said for all.
    pub(super) own: Option<QuotaOverrides>,
}

/// The prekeys of an open mailbox.
#[derive(Debug, Clone)]
pub(crate) struct StoredPrekeys {
    /// Whose mailbox it is.
    pub(crate) facts: OpenMailboxFacts,
    /// The sealed base, if one was published.
    pub(crate) sealed: Option<Vec<u8>>,
}

impl Store {
    /// Opens a mailbox or replaces its keys.
    ///
    /// # Errors
    /// [`StoreError`]; inside, `conflict` or `quota_exceeded`.
    pub(crate) async fn open_mailbox(
        &self,
        now: Timestamp,
        account: AccountId,
        mailbox: MailboxId,
        keys: Vec<SendKey>,
        quotas: Quotas,
    ) -> Result<Result<(), ErrorCode>, StoreError> {
        self.write_new(move |db| open(db, now, account, mailbox, &keys, &quotas))
            .await
    }

    /// Closes a mailbox; one that is not the account's is left alone. What waits in it is ended by the next sweep.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) async fn close_mailbox(
        &self,
        now: Timestamp,
        account: AccountId,
        mailbox: MailboxId,
    ) -> Result<(), StoreError> {
        self.write(move |db| close(db, now, account, mailbox)).await
    }

    /// A page of the account's open mailboxes.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) async fn mailboxes(
        &self,
        account: AccountId,
        after: Option<MailboxId>,
    ) -> Result<Mailboxes, StoreError> {
        self.read(move |db| list(db, account, after)).await
    }

    /// Publishes the prekeys of a mailbox. False when it is not an open one of the account's.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) async fn publish_prekeys(
        &self,
        account: AccountId,
        mailbox: MailboxId,
        sealed: Vec<u8>,
    ) -> Result<bool, StoreError> {
        let sql = "UPDATE mailboxes SET prekeys = ? WHERE mailbox = ? AND account = ? AND closed_at IS NULL";
        self.write_new(move |db| {
            Ok(run(
                db,
                sql,
                params![sealed, mailbox.as_bytes(), account.as_bytes()],
            )? == 1)
        })
        .await
    }

    /// The prekeys of an open mailbox.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) async fn prekeys(
        &self,
        mailbox: MailboxId,
    ) -> Result<Option<StoredPrekeys>, StoreError> {
        let sql = format!("SELECT {FACTS}, m.prekeys {OPEN}");
        self.read(move |db| {
            row(db, &sql, [mailbox.as_bytes()], |row| {
                Ok(StoredPrekeys {
                    facts: facts(row)?,
                    sealed: row.get("prekeys")?,
                })
            })
        })
        .await
    }
}

const FACTS: &str = "m.account, m.key_1, m.key_2, m.envelopes, m.bytes, a.suspended";
const OPEN: &str = "FROM mailboxes m JOIN accounts a ON a.account = m.account WHERE m.mailbox = ? AND m.closed_at IS NULL";

/// An open mailbox.
pub(super) fn find(
    db: &Connection,
    mailbox: MailboxId,
) -> Result<Option<OpenMailboxFacts>, StoreError> {
    row(
        db,
        &format!("SELECT {FACTS} {OPEN}"),
        [mailbox.as_bytes()],
        facts,
    )
}

/// The account that mailboxes belong to.
pub(super) fn recipient(db: &Connection, account: AccountId) -> Result<Recipient, StoreError> {
    let sql = "SELECT l.envelopes, l.bytes, q.overrides FROM lanes l LEFT JOIN quotas q ON q.account = l.account \
               WHERE l.account = ?";
    let found = row(db, sql, [account.as_bytes()], |row| {
        Ok(Recipient {
            held: held(row)?,
            own: quotas::read(row)?,
        })
    })?;
    Ok(found.unwrap_or_default())
}

/// Counts what came into a mailbox or left it.
pub(super) fn change_held(
    db: &Connection,
    mailbox: MailboxId,
    came: Held,
    left: Held,
) -> Result<(), StoreError> {
    run(
        db,
        "UPDATE mailboxes SET envelopes = max(0, envelopes + ?), bytes = max(0, bytes + ?) WHERE mailbox = ?",
        params![
            int(came.envelopes) - int(left.envelopes),
            int(came.bytes) - int(left.bytes),
            mailbox.as_bytes()
        ],
    )?;
    Ok(())
}

fn facts(row: &Row<'_>) -> rusqlite::Result<OpenMailboxFacts> {
    let keys = [row.get::<_, Option<[u8; 32]>>("key_1")?, row.get("key_2")?];
    Ok(OpenMailboxFacts {
        account: AccountId::from_bytes(row.get("account")?),
        keys: keys
            .into_iter()
            .flatten()
            .map(SendKey::from_bytes)
            .collect(),
        held: held(row)?,
        suspended: row.get("suspended")?,
    })
}

fn held(row: &Row<'_>) -> rusqlite::Result<Held> {
    Ok(Held {
        envelopes: count(row, "envelopes")?,
        bytes: count(row, "bytes")?,
    })
}

fn open(
    db: &Connection,
    now: Timestamp,
    account: AccountId,
    mailbox: MailboxId,
    keys: &[SendKey],
    for_all: &Quotas,
) -> Result<Result<(), ErrorCode>, StoreError> {
    let sql = "SELECT account = ? AND closed_at IS NULL FROM mailboxes WHERE mailbox = ?";
    let ours: Option<bool> = first(db, sql, params![account.as_bytes(), mailbox.as_bytes()])?;
    let (key_1, key_2) = (
        keys.first().map(SendKey::expose),
        keys.get(1).map(SendKey::expose),
    );
    match ours {
        Some(false) => return Ok(Err(ErrorCode::Conflict)),
        Some(true) => {
            let sql = "UPDATE mailboxes SET key_1 = ?, key_2 = ? WHERE mailbox = ?";
            run(db, sql, params![key_1, key_2, mailbox.as_bytes()])?;
            return Ok(Ok(()));
        }
        None => {}
    }
    let open = first::<i64>(
        db,
        "SELECT mailboxes FROM accounts WHERE account = ?",
        [account.as_bytes()],
    )?;
    if !quotas::of(db, account, for_all)?.allows_mailbox(
        open.and_then(|open| u64::try_from(open).ok())
            .unwrap_or_default(),
    ) {
        return Ok(Err(ErrorCode::QuotaExceeded));
    }
    run(
        db,
        "INSERT INTO mailboxes (mailbox, account, key_1, key_2, created_at) VALUES (?, ?, ?, ?, ?)",
        params![
            mailbox.as_bytes(),
            account.as_bytes(),
            key_1,
            key_2,
            millis(now)
        ],
    )?;
    accounts::count_mailboxes(db, account, 1)?;
    Ok(Ok(()))
}

fn close(
    db: &Connection,
    now: Timestamp,
    account: AccountId,
    mailbox: MailboxId,
) -> Result<(), StoreError> {
    let closed = run(
        db,
        "UPDATE mailboxes SET closed_at = ?, key_1 = NULL, key_2 = NULL, prekeys = NULL \
         WHERE mailbox = ? AND account = ? AND closed_at IS NULL",
        params![millis(now), mailbox.as_bytes(), account.as_bytes()],
    )?;
    if closed == 1 {
        accounts::count_mailboxes(db, account, -1)?;
        let sql = "INSERT OR IGNORE INTO closings (mailbox, account) VALUES (?, ?)";
        run(db, sql, params![mailbox.as_bytes(), account.as_bytes()])?;
    }
    Ok(())
}

fn list(
    db: &Connection,
    account: AccountId,
    after: Option<MailboxId>,
) -> Result<Mailboxes, StoreError> {
    let sql = "SELECT mailbox, created_at, envelopes, prekeys IS NOT NULL AS has_prekeys FROM mailboxes \
               WHERE account = ? AND closed_at IS NULL AND mailbox > ? ORDER BY mailbox LIMIT ?";
    let after = after.map(|id| id.as_bytes().to_vec()).unwrap_or_default();
    let limit = int(MAILBOXES_PER_PAGE as u64) + 1;
    let mut mailboxes = rows(db, sql, params![account.as_bytes(), after, limit], |row| {
        Ok(Mailbox {
            id: MailboxId::from_bytes(row.get("mailbox")?),
            created_at: time(row, "created_at")?,
            envelopes: count(row, "envelopes")?,
            has_prekeys: row.get("has_prekeys")?,
        })
    })?;
    let more = mailboxes.len() > MAILBOXES_PER_PAGE;
    mailboxes.truncate(MAILBOXES_PER_PAGE);
    let next = mailboxes.last().map(|mailbox| mailbox.id).filter(|_| more);
    Ok(Mailboxes { mailboxes, next })
}
