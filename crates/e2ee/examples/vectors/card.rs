use crate::{INVITE, NOW, Outcome, Party, conn_id, flipped, longer, shorter, text};
use ed25519_dalek::{Signer as _, SigningKey};
use serde_json::{Value, json};

pub(crate) fn vectors() -> Outcome<Value> {
    let (invitee, inviter) = (Party::invitee(), Party::inviter());
    let valid = [
        (&invitee, "Acme"),
        (&inviter, "B"),
        (&inviter, "Bäckerei Größe & Söhne, 本社, filial"),
        (&invitee, LONGEST),
    ];
    let valid = valid
        .into_iter()
        .map(|(party, name)| card(party, name))
        .collect::<Outcome<Vec<_>>>()?;
    Ok(json!({
        "about": "docs/e2ee.md, Keys and The signed card. Bytes are base64url without padding.",
        "valid": valid,
        "invalid": invalid(&invitee)?,
        "connections": [{
            "fingerprints": [
                text(invitee.identity.fingerprint().as_bytes()),
                text(inviter.identity.fingerprint().as_bytes())
            ],
            "invite_id": text(INVITE.as_bytes()),
            "conn_id": text(conn_id(&invitee, &inviter).as_bytes()),
        }],
    }))
}

const LONGEST: &str = "0123456789012345678901234567890123456789012345678901234567890123";

fn card(party: &Party, name: &str) -> Outcome<Value> {
    let card = party.identity.sign_card(name, NOW)?;
    let public = party.identity.public();
    Ok(json!({
        "seeds": party.seeds(),
        "name": name,
        "created": NOW.as_millis(),
        "ik_ed": text(public.ik_ed()),
        "ik_x": text(public.ik_x()),
        "fingerprint": text(public.fingerprint().as_bytes()),
        "card": text(card.as_bytes()),
    }))
}

/// Encodes a record with any fields and signs it like a card.
fn forged(
    party: &Party,
    version: u8,
    name: &[u8],
    ik_ed: &[u8; 32],
    label: &str,
) -> Outcome<Vec<u8>> {
    let mut record = vec![version];
    record.extend_from_slice(&u32::try_from(name.len())?.to_be_bytes());
    record.extend_from_slice(name);
    record.extend_from_slice(ik_ed);
    record.extend_from_slice(party.identity.public().ik_x());
    record.extend_from_slice(&NOW.as_millis().to_be_bytes());
    let signature =
        SigningKey::from_bytes(&party.ed_seed).sign(&[label.as_bytes(), &[0], &record].concat());
    Ok([&record[..], &signature.to_bytes()].concat())
}

fn invalid(party: &Party) -> Outcome<Vec<Value>> {
    const LABEL: &str = "Sealpost-1 card";
    let own = party.identity.public().ik_ed();
    let good = forged(party, 1, b"Acme", own, LABEL)?;
    let mut low_order = [0; 32];
    low_order[0] = 1;
    let cases = [
        ("empty", Vec::new()),
        ("signature alone", good[good.len() - 64..].to_vec()),
        ("a byte short", shorter(&good)),
        ("a byte long", longer(&good)),
        ("version 2", forged(party, 2, b"Acme", own, LABEL)?),
        ("version 0", forged(party, 0, b"Acme", own, LABEL)?),
        ("no name", forged(party, 1, b"", own, LABEL)?),
        (
            "name of 65 bytes",
            forged(party, 1, &[b'x'; 65], own, LABEL)?,
        ),
        (
            "name with a line break",
            forged(party, 1, b"Ac\nme", own, LABEL)?,
        ),
        (
            "name with U+0085",
            forged(party, 1, "Ac\u{85}me".as_bytes(), own, LABEL)?,
        ),
        ("name not UTF-8", forged(party, 1, b"Ac\xffme", own, LABEL)?),
        (
            "another label",
            forged(party, 1, b"Acme", own, "Sealpost-1 prekeys")?,
        ),
        (
            "label of another version",
            forged(party, 1, b"Acme", own, "Sealpost-2 card")?,
        ),
        (
            "a key of another identity",
            forged(
                party,
                1,
                b"Acme",
                Party::inviter().identity.public().ik_ed(),
                LABEL,
            )?,
        ),
        (
            "a key of low order",
            forged(party, 1, b"Acme", &low_order, LABEL)?,
        ),
        ("name length changed", flipped(&good, 4)),
        ("name changed", flipped(&good, 5)),
        ("IK_ed changed", flipped(&good, 9)),
        ("IK_x changed", flipped(&good, 41)),
        ("created changed", flipped(&good, 80)),
        ("R changed", flipped(&good, 81)),
        ("S changed", flipped(&good, 113)),
        ("S not canonical", with_order_added(&good)),
    ];
    Ok(cases
        .into_iter()
        .map(|(name, card)| json!({ "name": name, "card": text(card) }))
        .collect())
}

/// Adds the group order to S. A verifier that does not require canonical S accepts the result.
fn with_order_added(signed: &[u8]) -> Vec<u8> {
    const ORDER: [u8; 32] = [
        0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde,
        0x14, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
    ];
    let mut bytes = signed.to_vec();
    let at = bytes.len() - 32;
    let mut carry = 0;
    for (byte, added) in bytes[at..].iter_mut().zip(ORDER) {
        let [low, high] = (u16::from(*byte) + u16::from(added) + carry).to_le_bytes();
        (*byte, carry) = (low, u16::from(high));
    }
    bytes
}
