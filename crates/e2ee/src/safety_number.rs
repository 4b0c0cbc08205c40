//! Safety numbers, which two people compare to rule out an attacker between them
//! (docs/e2ee-files-invites-vault.md#safety-number).
//!
//! The number is Signal's numeric fingerprint; [`HalfFingerprint::compute`] is its general form.
//! The QR code holds both fingerprints, so that a scan replaces the comparison by eye.

use crate::keys::{Fingerprint, PeerIdentity};
use sealpost_proto::b64;
use sha2::{Digest as _, Sha512};
use std::fmt;

/// Rounds of SHA-512 for each half.
pub const ITERATIONS: u32 = 5_200;
/// Version of the numeric fingerprint, the first two bytes of the first round's input.
pub const FINGERPRINT_VERSION: u16 = 0;

const QR_MARKER: &str = "sealpost:sn1.";
const GROUP_DIGITS: usize = 5;
const GROUP_BYTES: usize = 5;
const GROUPS_PER_HALF: usize = 6;
const DIGITS: usize = 2 * GROUPS_PER_HALF * GROUP_DIGITS;

/// One side's half of a safety number: the first 32 bytes of the last SHA-512. 30 of them become
/// digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HalfFingerprint([u8; 32]);

impl HalfFingerprint {
    /// Computes Signal's iterated hash: SHA-512 over `version || keys || id || keys`, then
    /// `iterations - 1` rounds over the hash and `keys`.
    #[must_use]
    pub fn compute(version: u16, id: &[u8], keys: &[u8], iterations: u32) -> Self {
        let first = Sha512::new()
            .chain_update(version.to_be_bytes())
            .chain_update(keys)
            .chain_update(id);
        let mut hash = first.chain_update(keys).finalize();
        for _ in 1..iterations {
            hash = Sha512::new()
                .chain_update(hash)
                .chain_update(keys)
                .finalize();
        }
        let mut half = [0; 32];
        half.copy_from_slice(&hash[..32]);
        Self(half)
    }

    /// Returns the 32 raw bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Returns 30 digits: each 5 bytes as a number modulo 100,000.
    #[must_use]
    pub fn digits(&self) -> String {
        let groups = self.0.chunks_exact(GROUP_BYTES).take(GROUPS_PER_HALF);
        groups
            .map(|group| {
                group
                    .iter()
                    .fold(0_u64, |number, byte| number << 8 | u64::from(*byte))
                    % 100_000
            })
            .fold(String::with_capacity(DIGITS), |mut digits, group| {
                digits.push_str(&format!("{group:05}"));
                digits
            })
    }
}

/// The 60 digits of a pair of identities, equal on both sides. `Display` writes them in twelve
/// groups of five.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SafetyNumber(String);

impl SafetyNumber {
    /// Computes the number of two identities in any order. Takes a few milliseconds.
    #[must_use]
    pub fn for_identities(one: &PeerIdentity, other: &PeerIdentity) -> Self {
        let [one, other] = [one, other].map(|side| {
            let keys = [*side.ik_ed(), *side.ik_x()].concat();
            HalfFingerprint::compute(
                FINGERPRINT_VERSION,
                side.fingerprint().as_bytes(),
                &keys,
                ITERATIONS,
            )
        });
        Self::from_halves(&one, &other)
    }

    /// Joins two halves in any order.
    #[must_use]
    pub fn from_halves(one: &HalfFingerprint, other: &HalfFingerprint) -> Self {
        let (one, other) = (one.digits(), other.digits());
        Self(if one <= other {
            one + &other
        } else {
            other + &one
        })
    }

    /// Returns the 60 digits without spaces.
    #[must_use]
    pub fn as_digits(&self) -> &str {
        &self.0
    }

    /// Whether `text`, as typed by a person, is this number. White space and hyphens are ignored.
    #[must_use]
    pub fn matches(&self, text: &str) -> bool {
        let typed = text
            .chars()
            .filter(|typed| !typed.is_whitespace() && *typed != '-');
        self.0.chars().eq(typed)
    }
}

impl fmt::Display for SafetyNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, digit) in self.0.chars().enumerate() {
            if index > 0 && index % GROUP_DIGITS == 0 {
                f.write_str(" ")?;
            }
            write!(f, "{digit}")?;
        }
        Ok(())
    }
}

/// Content of the QR code that one side shows and the other scans.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VerificationCode {
    shown_by: Fingerprint,
    meant_for: Fingerprint,
}

/// Error when a text is not the content of a verification code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a Sealpost verification code")]
pub struct ParseVerificationCodeError;

/// Why a scanned code does not verify a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Mismatch {
    /// The scanner scanned its own code.
    #[error("this is your own code; scan the code on your partner's screen")]
    OwnCode,
    /// The code belongs to another identity than the connection's peer.
    #[error(
        "the code belongs to another identity than this connection's; do not trust the connection"
    )]
    PeerIdentity,
    /// The peer's code names another identity than the scanner's.
    #[error("your partner knows you under another identity; do not trust the connection")]
    OwnIdentity,
}

impl VerificationCode {
    /// Creates the code that `own` shows to `peer`.
    #[must_use]
    pub const fn new(own: Fingerprint, peer: Fingerprint) -> Self {
        Self {
            shown_by: own,
            meant_for: peer,
        }
    }

    /// Returns the text of the QR code: `sealpost:sn1.` and both fingerprints as base64url.
    #[must_use]
    pub fn encode(&self) -> String {
        format!(
            "{QR_MARKER}{}",
            b64::encode(&[*self.shown_by.as_bytes(), *self.meant_for.as_bytes()].concat())
        )
    }

    /// Parses the text of a scanned code.
    ///
    /// # Errors
    /// [`ParseVerificationCodeError`] for any other text.
    pub fn parse(text: &str) -> Result<Self, ParseVerificationCodeError> {
        let base64 = text
            .strip_prefix(QR_MARKER)
            .ok_or(ParseVerificationCodeError)?;
        let both: [u8; 64] = b64::parse_array(base64).map_err(|_| ParseVerificationCodeError)?;
        let (shown_by, rest) = both
            .split_first_chunk::<32>()
            .ok_or(ParseVerificationCodeError)?;
        let meant_for = rest.first_chunk::<32>().ok_or(ParseVerificationCodeError)?;
        Ok(Self {
            shown_by: Fingerprint::from_bytes(*shown_by),
            meant_for: Fingerprint::from_bytes(*meant_for),
        })
    }

    /// Compares a scanned code with the scanner's own fingerprint and that of its peer.
    ///
    /// # Errors
    /// [`Mismatch`] states which of the two differs.
    pub fn compare(&self, own: &Fingerprint, peer: &Fingerprint) -> Result<(), Mismatch> {
        match (self.shown_by == *peer, self.meant_for == *own) {
            (true, true) => Ok(()),
            (true, false) => Err(Mismatch::OwnIdentity),
            (false, _) if self.shown_by == *own => Err(Mismatch::OwnCode),
            (false, _) => Err(Mismatch::PeerIdentity),
        }
    }
}
