//! Proofs for mailboxes (`docs/protocol.md`, *Mailboxes and prekeys*): the holder of a mailbox's
//! send key can post to it, recall its own envelopes and read the prekeys. A proof is the first 16
//! bytes of HMAC-SHA256 with the send key.

use crate::mac::compute_hmac;
use sealpost_proto::{EnvelopeId, MailboxId, SendKey, Timestamp, limits::READ_PROOF_LIFETIME};
use sha2::{Digest as _, Sha256};
use subtle::{Choice, ConstantTimeEq as _};

const POST: &[u8] = b"Sealpost-1 post";
const RECALL: &[u8] = b"Sealpost-1 recall";
const READ: &[u8] = b"Sealpost-1 read";

/// Length of a proof.
pub const PROOF_BYTES: usize = 16;

/// Proof as it is sent.
pub type Proof = [u8; PROOF_BYTES];

/// Computes the proof for posting an envelope, over its mailbox, its id and its SHA-256.
#[must_use]
pub fn prove_post(key: &SendKey, mailbox: MailboxId, envelope: EnvelopeId, bytes: &[u8]) -> Proof {
    let digest = Sha256::digest(bytes);
    compute_proof(
        key,
        &[POST, mailbox.as_bytes(), envelope.as_bytes(), &digest],
    )
}

/// Computes the proof for recalling an envelope.
#[must_use]
pub fn prove_recall(key: &SendKey, mailbox: MailboxId, envelope: EnvelopeId) -> Proof {
    compute_proof(key, &[RECALL, mailbox.as_bytes(), envelope.as_bytes()])
}

/// Computes the proof for reading a mailbox's prekeys; `at` is sent with it.
#[must_use]
pub fn prove_read(key: &SendKey, mailbox: MailboxId, at: Timestamp) -> Proof {
    compute_proof(
        key,
        &[READ, mailbox.as_bytes(), &at.as_millis().to_be_bytes()],
    )
}

/// Verifies the proof for posting an envelope against the mailbox's keys. `digest` is the SHA-256
/// of the envelope.
#[must_use]
pub fn verify_post(
    keys: &[SendKey],
    mailbox: MailboxId,
    envelope: EnvelopeId,
    digest: &[u8; 32],
    claimed: &[u8],
) -> bool {
    verify(
        keys,
        &[POST, mailbox.as_bytes(), envelope.as_bytes(), digest],
        claimed,
    )
}

/// Verifies the proof for recalling an envelope against the mailbox's keys.
#[must_use]
pub fn verify_recall(
    keys: &[SendKey],
    mailbox: MailboxId,
    envelope: EnvelopeId,
    claimed: &[u8],
) -> bool {
    verify(
        keys,
        &[RECALL, mailbox.as_bytes(), envelope.as_bytes()],
        claimed,
    )
}

/// Verifies the proof for reading prekeys against the mailbox's keys. Its time must be within
/// [`READ_PROOF_LIFETIME`] of `now`.
#[must_use]
pub fn verify_read(
    keys: &[SendKey],
    mailbox: MailboxId,
    at: Timestamp,
    now: Timestamp,
    claimed: &[u8],
) -> bool {
    let is_in_time = now.since(at) <= READ_PROOF_LIFETIME && at.since(now) <= READ_PROOF_LIFETIME;
    verify(
        keys,
        &[READ, mailbox.as_bytes(), &at.as_millis().to_be_bytes()],
        claimed,
    ) && is_in_time
}

fn compute_proof(key: &SendKey, parts: &[&[u8]]) -> Proof {
    let mut proof = [0; PROOF_BYTES];
    proof.copy_from_slice(&compute_hmac(key.expose(), parts)[..PROOF_BYTES]);
    proof
}

/// Compares the proof with every key, so that the duration does not reveal which key matched.
fn verify(keys: &[SendKey], parts: &[&[u8]], claimed: &[u8]) -> bool {
    let matches = |key: &SendKey| compute_proof(key, parts).as_slice().ct_eq(claimed);
    keys.iter()
        .fold(Choice::from(0), |any, key| any | matches(key))
        .into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const MAILBOX: MailboxId = MailboxId::from_bytes([1; 16]);
    const ENVELOPE: EnvelopeId = EnvelopeId::from_bytes([2; 16]);

    fn key(fill: u8) -> SendKey {
        SendKey::from_bytes([fill; 32])
    }

    #[test]
    fn post_proof_binds_all_inputs() {
        let made = prove_post(&key(7), MAILBOX, ENVELOPE, b"bytes");
        let digest: [u8; 32] = Sha256::digest(b"bytes").into();
        let other: [u8; 32] = Sha256::digest(b"other").into();
        let wrong = MailboxId::from_bytes([3; 16]);
        assert!(verify_post(&[key(7)], MAILBOX, ENVELOPE, &digest, &made));
        assert!(verify_post(
            &[key(6), key(7)],
            MAILBOX,
            ENVELOPE,
            &digest,
            &made
        ));
        assert!(!verify_post(&[key(6)], MAILBOX, ENVELOPE, &digest, &made));
        assert!(!verify_post(&[], MAILBOX, ENVELOPE, &digest, &made));
        assert!(!verify_post(&[key(7)], wrong, ENVELOPE, &digest, &made));
        assert!(!verify_post(
            &[key(7)],
            MAILBOX,
            EnvelopeId::from_bytes([9; 16]),
            &digest,
            &made
        ));
        assert!(!verify_post(&[key(7)], MAILBOX, ENVELOPE, &other, &made));
        assert!(!verify_post(
            &[key(7)],
            MAILBOX,
            ENVELOPE,
            &digest,
            &made[..15]
        ));
        assert!(!verify_post(&[key(7)], MAILBOX, ENVELOPE, &digest, b""));
    }

    #[test]
    fn proofs_are_bound_to_their_purpose() {
        let recalled = prove_recall(&key(7), MAILBOX, ENVELOPE);
        assert!(verify_recall(&[key(7)], MAILBOX, ENVELOPE, &recalled));
        let posted = prove_post(&key(7), MAILBOX, ENVELOPE, b"");
        assert!(!verify_recall(&[key(7)], MAILBOX, ENVELOPE, &posted));
    }

    #[test]
    fn read_proof_is_valid_for_five_minutes() {
        let at = Timestamp::from_millis(1_000_000_000);
        let made = prove_read(&key(7), MAILBOX, at);
        for (seconds, good) in [(0, true), (300, true), (301, false)] {
            let span = Duration::from_secs(seconds);
            assert_eq!(
                verify_read(&[key(7)], MAILBOX, at, at.plus(span), &made),
                good,
                "{seconds}"
            );
            assert_eq!(
                verify_read(&[key(7)], MAILBOX, at, at.minus(span), &made),
                good,
                "-{seconds}"
            );
        }
        assert!(!verify_read(
            &[key(7)],
            MAILBOX,
            at.plus(Duration::from_millis(1)),
            at,
            &made
        ));
    }
}
