//! Receipts, which alone say that something was delivered, read or fetched, and probes.

use super::PayloadError;
use super::cbor::{self, Map, MapWriter};
use super::message::{encode_ids, parse_message_id, parse_timestamp};
use sealpost_proto::limits::RECEIPT_IDS_MAX;
use sealpost_proto::{MessageId, Timestamp};

/// What a receipt says. An unknown one is skipped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ReceiptKind(pub u8);

impl ReceiptKind {
    /// Stored by the recipient's node.
    pub const DELIVERED: Self = Self(0);
    /// Read by a person or the business system.
    pub const READ: Self = Self(1);
    /// Files were fetched and verified: the ids are those of blobs. Their sender need not keep them any longer.
    pub const FETCHED: Self = Self(2);
}

/// Kind [`crate::plaintext::Kind::RECEIPT`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// What it says.
    pub kind: ReceiptKind,
    /// Of which messages, or of which blobs; at most 64.
    pub ids: Vec<MessageId>,
    /// When.
    pub at: Timestamp,
}

impl Receipt {
    /// Writes the body.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut map = MapWriter::new();
        map.number(0, self.kind.0)
            .items(1, &encode_ids(&self.ids))
            .number(2, self.at.as_millis())
            .finish()
    }

    /// Reads a body.
    ///
    /// # Errors
    /// [`PayloadError`] says what is wrong with it.
    pub fn parse(body: &[u8]) -> Result<Self, PayloadError> {
        let map = Map::parse(body)?;
        let kind = ReceiptKind(map.required(0, cbor::parse_u8)?);
        Ok(Self {
            kind,
            ids: map.items(1, RECEIPT_IDS_MAX, parse_message_id)?,
            at: map.required(2, parse_timestamp)?,
        })
    }
}

/// Kind [`crate::plaintext::Kind::PROBE`]: asks whether the other node can open and answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Probe {
    /// What the answer repeats.
    pub nonce: [u8; 16],
    /// Whether this is the answer.
    pub is_response: bool,
}

impl Probe {
    /// Writes the body.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        MapWriter::new()
            .bytes(0, &self.nonce)
            .flag(1, self.is_response)
            .finish()
    }

    /// Reads a body.
    ///
    /// # Errors
    /// [`PayloadError`] says what is wrong with it.
    pub fn parse(body: &[u8]) -> Result<Self, PayloadError> {
        let map = Map::parse(body)?;
        Ok(Self {
            nonce: map.required(0, cbor::parse_array)?,
            is_response: map.flag(1)?,
        })
    }
}
