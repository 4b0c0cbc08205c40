//! The ratchet without sessions: messages of a peer that violates the protocol.

use super::message::{self, Header, Message};
use super::{OpenError, Ratchet, SealError, derive_chain_keys};
use crate::handshake::{AD_BYTES, SessionKeys};
use crate::keys::SessionId;
use crate::primitive::Key;
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::SeedableRng as _;
use x25519_dalek::{PublicKey, StaticSecret};

const AD: [u8; AD_BYTES] = [5; AD_BYTES];

fn pair() -> (Ratchet, Ratchet, ChaCha20Rng) {
    let mut rng = ChaCha20Rng::seed_from_u64(3);
    let keys = SessionKeys::for_tests([[1; 32], [2; 32], [3; 32], [4; 32]], SessionId([0; 16]));
    let spk = StaticSecret::from([8; 32]);
    let a = Ratchet::initiator(&keys, PublicKey::from(&spk).as_bytes(), &mut rng).unwrap();
    (a, Ratchet::responder(&keys, &spk), rng)
}

fn exchange(from: &mut Ratchet, to: &mut Ratchet, rng: &mut ChaCha20Rng) {
    let msg = from.seal(&AD, b"x", rng).unwrap();
    *to = to.open(&AD, &msg).ok().unwrap().0;
}

#[test]
fn responder_cannot_seal_before_opening() {
    let (mut a, mut b, mut rng) = pair();
    assert_eq!(b.seal(&AD, b"x", &mut rng), Err(SealError::NothingOpened));
    exchange(&mut a, &mut b, &mut rng);
    exchange(&mut b, &mut a, &mut rng);
}

#[test]
fn header_must_carry_its_chains_key() {
    let (mut a, mut b, mut rng) = pair();
    exchange(&mut a, &mut b, &mut rng);
    exchange(&mut b, &mut a, &mut rng);
    exchange(&mut a, &mut b, &mut rng);
    let growing = b.receiver.chains.last().unwrap().header.clone();
    let old = b.receiver.chains[0].header.clone();
    for header_key in [growing, old] {
        let header = Header {
            dh: [9; 32],
            previous_len: 0,
            n: 5,
        };
        let msg = message::seal(&header_key, &Key([0; 32]), &header, &AD, b"x", &mut rng);
        assert_eq!(b.open(&AD, &msg).err(), Some(OpenError::HeaderRefused));
    }
}

#[test]
fn invalid_dh_steps_are_refused() {
    let (mut a, mut b, mut rng) = pair();
    exchange(&mut a, &mut b, &mut rng);
    let step = |b: &Ratchet, dh: [u8; 32], rng: &mut ChaCha20Rng| {
        let header = Header {
            dh,
            previous_len: 1,
            n: 0,
        };
        let msg = message::seal(&b.next_receiving, &Key([0; 32]), &header, &AD, b"x", rng);
        b.open(&AD, &msg).err()
    };
    assert_eq!(
        step(&b, [9; 32], &mut rng),
        Some(OpenError::HeaderRefused),
        "this side's key is due"
    );
    exchange(&mut b, &mut a, &mut rng);
    let known = b.remote.unwrap();
    assert_eq!(
        step(&b, known, &mut rng),
        Some(OpenError::HeaderRefused),
        "not new"
    );
    assert_eq!(
        step(&b, [0; 32], &mut rng),
        Some(OpenError::HeaderRefused),
        "of low order"
    );
    assert_eq!(
        step(&b, [9; 32], &mut rng),
        Some(OpenError::BodyInvalid),
        "a new key that is not the peer's"
    );
}

#[test]
fn old_header_keys_are_bounded() {
    let (mut a, mut b, mut rng) = pair();
    let first = a.seal(&AD, b"first", &mut rng).unwrap();
    b = b.open(&AD, &first).ok().unwrap().0;
    for _ in 0..258 {
        exchange(&mut b, &mut a, &mut rng);
        exchange(&mut a, &mut b, &mut rng);
    }
    assert_eq!(b.receiver.chains.len(), 257);
    assert_eq!(b.open(&AD, &first).err(), Some(OpenError::NoHeaderKey));
}

#[test]
fn last_message_number_is_refused() {
    let (mut a, mut b, mut rng) = pair();
    exchange(&mut a, &mut b, &mut rng);
    a.sending.as_mut().unwrap().next = u32::MAX;
    assert_eq!(a.seal(&AD, b"x", &mut rng), Err(SealError::ChainExhausted));
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
fn unknown_frame_versions_and_types_are_malformed() {
    let (mut a, _, mut rng) = pair();
    let msg = a.seal(&AD, b"x", &mut rng).unwrap();
    for at in 0..2 {
        let mut other = msg.clone();
        other[at] ^= 1;
        assert_eq!(Message::parse(&other).err(), Some(OpenError::Malformed));
    }
    assert_eq!(Message::parse(&msg[..97]).err(), Some(OpenError::Malformed));
}

#[test]
fn message_and_chain_keys_differ() {
    let (message_key, chain_key) = derive_chain_keys(&Key([7; 32]));
    assert!(!message_key.constant_time_eq(&chain_key));
}
