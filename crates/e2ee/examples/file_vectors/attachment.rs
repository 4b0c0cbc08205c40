//! Blobs: those that the library seals, and faulty ones.

use crate::{Outcome, counting, descriptor, flipped, hash, text};
use chacha20poly1305::aead::{Aead as _, KeyInit as _, Payload};
use chacha20poly1305::{ChaCha20Poly1305, Nonce};
use hkdf::Hkdf;
use sealpost_e2ee::attachment::{
    BlobSalt, BlobSealer, FileKey, SealStep, Sealed, SealedPart, blob_len, padded_len, padme,
};
use sealpost_proto::b64;
use sealpost_proto::limits::{BLOB_HEAD_BYTES, CHUNK_BYTES, PART_BYTES};
use serde_json::{Value, json};
use sha2::Sha256;

const FILE_KEY: [u8; 32] = counting_key();
const SALT: [u8; 16] = [0x53; 16];
const SEALED_CHUNK_BYTES: usize = CHUNK_BYTES + 16;
/// Larger blobs are not included: a reader seals the plaintext itself.
const WRITTEN_OUT_MAX: usize = 6_000;

pub(crate) fn vectors() -> Outcome<Value> {
    let blobs: Result<Vec<_>, _> = sizes()
        .into_iter()
        .map(|(name, pt_len)| blob_vector(name, pt_len))
        .collect();
    let lengths = [
        0,
        1,
        2,
        3,
        8,
        9,
        10,
        100,
        4_095,
        4_096,
        4_097,
        65_536,
        65_537,
        1_000_000,
        99_999_999,
        100_000_000,
    ];
    Ok(json!({
        "about": "docs/e2ee-files-invites-vault.md, Blob and Descriptor. Byte i of a plaintext is \
                  1 + i mod 251. Bytes are base64url without padding.",
        "padme": lengths.map(|length| json!({"length": length, "padded": padme(length)})),
        "blobs": blobs?,
        "invalid": invalid()?,
        "descriptors": descriptor::valid()?,
        "invalid_descriptors": descriptor::invalid()?,
    }))
}

const fn counting_key() -> [u8; 32] {
    let mut key = [0; 32];
    let mut byte = 0;
    while byte < 32 {
        key[byte as usize] = byte;
        byte += 1;
    }
    key
}

fn sizes() -> [(&'static str, usize); 17] {
    [
        ("empty", 0),
        ("one byte", 1),
        ("below the least", 4_095),
        ("the least", 4_096),
        ("above the least", 4_097),
        ("one byte below a chunk", 65_535),
        ("a chunk", 65_536),
        ("one byte above a chunk", 65_537),
        ("padded to a chunk's multiple", 131_000),
        ("two chunks", 131_072),
        ("one byte above two chunks", 131_073),
        ("one byte below a part", 2_097_151),
        ("a part", 2_097_152),
        ("one byte above a part", 2_097_153),
        ("padding begins a part", 4_128_768),
        ("two parts", 4_194_304),
        ("three parts", 4_194_305),
    ]
}

pub(crate) fn plaintext(pt_len: usize) -> Vec<u8> {
    (1..=251).cycle().take(pt_len).collect()
}

fn blob_vector(name: &str, pt_len: usize) -> Outcome<Value> {
    let plaintext = plaintext(pt_len);
    let (blob, parts, sealed) = seal(&plaintext)?;
    assert_eq!(
        blob,
        ForgedBlob::default().blob(&plaintext)?,
        "{name}: the library and the forge agree"
    );
    let mut vector = json!({
        "name": name,
        "file_key": text(&FILE_KEY),
        "salt": text(&SALT),
        "pt_len": sealed.pt_len,
        "padded_len": padded_len(sealed.pt_len),
        "ct_len": sealed.ct_len,
        "ct_hash": text(&sealed.ct_hash),
        "parts": parts.iter().map(|part| text(part)).collect::<Vec<_>>(),
    });
    if blob.len() <= WRITTEN_OUT_MAX {
        vector["blob"] = text(&blob);
    }
    Ok(vector)
}

fn seal(mut plaintext: &[u8]) -> Outcome<(Vec<u8>, Vec<[u8; 32]>, Sealed)> {
    let mut sealer = BlobSealer::new(&FileKey::from_bytes(FILE_KEY), &BlobSalt::from_bytes(SALT));
    let (mut blob, mut parts) = (Vec::new(), Vec::new());
    let mut push_part = |part: SealedPart<'_>| {
        blob.extend_from_slice(part.bytes);
        parts.push(part.sha256);
    };
    while let Some(part) = sealer.push(&mut plaintext)? {
        push_part(part);
    }
    let mut tail = sealer.finish();
    loop {
        match tail.next_step() {
            SealStep::Part(part) => push_part(part),
            SealStep::Done(sealed) => return Ok((blob, parts, sealed)),
        }
    }
}

/// An independent sealer, with an option for each fault.
struct ForgedBlob {
    commitment: Option<[u8; 32]>,
    payload_ikm: Vec<u8>,
    padding: fn(usize, usize) -> u8,
    last: fn(usize, usize) -> bool,
    first_index: u64,
    little_endian: bool,
    associated: &'static [u8],
}

impl Default for ForgedBlob {
    fn default() -> Self {
        Self {
            commitment: None,
            payload_ikm: FILE_KEY.to_vec(),
            padding: |_, _| 0,
            last: |index, count| index + 1 == count,
            first_index: 0,
            little_endian: false,
            associated: b"",
        }
    }
}

impl ForgedBlob {
    fn blob(&self, plaintext: &[u8]) -> Outcome<Vec<u8>> {
        let padded_bytes = usize::try_from(padded_len(plaintext.len() as u64))?;
        let mut padded = plaintext.to_vec();
        padded.extend((plaintext.len()..padded_bytes).map(|at| (self.padding)(at, padded_bytes)));
        let mut blob = SALT.to_vec();
        blob.extend_from_slice(
            &self
                .commitment
                .unwrap_or(kdf(&FILE_KEY, b"Sealpost-1 commit")?),
        );
        let cipher = ChaCha20Poly1305::new(&kdf(&self.payload_ikm, b"payload")?.into());
        let count = padded.len().div_ceil(CHUNK_BYTES);
        for (index, chunk) in padded.chunks(CHUNK_BYTES).enumerate() {
            let nonce = self.nonce(index as u64 + self.first_index, (self.last)(index, count));
            let sealed = cipher.encrypt(
                &nonce,
                Payload {
                    msg: chunk,
                    aad: self.associated,
                },
            );
            blob.extend_from_slice(&sealed.map_err(|_| "chunk too large")?);
        }
        Ok(blob)
    }

    fn nonce(&self, index: u64, last: bool) -> Nonce {
        let mut nonce = [0; 12];
        if self.little_endian {
            nonce[..8].copy_from_slice(&index.to_le_bytes());
        } else {
            nonce[3..11].copy_from_slice(&index.to_be_bytes());
        }
        nonce[11] = u8::from(last);
        nonce.into()
    }
}

fn kdf(ikm: &[u8], info: &[u8]) -> Outcome<[u8; 32]> {
    let mut key = [0; 32];
    Hkdf::<Sha256>::new(Some(&SALT), ikm)
        .expand(info, &mut key)
        .map_err(|_| "length")?;
    Ok(key)
}

fn ct_hash(blob: &[u8]) -> [u8; 32] {
    let (head, rest) = blob.split_at(blob.len().min(BLOB_HEAD_BYTES));
    let (first, rest) = rest.split_at(rest.len().min(PART_BYTES));
    let mut parts = hash(&[head, first]).to_vec();
    parts.extend(rest.chunks(PART_BYTES).flat_map(|part| hash(&[part])));
    hash(&[&parts])
}

/// Source of an invalid blob's bytes.
enum Bytes {
    Written(Vec<u8>),
    /// The blob of a plaintext of the given length, with one edit.
    Edited(usize, Value),
}

struct Invalid {
    name: &'static str,
    reason: &'static str,
    file_key: [u8; 32],
    sealed: Sealed,
    bytes: Bytes,
}

impl Invalid {
    fn new(name: &'static str, reason: &'static str, pt_len: usize, blob: &[u8]) -> Self {
        let sealed = Sealed {
            ct_len: blob_len(pt_len as u64),
            ct_hash: ct_hash(blob),
            pt_len: pt_len as u64,
        };
        Self {
            name,
            reason,
            file_key: FILE_KEY,
            sealed,
            bytes: Bytes::Written(blob.to_vec()),
        }
    }

    fn edited(mut self, pt_len: usize, edit: Value) -> Self {
        self.bytes = Bytes::Edited(pt_len, edit);
        self
    }

    fn with(mut self, change: impl FnOnce(&mut Sealed)) -> Self {
        change(&mut self.sealed);
        self
    }

    fn vector(&self) -> Value {
        let mut vector = json!({
            "name": self.name,
            "reason": self.reason,
            "file_key": text(&self.file_key),
            "ct_len": self.sealed.ct_len,
            "ct_hash": text(&self.sealed.ct_hash),
            "pt_len": self.sealed.pt_len,
        });
        match &self.bytes {
            Bytes::Written(blob) => vector["blob"] = text(blob),
            Bytes::Edited(pt_len, edit) => {
                vector["edited"] = json!({"of_pt_len": pt_len, "edit": edit})
            }
        }
        vector
    }
}

fn invalid() -> Outcome<Vec<Value>> {
    let all = [
        altered()?,
        forged()?,
        wrong_lengths()?,
        truncated_and_reordered()?,
    ];
    Ok(all.iter().flatten().map(Invalid::vector).collect())
}

fn altered() -> Outcome<Vec<Invalid>> {
    let (blob, _, sealed) = seal(&plaintext(10))?;
    let wrong_key = Invalid {
        file_key: counting(1),
        ..Invalid::new("another file key", "commitment", 10, &blob)
    };
    let plain_hash = hash(&[&blob]);
    Ok(vec![
        wrong_key,
        Invalid::new("salt flipped", "commitment", 10, &flipped(&blob, 0)),
        Invalid::new("commitment flipped", "commitment", 10, &flipped(&blob, 47)),
        Invalid::new(
            "first ciphertext byte flipped",
            "chunk",
            10,
            &flipped(&blob, 48),
        ),
        Invalid::new(
            "padding flipped in the ciphertext",
            "chunk",
            10,
            &flipped(&blob, 4_000),
        ),
        Invalid::new(
            "last tag byte flipped",
            "chunk",
            10,
            &flipped(&blob, blob.len() - 1),
        ),
        Invalid::new("hash flipped", "hash", 10, &blob).with(|sealed| sealed.ct_hash[0] ^= 1),
        Invalid::new(
            "hash of the bytes, not of the parts' hashes",
            "hash",
            10,
            &blob,
        )
        .with(|sealed| sealed.ct_hash = plain_hash),
        Invalid::new(
            "hash of the original over an altered salt",
            "commitment",
            10,
            &flipped(&blob, 1),
        )
        .with(|altered| altered.ct_hash = sealed.ct_hash),
    ])
}

fn forged() -> Outcome<Vec<Invalid>> {
    let small = plaintext(10);
    let forge = |name, reason, forge: ForgedBlob| -> Outcome<Invalid> {
        Ok(Invalid::new(
            name,
            reason,
            small.len(),
            &forge.blob(&small)?,
        ))
    };
    Ok(vec![
        forge(
            "commitment of zeros",
            "commitment",
            ForgedBlob {
                commitment: Some([0; 32]),
                ..ForgedBlob::default()
            },
        )?,
        forge(
            "payload key from half the file key",
            "chunk",
            ForgedBlob {
                payload_ikm: FILE_KEY[..16].to_vec(),
                ..ForgedBlob::default()
            },
        )?,
        forge(
            "last-chunk flag missing",
            "chunk",
            ForgedBlob {
                last: |_, _| false,
                ..ForgedBlob::default()
            },
        )?,
        forge(
            "first index is 1",
            "chunk",
            ForgedBlob {
                first_index: 1,
                ..ForgedBlob::default()
            },
        )?,
        forge(
            "associated data",
            "chunk",
            ForgedBlob {
                associated: b"Sealpost-1",
                ..ForgedBlob::default()
            },
        )?,
        forge(
            "first padding byte is not zero",
            "padding",
            ForgedBlob {
                padding: |at, _| u8::from(at == 10),
                ..ForgedBlob::default()
            },
        )?,
        forge(
            "last padding byte is not zero",
            "padding",
            ForgedBlob {
                padding: |at, len| u8::from(at + 1 == len),
                ..ForgedBlob::default()
            },
        )?,
        forge(
            "padded with 0x80",
            "padding",
            ForgedBlob {
                padding: |_, _| 0x80,
                ..ForgedBlob::default()
            },
        )?,
    ])
}

fn wrong_lengths() -> Outcome<Vec<Invalid>> {
    let (blob, ..) = seal(&plaintext(10))?;
    let base = |name, reason| Invalid::new(name, reason, 10, &blob);
    Ok(vec![
        base("pt_len one less", "padding").with(|sealed| sealed.pt_len = 9),
        base("pt_len 0", "padding").with(|sealed| sealed.pt_len = 0),
        base("pt_len in the next bucket", "lengths").with(|sealed| sealed.pt_len = 4_097),
        base("pt_len over the limit", "lengths").with(|sealed| {
            sealed.pt_len = 100_000_001;
            sealed.ct_len = blob_len(100_000_001);
        }),
        base("pt_len at the end of u64", "lengths").with(|sealed| sealed.pt_len = u64::MAX),
        base("ct_len one more", "lengths").with(|sealed| sealed.ct_len += 1),
        base("ct_len one less", "lengths").with(|sealed| sealed.ct_len -= 1),
        base("ct_len 0", "lengths").with(|sealed| sealed.ct_len = 0),
        base("ct_len over the limit", "lengths").with(|sealed| sealed.ct_len = 100_687_921),
        base("lengths of a larger file", "part_length").with(|sealed| {
            sealed.pt_len = 4_097;
            sealed.ct_len = blob_len(4_097);
        }),
    ])
}

fn truncated_and_reordered() -> Outcome<Vec<Invalid>> {
    let (blob, ..) = seal(&plaintext(10))?;
    let two_chunks = 131_072;
    let (two, ..) = seal(&plaintext(two_chunks))?;
    let (a, b) = (BLOB_HEAD_BYTES, BLOB_HEAD_BYTES + SEALED_CHUNK_BYTES);
    let swapped = [&two[..a], &two[b..], &two[a..b]].concat();
    let doubled = [&two[..b], &two[a..b]].concat();
    let two_parts = 4_194_304;
    let (large, ..) = seal(&plaintext(two_parts))?;
    let split = BLOB_HEAD_BYTES + PART_BYTES;
    let shorter = &blob[..blob.len() - 1];
    let longer = [&blob[..], &[0]].concat();
    Ok(vec![
        Invalid::new("one byte missing", "part_length", 10, shorter),
        Invalid::new("one byte more", "part_length", 10, &longer),
        Invalid::new("no bytes", "truncated", 10, b""),
        Invalid::new("head alone", "part_length", 10, &blob[..48]),
        Invalid::new("chunks swapped", "chunk", two_chunks, &swapped)
            .edited(two_chunks, json!({"swap": [a, b, SEALED_CHUNK_BYTES]})),
        Invalid::new("first chunk twice", "chunk", two_chunks, &doubled)
            .edited(two_chunks, json!({"copy": [a, b, SEALED_CHUNK_BYTES]})),
        Invalid::new(
            "last chunk cut off, lengths to match",
            "chunk",
            65_536,
            &two[..b],
        )
        .edited(two_chunks, json!({"cut": b})),
        Invalid::new(
            "last chunk cut off, file's length kept",
            "lengths",
            two_chunks,
            &two[..b],
        )
        .edited(two_chunks, json!({"cut": b}))
        .with(|sealed| sealed.ct_len = 65_600),
        Invalid::new("last part missing", "truncated", two_parts, &large[..split])
            .edited(two_parts, json!({"cut": split})),
        Invalid::new(
            "last part one byte short",
            "part_length",
            two_parts,
            &large[..large.len() - 1],
        )
        .edited(two_parts, json!({"cut": large.len() - 1})),
        Invalid::new("a chunk of another part", "chunk", two_parts, &large)
            .edited(two_parts, json!({"copy": [a, split, SEALED_CHUNK_BYTES]})),
        Invalid::new("a part more", "part_length", two_parts, &large)
            .edited(two_parts, json!({"append": b64::encode(&[0; 16])})),
    ])
}
