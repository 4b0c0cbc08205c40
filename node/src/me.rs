//! Who this node is, as every part of the daemon needs it.

use crate::{fault::Fault, store::settings::Settings};
use sealpost_e2ee::{Identity, SignedCard};
use sealpost_node_core::transfer::DownloadPolicy;
use sealpost_proto::Origin;

/// The node's own identity and home.
pub struct Me {
    /// The name on the card.
    pub name: String,
    /// The identity.
    pub identity: Identity,
    /// The signed card.
    pub card: SignedCard,
    /// The home relay.
    pub relay: Origin,
    /// Which files it fetches by itself.
    pub downloads: DownloadPolicy,
}

impl Me {
    /// Takes it out of the settings.
    ///
    /// # Errors
    /// [`Fault::Failed`] when the stored identity or card is broken.
    pub fn from_settings(settings: &Settings, downloads: DownloadPolicy) -> Result<Self, Fault> {
        let identity = Identity::parse(&settings.identity)
            .map_err(|_| Fault::failed("the stored identity is broken"))?;
        let card = SignedCard::parse_verified(&settings.card)
            .map_err(|_| Fault::failed("the stored card is broken"))?;
        Ok(Self {
            name: settings.name.clone(),
            identity,
            card,
            relay: settings.relay.clone(),
            downloads,
        })
    }
}
