//! Leased batches and woken lanes: what the store hands to the scheduler of deliveries.

use sealpost_proto::{
    AccountId, DeliveryId, EnvelopeId, MailboxId, Timestamp, WebhookSecret, wire::StatusEvent,
};

/// Webhook of an account.
#[derive(Debug, Clone)]
pub(crate) struct Webhook {
    pub(crate) url: String,
    /// Signs the calls.
    pub(crate) secret: WebhookSecret,
}

/// Envelope in a leased batch, without its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LeasedEnvelope {
    pub(crate) id: DeliveryId,
    pub(crate) mailbox: MailboxId,
    /// Id that the sender gave it.
    pub(crate) envelope: EnvelopeId,
    pub(crate) accepted_at: Timestamp,
    pub(crate) size_bytes: u64,
}

/// Batch of a lane that is out under a lease.
#[derive(Debug, Clone)]
pub(crate) struct LeasedBatch {
    pub(crate) account: AccountId,
    /// Fencing token of the lease.
    pub(crate) fence: u64,
    /// Envelopes in order.
    pub(crate) envelopes: Vec<LeasedEnvelope>,
    /// Status events in order.
    pub(crate) events: Vec<StatusEvent>,
    /// Number of waiting items beyond this batch.
    pub(crate) backlog: u64,
    pub(crate) webhook: Option<Webhook>,
    /// Whether the previous call of the lane failed.
    pub(crate) was_failing: bool,
    /// Bytes of the envelopes in order, if they are few enough to be read together with the lease.
    pub(crate) bodies: Option<Vec<Vec<u8>>>,
}

impl LeasedBatch {
    /// Returns the ids of all items in order of delivery.
    #[must_use]
    pub(crate) fn items(&self) -> Vec<DeliveryId> {
        let envelopes = self.envelopes.iter().map(|envelope| envelope.id);
        let mut items: Vec<_> = envelopes
            .chain(self.events.iter().map(|event| event.id))
            .collect();
        items.sort_unstable();
        items
    }

    /// Returns the total size of the envelopes.
    #[must_use]
    pub(crate) fn size_bytes(&self) -> u64 {
        self.envelopes
            .iter()
            .map(|envelope| envelope.size_bytes)
            .sum()
    }
}

/// Lane in which new items wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct WokenLane {
    pub(crate) account: AccountId,
    /// When the scheduler has to inspect the lane; absent while its webhook is not called.
    pub(crate) due_at: Option<Timestamp>,
    /// Whether the webhook can be called now and its last call succeeded.
    pub(crate) is_callable: bool,
}
