//! Meaning of the relay's results and status events for the outbox and for the delivery status.

use sealpost_proto::{
    DeliveryStatus, EnvelopeState, ErrorCode, FailureCode, Timestamp, backoff,
    limits::MAILBOX_UNKNOWN_RETRY_TIME,
    wire::{StatusEvent, SubmitOutcome},
};
use std::time::Duration;

/// Earlier submissions of one envelope.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Refusals {
    /// Number of refusals so far.
    pub count: u32,
    /// When the relay first did not know the mailbox, unless it has known it since then.
    pub mailbox_unknown_since: Option<Timestamp>,
}

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
        /// When the relay first did not know the mailbox, if it does not know it.
        mailbox_unknown_since: Option<Timestamp>,
    },
    /// The message failed permanently.
    Failed(FailureCode),
}

/// Evaluates the relay's result for one envelope.
///
/// A mailbox can be unknown for a while: a node whose relay lost its account opens its mailboxes
/// again, and the relay cannot know that it will. So the envelope is submitted again for
/// [`MAILBOX_UNKNOWN_RETRY_TIME`] before it fails. A mailbox that its owner deleted stays closed.
#[must_use]
pub fn evaluate(
    outcome: &SubmitOutcome,
    refusals: Refusals,
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
        } => {
            let backoff = backoff::delay(refusals.count.saturating_add(1), random);
            let wait =
                retry_after_ms.map_or(backoff, |millis| backoff.max(Duration::from_millis(millis)));
            let retry = |at, mailbox_unknown_since| SubmissionResult::Retry {
                at,
                reason: format!("the relay reports: {}", code.title()),
                mailbox_unknown_since,
            };
            let at = now.plus(wait);
            match failure_code(*code) {
                None => retry(at, None),
                Some(failure) if *code == ErrorCode::MailboxUnknown => {
                    // A clock that was set back must not extend the time.
                    let since = refusals.mailbox_unknown_since.unwrap_or(now).min(now);
                    let end = since.plus(MAILBOX_UNKNOWN_RETRY_TIME);
                    if now < end {
                        retry(at.min(end), Some(since))
                    } else {
                        SubmissionResult::Failed(failure)
                    }
                }
                Some(failure) => SubmissionResult::Failed(failure),
            }
        }
    }
}

/// Returns the failure that a final refusal causes; `None` for a retryable one.
const fn failure_code(code: ErrorCode) -> Option<FailureCode> {
    match code {
        ErrorCode::MailboxUnknown | ErrorCode::MailboxClosed | ErrorCode::ProofInvalid => {
            Some(FailureCode::MailboxUnknown)
        }
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
            let is_retried = code.is_retryable() || code == ErrorCode::MailboxUnknown;
            match evaluate(&refused(code, None), Refusals::default(), NOW, 0) {
                SubmissionResult::Retry { at, .. } => assert!(is_retried && at > NOW, "{code}"),
                SubmissionResult::Failed(_) => assert!(!is_retried, "{code}"),
                SubmissionResult::Accepted { .. } => panic!("{code} counts as accepted"),
            }
        }
    }

    #[test]
    fn unknown_mailboxes_fail_after_ten_minutes() {
        let refusal = refused(ErrorCode::MailboxUnknown, None);
        let (mut refusals, mut now) = (Refusals::default(), NOW);
        let end = NOW.plus(MAILBOX_UNKNOWN_RETRY_TIME);
        while now < end {
            let SubmissionResult::Retry {
                at,
                mailbox_unknown_since,
                ..
            } = evaluate(&refusal, refusals, now, u64::MAX)
            else {
                panic!("it failed after {:?}", now.since(NOW));
            };
            assert_eq!(mailbox_unknown_since, Some(NOW));
            assert!(now < at && at <= end);
            refusals = Refusals {
                count: refusals.count + 1,
                mailbox_unknown_since,
            };
            now = at;
        }
        assert!(refusals.count > 5, "{} attempts", refusals.count);
        let failed = SubmissionResult::Failed(FailureCode::MailboxUnknown);
        assert_eq!(evaluate(&refusal, refusals, now, 0), failed);
    }

    #[test]
    fn other_refusals_restart_the_time_of_unknown_mailboxes() {
        let refusals = Refusals {
            count: 9,
            mailbox_unknown_since: Some(NOW),
        };
        let full = refused(ErrorCode::MailboxFull, None);
        let SubmissionResult::Retry {
            mailbox_unknown_since,
            ..
        } = evaluate(&full, refusals, NOW, 0)
        else {
            panic!("a full mailbox is not a failure");
        };
        assert_eq!(mailbox_unknown_since, None);
    }

    #[test]
    fn clock_set_back_does_not_extend_the_time() {
        let refusals = Refusals {
            count: 1,
            mailbox_unknown_since: Some(NOW.plus(Duration::from_secs(1_000_000))),
        };
        let refusal = refused(ErrorCode::MailboxUnknown, None);
        let SubmissionResult::Retry {
            mailbox_unknown_since,
            ..
        } = evaluate(&refusal, refusals, NOW, 0)
        else {
            panic!("the time begins again");
        };
        assert_eq!(mailbox_unknown_since, Some(NOW));
    }

    #[test]
    fn relay_delay_is_honoured() {
        let refusal = refused(ErrorCode::MailboxFull, Some(60_000));
        let SubmissionResult::Retry { at, .. } = evaluate(&refusal, Refusals::default(), NOW, 0)
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
                evaluate(
                    &SubmitOutcome::Duplicate { state },
                    Refusals::default(),
                    NOW,
                    0
                ),
                outcome
            );
        }
    }
}
