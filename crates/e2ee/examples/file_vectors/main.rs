//! Writes `attachment.json`, `invite.json`, `safety_number.json`, `vault.json` and
//! `vault_protection.json` into `proto/vectors`, or into the directory given as an argument. The
//! output is deterministic.

mod attachment;
mod descriptor;
mod invite;
mod protection;
mod safety_number;
mod vault;

use sealpost_proto::b64;
use serde_json::Value;
use std::error::Error;
use std::path::{Path, PathBuf};

type Outcome<T> = Result<T, Box<dyn Error>>;

fn main() -> Outcome<()> {
    let committed = concat!(env!("CARGO_MANIFEST_DIR"), "/../../proto/vectors");
    let directory = std::env::args_os()
        .nth(1)
        .map_or_else(|| PathBuf::from(committed), PathBuf::from);
    write(&directory, "attachment.json", &attachment::vectors()?)?;
    write(&directory, "invite.json", &invite::vectors()?)?;
    write(&directory, "safety_number.json", &safety_number::vectors()?)?;
    write(&directory, "vault.json", &vault::vectors()?)?;
    write(&directory, "vault_protection.json", &protection::vectors()?)
}

fn write(directory: &Path, name: &str, vectors: &Value) -> Outcome<()> {
    let text = serde_json::to_string_pretty(vectors)? + "\n";
    Ok(std::fs::write(directory.join(name), text)?)
}

/// Returns `N` bytes counting up from `first`.
fn counting<const N: usize>(first: u8) -> [u8; N] {
    std::array::from_fn(|index| first.wrapping_add(u8::try_from(index % 256).unwrap_or(0)))
}

fn hash(parts: &[&[u8]]) -> [u8; 32] {
    use sha2::{Digest as _, Sha256};
    parts
        .iter()
        .fold(Sha256::new(), |hash, part| hash.chain_update(part))
        .finalize()
        .into()
}

fn flipped(bytes: &[u8], at: usize) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    if let Some(byte) = bytes.get_mut(at) {
        *byte ^= 1;
    }
    bytes
}

fn text(bytes: &[u8]) -> Value {
    Value::String(b64::encode(bytes))
}
