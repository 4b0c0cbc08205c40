//! Records that nodes exchange and records stored at a relay.

use crate::corpus::{
    collect_bytes, collect_texts, load_vectors, parse_array, parse_bytes, parse_identity,
};
use sealpost_e2ee::{
    ExporterSecret, InviteSecret, PrekeyBundle, PrekeySecrets, Scope, SignedCard,
    envelope::{EnvelopeDirection, OuterKey, open_envelope},
    invite::Invite,
    payload,
    plaintext::Plaintext,
    prekeys::{SealedPrekeysKey, open_prekeys},
};
use sealpost_fuzz::fuzz_inputs;
use sealpost_proto::{InviteId, MailboxId, limits};

#[test]
fn damaged_cards_are_rejected() {
    fuzz_inputs(
        &collect_bytes(&load_vectors("card"), &["card"]),
        10_000,
        |case| {
            let card = SignedCard::parse_verified(case.bytes);
            assert!(case.is_seed || card.is_err(), "a damaged card is accepted");
        },
    );
}

#[test]
fn damaged_prekey_bundles_are_rejected() {
    let vectors = load_vectors("prekeys");
    let owner = parse_identity(&vectors["owner"]);
    let scope = Scope::invite(&InviteId::from_bytes([0x1d; 16]));
    fuzz_inputs(&collect_bytes(&vectors, &["base"]), 10_000, |case| {
        let bundle = PrekeyBundle::parse_verified(case.bytes, owner.public(), &scope);
        assert!(
            case.is_seed || bundle.is_err(),
            "a damaged bundle is accepted"
        );
    });
}

#[test]
fn prekey_secrets_reencode_to_the_same_bytes() {
    fuzz_inputs(
        &collect_bytes(&load_vectors("prekeys"), &["secrets"]),
        10_000,
        |case| {
            if let Ok(secrets) = PrekeySecrets::parse(case.bytes) {
                assert_eq!(secrets.encode()[..], *case.bytes);
            }
        },
    );
}

#[test]
fn damaged_sealed_prekeys_are_rejected() {
    let vectors = &load_vectors("prekeys")["relay"];
    let valid = &vectors["valid"][0];
    let key = SealedPrekeysKey::for_invite(&InviteSecret::from_bytes(parse_array(
        valid,
        "invite_secret",
    )));
    let mailbox = MailboxId::from_bytes(parse_array(valid, "mailbox"));
    fuzz_inputs(&collect_bytes(vectors, &["sealed"]), 10_000, |case| {
        let opened = open_prekeys(&key, &mailbox, case.bytes);
        assert!(case.is_seed || opened.is_err(), "damaged prekeys open");
    });
}

#[test]
fn damaged_envelopes_are_rejected() {
    let vectors = load_vectors("envelope");
    let valid = vectors["valid"].as_array().unwrap();
    let small: Vec<_> = collect_bytes(&vectors, &["envelope"])
        .into_iter()
        .filter(|seed| seed.len() <= 8 * 1024)
        .collect();
    let exp = valid
        .iter()
        .find(|vector| vector["key"].get("exp_pairing").is_some())
        .unwrap();
    let mailbox = MailboxId::from_bytes(parse_array(exp, "mailbox"));
    let keys = [
        OuterKey::for_mailbox(
            &ExporterSecret::from_bytes(parse_array(&exp["key"], "exp_pairing")),
            EnvelopeDirection::InviteeToInviter,
        ),
        OuterKey::for_mailbox(
            &ExporterSecret::from_bytes(parse_array(&exp["key"], "exp_pairing")),
            EnvelopeDirection::InviterToInvitee,
        ),
        OuterKey::for_invite(&InviteSecret::from_bytes([0x5e; 32])),
    ];
    let mut opened = 0;
    fuzz_inputs(&small, 10_000, |case| {
        let opens = keys
            .iter()
            .any(|key| open_envelope(key, &mailbox, case.bytes).is_ok());
        assert!(case.is_seed || !opens, "a damaged envelope opens");
        opened += u32::from(opens);
    });
    assert!(opened > 0, "no seed opens");
}

#[test]
fn plaintexts_reencode_to_the_same_bytes() {
    let seeds = collect_bytes(&load_vectors("plaintext"), &["record"]);
    fuzz_inputs(&seeds, 20_000, |case| {
        if let Ok(plaintext) = Plaintext::parse(case.bytes) {
            assert!(plaintext.body.len() <= limits::PLAINTEXT_BODY_BYTES_MAX);
            assert_eq!(plaintext.encode().unwrap()[..], *case.bytes);
        }
    });
}

/// A payload has several valid encodings (unknown entries, longer numbers), so the encoding of a
/// parsed payload must parse and encode to the same bytes.
fn check_round_trip<T, E: std::fmt::Debug>(
    parse: impl Fn(&[u8]) -> Result<T, E>,
    encode: impl Fn(&T) -> Vec<u8>,
) {
    let mut accepted = 0;
    fuzz_inputs(
        &collect_bytes(&load_vectors("plaintext"), &["body"]),
        10_000,
        |case| {
            if let Ok(payload) = parse(case.bytes) {
                let written = encode(&payload);
                assert_eq!(encode(&parse(&written).unwrap()), written);
                assert!(
                    parse(&[case.bytes, &[0]].concat()).is_err(),
                    "trailing bytes are accepted"
                );
                accepted += 1;
            }
        },
    );
    assert!(accepted > 10, "too few inputs are accepted: {accepted}");
}

macro_rules! payload_tests {
    ($($test:ident: $payload:ident),* $(,)?) => {
        $(
            #[test]
            fn $test() {
                check_round_trip(payload::$payload::parse, payload::$payload::encode);
            }
        )*
    };
}
payload_tests! {
    messages_round_trip: Message,
    edits_round_trip: Edit,
    retracts_round_trip: Retract,
    reactions_round_trip: Reaction,
    receipts_round_trip: Receipt,
    probes_round_trip: Probe,
    chats_round_trip: Chat,
    profiles_round_trip: Profile,
    connection_requests_round_trip: ConnectionRequest,
    connection_accepts_round_trip: ConnectionAccept,
    connection_rejects_round_trip: ConnectionReject,
    connection_moves_round_trip: ConnectionMoved,
    resends_round_trip: Resend,
}

#[test]
fn message_contents_are_bounded() {
    fuzz_inputs(
        &collect_bytes(&load_vectors("plaintext"), &["body"]),
        10_000,
        |case| {
            if let Ok(message) = payload::Message::parse(case.bytes) {
                assert!(message.content.len() <= limits::MESSAGE_TEXT_BYTES_MAX);
                assert!(message.attachments.len() <= limits::FILES_PER_MESSAGE_MAX);
                assert!(message.links.len() <= limits::LINKS_PER_MESSAGE_MAX);
            }
        },
    );
}

#[test]
fn resume_ranges_accept_any_number() {
    let rotation = &load_vectors("handshake")["rotation"];
    let mut seeds = vec![parse_bytes(&rotation["hello"], "resume")];
    seeds.extend(collect_bytes(&load_vectors("plaintext"), &["body"]));
    fuzz_inputs(&seeds, 10_000, |case| {
        if let Ok(resume) = payload::Resume::parse(case.bytes) {
            for seq in [
                0,
                1,
                resume.upto,
                resume.upto.wrapping_add(1),
                resume.upto.wrapping_add(1_025),
                u64::MAX,
            ] {
                let _ = resume.contains(seq);
            }
        }
    });
}

#[test]
fn invites_reencode_to_the_same_link() {
    fuzz_inputs(
        &collect_texts(&load_vectors("invite"), &["text", "link", "uri"]),
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
