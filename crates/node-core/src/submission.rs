//! What the relay's answers mean for something in the outbox, and for the status its sender sees.

use sealpost_proto::{
    DeliveryStatus, EnvelopeState, ErrorCode, FailureCode, Timestamp, backoff,
    wire::{StatusEvent, SubmitOutcome},
};
use std::time::Duration;

/// What becomes of one evaluate envelope.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SubmissionResult {
    /// It is on the relay's disk.
    Accepted {
        /// When the relay gives up, where it said so.
        expires_at: Option<Timestamp>,
    },
    /// It is sent again, byte for byte.
    Retry {
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
pub fn evaluate(
    outcome: &SubmitOutcome,
    attempt: u32,
    now: Timestamp,
    random: u64,
) -> SubmissionResult {
    match outcome {
        SubmitOutcome::Accepted { expires_at } => SubmissionResult::Accepted {
            expires_at: Some(*expires_at),
        },
        SubmitOutcome::Duplicate { state } => match state {
            EnvelopeState::Queued | EnvelopeState::Retrying | EnvelopeState::Stored => {
                SubmissionResult::Accepted { expires_at: None }
            }
            EnvelopeState::Recalled => SubmissionResult::Failed(FailureCode::Recalled),
            EnvelopeState::Expired => SubmissionResult::Failed(FailureCode::Expired),
            EnvelopeState::Failed => SubmissionResult::Failed(FailureCode::Refused),
        },
        SubmitOutcome::Refused {
            code,
            retry_after_ms,
        } => match failure(*code) {
            Some(failure) => SubmissionResult::Failed(failure),
            None => {
                let own = backoff::delay(attempt.saturating_add(1), random);
                let wait =
                    retry_after_ms.map_or(own, |millis| own.max(Duration::from_millis(millis)));
                SubmissionResult::Retry {
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
pub fn reported_status(event: &StatusEvent) -> Option<(DeliveryStatus, Option<FailureCode>)> {
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
            match evaluate(&refused(code, None), 0, NOW, 0) {
                SubmissionResult::Retry { at, .. } => {
                    assert!(code.is_retryable() && at > NOW, "{code}")
                }
                SubmissionResult::Failed(_) => assert!(!code.is_retryable(), "{code}"),
                SubmissionResult::Accepted { .. } => panic!("{code} was taken for accepted"),
            }
        }
    }

    #[test]
    fn the_relays_wait_is_honoured() {
        let SubmissionResult::Retry { at, .. } =
            evaluate(&refused(ErrorCode::MailboxFull, Some(60_000)), 0, NOW, 0)
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
                SubmissionResult::Accepted { expires_at: None },
            ),
            (
                EnvelopeState::Retrying,
                SubmissionResult::Accepted { expires_at: None },
            ),
            (
                EnvelopeState::Stored,
                SubmissionResult::Accepted { expires_at: None },
            ),
            (
                EnvelopeState::Recalled,
                SubmissionResult::Failed(FailureCode::Recalled),
            ),
            (
                EnvelopeState::Expired,
                SubmissionResult::Failed(FailureCode::Expired),
            ),
            (
                EnvelopeState::Failed,
                SubmissionResult::Failed(FailureCode::Refused),
            ),
        ];
        for (state, outcome) in expected {
            assert_eq!(
                evaluate(&SubmitOutcome::Duplicate { state }, 0, NOW, 0),
                outcome
            );
        }
    }
}
