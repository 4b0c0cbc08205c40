//! Passphrases, and the `scrypt` stanza that wraps a file key with one.

use crate::file_key::{FileKey, WRAPPED_KEY_BYTES};
use crate::primitive::{decode_base64_array, encode_base64, random_array};
use crate::stanza::Stanza;
use rand_core::CryptoRng;
use scrypt::{Params, scrypt};
use sealpost_proto::limits::{SCRYPT_WORK_FACTOR_DEFAULT, SCRYPT_WORK_FACTOR_MAX};
use zeroize::Zeroizing;

/// Type of the stanza.
pub(crate) const SCRYPT_TYPE: &str = "scrypt";
const SALT_LABEL: &[u8] = b"age-encryption.org/v1/scrypt";
const SALT_BYTES: usize = 16;
const BLOCK_SIZE: u32 = 8;
const PARALLELISM: u32 = 1;

/// Error when a passphrase is empty, because such a file would look protected and not be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the passphrase is empty")]
pub struct EmptyPassphraseError;

/// Passphrase that encrypts a file; not empty.
pub struct Passphrase(Zeroizing<String>);

impl Passphrase {
    /// Wraps a passphrase, which is used byte for byte: the caller removes a line break after it.
    ///
    /// # Errors
    /// [`EmptyPassphraseError`] if it is empty.
    pub fn new(text: Zeroizing<String>) -> Result<Self, EmptyPassphraseError> {
        if text.is_empty() {
            return Err(EmptyPassphraseError);
        }
        Ok(Self(text))
    }
}

/// Error when a work factor is zero or above [`SCRYPT_WORK_FACTOR_MAX`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the work factor must be from 1 to {SCRYPT_WORK_FACTOR_MAX}")]
pub struct WorkFactorError;

/// Cost of one attempt to guess a passphrase: the base-two logarithm of scrypt's `N`.
///
/// Each attempt needs `2^n` KiB of memory. The default is that of `age`, 18: 256 MiB and about a
/// second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WorkFactor(u8);

impl WorkFactor {
    /// Checks a work factor.
    ///
    /// # Errors
    /// [`WorkFactorError`] if it is out of range.
    pub const fn new(log_n: u8) -> Result<Self, WorkFactorError> {
        if log_n == 0 || log_n > SCRYPT_WORK_FACTOR_MAX {
            return Err(WorkFactorError);
        }
        Ok(Self(log_n))
    }

    /// Returns the base-two logarithm of `N`.
    #[must_use]
    pub const fn log_n(self) -> u8 {
        self.0
    }
}

impl Default for WorkFactor {
    fn default() -> Self {
        Self(SCRYPT_WORK_FACTOR_DEFAULT)
    }
}

/// Error when a stanza of the type `scrypt` cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ScryptStanzaError {
    Malformed,
    WorkFactorTooHigh,
}

/// Stanza that wraps the file key with a passphrase.
pub(crate) struct ScryptStanza {
    salt: [u8; SALT_BYTES],
    work_factor: WorkFactor,
    wrapped_key: [u8; WRAPPED_KEY_BYTES],
}

impl ScryptStanza {
    pub(crate) fn parse(stanza: &Stanza) -> Result<Self, ScryptStanzaError> {
        let [_, salt, work_factor] = stanza.arguments.as_slice() else {
            return Err(ScryptStanzaError::Malformed);
        };
        let salt = decode_base64_array(salt.as_bytes()).ok_or(ScryptStanzaError::Malformed)?;
        let wrapped_key = stanza.body.as_slice().try_into();
        Ok(Self {
            salt,
            work_factor: parse_work_factor(work_factor)?,
            wrapped_key: wrapped_key.map_err(|_| ScryptStanzaError::Malformed)?,
        })
    }

    pub(crate) const fn work_factor(&self) -> WorkFactor {
        self.work_factor
    }

    pub(crate) fn wrap(
        file_key: &FileKey,
        passphrase: &Passphrase,
        work_factor: WorkFactor,
        rng: &mut (impl CryptoRng + ?Sized),
    ) -> Stanza {
        let salt = random_array(rng);
        let wrap_key = derive_wrap_key(passphrase, &salt, work_factor);
        Stanza {
            arguments: vec![
                SCRYPT_TYPE.to_owned(),
                encode_base64(&salt),
                work_factor.log_n().to_string(),
            ],
            body: file_key.wrap(&wrap_key).to_vec(),
        }
    }

    /// Returns the file key, or `None` if the passphrase is wrong.
    pub(crate) fn unwrap(&self, passphrase: &Passphrase) -> Option<FileKey> {
        let wrap_key = derive_wrap_key(passphrase, &self.salt, self.work_factor);
        FileKey::unwrap(&self.wrapped_key, &wrap_key)
    }
}

/// Parses decimal digits without a leading zero, so that a header has one encoding only.
fn parse_work_factor(text: &str) -> Result<WorkFactor, ScryptStanzaError> {
    let is_number = !text.starts_with('0') && text.bytes().all(|byte| byte.is_ascii_digit());
    if !is_number || text.is_empty() {
        return Err(ScryptStanzaError::Malformed);
    }
    // A number that does not fit in a byte is too high as well.
    let log_n = text.parse().unwrap_or(u8::MAX);
    WorkFactor::new(log_n).map_err(|WorkFactorError| ScryptStanzaError::WorkFactorTooHigh)
}

fn derive_wrap_key(
    passphrase: &Passphrase,
    salt: &[u8; SALT_BYTES],
    work_factor: WorkFactor,
) -> Zeroizing<[u8; 32]> {
    let salt = [SALT_LABEL, salt].concat();
    let mut key = Zeroizing::new([0; 32]);
    #[expect(
        clippy::expect_used,
        reason = "scrypt refuses only a work factor of 64 or more and more than 128 GiB of output"
    )]
    Params::new(work_factor.log_n(), BLOCK_SIZE, PARALLELISM)
        .map(|params| scrypt(passphrase.0.as_bytes(), &salt, &params, key.as_mut()))
        .expect("the work factor is in range")
        .expect("length fits");
    key
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empty_passphrase_is_refused() {
        let text = Zeroizing::new(String::new());
        assert_eq!(Passphrase::new(text).err(), Some(EmptyPassphraseError));
    }

    #[test]
    fn work_factor_has_both_limits() {
        assert_eq!(WorkFactor::new(0), Err(WorkFactorError));
        assert_eq!(WorkFactor::new(1).map(WorkFactor::log_n), Ok(1));
        assert_eq!(WorkFactor::new(22).map(WorkFactor::log_n), Ok(22));
        assert_eq!(WorkFactor::new(23), Err(WorkFactorError));
        assert_eq!(WorkFactor::default().log_n(), 18);
    }

    #[test]
    fn work_factor_has_one_encoding() {
        assert_eq!(parse_work_factor("22").map(WorkFactor::log_n), Ok(22));
        for high in ["23", "255", "256", "99999999999999999999999"] {
            let parsed = parse_work_factor(high);
            assert_eq!(parsed, Err(ScryptStanzaError::WorkFactorTooHigh), "{high}");
        }
        for malformed in ["", "0", "01", "+1", "-1", "0x12", "1 ", "1a", "１８"] {
            let parsed = parse_work_factor(malformed);
            assert_eq!(parsed, Err(ScryptStanzaError::Malformed), "{malformed}");
        }
    }
}
