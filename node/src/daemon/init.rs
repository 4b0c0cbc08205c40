//! `sealpost init`: creates the keys and the database of a new node. Nothing is sent; the daemon
//! registers with the relay when it starts.

use super::vault;
use crate::{
    hex,
    store::{self, Store, settings},
};
use anyhow::{Context as _, bail};
use ed25519_dalek::SigningKey;
use sealpost_e2ee::Identity;
use sealpost_proto::{Origin, wire::DeliveryMode};
use sealpost_service::{Clock as _, DataDir, SystemClock};
use sealpost_sqlite::Database;
use serde::Serialize;
use std::{net::SocketAddr, path::PathBuf, sync::Arc};
use url::Url;
use zeroize::Zeroizing;

/// Options of a new node.
pub struct NewNode {
    /// Data directory.
    pub data: PathBuf,
    /// Name shown to partners.
    pub name: String,
    /// Home relay.
    pub relay: Origin,
    /// URL at which the relay calls this node; without it the node polls the relay.
    pub webhook_url: Option<Url>,
    /// Address on which the node accepts the relay's calls.
    pub webhook_listen: Option<SocketAddr>,
    /// Registration token from the relay's operator.
    pub registration_token: Option<Zeroizing<String>>,
    /// Address of the local API.
    pub listen: SocketAddr,
}

/// A new node.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Initialised {
    pub name: String,
    /// In hexadecimal.
    pub fingerprint: String,
    pub data_directory: String,
}

/// Creates a new node.
pub async fn init(args: NewNode) -> anyhow::Result<Initialised> {
    let delivery = match (&args.webhook_url, args.webhook_listen) {
        (None, None) => DeliveryMode::Pull,
        (Some(url), Some(_)) => DeliveryMode::Webhook {
            url: url.to_string(),
        },
        _ => bail!("--webhook-url and --webhook-listen go together"),
    };
    let now = SystemClock.now();
    let mut rng = sealpost_service::entropy();
    let identity = Identity::generate(&mut rng);
    let card = identity
        .sign_card(&args.name, now)
        .context("choose a name of 1 to 64 bytes")?;
    let directory = DataDir::open(&args.data)?;
    let data_key = Arc::new(vault::create(&directory)?);
    let database = Database::open(
        &directory.join(super::serve::DATABASE),
        store::MIGRATIONS,
        store::OPTIONS,
    )?;
    let row = settings::Settings {
        name: args.name.clone(),
        identity: identity.encode(),
        card: card.as_bytes().to_vec(),
        account_key: Zeroizing::new(
            SigningKey::from_bytes(&sealpost_service::random_array())
                .to_bytes()
                .to_vec(),
        ),
        relay: args.relay,
        delivery,
        webhook_listen: args.webhook_listen,
        listen: args.listen,
        registration_token: args.registration_token.map(|token| token.to_string()),
        account: None,
    };
    let store = Store::new(database, data_key);
    let is_new = store
        .write(now, move |tx| {
            let is_new = settings::load(tx)?.is_none();
            if is_new {
                settings::insert(tx, &row)?;
            }
            Ok(is_new)
        })
        .await
        .context("writing the new node")?;
    store.close().await;
    if !is_new {
        bail!(
            "{} holds a node already; start it with `sealpost serve`, or choose another directory with --data",
            directory.path().display()
        );
    }
    Ok(Initialised {
        name: args.name,
        fingerprint: hex::encode(identity.fingerprint().as_bytes()),
        data_directory: directory.path().display().to_string(),
    })
}
