//! Statuses of a message as its sender sees it, with their transitions, and states of an envelope
//! at a relay.
//!
//! Each status has one source: the sender's node sets `pending`, the relay `sent` and `retrying`,
//! the peer's receipts `delivered` and `read`. Any of them can set `failed`.

use serde::{Deserialize, Serialize};
use std::fmt;

/// Status of one attempt to deliver a message to one recipient.
///
/// | from \ to | sent | retrying | delivered | read | failed |
/// |---|---|---|---|---|---|
/// | pending | yes | yes | yes | yes | yes |
/// | sent | | yes | yes | yes | yes |
/// | retrying | | again | yes | yes | yes |
/// | delivered | | | | yes | |
/// | read | | | | | |
/// | failed | | | yes | yes | |
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeliveryStatus {
    /// Stored in the node's outbox.
    Pending,
    /// Stored durably at the relay.
    Sent,
    /// The relay failed to deliver it and retries; it has a reason, an attempt count and a next
    /// attempt.
    Retrying,
    /// The peer's node stored it and sent a receipt.
    Delivered,
    /// A person or program at the peer read it.
    Read,
    /// Delivery ended with a [`FailureCode`]; a late receipt still overrides this.
    Failed,
}

impl DeliveryStatus {
    /// Every status, in lifecycle order.
    pub const ALL: [Self; 6] = [
        Self::Pending,
        Self::Sent,
        Self::Retrying,
        Self::Delivered,
        Self::Read,
        Self::Failed,
    ];

    /// Whether the transition is allowed. `retrying` may follow itself, with a new reason and
    /// times.
    #[must_use]
    pub const fn can_become(self, next: Self) -> bool {
        match (self, next) {
            (Self::Pending, Self::Sent | Self::Retrying | Self::Failed)
            | (Self::Sent, Self::Retrying | Self::Failed)
            | (Self::Retrying, Self::Retrying | Self::Failed)
            | (
                Self::Pending | Self::Sent | Self::Retrying | Self::Failed,
                Self::Delivered | Self::Read,
            )
            | (Self::Delivered, Self::Read) => true,
            (
                Self::Pending
                | Self::Sent
                | Self::Retrying
                | Self::Delivered
                | Self::Read
                | Self::Failed,
                Self::Pending
                | Self::Sent
                | Self::Retrying
                | Self::Delivered
                | Self::Read
                | Self::Failed,
            ) => false,
        }
    }

    /// Returns the status as it is written on the wire, in databases and for people.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Sent => "sent",
            Self::Retrying => "retrying",
            Self::Delivered => "delivered",
            Self::Read => "read",
            Self::Failed => "failed",
        }
    }

    /// Parses a status.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.as_str() == text)
    }

    /// Whether only a late receipt can still change it.
    #[must_use]
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Read | Self::Failed)
    }

    /// Returns the rank by which a message to several recipients is summarised: the lowest status
    /// counts, and a failure is lowest.
    #[must_use]
    pub const fn rank(self) -> u8 {
        match self {
            Self::Failed => 0,
            Self::Pending => 1,
            Self::Retrying => 2,
            Self::Sent => 3,
            Self::Delivered => 4,
            Self::Read => 5,
        }
    }
}

impl fmt::Display for DeliveryStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Reason for [`DeliveryStatus::Failed`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureCode {
    /// It expired before the recipient's node stored it.
    Expired,
    /// The sender recalled it in time.
    Recalled,
    /// The recipient's node or relay refused it.
    Refused,
    /// The recipient's mailbox no longer exists.
    MailboxUnknown,
    /// No receipt arrived, long after it expired.
    Unconfirmed,
    /// It was cancelled before it was sent.
    Cancelled,
    /// The recipient has no disk space.
    NoSpace,
    /// One of its files could not be uploaded.
    FileLost,
    /// A code that a later version added.
    #[serde(other)]
    Unknown,
}

impl FailureCode {
    /// Returns the value as it is written on the wire and in databases.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Expired => "expired",
            Self::Recalled => "recalled",
            Self::Refused => "refused",
            Self::MailboxUnknown => "mailbox_unknown",
            Self::Unconfirmed => "unconfirmed",
            Self::Cancelled => "cancelled",
            Self::NoSpace => "no_space",
            Self::FileLost => "file_lost",
            Self::Unknown => "unknown",
        }
    }

    /// Parses a code; an unknown one becomes [`FailureCode::Unknown`].
    #[must_use]
    pub fn parse(text: &str) -> Self {
        [
            Self::Expired,
            Self::Recalled,
            Self::Refused,
            Self::MailboxUnknown,
            Self::Unconfirmed,
            Self::Cancelled,
            Self::NoSpace,
            Self::FileLost,
        ]
        .into_iter()
        .find(|code| code.as_str() == text)
        .unwrap_or(Self::Unknown)
    }

    /// Returns what a person can do about it.
    #[must_use]
    pub const fn advice(self) -> &'static str {
        match self {
            Self::Expired => {
                "your partner was offline for too long: send it again when they are back"
            }
            Self::Recalled => "it was recalled before it was delivered",
            Self::Refused => "ask your partner to check their node's log, then send it again",
            Self::MailboxUnknown => "your partner closed the connection: ask for a new invite",
            Self::Unconfirmed => {
                "your partner never confirmed it: ask whether it arrived, then send it again"
            }
            Self::Cancelled => "it was cancelled before it was sent",
            Self::NoSpace => {
                "your partner has no disk space left: ask them to free some, then send it again"
            }
            Self::FileLost => "one of its files is gone: attach it again",
            Self::Unknown => "this version does not know the reason: upgrade the node",
        }
    }
}

impl fmt::Display for FailureCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// State of an envelope at its relay.
///
/// `queued` and `retrying` are waiting states; every envelope reaches exactly one of the four final
/// ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum EnvelopeState {
    /// Stored durably and not delivered yet; no attempt failed.
    Queued,
    /// At least one attempt failed.
    Retrying,
    /// The recipient's node stored it, and the relay deleted the ciphertext.
    Stored,
    /// The sender recalled it.
    Recalled,
    /// It expired.
    Expired,
    /// The recipient's node refused it, or its mailbox was closed.
    Failed,
}

impl EnvelopeState {
    /// Every state, in lifecycle order.
    pub const ALL: [Self; 6] = [
        Self::Queued,
        Self::Retrying,
        Self::Stored,
        Self::Recalled,
        Self::Expired,
        Self::Failed,
    ];

    /// Whether the state is final.
    #[must_use]
    pub const fn is_final(self) -> bool {
        matches!(
            self,
            Self::Stored | Self::Recalled | Self::Expired | Self::Failed
        )
    }

    /// Returns the value as it is written on the wire and in databases.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Retrying => "retrying",
            Self::Stored => "stored",
            Self::Recalled => "recalled",
            Self::Expired => "expired",
            Self::Failed => "failed",
        }
    }

    /// Parses a status.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == text)
    }
}

#[cfg(test)]
mod tests {
    use super::DeliveryStatus::{Delivered, Failed, Pending, Read, Retrying, Sent};
    use super::*;

    #[test]
    fn transitions_match_the_table() {
        let legal = [
            (Pending, vec![Sent, Retrying, Delivered, Read, Failed]),
            (Sent, vec![Retrying, Delivered, Read, Failed]),
            (Retrying, vec![Retrying, Delivered, Read, Failed]),
            (Delivered, vec![Read]),
            (Read, vec![]),
            (Failed, vec![Delivered, Read]),
        ];
        for (from, targets) in legal {
            for to in DeliveryStatus::ALL {
                assert_eq!(from.can_become(to), targets.contains(&to), "{from} -> {to}");
            }
        }
    }

    #[test]
    fn statuses_round_trip() {
        for status in DeliveryStatus::ALL {
            assert_eq!(DeliveryStatus::parse(status.as_str()), Some(status));
        }
        for state in EnvelopeState::ALL {
            assert_eq!(EnvelopeState::parse(state.as_str()), Some(state));
        }
        assert_eq!(FailureCode::parse("expired"), FailureCode::Expired);
        assert_eq!(FailureCode::parse("of_tomorrow"), FailureCode::Unknown);
    }
}
