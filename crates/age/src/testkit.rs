//! The C2SP test kit for age v1 (`tests/data/README.md` states its origin).

use crate::encryptor::Encryptor;
use crate::file_key::{FileKey, PAYLOAD_NONCE_BYTES};
use crate::header::Header;
use crate::{EncryptedFile, Identity, Passphrase, ReadHeaderError, UnlockError};
use flate2::read::ZlibDecoder;
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;
use std::io::{ErrorKind, Read as _, Write as _};
use std::{fs, path::Path};
use zeroize::Zeroizing;

const TESTKIT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/testkit");

/// One file of the test kit.
struct Vector {
    name: String,
    fields: Vec<(String, String)>,
    file: Vec<u8>,
}

impl Vector {
    fn load(path: &Path) -> Self {
        let bytes = fs::read(path).unwrap();
        let separator = bytes.windows(2).position(|pair| pair == b"\n\n").unwrap();
        let text = str::from_utf8(&bytes[..separator]).unwrap();
        let mut vector = Self {
            name: path.file_name().unwrap().to_str().unwrap().to_owned(),
            fields: text
                .lines()
                .map(|line| line.split_once(": ").unwrap())
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .collect(),
            file: bytes[separator + 2..].to_vec(),
        };
        if let Some(compression) = vector.field("compressed") {
            assert_eq!(compression, "zlib");
            let mut file = Vec::new();
            let compressed = std::mem::take(&mut vector.file);
            ZlibDecoder::new(compressed.as_slice())
                .read_to_end(&mut file)
                .unwrap();
            vector.file = file;
        }
        vector
    }

    fn field(&self, key: &str) -> Option<&str> {
        self.fields(key).next()
    }

    fn fields(&self, key: &str) -> impl Iterator<Item = &str> {
        let matching = self.fields.iter().filter(move |field| field.0 == key);
        matching.map(|field| field.1.as_str())
    }

    fn expected(&self) -> &str {
        self.field("expect").unwrap()
    }

    fn file_key(&self) -> FileKey {
        let hex = self.field("file key").unwrap();
        let bytes: Vec<_> = (0..hex.len())
            .step_by(2)
            .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap())
            .collect();
        FileKey::from_bytes(bytes.try_into().unwrap())
    }

    /// Decrypts the file as far as possible. Returns the outcome in the words of the test kit, and
    /// the plaintext that was returned.
    fn decrypt(&self) -> (&'static str, Vec<u8>) {
        let unlocked = match EncryptedFile::read(self.file.as_slice()) {
            Err(ReadHeaderError::Input(error)) => panic!("{error}"),
            Err(_) => return ("header failure", Vec::new()),
            Ok(EncryptedFile::Passphrase(file)) => {
                let passphrase = self.field("passphrase").unwrap_or("none").to_owned();
                file.unlock(&Passphrase::new(Zeroizing::new(passphrase)).unwrap())
            }
            Ok(EncryptedFile::Recipients(file)) => {
                let identities = self.fields("identity");
                let identities: Vec<_> = identities
                    .map(|text| Identity::parse(text).unwrap())
                    .collect();
                file.unlock(&identities)
            }
        };
        let mut plaintext = Vec::new();
        let outcome = match unlocked.map(|mut payload| payload.read_to_end(&mut plaintext)) {
            Err(UnlockError::WrongPassphrase | UnlockError::NoMatchingIdentity) => "no match",
            Err(UnlockError::InvalidShare) => "header failure",
            Err(UnlockError::AlteredHeader) => "HMAC failure",
            Ok(Ok(_)) => "success",
            Ok(Err(error)) => {
                assert_eq!(error.kind(), ErrorKind::InvalidData);
                "payload failure"
            }
        };
        (outcome, plaintext)
    }
}

fn load_vectors() -> Vec<Vector> {
    let entries = fs::read_dir(TESTKIT).unwrap();
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.iter().map(|path| Vector::load(path)).collect()
}

#[test]
fn files_of_the_kit_have_expected_outcomes() {
    let mut outcomes = BTreeMap::new();
    for vector in load_vectors() {
        let (outcome, plaintext) = vector.decrypt();
        assert_eq!(outcome, vector.expected(), "{}", vector.name);
        // What was returned before an error counts as well.
        if let Some(expected) = vector.field("payload") {
            let hash = Sha256::digest(&plaintext);
            let hash: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
            assert_eq!(hash, expected, "{}", vector.name);
        }
        *outcomes.entry(outcome).or_insert(0) += 1;
    }
    let expected = [
        ("HMAC failure", 1),
        ("header failure", 51),
        ("no match", 7),
        ("payload failure", 18),
        ("success", 15),
    ];
    assert_eq!(outcomes, expected.into());
}

/// Splits a file behind its header and its nonce.
fn split_payload(vector: &Vector) -> (Header, [u8; PAYLOAD_NONCE_BYTES], &[u8]) {
    let mut rest = vector.file.as_slice();
    let header = Header::read(&mut rest).unwrap();
    let (nonce, payload) = rest.split_first_chunk().unwrap();
    (header, *nonce, payload)
}

#[test]
fn headers_of_the_kit_reencode_to_the_same_bytes() {
    let mut count = 0;
    for vector in load_vectors() {
        let mut rest = vector.file.as_slice();
        let Ok(header) = Header::read(&mut rest) else {
            assert_eq!(vector.expected(), "header failure", "{}", vector.name);
            continue;
        };
        let text = &vector.file[..vector.file.len() - rest.len()];
        assert!(header.encode() == text, "{}", vector.name);
        if ["success", "payload failure"].contains(&vector.expected()) {
            let header = Header::new(header.stanzas().to_vec(), &vector.file_key());
            assert!(header.encode() == text, "{}", vector.name);
            count += 1;
        }
    }
    assert_eq!(count, 33);
}

#[test]
fn payloads_of_the_kit_reencrypt_to_the_same_bytes() {
    let vectors = load_vectors();
    let is_success = |vector: &&Vector| vector.expected() == "success";
    for vector in vectors.iter().filter(is_success) {
        let (_, nonce, payload) = split_payload(vector);
        let (_, plaintext) = vector.decrypt();
        let cipher = vector.file_key().payload_cipher(&nonce);
        let mut encryptor = Encryptor::for_payload(Vec::new(), cipher);
        encryptor.write_all(&plaintext).unwrap();
        assert!(encryptor.finish().unwrap() == payload, "{}", vector.name);
    }
}

#[test]
fn truncated_files_of_the_kit_are_refused() {
    let vectors = load_vectors();
    let is_small = |vector: &&Vector| {
        // Deriving a key for each length would take long, and most lengths cut the payload.
        vector.expected() == "success" && vector.file.len() < 1_000 && vector.name != "scrypt"
    };
    for vector in vectors.iter().filter(is_small) {
        for len in 0..vector.file.len() {
            let truncated = Vector {
                name: vector.name.clone(),
                fields: vector.fields.clone(),
                file: vector.file[..len].to_vec(),
            };
            let (outcome, plaintext) = truncated.decrypt();
            assert_ne!(outcome, "success", "{} {len}", vector.name);
            assert!(plaintext.is_empty());
        }
    }
}
