use crate::{INVITE, NOW, Outcome, Party, conn_id, flipped, longer, rng, shorter, text};
use ed25519_dalek::{Signer as _, SigningKey};
use sealpost_e2ee::envelope::EnvelopeDirection;
use sealpost_e2ee::keys::{ExporterSecret, InviteSecret};
use sealpost_e2ee::prekeys::{
    PrekeyBundle, PrekeySecrets, Scope, SealedPrekeysKey, open_prekeys, seal_prekeys,
};
use sealpost_proto::limits::{PREKEYS_EARLY_MAX, PREKEYS_LIFETIME};
use sealpost_proto::{MailboxId, Timestamp};
use serde_json::{Value, json};
use std::time::Duration;

const MAILBOX: MailboxId = MailboxId::from_bytes([0x3b; 16]);
const MILLISECOND: Duration = Duration::from_millis(1);

pub(crate) fn vectors() -> Outcome<Value> {
    let (owner, peer) = (Party::inviter(), Party::invitee());
    let invite = owner.bundle(Scope::invite(&INVITE), 1)?;
    let connection = owner.bundle(Scope::connection(&conn_id(&owner, &peer)), 2)?;
    Ok(json!({
        "about": "docs/e2ee.md, Prekeys and Prekeys at the relay. The secrets are as their owner \
                  stores them. Bytes are base64url without padding.",
        "owner": owner.seeds(),
        "valid": [
            bundle(&invite, &json!({ "invite_id": text(INVITE.as_bytes()) })),
            bundle(&connection, &json!({ "conn_id": text(conn_id(&owner, &peer).as_bytes()) })),
        ],
        "invalid": invalid(&owner, invite.1.as_bytes()),
        "freshness": freshness(&invite.1),
        "relay": relay(&owner, invite.1.as_bytes(), connection.1.as_bytes())?,
    }))
}

fn bundle((secrets, bundle): &(PrekeySecrets, PrekeyBundle), scope_of: &Value) -> Value {
    json!({
        "scope_of": scope_of,
        "incarnation": text(bundle.incarnation().as_bytes()),
        "epoch": bundle.bundle_id().epoch,
        "spk_id": bundle.bundle_id().spk_id,
        "not_before": NOW.as_millis(),
        "not_after": bundle.not_after().as_millis(),
        "base": text(bundle.as_bytes()),
        "secrets": text(secrets.encode().as_slice()),
    })
}

/// Cases for a reader that expects the owner's bundle for the invite.
fn invalid(owner: &Party, good: &[u8]) -> Vec<Value> {
    let record = &good[..good.len() - 64];
    let signed = |record: &[u8]| {
        let signature = SigningKey::from_bytes(&owner.ed_seed)
            .sign(&[b"Sealpost-1 prekeys", &[0][..], record].concat());
        [record, &signature.to_bytes()].concat()
    };
    let mut modulus = record.to_vec();
    modulus[101] = 0xff;
    modulus[102] = 0xff;
    let cases = [
        ("empty", Vec::new()),
        ("a byte short", shorter(good)),
        ("a byte long", longer(good)),
        ("version 2", signed(&[&[2], &record[1..]].concat())),
        ("a record that is a byte long", signed(&longer(record))),
        ("another scope", signed(&flipped(record, 1))),
        ("a coefficient over the modulus", signed(&modulus)),
        ("scope changed", flipped(good, 1)),
        ("incarnation changed", flipped(good, 33)),
        ("epoch changed", flipped(good, 48)),
        ("not_after changed", flipped(good, 64)),
        ("spk_id changed", flipped(good, 68)),
        ("SPK changed", flipped(good, 69)),
        ("PQSPK changed", flipped(good, 1_284)),
        ("signature changed", flipped(good, 1_300)),
    ];
    cases
        .into_iter()
        .map(|(name, bundle)| json!({ "name": name, "base": text(bundle) }))
        .collect()
}

fn freshness(bundle: &PrekeyBundle) -> Vec<Value> {
    let (epoch, not_after) = (bundle.bundle_id().epoch, NOW.plus(PREKEYS_LIFETIME));
    let early = NOW.minus(PREKEYS_EARLY_MAX);
    let cases: [(Timestamp, u64, &str); 6] = [
        (NOW, epoch, "fresh"),
        (not_after, 0, "fresh"),
        (not_after.plus(MILLISECOND), 0, "expired"),
        (early, 0, "fresh"),
        (early.minus(MILLISECOND), 0, "early"),
        (NOW, epoch + 1, "replayed"),
    ];
    let case = |(now, last_epoch, outcome): (Timestamp, u64, &str)| {
        json!({
            "base": 0,
            "now": now.as_millis(),
            "last_epoch": last_epoch,
            "outcome": outcome
        })
    };
    cases.into_iter().map(case).collect()
}

fn relay(owner: &Party, invite: &[u8], connection: &[u8]) -> Outcome<Value> {
    let card = owner.identity.sign_card("Bolt", NOW)?;
    let (secret, exp) = ([0x5e; 32], [0xe7; 32]);
    let for_invite = SealedPrekeysKey::for_invite(&InviteSecret::from_bytes(secret));
    let for_mailbox = SealedPrekeysKey::for_mailbox(
        &ExporterSecret::from_bytes(exp),
        EnvelopeDirection::InviterToInvitee,
    );
    let sealed_invite = seal_prekeys(&for_invite, &MAILBOX, Some(&card), invite, &mut rng(3))?;
    let sealed_connection = seal_prekeys(&for_mailbox, &MAILBOX, None, connection, &mut rng(4))?;
    open_prekeys(&for_invite, &MAILBOX, &sealed_invite)?;
    Ok(json!({
        "valid": [
            { "invite_secret": text(secret), "mailbox": text(MAILBOX.as_bytes()),
              "sealed": text(sealed_invite),
              "card": text(card.as_bytes()), "base": text(invite) },
            { "exp_pairing": text(exp), "dir": 1, "mailbox": text(MAILBOX.as_bytes()),
              "sealed": text(sealed_connection),
              "base": text(connection) },
        ],
        "invalid": invalid_at_relay(&sealed_invite, &sealed_connection, &secret, &exp),
    }))
}

fn invalid_at_relay(
    invite: &[u8],
    connection: &[u8],
    secret: &[u8; 32],
    exp: &[u8; 32],
) -> Vec<Value> {
    let of_invite = |name: &str, mailbox: u8, sealed: &[u8]| {
        json!({
            "name": name,
            "invite_secret": text(secret),
            "mailbox": text([mailbox; 16]),
            "sealed": text(sealed)
        })
    };
    let of_mailbox = |name: &str, dir: u8, sealed: &[u8]| {
        json!({
            "name": name,
            "exp_pairing": text(exp),
            "dir": dir,
            "mailbox": text([0x3b; 16]),
            "sealed": text(sealed)
        })
    };
    vec![
        of_invite("empty", 0x3b, &[]),
        of_invite("another mailbox", 0x3c, invite),
        of_invite("a byte short", 0x3b, &shorter(invite)),
        of_invite("a byte long", 0x3b, &longer(invite)),
        of_invite("nonce changed", 0x3b, &flipped(invite, 0)),
        of_invite("tag changed", 0x3b, &flipped(invite, 2_047)),
        of_invite("sealed for a connection", 0x3b, connection),
        of_mailbox("the other way", 0, connection),
        of_mailbox("sealed for an invite", 1, invite),
        of_mailbox("ciphertext changed", 1, &flipped(connection, 500)),
    ]
}
