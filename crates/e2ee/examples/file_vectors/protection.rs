//! Data keys that a passphrase or a credential wraps.

use crate::{Outcome, flipped, text};
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::SeedableRng as _;
use sealpost_e2ee::vault::{DataKey, KeyFile, Passphrase};
use serde_json::{Value, json};

const DATA_KEY: [u8; 32] = [0x64; 32];
const PASSPHRASE: &str = "correct horse battery staple";
/// Offset of the salt, which the costs follow.
const PARAMETERS: usize = 6;
const COSTS: usize = PARAMETERS + 16;

pub(crate) fn vectors() -> Outcome<Value> {
    let mut rng = ChaCha20Rng::from_seed([10; 32]);
    let passphrases = [
        PASSPHRASE,
        "ein längerer Satz mit Umlauten",
        "  spaces count  ",
    ];
    let mut wrapped = Vec::new();
    for passphrase in passphrases {
        let record = wrap(passphrase, &mut rng)?;
        wrapped.push(json!({
            "passphrase": passphrase,
            "record": text(&record),
            "data_key": text(&DATA_KEY)
        }));
    }
    let record = wrap(PASSPHRASE, &mut rng)?;
    let credential = KeyFile::generate(&mut rng);
    let by_credential = credential.wrap_as_credential(&DataKey::from_bytes(DATA_KEY), &mut rng);
    Ok(json!({
        "about": "docs/e2ee-files-invites-vault.md, Wrapped data key. Bytes are base64url without \
                  padding.",
        "passphrases": wrapped,
        "invalid_passphrases": invalid_passphrases(&record, &by_credential),
        "credentials": [{
            "credential": *credential.encode(),
            "record": text(&by_credential),
            "data_key": text(&DATA_KEY)
        }],
        "invalid_credentials": invalid_credentials(&record, &by_credential, &credential, &mut rng),
    }))
}

fn wrap(passphrase: &str, rng: &mut ChaCha20Rng) -> Outcome<Vec<u8>> {
    let passphrase = Passphrase::new(passphrase.to_owned().into());
    Ok(passphrase.wrap(&DataKey::from_bytes(DATA_KEY), rng)?)
}

fn invalid_passphrases(record: &[u8], by_credential: &[u8]) -> Vec<Value> {
    let with_costs = |costs: [u32; 3]| {
        let costs = costs.map(u32::to_be_bytes).concat();
        [&record[..COSTS], &costs, &record[COSTS + costs.len()..]].concat()
    };
    let vector = |name: &str, reason: &str, passphrase: &str, record: &[u8]| json!({"name": name, "reason": reason, "passphrase": passphrase, "record": text(record)});
    let wrong = "wrong_passphrase";
    let mut vectors = vec![
        vector("another passphrase", wrong, "correct horse battery", record),
        vector("a space after it", wrong, &format!("{PASSPHRASE} "), record),
        vector("salt flipped", wrong, PASSPHRASE, &flipped(record, 6)),
        vector("nonce flipped", wrong, PASSPHRASE, &flipped(record, 34)),
        vector(
            "ciphertext flipped",
            wrong,
            PASSPHRASE,
            &flipped(record, 58),
        ),
        vector(
            "fewer passes",
            wrong,
            PASSPHRASE,
            &with_costs([65_536, 2, 4]),
        ),
        vector(
            "less memory",
            wrong,
            PASSPHRASE,
            &with_costs([32_768, 3, 4]),
        ),
        vector("by a credential", "other_wrap", PASSPHRASE, by_credential),
        vector(
            "a byte more",
            "malformed",
            PASSPHRASE,
            &[record, &[0]].concat(),
        ),
        vector("nothing", "malformed", PASSPHRASE, b""),
    ];
    for (name, costs) in [
        ("memory above 256 MiB", [262_145, 3, 4]),
        ("all memory", [u32::MAX, 3, 4]),
        ("memory below 8 KiB for each lane", [31, 3, 4]),
        ("passes above 16", [65_536, 17, 4]),
        ("no passes", [65_536, 0, 4]),
        ("lanes above 16", [65_536, 3, 17]),
        ("no lanes", [65_536, 3, 0]),
    ] {
        vectors.push(vector(name, "parameters", PASSPHRASE, &with_costs(costs)));
    }
    vectors
}

fn invalid_credentials(
    by_passphrase: &[u8],
    record: &[u8],
    credential: &KeyFile,
    rng: &mut ChaCha20Rng,
) -> Vec<Value> {
    let other = KeyFile::generate(rng);
    let by_key_file = credential.wrap(&DataKey::from_bytes(DATA_KEY), rng);
    [
        ("another credential", "wrong_credential", &other, record),
        ("by a key file", "other_wrap", credential, &by_key_file),
        ("by a passphrase", "other_wrap", credential, by_passphrase),
        (
            "the kind replaced",
            "wrong_credential",
            credential,
            &[&[1, 3], &by_key_file[2..]].concat(),
        ),
    ]
    .map(|(name, reason, credential, record)| {
        json!({
            "name": name,
            "reason": reason,
            "credential": *credential.encode(),
            "record": text(record)
        })
    })
    .to_vec()
}
