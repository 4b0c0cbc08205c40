//! STREAM test vectors of age v1 (`tests/data/age_stream.json`, which states their origin).
//!
//! A blob's chunks are an age v1 payload under another key, so age's own vectors test the cipher.

use super::stream_cipher::{ChunkPosition, DecryptError};
use super::*;
use serde_json::Value;

/// One test case: the cipher of its payload, and the payload.
struct Case {
    name: String,
    cipher: PayloadCipher,
    payload: Vec<u8>,
    /// Hash of the plaintext if age opens the payload, `None` if age refuses it.
    plaintext_sha256: Option<Vec<u8>>,
}

impl Case {
    fn parse(case: &Value) -> Self {
        let file_key = hexadecimal(&case["file_key"]);
        let nonce = hexadecimal(&case["nonce"]);
        let kdf = Hkdf::<Sha256>::new(Some(&nonce), &file_key);
        let is_success = case["expect"] == "success";
        Self {
            name: case["name"].as_str().unwrap().to_owned(),
            cipher: PayloadCipher::new(&expand_key(&kdf, b"payload")),
            payload: case["payload"]
                .as_array()
                .unwrap()
                .iter()
                .flat_map(segment)
                .collect(),
            plaintext_sha256: is_success.then(|| hexadecimal(&case["plaintext_sha256"])),
        }
    }

    /// Opens the payload by the rules of the age specification.
    fn open(&self) -> Result<Vec<u8>, DecryptError> {
        let count = self.payload.len().div_ceil(SEALED_CHUNK_BYTES);
        let mut plaintext = Vec::new();
        for (index, sealed) in self.payload.chunks(SEALED_CHUNK_BYTES).enumerate() {
            let (text, tag) = sealed.split_last_chunk::<TAG_BYTES>().ok_or(DecryptError)?;
            let mut text = text.to_vec();
            self.cipher
                .open(index as u64, position(index, count), &mut text, *tag)?;
            // Only an empty file may end in an empty chunk.
            if text.is_empty() && index > 0 {
                return Err(DecryptError);
            }
            plaintext.extend_from_slice(&text);
        }
        // Even an empty file has one chunk.
        if count == 0 {
            Err(DecryptError)
        } else {
            Ok(plaintext)
        }
    }

    fn seal(&self, plaintext: &[u8]) -> Vec<u8> {
        let count = plaintext.len().div_ceil(CHUNK_BYTES).max(1);
        let mut payload = Vec::with_capacity(self.payload.len());
        for index in 0..count {
            let start = index * CHUNK_BYTES;
            let mut chunk = plaintext[start..plaintext.len().min(start + CHUNK_BYTES)].to_vec();
            let tag = self
                .cipher
                .seal(index as u64, position(index, count), &mut chunk);
            payload.extend_from_slice(&chunk);
            payload.extend_from_slice(&tag);
        }
        payload
    }
}

fn cases() -> Vec<Case> {
    let file = include_str!("../../tests/data/age_stream.json");
    let vectors: Value = serde_json::from_str(file).unwrap();
    vectors["cases"]
        .as_array()
        .unwrap()
        .iter()
        .map(Case::parse)
        .collect()
}

/// Literal bytes, or one byte repeated.
fn segment(segment: &Value) -> Vec<u8> {
    if segment["bytes"].is_null() {
        let byte = u8::try_from(segment["byte"].as_u64().unwrap()).unwrap();
        vec![byte; usize::try_from(segment["count"].as_u64().unwrap()).unwrap()]
    } else {
        hexadecimal(&segment["bytes"])
    }
}

fn hexadecimal(value: &Value) -> Vec<u8> {
    let text = value.as_str().unwrap();
    (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap())
        .collect()
}

fn position(index: usize, count: usize) -> ChunkPosition {
    if index + 1 == count {
        ChunkPosition::Last
    } else {
        ChunkPosition::Inner
    }
}

#[test]
fn payloads_of_age_open() {
    let mut opened = 0;
    for case in cases() {
        let plaintext = case.open();
        match &case.plaintext_sha256 {
            Some(hash) => {
                let plaintext = plaintext.unwrap();
                assert_eq!(Sha256::digest(plaintext).as_slice(), hash, "{}", case.name);
                opened += 1;
            }
            None => assert_eq!(plaintext, Err(DecryptError), "{}", case.name),
        }
    }
    assert_eq!(opened, 6);
}

#[test]
fn sealed_chunks_equal_those_of_age() {
    for case in cases() {
        if case.plaintext_sha256.is_some() {
            let plaintext = case.open().unwrap();
            assert!(case.seal(&plaintext) == case.payload, "{}", case.name);
        }
    }
}

#[test]
fn wrong_chunk_position_does_not_open() {
    for case in cases() {
        if case.plaintext_sha256.is_none() {
            continue;
        }
        let count = case.payload.len().div_ceil(SEALED_CHUNK_BYTES);
        for (index, sealed) in case.payload.chunks(SEALED_CHUNK_BYTES).enumerate() {
            let (text, tag) = sealed.split_last_chunk::<TAG_BYTES>().unwrap();
            let wrong = match position(index, count) {
                ChunkPosition::Inner => ChunkPosition::Last,
                ChunkPosition::Last => ChunkPosition::Inner,
            };
            let opened = case
                .cipher
                .open(index as u64, wrong, &mut text.to_vec(), *tag);
            assert_eq!(opened, Err(DecryptError), "{}", case.name);
        }
    }
}
