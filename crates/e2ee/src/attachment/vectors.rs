//! Test vectors of `proto/vectors/attachment.json`.

use super::open::FailedCheck;
use super::tests::{open, plaintext, seal_in_pieces};
use super::*;
use sealpost_proto::b64;
use serde_json::Value;

fn vectors() -> Value {
    serde_json::from_str(include_str!("../../../../proto/vectors/attachment.json")).unwrap()
}

fn list<'a>(vectors: &'a Value, name: &str) -> &'a [Value] {
    let list = vectors[name].as_array().unwrap();
    assert!(!list.is_empty());
    list
}

fn bytes(vector: &Value, name: &str) -> Vec<u8> {
    b64::parse(vector[name].as_str().unwrap()).unwrap()
}

fn array<const N: usize>(vector: &Value, name: &str) -> [u8; N] {
    b64::parse_array(vector[name].as_str().unwrap()).unwrap()
}

fn sealed(vector: &Value) -> Sealed {
    Sealed {
        ct_len: vector["ct_len"].as_u64().unwrap(),
        ct_hash: array(vector, "ct_hash"),
        pt_len: vector["pt_len"].as_u64().unwrap(),
    }
}

fn length(value: &Value) -> usize {
    usize::try_from(value.as_u64().unwrap()).unwrap()
}

#[test]
fn padme_matches_the_vectors() {
    for vector in list(&vectors(), "padme") {
        assert_eq!(
            padme(vector["length"].as_u64().unwrap()),
            vector["padded"].as_u64().unwrap()
        );
    }
}

#[test]
fn blob_vectors_round_trip() {
    for vector in list(&vectors(), "blobs") {
        let name = &vector["name"];
        let keys = (
            FileKey::from_bytes(array(vector, "file_key")),
            BlobSalt::from_bytes(array(vector, "salt")),
        );
        let file = plaintext(length(&vector["pt_len"]));
        let (parts, described) = seal_in_pieces((&keys.0, &keys.1), [file.as_slice()].into_iter());
        assert_eq!(described, sealed(vector), "{name}");
        assert_eq!(
            padded_len(described.pt_len),
            vector["padded_len"].as_u64().unwrap(),
            "{name}"
        );
        let hashes: Vec<_> = parts
            .iter()
            .map(|part| b64::encode(&Sha256::digest(part)))
            .collect();
        assert_eq!(
            serde_json::to_value(hashes).unwrap(),
            vector["parts"],
            "{name}"
        );
        assert!(
            vector["blob"].is_null() || parts.concat() == bytes(vector, "blob"),
            "{name}"
        );
        assert!(open(&keys.0, &described, &parts).unwrap() == file, "{name}");
    }
}

#[test]
fn invalid_blobs_fail_the_expected_check() {
    let vectors = vectors();
    for vector in list(&vectors, "invalid") {
        let file_key = FileKey::from_bytes(array(vector, "file_key"));
        let blob = if vector["blob"].is_null() {
            edited(&vectors, &vector["edited"])
        } else {
            bytes(vector, "blob")
        };
        let reason = open(&file_key, &sealed(vector), &split(&blob)).unwrap_err();
        assert_eq!(
            failed_check_name(reason),
            vector["reason"].as_str().unwrap(),
            "{}",
            vector["name"]
        );
    }
}

/// Builds the blob of a valid vector and applies one edit.
fn edited(vectors: &Value, edited: &Value) -> Vec<u8> {
    let base = list(vectors, "blobs")
        .iter()
        .find(|vector| vector["pt_len"] == edited["of_pt_len"])
        .unwrap();
    let keys = (
        FileKey::from_bytes(array(base, "file_key")),
        BlobSalt::from_bytes(array(base, "salt")),
    );
    let file = plaintext(length(&base["pt_len"]));
    let mut blob = seal_in_pieces((&keys.0, &keys.1), [file.as_slice()].into_iter())
        .0
        .concat();
    for (edit, value) in edited["edit"].as_object().unwrap() {
        let range = |index: usize| length(&value[index])..length(&value[index]) + length(&value[2]);
        match edit.as_str() {
            "cut" => blob.truncate(length(value)),
            "append" => blob.extend(b64::parse(value.as_str().unwrap()).unwrap()),
            "copy" => blob.copy_within(range(0), range(1).start),
            "swap" => {
                let first = blob[range(0)].to_vec();
                blob.copy_within(range(1), range(0).start);
                blob[range(1)].copy_from_slice(&first);
            }
            other => panic!("unknown edit {other}"),
        }
    }
    blob
}

fn split(blob: &[u8]) -> Vec<Vec<u8>> {
    let (first, rest) = blob.split_at(blob.len().min(BLOB_HEAD_BYTES + PART_BYTES));
    let parts = [first].into_iter().chain(rest.chunks(PART_BYTES));
    parts
        .filter(|part| !part.is_empty())
        .map(<[u8]>::to_vec)
        .collect()
}

fn failed_check_name(reason: FailedCheck) -> &'static str {
    match reason {
        FailedCheck::Lengths => "lengths",
        FailedCheck::PartLength => "part_length",
        FailedCheck::Commitment => "commitment",
        FailedCheck::Chunk => "chunk",
        FailedCheck::Padding => "padding",
        FailedCheck::Truncated => "truncated",
        FailedCheck::Hash => "hash",
        FailedCheck::AlreadyFailed => "failed",
    }
}

#[test]
fn descriptor_vectors_round_trip() {
    for vector in list(&vectors(), "descriptors") {
        let cbor = bytes(vector, "cbor");
        let mut decoder = minicbor::Decoder::new(&cbor);
        let descriptor = Descriptor::parse(&mut decoder).unwrap();
        assert_eq!(decoder.position(), cbor.len());
        assert_eq!(descriptor.blob.relay.as_str(), vector["relay"]);
        assert_eq!(descriptor.blob.id.as_bytes(), &array(vector, "blob_id"));
        assert_eq!(
            descriptor.fetch_token.expose(),
            &array(vector, "fetch_token")
        );
        assert_eq!(descriptor.file_key.expose(), &array(vector, "file_key"));
        assert_eq!(descriptor.sealed, sealed(vector));
        assert_eq!(
            (descriptor.name.as_str(), descriptor.mime.as_str()),
            (text(vector, "file_name"), text(vector, "mime"))
        );
        let preview = vector.get("preview").map(|_| bytes(vector, "preview"));
        assert_eq!(descriptor.preview, preview);
        if vector["name"] != "unknown entry" {
            let mut encoder = minicbor::Encoder::new(Vec::new());
            descriptor.encode(&mut encoder).unwrap();
            assert_eq!(encoder.into_writer(), cbor, "{}", vector["name"]);
        }
    }
}

fn text<'a>(vector: &'a Value, name: &str) -> &'a str {
    vector[name].as_str().unwrap()
}

#[test]
fn invalid_descriptors_give_the_expected_error() {
    for vector in list(&vectors(), "invalid_descriptors") {
        let cbor = bytes(vector, "cbor");
        let reason = match Descriptor::parse(&mut minicbor::Decoder::new(&cbor))
            .err()
            .unwrap()
        {
            DescriptorError::Malformed => "malformed",
            DescriptorError::Missing { .. } => "missing",
            DescriptorError::Relay => "relay",
            DescriptorError::Name { .. } => "name",
            DescriptorError::Mime { .. } => "mime",
            DescriptorError::Preview { .. } => "preview",
            DescriptorError::Lengths => "lengths",
        };
        assert_eq!(reason, text(vector, "reason"), "{}", vector["name"]);
    }
}
