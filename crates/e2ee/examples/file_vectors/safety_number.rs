//! Safety numbers: Signal's published example, Sealpost's own, and verification codes.

use crate::{Outcome, counting, text};
use sealpost_e2ee::keys::{Fingerprint, Identity};
use sealpost_e2ee::safety_number::{SafetyNumber, VerificationCode};
use sealpost_proto::b64;
use serde_json::{Value, json};

pub(crate) fn vectors() -> Outcome<Value> {
    let (acme, bolt) = (
        Identity::from_seeds(&[1; 32], &[2; 32]),
        Identity::from_seeds(&[3; 32], &[4; 32]),
    );
    let number = SafetyNumber::for_identities(acme.public(), bolt.public());
    let side = |identity: &Identity| {
        let public = identity.public();
        json!({
            "ik_ed": text(public.ik_ed()),
            "ik_x": text(public.ik_x()),
            "fingerprint": text(public.fingerprint().as_bytes()),
        })
    };
    Ok(json!({
        "about": "docs/e2ee-files-invites-vault.md, Safety number. `signal` is libsignal's \
                  published example; its identities and digits are in hexadecimal and decimal. \
                  Other bytes are base64url without padding.",
        "signal": signal(),
        "pairs": [{
            "one": side(&acme),
            "other": side(&bolt),
            "digits": number.as_digits(),
            "shown": number.to_string()
        }],
        "codes": codes(),
        "invalid_codes": invalid_codes(),
    }))
}

fn signal() -> Value {
    json!([{
        "version": 0,
        "iterations": 5_200,
        "one": {
            "id": "+14152222222",
            "key": "0506863bc66d02b40d27b8d49ca7c09e9239236f9d7d25d6fcca5ce13c7064d868",
        },
        "other": {
            "id": "+14153333333",
            "key": "05f781b6fb32fed9ba1cf2de978d4d5da28dc34046ae814402b5c0dbd96fda907b",
        },
        "digits": "300354477692869396892869876765458257569162576843440918079131",
    }])
}

fn codes() -> Vec<Value> {
    let [acme, bolt, other] = [1, 2, 3].map(|first| Fingerprint::from_bytes(counting(first)));
    [
        ("the peer's code", acme, bolt, bolt, acme, Value::Null),
        (
            "another identity's code",
            other,
            bolt,
            bolt,
            acme,
            json!("peer"),
        ),
        (
            "the peer knows another of us",
            acme,
            other,
            bolt,
            acme,
            json!("own"),
        ),
        ("both differ", other, other, bolt, acme, json!("peer")),
        ("one's own code", bolt, acme, bolt, acme, json!("own_code")),
    ]
    .map(|(name, shown_by, meant_for, own, peer, mismatch)| {
        json!({
            "name": name,
            "code": VerificationCode::new(shown_by, meant_for).encode(),
            "own": text(own.as_bytes()),
            "peer": text(peer.as_bytes()),
            "mismatch": mismatch,
        })
    })
    .to_vec()
}

fn invalid_codes() -> Vec<Value> {
    let both = b64::encode(&counting::<64>(0));
    [
        ("nothing", String::new()),
        ("no marker", both.clone()),
        ("another marker", format!("sealpost:sn2.{both}")),
        (
            "63 bytes",
            format!("sealpost:sn1.{}", b64::encode(&[0; 63])),
        ),
        (
            "65 bytes",
            format!("sealpost:sn1.{}", b64::encode(&[0; 65])),
        ),
        ("padded", format!("sealpost:sn1.{both}==")),
        (
            "not canonical",
            format!("sealpost:sn1.{}B", &both[..both.len() - 1]),
        ),
        ("space behind it", format!("sealpost:sn1.{both} ")),
    ]
    .map(|(name, code)| json!({"name": name, "code": code}))
    .to_vec()
}
