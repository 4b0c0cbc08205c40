//! The valid and invalid vectors of `proto/vectors` as seeds.

use sealpost_e2ee::Identity;
use sealpost_proto::b64;
use serde_json::Value;

macro_rules! vector_files {
    ($($name:literal),*) => {
        fn vector_text(name: &str) -> &'static str {
            match name {
                $($name => include_str!(concat!("../../../../proto/vectors/", $name, ".json")),)*
                _ => "",
            }
        }
    };
}
vector_files![
    "attachment",
    "card",
    "envelope",
    "handshake",
    "invite",
    "plaintext",
    "prekeys",
    "ratchet",
    "vault"
];

pub(crate) fn load_vectors(name: &str) -> Value {
    serde_json::from_str(vector_text(name)).unwrap()
}

/// Returns every text under one of these keys at any depth.
pub(crate) fn collect_texts(vectors: &Value, keys: &[&str]) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    collect(vectors, keys, &mut found);
    assert!(!found.is_empty(), "no vector has {keys:?}");
    found
}

/// Returns every base64url value under one of these keys as bytes.
pub(crate) fn collect_bytes(vectors: &Value, keys: &[&str]) -> Vec<Vec<u8>> {
    let texts = collect_texts(vectors, keys);
    texts
        .iter()
        .filter_map(|text| b64::parse(std::str::from_utf8(text).unwrap()).ok())
        .collect()
}

fn collect(value: &Value, keys: &[&str], found: &mut Vec<Vec<u8>>) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                match value {
                    Value::String(text) if keys.contains(&key.as_str()) => {
                        found.push(text.clone().into_bytes())
                    }
                    _ => collect(value, keys, found),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| collect(item, keys, found)),
        _ => {}
    }
}

pub(crate) fn parse_bytes(vector: &Value, key: &str) -> Vec<u8> {
    b64::parse(vector[key].as_str().unwrap()).unwrap()
}

pub(crate) fn parse_array<const N: usize>(vector: &Value, key: &str) -> [u8; N] {
    parse_bytes(vector, key).try_into().unwrap()
}

pub(crate) fn parse_identity(seeds: &Value) -> Identity {
    Identity::from_seeds(
        &parse_array(seeds, "ed_seed"),
        &parse_array(seeds, "x_seed"),
    )
}
