//! Records on a node's own disk, which may be damaged.

use crate::corpus::{collect_bytes, collect_texts, load_vectors, parse_array, parse_bytes};
use rand_chacha::{ChaCha20Rng, rand_core::SeedableRng as _};
use sealpost_e2ee::{
    Identity, Sessions,
    invite::{Invite, InviteKind},
    vault::{Column, DataKey, KeyFile, open_column},
};
use sealpost_fuzz::fuzz_inputs;
use sealpost_node_core::{
    connection::{Connection, RequestArgs},
    issued_invite::IssuedInvite,
};
use sealpost_proto::{MailboxId, MailboxRef, Origin, Timestamp, limits};

const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);

#[test]
fn damaged_columns_are_rejected() {
    let vectors = load_vectors("vault");
    let first = &vectors["columns"][0];
    let (key, pk) = (
        DataKey::from_bytes(parse_array(first, "data_key")),
        parse_bytes(first, "pk"),
    );
    let column = Column {
        table: first["table"].as_str().unwrap(),
        pk: &pk,
        column: first["column"].as_str().unwrap(),
        version: first["version"].as_u64().unwrap(),
    };
    assert_eq!(
        open_column(&key, &column, &parse_bytes(first, "sealed")).unwrap()[..],
        parse_bytes(first, "value")
    );
    fuzz_inputs(&collect_bytes(&vectors, &["sealed"]), 20_000, |case| {
        assert!(
            case.is_seed || open_column(&key, &column, case.bytes).is_err(),
            "a damaged column opens"
        );
    });
}

#[test]
fn damaged_wrapped_keys_are_rejected() {
    let vectors = load_vectors("vault");
    let mut seeds = collect_texts(&vectors, &["text", "key_file"]);
    seeds.extend(
        vectors["key_files"]
            .as_array()
            .unwrap()
            .iter()
            .filter_map(|v| v.as_str())
            .map(|t| t.as_bytes().to_vec()),
    );
    fuzz_inputs(&seeds, 10_000, |case| {
        if let Ok(key_file) = KeyFile::parse(&String::from_utf8_lossy(case.bytes)) {
            assert!(KeyFile::parse(&key_file.encode()).is_ok());
        }
    });
    let key_file = KeyFile::parse(vectors["wrapped"][0]["key_file"].as_str().unwrap()).unwrap();
    fuzz_inputs(&collect_bytes(&vectors, &["record"]), 10_000, |case| {
        assert!(
            case.is_seed || key_file.unwrap(case.bytes).is_err(),
            "a damaged data key unwraps"
        );
    });
}

#[test]
fn identities_reencode_to_the_same_bytes() {
    let identity = Identity::generate(&mut ChaCha20Rng::seed_from_u64(1));
    fuzz_inputs(&[identity.encode().to_vec()], 10_000, |case| {
        if let Ok(identity) = Identity::parse(case.bytes) {
            assert_eq!(identity.encode()[..], *case.bytes);
        }
    });
}

/// A damaged state may still parse; it must then encode to the same bytes.
#[test]
fn sessions_reencode_to_the_same_bytes() {
    let mut seeds = collect_bytes(&load_vectors("ratchet"), &["sessions", "sessions_after"]);
    seeds.extend(collect_bytes(
        &load_vectors("handshake"),
        &["b_sessions", "b_sessions_after"],
    ));
    seeds.retain(|seed| seed.len() < 16 * 1024);
    fuzz_inputs(&seeds, 10_000, |case| {
        if let Ok(sessions) = Sessions::parse(case.bytes) {
            assert_eq!(sessions.encode()[..], *case.bytes);
        }
    });
}

fn issued_invite(rng: &mut ChaCha20Rng, identity: &Identity) -> (IssuedInvite, Vec<u8>) {
    let relay = Origin::parse("https://relay.example").unwrap();
    let mailbox = MailboxRef {
        relay,
        id: MailboxId::from_bytes([1; 16]),
    };
    let kind = InviteKind::SingleUse {
        expires: NOW.plus(limits::INVITE_LIFETIME_DEFAULT),
    };
    let mut issued = IssuedInvite::new(Invite::generate(
        kind,
        mailbox,
        *identity.fingerprint(),
        rng,
    ));
    let card = identity.sign_card("Acme", NOW).unwrap();
    let sealed = issued
        .generate_bundle(identity, &card, limits::INVITE_LIFETIME_DEFAULT, NOW, rng)
        .unwrap();
    (issued, sealed.to_vec())
}

#[test]
fn issued_invites_reencode_to_valid_records() {
    let mut rng = ChaCha20Rng::seed_from_u64(2);
    let identity = Identity::generate(&mut rng);
    let (issued, _) = issued_invite(&mut rng, &identity);
    fuzz_inputs(&[issued.encode().to_vec()], 5_000, |case| {
        if let Ok(issued) = IssuedInvite::parse(case.bytes) {
            assert!(IssuedInvite::parse(&issued.encode()).is_ok());
        }
    });
}

#[test]
fn connections_reencode_to_valid_records() {
    let mut rng = ChaCha20Rng::seed_from_u64(3);
    let (acme, bolt) = (Identity::generate(&mut rng), Identity::generate(&mut rng));
    let (issued, sealed_prekeys) = issued_invite(&mut rng, &acme);
    let card = bolt.sign_card("Bolt", NOW).unwrap();
    let args = RequestArgs {
        identity: &bolt,
        card: &card,
        relay: &Origin::parse("https://relay.example").unwrap(),
        invite: &issued.invite,
        sealed_prekeys: &sealed_prekeys,
        note: Some("hello".to_owned()),
        now: NOW,
    };
    let requested = Connection::request(&args, &mut rng).unwrap();
    fuzz_inputs(&[requested.connection.encode().to_vec()], 4_000, |case| {
        if let Ok(connection) = Connection::parse(case.bytes) {
            assert!(Connection::parse(&connection.encode()).is_ok());
        }
    });
}
