//! Mailboxes, their send keys and their prekeys.

use super::{Store, StoreError, accounts, quotas, rows::sql_limit};
use rusqlite::{Connection, Row, params};
use sealpost_proto::{
    AccountId, ErrorCode, MailboxId, SendKey, Timestamp,
    limits::{CLOSED_MAILBOXES_MAX, MAILBOXES_PER_PAGE},
    wire::{Mailbox, Mailboxes},
};
use sealpost_relay_core::{QuotaOverrides, Quotas, quota::EnvelopeUsage};
use sealpost_sqlite::{RowError, RowExt as _, query, to_integer, to_millis};

/// Open mailbox, as needed to accept envelopes and to read prekeys.
#[derive(Debug, Clone)]
pub(crate) struct OpenMailbox {
    pub(crate) account: AccountId,
    /// One or two send keys.
    pub(crate) keys: Vec<SendKey>,
    /// Envelopes that the mailbox accepts from one account within
    /// [`SENDER_LIMIT_PERIOD`](sealpost_proto::limits::SENDER_LIMIT_PERIOD).
    pub(crate) sender_envelopes_max: Option<u64>,
    /// Envelopes that wait in the mailbox.
    pub(crate) usage: EnvelopeUsage,
    /// Whether the account is suspended.
    pub(crate) is_suspended: bool,
}

/// What the owner of a mailbox sets when it opens or changes it.
#[derive(Debug, Clone)]
pub(crate) struct MailboxSettings {
    /// One or two send keys.
    pub(crate) keys: Vec<SendKey>,
    /// See [`OpenMailbox::sender_envelopes_max`].
    pub(crate) sender_envelopes_max: Option<u64>,
}

impl From<Vec<SendKey>> for MailboxSettings {
    fn from(keys: Vec<SendKey>) -> Self {
        Self {
            keys,
            sender_envelopes_max: None,
        }
    }
}

/// Account of a mailbox, as needed to accept envelopes.
#[derive(Debug, Clone, Default)]
pub(super) struct Recipient {
    /// Envelopes that wait in all mailboxes of the account.
    pub(super) usage: EnvelopeUsage,
    pub(super) overrides: Option<QuotaOverrides>,
}

/// Prekeys of an open mailbox.
#[derive(Debug, Clone)]
pub(crate) struct StoredPrekeys {
    pub(crate) mailbox: OpenMailbox,
    /// Absent until the owner publishes them.
    pub(crate) sealed: Option<Vec<u8>>,
}

impl Store {
    /// Opens a mailbox or replaces its settings. The inner error is `conflict`, `quota_exceeded`,
    /// `account_unknown` if the account was deleted meanwhile, or `unavailable` while envelopes of
    /// a deleted account wait in the mailbox.
    pub(crate) async fn open_mailbox(
        &self,
        now: Timestamp,
        account: AccountId,
        mailbox: MailboxId,
        settings: impl Into<MailboxSettings>,
        quotas: Quotas,
    ) -> Result<Result<(), ErrorCode>, StoreError> {
        let settings = settings.into();
        self.write_new(move |db| open(db, now, account, mailbox, &settings, &quotas))
            .await
    }

    /// Closes a mailbox if it belongs to the account. The next sweep fails the envelopes in it.
    pub(crate) async fn close_mailbox(
        &self,
        now: Timestamp,
        account: AccountId,
        mailbox: MailboxId,
    ) -> Result<(), StoreError> {
        self.write(move |db| close(db, now, account, mailbox)).await
    }

    /// Loads a page of the account's open mailboxes.
    pub(crate) async fn list_mailboxes(
        &self,
        account: AccountId,
        after: Option<MailboxId>,
    ) -> Result<Mailboxes, StoreError> {
        self.read(move |db| list(db, account, after)).await
    }

    /// Publishes the prekeys of a mailbox. Returns whether the mailbox is open and belongs to the
    /// account.
    pub(crate) async fn publish_prekeys(
        &self,
        account: AccountId,
        mailbox: MailboxId,
        sealed: Vec<u8>,
    ) -> Result<bool, StoreError> {
        let sql = "UPDATE mailboxes SET prekeys = ? \
                   WHERE id = ? AND account_id = ? AND closed_at IS NULL";
        self.write_new(move |db| {
            let params = params![sealed, mailbox.as_bytes(), account.as_bytes()];
            Ok(query::execute(db, sql, params)? == 1)
        })
        .await
    }

    /// Loads the prekeys of an open mailbox. The inner error is `mailbox_closed` or
    /// `mailbox_unknown`.
    pub(crate) async fn load_prekeys(
        &self,
        mailbox: MailboxId,
    ) -> Result<Result<StoredPrekeys, ErrorCode>, StoreError> {
        let sql = format!("SELECT {MAILBOX_COLUMNS}, m.prekeys {OPEN}");
        self.read(move |db| {
            let stored = query::first_row(db, &sql, [mailbox.as_bytes()], |row| {
                Ok(StoredPrekeys {
                    mailbox: read_mailbox(row)?,
                    sealed: row.read("prekeys")?,
                })
            })?;
            Ok(match stored {
                Some(stored) => Ok(stored),
                None if is_closed_by_owner(db, mailbox)? => Err(ErrorCode::MailboxClosed),
                None => Err(ErrorCode::MailboxUnknown),
            })
        })
        .await
    }
}

const MAILBOX_COLUMNS: &str = "m.account_id, m.key_1, m.key_2, m.sender_envelopes_max, \
     m.waiting_envelopes, m.waiting_bytes, a.suspended";
const OPEN: &str = "FROM mailboxes m JOIN accounts a ON a.id = m.account_id \
                    WHERE m.id = ? AND m.closed_at IS NULL";

pub(super) fn find_open(
    db: &Connection,
    mailbox: MailboxId,
) -> Result<Option<OpenMailbox>, StoreError> {
    let sql = format!("SELECT {MAILBOX_COLUMNS} {OPEN}");
    Ok(query::first_row(
        db,
        &sql,
        [mailbox.as_bytes()],
        read_mailbox,
    )?)
}

/// Returns whether the owner of a mailbox deleted it. The id of such a mailbox is never used again.
pub(super) fn is_closed_by_owner(db: &Connection, mailbox: MailboxId) -> Result<bool, StoreError> {
    let sql = "SELECT closed_by_owner FROM mailboxes WHERE id = ? AND closed_at IS NOT NULL";
    let closed = query::first_row(db, sql, [mailbox.as_bytes()], |row| {
        row.read("closed_by_owner")
    })?;
    Ok(closed.unwrap_or_default())
}

/// Loads the account of a mailbox.
pub(super) fn load_recipient(db: &Connection, account: AccountId) -> Result<Recipient, StoreError> {
    let sql = "SELECT l.waiting_envelopes, l.waiting_bytes, q.overrides FROM lanes l \
               LEFT JOIN quota_overrides q ON q.account_id = l.account_id WHERE l.account_id = ?";
    let found = query::first_row(db, sql, [account.as_bytes()], |row| {
        Ok(Recipient {
            usage: read_usage(row)?,
            overrides: quotas::read_overrides(row)?,
        })
    })?;
    Ok(found.unwrap_or_default())
}

/// Updates the counts of a mailbox.
pub(super) fn update_usage(
    db: &Connection,
    mailbox: MailboxId,
    added: EnvelopeUsage,
    removed: EnvelopeUsage,
) -> Result<(), StoreError> {
    query::execute(
        db,
        "UPDATE mailboxes SET waiting_envelopes = max(0, waiting_envelopes + ?), \
             waiting_bytes = max(0, waiting_bytes + ?) WHERE id = ?",
        params![
            to_integer(added.envelopes) - to_integer(removed.envelopes),
            to_integer(added.bytes) - to_integer(removed.bytes),
            mailbox.as_bytes()
        ],
    )?;
    Ok(())
}

fn read_mailbox(row: &Row<'_>) -> Result<OpenMailbox, RowError> {
    let keys = [row.read::<Option<[u8; 32]>>("key_1")?, row.read("key_2")?];
    Ok(OpenMailbox {
        account: row.id("account_id")?,
        keys: keys
            .into_iter()
            .flatten()
            .map(SendKey::from_bytes)
            .collect(),
        sender_envelopes_max: row.read("sender_envelopes_max")?,
        usage: read_usage(row)?,
        is_suspended: row.read("suspended")?,
    })
}

fn read_usage(row: &Row<'_>) -> Result<EnvelopeUsage, RowError> {
    Ok(EnvelopeUsage {
        envelopes: row.read("waiting_envelopes")?,
        bytes: row.read("waiting_bytes")?,
    })
}

/// Who uses a mailbox id.
enum MailboxOwner {
    Nobody,
    Own,
    Other,
    /// An earlier account with the same key, with which the mailbox was closed.
    Predecessor {
        has_waiting: bool,
    },
}

fn find_owner(
    db: &Connection,
    account: AccountId,
    mailbox: MailboxId,
) -> Result<MailboxOwner, StoreError> {
    let sql = "SELECT account_id = ?1 AND closed_at IS NULL AS is_own, \
                   waiting_envelopes > 0 AS has_waiting, \
                   closed_by_owner = 0 AND EXISTS (SELECT 1 FROM closed_accounts c \
                       JOIN accounts a ON a.key = c.key \
                       WHERE c.id = m.account_id AND a.id = ?1) AS is_predecessor \
               FROM mailboxes m WHERE id = ?2";
    let params = params![account.as_bytes(), mailbox.as_bytes()];
    let owner = query::first_row(db, sql, params, |row| {
        Ok(if row.read("is_own")? {
            MailboxOwner::Own
        } else if row.read("is_predecessor")? {
            MailboxOwner::Predecessor {
                has_waiting: row.read("has_waiting")?,
            }
        } else {
            MailboxOwner::Other
        })
    })?;
    Ok(owner.unwrap_or(MailboxOwner::Nobody))
}

fn open(
    db: &Connection,
    now: Timestamp,
    account: AccountId,
    mailbox: MailboxId,
    settings: &MailboxSettings,
    default_quotas: &Quotas,
) -> Result<Result<(), ErrorCode>, StoreError> {
    match find_owner(db, account, mailbox)? {
        MailboxOwner::Other => return Ok(Err(ErrorCode::Conflict)),
        MailboxOwner::Predecessor { has_waiting: true } => {
            return Ok(Err(ErrorCode::Unavailable));
        }
        MailboxOwner::Own => {
            write_settings(db, mailbox, settings)?;
            return Ok(Ok(()));
        }
        MailboxOwner::Nobody | MailboxOwner::Predecessor { has_waiting: false } => {}
    }
    let sql = "SELECT mailbox_count FROM accounts WHERE id = ?";
    let Some(open_count) = query::first_value(db, sql, [account.as_bytes()])? else {
        return Ok(Err(ErrorCode::AccountUnknown));
    };
    let quotas = quotas::load_quotas(db, account, default_quotas)?;
    if !quotas.allows_mailbox(open_count) {
        return Ok(Err(ErrorCode::QuotaExceeded));
    }
    query::execute(
        db,
        "INSERT OR REPLACE INTO mailboxes (id, account_id, created_at) VALUES (?, ?, ?)",
        params![mailbox.as_bytes(), account.as_bytes(), to_millis(now)],
    )?;
    write_settings(db, mailbox, settings)?;
    accounts::add_mailboxes(db, account, 1)?;
    Ok(Ok(()))
}

fn write_settings(
    db: &Connection,
    mailbox: MailboxId,
    settings: &MailboxSettings,
) -> Result<(), StoreError> {
    let keys = &settings.keys;
    query::execute(
        db,
        "UPDATE mailboxes SET key_1 = ?, key_2 = ?, sender_envelopes_max = ? WHERE id = ?",
        params![
            keys.first().map(SendKey::expose),
            keys.get(1).map(SendKey::expose),
            settings.sender_envelopes_max.map(to_integer),
            mailbox.as_bytes()
        ],
    )?;
    Ok(())
}

pub(super) fn close(
    db: &Connection,
    now: Timestamp,
    account: AccountId,
    mailbox: MailboxId,
) -> Result<(), StoreError> {
    let closed = query::execute(
        db,
        "UPDATE mailboxes SET closed_at = ?, closed_by_owner = 1, key_1 = NULL, key_2 = NULL, \
             prekeys = NULL \
         WHERE id = ? AND account_id = ? AND closed_at IS NULL",
        params![to_millis(now), mailbox.as_bytes(), account.as_bytes()],
    )?;
    if closed == 1 {
        accounts::add_mailboxes(db, account, -1)?;
        let sql = "INSERT OR IGNORE INTO mailbox_closures (mailbox_id, account_id) VALUES (?, ?)";
        query::execute(db, sql, params![mailbox.as_bytes(), account.as_bytes()])?;
        forget_oldest(db, account)?;
    }
    Ok(())
}

/// Counts a closed mailbox. Beyond [`CLOSED_MAILBOXES_MAX`], the id that was closed first becomes
/// available to everybody again.
fn forget_oldest(db: &Connection, account: AccountId) -> Result<(), StoreError> {
    let id = account.as_bytes();
    let sql = "UPDATE accounts SET closed_mailbox_count = closed_mailbox_count + 1 WHERE id = ? \
               RETURNING closed_mailbox_count";
    let count: Option<u64> = query::first_value(db, sql, [id])?;
    if count.is_none_or(|count| count <= CLOSED_MAILBOXES_MAX) {
        return Ok(());
    }
    let sql = "DELETE FROM mailboxes WHERE id IN (SELECT id FROM mailboxes \
                   WHERE account_id = ? AND closed_at IS NOT NULL \
                   ORDER BY closed_at LIMIT 2) AND waiting_envelopes = 0";
    let forgotten = query::execute(db, sql, [id])?;
    let sql = "UPDATE accounts SET closed_mailbox_count = closed_mailbox_count - ? WHERE id = ?";
    query::execute(db, sql, params![to_integer(forgotten as u64), id])?;
    Ok(())
}

fn list(
    db: &Connection,
    account: AccountId,
    after: Option<MailboxId>,
) -> Result<Mailboxes, StoreError> {
    let sql = "SELECT id, created_at, waiting_envelopes, prekeys IS NOT NULL AS has_prekeys \
               FROM mailboxes WHERE account_id = ? AND closed_at IS NULL AND id > ? ORDER BY id \
               LIMIT ?";
    let after = after.map(|id| id.as_bytes().to_vec()).unwrap_or_default();
    let params = params![account.as_bytes(), after, sql_limit(MAILBOXES_PER_PAGE + 1)];
    let mut mailboxes = query::all_rows(db, sql, params, |row| {
        Ok(Mailbox {
            id: row.id("id")?,
            created_at: row.timestamp("created_at")?,
            envelopes: row.read("waiting_envelopes")?,
            has_prekeys: row.read("has_prekeys")?,
        })
    })?;
    let has_more = mailboxes.len() > MAILBOXES_PER_PAGE;
    mailboxes.truncate(MAILBOXES_PER_PAGE);
    let next = mailboxes
        .last()
        .map(|mailbox| mailbox.id)
        .filter(|_| has_more);
    Ok(Mailboxes { mailboxes, next })
}
