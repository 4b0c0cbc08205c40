//! The identity of this node, as every part of it needs it.

use crate::{fault::Fault, store::settings::Settings};
use sealpost_e2ee::{Identity, SignedCard};
use sealpost_node_core::transfer::DownloadPolicy;
use sealpost_proto::Origin;
use sealpost_sqlite::Damaged;

/// Identity and home relay of this node.
pub struct NodeIdentity {
    /// The name on the card.
    pub name: String,
    pub keys: Identity,
    pub card: SignedCard,
    /// The home relay.
    pub relay: Origin,
    /// Which files are downloaded automatically.
    pub downloads: DownloadPolicy,
}

impl NodeIdentity {
    /// # Errors
    /// [`Fault::Damaged`] when the stored identity or card does not parse.
    pub fn from_settings(settings: &Settings, downloads: DownloadPolicy) -> Result<Self, Fault> {
        let keys =
            Identity::parse(&settings.identity).map_err(|_| Damaged::new("node", "identity"))?;
        let card =
            SignedCard::parse_verified(&settings.card).map_err(|_| Damaged::new("node", "card"))?;
        Ok(Self {
            name: settings.name.clone(),
            keys,
            card,
            relay: settings.relay.clone(),
            downloads,
        })
    }
}
