//! Mailboxes, their send keys and their prekeys.

use super::{Store, StoreError, accounts, quotas, rows::sql_limit};
use rusqlite::{Connection, Row, params};
use sealpost_proto::{
    AccountId, ErrorCode, MailboxId, SendKey, Timestamp,
    limits::MAILBOXES_PER_PAGE,
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
    /// Envelopes that wait in the mailbox.
    pub(crate) usage: EnvelopeUsage,
    /// Whether the account is suspended.
    pub(crate) is_suspended: bool,
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
    /// Opens a mailbox or replaces its keys. The inner error is `conflict` or `quota_exceeded`.
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
        let sql = "UPDATE mailboxes SET prekeys = ? WHERE id = ? AND account_id = ? AND closed_at \
            IS NULL";
        self.write_new(move |db| {
            let params = params![sealed, mailbox.as_bytes(), account.as_bytes()];
            Ok(query::execute(db, sql, params)? == 1)
        })
        .await
    }

    /// Loads the prekeys of an open mailbox.
    pub(crate) async fn load_prekeys(
        &self,
        mailbox: MailboxId,
    ) -> Result<Option<StoredPrekeys>, StoreError> {
        let sql = format!("SELECT {MAILBOX_COLUMNS}, m.prekeys {OPEN}");
        self.read(move |db| {
            Ok(query::first_row(db, &sql, [mailbox.as_bytes()], |row| {
                Ok(StoredPrekeys {
                    mailbox: read_mailbox(row)?,
                    sealed: row.read("prekeys")?,
                })
            })?)
        })
        .await
    }
}

const MAILBOX_COLUMNS: &str =
    "m.account_id, m.key_1, m.key_2, m.waiting_envelopes, m.waiting_bytes, a.suspended";
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

fn open(
    db: &Connection,
    now: Timestamp,
    account: AccountId,
    mailbox: MailboxId,
    keys: &[SendKey],
    default_quotas: &Quotas,
) -> Result<Result<(), ErrorCode>, StoreError> {
    let sql = "SELECT account_id = ? AND closed_at IS NULL AS is_own FROM mailboxes WHERE id = ?";
    let params = params![account.as_bytes(), mailbox.as_bytes()];
    let is_own: Option<bool> = query::first_value(db, sql, params)?;
    let (key_1, key_2) = (
        keys.first().map(SendKey::expose),
        keys.get(1).map(SendKey::expose),
    );
    match is_own {
        Some(false) => return Ok(Err(ErrorCode::Conflict)),
        Some(true) => {
            let sql = "UPDATE mailboxes SET key_1 = ?, key_2 = ? WHERE id = ?";
            query::execute(db, sql, params![key_1, key_2, mailbox.as_bytes()])?;
            return Ok(Ok(()));
        }
        None => {}
    }
    let sql = "SELECT mailbox_count FROM accounts WHERE id = ?";
    let open: Option<u64> = query::first_value(db, sql, [account.as_bytes()])?;
    let quotas = quotas::load_quotas(db, account, default_quotas)?;
    if !quotas.allows_mailbox(open.unwrap_or_default()) {
        return Ok(Err(ErrorCode::QuotaExceeded));
    }
    query::execute(
        db,
        "INSERT INTO mailboxes (id, account_id, key_1, key_2, created_at) VALUES (?, ?, ?, ?, ?)",
        params![
            mailbox.as_bytes(),
            account.as_bytes(),
            key_1,
            key_2,
            to_millis(now)
        ],
    )?;
    accounts::add_mailboxes(db, account, 1)?;
    Ok(Ok(()))
}

fn close(
    db: &Connection,
    now: Timestamp,
    account: AccountId,
    mailbox: MailboxId,
) -> Result<(), StoreError> {
    let closed = query::execute(
        db,
        "UPDATE mailboxes SET closed_at = ?, key_1 = NULL, key_2 = NULL, prekeys = NULL \
         WHERE id = ? AND account_id = ? AND closed_at IS NULL",
        params![to_millis(now), mailbox.as_bytes(), account.as_bytes()],
    )?;
    if closed == 1 {
        accounts::add_mailboxes(db, account, -1)?;
        let sql = "INSERT OR IGNORE INTO mailbox_closures (mailbox_id, account_id) VALUES (?, ?)";
        query::execute(db, sql, params![mailbox.as_bytes(), account.as_bytes()])?;
    }
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
