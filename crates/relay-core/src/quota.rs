//! How much one account or mailbox may hold. The defaults are `proto::limits`; an operator may lower or raise them.

use sealpost_proto::{limits, time::millis, wire::AnnouncedLimits};
use std::time::Duration;

/// The quotas of a relay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quotas {
    /// Envelopes that may wait in one mailbox.
    pub mailbox_envelopes: u64,
    /// Bytes of envelopes that may wait in one mailbox.
    pub mailbox_bytes: u64,
    /// Open mailboxes of one account.
    pub account_mailboxes: u64,
    /// Bytes of all blobs of one account, announced sizes included.
    pub account_blob_bytes: u64,
    /// Bytes of one blob.
    pub blob_bytes: u64,
}

impl Default for Quotas {
    fn default() -> Self {
        Self {
            mailbox_envelopes: limits::MAILBOX_ENVELOPES_MAX,
            mailbox_bytes: limits::MAILBOX_BYTES_MAX,
            account_mailboxes: limits::ACCOUNT_MAILBOXES_MAX,
            account_blob_bytes: limits::ACCOUNT_BLOB_BYTES_MAX,
            blob_bytes: limits::BLOB_BYTES_MAX,
        }
    }
}

impl Quotas {
    /// What `/.well-known/sealpost` says.
    #[must_use]
    pub fn announced(&self) -> AnnouncedLimits {
        AnnouncedLimits {
            envelope_bytes: bytes(limits::ENVELOPE_BYTES_MAX),
            envelopes_per_request: bytes(limits::ENVELOPES_PER_REQUEST_MAX),
            envelopes_request_bytes: bytes(limits::ENVELOPES_REQUEST_BYTES_MAX),
            envelope_life_default_ms: life(limits::ENVELOPE_LIFE_DEFAULT),
            envelope_life_max_ms: life(limits::ENVELOPE_LIFE_MAX),
            mailbox_envelopes: self.mailbox_envelopes,
            mailbox_bytes: self.mailbox_bytes,
            blob_bytes: self.blob_bytes,
            part_bytes: bytes(limits::PART_BYTES),
            account_blob_bytes: self.account_blob_bytes,
            account_mailboxes: self.account_mailboxes,
        }
    }

    /// Whether an account with so many mailboxes may open another one.
    #[must_use]
    pub const fn allows_mailbox(&self, mailboxes: u64) -> bool {
        mailboxes < self.account_mailboxes
    }

    /// Whether an account whose blobs have so many bytes may add one of `size_bytes`.
    #[must_use]
    pub const fn allows_blob(&self, held_bytes: u64, size_bytes: u64) -> bool {
        held_bytes.saturating_add(size_bytes) <= self.account_blob_bytes
    }

    /// Whether a mailbox that holds so much may take another envelope.
    #[must_use]
    pub const fn allows_envelope(&self, held: Held, size_bytes: u64) -> bool {
        held.envelopes < self.mailbox_envelopes && held.bytes.saturating_add(size_bytes) <= self.mailbox_bytes
    }
}

/// What waits in one mailbox.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Held {
    /// Envelopes.
    pub envelopes: u64,
    /// Their bytes.
    pub bytes: u64,
}

fn bytes(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

fn life(duration: Duration) -> u64 {
    millis(duration)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quota_ends_exactly_at_its_number() {
        let quotas = Quotas {
            mailbox_envelopes: 2,
            mailbox_bytes: 10_000,
            account_mailboxes: 3,
            account_blob_bytes: 100,
            blob_bytes: 100,
        };
        assert!(quotas.allows_envelope(Held { envelopes: 1, bytes: 7_952 }, 2_048));
        assert!(!quotas.allows_envelope(Held { envelopes: 2, bytes: 0 }, 2_048));
        assert!(!quotas.allows_envelope(Held { envelopes: 1, bytes: 7_953 }, 2_048));
        assert!(quotas.allows_mailbox(2) && !quotas.allows_mailbox(3));
        assert!(quotas.allows_blob(40, 60) && !quotas.allows_blob(41, 60) && !quotas.allows_blob(u64::MAX, 1));
    }
}
