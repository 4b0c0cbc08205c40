//! Whether the relay takes one submitted envelope (`docs/protocol.md`, *Submitting*).
//!
//! The questions are asked in this order, and the first answer stands:
//!
//! | question | answer |
//! |---|---|
//! | another relay's mailbox? | refused `foreign_relay_unsupported` |
//! | this sender's, and known? | `duplicate` with its state, or refused `conflict` |
//! | no legal size? | refused `envelope_invalid` |
//! | mailbox unknown or closed? | refused `mailbox_unknown` |
//! | proof wrong? | refused `proof_invalid` |
//! | known, of another sender? | refused `conflict` |
//! | expired? | refused `envelope_expired` |
//! | account of the mailbox suspended? | refused `mailbox_suspended` |
//! | an earlier one of the request refused for a passing reason? | refused `after_refused` |
//! | mailbox full, or all mailboxes of its account together? | refused `mailbox_full` |
//! | otherwise | accepted |

use crate::quota::{Held, Quotas};
use sealpost_proto::{
    EnvelopeState, ErrorCode, Timestamp,
    limits::{
        DIGEST_KEPT_BEYOND_LIFE, ENVELOPE_BYTES_MAX, ENVELOPE_BYTES_MIN, ENVELOPE_LIFE_DEFAULT,
        ENVELOPE_LIFE_MAX, MAILBOX_FULL_RETRY, MAILBOX_SUSPENDED_RETRY,
    },
};
use std::time::Duration;

/// What is known about one submitted envelope.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Facts {
    /// Whether the mailbox's reference names this relay.
    pub home: bool,
    /// Size of the envelope in bytes.
    pub size_bytes: usize,
    /// The expiry that the sender asks for.
    pub asked_expiry: Option<Timestamp>,
    /// What waits in the mailbox; absent when the mailbox is unknown or closed.
    pub mailbox: Option<Held>,
    /// Whether the operator suspended the mailbox's account.
    pub suspended: bool,
    /// What waits in all mailboxes of that mailbox's account.
    pub account: Held,
    /// Whether the proof fits one of the mailbox's keys.
    pub proof_good: bool,
    /// The record of an earlier envelope with this mailbox and id.
    pub known: Option<Known>,
    /// Whether an earlier item of the request for the same mailbox was refused for a passing reason.
    pub after_refused: bool,
}

/// An envelope that was accepted before under the same mailbox and id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Known {
    /// Whether its digest is the one of the bytes that came now.
    pub same_digest: bool,
    /// Whether the same account submitted it.
    pub same_sender: bool,
    /// Where it is.
    pub state: EnvelopeState,
}

/// What the relay does with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is written down, to live until then.
    Accept {
        /// The end of its life.
        expires_at: Timestamp,
    },
    /// It was accepted before.
    Duplicate {
        /// Where it is.
        state: EnvelopeState,
    },
    /// It is not taken.
    Refuse(Refusal),
}

/// Why an envelope is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refusal {
    /// The code on the wire.
    pub code: ErrorCode,
    /// When another try makes sense.
    pub retry_after: Option<Duration>,
}

impl Refusal {
    /// Whether later items of the request for the same mailbox have to wait too, so that order holds.
    #[must_use]
    pub const fn is_passing(self) -> bool {
        self.code.is_retryable()
    }
}

/// Decides about one envelope; the quotas are those of the account that receives it.
#[must_use]
pub fn decide(now: Timestamp, quotas: &Quotas, facts: Facts) -> Verdict {
    if !facts.home {
        return finally(ErrorCode::ForeignRelayUnsupported);
    }
    if let Some(
        known @ Known {
            same_sender: true, ..
        },
    ) = facts.known
    {
        return again(known);
    }
    if !is_legal_size(facts.size_bytes) {
        return finally(ErrorCode::EnvelopeInvalid);
    }
    let Some(held) = facts.mailbox else {
        return finally(ErrorCode::MailboxUnknown);
    };
    if !facts.proof_good {
        return finally(ErrorCode::ProofInvalid);
    }
    if facts.known.is_some() {
        return finally(ErrorCode::Conflict);
    }
    let expires_at = expiry(now, facts.asked_expiry);
    if expires_at <= now {
        return finally(ErrorCode::EnvelopeExpired);
    }
    if facts.suspended {
        return later(ErrorCode::MailboxSuspended, MAILBOX_SUSPENDED_RETRY);
    }
    if facts.after_refused {
        return passing(ErrorCode::AfterRefused);
    }
    if !quotas.allows_envelope(held, facts.account, facts.size_bytes as u64) {
        return passing(ErrorCode::MailboxFull);
    }
    Verdict::Accept { expires_at }
}

/// The end of an envelope's life: as asked, [`ENVELOPE_LIFE_DEFAULT`] from now otherwise, never more than
/// [`ENVELOPE_LIFE_MAX`] from now.
#[must_use]
pub fn expiry(now: Timestamp, asked: Option<Timestamp>) -> Timestamp {
    asked
        .unwrap_or(now.plus(ENVELOPE_LIFE_DEFAULT))
        .min(now.plus(ENVELOPE_LIFE_MAX))
}

/// Until when the digest of an envelope that is accepted now is kept.
#[must_use]
pub fn digest_kept_until(now: Timestamp) -> Timestamp {
    now.plus(ENVELOPE_LIFE_MAX).plus(DIGEST_KEPT_BEYOND_LIFE)
}

/// Whether so many bytes can be an envelope: a power of two from 2,048 to 65,536, or a Padmé size up to 262,144.
///
/// Padmé (PURBs, section 4) keeps the upper bits of a length: of the `e + 1` bits of the length the last `e - s` are
/// zero, where `s` is the number of bits that `e` takes.
#[must_use]
pub const fn is_legal_size(bytes: usize) -> bool {
    match bytes {
        ENVELOPE_BYTES_MIN..=65_536 => bytes.is_power_of_two(),
        65_537..=ENVELOPE_BYTES_MAX => {
            let exponent = bytes.ilog2();
            let kept = exponent.ilog2() + 1;
            bytes.trailing_zeros() >= exponent - kept
        }
        _ => false,
    }
}

const fn again(known: Known) -> Verdict {
    if known.same_digest {
        Verdict::Duplicate { state: known.state }
    } else {
        finally(ErrorCode::Conflict)
    }
}

const fn finally(code: ErrorCode) -> Verdict {
    Verdict::Refuse(Refusal {
        code,
        retry_after: None,
    })
}

const fn passing(code: ErrorCode) -> Verdict {
    later(code, MAILBOX_FULL_RETRY)
}

const fn later(code: ErrorCode, wait: Duration) -> Verdict {
    Verdict::Refuse(Refusal {
        code,
        retry_after: Some(wait),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_000_000);

    fn good() -> Facts {
        Facts {
            home: true,
            size_bytes: 2_048,
            asked_expiry: None,
            mailbox: Some(Held::default()),
            suspended: false,
            account: Held::default(),
            proof_good: true,
            known: None,
            after_refused: false,
        }
    }

    fn code(facts: Facts) -> Option<ErrorCode> {
        match decide(NOW, &Quotas::default(), facts) {
            Verdict::Refuse(refusal) => Some(refusal.code),
            Verdict::Accept { .. } | Verdict::Duplicate { .. } => None,
        }
    }

    #[test]
    fn each_fact_alone_refuses() {
        let known = Known {
            same_digest: true,
            same_sender: false,
            state: EnvelopeState::Queued,
        };
        let changed = Known {
            same_digest: false,
            same_sender: true,
            state: EnvelopeState::Queued,
        };
        let full = Held {
            envelopes: Quotas::default().mailbox_envelopes,
            bytes: 0,
        };
        let overfull = Held {
            envelopes: 0,
            bytes: Quotas::default().account_bytes,
        };
        for (facts, expected) in [
            (
                Facts {
                    home: false,
                    ..good()
                },
                ErrorCode::ForeignRelayUnsupported,
            ),
            (
                Facts {
                    size_bytes: 2_047,
                    ..good()
                },
                ErrorCode::EnvelopeInvalid,
            ),
            (
                Facts {
                    mailbox: None,
                    ..good()
                },
                ErrorCode::MailboxUnknown,
            ),
            (
                Facts {
                    proof_good: false,
                    ..good()
                },
                ErrorCode::ProofInvalid,
            ),
            (
                Facts {
                    known: Some(known),
                    ..good()
                },
                ErrorCode::Conflict,
            ),
            (
                Facts {
                    known: Some(changed),
                    ..good()
                },
                ErrorCode::Conflict,
            ),
            (
                Facts {
                    asked_expiry: Some(NOW),
                    ..good()
                },
                ErrorCode::EnvelopeExpired,
            ),
            (
                Facts {
                    suspended: true,
                    ..good()
                },
                ErrorCode::MailboxSuspended,
            ),
            (
                Facts {
                    after_refused: true,
                    ..good()
                },
                ErrorCode::AfterRefused,
            ),
            (
                Facts {
                    mailbox: Some(full),
                    ..good()
                },
                ErrorCode::MailboxFull,
            ),
            (
                Facts {
                    account: overfull,
                    ..good()
                },
                ErrorCode::MailboxFull,
            ),
        ] {
            assert_eq!(code(facts), Some(expected));
        }
        assert_eq!(code(good()), None);
    }

    #[test]
    fn a_duplicate_is_one_even_when_its_mailbox_closed_and_its_life_ended() {
        let known = Some(Known {
            same_digest: true,
            same_sender: true,
            state: EnvelopeState::Stored,
        });
        let facts = Facts {
            known,
            mailbox: None,
            proof_good: false,
            asked_expiry: Some(NOW),
            ..good()
        };
        let verdict = decide(NOW, &Quotas::default(), facts);
        assert_eq!(
            verdict,
            Verdict::Duplicate {
                state: EnvelopeState::Stored
            }
        );
    }

    #[test]
    fn only_passing_refusals_hold_up_what_follows() {
        let refusal = |code| Refusal {
            code,
            retry_after: None,
        };
        assert!(refusal(ErrorCode::MailboxSuspended).is_passing());
        assert!(
            refusal(ErrorCode::MailboxFull).is_passing()
                && refusal(ErrorCode::AfterRefused).is_passing()
        );
        assert!(
            !refusal(ErrorCode::ProofInvalid).is_passing()
                && !refusal(ErrorCode::EnvelopeInvalid).is_passing()
        );
    }

    #[test]
    fn a_life_is_clamped() {
        assert_eq!(expiry(NOW, None), NOW.plus(ENVELOPE_LIFE_DEFAULT));
        assert_eq!(
            expiry(NOW, Some(Timestamp::from_millis(u64::MAX))),
            NOW.plus(ENVELOPE_LIFE_MAX)
        );
        assert_eq!(expiry(NOW, Some(NOW)), NOW);
    }

    #[test]
    fn legal_sizes() {
        for legal in [
            2_048, 4_096, 32_768, 65_536, 67_584, 129_024, 131_072, 135_168, 262_144,
        ] {
            assert!(is_legal_size(legal), "{legal}");
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
            assert!(!is_legal_size(illegal), "{illegal}");
        }
    }
}
