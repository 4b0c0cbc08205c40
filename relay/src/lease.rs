//! Leased batches and lanes with new items: what the store hands to the delivery scheduler.

use sealpost_proto::{
    AccountId, DeliveryId, EnvelopeId, MailboxId, Timestamp, WebhookSecret, WebhookUrl,
    limits::{DELIVERY_BATCH_BYTES_MAX, DELIVERY_EVENT_BYTES, LEASE_DURATION},
    wire::StatusEvent,
};
use std::time::Duration;

/// Webhook of an account.
#[derive(Debug, Clone)]
pub(crate) struct Webhook {
    pub(crate) url: WebhookUrl,
    /// Signs the calls.
    pub(crate) secret: WebhookSecret,
}

/// Limits that a node states for the batch of a pull.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PullLimits {
    /// Maximum bytes of envelopes, unless the first envelope alone is larger.
    pub(crate) bytes_max: usize,
    /// Time that the node needs to receive and acknowledge the batch.
    pub(crate) lease: Duration,
}

impl Default for PullLimits {
    fn default() -> Self {
        Self {
            bytes_max: DELIVERY_BATCH_BYTES_MAX,
            lease: LEASE_DURATION,
        }
    }
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

/// Batch of a lane, leased for a webhook call or a pull.
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
    /// Whether the call uses a call slot of failing endpoints.
    pub(crate) uses_failing_slot: bool,
    /// Bytes of the envelopes in order, if they are few enough to be read together with the lease.
    pub(crate) bodies: Option<Vec<Vec<u8>>>,
}

impl LeasedBatch {
    /// Returns the ids of all items in order of delivery.
    #[must_use]
    pub(crate) fn item_ids(&self) -> Vec<DeliveryId> {
        let envelopes = self.envelopes.iter().map(|envelope| envelope.id);
        let mut ids: Vec<_> = envelopes
            .chain(self.events.iter().map(|event| event.id))
            .collect();
        ids.sort_unstable();
        ids
    }

    /// Returns the total size of the envelopes.
    #[must_use]
    pub(crate) fn size_bytes(&self) -> u64 {
        self.envelopes
            .iter()
            .map(|envelope| envelope.size_bytes)
            .sum()
    }

    /// Returns the size that counts towards the limit of a batch, which includes the events.
    #[must_use]
    pub(crate) fn batch_bytes(&self) -> usize {
        let envelopes = usize::try_from(self.size_bytes()).unwrap_or(usize::MAX);
        envelopes.saturating_add(self.events.len() * DELIVERY_EVENT_BYTES)
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
