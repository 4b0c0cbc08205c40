//! Keys, and files encrypted and decrypted in memory.

use rand_chacha::{ChaCha20Rng, rand_core::SeedableRng as _};
use sealpost_age::{Decryptor, EncryptedFile, Encryptor, Identity, Passphrase};
use std::io::{Read as _, Write as _};
use zeroize::Zeroizing;

/// Identities of the specification, of the test kit and of these tests.
pub(crate) const IDENTITIES: [&str; 3] = [
    "AGE-SECRET-KEY-1GFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPQ4EGAEX",
    "AGE-SECRET-KEY-1EGTZVFFV20835NWYV6270LXYVK2VKNX2MMDKWYKLMGR48UAWX40Q2P2LM0",
    "AGE-SECRET-KEY-17HEN0ZPE2C66RPURJ6T9J8XDX8EWTWF0AV9ETGLSHJX4UY659RMQN6TCDU",
];
/// Plaintext of every chunk but the last.
pub(crate) const CHUNK_BYTES: usize = 64 * 1024;
/// A full chunk with its tag.
pub(crate) const SEALED_CHUNK_BYTES: usize = CHUNK_BYTES + 16;

pub(crate) fn identity(index: usize) -> Identity {
    Identity::parse(IDENTITIES[index]).unwrap()
}

pub(crate) fn passphrase(text: &str) -> Passphrase {
    Passphrase::new(Zeroizing::new(text.to_owned())).unwrap()
}

pub(crate) fn rng(seed: u64) -> ChaCha20Rng {
    ChaCha20Rng::seed_from_u64(seed)
}

/// Returns plaintext in which every position is recognised.
pub(crate) fn content(len: usize) -> Vec<u8> {
    let numbers = (0..len.div_ceil(8) as u64).flat_map(u64::to_be_bytes);
    numbers.take(len).collect()
}

/// Encrypts to the first identity.
pub(crate) fn encrypt(plaintext: &[u8]) -> Vec<u8> {
    let recipients = [identity(0).recipient()];
    let mut encryptor = Encryptor::for_recipients(Vec::new(), &recipients, &mut rng(1)).unwrap();
    encryptor.write_all(plaintext).unwrap();
    encryptor.finish().unwrap()
}

/// Unlocks a file with an identity.
pub(crate) fn unlock(file: &[u8], identity: Identity) -> Result<Decryptor<&[u8]>, String> {
    match EncryptedFile::read(file) {
        Ok(EncryptedFile::Recipients(file)) => {
            file.unlock(&[identity]).map_err(|error| error.to_string())
        }
        Ok(EncryptedFile::Passphrase(_)) => Err("the file needs a passphrase".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

/// Decrypts as far as possible with the first identity. Returns the plaintext, and the error if
/// there is one.
pub(crate) fn decrypt(file: &[u8]) -> (Vec<u8>, Option<String>) {
    let mut plaintext = Vec::new();
    let error = match unlock(file, identity(0)) {
        Ok(mut decryptor) => decryptor
            .read_to_end(&mut plaintext)
            .err()
            .map(|error| error.to_string()),
        Err(error) => Some(error),
    };
    (plaintext, error)
}
