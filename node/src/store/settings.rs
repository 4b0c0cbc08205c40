//! The one row that says who this node is and which relay is its home.

use crate::{
    fault::Fault,
    store::{Tx, count, millis},
};
use sealpost_proto::{AccountId, Origin, Timestamp, WebhookSecret, wire::DeliveryMode};
use std::net::SocketAddr;
use zeroize::Zeroizing;

const PK: &[u8] = b"node";

/// Who this node is.
pub struct Settings {
    /// The name on its card.
    pub name: String,
    /// The identity's two seeds.
    pub identity: Zeroizing<Vec<u8>>,
    /// The signed card.
    pub card: Vec<u8>,
    /// The account key's seed.
    pub account_key: Zeroizing<Vec<u8>>,
    /// The home relay.
    pub relay: Origin,
    /// How the relay delivers.
    pub delivery: DeliveryMode,
    /// Where the webhook receiver listens.
    pub webhook_listen: Option<SocketAddr>,
    /// Where the local API listens.
    pub listen: SocketAddr,
    /// For registration, where the operator wants one.
    pub registration_token: Option<String>,
    /// Known once the relay has registered the account.
    pub account: Option<(AccountId, WebhookSecret)>,
}

/// Writes the row of a new node.
///
/// # Errors
/// When SQLite fails.
pub fn insert(tx: &mut Tx<'_>, settings: &Settings) -> Result<(), Fault> {
    let identity = tx.seal("node", PK, "identity", 1, &settings.identity);
    let account_key = tx.seal("node", PK, "account_key", 1, &settings.account_key);
    let token = settings.registration_token.as_ref();
    let token = token.map(|token| tx.seal("node", PK, "registration_token", 1, token.as_bytes()));
    let delivery = serde_json::to_string(&settings.delivery)
        .map_err(|error| Fault::failed(error.to_string()))?;
    tx.execute(
        "INSERT INTO node (id, name, identity, card, account_key, relay, delivery, webhook_listen, registration_token, listen,
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
            &millis(tx.now),
        ],
    )?;
    Ok(())
}

struct Row {
    name: String,
    identity: Vec<u8>,
    card: Vec<u8>,
    account_key: Vec<u8>,
    relay: String,
    delivery: String,
    webhook_listen: Option<String>,
    listen: String,
    registration_token: Option<Vec<u8>>,
    account_id: Option<Vec<u8>>,
    webhook_secret: Option<Vec<u8>>,
}

/// Reads the row; none in a data folder that was never initialised.
///
/// # Errors
/// When SQLite fails or the row does not open.
pub fn load(tx: &Tx<'_>) -> Result<Option<Settings>, Fault> {
    let row = tx.row(
        "SELECT name, identity, card, account_key, relay, delivery, webhook_listen, registration_token, account_id, webhook_secret,
             listen
         FROM node",
        &[],
        |row| {
            Ok(Row {
                name: row.get(0)?,
                identity: row.get(1)?,
                card: row.get(2)?,
                account_key: row.get(3)?,
                relay: row.get(4)?,
                delivery: row.get(5)?,
                webhook_listen: row.get(6)?,
                registration_token: row.get(7)?,
                account_id: row.get(8)?,
                webhook_secret: row.get(9)?,
                listen: row.get(10)?,
            })
        },
    )?;
    row.map(|row| open_row(tx, row)).transpose()
}

fn open_row(tx: &Tx<'_>, row: Row) -> Result<Settings, Fault> {
    let broken = |what: &str| Fault::failed(format!("the node's {what} in the database is broken"));
    let token = row
        .registration_token
        .map(|sealed| tx.open("node", PK, "registration_token", 1, &sealed));
    let token = token
        .transpose()?
        .map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    let account = match (row.account_id, row.webhook_secret) {
        (Some(id), Some(sealed)) => {
            let id = AccountId::try_from(id.as_slice()).map_err(|_| broken("account"))?;
            let secret = tx.open("node", PK, "webhook_secret", 1, &sealed)?;
            let secret =
                <[u8; 32]>::try_from(secret.as_slice()).map_err(|_| broken("webhook secret"))?;
            Some((id, WebhookSecret::from_bytes(secret)))
        }
        _ => None,
    };
    Ok(Settings {
        identity: tx.open("node", PK, "identity", 1, &row.identity)?,
        account_key: tx.open("node", PK, "account_key", 1, &row.account_key)?,
        name: row.name,
        card: row.card,
        relay: Origin::parse(&row.relay).map_err(|_| broken("relay"))?,
        delivery: serde_json::from_str(&row.delivery).map_err(|_| broken("delivery mode"))?,
        webhook_listen: row
            .webhook_listen
            .map(|text| text.parse())
            .transpose()
            .map_err(|_| broken("webhook address"))?,
        listen: row.listen.parse().map_err(|_| broken("local address"))?,
        registration_token: token,
        account,
    })
}

/// Remembers the account that the relay registered.
///
/// # Errors
/// When SQLite fails.
pub fn registered(tx: &mut Tx<'_>, id: &AccountId, secret: &WebhookSecret) -> Result<(), Fault> {
    let sealed = tx.seal("node", PK, "webhook_secret", 1, secret.expose());
    tx.execute(
        "UPDATE node SET account_id = ?1, webhook_secret = ?2",
        &[id.as_bytes(), &sealed],
    )?;
    Ok(())
}

/// Raises the generation counter by one and returns it.
///
/// # Errors
/// When SQLite fails.
pub fn raise_generation(tx: &Tx<'_>) -> Result<u64, Fault> {
    tx.execute("UPDATE node SET generation = generation + 1", &[])?;
    Ok(count(
        tx.value("SELECT generation FROM node", &[])?.unwrap_or(0),
    ))
}

/// When the node was initialised.
///
/// # Errors
/// When SQLite fails.
pub fn created_at(tx: &Tx<'_>) -> Result<Option<Timestamp>, Fault> {
    Ok(tx
        .value("SELECT created_at FROM node", &[])?
        .map(super::timestamp))
}
