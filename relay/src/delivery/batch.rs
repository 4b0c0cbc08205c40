//! A leased batch with its bytes, as it travels.

use crate::store::{LeasedBatch, Store, StoreError};
use sealpost_proto::{
    B64,
    wire::{Delivery, DeliveryBatch},
};

/// Reads the bytes of a batch's envelopes, unless they came with it. One that ended meanwhile is left out.
///
/// # Errors
/// [`StoreError`].
pub(crate) async fn fill(store: &Store, leased: LeasedBatch) -> Result<DeliveryBatch, StoreError> {
    let bodies = match leased.bodies {
        Some(bodies) => bodies.into_iter().map(Some).collect(),
        None => {
            store
                .bodies(
                    leased
                        .envelopes
                        .iter()
                        .map(|envelope| envelope.id)
                        .collect(),
                )
                .await?
        }
    };
    let deliveries = leased
        .envelopes
        .into_iter()
        .zip(bodies)
        .filter_map(|(envelope, bytes)| {
            Some(Delivery {
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
        lease: leased.fence,
    })
}
