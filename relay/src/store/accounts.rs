//! Accounts, the nonces of their keys, and their checkpoints.

use super::{Store, StoreError, lanes, operator::tokens, quotas, rows::exists};
use rusqlite::{Connection, Row, params};
use sealpost_proto::{
    AccountId, ErrorCode, Timestamp, WebhookSecret, WebhookUrl,
    wire::{Account, DeliveryMode, Registered, RegistrationPolicy, WebhookState},
};
use sealpost_relay_core::{Event, Lane, rates::RateOverrides, registration};
use sealpost_signatures::{AccountKey, Nonce};
use sealpost_sqlite::{RowError, RowExt as _, query, to_integer, to_millis};

/// State of an account that each of its requests needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct AccountState {
    pub(crate) id: AccountId,
    /// Generation of the account key; sessions of another generation are invalid.
    pub(crate) key_generation: u32,
    pub(crate) is_suspended: bool,
    /// Whether the lane backs off, so that the next contact of the account makes it due.
    pub(crate) contact_ends_backoff: bool,
    pub(crate) webhook: WebhookState,
    pub(crate) rate_overrides: RateOverrides,
}

/// Request to register an account.
#[derive(Debug, Clone)]
pub(crate) struct NewAccount {
    /// Id for the account if it is new.
    pub(crate) account: AccountId,
    /// Key that signed the request.
    pub(crate) key: AccountKey,
    /// Absent if the node pulls.
    pub(crate) webhook_url: Option<WebhookUrl>,
    /// Webhook secret for the account if it is new.
    pub(crate) webhook_secret: WebhookSecret,
    pub(crate) policy: RegistrationPolicy,
    /// Whether the request has a token of the configuration.
    pub(crate) is_token_valid: bool,
    /// SHA-256 of the token of the request, which may be one that the operator created.
    pub(crate) token_digest: Option<[u8; 32]>,
}

/// Result of a registration.
#[derive(Debug, Clone)]
pub(crate) struct Registration {
    pub(crate) registered: Registered,
    /// Whether the account is new.
    pub(crate) is_new: bool,
}

const SELECT_STATE: &str = "SELECT a.id, a.key_generation, a.suspended, l.lane_state, q.overrides \
                     FROM accounts a JOIN lanes l ON l.account_id = a.id \
                     LEFT JOIN quota_overrides q ON q.account_id = a.id WHERE ";

impl Store {
    /// Registers an account, or finds the existing account of the key. The inner error is the
    /// refusal of the relay's policy.
    pub(crate) async fn register(
        &self,
        now: Timestamp,
        new: NewAccount,
    ) -> Result<Result<Registration, ErrorCode>, StoreError> {
        self.write_new(move |db| register(db, now, &new)).await
    }

    /// Records that a key used a nonce. Returns false if it had used it before.
    pub(crate) async fn use_nonce(
        &self,
        key: AccountKey,
        nonce: Nonce,
        expires_at: Timestamp,
    ) -> Result<bool, StoreError> {
        self.write(move |db| {
            let sql = "INSERT OR IGNORE INTO nonces (key, nonce, expires_at) VALUES (?, ?, ?)";
            let params = params![key.as_bytes(), nonce.as_str(), to_millis(expires_at)];
            Ok(query::execute(db, sql, params)? == 1)
        })
        .await
    }

    pub(crate) async fn load_account_state(
        &self,
        account: AccountId,
    ) -> Result<Option<AccountState>, StoreError> {
        let sql = format!("{SELECT_STATE} a.id = ?");
        self.read(move |db| {
            Ok(query::first_row(
                db,
                &sql,
                [account.as_bytes()],
                read_state,
            )?)
        })
        .await
    }

    pub(crate) async fn load_account_state_by_key(
        &self,
        key: AccountKey,
    ) -> Result<Option<AccountState>, StoreError> {
        let sql = format!("{SELECT_STATE} a.key = ?");
        self.read(move |db| Ok(query::first_row(db, &sql, [key.as_bytes()], read_state)?))
            .await
    }

    /// Loads an account as its owner sees it.
    pub(crate) async fn load_account(
        &self,
        account: AccountId,
    ) -> Result<Option<Account>, StoreError> {
        self.read(move |db| load(db, account)).await
    }

    /// Changes the webhook of an account or removes it. A new webhook has to pass its test
    /// before it is called. Returns false if the account does not exist.
    pub(crate) async fn change_delivery(
        &self,
        now: Timestamp,
        account: AccountId,
        webhook_url: Option<WebhookUrl>,
    ) -> Result<bool, StoreError> {
        self.write(move |db| {
            let sql =
                "UPDATE accounts SET webhook_url = ?2 WHERE id = ?1 AND webhook_url IS NOT ?2";
            let url = webhook_url.as_ref().map(WebhookUrl::as_str);
            if query::execute(db, sql, params![account.as_bytes(), url])? == 0 {
                return is_registered(db, account);
            }
            lanes::set_reason(db, account, None)?;
            lanes::step(
                db,
                now,
                account,
                Event::DeliveryModeChanged {
                    has_webhook: webhook_url.is_some(),
                },
                0,
            )?;
            Ok(true)
        })
        .await
    }

    /// Deletes an account. Later sweeps remove what it has left. Returns false if it does not exist.
    pub(crate) async fn delete_account(
        &self,
        now: Timestamp,
        account: AccountId,
    ) -> Result<bool, StoreError> {
        self.write(move |db| delete(db, now, account)).await
    }

    /// Loads the sealed checkpoint of an account.
    pub(crate) async fn load_checkpoint(
        &self,
        account: AccountId,
    ) -> Result<Option<Vec<u8>>, StoreError> {
        self.read(move |db| load_checkpoint(db, account)).await
    }

    /// Replaces the checkpoint if `matches` accepts the current one. Returns false if it does not.
    pub(crate) async fn write_checkpoint(
        &self,
        account: AccountId,
        sealed: Vec<u8>,
        matches: impl FnOnce(Option<&[u8]>) -> bool + Clone + Send + 'static,
    ) -> Result<bool, StoreError> {
        self.write(move |db| {
            if !matches(load_checkpoint(db, account)?.as_deref()) {
                return Ok(false);
            }
            let sql = "UPDATE accounts SET checkpoint = ? WHERE id = ?";
            query::execute(db, sql, params![sealed, account.as_bytes()])?;
            Ok(true)
        })
        .await
    }
}

fn read_state(row: &Row<'_>) -> Result<AccountState, RowError> {
    let lane = lanes::read_lane(row)?;
    Ok(AccountState {
        id: row.id("id")?,
        key_generation: row.read("key_generation")?,
        is_suspended: row.read("suspended")?,
        contact_ends_backoff: lane.contact_ends_backoff(),
        webhook: lane.webhook,
        rate_overrides: quotas::read_overrides(row)?.unwrap_or_default().rates(),
    })
}

fn load_checkpoint(db: &Connection, account: AccountId) -> Result<Option<Vec<u8>>, StoreError> {
    let sql = "SELECT checkpoint FROM accounts WHERE id = ?";
    let found = query::first_value(db, sql, [account.as_bytes()])?;
    Ok(found.flatten())
}

pub(super) fn is_registered(db: &Connection, account: AccountId) -> Result<bool, StoreError> {
    let sql = "SELECT 1 FROM accounts WHERE id = ?";
    exists(db, sql, [account.as_bytes()])
}

fn register(
    db: &Connection,
    now: Timestamp,
    new: &NewAccount,
) -> Result<Result<Registration, ErrorCode>, StoreError> {
    let sql = "SELECT id, webhook_secret, suspended FROM accounts WHERE key = ?";
    let known = query::first_row(db, sql, [new.key.as_bytes()], |row| {
        let registered = Registered {
            account_id: row.id("id")?,
            webhook_secret: WebhookSecret::from_bytes(row.read("webhook_secret")?),
        };
        Ok((registered, row.read("suspended")?))
    })?;
    let digest = new
        .token_digest
        .filter(|_| known.is_none() && !new.is_token_valid);
    let token = match digest {
        Some(digest) => tokens::find_valid(db, now, digest)?,
        None => None,
    };
    let request = registration::RegistrationContext {
        policy: new.policy,
        is_registered: known.is_some(),
        is_suspended: known.as_ref().is_some_and(|(_, suspended)| *suspended),
        is_token_valid: new.is_token_valid || token.is_some(),
    };
    if let Err(code) = registration::decide(request) {
        return Ok(Err(code));
    }
    if let Some((registered, _)) = known {
        return Ok(Ok(Registration {
            registered,
            is_new: false,
        }));
    }
    let used_token = token.filter(|_| new.policy == RegistrationPolicy::Token);
    if let Some(name) = &used_token {
        tokens::use_token(db, now, name)?;
    }
    insert(db, now, new, used_token.as_deref())?;
    let registered = Registered {
        account_id: new.account,
        webhook_secret: new.webhook_secret.clone(),
    };
    Ok(Ok(Registration {
        registered,
        is_new: true,
    }))
}

fn insert(
    db: &Connection,
    now: Timestamp,
    new: &NewAccount,
    token_name: Option<&str>,
) -> Result<(), StoreError> {
    query::execute(
        db,
        "INSERT INTO accounts \
             (id, key, key_generation, webhook_url, webhook_secret, token_name, created_at) \
         VALUES (?, ?, 1, ?, ?, ?, ?)",
        params![
            new.account.as_bytes(),
            new.key.as_bytes(),
            new.webhook_url.as_ref().map(WebhookUrl::as_str),
            new.webhook_secret.expose(),
            token_name,
            to_millis(now)
        ],
    )?;
    lanes::insert(db, new.account, &Lane::new(new.webhook_url.is_some()))
}

fn load(db: &Connection, account: AccountId) -> Result<Option<Account>, StoreError> {
    let sql = "SELECT a.webhook_url, a.created_at, l.lane_state, l.waiting_items, l.reason \
               FROM accounts a JOIN lanes l ON l.account_id = a.id WHERE a.id = ?";
    Ok(query::first_row(db, sql, [account.as_bytes()], |row| {
        let webhook_url: Option<String> = row.read("webhook_url")?;
        Ok(Account {
            account_id: account,
            delivery: webhook_url.map_or(DeliveryMode::Pull, |url| DeliveryMode::Webhook { url }),
            webhook_state: lanes::read_lane(row)?.webhook,
            webhook_reason: row.read("reason")?,
            backlog: row.read("waiting_items")?,
            created_at: row.timestamp("created_at")?,
        })
    })?)
}

/// Deletes an account. Its sessions end and its mailboxes and blobs are unknown from then on, because
/// all of them require the account. The sweep removes what it has left, which can be much.
pub(super) fn delete(
    db: &Connection,
    now: Timestamp,
    account: AccountId,
) -> Result<bool, StoreError> {
    let id = account.as_bytes();
    let sql = "INSERT OR IGNORE INTO closed_accounts (id, key, closed_at) \
               SELECT id, key, ? FROM accounts WHERE id = ?";
    if query::execute(db, sql, params![to_millis(now), id])? == 0 {
        return Ok(false);
    }
    for sql in [
        "DELETE FROM lanes WHERE account_id = ?",
        "DELETE FROM quota_overrides WHERE account_id = ?",
        "DELETE FROM accounts WHERE id = ?",
    ] {
        query::execute(db, sql, [id])?;
    }
    Ok(true)
}

/// Records that only the ids of the mailboxes of a deleted account are left. Without mailboxes,
/// nothing is.
pub(super) fn finish_closing(db: &Connection, account: [u8; 16]) -> Result<(), StoreError> {
    let sql = "DELETE FROM closed_accounts WHERE id = ?1 AND NOT EXISTS \
               (SELECT 1 FROM mailboxes WHERE account_id = ?1 AND closed_at IS NOT NULL)";
    if query::execute(db, sql, [account])? == 0 {
        let sql = "UPDATE closed_accounts SET is_emptied = 1 WHERE id = ?";
        query::execute(db, sql, [account])?;
    }
    Ok(())
}

/// Adds `by` to the number of open mailboxes of an account.
pub(super) fn add_mailboxes(
    db: &Connection,
    account: AccountId,
    by: i64,
) -> Result<(), StoreError> {
    let sql = "UPDATE accounts SET mailbox_count = mailbox_count + ? WHERE id = ?";
    query::execute(db, sql, params![by, account.as_bytes()])?;
    Ok(())
}

/// Adds an announced blob to the totals of its account.
pub(super) fn add_blob(
    db: &Connection,
    account: AccountId,
    size_bytes: u64,
) -> Result<(), StoreError> {
    let sql =
        "UPDATE accounts SET blob_count = blob_count + 1, blob_bytes = blob_bytes + ? WHERE id = ?";
    query::execute(db, sql, params![to_integer(size_bytes), account.as_bytes()])?;
    Ok(())
}

/// Subtracts a deleted blob from the totals of its account.
pub(super) fn remove_blob(
    db: &Connection,
    account: AccountId,
    size_bytes: u64,
) -> Result<(), StoreError> {
    let sql = "UPDATE accounts SET blob_count = max(0, blob_count - 1), \
               blob_bytes = max(0, blob_bytes - ?) WHERE id = ?";
    query::execute(db, sql, params![to_integer(size_bytes), account.as_bytes()])?;
    Ok(())
}
