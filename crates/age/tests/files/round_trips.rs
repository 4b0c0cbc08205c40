//! What is encrypted decrypts to the same bytes, for those who may decrypt it.

use crate::support::{CHUNK_BYTES, content, encrypt, identity, passphrase, rng, unlock};
use proptest::prelude::*;
use sealpost_age::{
    EncryptError, EncryptedFile, Encryptor, PassphraseFile, Recipient, UnlockError, WorkFactor,
};
use std::io::{Read as _, Write as _};

/// Sizes around the limits of chunks.
fn content_len() -> impl Strategy<Value = usize> {
    (0_usize..4, 0_usize..=20, 0..CHUNK_BYTES).prop_map(|(chunks, near, within)| {
        let len = chunks * CHUNK_BYTES;
        match near {
            0..=4 => len,
            5..=8 => len + 1,
            9..=12 => len.saturating_sub(1),
            _ => len + within,
        }
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn content_of_any_length_round_trips(
        len in content_len(),
        written in prop::collection::vec(1..2 * CHUNK_BYTES, 1..8),
        read in prop::collection::vec(1..2 * CHUNK_BYTES, 1..8),
        seed: u64,
    ) {
        let plaintext = content(len);
        let recipients = [0, 1].map(|index| identity(index).recipient());
        let output = Vec::new();
        let mut encryptor = Encryptor::for_recipients(output, &recipients, &mut rng(seed)).unwrap();
        let mut rest = plaintext.as_slice();
        for &piece in written.iter().cycle() {
            let (now, after) = rest.split_at(piece.min(rest.len()));
            encryptor.write_all(now).unwrap();
            rest = after;
            if rest.is_empty() {
                break;
            }
        }
        let file = encryptor.finish().unwrap();
        for index in [0, 1] {
            let mut decryptor = unlock(&file, identity(index)).unwrap();
            let mut decrypted = Vec::new();
            for &piece in read.iter().cycle() {
                let mut buffer = vec![0; piece];
                match decryptor.read(&mut buffer).unwrap() {
                    0 => break,
                    len => decrypted.extend_from_slice(&buffer[..len]),
                }
            }
            prop_assert!(decrypted == plaintext);
            prop_assert!(decryptor.finish().is_ok());
        }
    }
}

#[test]
fn size_is_header_nonce_chunks_and_tags() {
    let header = encrypt(b"").len() - 16 - 16;
    for (len, tags) in [
        (0, 1),
        (1, 1),
        (CHUNK_BYTES, 1),
        (CHUNK_BYTES + 1, 2),
        (2 * CHUNK_BYTES, 2),
    ] {
        assert_eq!(encrypt(&content(len)).len(), header + 16 + len + 16 * tags);
    }
}

#[test]
fn same_randomness_gives_the_same_file() {
    let recipients = [identity(0).recipient()];
    let encrypt = |seed| {
        Encryptor::for_recipients(Vec::new(), &recipients, &mut rng(seed))
            .unwrap()
            .finish()
            .unwrap()
    };
    assert_eq!(encrypt(1), encrypt(1));
    assert_ne!(encrypt(1), encrypt(2));
}

#[test]
fn other_identity_does_not_unlock() {
    let file = encrypt(b"content");
    let EncryptedFile::Recipients(file) = EncryptedFile::read(file.as_slice()).unwrap() else {
        panic!("the file has recipients");
    };
    let refused = file.unlock(&[identity(1), identity(2)]).err();
    assert_eq!(refused, Some(UnlockError::NoMatchingIdentity));
}

#[test]
fn one_of_several_identities_unlocks() {
    let file = encrypt(b"content");
    let EncryptedFile::Recipients(file) = EncryptedFile::read(file.as_slice()).unwrap() else {
        panic!("the file has recipients");
    };
    assert!(file.unlock(&[identity(1), identity(0)]).is_ok());
}

fn encrypt_to_passphrase(text: &str, plaintext: &[u8]) -> Vec<u8> {
    let work_factor = WorkFactor::new(4).unwrap();
    let passphrase = passphrase(text);
    let mut encryptor =
        Encryptor::for_passphrase(Vec::new(), &passphrase, work_factor, &mut rng(7)).unwrap();
    encryptor.write_all(plaintext).unwrap();
    encryptor.finish().unwrap()
}

fn read_passphrase_file(file: &[u8]) -> PassphraseFile<&[u8]> {
    match EncryptedFile::read(file).unwrap() {
        EncryptedFile::Passphrase(file) => file,
        EncryptedFile::Recipients(_) => panic!("the file has a passphrase"),
    }
}

#[test]
fn passphrase_round_trips() {
    let file = encrypt_to_passphrase("correct horse", b"content");
    let file = read_passphrase_file(&file);
    assert_eq!(file.work_factor().log_n(), 4);
    let mut plaintext = Vec::new();
    let mut decryptor = file.unlock(&passphrase("correct horse")).unwrap();
    decryptor.read_to_end(&mut plaintext).unwrap();
    assert_eq!(plaintext, b"content");
}

#[test]
fn wrong_passphrase_differs_from_damage() {
    let file = encrypt_to_passphrase("correct horse", b"content");
    for wrong in ["correct horse\n", "Correct horse", "x"] {
        let refused = read_passphrase_file(&file).unlock(&passphrase(wrong)).err();
        assert_eq!(refused, Some(UnlockError::WrongPassphrase), "{wrong}");
    }
    let mut altered = file.clone();
    // The last character before the line break of the MAC has unused bits, so alter an earlier one.
    let mac = file
        .windows(4)
        .position(|window| window == b"--- ")
        .unwrap()
        + 4;
    altered[mac] = if altered[mac] == b'A' { b'B' } else { b'A' };
    let refused = read_passphrase_file(&altered)
        .unlock(&passphrase("correct horse"))
        .err();
    assert_eq!(refused, Some(UnlockError::AlteredHeader));
}

fn encrypt_error(recipients: &[Recipient]) -> EncryptError {
    let mut output = Vec::new();
    let error = Encryptor::for_recipients(&mut output, recipients, &mut rng(1)).err();
    assert!(output.is_empty(), "a refused file was begun");
    error.unwrap()
}

#[test]
fn number_of_recipients_is_limited() {
    let recipient = identity(0).recipient();
    assert!(matches!(encrypt_error(&[]), EncryptError::NoRecipient));
    let many = vec![recipient; 257];
    assert!(matches!(
        encrypt_error(&many),
        EncryptError::TooManyRecipients
    ));
    let output = Vec::new();
    let largest = Encryptor::for_recipients(output, &many[1..], &mut rng(1)).unwrap();
    assert!(unlock(&largest.finish().unwrap(), identity(0)).is_ok());
}

#[test]
fn recipient_of_low_order_is_refused() {
    // The points 0 and 1.
    for text in [
        "age1qqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqq5cu47z",
        "age1qyqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqj7vrya",
    ] {
        let recipient = Recipient::parse(text).unwrap();
        let valid = identity(0).recipient();
        let error = encrypt_error(&[valid, recipient]);
        assert!(matches!(error, EncryptError::InvalidRecipient(other) if other == recipient));
    }
}
