//! The Double Ratchet with header encryption (docs/e2ee.md#ratchet).
//!
//! The sending half of a DH step waits until the next message is sealed. Opening therefore needs no
//! random numbers, and it works on a copy of the state.

mod encoding;
mod message;
mod receiver;

use crate::handshake::{AD_BYTES, SessionKeys};
use crate::primitive::{Key, diffie_hellman, generate_secret, kdf, kdf_key, keyed_hmac, label};
use hmac::Mac as _;
use message::{Header, Message};
use rand_core::CryptoRng;
pub(crate) use receiver::Receiver;
use receiver::{Chain, HeaderMatch};
use x25519_dalek::{PublicKey, StaticSecret};
use zeroize::Zeroizing;

/// Plaintext record of a message.
pub(crate) type OpenedRecord = Zeroizing<Vec<u8>>;

/// Error when a record cannot be sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SealError {
    /// No message from the peer has been opened yet, so there is no peer key for a DH step.
    NothingReceived,
    /// The sending chain has used its last message number.
    ChainExhausted,
    /// The peer's ratchet key is of low order.
    WeakKey,
}

/// Error when a MSG does not open (docs/e2ee.md#ratchet).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OpenError {
    /// The bytes do not have the layout of a MSG.
    Malformed,
    /// No header key of the session opens the header.
    NoHeaderKey,
    /// More than 1,000 messages of one chain are missing before this one.
    GapTooLarge,
    /// The header opened, but its ratchet key does not belong to that header key.
    HeaderRefused,
    /// The message key was evicted before the message arrived.
    KeyEvicted,
    /// The message key was used before.
    Consumed {
        /// `H(MSG)`.
        msg_hash: [u8; 32],
    },
    /// The header opened, but the body does not.
    BodyInvalid,
}

/// Ratchet of one session, both directions.
#[derive(Clone)]
pub(crate) struct Ratchet {
    /// RK.
    root: Key,
    /// DHs.
    own: StaticSecret,
    /// DHr. `None` at B before A's first message.
    remote: Option<[u8; 32]>,
    /// HKs, CKs and Ns with the public half of DHs. `None` if a DH step is due before the next
    /// message.
    sending: Option<SendingChain>,
    /// NHKs.
    next_sending: Key,
    /// PN.
    previous_len: u32,
    /// NHKr.
    next_receiving: Key,
    receiver: Receiver,
}

#[derive(Clone)]
struct SendingChain {
    dh: [u8; 32],
    header: Key,
    chain: Key,
    next: u32,
}

impl Ratchet {
    /// Creates A's ratchet. SPK is B's ratchet key, so A's first chain can send at once. Returns
    /// `None` if SPK is of low order.
    pub(crate) fn initiator(
        keys: &SessionKeys,
        spk: &[u8; 32],
        rng: &mut (impl CryptoRng + ?Sized),
    ) -> Option<Self> {
        let own = generate_secret(rng);
        let dh = PublicKey::from(&own).to_bytes();
        let (root, chain, next_sending) = derive_root_keys(&keys.root, &diffie_hellman(&own, spk)?);
        Some(Self {
            root,
            own,
            remote: Some(*spk),
            sending: Some(SendingChain {
                dh,
                header: keys.header_a.clone(),
                chain,
                next: 0,
            }),
            next_sending,
            previous_len: 0,
            next_receiving: keys.header_b.clone(),
            receiver: Receiver::default(),
        })
    }

    /// Creates B's ratchet. SPK is B's first ratchet key. B can seal once it has opened
    /// A's first message.
    pub(crate) fn responder(keys: &SessionKeys, spk: &StaticSecret) -> Self {
        Self {
            root: keys.root.clone(),
            own: spk.clone(),
            remote: None,
            sending: None,
            next_sending: keys.header_b.clone(),
            previous_len: 0,
            next_receiving: keys.header_a.clone(),
            receiver: Receiver::default(),
        }
    }

    /// Seals one record into a MSG. On error the ratchet is unchanged.
    pub(crate) fn seal(
        &mut self,
        ad: &[u8; AD_BYTES],
        record: &[u8],
        rng: &mut (impl CryptoRng + ?Sized),
    ) -> Result<Vec<u8>, SealError> {
        if self.sending.is_none() {
            self.step_sending(rng)?;
        }
        let sending = self.sending.as_mut().ok_or(SealError::NothingReceived)?;
        let following = sending
            .next
            .checked_add(1)
            .ok_or(SealError::ChainExhausted)?;
        let (message_key, chain) = derive_chain_keys(&sending.chain);
        let header = Header {
            dh: sending.dh,
            previous_len: self.previous_len,
            n: sending.next,
        };
        let msg = message::seal(&sending.header, &message_key, &header, ad, record, rng);
        (sending.chain, sending.next) = (chain, following);
        Ok(msg)
    }

    /// Performs the sending half of a DH step: a new ratchet key and a new chain.
    fn step_sending(&mut self, rng: &mut (impl CryptoRng + ?Sized)) -> Result<(), SealError> {
        let remote = self.remote.ok_or(SealError::NothingReceived)?;
        let own = generate_secret(rng);
        let shared = diffie_hellman(&own, &remote).ok_or(SealError::WeakKey)?;
        let (root, chain, next_sending) = derive_root_keys(&self.root, &shared);
        let header = std::mem::replace(&mut self.next_sending, next_sending);
        let dh = PublicKey::from(&own).to_bytes();
        (self.root, self.own) = (root, own);
        self.sending = Some(SendingChain {
            dh,
            header,
            chain,
            next: 0,
        });
        Ok(())
    }

    /// Opens one MSG and returns the ratchet after it. `self` is unchanged.
    pub(crate) fn open(
        &self,
        ad: &[u8; AD_BYTES],
        msg: &[u8],
    ) -> Result<(Self, OpenedRecord), OpenError> {
        let message = Message::parse(msg)?;
        let mut next = self.clone();
        let key = match next
            .receiver
            .match_header(&message, Some(&self.next_receiving))?
        {
            HeaderMatch::Chain { index, header } => next
                .receiver
                .consume_message_key(index, &header, &message)?,
            HeaderMatch::Next { header } => next.step_receiving(&header, &message)?,
        };
        let opened = message.open(&key, ad)?;
        Ok((next, opened))
    }

    /// Performs the receiving half of a DH step and returns the key of the message that carried it.
    fn step_receiving(&mut self, header: &Header, message: &Message<'_>) -> Result<Key, OpenError> {
        // A peer steps only after it has received a new key from this side. While that key is still
        // due, the step cannot be genuine.
        let due = self.sending.is_none() && self.remote.is_some();
        if due || self.remote == Some(header.dh) {
            return Err(OpenError::HeaderRefused);
        }
        let dh = diffie_hellman(&self.own, &header.dh).ok_or(OpenError::HeaderRefused)?;
        self.receiver.close_chain(header.previous_len)?;
        let (root, chain, next_receiving) = derive_root_keys(&self.root, &dh);
        let header_key = std::mem::replace(&mut self.next_receiving, next_receiving);
        self.root = root;
        self.remote = Some(header.dh);
        self.previous_len = self.sending.take().map_or(0, |chain| chain.next);
        let index = self
            .receiver
            .push_chain(Chain::new(header_key, header.dh, chain));
        self.receiver.consume_message_key(index, header, message)
    }

    /// Reduces the ratchet of a replaced session to its receiver, which performs no DH steps.
    pub(crate) fn into_receiver(self) -> Receiver {
        self.receiver
    }
}

/// `KDF_RK(rk, dh)`: returns the root key, the chain key and the next header key.
fn derive_root_keys(root: &Key, dh: &Key) -> (Key, Key, Key) {
    let okm = kdf::<96>(&root.0, &dh.0, &[label!("root")]);
    let part = |at: usize| Key(std::array::from_fn(|i| okm[32 * at + i]));
    (part(0), part(1), part(2))
}

/// Derives the next message key and the chain key after it.
fn derive_chain_keys(chain: &Key) -> (Key, Key) {
    let keyed = keyed_hmac(chain);
    let derive = |input: u8| {
        Key(keyed
            .clone()
            .chain_update([input])
            .finalize()
            .into_bytes()
            .into())
    };
    (derive(1), derive(2))
}

/// Derives the body key: `ek = KDF(0^32, mk, P" msg", 32)`.
fn derive_body_key(message_key: &Key) -> Key {
    kdf_key(&message_key.0, &[label!("msg")])
}

#[cfg(test)]
mod tests;
