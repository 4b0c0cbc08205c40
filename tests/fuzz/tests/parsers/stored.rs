//! Records on a node's own disk, which may be damaged.

use crate::corpus::{array, bytes, file, one, texts};
use rand_chacha::{ChaCha20Rng, rand_core::SeedableRng as _};
use sealpost_e2ee::{
    Identity, Sessions,
    invite::{Invite, InviteKind},
    vault::{Column, DataKey, KeyFile, open_column},
};
use sealpost_fuzz::fuzz_inputs;
use sealpost_node_core::{
    connection::{Connection, RequestArgs},
    held_invite::HeldInvite,
};
use sealpost_proto::{MailboxId, MailboxRef, Origin, Timestamp, limits};

const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);

#[test]
fn sealed_columns() {
    let vectors = file("vault");
    let first = &vectors["columns"][0];
    let (key, pk) = (
        DataKey::from_bytes(array(first, "data_key")),
        one(first, "pk"),
    );
    let column = Column {
        table: first["table"].as_str().unwrap(),
        pk: &pk,
        column: first["column"].as_str().unwrap(),
        version: first["version"].as_u64().unwrap(),
    };
    assert_eq!(
        open_column(&key, &column, &one(first, "sealed")).unwrap()[..],
        one(first, "value")
    );
    fuzz_inputs(&bytes(&vectors, &["sealed"]), 20_000, |case| {
        assert!(
            case.is_seed || open_column(&key, &column, case.bytes).is_err(),
            "a damaged column opens"
        );
    });
}

#[test]
fn key_files_and_wrapped_keys() {
    let vectors = file("vault");
    let mut seeds = texts(&vectors, &["text", "key_file"]);
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
    fuzz_inputs(&bytes(&vectors, &["record"]), 10_000, |case| {
        assert!(
            case.is_seed || key_file.unwrap(case.bytes).is_err(),
            "a damaged data key unwraps"
        );
    });
}

#[test]
fn identities() {
    let identity = Identity::generate(&mut ChaCha20Rng::seed_from_u64(1));
    fuzz_inputs(&[identity.encode().to_vec()], 10_000, |case| {
        if let Ok(identity) = Identity::parse(case.bytes) {
            assert_eq!(identity.encode()[..], *case.bytes);
        }
    });
}

/// A damaged state may still parse; it must then encode to the same bytes.
#[test]
fn sessions() {
    let mut seeds = bytes(&file("ratchet"), &["sessions", "sessions_after"]);
    seeds.extend(bytes(
        &file("handshake"),
        &["b_sessions", "b_sessions_after"],
    ));
    seeds.retain(|seed| seed.len() < 16 * 1024);
    fuzz_inputs(&seeds, 10_000, |case| {
        if let Ok(sessions) = Sessions::parse(case.bytes) {
            assert_eq!(sessions.encode()[..], *case.bytes);
        }
    });
}

fn held_invite(rng: &mut ChaCha20Rng, identity: &Identity) -> (HeldInvite, Vec<u8>) {
    let relay = Origin::parse("https://relay.example").unwrap();
    let mailbox = MailboxRef {
        relay,
        id: MailboxId::from_bytes([1; 16]),
    };
    let kind = InviteKind::SingleUse {
        expires: NOW.plus(limits::INVITE_LIFETIME_DEFAULT),
    };
    let mut held = HeldInvite::new(Invite::generate(
        kind,
        mailbox,
        *identity.fingerprint(),
        rng,
    ));
    let card = identity.sign_card("Acme", NOW).unwrap();
    let sealed = held
        .generate_base(identity, &card, limits::INVITE_LIFETIME_DEFAULT, NOW, rng)
        .unwrap();
    (held, sealed.to_vec())
}

#[test]
fn held_invites() {
    let mut rng = ChaCha20Rng::seed_from_u64(2);
    let identity = Identity::generate(&mut rng);
    let (held, _) = held_invite(&mut rng, &identity);
    fuzz_inputs(&[held.encode().to_vec()], 5_000, |case| {
        if let Ok(held) = HeldInvite::parse(case.bytes) {
            assert!(HeldInvite::parse(&held.encode()).is_ok());
        }
    });
}

#[test]
fn connections() {
    let mut rng = ChaCha20Rng::seed_from_u64(3);
    let (acme, bolt) = (Identity::generate(&mut rng), Identity::generate(&mut rng));
    let (held, sealed_prekeys) = held_invite(&mut rng, &acme);
    let card = bolt.sign_card("Bolt", NOW).unwrap();
    let args = RequestArgs {
        identity: &bolt,
        card: &card,
        relay: &Origin::parse("https://relay.example").unwrap(),
        invite: &held.invite,
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
