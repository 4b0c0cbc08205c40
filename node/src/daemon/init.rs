//! `sealpost init`: creates the keys and the database of a new node. Nothing is sent; the daemon
//! registers with the relay when it starts.

use super::{
    error::DaemonError,
    serve::open_store,
    vault::{self, NewProtection},
};
use crate::{hex, store::settings};
use anyhow::{Context as _, bail};
use ed25519_dalek::SigningKey;
use sealpost_e2ee::Identity;
use sealpost_proto::{Origin, WebhookUrl, wire::DeliveryMode};
use sealpost_service::{Clock as _, DataDir, SystemClock};
use serde::Serialize;
use std::{net::SocketAddr, path::PathBuf};
use zeroize::Zeroizing;

/// Options of a new node.
pub(crate) struct NewNode {
    /// Data directory.
    pub(crate) data: PathBuf,
    /// Name shown to partners.
    pub(crate) name: String,
    /// Home relay.
    pub(crate) relay: Origin,
    /// URL at which the relay calls this node; without it the node polls the relay.
    pub(crate) webhook_url: Option<WebhookUrl>,
    /// Address on which the node accepts the relay's calls.
    pub(crate) webhook_listen: Option<SocketAddr>,
    /// Registration token from the relay's operator.
    pub(crate) registration_token: Option<Zeroizing<String>>,
    /// Address of the local API.
    pub(crate) listen: SocketAddr,
    /// What protects the data key.
    pub(crate) protection: NewProtection,
}

/// Node that was created.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct CreatedNode {
    pub(crate) name: String,
    /// Fingerprint of its identity in hexadecimal.
    pub(crate) fingerprint: String,
    pub(crate) data_directory: String,
}

/// Creates a new node.
pub(crate) async fn init(args: NewNode) -> anyhow::Result<CreatedNode> {
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
    let store = open_store(&directory, vault::create(&directory, &args.protection)?)?;
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
        let directory = directory.path().to_owned();
        return Err(DaemonError::NodeExists { directory }.into());
    }
    Ok(CreatedNode {
        name: args.name,
        fingerprint: hex::encode(identity.fingerprint().as_bytes()),
        data_directory: directory.path().display().to_string(),
    })
}
