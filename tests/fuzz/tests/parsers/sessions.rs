//! The contents of envelopes: INITs and messages, damaged or forged.

use crate::corpus::{array, bytes, file, identity, one};
use sealpost_e2ee::{
    ConnId, Identity, PrekeySecrets, Sessions,
    sessions::{OpenContext, OpenOutcome, open_pairing, prefix_hash},
};
use sealpost_fuzz::fuzz_inputs;
use sealpost_proto::{InviteId, Timestamp};

fn now(name: &str) -> Timestamp {
    Timestamp::from_millis(file(name)["now"].as_u64().unwrap())
}

#[test]
fn requests_at_an_invite() {
    let vectors = file("handshake");
    let pairing = &vectors["pairing"];
    let (me, invite) = (
        identity(&pairing["b"]),
        InviteId::from_bytes(array(pairing, "invite_id")),
    );
    let bases = [PrekeySecrets::parse(&one(pairing, "prekey_secrets")).unwrap()];
    assert!(
        open_pairing(
            &me,
            &invite,
            &bases,
            &one(pairing, "inner"),
            now("handshake")
        )
        .is_ok()
    );
    fuzz_inputs(&bytes(&vectors, &["inner"]), 1_500, |case| {
        let opened = open_pairing(&me, &invite, &bases, case.bytes, now("handshake"));
        assert!(case.is_seed || opened.is_err(), "a damaged request opens");
        let _ = prefix_hash(case.bytes);
    });
}

#[test]
fn new_sessions() {
    let vectors = file("handshake");
    let rotation = &vectors["rotation"];
    let (peer, me) = (identity(&rotation["a"]), identity(&rotation["b"]));
    let bases = [PrekeySecrets::parse(&one(rotation, "prekey_secrets")).unwrap()];
    let sessions = Sessions::parse(&one(rotation, "b_sessions")).unwrap();
    let context = OpenContext {
        identity: &me,
        peer: peer.public(),
        conn_id: ConnId::from_bytes(array(rotation, "conn_id")),
        bases: &bases,
        now: now("handshake"),
    };
    assert!(matches!(
        sessions.open(&context, &one(rotation, "inner")),
        OpenOutcome::Opened(_)
    ));
    fuzz_inputs(&bytes(&vectors, &["inner"]), 10_000, |case| {
        let verdict = sessions.open(&context, case.bytes);
        assert!(
            case.is_seed || matches!(verdict, OpenOutcome::Rejected(_)),
            "a damaged INIT opens"
        );
    });
}

#[test]
fn messages() {
    let vectors = file("ratchet");
    let (me, peer) = (
        Identity::from_seeds(&[1; 32], &[2; 32]),
        Identity::from_seeds(&[3; 32], &[4; 32]),
    );
    for scenario in vectors["stories"].as_array().unwrap() {
        let sessions = Sessions::parse(&one(scenario, "sessions")).unwrap();
        let context = OpenContext {
            identity: &me,
            peer: peer.public(),
            conn_id: ConnId::from_bytes([0; 32]),
            bases: &[],
            now: now("ratchet"),
        };
        let mut opened = 0;
        fuzz_inputs(&bytes(scenario, &["inner"]), 2_000, |case| {
            let opens = matches!(sessions.open(&context, case.bytes), OpenOutcome::Opened(_));
            assert!(case.is_seed || !opens, "a damaged message opens");
            opened += u32::from(opens);
        });
        assert!(opened > 0, "no seed opens: {}", scenario["name"]);
    }
}
