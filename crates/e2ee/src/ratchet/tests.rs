//! The ratchet without sessions: key derivation, limits and messages that violate the protocol.

use super::message::{self, Header, Message};
use super::{OpenError, Ratchet, SealError, derive_chain_keys};
use crate::handshake::{AD_BYTES, SessionKeys};
use crate::keys::SessionId;
use crate::primitive::Key;
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::SeedableRng as _;
use sealpost_proto::limits::OLD_HEADER_KEYS_MAX;
use x25519_dalek::{PublicKey, StaticSecret};

const AD: [u8; AD_BYTES] = [5; AD_BYTES];

fn pair() -> (Ratchet, Ratchet, ChaCha20Rng) {
    let mut rng = ChaCha20Rng::seed_from_u64(3);
    let keys = SessionKeys::for_tests([[1; 32], [2; 32], [3; 32], [4; 32]], SessionId([0; 16]));
    let spk = StaticSecret::from([8; 32]);
    let a = Ratchet::initiator(&keys, PublicKey::from(&spk).as_bytes(), &mut rng).unwrap();
    (a, Ratchet::responder(&keys, &spk), rng)
}

fn deliver(from: &mut Ratchet, to: &mut Ratchet, rng: &mut ChaCha20Rng) {
    let msg = from.seal(&AD, b"x", rng).unwrap();
    *to = to.open(&AD, &msg).ok().unwrap().0;
}

#[test]
fn responder_cannot_seal_before_opening() {
    let (mut a, mut b, mut rng) = pair();
    assert_eq!(b.seal(&AD, b"x", &mut rng), Err(SealError::NothingReceived));
    deliver(&mut a, &mut b, &mut rng);
    deliver(&mut b, &mut a, &mut rng);
}

#[test]
fn headers_with_another_ratchet_key_are_refused() {
    let (mut a, mut b, mut rng) = pair();
    deliver(&mut a, &mut b, &mut rng);
    deliver(&mut b, &mut a, &mut rng);
    deliver(&mut a, &mut b, &mut rng);
    let growing = b.receiver.chains.last().unwrap().header.clone();
    let old = b.receiver.chains[0].header.clone();
    for header_key in [growing, old] {
        let header = Header {
            dh: [9; 32],
            previous_len: 0,
            n: 1,
        };
        let msg = message::seal(&header_key, &Key([0; 32]), &header, &AD, b"x", &mut rng);
        assert_eq!(b.open(&AD, &msg).err(), Some(OpenError::HeaderRefused));
    }
}

/// Opens a message whose header starts a new receiving chain with the ratchet key `dh`.
fn open_dh_step(to: &Ratchet, dh: [u8; 32], rng: &mut ChaCha20Rng) -> Option<OpenError> {
    let header = Header {
        dh,
        previous_len: 1,
        n: 0,
    };
    let msg = message::seal(&to.next_receiving, &Key([0; 32]), &header, &AD, b"x", rng);
    to.open(&AD, &msg).err()
}

#[test]
fn invalid_dh_steps_are_refused() {
    let (mut a, mut b, mut rng) = pair();
    deliver(&mut a, &mut b, &mut rng);
    assert_eq!(
        open_dh_step(&b, [9; 32], &mut rng),
        Some(OpenError::HeaderRefused),
        "nothing was sealed since the last DH step"
    );
    deliver(&mut b, &mut a, &mut rng);
    let known = b.remote.unwrap();
    for (dh, problem) in [(known, "not new"), ([0; 32], "of low order")] {
        assert_eq!(
            open_dh_step(&b, dh, &mut rng),
            Some(OpenError::HeaderRefused),
            "{problem}"
        );
    }
}

#[test]
fn forged_dh_step_opens_no_body() {
    let (mut a, mut b, mut rng) = pair();
    deliver(&mut a, &mut b, &mut rng);
    deliver(&mut b, &mut a, &mut rng);
    assert_eq!(
        open_dh_step(&b, [9; 32], &mut rng),
        Some(OpenError::BodyInvalid)
    );
}

#[test]
fn oldest_header_key_is_dropped_at_the_limit() {
    let (mut a, mut b, mut rng) = pair();
    let first = a.seal(&AD, b"first", &mut rng).unwrap();
    b = b.open(&AD, &first).ok().unwrap().0;
    // One chain is still growing, and the limit counts those that are used up.
    for _ in 0..OLD_HEADER_KEYS_MAX + 2 {
        deliver(&mut b, &mut a, &mut rng);
        deliver(&mut a, &mut b, &mut rng);
    }
    assert_eq!(b.receiver.chains.len(), OLD_HEADER_KEYS_MAX + 1);
    assert_eq!(b.open(&AD, &first).err(), Some(OpenError::NoHeaderKey));
}

#[test]
fn message_number_u32_max_is_never_sealed() {
    let (mut a, mut b, mut rng) = pair();
    deliver(&mut a, &mut b, &mut rng);
    a.sending.as_mut().unwrap().next = u32::MAX;
    assert_eq!(a.seal(&AD, b"x", &mut rng), Err(SealError::ChainExhausted));
}

#[test]
fn message_number_u32_max_is_refused() {
    let (mut a, mut b, mut rng) = pair();
    deliver(&mut a, &mut b, &mut rng);
    let chain = b.receiver.chains.last_mut().unwrap();
    chain.head.as_mut().unwrap().next = u32::MAX;
    let header = Header {
        dh: chain.dh,
        previous_len: 0,
        n: u32::MAX,
    };
    let msg = message::seal(&chain.header, &Key([0; 32]), &header, &AD, b"x", &mut rng);
    assert_eq!(b.open(&AD, &msg).err(), Some(OpenError::HeaderRefused));
}

#[test]
fn unknown_frames_are_malformed() {
    let (mut a, _, mut rng) = pair();
    let msg = a.seal(&AD, b"x", &mut rng).unwrap();
    for at in 0..2 {
        let mut other = msg.clone();
        other[at] ^= 1;
        assert_eq!(Message::parse(&other).err(), Some(OpenError::Malformed));
    }
}

#[test]
fn truncated_frames_are_malformed() {
    let (mut a, _, mut rng) = pair();
    let msg = a.seal(&AD, b"", &mut rng).unwrap();
    assert!(Message::parse(&msg).is_ok());
    let truncated = &msg[..msg.len() - 1];
    assert_eq!(Message::parse(truncated).err(), Some(OpenError::Malformed));
}

#[test]
fn message_and_chain_keys_differ() {
    let (message_key, chain_key) = derive_chain_keys(&Key([7; 32]));
    assert!(!message_key.constant_time_eq(&chain_key));
}
