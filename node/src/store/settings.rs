//! The single row with the node's identity, account and home relay.

use crate::{fault::Fault, store::Tx};
use rusqlite::Row as SqlRow;
use sealpost_proto::{AccountId, Origin, WebhookSecret, wire::DeliveryMode};
use sealpost_sqlite::{Damaged, RowError, RowExt as _, to_millis};
use std::net::SocketAddr;
use zeroize::Zeroizing;

const PK: &[u8] = b"node";

/// Identity, account and home relay of this node.
pub struct Settings {
    /// Name on the card.
    pub name: String,
    /// Two seeds of the identity.
    pub identity: Zeroizing<Vec<u8>>,
    /// Signed card.
    pub card: Vec<u8>,
    /// Seed of the account key.
    pub account_key: Zeroizing<Vec<u8>>,
    /// Home relay.
    pub relay: Origin,
    /// Delivery mode of the account.
    pub delivery: DeliveryMode,
    /// Address of the webhook listener.
    pub webhook_listen: Option<SocketAddr>,
    /// Address of the local API.
    pub listen: SocketAddr,
    /// Token for the registration, if the relay requires one.
    pub registration_token: Option<String>,
    /// Account; `None` before the registration.
    pub account: Option<(AccountId, WebhookSecret)>,
}

/// Inserts the row of a new node.
pub(crate) fn insert(tx: &mut Tx<'_>, settings: &Settings) -> Result<(), Fault> {
    let identity = tx.seal("node", PK, "identity", 1, &settings.identity);
    let account_key = tx.seal("node", PK, "account_key", 1, &settings.account_key);
    let token = settings.registration_token.as_ref();
    let token = token.map(|token| tx.seal("node", PK, "registration_token", 1, token.as_bytes()));
    let delivery = serde_json::to_string(&settings.delivery)
        .map_err(|error| Fault::failed(error.to_string()))?;
    tx.execute(
        "INSERT INTO node (id, name, identity, card, account_key, relay, delivery, \
         webhook_listen, registration_token, listen,
             created_at)
         VALUES (1, ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
        &[
            &settings.name,
            &identity,
            &settings.card,
            &account_key,
            &settings.relay.as_str(),
            &delivery,
            &settings.webhook_listen.map(|address| address.to_string()),
            &token,
            &settings.listen.to_string(),
            &to_millis(tx.now),
        ],
    )?;
    Ok(())
}

/// Row with sealed columns.
struct SealedRow {
    settings: Settings,
    identity: Vec<u8>,
    account_key: Vec<u8>,
    registration_token: Option<Vec<u8>>,
    account: Option<(AccountId, Vec<u8>)>,
}

/// Returns the settings; `None` if the data directory was not initialised.
pub(crate) fn load(tx: &Tx<'_>) -> Result<Option<Settings>, Fault> {
    let sql = "SELECT name, identity, card, account_key, relay, delivery, webhook_listen, listen,
                   registration_token, account_id, webhook_secret
               FROM node";
    let row = tx.query_row(sql, &[], read)?;
    row.map(|row| open(tx, row)).transpose()
}

fn read(row: &SqlRow<'_>) -> Result<SealedRow, RowError> {
    let account: Option<AccountId> = row.optional_id("account_id")?;
    let secret: Option<Vec<u8>> = row.read("webhook_secret")?;
    Ok(SealedRow {
        identity: row.read("identity")?,
        account_key: row.read("account_key")?,
        registration_token: row.read("registration_token")?,
        account: account.zip(secret),
        settings: Settings {
            name: row.read("name")?,
            identity: Zeroizing::default(),
            card: row.read("card")?,
            account_key: Zeroizing::default(),
            relay: row.parse("relay", Origin::parse)?,
            delivery: row.parse("delivery", |json| serde_json::from_str(json))?,
            webhook_listen: row.optional_parse("webhook_listen", str::parse::<SocketAddr>)?,
            listen: row.parse("listen", str::parse::<SocketAddr>)?,
            registration_token: None,
            account: None,
        },
    })
}

fn open(tx: &Tx<'_>, row: SealedRow) -> Result<Settings, Fault> {
    let token = row
        .registration_token
        .map(|sealed| tx.open("node", PK, "registration_token", 1, &sealed))
        .transpose()?
        .map(|bytes| String::from_utf8(bytes.to_vec()))
        .transpose()
        .map_err(|_| Damaged::new("node", "registration_token"))?;
    let account = match row.account {
        Some((id, sealed)) => {
            let secret = tx.open("node", PK, "webhook_secret", 1, &sealed)?;
            let secret = <[u8; 32]>::try_from(secret.as_slice())
                .map_err(|_| Damaged::new("node", "webhook_secret"))?;
            Some((id, WebhookSecret::from_bytes(secret)))
        }
        None => None,
    };
    Ok(Settings {
        identity: tx.open("node", PK, "identity", 1, &row.identity)?,
        account_key: tx.open("node", PK, "account_key", 1, &row.account_key)?,
        registration_token: token,
        account,
        ..row.settings
    })
}

/// Returns the id of the account at the relay; `None` before the registration.
pub(crate) fn account_id(tx: &Tx<'_>) -> Result<Option<AccountId>, Fault> {
    let sql = "SELECT account_id FROM node";
    let found = tx.query_row(sql, &[], |row| row.optional_id("account_id"))?;
    Ok(found.flatten())
}

/// Replaces the token for the registration.
pub(crate) fn set_registration_token(tx: &mut Tx<'_>, token: &str) -> Result<(), Fault> {
    let sealed = tx.seal("node", PK, "registration_token", 1, token.as_bytes());
    tx.execute("UPDATE node SET registration_token = ?1", &[&sealed])?;
    Ok(())
}

/// Stores the account that the relay registered.
pub(crate) fn set_account(
    tx: &mut Tx<'_>,
    id: &AccountId,
    secret: &WebhookSecret,
) -> Result<(), Fault> {
    let sealed = tx.seal("node", PK, "webhook_secret", 1, secret.expose());
    tx.execute(
        "UPDATE node SET account_id = ?1, webhook_secret = ?2",
        &[id.as_bytes(), &sealed],
    )?;
    Ok(())
}

/// Counts this start of the daemon, and returns the number of starts.
pub(crate) fn increment_start_count(tx: &Tx<'_>) -> Result<u64, Fault> {
    tx.execute("UPDATE node SET start_count = start_count + 1", &[])?;
    tx.query_value("SELECT start_count FROM node", &[])?
        .ok_or_else(|| Damaged::new("node", "start_count").into())
}
