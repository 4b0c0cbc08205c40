//! Writes `card.json`, `prekeys.json`, `handshake.json`, `ratchet.json`, `envelope.json` and
//! `plaintext.json` into `proto/vectors`, or into the directory given as an argument. The output is
//! deterministic.

mod card;
mod envelope;
mod handshake;
mod plaintext;
mod prekeys;
mod ratchet;

use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::SeedableRng as _;
use sealpost_e2ee::keys::{ConnId, Identity, Incarnation};
use sealpost_e2ee::plaintext::{Kind, Plaintext};
use sealpost_e2ee::prekeys::{BundleParameters, PrekeyBundle, PrekeySecrets, Scope};
use sealpost_e2ee::sessions::{InitReason, InitiateArgs, Sessions, open_pairing};
use sealpost_proto::limits::PREKEYS_LIFETIME;
use sealpost_proto::{InviteId, MessageId, Timestamp, b64};
use serde_json::{Value, json};
use std::error::Error;
use std::path::{Path, PathBuf};

type Outcome<T> = Result<T, Box<dyn Error>>;

const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);
const INVITE: InviteId = InviteId::from_bytes([0x1d; 16]);

fn main() -> Outcome<()> {
    let committed = concat!(env!("CARGO_MANIFEST_DIR"), "/../../proto/vectors");
    let directory = std::env::args_os()
        .nth(1)
        .map_or_else(|| PathBuf::from(committed), PathBuf::from);
    write(&directory, "card.json", &card::vectors()?)?;
    write(&directory, "prekeys.json", &prekeys::vectors()?)?;
    write(&directory, "handshake.json", &handshake::vectors()?)?;
    write(&directory, "ratchet.json", &ratchet::vectors()?)?;
    write(&directory, "envelope.json", &envelope::vectors()?)?;
    write(&directory, "plaintext.json", &plaintext::vectors()?)
}

fn write(directory: &Path, name: &str, vectors: &Value) -> Outcome<()> {
    let text = serde_json::to_string_pretty(vectors)? + "\n";
    Ok(std::fs::write(directory.join(name), text)?)
}

fn text(bytes: impl AsRef<[u8]>) -> Value {
    Value::String(b64::encode(bytes.as_ref()))
}

fn flipped(bytes: &[u8], at: usize) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    if let Some(byte) = bytes.get_mut(at) {
        *byte ^= 1;
    }
    bytes
}

fn longer(bytes: &[u8]) -> Vec<u8> {
    [bytes, &[0]].concat()
}

fn shorter(bytes: &[u8]) -> Vec<u8> {
    bytes
        .split_last()
        .map_or_else(Vec::new, |(_, rest)| rest.to_vec())
}

fn rng(seed: u64) -> ChaCha20Rng {
    ChaCha20Rng::seed_from_u64(seed)
}

/// One party of the vectors.
struct Party {
    ed_seed: [u8; 32],
    x_seed: [u8; 32],
    identity: Identity,
    sessions: Sessions,
    seq: u64,
}

impl Party {
    fn new(first: u8) -> Self {
        let ed_seed = std::array::from_fn(|at| first.wrapping_add(u8::try_from(at).unwrap_or(0)));
        let x_seed =
            std::array::from_fn(|at| first.wrapping_add(u8::try_from(at + 64).unwrap_or(0)));
        let identity = Identity::from_seeds(&ed_seed, &x_seed);
        Self {
            ed_seed,
            x_seed,
            identity,
            sessions: Sessions::new(),
            seq: 0,
        }
    }

    fn invitee() -> Self {
        Self::new(1)
    }

    fn inviter() -> Self {
        Self::new(101)
    }

    fn seeds(&self) -> Value {
        json!({ "ed_seed": text(self.ed_seed), "x_seed": text(self.x_seed) })
    }

    fn bundle(&self, scope: Scope, seed: u64) -> Outcome<(PrekeySecrets, PrekeyBundle)> {
        let is_invite = scope == Scope::invite(&INVITE);
        let incarnation = if is_invite {
            Incarnation::NONE
        } else {
            Incarnation::from_bytes([0x1c; 8])
        };
        let epoch = NOW.as_millis() + seed;
        let parameters = BundleParameters {
            scope,
            incarnation,
            epoch,
            spk_id: 7,
            now: NOW,
            lifetime: PREKEYS_LIFETIME,
        };
        let (secrets, bundle) =
            PrekeySecrets::generate(&self.identity, &parameters, &mut rng(seed));
        let bundle = PrekeyBundle::parse_verified(&bundle, self.identity.public(), &scope)?;
        Ok((secrets, bundle))
    }

    fn plaintext(&mut self, body: &str) -> Plaintext {
        self.seq += 1;
        Plaintext {
            kind: Kind::MESSAGE,
            message_id: MessageId::from_bytes([u8::try_from(self.seq).unwrap_or(0); 16]),
            incarnation: Incarnation::from_bytes([0xac; 8]),
            seq: self.seq,
            sent_at: NOW,
            body: body.as_bytes().to_vec(),
        }
    }

    /// Seals a text. Returns the inner bytes and the record they open to.
    fn seal(&mut self, body: &str, rng: &mut ChaCha20Rng) -> Outcome<(Vec<u8>, Vec<u8>)> {
        let plaintext = self.plaintext(body);
        let inner = self.sessions.seal(&plaintext, NOW, rng)?;
        Ok((inner, plaintext.encode()?.to_vec()))
    }
}

fn conn_id(a: &Party, b: &Party) -> ConnId {
    ConnId::derive(a.identity.fingerprint(), b.identity.fingerprint(), &INVITE)
}

/// Starts the pairing of `a` with the invite of `b` and seals the request.
fn request(
    a: &mut Party,
    b: &Party,
    bundle: &PrekeyBundle,
    rng: &mut ChaCha20Rng,
) -> Outcome<(Vec<u8>, Vec<u8>)> {
    let card = a.identity.sign_card("Acme", NOW)?;
    let args = InitiateArgs {
        identity: &a.identity,
        peer: b.identity.public(),
        conn_id: conn_id(a, b),
        bundle,
        reason: InitReason::Pairing,
        incarnation: Incarnation::from_bytes([0xac; 8]),
        resume: None,
        sealed_card: Some(&card),
        now: NOW,
    };
    a.sessions.initiate(&args, rng)?;
    a.seal("request", rng)
}

/// Returns two parties whose pairing is complete.
fn paired(rng: &mut ChaCha20Rng) -> Outcome<(Party, Party)> {
    let (mut a, mut b) = (Party::invitee(), Party::inviter());
    let (secrets, bundle) = b.bundle(Scope::invite(&INVITE), 1)?;
    let (inner, _) = request(&mut a, &b, &bundle, rng)?;
    b.sessions = open_pairing(&b.identity, &INVITE, &[secrets], &inner, NOW)?.sessions;
    let (accept, _) = b.seal("accept", rng)?;
    a.sessions = ratchet::open(&a, &b, &accept)?;
    let (receipt, _) = a.seal("receipt", rng)?;
    b.sessions = ratchet::open(&b, &a, &receipt)?;
    Ok((a, b))
}
