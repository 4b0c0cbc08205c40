//! The bare primitives, as often and over as many bytes as a session uses them.

use chacha20poly1305::aead::{Aead as _, KeyInit as _, Payload};
use chacha20poly1305::{Key, XChaCha20Poly1305, XNonce};
use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use hmac::{Hmac, Mac as _};
use ml_kem::KeyExport as _;
use ml_kem::kem::{Decapsulate as _, Encapsulate as _};
use ml_kem::ml_kem_768::{Ciphertext, DecapsulationKey, EncapsulationKey};
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::SeedableRng as _;
use sha2::{Digest as _, Sha256};
use std::hint::black_box;
use x25519_dalek::{PublicKey, StaticSecret};

const KEY: [u8; 32] = [7; 32];
/// Plaintexts: a header, a record with a body of 1,500 bytes, and the content of an envelope of 2
/// KiB.
const HEADER: [u8; 40] = [1; 40];
const BODY: [u8; 1_547] = [2; 1_547];
const PADDED: [u8; 2_008] = [3; 2_008];
const HELLO: [u8; 61] = [4; 61];
/// Associated data of a body and of `hello`.
const BODY_AD: [u8; 180] = [5; 180];
const HELLO_AD: [u8; 1_169] = [6; 1_169];

pub(crate) struct Primitives {
    header: Vec<u8>,
    body: Vec<u8>,
    padded: Vec<u8>,
    hello: Vec<u8>,
    secret: StaticSecret,
    public: PublicKey,
    seed: [u8; 64],
    pqspk: [u8; 1_184],
    ct: Ciphertext,
    verifying: [u8; 32],
    base: Vec<u8>,
    signature: Signature,
}

impl Primitives {
    pub(crate) fn new() -> Self {
        let secret = StaticSecret::from(KEY);
        let seed = [9; 64];
        let pqspk = DecapsulationKey::from_seed(seed.into())
            .encapsulation_key()
            .clone();
        let (ct, _) = pqspk.encapsulate_with_rng(&mut ChaCha20Rng::seed_from_u64(1));
        let signing = SigningKey::from_bytes(&KEY);
        let base = vec![1; 1_304];
        Self {
            header: x_seal(&HEADER, b"\x01\x02"),
            body: x_seal(&BODY, &BODY_AD),
            padded: x_seal(&PADDED, &[0; 28]),
            hello: x_seal(&HELLO, &HELLO_AD),
            public: PublicKey::from(&secret),
            secret,
            seed,
            pqspk: pqspk.to_bytes().into(),
            ct,
            verifying: signing.verifying_key().to_bytes(),
            signature: signing.sign(&base),
            base,
        }
    }

    pub(crate) fn seal(&self) {
        seal_msg();
        drop(x_seal(&PADDED, &[0; 28]));
    }

    pub(crate) fn open(&self) {
        x_open(&self.padded, &[0; 28]);
        self.open_msg();
        hash(self.body.len() + 82);
    }

    /// Two X25519 operations, a new key, and KDF_RK twice.
    pub(crate) fn step(&self) {
        self.open_msg();
        hash(self.body.len() + 82);
        self.diffie_hellman(2);
        self.new_keys(1);
        kdf(96);
        kdf(96);
        seal_msg();
    }

    /// Both sides: at A one verification, two new keys and an encapsulation; at B a decapsulation;
    /// DH1 to DH3 and the first DH step on each.
    pub(crate) fn handshake(&self) {
        let key = VerifyingKey::from_bytes(&self.verifying).expect("a key");
        key.verify_strict(&self.base, &self.signature)
            .expect("its signature");
        let pqspk = EncapsulationKey::new(&self.pqspk.into()).expect("a key");
        black_box(pqspk.encapsulate_with_rng(&mut ChaCha20Rng::seed_from_u64(1)));
        black_box(DecapsulationKey::from_seed(self.seed.into()).decapsulate(&self.ct));
        self.new_keys(2);
        self.diffie_hellman(8);
        for _side in 0..2 {
            kdf(128);
            kdf(32);
            kdf(96);
            hash(1_304 + 1_088 + 200);
        }
        hash(1_250);
        drop(x_seal(&HELLO, &HELLO_AD));
        x_open(&self.hello, &HELLO_AD);
        seal_msg();
        self.open_msg();
        hash(self.body.len() + 82);
    }

    fn open_msg(&self) {
        x_open(&self.header, b"\x01\x02");
        chain();
        kdf(32);
        x_open(&self.body, &BODY_AD);
    }

    fn diffie_hellman(&self, times: usize) {
        for _ in 0..times {
            black_box(
                black_box(&self.secret)
                    .diffie_hellman(black_box(&self.public))
                    .was_contributory(),
            );
        }
    }

    fn new_keys(&self, times: usize) {
        for _ in 0..times {
            black_box(PublicKey::from(black_box(&self.secret)));
        }
    }
}

fn seal_msg() {
    chain();
    kdf(32);
    drop(x_seal(&HEADER, b"\x01\x02"));
    drop(x_seal(&BODY, &BODY_AD));
}

/// Derives the message key and the next chain key.
fn chain() {
    for input in 1..=2_u8 {
        let keyed =
            <Hmac<Sha256> as hmac::KeyInit>::new_from_slice(black_box(&KEY)).expect("any length");
        black_box(keyed.chain_update([input]).finalize());
    }
}

fn kdf(len: usize) {
    let mut okm = [0; 128];
    let kdf = hkdf::Hkdf::<Sha256>::new(Some(black_box(&KEY)), black_box(&KEY));
    kdf.expand(b"Sealpost-1 msg", &mut okm[..len])
        .expect("short");
    black_box(okm);
}

fn hash(len: usize) {
    black_box(Sha256::digest(&black_box([1; 4_096])[..len]));
}

fn x_seal(plaintext: &[u8], ad: &[u8]) -> Vec<u8> {
    let payload = Payload {
        msg: black_box(plaintext),
        aad: ad,
    };
    black_box(
        XChaCha20Poly1305::new(&Key::from(KEY))
            .encrypt(&XNonce::from([0; 24]), payload)
            .expect("short"),
    )
}

fn x_open(sealed: &[u8], ad: &[u8]) {
    let payload = Payload {
        msg: black_box(sealed),
        aad: ad,
    };
    drop(black_box(
        XChaCha20Poly1305::new(&Key::from(KEY))
            .decrypt(&XNonce::from([0; 24]), payload)
            .expect("sealed above"),
    ));
}
