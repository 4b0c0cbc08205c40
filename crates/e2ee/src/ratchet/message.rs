//! Layout of a MSG: `01 02 || N(24) || EH(56) || body`.

use super::{OpenError, OpenedRecord, derive_body_key};
use crate::handshake::AD_BYTES;
use crate::primitive::{Key, NONCE_BYTES, TAG_BYTES, hash, open, random_array, seal as seal_bytes};
use crate::record::{ParseRecordError, Reader};
use rand_core::CryptoRng;

/// `01 02`: version and frame type of a MSG.
const MSG_FRAME: [u8; 2] = [1, 2];
const HEADER_BYTES: usize = 32 + 4 + 4;
const EH_BYTES: usize = HEADER_BYTES + TAG_BYTES;
/// Size of everything before the body.
const HEAD_BYTES: usize = MSG_FRAME.len() + NONCE_BYTES + EH_BYTES;

/// Plaintext of an encrypted header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    /// The sender's ratchet key.
    pub(super) dh: [u8; 32],
    /// `pn`: the length of the sender's previous chain.
    pub(super) previous_len: u32,
    /// `n`: the number of this message in its chain.
    pub(super) n: u32,
}

impl Header {
    fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[..32].copy_from_slice(&self.dh);
        bytes[32..36].copy_from_slice(&self.previous_len.to_be_bytes());
        bytes[36..].copy_from_slice(&self.n.to_be_bytes());
        bytes
    }

    fn parse(bytes: &[u8]) -> Result<Self, ParseRecordError> {
        let mut reader = Reader::new(bytes);
        let header = Self {
            dh: reader.array()?,
            previous_len: reader.u32()?,
            n: reader.u32()?,
        };
        reader.expect_end()?;
        Ok(header)
    }
}

/// Seals a record into a MSG.
pub(super) fn seal(
    header_key: &Key,
    message_key: &Key,
    header: &Header,
    ad: &[u8; AD_BYTES],
    record: &[u8],
    rng: &mut (impl CryptoRng + ?Sized),
) -> Vec<u8> {
    // The nonce is random although a key is used once: a node restored from an old backup derives
    // old message keys again.
    let nonce = random_array::<NONCE_BYTES>(rng);
    let mut msg = Vec::with_capacity(HEAD_BYTES + record.len() + TAG_BYTES);
    msg.extend_from_slice(&MSG_FRAME);
    msg.extend_from_slice(&nonce);
    msg.extend_from_slice(&seal_bytes(
        header_key,
        &nonce,
        &header.encode(),
        &MSG_FRAME,
    ));
    let body = seal_bytes(
        &derive_body_key(message_key),
        &nonce,
        record,
        &associated_data(ad, &msg),
    );
    msg.extend_from_slice(&body);
    msg
}

/// Builds the associated data of the body: `AD || 01 02 || N || EH`.
fn associated_data(ad: &[u8; AD_BYTES], head: &[u8]) -> [u8; AD_BYTES + HEAD_BYTES] {
    let mut bytes = [0; AD_BYTES + HEAD_BYTES];
    bytes[..AD_BYTES].copy_from_slice(ad);
    bytes[AD_BYTES..].copy_from_slice(head);
    bytes
}

/// Parsed MSG. Nothing in it is authenticated yet.
pub(super) struct Message<'a> {
    bytes: &'a [u8],
    head: &'a [u8],
    nonce: [u8; NONCE_BYTES],
    header: &'a [u8],
    body: &'a [u8],
}

impl<'a> Message<'a> {
    pub(super) fn parse(bytes: &'a [u8]) -> Result<Self, OpenError> {
        Self::split(bytes).map_err(|ParseRecordError| OpenError::Malformed)
    }

    fn split(bytes: &'a [u8]) -> Result<Self, ParseRecordError> {
        let mut reader = Reader::new(bytes);
        if reader.array()? != MSG_FRAME {
            return Err(ParseRecordError);
        }
        let (nonce, header) = (reader.array()?, reader.bytes(EH_BYTES)?);
        let (head, body) = (reader.consumed(), reader.remaining());
        if body.len() < TAG_BYTES {
            return Err(ParseRecordError);
        }
        Ok(Self {
            bytes,
            head,
            nonce,
            header,
            body,
        })
    }

    /// Computes `H(MSG)`.
    pub(super) fn hash(&self) -> [u8; 32] {
        hash(&[self.bytes])
    }

    /// Opens the header, or returns `None` if `key` is not its key.
    pub(super) fn open_header(&self, key: &Key) -> Option<Header> {
        let bytes = open(key, &self.nonce, self.header, &MSG_FRAME)?;
        Header::parse(&bytes).ok()
    }

    /// Opens the body with its message key.
    pub(super) fn open(
        &self,
        message_key: &Key,
        ad: &[u8; AD_BYTES],
    ) -> Result<OpenedRecord, OpenError> {
        let ad = associated_data(ad, self.head);
        open(&derive_body_key(message_key), &self.nonce, self.body, &ad)
            .ok_or(OpenError::BodyInvalid)
    }
}
