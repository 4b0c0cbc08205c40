//! Statuses of a message as its sender sees it, with their transitions, and states of an envelope
//! at a relay.
//!
//! Each status has one source: the sender's node sets `pending`, the relay `sent` and `retrying`,
//! and the receipts of the recipient's node set `delivered` and `read`. The sender's node sets
//! `failed`, either on its own or because the relay refused, expired or failed the envelope.

crate::string_enum! {
    /// Status of a message for one recipient.
    ///
    /// | from \ to | sent | retrying | delivered | read | failed |
    /// |---|---|---|---|---|---|
    /// | pending | yes | yes | yes | yes | yes |
    /// | sent | | yes | yes | yes | yes |
    /// | retrying | | yes (new reason) | yes | yes | yes |
    /// | delivered | | | | yes | |
    /// | read | | | | | |
    /// | failed | | | yes | yes | |
    pub enum DeliveryStatus {
        /// Stored in the outbox of the sender's node.
        Pending = "pending",
        /// Stored durably at the relay.
        Sent = "sent",
        /// The relay failed to deliver the message and will retry. The delivery has a reason, an
        /// attempt count and the time of the next attempt.
        Retrying = "retrying",
        /// The recipient's node stored the message and sent a receipt.
        Delivered = "delivered",
        /// A person or program at the recipient's node read the message.
        Read = "read",
        /// The sender's node gave up, with a [`FailureCode`]. A late receipt still overrides this.
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

    /// Whether the sender has nothing to wait for: the message is `read`, which never changes, or
    /// `failed`, which only a late receipt changes. `delivered` is not settled.
    #[must_use]
    pub const fn is_settled(self) -> bool {
        matches!(self, Self::Read | Self::Failed)
    }

    /// Returns how far the message has come, for comparing statuses: 0 for a failure, 5 for `read`.
    #[must_use]
    pub const fn progress_rank(self) -> u8 {
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
        /// Returns the explanation for people, with the next step if there is one.
        advice: &'static str,
    ) {
        /// The message expired before the recipient's node stored it.
        Expired = "expired" (
            "it was not delivered in time: send it again when your partner is back online",
        ),
        /// The sender recalled the message before it was delivered.
        Recalled = "recalled" ("it was recalled before it was delivered"),
        /// The recipient's node or relay refused the message.
        Refused = "refused" ("ask your partner to check their node's log, then send it again"),
        /// The recipient's mailbox no longer exists.
        MailboxUnknown = "mailbox_unknown" (
            "your partner closed the connection: ask for a new invite",
        ),
        /// No receipt arrived within [`UNCONFIRMED_AFTER`](crate::limits::UNCONFIRMED_AFTER) of the
        /// message's expiry.
        Unconfirmed = "unconfirmed" (
            "your partner never confirmed it: ask whether it arrived; if not, send it again",
        ),
        /// The message was cancelled before it was sent.
        Cancelled = "cancelled" ("it was cancelled before it was sent"),
        /// The recipient's disk was full.
        NoSpace = "no_space" (
            "your partner has no disk space left: ask them to free some, then send it again",
        ),
        /// A file of the message is no longer available, so it could not be uploaded.
        FileLost = "file_lost" (
            "one of its files is no longer available: attach it again and send a new message"
        ),
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
    #[cfg_attr(
        feature = "openapi",
        derive(utoipa::ToSchema),
        schema(rename_all = "snake_case")
    )]
    pub enum EnvelopeState {
        /// Stored durably and not delivered yet; no attempt failed.
        Queued = "queued",
        /// At least one attempt failed.
        Retrying = "retrying",
        /// The recipient's node stored the envelope or recorded that it cannot be opened, and the
        /// relay deleted the ciphertext.
        Stored = "stored",
        /// The sender recalled the envelope.
        Recalled = "recalled",
        /// The envelope expired.
        Expired = "expired",
        /// The recipient's node refused the envelope, its mailbox was deleted, or the operator
        /// dropped it.
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
    fn only_listed_transitions_are_legal() {
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
        for &code in FailureCode::ALL {
            assert_eq!(FailureCode::parse(code.as_str()), code);
        }
    }

    #[test]
    fn unknown_failure_codes_parse_as_unknown() {
        assert_eq!(FailureCode::parse("not_a_code"), FailureCode::Unknown);
    }

    #[cfg(feature = "openapi")]
    #[test]
    fn schema_lists_the_wire_names() {
        let schema = <EnvelopeState as utoipa::PartialSchema>::schema();
        let schema = serde_json::to_value(schema).unwrap();
        let names: Vec<_> = EnvelopeState::ALL
            .iter()
            .map(|state| state.as_str())
            .collect();
        assert_eq!(schema["enum"], serde_json::json!(names));
    }
}
