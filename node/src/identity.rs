//! What identifies this node to its partners and its relay, and its policy for downloads.

use crate::{fault::Fault, store::settings::Settings};
use sealpost_e2ee::{Identity, SignedCard};
use sealpost_node_core::transfer::DownloadPolicy;
use sealpost_proto::Origin;
use sealpost_sqlite::Damaged;

/// Identity, home relay and download policy of this node, which do not change while it runs.
pub struct NodeIdentity {
    /// Name on the card.
    pub name: String,
    pub keys: Identity,
    pub card: SignedCard,
    pub relay: Origin,
    /// Which files of a received message are downloaded without a request.
    pub downloads: DownloadPolicy,
}

impl NodeIdentity {
    /// Parses the identity and the card.
    ///
    /// # Errors
    /// [`Fault::Damaged`] if the stored identity or card is malformed.
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
