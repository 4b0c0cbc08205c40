//! Storage quotas of accounts and mailboxes. The defaults are in [`sealpost_proto::limits`]; an
//! operator can change them for all accounts or for one.

use crate::rates::RateOverrides;
use sealpost_proto::{limits, time::millis, wire::AnnouncedLimits};
use serde::{Deserialize, Serialize};

/// Quotas of a relay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quotas {
    /// Envelopes waiting in one mailbox.
    pub mailbox_envelopes: u64,
    /// Bytes of envelopes waiting in one mailbox.
    pub mailbox_bytes: u64,
    /// Envelopes waiting in all mailboxes of one account.
    pub account_envelopes: u64,
    /// Bytes of envelopes waiting in all mailboxes of one account.
    pub account_bytes: u64,
    /// Open mailboxes of one account.
    pub account_mailboxes: u64,
    /// Blobs of one account.
    pub account_blobs: u64,
    /// Bytes of all blobs of one account, including announced uploads.
    pub account_blob_bytes: u64,
    /// Bytes of one blob.
    pub blob_bytes: u64,
}

impl Default for Quotas {
    fn default() -> Self {
        Self {
            mailbox_envelopes: limits::MAILBOX_ENVELOPES_MAX,
            mailbox_bytes: limits::MAILBOX_BYTES_MAX,
            account_envelopes: limits::ACCOUNT_ENVELOPES_MAX,
            account_bytes: limits::ACCOUNT_BYTES_MAX,
            account_mailboxes: limits::ACCOUNT_MAILBOXES_MAX,
            account_blobs: limits::ACCOUNT_BLOBS_MAX,
            account_blob_bytes: limits::ACCOUNT_BLOB_BYTES_MAX,
            blob_bytes: limits::BLOB_BYTES_MAX,
        }
    }
}

impl Quotas {
    /// Returns the limits for `/.well-known/sealpost`.
    #[must_use]
    pub fn announced(&self) -> AnnouncedLimits {
        AnnouncedLimits {
            envelope_bytes: bytes(limits::ENVELOPE_BYTES_MAX),
            envelopes_per_request: bytes(limits::ENVELOPES_PER_REQUEST_MAX),
            envelopes_request_bytes: bytes(limits::ENVELOPES_REQUEST_BYTES_MAX),
            envelope_life_default_ms: millis(limits::ENVELOPE_LIFETIME_DEFAULT),
            envelope_life_max_ms: millis(limits::ENVELOPE_LIFETIME_MAX),
            mailbox_envelopes: self.mailbox_envelopes,
            mailbox_bytes: self.mailbox_bytes,
            account_envelopes: Some(self.account_envelopes),
            account_bytes: Some(self.account_bytes),
            blob_bytes: self.blob_bytes,
            part_bytes: bytes(limits::PART_BYTES),
            account_blobs: Some(self.account_blobs),
            account_blob_bytes: self.account_blob_bytes,
            account_mailboxes: self.account_mailboxes,
        }
    }

    /// Returns the quotas of an account with overrides.
    #[must_use]
    pub fn with_overrides(&self, overrides: &QuotaOverrides) -> Self {
        Self {
            mailbox_envelopes: overrides
                .mailbox_envelopes
                .unwrap_or(self.mailbox_envelopes),
            mailbox_bytes: overrides.mailbox_bytes.unwrap_or(self.mailbox_bytes),
            account_envelopes: overrides
                .account_envelopes
                .unwrap_or(self.account_envelopes),
            account_bytes: overrides.account_bytes.unwrap_or(self.account_bytes),
            account_mailboxes: overrides
                .account_mailboxes
                .unwrap_or(self.account_mailboxes),
            account_blobs: overrides.account_blobs.unwrap_or(self.account_blobs),
            account_blob_bytes: overrides
                .account_blob_bytes
                .unwrap_or(self.account_blob_bytes),
            blob_bytes: overrides.blob_bytes.unwrap_or(self.blob_bytes),
        }
    }

    /// Returns whether an account with this number of mailboxes may open another.
    #[must_use]
    pub const fn allows_mailbox(&self, mailboxes: u64) -> bool {
        mailboxes < self.account_mailboxes
    }

    /// Returns whether an account with this usage may add a blob of `size_bytes`.
    #[must_use]
    pub const fn allows_blob(&self, usage: BlobUsage, size_bytes: u64) -> bool {
        usage.blobs < self.account_blobs
            && usage.bytes.saturating_add(size_bytes) <= self.account_blob_bytes
    }

    /// Returns whether a mailbox and an account with this usage may store another envelope of
    /// `size_bytes`.
    #[must_use]
    pub const fn allows_envelope(
        &self,
        mailbox: EnvelopeUsage,
        account: EnvelopeUsage,
        size_bytes: u64,
    ) -> bool {
        mailbox.fits(size_bytes, self.mailbox_envelopes, self.mailbox_bytes)
            && account.fits(size_bytes, self.account_envelopes, self.account_bytes)
    }
}

/// Quotas and rate limits that the operator set for one account; the defaults apply to absent ones.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[expect(
    missing_docs,
    reason = "the fields are those of Quotas and RateOverrides"
)]
pub struct QuotaOverrides {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mailbox_envelopes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mailbox_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub account_envelopes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub account_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub account_mailboxes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub account_blobs: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub account_blob_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub blob_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requests_per_second: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requests_burst: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub envelopes_per_minute: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub blob_bytes_per_day: Option<u64>,
}

impl QuotaOverrides {
    /// Returns the overrides of rate limits.
    #[must_use]
    pub const fn rates(&self) -> RateOverrides {
        RateOverrides {
            requests_per_second: self.requests_per_second,
            requests_burst: self.requests_burst,
            envelopes_per_minute: self.envelopes_per_minute,
            blob_bytes_per_day: self.blob_bytes_per_day,
        }
    }
}

/// Envelopes waiting in one mailbox, or in all mailboxes of an account.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct EnvelopeUsage {
    /// Number of envelopes.
    pub envelopes: u64,
    /// Bytes of the envelopes.
    pub bytes: u64,
}

impl EnvelopeUsage {
    /// Adds an envelope.
    pub const fn add(&mut self, size_bytes: u64) {
        self.envelopes += 1;
        self.bytes += size_bytes;
    }

    const fn fits(self, size_bytes: u64, envelopes: u64, bytes: u64) -> bool {
        self.envelopes < envelopes && self.bytes.saturating_add(size_bytes) <= bytes
    }
}

/// Blobs of one account.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct BlobUsage {
    /// Number of blobs.
    pub blobs: u64,
    /// Bytes of the blobs, including announced uploads.
    pub bytes: u64,
}

fn bytes(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotas_are_inclusive_limits() {
        let quotas = Quotas {
            mailbox_envelopes: 2,
            mailbox_bytes: 10_000,
            account_envelopes: 4,
            account_bytes: 20_000,
            account_mailboxes: 3,
            account_blobs: 2,
            account_blob_bytes: 100,
            blob_bytes: 100,
        };
        let usage = |envelopes, bytes| EnvelopeUsage { envelopes, bytes };
        let none = EnvelopeUsage::default();
        assert!(quotas.allows_envelope(usage(1, 7_952), none, 2_048));
        assert!(
            !quotas.allows_envelope(usage(2, 0), none, 2_048)
                && !quotas.allows_envelope(usage(1, 7_953), none, 2_048)
        );
        assert!(quotas.allows_envelope(none, usage(3, 17_952), 2_048));
        assert!(
            !quotas.allows_envelope(none, usage(4, 0), 2_048)
                && !quotas.allows_envelope(none, usage(0, 17_953), 2_048)
        );
        assert!(quotas.allows_mailbox(2) && !quotas.allows_mailbox(3));
        let blobs = |blobs, bytes| BlobUsage { blobs, bytes };
        assert!(quotas.allows_blob(blobs(1, 40), 60) && !quotas.allows_blob(blobs(1, 41), 60));
        assert!(!quotas.allows_blob(blobs(2, 0), 1) && !quotas.allows_blob(blobs(0, u64::MAX), 1));
    }

    #[test]
    fn overrides_replace_defaults() {
        let overrides: QuotaOverrides =
            serde_json::from_str(r#"{"account_bytes": 7, "account_blobs": 0}"#).unwrap();
        let quotas = Quotas::default().with_overrides(&overrides);
        assert_eq!(
            quotas,
            Quotas {
                account_bytes: 7,
                account_blobs: 0,
                ..Quotas::default()
            }
        );
        assert_eq!(
            serde_json::to_string(&overrides).unwrap(),
            r#"{"account_bytes":7,"account_blobs":0}"#
        );
        assert!(serde_json::from_str::<QuotaOverrides>(r#"{"acount_bytes": 7}"#).is_err());
    }
}
