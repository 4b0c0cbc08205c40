//! Decides whether the relay accepts a submitted envelope (`docs/protocol.md`, *Submission*).
//!
//! The checks run in this order, and the first that applies decides:
//!
//! | check | verdict |
//! |---|---|
//! | mailbox of another relay? | refused `foreign_relay_unsupported` |
//! | submitted before by this sender? | `duplicate` with its state, or refused `conflict` |
//! | invalid size? | refused `envelope_invalid` |
//! | mailbox deleted by its owner? | refused `mailbox_closed` |
//! | mailbox unknown, or deleted with its account? | refused `mailbox_unknown` |
//! | proof invalid? | refused `proof_invalid` |
//! | submitted before by another sender? | refused `conflict` |
//! | expired? | refused `envelope_expired` |
//! | mailbox's account suspended? | refused `mailbox_suspended` |
//! | earlier envelope of the request refused for a retryable reason? | refused `earlier_envelope_refused` |
//! | mailbox or account full, or sender limit reached? | refused `mailbox_full` |
//! | otherwise | accepted |

use crate::quota::{EnvelopeUsage, Quotas};
use sealpost_proto::{
    EnvelopeState, ErrorCode, Timestamp,
    limits::{
        ENVELOPE_BYTES_MAX, ENVELOPE_BYTES_MIN, ENVELOPE_LIFETIME_DEFAULT, ENVELOPE_LIFETIME_MAX,
        MAILBOX_FULL_RETRY, MAILBOX_SUSPENDED_RETRY, SENDER_LIMIT_RETRY,
    },
};
use std::time::Duration;

/// Input for the decision about a submitted envelope.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SubmissionContext {
    /// Whether the mailbox belongs to this relay.
    pub is_local: bool,
    /// Size of the envelope in bytes.
    pub size_bytes: usize,
    /// Expiry that the sender requests.
    pub requested_expiry: Option<Timestamp>,
    /// Usage of the mailbox; absent if the mailbox is unknown or deleted.
    pub mailbox: Option<EnvelopeUsage>,
    /// Whether the owner deleted the mailbox, so that it will not be created again.
    pub is_mailbox_closed: bool,
    /// Whether the operator suspended the mailbox's account.
    pub is_recipient_suspended: bool,
    /// Usage of all mailboxes of the mailbox's account.
    pub account: EnvelopeUsage,
    /// Whether the proof matches one of the mailbox's keys.
    pub is_proof_valid: bool,
    /// Whether the mailbox accepts no more envelopes from this sender for now.
    pub is_sender_limit_reached: bool,
    /// Earlier submission with the same mailbox and id.
    pub prior: Option<PriorSubmission>,
    /// Whether an earlier item of the request for the same mailbox was refused for a
    /// retryable reason.
    pub follows_refusal: bool,
}

/// Envelope that was accepted before with the same mailbox and id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PriorSubmission {
    /// Whether its digest equals that of the submitted bytes.
    pub is_same_digest: bool,
    /// Whether the same account submitted it.
    pub is_same_sender: bool,
    /// State of the accepted envelope.
    pub state: EnvelopeState,
}

/// Decision about a submitted envelope.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The relay stores the envelope.
    Accept {
        /// When the envelope expires.
        expires_at: Timestamp,
    },
    /// The relay accepted the same envelope before.
    Duplicate {
        /// State of that envelope.
        state: EnvelopeState,
    },
    /// The relay refuses the envelope.
    Refuse(Refusal),
}

/// Reason for refusing an envelope.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refusal {
    /// Code on the wire.
    pub code: ErrorCode,
    /// Delay before a retry.
    pub retry_after: Option<Duration>,
}

impl Refusal {
    /// Returns whether the sender may retry. If so, later envelopes of the request for the same
    /// mailbox are refused too, which preserves the order.
    #[must_use]
    pub const fn is_retryable(self) -> bool {
        self.code.is_retryable()
    }
}

/// Decides whether to accept one envelope. `quotas` are those of the receiving account.
#[must_use]
pub fn decide(now: Timestamp, quotas: &Quotas, context: SubmissionContext) -> Verdict {
    if !context.is_local {
        return refuse(ErrorCode::ForeignRelayUnsupported);
    }
    if let Some(
        known @ PriorSubmission {
            is_same_sender: true,
            ..
        },
    ) = context.prior
    {
        return decide_resubmission(known);
    }
    if !is_valid_size(context.size_bytes) {
        return refuse(ErrorCode::EnvelopeInvalid);
    }
    let Some(usage) = context.mailbox else {
        return refuse(if context.is_mailbox_closed {
            ErrorCode::MailboxClosed
        } else {
            ErrorCode::MailboxUnknown
        });
    };
    if !context.is_proof_valid {
        return refuse(ErrorCode::ProofInvalid);
    }
    if context.prior.is_some() {
        return refuse(ErrorCode::Conflict);
    }
    let expires_at = clamp_expiry(now, context.requested_expiry);
    if expires_at <= now {
        return refuse(ErrorCode::EnvelopeExpired);
    }
    if context.is_recipient_suspended {
        return refuse_with_delay(ErrorCode::MailboxSuspended, MAILBOX_SUSPENDED_RETRY);
    }
    if context.follows_refusal {
        return refuse_with_delay(ErrorCode::EarlierEnvelopeRefused, MAILBOX_FULL_RETRY);
    }
    if context.is_sender_limit_reached {
        return refuse_with_delay(ErrorCode::MailboxFull, SENDER_LIMIT_RETRY);
    }
    if !quotas.allows_envelope(usage, context.account, context.size_bytes as u64) {
        return refuse_with_delay(ErrorCode::MailboxFull, MAILBOX_FULL_RETRY);
    }
    Verdict::Accept { expires_at }
}

/// Returns the expiry of an envelope: as requested, or [`ENVELOPE_LIFETIME_DEFAULT`] from now;
/// never more than [`ENVELOPE_LIFETIME_MAX`] from now.
#[must_use]
fn clamp_expiry(now: Timestamp, requested: Option<Timestamp>) -> Timestamp {
    requested
        .unwrap_or(now.plus(ENVELOPE_LIFETIME_DEFAULT))
        .min(now.plus(ENVELOPE_LIFETIME_MAX))
}

/// Returns whether this is a valid envelope size: a power of two from 2,048 to 65,536, or a Padmé
/// size up to 262,144.
///
/// Padmé (PURBs, section 4) preserves the upper bits of a length: of its `e + 1` bits the last `e -
/// s` are zero, where `s` is the number of bits of `e`.
#[must_use]
pub const fn is_valid_size(bytes: usize) -> bool {
    match bytes {
        ENVELOPE_BYTES_MIN..=65_536 => bytes.is_power_of_two(),
        65_537..=ENVELOPE_BYTES_MAX => {
            let exponent = bytes.ilog2();
            let mantissa_bits = exponent.ilog2() + 1;
            bytes.trailing_zeros() >= exponent - mantissa_bits
        }
        _ => false,
    }
}

const fn decide_resubmission(known: PriorSubmission) -> Verdict {
    if known.is_same_digest {
        Verdict::Duplicate { state: known.state }
    } else {
        refuse(ErrorCode::Conflict)
    }
}

const fn refuse(code: ErrorCode) -> Verdict {
    Verdict::Refuse(Refusal {
        code,
        retry_after: None,
    })
}

const fn refuse_with_delay(code: ErrorCode, wait: Duration) -> Verdict {
    Verdict::Refuse(Refusal {
        code,
        retry_after: Some(wait),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_000_000);

    fn valid_context() -> SubmissionContext {
        SubmissionContext {
            is_local: true,
            size_bytes: 2_048,
            requested_expiry: None,
            mailbox: Some(EnvelopeUsage::default()),
            is_mailbox_closed: false,
            is_recipient_suspended: false,
            account: EnvelopeUsage::default(),
            is_proof_valid: true,
            is_sender_limit_reached: false,
            prior: None,
            follows_refusal: false,
        }
    }

    fn code(context: SubmissionContext) -> Option<ErrorCode> {
        match decide(NOW, &Quotas::default(), context) {
            Verdict::Refuse(refusal) => Some(refusal.code),
            Verdict::Accept { .. } | Verdict::Duplicate { .. } => None,
        }
    }

    #[test]
    fn each_failed_check_refuses() {
        let known = PriorSubmission {
            is_same_digest: true,
            is_same_sender: false,
            state: EnvelopeState::Queued,
        };
        let changed = PriorSubmission {
            is_same_digest: false,
            is_same_sender: true,
            state: EnvelopeState::Queued,
        };
        let full = EnvelopeUsage {
            envelopes: Quotas::default().mailbox_envelopes,
            bytes: 0,
        };
        let overfull = EnvelopeUsage {
            envelopes: 0,
            bytes: Quotas::default().account_bytes,
        };
        for (context, expected) in [
            (
                SubmissionContext {
                    is_local: false,
                    ..valid_context()
                },
                ErrorCode::ForeignRelayUnsupported,
            ),
            (
                SubmissionContext {
                    size_bytes: 2_047,
                    ..valid_context()
                },
                ErrorCode::EnvelopeInvalid,
            ),
            (
                SubmissionContext {
                    mailbox: None,
                    ..valid_context()
                },
                ErrorCode::MailboxUnknown,
            ),
            (
                SubmissionContext {
                    mailbox: None,
                    is_mailbox_closed: true,
                    ..valid_context()
                },
                ErrorCode::MailboxClosed,
            ),
            (
                SubmissionContext {
                    is_proof_valid: false,
                    ..valid_context()
                },
                ErrorCode::ProofInvalid,
            ),
            (
                SubmissionContext {
                    prior: Some(known),
                    ..valid_context()
                },
                ErrorCode::Conflict,
            ),
            (
                SubmissionContext {
                    prior: Some(changed),
                    ..valid_context()
                },
                ErrorCode::Conflict,
            ),
            (
                SubmissionContext {
                    requested_expiry: Some(NOW),
                    ..valid_context()
                },
                ErrorCode::EnvelopeExpired,
            ),
            (
                SubmissionContext {
                    is_recipient_suspended: true,
                    ..valid_context()
                },
                ErrorCode::MailboxSuspended,
            ),
            (
                SubmissionContext {
                    follows_refusal: true,
                    ..valid_context()
                },
                ErrorCode::EarlierEnvelopeRefused,
            ),
            (
                SubmissionContext {
                    mailbox: Some(full),
                    ..valid_context()
                },
                ErrorCode::MailboxFull,
            ),
            (
                SubmissionContext {
                    is_sender_limit_reached: true,
                    ..valid_context()
                },
                ErrorCode::MailboxFull,
            ),
            (
                SubmissionContext {
                    account: overfull,
                    ..valid_context()
                },
                ErrorCode::MailboxFull,
            ),
        ] {
            assert_eq!(code(context), Some(expected));
        }
        assert_eq!(code(valid_context()), None);
    }

    #[test]
    fn duplicates_take_precedence_over_refusals() {
        let known = Some(PriorSubmission {
            is_same_digest: true,
            is_same_sender: true,
            state: EnvelopeState::Stored,
        });
        let context = SubmissionContext {
            prior: known,
            mailbox: None,
            is_proof_valid: false,
            requested_expiry: Some(NOW),
            ..valid_context()
        };
        let verdict = decide(NOW, &Quotas::default(), context);
        assert_eq!(
            verdict,
            Verdict::Duplicate {
                state: EnvelopeState::Stored
            }
        );
    }

    #[test]
    fn only_retryable_refusals_block_later_envelopes() {
        let refusal = |code| Refusal {
            code,
            retry_after: None,
        };
        assert!(refusal(ErrorCode::MailboxSuspended).is_retryable());
        assert!(
            refusal(ErrorCode::MailboxFull).is_retryable()
                && refusal(ErrorCode::EarlierEnvelopeRefused).is_retryable()
        );
        assert!(
            !refusal(ErrorCode::ProofInvalid).is_retryable()
                && !refusal(ErrorCode::EnvelopeInvalid).is_retryable()
        );
    }

    #[test]
    fn expiry_is_clamped() {
        assert_eq!(clamp_expiry(NOW, None), NOW.plus(ENVELOPE_LIFETIME_DEFAULT));
        assert_eq!(
            clamp_expiry(NOW, Some(Timestamp::from_millis(u64::MAX))),
            NOW.plus(ENVELOPE_LIFETIME_MAX)
        );
        assert_eq!(clamp_expiry(NOW, Some(NOW)), NOW);
    }

    #[test]
    fn only_padded_sizes_are_valid() {
        for legal in [
            2_048, 4_096, 32_768, 65_536, 67_584, 129_024, 131_072, 135_168, 262_144,
        ] {
            assert!(is_valid_size(legal), "{legal}");
        }
        for illegal in [
            0,
            1_024,
            2_049,
            3_072,
            65_537,
            66_560,
            131_073,
            133_120,
            262_145,
            524_288,
            usize::MAX,
        ] {
            assert!(!is_valid_size(illegal), "{illegal}");
        }
    }
}
