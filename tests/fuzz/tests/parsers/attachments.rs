//! Descriptors, and blobs that do not match their descriptor.

use crate::corpus::{collect_bytes, load_vectors, parse_array};
use minicbor::{Decoder, Encoder};
use sealpost_e2ee::attachment::{BlobOpener, Descriptor, FileKey, Sealed};
use sealpost_fuzz::fuzz_inputs;
use serde_json::Value;

#[test]
fn descriptors_reencode_to_the_same_values() {
    fuzz_inputs(
        &collect_bytes(&load_vectors("attachment"), &["cbor"]),
        20_000,
        |case| {
            let Ok(descriptor) = Descriptor::parse(&mut Decoder::new(case.bytes)) else {
                return;
            };
            let mut written = Vec::new();
            descriptor.encode(&mut Encoder::new(&mut written)).unwrap();
            let again = Descriptor::parse(&mut Decoder::new(&written)).unwrap();
            assert_eq!(
                (again.sealed, again.name),
                (descriptor.sealed, descriptor.name)
            );
        },
    );
}

struct BlobVector {
    key: FileKey,
    sealed: Sealed,
}

fn parse_blob_vector(vector: &Value) -> BlobVector {
    BlobVector {
        key: FileKey::from_bytes(parse_array(vector, "file_key")),
        sealed: Sealed {
            ct_len: vector["ct_len"].as_u64().unwrap(),
            ct_hash: parse_array(vector, "ct_hash"),
            pt_len: vector["pt_len"].as_u64().unwrap(),
        },
    }
}

/// Returns whether all of a blob opens and verifies.
fn opens_completely(vector: &BlobVector, mut blob: &[u8]) -> bool {
    let Ok(mut opener) = BlobOpener::new(&vector.key, &vector.sealed) else {
        return false;
    };
    loop {
        let len = opener.next_part_bytes();
        if len == 0 {
            return blob.is_empty() && opener.finish().is_ok();
        }
        let Some((part, rest)) = blob.split_at_checked(len) else {
            return false;
        };
        if opener.open_part(&mut part.to_vec()).is_err() {
            return false;
        }
        blob = rest;
    }
}

#[test]
fn damaged_blobs_are_rejected() {
    let vectors = load_vectors("attachment");
    let small = |vector: &&Value| {
        vector.get("blob").is_some_and(Value::is_string) && vector["ct_len"].as_u64() < Some(6_000)
    };
    let valid: Vec<_> = vectors["blobs"]
        .as_array()
        .unwrap()
        .iter()
        .filter(small)
        .map(parse_blob_vector)
        .collect();
    let mut accepted = 0;
    fuzz_inputs(&collect_bytes(&vectors, &["blob"]), 4_000, |case| {
        for vector in &valid {
            let opens_completely = opens_completely(vector, case.bytes);
            assert!(
                case.is_seed || !opens_completely,
                "a damaged blob is accepted"
            );
            accepted += usize::from(opens_completely);
        }
    });
    assert!(
        accepted >= valid.len() && !valid.is_empty(),
        "{accepted} of {} blobs open",
        valid.len()
    );
}

#[test]
fn only_parts_of_the_right_length_open() {
    let vectors = load_vectors("attachment");
    let first = parse_blob_vector(&vectors["blobs"][0]);
    fuzz_inputs(&collect_bytes(&vectors, &["blob"]), 4_000, |case| {
        let Ok(mut opener) = BlobOpener::new(&first.key, &first.sealed) else {
            return;
        };
        let opened = opener
            .open_part(&mut case.bytes.to_vec())
            .map(Iterator::count);
        assert!(opened.is_err() || case.bytes.len() as u64 == first.sealed.ct_len);
    });
}
