//! What nodes show each other and what lies at a relay.

use crate::corpus::{array, bytes, file, identity, one, texts};
use sealpost_e2ee::{
    ExpPairing, InviteSecret, PrekeyBase, PrekeySecrets, Scope, SignedCard,
    envelope::{Dir, OuterKey, open_envelope},
    invite::Invite,
    payload,
    plaintext::Plaintext,
    prekeys::{RelayKey, open_from_relay},
};
use sealpost_fuzz::bombard;
use sealpost_proto::{InviteId, MailboxId, limits};

#[test]
fn cards() {
    bombard(&bytes(&file("card"), &["card"]), 10_000, |case| {
        let card = SignedCard::parse_verified(case.bytes);
        assert!(case.is_seed || card.is_err(), "a damaged card is taken");
    });
}

#[test]
fn prekey_bases() {
    let vectors = file("prekeys");
    let owner = identity(&vectors["owner"]);
    let scope = Scope::invite(&InviteId::from_bytes([0x1d; 16]));
    bombard(&bytes(&vectors, &["base"]), 10_000, |case| {
        let base = PrekeyBase::parse_verified(case.bytes, owner.public(), &scope);
        assert!(case.is_seed || base.is_err(), "a damaged base is taken");
    });
}

#[test]
fn prekey_secrets() {
    bombard(&bytes(&file("prekeys"), &["secrets"]), 10_000, |case| {
        if let Ok(secrets) = PrekeySecrets::parse(case.bytes) {
            assert_eq!(secrets.encode()[..], *case.bytes);
        }
    });
}

#[test]
fn prekeys_at_a_relay() {
    let vectors = &file("prekeys")["relay"];
    let valid = &vectors["valid"][0];
    let key = RelayKey::for_invite(&InviteSecret::from_bytes(array(valid, "invite_secret")));
    let mailbox = MailboxId::from_bytes(array(valid, "mailbox"));
    bombard(&bytes(vectors, &["sealed"]), 10_000, |case| {
        let opened = open_from_relay(&key, &mailbox, case.bytes);
        assert!(case.is_seed || opened.is_err(), "damaged prekeys open");
    });
}

#[test]
fn envelopes() {
    let vectors = file("envelope");
    let valid = vectors["valid"].as_array().unwrap();
    let small: Vec<_> = bytes(&vectors, &["envelope"])
        .into_iter()
        .filter(|seed| seed.len() <= 8 * 1024)
        .collect();
    let exp = valid
        .iter()
        .find(|vector| vector["key"].get("exp_pairing").is_some())
        .unwrap();
    let mailbox = MailboxId::from_bytes(array(exp, "mailbox"));
    let keys = [
        OuterKey::for_mailbox(
            &ExpPairing::from_bytes(array(&exp["key"], "exp_pairing")),
            Dir::AcceptorToInviter,
        ),
        OuterKey::for_mailbox(
            &ExpPairing::from_bytes(array(&exp["key"], "exp_pairing")),
            Dir::InviterToAcceptor,
        ),
        OuterKey::rendezvous(&InviteSecret::from_bytes([0x5e; 32])),
    ];
    let mut opened = 0;
    bombard(&small, 10_000, |case| {
        let opens = keys
            .iter()
            .any(|key| open_envelope(key, &mailbox, case.bytes).is_ok());
        assert!(case.is_seed || !opens, "a damaged envelope opens");
        opened += u32::from(opens);
    });
    assert!(opened > 0, "no seed opens");
}

#[test]
fn plaintexts() {
    let seeds = bytes(&file("plaintext"), &["record"]);
    bombard(&seeds, 20_000, |case| {
        if let Ok(plaintext) = Plaintext::parse(case.bytes) {
            assert!(plaintext.body.len() <= limits::PLAINTEXT_BODY_BYTES_MAX);
            assert_eq!(plaintext.encode().unwrap()[..], *case.bytes);
        }
    });
}

/// A payload may be written in several ways (unknown entries, longer numbers); what was read is read again from its own
/// encoding and is then written the same.
fn payloads<T, E: std::fmt::Debug>(
    parse: impl Fn(&[u8]) -> Result<T, E>,
    encode: impl Fn(&T) -> Vec<u8>,
) {
    let mut taken = 0;
    bombard(&bytes(&file("plaintext"), &["body"]), 10_000, |case| {
        if let Ok(payload) = parse(case.bytes) {
            let written = encode(&payload);
            assert_eq!(encode(&parse(&written).unwrap()), written);
            assert!(
                parse(&[case.bytes, &[0]].concat()).is_err(),
                "something stands behind it"
            );
            taken += 1;
        }
    });
    assert!(taken > 10, "hardly anything is taken: {taken}");
}

macro_rules! payload_tests {
    ($($test:ident: $payload:ident),* $(,)?) => {
        $(
            #[test]
            fn $test() {
                payloads(payload::$payload::parse, payload::$payload::encode);
            }
        )*
    };
}
payload_tests! {
    messages: Message,
    edits: Edit,
    retracts: Retract,
    reactions: Reaction,
    receipts: Receipt,
    probes: Probe,
    chats: Chat,
    profiles: Profile,
    connection_requests: ConnectionRequest,
    connection_accepts: ConnectionAccept,
    connection_rejects: ConnectionReject,
    connection_moves: ConnectionMoved,
    resends: Resend,
}

#[test]
fn what_a_message_may_hold_is_bounded() {
    bombard(&bytes(&file("plaintext"), &["body"]), 10_000, |case| {
        if let Ok(message) = payload::Message::parse(case.bytes) {
            assert!(message.content.len() <= limits::MESSAGE_TEXT_BYTES_MAX);
            assert!(message.attachments.len() <= limits::FILES_PER_MESSAGE_MAX);
            assert!(message.links.len() <= limits::LINKS_PER_MESSAGE_MAX);
        }
    });
}

#[test]
fn resumes() {
    let rotation = &file("handshake")["rotation"];
    let mut seeds = vec![one(&rotation["hello"], "resume")];
    seeds.extend(bytes(&file("plaintext"), &["body"]));
    bombard(&seeds, 10_000, |case| {
        if let Ok(resume) = payload::Resume::parse(case.bytes) {
            for seq in [
                0,
                1,
                resume.upto,
                resume.upto.wrapping_add(1),
                resume.upto.wrapping_add(1_025),
                u64::MAX,
            ] {
                let _ = resume.holds(seq);
            }
        }
    });
}

#[test]
fn invites() {
    bombard(
        &texts(&file("invite"), &["text", "link", "uri"]),
        20_000,
        |case| {
            let text = String::from_utf8_lossy(case.bytes);
            if let Ok(invite) = Invite::parse(&text) {
                let again = Invite::parse(&invite.encode_uri()).unwrap();
                assert_eq!(again.encode_link(), invite.encode_link());
            }
        },
    );
}
