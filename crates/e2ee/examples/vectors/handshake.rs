use crate::{INVITE, NOW, Outcome, Party, conn_id, flipped, longer, paired, request, rng, text};
use ml_kem::kem::Decapsulate as _;
use ml_kem::ml_kem_768::DecapsulationKey;
use sealpost_e2ee::keys::Incarnation;
use sealpost_e2ee::payload::Resume;
use sealpost_e2ee::prekeys::{PrekeySecrets, Scope};
use sealpost_e2ee::sessions::{InitReason, InitiateArgs, OpenOutcome, open_pairing};
use serde_json::{Value, json};

pub(crate) fn vectors() -> Outcome<Value> {
    Ok(json!({
        "about": "docs/e2ee.md, Handshake. B opens the inner bytes with its stored prekey \
                  secrets; ss is what ML-KEM gives it. In `invalid` each inner replaces that of \
                  the pairing. Bytes are base64url without padding.",
        "now": NOW.as_millis(),
        "pairing": pairing()?,
        "rotation": rotation()?,
        "invalid": invalid()?,
    }))
}

/// Computes SS, which a reader without ML-KEM takes from the vector.
fn shared_secret(secrets: &PrekeySecrets, inner: &[u8]) -> Outcome<Vec<u8>> {
    let stored = secrets.encode();
    let seed: [u8; 64] = stored[stored.len() - 64..].try_into()?;
    let ct: [u8; 1_088] = inner[8 + 73..8 + 73 + 1_088].try_into()?;
    Ok(DecapsulationKey::from_seed(seed.into())
        .decapsulate(&ct.into())
        .to_vec())
}

/// A connection request, and the receiver's secrets.
struct Request {
    a: Party,
    b: Party,
    secrets: PrekeySecrets,
    inner: Vec<u8>,
    record: Vec<u8>,
}

fn invite_request() -> Outcome<Request> {
    let (mut a, b) = (Party::invitee(), Party::inviter());
    let (secrets, bundle) = b.bundle(Scope::invite(&INVITE), 1)?;
    let (inner, record) = request(&mut a, &b, &bundle, &mut rng(10))?;
    Ok(Request {
        a,
        b,
        secrets,
        inner,
        record,
    })
}

fn pairing() -> Outcome<Value> {
    let Request {
        a,
        b,
        secrets,
        inner,
        record,
    } = invite_request()?;
    let opened = open_pairing(
        &b.identity,
        &INVITE,
        std::slice::from_ref(&secrets),
        &inner,
        NOW,
    )?;
    Ok(json!({
        "a": a.seeds(),
        "b": b.seeds(),
        "invite_id": text(INVITE.as_bytes()),
        "conn_id": text(opened.conn_id.as_bytes()),
        "prekey_secrets": text(secrets.encode().as_slice()),
        "inner": text(&inner),
        "ss": text(shared_secret(&secrets, &inner)?),
        "card": text(opened.peer_card.as_bytes()),
        "session_epoch": opened.new_session.session_epoch,
        "session_id": text(opened.new_session.session_id.as_bytes()),
        "exp": text(opened.new_session.exp.expose()),
        "prefix_hash": text(opened.prefix_hash),
        "msg_hash": text(opened.msg_hash),
        "hello": {
            "incarnation": text([0xac; 8]), "reason": 0, "resume": "", "previous": text([0; 16]),
            "tag_is_zero": true,
        },
        "record": text(record),
    }))
}

fn rotation() -> Outcome<Value> {
    let mut random = rng(11);
    let (mut a, b) = paired(&mut random)?;
    let connection = conn_id(&a, &b);
    let (secrets, bundle) = b.bundle(Scope::connection(&connection), 2)?;
    let previous = a.sessions.current_id().ok_or("no session")?;
    let resume = Resume {
        incarnation: Incarnation::from_bytes([0xb0; 8]),
        upto: 5,
        bitmap: vec![0x80],
    };
    let args = InitiateArgs {
        identity: &a.identity,
        peer: b.identity.public(),
        conn_id: connection,
        bundle: &bundle,
        reason: InitReason::Rotate,
        incarnation: Incarnation::from_bytes([0xac; 8]),
        resume: Some(&resume),
        sealed_card: None,
        now: NOW,
    };
    let initiated = a.sessions.initiate(&args, &mut random)?;
    let (inner, record) = a.seal("rotated", &mut random)?;
    let context = crate::ratchet::context(&b, &a, std::slice::from_ref(&secrets));
    let OpenOutcome::Opened(opened) = b.sessions.open(&context, &inner) else {
        return Err("does not open".into());
    };
    Ok(json!({
        "a": a.seeds(),
        "b": b.seeds(),
        "conn_id": text(connection.as_bytes()),
        "prekey_secrets": text(secrets.encode().as_slice()),
        "b_sessions": text(b.sessions.encode().as_slice()),
        "b_sessions_after": text(opened.sessions.encode().as_slice()),
        "inner": text(&inner),
        "ss": text(shared_secret(&secrets, &inner)?),
        "session_epoch": initiated.session_epoch,
        "session_id": text(initiated.session_id.as_bytes()),
        "exp": text(initiated.exp.expose()),
        "hello": {
            "incarnation": text([0xac; 8]), "reason": 3, "resume": text(resume.encode()),
            "previous": text(previous.as_bytes()), "tag_is_zero": false,
        },
        "record": text(record),
    }))
}

fn invalid() -> Outcome<Vec<Value>> {
    let inner = invite_request()?.inner;
    let sealed_bytes =
        usize::try_from(u32::from_be_bytes(inner[8 + 1_161..8 + 1_165].try_into()?))?;
    let hello = 8 + 1_165 + sealed_bytes;
    let msg = hello + 4 + usize::try_from(u32::from_be_bytes(inner[hello..hello + 4].try_into()?))?;
    let mut not_contributory = inner.clone();
    not_contributory[8 + 5..8 + 37].fill(0);
    let cases = [
        ("name is not zero", flipped(&inner, 0), "unknown_session"),
        ("version", flipped(&inner, 8), "malformed"),
        ("frame type", flipped(&inner, 9), "malformed"),
        ("suite", flipped(&inner, 11), "malformed"),
        ("flags", flipped(&inner, 12), "malformed"),
        ("EK_A", flipped(&inner, 13), "handshake_invalid"),
        ("EK_A of low order", not_contributory, "handshake_invalid"),
        (
            "epoch far ahead",
            flipped(&inner, 8 + 37),
            "epoch_too_far_ahead",
        ),
        ("epoch", flipped(&inner, 8 + 44), "handshake_invalid"),
        (
            "epoch of the base",
            flipped(&inner, 8 + 52),
            "base_not_held",
        ),
        ("spk_id", flipped(&inner, 8 + 56), "base_not_held"),
        (
            "F_A beside a card",
            flipped(&inner, 8 + 57),
            "handshake_invalid",
        ),
        ("F_B", flipped(&inner, 8 + 65), "handshake_invalid"),
        ("CT", flipped(&inner, 8 + 73), "handshake_invalid"),
        ("sealed", flipped(&inner, 8 + 1_165), "handshake_invalid"),
        (
            "tag of sealed",
            flipped(&inner, hello - 1),
            "handshake_invalid",
        ),
        ("hello", flipped(&inner, hello + 4), "handshake_invalid"),
        (
            "tag of hello",
            flipped(&inner, msg - 1),
            "handshake_invalid",
        ),
        ("frame of MSG", flipped(&inner, msg), "malformed"),
        ("N", flipped(&inner, msg + 2), "no_header_key"),
        ("EH", flipped(&inner, msg + 26), "no_header_key"),
        ("body", flipped(&inner, msg + 82), "body_invalid"),
        ("a byte behind", longer(&inner), "body_invalid"),
        ("no MSG", inner[..msg].to_vec(), "malformed"),
        ("cut in CT", inner[..500].to_vec(), "malformed"),
        ("cut in hello", inner[..msg - 1].to_vec(), "malformed"),
        ("empty", Vec::new(), "unknown_session"),
    ];
    let case = |(name, inner, reason): (&str, Vec<u8>, &str)| {
        json!({
            "name": name,
            "inner": text(inner),
            "why": reason
        })
    };
    Ok(cases.into_iter().map(case).collect())
}
