//! The states of a message as its sender sees it, the states of an envelope at a relay, and the one table of legal
//! moves. Each status has one author: `pending` the sender's node, `sent` and `retrying` the relay, `delivered` and
//! `read` the peer's receipts, `failed` whoever gave up.

use serde::{Deserialize, Serialize};
use std::fmt;

/// Where a message is on its way to one recipient, in one try.
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
    /// In the node's outbox, on disk.
    Pending,
    /// Durable at the relay.
    Sent,
    /// The relay could not hand it over yet; it has a reason, an attempt and a next try.
    Retrying,
    /// The peer's node stored it and said so.
    Delivered,
    /// A person or program of the peer read it.
    Read,
    /// It ended with a [`FailureCode`]; a receipt that comes late still overrules this.
    Failed,
}

impl DeliveryStatus {
    /// Every status, in the order of life.
    pub const ALL: [Self; 6] = [
        Self::Pending,
        Self::Sent,
        Self::Retrying,
        Self::Delivered,
        Self::Read,
        Self::Failed,
    ];

    /// Whether the move is legal. `retrying` may follow itself: its reason and times change.
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

    /// The word on the wire, in databases and for people.
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

    /// Reads the word.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.as_str() == text)
    }

    /// Nothing but a late receipt will change it any more.
    #[must_use]
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Read | Self::Failed)
    }

    /// Order for the summary of a message to several: the least advanced counts, and a failure counts as least.
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

/// Why a message ended in [`DeliveryStatus::Failed`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureCode {
    /// Its life ended before the recipient's node took it.
    Expired,
    /// The sender took it back in time.
    Recalled,
    /// The recipient's node or relay refused it.
    Refused,
    /// The recipient's mailbox does not exist any more.
    MailboxUnknown,
    /// No receipt came, long past its life.
    Unconfirmed,
    /// Cancelled before it was sent.
    Cancelled,
    /// The recipient has no space.
    NoSpace,
    /// A file of it could not be uploaded.
    FileLost,
    /// A later version's code.
    #[serde(other)]
    Unknown,
}

impl FailureCode {
    /// The word on the wire and in databases.
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

    /// Reads the word; one that this version does not know is [`FailureCode::Unknown`].
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

    /// What a person can do about it.
    #[must_use]
    pub const fn advice(self) -> &'static str {
        match self {
            Self::Expired => "the other side was away too long: send it again when it is back",
            Self::Recalled => "it was taken back before it was handed over",
            Self::Refused => "ask the other side to look at its node's log, then send it again",
            Self::MailboxUnknown => "the other side closed the connection: ask for a new invite",
            Self::Unconfirmed => {
                "the other side never confirmed it: ask whether it arrived, then send it again"
            }
            Self::Cancelled => "it was cancelled before it was sent",
            Self::NoSpace => {
                "the other side has no space left: ask it to make room, then send it again"
            }
            Self::FileLost => "a file of it is gone: attach it again",
            Self::Unknown => "this version does not know the reason: upgrade",
        }
    }
}

impl fmt::Display for FailureCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Where an envelope is at its relay.
///
/// `queued` and `retrying` wait; the other four are final, and exactly one of them comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum EnvelopeState {
    /// Durable, not handed over yet, no attempt failed.
    Queued,
    /// At least one attempt failed.
    Retrying,
    /// The recipient's node stored it; the ciphertext is gone.
    Stored,
    /// The sender took it back.
    Recalled,
    /// Its life ended.
    Expired,
    /// The recipient's node refused it, or its mailbox was closed.
    Failed,
}

impl EnvelopeState {
    /// Every state, in the order of life.
    pub const ALL: [Self; 6] = [
        Self::Queued,
        Self::Retrying,
        Self::Stored,
        Self::Recalled,
        Self::Expired,
        Self::Failed,
    ];

    /// Whether the envelope's road has ended.
    #[must_use]
    pub const fn is_final(self) -> bool {
        matches!(
            self,
            Self::Stored | Self::Recalled | Self::Expired | Self::Failed
        )
    }

    /// The word on the wire and in databases.
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

    /// Reads the word.
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
    fn every_pair_of_statuses() {
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
    fn words_read_back() {
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
