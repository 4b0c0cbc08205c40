//! The contents of envelopes: INITs and messages, damaged or forged.

use crate::corpus::{collect_bytes, load_vectors, parse_array, parse_bytes, parse_identity};
use sealpost_e2ee::{
    ConnId, Identity, PrekeySecrets, Sessions,
    sessions::{OpenContext, OpenOutcome, open_pairing, prefix_hash},
};
use sealpost_fuzz::fuzz_inputs;
use sealpost_proto::{InviteId, Timestamp};

fn now(name: &str) -> Timestamp {
    Timestamp::from_millis(load_vectors(name)["now"].as_u64().unwrap())
}

#[test]
fn damaged_connection_requests_are_rejected() {
    let vectors = load_vectors("handshake");
    let pairing = &vectors["pairing"];
    let (own, invite) = (
        parse_identity(&pairing["b"]),
        InviteId::from_bytes(parse_array(pairing, "invite_id")),
    );
    let bundles = [PrekeySecrets::parse(&parse_bytes(pairing, "prekey_secrets")).unwrap()];
    assert!(
        open_pairing(
            &own,
            &invite,
            &bundles,
            &parse_bytes(pairing, "inner"),
            now("handshake")
        )
        .is_ok()
    );
    fuzz_inputs(&collect_bytes(&vectors, &["inner"]), 1_500, |case| {
        let opened = open_pairing(&own, &invite, &bundles, case.bytes, now("handshake"));
        assert!(case.is_seed || opened.is_err(), "a damaged request opens");
        let _ = prefix_hash(case.bytes);
    });
}

#[test]
fn damaged_session_inits_are_rejected() {
    let vectors = load_vectors("handshake");
    let rotation = &vectors["rotation"];
    let (peer, own) = (
        parse_identity(&rotation["a"]),
        parse_identity(&rotation["b"]),
    );
    let bundles = [PrekeySecrets::parse(&parse_bytes(rotation, "prekey_secrets")).unwrap()];
    let sessions = Sessions::parse(&parse_bytes(rotation, "b_sessions")).unwrap();
    let context = OpenContext {
        identity: &own,
        peer: peer.public(),
        conn_id: ConnId::from_bytes(parse_array(rotation, "conn_id")),
        bundles: &bundles,
        now: now("handshake"),
    };
    assert!(matches!(
        sessions.open(&context, &parse_bytes(rotation, "inner")),
        OpenOutcome::Opened(_)
    ));
    fuzz_inputs(&collect_bytes(&vectors, &["inner"]), 10_000, |case| {
        let outcome = sessions.open(&context, case.bytes);
        assert!(
            case.is_seed || matches!(outcome, OpenOutcome::Rejected(_)),
            "a damaged INIT opens"
        );
    });
}

#[test]
fn damaged_messages_are_rejected() {
    let vectors = load_vectors("ratchet");
    let (own, peer) = (
        Identity::from_seeds(&[1; 32], &[2; 32]),
        Identity::from_seeds(&[3; 32], &[4; 32]),
    );
    for scenario in vectors["stories"].as_array().unwrap() {
        let sessions = Sessions::parse(&parse_bytes(scenario, "sessions")).unwrap();
        let context = OpenContext {
            identity: &own,
            peer: peer.public(),
            conn_id: ConnId::from_bytes([0; 32]),
            bundles: &[],
            now: now("ratchet"),
        };
        let mut opened = 0;
        fuzz_inputs(&collect_bytes(scenario, &["inner"]), 2_000, |case| {
            let opens = matches!(sessions.open(&context, case.bytes), OpenOutcome::Opened(_));
            assert!(case.is_seed || !opens, "a damaged message opens");
            opened += u32::from(opens);
        });
        assert!(opened > 0, "no seed opens: {}", scenario["name"]);
    }
}
