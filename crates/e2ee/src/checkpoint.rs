//! Checkpoints: sealed records of a node's progress, outside its database
//! (docs/e2ee.md#checkpoint).
//!
//! Only the identity that wrote a checkpoint can open or write one. Whoever stores it can present
//! an older one again, which the rules for checkpoints have to bear.

use crate::keys::Identity;
use crate::primitive::{
    Key, NONCE_BYTES, SIGNATURE_BYTES, is_signature_valid, kdf_key, label, open, random_array,
    seal, sign_record, split_signed,
};
use crate::record::{ParseRecordError, Reader, Writer};
use rand_core::CryptoRng;
use sealpost_proto::Timestamp;

const CHECKPOINT_VERSION: u8 = 1;
const RECORD_BYTES: usize = 1 + 8 + 16 + 8;

/// Random bytes that identify one checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct CheckpointMark([u8; 16]);

impl CheckpointMark {
    /// Generates a mark.
    #[must_use]
    pub fn generate(rng: &mut (impl CryptoRng + ?Sized)) -> Self {
        Self(random_array(rng))
    }

    /// Wraps 16 raw bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// Returns the 16 raw bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

/// A node's progress: its generation, which rises with its activity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Checkpoint {
    /// Number that rises with every checkpoint.
    pub generation: u64,
    /// Distinguishes checkpoints of the same generation, which two copies of a node wrote.
    pub mark: CheckpointMark,
    /// When the node wrote the checkpoint, by its own clock.
    pub written_at: Timestamp,
}

/// Error for bytes that are not a checkpoint of this identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CheckpointError {
    /// The bytes do not open, or the signature or the layout is wrong.
    #[error("not a checkpoint of this identity")]
    Invalid,
    /// A later version of this program wrote the checkpoint.
    #[error("the checkpoint has version {version}, which is unknown here; update this program")]
    UnknownVersion {
        /// Version of the record.
        version: u8,
    },
}

impl From<ParseRecordError> for CheckpointError {
    fn from(_: ParseRecordError) -> Self {
        Self::Invalid
    }
}

impl Checkpoint {
    /// Signs the checkpoint and seals it for the identity itself.
    #[must_use]
    pub fn seal(&self, identity: &Identity, rng: &mut (impl CryptoRng + ?Sized)) -> Vec<u8> {
        let mut record = Writer::with_capacity(RECORD_BYTES + SIGNATURE_BYTES);
        record
            .u8(CHECKPOINT_VERSION)
            .u64(self.generation)
            .bytes(self.mark.as_bytes())
            .u64(self.written_at.as_millis());
        let record = record.finish().to_vec();
        let signed = sign_record(identity.signing_key(), label!("checkpoint"), record);
        let nonce: [u8; NONCE_BYTES] = random_array(rng);
        let sealed = seal(
            &sealing_key(identity),
            &nonce,
            &signed,
            label!("checkpoint"),
        );
        [&nonce[..], &sealed].concat()
    }

    /// Opens a checkpoint that the same identity has sealed.
    ///
    /// # Errors
    /// [`CheckpointError`] for all other bytes.
    pub fn open(identity: &Identity, sealed: &[u8]) -> Result<Self, CheckpointError> {
        let invalid = CheckpointError::Invalid;
        let mut reader = Reader::new(sealed);
        let nonce = reader.array()?;
        let key = sealing_key(identity);
        let signed = open(&key, &nonce, reader.remaining(), label!("checkpoint")).ok_or(invalid)?;
        let (record, signature) = split_signed(&signed).ok_or(invalid)?;
        let ik_ed = identity.public().ik_ed();
        if !is_signature_valid(ik_ed, label!("checkpoint"), record, signature) {
            return Err(invalid);
        }
        Self::parse(record)
    }

    fn parse(record: &[u8]) -> Result<Self, CheckpointError> {
        let mut reader = Reader::new(record);
        let version = reader.u8()?;
        if version != CHECKPOINT_VERSION {
            return Err(CheckpointError::UnknownVersion { version });
        }
        let checkpoint = Self {
            generation: reader.u64()?,
            mark: CheckpointMark(reader.array()?),
            written_at: Timestamp::from_millis(reader.u64()?),
        };
        reader.expect_end()?;
        Ok(checkpoint)
    }
}

/// Derives the key from the identity, which every backup and every copy of a node contains.
fn sealing_key(identity: &Identity) -> Key {
    kdf_key(identity.agreement_key().as_bytes(), &[label!("checkpoint")])
}

#[cfg(test)]
mod tests {
    use super::*;
    use chacha20poly1305::{
        KeyInit as _, XChaCha20Poly1305,
        aead::{Aead as _, Payload},
    };
    use ed25519_dalek::{Signer as _, SigningKey};
    use rand_chacha::{ChaCha20Rng, rand_core::SeedableRng as _};
    use sha2::Sha256;

    const CHECKPOINT: Checkpoint = Checkpoint {
        generation: 0x0102_0304_0506_0708,
        mark: CheckpointMark([0xaa; 16]),
        written_at: Timestamp::from_millis(1_800_000_000_000),
    };

    fn identity() -> Identity {
        Identity::from_seeds(&[1; 32], &[2; 32])
    }

    /// Seals a record as docs/e2ee.md describes it, with the primitives of other crates.
    fn seal_by_specification(record: &[u8], ed_seed: &[u8; 32], x_seed: &[u8; 32]) -> Vec<u8> {
        let message = [b"Sealpost-1 checkpoint\0", record].concat();
        let signature = SigningKey::from_bytes(ed_seed).sign(&message).to_bytes();
        let mut key = [0; 32];
        hkdf::Hkdf::<Sha256>::new(Some(&[0; 32]), x_seed)
            .expand(b"Sealpost-1 checkpoint", &mut key)
            .unwrap();
        let nonce = [7; 24];
        let payload = Payload {
            msg: &[record, &signature].concat(),
            aad: b"Sealpost-1 checkpoint",
        };
        let cipher = XChaCha20Poly1305::new(&key.into());
        let sealed = cipher.encrypt(&nonce.into(), payload).unwrap();
        [&nonce[..], &sealed].concat()
    }

    fn record() -> Vec<u8> {
        let mut record = vec![1, 1, 2, 3, 4, 5, 6, 7, 8];
        record.extend_from_slice(&[0xaa; 16]);
        record.extend_from_slice(&[0, 0, 0x01, 0xa3, 0x18, 0x5c, 0x50, 0x00]);
        record
    }

    #[test]
    fn bytes_of_the_specification_open() {
        let sealed = seal_by_specification(&record(), &[1; 32], &[2; 32]);
        assert_eq!(sealed.len(), 137);
        assert_eq!(Checkpoint::open(&identity(), &sealed), Ok(CHECKPOINT));
    }

    #[test]
    fn sealed_checkpoint_opens() {
        let mut rng = ChaCha20Rng::seed_from_u64(1);
        let sealed = CHECKPOINT.seal(&identity(), &mut rng);
        assert_eq!(Checkpoint::open(&identity(), &sealed), Ok(CHECKPOINT));
        assert_ne!(CHECKPOINT.seal(&identity(), &mut rng), sealed);
    }

    #[test]
    fn altered_and_foreign_checkpoints_are_refused() {
        let sealed = CHECKPOINT.seal(&identity(), &mut ChaCha20Rng::seed_from_u64(1));
        let invalid = Err(CheckpointError::Invalid);
        for at in 0..sealed.len() {
            let mut altered = sealed.clone();
            altered[at] ^= 1;
            assert_eq!(Checkpoint::open(&identity(), &altered), invalid, "{at}");
            assert_eq!(Checkpoint::open(&identity(), &sealed[..at]), invalid);
        }
        let other = Identity::from_seeds(&[3; 32], &[4; 32]);
        assert_eq!(Checkpoint::open(&other, &sealed), invalid);
    }

    #[test]
    fn signature_of_another_key_is_refused() {
        let sealed = seal_by_specification(&record(), &[9; 32], &[2; 32]);
        let opened = Checkpoint::open(&identity(), &sealed);
        assert_eq!(opened, Err(CheckpointError::Invalid));
    }

    #[test]
    fn other_versions_and_lengths_are_refused() {
        let open = |record: &[u8]| {
            let sealed = seal_by_specification(record, &[1; 32], &[2; 32]);
            Checkpoint::open(&identity(), &sealed)
        };
        let newer = [&[2], &record()[1..]].concat();
        let unknown = CheckpointError::UnknownVersion { version: 2 };
        assert_eq!(open(&newer), Err(unknown));
        let longer = [&record()[..], &[0]].concat();
        assert_eq!(open(&longer), Err(CheckpointError::Invalid));
        assert_eq!(open(&record()[..32]), Err(CheckpointError::Invalid));
    }
}
