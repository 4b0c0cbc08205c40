//! Accounts, the nonces of their keys, and their checkpoints.

use super::{
    Store, StoreError,
    admin::tokens,
    lanes, quotas,
    rows::{count, first, int, millis, row, run, small, time},
};
use rusqlite::{Connection, Row, params};
use sealpost_proto::{
    AccountId, ErrorCode, Timestamp, WebhookSecret,
    wire::{Account, DeliveryMode, Registered, RegistrationPolicy},
};
use sealpost_relay_core::{Event, Lane, rates::OwnRates, registration};
use sealpost_signatures::{AccountKey, Nonce};

/// What every request of an account needs to know of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct AccountFacts {
    /// Which.
    pub(crate) account: AccountId,
    /// The generation of its key; sessions of another generation have ended.
    pub(crate) generation: u32,
    /// Whether the operator suspended it.
    pub(crate) suspended: bool,
    /// Whether its lane backs off, so that hearing of it changes something.
    pub(crate) heeds_contact: bool,
    /// What the operator said of its rates.
    pub(crate) own_rates: OwnRates,
}

/// An account that asks to be registered.
#[derive(Debug, Clone)]
pub(crate) struct NewAccount {
    /// Its id, should it be new.
    pub(crate) account: AccountId,
    /// The key that signed.
    pub(crate) key: AccountKey,
    /// Its webhook, or none when it pulls.
    pub(crate) webhook_url: Option<String>,
    /// The secret of its webhook, should it be new.
    pub(crate) webhook_secret: WebhookSecret,
    /// The relay's policy.
    pub(crate) policy: RegistrationPolicy,
    /// Whether it brought a token of the configuration.
    pub(crate) token_good: bool,
    /// SHA-256 of the token that it brought, which may be one that the operator made.
    pub(crate) token_digest: Option<[u8; 32]>,
}

/// An account that is registered now.
#[derive(Debug, Clone)]
pub(crate) struct Registration {
    /// What is answered.
    pub(crate) registered: Registered,
    /// Whether it was made just now.
    pub(crate) created: bool,
}

const FACTS: &str = "SELECT a.account, a.generation, a.suspended, l.machine, q.overrides \
                     FROM accounts a JOIN lanes l ON l.account = a.account \
                     LEFT JOIN quotas q ON q.account = a.account WHERE ";

impl Store {
    /// Registers an account, or finds the one that its key has already.
    ///
    /// # Errors
    /// [`StoreError`]; inside, the code with which the relay's policy refuses.
    pub(crate) async fn register(
        &self,
        now: Timestamp,
        new: NewAccount,
    ) -> Result<Result<Registration, ErrorCode>, StoreError> {
        self.write_new(move |db| register(db, now, &new)).await
    }

    /// Remembers that this key used this nonce. False when it had before.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) async fn use_nonce(
        &self,
        key: AccountKey,
        nonce: Nonce,
        expires_at: Timestamp,
    ) -> Result<bool, StoreError> {
        self.write(move |db| {
            let sql = "INSERT OR IGNORE INTO nonces (key, nonce, expires_at) VALUES (?, ?, ?)";
            Ok(run(
                db,
                sql,
                params![key.as_bytes(), nonce.as_str(), millis(expires_at)],
            )? == 1)
        })
        .await
    }

    /// What is known of an account.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) async fn facts(
        &self,
        account: AccountId,
    ) -> Result<Option<AccountFacts>, StoreError> {
        self.read(move |db| {
            row(
                db,
                &format!("{FACTS} a.account = ?"),
                [account.as_bytes()],
                facts,
            )
        })
        .await
    }

    /// What is known of the account with this key.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) async fn facts_by_key(
        &self,
        key: AccountKey,
    ) -> Result<Option<AccountFacts>, StoreError> {
        self.read(move |db| row(db, &format!("{FACTS} a.key = ?"), [key.as_bytes()], facts))
            .await
    }

    /// The account as its owner sees it.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) async fn account(&self, account: AccountId) -> Result<Option<Account>, StoreError> {
        self.read(move |db| view(db, account)).await
    }

    /// Chooses another way of delivery; a webhook has to answer its challenge before it is called. False when the account
    /// is gone.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) async fn change_delivery(
        &self,
        now: Timestamp,
        account: AccountId,
        webhook_url: Option<String>,
    ) -> Result<bool, StoreError> {
        self.write(move |db| {
            let sql =
                "UPDATE accounts SET webhook_url = ?2 WHERE account = ?1 AND webhook_url IS NOT ?2";
            if run(db, sql, params![account.as_bytes(), webhook_url])? == 0 {
                return Ok(first::<i64>(
                    db,
                    "SELECT 1 FROM accounts WHERE account = ?",
                    [account.as_bytes()],
                )?
                .is_some());
            }
            lanes::note(db, account, None)?;
            lanes::step(
                db,
                now,
                account,
                Event::Changed {
                    webhook: webhook_url.is_some(),
                },
                0,
            )?;
            Ok(true)
        })
        .await
    }

    /// Removes an account: its mailboxes close, its blobs are doomed, its sessions end. The rest of its traces goes with
    /// the next sweeps.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) async fn delete_account(
        &self,
        now: Timestamp,
        account: AccountId,
    ) -> Result<(), StoreError> {
        self.write(move |db| delete(db, now, account)).await
    }

    /// The sealed checkpoint, if one was written.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) async fn checkpoint(
        &self,
        account: AccountId,
    ) -> Result<Option<Vec<u8>>, StoreError> {
        let sql = "SELECT checkpoint FROM accounts WHERE account = ?";
        self.read(move |db| Ok(first::<Option<Vec<u8>>>(db, sql, [account.as_bytes()])?.flatten()))
            .await
    }

    /// Writes a checkpoint where `matches` agrees to the one that stands. False when it does not.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) async fn write_checkpoint(
        &self,
        account: AccountId,
        sealed: Vec<u8>,
        matches: impl FnOnce(Option<&[u8]>) -> bool + Clone + Send + 'static,
    ) -> Result<bool, StoreError> {
        self.write(move |db| {
            let sql = "SELECT checkpoint FROM accounts WHERE account = ?";
            let current = first::<Option<Vec<u8>>>(db, sql, [account.as_bytes()])?.flatten();
            if !matches(current.as_deref()) {
                return Ok(false);
            }
            run(
                db,
                "UPDATE accounts SET checkpoint = ? WHERE account = ?",
                params![sealed, account.as_bytes()],
            )?;
            Ok(true)
        })
        .await
    }
}

fn facts(row: &Row<'_>) -> rusqlite::Result<AccountFacts> {
    Ok(AccountFacts {
        account: AccountId::from_bytes(row.get("account")?),
        generation: small(row, "generation")?,
        suspended: row.get("suspended")?,
        heeds_contact: lanes::read(row)?.heeds_contact(),
        own_rates: quotas::read(row)?.unwrap_or_default().rates(),
    })
}

fn register(
    db: &Connection,
    now: Timestamp,
    new: &NewAccount,
) -> Result<Result<Registration, ErrorCode>, StoreError> {
    let sql = "SELECT account, webhook_secret, suspended FROM accounts WHERE key = ?";
    let known = row(db, sql, [new.key.as_bytes()], |row| {
        let registered = Registered {
            account_id: AccountId::from_bytes(row.get("account")?),
            webhook_secret: WebhookSecret::from_bytes(row.get("webhook_secret")?),
        };
        Ok((registered, row.get("suspended")?))
    })?;
    let token = match new
        .token_digest
        .filter(|_| known.is_none() && !new.token_good)
    {
        Some(digest) => tokens::find_good(db, now, digest)?,
        None => None,
    };
    let request = registration::Request {
        policy: new.policy,
        known: known.is_some(),
        suspended: known.as_ref().is_some_and(|(_, suspended)| *suspended),
        token_good: new.token_good || token.is_some(),
    };
    if let Err(code) = registration::decide(request) {
        return Ok(Err(code));
    }
    if let Some((registered, _)) = known {
        return Ok(Ok(Registration {
            registered,
            created: false,
        }));
    }
    if let Some(name) = token.filter(|_| new.policy == RegistrationPolicy::Token) {
        tokens::spend(db, now, &name)?;
    }
    insert(db, now, new)?;
    let registered = Registered {
        account_id: new.account,
        webhook_secret: new.webhook_secret.clone(),
    };
    Ok(Ok(Registration {
        registered,
        created: true,
    }))
}

fn insert(db: &Connection, now: Timestamp, new: &NewAccount) -> Result<(), StoreError> {
    run(
        db,
        "INSERT INTO accounts (account, key, generation, webhook_url, webhook_secret, created_at) \
         VALUES (?, ?, 1, ?, ?, ?)",
        params![
            new.account.as_bytes(),
            new.key.as_bytes(),
            new.webhook_url,
            new.webhook_secret.expose(),
            millis(now)
        ],
    )?;
    lanes::insert(db, new.account, &Lane::new(new.webhook_url.is_some()))
}

fn view(db: &Connection, account: AccountId) -> Result<Option<Account>, StoreError> {
    let sql = "SELECT a.webhook_url, a.created_at, l.machine, l.waiting, l.reason \
               FROM accounts a JOIN lanes l ON l.account = a.account WHERE a.account = ?";
    row(db, sql, [account.as_bytes()], |row| {
        let webhook_url: Option<String> = row.get("webhook_url")?;
        Ok(Account {
            account_id: account,
            delivery: webhook_url.map_or(DeliveryMode::Pull, |url| DeliveryMode::Webhook { url }),
            webhook_state: lanes::read(row)?.webhook,
            webhook_reason: row.get("reason")?,
            backlog: count(row, "waiting")?,
            created_at: time(row, "created_at")?,
        })
    })
}

pub(super) fn delete(
    db: &Connection,
    now: Timestamp,
    account: AccountId,
) -> Result<(), StoreError> {
    let id = account.as_bytes();
    run(
        db,
        "INSERT OR IGNORE INTO closings SELECT account, mailbox FROM mailboxes WHERE account = ?",
        [id],
    )?;
    run(
        db,
        "UPDATE mailboxes SET closed_at = ?, key_1 = NULL, key_2 = NULL, prekeys = NULL \
         WHERE account = ? AND closed_at IS NULL",
        params![millis(now), id],
    )?;
    run(
        db,
        "INSERT OR IGNORE INTO doomed SELECT blob FROM blobs WHERE account = ?",
        [id],
    )?;
    run(
        db,
        "DELETE FROM parts WHERE blob IN (SELECT blob FROM blobs WHERE account = ?)",
        [id],
    )?;
    run(db, "DELETE FROM blobs WHERE account = ?", [id])?;
    run(db, "DELETE FROM events WHERE account = ?", [id])?;
    run(db, "DELETE FROM lanes WHERE account = ?", [id])?;
    run(db, "DELETE FROM quotas WHERE account = ?", [id])?;
    run(db, "DELETE FROM accounts WHERE account = ?", [id])?;
    Ok(())
}

/// Counts mailboxes up or down.
pub(super) fn count_mailboxes(
    db: &Connection,
    account: AccountId,
    by: i64,
) -> Result<(), StoreError> {
    run(
        db,
        "UPDATE accounts SET mailboxes = mailboxes + ? WHERE account = ?",
        params![by, account.as_bytes()],
    )?;
    Ok(())
}

/// Counts a blob that was announced.
pub(super) fn blob_came(db: &Connection, account: &[u8; 16], size: u64) -> Result<(), StoreError> {
    let sql =
        "UPDATE accounts SET blobs = blobs + 1, blob_bytes = blob_bytes + ? WHERE account = ?";
    run(db, sql, params![int(size), account])?;
    Ok(())
}

/// Counts a blob that is doomed.
pub(super) fn blob_left(db: &Connection, account: &[u8; 16], size: u64) -> Result<(), StoreError> {
    let sql = "UPDATE accounts SET blobs = max(0, blobs - 1), blob_bytes = max(0, blob_bytes - ?) WHERE account = ?";
    run(db, sql, params![int(size), account])?;
    Ok(())
}
