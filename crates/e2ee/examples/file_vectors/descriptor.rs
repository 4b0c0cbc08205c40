//! Descriptors: those that the library writes, and invalid ones.

use crate::{Outcome, counting, text};
use minicbor::encode::Encoder;
use sealpost_e2ee::attachment::{Descriptor, FileKey, Sealed, blob_len};
use sealpost_proto::{BlobId, BlobRef, FetchToken, Origin};
use serde_json::{Value, json};

/// One entry of the map: its key and its encoded value.
type Entry = (u64, Vec<u8>);
/// A faulty entry: case name, expected error, key, and the value that replaces the valid one.
type Replacement = (&'static str, &'static str, usize, Vec<u8>);

pub(crate) fn valid() -> Outcome<Vec<Value>> {
    let longest_name = format!("{}.pdf", "é".repeat(125)) + "x";
    let mut vectors = Vec::new();
    for (title, described) in [
        ("ordinary", descriptor("Angebot.pdf", "application/pdf")?),
        ("no media type", descriptor("a", "")?),
        (
            "longest name and media type",
            descriptor(&longest_name, &"x".repeat(127))?,
        ),
        (
            "unknown entry",
            descriptor("Angebot.pdf", "application/pdf")?,
        ),
        ("preview", previewed(b"\xff\xd8\xff\xe0")?),
        ("longest preview", previewed(&[7; 16_384])?),
    ] {
        let cbor = if title == "unknown entry" {
            with_unknown()?
        } else {
            encode(&described)?
        };
        let mut vector = json!({
            "name": title,
            "cbor": text(&cbor),
            "relay": "https://relay.example",
            "blob_id": text(&counting::<16>(0x10)),
            "fetch_token": text(&counting::<32>(0x20)),
            "file_key": text(&counting::<32>(0x40)),
            "ct_len": blob_len(10),
            "ct_hash": text(&counting::<32>(0x60)),
            "pt_len": 10,
            "file_name": described.name,
            "mime": described.mime,
        });
        if let Some(preview) = &described.preview {
            vector["preview"] = text(preview);
        }
        vectors.push(vector);
    }
    Ok(vectors)
}

pub(crate) fn invalid() -> Outcome<Vec<Value>> {
    let entries = entries()?;
    let mut vectors = Vec::new();
    let mut refuse = |name: &str, reason: &str, cbor: &[u8]| {
        vectors.push(json!({"name": name, "reason": reason, "cbor": text(cbor)}));
    };
    for (left_out, _) in &entries {
        let rest: Vec<_> = entries
            .iter()
            .filter(|(key, _)| key != left_out)
            .cloned()
            .collect();
        refuse(
            &format!("without entry {left_out}"),
            "missing",
            &map(&rest)?,
        );
    }
    let complete = map(&entries)?;
    refuse("no bytes", "malformed", &[]);
    refuse("an array", "malformed", &[0x80]);
    refuse("cut short", "malformed", &complete[..complete.len() - 1]);
    refuse(
        "indefinite map",
        "malformed",
        &[&[0xbf], &complete[1..], &[0xff]].concat(),
    );
    let mut swapped = entries.clone();
    swapped.swap(0, 1);
    refuse("keys out of order", "malformed", &map(&swapped)?);
    let mut twice = entries.clone();
    twice.insert(8, entries[7].clone());
    refuse("a key twice", "malformed", &map(&twice)?);
    let empty_preview = (9, bytes(&[])?);
    refuse(
        "preview empty",
        "preview",
        &map(&[entries.clone(), vec![empty_preview]].concat())?,
    );
    let long_preview = (9, bytes(&[7; 16_385])?);
    refuse(
        "preview of 16,385 bytes",
        "preview",
        &map(&[entries.clone(), vec![long_preview]].concat())?,
    );
    let preview_as_text = (9, string("JPEG")?);
    refuse(
        "preview as text",
        "malformed",
        &map(&[entries.clone(), vec![preview_as_text]].concat())?,
    );
    let many: Vec<_> = (10..34).map(|key| (key, vec![0])).collect();
    refuse(
        "33 entries",
        "malformed",
        &map(&[entries.clone(), many].concat())?,
    );
    for (name, reason, key, value) in replacements()? {
        let mut replaced = entries.clone();
        replaced[key].1 = value;
        refuse(name, reason, &map(&replaced)?);
    }
    Ok(vectors)
}

fn replacements() -> Outcome<Vec<Replacement>> {
    let long_name = format!("{}x", "é".repeat(128));
    Ok(vec![
        (
            "relay in capitals",
            "relay",
            0,
            string("https://Relay.example")?,
        ),
        (
            "relay with a path",
            "relay",
            0,
            string("https://relay.example/x")?,
        ),
        (
            "relay is bytes",
            "malformed",
            0,
            bytes(b"https://relay.example")?,
        ),
        ("blob id of 15 bytes", "malformed", 1, bytes(&[1; 15])?),
        ("blob id of 17 bytes", "malformed", 1, bytes(&[1; 17])?),
        ("fetch token of 31 bytes", "malformed", 2, bytes(&[1; 31])?),
        ("file key of 16 bytes", "malformed", 3, bytes(&[1; 16])?),
        ("ct_len off by one", "lengths", 4, uint(blob_len(10) + 1)?),
        ("ct_len negative", "malformed", 4, vec![0x20]),
        ("ct_len as text", "malformed", 4, string("4160")?),
        ("ct_hash of 33 bytes", "malformed", 5, bytes(&[1; 33])?),
        ("pt_len over the limit", "lengths", 6, uint(100_000_001)?),
        ("pt_len at the end of u64", "lengths", 6, uint(u64::MAX)?),
        ("name empty", "name", 7, string("")?),
        ("name of 257 bytes", "name", 7, string(&long_name)?),
        ("name not UTF-8", "malformed", 7, vec![0x62, 0xc3, 0x28]),
        (
            "media type of 128 bytes",
            "mime",
            8,
            string(&"x".repeat(128))?,
        ),
    ])
}

fn descriptor(name: &str, mime: &str) -> Outcome<Descriptor> {
    Ok(Descriptor {
        blob: BlobRef {
            relay: Origin::parse("https://relay.example")?,
            id: BlobId::from_bytes(counting(0x10)),
        },
        fetch_token: FetchToken::from_bytes(counting(0x20)),
        file_key: FileKey::from_bytes(counting(0x40)),
        sealed: Sealed {
            ct_len: blob_len(10),
            ct_hash: counting(0x60),
            pt_len: 10,
        },
        name: name.to_owned(),
        mime: mime.to_owned(),
        preview: None,
    })
}

fn previewed(preview: &[u8]) -> Outcome<Descriptor> {
    Ok(Descriptor {
        preview: Some(preview.to_vec()),
        ..descriptor("Foto.jpg", "image/jpeg")?
    })
}

fn encode(descriptor: &Descriptor) -> Outcome<Vec<u8>> {
    let mut encoder = Encoder::new(Vec::new());
    descriptor.check()?;
    descriptor.encode(&mut encoder)?;
    Ok(encoder.into_writer())
}

/// Adds an entry that a later version may define: a nested array under key 1000.
fn with_unknown() -> Outcome<Vec<u8>> {
    let later = (1_000, vec![0x82, 0x01, 0x81, 0x63, b'n', b'e', b'w']);
    map(&[entries()?, vec![later]].concat())
}

fn entries() -> Outcome<Vec<Entry>> {
    let values = [
        string("https://relay.example")?,
        bytes(&counting::<16>(0x10))?,
        bytes(&counting::<32>(0x20))?,
        bytes(&counting::<32>(0x40))?,
        uint(blob_len(10))?,
        bytes(&counting::<32>(0x60))?,
        uint(10)?,
        string("Angebot.pdf")?,
        string("application/pdf")?,
    ];
    Ok((0..).zip(values).collect())
}

fn map(entries: &[Entry]) -> Outcome<Vec<u8>> {
    let mut encoder = Encoder::new(Vec::new());
    encoder.map(entries.len() as u64)?;
    for (key, value) in entries {
        encoder.u64(*key)?;
        encoder.writer_mut().extend_from_slice(value);
    }
    Ok(encoder.into_writer())
}

fn string(value: &str) -> Outcome<Vec<u8>> {
    let mut encoder = Encoder::new(Vec::new());
    encoder.str(value)?;
    Ok(encoder.into_writer())
}

fn bytes(value: &[u8]) -> Outcome<Vec<u8>> {
    let mut encoder = Encoder::new(Vec::new());
    encoder.bytes(value)?;
    Ok(encoder.into_writer())
}

fn uint(value: u64) -> Outcome<Vec<u8>> {
    let mut encoder = Encoder::new(Vec::new());
    encoder.u64(value)?;
    Ok(encoder.into_writer())
}
