//! Passphrases, and the wrapping of a data key by Argon2id (RFC 9106) over one.

use super::DataKey;
use super::wrapping::{UnwrapError, WrapKind, WrappedDataKey};
use crate::primitive::{Key, random_array};
use crate::record::{Reader, Writer};
use argon2::{Algorithm, Argon2, Block, Params, Version};
use rand_core::CryptoRng;
use sealpost_proto::limits::{
    ARGON2_LANES, ARGON2_LANES_MAX, ARGON2_MEMORY_KIB, ARGON2_MEMORY_KIB_MAX, ARGON2_PASSES,
    ARGON2_PASSES_MAX, KEY_PASSPHRASE_CHARACTERS_MIN,
};
use zeroize::{Zeroize as _, Zeroizing};

const SALT_BYTES: usize = 16;

/// Error when a data key cannot be wrapped by a passphrase.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PassphraseError {
    /// The passphrase is too easy to guess.
    #[error(
        "the passphrase has {characters} characters; it needs at least \
         {KEY_PASSPHRASE_CHARACTERS_MIN}"
    )]
    TooShort {
        /// Its length.
        characters: usize,
    },
    /// The memory for Argon2id cannot be allocated.
    #[error("there is not enough memory for the passphrase: it needs {ARGON2_MEMORY_KIB} KiB")]
    OutOfMemory,
}

/// Passphrase that protects a data key.
pub struct Passphrase(Zeroizing<String>);

impl Passphrase {
    /// Wraps a passphrase, which is used byte for byte: the caller removes a line break after it.
    #[must_use]
    pub const fn new(text: Zeroizing<String>) -> Self {
        Self(text)
    }

    /// Checks the length of a passphrase that was chosen. One that exists already may be shorter.
    ///
    /// # Errors
    /// [`PassphraseError::TooShort`]
    pub fn check_length(&self) -> Result<(), PassphraseError> {
        let characters = self.0.chars().count();
        if characters < KEY_PASSPHRASE_CHARACTERS_MIN {
            return Err(PassphraseError::TooShort { characters });
        }
        Ok(())
    }

    /// Wraps a data key. Returns the record to store in the data directory.
    ///
    /// # Errors
    /// The passphrase is too short, or there is not enough memory.
    pub fn wrap(
        &self,
        data_key: &DataKey,
        rng: &mut (impl CryptoRng + ?Sized),
    ) -> Result<Vec<u8>, PassphraseError> {
        self.check_length()?;
        let parameters = Argon2Parameters {
            salt: random_array(rng),
            memory_kib: ARGON2_MEMORY_KIB,
            passes: ARGON2_PASSES,
            lanes: ARGON2_LANES,
        };
        let key = parameters.derive_key(&self.0);
        let key = key.map_err(|_| PassphraseError::OutOfMemory)?;
        let parameters = parameters.encode();
        let kind = WrapKind::Passphrase;
        Ok(WrappedDataKey::seal(kind, &parameters, &key, data_key, rng))
    }

    /// Unwraps the data key of a data directory.
    ///
    /// # Errors
    /// [`UnwrapError`] if the record is malformed or of another kind, demands too much, or was
    /// wrapped by another passphrase.
    pub fn unwrap(&self, record: &[u8]) -> Result<DataKey, UnwrapError> {
        let wrapped = WrappedDataKey::parse_as(WrapKind::Passphrase, record)?;
        let key = Argon2Parameters::parse(wrapped.parameters)?.derive_key(&self.0)?;
        wrapped.open(&key)?.ok_or(UnwrapError::WrongPassphrase)
    }
}

/// Parameters of Argon2id that a record stores.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Argon2Parameters {
    salt: [u8; SALT_BYTES],
    /// Memory in KiB.
    pub memory_kib: u32,
    /// Passes over the memory.
    pub passes: u32,
    /// Lanes that can be computed in parallel.
    pub lanes: u32,
}

impl Argon2Parameters {
    /// Returns the parameters of a record that a passphrase wraps.
    ///
    /// # Errors
    /// [`UnwrapError`] if the record is malformed or of another kind, or demands too much.
    pub fn of_record(record: &[u8]) -> Result<Self, UnwrapError> {
        let wrapped = WrappedDataKey::parse_as(WrapKind::Passphrase, record)?;
        Self::parse(wrapped.parameters)
    }

    /// Checks the parameters before they cost any memory.
    fn parse(parameters: &[u8]) -> Result<Self, UnwrapError> {
        let mut reader = Reader::new(parameters);
        let parsed = Self {
            salt: reader.array()?,
            memory_kib: reader.u32()?,
            passes: reader.u32()?,
            lanes: reader.u32()?,
        };
        let is_in_range = parsed.memory_kib <= ARGON2_MEMORY_KIB_MAX
            && parsed.passes <= ARGON2_PASSES_MAX
            && parsed.lanes <= ARGON2_LANES_MAX
            && parsed.to_params().is_some();
        is_in_range
            .then_some(parsed)
            .ok_or(UnwrapError::ParametersOutOfRange)
    }

    fn encode(&self) -> Zeroizing<Vec<u8>> {
        let mut parameters = Writer::with_capacity(SALT_BYTES + 3 * 4);
        parameters
            .bytes(&self.salt)
            .u32(self.memory_kib)
            .u32(self.passes)
            .u32(self.lanes);
        parameters.finish()
    }

    /// Returns `None` if a parameter is below what the algorithm needs.
    fn to_params(self) -> Option<Params> {
        Params::new(self.memory_kib, self.passes, self.lanes, Some(32)).ok()
    }

    fn derive_key(&self, passphrase: &str) -> Result<Key, UnwrapError> {
        let params = self.to_params().ok_or(UnwrapError::ParametersOutOfRange)?;
        let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
        compute_argon2(&argon2, passphrase.as_bytes(), &self.salt)
    }
}

/// Working memory of Argon2id, which is wiped: the key can be computed from it.
struct WorkingMemory(Vec<Block>);

impl WorkingMemory {
    /// Returns `None` if there is not enough memory.
    fn allocate(blocks: usize) -> Option<Self> {
        let mut memory = Vec::new();
        memory.try_reserve_exact(blocks).ok()?;
        memory.resize(blocks, Block::new());
        Some(Self(memory))
    }
}

impl AsMut<[Block]> for WorkingMemory {
    fn as_mut(&mut self) -> &mut [Block] {
        &mut self.0
    }
}

impl Drop for WorkingMemory {
    fn drop(&mut self) {
        for block in &mut self.0 {
            block.zeroize();
        }
    }
}

fn compute_argon2(argon2: &Argon2<'_>, passphrase: &[u8], salt: &[u8]) -> Result<Key, UnwrapError> {
    let kib = argon2.params().m_cost();
    let memory = WorkingMemory::allocate(argon2.params().block_count());
    let memory = memory.ok_or(UnwrapError::OutOfMemory { kib })?;
    let mut key = Key([0; 32]);
    argon2
        .hash_password_into_with_memory(passphrase, salt, &mut key.0, memory)
        .map_err(|_| UnwrapError::ParametersOutOfRange)?;
    Ok(key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use argon2::{AssociatedData, ParamsBuilder};
    use rand_chacha::ChaCha20Rng;
    use rand_chacha::rand_core::SeedableRng as _;

    /// RFC 9106, section 5.3.
    #[test]
    fn argon2id_matches_the_rfc() {
        let mut params = ParamsBuilder::new();
        params.m_cost(32).t_cost(3).p_cost(4);
        params.data(AssociatedData::new(&[4; 12]).unwrap());
        let params = params.build().unwrap();
        let argon2 =
            Argon2::new_with_secret(&[3; 8], Algorithm::Argon2id, Version::V0x13, params).unwrap();
        let key = compute_argon2(&argon2, &[1; 32], &[2; 16]).unwrap();
        let tag = [
            0x0d, 0x64, 0x0d, 0xf5, 0x8d, 0x78, 0x76, 0x6c, 0x08, 0xc0, 0x37, 0xa3, 0x4a, 0x8b,
            0x53, 0xc9, 0xd0, 0x1e, 0xf0, 0x45, 0x2d, 0x75, 0xb6, 0x5e, 0xb5, 0x25, 0x20, 0xe9,
            0x6b, 0x01, 0xe6, 0x59,
        ];
        assert_eq!(key.0, tag);
    }

    fn passphrase(text: &str) -> Passphrase {
        Passphrase::new(Zeroizing::new(text.to_owned()))
    }

    #[test]
    fn new_records_have_the_documented_parameters() {
        let mut rng = ChaCha20Rng::from_seed([1; 32]);
        let data_key = DataKey::from_bytes([7; 32]);
        let chosen = passphrase("correct horse battery");
        let record = chosen.wrap(&data_key, &mut rng).unwrap();
        let parameters = Argon2Parameters::of_record(&record).unwrap();
        let costs = (parameters.memory_kib, parameters.passes, parameters.lanes);
        assert_eq!(costs, (64 * 1024, 3, 4));
        assert_eq!(WrapKind::of_record(&record), Ok(WrapKind::Passphrase));
        assert!(chosen.unwrap(&record).is_ok());
        let error = passphrase("correct horse batterz").unwrap(&record);
        assert_eq!(error.err(), Some(UnwrapError::WrongPassphrase));
    }

    #[test]
    fn short_passphrases_wrap_nothing() {
        let mut rng = ChaCha20Rng::from_seed([1; 32]);
        let error = passphrase("éleven char").wrap(&DataKey::from_bytes([7; 32]), &mut rng);
        assert_eq!(
            error.err(),
            Some(PassphraseError::TooShort { characters: 11 })
        );
        assert_eq!(passphrase("twelve chars").check_length(), Ok(()));
    }

    #[test]
    fn excessive_parameters_are_refused_before_work() {
        let parse = |memory: u32, passes: u32, lanes: u32| {
            let numbers = [memory, passes, lanes].map(u32::to_be_bytes);
            Argon2Parameters::parse(&[&[5; SALT_BYTES][..], &numbers.concat()].concat())
        };
        let refused = Err(UnwrapError::ParametersOutOfRange);
        assert!(parse(256 * 1024, 16, 16).is_ok());
        assert!(parse(8, 1, 1).is_ok());
        assert_eq!(parse(256 * 1024 + 1, 3, 4), refused);
        assert_eq!(parse(u32::MAX, 3, 4), refused);
        assert_eq!(parse(64 * 1024, 17, 4), refused);
        assert_eq!(parse(64 * 1024, 3, 17), refused);
        assert_eq!(parse(7, 1, 1), refused);
        assert_eq!(parse(31, 3, 4), refused);
        assert_eq!(parse(64 * 1024, 0, 4), refused);
        assert_eq!(parse(64 * 1024, 3, 0), refused);
    }
}
