//! Statuses of a message as its sender sees it, with their transitions, and states of an envelope
//! at a relay.
//!
//! Each status has one source: the sender's node sets `pending`, the relay `sent` and `retrying`,
//! the peer's receipts `delivered` and `read`. Any of them can set `failed`.

crate::string_enum! {
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
    pub enum DeliveryStatus {
        /// Stored in the node's outbox.
        Pending = "pending",
        /// Stored durably at the relay.
        Sent = "sent",
        /// The relay failed to deliver it and retries; it has a reason, an attempt count and a next
        /// attempt.
        Retrying = "retrying",
        /// The peer's node stored it and sent a receipt.
        Delivered = "delivered",
        /// A person or program at the peer read it.
        Read = "read",
        /// Delivery ended with a [`FailureCode`]; a late receipt still overrides this.
        Failed = "failed",
    }
}

impl DeliveryStatus {
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

crate::string_enum! {
    /// Reason for [`DeliveryStatus::Failed`].
    pub enum FailureCode(
        /// Returns what a person can do about it.
        advice: &'static str,
    ) {
        /// It expired before the recipient's node stored it.
        Expired = "expired" (
            "your partner was offline for too long: send it again when they are back",
        ),
        /// The sender recalled it in time.
        Recalled = "recalled" ("it was recalled before it was delivered"),
        /// The recipient's node or relay refused it.
        Refused = "refused" ("ask your partner to check their node's log, then send it again"),
        /// The recipient's mailbox no longer exists.
        MailboxUnknown = "mailbox_unknown" (
            "your partner closed the connection: ask for a new invite",
        ),
        /// No receipt arrived, long after it expired.
        Unconfirmed = "unconfirmed" (
            "your partner never confirmed it: ask whether it arrived, then send it again",
        ),
        /// It was cancelled before it was sent.
        Cancelled = "cancelled" ("it was cancelled before it was sent"),
        /// The recipient has no disk space.
        NoSpace = "no_space" (
            "your partner has no disk space left: ask them to free some, then send it again",
        ),
        /// One of its files could not be uploaded.
        FileLost = "file_lost" ("one of its files is gone: attach it again"),
    } else {
        /// A code that a later version added.
        Unknown = "unknown" ("this version does not know the reason: upgrade the node"),
    }
}

crate::string_enum! {
    /// State of an envelope at its relay.
    ///
    /// `queued` and `retrying` are waiting states; every envelope reaches exactly one of the four
    /// final ones.
    #[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
    pub enum EnvelopeState {
        /// Stored durably and not delivered yet; no attempt failed.
        Queued = "queued",
        /// At least one attempt failed.
        Retrying = "retrying",
        /// The recipient's node stored it, and the relay deleted the ciphertext.
        Stored = "stored",
        /// The sender recalled it.
        Recalled = "recalled",
        /// It expired.
        Expired = "expired",
        /// The recipient's node refused it, or its mailbox was closed.
        Failed = "failed",
    }
}

impl EnvelopeState {
    /// Whether the state is final.
    #[must_use]
    pub const fn is_final(self) -> bool {
        matches!(
            self,
            Self::Stored | Self::Recalled | Self::Expired | Self::Failed
        )
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
            for &to in DeliveryStatus::ALL {
                assert_eq!(from.can_become(to), targets.contains(&to), "{from} -> {to}");
            }
        }
    }

    #[test]
    fn statuses_round_trip() {
        for &status in DeliveryStatus::ALL {
            assert_eq!(DeliveryStatus::parse(status.as_str()), Ok(status));
        }
        for &state in EnvelopeState::ALL {
            assert_eq!(EnvelopeState::parse(state.as_str()), Ok(state));
        }
        assert_eq!(FailureCode::parse("expired"), FailureCode::Expired);
        assert_eq!(FailureCode::parse("of_tomorrow"), FailureCode::Unknown);
    }
}
