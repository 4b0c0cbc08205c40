//! What the relay's answers mean for something in the outbox, and for the status its sender sees.

use sealpost_proto::{
    DeliveryStatus, EnvelopeState, ErrorCode, FailureCode, Timestamp, backoff,
    wire::{StatusEvent, SubmitOutcome},
};
use std::time::Duration;

/// What becomes of one submitted envelope.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Submitted {
    /// It is on the relay's disk.
    Accepted {
        /// When the relay gives up, where it said so.
        expires_at: Option<Timestamp>,
    },
    /// It is sent again, byte for byte.
    Again {
        /// Not before.
        at: Timestamp,
        /// Why, for people.
        reason: String,
    },
    /// It ends here.
    Failed(FailureCode),
}

/// What the relay's answer for one envelope means; `attempt` counts the refusals so far.
#[must_use]
pub fn submitted(outcome: &SubmitOutcome, attempt: u32, now: Timestamp, random: u64) -> Submitted {
    match outcome {
        SubmitOutcome::Accepted { expires_at } => Submitted::Accepted {
            expires_at: Some(*expires_at),
        },
        SubmitOutcome::Duplicate { state } => match state {
            EnvelopeState::Queued | EnvelopeState::Retrying | EnvelopeState::Stored => {
                Submitted::Accepted { expires_at: None }
            }
            EnvelopeState::Recalled => Submitted::Failed(FailureCode::Recalled),
            EnvelopeState::Expired => Submitted::Failed(FailureCode::Expired),
            EnvelopeState::Failed => Submitted::Failed(FailureCode::Refused),
        },
        SubmitOutcome::Refused {
            code,
            retry_after_ms,
        } => match failure(*code) {
            Some(failure) => Submitted::Failed(failure),
            None => {
                let own = backoff::delay(attempt.saturating_add(1), random);
                let wait =
                    retry_after_ms.map_or(own, |millis| own.max(Duration::from_millis(millis)));
                Submitted::Again {
                    at: now.plus(wait),
                    reason: format!("the relay says: {}", code.title()),
                }
            }
        },
    }
}

/// How a final refusal ends an envelope; none when it may be taken later.
const fn failure(code: ErrorCode) -> Option<FailureCode> {
    match code {
        ErrorCode::MailboxUnknown | ErrorCode::ProofInvalid => Some(FailureCode::MailboxUnknown),
        ErrorCode::EnvelopeExpired => Some(FailureCode::Expired),
        code if code.is_retryable() => None,
        _ => Some(FailureCode::Refused),
    }
}

/// The status that an event of the relay claims, and the failure that goes with it.
#[must_use]
pub fn claimed(event: &StatusEvent) -> Option<(DeliveryStatus, Option<FailureCode>)> {
    match event.state {
        EnvelopeState::Retrying => Some((DeliveryStatus::Retrying, None)),
        EnvelopeState::Expired => Some((DeliveryStatus::Failed, Some(FailureCode::Expired))),
        EnvelopeState::Recalled => Some((DeliveryStatus::Failed, Some(FailureCode::Recalled))),
        EnvelopeState::Failed
            if event.reason.as_deref() == Some(ErrorCode::MailboxUnknown.as_str()) =>
        {
            Some((DeliveryStatus::Failed, Some(FailureCode::MailboxUnknown)))
        }
        EnvelopeState::Failed => Some((DeliveryStatus::Failed, Some(FailureCode::Refused))),
        EnvelopeState::Queued | EnvelopeState::Stored => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_000_000);

    fn refused(code: ErrorCode, retry_after_ms: Option<u64>) -> SubmitOutcome {
        SubmitOutcome::Refused {
            code,
            retry_after_ms,
        }
    }

    #[test]
    fn every_refusal_either_ends_or_comes_again() {
        for &code in ErrorCode::ALL {
            match submitted(&refused(code, None), 0, NOW, 0) {
                Submitted::Again { at, .. } => assert!(code.is_retryable() && at > NOW, "{code}"),
                Submitted::Failed(_) => assert!(!code.is_retryable(), "{code}"),
                Submitted::Accepted { .. } => panic!("{code} was taken for accepted"),
            }
        }
    }

    #[test]
    fn the_relays_wait_is_honoured() {
        let Submitted::Again { at, .. } =
            submitted(&refused(ErrorCode::MailboxFull, Some(60_000)), 0, NOW, 0)
        else {
            panic!("a full mailbox is no failure")
        };
        assert_eq!(at.since(NOW), Duration::from_secs(60));
    }

    #[test]
    fn a_duplicate_counts_for_what_became_of_it() {
        let expected = [
            (
                EnvelopeState::Queued,
                Submitted::Accepted { expires_at: None },
            ),
            (
                EnvelopeState::Retrying,
                Submitted::Accepted { expires_at: None },
            ),
            (
                EnvelopeState::Stored,
                Submitted::Accepted { expires_at: None },
            ),
            (
                EnvelopeState::Recalled,
                Submitted::Failed(FailureCode::Recalled),
            ),
            (
                EnvelopeState::Expired,
                Submitted::Failed(FailureCode::Expired),
            ),
            (
                EnvelopeState::Failed,
                Submitted::Failed(FailureCode::Refused),
            ),
        ];
        for (state, outcome) in expected {
            assert_eq!(
                submitted(&SubmitOutcome::Duplicate { state }, 0, NOW, 0),
                outcome
            );
        }
    }
}
