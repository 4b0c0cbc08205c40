//! Files in the age format, recipients and identities.

use sealpost_age::{EncryptedFile, Identity, Recipient};
use sealpost_fuzz::fuzz_inputs;
use std::io::{ErrorKind, Read as _};

const IDENTITY: &str = "AGE-SECRET-KEY-1EGTZVFFV20835NWYV6270LXYVK2VKNX2MMDKWYKLMGR48UAWX40Q2P2LM0";

macro_rules! testkit_files {
    ($($name:literal),* $(,)?) => {
        [$(include_bytes!(concat!("../../../../crates/age/tests/data/testkit/", $name)).as_slice()),*]
    };
}

/// Files of the test kit that are not compressed: of every type of stanza, and some malformed ones.
const TESTKIT: &[&[u8]] = &testkit_files![
    "header_crlf",
    "hmac_bad",
    "scrypt",
    "scrypt_and_x25519",
    "scrypt_work_factor_23",
    "stanza_empty_body",
    "stanza_long_line",
    "stanza_valid_characters",
    "stream_empty_payload",
    "stream_short_nonce",
    "version_unsupported",
    "x25519",
    "x25519_grease",
    "x25519_low_order",
    "x25519_multiple_recipients",
];

/// Returns the age file behind a description of the test kit.
fn age_file(vector: &[u8]) -> Vec<u8> {
    let separator = vector.windows(2).position(|pair| pair == b"\n\n").unwrap();
    vector[separator + 2..].to_vec()
}

/// Decrypts a file for recipients. `None` means that it was refused.
fn decrypt(file: &[u8]) -> Option<Vec<u8>> {
    let EncryptedFile::Recipients(file) = EncryptedFile::read(file).ok()? else {
        // Deriving a key from a passphrase may take seconds and gigabytes.
        return None;
    };
    let mut decryptor = file.unlock(&[Identity::parse(IDENTITY).unwrap()]).ok()?;
    let mut plaintext = Vec::new();
    match decryptor.read_to_end(&mut plaintext) {
        Ok(_) => Some(plaintext),
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::InvalidData);
            assert!(plaintext.is_empty(), "plaintext of a damaged chunk");
            None
        }
    }
}

#[test]
fn damaged_age_files_are_rejected() {
    let seeds: Vec<_> = TESTKIT.iter().map(|vector| age_file(vector)).collect();
    let mut accepted = 0;
    fuzz_inputs(&seeds, 20_000, |case| {
        let is_accepted = decrypt(case.bytes).is_some();
        assert!(case.is_seed || !is_accepted, "a damaged file is accepted");
        accepted += u32::from(is_accepted);
    });
    assert_eq!(accepted, 6);
}

#[test]
fn recipients_reencode_to_the_same_text() {
    let recipients = [
        "age1zvkyg2lqzraa2lnjvqej32nkuu0ues2s82hzrye869xeexvn73equnujwj",
        "age1qqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqq5cu47z",
    ];
    let seeds = recipients.map(|text| text.as_bytes().to_vec());
    fuzz_inputs(&seeds, 20_000, |case| {
        let Ok(text) = str::from_utf8(case.bytes) else {
            return;
        };
        if let Ok(recipient) = Recipient::parse(text) {
            assert_eq!(recipient.to_string(), text);
        } else {
            assert!(!case.is_seed);
        }
    });
}

#[test]
fn damaged_identities_are_rejected() {
    fuzz_inputs(&[IDENTITY.as_bytes().to_vec()], 20_000, |case| {
        if let Ok(text) = str::from_utf8(case.bytes) {
            assert_eq!(Identity::parse(text).is_ok(), case.is_seed, "{text}");
        }
    });
}
