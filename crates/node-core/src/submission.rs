//! Meaning of the relay's results and status events for the outbox and for the delivery status.

use sealpost_proto::{
    DeliveryStatus, EnvelopeState, ErrorCode, FailureCode, Timestamp, backoff,
    wire::{StatusEvent, SubmitOutcome},
};
use std::time::Duration;

/// Outcome of the submission of one envelope.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SubmissionResult {
    /// The relay stored it.
    Accepted {
        /// When it expires at the relay, if the relay reported that.
        expires_at: Option<Timestamp>,
    },
    /// The envelope is sent again, unchanged.
    Retry {
        /// Time of the next attempt.
        at: Timestamp,
        /// Reason for people.
        reason: String,
    },
    /// The message failed permanently.
    Failed(FailureCode),
}

/// Evaluates the relay's result for one envelope; `attempt` counts the refusals so far.
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
        } => match failure_code(*code) {
            Some(failure) => SubmissionResult::Failed(failure),
            None => {
                let backoff = backoff::delay(attempt.saturating_add(1), random);
                let wait = retry_after_ms
                    .map_or(backoff, |millis| backoff.max(Duration::from_millis(millis)));
                SubmissionResult::Retry {
                    at: now.plus(wait),
                    reason: format!("the relay reports: {}", code.title()),
                }
            }
        },
    }
}

/// Returns the failure that a final refusal causes; `None` for a retryable one.
const fn failure_code(code: ErrorCode) -> Option<FailureCode> {
    match code {
        ErrorCode::MailboxUnknown | ErrorCode::ProofInvalid => Some(FailureCode::MailboxUnknown),
        ErrorCode::EnvelopeExpired => Some(FailureCode::Expired),
        code if code.is_retryable() => None,
        _ => Some(FailureCode::Refused),
    }
}

/// Returns the delivery status that an event of the relay reports, and the reason of a failure.
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
    fn every_refusal_fails_or_is_retried() {
        for &code in ErrorCode::ALL {
            match evaluate(&refused(code, None), 0, NOW, 0) {
                SubmissionResult::Retry { at, .. } => {
                    assert!(code.is_retryable() && at > NOW, "{code}")
                }
                SubmissionResult::Failed(_) => assert!(!code.is_retryable(), "{code}"),
                SubmissionResult::Accepted { .. } => panic!("{code} counts as accepted"),
            }
        }
    }

    #[test]
    fn relay_delay_is_honoured() {
        let SubmissionResult::Retry { at, .. } =
            evaluate(&refused(ErrorCode::MailboxFull, Some(60_000)), 0, NOW, 0)
        else {
            panic!("a full mailbox is not a failure")
        };
        assert_eq!(at.since(NOW), Duration::from_secs(60));
    }

    #[test]
    fn duplicates_count_by_their_state() {
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
