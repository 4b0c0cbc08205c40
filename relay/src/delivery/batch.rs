//! Conversion of leased batches to their wire form.

use crate::{
    lease::LeasedBatch,
    store::{Store, StoreError},
};
use sealpost_proto::{
    B64,
    wire::{DeliveredEnvelope, DeliveryBatch},
};

/// Loads the bytes of a batch's envelopes, unless they were read with the lease. Envelopes that
/// ended in the meantime are left out.
pub(crate) async fn load(store: &Store, leased: LeasedBatch) -> Result<DeliveryBatch, StoreError> {
    let bodies = match leased.bodies {
        Some(bodies) => bodies.into_iter().map(Some).collect(),
        None => {
            let ids = leased.envelopes.iter().map(|envelope| envelope.id);
            store.load_bodies(ids.collect()).await?
        }
    };
    let deliveries = leased
        .envelopes
        .into_iter()
        .zip(bodies)
        .filter_map(|(envelope, bytes)| {
            Some(DeliveredEnvelope {
                id: envelope.id,
                mailbox: envelope.mailbox,
                envelope: envelope.envelope,
                accepted_at: envelope.accepted_at,
                bytes: B64(bytes?),
            })
        });
    Ok(DeliveryBatch {
        deliveries: deliveries.collect(),
        events: leased.events,
        backlog: leased.backlog,
        fence: leased.fence,
        webhook: None,
    })
}
