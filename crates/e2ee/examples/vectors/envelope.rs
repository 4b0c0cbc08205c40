use crate::{Outcome, flipped, longer, rng, shorter, text};
use chacha20poly1305::aead::{Aead as _, Payload};
use chacha20poly1305::{KeyInit as _, XChaCha20Poly1305};
use hkdf::Hkdf;
use sealpost_e2ee::envelope::{EnvelopeDirection, OuterKey, padded_len, seal_envelope};
use sealpost_e2ee::keys::{ExporterSecret, InviteSecret};
use sealpost_proto::MailboxId;
use serde_json::{Value, json};
use sha2::Sha256;

const MAILBOX: MailboxId = MailboxId::from_bytes([0x3b; 16]);
const SECRET: [u8; 32] = [0x5e; 32];

pub(crate) fn vectors() -> Outcome<Value> {
    Ok(json!({
        "about": "docs/e2ee.md, Envelope. Byte i of inner is 1 + i mod 251. Bytes are base64url \
                  without padding.",
        "sizes": sizes(),
        "valid": valid()?,
        "invalid": invalid()?,
    }))
}

fn sizes() -> Vec<Value> {
    let lengths = [
        44, 45, 2_047, 2_048, 2_049, 4_096, 4_097, 8_193, 32_768, 32_769, 65_535, 65_536, 65_537,
        67_584, 67_585, 100_000, 131_071, 131_072, 131_073, 135_168, 200_000, 258_048, 258_049,
        262_144, 262_145, 1_000_000,
    ];
    lengths
        .into_iter()
        .map(|length| json!({ "length": length, "size": padded_len(length) }))
        .collect()
}

fn inner(len: usize) -> Vec<u8> {
    (0..len)
        .map(|at| u8::try_from(1 + at % 251).unwrap_or(0))
        .collect()
}

fn valid() -> Outcome<Vec<Value>> {
    let exp = ExporterSecret::from_bytes(SECRET);
    let keys = [
        (
            json!({ "exp_pairing": text(SECRET), "dir": 0 }),
            OuterKey::for_mailbox(&exp, EnvelopeDirection::InviteeToInviter),
        ),
        (
            json!({ "exp_pairing": text(SECRET), "dir": 1 }),
            OuterKey::for_mailbox(&exp, EnvelopeDirection::InviterToInvitee),
        ),
        (
            json!({ "invite_secret": text(SECRET) }),
            OuterKey::for_invite(&InviteSecret::from_bytes(SECRET)),
        ),
    ];
    let mut cases = Vec::new();
    for (seed, (of, key)) in (30..).zip(&keys) {
        for len in [0, 8, 200, 2_004, 2_005] {
            let envelope = seal_envelope(key, &MAILBOX, &inner(len), &mut rng(seed))?;
            cases.push(json!({
                "key": of,
                "mailbox": text(MAILBOX.as_bytes()),
                "inner_bytes": len,
                "envelope": text(envelope)
            }));
        }
    }
    Ok(cases)
}

/// Seals any padded bytes into an envelope with the invite's outer key.
fn raw(padded: &[u8]) -> Outcome<Vec<u8>> {
    let mut key = [0; 32];
    Hkdf::<Sha256>::new(Some(&[0; 32]), &SECRET)
        .expand(b"Sealpost-1 rendezvous", &mut key)
        .map_err(|_| "too long")?;
    let ad = [b"Sealpost-1 m", &MAILBOX.as_bytes()[..]].concat();
    let nonce = [9; 24];
    let payload = Payload {
        msg: padded,
        aad: &ad,
    };
    let sealed = XChaCha20Poly1305::new(&key.into())
        .encrypt(&nonce.into(), payload)
        .map_err(|_| "too long")?;
    Ok([&nonce[..], &sealed].concat())
}

/// Returns a length field followed by zeros, for an envelope of `size` bytes.
fn padded(size: usize, inner_bytes: u32) -> Vec<u8> {
    let mut padded = vec![0; size - 40];
    padded[..4].copy_from_slice(&inner_bytes.to_be_bytes());
    padded
}

fn invalid() -> Outcome<Vec<Value>> {
    let good = seal_envelope(
        &OuterKey::for_invite(&InviteSecret::from_bytes(SECRET)),
        &MAILBOX,
        &inner(200),
        &mut rng(40),
    )?;
    let mut dirty = padded(2_048, 200);
    let end = dirty.len() - 1;
    dirty[end] = 1;
    let mut dirty_at_start = padded(2_048, 200);
    dirty_at_start[204] = 1;
    let other = OuterKey::for_mailbox(
        &ExporterSecret::from_bytes(SECRET),
        EnvelopeDirection::InviteeToInviter,
    );
    let cases = [
        ("empty", Vec::new()),
        ("a byte short", shorter(&good)),
        ("a byte long", longer(&good)),
        ("nonce changed", flipped(&good, 0)),
        ("length changed", flipped(&good, 27)),
        ("padding changed", flipped(&good, 1_000)),
        ("tag changed", flipped(&good, 2_047)),
        (
            "of another mailbox",
            seal_envelope(
                &OuterKey::for_invite(&InviteSecret::from_bytes(SECRET)),
                &MailboxId::from_bytes([0x3c; 16]),
                &inner(200),
                &mut rng(41),
            )?,
        ),
        (
            "under another key",
            seal_envelope(&other, &MAILBOX, &inner(200), &mut rng(42))?,
        ),
        ("padding not zero at its end", raw(&dirty)?),
        ("padding not zero at its beginning", raw(&dirty_at_start)?),
        ("a bucket too large", raw(&padded(4_096, 200))?),
        ("not a bucket", raw(&padded(3_000, 2_900))?),
        ("smaller than the smallest", raw(&padded(1_024, 200))?),
        ("length past the end", raw(&padded(2_048, 2_005))?),
        ("length far past the end", raw(&padded(2_048, u32::MAX))?),
    ];
    let case = |(name, envelope): (&str, Vec<u8>)| {
        json!({
            "name": name,
            "key": { "invite_secret": text(SECRET) },
            "mailbox": text(MAILBOX.as_bytes()),
            "envelope": text(envelope)
        })
    };
    Ok(cases.into_iter().map(case).collect())
}
