//! Damaged, truncated, extended and reordered files are refused, and nothing is returned from a
//! chunk that does not verify.

use crate::support::{
    CHUNK_BYTES, SEALED_CHUNK_BYTES, content, decrypt, encrypt, identity, rng, unlock,
};
use proptest::prelude::*;
use sealpost_age::{EncryptedFile, Encryptor, PayloadError};
use std::io::{self, ErrorKind, Read, Write};

/// Two full chunks and a part of a third.
const CONTENT_BYTES: usize = 2 * CHUNK_BYTES + 1_000;

/// Asserts that a file is refused and returns the number of bytes that were returned before.
/// They are a prefix of the content, in full chunks.
fn refused_after(file: &[u8], plaintext: &[u8]) -> usize {
    let (returned, error) = decrypt(file);
    assert!(error.is_some(), "the file was accepted");
    assert!(plaintext.starts_with(&returned));
    returned.len()
}

/// Splits a file into what precedes the payload's chunks, and the chunks.
fn split_chunks(file: &[u8], content_bytes: usize) -> (&[u8], Vec<&[u8]>) {
    let tags = content_bytes.div_ceil(CHUNK_BYTES).max(1) * 16;
    let (head, payload) = file.split_at(file.len() - content_bytes - tags);
    (head, payload.chunks(SEALED_CHUNK_BYTES).collect())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn any_flipped_bit_is_refused(at: prop::sample::Index, bit in 0..8_u8) {
        let plaintext = content(CONTENT_BYTES);
        let mut file = encrypt(&plaintext);
        let (head, _) = split_chunks(&file, CONTENT_BYTES);
        let (head_bytes, at) = (head.len(), at.index(file.len()));
        file[at] ^= 1 << bit;
        let intact_chunks = at.saturating_sub(head_bytes) / SEALED_CHUNK_BYTES;
        prop_assert_eq!(refused_after(&file, &plaintext), intact_chunks * CHUNK_BYTES);
    }

    #[test]
    fn any_truncation_is_refused(len: prop::sample::Index) {
        let plaintext = content(CONTENT_BYTES);
        let file = encrypt(&plaintext);
        let len = len.index(file.len());
        refused_after(&file[..len], &plaintext);
    }

    #[test]
    fn any_appended_bytes_are_refused(
        content_bytes in prop::sample::select(&[0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, CONTENT_BYTES]),
        appended in prop::collection::vec(any::<u8>(), 1..100),
    ) {
        let plaintext = content(content_bytes);
        let file = [encrypt(&plaintext), appended].concat();
        refused_after(&file, &plaintext);
    }
}

#[test]
fn every_bit_of_the_header_is_protected() {
    let file = encrypt(b"content");
    for bit in 0..file.len() * 8 {
        let mut altered = file.clone();
        altered[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(refused_after(&altered, b"content"), 0);
    }
}

#[test]
fn truncation_between_chunks_is_named() {
    let plaintext = content(CONTENT_BYTES);
    let file = encrypt(&plaintext);
    let (head, chunks) = split_chunks(&file, CONTENT_BYTES);
    for kept in 0..chunks.len() {
        let truncated = [head, &chunks[..kept].concat()].concat();
        let (returned, error) = decrypt(&truncated);
        assert_eq!(error, Some(PayloadError::Truncated.to_string()));
        assert!(returned == plaintext[..kept * CHUNK_BYTES]);
    }
}

#[test]
fn data_behind_a_full_last_chunk_is_named() {
    let plaintext = content(CHUNK_BYTES);
    let file = encrypt(&plaintext);
    for appended in [vec![0], vec![0; 16], file.clone()] {
        let (returned, error) = decrypt(&[file.clone(), appended].concat());
        assert_eq!(error, Some(PayloadError::TrailingData.to_string()));
        assert!(returned == plaintext);
    }
}

#[test]
fn moved_chunks_are_refused() {
    let plaintext = content(CONTENT_BYTES);
    let file = encrypt(&plaintext);
    let (head, chunks) = split_chunks(&file, CONTENT_BYTES);
    for (order, intact) in [
        (vec![1, 0, 2], 0),
        (vec![0, 0, 2], 1),
        (vec![0, 2], 1),
        (vec![1, 2], 0),
        (vec![2], 0),
        (vec![0, 1, 1, 2], 2),
        (vec![0, 1, 2, 2], 2),
        (vec![2, 1, 0], 0),
    ] {
        let moved: Vec<_> = order.iter().map(|&index| chunks[index]).collect();
        let file = [head, &moved.concat()].concat();
        assert_eq!(
            refused_after(&file, &plaintext),
            intact * CHUNK_BYTES,
            "{order:?}"
        );
    }
}

#[test]
fn chunks_of_another_file_are_refused() {
    let plaintext = content(CONTENT_BYTES);
    let file = encrypt(&plaintext);
    let recipients = [identity(0).recipient()];
    let mut other = Encryptor::for_recipients(Vec::new(), &recipients, &mut rng(2)).unwrap();
    other.write_all(&plaintext).unwrap();
    let other = other.finish().unwrap();
    let (head, chunks) = split_chunks(&file, CONTENT_BYTES);
    let (other_head, other_chunks) = split_chunks(&other, CONTENT_BYTES);
    let mixed = [head, chunks[0], other_chunks[1], chunks[2]].concat();
    assert_eq!(refused_after(&mixed, &plaintext), CHUNK_BYTES);
    assert_eq!(
        refused_after(&[other_head, &chunks.concat()].concat(), &plaintext),
        0
    );
}

#[test]
fn damage_is_reported_at_every_read() {
    let plaintext = content(CONTENT_BYTES);
    let mut file = encrypt(&plaintext);
    let (head, _) = split_chunks(&file, CONTENT_BYTES);
    let second_chunk = head.len() + SEALED_CHUNK_BYTES;
    file[second_chunk] ^= 1;
    let mut decryptor = unlock(&file, identity(0)).unwrap();
    let mut buffer = vec![0; CONTENT_BYTES];
    decryptor.read_exact(&mut buffer[..CHUNK_BYTES]).unwrap();
    // More reads than there are chunks: the end of the file is not reached.
    for _ in 0..5 {
        let error = decryptor.read(&mut buffer).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidData);
        assert_eq!(error.to_string(), PayloadError::Damaged.to_string());
    }
    assert!(decryptor.finish().is_err());
}

fn read_some_and_finish(file: &[u8]) -> io::Result<()> {
    let mut decryptor = unlock(file, identity(0)).unwrap();
    decryptor.read_exact(&mut [0; 100]).unwrap();
    decryptor.finish().map(drop)
}

#[test]
fn finish_verifies_what_was_not_read() {
    let plaintext = content(CONTENT_BYTES);
    let mut file = encrypt(&plaintext);
    assert!(read_some_and_finish(&file).is_ok());
    let truncated = &file[..file.len() - 1];
    assert!(read_some_and_finish(truncated).is_err());
    *file.last_mut().unwrap() ^= 1;
    assert!(read_some_and_finish(&file).is_err());
}

#[test]
fn unfinished_file_is_refused() {
    for content_bytes in [0, 1, CHUNK_BYTES, CONTENT_BYTES] {
        let plaintext = content(content_bytes);
        let mut file = Vec::new();
        let recipients = [identity(0).recipient()];
        let mut encryptor = Encryptor::for_recipients(&mut file, &recipients, &mut rng(1)).unwrap();
        encryptor.write_all(&plaintext).unwrap();
        encryptor.flush().unwrap();
        drop(encryptor);
        refused_after(&file, &plaintext);
    }
}

/// Writer that fails once, at a position, and works again afterwards.
struct FailingWriter {
    written: Vec<u8>,
    fails_at: usize,
    has_failed: bool,
}

impl Write for FailingWriter {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let allowed = self.fails_at.saturating_sub(self.written.len());
        if self.has_failed || data.len() <= allowed {
            self.written.extend_from_slice(data);
            return Ok(data.len());
        }
        if allowed == 0 {
            self.has_failed = true;
            return Err(ErrorKind::StorageFull.into());
        }
        self.written.extend_from_slice(&data[..allowed]);
        Ok(allowed)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn failed_write_ends_the_file() {
    let writer = FailingWriter {
        written: Vec::new(),
        fails_at: CHUNK_BYTES + 500,
        has_failed: false,
    };
    let recipients = [identity(0).recipient()];
    let mut encryptor = Encryptor::for_recipients(writer, &recipients, &mut rng(1)).unwrap();
    let error = encryptor.write_all(&content(CONTENT_BYTES)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::StorageFull);
    assert!(encryptor.write(&[0]).is_err());
    assert!(encryptor.finish().is_err());
}

/// Reader that returns few bytes at a time and an error at some positions.
struct UnsteadyReader<'f> {
    file: &'f [u8],
    error: ErrorKind,
    calls: usize,
}

impl Read for UnsteadyReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.calls += 1;
        if self.calls.is_multiple_of(7) {
            return Err(self.error.into());
        }
        let len = buffer.len().min(10_000);
        self.file.read(&mut buffer[..len])
    }
}

fn decrypt_unsteadily(file: &[u8], error: ErrorKind) -> (Vec<u8>, io::Result<usize>) {
    let reader = UnsteadyReader {
        file,
        error,
        calls: 0,
    };
    let Ok(EncryptedFile::Recipients(file)) = EncryptedFile::read(reader) else {
        panic!("the file has recipients");
    };
    let mut decryptor = file.unlock(&[identity(0)]).unwrap();
    let mut plaintext = Vec::new();
    let mut result = decryptor.read_to_end(&mut plaintext);
    if result.is_err() {
        // The input works again, but the position within the chunk is lost.
        let again = decryptor.read_to_end(&mut plaintext);
        assert_eq!(again.unwrap_err().kind(), ErrorKind::InvalidData);
        result = result.map(|_| 0);
    }
    (plaintext, result)
}

#[test]
fn interrupted_reads_are_retried() {
    let plaintext = content(CONTENT_BYTES);
    let (decrypted, result) = decrypt_unsteadily(&encrypt(&plaintext), ErrorKind::Interrupted);
    assert_eq!(result.unwrap(), CONTENT_BYTES);
    assert!(decrypted == plaintext);
}

#[test]
fn failed_read_ends_the_file() {
    let plaintext = content(CONTENT_BYTES);
    let (decrypted, result) = decrypt_unsteadily(&encrypt(&plaintext), ErrorKind::TimedOut);
    assert_eq!(result.unwrap_err().kind(), ErrorKind::TimedOut);
    assert!(plaintext.starts_with(&decrypted) && decrypted.len() < CONTENT_BYTES);
}
