//! Sealed columns, key files and wrapped data keys.

use crate::{Outcome, counting, flipped, hash, text};
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::SeedableRng as _;
use sealpost_e2ee::vault::{Column, DataKey, KeyFile, open_column, seal_column};
use sealpost_proto::b64;
use serde_json::{Value, json};

const DATA_KEY: [u8; 32] = [0x64; 32];

pub(crate) fn vectors() -> Outcome<Value> {
    let mut rng = ChaCha20Rng::from_seed([9; 32]);
    let key_file = KeyFile::generate(&mut rng);
    let record = key_file.wrap(&DataKey::from_bytes(DATA_KEY), &mut rng);
    let other = KeyFile::generate(&mut rng);
    Ok(json!({
        "about": "docs/e2ee-files-invites-vault.md, Vault. Bytes are base64url without padding.",
        "columns": columns(&mut rng)?,
        "invalid_columns": invalid_columns(&mut rng),
        "key_files": [*key_file.encode(), *other.encode()],
        "invalid_key_files": invalid_key_files(&key_file)?,
        "wrapped": [{
            "key_file": *key_file.encode(),
            "record": text(&record),
            "data_key": text(&DATA_KEY)
        }],
        "invalid_wrapped": invalid_wrapped(&key_file, &other, &record),
    }))
}

fn vector(name: &str, key: &[u8; 32], column: &Column<'_>, sealed: &[u8]) -> Value {
    json!({
        "name": name,
        "data_key": text(key),
        "table": column.table,
        "pk": text(column.pk),
        "column": column.column,
        "version": column.version,
        "sealed": text(sealed),
    })
}

fn columns(rng: &mut ChaCha20Rng) -> Outcome<Vec<Value>> {
    let session = Column {
        table: "session",
        pk: &counting::<32>(0),
        column: "state",
        version: 7,
    };
    let empty = Column {
        table: "",
        pk: b"",
        column: "",
        version: 0,
    };
    let last = Column {
        table: "account",
        pk: &[0],
        column: "key",
        version: u64::MAX,
    };
    let cases = [
        ("ordinary", session, &b"a secret"[..]),
        ("all empty", empty, b""),
        ("last version", last, &[0; 100]),
    ];
    let mut vectors = Vec::new();
    for (name, column, value) in cases {
        let sealed = seal_column(&DataKey::from_bytes(DATA_KEY), &column, value, rng);
        assert_eq!(
            *open_column(&DataKey::from_bytes(DATA_KEY), &column, &sealed)?,
            value
        );
        let mut vector = vector(name, &DATA_KEY, &column, &sealed);
        vector["value"] = text(value);
        vectors.push(vector);
    }
    Ok(vectors)
}

fn invalid_columns(rng: &mut ChaCha20Rng) -> Vec<Value> {
    let here = Column {
        table: "session",
        pk: b"1",
        column: "state",
        version: 7,
    };
    let sealed = seal_column(&DataKey::from_bytes(DATA_KEY), &here, b"a secret", rng);
    let moved = |name: &str, column: Column<'_>| vector(name, &DATA_KEY, &column, &sealed);
    let altered = |name: &str, sealed: &[u8]| vector(name, &DATA_KEY, &here, sealed);
    vec![
        vector("another key", &[0x65; 32], &here, &sealed),
        moved(
            "another table",
            Column {
                table: "sessions",
                ..here
            },
        ),
        moved("another row", Column { pk: b"2", ..here }),
        moved(
            "another column",
            Column {
                column: "prefix",
                ..here
            },
        ),
        moved("an older version", Column { version: 6, ..here }),
        moved(
            "a byte from one field to the next",
            Column {
                table: "sessio",
                pk: b"n1",
                ..here
            },
        ),
        altered("nonce flipped", &flipped(&sealed, 0)),
        altered("ciphertext flipped", &flipped(&sealed, 24)),
        altered("tag flipped", &flipped(&sealed, sealed.len() - 1)),
        altered("one byte missing", &sealed[..sealed.len() - 1]),
        altered("one byte more", &[&sealed[..], &[0]].concat()),
        altered("nonce alone", &sealed[..24]),
        altered("shorter than a nonce", &sealed[..23]),
        altered("nothing", b""),
    ]
}

fn invalid_key_files(key_file: &KeyFile) -> Outcome<Vec<Value>> {
    let good = key_file.encode();
    let base64 = good.trim().strip_prefix("sealpost-key1.").ok_or("marker")?;
    let record = b64::parse(base64)?;
    let of = |body: &[u8]| {
        format!(
            "sealpost-key1.{}\n",
            b64::encode(&[body, &hash(&[body])[..4]].concat())
        )
    };
    let flipped_text = |at| format!("sealpost-key1.{}\n", b64::encode(&flipped(&record, at)));
    Ok([
        ("nothing", "not_a_key_file", String::new()),
        (
            "another marker",
            "not_a_key_file",
            good.replace("key1", "key2"),
        ),
        ("base64 alone", "not_a_key_file", base64.to_owned()),
        (
            "too long",
            "not_a_key_file",
            format!("{}{}", *good, " ".repeat(100)),
        ),
        ("marker alone", "damaged", "sealpost-key1.".to_owned()),
        (
            "last character missing",
            "damaged",
            good.trim()[..good.trim().len() - 1].to_owned(),
        ),
        ("version flipped", "damaged", flipped_text(0)),
        ("key flipped", "damaged", flipped_text(20)),
        ("checksum flipped", "damaged", flipped_text(36)),
        ("key of 31 bytes", "damaged", of(&record[..32])),
        (
            "key of 33 bytes",
            "damaged",
            of(&[&record[..33], &[0]].concat()),
        ),
        ("empty record", "damaged", of(b"")),
        (
            "version 2",
            "unknown_version",
            of(&[&[2], &record[1..33]].concat()),
        ),
    ]
    .map(|(name, reason, text)| json!({"name": name, "reason": reason, "text": text}))
    .to_vec())
}

fn invalid_wrapped(key_file: &KeyFile, other: &KeyFile, record: &[u8]) -> Vec<Value> {
    let (head, sealed) = record.split_at(6);
    let passphrase = [&[1, 1, 0, 0, 0, 28][..], &[7; 28], sealed].concat();
    let with_head = |head: &[u8]| [head, sealed].concat();
    [
        ("another key file", "wrong_key_file", other, record.to_vec()),
        (
            "nonce flipped",
            "wrong_key_file",
            key_file,
            flipped(record, 6),
        ),
        (
            "ciphertext flipped",
            "wrong_key_file",
            key_file,
            flipped(record, 40),
        ),
        (
            "tag flipped",
            "wrong_key_file",
            key_file,
            flipped(record, record.len() - 1),
        ),
        (
            "wrapped by a passphrase",
            "other_wrap",
            key_file,
            passphrase,
        ),
        (
            "wrapped by a credential",
            "other_wrap",
            key_file,
            with_head(&[1, 3, 0, 0, 0, 0]),
        ),
        (
            "version 0",
            "unknown_version",
            key_file,
            with_head(&[0, 2, 0, 0, 0, 0]),
        ),
        (
            "version 2",
            "unknown_version",
            key_file,
            with_head(&[2, 2, 0, 0, 0, 0]),
        ),
        (
            "kind 0",
            "malformed",
            key_file,
            with_head(&[1, 0, 0, 0, 0, 0]),
        ),
        (
            "kind 4",
            "malformed",
            key_file,
            with_head(&[1, 4, 0, 0, 0, 0]),
        ),
        (
            "parameters where none belong",
            "malformed",
            key_file,
            with_head(&[1, 2, 0, 0, 0, 1, 0]),
        ),
        (
            "parameters' length lies",
            "malformed",
            key_file,
            with_head(&[1, 2, 0xff, 0xff, 0xff, 0xff]),
        ),
        (
            "one byte missing",
            "malformed",
            key_file,
            record[..record.len() - 1].to_vec(),
        ),
        (
            "one byte more",
            "malformed",
            key_file,
            [record, &[0]].concat(),
        ),
        ("head alone", "malformed", key_file, head.to_vec()),
        ("nothing", "malformed", key_file, Vec::new()),
    ]
    .map(|(name, reason, key_file, record)| {
        json!({
            "name": name,
            "reason": reason,
            "key_file": *key_file.encode(),
            "record": text(&record)
        })
    })
    .to_vec()
}
